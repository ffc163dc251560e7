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
from veo_async.request import PaidRequest

__all__: list[str] = []

# Seconds from the submit to the video (live document 2.4: 61, 67 and 89 s observed; "2-5 min") and
# from the request of a conversion to its file (live document 2.5).
_USUAL: Final[Mapping[Model, tuple[float, float]]] = {
    Model.FAST: (60.0, 90.0),
    Model.QUALITY: (120.0, 300.0),
}
_USUAL_UPGRADE: Final = (60.0, 120.0)


@attrs.define
class Progress:
    """The observer of one command's client.

    Attributes:
        screen: Where it is shown.
        now: The time in seconds.
        speed: How many times faster than life the service runs.
        is_simulated: Whether the money is play money.
        trouble: What is wrong at the moment.
    """

    screen: Screen
    now: Callable[[], float]
    speed: float = 1.0
    is_simulated: bool = False
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

    def upgrading(self) -> None:
        """Show that the 1080P version is waited for."""
        self._begin("Upgrading to 1080p", usual=_USUAL_UPGRADE)

    def stopping(self) -> None:
        """Show that the end of what must not be cut off is waited for."""
        self._begin("Stopping", about="when the submit is answered; Ctrl-C again ends at once")

    def _submitting(self, request: PaidRequest) -> None:
        credit = "of play money" if self.is_simulated else "at most"
        words = (f"{DEARER.of(request)} credits", credit)
        self._begin("Submitting", about=f"{request.model}, {' '.join(words)}")

    def _submitted(self, event: TaskSubmitted) -> None:
        self.screen.say(f"Submitted as task {event.task_id}")
        self._begin("Generating", usual=_USUAL.get(event.request.model))

    def _updated(self, event: TaskUpdated) -> None:
        self.trouble = ""
        stage = self.screen.stage
        if event.record.status is TaskStatus.SUCCESS and stage is not None:
            is_ours = stage.title == "Generating"
            after = f"Generated after {lasted(self.now() - stage.began)}"
            self.screen.say(after if is_ours else "The video is ready")
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
            about = f"usually {span(low, high)}"
        self.screen.begin(Stage(title=title, began=self.now(), about=about))
