"""Ten downloads at once with one client: the memory they need, and how late the loop gets."""

import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks import measuring, peers, results, server
from benchmarks.download import child, command
from benchmarks.results import Bound, Plot, Results, Table

SIZE = 200_000_000
WARM = 20_000_000
COUNT = 10
ROUNDS = 5
SLOW_ROUNDS = 1
GROWTH = (1, 3, COUNT, 30)
GROWTH_SIZE = 60_000_000
GROWTH_ROUNDS = 3

OURS = "veo_async, SHA-256 and fsync"
ON_LOOP = "aiohttp, 1 MiB chunks, writes and fsync on the loop"
AIOFILES = "aiohttp + aiofiles, 1 MiB chunks, no fsync"
WAYS = {
    OURS: ("", ""),
    ON_LOOP: ("aiohttp", "loop"),
    AIOFILES: ("aiohttp", str(1024 * 1024)),
}
SLOW = {"openai, the whole body as its guide has it, no fsync": ("openai", "whole")}

Told = dict[str, Any]
Lines = dict[str, Sequence[tuple[float, float]]]


class Crowds:
    """Crowds of downloads, each in a process of its own that measures itself."""

    def __init__(self, base: str) -> None:
        self._base = base

    def run(self, way: Sequence[str], count: int, size: int) -> Told:
        """Return what so many downloads at once cost."""
        with server.temporary() as folder:
            words = [*command(*way), self._base, str(folder), str(size), "--ticks"]
            return child([*words, f"--count={count}", f"--warm={WARM}"], folder)

    def compared(self) -> dict[str, list[Told]]:
        """Return what each way costs in each round; they take turns."""
        found: dict[str, list[Told]] = {name: [] for name in WAYS | SLOW}
        for number in range(ROUNDS):
            for name, way in (WAYS if number >= SLOW_ROUNDS else WAYS | SLOW).items():
                found[name].append(self.run(way, COUNT, SIZE))
        return found

    def growing(self) -> list[Plot]:
        """Return how both figures grow with the crowd."""
        memory: Lines = {name: [] for name in WAYS}
        delay: Lines = {name: [] for name in WAYS}
        for count in GROWTH:
            for name, way in WAYS.items():
                told = [self.run(way, count, GROWTH_SIZE) for _ in range(GROWTH_ROUNDS)]
                memory[name] = [*memory[name], (count, median(told, "memory"))]
                delay[name] = [*delay[name], (count, 1e3 * median(told, "p99"))]
        size = f"of {GROWTH_SIZE / 1e6:.0f} MB"
        return [
            Plot(f"Memory of downloads {size} at once", "downloads at once", "MB more", memory),
            Plot(
                f"Delay of the loop, downloads {size} at once",
                "downloads at once",
                "p99, ms",
                delay,
                has_log_y=True,
            ),
        ]


def median(told: Sequence[Told], figure: str) -> float:
    """Return the median of a figure."""
    return float(statistics.median(one[figure] for one in told))


def row(name: str, told: Sequence[Told]) -> tuple[str, ...]:
    """Return a row of the table."""
    return (
        name,
        measuring.spread([one["memory"] for one in told], ".1f"),
        measuring.spread([1e3 * one["p99"] for one in told], ".1f"),
        f"{1e3 * max(one['longest'] for one in told):.0f}",
        measuring.spread([one["cpu"] / (COUNT * SIZE / 1e9) for one in told]),
        f"{median(told, 'seconds'):.1f}",
    )


def measure() -> Results:
    """Measure in turns."""
    with server.serving(sorted({SIZE, WARM, GROWTH_SIZE})) as served:
        crowds = Crowds(served.http)
        found = crowds.compared()
        plots = crowds.growing()
    head = ("", "memory, MB more", "delay p99, ms", "longest, ms", "CPU s per GB", "s")
    return Results(
        title="Ten downloads at once",
        text=(
            f"{COUNT} downloads of {SIZE / 1e6:.0f} MB at once with one client over HTTP, to the"
            f" disk of the checkout, {ROUNDS} rounds ({SLOW_ROUNDS} of the whole bodies). Each"
            " crowd runs in a fresh process, which loads its code with a small download and then"
            " measures itself: its peak memory above what it held then, and how late its loop is,"
            " seen by a task that sleeps 1 ms and by a timer of 1 ms; the later one of the two is"
            f" shown. Peers: {peers.versions()}."
        ),
        tables=[Table(head, [row(name, told) for name, told in found.items()])],
        bounds=[
            Bound(f"MB more for {COUNT} downloads at once", median(found[OURS], "memory"), 30),
            Bound(
                f"ms of delay of the loop, p99, {COUNT} downloads at once",
                1e3 * median(found[OURS], "p99"),
                20,
            ),
        ],
        plots=plots,
    )


if __name__ == "__main__":
    results.run(measure)
