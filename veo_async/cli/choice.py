"""Which screen suits this process: plain lines, or a live line on a terminal. Always stderr."""

import os
import sys
from collections.abc import Callable
from typing import IO

from veo_async.cli.screen import Screen

__all__: list[str] = []


def screen_for(now: Callable[[], float], *, is_quiet: bool, secrets: tuple[str, ...]) -> Screen:
    """Return the screen that suits this process's stderr."""
    stderr = sys.stderr
    if stderr is None:  # pyright: ignore[reportUnnecessaryComparison]  # closed by who started us
        return Screen(_nowhere(), now, is_quiet=is_quiet, secrets=secrets)
    if stderr.isatty() and os.environ.get("TERM", "") not in {"dumb", "unknown"}:
        from veo_async.cli.live import LiveScreen, can_be_live  # noqa: PLC0415  # loads rich

        if can_be_live(stderr):
            return LiveScreen(stderr, now, is_quiet=is_quiet, secrets=secrets)
    return Screen(stderr, now, is_quiet=is_quiet, secrets=secrets)


def _nowhere() -> IO[str]:
    return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123  # as long as the process
