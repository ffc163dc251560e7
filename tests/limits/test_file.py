"""The file that processes of one host share: its clock, its damage, its places."""

import asyncio
import gc
import multiprocessing
import os
import sqlite3
import threading
import traceback
from contextlib import closing
from pathlib import Path

import attrs
import pytest

from veo_async import (
    ConfigurationError,
    FileLimiter,
    LimiterError,
    PollPolicy,
    VeoClient,
    WrongLoopError,
)
from veo_async.integrations.processes import FileStore, MachineClock
from veo_async.protocol.slots import Report

pytestmark = pytest.mark.anyio


@attrs.define
class StillClock:
    """A machine whose clocks stand still until they are set."""

    boot_id: str = "first"
    ms: int = 10**6
    wall_ms: int = 1_700_000_000_000

    def boot(self) -> str:
        return self.boot_id

    def now(self) -> int:
        return self.ms

    def wall(self) -> int:
        return self.wall_ms

    def start_again(self, after: int) -> None:
        self.boot_id += "+"
        self.ms = 5000
        self.wall_ms += after


def limiter_of(path, clock: StillClock, **options) -> FileLimiter:
    limiter = FileLimiter(path, **options)
    limiter._clock = clock
    return limiter


async def is_free(limiter: FileLimiter, key: str) -> bool:
    try:
        async with asyncio.timeout(0.2):
            await limiter.reserve(key)
    except TimeoutError:
        return False
    await limiter.release(key)
    return True


@pytest.mark.parametrize("step", [3_600_000, -3_600_000])
async def test_a_jump_of_the_time_of_day_changes_nothing(tmp_path, step):
    clock = StillClock()
    one = limiter_of(tmp_path / "slots", clock, total=2)
    two = limiter_of(tmp_path / "slots", clock, total=2)
    await one.reserve("1")
    await one.reserve("2")
    await one.occupy("2", 600)
    clock.wall_ms += step
    assert not await is_free(two, "3")
    clock.ms += 600_001
    assert await is_free(two, "3"), "the task lapsed by the machine's own clock"
    await one.aclose()
    await two.aclose()


@pytest.mark.parametrize(("seconds", "expected"), [(300, False), (601, True), (-100, False)])
async def test_after_a_start_of_the_machine_only_tasks_that_may_run_hold_slots(
    tmp_path, seconds, expected
):
    clock = StillClock()
    before = limiter_of(tmp_path / "slots", clock, total=2)
    await before.reserve("1")
    await before.reserve("2")
    await before.occupy("2", 600)
    with closing(sqlite3.connect(tmp_path / "slots")) as file:
        kept = file.execute("SELECT ledger FROM slots").fetchone()
    await before.aclose()
    with closing(sqlite3.connect(tmp_path / "slots")) as file:  # as a power cut leaves it
        file.execute("UPDATE slots SET ledger = ?", kept)
        file.commit()
    clock.start_again(after=seconds * 1000)
    after = limiter_of(tmp_path / "slots", clock, total=2)
    await after.reserve("3")
    assert await is_free(after, "4") is expected
    await after.aclose()


def test_the_clock_of_the_machine_goes_on():
    clock = MachineClock()
    first = clock.now()
    assert clock.now() >= first > 0
    assert clock.boot() == clock.boot()
    assert clock.wall() > 1_700_000_000_000


def damaged(path):
    path.write_bytes(b"no database at all, but long enough to be one" * 100)


def empty_of_sense(path):
    with closing(sqlite3.connect(path)) as file:
        file.execute("CREATE TABLE slots (ledger TEXT NOT NULL)")
        file.execute("INSERT INTO slots VALUES ('{]')")
        file.execute(f"PRAGMA application_id = {0x56454F4C}")
        file.execute("PRAGMA user_version = 1")
        file.commit()


def of_another_program(path):
    with closing(sqlite3.connect(path)) as file:
        file.execute("CREATE TABLE cats (name TEXT)")
        file.commit()


def of_a_later_version(path):
    with closing(sqlite3.connect(path)) as file:
        file.execute(f"PRAGMA application_id = {0x56454F4C}")
        file.execute("PRAGMA user_version = 2")
        file.commit()


def a_folder(path):
    path.mkdir()


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (damaged, "damaged"),
        (empty_of_sense, "damaged"),
        (of_another_program, "another program"),
        (of_a_later_version, "format 2"),
        (a_folder, "look at its folder"),
    ],
)
async def test_a_file_that_is_none_is_refused_and_left_alone(tmp_path, make, why):
    path = tmp_path / "slots"
    make(path)
    before = None if path.is_dir() else path.read_bytes()
    limiter = FileLimiter(path, lease=3)
    for _ in range(2):
        with pytest.raises(LimiterError, match=why) as caught:
            await limiter.reserve("1")
        assert str(path) in str(caught.value)
    await limiter.aclose()
    assert before is None or path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["slots"]


async def test_a_network_file_system_is_refused(tmp_path):
    mounts = tmp_path / "mounts"
    mounts.write_text(f"1 0 0:1 / {tmp_path} rw - nfs4 host:/x rw\n")
    store = FileStore(tmp_path / "slots", "member", MachineClock(), mounts)
    with pytest.raises(LimiterError, match="network file system"):
        await store.exchange(Report(member="member"))
    await store.aclose()
    assert not (tmp_path / "slots").exists()


async def test_a_file_that_is_locked_for_long_is_waited_for(tmp_path, caplog):
    limiter = FileLimiter(tmp_path / "slots", lease=3)
    await limiter.reserve("1")
    with closing(sqlite3.connect(tmp_path / "slots", isolation_level=None)) as file:
        file.execute("BEGIN EXCLUSIVE")
        waiting = asyncio.create_task(limiter.reserve("2"))
        async with asyncio.timeout(30):
            while "cannot be reached" not in caplog.text:
                await asyncio.sleep(0.05)
        assert not waiting.done()
        file.execute("ROLLBACK")
        await waiting
    await limiter.aclose()


@pytest.mark.parametrize(
    ("name", "value"), [("total", 0), ("total", 1.5), ("lease", 0), ("lease", float("nan"))]
)
def test_impossible_options_are_refused(tmp_path, name, value):
    with pytest.raises(ConfigurationError, match=name):
        FileLimiter(tmp_path / "slots", **{name: value})


async def test_those_who_come_through_links_see_each_other_live(tmp_path):
    (tmp_path / "shared").mkdir()
    limiters = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "slots.db").symlink_to(tmp_path / "shared" / "slots.db")
        limiters.append(FileLimiter(tmp_path / name / "slots.db", total=1))
    one, two = limiters
    await one.reserve("1")
    assert not await is_free(two, "2")
    await one.release("1")
    assert await is_free(two, "2")
    await one.aclose()
    await two.aclose()


def test_a_path_is_needed():
    with pytest.raises(ConfigurationError, match="path"):
        FileLimiter("")


# --- loops, threads and processes


def test_one_instance_serves_one_loop_after_the_other(tmp_path):
    limiter = FileLimiter(tmp_path / "slots", total=1)

    async def use() -> None:
        await limiter.reserve("1")
        await limiter.aclose()

    asyncio.run(use())
    asyncio.run(use())


def test_one_instance_serves_the_next_loop_when_the_last_one_was_just_left(tmp_path):
    limiter = FileLimiter(tmp_path / "slots", total=1)

    async def use(key: str) -> None:
        await limiter.reserve(key)

    asyncio.run(use("1"))
    asyncio.run(use("2"))  # the reservation ended with its loop
    gc.collect()


async def test_a_second_loop_at_the_same_time_is_refused(tmp_path):
    limiter = FileLimiter(tmp_path / "slots")
    await limiter.reserve("1")
    errors: list[BaseException] = []

    def elsewhere() -> None:
        try:
            asyncio.run(use())
        except WrongLoopError as error:
            errors.append(error)

    async def use() -> None:
        with pytest.raises(WrongLoopError):
            await limiter.reserve("2")
        with pytest.raises(WrongLoopError):
            await limiter.aclose()
        async with VeoClient("key", limiter=limiter):
            pass

    thread = threading.Thread(target=elsewhere)
    thread.start()
    await asyncio.to_thread(thread.join)
    assert "another event loop" in str(errors[0])
    await limiter.aclose()


async def test_threads_with_an_instance_each_share_one_file(tmp_path):
    inside: list[int] = []
    peaks: list[int] = []

    async def work(number: int) -> None:
        limiter = FileLimiter(tmp_path / "slots", total=2)
        for turn in range(10):
            key = f"{number}-{turn}"
            await limiter.reserve(key)
            inside.append(number)
            peaks.append(len(inside))
            await limiter.occupy(key, 60)
            inside.remove(number)
            await limiter.release(key)
        await limiter.aclose()

    threads = [threading.Thread(target=asyncio.run, args=(work(n),)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join, 60)
    assert len(peaks) == 40
    assert max(peaks) <= 2


def in_child(limiter: FileLimiter) -> str:
    try:
        asyncio.run(_use(limiter))
    except WrongLoopError:
        return "wrong loop"
    except BaseException:  # noqa: BLE001  # the parent shall see it
        return traceback.format_exc()
    return "fine"


async def _use(limiter: FileLimiter) -> None:
    await limiter.reserve(f"child {os.getpid()}")
    await limiter.aclose()


def forked(limiter: FileLimiter) -> str:
    context = multiprocessing.get_context("fork")
    receiving, sending = context.Pipe(duplex=False)
    child = context.Process(target=lambda: sending.send(in_child(limiter)))
    child.start()
    said = receiving.recv() if receiving.poll(30) else "nothing"
    child.join()
    receiving.close()
    sending.close()
    child.close()
    return said


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_an_instance_made_before_a_fork_works_and_one_used_before_it_is_refused(tmp_path):
    limiter = FileLimiter(tmp_path / "slots", total=1)
    assert forked(limiter) == "fine"

    async def use() -> None:
        await limiter.reserve("parent")
        assert forked(limiter) == "wrong loop"
        await limiter.release("parent")
        await limiter.aclose()

    asyncio.run(use())


def open_files() -> int:
    return len([*Path("/proc/self/fd").iterdir()])


async def test_the_last_client_leaves_nothing_open(tmp_path):
    limiter = FileLimiter(tmp_path / "slots")
    tasks, threads = asyncio.all_tasks(), threading.active_count()
    files = open_files()
    async with (
        VeoClient("key", limiter=limiter, poll=PollPolicy()),
        VeoClient("key", limiter=limiter) as second,
    ):
        await limiter.reserve("1")
        await second.aclose()
        await limiter.reserve("2")
    assert asyncio.all_tasks() == tasks
    assert threading.active_count() == threads
    assert open_files() == files
    assert [each.name for each in tmp_path.iterdir()] == ["slots"]
    assert limiter.statistics().in_use == 0
