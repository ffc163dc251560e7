"""Runs the benchmarks and writes the page of results: `python -m benchmarks [NAME ...]`."""

import argparse
import subprocess
import sys
import time

from benchmarks import page


def main() -> int:
    """Run each in a process of its own; return 1 if one failed or a bound does not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", nargs="*", help=f"some of: {', '.join(page.ORDER)}")
    names: list[str] = parser.parse_args().name or [*page.ORDER]
    if unknown := [name for name in names if name not in page.ORDER]:
        parser.error(f"no benchmark is called {unknown[0]!r}; there are {', '.join(page.ORDER)}")
    failed: list[str] = []
    for name in names:
        began = time.monotonic()
        print(f"=== {name}", flush=True)
        done = subprocess.run([sys.executable, "-m", f"benchmarks.{name}", "--save"], check=False)
        print(f"=== {name} took {time.monotonic() - began:.0f} s", flush=True)
        if done.returncode:
            failed.append(name)
    for name in failed:
        print(f"{name} failed")
    for bound in page.broken():
        print(f"does not hold: {bound.figure} is {bound.value:.3g}, at most {bound.at_most:g}")
    return 1 if failed or page.broken() else 0


if __name__ == "__main__":
    sys.exit(main())
