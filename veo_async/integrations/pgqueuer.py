"""Durable jobs over many hosts, on pgqueuer: `pip install "veo-async[pgqueuer]"`.

pgqueuer delivers a job again after its worker died, and counts the account's tasks in the database.
It is at-least-once; the journal, in the same database, makes it pay at most once.

`python -m veo_async.integrations.pgqueuer --directory videos` runs a worker.
"""

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs

from veo_async.client import VeoClient
from veo_async.errors import (
    ClientClosedError,
    ConfigurationError,
    DownloadError,
    JournalError,
    LimiterError,
    RateLimitError,
    ServerError,
    ServiceUnavailableError,
    SubmitUncertainError,
    TaskTimeoutError,
    TransportError,
    UnexpectedResponseError,
    VeoError,
)
from veo_async.integrations.postgres import PostgresJournal
from veo_async.jobs import request_from
from veo_async.limits import LocalLimiter
from veo_async.settings import MAX_TASKS, URL_LIFETIME, Timeouts

try:
    import psycopg
    from pgqueuer import PgQueuer
    from pgqueuer.adapters.drivers.psycopg import PsycopgDriver
    from pgqueuer.errors import RetryRequested
    from pgqueuer.models import Job

    from veo_async.integrations.pgqueuer_queue import (
        DOWNLOAD,
        GENERATE,
        Connection,
        Standing,
        enqueue,
        install,
        put,
        put_first,
        sent_at,
        standing,
    )
    from veo_async.integrations.postgres_store import words
except ImportError as _missing:
    raise ConfigurationError(
        'jobs on pgqueuer need it and psycopg; pip install "veo-async[pgqueuer]"'
    ) from _missing

if TYPE_CHECKING:
    from veo_async.results import JobResult

__all__ = ["DOWNLOAD", "GENERATE", "Standing", "enqueue", "install", "standing", "work"]

_T = TypeVar("_T")
_log = logging.getLogger(__name__)
_HEARTBEAT: Final = 30.0  # pgqueuer's own
_MOST_ATTEMPTS: Final = 5  # of what may pass; each goes on where the last one was
_LONGEST_DELAY: Final = 60.0  # seconds
_BATCH: Final = 10
_MOST_JOBS: Final = 50  # of one worker: more downloads than that only wait in its memory
_NO_LIMIT: Final = 10_000  # slots of a worker's client: the database counts them
_SHORTEST_WAIT, _LONGEST_WAIT = 0.2, 5.0  # seconds, for a server that is gone
_GRACE: Final = 5.0  # seconds after `drain` for the server to be told
# Deadlines as priorities, the nearest one the highest: seconds that a 32-bit integer holds until
# 2089. They are above the usual 0, so that no link dies because more is being generated.
_EPOCH: Final = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
_HIGHEST: Final = 2_000_000_000
# What may be otherwise in a minute. Asking again costs nothing: the journal knows what is paid.
_PASSING: Final = (
    DownloadError,
    JournalError,
    LimiterError,
    RateLimitError,
    ServerError,
    ServiceUnavailableError,
    TaskTimeoutError,
    TransportError,
    UnexpectedResponseError,
)


class _LeavingError(Exception):
    """Jobs are left to others."""


class _TwoLines(PsycopgDriver):
    """Listens on one connection and asks on another: listening keeps one busy for a second each."""

    def __init__(self, listening: Connection, asking: Connection) -> None:
        super().__init__(listening)
        self._asking = PsycopgDriver(asking)

    async def fetch(self, query: str, *args: object) -> list[dict[str, object]]:
        """Run a query."""
        return await self._asking.fetch(query, *args)

    async def execute(self, query: str, *args: object) -> str:
        """Run a statement."""
        return await self._asking.execute(query, *args)


async def work(
    veo: VeoClient,
    *,
    directory: str | os.PathLike[str],
    journal: PostgresJournal,
    tasks: int = MAX_TASKS,
    heartbeat: float = _HEARTBEAT,
    drain: float = 20.0,
    uncertain: float = Timeouts().lost,
    stop: asyncio.Event | None = None,
) -> None:
    """Take jobs from the queue until it is told to stop.

    What a job needs is in the journal, so a worker may be killed at any instant: its jobs are
    delivered again, and go on where they were. A job that failed, or that may be paid and has no
    id, is held in the queue with the reason, and never paid again.

    Args:
        veo: A client. The database counts the account's tasks, so it needs no limit of its own.
        directory: Where the videos go; shared by all workers, or each has one.
        journal: What knows what is paid; the queue is in the same database.
        tasks: Tasks that may run at once, over all workers (spec: 10 per account).
        heartbeat: Seconds without a sign of life after which a worker's jobs are another one's.
        drain: Seconds that jobs get to end once it is told to stop. Those left go back, to be the
            first ones taken. A few seconds later it ends, even if the server does not answer.
        uncertain: Seconds for which a job without an answer keeps its place among `tasks`.
        stop: What tells it to stop, once it is set.

    Raises:
        ConfigurationError: pgqueuer's tables are missing.
    """
    worker = _Worker(
        veo=veo,
        directory=Path(directory),
        journal=journal,
        tasks=tasks,
        uncertain=uncertain,
    )
    stop = asyncio.Event() if stop is None else stop
    loop = asyncio.get_running_loop()
    running = loop.create_task(worker.run(stop=stop, heartbeat=heartbeat, drain=drain))
    late = loop.create_task(_late(stop, drain + _GRACE))
    try:
        await asyncio.wait({running, late}, return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            _log.warning("the server does not answer; jobs are left until their heartbeat is old")
    finally:
        late.cancel()
        await worker.end(running)
    if running.done() and not running.cancelled():
        running.result()


async def _late(stop: asyncio.Event, seconds: float) -> None:
    await stop.wait()
    await asyncio.sleep(seconds)


@asynccontextmanager
async def _connected(journal: PostgresJournal) -> AsyncGenerator[Connection]:
    connection = await journal.server.connect_async()
    if isinstance(connection, str):
        raise psycopg.OperationalError(connection)
    try:
        yield connection
    finally:
        await connection.close()


@attrs.define(eq=False, kw_only=True)
class _Worker:
    """Takes jobs, by one connection after the other.

    Attributes:
        veo: The client.
        directory: Where the videos go.
        journal: What knows what is paid.
        tasks: Tasks that may run at once, over all workers.
        uncertain: Seconds for which a job without an answer keeps its place.
        asking: The connection that puts jobs in.
        lines: The connections that are open.
        leaving: Set when jobs are to be left to others.
    """

    veo: VeoClient
    directory: Path
    journal: PostgresJournal
    tasks: int
    uncertain: float
    asking: Connection | None = None
    lines: tuple[Connection, ...] = ()
    leaving: asyncio.Event = attrs.field(factory=asyncio.Event)

    async def run(self, *, stop: asyncio.Event, heartbeat: float, drain: float) -> None:
        """Take jobs until told to stop, over a new connection where one is lost."""
        wait = _SHORTEST_WAIT
        while not stop.is_set():
            try:
                async with _connected(self.journal) as first, _connected(self.journal) as second:
                    wait = _SHORTEST_WAIT
                    self.asking, self.lines = second, (first, second)
                    await self.serve(first, second, stop=stop, heartbeat=heartbeat, drain=drain)
            except psycopg.Error as error:
                _log.warning("the queue cannot be reached (%s); it is tried again", words(error))
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await stop.wait()
                wait = min(2 * wait, _LONGEST_WAIT)

    async def end(self, running: asyncio.Task[None]) -> None:
        """End what runs, in a few seconds whatever the server does."""
        if running.done():
            return
        self.leaving.set()
        # First, since what is cancelled in a query waits for the server.
        for line in self.lines:
            await line.close()
        running.cancel()
        await asyncio.wait({running}, timeout=_GRACE)

    async def serve(
        self,
        listening: Connection,
        asking: Connection,
        *,
        stop: asyncio.Event,
        heartbeat: float,
        drain: float,
    ) -> None:
        """Take jobs until told to stop.

        Raises:
            psycopg.Error: The connection was lost.
            ConfigurationError: pgqueuer's tables are missing.
        """
        queue = PgQueuer(_TwoLines(listening, asking))
        if not await queue.qm.queries.has_table(queue.qm.queries.qbe.settings.queue_table):
            raise ConfigurationError(
                "this database has no tables of pgqueuer; run the worker with --install once"
            )
        self.leaving = asyncio.Event()
        queue.entrypoint(GENERATE, concurrency_limit=self.tasks, on_failure="hold")(self.generate)
        queue.entrypoint(DOWNLOAD, on_failure="hold")(self.download)
        loop = asyncio.get_running_loop()
        running = loop.create_task(
            queue.qm.run(
                # Jobs of dead workers are seen when it asks, so that they wait for 1.5 at most.
                dequeue_timeout=timedelta(seconds=heartbeat / 2),
                batch_size=_BATCH,
                max_concurrent_tasks=_MOST_JOBS,
                heartbeat_timeout=timedelta(seconds=heartbeat),
            )
        )
        ending = [loop.create_task(stop.wait()), loop.create_task(_lost(listening, asking))]
        try:
            await asyncio.wait({running, *ending}, return_when=asyncio.FIRST_COMPLETED)
            queue.shutdown.set()
            if stop.is_set():
                await asyncio.wait({running}, timeout=drain)
            self.leaving.set()
            await asyncio.wait({running})
        finally:
            self.leaving.set()
            for each in (running, *ending):
                each.cancel()
            await asyncio.wait({running, *ending})
        running.result()

    async def generate(self, job: Job) -> None:
        """Have a video made, and put its download into the queue."""
        order: dict[str, Any] = json.loads(job.payload or b"{}")
        key = str(order["key"])
        try:
            request = request_from(order["request"])
            done = await self._done(
                job,
                self.veo.run_job(
                    key,
                    request,
                    directory=self.directory,
                    until="ready",
                    journal=self.journal,
                ),
            )
        except SubmitUncertainError:
            # A task may run, and is one of those that the account may have.
            if await self._is_leaving_within(await self._uncertain_for(key)):
                raise await self._handed_back(job, "its task may run") from None
            raise
        await self._order_download(key, done)

    async def _uncertain_for(self, key: str) -> float:
        """Return for how many seconds the task of a lost answer may still run."""
        sent = None
        if self.asking is not None:
            with suppress(psycopg.Error):
                sent = await sent_at(self.asking, key, schema=self.journal.schema)
        age = 0.0 if sent is None else datetime.now(UTC).timestamp() - sent
        return self.uncertain - max(0.0, age)

    async def _is_leaving_within(self, seconds: float) -> bool:
        if seconds > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    return await self.leaving.wait()
        return False

    async def _handed_back(self, job: Job, reason: str) -> RetryRequested:
        """Return what hands a job back, so that no other one takes the seat of its task."""
        if job.entrypoint == GENERATE and self.asking is not None:
            with suppress(psycopg.Error):  # then it cannot be handed back either
                await put_first(self.asking, job.id)
        return RetryRequested(reason=reason)

    async def _order_download(self, key: str, done: "JobResult") -> None:
        if self.asking is None:
            raise RetryRequested(reason="there is no connection")
        deadline = datetime.now(UTC).timestamp() + URL_LIFETIME
        priority = _HIGHEST - int(deadline - _EPOCH)
        _log.info("job %s is ready as task %s", key, done.task_id)
        try:
            await put(self.asking, DOWNLOAD, key, key.encode(), priority)
        except psycopg.Error as error:
            raise RetryRequested(reason=words(error)) from None

    async def download(self, job: Job) -> None:
        """Bring a video home."""
        key = (job.payload or b"").decode()
        done = await self._done(
            job, self.veo.run_job(key, directory=self.directory, journal=self.journal)
        )
        _log.info("job %s is at home in %s", key, done.path)

    async def _done(self, job: Job, work: "Coroutine[Any, Any, JobResult]") -> "JobResult":
        try:
            return await self._unless_leaving(work)
        except _LeavingError:
            raise await self._handed_back(job, "this worker leaves it to another one") from None
        except ClientClosedError as error:
            raise await self._handed_back(job, str(error)) from error
        except _PASSING as error:
            if job.attempts >= _MOST_ATTEMPTS:
                raise
            seconds = min(2.0**job.attempts, _LONGEST_DELAY)
            if job.entrypoint == GENERATE:  # its task may run, and keeps its seat meanwhile
                await self._is_leaving_within(seconds)
                raise await self._handed_back(job, str(error)) from error
            raise RetryRequested(timedelta(seconds=seconds), str(error)) from error

    async def _unless_leaving(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Return what `work` returns, unless jobs are left to others first."""
        loop = asyncio.get_running_loop()
        task, leaving = loop.create_task(work), loop.create_task(self.leaving.wait())
        try:
            await asyncio.wait({task, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise _LeavingError
        finally:
            task.cancel()
            leaving.cancel()
            await asyncio.wait({task, leaving})
            if not task.cancelled():
                task.exception()  # looked at, whoever hears of it
        return task.result()


async def _lost(*connections: Connection) -> None:
    while not any(each.closed for each in connections):  # noqa: ASYNC110  # psycopg tells nobody
        await asyncio.sleep(_SHORTEST_WAIT)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m veo_async.integrations.pgqueuer",
        description="Make and fetch the videos of a queue in PostgreSQL. The key comes from"
        " KIE_API_KEY.",
    )
    parser.add_argument("--directory", help="where the videos go", metavar="FOLDER")
    parser.add_argument(
        "--dsn",
        default=os.environ.get("DATABASE_URL", ""),
        help="the server; DATABASE_URL, then PGHOST and its kin, when not given",
    )
    parser.add_argument("--schema", default="veo_async", help="the journal's (%(default)s)")
    parser.add_argument("--tasks", type=int, default=MAX_TASKS, help="at once, over all workers")
    parser.add_argument("--heartbeat", type=float, default=_HEARTBEAT, help="seconds (%(default)s)")
    parser.add_argument("--drain", type=float, default=20.0, help="seconds (%(default)s)")
    parser.add_argument("--install", action="store_true", help="make the tables first")
    told = parser.parse_args(arguments)
    if told.directory is None and not told.install:
        parser.error("--directory is missing; name the folder of the videos")
    return told


def _abandon() -> None:
    sys.stderr.write("the server does not answer; what is under way is left to other workers\n")
    sys.stderr.flush()
    os._exit(1)


async def _main(told: argparse.Namespace, journal: PostgresJournal) -> None:
    if told.install:
        async with _connected(journal) as connection:
            await install(connection)
    if told.directory is None:
        return
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    signals = (signal.SIGINT, signal.SIGTERM)

    def leave() -> None:
        stop.set()
        for number in signals:  # the next one ends it at once
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)
        # The journal's thread may wait for the server, and the interpreter for the thread.
        last = threading.Timer(told.drain + 2 * _GRACE + Timeouts().close, _abandon)
        last.daemon = True
        last.start()

    for number in signals:
        loop.add_signal_handler(number, leave)
    async with VeoClient(limiter=LocalLimiter(_NO_LIMIT)) as veo:
        await work(
            veo,
            directory=told.directory,
            journal=journal,
            tasks=told.tasks,
            heartbeat=told.heartbeat,
            drain=told.drain,
            stop=stop,
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a worker; return its exit code."""
    told = _options(arguments)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("veo_async").setLevel(logging.INFO)
    try:
        journal = PostgresJournal(told.dsn, schema=told.schema)
        told.dsn = ""  # it may hold a password, and be a local of what is raised
        asyncio.run(_main(told, journal))
    except VeoError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except psycopg.Error as error:
        sys.stderr.write(f"the server cannot be used ({words(error)}); see --dsn\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
