"""Service time."""

import asyncio
import threading

import pytest

from veo_async.simulator.clock import Clock


def test_it_stands_before_it_starts_and_can_jump() -> None:
    clock = Clock(1000.0)
    assert clock.now() == 0
    clock.advance(5)
    assert clock.now() == 5


@pytest.mark.anyio
async def test_it_runs_at_its_scale() -> None:
    clock = Clock(1e6)
    clock.start()
    await asyncio.sleep(0.01)
    assert clock.now() >= 10_000
    clock.stop()


@pytest.mark.anyio
async def test_sleep_ends_with_time_jump_or_stop() -> None:
    clock = Clock(0)
    clock.start()
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        sleeper = group.create_task(clock.sleep(10))
        await asyncio.sleep(0)
        clock.advance(9)
        await asyncio.sleep(0.01)
        assert not sleeper.done()
        clock.poke()
        await asyncio.sleep(0.01)
        assert not sleeper.done()
        clock.advance(1)
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        group.create_task(clock.sleep(10))
        group.create_task(clock.pause(None))
        await asyncio.sleep(0)
        clock.stop()
    await clock.pause(None)  # stopped: nobody waits
    fast = Clock(1000)
    fast.start()
    await fast.sleep(1)
    assert fast.now() >= 1
    fast.stop()


@pytest.mark.anyio
async def test_a_jump_from_another_thread_wakes() -> None:
    clock = Clock(0)
    clock.start()
    thread = threading.Timer(0.02, clock.advance, [10])
    thread.start()
    async with asyncio.timeout(10):
        await clock.sleep(10)
    thread.join()
    clock.stop()


def test_a_loop_that_has_closed_is_no_trouble() -> None:
    clock = Clock(0)

    async def begin() -> None:
        clock.start()

    asyncio.run(begin())
    clock.poke()
    clock.stop()
