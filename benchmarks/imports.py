"""CPU seconds of an import, in a fresh interpreter each time, beside those of peers' packages."""

import resource
import statistics
import subprocess
import sys

from benchmarks import measuring, peers, results
from benchmarks.results import Bound, Results, Table

ROUNDS = 21
PEER = "import fal_client"

OURS = {
    "an interpreter that does nothing": "pass",
    "import asyncio": "import asyncio",
    "import veo_async": "import veo_async",
    "from veo_async import VeoClient, VideoRequest": (
        "from veo_async import VeoClient, VideoRequest;"
        "import sys; assert 'aiohttp' not in sys.modules"
    ),
    "the same, and a client is made, which loads aiohttp": (
        "from veo_async import VeoClient; VeoClient('a-key')"
    ),
    "veo-async --help": "from veo_async.cli.program import run; run(['--help'])",
}
THEIRS = {
    PEER: "import fal_client",
    "import replicate": "import replicate",
    "import aiohttp": "import aiohttp",
    "from google import genai": "from google import genai",
    "import openai": "import openai",
}


def fresh(python: str, code: str) -> float:
    """Return the CPU seconds of an interpreter that runs `code`."""

    def interpreter() -> None:
        subprocess.run([python, "-c", code], check=True, stdout=subprocess.DEVNULL)

    return measuring.cpu_of(interpreter, resource.RUSAGE_CHILDREN)


def measure() -> Results:
    """Measure in turns."""
    runs = {name: (sys.executable, code) for name, code in OURS.items()}
    runs |= {name: (peers.python(), code) for name, code in THEIRS.items()}
    figures = measuring.taking_turns(
        {name: lambda run=run: fresh(*run) for name, run in runs.items()}, ROUNDS
    )
    median = {name: statistics.median(values) for name, values in figures.items()}
    rows = [
        (f"`{name}`", measuring.spread(values, ".3f"), f"{median[name] / median[PEER]:.2f}")
        for name, values in figures.items()
    ]
    bounds = [
        Bound(f"CPU of `{name}`, parts of fal-client's", median[name] / median[PEER], 0.75)
        for name in ("import veo_async", "from veo_async import VeoClient, VideoRequest")
    ]
    bounds.append(Bound("CPU seconds of `veo-async --help`", median["veo-async --help"], 0.25))
    return Results(
        title="Imports",
        text=f"CPU of a fresh interpreter, {ROUNDS} rounds. Peers: {peers.versions()}.",
        tables=[Table(("", "CPU s", f"of `{PEER}`"), rows)],
        bounds=bounds,
    )


if __name__ == "__main__":
    results.run(measure)
