"""Jobs of queues: what a delivery costs, how soon a dead worker's jobs go on, and kill -9 loops.

`python -m benchmarks.jobs --kills 5` kills less often. Without PostgreSQL's programs, only the
journal in a file is measured.
"""

import argparse
import asyncio
import functools
import logging
import shutil
import sqlite3
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import attrs
import psycopg

from benchmarks import measuring, results
from benchmarks.results import Bound, Results, Table
from tests.flows.batches import LONG, client_of, service
from tests.jobs import postgres_server
from tests.jobs.crew import crew, killed_until
from tests.jobs.test_kills import in_file, in_server, job_of
from veo_async import VeoClient
from veo_async.database import JOURNAL_NAME
from veo_async.integrations.pgqueuer import enqueue, install
from veo_async.integrations.postgres import PostgresJournal
from veo_async.jobs import Job
from veo_async.protocol.jobs import JobState
from veo_async.simulator import Simulator

HEARTBEAT = 5.0
DELIVERIES = 200
RACES = 5
QUEUE_RACES = 3
KILLS = 20
FILE, SERVER, QUEUE = "file", "PostgreSQL", "pgqueuer"


async def measured(times: int, step: Callable[[int], Awaitable[object]]) -> tuple[str, str]:
    """Return median and worst of so many steps."""
    seconds: list[float] = []
    for number in range(times):
        began = time.perf_counter()
        await step(number)
        seconds.append(time.perf_counter() - began)
    return f"{1000 * statistics.median(seconds):.1f} ms", f"{1000 * max(seconds):.1f} ms"


async def deliveries(folder: Path, places: dict[str, str | None]) -> Table:
    """Measure deliveries of jobs that are done, which only ask the journal, and of new ones."""
    rows: list[tuple[str, ...]] = []
    async with service() as sim:
        for name, dsn in places.items():
            journal = None if dsn is None else PostgresJournal(dsn)
            where: dict[str, Any] = {"directory": folder / name, "journal": journal}
            async with client_of(sim) as veo:
                await veo.run_job("done", "A boat", **where)
                once_more = functools.partial(_once_more, veo, where)
                rows.append(
                    (name, "a finished job, once more", *await measured(DELIVERIES, once_more))
                )
                new = functools.partial(_new, veo, where)
                rows.append((name, "a new job, until ready", *await measured(20, new)))
    caption = "One delivery; of a new job, 100 ms are the service's."
    return Table(("journal", "", "median", "worst"), rows, caption)


async def _once_more(veo: VeoClient, where: dict[str, Any], _: int) -> None:
    await veo.run_job("done", **where)


async def _new(veo: VeoClient, where: dict[str, Any], number: int) -> None:
    await veo.run_job(f"{number}", f"{number}", until="ready", **where)


async def takeovers(folder: Path, places: dict[str, str | None]) -> Table:
    """Measure how soon a killed worker's jobs are another one's, on the same host."""
    rows: list[tuple[str, str]] = []
    for name, dsn in places.items():
        seconds: list[float] = []
        for race in range(RACES):
            place = folder / f"{name}{race}"
            place.mkdir(parents=True)
            seconds.append(await takeover(place, dsn, f"{name} {race}"))
        rows.append((name, measuring.spread(seconds)))
    head = ("journal", f"`kill -9`: until another worker of the host has the job, {RACES} times, s")
    return Table(head, rows)


async def takeover(place: Path, dsn: str | None, key: str) -> float:
    """Return the seconds from a kill until another worker has the job."""
    more = {} if dsn is None else {"dsn": dsn}
    async with service(generation_seconds=LONG) as sim:
        with crew(job_of(sim, place, keys=[key], **more), count=2) as workers:
            workers.until_ready()
            # Other processes tell nobody what they do.
            while (holder := _holder(place, dsn, key)) is None:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            # Not between its intent and its id, or it is uncertain and nobody goes on.
            while len(sim.ledger) < 1:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.5)
            began = time.monotonic()
            workers.kill_pid(holder)
            while _holder(place, dsn, key) in {holder, None}:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            return time.monotonic() - began


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


async def redeliveries(folder: Path, dsn: str) -> tuple[Table, list[Bound]]:
    """Measure how soon pgqueuer delivers a killed worker's jobs to another one."""
    seconds: list[float] = []
    async with service(generation_seconds=LONG) as sim:
        await enqueued(dsn, [f"r{number}" for number in range(10)])
        job = job_of(sim, folder, kind="pgqueuer", dsn=dsn, heartbeat=HEARTBEAT)
        with crew(job) as workers:
            workers.until_ready()
            while len(sim.ledger) < 10:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            await asyncio.sleep(HEARTBEAT)
            for number in range(QUEUE_RACES):
                before = _owners(dsn)
                workers.kill(number % 3)
                seconds += await _changed_hands(dsn, before)
        peak = sim.ledger.peak_running
    rows = [
        ("jobs that change hands", f"{len(seconds)}"),
        ("after", f"{measuring.spread(seconds)} s"),
        ("the longest, in heartbeats", f"{max(seconds) / HEARTBEAT:.2f}"),
        ("most tasks at once, of 10", f"{peak}"),
    ]
    caption = (
        f"pgqueuer with a heartbeat of {HEARTBEAT:g} s: {QUEUE_RACES} times one of three workers"
        " gets `kill -9`."
    )
    bound = Bound("tasks of pgqueuer's workers at once", peak, 10)
    return Table(("figure", "value"), rows, caption), [bound]


async def _changed_hands(dsn: str, before: dict[int, str]) -> list[float]:
    """Return the seconds after which jobs are another worker's, for some heartbeats."""
    began = time.monotonic()
    waits: dict[int, float] = {}
    while time.monotonic() - began < 2.2 * HEARTBEAT:
        for key, owner in _owners(dsn).items():
            if owner != before[key]:
                waits.setdefault(key, time.monotonic() - began)
        await asyncio.sleep(0.05)
    return [*waits.values()]


async def enqueued(dsn: str, keys: Sequence[str]) -> None:
    """Put jobs into a queue that is made for them."""
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as queue:
        await install(queue)
        for key in keys:
            await enqueue(queue, key, key)


def _owners(dsn: str) -> dict[int, str]:
    with psycopg.connect(dsn) as server:
        rows = server.execute(
            "SELECT id, queue_manager_id::text FROM pgqueuer WHERE status = 'picked'"
        )
        return dict(rows.fetchall())


@attrs.frozen
class Toll:
    """What became of the jobs of killed workers.

    Attributes:
        kills: How many workers were killed.
        paid: Paid tasks.
        stored: Jobs whose file is at home, whole.
        uncertain: Jobs that are listed as uncertain.
        paid_twice: Prompts that were.
        lost: Prompts that were paid and are not known, or whose file is not whole.
        peak: Most tasks at once.
        seconds: How long all of it took.
    """

    kills: int
    paid: int
    stored: int
    uncertain: int
    paid_twice: int
    lost: int
    peak: int
    seconds: float

    def cells(self) -> list[str]:
        """Return a column of the table."""
        *counts, seconds = attrs.astuple(self)
        return [*map(str, counts), f"{seconds:.0f}"]


ROWS = (
    *("kills", "paid tasks", "at home, whole", "uncertain", "**paid twice**", "**lost**"),
    *("most tasks at once, of 10", "seconds"),
)


def toll_of(sim: Simulator, jobs: list[Job], place: Path, *, kills: int, seconds: float) -> Toll:
    """Judge by the service's books."""
    paid = Counter(charge.prompt for charge in sim.ledger if not charge.refunded)
    known = {job.key: job for job in jobs}
    states = Counter(job.state for job in jobs)
    return Toll(
        kills=kills,
        paid=len(sim.ledger),
        stored=states[JobState.STORED],
        uncertain=states[JobState.UNKNOWN],
        paid_twice=sum(times > 1 for times in paid.values()),
        lost=sum(not _is_kept(known.get(key), place) for key in paid),
        peak=sim.ledger.peak_running,
        seconds=seconds,
    )


def _is_kept(job: Job | None, place: Path) -> bool:
    if job is None or job.state is not JobState.STORED:
        return job is not None and job.state is JobState.UNKNOWN
    file = place / (job.file or "")
    return file.is_file() and file.stat().st_size == job.size


async def killed(place: Path, kind: str, dsn: str | None, count: int) -> Toll:
    """Kill workers again and again, until all jobs are done."""
    keys = [f"boat {number}" for number in range(3 * count + 10)]
    more: dict[str, Any] = {} if dsn is None else {"dsn": dsn}
    if kind == QUEUE:
        more |= {"kind": "pgqueuer", "heartbeat": 1.0}
        await enqueued(more["dsn"], keys)
    began = time.monotonic()
    async with service(generation_seconds=800) as sim:
        with crew(job_of(sim, place, keys=keys, **more)) as workers:

            def is_done() -> bool:
                return _is_over(more["dsn"]) if kind == QUEUE else workers.is_idle

            workers.until_ready()
            await killed_until(workers, is_done, kills=count, seed=count, seconds=600)
        jobs = in_file(place) if dsn is None else in_server(dsn, place)
        seconds = time.monotonic() - began
        return toll_of(sim, jobs, place, kills=count, seconds=seconds)


def _is_over(dsn: str) -> bool:
    with psycopg.connect(dsn) as server:
        rows = server.execute("SELECT count(*) FROM pgqueuer WHERE status <> 'failed'")
        return rows.fetchone() == (0,)


async def kills(
    folder: Path, server: postgres_server.Server | None, count: int
) -> tuple[Table, list[Bound]]:
    """Kill the workers of each kind of journal and queue."""
    tolls: dict[str, Toll] = {}
    for kind in (FILE, SERVER, QUEUE) if server else (FILE,):
        place = folder / kind
        place.mkdir()
        dsn = None
        if server is not None and kind != FILE:
            dsn = server.database(f"kills_{kind.lower()}")
        tolls[kind] = await killed(place, kind, dsn, count)
    columns = [toll.cells() for toll in tolls.values()]
    caption = "Three workers, of which one gets `kill -9` at random moments, again and again."
    bounds = [
        Bound(
            "prompts of killed workers that were paid twice",
            sum(toll.paid_twice for toll in tolls.values()),
            0,
        ),
        Bound(
            "paid tasks of killed workers that were lost",
            sum(toll.lost for toll in tolls.values()),
            0,
        ),
        Bound("tasks of killed workers at once", max(toll.peak for toll in tolls.values()), 10),
    ]
    return Table(("figure", *tolls), [*zip(ROWS, *columns, strict=True)], caption), bounds


async def measured_with(
    server: postgres_server.Server | None, count: int
) -> tuple[list[Table], list[Bound]]:
    """Measure with a server, or what can be measured without."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        places: dict[str, dict[str, str | None]] = {
            part: {FILE: None} | ({} if server is None else {SERVER: server.database(part)})
            for part in ("deliveries", "takeovers")
        }
        tables = [
            await deliveries(folder / "deliveries", places["deliveries"]),
            await takeovers(folder / "takeovers", places["takeovers"]),
        ]
        bounds: list[Bound] = []
        if server is not None:
            place = folder / "redeliveries"
            place.mkdir()
            table, bounds = await redeliveries(place, server.database("redeliveries"))
            tables.append(table)
        table, promised = await kills(folder, server, count)
        return [*tables, table], [*bounds, *promised]


def measure(count: int = KILLS) -> Results:
    """Measure, with so many kills of each kind."""
    logging.getLogger("veo_async").setLevel(logging.ERROR)
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)  # its clients are killed
    text = (
        "Workers share a journal and get `kill -9`; every job is delivered again until it is done."
        " The books of the simulator are the judge."
    )
    if shutil.which("initdb") or [*Path("/usr/lib/postgresql").glob("*/bin/initdb")]:
        with postgres_server.running() as server:
            tables, bounds = asyncio.run(measured_with(server, count))
        text += " PostgreSQL runs on this machine, with `fsync=off`."
    else:
        tables, bounds = asyncio.run(measured_with(None, count))
        text += " PostgreSQL is missing here, and so are its figures and pgqueuer's."
    return Results(title="Jobs of a queue", text=text, tables=tables, bounds=bounds)


def main() -> None:
    """Measure as the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=KILLS, help="of each kind")
    given, others = parser.parse_known_args()
    results.run(lambda: measure(given.kills), others)


if __name__ == "__main__":
    main()
