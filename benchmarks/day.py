"""24 hours of a full batch in virtual time: what the slots did, and what the client cost.

Nothing here waits: the clock jumps, and the service is a state machine in this process, whose share
of the CPU is in the figures. `python -m benchmarks.day HOURS` runs fewer hours.
"""

import argparse
import logging
import os
import tempfile
import time
from pathlib import Path

from benchmarks import measuring, results
from benchmarks.results import Bound, Results, Table
from tests.flows.virtual_time import Day, run_a_day
from veo_async.simulator.records import Endpoint

HOURS = 24.0
RAM_DISK = Path("/dev/shm")


def measure(hours: float = HOURS) -> Results:
    """Run so many hours."""
    logging.getLogger("veo_async").setLevel(logging.ERROR)  # of each lost answer there is a warning
    # What fsync takes is another benchmark's question.
    parent = RAM_DISK if os.access(RAM_DISK, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        wall, cpu = time.perf_counter(), measuring.cpu()
        day = run_a_day(Path(folder), hours=hours)
        wall, cpu = time.perf_counter() - wall, measuring.cpu() - cpu
    disk = "a RAM disk" if parent else "the disk of the temporary folders"
    book, service = day.book, day.transport.service
    return Results(
        title="A day of ten slots",
        text=(
            f"{hours:g} hours in virtual time, prompts always waiting, three quality videos to one"
            " fast one, with 429s, bad polls, failed generations, lost answers and cut downloads."
            f" The clock jumps over every wait; the journal and the files are on {disk}."
        ),
        tables=[Table(("figure", "value"), [*rows(day, wall=wall, cpu=cpu).items()])],
        bounds=[
            Bound("% of the slots' time in a day that is idle", 100 * book.idle / book.total, 1),
            Bound("creates refused as one too many in a day", day.transport.refused, 0),
            Bound("tasks at once in a day", service.peak_running, 10),
        ],
    )


def rows(day: Day, *, wall: float, cpu: float) -> dict[str, str]:
    """Return the figures, by name."""
    book, answers = day.book, day.transport.answers
    polls = sum(count for (where, _), count in answers.items() if where is Endpoint.RECORD_INFO)
    return {
        "tasks": f"{book.tasks:,}",
        "of the slots' time, generating": f"{book.generating / book.total:.2%}",
        "ended and not seen yet by a poll": f"{book.unseen / book.total:.2%}",
        "held for lost answers": f"{book.lapsing / book.total:.2%}",
        "**idle**": f"**{book.idle / book.total:.2%}**",
        "from an end to the poll that sees it, mean": f"{book.unseen / book.seen:.2f} s",
        "from a free slot to the next task, mean": f"{sum(book.gaps) / book.tasks:.2f} s",
        "from a free slot to the next task, longest": f"{max(book.gaps):.2f} s",
        "polls per task": f"{polls / book.tasks:.1f}",
        "most tasks at once": f"{day.transport.service.peak_running}",
        "creates refused as one too many": f"{day.transport.refused}",
        "CPU per task, the simulated service included": f"{1000 * cpu / book.tasks:.1f} ms",
        "real time": f"{wall:.1f} s",
        "the batch's own words": f"{day.report}",
    }


def main() -> None:
    """Measure as many hours as the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("hours", nargs="?", type=float, default=HOURS)
    given, others = parser.parse_known_args()
    results.run(lambda: measure(given.hours), others)


if __name__ == "__main__":
    main()
