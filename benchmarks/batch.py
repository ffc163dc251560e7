"""Batches over loopback: CPU per task, re-runs, a million prompts, and a long journal.

The service runs in a process of its own, so that its CPU is not counted.
`python -m benchmarks.batch --prompts FILE` takes the prompts of a file, one a line, and
`python -m benchmarks.batch million` runs one part.
"""

import argparse
import asyncio
import gc
import json
import random
import sys
import tempfile
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import attrs

from benchmarks import measuring, results
from benchmarks.results import Bound, Results, Table
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
LATER = 300  # results, after which the memory is looked at once more
FINISHED = 100_000
AGREED = "agree, every file is whole"

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

    def __init__(self, asked: IO[str], told: IO[str]) -> None:
        self._in, self._out = asked, told
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
    with measuring.child("batch") as (asked, told):
        yield Service(asked, told)


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


# --- parts of the figures


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


@attrs.frozen
class Run:
    """What a batch took.

    Attributes:
        seconds: Real time.
        cpu: CPU seconds of the client.
        grown: By how much memory grew, in MB.
        report: The batch's own words.
        ledger: The service's books afterwards.
    """

    seconds: float
    cpu: float
    grown: float
    report: BatchReport
    ledger: dict[str, Any]


def timed(served: Service, requests: Iterable[str], folder: Path) -> Run:
    """Run a batch to its end, and return what it took."""
    empty, began, cpu = measuring.rss(), time.perf_counter(), measuring.cpu()
    report = asyncio.run(run(served, requests, folder))
    return Run(
        seconds=time.perf_counter() - began,
        cpu=measuring.cpu() - cpu,
        grown=measuring.rss() - empty,
        report=report,
        ledger=served.ledger(),
    )


@attrs.frozen
class FirstRequest:
    """What an input costs of which only the beginning is used.

    Attributes:
        seconds: Until the first paid request leaves.
        empty: The memory that the process held before, in MB.
        pulled: For each number of results, how many prompts had been pulled until then.
        grown: For each number of results, by how much memory had grown until then, in MB.
    """

    seconds: float
    empty: float
    pulled: dict[int, int]
    grown: dict[int, float]


def first_request(count: int, folder: Path, *, until: Sequence[int] = (1,)) -> FirstRequest:
    """Give a batch a generator of so many prompts, and stop it after the last of `until` results.

    The memory is that of this process, which should have done little else yet.
    """
    with service() as served:
        return asyncio.run(_first_request(served, count, folder, until))


async def _first_request(
    served: Service, count: int, folder: Path, until: Sequence[int]
) -> FirstRequest:
    pulled = 0
    first_post: list[float] = []
    pulled_until: dict[int, int] = {}
    grown: dict[int, float] = {}

    def counted() -> Iterator[str]:
        nonlocal pulled
        for prompt in prompts(count):
            pulled += 1
            yield prompt

    def observe(event: Event) -> None:
        if isinstance(event, SubmitStarted) and not first_post:
            first_post.append(time.perf_counter())

    async with served.client(on_event=observe) as veo:
        gc.collect()
        empty, began = measuring.rss(), time.perf_counter()
        async with veo.batch(counted(), directory=folder, model="veo3_fast") as batch:
            for number in range(1, max(until) + 1):
                await anext(batch)
                if number in until:
                    pulled_until[number], grown[number] = pulled, measuring.rss() - empty
            batch.stop()
            await batch.wait()
    return FirstRequest(first_post[0] - began, empty, pulled_until, grown)


def finished_journal(count: int, folder: Path) -> Path:
    """Write a journal as if so many `prompts` had been made, with a file of one byte each.

    In one transaction: its own steps would take some minutes and say nothing new.
    """
    path = folder / JOURNAL_NAME
    database = open_for_writing(path, mark="simulated")
    file = JournalFile(database, folder)
    naming = Naming()
    jobs: list[tuple[object, ...]] = []
    attempts: list[tuple[object, ...]] = []
    for position, prompt in enumerate(prompts(count), start=1):
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
    return path


def opening_seconds(path: Path, folder: Path) -> float:
    """Return the seconds until a journal is open, and checked for damage."""

    async def opened() -> float:
        began = time.perf_counter()
        journal = await Journal.open(path, folder, mark="simulated")
        seconds = time.perf_counter() - began
        await journal.aclose()
        return seconds

    return asyncio.run(opened())


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
    return AGREED if agree else "DO NOT AGREE"


# --- the figures

Found = tuple[Table, list[Bound]]
HEAD = ("figure", "value")


def a_batch_and_its_repetition(requests: list[str], folder: Path) -> Found:
    """Return what a batch costs, and the same once more when all of it is done."""
    with service() as served:
        first = timed(served, requests, folder)
        agreed = verdict(first.ledger, first.report, folder)
        written = commits(folder / JOURNAL_NAME)
        again = timed(served, requests, folder)
    ledger = first.ledger
    count = len(ledger["tasks"])
    paid = again.ledger["posts"] - ledger["posts"]
    rows = [
        ("real time", f"{first.seconds:.1f} s"),
        ("CPU of the client per task", f"{1000 * first.cpu / count:.1f} ms"),
        ("polls per task", f"{ledger['polls'] / count:.1f}"),
        ("commits of the journal per task", f"{written / count:.1f}"),
        ("most tasks at once", f"{ledger['peak']}"),
        ("slots idle at the service", f"{ledger['idle']:.1%}"),
        ("the batch's own words", f"{first.report}"),
        ("books, journal, report and files", agreed),
        ("the same folder again", f"{again.seconds:.2f} s, of it {again.cpu:.2f} s CPU"),
        ("paid requests of that", f"{paid}"),
        ("the batch's own words", f"{again.report}"),
    ]
    caption = f"{len(requests):,} prompts, ten slots, the service at {SPEED:g} times its speed."
    return Table(HEAD, rows, caption), [
        Bound("paid requests of a batch that is run again", paid, 0),
        Bound("tasks of a batch at once", ledger["peak"], 10),
        Bound("batches whose books, journal, report and files differ", agreed != AGREED, 0),
    ]


def a_million_prompts(folder: Path) -> Found:
    """Return what an input costs that nobody could hold in memory."""
    found = first_request(MANY, folder, until=(1, LATER))
    rows = [
        ("first paid request after", f"{found.seconds:.3f} s"),
        ("pulled before the first result", f"{found.pulled[1]}"),
        ("memory grown until then", f"{found.grown[1]:.1f} MB on {found.empty:.1f} MB"),
        (f"pulled before result {LATER}", f"{found.pulled[LATER]}"),
        ("memory grown until then", f"{found.grown[LATER]:.1f} MB"),
    ]
    caption = f"A generator of {MANY:,} prompts, stopped after {LATER} results."
    grown = "MB that memory grows before the first of a million prompts is made"
    return Table(HEAD, rows, caption), [Bound(grown, found.grown[1], 4)]


def a_long_journal(folder: Path) -> Found:
    """Return what a journal of many finished jobs costs."""
    path = finished_journal(FINISHED, folder)
    size = path.stat().st_size / 1e6
    opening = [opening_seconds(path, folder) for _ in range(5)]
    requests = [*prompts(FINISHED)]
    with service() as served:
        found = timed(served, requests, folder)
    paid = found.ledger["posts"]
    rows = [
        ("opened, and checked for damage", f"{measuring.spread(opening)} s"),
        ("all of them skipped", f"{found.seconds:.1f} s, of it {found.cpu:.1f} s CPU"),
        ("memory grown until then", f"{found.grown:.1f} MB"),
        ("paid requests", f"{paid}"),
        ("the batch's own words", f"{found.report}"),
    ]
    caption = f"A journal of {FINISHED:,} finished jobs, {size:.0f} MB."
    bound = Bound(f"paid requests of a batch of {FINISHED:,} finished jobs", paid, 0)
    return Table(HEAD, rows, caption), [bound]


def measure(
    parts: Sequence[str] = (), prompt_file: Path | None = None, directory: Path | None = None
) -> Results:
    """Measure these parts, or all."""
    requests = [*prompts(PROMPTS)]
    if prompt_file is not None:
        requests = prompt_file.read_text(encoding="utf-8").splitlines()

    def a_batch(folder: Path) -> Found:
        return a_batch_and_its_repetition(requests, directory or folder)

    # The first one is about memory, and wants a process that has done nothing yet.
    ways = {"million": a_million_prompts, "batch": a_batch, "journal": a_long_journal}
    tables: list[Table] = []
    bounds: list[Bound] = []
    for name, way in ways.items():
        if name in (parts or ways):
            with tempfile.TemporaryDirectory() as folder:
                table, promised = way(Path(folder))
            tables.append(table)
            bounds += promised
    return Results(
        title="Batches over loopback",
        text=(
            "Batches against the simulator, whose CPU is not counted; videos are small, the journal"
            " and the files are on the disk of the temporary folders. A long journal is opened five"
            " times, the first time just after it was written."
        ),
        tables=tables,
        bounds=bounds,
    )


def main() -> None:
    """Measure what the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", nargs="*", help="million, batch, journal; all when not given")
    parser.add_argument("--prompts", type=Path, help="take these instead, one a line")
    parser.add_argument("--directory", type=Path, help="put the batch here, and leave it there")
    given, others = parser.parse_known_args()
    results.run(lambda: measure(given.part, given.prompts, given.directory), others)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve()
    else:
        main()
