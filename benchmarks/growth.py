"""What grows with the work: tasks that are watched, prompts of a batch, jobs of a journal.

The service that is polled runs in a process of its own, so that its CPU is not counted.
"""

import asyncio
import gc
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import ClassVar, TypeAlias

from benchmarks import measuring, results
from benchmarks.batch import finished_journal, first_request, opening_seconds
from benchmarks.results import Bound, Plot, Results, Table
from veo_async import PollPolicy, VeoClient
from veo_async.events import Event, Observer, TaskUpdated

TASKS = (10, 100, 1_000, 10_000)
HELD = (100, 1_000, 10_000)  # tasks; the pages of fewer are too few to be counted
POLLS = 4  # of each task; the last one finds its end
RATE = 3_000  # polls per second, however many tasks there are
WARM = 20  # tasks
PATIENCE = 120.0  # seconds for one figure
WATCHES = 3  # of each number of tasks
PROMPTS = (100, 1_000, 10_000, 100_000, 1_000_000)
BATCHES = 3  # of each number of prompts
JOBS = (100, 1_000, 10_000, 100_000)
OPENINGS = 5
MANY = 100_000  # prompts, and jobs, of which something is promised

KEY = "a-key-of-some-length-0123456789"
ENDLESS = "endless"  # what the ids of tasks begin with that never end
PARAMETERS = {"prompt": "A dog in a park at dawn, 35 mm film grain. " * 14, "model": "veo3_fast"}
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"

Found: TypeAlias = Mapping[int, Sequence[Sequence[float]]]  # for each count, figures of each round


# --- the service, in a process of its own


def answer(task_id: str, *, has_ended: bool) -> bytes:
    """Return a status answer of the live service."""
    links = [f"https://tempfile.aiquickdraw.com/v/{task_id}.mp4"]
    record = {
        "taskId": task_id,
        "paramJson": json.dumps(PARAMETERS),
        "completeTime": 1780741880000 if has_ended else None,
        "response": {"taskId": task_id, "resultUrls": links} if has_ended else None,
        "successFlag": int(has_ended),
        "errorCode": None,
        "errorMessage": None,
        "createTime": 1780741800000,
        "fallbackFlag": False,
    }
    body = json.dumps({"code": 200, "msg": "success", "data": record}).encode()
    return HEAD % len(body) + body


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
            _, _, rest = head.partition(b"taskId=")
            task_id = rest.split(maxsplit=1)[0].decode()
            self.asked[task_id] += 1
            has_ended = self.asked[task_id] >= POLLS and not task_id.startswith(ENDLESS)
            self._transport.write(answer(task_id, has_ended=has_ended))


async def serve() -> None:
    """Serve until the input ends."""
    server = await asyncio.get_running_loop().create_server(Answering, "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await asyncio.to_thread(sys.stdin.read)


@contextmanager
def service() -> Generator[int]:
    """Start a service; yield its port."""
    with measuring.child("growth") as (_, told):
        yield int(told.readline())


# --- what measures itself, in a fresh process each time


def client(port: int, interval: float, on_event: Observer | None = None) -> VeoClient:
    """Return a client of the service on that port."""
    return VeoClient(
        KEY, base_url=f"http://127.0.0.1:{port}", poll=PollPolicy(interval), on_event=on_event
    )


async def watch(veo: VeoClient, count: int, name: str) -> None:
    """Wait for so many tasks of another process at once."""
    async with asyncio.TaskGroup() as group:
        for number in range(count):
            # The service counts the polls of each id, and outlives this process.
            group.create_task(veo.task(f"{name}-{os.getpid()}-{number}").wait())


async def warm_up(port: int) -> None:
    """Load what is loaded late, with a client of its own."""
    async with client(port, 0.01) as veo:
        await watch(veo, WARM, "warm")
    gc.collect()


def clocked_collector() -> list[float]:
    """Return a list to which the seconds of each garbage collection are added from now on."""
    seconds: list[float] = []
    began = 0.0

    def collecting(phase: str, _: Mapping[str, int]) -> None:
        nonlocal began
        if phase == "start":
            began = time.thread_time()
        else:
            seconds.append(time.thread_time() - began)

    gc.callbacks.append(collecting)
    return seconds


async def cpu_per_task(port: int, count: int) -> list[float]:
    """Return the CPU ms of a task where so many are watched at once, and the collector's in it.

    Fewer are watched more often, so that there are always as many polls.
    """
    times = max(TASKS) // count
    await warm_up(port)
    collected = clocked_collector()
    async with client(port, count / RATE) as veo:
        before = measuring.cpu()
        for turn in range(times):
            await watch(veo, count, f"task-{turn}")
        spent = measuring.cpu() - before
    return [1e3 * seconds / (times * count) for seconds in (spent, sum(collected))]


async def memory_per_task(port: int, count: int) -> list[float]:
    """Return by how many KB memory grows for a task that waits for its next poll."""
    await warm_up(port)
    left = count
    all_polled = asyncio.Event()

    def observe(event: Event) -> None:
        nonlocal left
        left -= isinstance(event, TaskUpdated)
        if not left:
            all_polled.set()

    # So long that nothing but the first polls takes place until all is counted.
    async with client(port, 60.0, observe) as veo:
        before = measuring.rss()
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(watch(veo, count, ENDLESS))
            await all_polled.wait()
            gc.collect()
            grown = measuring.rss() - before
            logging.disable()  # the client names all that it leaves
            waiting.cancel()
    return [1e3 * grown / count]


def first(count: int) -> list[float]:
    """Return the ms until a batch of so many prompts pays, and MB until its first result."""
    with tempfile.TemporaryDirectory() as folder:
        found = first_request(count, Path(folder))
    return [1e3 * found.seconds, found.grown[1]]


CHILDREN: dict[str, Callable[..., list[float]]] = {
    "--cpu": lambda port, count: asyncio.run(cpu_per_task(port, count)),
    "--memory": lambda port, count: asyncio.run(memory_per_task(port, count)),
    "--first": first,
}


def fresh(name: str, *numbers: int) -> list[float]:
    """Return what one of these finds in a fresh process."""
    words = [sys.executable, "-m", "benchmarks.growth", name, *map(str, numbers)]
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, timeout=PATIENCE)
    found: list[float] = json.loads(done.stdout)
    return found


# --- the figures


def in_turns(figures: Callable[[int], list[float]], counts: Sequence[int], rounds: int) -> Found:
    """Return the figures of each count, in rounds in which each has one turn."""
    found: dict[int, list[list[float]]] = {count: [] for count in counts}
    for _ in range(rounds):
        for count in counts:
            found[count].append(figures(count))
    return found


def openings() -> Found:
    """Return the ms in which journals of so many finished jobs are opened."""
    with ExitStack() as stack:
        folders = {
            count: Path(stack.enter_context(tempfile.TemporaryDirectory())) for count in JOBS
        }
        paths = {count: finished_journal(count, folder) for count, folder in folders.items()}
        return in_turns(
            lambda count: [1e3 * opening_seconds(paths[count], folders[count])], JOBS, OPENINGS
        )


def column(found: Found, number: int = 0) -> dict[int, list[float]]:
    """Return one of the figures, of all rounds."""
    return {count: [one[number] for one in rounds] for count, rounds in found.items()}


def table(what: str, figures: Sequence[tuple[str, Found, int]], form: str) -> Table:
    """Return a table of figures for each count."""
    columns = [column(found, number) for _, found, number in figures]
    rows = [
        (f"{count:,}", *(measuring.spread(one[count], form) for one in columns))
        for count in columns[0]
    ]
    return Table((what, *(name for name, _, _ in figures)), rows)


def tables(watched: Found, held: Found, batches: Found, opened: Found) -> list[Table]:
    """Return all figures."""
    tasks = "tasks watched at once"
    cpu = [("CPU ms per task", watched, 0), ("of it the garbage collector", watched, 1)]
    first_ones = [
        ("ms to the first paid request", batches, 0),
        ("MB more until the first result", batches, 1),
    ]
    return [
        table(tasks, cpu, ".2f"),
        table(tasks, [("KB more per task", held, 0)], ".1f"),
        table("prompts of a batch", first_ones, ".1f"),
        table("finished jobs of a journal", [("ms until it is open", opened, 0)], ".1f"),
    ]


def line(found: Found, number: int = 0) -> Sequence[tuple[float, float]]:
    """Return the medians of a figure as points."""
    return [(float(count), median(values)) for count, values in column(found, number).items()]


def plots(watched: Found, held: Found, batches: Found, opened: Found) -> list[Plot]:
    """Return how each figure grows."""
    tasks, prompts, jobs = "tasks watched at once", "prompts of the input", "finished jobs"
    cpu = {"all": line(watched), "of it the garbage collector": line(watched, 1)}
    return [
        Plot(f"CPU of a task, {POLLS} polls", tasks, "CPU ms per task", cpu),
        Plot("Memory of a task", tasks, "KB more per task", {"veo_async": line(held)}),
        Plot("First paid request of a batch", prompts, "ms", {"veo_async": line(batches)}),
        Plot("Memory until the first result", prompts, "MB more", {"veo_async": line(batches, 1)}),
        Plot("Opening a journal", jobs, "ms", {"veo_async": line(opened)}, has_log_y=True),
    ]


def bounds(watched: Found, batches: Found, opened: Found) -> list[Bound]:
    """Return what is promised."""
    cpu = dict(line(watched))
    least, most = min(TASKS), max(TASKS)
    return [
        Bound(
            f"CPU of a task where {most:,} are watched, parts of that where {least} are",
            cpu[most] / cpu[least],
            1.5,
        ),
        Bound(f"seconds to open a journal of {MANY:,} jobs", dict(line(opened))[MANY] / 1e3, 1),
        Bound(
            f"seconds to the first paid request of {MANY:,} prompts",
            dict(line(batches))[MANY] / 1e3,
            0.05,
        ),
        Bound(
            f"MB that memory grows before the first of {MANY:,} prompts is made",
            dict(line(batches, 1))[MANY],
            4,
        ),
    ]


def measure() -> Results:
    """Measure all sizes, each in turns."""
    with service() as port:
        watched = in_turns(lambda count: fresh("--cpu", port, count), TASKS, WATCHES)
        held = in_turns(lambda count: fresh("--memory", port, count), HELD, WATCHES)
    batches = in_turns(lambda count: fresh("--first", count), PROMPTS, BATCHES)
    opened = openings()
    return Results(
        title="As the work grows tenfold",
        text=(
            "Tasks of another process, each waited for by a coroutine of its own, over loopback."
            f" Each has ended at its poll {POLLS}; the interval is such that there are {RATE:,}"
            f" polls per second, and fewer tasks are watched more often, {max(TASKS):,} in all."
            " What is not flat is mostly Python's garbage collector, whose share is told apart."
            " Their memory is what the process has grown by when each was polled once and waits"
            " for the next time. A batch takes its prompts from a generator, against the simulator;"
            " its memory is what has grown until the first result. Each of these measures itself in"
            f" a fresh process, {WATCHES} rounds of tasks and {BATCHES} of batches; tasks after"
            f" {WARM} others that load the code. Journals are opened, and checked for damage,"
            f" {OPENINGS} times, the first time just after they were written."
        ),
        tables=tables(watched, held, batches, opened),
        bounds=bounds(watched, batches, opened),
        plots=plots(watched, held, batches, opened),
    )


def main(words: Sequence[str]) -> None:
    """Serve, measure one thing in this process, or measure all in fresh ones."""
    if words[:1] == ["--serve"]:
        asyncio.run(serve())
    elif words and words[0] in CHILDREN:
        print(json.dumps(CHILDREN[words[0]](*map(int, words[1:]))))
    else:
        results.run(measure)


if __name__ == "__main__":
    main(sys.argv[1:])
