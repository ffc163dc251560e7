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
from veo_async import ConfigurationError, InvalidRequestError, VideoRequest
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
async def working(sim: Simulator, folder: Path, dsn: str, **more: Any) -> AsyncGenerator[None]:
    """Have one worker in this process while inside."""
    stop = asyncio.Event()
    async with client_of(sim, max_tasks=1000) as veo, anyio.create_task_group() as group:

        async def run() -> None:
            await work(
                veo,
                directory=folder,
                journal=PostgresJournal(dsn),
                stop=stop,
                **({"heartbeat": 2.0, "uncertain": 0.2, "drain": 0.3} | more),
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
        told = await stood(queue, "a", is_held)
        assert told.state == "unknown"
        assert told.error
        async with working(sim, tmp_path, dsn, tasks=1):
            await stood(queue, "b", lambda told: told.state == "submitted")
        assert len(sim.ledger) == 2


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
        command = [sys.executable, "-m", "veo_async.integrations.pgqueuer"]
        made = await anyio.run_process([*command, "--install"], env=environment, check=False)
        assert (made.returncode, made.stdout) == (0, b""), made.stderr
        async with connected(dsn) as connection:
            await enqueue(connection, "a", "A boat")
            worker = await anyio.open_process(
                [*command, "--directory", str(tmp_path), "--heartbeat", "2", "--drain", "0.2"],
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
        [sys.executable, "-m", "veo_async.integrations.pgqueuer", *arguments],
        env=os.environ | {"KIE_API_KEY": "key"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode in {1, 2}
    assert match in done.stderr
    assert "secret" not in done.stderr
    assert "Traceback" not in done.stderr
