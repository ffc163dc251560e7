"""A submit, from its slot to its task id. Submitting is spending: the request is sent once.

It is repeated only where the service cannot have taken it: no byte left, or the service said that
it dropped it (429, 455). Everything else that goes wrong after that is uncertain.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol, TypeVar
from urllib.parse import urlsplit, urlunsplit

import attrs

from veo_async.api import Api, shown
from veo_async.errors import LimiterError, SubmitUncertainError, VeoError
from veo_async.events import (
    Emitter,
    LimiterLost,
    LimiterRestored,
    SubmitFailed,
    SubmitQueued,
    SubmitStarted,
    SubmitWithdrawn,
    TaskSubmitted,
)
from veo_async.limits import PaceGate, SlotLostError, TaskLimiter, asked, settled
from veo_async.protocol import retry
from veo_async.protocol.lifecycle import SLOTS, Slot, State, Step, advance
from veo_async.request import PaidRequest
from veo_async.settings import RetryPolicy, Timeouts

__all__: list[str] = []

_T = TypeVar("_T")
_log = logging.getLogger(__name__)


class Record(Protocol):
    """What writes down the steps of a submit, where they have to outlive this process."""

    async def reserved(self) -> None:
        """Take note that there is a slot, and that nothing was sent."""
        ...

    async def leaving(self) -> None:
        """Write down that the paid request leaves now. Nothing is sent when it raises."""
        ...

    async def turned_away(self) -> None:
        """Write down that the service took nothing."""
        ...

    async def accepted(self, task_id: str) -> None:
        """Write down what the submit became. It is waited for before the caller is told."""
        ...


class NoRecord:
    """Writes nothing down."""

    async def reserved(self) -> None:
        """Do nothing."""

    async def leaving(self) -> None:
        """Do nothing."""

    async def turned_away(self) -> None:
        """Do nothing."""

    async def accepted(self, task_id: str) -> None:
        """Do nothing."""


@attrs.define(eq=False)
class Submission:
    """One submit on its way.

    Attributes:
        key: Random token that names it.
        request: What is asked for.
        record: What writes its steps down.
        state: Where it stands.
        task_id: What it became, as soon as that is known.
        is_orphan: Whether its caller has left.
    """

    key: str
    request: PaidRequest
    record: Record = attrs.field(factory=NoRecord)
    state: State = State.WAITING
    task_id: str | None = None
    is_orphan: bool = False

    def take(self, event: Step) -> None:
        """Move along the table of `protocol.lifecycle`."""
        self.state = advance(self.state, event)

    @property
    def may_be_withdrawn(self) -> bool:
        """Whether nothing has left yet, so that its caller may still cancel it."""
        return SLOTS[self.state] is not Slot.OCCUPIED


def with_token(prefix: str, token: str) -> str:
    """Return a callback URL with the token as the last segment of its path.

    A query string is logged and stripped more often than a path.
    """
    parts = urlsplit(prefix)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{token}"))


class Submitter:
    """Carries submissions through the limiter, the gate and the one paid request."""

    def __init__(
        self,
        api: Api,
        *,
        limiter: TaskLimiter,
        gate: PaceGate,
        policy: RetryPolicy,
        timeouts: Timeouts,
        emitter: Emitter,
    ) -> None:
        self._api = api
        self._limiter = limiter
        self._gate = gate
        self._policy = policy
        self._timeouts = timeouts
        self._emitter = emitter
        self._lost_at: float | None = None

    async def run(self, job: Submission, begin: Callable[[str], _T]) -> _T:
        """Carry `job` to its task id, and return what `begin` makes of that.

        Run it in a task that its caller's cancellation does not reach: once the request has left,
        being cancelled loses the answer.

        Args:
            job: What to submit.
            begin: Called with the id in the turn in which it is known, before anything can fail.

        Raises:
            SubmitUncertainError: The answer was lost; a task may exist.
            APIError: The service refused.
            TransportError: Nothing could be sent.
            LimiterError: The slots could not be counted.
        """
        self._emitter.emit(SubmitQueued(key=job.key, request=job.request))
        try:
            await self._counted(self._limiter.reserve(job.key))
            job.take(Step.SLOT_GRANTED)
            await job.record.reserved()
            self._emitter.emit(SubmitStarted(key=job.key, request=job.request))
            return await self._send_until_taken(job, begin)
        except Exception as error:
            self._tell_of(job, error)
            raise
        except asyncio.CancelledError:
            if job.may_be_withdrawn:
                self._emitter.emit(SubmitWithdrawn(key=job.key, request=job.request))
            elif job.task_id is None:
                self._tell_of(job, uncertain(job, "it was given up while its answer was awaited"))
            else:
                self._tell_id(job, job.task_id)
            raise
        finally:
            if job.state is not State.WAITING:
                await self._settle_slot(job)

    async def _counted(self, answer: Awaitable[None]) -> None:
        """Ask the limiter, and tell when it cannot count any more and when it can again.

        Raises:
            LimiterError: It failed.
        """
        now = asyncio.get_running_loop().time
        try:
            await asked(answer)
        except SlotLostError:
            raise  # the limiter works, or has told by itself that it does not
        except LimiterError as error:
            if self._lost_at is None:
                self._lost_at = now()
                self._emitter.emit(LimiterLost(error=str(error)))
            raise
        if self._lost_at is not None:
            seconds, self._lost_at = now() - self._lost_at, None
            self._emitter.emit(LimiterRestored(seconds=seconds))

    async def _send_until_taken(self, job: Submission, begin: Callable[[str], _T]) -> _T:
        loop = asyncio.get_running_loop()
        started = loop.time()
        turned_away = not_sent = 0
        while True:
            await self._gate.wait()
            try:
                task_id = await self._api.generate(
                    job.request, partial(self._leave, job), key=job.key
                )
            except SlotLostError:
                # Nothing was sent, and the slot is waited for without a connection.
                await self._counted(self._limiter.reserve(job.key))
                continue
            except VeoError as error:
                if retry.taken(error) is retry.Taken.NOT_SENT:
                    not_sent += 1
                    wait = self._after_not_sent(job, error, not_sent)
                else:
                    turned_away += 1
                    wait = self._after_an_answer(job, error, turned_away, loop.time() - started)
                    await job.record.turned_away()
            else:
                job.take(Step.ACCEPTED)
                job.task_id = task_id
                begun = begin(task_id)
                await job.record.accepted(task_id)
                self._tell_id(job, task_id)
                return begun
            await asyncio.sleep(wait)

    async def _leave(self, job: Submission) -> None:
        # Occupied before the first byte: whoever dies in between leaves a slot that is held too
        # long, never a task that is not counted.
        await self._counted(self._limiter.occupy(job.key, self._timeouts.lost))
        await job.record.leaving()
        job.take(Step.HEADERS_SENT)

    def _after_not_sent(self, job: Submission, error: VeoError, failures: int) -> float:
        """Return the seconds until the next try, or raise `error` when it was the last one."""
        if failures >= self._policy.attempts:
            job.take(Step.REFUSED)
            raise error
        return self._api.wait_after("generate", None, failures, error)

    def _after_an_answer(
        self, job: Submission, error: VeoError, refusals: int, elapsed: float
    ) -> float:
        """Return the seconds until the request may be sent after all, or raise what it has come to.

        Raises:
            SubmitUncertainError: A task may exist.
            VeoError: `error`, which is final.
        """
        match retry.taken(error):
            case retry.Taken.UNKNOWN:
                lost = uncertain(job, str(error))
                lost.request_id = error.request_id
                raise lost from error
            case retry.Taken.TURNED_AWAY if elapsed < self._policy.refused_for:
                job.take(Step.TURNED_AWAY)
                wait = self._api.wait_after("generate", None, refusals, error)
                self._gate.hold(asyncio.get_running_loop().time() + wait)
                return wait
            case _:
                job.take(Step.REFUSED)
                raise error

    async def _settle_slot(self, job: Submission) -> None:
        if job.state is State.RESERVED:
            job.take(Step.REFUSED)
        elif job.state is State.SENT:
            job.take(Step.ANSWER_LOST)
        if job.state is State.RUNNING:
            return  # it is the watcher's by now, which may have seen the end already
        if job.state is State.UNCERTAIN:
            telling = self._limiter.occupy(job.key, self._timeouts.uncertain)
        else:
            telling = self._limiter.release(job.key)
        await settled(telling, f"submit {shown(job.key)}…")

    def _tell_id(self, job: Submission, task_id: str) -> None:
        if job.is_orphan:
            warn_of_orphan(task_id)
        else:
            _log.info(
                "task %s submitted",
                task_id,
                extra={"task_id": task_id, "key": shown(job.key)},
            )
        self._emitter.emit(TaskSubmitted(key=job.key, request=job.request, task_id=task_id))

    def _tell_of(self, job: Submission, error: Exception) -> None:
        is_uncertain = isinstance(error, SubmitUncertainError)
        if isinstance(error, SubmitUncertainError):
            extra = {"request_id": error.request_id, "key": shown(job.key)}
            _log.warning("%s", error, extra=extra)
        self._emitter.emit(
            SubmitFailed(
                key=job.key,
                request=job.request,
                error=str(error),
                error_type=type(error).__name__,
                is_uncertain=is_uncertain,
            )
        )


def warn_of_orphan(task_id: str) -> None:
    """Name a paid task whose caller has left, where people look."""
    _log.warning(
        "the caller left, and task %s goes on all the same; attach to it with veo.task(%r)",
        task_id,
        task_id,
        extra={"task_id": task_id},
    )


def uncertain(job: Submission, reason: str) -> SubmitUncertainError:
    """Return the error for a submit whose answer was lost."""
    reason = reason.partition("; ")[0]  # what to do after it is another matter here
    return SubmitUncertainError(
        f"the answer to a paid submit was lost ({reason}). A task may exist and be charged; it is"
        " not sent again. Look for the prompt in the account's log at https://kie.ai/logs, and"
        " attach to its id with veo.task(id), or submit again if it is not there",
        key=job.key,
        prompt=job.request.prompt,
    )
