"""24 hours of a full batch in virtual time: what the slots did, and what the client cost.

Nothing here waits: the clock jumps, and the service is a state machine in this process, whose share
of the CPU is in the figures. `python -m benchmarks.day HOURS` runs fewer hours.
"""

import logging
import os
import sys
import tempfile
import time
from pathlib import Path

from tests.flows.virtual_time import Day, run_a_day
from veo_async.simulator.records import Endpoint

RAM_DISK = Path("/dev/shm")


def main(hours: float = 24.0) -> None:
    """Run, and print the table."""
    logging.getLogger("veo_async").setLevel(logging.ERROR)  # of each lost answer there is a warning
    # What fsync takes is another benchmark's question.
    parent = RAM_DISK if os.access(RAM_DISK, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        wall, cpu = time.perf_counter(), time.process_time()
        day = run_a_day(Path(folder), hours=hours)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"{hours:g} h of ten slots in virtual time, prompts always waiting, some faults")
    for name, value in table(day, wall=wall, cpu=cpu).items():
        print(f"  {name:42} {value}")


def table(day: Day, *, wall: float, cpu: float) -> dict[str, str]:
    """Return the figures, by name."""
    book, answers = day.book, day.transport.answers
    polls = sum(count for (where, _), count in answers.items() if where is Endpoint.RECORD_INFO)
    return {
        "tasks": f"{book.tasks}",
        "of the slots' time, generating": f"{book.generating / book.total:.2%}",
        "  ended and not seen yet": f"{book.unseen / book.total:.2%}",
        "  held for lost answers": f"{book.lapsing / book.total:.2%}",
        "  idle": f"{book.idle / book.total:.2%}",
        "delay of detection, mean": f"{book.unseen / book.seen:.2f} s",
        "from a free slot to the next task, mean": f"{sum(book.gaps) / book.tasks:.2f} s",
        "from a free slot to the next task, longest": f"{max(book.gaps):.2f} s",
        "polls per task": f"{polls / book.tasks:.1f}",
        "most tasks at once": f"{day.transport.service.peak_running}",
        "creates refused as one too many": f"{day.transport.refused}",
        "CPU per task": f"{1000 * cpu / book.tasks:.1f} ms",
        "real time": f"{wall:.1f} s",
        "the batch's own words": f"{day.report}",
    }


if __name__ == "__main__":
    main(*map(float, sys.argv[1:2]))
