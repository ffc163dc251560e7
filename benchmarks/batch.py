"""Batches over loopback: CPU per task, re-runs, a million prompts, and a long journal.

The service runs in a process of its own, so that its CPU is not counted.
`python -m benchmarks.batch --prompts FILE` takes the prompts of a file, one a line.
"""

import argparse
import asyncio
import gc
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from veo_async import BatchReport, VeoClient, VideoRequest
from veo_async.database import JOURNAL_NAME, open_for_writing
from veo_async.events import Event, Observer, SubmitStarted
from veo_async.jobs import draft_of
from veo_async.journal import Journal
from veo_async.journal_file import JournalFile, read_journal
from veo_async.outputs import Naming, whole_file
from veo_async.prices import SPEC
from veo_async.protocol.jobs import JobState
from veo_async.settings import at_speed
from veo_async.simulator import Simulator

PROMPTS = 946
SPEED = 200.0  # service seconds per second: a generation takes 0.3 to 0.45 s
MANY = 1_000_000
RESULTS = 300
FINISHED = 100_000

_SUBJECTS = ("a paper boat", "an old lighthouse keeper", "a red fox", "two dancers", "a tram")
_ACTIONS = ("drifts along", "turns towards the camera", "waits in the rain", "slowly disappears")
_PLACES = ("in a rain gutter", "on a bridge at dawn", "under northern lights", "in a busy market")
_STYLES = ("slow dolly shot", "35 mm film grain", "warm back light", "shallow depth of field")


def prompts(count: int) -> Iterator[str]:
    """Yield prompts of one to six sentences, no two of them equal."""
    chance = random.Random(1)
    for number in range(count):
        sentences = [
            " ".join(map(chance.choice, (_SUBJECTS, _ACTIONS, _PLACES))) + ", " + style
            for style in chance.choices(_STYLES, k=chance.randint(1, 6))
        ]
        yield f"Take {number}: " + ". ".join(sentences)


# --- the service in its own process


class Service:
    """The simulator in a child process."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._in: TextIO = process.stdin
        self._out: TextIO = process.stdout
        self._told = json.loads(self._out.readline())

    def client(self, on_event: Observer | None = None) -> VeoClient:
        """Return a client that polls as fast as time runs there."""
        poll, pace = at_speed(SPEED)
        return VeoClient(
            self._told["key"],
            base_url=self._told["url"],
            poll=poll,
            pace=pace,
            on_event=on_event,
        )

    def ledger(self) -> dict[str, Any]:
        """Return its books."""
        print(file=self._in, flush=True)
        ledger: dict[str, Any] = json.loads(self._out.readline())
        return ledger


@contextmanager
def service() -> Generator[Service]:
    """Start a service, with small files."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.batch", "--serve"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Service(process)
    finally:
        process.communicate()  # its input ends, and so does it


def serve() -> None:
    """Serve until the input ends; a line of it asks for the books."""
    with Simulator(time_scale=SPEED, credits=1e9, clip=(64, 36), video_bytes=0) as simulator:
        print(json.dumps({"url": simulator.base_url, "key": simulator.api_key}), flush=True)
        for _ in sys.stdin:
            ledger = simulator.ledger
            told = {
                "posts": len(ledger.posts),
                "tasks": [charge.task_id for charge in ledger],
                "spent": ledger.spent,
                "peak": ledger.peak_running,
                "polls": ledger.requests["record-info"],
                "idle": ledger.idle_slot_seconds / (10 * simulator.now),
            }
            print(json.dumps(told), flush=True)


# --- the figures


def rss() -> float:
    """Return the memory of this process now, in MB."""
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * 4096 / 1e6


def commits(journal: Path) -> int:
    """Return how often a journal was committed to (SQLite's file format, 1.3.7)."""
    with journal.open("rb") as file:
        return int.from_bytes(file.read(28)[24:], "big")


async def run(served: Service, requests: Iterable[str], folder: Path) -> BatchReport:
    """Run a batch to its end."""
    async with (
        served.client() as veo,
        veo.batch(requests, directory=folder, prices=SPEC, model="veo3_fast") as batch,
    ):
        return await batch.wait()


def a_batch_and_its_repetition(requests: list[str], folder: Path) -> None:
    """Print what a batch costs, and the same once more when all of it is done."""
    with service() as served:
        began, cpu = time.perf_counter(), time.process_time()
        report = asyncio.run(run(served, requests, folder))
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        ledger = served.ledger()
        count = len(ledger["tasks"])
        print(f"{len(requests)} prompts, ten slots, the service at {SPEED:g} times its speed")
        show("real time", f"{seconds:.1f} s")
        show("CPU of the client per task", f"{1000 * cpu / count:.1f} ms")
        show("polls per task", f"{ledger['polls'] / count:.1f}")
        show("commits per task", f"{commits(folder / JOURNAL_NAME) / count:.1f}")
        show("most tasks at once", f"{ledger['peak']}")
        show("slots idle at the service", f"{ledger['idle']:.1%}")
        show("the batch's own words", f"{report}")
        show("books, journal, report and files", verdict(ledger, report, folder))

        began, cpu = time.perf_counter(), time.process_time()
        again = asyncio.run(run(served, requests, folder))
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        print("the same once more")
        show("real time", f"{seconds:.2f} s, of it {cpu:.2f} s CPU")
        show("paid requests", f"{served.ledger()['posts'] - ledger['posts']}")
        show("the batch's own words", f"{again}")


def verdict(ledger: dict[str, Any], report: BatchReport, folder: Path) -> str:
    """Return whether all that is known of a batch says the same."""
    journal = read_journal(folder / JOURNAL_NAME, folder)
    try:
        jobs = [*journal.jobs()]
    finally:
        journal.close()
    stored = [job for job in jobs if job.state is JobState.STORED]
    whole = [whole_file(folder / (job.file or "")) for job in stored]
    agree = (
        sorted(job.task_id or "" for job in jobs) == sorted(ledger["tasks"])
        and sum(job.charged for job in jobs) == report.credits_spent == ledger["spent"]
        and len(stored) == report.downloaded == len([*folder.glob("*.mp4")])
        and [job.sha256 for job in stored] == [one.sha256 for one in whole if one is not None]
    )
    return "agree, every file is whole" if agree else "DO NOT AGREE"


def a_million_prompts(folder: Path) -> None:
    """Print what an input costs that nobody could hold in memory."""
    pulled = 0
    first_post: list[float] = []

    def counted() -> Iterator[str]:
        nonlocal pulled
        for prompt in prompts(MANY):
            pulled += 1
            yield prompt

    def observe(event: Event) -> None:
        if isinstance(event, SubmitStarted) and not first_post:
            first_post.append(time.perf_counter())

    async def some(served: Service) -> None:
        async with served.client(on_event=observe) as veo:
            gc.collect()
            empty, began = rss(), time.perf_counter()
            async with veo.batch(counted(), directory=folder, model="veo3_fast") as batch:
                await anext(batch)
                show("first paid request after", f"{first_post[0] - began:.3f} s")
                show("prompts pulled before the first result", f"{pulled}")
                show("memory until then", f"{rss() - empty:+.1f} MB on {empty:.1f} MB")
                for _ in range(RESULTS - 1):
                    await anext(batch)
                show(f"prompts pulled before result {RESULTS}", f"{pulled}")
                show("memory until then", f"{rss() - empty:+.1f} MB")
                batch.stop()
                await batch.wait()

    with service() as served:
        print(f"a generator of {MANY:,} prompts, stopped after {RESULTS} results")
        asyncio.run(some(served))


def a_long_journal(folder: Path) -> None:
    """Print what a journal of many finished jobs costs."""
    requests = [*prompts(FINISHED)]
    write_finished(requests, folder)
    path = folder / JOURNAL_NAME
    print(f"a journal of {FINISHED:,} finished jobs, {path.stat().st_size / 1e6:.0f} MB")

    async def opened() -> float:
        began = time.perf_counter()
        journal = await Journal.open(path, folder, mark="simulated")
        seconds = time.perf_counter() - began
        await journal.aclose()
        return seconds

    show("opened, and checked for damage", f"{asyncio.run(opened()):.2f} s")
    with service() as served:
        empty, began, cpu = rss(), time.perf_counter(), time.process_time()
        report = asyncio.run(run(served, requests, folder))
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        show("all of them skipped", f"{seconds:.1f} s, of it {cpu:.1f} s CPU")
        show("memory until then", f"{rss() - empty:+.1f} MB")
        show("paid requests", f"{served.ledger()['posts']}")
        show("the batch's own words", f"{report}")


def write_finished(requests: list[str], folder: Path) -> None:
    """Write a journal as if all of these had been made, with a file of one byte each.

    In one transaction: its own steps would take some minutes and say nothing new.
    """
    database = open_for_writing(folder / JOURNAL_NAME, mark="simulated")
    file = JournalFile(database, folder)
    naming = Naming()
    jobs: list[tuple[object, ...]] = []
    attempts: list[tuple[object, ...]] = []
    for position, prompt in enumerate(requests, start=1):
        draft = draft_of(prompt, position, {"model": "veo3_fast"})
        assert isinstance(draft.request, VideoRequest)
        name = naming.name(position, draft.identity, draft.request)
        folder.joinpath(name).write_bytes(b".")
        text = json.dumps({"model": "veo3_fast", "prompt": prompt})
        jobs.append((position, draft.identity, position, text, "stored", name, 1, 0.0, 0.0))
        attempts.append((position, 1, f"token-{position}", f"task-{position}", 70, 70, 0.0))
    connection = database.connection
    connection.execute("BEGIN")
    connection.executemany(
        "INSERT INTO jobs (id, key, position, request_text, state, file, size, created_at,"
        " stored_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        jobs,
    )
    connection.executemany(
        "INSERT INTO attempts (job, number, token, task_id, credits, charged, intent_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        attempts,
    )
    connection.execute("COMMIT")
    file.close()


def show(name: str, value: str) -> None:
    """Print one line of a table."""
    print(f"  {name:42} {value}", flush=True)


def main(arguments: Sequence[str] = ()) -> None:
    """Measure all of it, or what the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", nargs="*", help="million, batch, journal; all when not given")
    parser.add_argument("--prompts", type=Path, help="take these instead, one a line")
    parser.add_argument("--directory", type=Path, help="put the batch here, and leave it there")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.serve:
        serve()
        return
    requests = [*prompts(PROMPTS)]
    if given.prompts is not None:
        requests = given.prompts.read_text(encoding="utf-8").splitlines()

    def a_batch(folder: Path) -> None:
        a_batch_and_its_repetition(requests, given.directory or folder)

    # The first one is about memory, and wants a process that has done nothing yet.
    parts = {"million": a_million_prompts, "batch": a_batch, "journal": a_long_journal}
    for name, part in parts.items():
        if name in (given.part or parts):
            with tempfile.TemporaryDirectory() as folder:
                part(Path(folder))


if __name__ == "__main__":
    main(sys.argv[1:])
