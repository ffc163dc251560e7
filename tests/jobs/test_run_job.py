"""One key is one task and one payment, however often a queue delivers it."""

import os
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.flows.batches import LONG, client_of, jobs, paid_once, ran, service, videos
from veo_async import (
    BudgetExceededError,
    ClientClosedError,
    ConfigurationError,
    InvalidRequestError,
    JobResult,
    JournalError,
    SubmitUncertainError,
    TaskFailedError,
    ValidationError,
    VeoError,
    VideoRequest,
)
from veo_async.database import JOURNAL_NAME, open_for_sharing
from veo_async.jobs import Job, request_text
from veo_async.journal_file import read_journal
from veo_async.protocol.jobs import JobState
from veo_async.shared import Owner, SharedJournalFile
from veo_async.store import MovedError

pytestmark = pytest.mark.anyio


async def test_a_job_becomes_a_file_named_by_its_key(tmp_path: Path):
    async with service() as sim, client_of(sim) as veo:
        done = await veo.run_job("order 7/a", "A boat", seed=12345, directory=tmp_path)
        assert done.request == VideoRequest("A boat", seed=12345)
        assert done.path == tmp_path / "order-7-a.mp4"
        assert done.download is not None
        assert done.download.path == done.path
        assert done.download.size == done.path.stat().st_size
        assert done.video.task_id == done.task_id
        assert done.video.seed == 12345
        assert done.credits == jobs(tmp_path)["order 7/a"].charged > 0
        assert done.path.with_suffix(".json").exists()
        paid_once(sim, ["A boat"])


async def test_twenty_deliveries_at_once_are_one_payment(tmp_path: Path):
    async with service() as sim, client_of(sim) as veo:
        results: list[JobResult] = []

        async def deliver() -> None:
            results.append(await veo.run_job("a", "A boat", directory=tmp_path))

        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(deliver)
        assert len({result.task_id for result in results}) == 1
        assert len(results) == 20
        paid_once(sim, ["A boat"])


async def test_a_second_delivery_is_answered_from_the_journal(tmp_path: Path):
    async with service() as sim:
        async with client_of(sim) as veo:
            first = await veo.run_job("a", "A boat", directory=tmp_path)
        async with client_of(sim) as veo:
            second = await veo.run_job("a", "A boat", directory=tmp_path)
            assert veo.statistics().requests == 0
        assert second.task_id == first.task_id
        assert second.path == first.path
        assert second.download is None
        assert second.credits == first.credits
        paid_once(sim, ["A boat"])


async def test_one_worker_makes_it_ready_and_another_one_fetches_it(tmp_path: Path):
    async with service() as sim:
        async with client_of(sim) as veo:
            ready = await veo.run_job("a", "A boat", directory=tmp_path, until="ready")
            assert ready.path is None
            assert ready.video.url.startswith("http")
            again = await veo.run_job("a", directory=tmp_path, until="ready")
            assert (again.task_id, again.video.url) == (ready.task_id, ready.video.url)
        assert videos(tmp_path) == []
        async with client_of(sim) as veo:
            done = await veo.run_job("a", directory=tmp_path)
            assert done.path == tmp_path / "a.mp4"
            assert done.request == VideoRequest("A boat")
            assert (await veo.run_job("a", directory=tmp_path, until="ready")).path == done.path
        paid_once(sim, ["A boat"])


async def test_both_ends_of_a_job_may_be_wanted_at_once(tmp_path: Path):
    async with service() as sim, client_of(sim) as veo:
        results: dict[str, JobResult] = {}

        async def ready() -> None:
            results["ready"] = await veo.run_job("a", "A boat", directory=tmp_path, until="ready")

        async def downloaded() -> None:
            results["downloaded"] = await veo.run_job("a", "A boat", directory=tmp_path)

        async with anyio.create_task_group() as group:
            group.start_soon(ready)
            group.start_soon(downloaded)
        assert results["ready"].task_id == results["downloaded"].task_id
        assert results["downloaded"].path == tmp_path / "a.mp4"
        paid_once(sim, ["A boat"])


async def test_a_key_that_nobody_knows_needs_a_request(tmp_path: Path):
    async with service() as sim, client_of(sim) as veo:
        with pytest.raises(InvalidRequestError, match="give its request as well") as caught:
            await veo.run_job("a", directory=tmp_path)
        assert caught.value.field == "request"
        assert len(sim.ledger) == 0


@pytest.mark.parametrize(
    ("given", "kind", "match"),
    [
        ({"key": ""}, InvalidRequestError, "key is ''"),
        ({"key": "x" * 201}, InvalidRequestError, "printable"),
        ({"until": "stored"}, ConfigurationError, "until is 'stored'; give 'downloaded'"),
        ({"request": VideoRequest("A"), "seed": 12345}, InvalidRequestError, "seed was given"),
        ({"request": None, "seed": 12345}, InvalidRequestError, "without a prompt"),
    ],
)
async def test_bad_input_is_told_before_anything_is_made(tmp_path: Path, given, kind, match):
    folder = tmp_path / "videos"
    async with service() as sim, client_of(sim) as veo:
        with pytest.raises(kind, match=match):
            await veo.run_job(**({"key": "a", "request": "A", "directory": folder} | given))
        assert not folder.exists()
        assert len(sim.ledger) == 0


async def test_a_key_stands_for_one_request_once_it_is_paid(tmp_path: Path):
    async with service() as sim, client_of(sim) as veo:
        await veo.run_job("a", "A boat", directory=tmp_path)
        with pytest.raises(InvalidRequestError, match="stands for another request, which is st"):
            await veo.run_job("a", "Another boat", directory=tmp_path)
        paid_once(sim, ["A boat"])


async def test_a_failed_task_fails_again_and_is_not_paid_again(tmp_path: Path):
    async with service() as sim:
        for _ in range(2):
            async with client_of(sim) as veo:
                with pytest.raises(TaskFailedError) as caught:
                    await veo.run_job("a", "A boat [fail]", directory=tmp_path)
                assert caught.value.task_id
                assert caught.value.reason
        assert len(sim.ledger) == 1


async def test_a_refused_request_may_be_mended_since_nothing_was_paid(tmp_path: Path):
    faults = ["generate:status=422:times=1"]
    async with service(faults=faults) as sim, client_of(sim) as veo:
        with pytest.raises(ValidationError):
            await veo.run_job("a", "A boat", directory=tmp_path)
        with pytest.raises(ValidationError):
            await veo.run_job("a", "A boat", directory=tmp_path)
        await veo.run_job("a", "A mended boat", directory=tmp_path)
        paid_once(sim, ["A mended boat"])


async def test_a_lost_answer_is_uncertain_for_ever_and_holds_its_slot(tmp_path: Path):
    faults = ["generate:lose_answer:times=1"]
    async with service(generation_seconds=LONG, faults=faults) as sim:
        for _ in range(2):
            async with client_of(sim, max_tasks=1) as veo:
                with pytest.raises(SubmitUncertainError, match="settle job a with"):
                    await veo.run_job("a", "A boat", directory=tmp_path)
                assert veo.statistics().slots_in_use == 1
        assert len(sim.ledger) == 1


async def test_a_budget_refuses_before_anything_is_sent(tmp_path: Path):
    async with service() as sim, client_of(sim, max_credits=1) as veo:
        with pytest.raises(BudgetExceededError):
            await veo.run_job("a", "A boat", directory=tmp_path)
        assert len(sim.ledger) == 0


async def test_a_cancelled_caller_loses_nothing_that_is_paid(tmp_path: Path, until):
    async with service() as sim, client_of(sim) as veo:
        with anyio.move_on_after(60) as scope:
            async with anyio.create_task_group() as group:

                async def leave() -> None:
                    await until(lambda: len(sim.ledger) == 1)
                    scope.cancel()

                group.start_soon(leave)
                await veo.run_job("a", "A boat", directory=tmp_path)
        await until(lambda: videos(tmp_path) == ["a.mp4"])
        done = await veo.run_job("a", directory=tmp_path)
        assert done.path == tmp_path / "a.mp4"
        paid_once(sim, ["A boat"])


async def test_a_caller_who_leaves_before_the_request_does_pays_nothing(tmp_path: Path):
    async with service(generation_seconds=LONG) as sim, client_of(sim, max_tasks=1) as veo:
        await veo.submit("It holds the slot")
        with anyio.move_on_after(0.3):
            await veo.run_job("a", "A boat", directory=tmp_path)
        assert veo.statistics().slots_waiting == 0
        assert "a" not in jobs(tmp_path)
        assert len(sim.ledger) == 1


async def test_a_caller_who_leaves_while_a_job_is_claimed_keeps_no_other_worker_waiting(
    tmp_path: Path,
):
    """A claim of a client that lives is waited for."""
    async with service() as sim, client_of(sim) as veo:
        with pytest.raises(InvalidRequestError):
            await veo.run_job("first", directory=tmp_path)
        scope = anyio.CancelScope()

        async def deliver() -> None:
            with scope:
                await veo.run_job("a", "A boat", directory=tmp_path)

        with closing(sharing(tmp_path)) as other:
            other._db.execute("BEGIN IMMEDIATE")  # so that its claim takes a while
            async with anyio.create_task_group() as group:
                group.start_soon(deliver)
                await anyio.sleep(0.2)
                scope.cancel()
                await anyio.sleep(0.01)
                other._db.execute("ROLLBACK")
            assert scope.cancelled_caught
            assert other.claim("a", seconds=20).holder is None
        assert len(sim.ledger) == 0


async def test_a_delivery_that_comes_while_another_one_is_withdrawn_begins_anew(tmp_path: Path):
    async with service() as sim, client_of(sim) as veo:
        with pytest.raises(InvalidRequestError):
            await veo.run_job("first", directory=tmp_path)
        first = anyio.CancelScope()
        results: list[JobResult] = []

        async def deliver(scope: anyio.CancelScope) -> None:
            with scope:
                results.append(await veo.run_job("a", "A boat", directory=tmp_path))

        with closing(sharing(tmp_path)) as other:
            other._db.execute("BEGIN IMMEDIATE")  # so that its claim takes a while
            async with anyio.create_task_group() as group:
                group.start_soon(deliver, first)
                await anyio.sleep(0.2)
                first.cancel()
                await anyio.sleep(0.01)
                group.start_soon(deliver, anyio.CancelScope())
                await anyio.sleep(0.01)
                other._db.execute("ROLLBACK")
        assert first.cancelled_caught
        assert [result.path for result in results] == [tmp_path / "a.mp4"]
        paid_once(sim, ["A boat"])


async def test_a_client_that_is_closed_leaves_its_jobs_to_the_next_one(tmp_path: Path, until):
    async with service(generation_seconds=1000) as sim:
        async with client_of(sim) as veo, anyio.create_task_group() as group:

            async def deliver() -> None:
                with pytest.raises(ClientClosedError):
                    await veo.run_job("a", "A boat", directory=tmp_path)

            group.start_soon(deliver)
            await until(lambda: len(sim.ledger) == 1)
            await veo.aclose()
        async with client_of(sim) as veo:
            assert (await veo.run_job("a", directory=tmp_path)).path == tmp_path / "a.mp4"
        paid_once(sim, ["A boat"])


async def test_a_file_that_is_gone_is_fetched_again_and_a_changed_one_is_told(tmp_path: Path):
    async with service() as sim, client_of(sim) as veo:
        done = await veo.run_job("a", "A boat", directory=tmp_path)
        assert done.path is not None
        done.path.unlink()
        again = await veo.run_job("a", directory=tmp_path)
        assert again.download is not None
        done.path.write_bytes(b"short")
        with pytest.raises(VeoError, match="was changed: it has 5 bytes"):
            await veo.run_job("a", directory=tmp_path)
        paid_once(sim, ["A boat"])


async def test_slots_of_a_dead_workers_tasks_are_held_by_whoever_opens_its_journal(tmp_path: Path):
    async with service(generation_seconds=LONG) as sim:
        with closing(sharing(tmp_path)) as file:
            for number in range(3):
                claim = file.claim(f"{number}", seconds=20)
                job = file.intend(new(f"{number}", claim.position), **intent(f"t{number}"))
                file.accepted(job, f"veo_task_{number}", now=2e9)
        async with client_of(sim, max_tasks=3) as veo:
            # Its owner lives: it is this process.
            with anyio.move_on_after(0.5):
                await veo.run_job("0", directory=tmp_path)
            assert veo.statistics().slots_in_use == 0
        with closing(sharing(tmp_path)) as file:
            file._db.execute("UPDATE claims SET pid = ?, born = ''", (dead_pid(),))
        async with client_of(sim, max_tasks=3) as veo:
            with pytest.raises(VeoError):
                await veo.run_job("4", directory=tmp_path)
            assert veo.statistics().slots_in_use == 3


# --- who may write


def sharing(folder: Path) -> SharedJournalFile:
    database = open_for_sharing(folder / JOURNAL_NAME, mark="simulated")
    return SharedJournalFile(database, folder, Owner.new())


def new(key: str, position: int = 1) -> Job:
    return Job(key=key, position=position, request_text=request_text(VideoRequest("A boat")))


def intent(token: str) -> dict[str, object]:
    return {"token": token, "credits_": 60, "name": f"{token}.mp4", "now": 100.0}


def dead_pid() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        pass
    return child.pid


def test_a_claim_keeps_others_away_while_its_owner_lives(tmp_path: Path):
    with closing(sharing(tmp_path)) as one, closing(sharing(tmp_path)) as other:
        assert one.claim("a", seconds=60).holder is None
        holder = other.claim("a", seconds=60).holder
        assert holder is not None
        assert f"process {os.getpid()} on host" in str(holder)
        assert one.claim("a", seconds=60).holder is None
        other.release("a")
        assert other.claim("a", seconds=60).holder is not None
        one.release("a")
        assert other.claim("a", seconds=60).holder is None


def test_a_claim_that_was_not_renewed_is_free(tmp_path: Path):
    with closing(sharing(tmp_path)) as one, closing(sharing(tmp_path)) as other:
        one.claim("a", seconds=0.0)
        assert other.claim("a", seconds=60).holder is None
        one.claim("b", seconds=0.0)
        one.renew(seconds=60)
        assert other.claim("b", seconds=60).holder is not None


@pytest.mark.parametrize(
    "change",
    [
        "pid = {dead}, born = ''",
        "born = 'another process had this id'",
        "place = 'another boot/1/host'",
        "lapses = lapses + 1000",
    ],
)
def test_a_claim_of_a_process_that_is_gone_is_free_at_once(tmp_path: Path, change: str):
    with closing(sharing(tmp_path)) as one, closing(sharing(tmp_path)) as other:
        one.claim("a", seconds=60)
        one._db.execute(f"UPDATE claims SET {change.format(dead=dead_pid())}")
        assert other.claim("a", seconds=60).holder is None


def test_a_claim_from_another_container_holds_until_it_lapses(tmp_path: Path):
    """Its process id means another process here."""
    with closing(sharing(tmp_path)) as one, closing(sharing(tmp_path)) as other:
        one.claim("a", seconds=60)
        place = Owner.new().place.rpartition("/")[0].rpartition("/")[0] + "/1/elsewhere"
        one._db.execute("UPDATE claims SET place = ?, pid = ?", (place, dead_pid()))
        assert other.claim("a", seconds=60).holder is not None


def test_one_who_was_frozen_sends_nothing_for_a_job_that_others_took_over(tmp_path: Path):
    with closing(sharing(tmp_path)) as one, closing(sharing(tmp_path)) as other:
        one.claim("a", seconds=0.0)
        other.claim("a", seconds=60)
        with pytest.raises(MovedError, match="ask for it again"):
            one.intend(new("a"), **intent("late"))
        assert other.find("a") is None
        job = other.intend(new("a"), **intent("token"))
        with pytest.raises(MovedError):
            one.intend(new("a"), **intent("late"))
        assert other.find("a") == job


def test_an_answer_that_was_given_up_for_lost_is_taken_when_it_comes(tmp_path: Path):
    with closing(sharing(tmp_path)) as one, closing(sharing(tmp_path)) as other:
        one.claim("a", seconds=0.0)
        job = one.intend(new("a"), **intent("token"))
        taken = other.claim("a", seconds=60).job
        assert taken == job
        other.lost(taken, {"error_kind": "SubmitUncertainError", "error": "gone"})
        after = one.accepted(job, "veo_task_1", now=200.0)
        assert (after.state, after.task_id) == (JobState.SUBMITTED, "veo_task_1")


def test_no_step_is_taken_back_by_one_who_did_not_hear_of_the_next(tmp_path: Path):
    with closing(sharing(tmp_path)) as one, closing(sharing(tmp_path)) as other:
        one.claim("a", seconds=0.0)
        job = one.intend(new("a"), **intent("token"))
        job = one.accepted(job, "veo_task_1", now=2.0)
        ready = other.ready(job, url="https://v.test/1", seed=None, cost=None, now=3.0)
        stored = other.stored(ready, size=1, sha256="00", now=4.0)
        for step in (
            lambda: one.failed(job, {"error": "no"}, charged=0, now=5.0),
            lambda: one.expired(job, {"error": "no"}),
            lambda: one.ready(job, url="https://v.test/2", seed=None, cost=None, now=5.0),
        ):
            with pytest.raises(MovedError, match="is stored by now"):
                step()
        assert one.find("a") == stored


def test_a_step_of_a_film_is_done_once_however_late_another_worker_sees_its_end(tmp_path: Path):
    with closing(sharing(tmp_path)) as one, closing(sharing(tmp_path)) as other:
        one.claim("a", seconds=0.0)
        job = one.accepted(one.intend(new("a"), **intent("token")), "veo_task_1", now=2.0)
        other.claim("a", seconds=60)
        done = other.extended(job, cost=None, now=3.0)
        assert one.extended(job, cost=None, now=3.0) == done, "told twice is done once"
        with pytest.raises(MovedError):
            one.intend(done, **intent("late"))
        for step in (
            lambda job: other.intend(job, **intent("next")),
            lambda job: other.lost(job, {"error_kind": "SubmitUncertainError"}),
            lambda job: other.not_created(job, now=5.0),  # which is new, and not this one
            lambda job: other.intend(job, **intent("third")),
            lambda job: other.accepted(job, "veo_task_3", now=6.0),
        ):
            done = step(done)
            with pytest.raises(MovedError):
                one.extended(job, cost=7, now=7.0)
            assert one.find("a") == done
        assert [attempt.end for attempt in done.attempts] == ["success", "not_created", None]


@pytest.mark.parametrize(
    "told",
    [
        lambda file, job: file.turned_away(job, now=9.0),
        lambda file, job: file.rejected(job, {"error_kind": "ValidationError"}, now=9.0),
        lambda file, job: file.lost(job, {"error_kind": "SubmitUncertainError"}),
    ],
    ids=["turned away", "rejected", "lost"],
)
def test_what_is_said_of_a_submit_again_takes_no_step_from_a_film_that_went_on(
    tmp_path: Path, told
):
    """As by one whose database did not answer for long enough that another worker took over."""
    with closing(sharing(tmp_path)) as one, closing(sharing(tmp_path)) as other:
        one.claim("a", seconds=0.0)
        job = one.intend(new("a"), **intent("token"))
        one.turned_away(job, now=2.0)
        taken = other.claim("a", seconds=60).job
        assert taken is not None
        paid = other.accepted(other.intend(taken, **intent("next")), "veo_task_1", now=3.0)
        done = other.extended(paid, cost=None, now=4.0)
        assert done.film_id == "veo_task_1"
        with suppress(MovedError):
            told(one, job)
        assert other.find("a") == done


@pytest.mark.parametrize(
    "told",
    [
        lambda file, job: file.not_created(job, now=9.0),
        lambda file, job: file.again(job),
        lambda file, job: file.again(job, request_text(VideoRequest("other"))),
    ],
    ids=["not created", "again", "changed"],
)
def test_a_decision_about_a_lost_answer_is_not_one_about_the_step_after_it(tmp_path: Path, told):
    with closing(sharing(tmp_path)) as one, closing(sharing(tmp_path)) as other:
        one.claim("a", seconds=60)
        job = one.intend(new("a"), **intent("token"))
        unknown = one.lost(job, {"error_kind": "SubmitUncertainError"})
        settled = one.not_created(unknown, now=2.0)
        paid = one.accepted(one.intend(settled, **intent("next")), "veo_task_1", now=3.0)
        done = one.extended(paid, cost=None, now=4.0)
        with pytest.raises(MovedError):
            told(other, unknown)
        assert one.find("a") == done


def test_an_answer_is_not_taken_for_that_of_another_submit(tmp_path: Path):
    with closing(sharing(tmp_path)) as one, closing(sharing(tmp_path)) as other:
        one.claim("a", seconds=0.0)
        old = one.intend(new("a"), **intent("token"))
        taken = other.claim("a", seconds=60).job
        assert taken is not None
        unknown = other.lost(taken, {"error_kind": "SubmitUncertainError"})
        settled = other.not_created(unknown, now=150.0)
        job = other.intend(settled, **intent("another"))
        with pytest.raises(MovedError):
            one.accepted(old, "veo_task_1", now=200.0)
        assert other.find("a") == job


@pytest.mark.parametrize(
    "step",
    [
        lambda file, job: file.accepted(job, "veo_task_1", now=2.0),
        lambda file, job: file.turned_away(job, now=2.0),
        lambda file, job: file.lost(job, {"error_kind": "SubmitUncertainError"}),
        lambda file, job: file.rejected(job, {"error_kind": "ValidationError"}, now=2.0),
    ],
    ids=["accepted", "turned away", "lost", "rejected"],
)
def test_a_step_that_is_done_twice_is_done_once(tmp_path: Path, step):
    """As it is where nobody knows whether a commit arrived."""
    with closing(sharing(tmp_path)) as file:
        file.claim("a", seconds=60)
        job = file.intend(new("a"), **intent("token"))
        assert file.intend(new("a"), **intent("token")) == job
        after = step(file, job)
        assert step(file, job) == after
        assert file.find("a") == after


# --- a batch and workers


async def test_a_batch_and_workers_exclude_each_other_and_say_who_is_there(tmp_path: Path):
    async with service() as sim, client_of(sim) as veo:
        await veo.run_job("a", "A boat", directory=tmp_path)
        async with client_of(sim) as other:
            with pytest.raises(JournalError, match=f"in use by process {os.getpid()} on host"):
                async with other.batch(["Another boat"], directory=tmp_path):
                    pass
            # Other workers are welcome.
            assert (await other.run_job("b", "Another boat", directory=tmp_path)).path is not None
        with closing(read_journal(tmp_path / JOURNAL_NAME, tmp_path)) as reader:
            assert reader.is_live
            assert [job.key for job in reader.jobs()] == ["a", "b"]
        await veo.aclose()
        async with (
            client_of(sim) as runner,
            runner.batch(["A third boat"], directory=tmp_path) as batch,
            client_of(sim) as worker,
        ):
            with pytest.raises(JournalError, match=f"in use by process {os.getpid()} on host"):
                await worker.run_job("c", "A fourth boat", directory=tmp_path)
            await batch.wait()
            assert batch.report.downloaded == 1


async def test_a_batch_goes_on_in_a_journal_that_was_shared(tmp_path: Path):
    async with service() as sim:
        async with client_of(sim) as veo:
            await veo.run_job("a", "A boat", directory=tmp_path, until="ready")
        done = await ran(sim, [{"key": "a", "prompt": "A boat"}, "Another boat"], tmp_path)
        assert done.outcomes == {"downloaded": 2}
        paid_once(sim, ["A boat", "Another boat"])


async def test_a_journal_of_a_batch_may_be_shared_later(tmp_path: Path):
    async with service() as sim:
        await ran(sim, [{"key": "a", "prompt": "A boat"}], tmp_path)
        async with client_of(sim) as veo:
            done = await veo.run_job("a", directory=tmp_path)
            assert done.path is not None
            assert done.path.exists()
            assert done.download is None
        paid_once(sim, ["A boat"])


async def test_a_journal_that_cannot_be_used_is_told_again_and_again(tmp_path: Path):
    (tmp_path / JOURNAL_NAME).write_bytes(b"")
    async with service() as sim, client_of(sim) as veo:
        for _ in range(2):
            with pytest.raises(JournalError, match="is empty"):
                await veo.run_job("a", "A boat", directory=tmp_path)
        (tmp_path / JOURNAL_NAME).unlink()
        assert (await veo.run_job("a", "A boat", directory=tmp_path)).path is not None


async def test_an_uncertain_job_is_settled_while_workers_are_there(tmp_path: Path):
    faults = ["generate:lose_answer:times=2"]
    async with service(faults=faults) as sim, client_of(sim) as veo:
        for key in ("known", "unknown"):
            with pytest.raises(SubmitUncertainError):
                await veo.run_job(key, f"{key} boat", directory=tmp_path)
        for words in (
            ["known", "--task-id", sim.ledger[0].task_id],
            ["unknown", "--not-created"],
        ):
            command = [sys.executable, "-m", "veo_async.cli", "resolve", str(tmp_path), *words]
            done = await anyio.run_process(command, check=False)
            assert done.returncode == 0, done.stderr
        assert (await veo.run_job("known", directory=tmp_path)).task_id == sim.ledger[0].task_id
        assert (await veo.run_job("unknown", directory=tmp_path)).path is not None


def test_sharing_it_twice_in_a_process_does_not_let_go_of_its_locks(tmp_path: Path):
    """POSIX takes all locks of a process on a file away when it closes any handle of that file."""
    asking = (
        "import sqlite3, sys; db = sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None);"
        "db.execute('BEGIN IMMEDIATE')"
    )
    command = [sys.executable, "-c", asking, str(tmp_path / JOURNAL_NAME)]
    with closing(sharing(tmp_path)) as one:
        one._db.execute("BEGIN IMMEDIATE")
        sharing(tmp_path).close()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        one._db.execute("ROLLBACK")
        assert "database is locked" in done.stderr
        assert subprocess.run(command, check=False).returncode == 0


async def test_one_who_lost_a_job_while_it_waited_for_a_slot_looks_again(
    tmp_path: Path, until: Any
):
    async with (
        service(generation_seconds=1000) as sim,
        client_of(sim, max_tasks=1) as veo,
        anyio.create_task_group() as group,
    ):
        await veo.submit("It holds the slot")
        results: list[JobResult] = []

        async def deliver() -> None:
            results.append(await veo.run_job("a", "A boat", directory=tmp_path))

        group.start_soon(deliver)
        await until(lambda: veo.statistics().slots_waiting == 1)
        # As one who believed it to be dead, and died itself, would leave it.
        with closing(sharing(tmp_path)) as other:
            other._db.execute("UPDATE claims SET owner = 'other', pid = ?", (dead_pid(),))
        await until(lambda: bool(results))
        assert results[0].path == tmp_path / "a.mp4"
        paid_once(sim, ["It holds the slot", "A boat"])
