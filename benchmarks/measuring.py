"""What is read off this process and its children, and rounds in which ways take turns."""

import resource
import statistics
import subprocess
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

PAGE = 4096


def cpu(who: int = resource.RUSAGE_SELF) -> float:
    """Return the CPU seconds spent so far by this process, or by its ended children."""
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


def cpu_of(work: Callable[[], object], who: int = resource.RUSAGE_SELF) -> float:
    """Return the CPU seconds that `work` takes here, or in the children that it starts and ends."""
    before = cpu(who)
    work()
    return cpu(who) - before


def rss() -> float:
    """Return the memory that this process holds now, in MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / 1e6


def peak_rss() -> float:
    """Return the most memory that this process held since the last `forget_peak`, in MB."""
    status = Path("/proc/self/status").read_text()
    kilobytes = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(kilobytes) * 1024 / 1e6


def forget_peak() -> None:
    """Start to look for the most memory anew (proc(5), clear_refs)."""
    Path("/proc/self/clear_refs").write_text("5")


def taking_turns(ways: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Return the figures of each way, measured in rounds in which each has one turn.

    One more round goes first and is not counted: it loads code and fills caches.
    """
    figures: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            figure = way()
            if number:
                figures[name].append(figure)
    return figures


def spread(values: Sequence[float], form: str = ".2f") -> str:
    """Return a median, with the least and the most."""
    median = statistics.median(values)
    return f"{median:{form}} ({min(values):{form}} to {max(values):{form}})"


def percentile(values: Sequence[float], part: float) -> float:
    """Return the value below which that part of them lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


@contextmanager
def child(module: str) -> Generator[tuple[IO[str], IO[str]]]:
    """Run a module's service in a process of its own; yield its input and its output.

    It is started with `--serve`, and ends with its input.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", f"benchmarks.{module}", "--serve"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process.stdin, process.stdout
    finally:
        process.communicate()
