"""A batch that was left, and the run after it: all at home, and one charge for each."""

import asyncio
import os
import sqlite3
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.flows.batches import (
    LONG,
    charges,
    client_of,
    jobs,
    paid_once,
    prompts,
    ran,
    running,
    service,
    videos,
)
from veo_async import (
    DownloadError,
    DownloadStarted,
    JournalError,
    LimiterMember,
    LocalLimiter,
    NotAnMP4Error,
    NotFoundError,
    Outcome,
    SubmitStarted,
    TaskSubmitted,
    Timeouts,
)
from veo_async.database import JOURNAL_NAME, open_for_writing
from veo_async.journal_file import JournalFile
from veo_async.protocol.jobs import JobState

pytestmark = pytest.mark.anyio
IMPATIENT = {"timeouts": Timeouts(close=0.2)}

Leave = Callable[[Callable[[], Coroutine[Any, Any, None]], float], Awaitable[None]]


async def by_cancelling(work: Callable[[], Coroutine[Any, Any, None]], after: float) -> None:
    task = asyncio.create_task(work())
    await asyncio.sleep(after)
    task.cancel()
    await asyncio.wait({task})


async def by_timeout(work: Callable[[], Coroutine[Any, Any, None]], after: float) -> None:
    try:
        async with asyncio.timeout(after):
            await work()
    except TimeoutError:
        pass


async def by_scope(work: Callable[[], Coroutine[Any, Any, None]], after: float) -> None:
    with anyio.move_on_after(after):
        await work()


@pytest.mark.parametrize("leave", [by_cancelling, by_timeout, by_scope])
async def test_a_run_that_is_cancelled_at_any_moment_costs_nothing_twice(leave: Leave, tmp_path):
    async with service(generation_seconds=(20, 120)) as sim:

        async def run() -> None:
            async with running(sim, prompts(14), tmp_path) as entered:
                async for _ in entered.batch:
                    pass

        for number in range(16):
            await leave(run, 0.012 * number)
            is_begun = (tmp_path / JOURNAL_NAME).exists()
            states = {job.state for job in jobs(tmp_path).values()} if is_begun else set()
            assert JobState.INTENT not in states, "every answer is known, or that there was none"
        done = await ran(sim, prompts(14), tmp_path)
        assert set(done.outcomes) <= {"skipped", "downloaded"}
        assert len(done.items) == 14
        paid_once(sim, prompts(14))
        assert charges(tmp_path).total == sim.ledger.spent
        assert len(videos(tmp_path)) == 14


@pytest.mark.parametrize("turns", range(0, 22, 2))
async def test_a_run_left_in_any_turn_of_the_loop_leaves_no_doubt(turns, tmp_path):
    async with service(generation_seconds=LONG) as sim:
        async with running(sim, prompts(3), tmp_path) as run:
            for _ in range(turns):
                await asyncio.sleep(0.001)
        report = run.batch.report
        known = jobs(tmp_path).values()
        assert {job.state for job in known} <= {JobState.NEW, JobState.SUBMITTED}
        assert {job.task_id for job in known} - {None} == {each.task_id for each in sim.ledger}
        assert report.credits_spent == report.credits_total == charges(tmp_path).total
        assert report.credits_spent == sim.ledger.spent
        assert (report.running, report.total) == (len(sim.ledger), 0)


async def test_a_body_that_raises_or_breaks_leaves_work_for_the_next_run(tmp_path):
    async with service(generation_seconds=(50, 300)) as sim:

        async def fails() -> None:
            async with running(sim, prompts(14), tmp_path) as run:
                async for _ in run.batch:
                    raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await fails()
        async with running(sim, prompts(14), tmp_path) as run:
            async for item in run.batch:
                if item.outcome is Outcome.DOWNLOADED:
                    break
        done = await ran(sim, prompts(14), tmp_path)
        assert set(done.outcomes) <= {"skipped", "downloaded"}
        assert len(done.items) == 14
        paid_once(sim, prompts(14))


async def test_a_client_may_run_the_same_batch_again_itself(tmp_path):
    async with service(generation_seconds=(50, 300)) as sim, client_of(sim) as veo:
        for number in range(3):
            async with veo.batch(prompts(14), directory=tmp_path) as batch:
                for _ in range(number):
                    await anext(batch)
        async with veo.batch(prompts(14), directory=tmp_path) as batch:
            report = await batch.wait()
        assert report.downloaded + report.skipped == 14
        assert veo.statistics().slots_in_use == 0
        paid_once(sim, prompts(14))


async def test_tasks_of_an_earlier_run_hold_their_slots(tmp_path, until):
    async with service(generation_seconds=LONG) as sim:
        async with running(sim, prompts(7), tmp_path):
            await until(lambda: sim.ledger.running == 7)
        async with running(sim, prompts(30), tmp_path) as run:
            await until(lambda: run.veo.statistics().slots_waiting == 1)
            assert run.veo.statistics().slots_in_use == 10
            await until(lambda: sim.ledger.running == 10)
        async with running(sim, prompts(30), tmp_path) as run:
            await until(lambda: run.veo.statistics().slots_waiting == 1)
            assert run.veo.statistics().tasks_watched == 10
        assert sim.ledger.peak_running == 10
        assert len(sim.ledger.posts) == 10


class Shared(LocalLimiter):
    """A limiter that others share: what it is told of running tasks."""

    def __init__(self) -> None:
        super().__init__()
        self.told: dict[str, str] = {}

    def join(self, member: LimiterMember) -> None:
        """Take it in."""

    async def leave(self, member: LimiterMember, keys: Iterable[str]) -> None:
        """Let it go."""

    async def occupy_task(self, key: str, seconds: float, task_id: str) -> None:
        self.told[key] = task_id
        await self.occupy(key, seconds)

    async def depart(self, count: int, seconds: float) -> float:
        return 0.0


async def test_others_who_share_the_slots_could_take_over_what_an_earlier_run_left(tmp_path, until):
    async with service(generation_seconds=LONG) as sim:
        sim.add_fault("generate:lose_answer:times=1:match=lost")
        async with running(sim, ["boat", "lost"], tmp_path) as run:
            await until(lambda: len(sim.ledger) == 2)
            await until(lambda: run.count(TaskSubmitted) == 1 and run.batch.report.uncertain == 1)
        limiter = Shared()
        async with running(sim, [], tmp_path, client={"limiter": limiter}):
            await until(lambda: limiter.statistics().in_use == 2)
        tokens = {job.task_id: job.attempt.token for job in jobs(tmp_path).values() if job.attempt}
        known = ({*tokens} - {None}).pop()
        assert limiter.told == {tokens[known]: known}, "the lost one has no id to be told of"


async def test_earlier_work_goes_first_and_new_work_last(tmp_path, until):
    async with service(generation_seconds=LONG, faults=["video:hang:match=ready"]) as sim:
        async with running(sim, ["lost", "ready"], tmp_path, client=IMPATIENT) as run:
            sim.add_fault("generate:lose_answer:match=lost")
            await until(lambda: sim.ledger.running == 2)
            sim.advance(LONG)
            await until(lambda: run.count(DownloadStarted) == 1)
        states = {job.request.prompt: job.state for job in jobs(tmp_path).values()}
        assert states["ready"] is JobState.DOWNLOADING
        async with running(sim, ["runs"], tmp_path):
            await until(lambda: sim.ledger.running == 1)
        sim.clear_faults()
        seen = []

        def look(event: object) -> None:
            if isinstance(event, SubmitStarted):
                seen.append((run.veo.statistics().slots_in_use, run.veo.statistics().tasks_watched))

        async with running(sim, ["new"], tmp_path, client={"on_event": look}) as run:
            lost = await anext(run.batch)
            assert lost.outcome is Outcome.UNCERTAIN
            await until(lambda: sim.ledger.running == 2)
            assert seen == [(3, 1)], "the lost one and the one that runs held their slots by then"
            sim.advance(LONG)
            assert {item.request.prompt async for item in run.batch} == {"ready", "runs", "new"}


async def test_a_file_that_was_deleted_is_fetched_again_and_not_paid(tmp_path):
    async with service() as sim:
        first = await ran(sim, prompts(3), tmp_path)
        gone = first.of("boat 2").path
        content = gone.read_bytes()
        gone.unlink()
        done = await ran(sim, prompts(3), tmp_path)
        assert done.outcomes == {"skipped": 2, "downloaded": 1}
        assert gone.read_bytes() == content
        report = done.run.batch.report
        assert (report.credits_spent, report.credits_total) == (0, 210)
        paid_once(sim, prompts(3))


async def test_a_file_that_was_changed_is_told_of_and_left_alone(tmp_path):
    async with service() as sim:
        first = await ran(sim, prompts(2), tmp_path)
        cut = first.of("boat 1").path
        os.truncate(cut, 100)
        done = await ran(sim, prompts(2), tmp_path)
        item = done.of("boat 1")
        assert (item.outcome, item.path) == ("failed", None)
        assert isinstance(item.error, DownloadError)
        assert str(cut) in str(item.error)
        assert "100 bytes" in str(item.error)
        assert cut.stat().st_size == 100
        cut.rename(tmp_path / "mine.mp4")
        assert (await ran(sim, prompts(2), tmp_path)).outcomes == {"skipped": 1, "downloaded": 1}
        paid_once(sim, prompts(2))


async def test_a_file_that_came_under_the_name_meanwhile_is_never_taken_for_the_video(
    tmp_path, until
):
    # A whole video too, so that only the books can tell.
    async with service(seed=5) as other:
        foreign = (await ran(other, ["something else"], tmp_path / "other")).items[0]
    content = foreign.path.read_bytes()
    folder = tmp_path / "mine"
    for number, moment in enumerate(("generating", "fetching"), 1):
        faults = ["video:stall_at=100:times=1"] if moment == "fetching" else []
        async with service(generation_seconds=LONG, faults=faults, seed=number) as sim:
            where = folder / moment
            async with running(sim, ["boat"], where) as run:
                await until(lambda sim=sim: sim.ledger.running == 1)
                if moment == "fetching":
                    sim.advance(LONG)
                    await until(lambda run=run: run.count(DownloadStarted) == 1)
                target = where / next(iter(jobs(where).values())).file
                target.write_bytes(content)
                sim.advance(LONG)
                (item,) = [item async for item in run.batch]
            assert item.outcome is Outcome.FAILED
            assert "stands in the way" in str(item.error)
            again = await ran(sim, ["boat"], where)
            assert again.outcomes == {"failed": 1}
            assert target.read_bytes() == content
            target.unlink()
            assert (await ran(sim, ["boat"], where)).outcomes == {"downloaded": 1}
            assert target.read_bytes() != content
            paid_once(sim, ["boat"])


# --- a person settles what was lost


def settle(folder: Path, step: Callable[[JournalFile], object]) -> None:
    """Change a journal as `veo-async resolve` does, while no batch runs."""
    database = open_for_writing(folder / JOURNAL_NAME, mark="simulated")
    with closing(JournalFile(database, folder)) as journal:
        step(journal)


async def test_a_lost_task_whose_id_a_person_found_is_brought_home(tmp_path):
    async with service(faults=["generate:lose_answer:times=1"]) as sim:
        (item,) = await ran(sim, ["boat"], tmp_path)
        task_id = sim.ledger[0].task_id
        settle(
            tmp_path,
            lambda journal: journal.accepted(journal.find(item.key), task_id, now=1e9),
        )
        done = await ran(sim, ["boat"], tmp_path)
        assert [(item.outcome, item.task_id) for item in done] == [("downloaded", task_id)]
        assert len(sim.ledger.posts) == 1
        assert charges(tmp_path).total == sim.ledger.spent == 70


async def test_a_lost_submit_that_made_no_task_is_made_anew(tmp_path):
    async with service(faults=["generate:reset_before:times=1"]) as sim:
        (item,) = await ran(sim, ["boat"], tmp_path)
        settle(tmp_path, lambda journal: journal.not_created(journal.find(item.key), now=1e9))
        (again,) = await ran(sim, ["boat"], tmp_path)
        assert (again.outcome, again.attempts) == ("downloaded", 1)
        assert charges(tmp_path).total == sim.ledger.spent == 70


async def test_a_submit_that_made_no_task_is_no_task_that_failed(tmp_path):
    faults = ["generate:reset_before:times=1"]
    async with service(dialect="live", faults=faults) as sim:
        (item,) = await ran(sim, ["boat [fail]"], tmp_path, retries=1)
        settle(tmp_path, lambda journal: journal.not_created(journal.find(item.key), now=1e9))
        (again,) = await ran(sim, ["boat [fail]"], tmp_path, retries=1)
        assert (again.attempts, len(sim.ledger)) == (2, 2)


# --- downloads


async def test_a_download_that_fails_is_brought_home_by_the_next_run(tmp_path):
    async with service(faults=["video:empty:match=boat 2"]) as sim:
        done = await ran(sim, prompts(3), tmp_path)
        assert done.outcomes == {"downloaded": 2, "failed": 1}
        item = done.of("boat 2")
        assert item.task_id
        assert done.run.batch.report.running == 1
        assert "1 not at home yet" in str(done.run.batch.report)
        sim.clear_faults()
        again = await ran(sim, prompts(3), tmp_path)
        assert again.outcomes == {"skipped": 2, "downloaded": 1}
        paid_once(sim, prompts(3))


async def test_what_is_no_video_is_no_file(tmp_path):
    async with service(faults=["video:html=200"]) as sim:
        done = await ran(sim, ["boat"], tmp_path)
        assert done.outcomes == {"failed": 1}
        assert not videos(tmp_path)
        sim.clear_faults()
        assert (await ran(sim, ["boat"], tmp_path)).outcomes == {"downloaded": 1}
        paid_once(sim, ["boat"])


async def test_a_video_that_is_cut_in_two_by_its_host_is_a_failed_download(tmp_path):
    faults = ["video:cut_at=500", "video:no_length", "video:no_etag"]
    async with service(faults=faults) as sim:
        (item,) = await ran(sim, ["boat"], tmp_path)
        assert item.outcome is Outcome.FAILED
        assert not isinstance(item.error, NotAnMP4Error), "it is not the video's fault"
        assert not videos(tmp_path)


async def test_a_storage_host_that_is_down_for_a_while_costs_nothing(tmp_path):
    async with service(faults=["video:reset_before:times=20", "video:status=503:times=10"]) as sim:
        done = await ran(sim, prompts(6), tmp_path)
        assert set(done.outcomes) <= {"downloaded", "failed"}
        again = await ran(sim, prompts(6), tmp_path)
        assert set(again.outcomes) <= {"downloaded", "skipped"}
        assert len(videos(tmp_path)) == 6
        paid_once(sim, prompts(6))


async def test_links_that_expire_are_renewed(tmp_path):
    async with service(faults=["video:expire:times=3"]) as sim:
        done = await ran(sim, prompts(3), tmp_path)
        assert done.outcomes == {"downloaded": 3}
        paid_once(sim, prompts(3))


async def test_links_that_expired_between_two_runs_are_renewed(tmp_path, until):
    async with service(generation_seconds=LONG, faults=["video:hang"]) as sim:
        async with running(sim, ["boat"], tmp_path, client=IMPATIENT) as run:
            await until(lambda: sim.ledger.running == 1)
            sim.advance(LONG)
            await until(lambda: run.count(DownloadStarted) == 1)
        sim.clear_faults()
        sim.advance(21 * 60)
        assert (await ran(sim, ["boat"], tmp_path)).outcomes == {"downloaded": 1}


async def test_a_video_that_the_service_has_deleted_is_told_of_and_not_paid_again(tmp_path):
    async with service() as sim:
        (first,) = await ran(sim, ["boat"], tmp_path)
        first.path.unlink()
        sim.advance(15 * 24 * 3600)
        with closing(sqlite3.connect(tmp_path / JOURNAL_NAME)) as journal, journal:
            journal.execute("UPDATE attempts SET submitted_at = submitted_at - 15 * 24 * 3600")
        for _ in range(2):
            (item,) = await ran(sim, ["boat"], tmp_path)
            assert (item.outcome, item.task_id) == ("failed", first.task_id)
            assert isinstance(item.error, NotFoundError)
            assert [job.state for job in jobs(tmp_path).values()] == [JobState.EXPIRED]
        paid_once(sim, ["boat"])


# --- keys


async def test_a_row_with_a_key_keeps_its_video_wherever_it_stands(tmp_path):
    rows = [{"prompt": f"boat {n}", "key": f"row {n}"} for n in range(3)]
    async with service() as sim:
        await ran(sim, rows, tmp_path)
        done = await ran(sim, rows[::-1], tmp_path)
        assert done.outcomes == {"skipped": 3}
        assert [(item.index, item.key) for item in done] == [
            (1, "row 2"),
            (2, "row 1"),
            (3, "row 0"),
        ]
        paid_once(sim, ["boat 0", "boat 1", "boat 2"])


async def test_a_key_may_get_another_request_until_its_video_is_there(tmp_path):
    async with service(dialect="live") as sim:
        await ran(sim, [{"prompt": "old [policy]", "key": "row"}], tmp_path)
        done = await ran(sim, [{"prompt": "new", "key": "row"}], tmp_path)
        assert done.outcomes == {"downloaded": 1}
        assert done.items[0].path.name == "0001-new.mp4"
        late = await ran(sim, [{"prompt": "late", "key": "row"}], tmp_path)
        (item,) = late
        assert (item.outcome, item.error.field) == ("rejected", "key")
        paid_once(sim, ["new"])


async def test_a_key_whose_task_runs_cannot_get_another_request(tmp_path, until):
    row, other = {"prompt": "boat", "key": "row"}, {"prompt": "ship", "key": "row"}
    async with service(generation_seconds=LONG) as sim:
        async with running(sim, [row], tmp_path):
            await until(lambda: sim.ledger.running == 1)
        sim.advance(LONG)
        done = await ran(sim, [other], tmp_path)
        assert done.outcomes == {"rejected": 1, "downloaded": 1}
        assert {str(item.outcome): item.request.prompt for item in done} == {
            "rejected": "ship",
            "downloaded": "boat",
        }
        paid_once(sim, ["boat"])


async def test_a_key_that_occurs_twice_is_told_of_also_while_its_task_runs(tmp_path, until):
    rows = [{"prompt": "boat", "key": "row"}] * 2
    async with service(generation_seconds=LONG) as sim:
        async with running(sim, rows, tmp_path) as run:
            await until(lambda: sim.ledger.running == 1)
            repeated = await anext(run.batch)
            assert (repeated.outcome, repeated.error.field) == ("rejected", "key")
        sim.advance(LONG)
        done = await ran(sim, rows, tmp_path)
        assert done.outcomes == {"rejected": 1, "downloaded": 1}
        paid_once(sim, ["boat"])


async def test_work_of_an_earlier_run_comes_home_although_nobody_asks_for_it(tmp_path, until):
    async with service(generation_seconds=LONG) as sim:
        async with running(sim, prompts(3), tmp_path):
            await until(lambda: sim.ledger.running == 3)
        sim.advance(LONG)
        done = await ran(sim, [], tmp_path)
        assert done.outcomes == {"downloaded": 3}
        assert all(item.source == item.request for item in done)


async def test_a_journal_of_play_money_is_not_used_for_real_videos(tmp_path):
    async with service() as sim:
        await ran(sim, prompts(1), tmp_path)
        async with client_of(sim, base_url="https://api.example.com") as veo:
            with pytest.raises(JournalError, match="play money"):
                async with veo.batch(prompts(1), directory=tmp_path):
                    pass
