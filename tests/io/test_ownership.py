"""Work that belongs to the client: cancelled from every side, never torn."""

import asyncio
import logging

import anyio
import pytest

from veo_async import ClientClosedError
from veo_async.ownership import OwnedTasks, finished, uncut

pytestmark = pytest.mark.anyio


async def steps(count: int, log: list[int], error: Exception | None = None) -> str:
    for number in range(count):
        await asyncio.sleep(0)
        log.append(number)
    if error is not None:
        raise error
    return "done"


@pytest.mark.parametrize("error", [None, ValueError("x")])
@pytest.mark.parametrize("cancels", [1, 2, 5])
@pytest.mark.parametrize("before", range(5))
async def test_uncut_work_is_done_before_a_cancellation_gets_on(
    before: int, cancels: int, error: Exception | None
) -> None:
    log: list[int] = []
    task = asyncio.create_task(uncut(steps(8, log, error)))
    for _ in range(before + 1):
        await asyncio.sleep(0)
    for _ in range(cancels):
        task.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert log == [*range(8)]


async def test_uncut_work_under_a_cancelled_scope() -> None:
    log: list[int] = []
    with anyio.CancelScope() as scope:
        scope.cancel()
        await uncut(steps(5, log))
        await asyncio.sleep(0)
        log.append(99)
    assert log == [*range(5)]
    assert scope.cancelled_caught


async def test_uncut_work_under_a_timeout() -> None:
    log: list[int] = []
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await uncut(steps(5, log))
    assert log == [*range(5)]


async def test_uncut_work_gives_its_value_or_its_error() -> None:
    assert await uncut(steps(2, [])) == "done"
    with pytest.raises(ValueError, match="x"):
        await uncut(steps(2, [], ValueError("x")))


async def test_finished_tells_when_the_work_itself_was_cancelled() -> None:
    work = asyncio.create_task(asyncio.sleep(60))
    asyncio.get_running_loop().call_soon(work.cancel)
    with pytest.raises(asyncio.CancelledError):
        await finished(work)


async def test_a_call_gives_its_value_or_its_error() -> None:
    owned = OwnedTasks()
    assert await owned.call(steps(2, []), may_be_withdrawn=lambda: True) == "done"
    with pytest.raises(ValueError, match="x"):
        await owned.call(steps(2, [], ValueError("x")), may_be_withdrawn=lambda: True)
    await asyncio.sleep(0)
    assert not owned._tasks


async def cleaned(log: list[str], cleanup: int) -> None:
    try:
        await asyncio.sleep(60)
    finally:
        for _ in range(cleanup):
            with anyio.CancelScope(shield=True):
                await asyncio.sleep(0)
        log.append("clean")


@pytest.mark.parametrize("cancels", [1, 2, 3])
async def test_a_withdrawn_call_ends_after_its_cleanup(cancels: int) -> None:
    """Whoever was cancelled may start the same thing again at once, however often it was."""
    owned, log = OwnedTasks(), list[str]()
    caller = asyncio.create_task(owned.call(cleaned_by_thread(log), may_be_withdrawn=lambda: True))
    await asyncio.sleep(0.01)
    for _ in range(cancels):
        caller.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert log == ["clean"]
    assert not owned._tasks


async def cleaned_by_thread(log: list[str]) -> None:
    try:
        await asyncio.sleep(60)
    finally:
        await uncut(asyncio.to_thread(log.append, "clean"))


async def test_a_call_that_may_not_be_withdrawn_outlives_its_caller() -> None:
    owned, log = OwnedTasks(), list[int]()
    caller = asyncio.create_task(owned.call(steps(20, log), may_be_withdrawn=lambda: False))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert len(log) < 20
    await owned.drain(1)
    assert len(log) == 20


async def test_draining_withdraws_waits_and_then_cancels(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "veo_async")
    owned, log, cleanup = OwnedTasks(), list[int](), list[str]()
    withdrawn = asyncio.create_task(owned.call(cleaned(cleanup, 3), may_be_withdrawn=lambda: True))
    kept = asyncio.create_task(owned.call(steps(5, log), may_be_withdrawn=lambda: False))
    stuck = asyncio.create_task(owned.call(cleaned(cleanup, 1), may_be_withdrawn=lambda: False))
    failing = owned.spawn(steps(1, [], ValueError("nobody waits")))
    await asyncio.sleep(0.01)
    await owned.drain(0.05)
    await asyncio.wait({withdrawn, kept, stuck})
    assert kept.result() == "done"
    for task in (withdrawn, stuck):
        assert isinstance(task.exception(), ClientClosedError)
    assert cleanup == ["clean", "clean"]
    assert failing.done()
    assert "nobody waits" in caplog.text
    assert not owned._tasks


async def test_what_the_drained_work_starts_is_stopped_as_well() -> None:
    owned, log = OwnedTasks(), list[str]()

    async def parent() -> None:
        await asyncio.sleep(0.01)
        owned.spawn(cleaned(log, 1))

    owned.spawn(parent(), may_be_withdrawn=lambda: False)
    await asyncio.sleep(0)
    await owned.drain(1)
    assert not owned._tasks
    assert asyncio.all_tasks() >= {asyncio.current_task()}
