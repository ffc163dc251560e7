"""Progress as frozen records, and the Protocol of what listens to them."""

import logging
from pathlib import Path
from typing import Protocol, TypeAlias

import attrs

from veo_async.models import Download, TaskRecord, VideoRequest

__all__ = [
    "DownloadFinished",
    "DownloadProgress",
    "DownloadStarted",
    "Event",
    "Observer",
    "RetryScheduled",
    "SubmitFailed",
    "SubmitStarted",
    "SubmitsPaused",
    "SubmitsResumed",
    "TaskSubmitted",
    "TaskUpdated",
]


_log = logging.getLogger("veo_async")


@attrs.frozen(kw_only=True)
class SubmitStarted:
    """A slot is reserved and the paid request is about to leave.

    Attributes:
        key: Random token of this submit.
        request: What is asked for.
    """

    key: str
    request: VideoRequest


@attrs.frozen(kw_only=True)
class SubmitFailed:
    """A submit ended without a task id.

    Attributes:
        key: Random token of this submit.
        request: What was asked for.
        error: Why, as text.
        is_uncertain: Whether a task may exist and be charged all the same.
    """

    key: str
    request: VideoRequest
    error: str
    is_uncertain: bool


@attrs.frozen(kw_only=True)
class TaskSubmitted:
    """The service took a request and gave it an id.

    Attributes:
        key: Random token of this submit.
        request: What was asked for.
        task_id: The service's id.
    """

    key: str
    request: VideoRequest
    task_id: str


@attrs.frozen(kw_only=True)
class TaskUpdated:
    """A poll saw something new of a task.

    Attributes:
        record: What the service says now.
    """

    record: TaskRecord


@attrs.frozen(kw_only=True)
class RetryScheduled:
    """A call failed in a way that may pass and will be repeated.

    Attributes:
        call: Which call: `generate`, `record-info`, `1080p` or `download`.
        task_id: Of which task, if any.
        attempt: How many tries have failed, from 1.
        delay: Seconds until the next one.
        error: Why, as text.
    """

    call: str
    task_id: str | None
    attempt: int
    delay: float
    error: str


@attrs.frozen(kw_only=True)
class DownloadStarted:
    """A download got its turn.

    Attributes:
        task_id: Of which task.
        path: Where the file will be.
    """

    task_id: str
    path: Path


@attrs.frozen(kw_only=True)
class DownloadProgress:
    """Bytes of a video reached the disk.

    Attributes:
        task_id: Of which task.
        path: Where the file will be.
        received: Bytes so far.
        total: Bytes in all, if the storage host said so.
    """

    task_id: str
    path: Path
    received: int
    total: int | None


@attrs.frozen(kw_only=True)
class DownloadFinished:
    """A whole file stands under its name.

    Attributes:
        task_id: Of which task.
        download: The file.
    """

    task_id: str
    download: Download


@attrs.frozen(kw_only=True)
class SubmitsPaused:
    """A batch submits nothing for now; tasks and downloads go on.

    Attributes:
        reason: Why, as text.
    """

    reason: str


@attrs.frozen(kw_only=True)
class SubmitsResumed:
    """A batch that had paused submits again.

    Attributes:
        reason: Why it had paused.
    """

    reason: str


Event: TypeAlias = (
    SubmitStarted
    | SubmitFailed
    | TaskSubmitted
    | TaskUpdated
    | RetryScheduled
    | DownloadStarted
    | DownloadProgress
    | DownloadFinished
    | SubmitsPaused
    | SubmitsResumed
)


class Observer(Protocol):
    """Anything that can be called with an `Event`.

    It runs on the event loop, so it must return at once. What it raises is logged, never passed on.
    """

    def __call__(self, event: Event, /) -> None:
        """Take note of `event`."""
        ...


@attrs.frozen
class Emitter:
    """Hands events to an observer, whose failures are its own.

    Attributes:
        observer: Who listens, if anyone.
    """

    observer: Observer | None = None

    def emit(self, event: Event) -> None:
        """Tell the observer."""
        if self.observer is None:
            return
        try:
            self.observer(event)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # noqa: BLE001  # a cancellation it raises must not cost a paid task
            _log.exception("on_event failed on %s; the work goes on", type(event).__name__)
