"""What a client's downloads cost the process that runs them, which is this one.

A module that has a client calls `main`, which makes the client, fetches, closes it, and prints what
that cost as JSON. A small download with a client of its own goes first: it loads the code.
"""

import argparse
import asyncio
import gc
import hashlib
import json
import resource
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

TICK = 0.001
PIECE = 1024 * 1024
PAGE = 4096


@dataclass(frozen=True)
class Task:
    """What a client is to do.

    Attributes:
        base: The server's address.
        context: Whom to trust over TLS.
        count: How many downloads there will be at once.
        way: Which of its ways to take, where it has several.
    """

    base: str
    context: ssl.SSLContext | None
    count: int
    way: str

    def url(self, size: int) -> str:
        """Return the address of a file."""
        return f"{self.base}/{size}.mp4"


Fetch = Callable[[int, Path], Awaitable[object]]
Client = Callable[[Task], AbstractAsyncContextManager[Fetch]]


class Ticker:
    """How late a loop comes back to those who wait: a task that sleeps, and a plain timer."""

    def __init__(self) -> None:
        self.sleeper: list[float] = []
        self.timer: list[float] = []
        self._due = 0.0

    async def sleep(self) -> None:
        """Sleep again and again."""
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            await asyncio.sleep(TICK)
            self.sleeper.append(loop.time() - began - TICK)

    def tick(self) -> None:
        """Be called again and again."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        if self._due:
            self.timer.append(now - self._due)
        self._due = now + TICK
        loop.call_later(TICK, self.tick)


def _p99(values: Sequence[float]) -> float:
    return sorted(values)[int(0.99 * len(values))] if values else 0.0


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _rss() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / 1e6


def _peak_rss() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM:"))) * 1024 / 1e6


async def _fetch_all(client: Client, task: Task, targets: Sequence[Path], size: int) -> None:
    async with client(task) as fetch:
        running = [asyncio.ensure_future(fetch(size, target)) for target in targets]  # noqa: TID251  # no owner here
        try:
            await asyncio.wait(running)
        finally:
            for one in running:
                one.cancel()
        for one in running:
            one.result()


async def _watched(client: Client, task: Task, targets: Sequence[Path], size: int) -> Ticker:
    ticker = Ticker()
    ticker.tick()
    sleeper = asyncio.ensure_future(ticker.sleep())  # noqa: TID251  # no owner here
    try:
        await _fetch_all(client, task, targets, size)
    finally:
        sleeper.cancel()
    return ticker


def _hash_seconds(path: Path) -> float:
    """Return the CPU seconds of hashing a file's bytes; reading them is not counted."""
    digest, seconds = hashlib.sha256(), 0.0
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            before = time.thread_time()
            digest.update(piece)
            seconds += time.thread_time() - before
    return seconds


def _outcome(error: BaseException | None, targets: Sequence[Path], size: int) -> str:
    if error is not None:
        return type(error).__name__
    return "whole" if all(path.stat().st_size == size for path in targets) else "too short"


def main(client: Client, arguments: Sequence[str] | None = None) -> None:
    """Do what the arguments say, and print what it cost."""
    parser = argparse.ArgumentParser()
    parser.add_argument("base")
    parser.add_argument("folder", type=Path)
    parser.add_argument("size", type=int)
    parser.add_argument("--authority", default="", help="whose certificates to trust")
    parser.add_argument("--count", type=int, default=1, help="downloads at once")
    parser.add_argument("--hash", action="store_true", help="also measure SHA-256 on its own")
    parser.add_argument("--name", default="target", help="what to call the files")
    parser.add_argument("--ticks", action="store_true", help="also measure the loop's delay")
    parser.add_argument("--warm", type=int, default=0, help="size of the download that goes first")
    parser.add_argument("--way", default="")
    given = parser.parse_args(arguments)
    context = ssl.create_default_context(cafile=given.authority) if given.authority else None
    task = Task(given.base, context, given.count, given.way)
    if given.warm:
        warm = given.folder / f"{given.name}-warm.mp4"
        asyncio.run(_fetch_all(client, task, [warm], given.warm))
        warm.unlink()
    targets = [given.folder / f"{given.name}-{number}.mp4" for number in range(given.count)]
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the most memory is looked for anew
    held, cpu, began, error, ticker = _rss(), _cpu(), time.monotonic(), None, Ticker()
    try:
        if given.ticks:
            ticker = asyncio.run(_watched(client, task, targets, given.size))
        else:
            asyncio.run(_fetch_all(client, task, targets, given.size))
    except Exception as raised:  # noqa: BLE001  # whatever it is, it is the outcome
        error = raised
    told = {
        "cpu": _cpu() - cpu,
        "seconds": time.monotonic() - began,
        "memory": _peak_rss() - held,
        "p99": max(_p99(ticker.sleeper), _p99(ticker.timer)),
        "longest": max([0.0, *ticker.sleeper, *ticker.timer]),
        "bytes": sum(path.stat().st_size for path in targets if path.exists()),
        "outcome": _outcome(error, targets, given.size),
        "hash": _hash_seconds(targets[0]) if given.hash else 0.0,
    }
    print(json.dumps(told))
