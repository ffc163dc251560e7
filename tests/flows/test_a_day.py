"""Hours of a full batch in virtual time: ten slots, prompts without end, some faults."""

import asyncio
import gc
import os
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flows.virtual_time import Day, VirtualLoop, run_a_day
from veo_async.database import JOURNAL_NAME
from veo_async.jobs import Job
from veo_async.journal_file import read_journal
from veo_async.protocol.jobs import JobState
from veo_async.settings import PollPolicy
from veo_async.simulator.records import Endpoint

RAM_DISK = Path("/dev/shm")
ASKED = Endpoint.RECORD_INFO


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Iterator[Path]:
    """A folder on a RAM disk where there is one: on another most of the time goes into fsync."""
    is_there = RAM_DISK.is_dir() and os.access(RAM_DISK, os.W_OK)
    parent = RAM_DISK if is_there else tmp_path_factory.mktemp("hours")
    with tempfile.TemporaryDirectory(dir=parent) as name:
        yield Path(name)


@pytest.fixture(scope="module")
def day(folder) -> Day:
    """Four hours, run once for all tests that judge them; nothing is drawn twice."""
    return run_a_day(folder / "day", hours=4)


@pytest.fixture(scope="module")
def jobs(day) -> list[Job]:
    journal = read_journal(day.folder / JOURNAL_NAME, day.folder)
    try:
        return [*journal.jobs()]
    finally:
        journal.close()


# --- the slots


def test_less_than_a_hundredth_of_the_slots_time_is_idle(day):
    assert day.book.tasks > 500, "or there was little to judge"
    assert 0 < day.book.idle < 0.01 * day.book.total


def test_no_slot_waits_for_longer_than_a_refusal_and_its_repetition(day):
    assert max(day.book.gaps) < 5


def test_the_end_of_a_task_is_seen_within_a_poll(day):
    assert 0 < day.book.unseen / day.book.seen < PollPolicy().interval


def test_what_some_tasks_took_saves_requests_for_the_next(day):
    polls = sum(count for (where, _), count in day.transport.answers.items() if where is ASKED)
    # From 20 s on, these tasks took 27 polls each.
    assert polls / day.book.tasks < 18


def test_the_service_sees_ten_tasks_and_never_one_more(day):
    assert day.transport.service.peak_running == 10
    assert day.transport.refused == 0


@pytest.mark.parametrize(("slots", "is_idle", "is_refused"), [(9, True, False), (11, False, True)])
def test_the_judge_sees_a_slot_too_few_and_one_too_many(folder, slots, is_idle, is_refused):
    other = run_a_day(folder / f"{slots}", hours=0.25, slots=slots)
    assert (other.book.idle > 0.1 * other.book.total) == is_idle
    assert (other.transport.refused > 0) == is_refused


# --- the money


def test_no_prompt_is_paid_twice(day):
    paid = Counter(charge.prompt for charge in day.charges)
    assert {*paid.values()} == {1}


def test_the_journal_knows_every_charge_and_nothing_else(day, jobs):
    charged = {charge.prompt: charge for charge in day.charges}
    written = {job.request.prompt: job for job in jobs if job.attempts and job.request}
    assert written.keys() == charged.keys()
    for prompt, job in written.items():
        charge = charged[prompt]
        is_lost = job.state is JobState.UNKNOWN
        assert job.task_id == (None if is_lost else charge.task_id)
        assert job.charged == (0 if charge.refunded else charge.credits)
        assert (job.state is JobState.FAILED) == charge.refunded


def test_the_report_says_what_the_service_and_the_journal_say(day, jobs):
    states = Counter(job.state for job in jobs)
    report = day.report
    assert report.downloaded == states.pop(JobState.STORED)
    assert report.failed == states.pop(JobState.FAILED) > 0
    assert report.uncertain == states.pop(JobState.UNKNOWN) > 0
    assert report.unpaid >= states.pop(JobState.NEW, 0)
    assert not states
    assert report.credits_spent == sum(job.charged for job in jobs)
    assert report.credits_spent == sum(one.credits for one in day.charges if not one.refunded)


def test_every_video_that_was_paid_stands_whole_under_the_name_in_the_journal(day, jobs):
    stored = {job.file: job.task_id for job in jobs if job.state is JobState.STORED}
    assert {path.name for path in day.folder.glob("*.mp4*")} == stored.keys()
    for name, task_id in stored.items():
        assert day.folder.joinpath(name).read_bytes() == day.transport.movie(task_id)


# --- the memory


def weighed(folder: Path) -> list[int]:
    """Return the bytes that the package holds after half an hour, and after one and a half."""
    sizes: list[int] = []
    ours = (
        tracemalloc.Filter(True, "*/veo_async/*"),
        tracemalloc.Filter(True, "<attrs generated*"),
        tracemalloc.Filter(True, "*/attr/*"),
    )
    # Whoever calls it: attrs makes some of the service's objects.
    not_the_service = tracemalloc.Filter(False, "*/veo_async/simulator/*", all_frames=True)

    def weigh() -> None:
        gc.collect()
        snapshot = tracemalloc.take_snapshot().filter_traces(ours)
        sizes.append(sum(trace.size for trace in snapshot.filter_traces([not_the_service]).traces))

    tracemalloc.start(4)
    try:
        run_a_day(folder / "memory", hours=1.5, at={0.5: weigh, 1.5: weigh})
    finally:
        tracemalloc.stop()
    return sizes


def test_a_batch_keeps_nothing_of_what_it_has_finished(folder):
    # In a process of its own, where nothing but this makes objects.
    code = (
        "import sys; from pathlib import Path; from tests.flows.test_a_day import weighed;"
        " print(*weighed(Path(sys.argv[1])))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    early, late = map(int, done.stdout.split())
    assert late - early < 40_000, "less than 200 bytes for each of the tasks in between"


# --- the clock


def test_virtual_time_stands_still_while_a_thread_works():
    async def scenario() -> float:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(0.001):
            await asyncio.to_thread(time.sleep, 0.05)
        return loop.time()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        assert runner.run(scenario()) == 0


def test_virtual_time_jumps_to_each_timer_in_turn():
    async def scenario() -> list[float]:
        loop = asyncio.get_running_loop()
        seen: list[float] = []

        async def wait(seconds: float) -> None:
            await asyncio.sleep(seconds)
            seen.append(loop.time())

        async with asyncio.TaskGroup() as group:
            for seconds in (86_400.0, 0.5, 3_600.0):
                group.create_task(wait(seconds))
        return seen

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        assert runner.run(scenario()) == [0.5, 3_600.0, 86_400.0]


def test_a_call_from_another_thread_wakes_the_loop():
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        called = asyncio.Event()
        threading.Timer(0.05, lambda: loop.call_soon_threadsafe(called.set)).start()
        await called.wait()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(scenario())
