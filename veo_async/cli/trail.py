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
    TaskUpdated,
)
from veo_async.models import TaskStatus

__all__: list[str] = []


class Submit(Enum):
    """Where the paid request of this command stands."""

    NONE = auto()  # this command has not paid for anything
    LEAVING = auto()
    TAKEN = auto()
    REFUSED = auto()
    UNCERTAIN = auto()


@attrs.define
class Film:
    """How far a film has got.

    Attributes:
        prompts: Those of its extensions that have no task yet.
        options: What a command that goes on with it must be told again, such as their model.
        so_far: The task that the next extension starts from; None until there is one with a video.
        lost: The prompt of the newest extension, which is to be made again if it failed.
    """

    prompts: list[str]
    options: tuple[str, ...] = ()
    so_far: str | None = None
    lost: str | None = None


@attrs.define
class Trail:
    """The state that a message about the end of a command is made of.

    Attributes:
        options: What a command that goes on must be given again, such as `-o boat.mp4`.
        task_id: The task, as soon as it has a name.
        upgrade: The resolution that is wanted in the end, if it is another one.
        film: How far the film has got, if it is one.
        is_free: Whether there is nothing to pay for.
        is_simulated: Whether the service ends with this command.
        submit: Where the paid request stands.
        reason: Why the submit failed, if it did.
        tasks: The tasks that this command has paid.
        is_upgrading: Whether the video itself is finished and its upgrade is awaited.
        is_fetching: Whether the video is finished and on its way to the disk.
    """

    options: tuple[str, ...] = ()
    task_id: str | None = None
    upgrade: str | None = None
    film: Film | None = None
    is_free: bool = False
    is_simulated: bool = False
    submit: Submit = Submit.NONE
    reason: str = ""
    tasks: list[str] = attrs.field(factory=list[str])
    is_upgrading: bool = False
    is_fetching: bool = False

    def note(self, event: Event) -> None:
        """Take an event of the client."""
        match event:
            case SubmitStarted():
                self.submit = Submit.LEAVING
            case TaskSubmitted():
                self._taken(event.task_id)
            case SubmitWithdrawn():
                self.submit = Submit.TAKEN if self.tasks else Submit.NONE
            case SubmitFailed():
                self.submit = Submit.UNCERTAIN if event.is_uncertain else Submit.REFUSED
                self.reason = event.error
            case TaskUpdated():
                if self.film is not None and event.record.status is TaskStatus.SUCCESS:
                    self.film.so_far = event.record.task_id
            case DownloadStarted():
                self.is_fetching = True
            case _:
                pass

    def _taken(self, task_id: str) -> None:
        self.submit = Submit.TAKEN
        film = self.film
        # The first task of a film that has none yet is its beginning, and no extension.
        if film is not None and self.task_id is not None and film.prompts:
            film.lost = film.prompts.pop(0)
        self.task_id = task_id
        self.tasks.append(task_id)

    @property
    def is_between_steps(self) -> bool:
        """Whether the film so far is finished, and its next step has no task."""
        film = self.film
        return film is not None and bool(film.prompts) and film.so_far == self.task_id is not None

    def resume(self) -> str | None:
        """Return the command that goes on, if there is something to go on with."""
        if self.task_id is None or self.is_simulated:
            return None
        if self.film is not None and self.film.prompts:
            return self._extend(self.task_id, self.film.prompts)
        if self.upgrade is not None:
            return self._command("upgrade", self.task_id, "--to", self.upgrade)
        return self._command("wait", self.task_id)

    def again(self) -> str | None:
        """Return the command that makes the step of a film again that has just failed."""
        film = self.film
        if film is None or film.so_far is None or film.lost is None or self.is_simulated:
            return None
        return self._extend(film.so_far, [film.lost, *film.prompts])

    def fallback(self) -> str | None:
        """Return the command that fetches what there is, while more is awaited."""
        if self.task_id is None or self.is_simulated:
            return None
        if self.film is not None and self.film.so_far is not None and not self.is_upgrading:
            is_whole = self.film.so_far == self.task_id and not self.film.prompts
            return None if is_whole else self._command("wait", self.film.so_far)
        return self._command("wait", self.task_id) if self.is_upgrading else None

    def _extend(self, task_id: str, prompts: list[str]) -> str:
        first = prompts[0]
        times = next((at for at, one in enumerate(prompts) if one != first), len(prompts))
        # By the seconds of a film there may be hundreds that are the same.
        words = ["--times", str(times)] if times > 1 else []
        words += [word for prompt in prompts[times:] for word in ("--then", prompt)]
        if self.upgrade is not None:
            words += ["--upgrade", self.upgrade]
        options = () if self.film is None else self.film.options
        return self._command("extend", task_id, *options, *words, prompt=first)

    def _command(self, name: str, task_id: str, *more: str, prompt: str | None = None) -> str:
        named = [task_id] if prompt is None else [task_id, prompt]
        words = [*more, *self.options]
        # An id that looks like an option would be taken for one.
        is_odd = any(one.startswith("-") for one in named)
        ordered = [*words, "--", *named] if is_odd else [*named, *words]
        return shlex.join(["veo-async", name, *ordered])
