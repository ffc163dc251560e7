"""Several workers that are killed again and again, and how their work is judged."""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import anyio

from veo_async.jobs import Job
from veo_async.protocol.jobs import JobState
from veo_async.simulator import Simulator

ROOT = Path(__file__).parents[2]


class Crew:
    """Workers, each a process.

    Args:
        job: What each of them is told.
        count: How many there are.
    """

    def __init__(self, job: dict[str, Any], count: int, log: IO[str]) -> None:
        self.kills: int = 0
        self._job = job
        self._log = log
        self._unready: list[subprocess.Popen[str]] = []
        self._workers = [self._born() for _ in range(count)]

    def _born(self) -> subprocess.Popen[str]:
        worker = subprocess.Popen(
            [sys.executable, "-m", "tests.jobs.worker", json.dumps(self._job)],
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        self._unready.append(worker)
        return worker

    @property
    def is_idle(self) -> bool:
        """Whether all of them have ended."""
        return all(worker.poll() is not None for worker in self._workers)

    def until_ready(self) -> None:
        """Wait until all of them have begun."""
        for worker in self._unready:
            if worker in self._workers and worker.stdout is not None:
                worker.stdout.readline()
        self._unready.clear()

    def kill(self, number: int) -> None:
        """Kill one of them, and let another one take its place."""
        self._end(self._workers[number])
        self.kills += 1
        self._workers[number] = self._born()

    def kill_pid(self, pid: int) -> None:
        """Kill the one that has a process id."""
        (number,) = (n for n, worker in enumerate(self._workers) if worker.pid == pid)
        self.kill(number)

    def terminate(self) -> list[int]:
        """Ask all of them to stop, once they have begun; return their exit codes."""
        self.until_ready()
        for worker in self._workers:
            worker.terminate()
        return [worker.wait(30) for worker in self._workers]

    def _end(self, worker: subprocess.Popen[str]) -> None:
        worker.kill()
        worker.wait()
        if worker.stdout is not None:
            worker.stdout.close()

    def close(self) -> None:
        """Kill all of them."""
        for worker in self._workers:
            self._end(worker)


@contextmanager
def crew(job: dict[str, Any], count: int = 3) -> Generator[Crew]:
    """Have workers while inside; what they said is shown where that fails."""
    with tempfile.TemporaryFile("w+") as log:
        one = Crew(job, count, log)
        try:
            yield one
        except BaseException:
            log.seek(0)
            sys.stderr.write(log.read()[-20_000:])
            raise
        finally:
            one.close()


async def killed_until(
    workers: Crew, is_done: Callable[[], bool], *, kills: int, seed: int, seconds: float = 100.0
) -> None:
    """Kill workers at random moments, so many times, then wait until all is done."""
    chance = random.Random(seed)
    deadline = time.monotonic() + seconds
    for _ in range(kills):
        await anyio.sleep(chance.uniform(0.1, 0.6))
        await anyio.to_thread.run_sync(workers.kill, chance.randrange(3))
    while not await anyio.to_thread.run_sync(is_done):
        assert time.monotonic() < deadline, "not done in time"
        await anyio.sleep(0.1)


def judge(sim: Simulator, jobs: Iterable[Job], keys: list[str], folder: Path) -> Counter[str]:
    """Judge by the service's books: nothing paid twice, nothing paid and lost, ten at once."""
    paid = Counter(charge.prompt for charge in sim.ledger if not charge.refunded)
    assert max(paid.values()) == 1, [prompt for prompt, times in paid.items() if times > 1]
    assert sim.ledger.peak_running <= 10
    known = {job.key: job for job in jobs}
    assert set(paid) <= set(known) <= set(keys)
    for key in paid:
        job = known[key]
        assert job.state in {JobState.STORED, JobState.UNKNOWN}, job
        if job.state is JobState.STORED:
            assert (folder / (job.file or "")).stat().st_size == job.size
    return Counter(job.state.value for job in known.values())
