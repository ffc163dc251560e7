"""What shared slots cost: how soon a free one is used, and what waiting does to the server.

`python -m benchmarks.limits` needs `redis-server` and takes two minutes. Two processes hand one
slot to and fro; the time from a release in one to the grant in the other is read off the machine's
own clock, which they share.
"""

import argparse
import asyncio
import itertools
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from redis.asyncio import Redis

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


def show(name: str, times: list[float], target: float | None) -> None:
    ordered = sorted(times)
    p99 = ordered[int(len(ordered) * 0.99)]
    goal = "" if target is None else f"  (at most {target:g})"
    print(
        f"  {name:8} {len(ordered):5} hand-overs, ms: median {statistics.median(ordered):6.2f}"
        f"  p99 {p99:6.1f}{goal}  longest {ordered[-1]:6.1f}"
    )


async def idle(make: Make, count: Callable[[], Awaitable[int]], name: str) -> None:
    """Let a thousand wait, and print what that costs."""
    limiter = make()
    await limiter.reserve("held")
    waits = [
        asyncio.get_running_loop().create_task(limiter.reserve(str(number)))
        for number in range(WAITING)
    ]
    await asyncio.sleep(1)
    before, cpu = await count(), time.process_time()
    await asyncio.sleep(IDLE_SECONDS)
    cpu = (time.process_time() - cpu) / IDLE_SECONDS
    rate = (await count() - before) / IDLE_SECONDS
    print(f"  {name:8} {rate:5.2f} per second, {cpu:.2%} of a core")
    for wait in waits:
        wait.cancel()
    await asyncio.wait(waits)
    await limiter.aclose()  # type: ignore[attr-defined]


async def idle_redis(url: str) -> None:
    async with Redis.from_url(url) as server:

        async def count() -> int:
            stats = await server.info("commandstats")
            return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in COMMANDS)

        await idle(maker("redis", url), count, "Redis")


async def idle_file(path: str) -> None:
    async def count() -> int:
        # By another process: closing the file here would take SQLite's locks away.
        words = ["od", "-An", "-tx1", "-j24", "-N4", path]
        told = await asyncio.to_thread(subprocess.check_output, words, text=True)
        return int(told.replace(" ", ""), 16)  # commits, by SQLite's file format

    await idle(maker("file", path), count, "file")


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


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--hold", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        asyncio.run(one_side(maker(*given.side[:2]), given.side[2]))
        return
    if given.hold:
        asyncio.run(hold(maker(*given.hold)))
        return
    with RedisServer() as server, tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        path = str(Path(folder, "slots.db"))
        print("from a release to the next grant, one slot, two who want it")
        show("local", asyncio.run(inside_a_process()), None)
        show("file", between_processes("file", path), 250)
        show("Redis", between_processes("redis", server.url), 50)
        print(f"{WAITING} wait: commits of the file, commands to the server (at most 1 per second)")
        asyncio.run(idle_file(path))
        asyncio.run(idle_redis(server.url))
        print("a process that holds the slot is killed: seconds until another has it")
        print(f"  file     {asyncio.run(free_after_kill('file', path)):5.1f}  (at most 2)")
        print(f"  Redis    {asyncio.run(free_after_kill('redis', server.url)):5.1f}  (at most 32)")


if __name__ == "__main__":
    main()
