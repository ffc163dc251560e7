"""A job of this run, between its journal and its caller."""

import asyncio
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import attrs

from veo_async.errors import (
    APIError,
    ConfigurationError,
    NotFoundError,
    SubmitUncertainError,
    TaskFailedError,
    ValidationError,
    VeoError,
)
from veo_async.films import at_step, steps_of
from veo_async.jobs import NOT_CREATED, REPLACED, SUCCESS, Job, step_at
from veo_async.models import Download, Video
from veo_async.outputs import Naming
from veo_async.prices import Prices
from veo_async.protocol import codec
from veo_async.request import PaidRequest, VideoRequest
from veo_async.results import BatchItem, Outcome

__all__: list[str] = []


@attrs.define(eq=False)
class Entry:
    """A job of this run.

    Attributes:
        job: What the journal says of it.
        request: What is asked for; None for work of an earlier run whose request is unreadable.
        source: The input, as it was given.
        index: Its place in the input of this run; that of the journal where it was not pulled.
        price: What its newest task costs, once that is committed.
        granted: Set once its first task has a slot, or it ended without.
        spent: What this run committed for it.
        is_committed: Whether a part of that is for a task that nothing is known of yet.
        ahead: How many of the tasks after that one are committed as well.
        is_changed: Whether this run's input has another request for it, so that no more is paid.
        download: Its file, once this run has fetched it.
        video: What the service said of it in this run.
    """

    job: Job
    request: VideoRequest | None
    source: object
    index: int | None = None
    price: int = 0
    granted: asyncio.Event = attrs.field(factory=asyncio.Event)
    spent: int = 0
    is_committed: bool = False
    ahead: int = 0
    is_changed: bool = False
    download: Download | None = None
    video: Video | None = None

    @property
    def wanted(self) -> VideoRequest:
        """What is asked for.

        Raises:
            LookupError: That cannot be read, so nothing can be paid for it.
        """
        if self.request is None:
            raise LookupError("a job without a request cannot be submitted")
        return self.request

    @property
    def step(self) -> PaidRequest | None:
        """The request of the task that it is at, or needs next; None where it is unreadable."""
        return None if self.request is None else step_at(self.job, self.request)

    @property
    def left(self) -> int:
        """How many tasks it needs after the one that it is at, or needs next."""
        done = len(self.job.steps)
        return 0 if self.request is None else max(0, steps_of(self.request) - done - 1)

    def at_step(self, error: VeoError) -> VeoError:
        """Return an error that says at which step of a film it came."""
        if self.request is None:
            return error
        return at_step(error, self.request, len(self.job.steps), self.job.film_id)


@attrs.frozen(eq=False, kw_only=True)
class Orders:
    """How a batch is to be made.

    Attributes:
        folder: Where the files go.
        naming: What they are called.
        prices: What a task costs.
        retries: How many new paid tasks a job may have after failures that may pass.
        resubmits_uncertain: Whether a submit whose answer was lost may be paid again.
        window: Seconds for which a link lives.
        callback_url: Prefix of the callback URLs, if there is one.
    """

    folder: Path
    naming: Naming
    prices: Prices
    retries: int
    resubmits_uncertain: bool
    window: float
    callback_url: str | None

    def __attrs_post_init__(self) -> None:
        if type(self.retries) is not int or self.retries < 0:
            raise ConfigurationError(
                f"retries is {self.retries!r}; give how many new paid tasks a failed one may have,"
                " 0 for none"
            )
        if not (self.window > 0 and math.isfinite(self.window)):
            raise ConfigurationError(
                f"download_window is {self.window!r}; give the seconds that a link can be used"
            )

    def item(self, entry: Entry, outcome: Outcome, error: VeoError | None = None) -> BatchItem:
        """Return what the caller gets of a job."""
        job = entry.job
        is_there = outcome in {Outcome.DOWNLOADED, Outcome.SKIPPED} and job.file is not None
        return BatchItem(
            key=job.key,
            index=job.position if entry.index is None else entry.index,
            source=entry.source,
            request=entry.request,
            outcome=outcome,
            task_id=job.task_id,
            path=self.target(job) if is_there else None,
            error=error,
            download=entry.download,
            credits=entry.spent,
            attempts=_paid_tasks(job),
        )

    def refused(self, entry: Entry, error: VeoError) -> BatchItem:
        """Return what the caller gets of a job whose request, or whose next step, is refused."""
        is_begun = bool(entry.job.steps)  # and so paid for
        outcome = Outcome.FAILED if is_begun else Outcome.REJECTED
        return self.item(entry, outcome, entry.at_step(error))

    def unpaid(self, entry: Entry, error: VeoError | None = None) -> BatchItem:
        """Return what the caller gets of a job that is not paid, or not to the end of its film."""
        if error is None and entry.job.steps:
            error = VeoError("the batch was stopped before it was paid; run it again to go on")
        return self.item(entry, Outcome.UNPAID, None if error is None else entry.at_step(error))

    def entry(self, job: Job) -> Entry:
        """Return the entry of work that an earlier run began."""
        try:
            request = job.request
        except ValueError:  # written by a version with other rules; its video is still wanted
            request = None
        return Entry(
            job=job,
            request=request,
            source=request if job.source is None else job.source,
        )

    def allows_another(self, job: Job) -> bool:
        """Return whether a job may have another paid task, as far as their number goes."""
        failed = [one for one in job.attempts if one.end not in {SUCCESS, REPLACED, NOT_CREATED}]
        return len(failed) <= self.retries

    def target(self, job: Job) -> Path:
        """Return where the file of a job goes."""
        return self.folder / (job.file or "")


def uncertain(entry: Entry, reason: str) -> SubmitUncertainError:
    """Return the error for a job whose submit got no answer."""
    attempt, step = entry.job.attempt, entry.step
    return SubmitUncertainError(
        f"the answer to a paid submit was lost ({reason}). A task may exist and be charged; it is"
        " not sent again. Look for the prompt in the account's log at https://kie.ai/logs, then"
        f" settle job {entry.job.key} with `veo-async resolve`: by its task id, or as not created",
        key="" if attempt is None else attempt.token,
        prompt="" if step is None else step.prompt,
    )


def _paid_tasks(job: Job) -> int:
    return sum(attempt.end != NOT_CREATED for attempt in job.attempts)


def told(error: VeoError) -> Mapping[str, object]:
    """Return what a journal keeps of an error."""
    reason = error.reason if isinstance(error, TaskFailedError) else None
    said = error.message if isinstance(error, APIError) else None
    code = error.code if isinstance(error, APIError | TaskFailedError) else None
    return {
        "error_kind": type(error).__name__,
        "error_code": code,
        "error": reason or said or str(error),
    }


def retold(job: Job) -> VeoError:
    """Return the error that an earlier run wrote down for a job."""
    reason = job.error or "no reason was written down"
    code = job.error_code
    is_retryable = codec.may_succeed(code, reason)
    remedy = "allow another paid task with retries" if is_retryable else "change the request"
    match job.error_kind:
        case "TaskFailedError":
            return TaskFailedError(
                f"task {job.task_id} failed in an earlier run ({code or 'no code'}):"
                f" {reason.rstrip('.')}; {remedy}",
                task_id=job.task_id or "",
                code=code,
                reason=reason,
                is_retryable=is_retryable,
            )
        case "ValidationError":
            return ValidationError(
                f"an earlier run was told {code}: {reason}; change the request",
                message=reason,
                code=code or 0,
            )
        case "NotFoundError" | "URLExpiredError":
            return NotFoundError(
                f"the service has deleted the video of task {job.task_id} ({reason}); give the"
                " row another key, or another request where it has none",
                message=reason,
                code=code or 0,
                task_id=job.task_id,
            )
        case _:
            return VeoError(f"an earlier run ended with: {reason}; change the request")


def wall() -> float:
    """Return the time for a record, in epoch seconds. Deadlines have nothing to do with it."""
    return datetime.now(UTC).timestamp()
