"""The program `veo-async`: the client from a command line."""

import sys
from importlib.util import find_spec

__all__ = ["main"]

_NEEDED = ("click", "rich")


def main() -> None:
    """Run the program and exit with its code."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        sys.stderr.write(
            f"Error: {' and '.join(missing)} missing; install veo-async[cli] to use this program\n"
        )
        sys.exit(2)
    try:
        from veo_async.cli.program import run  # noqa: PLC0415  # needs click

        code = run(sys.argv[1:])
    except KeyboardInterrupt:  # while modules were loaded
        code = 130
    sys.exit(code)
