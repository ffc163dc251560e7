"""A batch that is stopped, left with requests on the wire, or held back by what is full."""

import asyncio
import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flows.batches import (
    LONG,
    Counted,
    charges,
    jobs,
    paid_once,
    prompts,
    ran,
    running,
    service,
    videos,
)
from veo_async import (
    ClientClosedError,
    Outcome,
    RetryPolicy,
    RetryScheduled,
    SubmitsPaused,
    SubmitsResumed,
    SubmitStarted,
    TaskUpdated,
    Timeouts,
)
from veo_async.prices import SPEC
from veo_async.protocol.jobs import JobState
from veo_async.settings import DISK_RESERVE

pytestmark = pytest.mark.anyio


# --- stopped


async def test_stopping_finishes_what_runs_and_starts_nothing(tmp_path, until):
    counted = Counted(prompts(50))
    async with service(generation_seconds=LONG) as sim:
        async with running(sim, counted, tmp_path) as run:
            await until(
                lambda: run.veo.statistics().slots_waiting == 1 and sim.ledger.running == 10
            )
            run.batch.stop()
            run.batch.stop()
            unpaid = await anext(run.batch)
            assert (unpaid.outcome, unpaid.index, unpaid.credits) == ("unpaid", 11, 0)
            assert unpaid.source == "boat 11"
            sim.advance(LONG)
            outcomes = [item.outcome async for item in run.batch]
        assert outcomes == ["downloaded"] * 10
        report = run.batch.report
        assert report.credits_spent == report.credits_total == charges(tmp_path).total == 700
        assert counted.pulled == 11
        paid_once(sim, prompts(10))


async def test_an_input_that_waits_for_ever_can_be_stopped(tmp_path, until):
    ended = asyncio.Event()

    async def endless():
        try:
            yield "boat 1"
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with service() as sim, running(sim, endless(), tmp_path) as run:
        assert (await anext(run.batch)).outcome is Outcome.DOWNLOADED
        run.batch.stop()
        assert [item async for item in run.batch] == []
        await until(ended.is_set)


async def test_an_input_that_waits_for_ever_can_be_left(tmp_path):
    async def endless():
        await asyncio.Event().wait()
        yield "boat 1"

    async with service() as sim:
        async with running(sim, endless(), tmp_path):
            await asyncio.sleep(0.05)
        names = {task.get_coro().__qualname__ for task in asyncio.all_tasks()}
        assert "_first" not in names


async def test_stopping_before_anything_was_pulled_pulls_nothing(tmp_path):
    counted = Counted(prompts(5))
    async with service() as sim, running(sim, counted, tmp_path) as run:
        run.batch.stop()
        assert [item async for item in run.batch] == []
        assert counted.pulled == 0


async def test_stopping_ends_submits_that_the_service_turns_away(tmp_path, until):
    retry = RetryPolicy(base=10, cap=10)
    faults = ["generate:status=429:retry_after=30"]
    async with service(faults=faults, generation_seconds=LONG) as sim:
        async with running(sim, prompts(30), tmp_path, client={"retry": retry}) as run:
            await until(lambda: run.count(RetryScheduled) > 0)
            run.batch.stop()
            async with asyncio.timeout(5):
                outcomes = {item.outcome async for item in run.batch}
            assert outcomes == {"unpaid"}
            assert run.batch.report.credits_spent == 0
        assert len(sim.ledger) == 0
        assert {job.state for job in jobs(tmp_path).values()} <= {JobState.NEW}


async def test_stopping_ends_the_wait_for_a_network(tmp_path, until):
    is_out = asyncio.Event()

    async def source():
        yield "boat 1"
        await is_out.wait()
        for prompt in prompts(100)[1:]:
            yield prompt

    retry = RetryPolicy(attempts=1, base=1000, cap=1000)
    async with contextlib.AsyncExitStack() as stack:
        async with service() as sim:
            client = {"retry": retry}
            run = await stack.enter_async_context(running(sim, source(), tmp_path, client=client))
            assert (await anext(run.batch)).outcome is Outcome.DOWNLOADED
        is_out.set()
        await until(lambda: bool(run.texts(SubmitsPaused)))
        run.batch.stop()
        outcomes = [item.outcome async for item in run.batch]
    assert set(outcomes) == {"unpaid"}
    assert len(outcomes) <= 12, "the input was held back as well"
    assert run.texts(SubmitsResumed) == run.texts(SubmitsPaused)
    assert run.batch.report.credits_spent == 70


async def test_a_task_that_fails_after_the_stop_is_not_paid_anew(tmp_path, until):
    async with service(dialect="live", generation_seconds=LONG) as sim:
        async with running(sim, ["boat [fail]"], tmp_path, retries=3) as run:
            await until(lambda: sim.ledger.running == 1)
            run.batch.stop()
            sim.advance(LONG)
            (item,) = [item async for item in run.batch]
        assert (item.outcome, item.attempts, len(sim.ledger)) == ("failed", 1, 1)


async def test_a_retry_that_waits_for_its_slot_is_taken_back_when_the_batch_is_stopped(
    tmp_path, until
):
    async with service(dialect="live", generation_seconds=LONG) as sim:
        wanted = ["boat [early]", "boat 2"]
        async with running(sim, wanted, tmp_path, retries=1, client={"max_tasks": 1}) as run:
            await until(lambda: run.veo.statistics().slots_waiting == 1 and sim.ledger.running == 1)
            sim.advance(LONG)  # the second one takes the slot, and the first one's retry waits
            await until(
                lambda: run.veo.statistics().slots_waiting == 1 and len(sim.ledger.posts) == 2
            )
            run.batch.stop()
            unpaid = await anext(run.batch)
            assert (unpaid.source, unpaid.outcome, unpaid.credits) == ("boat [early]", "unpaid", 0)
            sim.advance(LONG)
            assert [item.outcome async for item in run.batch] == ["downloaded"]
        assert len(sim.ledger) == 2
        assert run.batch.report.credits_spent == charges(tmp_path).total


async def test_an_observer_may_stop_the_batch(tmp_path):
    batches = []

    def stop(event: object) -> None:
        if isinstance(event, TaskUpdated):
            batches[0].stop()

    async with service() as sim:
        async with running(sim, prompts(40), tmp_path, client={"on_event": stop}) as run:
            batches.append(run.batch)
            outcomes = [item.outcome async for item in run.batch]
        assert set(outcomes) == {"downloaded", "unpaid"}
        assert outcomes.count(Outcome.DOWNLOADED) == len(sim.ledger) < 40


# --- left with requests on the wire


async def test_leaving_waits_for_the_answers_that_are_on_the_wire(tmp_path, until):
    # The service answers half a second later.
    async with service(faults=["generate:delay=500"], generation_seconds=LONG) as sim:
        async with running(sim, prompts(20), tmp_path) as run:
            await until(lambda: len(sim.ledger.posts) == 10)
        known = jobs(tmp_path).values()
        assert {job.task_id for job in known} - {None} == {each.task_id for each in sim.ledger}
        assert len(sim.ledger) == 10
        assert run.batch.report.running == 10
        assert run.batch.report.credits_uncertain == 0
        assert run.batch.report.credits_spent == sim.ledger.spent


async def test_leaving_gives_an_answer_that_never_comes_up_in_time(tmp_path, until):
    patience = {"timeouts": Timeouts(close=0.2, response=60)}
    async with service(faults=["generate:hang"]) as sim:
        async with running(sim, prompts(3), tmp_path, client=patience, prices=SPEC) as run:
            await until(lambda: sim.ledger.requests["generate"] == 3)
            left_at = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - left_at < 10
        assert [job.state for job in jobs(tmp_path).values()] == [JobState.UNKNOWN] * 3
        report = run.batch.report
        assert (report.credits_spent, report.credits_uncertain, report.running) == (210, 210, 0)
        sim.clear_faults()
        again = await ran(sim, prompts(3), tmp_path)
        assert again.outcomes == {"uncertain": 3}
        assert all("left before it came" in str(item.error) for item in again)


async def test_a_client_that_is_closed_waits_for_the_answers_too(tmp_path, until):
    async with service(faults=["generate:delay=500"], generation_seconds=LONG) as sim:

        async def closing() -> None:
            async with running(sim, prompts(3), tmp_path) as run:
                await until(lambda: len(sim.ledger.posts) == 3)
                await run.veo.aclose()

        with pytest.raises(ClientClosedError):
            await closing()
        known = jobs(tmp_path).values()
        assert {job.task_id for job in known} == {each.task_id for each in sim.ledger}


async def test_leaving_lets_a_download_end_that_can(tmp_path, until):
    async with service(faults=["video:delay=300"]) as sim:
        async with running(sim, ["boat"], tmp_path) as run:
            await until(lambda: sim.ledger.requests["video"] == 1)
        assert len(videos(tmp_path)) == run.batch.report.downloaded == 1
        assert run.batch.report.running == 0


# --- held back


async def test_no_more_is_submitted_than_can_be_fetched_while_the_links_live(tmp_path, until):
    async with service(faults=["video:delay=600"]) as sim:
        options = {"download_window": 3.0, "client": {"max_downloads": 1}}
        async with running(sim, prompts(40), tmp_path, **options) as run:
            await until(lambda: any("in time" in text for text in run.texts(SubmitsPaused)))
            await until(lambda: run.count(SubmitStarted) == len(sim.ledger))
            made = len(sim.ledger)
            assert made < 40
            await until(lambda: run.batch.report.downloaded > 0)
            assert len(sim.ledger) == made, "it is held back while they are fetched"
            sim.clear_faults()
            items = [item async for item in run.batch]
        assert [item.outcome for item in items] == ["downloaded"] * 40
        assert run.texts(SubmitsResumed) == run.texts(SubmitsPaused)
        paid_once(sim, prompts(40))


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """Mount a disk with room for five videos of unknown size."""
    folder = tmp_path / "disk"
    folder.mkdir()
    size = 5 * DISK_RESERVE + 64 * 1024  # and a journal
    mounting = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mounting, check=False, capture_output=True).returncode:
        pytest.skip("only root may mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


async def test_a_full_disk_pauses_submits_and_not_polls(small_disk, until, caplog):
    ballast = small_disk / "ballast"
    async with service(generation_seconds=LONG) as sim:
        async with running(sim, prompts(6), small_disk) as run:
            await until(lambda: any("is full" in text for text in run.texts(SubmitsPaused)))
            await until(lambda: run.count(SubmitStarted) == len(run.veo.tasks))
            made = len(sim.ledger)
            assert 0 < made < 6, "as many as fit, by what is known of a video's size"
            ballast.write_bytes(bytes(shutil.disk_usage(small_disk).free))
            sim.advance(LONG)
            await until(lambda: not run.veo.tasks)
            await until(lambda: "the disk of the journal is full" in caplog.text)
            assert run.batch.report.total == 0
            assert len(sim.ledger) == made
            ballast.unlink()
            await until(lambda: run.batch.report.downloaded == made)
            await until(lambda: sim.ledger.running == 6 - made)
            sim.advance(LONG)
            report = await run.batch.wait()
        assert (report.downloaded, report.running) == (6, 0)
        assert sorted(run.texts(SubmitsResumed)) == sorted(run.texts(SubmitsPaused))
        paid_once(sim, prompts(6))


async def test_a_disk_that_can_only_be_read_pauses_submits_too(small_disk, tmp_path, until):
    def remount(option: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{option}", str(small_disk)], check=True)

    async with service(generation_seconds=LONG) as sim:
        options = {"journal": tmp_path / "journal.db", "client": {"max_tasks": 1}}
        async with running(sim, prompts(4), small_disk, **options) as run:
            await until(lambda: len(run.veo.tasks) == run.veo.statistics().slots_waiting == 1)
            remount("ro")
            sim.advance(LONG)
            await until(
                lambda: any(
                    "cannot be written" in e or "no file" in e for e in run.texts(SubmitsPaused)
                )
            )

            def all_ended() -> bool:
                if sim.ledger.running:
                    sim.advance(LONG)
                return not run.veo.tasks and run.veo.statistics().slots_waiting == 0

            await until(all_ended)
            made = len(sim.ledger)
            assert made <= 3, "what had its slot, or waited for one, before the disk was looked at"
            remount("rw")
            await until(lambda: run.batch.report.downloaded == made)
            while made < 4:
                made += 1
                await until(lambda made=made: len(sim.ledger) == made)
                sim.advance(LONG)
            report = await run.batch.wait()
        assert report.downloaded == 4
        paid_once(sim, prompts(4))
