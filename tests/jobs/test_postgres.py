"""The journal in PostgreSQL: the same steps, by many hosts, whatever happens to the server."""

import logging
import signal
import subprocess
import sys
import threading
import traceback
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import psycopg
import pytest

from tests.flows.batches import LONG, client_of, paid_once, service
from tests.io.test_journal import LEGAL, STEPS, WAYS, named
from tests.jobs import postgres_server
from tests.jobs.postgres_server import PASSWORD, Server
from tests.jobs.test_run_job import intent, new
from veo_async import (
    ConfigurationError,
    JobResult,
    JournalError,
    SubmitUncertainError,
    Timeouts,
    ValidationError,
    VideoRequest,
)
from veo_async.integrations.postgres import PostgresJournal
from veo_async.jobs import Job
from veo_async.protocol.jobs import JobState, JobStep, advance
from veo_async.shared import Owner, SharedJournalFile
from veo_async.store import MovedError, UnreachableError

pytestmark = pytest.mark.anyio


def sharing(dsn: str, folder: Path, *, schema: str = "veo_async") -> SharedJournalFile:
    journal = PostgresJournal(dsn, schema=schema)
    return SharedJournalFile(journal.open_store("simulated"), folder, Owner.new())


@pytest.fixture(scope="module")
def steps(server: Server) -> str:
    return server.database("steps")


@pytest.fixture
def file(steps: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[SharedJournalFile]:
    """Return an empty journal."""
    with closing(sharing(steps, tmp_path)) as one:
        one._db.execute("TRUNCATE jobs, attempts, claims")
        yield one


def job_in(file: SharedJournalFile, state: JobState, key: str) -> Job:
    file.claim(key, seconds=60)
    job = new(key)
    for step in WAYS[state]:
        job = taken(file, job, step)
    assert job.state is state
    return job


def taken(file: SharedJournalFile, job: Job, step: JobStep) -> Job:
    if step is JobStep.INTENDED:
        token = f"{job.key} {len(job.attempts)}"
        return file.intend(job, token=token, credits_=60, name="V.mp4", now=100.0)
    return STEPS[step](file, job)


@pytest.mark.parametrize(("state", "step"), LEGAL, ids=named(LEGAL))
def test_each_step_is_there_for_all_when_it_returns(
    file: SharedJournalFile, steps: str, tmp_path: Path, state: JobState, step: JobStep
):
    job = job_in(file, state, "a")
    other = job_in(file, JobState.SUBMITTED, "other")
    after = taken(file, job, step)
    assert after.state is advance(state, step)
    with closing(sharing(steps, tmp_path)) as elsewhere:
        assert [*elsewhere.jobs()] == [after, other]
        assert elsewhere.find("a") == after
        if after.task_id is not None:
            assert elsewhere.of_task(after.task_id) is not None
        assert elsewhere.charges().total == sum(job.charged for job in (after, other))


def test_names_of_files_are_told_apart_as_a_folder_does(file: SharedJournalFile):
    one = job_in(file, JobState.SUBMITTED, "a")
    file.claim("b", seconds=60)
    other = file.intend(new("b"), token="t", credits_=60, name="v.MP4", now=1.0)
    assert (one.file, other.file) == ("V.mp4", "v-2.MP4")


def test_words_that_a_database_does_not_take_are_kept_all_the_same(file: SharedJournalFile):
    job = job_in(file, JobState.INTENT, "a ? % ' é")
    after = file.lost(job, {"error": "a \0 NUL, half \ud800 a character, 100 % ? of it"})
    assert after.error == "a \\x00 NUL, half \\ud800 a character, 100 % ? of it"
    assert after.key == "a ? % ' é"


def test_owners_exclude_each_other(file: SharedJournalFile, steps: str, tmp_path: Path):
    with closing(sharing(steps, tmp_path)) as other:
        assert file.claim("a", seconds=60).holder is None
        assert other.claim("a", seconds=60).holder is not None
        file.claim("a", seconds=0.0)
        taken_over = other.claim("a", seconds=60)
        assert taken_over.holder is None
        with pytest.raises(MovedError):
            file.intend(new("a"), **intent("late"))
        other.intend(new("a"), **intent("token"))
        other.release_all()
        assert [job.key for job in file.orphans(seconds=15)] == ["a"]
        file.claim("a", seconds=15)
        assert other.orphans(seconds=15) == []


def test_many_workers_make_the_tables_once(dsn: str, tmp_path: Path):
    errors: list[BaseException] = []
    begin = threading.Barrier(8)

    def work() -> None:
        try:
            begin.wait(20)
            sharing(dsn, tmp_path).close()
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_a_later_format_is_refused(dsn: str, tmp_path: Path):
    with closing(sharing(dsn, tmp_path)) as file:
        file._db.execute("UPDATE meta SET value = '2' WHERE name = 'version'")
    with pytest.raises(JournalError, match=r"is of format 2, and this version .* knows 1; install"):
        sharing(dsn, tmp_path)


def test_play_money_and_real_money_do_not_mix(dsn: str, tmp_path: Path):
    sharing(dsn, tmp_path).close()
    with pytest.raises(JournalError, match=r"play money .* give each a schema of its own"):
        PostgresJournal(dsn).open_store("")
    PostgresJournal(dsn, schema="another").open_store("").close()


@pytest.mark.parametrize("schema", ["", "Veo", "veo-async", 'v"', "1a", "x" * 64])
def test_a_schema_has_a_plain_name(schema: str):
    with pytest.raises(ConfigurationError, match="give lower-case letters"):
        PostgresJournal(schema=schema)


def test_a_password_is_never_shown(server: Server, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    journal = PostgresJournal(server.dsn(password=PASSWORD))
    assert repr(journal) == (
        f"<PostgresJournal host=127.0.0.1 port={server.port} dbname=postgres schema=veo_async>"
    )
    told = [repr(journal), repr(vars(journal))]
    wrong = server.dsn("absent", password=PASSWORD)
    gone = f"postgresql://u:{PASSWORD.replace(' ', '%20')}@127.0.0.1:1/x"
    for dsn in (wrong, gone):
        with pytest.raises(UnreachableError, match="see to the server") as caught:
            PostgresJournal(dsn).open_store("")
        told.append(_all_of(caught.value))
    with pytest.raises(ConfigurationError, match="give one such as postgresql://") as refused:
        PostgresJournal(f"host=x password={PASSWORD}")
    told.append(_all_of(refused.value))
    said = "\n".join([*told, caplog.text])
    assert PASSWORD not in said
    assert PASSWORD.replace(" ", "%20") not in said


def _all_of(error: BaseException) -> str:
    """Return all that a crash report may show of an error, but for this file's own frames."""
    told = traceback.TracebackException.from_exception(error, capture_locals=True)
    ours = [frame for frame in told.stack if frame.filename != __file__]
    return "".join([*told.format_exception_only(), *map(repr, (frame.locals for frame in ours))])


# --- a server that goes and comes


def test_a_connection_that_was_cut_is_made_anew(file: SharedJournalFile, steps: str):
    job = job_in(file, JobState.INTENT, "a")
    with psycopg.connect(steps, autocommit=True) as other:
        _cut(other)
    with pytest.raises(UnreachableError):
        file.accepted(job, "veo_task_1", now=1.0)
    assert file.accepted(job, "veo_task_1", now=1.0).task_id == "veo_task_1"


@pytest.mark.parametrize("limit", ["lock_timeout", "statement_timeout"])
def test_a_step_that_waited_too_long_for_its_turn_can_be_taken_again(
    file: SharedJournalFile, steps: str, limit: str
):
    job = job_in(file, JobState.INTENT, "a")
    file._db.execute(f"SET {limit} TO '50ms'")
    with psycopg.connect(steps, autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(%s)", (zlib.crc32(b"veo_async"),))
        with pytest.raises(UnreachableError, match="timeout"):
            file.accepted(job, "veo_task_1", now=1.0)
        assert file.find("a") == job
    assert file.accepted(job, "veo_task_1", now=1.0).task_id == "veo_task_1"


def test_what_is_only_read_is_read_over_a_new_connection(file: SharedJournalFile, steps: str):
    job = job_in(file, JobState.INTENT, "a")
    with psycopg.connect(steps, autocommit=True) as other:
        _cut(other)
    with pytest.raises(UnreachableError):
        file.find("a")
    assert file.find("a") == job


def test_a_transaction_does_not_go_on_over_another_connection(file: SharedJournalFile, steps: str):
    def add(key: str) -> None:
        file._db.execute("INSERT INTO meta VALUES (?, '')", (key,))

    def add_with_a_cut(other: psycopg.Connection[Any]) -> None:
        with file._transaction():
            add("first")
            _cut(other)
            with pytest.raises(psycopg.OperationalError):
                add("second")
            add("third")

    with psycopg.connect(steps, autocommit=True) as other:
        with pytest.raises(UnreachableError, match="closed"):
            add_with_a_cut(other)
        found = other.execute("SELECT name FROM veo_async.meta WHERE value = ''").fetchall()
        assert found == []


def _cut(connection: psycopg.Connection[Any]) -> None:
    connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
        " AND pid <> pg_backend_pid()"
    )


@pytest.mark.parametrize("is_done", [True, False], ids=["done", "not done"])
@pytest.mark.parametrize("step", [JobStep.INTENDED, JobStep.ACCEPTED, JobStep.LOST])
def test_a_commit_of_unknown_outcome_is_looked_at(
    file: SharedJournalFile, steps: str, step: JobStep, is_done: bool
):
    """Its answer is lost; the same step once more finds out, and does it where it was not done."""
    state = JobState.NEW if step is JobStep.INTENDED else JobState.INTENT
    job = job_in(file, state, "a")
    speaker = file._db
    real = speaker.execute

    class Cut:
        def execute(self, text: str, parameters: Any = ()) -> Any:
            if text == "COMMIT":
                if is_done:
                    real(text)
                raise psycopg.OperationalError("the connection was lost")
            return real(text, parameters)

    file._db = Cut()
    with pytest.raises(UnreachableError):
        taken(file, job, step)
    file._db = speaker
    found = file.find("a")
    assert (found is not None and found.state is advance(state, step)) is is_done
    after = taken(file, job, step)
    assert after.state is advance(state, step)
    assert len(after.attempts) == 1
    assert file.find("a") == after


async def test_a_server_that_is_gone_before_the_post_keeps_it_from_leaving(tmp_path: Path):
    with postgres_server.running() as server:
        journal = PostgresJournal(server.dsn())
        async with service() as sim, client_of(sim) as veo:
            await veo.run_job("a", "A boat", directory=tmp_path, journal=journal)
            server.stop()
            with anyio.move_on_after(0.7):
                await veo.run_job("b", "B boat", directory=tmp_path, journal=journal)
            paid_once(sim, ["A boat"])
            server.start()
            done = await veo.run_job("b", "B boat", directory=tmp_path, journal=journal)
            assert done.path is not None
            paid_once(sim, ["A boat", "B boat"])


async def test_what_is_paid_while_the_server_is_gone_is_written_down_when_it_is_back(
    tmp_path: Path, until: Any, caplog: pytest.LogCaptureFixture
):
    with postgres_server.running() as server:
        journal = PostgresJournal(server.dsn())
        faults = ["generate:delay=1500"]
        async with service(faults=faults) as sim, client_of(sim) as veo:
            results: list[JobResult] = []

            async def deliver(key: str) -> None:
                results.append(
                    await veo.run_job(key, f"{key} boat", directory=tmp_path, journal=journal)
                )

            async with anyio.create_task_group() as group:
                for key in ("a", "b", "c"):
                    group.start_soon(deliver, key)
                await until(lambda: _states(server.dsn()) == ["intent"] * 3)
                await anyio.to_thread.run_sync(server.stop, signal.SIGKILL)
                await until(lambda: caplog.text.count("is paid, and the journal cannot be") >= 3)
                await anyio.to_thread.run_sync(server.start)
            assert {result.key for result in results} == {"a", "b", "c"}
            assert _states(server.dsn()) == ["stored"] * 3
            paid_once(sim, ["a boat", "b boat", "c boat"])


def _states(dsn: str) -> list[str]:
    with psycopg.connect(dsn) as connection:
        try:
            rows = connection.execute("SELECT state FROM veo_async.jobs").fetchall()
        except psycopg.errors.UndefinedTable:
            return []
    return [state for (state,) in rows]


# --- run_job


async def test_workers_of_several_hosts_share_a_job(dsn: str, tmp_path: Path):
    folders = [tmp_path / "one", tmp_path / "other"]
    async with service() as sim, client_of(sim) as one, client_of(sim) as other:
        results: list[JobResult] = []

        async def deliver(veo: Any, folder: Path) -> None:
            results.append(
                await veo.run_job(
                    "a", "A boat", directory=folder, journal=PostgresJournal(dsn), until="ready"
                )
            )

        async with anyio.create_task_group() as group:
            for veo, folder in zip((one, other) * 5, folders * 5, strict=True):
                group.start_soon(deliver, veo, folder)
        assert len({result.task_id for result in results}) == 1
        done = await other.run_job("a", directory=folders[1], journal=PostgresJournal(dsn))
        assert done.path == folders[1] / "a.mp4"
        assert done.request == VideoRequest("A boat")
        paid_once(sim, ["A boat"])


async def test_a_lost_answer_stays_uncertain_on_every_host(dsn: str, tmp_path: Path):
    faults = ["generate:lose_answer:times=1"]
    async with service(generation_seconds=LONG, faults=faults) as sim:
        for _ in range(2):
            async with client_of(sim, max_tasks=1) as veo:
                with pytest.raises(SubmitUncertainError):
                    await veo.run_job(
                        "a", "A boat", directory=tmp_path, journal=PostgresJournal(dsn)
                    )
                assert veo.statistics().slots_in_use == 1
        assert len(sim.ledger) == 1


# --- what people look at


def cli(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "veo_async.cli", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_person_lists_the_jobs_and_settles_those_that_are_uncertain(dsn: str, tmp_path: Path):
    url = _url(dsn)
    with closing(sharing(dsn, tmp_path)) as file:
        for key in ("known", "not made", "busy"):
            file.claim(key, seconds=15)
            job = file.intend(new(key), **intent(key))
            if key != "busy":
                file.lost(job, {"error_kind": "SubmitUncertainError", "error": "the line broke"})
                file.release(key)
        secret = url.replace("postgres@", "postgres:secret@")
        listed = cli("jobs", str(tmp_path), "--unknown", "--journal", secret)
        assert url in listed.stderr
        assert "secret" not in listed.stdout + listed.stderr
        assert "the line broke" in listed.stdout
        assert "resolve" in listed.stderr
        words = ["resolve", str(tmp_path), "--journal", url]
        assert cli(*words, "known", "--task-id", "veo_task_1").returncode == 0
        assert cli(*words, "not made", "--not-created").returncode == 0
        busy = cli(*words, "busy", "--not-created")
        assert busy.returncode != 0
        assert "is worked on by process" in busy.stderr
        states = {job.key: (job.state.value, job.task_id) for job in file.jobs()}
    assert states == {
        "known": ("submitted", "veo_task_1"),
        "not made": ("new", None),
        "busy": ("intent", None),
    }
    gone = cli("jobs", str(tmp_path), "--journal", url.replace("/test_", "/absent_"))
    assert "see to the server" in gone.stderr


def _url(dsn: str) -> str:
    told = psycopg.conninfo.conninfo_to_dict(dsn)
    return f"postgresql://postgres@{told['host']}:{told['port']}/{told['dbname']}"


@pytest.mark.parametrize("module", ["postgres", "pgqueuer"])
def test_a_missing_extra_is_named(module: str):
    code = (
        "import sys; sys.modules['psycopg'] = None\n"
        "import veo_async\n"
        f"try:\n from veo_async.integrations import {module} as it\n it.PostgresJournal('')\n"
        "except veo_async.ConfigurationError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert f'pip install "veo-async[{module}]"' in done.stdout


def test_the_package_is_imported_without_it():
    code = (
        "import sys, veo_async; from veo_async import PostgresJournal, VeoClient; VeoClient('k');"
        "assert not {'psycopg', 'pgqueuer'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


async def test_a_film_goes_on_at_another_host_and_keeps_its_steps_when_it_is_changed(
    dsn: str, tmp_path: Path
) -> None:
    journal = PostgresJournal(dsn)
    faults = ["extend:status=422:times=1:match=four", "extend:status=429:match=two"]
    async with service(dialect="live", faults=faults) as sim:
        film = VideoRequest("one", extend_to=["two", "three", "four"])
        # A busy machine may take its time for the answer to what has left.
        async with client_of(sim, timeouts=Timeouts(response=10.0, close=10.0)) as veo:
            with anyio.move_on_after(0.5):
                await veo.run_job("film", film, directory=tmp_path / "a", journal=journal)
        sim.clear_faults()
        sim.add_fault(faults[0])
        async with client_of(sim) as veo:
            with pytest.raises(ValidationError, match="step 4 of 4 of the film"):
                await veo.run_job("film", film, directory=tmp_path / "b", journal=journal)
            other = film.evolve(extend_to=["two", "other"])
            done = await veo.run_job("film", other, directory=tmp_path / "b", journal=journal)
        assert [charge.prompt for charge in sim.ledger] == ["one", "two", "three", "other"]
        assert done.task_id == sim.ledger[3].task_id
        with closing(sharing(dsn, tmp_path)) as file:
            job = file.find("film")
            assert job is not None
            assert [step.end for step in job.attempts] == [
                "success", "success", "replaced", "success",
            ]  # fmt: skip
