"""A thousand tasks: how long they take, beside the shortest time that ten slots allow.

`python -m benchmarks.bulk --tasks 100` runs fewer, `--speed` and `--at-once` run them otherwise.
"""

import argparse
import asyncio
import heapq
import json
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import attrs
from aiohttp import web

from benchmarks import peers, results
from benchmarks.batch import prompts
from benchmarks.results import Bound, Plot, Results, Table
from veo_async import VeoClient, WebhookReceiver
from veo_async.events import DownloadFinished, Event, TaskEnded
from veo_async.settings import PollPolicy, at_speed
from veo_async.simulator import Simulator, dice

TASKS = 1_000
SPEED = 30.0  # service seconds per second: what the client needs counts so many times
AT_ONCE = 4  # runs beside each other
SLOTS = 10
GENERATION = (60.0, 180.0)
DOWNLOAD = 30.0  # service seconds until the slow file host answers
SEED = 1
HOOKS_KEY = "webhook-hmac-key"
PREFIXES = (10, 30, 100, 300, 1_000)
PLAIN_LOOP = Path(__file__).parent / "peer" / "plain_loop.py"

CALLBACKS, ADAPTIVE, USUAL, PLAIN = "callbacks", "adaptive polling", "default polling", "plain loop"
WAYS: Final = (CALLBACKS, ADAPTIVE, USUAL, PLAIN)
AT_MOST: Final = {CALLBACKS: 1.01, ADAPTIVE: 1.02, USUAL: 1.03}


# --- the service, in its own process


def serve(speed: float, download: float) -> None:
    """Serve until the input ends; a line of it asks for the books."""
    faults = [f"video:delay={download:g}"] if download else []
    with Simulator(
        time_scale=speed,
        credits=1e9,
        clip=(64, 36),
        video_bytes=0,
        generation_seconds=GENERATION,
        seed=SEED,
        webhook_key=HOOKS_KEY,
        faults=faults,
    ) as simulator:
        # One clock for all processes of a machine: theirs is told in service seconds by this.
        began = time.monotonic() - simulator.now / speed
        told = {"url": simulator.base_url, "key": simulator.api_key, "began": began}
        print(json.dumps(told), flush=True)
        for _ in sys.stdin:
            ledger = simulator.ledger
            books = {
                "tasks": [
                    (charge.task_id, charge.at, dice.between(*GENERATION, "generation", SEED, n))
                    for n, charge in enumerate(ledger)
                ],
                "posts": len(ledger.posts),
                "polls": ledger.requests["record-info"],
                "idle": ledger.idle_slot_seconds,
                "peak": ledger.peak_running,
            }
            print(json.dumps(books), flush=True)


# --- our client, in its own process


@asynccontextmanager
async def hooks(receiver: WebhookReceiver) -> AsyncGenerator[str]:
    """Serve a receiver; yield the prefix of its URLs."""
    app = web.Application()
    app.router.add_route("*", "/hooks/{token}", receiver.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/hooks"
    finally:
        await runner.cleanup()


async def run(job: dict[str, Any]) -> dict[str, Any]:
    """Run a batch to its end; return when each end was seen and each file was whole."""
    poll, pace = at_speed(job["speed"])
    seen: dict[str, float] = {}
    whole: dict[str, float] = {}

    def observe(event: Event) -> None:
        if isinstance(event, TaskEnded):
            seen[event.task_id] = time.monotonic()
        elif isinstance(event, DownloadFinished):
            whole[event.task_id] = time.monotonic()

    def client(**options: Any) -> VeoClient:  # noqa: ANN401  # as they come
        return VeoClient(
            job["key"],
            base_url=job["url"],
            poll=attrs.evolve(poll, is_adaptive=job["way"] == ADAPTIVE),
            pace=pace,
            on_event=observe,
            **options,
        )

    async def batch(veo: VeoClient) -> None:
        async with veo, veo.batch(job["prompts"], directory=Path(job["folder"])) as made:
            await made.wait()

    if job["way"] == CALLBACKS:
        receiver = WebhookReceiver(HOOKS_KEY)
        async with hooks(receiver) as prefix:
            await batch(client(webhooks=receiver, callback_url=prefix))
    else:
        await batch(client())
    return {"seen": seen, "whole": whole}


# --- a run of both


@asynccontextmanager
async def child(*command: str) -> AsyncGenerator[asyncio.subprocess.Process]:
    """Start a process that reads and prints lines, and see to its end."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, limit=1 << 24)
    try:
        yield process
        assert process.stdin is not None
        process.stdin.close()  # its input ends, and so does it
        await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def line(process: asyncio.subprocess.Process, text: str | None = None) -> dict[str, Any]:
    """Write a line to a process, if there is one, and return the next that it prints."""
    assert process.stdin is not None
    assert process.stdout is not None
    if text is not None:
        process.stdin.write(text.encode() + b"\n")
        await process.stdin.drain()
    told: dict[str, Any] = json.loads(await process.stdout.readline())
    return told


@attrs.frozen
class Case:
    """One way with one file host.

    Attributes:
        way: Who makes the videos.
        download: Service seconds that a download takes.
    """

    way: str
    download: float


@attrs.frozen
class Run:
    """What a run took, all in service seconds since its first create.

    Attributes:
        created: When each task was created, in that order.
        lasted: How long each was generated, in the same order.
        seen: When each one's end was seen, in the same order.
        whole: When its file was whole.
        polls: Questions asked for tasks.
        idle: Unused slot seconds between the first and the last create.
        refused: Creates that were refused.
        peak: The most tasks at once.
        download: Service seconds that a download takes.
    """

    created: Sequence[float]
    lasted: Sequence[float]
    seen: Sequence[float]
    whole: Sequence[float]
    polls: int
    idle: float
    refused: int
    peak: int
    download: float

    @property
    def ratio(self) -> float:
        """The time until the last end is seen, as a part of the ideal's."""
        return max(self.seen) / ideal(self.lasted)[-1]

    @property
    def whole_ratio(self) -> float:
        """The time until the last file is whole, as a part of the ideal's."""
        return max(self.whole) / (ideal(self.lasted)[-1] + self.download)

    @property
    def delays(self) -> list[float]:
        """From each end to its being seen."""
        return [
            seen - at - lasted
            for seen, at, lasted in zip(self.seen, self.created, self.lasted, strict=True)
        ]

    @property
    def gaps(self) -> list[float]:
        """From each end that is seen to the create that takes its place."""
        ends = sorted(self.seen)[: len(self.created) - SLOTS]
        return [at - end for at, end in zip(self.created[SLOTS:], ends, strict=True)]


def ideal(lasted: Sequence[float]) -> list[float]:
    """Return the ends of a greedy list schedule on ten slots, in their order."""
    slots = [0.0] * SLOTS
    ends: list[float] = []
    for seconds in lasted:
        end = heapq.heappop(slots) + seconds
        heapq.heappush(slots, end)
        ends.append(end)
    return sorted(ends)


def run_of(served: dict[str, Any], books: dict[str, Any], told: dict[str, Any], case: Case) -> Run:
    """Put together what the service and the client know."""
    speed, tasks = served["speed"], books["tasks"]
    first = tasks[0][1]

    def moments(of: dict[str, float]) -> list[float]:
        return [(of[task] - served["began"]) * speed - first for task, _, _ in tasks]

    return Run(
        created=[at - first for _, at, _ in tasks],
        lasted=[lasted for _, _, lasted in tasks],
        seen=moments(told["seen"]),
        whole=moments(told["whole"]),
        polls=books["polls"],
        idle=books["idle"],
        refused=books["posts"] - len(tasks),
        peak=books["peak"],
        download=case.download,
    )


async def measured(case: Case, requests: Sequence[str], speed: float, python: str) -> Run:
    """Run one way against a service of its own."""
    here = (sys.executable, "-m", "benchmarks.bulk")
    command = (python, str(PLAIN_LOOP)) if case.way == PLAIN else (*here, "--client")
    serving = (*here, "--serve", str(speed), str(case.download))
    with tempfile.TemporaryDirectory() as folder:
        async with child(*serving) as service, child(*command) as client:
            served = {**await line(service), "speed": speed}
            job = {
                **served,
                "way": case.way,
                "folder": folder,
                "prompts": requests,
                "interval": PollPolicy().interval / speed,
            }
            told = await line(client, json.dumps(job))
            books = await line(service, "")
    return run_of(served, books, told, case)


async def all_of(tasks: int, speed: float, at_once: int, python: str) -> dict[Case, Run]:
    """Run all ways, some at once."""
    requests = [*prompts(tasks)]
    runs: dict[Case, Run] = {}
    room = asyncio.Semaphore(at_once)

    async def one(case: Case) -> None:
        async with room:
            runs[case] = await measured(case, requests, speed, python)

    cases = [Case(way, download) for download in (0.0, DOWNLOAD) for way in WAYS]
    async with asyncio.TaskGroup() as group:
        for case in cases:
            group.create_task(one(case))
    return {case: runs[case] for case in cases}


# --- the figures

HEAD = (
    "way",
    "last end seen / ideal",
    "last file whole / ideal",
    "polls per task",
    "an end is seen after",
    "the next create after",
    "slots idle",
)


def row(case: Case, run: Run) -> tuple[str, ...]:
    """Return the figures of a run."""
    gap = sum(run.gaps) / max(1, len(run.gaps))
    delay = sum(run.delays) / len(run.delays)
    return (
        case.way,
        f"{run.ratio:.4f}",
        f"{run.whole_ratio:.4f}",
        f"{run.polls / len(run.created):.1f}",
        f"{delay:.2f} s",
        f"{gap:.2f} s",
        f"{run.idle / (SLOTS * run.created[-1]):.2%}",
    )


def table(runs: Mapping[Case, Run], download: float) -> Table:
    """Return the figures of all ways with one file host."""
    chosen = {case: run for case, run in runs.items() if case.download == download}
    shortest = ideal(next(iter(chosen.values())).lasted)[-1]
    files = f"Downloads of {download:g} s" if download else "Instant downloads"
    caption = f"{files}; the ideal is {shortest:,.0f} s until the last end, in service time."
    return Table(HEAD, [row(case, run) for case, run in chosen.items()], caption)


def growth(runs: Mapping[Case, Run], download: float) -> Plot:
    """Return what is lost to the ideal, with the number of tasks that have ended."""
    lines: dict[str, Sequence[tuple[float, float]]] = {}
    for case, run in runs.items():
        if case.download == download:
            seen, best = sorted(run.seen), ideal(run.lasted)
            counts = [count for count in PREFIXES if count <= len(seen)]
            lines[case.way] = [
                (count, 100 * (seen[count - 1] / best[count - 1] - 1)) for count in counts
            ]
    files = f"downloads of {download:g} s" if download else "instant downloads"
    return Plot(f"Time to the n-th end, {files}", "ends seen", "% above the ideal", lines)


def bounds(runs: Mapping[Case, Run]) -> list[Bound]:
    """Return what is promised of the ways that are ours."""
    found: list[Bound] = []
    for case, run in runs.items():
        if case.way in AT_MOST:
            files = f"{case.download:g} s downloads" if case.download else "instant downloads"
            figure = f"total / ideal of {len(run.seen):,} tasks, {case.way}, {files}"
            found.append(Bound(figure, run.ratio, AT_MOST[case.way]))
    return found


def measure(tasks: int = TASKS, speed: float = SPEED, at_once: int = AT_ONCE) -> Results:
    """Run all ways."""
    runs = asyncio.run(all_of(tasks, speed, at_once, peers.python()))
    low, high = GENERATION
    early = sum(delay < 0 for run in runs.values() for delay in run.delays)
    text = (
        f"{tasks:,} tasks of {low:g} to {high:g} s, evenly drawn, the same for all ways, on"
        f" {SLOTS} slots. The ideal is a greedy list schedule of these durations without any"
        f" overhead. The service runs {speed:g} times as fast as time, and so do the intervals of"
        " polling and the pace of creates; the network, the CPU and the disk of the journal do"
        f" not, so that each millisecond of theirs counts {speed:g} times. {at_once} runs go beside"
        " each other, each with a client and a service in processes of their own. Files are small;"
        f" the slow file host answers after {DOWNLOAD:g} s. With callbacks, default polling goes on"
        " beside them. The plain loop is bare aiohttp that holds one of ten permits of a semaphore"
        " from the create to the file, polls every 5 s, and has neither journal nor checks."
        f" Most tasks at once: {max(run.peak for run in runs.values())}; creates refused:"
        f" {sum(run.refused for run in runs.values())}; ends seen before they were: {early}."
    )
    return Results(
        title="A thousand tasks",
        text=text,
        tables=[table(runs, download) for download in (0.0, DOWNLOAD)],
        bounds=bounds(runs),
        plots=[growth(runs, download) for download in (0.0, DOWNLOAD)],
    )


def main() -> None:
    """Measure as the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=TASKS)
    parser.add_argument("--speed", type=float, default=SPEED)
    parser.add_argument("--at-once", type=int, default=AT_ONCE)
    given, others = parser.parse_known_args()
    results.run(lambda: measure(given.tasks, given.speed, given.at_once), others)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--serve", pace, seconds]:
            serve(float(pace), float(seconds))
        case ["--client"]:
            print(json.dumps(asyncio.run(run(json.loads(sys.stdin.readline())))), flush=True)
        case _:
            main()
