"""A program that works on jobs until it is killed: `python -m tests.jobs.worker JOB`, in JSON."""

import asyncio
import json
import logging
import signal
import sys
from typing import Any

from veo_async import PollPolicy, RetryPolicy, Timeouts, VeoClient, VeoError, VideoRequest
from veo_async.integrations.processes import FileLimiter
from veo_async.limits import LocalLimiter, TaskLimiter

_log = logging.getLogger(__name__)


def client_of(job: dict[str, Any], limiter: TaskLimiter) -> VeoClient:
    return VeoClient(
        job["api_key"],
        base_url=job["base_url"],
        limiter=limiter,
        poll=PollPolicy(interval=0.05, first=0.1),
        pace=None,
        retry=RetryPolicy(base=0.01, cap=0.1),
        timeouts=Timeouts(response=20.0, uncertain=job.get("uncertain", 20.0), close=2.0),
    )


def tell(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


async def take(job: dict[str, Any]) -> None:
    """Take jobs from a queue in PostgreSQL."""
    from veo_async.integrations.pgqueuer import work  # noqa: PLC0415
    from veo_async.integrations.postgres import PostgresJournal  # noqa: PLC0415

    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with client_of(job, LocalLimiter(1000)) as veo:
        tell("ready")
        await work(
            veo,
            directory=job["directory"],
            journal=PostgresJournal(job["dsn"]),
            heartbeat=job["heartbeat"],
            drain=job.get("drain", 2.0),
            uncertain=job.get("uncertain", 20.0),
            stop=stop,
        )


async def deliver(job: dict[str, Any]) -> None:
    """Deliver all jobs, as a queue that delivers each of them to every worker would."""
    journal: Any = None
    if "dsn" in job:
        from veo_async.integrations.postgres import PostgresJournal  # noqa: PLC0415

        journal = PostgresJournal(job["dsn"])
    limiter = FileLimiter(job["limiter"], lease=3.0)
    places = asyncio.Semaphore(8)
    async with client_of(job, limiter) as veo, asyncio.TaskGroup() as group:
        tell("ready")

        async def one(key: str) -> None:
            more = [f"{key} .{step}" for step in range(1, job.get("steps", 1))]
            wanted = VideoRequest(key, extend_to=more or None)
            async with places:
                try:
                    await veo.run_job(key, wanted, directory=job["directory"], journal=journal)
                except VeoError as error:
                    _log.warning("%s: %r", key, error)

        for key in job["keys"]:
            group.create_task(one(key))
    await limiter.aclose()


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(process)d %(name)s: %(message)s")
    logging.getLogger("pgqueuer").setLevel(logging.CRITICAL)
    job = json.loads(sys.argv[1])
    asyncio.run(take(job) if job["kind"] == "pgqueuer" else deliver(job))


if __name__ == "__main__":
    main()
