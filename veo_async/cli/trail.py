"""What is known of the paid work, so that whoever is stopped can go on."""

import shlex
from enum import Enum, auto

import attrs

from veo_async.events import (
    DownloadStarted,
    Event,
    SubmitFailed,
    SubmitStarted,
    SubmitWithdrawn,
    TaskSubmitted,
)

__all__: list[str] = []


class Submit(Enum):
    """Where the paid request of this command stands."""

    NONE = auto()  # this command has not paid for anything
    LEAVING = auto()
    TAKEN = auto()
    REFUSED = auto()
    UNCERTAIN = auto()


@attrs.define
class Trail:
    """The state that a message about the end of a command is made of.

    Attributes:
        options: What a command that goes on must be given again, such as `-o boat.mp4`.
        task_id: The task, as soon as it has a name.
        upgrade: The resolution that is wanted in the end, if it is another one.
        is_simulated: Whether the service ends with this command.
        submit: Where the paid request stands.
        reason: Why the submit failed, if it did.
        is_upgrading: Whether the video itself is finished and its upgrade is awaited.
        is_fetching: Whether the video is finished and on its way to the disk.
    """

    options: tuple[str, ...] = ()
    task_id: str | None = None
    upgrade: str | None = None
    is_simulated: bool = False
    submit: Submit = Submit.NONE
    reason: str = ""
    is_upgrading: bool = False
    is_fetching: bool = False

    def note(self, event: Event) -> None:
        """Take an event of the client."""
        match event:
            case SubmitStarted():
                self.submit = Submit.LEAVING
            case TaskSubmitted():
                self.submit = Submit.TAKEN
                self.task_id = event.task_id
            case SubmitWithdrawn():
                self.submit = Submit.NONE
            case SubmitFailed():
                self.submit = Submit.UNCERTAIN if event.is_uncertain else Submit.REFUSED
                self.reason = event.error
            case DownloadStarted():
                self.is_fetching = True
            case _:
                pass

    def resume(self) -> str | None:
        """Return the command that goes on, if there is something to go on with."""
        if self.task_id is None or self.is_simulated:
            return None
        if self.upgrade is not None:
            return self._command("upgrade", self.task_id, "--to", self.upgrade)
        return self._command("wait", self.task_id)

    def fallback(self) -> str | None:
        """Return the command that fetches the video as it is, while an upgrade is awaited."""
        if self.task_id is None or self.is_simulated or not self.is_upgrading:
            return None
        return self._command("wait", self.task_id)

    def _command(self, name: str, task_id: str, *more: str) -> str:
        # An id that looks like an option would be taken for one.
        named = ["--", task_id] if task_id.startswith("-") else [task_id]
        words = [*more, *self.options]
        ordered = [*words, *named] if len(named) > 1 else [*named, *words]
        return shlex.join(["veo-async", name, *ordered])
