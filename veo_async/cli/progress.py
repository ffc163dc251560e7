"""From the client's events to what is said and shown of them."""

from collections.abc import Callable, Mapping
from typing import Final

import attrs

from veo_async.cli.screen import Screen
from veo_async.cli.stage import Stage
from veo_async.cli.wording import lasted, megabytes, span, without_remedy
from veo_async.events import (
    DownloadFinished,
    DownloadProgress,
    DownloadStarted,
    Event,
    RetryScheduled,
    SubmitFailed,
    SubmitStarted,
    TaskSubmitted,
    TaskUpdated,
)
from veo_async.models import Model, TaskStatus
from veo_async.prices import DEARER
from veo_async.request import ExtendRequest, PaidRequest, VideoRequest, local_images

__all__: list[str] = []

# Seconds from the submit to the video (live document 2.4: 61, 67 and 89 s observed; "2-5 min"; 2.7,
# extensions: several minutes to over ten) and from the request of a conversion to its file (live
# document 2.5 and 2.6).
_USUAL: Final[Mapping[Model, tuple[float, float]]] = {
    Model.FAST: (60.0, 90.0),
    Model.QUALITY: (120.0, 300.0),
}
_USUAL_EXTENSION: Final = (180.0, 600.0)
_USUAL_UPGRADE: Final[Mapping[str, tuple[float, float]]] = {
    "1080p": (60.0, 120.0),
    "4k": (300.0, 600.0),
}
_MADE: Final = ("Generating", "Extending")


@attrs.define
class Progress:
    """The observer of one command's client.

    Attributes:
        screen: Where it is shown.
        now: The time in seconds.
        speed: How many times faster than life the service runs.
        is_simulated: Whether the money is play money.
        is_awaited: Whether the task is waited for.
        steps: How many tasks the film takes; 0 for what is none.
        taken: How many of them have been submitted.
        trouble: What is wrong at the moment.
    """

    screen: Screen
    now: Callable[[], float]
    speed: float = 1.0
    is_simulated: bool = False
    is_awaited: bool = True
    steps: int = 0
    taken: int = 0
    trouble: str = ""

    def __call__(self, event: Event) -> None:
        """Show an event."""
        match event:
            case SubmitStarted():
                self._submitting(event.request)
            case TaskSubmitted():
                self._submitted(event)
            case SubmitFailed():
                self.screen.clear()
            case TaskUpdated():
                self._updated(event)
            case RetryScheduled():
                self._retrying(event)
            case DownloadStarted():
                self._begin("Downloading")
            case DownloadProgress():
                self.screen.received(self.now(), event.received, event.total)
            case DownloadFinished():
                self._downloaded(event)
            case _:  # of batches
                pass

    def waiting(self, task_id: str) -> None:
        """Show that a task of an earlier command is waited for."""
        self._begin("Waiting", about=f"for task {task_id}")

    def uploading(self, request: VideoRequest) -> None:
        """Show that a request's images leave first, if it has some that do."""
        images = local_images(request.image_urls)
        if images:
            self._begin("Uploading", about=", ".join(images))

    def uploading_file(self, name: str) -> None:
        """Show that a file leaves."""
        self._begin("Uploading", about=name)

    def uploaded(self) -> None:
        """Show that it has arrived."""
        stage = self.screen.stage
        if stage is not None:
            self.screen.say(f"Uploaded in {lasted(self.now() - stage.began)}")
        self.screen.clear()

    def upgrading(self, resolution: str) -> None:
        """Show that a version in a higher resolution is waited for."""
        self._begin(f"Upgrading to {resolution}", usual=_USUAL_UPGRADE[resolution])

    def stopping(self) -> None:
        """Show that the end of what must not be cut off is waited for."""
        self._begin("Stopping", about="when the submit is answered; Ctrl-C again ends at once")

    def _submitting(self, request: PaidRequest) -> None:
        credit = "of play money" if self.is_simulated else "at most"
        step = self._step(self.taken + 1)
        price = f"{DEARER.of(request)} credits {credit}"
        self._begin("Submitting", about=f"{step}{', ' if step else ''}{request.model}, {price}")

    def _submitted(self, event: TaskSubmitted) -> None:
        self.taken += 1
        step = self._step(self.taken)
        self.screen.say(f"Submitted {step}{' ' if step else ''}as task {event.task_id}")
        if not self.is_awaited:
            self.screen.clear()
        elif isinstance(event.request, ExtendRequest):
            self._begin("Extending", about=step, usual=_USUAL_EXTENSION)
        else:
            self._begin("Generating", about=step, usual=_USUAL.get(event.request.model))

    def _step(self, number: int) -> str:
        return f"step {number} of {self.steps}" if self.steps else ""

    def _updated(self, event: TaskUpdated) -> None:
        self.trouble = ""
        stage = self.screen.stage
        if event.record.status is TaskStatus.SUCCESS and stage is not None:
            step = self._step(self.taken)
            what = f"{step[:1].upper()}{step[1:]} is ready" if step else "Generated"
            after = f"{what} after {lasted(self.now() - stage.began)}"
            self.screen.say(after if stage.title in _MADE else "The video is ready")
            self.screen.clear()
        elif stage is not None:
            stage.note = ""

    def _retrying(self, event: RetryScheduled) -> None:
        self.trouble = reason = without_remedy(event.error)
        self.screen.note(f"{reason}; trying again in {lasted(event.delay)}", reason)

    def _downloaded(self, event: DownloadFinished) -> None:
        done = event.download
        self.screen.say(f"Downloaded {megabytes(done.size)} in {lasted(done.seconds)}")
        self.screen.clear()

    def _begin(
        self, title: str, *, about: str = "", usual: tuple[float, float] | None = None
    ) -> None:
        if usual is not None:
            low, high = (seconds / self.speed for seconds in usual)
            about = ", ".join([*([about] if about else []), f"usually {span(low, high)}"])
        self.screen.begin(Stage(title=title, began=self.now(), about=about))
