"""What polls cost the process that makes them, which is this one.

A module that has a client calls `main`, which polls one task again and again over one connection,
and prints what one of the polls cost as JSON. Some that are not counted go first: they load code.
"""

import argparse
import asyncio
import gc
import json
import resource
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager

KEY = "a-key-of-some-length-0123456789"
WARM = 200

Poll = Callable[[], Awaitable[object]]
Client = Callable[[str, str], AbstractAsyncContextManager[Poll]]


def cpu() -> float:
    """Return the CPU seconds that this process has spent."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def _cost(client: Client, base: str, task: str, count: int) -> float:
    """Return the CPU microseconds of one of so many polls, one after the other."""
    async with client(base, task) as poll:
        for _ in range(WARM):
            found = await poll()
        if task not in str(found):
            raise RuntimeError(f"a poll brought {found}")
        gc.collect()
        before = cpu()
        for _ in range(count):
            await poll()
        return 1e6 * (cpu() - before) / count


def main(client: Client, arguments: Sequence[str] | None = None) -> None:
    """Do what the arguments say, and print what it cost."""
    parser = argparse.ArgumentParser()
    parser.add_argument("base")
    parser.add_argument("task")
    parser.add_argument("count", type=int)
    given = parser.parse_args(arguments)
    print(json.dumps(asyncio.run(_cost(client, given.base, given.task, given.count))))
