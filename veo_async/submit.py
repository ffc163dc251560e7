"""A submit, from its slot to its task id. Submitting is spending: the request is sent once.

It is repeated only where the service cannot have taken it: no byte left, or the service said that
it dropped it (429, 455). Everything else that goes wrong after that is uncertain.
"""

import asyncio
import logging
from functools import partial
from urllib.parse import urlsplit, urlunsplit

import attrs

from veo_async.api import Api
from veo_async.errors import LimiterError, SubmitUncertainError, VeoError
from veo_async.events import Emitter, SubmitFailed, SubmitStarted, TaskSubmitted
from veo_async.limits import PaceGate, TaskLimiter
from veo_async.models import VideoRequest
from veo_async.protocol import retry
from veo_async.protocol.lifecycle import SLOTS, Event, Slot, State, advance
from veo_async.settings import RetryPolicy, Timeouts

__all__: list[str] = []

_log = logging.getLogger("veo_async")


@attrs.define(eq=False)
class Submission:
    """One submit on its way.

    Attributes:
        key: Random token that names it.
        request: What is asked for.
        state: Where it stands.
        is_orphan: Whether its caller has left.
    """

    key: str
    request: VideoRequest
    state: State = State.WAITING
    is_orphan: bool = False

    def take(self, event: Event) -> None:
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

    async def run(self, job: Submission) -> str:
        """Return the id of the task that `job` made.

        Run it in a task that its caller's cancellation does not reach: once the request has left,
        being cancelled loses the answer.

        Raises:
            SubmitUncertainError: The answer was lost; a task may exist.
            APIError: The service refused.
            TransportError: Nothing could be sent.
            LimiterError: The slots could not be counted.
        """
        await self._limiter.reserve(job.key)
        job.take(Event.SLOT_GRANTED)
        try:
            self._emitter.emit(SubmitStarted(key=job.key, request=job.request))
            task_id = await self._send_until_taken(job)
        except VeoError as error:
            self._tell_of(job, error)
            raise
        except asyncio.CancelledError:
            if not job.may_be_withdrawn:
                self._tell_of(job, uncertain(job, "it was given up while its answer was awaited"))
            raise
        finally:
            await self._settle_slot(job)
        return task_id

    async def _send_until_taken(self, job: Submission) -> str:
        loop = asyncio.get_running_loop()
        started = loop.time()
        failures = 0
        while True:
            await self._gate.wait()
            try:
                task_id = await self._api.generate(job.request, partial(self._leave, job))
            except VeoError as error:
                failures += 1
                wait = self._wait_or_raise(job, error, failures, loop.time() - started)
            else:
                job.take(Event.ACCEPTED)
                self._tell_id(job, task_id)
                return task_id
            await asyncio.sleep(wait)

    async def _leave(self, job: Submission) -> None:
        # Occupied before the first byte: whoever dies in between leaves a slot that is held too
        # long, never a task that is not counted.
        await self._limiter.occupy(job.key, self._timeouts.uncertain)
        job.take(Event.HEADERS_SENT)

    def _wait_or_raise(
        self, job: Submission, error: VeoError, failures: int, elapsed: float
    ) -> float:
        """Return the seconds to wait before the request may be sent after all."""
        match retry.taken(error):
            case retry.Taken.UNKNOWN:
                raise uncertain(job, str(error)) from error
            case retry.Taken.TURNED_AWAY if elapsed < self._policy.refused_for:
                job.take(Event.TURNED_AWAY)
                wait = self._api.wait_after("generate", None, failures, error)
                self._gate.hold(asyncio.get_running_loop().time() + wait)
                return wait
            case retry.Taken.NOT_SENT if failures < self._policy.attempts:
                return self._api.wait_after("generate", None, failures, error)
            case _:
                job.take(Event.REFUSED)
                raise error

    async def _settle_slot(self, job: Submission) -> None:
        if job.state is State.RESERVED:
            job.take(Event.REFUSED)
        elif job.state is State.SENT:
            job.take(Event.ANSWER_LOST)
        try:
            if job.state is State.RUNNING:
                await self._limiter.occupy(job.key, self._timeouts.task)
            elif job.state is State.UNCERTAIN:
                await self._limiter.occupy(job.key, self._timeouts.uncertain)
            else:
                await self._limiter.release(job.key)
        except LimiterError as error:
            # The slot lapses by itself; the id, or the verdict, must come through.
            _log.warning("the slot of submit %s could not be settled: %s", job.key, error)

    def _tell_id(self, job: Submission, task_id: str) -> None:
        if job.is_orphan:
            _log.warning(
                "the caller of this submit left, and it became task %s all the same; attach to it"
                " with veo.task(%r)",
                task_id,
                task_id,
            )
        else:
            _log.info("task %s submitted", task_id)
        self._emitter.emit(TaskSubmitted(key=job.key, request=job.request, task_id=task_id))

    def _tell_of(self, job: Submission, error: VeoError) -> None:
        is_uncertain = isinstance(error, SubmitUncertainError)
        if is_uncertain:
            _log.warning("%s", error)
        self._emitter.emit(
            SubmitFailed(
                key=job.key, request=job.request, error=str(error), is_uncertain=is_uncertain
            )
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
