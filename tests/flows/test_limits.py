"""Slots and pace by themselves, and a client whose limiter fails."""

import asyncio

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from veo_async import (
    ConfigurationError,
    LimiterError,
    LimiterStatistics,
    LocalLimiter,
    TaskLimiter,
    Timeouts,
    VeoClient,
)
from veo_async.limits import PaceGate

pytestmark = pytest.mark.anyio


async def test_first_come_first_served():
    limiter = LocalLimiter(2)
    order: list[int] = []

    async def hold(number: int) -> None:
        await limiter.reserve(str(number))
        order.append(number)
        await asyncio.sleep(0)
        await limiter.release(str(number))

    async with asyncio.TaskGroup() as group:
        for number in range(200):
            group.create_task(hold(number))
    assert order == list(range(200))
    assert limiter.statistics() == LimiterStatistics(total=2, in_use=0, waiting=0)


async def test_nobody_overtakes_those_who_wait():
    limiter = LocalLimiter(1)
    await limiter.reserve("a")
    waiting = asyncio.create_task(limiter.reserve("b"))
    await asyncio.sleep(0)
    limiter.release_nowait("a")
    assert not limiter.reserve_nowait("c"), "the slot is b's, although b has not run yet"
    await waiting


@pytest.mark.parametrize("turns", range(4))
async def test_a_grant_that_meets_a_cancellation_is_passed_on(turns):
    limiter = LocalLimiter(1)
    await limiter.reserve("a")
    leaving = asyncio.create_task(limiter.reserve("b"))
    staying = asyncio.create_task(limiter.reserve("c"))
    await asyncio.sleep(0)
    limiter.release_nowait("a")
    for _ in range(turns):
        await asyncio.sleep(0)
    if not leaving.done():
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
    else:
        limiter.release_nowait("b")
    await staying
    assert limiter.statistics() == LimiterStatistics(total=1, in_use=1, waiting=0)


async def test_an_occupied_slot_lapses_and_wakes_who_waits():
    limiter = LocalLimiter(1)
    await limiter.reserve("a")
    await limiter.occupy("a", 0.02)
    await limiter.reserve("b")
    await limiter.release("a")
    assert limiter.statistics().in_use == 1, "the late release of a lapsed key frees no other"


async def test_adopted_tasks_may_exceed_the_total_and_hold_up_the_others():
    limiter = LocalLimiter(2)
    for key in "abc":
        await limiter.occupy(key, 60)
    assert limiter.statistics() == LimiterStatistics(total=2, in_use=3, waiting=0)
    await limiter.release("a")
    assert not limiter.reserve_nowait("d")
    await limiter.release("b")
    assert limiter.reserve_nowait("d")


def test_a_limiter_of_no_slots_is_refused():
    with pytest.raises(ConfigurationError):
        LocalLimiter(0)


@given(
    count=st.integers(1, 5),
    seconds=st.floats(0.1, 100),
    steps=st.lists(st.tuples(st.floats(0, 50), st.floats(0, 30) | st.none()), max_size=40),
)
def test_no_window_holds_more_than_the_pace_allows(count, seconds, steps):
    gate = PaceGate((count, seconds))
    now = 0.0
    departures: list[float] = []
    for pause, hold in steps:
        now += pause
        if hold is not None:
            gate.hold(now + hold)
        now = max(now, gate.earliest())
        gate.depart_nowait(now)
        departures.append(now)
    assert departures == sorted(departures)
    for early, late in zip(departures, departures[count:], strict=False):
        assert late - early >= seconds * (1 - 1e-9)


async def test_without_a_pace_only_a_hold_makes_wait():
    gate = PaceGate(None)
    loop = asyncio.get_running_loop()
    await gate.wait()
    until = loop.time() + 0.03
    gate.hold(until)
    await gate.wait()
    assert loop.time() >= until


@attrs.define
class FailingLimiter:
    """A limiter whose server goes away at one of its calls."""

    fails: frozenset[str]
    calls: list[str] = attrs.field(factory=list)

    def _step(self, name: str) -> None:
        self.calls.append(name)
        if name in self.fails:
            raise LimiterError("the slots cannot be counted; wait until the server is back")

    async def reserve(self, key: str) -> None:
        self._step("reserve")

    async def occupy(self, key: str, seconds: float) -> None:
        self._step("occupy" if self.calls.count("occupy") == 0 else "occupy again")

    async def release(self, key: str) -> None:
        self._step("release")

    def statistics(self) -> LimiterStatistics:
        return LimiterStatistics(total=10, in_use=0, waiting=0)


@pytest.mark.parametrize("step", ["reserve", "occupy"])
async def test_nothing_is_sent_while_slots_cannot_be_counted(world, step):
    limiter = FailingLimiter(frozenset({step}))
    assert isinstance(limiter, TaskLimiter)
    async with world(limiter=limiter) as w:
        with pytest.raises(LimiterError):
            await w.veo.submit("a prompt")
        assert not w.sim.ledger.posts


@pytest.mark.parametrize("step", ["occupy again", "release"])
async def test_a_limiter_that_fails_later_costs_no_task(world, step, caplog, until):
    async with world(limiter=FailingLimiter(frozenset({step}))) as w:
        assert (await w.veo.generate("a prompt")).task_id == w.sim.ledger[0].task_id
        await until(lambda: "cannot be counted" in caplog.text)


async def test_a_limiter_that_fails_does_not_stop_the_watching_of_attached_tasks(world):
    async with world() as w:
        task_id = (await w.veo.submit("a prompt")).id
        limiter = FailingLimiter(frozenset({"occupy", "release"}))
        async with VeoClient(
            w.sim.api_key,
            base_url=w.sim.base_url,
            limiter=limiter,
            poll=w.veo._engine.settings.poll,
        ) as later:
            assert (await later.task(task_id)).task_id == task_id


@attrs.define
class ForeignLimiter(FailingLimiter):
    """A limiter that breaks the Protocol: it raises what it likes, or never comes back."""

    hangs: frozenset[str] = frozenset()

    def _step(self, name: str) -> None:
        self.calls.append(name)
        if name in self.fails:
            raise ConnectionError("no server")

    async def release(self, key: str) -> None:
        self._step("release")
        if "release" in self.hangs:
            await asyncio.sleep(3600)


@pytest.mark.parametrize("step", ["reserve", "occupy"])
async def test_a_foreign_exception_before_the_request_is_a_limiter_error(world, step):
    async with world(limiter=ForeignLimiter(frozenset({step}))) as w:
        with pytest.raises(LimiterError, match="no server"):
            await w.veo.submit("a prompt")
        assert not w.sim.ledger.posts


@pytest.mark.parametrize(
    "limiter",
    [
        ForeignLimiter(frozenset({"occupy again"})),
        ForeignLimiter(frozenset({"release"})),
        ForeignLimiter(frozenset(), hangs=frozenset({"release"})),
    ],
    ids=["occupy raises", "release raises", "release hangs"],
)
async def test_a_foreign_exception_after_the_request_costs_no_task(world, limiter):
    async with world(limiter=limiter, timeouts=Timeouts(close=0.1)) as w:
        assert (await w.veo.generate("a prompt")).task_id == w.sim.ledger[0].task_id


async def test_cancelled_waits_in_the_gate_delay_nobody():
    gate = PaceGate((1, 0.05))
    loop = asyncio.get_running_loop()
    await gate.wait()
    began = loop.time()
    waits = [asyncio.create_task(gate.wait()) for _ in range(100)]
    await asyncio.sleep(0)
    for wait in waits:
        wait.cancel()
    await gate.wait()
    assert loop.time() - began < 1, "a hundred departures of 0.05 s were not kept"


async def test_a_hold_does_not_end_in_a_burst():
    gate = PaceGate((2, 0.2))
    loop = asyncio.get_running_loop()
    gate.hold(loop.time() + 0.02)
    times: list[float] = []

    async def depart() -> None:
        await gate.wait()
        times.append(loop.time())

    async with asyncio.TaskGroup() as group:
        for _ in range(5):
            group.create_task(depart())
    assert all(late - early >= 0.19 for early, late in zip(times, times[2:], strict=False))
