"""CPU seconds of an import, in a fresh interpreter each time, and those of a peer's package.

The peer is installed into an environment of its own, with `pip install`.
"""

import resource
import statistics
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROUNDS = 21
PEER = "fal-client"

OURS = {
    "nothing": "pass",
    "import asyncio": "import asyncio",
    "import veo_async": "import veo_async",
    "VeoClient, VideoRequest": "from veo_async import VeoClient, VideoRequest",
    "the same, and a client is made": "from veo_async import VeoClient; VeoClient('a-key')",
    "veo-async --help": "from veo_async.cli.program import run; run(['--help'])",
}


def cpu(python: str, code: str) -> float:
    """Return the CPU seconds of an interpreter that runs `code`."""

    def spent() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    before = spent()
    subprocess.run([python, "-c", code], check=True, stdout=subprocess.DEVNULL)
    return spent() - before


def main() -> None:
    """Measure in interleaved rounds, and print medians and spreads."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        theirs = str(Path(folder, "bin", "python"))
        subprocess.run([theirs, "-m", "pip", "install", "--quiet", PEER], check=True)
        runs = {name: (sys.executable, code) for name, code in OURS.items()}
        runs[PEER] = (theirs, "import fal_client")
        figures: dict[str, list[float]] = {name: [] for name in runs}
        for number in range(ROUNDS + 1):
            for name, (python, code) in runs.items():
                figure = cpu(python, code)
                if number:  # the first round writes byte code
                    figures[name].append(figure)
    print(f"CPU seconds of an import, {ROUNDS} rounds")
    peer = statistics.median(figures[PEER])
    for name, values in figures.items():
        median = statistics.median(values)
        spread = f"{min(values):.3f} to {max(values):.3f}"
        print(f"  {name:32} {median:.3f}  ({spread})  {median / peer:.2f} of {PEER}")


if __name__ == "__main__":
    main()
