"""What shared slots cost: how soon a free one is used, and what waiting does to the server.

`python -m benchmarks.limits` needs `redis-server` and takes two minutes. Two processes hand one
slot to and fro; the time from a release in one to the grant in the other is read off the machine's
own clock, which they share.
"""

import asyncio
import itertools
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import attrs
from redis.asyncio import Redis

from benchmarks import measuring, results
from benchmarks.results import Bound, Results, Table
from tests.limits.redis_server import RedisServer
from veo_async import FileLimiter, LocalLimiter, RedisLimiter, TaskLimiter

TURNS = 150
WAITING = 1000
IDLE_SECONDS = 20.0
COMMANDS = ("eval", "evalsha", "ping", "subscribe")

Make = Callable[[], TaskLimiter]


def maker(kind: str, where: str) -> Make:
    """Return what makes a limiter of one slot."""
    if kind == "file":
        return lambda: FileLimiter(where, total=1)
    return lambda: RedisLimiter(where, account="bench", total=1)


async def hand_over(limiter: TaskLimiter, name: str, turns: int) -> list[tuple[float, str]]:
    """Take and give the slot so many times, and return when each happened."""
    dice = random.Random(name)
    seen: list[tuple[float, str]] = []
    for turn in range(turns):
        await limiter.reserve(f"{name}-{turn}")
        seen.append((time.monotonic(), "got"))
        await asyncio.sleep(dice.uniform(0.02, 0.08))
        seen.append((time.monotonic(), "gave"))
        await limiter.release(f"{name}-{turn}")
    return seen


async def one_side(make: Make, name: str) -> None:
    """Be one of two processes, and print what was seen."""
    limiter = make()
    for at, what in await hand_over(limiter, name, TURNS):
        print(at, what)
    await limiter.aclose()  # type: ignore[attr-defined]


def wake_ups(seen: list[tuple[float, str]]) -> list[float]:
    """Return the milliseconds from each release to the grant that follows it."""
    seen.sort()
    pairs = itertools.pairwise(seen)
    return [1000 * (b - a) for (a, gave), (b, got) in pairs if (gave, got) == ("gave", "got")]


def between_processes(kind: str, where: str) -> list[float]:
    sides = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.limits", "--side", kind, where, name],
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("one", "two")
    ]
    lines = [line.split() for side in sides for line in side.communicate()[0].splitlines()]
    return wake_ups([(float(at), what) for at, what in lines])


async def inside_a_process() -> list[float]:
    limiter = LocalLimiter(1)
    async with asyncio.TaskGroup() as group:
        sides = [group.create_task(hand_over(limiter, name, TURNS)) for name in ("one", "two")]
    return wake_ups([each for side in sides for each in side.result()])


@attrs.frozen
class Idle:
    """What it costs when many wait.

    Attributes:
        rate: Commits or commands per second.
        cpu: Of a core.
    """

    rate: float
    cpu: float


async def idle(make: Make, count: Callable[[], Awaitable[int]]) -> Idle:
    """Let a thousand wait, and return what that costs."""
    limiter = make()
    await limiter.reserve("held")
    waits = [
        asyncio.get_running_loop().create_task(limiter.reserve(str(number)))
        for number in range(WAITING)
    ]
    await asyncio.sleep(1)
    before, cpu = await count(), measuring.cpu()
    await asyncio.sleep(IDLE_SECONDS)
    cpu = (measuring.cpu() - cpu) / IDLE_SECONDS
    rate = (await count() - before) / IDLE_SECONDS
    for wait in waits:
        wait.cancel()
    await asyncio.wait(waits)
    await limiter.aclose()  # type: ignore[attr-defined]
    return Idle(rate, cpu)


async def idle_redis(url: str) -> Idle:
    async with Redis.from_url(url) as server:

        async def count() -> int:
            stats = await server.info("commandstats")
            return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in COMMANDS)

        return await idle(maker("redis", url), count)


async def idle_file(path: str) -> Idle:
    async def count() -> int:
        # By another process: closing the file here would take SQLite's locks away.
        words = ["od", "-An", "-tx1", "-j24", "-N4", path]
        told = await asyncio.to_thread(subprocess.check_output, words, text=True)
        return int(told.replace(" ", ""), 16)  # commits, by SQLite's file format

    return await idle(maker("file", path), count)


async def free_after_kill(kind: str, where: str) -> float:
    """Return the seconds until the slot of a killed process is somebody else's."""
    side = holder(kind, where)
    limiter = maker(kind, where)()
    waiting = asyncio.get_running_loop().create_task(limiter.reserve("next"))
    await asyncio.sleep(1)
    os.kill(side.pid, signal.SIGKILL)
    killed = time.monotonic()
    await waiting
    seconds = time.monotonic() - killed
    await limiter.release("next")
    await limiter.aclose()  # type: ignore[attr-defined]
    side.communicate()
    return seconds


def holder(kind: str, where: str) -> "subprocess.Popen[bytes]":
    """Return a process that holds the slot."""
    side = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.limits", "--hold", kind, where],
        stdout=subprocess.PIPE,
    )
    assert side.stdout is not None
    side.stdout.readline()
    return side


async def hold(make: Make) -> None:
    await make().reserve("held")
    print("held", flush=True)
    await asyncio.sleep(3600)


@attrs.frozen
class Figures:
    """What was measured of one kind of limiter.

    Attributes:
        times: Milliseconds from each release to the next grant.
        idle: What many cost that wait, if anybody but this process is asked.
        freed: Seconds until the slot of a killed process is another one's, if that can be.
    """

    times: list[float]
    idle: Idle | None = None
    freed: float | None = None

    @property
    def p99(self) -> float:
        return measuring.percentile(self.times, 0.99)

    def cells(self) -> list[str]:
        """Return a column of the table."""
        return [
            f"{len(self.times)}",
            f"{statistics.median(self.times):.2f} ms",
            f"{self.p99:.1f} ms",
            f"{max(self.times):.1f} ms",
            "" if self.idle is None else f"{self.idle.rate:.2f}",
            "" if self.idle is None else f"{self.idle.cpu:.2%}",
            "" if self.freed is None else f"{self.freed:.1f} s",
        ]


ROWS = (
    "hand-overs",
    "from a release to the next grant, median",
    "p99",
    "longest",
    f"{WAITING:,} wait: commits or commands per second",
    "of a core",
    "a process that holds the slot is killed: another has it after",
)


def through_a_file() -> Figures:
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:  # not on a RAM disk
        path = str(Path(folder, "slots.db"))
        return Figures(
            between_processes("file", path),
            asyncio.run(idle_file(path)),
            asyncio.run(free_after_kill("file", path)),
        )


def through_redis() -> Figures:
    with RedisServer() as server:
        return Figures(
            between_processes("redis", server.url),
            asyncio.run(idle_redis(server.url)),
            asyncio.run(free_after_kill("redis", server.url)),
        )


def kept(name: str, figures: Figures, *, p99: float, freed: float) -> list[Bound]:
    """Return what a kind of limiter promises."""
    assert figures.idle is not None
    assert figures.freed is not None
    return [
        Bound(f"{name}: ms from a release to the next grant, p99", figures.p99, p99),
        Bound(f"{name}: commits or commands a second, {WAITING:,} wait", figures.idle.rate, 1),
        Bound(f"{name}: s until a killed process's slot is another's", figures.freed, freed),
    ]


def measure() -> Results:
    """Measure one kind after the other."""
    found = {"local": Figures(asyncio.run(inside_a_process())), "file": through_a_file()}
    bounds = kept("file", found["file"], p99=250, freed=2)
    has_redis = shutil.which("redis-server") is not None
    if has_redis:
        found["Redis"] = through_redis()
        bounds += kept("Redis", found["Redis"], p99=50, freed=32)
    columns = [figures.cells() for figures in found.values()]
    return Results(
        title="Shared slots",
        text=(
            "Two processes hand one slot to and fro; the time from a release in one to the grant in"
            " the other is read off the machine's own clock, which they share. Local: two tasks of"
            " one process. File and Redis have a lease of 30 s."
            + ("" if has_redis else " `redis-server` is missing here, and so is its column.")
        ),
        tables=[Table(("figure", *found), [*zip(ROWS, *columns, strict=True)])],
        bounds=bounds,
    )


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--side", kind, where, name]:
            asyncio.run(one_side(maker(kind, where), name))
        case ["--hold", kind, where]:
            asyncio.run(hold(maker(kind, where)))
        case _:
            results.run(measure)
