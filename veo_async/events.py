"""Progress as frozen records, and the Protocol of what listens to them."""

import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Protocol, TypeAlias

import attrs

from veo_async.errors import ConfigurationError
from veo_async.models import Download, TaskRecord
from veo_async.request import PaidRequest
from veo_async.settings import Statistics

__all__ = [
    "CallbackReceived",
    "ClientClosed",
    "ClientStarted",
    "DownloadFailed",
    "DownloadFinished",
    "DownloadProgress",
    "DownloadStarted",
    "Event",
    "LimiterLost",
    "LimiterRestored",
    "Observer",
    "RequestFinished",
    "RetryScheduled",
    "SubmitFailed",
    "SubmitQueued",
    "SubmitStarted",
    "SubmitWithdrawn",
    "SubmitsPaused",
    "SubmitsResumed",
    "TaskEnded",
    "TaskSubmitted",
    "TaskUpdated",
]


_log = logging.getLogger(__name__)


@attrs.frozen(kw_only=True)
class ClientStarted:
    """A client runs from now on, in this event loop.

    Attributes:
        base_url: The API's host.
        statistics: Returns what the client is doing at the moment of the call, in any thread.
    """

    base_url: str
    statistics: Callable[[], Statistics] = attrs.field(repr=False)


@attrs.frozen(kw_only=True)
class ClientClosed:
    """A client was closed.

    Attributes:
        base_url: The API's host.
        statistics: What `ClientStarted` gave, and what tells its clients apart.
        running: Ids of the paid tasks that go on at the service.
    """

    base_url: str
    statistics: Callable[[], Statistics] = attrs.field(repr=False)
    running: tuple[str, ...]


@attrs.frozen(kw_only=True)
class SubmitQueued:
    """A submit waits for its slot. `SubmitStarted`, `SubmitFailed` or `SubmitWithdrawn` follows.

    Attributes:
        key: Random token of this submit.
        request: What is asked for.
    """

    key: str
    request: PaidRequest


@attrs.frozen(kw_only=True)
class SubmitStarted:
    """A slot is reserved and the paid request is about to leave.

    Attributes:
        key: Random token of this submit.
        request: What is asked for.
    """

    key: str
    request: PaidRequest


@attrs.frozen(kw_only=True)
class SubmitFailed:
    """A submit ended without a task id.

    Attributes:
        key: Random token of this submit.
        request: What was asked for.
        error: Why, as text.
        error_type: Name of the error's class.
        is_uncertain: Whether a task may exist and be charged all the same.
    """

    key: str
    request: PaidRequest
    error: str
    error_type: str
    is_uncertain: bool


@attrs.frozen(kw_only=True)
class SubmitWithdrawn:
    """A submit was given up before its paid request left. Nothing was spent.

    Attributes:
        key: Random token of this submit.
        request: What was asked for.
    """

    key: str
    request: PaidRequest


@attrs.frozen(kw_only=True)
class TaskSubmitted:
    """The service took a request and gave it an id.

    Attributes:
        key: Random token of this submit.
        request: What was asked for.
        task_id: The service's id.
    """

    key: str
    request: PaidRequest
    task_id: str


@attrs.frozen(kw_only=True)
class TaskUpdated:
    """A poll saw something new of a task.

    Attributes:
        record: What the service says now.
    """

    record: TaskRecord


@attrs.frozen(kw_only=True)
class TaskEnded:
    """Nothing more will be seen of a task: it ended, or this client no longer looks at it.

    Attributes:
        key: Random token of its submit, or its id where another process submitted it.
        task_id: The service's id.
        record: The newest answer about it, if there was one.
        error: Why it was given up, as text; None where `record` says how it ended.
        error_type: Name of that error's class.
        seconds: Time since its submit, if that is known.
    """

    key: str
    task_id: str
    record: TaskRecord | None
    error: str | None
    error_type: str | None
    seconds: float | None


@attrs.frozen(kw_only=True)
class RequestFinished:
    """A request to the API was answered, or failed.

    Attributes:
        request_id: What names it in this process's log lines and errors.
        base_url: The API's host, or the upload host.
        method: `GET` or `POST`.
        path: Path at that host, without its query.
        task_id: The task that was asked about, if any.
        key: The submit that it is part of, if any.
        status: HTTP status; None where no answer came.
        seconds: Time to the end of the answer, or to the failure.
        error_type: Name of the error's class, also where the answer itself was a refusal.
        service_id: What the service's side calls the request, if an answer's header said so.
    """

    request_id: str
    base_url: str
    method: str
    path: str
    task_id: str | None
    key: str | None
    status: int | None
    seconds: float
    error_type: str | None
    service_id: str | None


@attrs.frozen(kw_only=True)
class RetryScheduled:
    """A call failed in a way that may pass and will be repeated.

    Attributes:
        call: Which call, such as `generate`, `record-info`, `1080p`, `upload` or `download`.
        task_id: Of which task, if any.
        attempt: How many tries have failed, from 1.
        delay: Seconds until the next one.
        error: Why, as text.
        error_type: Name of the error's class.
    """

    call: str
    task_id: str | None
    attempt: int
    delay: float
    error: str
    error_type: str


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
class DownloadFailed:
    """A download that had started ended without its file.

    Attributes:
        task_id: Of which task.
        path: Where the file was to be.
        error: Why, as text.
        error_type: Name of the error's class; `CancelledError` where its caller left or the client
            was closed.
    """

    task_id: str
    path: Path
    error: str
    error_type: str


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


@attrs.frozen(kw_only=True)
class CallbackReceived:
    """A callback about a task arrived, and its poll is brought forward.

    Attributes:
        task_id: Of which task.
    """

    task_id: str


@attrs.frozen(kw_only=True)
class LimiterLost:
    """The limiter cannot count the slots, so nothing is submitted; tasks and downloads go on.

    Attributes:
        error: Why, as text.
    """

    error: str


@attrs.frozen(kw_only=True)
class LimiterRestored:
    """The limiter counts again.

    Attributes:
        seconds: Time since it was lost.
    """

    seconds: float


Event: TypeAlias = (
    ClientStarted
    | ClientClosed
    | SubmitQueued
    | SubmitStarted
    | SubmitFailed
    | SubmitWithdrawn
    | TaskSubmitted
    | TaskUpdated
    | TaskEnded
    | RequestFinished
    | RetryScheduled
    | DownloadStarted
    | DownloadProgress
    | DownloadFinished
    | DownloadFailed
    | SubmitsPaused
    | SubmitsResumed
    | CallbackReceived
    | LimiterLost
    | LimiterRestored
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
    """Hands events to observers, whose failures are their own.

    Attributes:
        observers: Who listens.
    """

    observers: tuple[Observer, ...] = ()

    @classmethod
    def to(cls, on_event: "Observer | Iterable[Observer] | None") -> "Emitter":
        """Return the emitter for what a client was given.

        Raises:
            ConfigurationError: It can neither be called nor holds what can be called.
        """
        if on_event is None:
            return cls()
        if callable(on_event):
            return cls((on_event,))
        observers: tuple[Observer, ...] | None = None
        with suppress(TypeError):
            observers = tuple(on_event)
        if observers is None or not all(callable(each) for each in observers):
            raise ConfigurationError(
                f"on_event is {on_event!r:.80}; give a function that takes an event, or a list of"
                " such functions"
            )
        return cls(observers)

    @property
    def is_heard(self) -> bool:
        """Whether anyone listens, so that events are worth making."""
        return bool(self.observers)

    def emit(self, event: Event) -> None:
        """Tell all observers."""
        for observer in self.observers:
            try:
                observer(event)
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException:  # noqa: BLE001  # a cancellation it raises must not cost a paid task
                _log.exception("on_event failed on %s; the work goes on", type(event).__name__)
