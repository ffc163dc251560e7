"""What becomes of a reservation whose slot is not certain when it is to be occupied."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from veo_async.broker import Broker, UnreachableError
from veo_async.limits import SlotLostError
from veo_async.protocol.slots import Answer, Ledger, Report, exchange, new_ledger

pytestmark = pytest.mark.anyio


class Shelf:
    """A place in memory, whose answers may be held back or lost."""

    name = "the shelf"
    glance_seconds = None
    poll_seconds = 0.02

    def __init__(self) -> None:
        self.ledger: Ledger = new_ledger(0)
        self.answers = asyncio.Event()
        self.answers.set()
        self.asked = asyncio.Event()
        self.loses_answers = False

    async def exchange(self, report: Report) -> Answer:
        answer = exchange(self.ledger, report, round(asyncio.get_running_loop().time() * 1000))
        if any(held["is_claim"] for held in report["held"]):
            self.asked.set()
        await self.answers.wait()
        if self.loses_answers:
            raise UnreachableError("the answer was lost")
        return answer

    async def glance(self) -> bool:
        return False

    async def aclose(self) -> None:
        """Do nothing."""

    def give_away(self, key: str, to: str) -> None:
        """Let another one have the slot."""
        del self.ledger["rows"][key]
        until = round((asyncio.get_running_loop().time() + 600) * 1000)
        self.ledger["rows"][to] = {"owner": "", "task": "", "until": until, "since": 0}


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@asynccontextmanager
async def broker_of(shelf: Shelf, lease: float = 60) -> AsyncGenerator[Broker]:
    broker = Broker(lambda _member, _ring: shelf, total=1, lease=lease)
    try:
        async with asyncio.timeout(30):
            yield broker
    finally:
        shelf.answers.set()
        await broker.aclose()


async def test_a_key_whose_claim_was_cut_and_lost_is_not_occupied_before_it_is_reserved(shelf):
    async with broker_of(shelf) as broker:
        await broker.reserve("1")
        shelf.give_away("1", to="2")
        shelf.answers.clear()
        claim = asyncio.create_task(broker.occupy("1", 60))
        await shelf.asked.wait()
        claim.cancel()
        await asyncio.wait({claim})
        shelf.answers.set()
        for _ in range(3):
            with pytest.raises(SlotLostError):
                await broker.occupy("1", 60)
        assert [*shelf.ledger["rows"]] == ["2"]
        again = asyncio.create_task(broker.reserve("1"))
        await asyncio.wait({again}, timeout=0.1)
        assert not again.done()
        await broker.release("2")
        await again
        await broker.occupy("1", 60)
        assert [*shelf.ledger["rows"]] == ["1"]


async def test_a_lost_key_comes_before_those_who_wait(shelf):
    async with broker_of(shelf) as broker:
        await broker.reserve("1")
        shelf.give_away("1", to="2")
        with pytest.raises(SlotLostError):
            await broker.occupy("1", 60)
        other = asyncio.create_task(broker.reserve("3"))
        await asyncio.sleep(0)
        again = asyncio.create_task(broker.reserve("1"))
        await asyncio.sleep(0)
        await broker.release("2")
        await again
        assert not other.done()
        await broker.release("1")
        await other


async def test_a_claim_that_was_taken_without_an_answer_holds_one_slot_and_leaks_none(shelf):
    async with broker_of(shelf, lease=0.6) as broker:
        await broker.reserve("1")
        shelf.loses_answers = True
        with pytest.raises(SlotLostError):
            await broker.occupy("1", 1)
        assert shelf.ledger["rows"]["1"]["until"], "it was taken"
        shelf.loses_answers = False
        await broker.reserve("1")
        await broker.occupy("1", 600)
        row = shelf.ledger["rows"]["1"]
        assert row["until"] > asyncio.get_running_loop().time() * 1000 + 500_000
        assert len(shelf.ledger["rows"]) == 1
        await broker.release("1")
        assert shelf.ledger["rows"] == {}


async def test_who_gives_up_an_uncertain_key_leaves_no_slot_behind(shelf):
    async with broker_of(shelf, lease=0.6) as broker:
        await broker.reserve("1")
        shelf.loses_answers = True
        with pytest.raises(SlotLostError):
            await broker.occupy("1", 600)
        again = asyncio.create_task(broker.reserve("1"))
        await asyncio.sleep(0)
        again.cancel()
        await asyncio.wait({again})
        shelf.loses_answers = False
        await broker.reserve("2")
        assert [*shelf.ledger["rows"]] == ["2"]


async def test_a_place_that_does_not_answer_holds_up_a_request_for_a_short_time_only(shelf):
    async with broker_of(shelf) as broker:
        await broker.reserve("1")
        shelf.answers.clear()
        with pytest.raises(SlotLostError):
            await broker.occupy("1", 60)
        shelf.answers.set()
        await broker.reserve("1")
        await broker.occupy("1", 60)
        assert len(shelf.ledger["rows"]) == 1
