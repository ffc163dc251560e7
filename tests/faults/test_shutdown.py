"""Leaving: it takes as long as was allowed, whatever hangs, and all that is paid is known after."""

import asyncio
import contextlib
import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.faults import app_child
from tests.flows.conftest import until, world
from veo_async import (
    ClientClosedError,
    DownloadStarted,
    LocalLimiter,
    PollPolicy,
    SubmitStarted,
    SubmitUncertainError,
    Timeouts,
    VeoClient,
    Video,
)
from veo_async.simulator import Simulator

__all__ = ["until", "world"]

pytestmark = pytest.mark.anyio

DEADLINE = 15.0
SLOW = {"generation_seconds": 10_000}
SHORT = Timeouts(response=30.0, stall=30.0, close=1.0)


# --- a whole process


@contextmanager
def child_of(sim: Simulator, kind: str, folder: Path, close: float) -> Iterator[Any]:
    """Run the application; its log is in `log.txt`."""
    with (folder / "log.txt").open("w") as log:
        command = [sys.executable, app_child.__file__, kind]
        command += [sim.base_url, sim.api_key, str(folder), str(close)]
        child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
        )
        with child:
            try:
                yield child
            finally:
                child.kill()


def settled(condition: Callable[[], bool]) -> None:
    """Wait for something that another process does."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.01)


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGTERM there")
@pytest.mark.parametrize(("kind", "fault"), [("aiohttp", "delay=100"), ("uvicorn", "hang")])
def test_a_sigterm_amid_ten_submits_and_ten_downloads(
    kind: str, fault: str, tmp_path: Path
) -> None:
    count = app_child.COUNT
    size, held = 3_000_000, 2_500_000
    with (
        Simulator(time_scale=100, generation_seconds=50, clip=(64, 36), video_bytes=size) as sim,
        child_of(sim, kind, tmp_path, 4.0 if fault == "hang" else 10.0) as child,
    ):
        assert child.stdout.readline() == "ready\n"
        old = {charge.task_id for charge in sim.ledger}
        sim.add_fault(f"video:stall_at={held}")
        sim.add_fault(f"generate:{fault}:match=new")
        child.stdin.write("go\n")
        child.stdin.flush()
        parts = [tmp_path / f"{n}.mp4.part" for n in range(count)]
        settled(lambda: len(sim.ledger.posts) == 2 * count)
        settled(lambda: all(p.exists() and p.stat().st_size for p in parts))
        child.send_signal(signal.SIGTERM)
        child.wait(DEADLINE)
        log = (tmp_path / "log.txt").read_text()
        new = {charge.task_id for charge in sim.ledger} - old
        assert "the application is closed" in log
        assert "Traceback" not in log.partition("the application is closed")[0]
        if fault == "hang":
            assert log.count("the answer to a paid submit was lost") >= count
        else:
            assert len(new) == count
            goes_on = next(line for line in log.splitlines() if "go on at the service" in line)
            assert all(task_id in goes_on for task_id in new)
        sim.clear_faults()
        left = [part.stat().st_size for part in parts]
        assert all(1 << 20 <= there <= held for there in left)
        assert resumed(sim, sorted(old), tmp_path) == sum(size - there for there in left)


def resumed(sim: Simulator, task_ids: list[str], folder: Path) -> int:
    """Go on with all downloads in another process than that which began; return what they moved."""

    async def go_on() -> int:
        poll = PollPolicy(interval=0.05)
        async with VeoClient(sim.api_key, base_url=sim.base_url, poll=poll) as veo:
            videos = [await veo.task(task_id) for task_id in task_ids]
            for video in videos:
                await veo.download(video, target_of(folder, video))
            return veo.statistics().bytes_downloaded

    def target_of(folder: Path, video: Video) -> Path:
        # Which video went where is in the side records.
        for side in folder.glob("*.part.json"):
            if video.task_id in side.read_text():
                return folder / side.name.removesuffix(".part.json")
        pytest.fail(f"no part is one of {video.task_id}")

    return asyncio.run(go_on())


# --- what may hang


async def test_a_service_that_never_answers(world, until):
    async with world(timeouts=SHORT, sim=SLOW | {"faults": ["generate:hang"]}) as w:
        submits = [asyncio.create_task(w.veo.submit(f"prompt {n}")) for n in range(3)]
        await until(lambda: len(w.sim.ledger.posts) == 3)
        async with asyncio.timeout(DEADLINE):
            await w.veo.aclose()
            for submit in submits:
                with pytest.raises(SubmitUncertainError):
                    await submit


class Hung(LocalLimiter):
    """A limiter whose store stops to answer."""

    def __init__(self) -> None:
        super().__init__(10)
        self.hangs: set[str] = set()

    async def _answer(self, step: str) -> None:
        if step in self.hangs:
            await asyncio.Event().wait()

    async def reserve(self, key: str) -> None:
        await self._answer("reserve")
        await super().reserve(key)

    async def occupy(self, key: str, seconds: float) -> None:
        await self._answer("occupy")
        await super().occupy(key, seconds)

    async def release(self, key: str) -> None:
        await self._answer("release")
        await super().release(key)


@pytest.mark.parametrize("step", ["reserve", "occupy", "release"])
async def test_a_limiter_that_never_answers(world, until, step, caplog):
    limiter = Hung()
    async with world(timeouts=SHORT, limiter=limiter, sim=SLOW, pace=(1, 1000.0)) as w:
        running = await w.veo.submit("goes on")
        limiter.hangs.add(step)
        waiting = asyncio.create_task(w.veo.submit("waits"))
        if step != "reserve":
            await until(lambda: sum(isinstance(e, SubmitStarted) for e in w.events) == 2)
        async with asyncio.timeout(DEADLINE):
            await w.veo.aclose()
            with pytest.raises(ClientClosedError):
                await waiting
        assert running.id in caplog.text
        assert not w.veo._engine.runtime.owned._tasks, "nothing waits for it any more"


class Deaf(LocalLimiter):
    """A limiter that does not let itself be cancelled."""

    def __init__(self) -> None:
        super().__init__(10)
        self.answer = asyncio.Event()

    async def reserve(self, key: str) -> None:
        while not self.answer.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await self.answer.wait()


async def test_a_limiter_that_is_deaf_to_cancellations(world):
    limiter = Deaf()
    async with world(timeouts=SHORT, limiter=limiter) as w:
        waiting = asyncio.create_task(w.veo.submit("waits"))
        await asyncio.sleep(0)
        async with asyncio.timeout(DEADLINE):
            await w.veo.aclose()
            with pytest.raises(ClientClosedError):
                await waiting
        limiter.answer.set()
        async with asyncio.timeout(DEADLINE):
            while w.veo._engine.runtime.owned._tasks:
                await asyncio.sleep(0.01)
        assert not w.sim.ledger.posts


class HungShared(Hung):
    """The same, shared with other processes."""

    def join(self, adopt: object) -> None:
        self.members = [adopt]

    async def leave(self, adopt: object, keys: object) -> None:
        await self._answer("leave")
        self.members.remove(adopt)

    async def occupy_task(self, key: str, seconds: float, task_id: str) -> None:
        await self.occupy(key, seconds)

    async def depart(self, count: int, seconds: float) -> float:
        await self._answer("depart")
        return 0.0


@pytest.mark.parametrize("step", ["leave", "depart", "release"])
async def test_a_shared_limiter_that_never_answers(world, step):
    limiter = HungShared()
    async with world(timeouts=SHORT, limiter=limiter, sim=SLOW) as w:
        running = await w.veo.submit("goes on")
        limiter.hangs.add(step)
        waiting = asyncio.create_task(w.veo.submit("waits" if step == "depart" else "goes on too"))
        await asyncio.sleep(0)
        async with asyncio.timeout(DEADLINE):
            await w.veo.aclose()
            await asyncio.wait({waiting})
        assert running.done
        assert (limiter.members == []) == (step != "leave")
        assert isinstance(waiting.exception(), ClientClosedError | None)


@contextmanager
def hung_disk(veo: VeoClient) -> Iterator[None]:
    """Occupy the threads that write files, as a disk does that does not answer."""
    awake = threading.Event()
    executor = veo._engine.runtime.executor
    for _ in range(executor._max_workers):
        executor.submit(awake.wait)
    try:
        yield
    finally:
        awake.set()
        executor.shutdown()


async def test_a_disk_that_never_answers(world, until, tmp_path, caplog):
    async with world(timeouts=SHORT) as w:
        video = await w.veo.generate("a prompt")
        with hung_disk(w.veo):
            loading = asyncio.create_task(w.veo.download(video, tmp_path / "x.mp4"))
            await until(lambda: any(isinstance(e, DownloadStarted) for e in w.events))
            async with asyncio.timeout(DEADLINE):
                await w.veo.aclose()
                with pytest.raises(ClientClosedError):
                    await loading
    assert "look at the disk" in caplog.text
    assert [*tmp_path.iterdir()] == []


def test_a_loop_ends_after_a_client_that_left_a_hung_disk_behind(tmp_path):
    with Simulator(time_scale=100, generation_seconds=20) as sim:
        disks = []

        async def main() -> None:
            poll = PollPolicy(interval=0.05)
            async with VeoClient(
                sim.api_key, base_url=sim.base_url, poll=poll, timeouts=SHORT
            ) as veo:
                video = await veo.generate("a prompt")
                disk = hung_disk(veo)
                disk.__enter__()
                disks.append(disk)
                loading = asyncio.create_task(veo.download(video, tmp_path / "x.mp4"))
                while not veo.statistics().downloads_active:
                    await asyncio.sleep(0.01)
            assert isinstance((await asyncio.wait({loading}))[0].pop().exception(), Exception)

        asyncio.run(main())
        disks[0].__exit__(None, None, None)


# --- who closes, and how often


@pytest.fixture
def busy(world):
    """A client with an answer under way that takes a moment."""
    return world(sim=SLOW | {"faults": ["generate:delay=30"]}, timeouts=Timeouts(close=10.0))


async def test_the_second_who_closes_waits_for_the_first(busy, until):
    async with busy as w:
        submit = asyncio.create_task(w.veo.submit("a prompt"))
        await until(lambda: len(w.sim.ledger.posts) == 1)
        first = asyncio.create_task(w.veo.aclose())
        await asyncio.sleep(0)
        await w.veo.aclose()
        assert (await submit).id
        assert first.done()
        await w.veo.aclose()


@pytest.mark.parametrize("cancels", [1, 3])
async def test_a_cancelled_close_is_done_before_it_says_so(busy, until, cancels):
    async with busy as w:
        submit = asyncio.create_task(w.veo.submit("a prompt"))
        await until(lambda: len(w.sim.ledger.posts) == 1)
        closing = asyncio.create_task(w.veo.aclose())
        for _ in range(cancels):
            await asyncio.sleep(0)
            closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        assert (await submit).id, "its answer came all the same"
        assert w.veo._engine.runtime.transport._api.closed


async def test_a_close_that_is_cut_off_by_a_timeout_is_done_all_the_same(busy, until):
    async with busy as w:
        submit = asyncio.create_task(w.veo.submit("a prompt"))
        await until(lambda: len(w.sim.ledger.posts) == 1)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await w.veo.aclose()
        assert (await submit).id
        await w.veo.aclose()


async def test_an_id_that_arrives_while_it_closes_is_among_those_that_go_on(busy, until, caplog):
    caplog.set_level(logging.INFO, "veo_async")
    async with busy as w:
        submit = asyncio.create_task(w.veo.submit("a prompt"))
        await until(lambda: len(w.sim.ledger.posts) == 1)
        await w.veo.aclose()
        task = await submit
    (line,) = [line for line in caplog.messages if "go on at the service" in line]
    assert task.id in line


async def test_what_is_asked_for_while_it_closes_is_refused(busy, until):
    async with busy as w:
        submit = asyncio.create_task(w.veo.submit("a prompt"))
        await until(lambda: len(w.sim.ledger.posts) == 1)
        closing = asyncio.create_task(w.veo.aclose())
        await asyncio.sleep(0)
        with pytest.raises(ClientClosedError):
            await w.veo.submit("another")
        await closing
        await submit
        assert len(w.sim.ledger.posts) == 1
