"""A task at the service: watched until it ends, with its slot freed only when the end was seen."""

import asyncio
import logging
import math
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from copy import copy
from functools import partial
from typing import Protocol
from weakref import WeakValueDictionary

import attrs

from veo_async.api import Api, shown
from veo_async.errors import ClientClosedError, TaskTimeoutError, VeoError
from veo_async.events import Emitter, TaskEnded, TaskUpdated
from veo_async.limits import TaskLimiter, settled, told_of_task
from veo_async.models import TaskRecord, TaskStatus, Video
from veo_async.ownership import Home
from veo_async.protocol import codec, polling, retry
from veo_async.protocol.lifecycle import State, Step, advance
from veo_async.protocol.timetable import Timetable
from veo_async.request import PaidRequest, VideoRequest
from veo_async.settings import (
    CONFIRM_SECONDS,
    POLLS_AT_ONCE,
    PROMPT_SECONDS,
    RESUMED_SECONDS,
    UNKNOWN_ID_GRACE,
    PollPolicy,
    RetryPolicy,
    Timeouts,
)

__all__ = ["VideoTask"]

_log = logging.getLogger(__name__)


class Spawn(Protocol):
    """Starts a coroutine in a task that the client owns."""

    def __call__(
        self,
        work: Coroutine[object, object, None],
        /,
        *,
        may_be_withdrawn: Callable[[], bool] = ...,
    ) -> "asyncio.Task[None]":
        """Start it."""
        ...


@attrs.define(eq=False, weakref_slot=True)
class Watched:
    """What is known of a task, shared by its watcher and all who wait.

    Attributes:
        task_id: The service's id.
        key: What names its slot.
        request: What was asked for, if this process asked.
        submitted_at: Loop time of its submit, if that is known.
        is_resumed: Whether an earlier process made it.
        state: Where it stands.
        record: The newest answer.
        error: Why it was given up.
        ended: Whether nothing more will come.
        told: The task that tells the limiter of a new one.
        watch: The task that polls it.
        is_hinted: Whether a callback says that there may be news.
        pause: What the watcher sleeps on, which a callback ends.
        confirmed_at: Loop time of the last question that a callback caused.
        known: An answer that is to be taken before the first poll.
        other_keys: Further names of its slot, given where nobody knew the first one.
    """

    task_id: str
    key: str
    request: PaidRequest | None = None
    submitted_at: float | None = None
    is_resumed: bool = False
    state: State = State.WAITING
    record: TaskRecord | None = None
    error: VeoError | None = None
    ended: bool = False
    told: "asyncio.Task[None] | None" = None
    watch: "asyncio.Task[None] | None" = None
    is_hinted: bool = False
    pause: "asyncio.Future[None] | None" = None
    confirmed_at: float = -math.inf
    known: TaskRecord | None = None
    other_keys: frozenset[str] = frozenset()
    _waiting: "tuple[asyncio.Future[None], ...]" = ()

    @property
    def is_worth_another_look(self) -> bool:
        """Whether it ended for this client, but perhaps not at the service."""
        has_link = self.record is not None and self.record.video_url is not None
        is_failed = self.record is not None and self.record.status is TaskStatus.FAILED
        return self.ended and (self.error is not None or not (has_link or is_failed))

    def see(self, record: TaskRecord) -> bool:
        """Take an answer; return whether it says something new."""
        is_new = record != self.record
        self.record = record
        if is_new:
            self._tell()
        return is_new

    def end(self, error: VeoError | None = None) -> None:
        """Let everyone who waits go on."""
        self.error = error
        self.ended = True
        self._tell()

    def outcome(self) -> Video:
        """Return the video of a task that has ended, or raise why there is none."""
        if self.error is not None:
            raise copy(self.error)  # each who waits gets a traceback and a context of its own
        record = TaskRecord(task_id=self.task_id, status=TaskStatus.GENERATING)
        record = self.record or record
        video = codec.video_of(record)
        if self.request is None:
            return video
        # The spec's answers do not repeat the seed; what those of the newer form do not repeat was
        # not sent.
        seed = video.seed
        if seed is None and not codec.repeats_request(record):
            seed = self.request.seed
        ratio = video.aspect_ratio
        if ratio is None and isinstance(self.request, VideoRequest):
            ratio = self.request.aspect_ratio
        return attrs.evolve(video, seed=seed, aspect_ratio=ratio)

    async def change(self) -> None:
        """Wait for the next change."""
        # Lighter than an Event, of which each of ten thousand tasks would have one.
        turn = asyncio.get_running_loop().create_future()
        self._waiting += (turn,)
        try:
            await turn
        finally:
            self._waiting = tuple(other for other in self._waiting if other is not turn)

    def _tell(self) -> None:
        waiting, self._waiting = self._waiting, ()
        for turn in waiting:
            _wake(turn)

    def hint(self) -> None:
        """End the watcher's pause, since there may be news."""
        self.is_hinted = True
        _wake(self.pause)


def _wake(pause: "asyncio.Future[None] | None") -> None:
    if pause is not None and not pause.done():
        pause.set_result(None)


class VideoTask:
    """A task at the service. `await` it for its `Video`.

    The client watches it, whether anyone waits for it or not; leaving a wait changes nothing.
    """

    def __init__(self, watched: Watched, watch: Callable[[Watched], None]) -> None:
        self._watched = watched
        self._watch = watch

    @property
    def id(self) -> str:
        """The service's id."""
        return self._watched.task_id

    @property
    def request(self) -> PaidRequest | None:
        """What was asked for; None for a task of an earlier process."""
        return self._watched.request

    @property
    def record(self) -> TaskRecord | None:
        """The newest answer about it, if there was one."""
        return self._watched.record

    @property
    def done(self) -> bool:
        """Whether nothing more will come: it ended, or was given up."""
        return self._watched.ended

    def __await__(self) -> Generator[object, None, Video]:
        """Wait for the video as long as it takes."""
        return self.wait().__await__()

    async def wait(self, timeout: float | None = None) -> Video:  # noqa: ASYNC109  # the API's name; asyncio.timeout is what it uses
        """Return the finished video.

        Args:
            timeout: Seconds to wait at most. The task goes on, and stays watched, after that.

        Raises:
            TaskFailedError: The generation failed.
            TaskTimeoutError: `timeout`, or the longest plausible age of a task, has passed.
            APIError: The service does not know the task, or refuses to tell about it.
            ClientClosedError: The client was closed.
            WrongLoopError: This is another event loop or process than the client's.
        """
        watched = self._watched
        self._watch(watched)
        try:
            async with asyncio.timeout(timeout):
                while not watched.ended:
                    await watched.change()
        except TimeoutError:
            raise TaskTimeoutError(
                f"task {self.id} is not finished after {timeout} s of waiting; it goes on at the"
                " service: wait again",
                task_id=self.id,
            ) from None
        return watched.outcome()

    async def updates(self) -> AsyncGenerator[TaskRecord]:
        """Yield every new record. The last one is terminal.

        Raises:
            TaskTimeoutError: The longest plausible age of a task has passed.
            APIError: The service does not know the task, or refuses to tell about it.
            ClientClosedError: The client was closed.
            WrongLoopError: This is another event loop or process than the client's.
        """
        watched = self._watched
        self._watch(watched)
        seen: TaskRecord | None = None
        while True:
            if watched.record is not None and watched.record != seen:
                seen = watched.record
                yield seen
            elif watched.error is not None:
                raise copy(watched.error)
            elif watched.ended:
                return
            else:
                await watched.change()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, VideoTask) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        record = self.record
        return f"<VideoTask {self.id} {'not asked yet' if record is None else record.status}>"


@attrs.define
class _Tally:
    """Bad polls in a row."""

    failures: int = 0
    refusals: int = 0
    blanks: int = 0  # successes without a link
    last_seen: float = 0.0  # the age at which it was last seen to run


class Watcher:
    """Polls the tasks of one client and frees their slots.

    One polling coroutine serves all who wait for a task. Nothing that goes wrong while polling
    loses the task: it only delays the next poll.
    """

    def __init__(
        self,
        api: Api,
        *,
        limiter: TaskLimiter,
        poll: PollPolicy,
        policy: RetryPolicy,
        timeouts: Timeouts,
        emitter: Emitter,
        chance: Callable[[], float],
        spawn: Spawn,
        home: Home,
        note_link: Callable[[str, float], None],
    ) -> None:
        self._api = api
        self._limiter = limiter
        self._poll = poll
        self._timetable = Timetable(poll)
        self._policy = policy
        self._timeouts = timeouts
        self._emitter = emitter
        self._chance = chance
        self._spawn = spawn
        self._home = home
        self._note_link = note_link
        self._known: WeakValueDictionary[str, Watched] = WeakValueDictionary()
        self._by_key: WeakValueDictionary[str, Watched] = WeakValueDictionary()
        self._asking = asyncio.Semaphore(POLLS_AT_ONCE)
        self._active: dict[str, Watched] = {}
        self.left: list[str] = []  # tasks that go on, and are not polled any more
        self.left_keys: set[str] = set()  # what names their slots

    @property
    def active(self) -> tuple[VideoTask, ...]:
        """The tasks that are being polled."""
        return tuple(VideoTask(watched, self.watch) for watched in self._active.values())

    @property
    def count(self) -> int:
        """How many tasks are being polled, also for another thread that asks."""
        return len(self._active)

    def attach(self, task_id: str) -> VideoTask:
        """Return the task of that id. It is watched from the first wait for it."""
        watched = self._known.get(task_id)
        if watched is None or watched.is_worth_another_look:
            # The slot keeps its name, or a task that was given up would hold two.
            old = watched or Watched(task_id=task_id, key=task_id)
            watched = Watched(task_id=task_id, key=old.key, request=old.request)
            self._known[task_id] = watched
        return VideoTask(watched, self.watch)

    def is_fresh(self, task_id: str) -> bool:
        """Return whether the service may not know an id yet that it gave to this client."""
        watched = self._known.get(task_id)
        age = None if watched is None else self._age(watched)
        return age is not None and age < UNKNOWN_ID_GRACE

    def find(self, task_id: str) -> Watched | None:
        """Return what is known of a task, if anyone holds it."""
        return self._known.get(task_id)

    def of_key(self, key: str) -> Watched | None:
        """Return what is known of the task of a submit, if anyone holds it."""
        return self._by_key.get(key)

    def wake(self, task_id: str) -> bool:
        """Ask for a task now, since a callback says that there may be news.

        Only so often (`CONFIRM_SECONDS`); the usual polling goes on beside it.

        Returns:
            Whether it is being polled.
        """
        watched = self._active.get(task_id)
        if watched is None:
            return False
        watched.hint()
        return True

    def begin(self, task_id: str, key: str, request: PaidRequest) -> VideoTask:
        """Watch a task that was just submitted and occupies the slot of that key."""
        watched = Watched(
            task_id=task_id,
            key=key,
            request=request,
            submitted_at=asyncio.get_running_loop().time(),
            state=State.RUNNING,
        )
        self._known[task_id] = self._by_key[key] = watched
        # Not by the submit, which may still write its id down when the end has been seen.
        telling = settled(
            told_of_task(self._limiter, key, self._timeouts.task, task_id), f"task {task_id}"
        )
        watched.told = self._spawn(telling, may_be_withdrawn=lambda: False)
        self._start(watched)
        return VideoTask(watched, self.watch)

    def resume(
        self,
        task_id: str,
        key: str,
        request: PaidRequest | None,
        age: float,
        known: TaskRecord | None = None,
    ) -> VideoTask:
        """Watch a task of an earlier process that occupies the slot of that key.

        Args:
            task_id: The service's id.
            key: What names its slot.
            request: What was asked for, if that is known.
            age: Seconds since its submit.
            known: An answer about it that came just now.
        """
        watched = self._known.get(task_id)
        if watched is None or watched.is_worth_another_look:
            watched = Watched(
                task_id=task_id,
                key=key,
                request=request,
                submitted_at=asyncio.get_running_loop().time() - age,
                is_resumed=True,
                state=State.RUNNING,
                known=known,
                confirmed_at=-math.inf if known is None else asyncio.get_running_loop().time(),
            )
            self._known[task_id] = self._by_key[key] = watched
            self._start(watched)
        elif watched.ended:  # seen by this client since its journal was read
            telling = settled(self._limiter.release(key), f"task {task_id}")
            self._spawn(telling, may_be_withdrawn=lambda: False)
        else:
            if key != watched.key:
                watched.other_keys |= {key}
            watched.request = watched.request or request
            if watched.watch is None:  # somebody holds a handle of it, and has not waited yet
                watched.submitted_at = asyncio.get_running_loop().time() - age
                watched.is_resumed = True
                watched.state = State.RUNNING  # its slot is taken, whatever the first answer is
                self._start(watched)
        return VideoTask(watched, self.watch)

    def watch(self, watched: Watched) -> None:
        """Start to poll a task, unless it is being polled or has ended.

        Raises:
            ClientClosedError: The client was closed.
            WrongLoopError: This is another event loop or process than the client's.
        """
        if watched.ended:
            return
        try:
            self._home.check()
        except ClientClosedError:
            raise _left(watched.task_id, "the client was closed") from None
        if watched.watch is None:
            self._start(watched)

    def _start(self, watched: Watched) -> None:
        self._active[watched.task_id] = watched
        watched.watch = self._spawn(self._until_ended(watched))
        # Not in the coroutine, which never runs if it is cancelled before its first step.
        watched.watch.add_done_callback(partial(self._stopped, watched))

    def _stopped(self, watched: Watched, watch: "asyncio.Task[None]") -> None:
        if self._active.get(watched.task_id) is watched:
            del self._active[watched.task_id]
        if watched.ended:
            return
        failure = None if watch.cancelled() else watch.exception()
        why = "the client was closed" if failure is None else f"watching it failed: {failure!r}"
        self.left.append(watched.task_id)
        self.left_keys |= {watched.key, *watched.other_keys}
        self._end(watched, _left(watched.task_id, why))

    async def _until_ended(self, watched: Watched) -> None:
        loop = asyncio.get_running_loop()
        started = loop.time() if watched.submitted_at is None else watched.submitted_at
        deadline = started + self._timeouts.task
        if watched.is_resumed:
            # However old it is: it may have finished long ago, which a few polls have to tell.
            deadline = max(deadline, loop.time() + min(self._timeouts.task, RESUMED_SECONDS))
        if watched.told is not None:
            await asyncio.wait({watched.told})
        tally = _Tally()
        first = self._timetable.first(_kind(watched.request), self._age(watched))
        if watched.known is not None:
            first = max(first, self._poll.interval)
            await self._take(watched, tally, watched.known)
        wait = None if watched.ended else first
        while wait is not None:
            left = deadline - loop.time()
            if left <= 0:
                await self._give_up(watched)
                return
            await self._pause(watched, min(wait, left))
            wait = await self._ask(watched, tally)

    async def _pause(self, watched: Watched, seconds: float) -> None:
        """Wait so long, or until a callback says that there may be news."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        if not watched.is_hinted:
            watched.pause = loop.create_future()
            timer = loop.call_at(until, _wake, watched.pause)
            try:
                await watched.pause
            finally:
                timer.cancel()
                watched.pause = None
        if watched.is_hinted:
            due = watched.confirmed_at + CONFIRM_SECONDS
            await asyncio.sleep(min(due, until) - loop.time())
            if due <= until:
                watched.confirmed_at = loop.time()
        watched.is_hinted = False  # the poll that is due now answers any hint as well

    def _age(self, watched: Watched) -> float | None:
        if watched.submitted_at is None:
            return None
        return asyncio.get_running_loop().time() - watched.submitted_at

    async def _ask(self, watched: Watched, tally: _Tally) -> float | None:
        """Poll once; return the seconds until the next poll, None if there is none."""
        wait = 0.0
        try:
            async with self._asking:
                record = await self._api.record_info(watched.task_id)
        except VeoError as error:
            wait = self._wait_after(watched, tally, error)
        else:
            self._learn(watched, tally, record)
            tally.failures = tally.refusals = 0
            await self._take(watched, tally, record)
        if watched.ended:
            return None
        return self._timetable.next(
            _kind(watched.request), self._age(watched), wait, self._chance()
        )

    def _learn(self, watched: Watched, tally: _Tally, record: TaskRecord) -> None:
        """Take note of how long a task took, unless that was not looked at for a while."""
        age = self._age(watched)
        if age is None or watched.is_resumed:
            return
        if not record.status.is_terminal:
            tally.last_seen = age
        elif not (tally.failures or tally.refusals):
            self._timetable.note(_kind(watched.request), tally.last_seen, age)

    def _wait_after(self, watched: Watched, tally: _Tally, error: VeoError) -> float:
        if retry.is_transient(error):
            tally.failures += 1
            tally.refusals = 0
        else:
            tally.refusals += 1
        if polling.is_final(
            error,
            in_a_row=tally.refusals,
            believed_after=self._policy.attempts,
            age=self._age(watched),
        ):
            # Its slot stays occupied and lapses with the longest plausible age: the service did
            # not say that the task has ended.
            self._end(watched, error)
            return 0.0
        failures = tally.failures + tally.refusals
        return self._api.wait_after("record-info", watched.task_id, failures, error)

    async def _take(self, watched: Watched, tally: _Tally, record: TaskRecord) -> None:
        if watched.state is State.WAITING:
            watched.state = advance(watched.state, Step.ATTACHED)
            if not record.status.is_terminal:
                await self._occupy(watched)
        is_blank = record.status is TaskStatus.SUCCESS and record.video_url is None
        tally.blanks += is_blank
        try:
            if record.status.is_terminal and watched.state is State.RUNNING:
                is_failed = record.status is TaskStatus.FAILED
                await self._free(watched, Step.SEEN_FAILURE if is_failed else Step.SEEN_SUCCESS)
        finally:
            if not is_blank or tally.blanks >= self._policy.attempts:
                self._tell(watched, record)
                if record.status.is_terminal:
                    self._end(watched)

    def _tell(self, watched: Watched, record: TaskRecord) -> None:
        if record.video_url is not None:
            self._note_link(record.video_url, asyncio.get_running_loop().time())
        if watched.see(record):
            self._emitter.emit(TaskUpdated(record=record))

    async def _give_up(self, watched: Watched) -> None:
        try:
            if watched.state is State.RUNNING:
                await self._free(watched, Step.AGE_PASSED)
        finally:
            self._end(
                watched,
                TaskTimeoutError(
                    f"task {watched.task_id} is not finished after {self._timeouts.task:g} s; it"
                    " may still be running at the service: attach to it later with veo.task(id)",
                    task_id=watched.task_id,
                ),
            )

    def _end(self, watched: Watched, error: VeoError | None = None) -> None:
        """Let everyone who waits for a task go on, and tell the observers."""
        watched.end(error)
        record = watched.record
        _log.info(
            "task %s %s",
            watched.task_id,
            f"is given up: {error}" if error is not None else record and record.status,
            extra={"task_id": watched.task_id, "key": shown(watched.key)},
        )
        self._emitter.emit(
            TaskEnded(
                key=watched.key,
                task_id=watched.task_id,
                record=record,
                error=None if error is None else str(error),
                error_type=None if error is None else type(error).__name__,
                seconds=self._age(watched),
            )
        )

    async def _occupy(self, watched: Watched) -> None:
        telling = told_of_task(self._limiter, watched.key, self._timeouts.task, watched.task_id)
        await settled(telling, f"task {watched.task_id}")

    async def _free(self, watched: Watched, step: Step) -> None:
        """Give the slot back, and wait for that no longer than a healthy limiter takes."""
        watched.state = advance(watched.state, step)
        for key in watched.other_keys:
            telling = settled(self._limiter.release(key), f"task {watched.task_id}")
            self._spawn(telling, may_be_withdrawn=lambda: False)
        telling = settled(self._limiter.release(watched.key), f"task {watched.task_id}")
        await asyncio.wait(
            {self._spawn(telling, may_be_withdrawn=lambda: False)}, timeout=PROMPT_SECONDS
        )


def _kind(request: PaidRequest | None) -> tuple[object, ...]:
    """Return what tasks have in common that take about as long as each other."""
    if isinstance(request, VideoRequest):
        return request.model, request.resolution, request.duration
    return (None if request is None else request.model,)


def _left(task_id: str, why: str) -> ClientClosedError:
    return ClientClosedError(
        f"task {task_id} goes on at the service, but {why}; attach to it with veo.task(id) of an"
        " open client",
        task_id=task_id,
    )
