"""The journal of a batch on a real disk: whole transactions, one runner, damage that is seen."""

# ruff: noqa: ASYNC240  # a test may look at the disk

import asyncio
import csv
import errno
import io
import logging
import os
import random
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from itertools import islice, pairwise, product
from pathlib import Path
from types import MappingProxyType
from typing import Any

import attrs
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from veo_async import ExtendRequest, InvalidRequestError, JournalError, VideoRequest
from veo_async.database import JOURNAL_NAME, open_for_reading, open_for_writing
from veo_async.jobs import (
    Attempt,
    Draft,
    Job,
    JobState,
    draft_of,
    is_past,
    is_same,
    kept_of,
    request_from,
    request_text,
    step_at,
)
from veo_async.journal import Journal
from veo_async.journal_file import Charges, Found, JournalFile, read_journal
from veo_async.lockfile import file_system, refuse_network
from veo_async.outputs import Naming
from veo_async.protocol.jobs import TRANSITIONS, JobStep, advance
from veo_async.request import RequestFields
from veo_async.store import UnreachableError

pytestmark = pytest.mark.anyio

NOTHING: RequestFields = {}
ERROR: Mapping[str, object] = {"error_kind": "TestError", "error_code": 501, "error": "it broke"}


@contextmanager
def opened(folder: Path, *, mark: str = "", name: str = JOURNAL_NAME) -> Generator[JournalFile]:
    file = JournalFile(open_for_writing(folder / name, mark=mark), folder)
    try:
        yield file
    finally:
        file.close()


@pytest.fixture
def file(tmp_path: Path) -> Iterator[JournalFile]:
    with opened(tmp_path) as made:
        yield made


def draft(source: object, position: int = 1) -> Draft:
    return draft_of(source, position, NOTHING)


def pull(file: JournalFile, *sources: object) -> list[Found]:
    return file.look_up([draft(source, place) for place, source in enumerate(sources, 1)])


def new_job(key: str = "a", prompt: str = "A boat", position: int = 1) -> Job:
    return Job(key=key, position=position, request_text=request_text(VideoRequest(prompt)))


def intend(file: JournalFile, job: Job, *, name: str = "v.mp4", now: float = 100.0) -> Job:
    tokens = len([*file.jobs()]) * 1000 + len(job.attempts)
    return file.intend(job, token=f"{job.key} {tokens}", credits_=60, name=name, now=now)


def content(file: JournalFile) -> list[str]:
    """Return the file as text, as SQLite itself tells it."""
    return [*file._db.iterdump()]


# --- every transaction

STEPS: dict[JobStep, Callable[[JournalFile, Job], Job]] = {
    JobStep.INTENDED: intend,
    JobStep.TURNED_AWAY: lambda file, job: file.turned_away(job, now=200.0),
    JobStep.REJECTED: lambda file, job: file.rejected(job, ERROR, now=200.0),
    JobStep.LOST: lambda file, job: file.lost(job, ERROR),
    JobStep.ACCEPTED: lambda file, job: file.accepted(job, "task", now=200.0),
    JobStep.EXTENDED: lambda file, job: file.extended(job, cost=250, now=300.0),
    JobStep.READY: lambda file, job: file.ready(
        job, url="https://v.test/1", seed=54321, cost=250, now=300.0
    ),
    JobStep.DOWNLOADING: lambda file, job: file.downloading(job),
    JobStep.STORED: lambda file, job: file.stored(job, size=3, sha256="abc", now=400.0),
    JobStep.FAILED: lambda file, job: file.failed(job, ERROR, charged=7, now=300.0),
    JobStep.EXPIRED: lambda file, job: file.expired(job, ERROR),
    JobStep.NOT_CREATED: lambda file, job: file.not_created(job, now=300.0),
    JobStep.AGAIN: lambda file, job: file.again(job),
    JobStep.MISSING: lambda file, job: file.missing(job),
}
WAYS: dict[JobState, list[JobStep]] = {
    JobState.NEW: [JobStep.INTENDED, JobStep.TURNED_AWAY],
    JobState.INTENT: [JobStep.INTENDED],
    JobState.UNKNOWN: [JobStep.INTENDED, JobStep.LOST],
    JobState.SUBMITTED: [JobStep.INTENDED, JobStep.ACCEPTED],
    JobState.READY: [JobStep.INTENDED, JobStep.ACCEPTED, JobStep.READY],
    JobState.DOWNLOADING: [
        JobStep.INTENDED,
        JobStep.ACCEPTED,
        JobStep.READY,
        JobStep.DOWNLOADING,
    ],
    JobState.STORED: [JobStep.INTENDED, JobStep.ACCEPTED, JobStep.READY, JobStep.STORED],
    JobState.FAILED: [JobStep.INTENDED, JobStep.ACCEPTED, JobStep.FAILED],
    JobState.REJECTED: [JobStep.REJECTED],
    JobState.EXPIRED: [JobStep.INTENDED, JobStep.ACCEPTED, JobStep.EXPIRED],
}
LEGAL = [(state, step) for state, row in TRANSITIONS.items() for step in row]


def job_in(file: JournalFile, state: JobState, key: str = "a") -> Job:
    job = new_job(key)
    for step in WAYS[state]:
        job = STEPS[step](file, job)
    assert job.state is state
    return job


def named(pairs: list[tuple[JobState, JobStep]]) -> list[str]:
    return [f"{state}-{step.name}" for state, step in pairs]


@pytest.mark.parametrize(("state", "step"), LEGAL, ids=named(LEGAL))
def test_each_step_is_on_the_disk_when_it_returns(
    tmp_path: Path, state: JobState, step: JobStep
) -> None:
    with opened(tmp_path) as file:
        job = job_in(file, state)
        other = job_in(file, JobState.SUBMITTED, "other")
        after = STEPS[step](file, job)
        assert after.state is advance(state, step)
        assert file.find("a") == after
        assert file.find("other") == other
        assert [*file.jobs()] == [after, other]
    with opened(tmp_path) as file:
        assert [*file.jobs()] == [after, other]


ILLEGAL = [pair for pair in product(JobState, JobStep) if pair not in LEGAL]


@pytest.mark.parametrize(("state", "step"), ILLEGAL, ids=named(ILLEGAL))
def test_a_step_that_cannot_be_changes_nothing(
    file: JournalFile, state: JobState, step: JobStep
) -> None:
    job = job_in(file, state)
    before = content(file)
    with pytest.raises(LookupError):
        STEPS[step](file, job)
    assert content(file) == before
    assert not file._db.in_transaction


def test_what_is_written_down_from_the_intent_to_the_file(file: JournalFile) -> None:
    job = file.intend(new_job(), token="t1", credits_=60, name="v.mp4", now=100.0)
    attempt = Attempt(number=1, token="t1", credits=60, charged=60, intent_at=100.0)
    assert job == attrs.evolve(
        new_job(), state=JobState.INTENT, file="v.mp4", created_at=100.0, attempts=(attempt,)
    )
    job = file.accepted(job, "task-1", now=101.0)
    attempt = attrs.evolve(attempt, task_id="task-1", submitted_at=101.0)
    assert job.attempt == attempt
    assert job.task_id == "task-1"
    job = file.ready(job, url="https://v.test/1", seed=None, cost=None, now=160.0)
    attempt = attrs.evolve(attempt, end="success", ended_at=160.0)
    assert job.attempt == attempt
    assert (job.url, job.url_at, job.seed) == ("https://v.test/1", 160.0, None)
    job = file.downloading(job)
    # A link that died is replaced, and the task did not end a second time.
    job = file.ready(job, url="https://v.test/2", seed=54321, cost=250, now=2000.0)
    attempt = attrs.evolve(attempt, charged=250)
    assert job.attempt == attempt
    assert (job.url, job.url_at, job.seed) == ("https://v.test/2", 2000.0, 54321)
    job = file.stored(job, size=3, sha256="abc", now=2100.0)
    assert (job.size, job.sha256, job.stored_at, job.charged) == (3, "abc", 2100.0, 250)
    assert job.attempts == (attempt,)
    job = file.missing(job)
    assert (job.state, job.task_id, job.file) == (JobState.SUBMITTED, "task-1", "v.mp4")


def test_a_failure_is_told_of_its_task_and_of_its_job_and_forgotten_by_the_next_one(
    file: JournalFile,
) -> None:
    job = job_in(file, JobState.FAILED)
    assert (job.error_kind, job.error_code, job.error) == ("TestError", 501, "it broke")
    first = job.attempt
    assert first is not None
    assert (first.end, first.ended_at, first.charged) == ("failed", 300.0, 7)
    assert (first.error_code, first.error) == (501, "it broke")
    job = intend(file, file.again(job))
    assert (job.error_kind, job.error_code, job.error) == (None, None, None)
    assert job.attempts[0] == first
    assert [attempt.number for attempt in job.attempts] == [1, 2]
    assert job.task_id is None
    job = file.accepted(job, "task-2", now=500.0)
    assert [attempt.task_id for attempt in job.attempts] == ["task", "task-2"]
    assert job.task_id == "task-2"


@pytest.mark.parametrize(
    ("state", "step"),
    [
        (JobState.UNKNOWN, JobStep.ACCEPTED),
        (JobState.UNKNOWN, JobStep.NOT_CREATED),
    ],
)
def test_no_part_of_an_old_error_is_left(file: JournalFile, state: JobState, step: JobStep) -> None:
    job = STEPS[step](file, job_in(file, state))
    assert (job.error_kind, job.error_code, job.error) == (None, None, None)


def film(*extensions: str, prompt: str = "A boat", **more: Any) -> str:
    return request_text(VideoRequest(prompt, extend_to=extensions or None, **more))


def film_after(file: JournalFile, steps: int, request: str) -> Job:
    """Return a film of which so many steps are done."""
    job = attrs.evolve(new_job(), request_text=request)
    for step in range(steps):
        job = file.accepted(intend(file, job), f"task-{step}", now=float(step))
        assert step_at(job, request_from(request)).prompt == ["A boat", "two", "three"][step]
        job = file.extended(job, cost=None if step else 55, now=100.0 + step)
    return job


def test_a_step_that_is_done_leaves_its_task_and_makes_the_next_one_possible(
    file: JournalFile,
) -> None:
    request = film("two", "three", seed=12345)
    job = film_after(file, 2, request)
    assert (job.state, job.film_id, job.task_id) == (JobState.NEW, "task-1", "task-1")
    assert [(step.task_id, step.charged, step.ended_at) for step in job.steps] == [
        ("task-0", 55, 100.0),
        ("task-1", 60, 101.0),
    ]
    assert step_at(job, request_from(request)) == ExtendRequest("task-1", "three", seed=12345)
    assert file.charges() == Charges(total=115, failed=0)
    # What is turned away, or fails, costs no step that is done.
    assert file.turned_away(intend(file, job), now=200.0).steps == job.steps
    last = file.accepted(intend(file, job), "task-2", now=300.0)
    failed = file.failed(last, ERROR, charged=0, now=400.0)
    assert (failed.steps, failed.film_id, failed.task_id) == (job.steps, "task-1", "task-2")
    again = file.accepted(intend(file, file.again(failed)), "task-3", now=500.0)
    assert step_at(again, request_from(request)) == ExtendRequest("task-1", "three", seed=12345)
    ready = file.ready(again, url="https://v.test/", seed=None, cost=None, now=600.0)
    stored = file.stored(ready, size=3, sha256="abc", now=700.0)
    # One whose file is gone is asked for as what its last task was.
    for each in (ready, stored, file.missing(stored)):
        assert each.film_id == each.task_id == "task-3"
        assert step_at(each, request_from(request)) == ExtendRequest("task-1", "three", seed=12345)


@pytest.mark.parametrize(
    ("wanted", "kept", "is_over"),
    [
        (film("two", "other"), 2, False),
        (film("two", "three", "more"), 2, False),
        (film("other", "three"), 1, False),
        (film("two", "three", callback_url="https://else.test/"), 2, False),
        (film("two", "three", seed=23456), 0, False),
        (film("two", "three", prompt="Another"), 0, False),
        (film(), 1, True),
        (film("two"), 2, True),
        ('{"prompt": "A boat", "extra": {}, "no": "field"}', 0, False),
    ],
)
def test_another_request_keeps_the_steps_that_it_begins_with_too(
    file: JournalFile, wanted: str, kept: int, is_over: bool
) -> None:
    job = film_after(file, 2, film("two", "three"))
    assert kept_of(job, wanted) == kept
    if "no" not in wanted:
        assert is_past(job, request_from(wanted)) is is_over
    changed = file.again(job, wanted)
    assert [step.end for step in changed.attempts] == (
        ["success"] * kept + ["replaced"] * (2 - kept)
    )
    assert changed.charged == job.charged, "what was paid was paid"
    assert file.find("a") == changed


def test_equal_films_are_equal_inputs_however_long_they_are_said_to_be() -> None:
    lists = {"prompt": "A boat", "extend_to": ["A boat", "A boat"]}
    assert {draft({**lists, "extend_to": length}).identity for length in (16, 22, 22.0)} == {
        draft(lists).identity
    }
    assert draft({**lists, "extend_to": 8}).identity == draft("A boat").identity
    assert request_from(request_text(VideoRequest("A boat", extend_to=22))).extensions == (
        "A boat",
        "A boat",
    )


def test_what_was_turned_away_leaves_no_attempt_and_costs_nothing(file: JournalFile) -> None:
    first = job_in(file, JobState.FAILED)
    job = intend(file, file.again(first))
    job = file.turned_away(job, now=500.0)
    assert job.state is JobState.NEW
    assert job.attempts == first.attempts
    assert file.charges() == Charges(total=7, failed=7)


def test_whoever_was_cut_off_says_twice_that_nothing_was_taken(file: JournalFile) -> None:
    """The step was done and its caller cancelled, so that the caller's job is the one before."""
    first = job_in(file, JobState.UNKNOWN)
    job = intend(file, file.again(first))
    file.turned_away(job, now=500.0)
    job = file.turned_away(job, now=501.0)
    assert job.attempts == first.attempts
    assert file.charges() == Charges(total=60, failed=0)


def test_a_rule_that_forbids_it_may_be_told_before_or_after_the_intent(file: JournalFile) -> None:
    before = file.rejected(new_job("a"), ERROR, now=9.0)
    after = file.rejected(job_in(file, JobState.INTENT, "b"), ERROR, now=10.0)
    assert (before.attempts, after.attempts) == ((), ())
    assert (before.created_at, after.created_at) == (9.0, 100.0)
    assert file.charges() == Charges(total=0, failed=0)


def test_a_rule_that_forbids_another_task_does_not_forget_the_first(file: JournalFile) -> None:
    failed = job_in(file, JobState.FAILED)
    job = file.rejected(file.again(failed), ERROR, now=10.0)
    assert job.state is JobState.REJECTED
    assert job.attempts == failed.attempts


def test_an_invalid_input_is_kept_with_what_it_was_until_the_next_run(file: JournalFile) -> None:
    invalid = draft({"prompt": "", "n": "x" * 5000})
    job = Job(key=invalid.identity, position=3, source=invalid.source_text)
    job = file.rejected(job, ERROR, now=9.0)
    assert job.request is None
    assert job.source is not None
    assert len(job.source) == 1000
    assert file.find(invalid.identity) == job
    valid = job_in(file, JobState.REJECTED)
    file.forget_invalid()
    assert [*file.jobs()] == [valid]


def test_what_the_money_did_not_reach_is_known(file: JournalFile) -> None:
    job = file.unpaid(new_job(), now=5.0)
    assert (job.state, job.created_at, job.attempts) == (JobState.NEW, 5.0, ())
    assert file.unpaid(job, now=6.0) == job
    assert [*file.jobs()] == [job]


def test_a_job_keeps_the_place_and_the_request_that_it_had_first(file: JournalFile) -> None:
    job = file.unpaid(new_job(position=7), now=5.0)
    moved = attrs.evolve(job, position=1)
    assert intend(file, moved).position == 7


def test_again_may_bring_another_request_and_then_another_name(file: JournalFile) -> None:
    failed = job_in(file, JobState.FAILED)
    same = file.again(failed)
    assert (same.request_text, same.file) == (failed.request_text, "v.mp4")
    wanted = request_text(VideoRequest("A ship"))
    changed = file.again(same, wanted)
    assert (changed.request_text, changed.file) == (wanted, None)
    assert intend(file, changed, name="ship.mp4").file == "ship.mp4"


def test_tokens_are_used_once(file: JournalFile) -> None:
    file.intend(new_job("a"), token="t", credits_=1, name="a.mp4", now=0.0)
    with pytest.raises(JournalError, match="UNIQUE"):
        file.intend(new_job("b"), token="t", credits_=1, name="b.mp4", now=0.0)
    assert file.find("b") is None


def test_texts_that_are_no_unicode_are_kept_in_words(file: JournalFile) -> None:
    broken = "half \ud83d of a film \udcff"
    job = Job(key="a", position=1, source=broken)
    job = file.rejected(job, {**ERROR, "error": broken}, now=0.0)
    assert job.source == job.error == r"half \ud83d of a film \udcff"
    submitted = job_in(file, JobState.SUBMITTED, "b")
    failed = file.failed(submitted, {**ERROR, "error": broken}, charged=0, now=0.0)
    assert failed.attempt is not None
    assert failed.attempt.error == r"half \ud83d of a film \udcff"


def test_texts_are_kept_as_they_are(file: JournalFile) -> None:
    texts = ["", "nul \0 inside", "'; DROP TABLE jobs; --", "紙の舟 🎬 مرحبا", "x" * 100_000]
    for number, text in enumerate(texts):
        job = job_in(file, JobState.INTENT, str(number))
        assert file.lost(job, {**ERROR, "error": text}).error == text


# --- what it cost


def test_the_charges_are_what_the_newest_facts_say(file: JournalFile) -> None:
    assert file.charges() == Charges(total=0, failed=0)
    expected = {
        JobState.NEW: 0,
        JobState.INTENT: 60,
        JobState.UNKNOWN: 60,
        JobState.SUBMITTED: 60,
        JobState.READY: 250,
        JobState.DOWNLOADING: 250,
        JobState.STORED: 250,
        JobState.FAILED: 7,
        JobState.REJECTED: 0,
        JobState.EXPIRED: 60,
    }
    total = 0
    for state, credits_ in expected.items():
        job = job_in(file, state, state)
        total += credits_
        assert job.charged == credits_
        assert file.charges().total == total
    assert file.charges() == Charges(total=total, failed=7)
    file.not_created(attrs.evolve(job_in(file, JobState.UNKNOWN, "x")), now=0.0)
    assert file.charges().total == total
    # What may be paid stays counted beside the new task.
    unknown = file.find(JobState.UNKNOWN)
    assert unknown is not None
    intend(file, file.again(unknown), name="again.mp4")
    assert file.charges().total == total + 60


# --- names


def test_a_name_is_free_of_other_jobs_and_of_foreign_files(
    tmp_path: Path, file: JournalFile
) -> None:
    (tmp_path / "v-2.mp4").write_bytes(b"foreign")
    (tmp_path / "v-3.mp4").mkdir()
    (tmp_path / "v-4.mp4").symlink_to(tmp_path / "nowhere")
    (tmp_path / "v-5.json").write_text("somebody's notes, which a description would replace")
    names = [intend(file, new_job(key)).file for key in ("a", "b", "c")]
    assert names == ["v.mp4", "v-6.mp4", "v-7.mp4"]


def test_names_differ_also_where_a_disk_takes_capitals_for_small_letters(
    file: JournalFile,
) -> None:
    names = [intend(file, new_job(name), name=name).file for name in ("v.mp4", "V.mp4", "V-2.MP4")]
    assert names == ["v.mp4", "V-2.mp4", "V-2-2.MP4"]


def test_a_name_is_kept_over_runs_whatever_happens(tmp_path: Path) -> None:
    with opened(tmp_path) as file:
        job = file.turned_away(intend(file, new_job("a"), name="first.mp4"), now=0.0)
        assert intend(file, new_job("b"), name="first.mp4").file == "first-2.mp4"
    (tmp_path / "first.mp4").write_bytes(b"foreign")
    with opened(tmp_path) as file:
        job = intend(file, job, name="other.mp4")
        assert job.file == "first.mp4"
        job = file.accepted(job, "task", now=0.0)
        job = intend(file, file.again(file.failed(job, ERROR, charged=0, now=0.0)), name="x.mp4")
        assert job.file == "first.mp4"


def test_many_jobs_of_one_name_get_a_file_each(file: JournalFile) -> None:
    names = {intend(file, new_job(str(key)), name="same.mp4").file for key in range(50)}
    assert names == {"same.mp4"} | {f"same-{number}.mp4" for number in range(2, 51)}


# --- a transaction that fails half-way

KINDS = ("INSERT", "UPDATE", "DELETE")


@contextmanager
def breaking(file: JournalFile, table: str) -> Generator[None]:
    """Let whatever is done to a table fail, after it was done."""
    for kind in KINDS:
        file._db.execute(
            f"CREATE TEMP TRIGGER broken_{kind} AFTER {kind} ON main.{table}"
            " BEGIN SELECT RAISE(ABORT, 'it broke'); END"
        )
    try:
        yield
    finally:
        for kind in KINDS:
            file._db.execute(f"DROP TRIGGER broken_{kind}")


TOUCHES_ATTEMPTS = {
    (JobState.NEW, JobStep.INTENDED),
    (JobState.INTENT, JobStep.TURNED_AWAY),
    (JobState.INTENT, JobStep.REJECTED),
    (JobState.INTENT, JobStep.ACCEPTED),
    (JobState.UNKNOWN, JobStep.ACCEPTED),
    (JobState.UNKNOWN, JobStep.NOT_CREATED),
    (JobState.SUBMITTED, JobStep.EXTENDED),
    (JobState.SUBMITTED, JobStep.READY),
    (JobState.READY, JobStep.READY),
    (JobState.DOWNLOADING, JobStep.READY),
    (JobState.SUBMITTED, JobStep.FAILED),
}
HALVES = [
    *((state, step, "jobs") for state, step in LEGAL),
    *((state, step, "attempts") for state, step in LEGAL if (state, step) in TOUCHES_ATTEMPTS),
]


@pytest.mark.parametrize(
    ("state", "step", "table"),
    HALVES,
    ids=[f"{state}-{step.name}-{table}" for state, step, table in HALVES],
)
def test_a_step_that_fails_half_way_leaves_nothing(
    file: JournalFile, state: JobState, step: JobStep, table: str
) -> None:
    job = job_in(file, state)
    before = content(file)
    with breaking(file, table), pytest.raises(JournalError, match="it broke"):
        STEPS[step](file, job)
    assert not file._db.in_transaction
    assert content(file) == before
    assert STEPS[step](file, job).state is advance(state, step)


@pytest.mark.parametrize("table", ["jobs", "attempts"])
def test_the_first_step_of_a_job_that_fails_half_way_leaves_no_job(
    file: JournalFile, table: str
) -> None:
    with breaking(file, table), pytest.raises(JournalError, match="it broke"):
        intend(file, new_job())
    assert [*file.jobs()] == []
    assert intend(file, new_job()).state is JobState.INTENT


@pytest.mark.parametrize(("state", "step"), LEGAL, ids=named(LEGAL))
def test_a_commit_that_fails_leaves_nothing(
    tmp_path: Path, file: JournalFile, state: JobState, step: JobStep
) -> None:
    job = job_in(file, state)
    before = content(file)
    file._db.execute("PRAGMA busy_timeout = 0")
    with closing(sqlite3.connect(tmp_path / JOURNAL_NAME, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM jobs").fetchone()  # from here on, nobody else may commit
        with pytest.raises(UnreachableError, match=r"is locked.*; end that, and it goes on"):
            STEPS[step](file, job)
        assert not file._db.in_transaction
    assert content(file) == before
    assert STEPS[step](file, job).state is advance(state, step)


def test_an_exception_of_python_leaves_nothing_either(file: JournalFile) -> None:
    job = job_in(file, JobState.INTENT)
    before = content(file)
    with pytest.raises(JournalError, match="not supported"):
        file.lost(job, {"error_kind": "x", "error": object()})
    assert content(file) == before
    assert not file._db.in_transaction


def full_at_once(file: JournalFile, schema: str = "main") -> None:
    """Let the next page that the file wants be one too many."""
    pages = file._db.execute(f"PRAGMA {schema}.page_count").fetchone()[0]
    file._db.execute(f"PRAGMA {schema}.max_page_count = {max(pages, 1)}")


def room_again(file: JournalFile, schema: str = "main") -> None:
    file._db.execute(f"PRAGMA {schema}.max_page_count = 1000000")


LONG: Mapping[str, object] = {**ERROR, "error": "x" * 100_000}


def test_a_full_disk_leaves_nothing(file: JournalFile) -> None:
    job = job_in(file, JobState.INTENT)
    before = content(file)
    full_at_once(file)
    with pytest.raises(JournalError, match="disk is full"):
        file.lost(job, LONG)
    assert content(file) == before
    room_again(file)
    assert file.lost(job, LONG).error == LONG["error"]


def test_inputs_are_counted_once_also_where_the_disk_of_the_count_is_full(
    file: JournalFile,
) -> None:
    """A number too high would be another video, and another payment."""
    drafts = [draft(f"A boat {number}") for number in range(2000)]
    file.look_up(drafts[:1])
    full_at_once(file, "temp")
    with pytest.raises(JournalError, match="disk is full"):
        file.look_up(drafts[1:])
    room_again(file, "temp")
    assert [found.key for found in file.look_up(drafts[1:])] == [one.identity for one in drafts[1:]]


@contextmanager
def kept(file: JournalFile, how: str) -> Generator[None]:
    """Let another program keep the file while inside."""
    file._db.execute("PRAGMA busy_timeout = 10")
    with closing(sqlite3.connect(file._folder / JOURNAL_NAME, isolation_level=None)) as other:
        other.execute(f"BEGIN {how}")
        yield


def test_inputs_are_counted_once_also_where_the_file_is_kept_by_another_program(
    file: JournalFile,
) -> None:
    pull(file, "A cat")
    with kept(file, "EXCLUSIVE"), pytest.raises(UnreachableError, match="end that, and it goes on"):
        pull(file, "A boat")
    (found,) = pull(file, "A boat")
    assert found.key == found.draft.identity


def test_a_submit_that_is_written_down_twice_is_one_attempt(file: JournalFile) -> None:
    """Where it was done, and what it came to could not be read."""
    job = new_job()
    once = file.intend(job, token="t", credits_=60, name="v.mp4", now=100.0)
    assert file.intend(job, token="t", credits_=60, name="v.mp4", now=100.0) == once
    assert len(once.attempts) == 1


# --- identity

REQUEST = VideoRequest("A boat", seed=12345)


def test_a_prompt_a_mapping_and_a_request_are_the_same_input() -> None:
    defaults: RequestFields = {"seed": 12345}
    same = [
        draft_of("A boat", 1, defaults),
        draft_of({"prompt": "A boat"}, 2, defaults),
        draft_of({"prompt": "A boat", "seed": 12345}, 3, {"seed": 99999}),
        draft_of(MappingProxyType({"seed": 12345, "prompt": "A boat", "key": None}), 4, {}),
        draft_of(REQUEST, 5, {"seed": 99999}),
    ]
    assert [one.request for one in same] == [REQUEST] * 5
    assert len({one.identity for one in same}) == 1
    assert {one.key for one in same} == {None}
    assert [one.position for one in same] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": "A boat "},
        {"prompt": "a boat"},
        {"model": "veo3"},
        {"seed": None},
        {"seed": 12346},
        {"aspect_ratio": "9:16"},
        {"image_urls": ["https://example.com/a.png"]},
        {"enable_translation": False},
        {"watermark": "w"},
        {"resolution": "4k"},
        {"duration": 8},
        {"extra": {"n": 1}},
    ],
)
def test_whatever_changes_the_video_changes_the_identity(fields: dict[str, object]) -> None:
    base: dict[str, object] = {"prompt": "A boat", "seed": 12345}
    assert draft(base | fields).identity != draft(base).identity
    changed = draft(base | fields).request
    assert changed is not None
    assert not is_same(changed, request_text(REQUEST))


def test_where_the_service_reports_to_does_not_change_the_identity() -> None:
    base = {"prompt": "A boat", "seed": 12345}
    told = draft(base | {"callback_url": "https://example.com/1"})
    assert told.identity == draft(base).identity
    assert told.request is not None
    assert told.request.callback_url == "https://example.com/1"
    assert is_same(told.request, request_text(REQUEST))


def test_the_order_of_what_is_sent_besides_does_not_change_the_identity() -> None:
    one = draft({"prompt": "A", "extra": {"a": 1, "b": {"c": 2, "d": 3}}})
    other = draft({"extra": {"b": {"d": 3, "c": 2}, "a": 1}, "prompt": "A"})
    assert one.identity == other.identity


def test_an_identity_is_what_it_was_in_earlier_versions() -> None:
    # The journals of earlier versions hold them: with another one, everything is paid again.
    assert draft("A paper boat drifts down a rain gutter").identity == "f4559dda799eed18"
    assert (
        request_text(VideoRequest("紙の舟", seed=12345, extra={"b": 1, "a": None}))
        == '{"enable_translation": true, "extra": {"a": null, "b": 1},'
        ' "generation_type": "TEXT_2_VIDEO", "model": "veo3_fast", "prompt": "紙の舟",'
        ' "seed": 12345}'
    )


requests = st.builds(
    VideoRequest,
    st.text(min_size=1, max_size=50).filter(str.strip),
    model=st.sampled_from(["veo3", "veo3_fast", "veo3_lite"]),
    seed=st.none() | st.integers(10_000, 99_999),
    aspect_ratio=st.sampled_from([None, "16:9", "9:16", "Auto"]),
    image_urls=st.lists(st.just("https://example.com/a.png"), max_size=3),
    enable_translation=st.booleans(),
    watermark=st.none() | st.just("w"),
    resolution=st.sampled_from([None, "720p", "4k"]),
    duration=st.sampled_from([None, 4, 6, 8]),
    callback_url=st.none() | st.just("https://example.com/c"),
    extra=st.dictionaries(
        st.text(max_size=5),
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers()
            | st.floats(allow_nan=False, allow_infinity=False)
            | st.text(),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner),
            max_leaves=5,
        ),
        max_size=3,
    ),
)


@given(requests, requests)
@settings(deadline=None)
def test_a_request_comes_back_out_of_its_text(one: VideoRequest, other: VideoRequest) -> None:
    text = request_text(one)
    assert request_from(text) == one
    assert request_text(request_from(text)) == text
    assert (text == request_text(other)) is (one == other)
    assert is_same(one, text)
    assert is_same(one, request_text(other)) is (draft(one).identity == draft(other).identity)


class Unreadable:
    """An object that nobody can look at."""

    def __repr__(self) -> str:
        raise RuntimeError("nobody may look")


HOSTILE: list[tuple[object, str]] = [
    (None, "requests"),
    (5, "requests"),
    (b"A boat", "requests"),
    (["A boat"], "requests"),
    (object(), "requests"),
    (Unreadable(), "requests"),
    ("", "prompt"),
    (" \n", "prompt"),
    ("x" * 1001, "prompt"),
    ("half \ud83d", "prompt"),
    ({}, "prompt"),
    ({"key": "k"}, "prompt"),
    ({"prompt": None}, "prompt"),
    ({"prompt": 5}, "prompt"),
    ({"prompt": "A", "seed": "12345"}, "seed"),
    ({"prompt": "A", "seed": 10**5000}, "seed"),
    ({"prompt": "A", "colour": "red"}, "colour"),
    ({"prompt": "A", "": "red"}, ""),
    ({"prompt": "A", "self": "red"}, "self"),
    ({"prompt": "A", None: ["left over"]}, "None"),
    ({"prompt": "A", 5: "five"}, "5"),
    ({"prompt": "A", ("a", "b"): "tuple"}, "('a', 'b')"),
    ({"prompt": "A", "key": ""}, "key"),
    ({"prompt": "A", "key": "x" * 201}, "key"),
    ({"prompt": "A", "key": "two\nlines"}, "key"),
    ({"prompt": "A", "key": "\u202e"}, "key"),
    ({"prompt": "A", "key": "half \ud83d"}, "key"),
    ({"prompt": "A", "key": 5}, "key"),
    ({"prompt": "A", "key": 10**5000}, "key"),
    ({"prompt": "A", "key": ["k"]}, "key"),
    ({"prompt": "A", "key": Unreadable()}, "key"),
    ({"prompt": "A", "extra": {"n": float("nan")}}, "extra"),
    (InvalidRequestError("row 7 has no prompt; add one", field="prompt"), "prompt"),
]


@pytest.mark.parametrize(("source", "field"), HOSTILE)
def test_a_hostile_input_is_an_invalid_one_and_no_crash(
    file: JournalFile, source: object, field: str
) -> None:
    read = draft(source)
    assert read.request is None
    assert read.error is not None
    assert read.error.field == field
    assert len(str(read.error)) < 500
    [found] = file.look_up([read])
    assert found.job is None
    job = Job(key=found.key, position=1, source=read.source_text)
    assert file.rejected(job, {**ERROR, "error": str(read.error)}, now=0.0).request is None


def test_a_row_of_a_table_with_a_cell_too_many_is_invalid_and_the_others_are_not() -> None:
    table = csv.DictReader(io.StringIO("prompt,key\nA boat,a\nA ship,b,left over\nA raft\n"))
    boat, ship, raft = [draft(row) for row in table]
    assert boat.request == VideoRequest("A boat")
    assert raft.request == VideoRequest("A raft")
    assert (boat.key, ship.key, raft.key) == ("a", "b", None)
    assert str(ship.error) == "None is not a field of a request; leave it out"


def test_an_invalid_input_keeps_its_key_so_that_it_is_the_same_one_once_it_is_mended() -> None:
    invalid = draft({"key": "k", "prompt": ""})
    assert (invalid.key, invalid.identity) == ("k", "k")
    assert invalid.request is None
    assert draft({"key": "\n", "prompt": "A boat"}).key is None


def test_equal_invalid_inputs_are_equal_and_others_are_not() -> None:
    assert draft({"prompt": ""}).identity == draft({"prompt": ""}).identity
    assert draft({"prompt": ""}).identity != draft("").identity


# --- looking up


def test_the_same_request_twice_is_two_videos(file: JournalFile) -> None:
    identity = draft("A boat").identity
    assert [found.key for found in pull(file, "A boat", "A boat", REQUEST, "A boat")] == [
        identity,
        f"{identity}-2",
        draft(REQUEST).identity,
        f"{identity}-3",
    ]
    # The count goes on from one look to the next.
    assert [found.key for found in pull(file, "A boat")] == [f"{identity}-4"]


PROMPTS = ["A", "B", "A", "C", "A", "B"]


@given(order=st.permutations(range(len(PROMPTS))), cuts=st.sets(st.integers(1, 5)))
@example(order=[*range(6)], cuts=set())
@settings(max_examples=30, deadline=None)
def test_the_keys_are_the_same_in_every_run_and_every_order(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], cuts: set[int]
) -> None:
    folder = tmp_path_factory.mktemp("run")
    with opened(folder) as file:
        first = {
            found.key: intend(file, new_job(found.key, str(found.draft.source)), name="v.mp4")
            for found in pull(file, *PROMPTS)
        }
    assert len(first) == 6
    shuffled = [PROMPTS[place] for place in order]
    chunks = [shuffled[begin:end] for begin, end in pairwise([0, *sorted(cuts), 6])]
    with opened(folder) as file:
        second = [found for chunk in chunks for found in pull(file, *chunk)]
    assert {found.key: found.job for found in second} == first
    for found in second:
        assert found.job is not None
        assert found.job.request == found.draft.request


def test_other_rows_that_come_and_go_do_not_move_a_key(tmp_path: Path) -> None:
    with opened(tmp_path) as file:
        keys = {found.draft.source: found.key for found in pull(file, "A", "B", "C")}
    with opened(tmp_path) as file:
        again = {found.draft.source: found.key for found in pull(file, "X", "C", "Y", "A")}
    assert again["A"] == keys["A"]
    assert again["C"] == keys["C"]


def test_what_carries_a_key_is_known_by_it(file: JournalFile) -> None:
    source = {"key": "k", "prompt": "A boat"}
    [found] = pull(file, source)
    assert (found.key, found.job, found.is_repeated) == ("k", None, False)
    assert [(one.key, one.is_repeated) for one in pull(file, source)] == [("k", True)]


@pytest.mark.parametrize("state", [*JobState])
def test_a_later_run_finds_what_an_earlier_one_did(tmp_path: Path, state: JobState) -> None:
    prompt = {"key": "k", "prompt": "A boat"}
    with opened(tmp_path) as file:
        job = job_in(file, state, "k")
    (tmp_path / "v.mp4").write_bytes(b"abc")
    with opened(tmp_path) as file:
        assert pull(file, prompt) == [Found(draft=draft(prompt), key="k", job=job)]
        [twice] = pull(file, prompt)
        assert (twice.key, twice.is_repeated, twice.job) == ("k", True, None)
        changed = {"key": "k", "prompt": "A ship"}
    with opened(tmp_path) as file:
        [found] = pull(file, changed)
        assert (found.job, found.is_changed) == (job, True)
        assert file.find("k") == job


def test_a_new_place_to_report_to_is_no_other_request(tmp_path: Path) -> None:
    source = {"key": "k", "prompt": "A boat", "callback_url": "https://one.example.com/"}
    with opened(tmp_path) as file:
        [found] = pull(file, source)
        request = found.draft.request
        assert request is not None
        job = Job(key="k", position=1, request_text=request_text(request))
        job = intend(file, job)
    with opened(tmp_path) as file:
        [found] = pull(file, source | {"callback_url": "https://two.example.com/"})
        assert (found.job, found.is_changed) == (job, False)


def test_a_row_that_is_valid_by_now_has_changed(file: JournalFile) -> None:
    invalid = draft({"key": "k", "prompt": ""})
    job = file.rejected(Job(key="k", position=1, source=invalid.source_text), ERROR, now=0.0)
    [found] = file.look_up([draft({"key": "k", "prompt": "A boat"})])
    assert (found.job, found.is_changed) == (job, True)
    wanted = request_text(VideoRequest("A boat"))
    assert file.again(job, wanted).request == VideoRequest("A boat")


def test_the_file_of_a_stored_video_is_looked_at(tmp_path: Path) -> None:
    def found_now() -> tuple[bool, str | None]:
        with opened(tmp_path) as file:
            [found] = pull(file, {"key": "k", "prompt": "A boat"})
        return found.is_missing, found.damage

    with opened(tmp_path) as file:
        job_in(file, JobState.STORED, "k")
    video = tmp_path / "v.mp4"
    assert found_now() == (True, None)
    video.write_bytes(b"abc")
    assert found_now() == (False, None)
    video.write_bytes(b"abcd")
    assert found_now() == (False, "was changed: it has 4 bytes and not 3; move it away")
    video.unlink()
    video.symlink_to(tmp_path / "nowhere")
    assert found_now() == (True, None)
    video.unlink()
    video.symlink_to(video)
    why = os.strerror(errno.ELOOP)
    assert found_now() == (False, f"cannot be looked at ({why}); make it readable")


# --- one runner

HOLDER = """
import sys
from pathlib import Path
from veo_async.database import open_for_writing
database = open_for_writing(Path(sys.argv[1]))
exec(sys.argv[2])
print("held", flush=True)
sys.stdin.read()
"""
# More changes than its cache takes, so that the file is another one before the commit.
HALF_WAY = """
c = database.connection
c.execute("PRAGMA cache_size = 1")
c.execute("BEGIN IMMEDIATE")
c.execute("UPDATE jobs SET state = 'stored', error = ?", ("x" * 500,))
c.execute("DELETE FROM attempts")
"""


@contextmanager
def held(path: Path, doing: str = "") -> Generator[subprocess.Popen[str]]:
    """Let another process run the batch."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path), doing],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def test_a_second_runner_in_this_process_is_refused_and_told_who_it_is(tmp_path: Path) -> None:
    with opened(tmp_path):
        for _ in range(2):
            with pytest.raises(
                JournalError,
                match=rf"in use by process {os.getpid()} on host {re.escape(socket.gethostname())};"
                " wait until that has ended, or stop it$",
            ):
                open_for_writing(tmp_path / JOURNAL_NAME)
    with opened(tmp_path):
        pass


def test_a_runner_in_another_process_keeps_others_out_until_it_dies(tmp_path: Path) -> None:
    path = tmp_path / JOURNAL_NAME
    with held(path) as process:
        with pytest.raises(
            JournalError,
            match=rf"in use by process {process.pid} on host {re.escape(socket.gethostname())};",
        ):
            open_for_writing(path)
        process.send_signal(signal.SIGKILL)
        process.wait()
        with opened(tmp_path) as file:
            assert [*file.jobs()] == []


def test_two_links_to_a_journal_are_one_journal(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / JOURNAL_NAME).symlink_to(tmp_path / "disk" / JOURNAL_NAME)
    with opened(tmp_path / "disk") as file:
        job = job_in(file, JobState.SUBMITTED)
    with opened(tmp_path / "one") as file:
        assert [*file.jobs()] == [job]
        with pytest.raises(JournalError, match="in use by process"):
            open_for_writing(tmp_path / "two" / JOURNAL_NAME)
        with closing(read_journal(tmp_path / "two" / JOURNAL_NAME, tmp_path)) as reader:
            assert reader.is_live


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"pid": 1}', "\0" * 5000, "[" * 5000, '"x"', "\udcff"],
)
def test_a_holder_that_cannot_be_read_is_another_process(tmp_path: Path, text: str) -> None:
    with opened(tmp_path):
        lock = tmp_path / f"{JOURNAL_NAME}.lock"
        lock.write_bytes(text.encode(errors="surrogateescape"))
        with pytest.raises(JournalError, match="in use by another process;"):
            open_for_writing(tmp_path / JOURNAL_NAME)


def test_a_lock_is_never_a_link(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    (tmp_path / f"{JOURNAL_NAME}.lock").symlink_to(precious)
    with pytest.raises(JournalError, match="choose another place"):
        open_for_writing(tmp_path / JOURNAL_NAME)
    assert precious.read_text() == "precious"


# --- reading beside a runner, and after one


def rows(count: int) -> list[tuple[object, ...]]:
    return [
        (number, f"k{number}", number, request_text(REQUEST), "submitted", f"{number}.mp4", 0.0)
        for number in range(1, count + 1)
    ]


def fill(file: JournalFile, count: int) -> None:
    file._db.execute("BEGIN")
    file._db.executemany(
        "INSERT INTO jobs (id, key, position, request_text, state, file, created_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        rows(count),
    )
    file._db.executemany(
        "INSERT INTO attempts (job, number, token, task_id, credits, charged, intent_at)"
        " VALUES (?, 1, ?, ?, 60, 60, 0.0)",
        [(number, f"token {number}", f"task-{number}") for number in range(1, count + 1)],
    )
    file._db.execute("COMMIT")


def test_a_journal_is_read_while_its_batch_runs_and_the_runner_goes_on(tmp_path: Path) -> None:
    path = tmp_path / JOURNAL_NAME
    with opened(tmp_path) as file:
        fill(file, 500)
        file._db.execute("PRAGMA busy_timeout = 0")
        with closing(read_journal(path, tmp_path)) as reader:
            assert reader.is_live
            jobs = reader.jobs()
            assert next(jobs).key == "k1"
            # Somebody looks at it page by page, for as long as they like.
            job = file.find("k500")
            assert job is not None
            file.ready(job, url="https://v.test/", seed=None, cost=None, now=0.0)
            states = [job.state for job in jobs]
            assert states == [JobState.SUBMITTED] * 498 + [JobState.READY]
            assert reader.charges().total == 500 * 60
            with pytest.raises(JournalError, match="readonly"):
                reader.unpaid(new_job(), now=0.0)
            assert len(file.open_jobs()) == 500


def test_reading_does_not_let_go_of_the_locks_of_a_runner_in_this_process(tmp_path: Path) -> None:
    """POSIX takes all locks of a process on a file away when it closes any handle of that file."""
    path = tmp_path / JOURNAL_NAME
    other = (
        "import sqlite3, sys; db = sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None);"
        " db.execute('BEGIN IMMEDIATE')"
    )
    with opened(tmp_path) as file:
        job_in(file, JobState.NEW)
        file._db.execute("BEGIN IMMEDIATE")
        with closing(read_journal(path, tmp_path)) as reader:
            assert [job.state for job in reader.jobs()] == [JobState.NEW]
        done = subprocess.run(
            [sys.executable, "-c", other, str(path)],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert "database is locked" in done.stderr
        file._db.execute("ROLLBACK")


def test_a_journal_is_read_when_nobody_runs_it_and_kept_from_runners_meanwhile(
    tmp_path: Path,
) -> None:
    with opened(tmp_path) as file:
        job = job_in(file, JobState.UNKNOWN)
    with closing(read_journal(tmp_path / JOURNAL_NAME, tmp_path)) as reader:
        assert not reader.is_live
        assert [*reader.jobs()] == [job]
        with pytest.raises(JournalError, match="in use by process"):
            open_for_writing(tmp_path / JOURNAL_NAME)
        # It is also what a person settles an unknown submit with.
        assert reader.accepted(job, "task-7", now=0.0).task_id == "task-7"
    with opened(tmp_path) as file:
        assert [job.task_id for job in file.jobs()] == ["task-7"]


@pytest.mark.parametrize("how", ["read", "run"])
def test_a_kill_in_the_middle_of_a_transaction_is_taken_back_by_whoever_comes_next(
    tmp_path: Path, how: str
) -> None:
    path = tmp_path / JOURNAL_NAME
    with opened(tmp_path) as file:
        fill(file, 500)
        before = content(file)
    whole = path.read_bytes()
    with held(path, HALF_WAY) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert path.with_name(f"{path.name}-journal").stat().st_size > 0
    assert path.read_bytes() != whole
    if how == "run":
        with opened(tmp_path) as file:
            assert content(file) == before
    else:
        with closing(read_journal(path, tmp_path)) as reader:
            assert not reader.is_live
            assert content(reader) == before
    assert not path.with_name(f"{path.name}-journal").exists()


def test_half_a_transaction_is_not_seen_while_its_runner_is_live(tmp_path: Path) -> None:
    path = tmp_path / JOURNAL_NAME
    with opened(tmp_path) as file:
        fill(file, 10)
    doing = "database.connection.execute('BEGIN IMMEDIATE');"
    doing += "database.connection.execute(\"UPDATE jobs SET state = 'stored'\")"
    with held(path, doing), closing(read_journal(path, tmp_path)) as reader:
        assert reader.is_live
        assert {job.state for job in reader.jobs()} == {JobState.SUBMITTED}


def test_a_killed_beginning_leaves_no_journal_or_a_whole_one(tmp_path: Path) -> None:
    path = tmp_path / JOURNAL_NAME
    path.with_name(f"{path.name}.new").write_bytes(b"SQLite format 3\0 and half of a page")
    path.with_name(f"{path.name}.new-journal").write_bytes(b"half a rollback")
    path.with_name(f"{path.name}-journal").write_bytes(b"of a file that is gone")
    with opened(tmp_path) as file:
        job_in(file, JobState.STORED)
    assert siblings(tmp_path) == [JOURNAL_NAME, f"{JOURNAL_NAME}.lock"]


# --- what cannot be used


def siblings(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@contextmanager
def untouched(path: Path) -> Generator[None]:
    """Make sure that a file and all beside it, but for the lock, is as it was."""

    def look() -> dict[str, tuple[bytes | str, float]]:
        return {
            each.name: (
                str(each.readlink()) if each.is_symlink() else each.read_bytes() * each.is_file(),
                each.lstat().st_mtime_ns,
            )
            for each in path.parent.iterdir()
            if each.suffix != ".lock" and not each.is_dir()
        }

    before = look()
    yield
    assert look() == before


def sound(folder: Path, jobs: int = 300) -> Path:
    with opened(folder) as file:
        fill(file, jobs)
    return folder / JOURNAL_NAME


def other_program(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE jobs (key)")
        db.execute("INSERT INTO jobs VALUES ('mine')")
        db.commit()


def later(path: Path) -> None:
    with opened(path.parent) as file:
        fill(file, 3)
        file._db.execute("PRAGMA user_version = 2")


def cut(size: int) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        sound(path.parent)
        os.truncate(path, size)

    return damage


def overwritten(at: int, piece: bytes) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        sound(path.parent)
        with path.open("r+b") as file:
            file.seek(at)
            file.write(piece)

    return damage


def dangling(path: Path) -> None:
    path.symlink_to(path.with_name("not-mounted") / "journal.db")


DAMAGED: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (Path.touch, r"is empty; it was not touched\. Restore a copy of it, or give another"),
    "a few bytes": (lambda path: path.write_bytes(b"SQLite"), "is damaged, or no journal at all;"),
    "a header": (cut(100), "is damaged"),
    "half a page": (cut(2000), "is damaged"),
    "a page": (cut(4096), "is damaged"),
    "half of it": (cut(5 * 4096), "is damaged"),
    "text": (lambda path: path.write_text("x" * 5000), "is damaged, or no journal at all;"),
    "zeros": (lambda path: path.write_bytes(bytes(8192)), "is damaged, or no journal at all;"),
    "wrong magic": (overwritten(0, b"SQLITE"), "is damaged, or no journal at all;"),
    "no page size": (overwritten(16, b"\0\0"), "is damaged"),
    "no schema": (overwritten(100, bytes(500)), "is damaged"),
    "another program's": (other_program, "is a database of another program; it was not touched"),
    "a later version": (later, r"by a later version .* \(format 2, this one knows 1\); install"),
    "a folder": (Path.mkdir, "Is a directory.*; choose another place with journal="),
    "a dangling link": (dangling, "is a link to what is not there; it was not touched"),
    "a link to itself": (lambda path: path.symlink_to(path), "is a link to what is not there"),
}


@pytest.mark.parametrize("damage", DAMAGED)
@pytest.mark.parametrize("how", ["run", "read"])
def test_a_file_that_cannot_be_used_is_refused_with_a_remedy_and_left_as_it_was(
    tmp_path: Path, damage: str, how: str
) -> None:
    path = tmp_path / JOURNAL_NAME
    make, message = DAMAGED[damage]
    make(path)
    is_nothing = how == "read" and "link" in damage
    with untouched(path):
        for _ in range(2):
            with pytest.raises(JournalError, match="does not exist" if is_nothing else message):
                (open_for_writing if how == "run" else open_for_reading)(path)
    # Nobody is kept out by the failure.
    with opened(tmp_path, name="another.db") as file:
        assert [*file.jobs()] == []


@pytest.mark.parametrize("page", range(12))
@pytest.mark.parametrize("piece", [bytes(16), b"\xff" * 16, random.Random(5).randbytes(16)])
def test_a_page_whose_beginning_is_damaged_is_found_when_the_journal_is_opened(
    tmp_path: Path, page: int, piece: bytes
) -> None:
    path = sound(tmp_path)
    assert path.stat().st_size >= 12 * 4096
    with path.open("r+b") as file:
        file.seek(page * 4096 + (100 if page == 0 else 0))
        file.write(piece)
    with untouched(path), pytest.raises(JournalError, match=r"is damaged.*it was not touched"):
        open_for_writing(path)


def test_damage_at_any_place_is_refused_or_does_no_harm(tmp_path: Path) -> None:
    """Random bytes in the middle of a text are not to be seen; all else is, or breaks nothing."""
    dice = random.Random(20261124)
    whole = sound(tmp_path).read_bytes()
    path = tmp_path / JOURNAL_NAME
    refused = 0
    for _ in range(150):
        piece = dice.randbytes(dice.choice((1, 4, 64, 3000)))
        at = dice.randrange(len(whole) - len(piece))
        path.write_bytes(whole[:at] + piece + whole[at + len(piece) :])
        with untouched(path):
            try:
                with opened(tmp_path) as file:
                    for job in file.jobs():
                        assert isinstance(job.state, JobState)
                    file.open_jobs()
                    file.charges()
                    pull(file, "A boat", {"key": "k7", "prompt": "A boat"})
            except JournalError:
                refused += 1
    assert 30 <= refused < 150


def test_a_state_that_nobody_knows_is_damage(file: JournalFile) -> None:
    job_in(file, JobState.NEW)
    file._db.execute("UPDATE jobs SET state = 'sold'")
    with pytest.raises(JournalError, match=r"is damaged \('sold' is not a valid JobState\)"):
        file.find("a")


def test_a_request_that_cannot_be_read_asks_for_nothing(file: JournalFile) -> None:
    job_in(file, JobState.NEW, "k")
    file._db.execute("UPDATE jobs SET request_text = '{'")
    [found] = pull(file, {"key": "k", "prompt": "A boat"})
    assert found.is_changed


@pytest.mark.parametrize("made_with", ["", "simulated"])
def test_play_money_and_real_money_are_not_mixed(tmp_path: Path, made_with: str) -> None:
    with opened(tmp_path, mark=made_with) as file:
        job = job_in(file, JobState.STORED)
    other = "" if made_with else "simulated"
    with (
        untouched(tmp_path / JOURNAL_NAME),
        pytest.raises(JournalError, match=r"money.*money.*; give each a folder of its own$"),
    ):
        open_for_writing(tmp_path / JOURNAL_NAME, mark=other)
    with opened(tmp_path, mark=made_with) as file:
        assert [*file.jobs()] == [job]
    with closing(read_journal(tmp_path / JOURNAL_NAME, tmp_path)) as reader:
        assert [*reader.jobs()] == [job]


def test_a_journal_that_is_not_there_is_made_to_be_run_and_not_to_be_read(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "deep"
    with pytest.raises(JournalError, match="does not exist; name the folder of a batch"):
        read_journal(folder / JOURNAL_NAME, folder)
    assert not folder.exists()
    with opened(folder) as file:
        assert [*file.jobs()] == []


@pytest.fixture
def nobody() -> Iterator[Path]:
    """Give up root for a while, in a folder that is somebody else's then."""
    if os.geteuid() != 0:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
        return
    with tempfile.TemporaryDirectory() as folder:
        os.chown(folder, 65534, -1)
        os.seteuid(65534)
        try:
            yield Path(folder)
        finally:
            os.seteuid(0)


def test_a_journal_without_permission_is_refused(nobody: Path) -> None:
    path = sound(nobody)
    path.chmod(0)
    try:
        with pytest.raises(JournalError, match=r"Permission denied.*; choose another place"):
            open_for_writing(path)
        with pytest.raises(JournalError, match="Permission denied"):
            read_journal(path, nobody)
    finally:
        path.chmod(0o644)
    with opened(nobody) as file:
        assert len(file.open_jobs()) == 300


def test_a_folder_that_cannot_be_written_is_refused_to_a_runner_and_can_be_read(
    nobody: Path,
) -> None:
    path = sound(nobody, 3)
    (nobody / f"{JOURNAL_NAME}.lock").unlink()
    nobody.chmod(0o555)
    try:
        with untouched(path), pytest.raises(JournalError, match="Permission denied"):
            open_for_writing(path)
        with closing(read_journal(path, nobody)) as reader:
            assert not reader.is_live
            assert len([*reader.jobs()]) == 3
    finally:
        nobody.chmod(0o755)


def test_a_journal_that_may_only_be_read_is_refused_to_a_runner(nobody: Path) -> None:
    path = sound(nobody, 3)
    path.chmod(0o444)
    with untouched(path), opened(nobody) as file, pytest.raises(JournalError, match="readonly"):
        intend(file, new_job())


# --- network file systems

MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro
23 22 0:21 / /proc rw,nosuid - proc proc rw
30 22 0:40 / /home rw - nfs4 server:/home rw,vers=4.2,addr=10.0.0.2
31 30 8:17 / /home/me/disk rw - xfs /dev/sdb1 rw
32 31 0:41 / /home/me/disk/far rw shared:7 master:3 - cifs //server/share rw,vers=3.1.1
33 22 8:1 /srv/videos /mnt/bound rw - ext4 /dev/sda1 rw
34 22 0:40 /me/videos /mnt/bound-far rw - nfs4 server:/home rw
35 22 0:42 / /mnt/my\\040films rw - fuse.sshfs me@host: rw
36 22 0:43 / /mnt/tab\\011line\\012back\\134slash rw - smb3 //s/s rw
37 22 0:44 / /mnt/\\134040 rw - ceph mon:/ rw
38 22 0:45 / /var/lib/docker/overlay2/x/merged rw - overlay overlay rw,lowerdir=/l,upperdir=/u
39 22 0:46 / /mnt/auto rw - autofs systemd-1 rw,fd=51
40 39 0:47 / /mnt/auto rw - nfs server:/auto rw
41 22 0:48 / /mnt/over rw - nfs server:/over rw
42 41 0:49 / /mnt/over rw - tmpfs tmpfs rw
43 22 0:50 / /mnt/optional rw shared:1 master:2 propagate_from:3 unbindable - fuse.rclone r: rw
44 22 0:51 / /mnt/no\u00a0break\u2028ing rw - glusterfs s:/v rw
45 22 0:52 / /mnt/caf\u00e9 rw - lustre mgs:/fs rw
46 22 0:53 / /mnt/minus\\040-\\040minus rw - 9p host rw
47 22 0:54 / /mnt/empty-source rw - beegfs  rw
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/", "ext4"),
        ("/srv/videos", "ext4"),
        ("/homely", "ext4"),
        ("/home", "nfs4"),
        ("/home/me", "nfs4"),
        ("/home/me/disk", "xfs"),
        ("/home/me/disk/a/b/c", "xfs"),
        ("/home/me/disk/far", "cifs"),
        ("/home/me/disk/farther", "xfs"),
        ("/mnt/bound/x", "ext4"),
        ("/mnt/bound-far", "nfs4"),
        ("/mnt/my films/x", "fuse.sshfs"),
        ("/mnt/my", "ext4"),
        ("/mnt/tab\tline\nback\\slash", "smb3"),
        ("/mnt/\\040", "ceph"),
        ("/var/lib/docker/overlay2/x/merged/videos", "overlay"),
        ("/mnt/auto/x", "nfs"),
        ("/mnt/over", "tmpfs"),
        ("/mnt/optional", "fuse.rclone"),
        ("/mnt/no\u00a0break\u2028ing/x", "glusterfs"),
        ("/mnt/caf\u00e9", "lustre"),
        ("/mnt/minus - minus", "9p"),
        ("/mnt/empty-source", "beegfs"),
    ],
)
def test_the_file_system_of_a_folder_is_the_innermost_and_newest_mount(
    tmp_path: Path, folder: str, kind: str
) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_bytes(os.fsencode(MOUNTS))
    assert file_system(Path(folder), mounts) == kind


@pytest.mark.parametrize(
    "table",
    [
        b"",
        b"\n\n",
        b"garbage",
        b"22 1 8:1 / ",
        b"22 1 8:1 / / rw",
        b"22 1 8:1 / / rw - ",
        b"22 1 8:1 / /elsewhere rw - nfs s: rw",
        b"\xff\xfe - \xff",
    ],
)
def test_where_nobody_tells_a_file_system_is_not_known(tmp_path: Path, table: bytes) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_bytes(table)
    assert file_system(Path("/home"), mounts) is None
    refuse_network(tmp_path, mounts)


def test_a_name_that_is_no_text_is_compared_as_bytes(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_bytes(b"22 1 8:1 / / rw - ext4 d rw\n23 1 0:1 / /\xff\xe9 rw - nfs s: rw\n")
    assert file_system(Path(os.fsdecode(b"/\xff\xe9/x")), mounts) == "nfs"
    assert file_system(Path(os.fsdecode(b"/\xff")), mounts) == "ext4"


def test_without_a_table_of_mounts_nothing_is_refused(tmp_path: Path) -> None:
    refuse_network(tmp_path, tmp_path / "missing")
    refuse_network(tmp_path, tmp_path)


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "ceph", "lustre"])
def test_a_network_file_system_is_refused_with_a_remedy(tmp_path: Path, kind: str) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"1 0 8:1 / / rw - ext4 d rw\n2 1 0:2 / {tmp_path}/real rw - {kind} s rw\n")
    for folder in ("real", "link"):
        with pytest.raises(
            JournalError,
            match=rf"on a network file system \({re.escape(kind)}\).*keep it on a local disk with",
        ):
            refuse_network(tmp_path / folder, mounts)
    refuse_network(tmp_path, mounts)


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "fuseblk"])
def test_a_disk_of_this_machine_is_taken(tmp_path: Path, kind: str) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"1 0 8:1 / / rw - {kind} d rw\n")
    refuse_network(tmp_path, mounts)


@pytest.mark.skipif(sys.platform != "linux", reason="it is Linux that tells")
def test_this_machine_says_of_its_own_memory_what_it_is() -> None:
    assert file_system(Path("/proc/self"), Path("/proc/self/mountinfo")) == "proc"


# --- in an event loop

PAUSE = 0.01


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    made = await Journal.open(tmp_path / JOURNAL_NAME, tmp_path)
    try:
        yield made
    finally:
        await made.aclose()


async def test_every_step_is_done_in_one_thread(journal: Journal) -> None:
    def where(_: JournalFile) -> str:
        return threading.current_thread().name

    names = {await journal.do(where) for _ in range(10)}
    assert len(names) == 1
    assert names != {threading.current_thread().name}


async def test_steps_come_in_the_order_in_which_they_were_asked_for(journal: Journal) -> None:
    seen: list[int] = []
    async with asyncio.TaskGroup() as group:
        for number in range(50):
            group.create_task(journal.do(lambda _, number: seen.append(number), number))
    assert seen == [*range(50)]


async def test_a_step_that_is_cancelled_is_done_and_the_next_one_works(journal: Journal) -> None:
    begun, may_end = threading.Event(), threading.Event()

    def slow(file: JournalFile) -> Job:
        begun.set()
        assert may_end.wait(60)
        return intend(file, new_job())

    task = asyncio.create_task(journal.do(slow))
    while not begun.is_set():
        await asyncio.sleep(0)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    job = await journal.do(JournalFile.find, "a")
    assert job is not None
    assert job.state is JobState.INTENT
    assert (await journal.do(JournalFile.accepted, job, "task", now=0.0)).task_id == "task"


async def test_a_step_that_is_cancelled_before_its_turn_is_done_all_the_same(
    journal: Journal,
) -> None:
    may_go = threading.Event()
    first = asyncio.create_task(journal.do(lambda _: may_go.wait(60)))
    await asyncio.sleep(0)
    second = asyncio.create_task(journal.do(intend, new_job()))
    await asyncio.sleep(0)
    second.cancel()
    may_go.set()
    assert await first
    with pytest.raises(asyncio.CancelledError):
        await second
    assert await journal.do(JournalFile.find, "a") is not None


@pytest.mark.parametrize("turns", range(8))
async def test_opening_that_is_cancelled_leaves_no_lock_and_no_thread(
    tmp_path: Path, turns: int
) -> None:
    before = descriptors()
    task = asyncio.create_task(Journal.open(tmp_path / JOURNAL_NAME, tmp_path))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await (await task).aclose()
    for thread in ours():
        thread.join(10)
    assert not ours()
    assert descriptors() == before
    journal = await Journal.open(tmp_path / JOURNAL_NAME, tmp_path)
    await journal.aclose()


async def test_opening_that_fails_leaves_no_lock_and_no_thread(tmp_path: Path) -> None:
    path = tmp_path / JOURNAL_NAME
    path.write_bytes(b"damaged")
    before = descriptors()
    with pytest.raises(JournalError, match="is damaged"):
        await Journal.open(path, tmp_path)
    for thread in ours():
        thread.join(10)
    assert not ours()
    assert descriptors() == before
    path.unlink()
    await (await Journal.open(path, tmp_path)).aclose()


def ours() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name.startswith("veo_async_journal")]


def descriptors() -> set[str]:
    """Return the open files of this process that are journals or their locks."""
    folder = Path("/proc/self/fd")
    if not folder.exists():
        return set()
    found: set[str] = set()
    for each in folder.iterdir():
        with suppress(OSError):
            found.add(str(each.readlink()))
    return {name for name in found if JOURNAL_NAME in name}


@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_a_closed_journal_leaves_no_thread_and_no_file(
    tmp_path: Path, is_cancelled: bool
) -> None:
    journal = await Journal.open(tmp_path / JOURNAL_NAME, tmp_path)
    await journal.do(intend, new_job())
    assert ours()
    assert bool(descriptors()) is Path("/proc/self/fd").exists()
    closing_ = asyncio.create_task(journal.aclose())
    await asyncio.sleep(0)
    if is_cancelled:
        closing_.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing_
    else:
        await closing_
    assert not ours()
    assert not descriptors()


async def test_closing_waits_for_the_steps_that_were_asked_for(tmp_path: Path) -> None:
    journal = await Journal.open(tmp_path / JOURNAL_NAME, tmp_path)
    steps = [asyncio.create_task(journal.do(intend, new_job(str(n)))) for n in range(5)]
    await asyncio.sleep(0)
    await journal.aclose()
    assert [(await step).state for step in steps] == [JobState.INTENT] * 5


async def test_a_journal_that_fails_is_told_and_not_tried_again(journal: Journal) -> None:
    tries: list[int] = []

    def fails(file: JournalFile) -> None:
        tries.append(1)
        with breaking(file, "jobs"):
            intend(file, new_job())

    with pytest.raises(JournalError, match=r"it broke.*; look at the disk"):
        await journal.do(fails)
    assert tries == [1]
    assert (await journal.do(intend, new_job())).state is JobState.INTENT


async def test_what_is_no_failure_of_the_journal_is_raised_as_it_is(journal: Journal) -> None:
    with pytest.raises(LookupError, match="STORED cannot happen"):
        await journal.do(JournalFile.stored, new_job(), size=1, sha256="", now=0.0)


class Told(logging.Handler):
    """Counts the warnings, and wakes who waits for them."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []
        self.news = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())
        self.news.set()


@pytest.fixture
def told() -> Iterator[Told]:
    handler = Told()
    logger = logging.getLogger("veo_async")
    logger.addHandler(handler)
    try:
        yield handler
    finally:
        logger.removeHandler(handler)


async def test_a_full_disk_is_waited_for_and_nothing_is_lost(tmp_path: Path, told: Told) -> None:
    file = JournalFile(open_for_writing(tmp_path / JOURNAL_NAME), tmp_path)
    journal = Journal(file, ThreadPoolExecutor(1), pause=PAUSE)
    try:
        job = await journal.do(intend, new_job())
        await journal.do(full_at_once)
        lost = asyncio.create_task(journal.do(JournalFile.lost, job, LONG))
        await told.news.wait()
        told.news.clear()
        await told.news.wait()  # and once more
        assert "is full" in told.texts[0]
        assert told.texts[0].endswith("; free some space, and it goes on by itself")
        # It is still to be read, and nothing of the step is there.
        assert await journal.do(JournalFile.find, "a") == job
        assert not lost.done()
        await journal.do(room_again)
        assert (await lost).error == LONG["error"]
    finally:
        await journal.aclose()
    with opened(tmp_path) as again:
        assert [job.state for job in again.jobs()] == [JobState.UNKNOWN]


async def test_a_paid_task_is_written_down_once_no_other_program_keeps_the_file(
    tmp_path: Path, told: Told
) -> None:
    file = JournalFile(open_for_writing(tmp_path / JOURNAL_NAME), tmp_path)
    journal = Journal(file, ThreadPoolExecutor(1))
    try:
        job = new_job(prompt="A secret")
        job = await journal.do(
            JournalFile.intend, job, token="hidden", credits_=60, name="v.mp4", now=1.0
        )
        with kept(file, "IMMEDIATE"):
            accepted = asyncio.create_task(
                journal.do(JournalFile.accepted, job, "veo_task_1", now=1.0)
            )
            async with asyncio.timeout(20):
                await told.news.wait()
                told.news.clear()
                await told.news.wait()  # and once more
            assert not accepted.done()
        assert (await accepted).task_id == "veo_task_1"
        assert told.texts[0].startswith("task veo_task_1 is paid, and the journal cannot be writ")
        shown = "".join([*told.texts, repr(job), repr(await accepted)])
        assert not re.search("secret|hidden", shown)
    finally:
        await journal.aclose()


async def test_who_waits_for_a_full_disk_can_be_cancelled(tmp_path: Path, told: Told) -> None:
    file = JournalFile(open_for_writing(tmp_path / JOURNAL_NAME), tmp_path)
    journal = Journal(file, ThreadPoolExecutor(1), pause=3600.0)
    try:
        job = await journal.do(intend, new_job())
        await journal.do(full_at_once)
        lost = asyncio.create_task(journal.do(JournalFile.lost, job, LONG))
        await told.news.wait()
        lost.cancel()
        with pytest.raises(asyncio.CancelledError):
            await lost
        assert await journal.do(JournalFile.find, "a") == job
    finally:
        await journal.aclose()


# --- a large one


def test_a_journal_of_a_hundred_thousand_jobs_opens_and_finds_them_all(tmp_path: Path) -> None:
    count, chunk = 100_000, 16
    with opened(tmp_path) as file:
        fill(file, count)
    drafts = (
        Draft(position=number, source="A boat", request=REQUEST, identity=f"k{number}")
        for number in range(1, count + 2)
    )
    with opened(tmp_path) as file:
        assert file.charges() == Charges(total=60 * count, failed=0)
        found = 0
        while chunked := [*islice(drafts, chunk)]:
            found += sum(
                one.job is not None and one.job.task_id == f"task-{one.draft.position}"
                for one in file.look_up(chunked)
            )
        assert found == count
        assert sum(1 for _ in file.jobs()) == count
        assert file.find("k50000-2") is None


def test_the_usual_names_of_a_batch_are_taken_from_its_inputs(file: JournalFile) -> None:
    names = [
        intend(file, new_job(key, prompt), name=Naming().name(place, key, VideoRequest(prompt)))
        for place, (key, prompt) in enumerate([("a", "A boat"), ("b", "紙の舟")], 1)
    ]
    assert [job.file for job in names] == ["0001-a-boat.mp4", "0002.mp4"]
