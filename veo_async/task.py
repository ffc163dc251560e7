"""A task at the service: watched until it ends, with its slot freed only when the end was seen."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from typing import Protocol
from weakref import WeakValueDictionary

import attrs

from veo_async.api import Api
from veo_async.errors import ClientClosedError, LimiterError, TaskTimeoutError, VeoError
from veo_async.events import Emitter, TaskUpdated
from veo_async.limits import TaskLimiter
from veo_async.models import TaskRecord, TaskStatus, Video, VideoRequest
from veo_async.protocol import codec, polling, retry
from veo_async.protocol.lifecycle import Event, State, advance
from veo_async.settings import PollPolicy, RetryPolicy, Timeouts

__all__ = ["VideoTask"]

_log = logging.getLogger("veo_async")


class Spawn(Protocol):
    """Starts a coroutine in a task that the client owns."""

    def __call__(self, work: Coroutine[object, object, None], /) -> "asyncio.Task[None]":
        """Start it."""
        ...


@attrs.define(eq=False, weakref_slot=True)
class Watched:
    """What is known of a task, shared by its watcher and all who wait.

    Attributes:
        task_id: The service's id.
        key: What names its slot.
        request: What was asked for, if this process asked.
        submitted_at: Loop time of its submit, if this process made it.
        state: Where it stands.
        record: The newest answer.
        error: Why it was given up.
        ended: Whether nothing more will come.
        changed: Set, and replaced, at every change.
        watch: The task that polls it.
    """

    task_id: str
    key: str
    request: VideoRequest | None = None
    submitted_at: float | None = None
    state: State = State.WAITING
    record: TaskRecord | None = None
    error: VeoError | None = None
    ended: bool = False
    changed: asyncio.Event = attrs.field(factory=asyncio.Event)
    watch: "asyncio.Task[None] | None" = None

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
        """Return the video, or raise why there is none."""
        if self.error is not None:
            raise self.error.with_traceback(None)
        if self.record is None:
            raise LookupError(f"task {self.task_id} has not ended")
        video = codec.video_of(self.record)
        if self.request is None:
            return video
        # The spec's answers do not repeat the seed.
        seed = self.request.seed if video.seed is None else video.seed
        ratio = self.request.aspect_ratio if video.aspect_ratio is None else video.aspect_ratio
        return attrs.evolve(video, seed=seed, aspect_ratio=ratio)

    def _tell(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()


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
    def request(self) -> VideoRequest | None:
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
            ClientClosedError: The client was closed first.
        """
        watched = self._watched
        self._watch(watched)
        try:
            async with asyncio.timeout(timeout):
                while not watched.ended:
                    await watched.changed.wait()
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
            ClientClosedError: The client was closed first.
        """
        watched = self._watched
        self._watch(watched)
        seen: TaskRecord | None = None
        while True:
            changed = watched.changed
            if watched.record is not None and watched.record != seen:
                seen = watched.record
                yield seen
            elif watched.error is not None:
                raise watched.error.with_traceback(None)
            elif watched.ended:
                return
            else:
                await changed.wait()

    def __repr__(self) -> str:
        record = self.record
        return f"<VideoTask {self.id} {'not asked yet' if record is None else record.status}>"


@attrs.define
class _Tally:
    """Bad polls in a row."""

    failures: int = 0
    refusals: int = 0
    blanks: int = 0  # successes without a link


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
    ) -> None:
        self._api = api
        self._limiter = limiter
        self._poll = poll
        self._policy = policy
        self._timeouts = timeouts
        self._emitter = emitter
        self._chance = chance
        self._spawn = spawn
        self._known: WeakValueDictionary[str, Watched] = WeakValueDictionary()
        self._active: dict[str, Watched] = {}

    @property
    def active(self) -> tuple[VideoTask, ...]:
        """The tasks that are being polled."""
        return tuple(VideoTask(watched, self.watch) for watched in self._active.values())

    def attach(self, task_id: str) -> VideoTask:
        """Return the task of that id. It is watched from the first wait for it."""
        watched = self._known.get(task_id)
        if watched is None:
            watched = self._known[task_id] = Watched(task_id=task_id, key=task_id)
        return VideoTask(watched, self.watch)

    def begin(self, task_id: str, key: str, request: VideoRequest) -> VideoTask:
        """Watch a task that was just submitted and occupies the slot of that key."""
        watched = Watched(
            task_id=task_id,
            key=key,
            request=request,
            submitted_at=asyncio.get_running_loop().time(),
            state=State.RUNNING,
        )
        self._known[task_id] = watched
        self.watch(watched)
        return VideoTask(watched, self.watch)

    def watch(self, watched: Watched) -> None:
        """Start to poll a task, unless it is being polled or has ended."""
        if watched.watch is None and not watched.ended:
            self._active[watched.task_id] = watched
            watched.watch = self._spawn(self._until_ended(watched))

    async def _until_ended(self, watched: Watched) -> None:
        loop = asyncio.get_running_loop()
        started = loop.time() if watched.submitted_at is None else watched.submitted_at
        deadline = started + self._timeouts.task
        tally = _Tally()
        try:
            await asyncio.sleep(polling.first_poll(self._poll, self._age(watched)))
            while (wait := await self._ask(watched, tally)) is not None:
                left = deadline - loop.time()
                if left <= 0:
                    await self._give_up(watched)
                    return
                await asyncio.sleep(min(wait, left))
        finally:
            self._active.pop(watched.task_id, None)
            if not watched.ended:
                watched.end(
                    ClientClosedError(
                        f"the client was closed while task {watched.task_id} was running; attach"
                        " to it with veo.task(id) of another client",
                        task_id=watched.task_id,
                    )
                )

    def _age(self, watched: Watched) -> float | None:
        if watched.submitted_at is None:
            return None
        return asyncio.get_running_loop().time() - watched.submitted_at

    async def _ask(self, watched: Watched, tally: _Tally) -> float | None:
        """Poll once; return the seconds until the next poll, None if there is none."""
        wait = 0.0
        try:
            record = await self._api.record_info(watched.task_id)
        except VeoError as error:
            wait = self._wait_after(watched, tally, error)
        else:
            tally.failures = tally.refusals = 0
            await self._take(watched, tally, record)
        if watched.ended:
            return None
        return polling.next_poll(self._poll.interval, wait, self._chance())

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
            watched.end(error)
            return 0.0
        failures = tally.failures + tally.refusals
        return self._api.wait_after("record-info", watched.task_id, failures, error)

    async def _take(self, watched: Watched, tally: _Tally, record: TaskRecord) -> None:
        if watched.state is State.WAITING:
            watched.state = advance(watched.state, Event.ATTACHED)
            if not record.status.is_terminal:
                await self._occupy(watched)
        if record.status.is_terminal and watched.state is State.RUNNING:
            is_failed = record.status is TaskStatus.FAILED
            await self._free(watched, Event.SEEN_FAILURE if is_failed else Event.SEEN_SUCCESS)
        if record.status is TaskStatus.SUCCESS and record.video_url is None:
            tally.blanks += 1
            if tally.blanks < self._policy.attempts:
                return
        self._tell(watched, record)
        if record.status.is_terminal:
            watched.end()

    def _tell(self, watched: Watched, record: TaskRecord) -> None:
        if watched.see(record):
            self._emitter.emit(TaskUpdated(record=record))

    async def _give_up(self, watched: Watched) -> None:
        if watched.state is State.RUNNING:
            await self._free(watched, Event.AGE_PASSED)
        watched.end(
            TaskTimeoutError(
                f"task {watched.task_id} is not finished after {self._timeouts.task:g} s; it may"
                " still be running at the service: attach to it later with veo.task(id)",
                task_id=watched.task_id,
            )
        )

    async def _occupy(self, watched: Watched) -> None:
        try:
            await self._limiter.occupy(watched.key, self._timeouts.task)
        except LimiterError as error:
            _log.warning("task %s holds no slot: %s", watched.task_id, error)

    async def _free(self, watched: Watched, event: Event) -> None:
        watched.state = advance(watched.state, event)
        try:
            await self._limiter.release(watched.key)
        except LimiterError as error:
            _log.warning("the slot of task %s lapses by itself: %s", watched.task_id, error)
