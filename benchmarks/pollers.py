"""Ten thousand tasks watched at once by one process, and the same with openai's SDK."""

import asyncio
import gc
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import IO, ClassVar

import attrs

from benchmarks import measuring, peers, results
from benchmarks.peer.poll_measured import KEY
from benchmarks.poll import PROMPT, asks_for_gzip, recorded
from benchmarks.results import Bound, Results, Table
from veo_async import PollPolicy, VeoClient

TASKS = 10_000
POLLS = 8  # of each task; the last one finds its end. The usual 15 would take openai 9 minutes
INTERVAL = 5.0  # spec: Integration Notes
WARM = 20  # tasks
WARM_INTERVAL = 0.01
PATIENCE = 500.0  # seconds for one process
DIGITS = 8  # of an id that number the task

OURS = "veo_async, `veo.task(id).wait()`"
OPENAI = "openai, `videos.poll(id)`"


@attrs.frozen
class Watched:
    """What it took to watch all tasks to their ends.

    Attributes:
        seconds: Real time.
        cpu: CPU seconds.
        memory: The most memory, above what was held before, in MB.
        polls: How often the service was asked, by its own books.
    """

    seconds: float
    cpu: float
    memory: float
    polls: int


# --- the service, in a process of its own


def record(task_id: str, *, has_ended: bool) -> object:
    """Return the live service's record of a task."""
    link = f"https://tempfile.aiquickdraw.com/v/{task_id}_1776728270.mp4"
    made = {"taskId": task_id, "resolution": "720p", "resultUrls": [link], "seeds": [61668]}
    parameters = {"aspectRatio": "16:9", "model": "veo3_fast", "prompt": PROMPT[:500]}
    data = {
        "taskId": task_id,
        "paramJson": json.dumps(parameters),
        "completeTime": 1776728275000 if has_ended else None,
        "response": made if has_ended else None,
        "successFlag": int(has_ended),
        "fallbackFlag": False,
        "createTime": 1776728214000,
        "errorCode": None,
        "errorMessage": None,
    }
    return {"code": 200, "msg": "success", "data": data}


def video(task_id: str, *, has_ended: bool) -> object:
    """Return openai's form of a video."""
    return {
        "id": task_id,
        "object": "video",
        "created_at": 1776728214,
        "status": "completed" if has_ended else "in_progress",
        "completed_at": 1776728275 if has_ended else None,
        "error": None,
        "expires_at": None,
        "model": "sora-2",
        "progress": 100 if has_ended else 33,
        "prompt": PROMPT[:600],
        "remixed_from_video_id": None,
        "seconds": "8",
        "size": "1280x720",
    }


class Answering(asyncio.Protocol):
    """Says that a task is generating, until it was asked for it often enough."""

    asked: ClassVar = Counter[str]()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the connection."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._heard = b""

    def data_received(self, data: bytes) -> None:
        """Answer each head that is whole."""
        *whole, self._heard = (self._heard + data).split(b"\r\n\r\n")
        for head in whole:
            path = head.split(b" ", 2)[1].decode()
            form = video if path.startswith("/videos/") else record
            task_id = path.rpartition("/" if form is video else "=")[2]
            self.asked[task_id] += 1
            body = form(task_id, has_ended=self.asked[task_id] >= POLLS)
            packs = asks_for_gzip(head)
            self._transport.write(recorded(json.dumps(body).encode(), packs=packs))


async def serve() -> None:
    """Serve until the input ends; a line of it asks for the polls of ids that begin so."""
    server = await asyncio.get_running_loop().create_server(Answering, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        names = [name for name in Answering.asked if name.startswith(line.strip())]
        print(sum(Answering.asked[name] for name in names), flush=True)


class Service:
    """That process."""

    def __init__(self, asked: IO[str], told: IO[str]) -> None:
        self._in, self._out = asked, told
        self._prefixes = 0
        self.url = f"http://127.0.0.1:{int(self._out.readline())}"

    def prefix(self) -> str:
        """Return what ids begin with that were never asked for; with their number, 32 digits."""
        self._prefixes += 1
        return f"{self._prefixes:024x}"

    def polls(self, prefix: str) -> int:
        """Return how often ids that begin so were asked for."""
        print(prefix, file=self._in, flush=True)
        return int(self._out.readline())


@contextmanager
def service() -> Generator[Service]:
    """Start a service."""
    with measuring.child("pollers") as (asked, told):
        yield Service(asked, told)


# --- what measures itself, in a fresh process each time


async def watch(url: str, names: Sequence[str], interval: float) -> None:
    """Wait for all of them at once."""
    async with (
        VeoClient(KEY, base_url=url, poll=PollPolicy(interval)) as veo,
        asyncio.TaskGroup() as group,
    ):
        for name in names:
            group.create_task(veo.task(name).wait())


def watched(url: str, prefix: str, count: int, interval: float) -> dict[str, float]:
    """Return what it took this process to watch so many."""
    names = [f"{prefix}{number:0{DIGITS}x}" for number in range(WARM + count)]
    asyncio.run(watch(url, names[:WARM], WARM_INTERVAL))
    gc.collect()
    measuring.forget_peak()
    held, cpu, began = measuring.rss(), measuring.cpu(), time.monotonic()
    asyncio.run(watch(url, names[WARM:], interval))
    return {
        "seconds": time.monotonic() - began,
        "cpu": measuring.cpu() - cpu,
        "memory": measuring.peak_rss() - held,
    }


def fresh(served: Service, name: str) -> Watched:
    """Return what it took a fresh process of this package, or of openai's."""
    words = [sys.executable, "-m", "benchmarks.pollers", "--watch"]
    if name == OPENAI:
        script = Path(__file__).with_name("peer") / "poll_openai_watched.py"
        words = [peers.python(), str(script)]
    prefix = served.prefix()
    words += [served.url, prefix, str(TASKS), str(INTERVAL)]
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, timeout=PATIENCE)
    # Those that went first were polled too.
    return Watched(**json.loads(done.stdout), polls=served.polls(prefix) - WARM * POLLS)


# --- the figures


def row(name: str, found: Sequence[Watched]) -> tuple[str, ...]:
    """Return what one of the clients took."""
    return (
        name,
        measuring.spread([one.seconds for one in found], ".1f"),
        f"{median(one.polls for one in found):,.0f}",
        measuring.spread([one.polls / one.seconds for one in found], ",.0f"),
        measuring.spread([1e6 * one.cpu / one.polls for one in found], ",.0f"),
        measuring.spread([100 * one.cpu / one.seconds for one in found], ".0f"),
        measuring.spread([1e3 * one.memory / TASKS for one in found], ".1f"),
    )


def measure() -> Results:
    """Watch by both, in turns."""
    found: dict[str, list[Watched]] = {OURS: [], OPENAI: []}
    with service() as served:
        for name, runs in found.items():
            runs.append(fresh(served, name))  # once: the other one takes three minutes
    cpu = {name: median(one.cpu / one.polls for one in runs) for name, runs in found.items()}
    memory = {name: median(one.memory for one in runs) for name, runs in found.items()}
    head = (
        f"{TASKS:,} tasks",
        "s",
        "polls",
        "polls per s",
        "CPU per poll, µs",
        "% of a core",
        "KB more per task",
    )
    return Results(
        title="Ten thousand watched",
        text=(
            f"{TASKS:,} tasks of another process, each waited for by a coroutine of its own and"
            f" asked for every {INTERVAL:g} s, which is {TASKS / INTERVAL:,.0f} polls per second"
            f" where a client keeps up. Each has ended at its poll {POLLS}. The answers are as they"
            " were recorded of the live service, over loopback: gzip if asked for,"
            " in chunks, with a cookie."
            f" Each run is a fresh process that measures itself after {WARM} other tasks that load"
            " the code; the memory is the most that it held, above what it held before. Both with"
            " their own pools: 100 connections here, 1,000 there. The polls are the service's"
            f" books; each was run once. Peers: {peers.versions()}."
        ),
        tables=[Table(head, [row(name, runs) for name, runs in found.items()])],
        bounds=[
            Bound(
                f"CPU of a poll where {TASKS:,} are watched, parts of openai's",
                cpu[OURS] / cpu[OPENAI],
                0.05,
            ),
            Bound(
                f"memory of {TASKS:,} watched tasks, parts of openai's",
                memory[OURS] / memory[OPENAI],
                0.3,
            ),
        ],
    )


def main(words: Sequence[str]) -> None:
    """Serve, watch in this process, or measure all."""
    if words[:1] == ["--serve"]:
        asyncio.run(serve())
    elif words[:1] == ["--watch"]:
        url, prefix, count, interval = words[1:]
        print(json.dumps(watched(url, prefix, int(count), float(interval))))
    else:
        results.run(measure)


if __name__ == "__main__":
    main(sys.argv[1:])
