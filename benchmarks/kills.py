"""Batches under `kill -9`: what is paid twice, what is lost, and how many tasks ever ran at once.

`python -m benchmarks.kills --kills 50` kills less often.
"""

import argparse
import logging
import tempfile
import time
from pathlib import Path

from benchmarks import results
from benchmarks.results import Bound, Results, Table
from tests.faults.kill_loop import SLOTS, Toll, kill_loop

KILLS = 1_000
SEED = 1


def measure(kills: int = KILLS, seed: int = SEED) -> Results:
    """Kill, and judge."""
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)  # its clients are killed
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        toll = kill_loop(Path(folder), kills, seed=seed)
        seconds = time.monotonic() - began
    return Results(
        title="Batches under `kill -9`",
        text=(
            f"A batch is killed at a random moment and started again, {toll.kills:,} times. 5 % of"
            " the answers to paid requests are lost, polls fail, downloads are cut. The books of"
            " the simulator are the judge; finished folders are run once more at the end."
            + "".join(f" {line}." for line in toll.wrong)
        ),
        tables=[Table(("figure", "value"), [*rows(toll, seconds).items()])],
        bounds=[
            Bound("prompts of killed batches that were paid twice", toll.paid_twice, 0),
            Bound("paid tasks of killed batches that were lost", toll.lost, 0),
            Bound("credits of killed batches that nothing explains", toll.unexplained, 0),
            Bound("killed batches whose journal, files and books differ", len(toll.wrong), 0),
            Bound("paid requests of killed batches that were finished", toll.reposts, 0),
            Bound("tasks of killed batches at once", toll.peak, SLOTS),
        ],
    )


def rows(toll: Toll, seconds: float) -> dict[str, str]:
    """Return the figures, by name."""
    counts = {
        "kills": toll.kills,
        "prompts": toll.prompts,
        "paid tasks": toll.paid,
        "at home, whole": toll.stored,
        "failed and refunded": toll.failed,
        "listed as uncertain": toll.uncertain_paid,
        "uncertain and never paid": toll.uncertain_unpaid,
        "**prompts paid twice**": toll.paid_twice,
        "**paid tasks lost**": toll.lost,
        "credits unexplained": toll.unexplained,
        "journal, files and books at odds": len(toll.wrong),
        "paid requests of finished folders that are run again": toll.reposts,
        f"**most tasks at once, of {SLOTS}**": toll.peak,
        "seconds": round(seconds),
    }
    return {name: f"{count:,}" for name, count in counts.items()}


def main() -> None:
    """Measure as the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=KILLS)
    parser.add_argument("--seed", type=int, default=SEED)
    given, others = parser.parse_known_args()
    results.run(lambda: measure(given.kills, given.seed), others)


if __name__ == "__main__":
    main()
