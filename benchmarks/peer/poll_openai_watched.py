"""openai's SDK: many videos watched at once by its own helper, in a process that measures itself.

Some watched by a client of their own go first: they load the code.
"""

import argparse
import asyncio
import gc
import json
import time
import warnings
from pathlib import Path

import poll_measured
from openai import AsyncOpenAI

WARM = 20
WARM_MS = 10
PAGE = 4096

warnings.simplefilter("ignore")  # it says that the service behind this call will end


def held() -> float:
    """Return the memory that this process holds, in MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / 1e6


def most() -> float:
    """Return the most memory that this process held since that was forgotten, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM:"))) * 1024 / 1e6


async def watch(base: str, names: list[str], milliseconds: int) -> None:
    """Wait for all of them at once."""
    async with (
        AsyncOpenAI(api_key=poll_measured.KEY, base_url=base) as service,
        asyncio.TaskGroup() as group,
    ):
        for name in names:
            group.create_task(service.videos.poll(name, poll_interval_ms=milliseconds))


def main() -> None:
    """Watch as many as the arguments say, and print what that took."""
    parser = argparse.ArgumentParser()
    parser.add_argument("base")
    parser.add_argument("prefix", help="what their names begin with")
    parser.add_argument("count", type=int)
    parser.add_argument("interval", type=float, help="seconds")
    given = parser.parse_args()
    names = [f"{given.prefix}{number:08x}" for number in range(WARM + given.count)]
    asyncio.run(watch(given.base, names[:WARM], WARM_MS))
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the most memory is looked for anew
    before, cpu, began = held(), poll_measured.cpu(), time.monotonic()
    asyncio.run(watch(given.base, names[WARM:], round(1000 * given.interval)))
    told = {
        "seconds": time.monotonic() - began,
        "cpu": poll_measured.cpu() - cpu,
        "memory": most() - before,
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
