"""How a command's end is told: the error, and how to go on."""

import re
import traceback
from typing import Final

import attrs

from veo_async.cli import output
from veo_async.cli.exits import Exit, code_of
from veo_async.cli.options import Common
from veo_async.cli.screen import Screen
from veo_async.cli.trail import Submit, Trail
from veo_async.cli.wording import message_of
from veo_async.errors import (
    APIError,
    DownloadError,
    InvalidRequestError,
    NotFoundError,
    ServerError,
    SubmitUncertainError,
    TaskFailedError,
    TaskTimeoutError,
    TransportError,
    ValidationError,
)

__all__: list[str] = []

_LOG_PAGE: Final = "https://kie.ai/logs"
_SO_FAR: Final = re.compile(r"\. The film so far is task .*$")
_GOES_ON: Final = (TaskTimeoutError, DownloadError, TransportError, OSError)


@attrs.frozen(kw_only=True)
class Reporter:
    """Tells of the ends of one command.

    Attributes:
        common: The options.
        screen: Where messages go.
        trail: What is known of the work.
    """

    common: Common
    screen: Screen
    trail: Trail

    def failed(self, error: BaseException) -> Exit:
        """Tell of an error and return the exit code."""
        message = message_of(error)
        if self.trail.film is not None:  # the commands that follow say the same
            message = _SO_FAR.sub("", message)
        self.screen.error(message)
        resume = self._how_to_go_on(error)
        if self.common.verbosity:
            lines = traceback.format_exception(error)
            self.screen.say("".join(lines), always=True)
        facts: dict[str, object] = {
            "field": getattr(error, "field", None) or None,
            "task_id": getattr(error, "task_id", None) or self.trail.task_id,
            "code": error.code if isinstance(error, APIError | TaskFailedError) else None,
            "resume": resume,
        }
        self.json_error(type(error).__name__, message, facts)
        return code_of(error, is_fetching=self.trail.is_fetching)

    def stopped(self, code: Exit, *, is_forced: bool) -> None:
        """Tell how things stand when a signal has ended the command.

        Args:
            code: The exit code.
            is_forced: Whether the answer to a submit was no longer waited for.
        """
        message = self._standing(is_forced=is_forced)
        self.screen.say(message, always=True)
        resume = self._say_resume()
        name = "Terminated" if code is Exit.TERMINATED else "Interrupted"
        self.json_error(name, message, {"task_id": self.trail.task_id, "resume": resume})

    def _standing(self, *, is_forced: bool) -> str:
        trail = self.trail
        if trail.is_simulated:
            return "Stopped. The simulated service is gone with this command; nothing was paid."
        if trail.submit is Submit.UNCERTAIN or (is_forced and trail.submit is Submit.LEAVING):
            return (
                "Stopped before the answer to the submit came: a task may exist and be charged."
                f" Look for the prompt at {_LOG_PAGE} before you submit it again"
                + (", and where it is not there go on with:" if trail.resume() else ".")
            )
        if trail.submit is Submit.REFUSED:
            what = "step" if trail.tasks else "submit"
            more = ". Go on with:" if trail.resume() else ""
            return f"Stopped. The {what} had failed, nothing was paid for it: {trail.reason}{more}"
        if trail.is_free:
            return "Stopped. There was nothing to pay."
        if not trail.tasks and (trail.task_id is None or trail.film is not None):
            again = "" if trail.task_id is None else " The same again:"
            return f"Stopped. Nothing was sent, nothing was paid.{again}"
        return self._what_goes_on()

    def _what_goes_on(self) -> str:
        trail = self.trail
        if trail.is_fetching:
            return f"Stopped. The video of task {trail.task_id} is finished. Fetch it with:"
        if trail.film is not None and trail.film.prompts:
            now = "is finished" if trail.is_between_steps else "goes on at the service"
            return f"Stopped. Task {trail.task_id}, the film so far, {now}. Go on with:"
        return f"Stopped. Task {trail.task_id} goes on at the service. Wait for it with:"

    def _how_to_go_on(self, error: BaseException) -> str | None:
        trail = self.trail
        if isinstance(error, TaskFailedError):
            return self._say_again()
        is_over = trail.is_upgrading and isinstance(error, ServerError | ValidationError)
        if is_over or isinstance(error, NotFoundError | InvalidRequestError):
            return self._say_fallback()
        if not trail.tasks and not isinstance(error, _GOES_ON):
            return None
        if trail.resume() is not None:
            self.screen.say(self._what_is_there(error), always=True)
        return self._say_resume()

    def _what_is_there(self, error: BaseException) -> str:
        trail = self.trail
        if not trail.tasks:
            return "Go on with:"
        what = f"Task {trail.task_id}"
        if trail.is_between_steps:
            what = f"The film so far, task {trail.task_id},"
        if isinstance(error, SubmitUncertainError):
            how = f"Look at {_LOG_PAGE} for what was lost, and where it is not there go on with:"
        elif isinstance(error, ValidationError):
            how = "Go on, with other words, with:"
        else:
            how = "Go on with:"
        return f"{what} is paid and not lost. {how}"

    def _say_again(self) -> str | None:
        again, fallback = self.trail.again(), self.trail.fallback()
        if again is None or fallback is None:
            return None
        self.screen.say("The film so far is paid and not lost. Fetch it with:", always=True)
        self.screen.command(fallback)
        self.screen.say(
            "or make the step again, with other words where they were the reason, with:",
            always=True,
        )
        self.screen.command(again)
        return again

    def _say_fallback(self) -> str | None:
        fallback = self.trail.fallback() if self.trail.tasks else None
        if fallback is not None:
            self.screen.say("What there is can be fetched with:", always=True)
            self.screen.command(fallback)
        return fallback

    def _say_resume(self) -> str | None:
        resume, fallback = self.trail.resume(), self.trail.fallback()
        if resume is not None:
            self.screen.command(resume)
        if fallback is not None:
            self.screen.say("or fetch what there is with:", always=True)
            self.screen.command(fallback)
        return resume

    def json_error(self, name: str, message: str, facts: dict[str, object]) -> None:
        """Print an error for programs, if they are listening."""
        if self.common.is_json:
            known = {key: value for key, value in facts.items() if value is not None}
            error = {"type": name, "message": message, **known}
            told = self.screen.redacted(output.dumped({"error": error}))
            try:
                output.write(told)
            except OSError:  # a full disk; the message stands on stderr
                return
