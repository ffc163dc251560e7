"""Jobs on pgqueuer: enqueued by a web request, made and fetched by workers that may die."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import psycopg
import pytest
from aiohttp import ClientSession, web
from pgqueuer import Queries
from pgqueuer.adapters.drivers.psycopg import PsycopgDriver

from tests.flows.batches import LONG, client_of, paid_once, service, videos
from tests.jobs.crew import crew, judge, killed_until
from tests.jobs.postgres_server import Server
from tests.jobs.test_kills import in_server
from tests.test_readme import example
from veo_async import ConfigurationError, InvalidRequestError, Timeouts, VideoRequest
from veo_async.integrations.pgqueuer import (
    GENERATE,
    Standing,
    enqueue,
    install,
    standing,
    work,
)
from veo_async.integrations.pgqueuer_queue import Connection
from veo_async.integrations.postgres import PostgresJournal
from veo_async.simulator import Simulator

pytestmark = pytest.mark.anyio

Until = Callable[[Callable[[], bool]], Awaitable[None]]
COMMAND = [sys.executable, "-m", "veo_async.integrations.pgqueuer"]


@asynccontextmanager
async def connected(dsn: str) -> AsyncGenerator[Connection]:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        yield connection


@pytest.fixture
async def queue(dsn: str) -> AsyncGenerator[Connection]:
    """Return a connection to a database with an empty queue."""
    async with connected(dsn) as connection:
        await install(connection)
        yield connection


@asynccontextmanager
async def working(
    sim: Simulator, folder: Path, dsn: str, client: dict[str, Any] | None = None, **more: Any
) -> AsyncGenerator[None]:
    """Have one worker in this process while inside."""
    usual: dict[str, Any] = {"heartbeat": 2.0, "uncertain": 0.2, "drain": 0.3}
    stop = asyncio.Event()
    async with (
        client_of(sim, max_tasks=1000, **client or {}) as veo,
        anyio.create_task_group() as group,
    ):

        async def run() -> None:
            await work(
                veo,
                directory=folder,
                journal=PostgresJournal(dsn),
                stop=stop,
                **usual | more,
            )

        group.start_soon(run)
        try:
            yield
        finally:
            stop.set()


async def stood(queue: Connection, key: str, is_so: Callable[[Standing], bool]) -> Standing:
    """Wait until a job stands where it is wanted."""
    with anyio.fail_after(30):
        while not is_so(told := await standing(queue, key)):
            await anyio.sleep(0.05)
    return told


def is_done(told: Standing) -> bool:
    return told.state == "stored" and told.queued is None


def is_held(told: Standing) -> bool:
    return told.queued == "failed"


async def test_a_job_is_made_and_fetched(tmp_path: Path, dsn: str, queue: Connection):
    assert await standing(queue, "a") == Standing(key="a")
    assert await enqueue(queue, "a", "A boat", seed=12345)
    assert await standing(queue, "a") == Standing(key="a", queued="queued", entrypoint=GENERATE)
    async with service() as sim:
        async with working(sim, tmp_path, dsn):
            told = await stood(queue, "a", is_done)
        paid_once(sim, ["A boat"])
        assert told.task_id == sim.ledger[0].task_id
    assert videos(tmp_path) == ["a.mp4"]


async def test_a_key_is_in_the_queue_once(queue: Connection):
    assert await enqueue(queue, "a", VideoRequest("A boat"))
    assert not await enqueue(queue, "a", VideoRequest("A boat"))
    assert await enqueue(queue, "b", VideoRequest("A boat"))


async def test_a_job_of_a_transaction_that_is_rolled_back_never_was(dsn: str, queue: Connection):
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        await enqueue(connection, "a", "A boat")
        await connection.rollback()
        await enqueue(connection, "b", "A boat")
        await connection.commit()
    assert (await standing(queue, "a")).queued is None
    assert (await standing(queue, "b")).queued == "queued"


async def test_a_request_that_breaks_a_rule_is_not_enqueued(queue: Connection):
    with pytest.raises(InvalidRequestError):
        await enqueue(queue, "a", "")
    with pytest.raises(InvalidRequestError, match="seed was given beside"):
        await enqueue(queue, "a", VideoRequest("A boat"), seed=12345)
    with pytest.raises(InvalidRequestError, match="key is ''"):
        await enqueue(queue, "", "A boat")
    assert (await standing(queue, "a")).queued is None


async def test_a_failed_job_is_held_with_its_reason(tmp_path: Path, dsn: str, queue: Connection):
    await enqueue(queue, "a", "A boat [fail]")
    async with service() as sim:
        async with working(sim, tmp_path, dsn):
            told = await stood(queue, "a", is_held)
            assert told.state == "failed"
            assert told.error
            # Somebody lets it go again: it fails again, and costs nothing.
            held = await Queries(PsycopgDriver(queue)).list_failed_jobs()
            await Queries(PsycopgDriver(queue)).requeue_jobs([held[0].id])
            await stood(queue, "a", is_held)
        assert len(sim.ledger) == 1


async def test_a_lost_answer_keeps_its_place_as_long_as_it_may_run_and_is_held_then(
    tmp_path: Path, dsn: str, queue: Connection
):
    await enqueue(queue, "a", "A boat")
    await enqueue(queue, "b", "B boat")
    faults = ["generate:lose_answer:times=1"]
    async with service(generation_seconds=LONG, faults=faults) as sim:
        async with working(sim, tmp_path, dsn, uncertain=1000.0, heartbeat=0.5, tasks=1):
            await stood(queue, "a", lambda told: told.state == "unknown")
            beats = {await _beat(queue)}
            with anyio.fail_after(20):
                while len(beats) < 4:
                    await anyio.sleep(0.05)
                    beats.add(await _beat(queue))
            assert (await standing(queue, "a")).queued == "picked"
            assert (await standing(queue, "b")).queued == "queued"
        assert (await standing(queue, "a")).queued == "queued"
        assert len(sim.ledger) == 1
        async with working(sim, tmp_path, dsn, tasks=1):
            told = await stood(queue, "a", is_held)
            assert told.state == "unknown"
            assert told.error
            await stood(queue, "b", lambda told: told.state == "submitted")
        assert len(sim.ledger) == 2


async def test_a_lost_answer_takes_its_place_again_after_its_worker_was_told_to_stop(
    tmp_path: Path, dsn: str, queue: Connection
):
    await enqueue(queue, "a", "A boat")
    faults = ["generate:lose_answer:times=1"]
    async with service(generation_seconds=LONG, faults=faults) as sim:
        async with working(sim, tmp_path, dsn, uncertain=1000.0, tasks=1):
            await stood(queue, "a", lambda told: told.state == "unknown")
            await enqueue(queue, "b", "B boat", priority=5)
        async with working(sim, tmp_path, dsn, uncertain=1000.0, tasks=1):
            assert await _picked(queue, 1) == ["veo.generate:a"]
        assert len(sim.ledger) == 1


async def _picked(queue: Connection, count: int) -> list[str]:
    """Wait until so many jobs are picked; return what they are."""
    picked: list[str] = []
    with anyio.fail_after(20):
        while len(picked) < count:
            await anyio.sleep(0.02)
            found = await queue.execute(
                "SELECT dedupe_key FROM pgqueuer WHERE status = 'picked' ORDER BY 1"
            )
            picked = [row[0] for row in await found.fetchall()]
    return picked


async def test_tasks_of_a_stopped_worker_keep_their_seats_before_more_urgent_jobs(
    tmp_path: Path, dsn: str, queue: Connection, until: Until
):
    for key in ("a", "b"):
        await enqueue(queue, key, key)
    async with service(generation_seconds=LONG) as sim:
        async with working(sim, tmp_path, dsn, drain=0.01, tasks=2):
            await until(lambda: len(sim.ledger) == 2)
            for key in ("urgent", "urgent too"):
                await enqueue(queue, key, key, priority=5)
        async with working(sim, tmp_path, dsn, drain=0.01, tasks=2):
            assert await _picked(queue, 2) == ["veo.generate:a", "veo.generate:b"]
        assert len(sim.ledger) == 2


async def test_a_paid_job_that_is_tried_again_later_keeps_its_seat_until_then(
    tmp_path: Path, dsn: str, queue: Connection, until: Until
):
    await enqueue(queue, "a", "A boat")
    impatient = {"timeouts": Timeouts(task=0.2)}
    async with service(generation_seconds=LONG) as sim:
        async with working(sim, tmp_path, dsn, impatient, tasks=1):
            await until(lambda: len(sim.ledger) == 1)
            await enqueue(queue, "b", "B boat", priority=5)
            attempts = 0
            with anyio.fail_after(20):
                while attempts < 2:
                    await anyio.sleep(0.05)
                    found = await queue.execute("SELECT max(attempts) FROM pgqueuer")
                    (attempts,) = await found.fetchone() or (0,)
        assert len(sim.ledger) == 1


async def test_a_worker_ends_although_the_server_does_not_answer(
    tmp_path: Path, dsn: str, queue: Connection
):
    await enqueue(queue, "a", "A boat")
    stop, ended = asyncio.Event(), asyncio.Event()
    async with service(generation_seconds=LONG) as sim, client_of(sim, max_tasks=1000) as veo:

        async def run() -> None:
            journal = PostgresJournal(dsn)
            await work(
                veo, directory=tmp_path, journal=journal, stop=stop, heartbeat=1.0, drain=0.1
            )
            ended.set()

        async with anyio.create_task_group() as group:
            group.start_soon(run)
            await stood(queue, "a", lambda told: told.state == "submitted")
            found = await queue.execute(
                "SELECT pid FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            frozen = [row[0] for row in await found.fetchall()]
            assert len(frozen) >= 2
            try:
                for pid in frozen:
                    os.kill(pid, signal.SIGSTOP)
                stop.set()
                with anyio.move_on_after(30):
                    await ended.wait()
            finally:
                for pid in frozen:
                    os.kill(pid, signal.SIGCONT)
            assert ended.is_set(), "it waits for the server"


async def _beat(queue: Connection) -> object:
    """Return the last sign of life of the job that is picked, or None."""
    found = await queue.execute("SELECT heartbeat FROM pgqueuer WHERE status = 'picked'")
    return await found.fetchone()


async def test_what_is_under_way_when_a_worker_is_told_to_stop_is_another_ones(
    tmp_path: Path, dsn: str, queue: Connection, until: Until
):
    await enqueue(queue, "a", "A boat")
    async with service(generation_seconds=2000) as sim:
        async with working(sim, tmp_path, dsn, drain=0.01):
            await until(lambda: len(sim.ledger) == 1)
            await stood(queue, "a", lambda told: told.state == "submitted")
        assert (await standing(queue, "a")).queued == "queued"
        async with working(sim, tmp_path, dsn):
            await stood(queue, "a", is_done)
        paid_once(sim, ["A boat"])


async def test_a_download_that_fails_is_tried_again_later(
    tmp_path: Path, dsn: str, queue: Connection
):
    await enqueue(queue, "a", "A boat")
    async with service(faults=["video:status=500:times=24"]) as sim:
        async with working(sim, tmp_path, dsn):
            await stood(queue, "a", is_done)
        paid_once(sim, ["A boat"])
    retried = await queue.execute("SELECT count(*) FROM pgqueuer_log WHERE traceback IS NOT NULL")
    assert await retried.fetchone() != (0,), "it was delivered once"


async def test_a_queue_without_tables_is_told(tmp_path: Path, dsn: str):
    async with service() as sim, client_of(sim) as veo:
        with pytest.raises(ConfigurationError, match="with --install once"):
            await work(veo, directory=tmp_path, journal=PostgresJournal(dsn))


KEYS = [f"boat {number}" for number in range(30)]


async def test_three_workers_and_ten_kills(tmp_path: Path, dsn: str, queue: Connection):
    async with service(generation_seconds=800) as sim:
        for key in KEYS:
            await enqueue(queue, key, key)
        job = {
            "kind": "pgqueuer",
            "api_key": sim.api_key,
            "base_url": sim.base_url,
            "directory": str(tmp_path),
            "dsn": dsn,
            "heartbeat": 1.0,
            "uncertain": 0.5,
        }
        with crew(job) as workers:
            workers.until_ready()
            await killed_until(workers, lambda: _is_over(dsn), kills=10, seed=6)
            assert workers.kills == 10
            assert workers.terminate() == [0, 0, 0]
        counts = judge(sim, in_server(dsn, tmp_path), KEYS, tmp_path)
    assert sum(counts.values()) == len(KEYS)
    assert counts["stored"] >= len(KEYS) - 10


def _is_over(dsn: str) -> bool:
    with psycopg.connect(dsn) as connection:
        rows = connection.execute("SELECT count(*) FROM pgqueuer WHERE status <> 'failed'")
        return rows.fetchone() == (0,)


async def test_a_server_that_stops_in_the_middle(tmp_path: Path, server: Server):
    dsn = server.database("queue_stopped")
    keys = KEYS[:12]
    async with service(generation_seconds=800) as sim:
        async with connected(dsn) as connection:
            await install(connection)
            for key in keys:
                await enqueue(connection, key, key)
        async with working(sim, tmp_path, dsn):
            with anyio.fail_after(20):
                while len(sim.ledger) < 5:
                    await anyio.sleep(0.02)
            await anyio.to_thread.run_sync(server.stop)
            await anyio.sleep(0.3)
            await anyio.to_thread.run_sync(server.start)
            with anyio.fail_after(60):
                while not await anyio.to_thread.run_sync(_is_over, dsn):
                    await anyio.sleep(0.1)
        counts = judge(sim, in_server(dsn, tmp_path), keys, tmp_path)
    assert counts == {"stored": len(keys)}


async def test_a_web_request_enqueues_and_another_one_asks(
    tmp_path: Path, dsn: str, queue: Connection, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DATABASE_URL", dsn)
    program: dict[str, Any] = {}
    exec(compile(example("queue"), "README.md", "exec"), program)
    runner = web.AppRunner(program["app"])
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/videos/order-7"
    try:
        async with service() as sim, ClientSession() as web_client:
            async with web_client.put(url, data="A boat") as answer:
                assert await answer.json() == {"key": "order-7", "is_new": True}
            async with web_client.put(url, data="A boat") as answer:
                assert await answer.json() == {"key": "order-7", "is_new": False}
            async with working(sim, tmp_path, dsn):
                await stood(queue, "order-7", is_done)
            async with web_client.get(url) as answer:
                assert await answer.json() == {"state": "stored", "queued": None}
            paid_once(sim, ["A boat"])
    finally:
        await runner.cleanup()


async def test_one_command_runs_a_worker(tmp_path: Path, dsn: str):
    async with service() as sim:
        environment = os.environ | {
            "KIE_API_KEY": sim.api_key,
            "KIE_BASE_URL": sim.base_url,
            "DATABASE_URL": dsn,
        }
        made = await anyio.run_process([*COMMAND, "--install"], env=environment, check=False)
        assert (made.returncode, made.stdout) == (0, b""), made.stderr
        async with connected(dsn) as connection:
            await enqueue(connection, "a", "A boat")
            worker = await anyio.open_process(
                [*COMMAND, "--directory", str(tmp_path), "--heartbeat", "2", "--drain", "0.2"],
                env=environment,
            )
            async with worker:
                await stood(connection, "a", lambda told: told.state == "submitted")
                worker.send_signal(signal.SIGTERM)
                assert worker.stderr is not None
                said = b"".join([piece async for piece in worker.stderr]).decode()
                assert await worker.wait() == 0, said
            assert sim.api_key not in said
            assert "made the journal in PostgreSQL" in said


async def test_a_second_signal_ends_the_command_at_once(
    tmp_path: Path, dsn: str, queue: Connection
):
    await enqueue(queue, "a", "A boat")
    async with service(generation_seconds=LONG) as sim:
        worker = await anyio.open_process(
            [*COMMAND, "--directory", str(tmp_path), "--drain", "1000"],
            env=os.environ
            | {"KIE_API_KEY": sim.api_key, "KIE_BASE_URL": sim.base_url, "DATABASE_URL": dsn},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        async with worker:
            try:
                await stood(queue, "a", lambda told: told.state == "submitted")
                with anyio.fail_after(20):
                    while worker.returncode is None:
                        worker.send_signal(signal.SIGTERM)
                        await anyio.sleep(0.2)
            finally:
                if worker.returncode is None:
                    worker.kill()
        assert worker.returncode == -signal.SIGTERM


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ([], "--directory is missing"),
        (["--directory", "x", "--dsn", "host"], "is no connection string"),
        (["--install", "--dsn", "postgresql://u:secret@127.0.0.1:1/x"], "the server cannot be"),
    ],
)
def test_a_command_that_cannot_work_says_why(arguments: list[str], match: str):
    done = subprocess.run(
        [*COMMAND, *arguments],
        env=os.environ | {"KIE_API_KEY": "key"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode in {1, 2}
    assert match in done.stderr
    assert "secret" not in done.stderr
    assert "Traceback" not in done.stderr
