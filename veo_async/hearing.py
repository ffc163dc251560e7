"""What callbacks mean to one client: a poll brought forward, or the id of a submit gone astray.

A callback is a hint and never a fact: what it says is asked of `record-info` before it changes
anything. A lost one costs time, since polling goes on beside it.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from enum import Enum, auto
from typing import Final

from veo_async.api import Api, shown
from veo_async.errors import NotFoundError, VeoError, WebhookError
from veo_async.events import CallbackReceived, Emitter, TaskSubmitted
from veo_async.limits import TaskLimiter, settled, told_of_task
from veo_async.models import TaskRecord
from veo_async.ownership import running_loop
from veo_async.protocol import callbacks, retry
from veo_async.protocol.callbacks import Callback
from veo_async.request import ExtendRequest, PaidRequest
from veo_async.settings import (
    CONFIRM_SECONDS,
    RESUMED_SECONDS,
    UNCLAIMED_CALLBACKS,
    RetryPolicy,
    Timeouts,
)
from veo_async.task import VideoTask, Watched, Watcher

__all__: list[str] = []

_log = logging.getLogger(__name__)
_IDS_AT_ONCE: Final = 8  # for one token; a submit has one task
_LOOK_SECONDS: Final = 15.0  # between two looks into the inbox, which may have been unable to tell

Kept = Callable[[str], Awaitable[Sequence[str]]]
IsTaken = Callable[[str], Awaitable[bool]]


class Verdict(Enum):
    """What a client says of a callback."""

    UNKNOWN = auto()
    KNOWN = auto()
    CONTRADICTED = auto()  # its token and its id belong to different submits


class Hearing:
    """The ear of one client.

    Args:
        api: The endpoints.
        watcher: The tasks that are polled.
        limiter: What counts the slots.
        policy: How often to ask.
        timeouts: How long to wait.
        emitter: Who is told.
        verifier: What proves the client's tokens.
        kept: Returns the ids that an inbox holds for a token.

    Attributes:
        verifier: What proves the client's tokens.
    """

    def __init__(
        self,
        api: Api,
        watcher: Watcher,
        *,
        limiter: TaskLimiter,
        policy: RetryPolicy,
        timeouts: Timeouts,
        emitter: Emitter,
        verifier: bytes,
        kept: Kept,
    ) -> None:
        self.verifier: bytes = verifier
        self._api = api
        self._watcher = watcher
        self._limiter = limiter
        self._policy = policy
        self._timeouts = timeouts
        self._emitter = emitter
        self._kept = kept
        self._loop = running_loop()
        self._expected: dict[str, asyncio.Queue[str]] = {}
        self._unclaimed: OrderedDict[str, str] = OrderedDict()

    # --- in any thread

    def judge(self, callback: Callback) -> Verdict:
        """Return what is known of a callback, without asking anybody."""
        token, found = callback.token, self._watcher.find(callback.task_id)
        if token is not None:
            ours = self._watcher.of_key(token)
            if ours is not None:
                is_same = ours.task_id == callback.task_id
                return Verdict.KNOWN if is_same else Verdict.CONTRADICTED
            if token in self._expected or callbacks.is_token(token, self.verifier):
                is_others = found is not None and found.key not in {token, found.task_id}
                return Verdict.CONTRADICTED if is_others else Verdict.KNOWN
        if found is not None and self._is_called_at(found, token):
            return Verdict.KNOWN
        return Verdict.UNKNOWN

    def _is_called_at(self, found: Watched, token: str | None) -> bool:
        """Return whether a task whose callback URL is not the client's may be called back here."""
        if found.request is None:
            return found.key == found.task_id  # attached by its id, which is all that is known
        url = found.request.callback_url
        return url is not None and callbacks.last_segment(url) == token

    def hear(self, callback: Callback) -> None:
        """Take a callback that is known."""
        with suppress(RuntimeError):  # the client's loop has ended
            self._loop.call_soon_threadsafe(self._hear, callback)

    # --- in the client's loop

    def _hear(self, callback: Callback) -> None:
        token, task_id = callback.token, callback.task_id
        ids = None if token is None else self._expected.get(token)
        if ids is not None:
            self._emitter.emit(CallbackReceived(task_id=task_id))
            with suppress(asyncio.QueueFull):
                ids.put_nowait(task_id)
        elif self._watcher.wake(task_id):
            self._emitter.emit(CallbackReceived(task_id=task_id))
        elif token is not None and self._watcher.of_key(token) is None:
            # It may have overtaken the answer of its submit, which may yet be lost.
            self._unclaimed[token] = task_id
            while len(self._unclaimed) > UNCLAIMED_CALLBACKS:
                self._unclaimed.popitem(last=False)

    async def waits(self, token: str) -> bool:
        """Return whether a callback named an id for a submit whose answer was lost."""
        return token in self._unclaimed or bool(await self._ids(token))

    async def _ids(self, token: str) -> Sequence[str]:
        try:
            return await self._kept(token)
        except WebhookError as error:
            _log.warning("the inbox could not be asked for a callback: %s", error)
            return ()

    async def reveal(
        self,
        token: str,
        request: PaidRequest | None,
        *,
        seconds: float,
        is_taken: IsTaken | None = None,
    ) -> TaskRecord | None:
        """Return what became of a submit whose answer was lost, once a callback names its task.

        Callbacks that came before count, those that an inbox kept included.

        Args:
            token: The token in its callback URL.
            request: What was asked for, if that is known.
            seconds: How long to wait for a callback; 0 for those that came before only. While the
                service fails to tell of a task, it is asked for 120 s at least.
            is_taken: Returns whether a task is known to be another submit's.

        Returns:
            The task's record; None where no callback came that the service bears out.
        """
        began = self._loop.time()
        deadline = began + max(seconds, 0.0)
        ids = self._expected[token] = asyncio.Queue[str](_IDS_AT_ONCE)
        failures = 0
        try:
            early = self._unclaimed.pop(token, None)
            known = [*await self._ids(token), *([] if early is None else [early])]
            _offer(ids, dict.fromkeys(known[-_IDS_AT_ONCE:]))
            asked: set[str] = set()
            refused: set[str] = set()
            while (task_id := await self._next(token, ids, asked, deadline)) is not None:
                if task_id in refused or await self._is_taken(task_id, token, is_taken):
                    continue
                try:
                    record = await self._api.record_info(task_id)
                except VeoError as error:
                    failures += 1
                    wait = self._api.wait_after("record-info", task_id, failures, error)
                    again_at = self._loop.time() + max(wait, CONFIRM_SECONDS)
                    if again_at >= max(deadline, began + RESUMED_SECONDS):
                        return None
                    if failures < self._policy.attempts or _may_pass(error):
                        _offer(ids, [task_id])
                    elif self._loop.time() >= deadline:
                        return None
                else:
                    if request is None or _is_of(record, request, token):
                        return record
                    refused.add(task_id)
                    wait = 0.0
                    _log.warning("task %s is not that of the callback that named it", task_id)
                await asyncio.sleep(max(wait, CONFIRM_SECONDS))
        finally:
            if self._expected.get(token) is ids:
                del self._expected[token]
        return None

    async def _next(
        self, token: str, ids: asyncio.Queue[str], asked: set[str], deadline: float
    ) -> str | None:
        """Return the next id that a callback named, also where only the inbox heard of it."""
        while True:
            task_id = await _got(ids, min(deadline, self._loop.time() + _LOOK_SECONDS))
            if task_id is not None:
                asked.add(task_id)
                return task_id
            is_last = self._loop.time() >= deadline
            _offer(ids, [each for each in await self._ids(token) if each not in asked])
            if is_last and ids.empty():
                return None

    async def _is_taken(self, task_id: str, token: str, is_taken: IsTaken | None) -> bool:
        found = self._watcher.find(task_id)
        if found is not None and found.key not in {token, task_id}:
            return True
        return is_taken is not None and await is_taken(task_id)

    async def take_up(
        self, record: TaskRecord, token: str, request: PaidRequest | None, age: float
    ) -> VideoTask:
        """Watch the task that `reveal` found, in the slot of its submit.

        Args:
            record: What `reveal` returned.
            token: The submit's token, which names its slot.
            request: What was asked for, if that is known.
            age: Seconds since the submit.
        """
        if not record.status.is_terminal:
            telling = told_of_task(self._limiter, token, self._timeouts.task, record.task_id)
            await settled(telling, f"task {record.task_id}")
        by_hand = self._watcher.find(record.task_id)
        task = self._watcher.resume(record.task_id, token, request, age, record)
        if by_hand is not None and not by_hand.ended and by_hand.key != token:
            await settled(self._limiter.release(token), f"submit {shown(token)}…")
        _log.info("task %s is the one whose answer was lost: its callback came", record.task_id)
        if request is not None:
            told = TaskSubmitted(key=token, request=request, task_id=record.task_id)
            self._emitter.emit(told)
        return task

    async def settle(self, token: str, request: PaidRequest) -> None:
        """Find the task of a submit whose answer was lost, and watch it."""
        lost_at = self._loop.time()
        seconds = self._timeouts.task + self._timeouts.uncertain
        record = await self.reveal(token, request, seconds=seconds)
        if record is not None:
            await self.take_up(record, token, request, self._loop.time() - lost_at)


def _offer(ids: asyncio.Queue[str], found: Iterable[str]) -> None:
    with suppress(asyncio.QueueFull):
        for each in found:
            ids.put_nowait(each)


async def _got(ids: asyncio.Queue[str], deadline: float) -> str | None:
    with suppress(asyncio.QueueEmpty):
        return ids.get_nowait()
    try:
        async with asyncio.timeout_at(deadline):
            return await ids.get()
    except TimeoutError:
        return None


def _may_pass(error: VeoError) -> bool:
    return retry.is_transient(error) and not isinstance(error, NotFoundError)


def _is_of(record: TaskRecord, request: PaidRequest, token: str) -> bool:
    return callbacks.echoes(
        record.raw,
        prompt=request.prompt,
        is_translated=isinstance(request, ExtendRequest) or request.enable_translation,
        token=token,
    )
