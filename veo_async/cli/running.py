"""The event loop of one command, and its end by signals.

The first signal stops the work cleanly: a submit that is on the wire is waited for, since its
answer is the only name of what was paid. The second one ends the process at once.
"""

import asyncio
import logging
import os
import signal as signals
import sys
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final, NoReturn

import attrs

from veo_async.cli import output
from veo_async.cli.choice import screen_for
from veo_async.cli.exits import Exit
from veo_async.cli.options import Common
from veo_async.cli.output import Result
from veo_async.cli.report import Reporter
from veo_async.cli.screen import Screen
from veo_async.cli.wording import reworded
from veo_async.events import Event

__all__: list[str] = []

_CODES: Final = {signals.SIGINT: Exit.INTERRUPTED, signals.SIGTERM: Exit.TERMINATED}


@attrs.define
class Job:
    """One command on its way, from its options to its exit code.

    Attributes:
        common: The options.
        screen: Where messages go.
        reporter: What tells of its end.
        result: What it found out, once it has.
        signal: What ended it early.
        code: The exit code, once all is told.
    """

    common: Common
    screen: Screen
    reporter: Reporter
    result: Result | None = None
    signal: signals.Signals | None = None
    code: int | None = None

    def on_event(self, event: Event) -> None:
        """Take an event of the client."""

    def run(self, work: Callable[[], Coroutine[Any, Any, Result | None]]) -> int:
        """Do the work and return the exit code."""
        _log_to(self.screen, self.common.verbosity)
        try:
            return asyncio.run(_supervised(self, work()))
        except KeyboardInterrupt:  # where, or when, the loop cannot listen to signals
            if self.code is not None:
                return self.code
            self.screen.close()
            self.reporter.stopped(Exit.INTERRUPTED, is_forced=True)
            return Exit.INTERRUPTED

    def stop(self, number: signals.Signals, work: "asyncio.Task[Result | None]") -> None:
        """Take a signal."""
        if self.signal is not None:
            self.screen.close()
            self.reporter.stopped(_CODES[number], is_forced=True)
            _leave(_CODES[number])
        self.signal = number
        self.say_stopping()
        work.cancel()

    def say_stopping(self) -> None:
        """Say what is still waited for, if anything is."""


def screen_of(common: Common) -> Screen:
    """Return the screen of a command."""
    return screen_for(time.monotonic, is_quiet=common.is_quiet, secrets=common.secrets)


async def _supervised(job: Job, body: Coroutine[Any, Any, Result | None]) -> int:
    loop = asyncio.get_running_loop()
    began = loop.time()
    work = loop.create_task(body)
    _listen(loop, job, work)
    ticking = loop.create_task(_tick(job.screen))
    try:
        await asyncio.wait({work})
    except asyncio.CancelledError:  # where the loop cannot listen to signals
        job.stop(signals.SIGINT, work)
        await asyncio.wait({work})
    ticking.cancel()
    job.screen.close()
    job.code = _ended(job, work, loop.time() - began)
    return job.code


def _ended(job: Job, work: "asyncio.Task[Result | None]", seconds: float) -> int:
    if work.cancelled():
        # A signal that came when all was done, while the client was being closed, stops nothing.
        return _stopped(job) if job.result is None else _told(job, job.result, seconds)
    error = work.exception()
    if error is not None:
        return job.reporter.failed(error)
    return _told(job, work.result(), seconds)


def _stopped(job: Job) -> NoReturn:
    code = _CODES[job.signal or signals.SIGINT]
    job.reporter.stopped(code, is_forced=False)
    # Everything is closed; what is left are threads that nobody can stop, such as a name look-up,
    # and Python would wait for them.
    _leave(code)


def _leave(code: Exit) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):
            stream.flush()
    os._exit(code)


def _told(job: Job, result: Result | None, seconds: float) -> int:
    if result is None:
        return Exit.DONE
    text = result.text
    if job.common.is_json:
        text = output.dumped({**result.json, "seconds": round(seconds, 3)})
    if text is None:
        return result.code
    try:
        output.write(text)
    except OSError as error:
        job.screen.error(f"the result could not be written to stdout ({error.strerror}): {text}")
        return Exit.FAILED
    return result.code


def _listen(loop: asyncio.AbstractEventLoop, job: Job, work: "asyncio.Task[Result | None]") -> None:
    for number in _CODES:
        # A signal that whoever started us switched off, as shells do for background jobs, stays so.
        if signals.getsignal(number) is signals.SIG_IGN:
            continue
        with suppress(NotImplementedError):
            loop.add_signal_handler(number, job.stop, number, work)


async def _tick(screen: Screen) -> None:
    while True:
        screen.tick()
        await asyncio.sleep(screen.period)


class _ToScreen(logging.Handler):
    """Log records as messages, so that they do not run into the live line."""

    def __init__(self, screen: Screen) -> None:
        super().__init__()
        self._screen = screen

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        said = reworded(self.format(record))
        self._screen.say(f"{moment} {record.levelname} {said}", always=True)


def _log_to(screen: Screen, verbosity: int) -> None:
    """Show the package's log, or leave it to the events, which say the same to people."""
    log = logging.getLogger("veo_async")
    log.propagate = False
    log.addHandler(_ToScreen(screen) if verbosity else logging.NullHandler())
    log.setLevel(logging.DEBUG if verbosity > 1 else logging.INFO)
