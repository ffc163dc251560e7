"""Batches under `kill -9`: what is paid twice, what is lost, and how many tasks ever ran at once.

`python -m benchmarks.kills --kills 1000` prints a table. It ends with 1 if a promise is broken.
"""

import argparse
import logging
import sys
import tempfile
import time
from pathlib import Path

from tests.faults.kill_loop import SLOTS, Toll, kill_loop


def show(toll: Toll, seconds: float) -> None:
    """Print the table."""
    rows = {
        "kills": toll.kills,
        "prompts": toll.prompts,
        "paid tasks": toll.paid,
        "  at home, whole": toll.stored,
        "  failed and refunded": toll.failed,
        "  listed as uncertain": toll.uncertain_paid,
        "uncertain and never paid": toll.uncertain_unpaid,
        "prompts paid twice": toll.paid_twice,
        "paid tasks lost": toll.lost,
        "credits unexplained": toll.unexplained,
        "journal, files, books at odds": len(toll.wrong),
        "posts of finished folders": toll.reposts,
        f"most tasks at once, of {SLOTS}": toll.peak,
    }
    print("kill -9 at random moments, 5 % of the answers to paid requests lost")
    for name, value in rows.items():
        print(f"  {name:30} {value:6}")
    print(f"  {'seconds':30} {seconds:6.0f}")


def main() -> None:
    """Kill, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)  # its clients are killed
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        toll = kill_loop(Path(folder), given.kills, seed=given.seed)
        show(toll, time.monotonic() - began)
    for line in toll.wrong:
        print(line)
    sys.exit(0 if toll.is_harmless else 1)


if __name__ == "__main__":
    main()
