"""Jobs of queues: what a delivery costs, how soon a dead worker's jobs go on, and kill -9 loops.

`python -m benchmarks.jobs --kills 30` prints tables. PostgreSQL's programs have to be installed.
"""

import argparse
import asyncio
import logging
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg

from tests.flows.batches import LONG, client_of, service
from tests.jobs import postgres_server
from tests.jobs.crew import crew, judge, killed_until
from tests.jobs.test_kills import in_file, in_server, job_of
from veo_async.database import JOURNAL_NAME
from veo_async.integrations.pgqueuer import enqueue, install
from veo_async.integrations.postgres import PostgresJournal

HEARTBEAT = 5.0
DELIVERIES = 200
RACES = 5


def show(title: str, rows: dict[str, object]) -> None:
    print(title)
    for name, value in rows.items():
        print(f"  {name:44} {value if isinstance(value, str) else f'{value:.1f}':>10}")


async def measured(times: int, step: Callable[[int], Awaitable[object]]) -> str:
    """Return median and worst of so many steps, in milliseconds."""
    seconds: list[float] = []
    for number in range(times):
        began = time.perf_counter()
        await step(number)
        seconds.append(time.perf_counter() - began)
    return f"{1000 * statistics.median(seconds):.1f} / {1000 * max(seconds):.1f}"


async def deliveries(folder: Path, dsn: str) -> None:
    """Measure deliveries of jobs that are done, which only ask the journal."""
    rows: dict[str, object] = {}
    places: dict[str, Any] = {"SQLite": None, "PostgreSQL": PostgresJournal(dsn)}
    async with service() as sim:
        for name, journal in places.items():
            async with client_of(sim) as veo:
                where: dict[str, Any] = {"directory": folder / name, "journal": journal}
                await veo.run_job("done", "A boat", **where)
                rows[f"done before, {name}"] = await measured(
                    DELIVERIES, lambda _, w=where, v=veo: v.run_job("done", **w)
                )
                rows[f"new, until ready (100 ms of service), {name}"] = await measured(
                    20,
                    lambda n, w=where, v=veo: v.run_job(f"{n}", f"{n}", until="ready", **w),
                )
    show("one delivery, median / worst [ms]", rows)


async def takeovers(folder: Path, dsn: str) -> None:
    """Measure how soon a killed worker's jobs are another one's, on the same host."""
    rows: dict[str, object] = {}
    for name, more in (("SQLite", {}), ("PostgreSQL", {"dsn": dsn})):
        seconds: list[float] = []
        for race in range(RACES):
            place = folder / f"{name}{race}"
            place.mkdir(parents=True)
            key = f"{name} {race}"
            async with service(generation_seconds=LONG) as sim:
                job = job_of(sim, place, keys=[key], **more)
                with crew(job, count=2) as workers:
                    workers.until_ready()
                    # Other processes tell nobody what they do.
                    while (holder := _holder(place, dsn if more else None, key)) is None:  # noqa: ASYNC110
                        await asyncio.sleep(0.01)
                    # Not between its intent and its id, or it is uncertain and nobody goes on.
                    while len(sim.ledger) < 1:  # noqa: ASYNC110
                        await asyncio.sleep(0.01)
                    await asyncio.sleep(0.5)
                    began = time.monotonic()
                    workers.kill_pid(holder)
                    while _holder(place, dsn if more else None, key) in {holder, None}:  # noqa: ASYNC110
                        await asyncio.sleep(0.01)
                    seconds.append(time.monotonic() - began)
        rows[name] = f"{statistics.median(seconds):.2f} / {max(seconds):.2f}"
    show("kill -9: until another worker of the host has the job, median / worst [s]", rows)


def _holder(folder: Path, dsn: str | None, key: str) -> int | None:
    if dsn is None:
        path = folder / JOURNAL_NAME
        if not path.exists():
            return None
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
            try:
                row = db.execute("SELECT pid FROM claims WHERE key = ?", (key,)).fetchone()
            except sqlite3.OperationalError:
                return None
    else:
        with psycopg.connect(dsn) as server:
            try:
                row = server.execute(
                    "SELECT pid FROM veo_async.claims WHERE key = %s", (key,)
                ).fetchone()
            except psycopg.errors.UndefinedTable:
                return None
    return None if row is None else int(row[0])


async def redeliveries(folder: Path, dsn: str) -> None:
    """Measure how soon pgqueuer delivers a killed worker's jobs to another one."""
    seconds: list[float] = []
    async with service(generation_seconds=LONG) as sim:
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as queue:
            await install(queue)
            for number in range(10):
                await enqueue(queue, f"r{number}", f"r{number}")
        job = job_of(sim, folder, kind="pgqueuer", dsn=dsn, heartbeat=HEARTBEAT)
        with crew(job) as workers:
            workers.until_ready()
            while len(sim.ledger) < 10:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            await asyncio.sleep(HEARTBEAT)
            for number in range(RACES):
                before = _owners(dsn)
                workers.kill(number % 3)
                began = time.monotonic()
                waits: dict[int, float] = {}
                while time.monotonic() - began < 2.2 * HEARTBEAT:
                    for key, owner in _owners(dsn).items():
                        if owner != before[key]:
                            waits.setdefault(key, time.monotonic() - began)
                    await asyncio.sleep(0.05)
                seconds += waits.values()
        peak = sim.ledger.peak_running
    rows: dict[str, object] = {
        "jobs that changed hands": float(len(seconds)),
        "after, median [s]": statistics.median(seconds),
        "after, worst [s]": max(seconds),
        "  in heartbeats": max(seconds) / HEARTBEAT,
        "most tasks at once": float(peak),
    }
    show(f"pgqueuer, heartbeat {HEARTBEAT:g} s, kill -9 of one of three workers", rows)


def _owners(dsn: str) -> dict[int, str]:
    with psycopg.connect(dsn) as server:
        rows = server.execute(
            "SELECT id, queue_manager_id::text FROM pgqueuer WHERE status = 'picked'"
        )
        return dict(rows.fetchall())


async def kills(folder: Path, server: postgres_server.Server, count: int) -> None:
    """Kill workers again and again; it fails where a promise is broken."""
    keys = [f"boat {number}" for number in range(3 * count + 10)]
    for kind in ("SQLite", "PostgreSQL", "pgqueuer"):
        place = folder / kind
        place.mkdir()
        dsn = server.database(f"kills_{kind.lower()}")
        more: dict[str, Any] = {} if kind == "SQLite" else {"dsn": dsn}
        if kind == "pgqueuer":
            more |= {"kind": "pgqueuer", "heartbeat": 1.0}
            async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as queue:
                await install(queue)
                for key in keys:
                    await enqueue(queue, key, key)
        began = time.monotonic()
        async with service(generation_seconds=800) as sim:
            with crew(job_of(sim, place, keys=keys, **more)) as workers:
                workers.until_ready()
                is_done = (lambda d=dsn: _is_over(d)) if kind == "pgqueuer" else None
                await killed_until(
                    workers, is_done or (lambda w=workers: w.is_idle), kills=count, seed=count,
                    seconds=600,
                )  # fmt: skip
            jobs = in_file(place) if kind == "SQLite" else in_server(dsn, place)
            counts = judge(sim, jobs, keys, place)
            rows: dict[str, object] = {
                "kills": f"{count}",
                "paid tasks": f"{len(sim.ledger)}",
                "  at home, whole": f"{counts['stored']}",
                "uncertain": f"{counts['unknown']}",
                "paid twice, or lost": "0",  # or judge() had raised
                "most tasks at once, of 10": f"{sim.ledger.peak_running}",
                "seconds": time.monotonic() - began,
            }
        show(f"kill -9 of three workers at random moments, {kind}", rows)


def _is_over(dsn: str) -> bool:
    with psycopg.connect(dsn) as server:
        rows = server.execute("SELECT count(*) FROM pgqueuer WHERE status <> 'failed'")
        return rows.fetchone() == (0,)


async def run(count: int) -> None:
    with tempfile.TemporaryDirectory() as name, postgres_server.running() as server:
        folder = Path(name)
        await deliveries(folder / "deliveries", server.database("deliveries"))
        await takeovers(folder / "takeovers", server.database("takeovers"))
        place = folder / "redeliveries"
        place.mkdir()
        await redeliveries(place, server.database("redeliveries"))
        await kills(folder, server, count)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=30)
    given = parser.parse_args()
    logging.getLogger("veo_async").setLevel(logging.ERROR)
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)  # its clients are killed
    asyncio.run(run(given.kills))


if __name__ == "__main__":
    main()
