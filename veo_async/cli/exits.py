"""The exit codes, in one table, and which error has which."""

from collections.abc import Mapping
from enum import IntEnum
from typing import Final

from veo_async.errors import (
    AuthenticationError,
    BudgetExceededError,
    ConfigurationError,
    DownloadError,
    InsufficientCreditsError,
    InvalidRequestError,
    QuotaExceededError,
    SubmitUncertainError,
    TaskTimeoutError,
)

__all__: list[str] = []


class Exit(IntEnum):
    """How the program ended."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    AUTHENTICATION = 3
    CREDITS = 4
    UNCERTAIN = 5
    STILL_RUNNING = 6
    DOWNLOAD = 7
    INTERRUPTED = 130
    TERMINATED = 143


MEANINGS: Final[Mapping[Exit, str]] = {
    Exit.DONE: "done",
    Exit.FAILED: "the task failed, or anything not named below",
    Exit.USAGE: "a wrong option or request; nothing was sent",
    Exit.AUTHENTICATION: "the key was refused",
    Exit.CREDITS: "out of credits, budget or quota",
    Exit.UNCERTAIN: "a submit got no answer; it may be paid",
    Exit.STILL_RUNNING: "timed out; the task still runs",
    Exit.DOWNLOAD: "download failed; the video is still there",
    Exit.INTERRUPTED: "stopped by Ctrl-C",
    Exit.TERMINATED: "stopped by SIGTERM",
}

_OF_ERRORS: Final[Mapping[type[BaseException], Exit]] = {
    InvalidRequestError: Exit.USAGE,
    ConfigurationError: Exit.USAGE,
    AuthenticationError: Exit.AUTHENTICATION,
    InsufficientCreditsError: Exit.CREDITS,
    QuotaExceededError: Exit.CREDITS,
    BudgetExceededError: Exit.CREDITS,
    SubmitUncertainError: Exit.UNCERTAIN,
    TaskTimeoutError: Exit.STILL_RUNNING,
    DownloadError: Exit.DOWNLOAD,
}


def code_of(error: BaseException, *, is_fetching: bool) -> Exit:
    """Return the exit code for an error.

    Args:
        error: What was raised.
        is_fetching: Whether the video was finished and on its way to the disk.
    """
    for kind, code in _OF_ERRORS.items():
        if isinstance(error, kind):
            return code
    return Exit.DOWNLOAD if is_fetching else Exit.FAILED
