"""A download cancelled anywhere leaves nothing behind that stands in the way of the next one."""

# ruff: noqa: ASYNC240  # a test may look at the disk

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path

import anyio
import pytest

from tests.faults.fileserver import FileServer, Reply, client_of, movie, video
from veo_async import ClientClosedError, Download, Event, VeoClient
from veo_async.events import DownloadProgress, DownloadStarted

pytestmark = pytest.mark.anyio

FILM = movie(100_000)
BIG = movie(5 << 20)


def fds() -> set[str]:
    """Return what is open, but for the folder that is being listed."""
    found: set[str] = set()
    for path in Path("/proc/self/fd").iterdir():
        try:
            found.add(f"{path.name} {path.readlink()}")
        except FileNotFoundError:
            continue
    return found


def disk_threads() -> list[str]:
    return [one.name for one in threading.enumerate() if one.name.startswith("veo_async")]


async def settled(host: FileServer) -> None:
    """Let the host see that its clients have left."""
    while host.open:
        await asyncio.sleep(0.001)


Canceller = Callable[[Awaitable[Download], Callable[[], bool]], Awaitable[None]]


async def natively(work: Awaitable[Download], is_time: Callable[[], bool]) -> None:
    task = asyncio.ensure_future(work)
    while not task.done() and not is_time():
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})


async def twice(work: Awaitable[Download], is_time: Callable[[], bool]) -> None:
    task = asyncio.ensure_future(work)
    while not task.done() and not is_time():
        await asyncio.sleep(0)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
    await asyncio.wait({task})


async def by_timeout(work: Awaitable[Download], is_time: Callable[[], bool]) -> None:
    async def watch(limit: asyncio.Timeout) -> None:
        while not is_time():
            await asyncio.sleep(0)
        limit.reschedule(asyncio.get_running_loop().time())

    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(None) as limit, asyncio.TaskGroup() as group:
            watcher = group.create_task(watch(limit))
            await work
            watcher.cancel()


async def by_wait_for(work: Awaitable[Download], is_time: Callable[[], bool]) -> None:
    outer = asyncio.ensure_future(asyncio.wait_for(work, timeout=60))
    await asyncio.sleep(0)  # or nobody has begun what is cancelled
    while not outer.done() and not is_time():
        await asyncio.sleep(0)
    outer.cancel()
    await asyncio.wait({outer})


async def by_scope(work: Awaitable[Download], is_time: Callable[[], bool]) -> None:
    async with anyio.create_task_group() as group:

        async def run() -> None:
            await work

        group.start_soon(run)
        while not is_time() and group._tasks:  # type: ignore[attr-defined]
            await asyncio.sleep(0)
        group.cancel_scope.cancel()


def is_spent(steps: Iterator[int]) -> bool:
    return next(steps, -1) < 0


def has_seen(events: list[Event], count: int) -> bool:
    return len(events) >= count


WAYS = [natively, twice, by_timeout, by_wait_for, by_scope]


@pytest.mark.parametrize("way", WAYS)
async def test_cancelled_at_any_step_and_done_again(tmp_path: Path, way: Canceller) -> None:
    target = tmp_path / "v.mp4"
    before = fds()
    async with FileServer(FILM).serving() as host:
        tasks = asyncio.all_tasks()
        async with client_of(host) as veo:
            for steps in [*range(40), *range(40, 300, 12), *range(300, 1500, 150)]:
                await way(
                    veo.download(video(host.link), target), partial(is_spent, iter(range(steps)))
                )
                saved = await veo.download(video(host.link), target)
                assert saved.path.read_bytes() == FILM
                assert [path.name for path in tmp_path.iterdir()] == ["v.mp4"]
                target.unlink()
        await settled(host)
        assert asyncio.all_tasks() == tasks
    assert disk_threads() == []
    assert fds() <= before


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("etag", ['"v1"', None])
async def test_cancelled_at_each_event_and_done_again(
    tmp_path: Path, way: Canceller, etag: str | None
) -> None:
    target = tmp_path / "v.mp4"
    events: list[Event] = []
    before = fds()
    async with FileServer(BIG, then=Reply(etag=etag)).serving() as host:
        async with client_of(host, on_event=events.append) as veo:
            for count in range(1, 7):
                events.clear()
                await way(veo.download(video(host.link), target), partial(has_seen, events, count))
                got = [one.received for one in events if isinstance(one, DownloadProgress)]
                part = target.with_name("v.mp4.part")
                if not target.exists():
                    assert part.exists() is (etag is not None and bool(got))
                    host.seen.clear()
                    assert (await veo.download(video(host.link), target)).size == len(BIG)
                    assert host.seen[0].start >= (got[-1] if got and etag else 0)
                assert target.read_bytes() == BIG
                assert [path.name for path in tmp_path.iterdir()] == ["v.mp4"]
                target.unlink()
        await settled(host)
    assert fds() <= before


@pytest.mark.parametrize("reply", [Reply(early=True, end="hang"), Reply(cut=0, end="hang")])
async def test_cancelled_while_the_host_says_nothing(tmp_path: Path, reply: Reply) -> None:
    target = tmp_path / "v.mp4"
    before = fds()
    async with FileServer(FILM, reply).serving() as host, client_of(host) as veo:
        work = asyncio.create_task(veo.download(video(host.link), target))
        while not host.seen:
            await asyncio.sleep(0.001)
        work.cancel()
        await asyncio.wait({work})
        assert [*tmp_path.iterdir()] == []
        assert (await veo.download(video(host.link), target)).path.read_bytes() == FILM
    assert fds() <= before


async def test_cancelled_while_it_waits_for_its_turn(tmp_path: Path) -> None:
    hang = Reply(early=True, end="hang")
    async with FileServer(FILM, hang).serving() as host, client_of(host, max_downloads=1) as veo:
        first = asyncio.create_task(veo.download(video(host.link), tmp_path / "1.mp4"))
        while not host.seen:
            await asyncio.sleep(0.001)
        waiting = [
            asyncio.create_task(veo.download(video(host.link), tmp_path / f"{n}.mp4"))
            for n in range(2, 6)
        ]
        while veo.statistics().downloads_waiting < 4:
            await asyncio.sleep(0)
        for task in waiting[:2]:
            task.cancel()
        await asyncio.wait(waiting[:2])
        assert veo.statistics().downloads_waiting == 2
        first.cancel()
        await asyncio.wait({first, *waiting})
        assert veo.statistics().downloads_active == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["4.mp4", "5.mp4"]


async def test_closing_the_client_in_the_middle_of_ten_downloads(tmp_path: Path) -> None:
    before = fds()
    started: list[Event] = []
    stuck = Reply(cut=3 << 20, end="hang")
    async with FileServer(BIG, then=stuck).serving() as host:
        veo = client_of(host, max_downloads=8, on_event=started.append)
        work = [
            asyncio.create_task(veo.download(video(host.link), tmp_path / f"{number}.mp4"))
            for number in range(10)
        ]

        def progress() -> int:
            seen = [one for one in started if isinstance(one, DownloadProgress)]
            return sum(one.received >= 2 << 20 for one in seen)

        while progress() < 8:
            await asyncio.sleep(0.001)
        await veo.aclose()
        outcomes = [await _error(task) for task in work]
        assert {type(error) for error in outcomes} == {ClientClosedError}
        assert sum(isinstance(one, DownloadStarted) for one in started) == 8
        parts = sorted(path.name for path in tmp_path.iterdir())
        assert len(parts) == 16
        assert all(name.endswith((".part", ".part.json")) for name in parts)
        assert disk_threads() == []

        host.then = Reply()
        host.seen.clear()
        async with client_of(host) as again:
            for number in range(10):
                saved = await again.download(video(host.link), tmp_path / f"{number}.mp4")
                assert saved.path.read_bytes() == BIG
        assert sum(seen.start >= 2 << 20 for seen in host.seen) == 8
        await settled(host)
    assert fds() <= before


async def test_closing_the_client_while_another_task_closes_it(tmp_path: Path) -> None:
    async with FileServer(BIG, Reply(cut=3 << 20, end="hang")).serving() as host:
        veo = client_of(host)
        work = asyncio.create_task(veo.download(video(host.link), tmp_path / "v.mp4"))
        while not host.seen:
            await asyncio.sleep(0.001)
        await asyncio.wait([asyncio.create_task(_close(veo)) for _ in range(3)])
        assert isinstance(await _error(work), ClientClosedError)


async def _close(veo: VeoClient) -> None:
    await veo.aclose()


async def _error(task: "asyncio.Task[Download]") -> BaseException | None:
    await asyncio.wait({task})
    return task.exception()
