"""Processes that share the slots: killed, closed, frozen, and adopted from."""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import attrs
import pytest

from tests.limits.members import Member
from tests.limits.stopping import StoppingFileLimiter, StoppingRedisLimiter
from veo_async import (
    Event,
    FileLimiter,
    LimiterLost,
    LimiterStatistics,
    PollPolicy,
    RedisLimiter,
    RetryPolicy,
    RetryScheduled,
    Timeouts,
    VeoClient,
)
from veo_async.limits import PaceGate, SharedTaskLimiter
from veo_async.simulator import Simulator

pytestmark = pytest.mark.anyio


@attrs.frozen
class Place:
    """Where slots are shared, whichever way."""

    kind: str
    where: str

    @property
    def lease(self) -> float:
        """Of a file it must not matter, since the death of a process is seen."""
        return 600 if self.kind == "file" else 2

    def limiter(self, **options):
        if self.kind == "file":
            return FileLimiter(self.where, **options)
        return RedisLimiter(self.where, account="test", **options)

    def member(self, **options) -> Member:
        return Member(self.kind, self.where, **options)


@pytest.fixture(params=["file", "redis"])
def place(request, tmp_path) -> Place:
    if request.param == "file":
        return Place("file", str(tmp_path / "slots.db"))
    return Place("redis", request.getfixturevalue("redis_server").url)


@pytest.fixture
def until() -> Callable:
    async def wait(condition) -> None:
        async with asyncio.timeout(30):
            while not await condition():
                await asyncio.sleep(0.02)

    return wait


@asynccontextmanager
async def closing(limiter) -> AsyncGenerator:
    try:
        async with asyncio.timeout(60):
            yield limiter
    finally:
        await limiter.aclose()


def service(**options) -> Simulator:
    usual = {
        "time_scale": 1000,
        "clip": (64, 36),
        "video_bytes": 0,
        "create_rate": None,
        "max_tasks": 100,  # it shall show what is too much, not refuse it
        "generation_seconds": 100,
    }
    return Simulator(**(usual | options))


def client_of(sim: Simulator, limiter, **settings) -> VeoClient:
    usual = {
        "base_url": sim.base_url,
        "limiter": limiter,
        "pace": None,
        "poll": PollPolicy(interval=0.03, first=0.05),
        "timeouts": Timeouts(response=5.0, close=2.0),
    }
    return VeoClient(sim.api_key, **(usual | settings))


async def test_it_is_a_shared_limiter(place):
    assert isinstance(place.limiter(), SharedTaskLimiter)


async def test_two_processes_share_the_slots(place):
    async with (
        place.member(total=2, lease=2) as other,
        closing(place.limiter(total=2, lease=2)) as us,
    ):
        await other.tell("reserve", "1")
        await other.tell("occupy", "1", 60)
        await us.reserve("2")
        assert us.statistics().in_use == 2
        third = asyncio.create_task(us.reserve("3"))
        fourth = other.tell("reserve", "4")
        await us.release("2")
        await asyncio.wait({third, fourth}, return_when=asyncio.FIRST_COMPLETED)
        assert not (third.done() and fourth.done()), "one slot for one of them"
        await other.tell("release", "1")
        await third
        await fourth
        await other.tell("close")


async def test_a_killed_process_frees_what_it_reserved_and_not_what_runs(place):
    async with (
        place.member(total=2, lease=place.lease) as other,
        closing(place.limiter(total=2, lease=place.lease)) as us,
    ):
        await other.tell("reserve", "1")
        await other.tell("reserve", "2")
        await other.tell("occupy", "2", 600)
        waiting = asyncio.create_task(us.reserve("3"))
        await other.kill()
        await waiting
        assert us.statistics().in_use == 2
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await us.reserve("4")
        assert us.statistics().in_use == 2


async def test_a_frozen_process_that_lost_its_reservation_waits_for_another(place):
    async with (
        place.member(total=1, lease=2) as other,
        closing(place.limiter(total=1, lease=2)) as us,
    ):
        await other.tell("reserve", "1")
        other.freeze()
        await us.reserve("2")  # after the lease
        other.thaw()
        occupied = other.tell("occupy", "1", 60)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await asyncio.shield(occupied)
        assert us.statistics().in_use == 1
        await us.release("2")
        await occupied
        await other.tell("close")


async def test_a_submit_that_lost_its_reservation_waits_for_another_outside_of_its_request(place):
    events: list[Event] = []
    kind = StoppingFileLimiter if place.kind == "file" else StoppingRedisLimiter
    account = {} if place.kind == "file" else {"account": "test"}
    async with (
        service(generation_seconds=10_000) as sim,
        closing(kind(place.where, total=1, lease=5, **account)) as limiter,
        closing(place.limiter(total=1, lease=5)) as other,
        client_of(
            sim,
            limiter,
            pace=(1, 0.001),
            timeouts=Timeouts(response=0.5, close=2.0),
            retry=RetryPolicy(base=0.01),
            on_event=events.append,
        ) as veo,
    ):
        submit = asyncio.create_task(veo.submit("a prompt"))
        await limiter.stopped.wait()
        theirs = asyncio.create_task(other.reserve("theirs"))
        await asyncio.sleep(0)
        await other.release(limiter.keys[0])  # in one report with what it wants
        await theirs
        await other.occupy("theirs", 600)
        limiter.may_go_on.set()
        await asyncio.wait({submit}, timeout=1.5)  # longer than an answer may take
        assert not submit.done()
        assert len(sim.ledger) == 0
        assert limiter.statistics() == LimiterStatistics(total=1, in_use=1, waiting=1)
        await other.release("theirs")
        await submit
        assert limiter.keys == [limiter.keys[0]] * 2
    assert not [event for event in events if isinstance(event, RetryScheduled | LimiterLost)]


async def test_the_tasks_of_a_killed_process_are_watched_by_another(place, until):
    async with (
        service(generation_seconds=1200) as sim,
        closing(place.limiter(total=3, lease=1.5)) as limiter,
        client_of(sim, limiter) as veo,
    ):
        async with place.member(total=3, lease=1.5) as other:
            await other.tell("open", sim.base_url, sim.api_key)
            for number in range(3):
                await other.tell("submit", f"prompt {number}")
            await other.tell("release", "nobody")  # a report that holds the last id as well
            await other.kill()
        assert sim.ledger.peak_running == 3
        tasks = [await veo.submit(f"later {number}") for number in range(3)]
        for task in tasks:
            await task
        assert sim.ledger.peak_running == 3, "each waited for the end of one that ran"
        await until(lambda: done(limiter.statistics().in_use == 0))


async def done(value: bool) -> bool:
    return value


async def test_a_client_that_closes_leaves_its_tasks_to_the_others_at_once(place, until):
    async with (
        service(generation_seconds=1500) as sim,
        closing(place.limiter(total=2, lease=1.0)) as limiter,
        client_of(sim, limiter) as veo,
    ):
        async with place.member(total=2, lease=1.0) as other:
            await other.tell("open", sim.base_url, sim.api_key)
            ids = {await other.tell("submit", f"prompt {number}") for number in range(2)}
            await other.tell("close")
        await until(lambda: done({task.id for task in veo.tasks} == ids))
        await veo.submit("later")
        assert sim.ledger.peak_running == 2


async def test_two_clients_of_one_limiter_leave_their_tasks_to_each_other(place, until):
    async with (
        service(generation_seconds=1200) as sim,
        closing(place.limiter(total=2, lease=1.0)) as limiter,
        client_of(sim, limiter) as staying,
    ):
        async with client_of(sim, limiter) as leaving:
            task = await leaving.submit("a prompt")
        await until(lambda: done([one.id for one in staying.tasks] == [task.id]))
        await until(lambda: done(limiter.statistics().in_use == 0))


async def test_a_lone_client_takes_up_what_an_earlier_process_left(place, until):
    async with service(generation_seconds=1200) as sim:
        async with client_of(sim, place.limiter(total=1, lease=1.0)) as earlier:
            await earlier.submit("a prompt")
        async with client_of(sim, place.limiter(total=1, lease=1.0)) as later:
            await later.submit("another")
            assert sim.ledger.peak_running == 1


async def test_two_thousand_cancellations_leak_nothing(place):
    dice = random.Random(1)

    async def hold(limiter, key: str) -> None:
        await limiter.reserve(key)
        try:
            await limiter.occupy(key, 600)
            await asyncio.sleep(0)
        finally:
            await limiter.release(key)

    async with closing(place.limiter(total=3, lease=1)) as limiter:
        async with asyncio.TaskGroup() as group:
            for number in range(2000):
                work = group.create_task(hold(limiter, str(number)))
                await asyncio.sleep(dice.choice((0, 0, 0, 0.001)))
                if dice.random() < 0.9:
                    work.cancel()
        for number in range(3):
            await limiter.reserve(f"again {number}")
        assert limiter.statistics() == LimiterStatistics(total=3, in_use=3, waiting=0)


async def test_the_pace_is_kept_by_all_together(place):
    loop = asyncio.get_running_loop()
    times: list[float] = []

    async def depart(gate: PaceGate) -> None:
        await gate.wait()
        times.append(loop.time())

    async with closing(place.limiter(lease=1)) as one, closing(place.limiter(lease=1)) as two:
        gates = PaceGate((2, 0.5), one), PaceGate((2, 0.5), two)
        async with asyncio.TaskGroup() as group:
            for gate in gates * 3:
                group.create_task(depart(gate))
    assert max(times) - min(times) > 0.9, "six at two per half second"


async def test_clients_of_one_limiter_keep_one_pace(tmp_path):
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with (
        service() as sim,
        closing(FileLimiter(tmp_path / "slots")) as limiter,
        client_of(sim, limiter, pace=(1, 0.4)) as one,
        client_of(sim, limiter, pace=(1, 0.4)) as two,
        asyncio.TaskGroup() as group,
    ):
        for veo in (one, two, one, two):
            group.create_task(veo.submit("a prompt"))
    assert loop.time() - began > 1.1, "four at one per 0.4 s"
