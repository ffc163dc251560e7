"""How many tasks may run, and how fast they may be made.

A slot belongs to the remote task, not to a coroutine: it is *reserved* before the paid request,
*occupied* from the moment that request leaves, and free when a terminal state was seen or the
longest plausible age has passed.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Iterable
from contextlib import suppress
from typing import Protocol, TypeVar, runtime_checkable

import attrs

from veo_async.errors import ConfigurationError, LimiterError, VeoError
from veo_async.ownership import uncut
from veo_async.settings import LIMITER_SECONDS, MAX_TASKS

__all__ = ["LimiterMember", "LimiterStatistics", "LocalLimiter", "SharedTaskLimiter", "TaskLimiter"]

_T = TypeVar("_T")
_log = logging.getLogger("veo_async")


class SlotLostError(LimiterError):
    """A reservation ended, or cannot be confirmed for now. Reserve the key again, before sending.

    A waiting for slots inside an HTTP request would end with the time-out of that request.
    """


@attrs.frozen(kw_only=True)
class LimiterStatistics:
    """The slots at one moment.

    Attributes:
        total: Tasks that may run at once.
        in_use: Reserved and occupied slots; more than `total` after tasks were adopted.
        waiting: Submits waiting for a slot.
    """

    total: int
    in_use: int
    waiting: int


@runtime_checkable
class TaskLimiter(Protocol):
    """What counts the account's slots. A key names one submit from its reservation to its end."""

    async def reserve(self, key: str) -> None:
        """Wait for a free slot, first come first served, and reserve it.

        A cancelled wait holds nothing.

        Raises:
            LimiterError: The slots cannot be counted.
        """
        ...

    async def occupy(self, key: str, seconds: float) -> None:
        """Hold a slot for a task that runs, or may run, for so many seconds at most.

        Works without a reservation and above the total, since the task is a fact by then.

        Raises:
            LimiterError: The slots cannot be counted.
        """
        ...

    async def release(self, key: str) -> None:
        """Give the key's slot back. A key that holds none is no error.

        Raises:
            LimiterError: The slots cannot be counted.
        """
        ...

    def statistics(self) -> LimiterStatistics:
        """Return a snapshot."""
        ...


class LimiterMember(Protocol):
    """A client, as a shared limiter sees it. All of it is called on the client's loop."""

    def adopt(self, task_id: str, key: str, age: float, /) -> None:
        """Poll a task whose holder has gone, and release its slot in the end.

        Args:
            task_id: The service's id.
            key: What names its slot.
            age: Seconds since its submit.
        """
        ...

    def lost(self, error: str, /) -> None:
        """Take note that the slots cannot be counted for now, and why."""
        ...

    def restored(self, seconds: float, /) -> None:
        """Take note that they are counted again, after so many seconds."""
        ...


@runtime_checkable
class SharedTaskLimiter(TaskLimiter, Protocol):
    """A limiter whose slots are shared between clients, processes or hosts: its members.

    What only `TaskLimiter` demands is enough for a client. What is added here lets a living member
    go on with the tasks of a dead one, and lets all of them keep one pace.
    """

    def join(self, member: LimiterMember) -> None:
        """Take a client in, in its running loop.

        Args:
            member: The client, which is given tasks that others left.

        Raises:
            WrongLoopError: The limiter is in use in another event loop or process.
        """
        ...

    async def leave(self, member: LimiterMember, keys: Iterable[str]) -> None:
        """Let a client go, and everything with the last one.

        Args:
            member: The client that joined.
            keys: The slots of tasks that it no longer watches; another member takes them over.
        """
        ...

    async def occupy_task(self, key: str, seconds: float, task_id: str) -> None:
        """Hold a slot as `occupy` does, for a task that another member may take over.

        Args:
            key: What names the slot.
            seconds: How long the task may run at most.
            task_id: The service's id.

        Raises:
            LimiterError: The slots cannot be counted.
        """
        ...

    async def depart(self, count: int, seconds: float) -> float:
        """Count one create of all members, unless the last seconds have so many.

        Args:
            count: How many may pass.
            seconds: In how many seconds.

        Returns:
            0 if it may leave now, otherwise the seconds after which to ask again.

        Raises:
            LimiterError: The creates cannot be counted.
        """
        ...


class LocalLimiter:
    """The slots of one process and event loop.

    `anyio.CapacityLimiter` cannot hold more than its total, which tasks of an earlier process need,
    and does not let go of an entity that outlived its time.
    """

    def __init__(self, total: int = MAX_TASKS) -> None:
        if type(total) is not int or total < 1:
            raise ConfigurationError(f"max_tasks is {total!r}; give a whole number of 1 or more")
        self._total = total
        self._held: dict[str, float | None] = {}  # key → when it lapses; None: never by itself
        self._waiting: deque[tuple[str, asyncio.Future[None]]] = deque()
        self._lapse: asyncio.TimerHandle | None = None

    def reserve_nowait(self, key: str) -> bool:
        """Reserve a slot if one is free and nobody waits; return whether it did."""
        if self._waiting or not self._has_room():
            return False
        self._held[key] = None
        return True

    async def reserve(self, key: str) -> None:
        """Wait for a free slot, first come first served, and reserve it."""
        if self.reserve_nowait(key):
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (key, turn)
        self._waiting.append(entry)
        self._arm()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release_nowait(key)  # granted and cancelled in the same turn of the loop
            else:
                with suppress(ValueError):
                    self._waiting.remove(entry)
            raise

    def occupy_nowait(self, key: str, seconds: float) -> None:
        """Hold a slot for a task for so many seconds at most."""
        self._held[key] = asyncio.get_running_loop().time() + seconds
        self._arm()

    async def occupy(self, key: str, seconds: float) -> None:
        """Hold a slot for a task for so many seconds at most."""
        self.occupy_nowait(key, seconds)

    def release_nowait(self, key: str) -> None:
        """Give the key's slot back."""
        self._held.pop(key, None)
        self._grant()

    async def release(self, key: str) -> None:
        """Give the key's slot back."""
        self.release_nowait(key)

    def statistics(self) -> LimiterStatistics:
        """Return a snapshot."""
        return LimiterStatistics(
            total=self._total, in_use=len(self._held), waiting=len(self._waiting)
        )

    def _has_room(self) -> bool:
        if len(self._held) < self._total:
            return True
        now = asyncio.get_running_loop().time()
        for key, lapses in [*self._held.items()]:
            if lapses is not None and lapses <= now:
                del self._held[key]
        return len(self._held) < self._total

    def _grant(self) -> None:
        while self._waiting and self._has_room():
            key, turn = self._waiting.popleft()
            if not turn.done():
                self._held[key] = None
                turn.set_result(None)
        self._arm()

    def _arm(self) -> None:
        """Keep one timer for the next slot to lapse, only while somebody waits."""
        if self._lapse is not None:
            self._lapse.cancel()
            self._lapse = None
        if not self._waiting:
            return
        times = [lapses for lapses in self._held.values() if lapses is not None]
        if times:
            loop = asyncio.get_running_loop()
            self._lapse = loop.call_at(min(times), self._grant)


class PaceGate:
    """Lets so many pass in any window of so many seconds, in the order in which they came.

    Args:
        pace: The count and the window in seconds, or None to let everyone pass who need not wait
            because the service asked for it.
        shared: Who counts, besides, those that other clients let pass.
    """

    def __init__(
        self, pace: tuple[int, float] | None, shared: SharedTaskLimiter | None = None
    ) -> None:
        self._pace = pace
        self._shared = shared
        self._departures: deque[float] = deque(maxlen=pace[0] if pace else 0)
        self._held_until = 0.0
        self._turn = asyncio.Lock()  # first come, first served; a cancelled one leaves no trace

    def earliest(self) -> float:
        """Return the time from which the next one may pass."""
        if self._pace is None or len(self._departures) < self._pace[0]:
            return self._held_until
        return max(self._held_until, self._departures[0] + self._pace[1])

    def depart_nowait(self, now: float) -> None:
        """Count one that passes now."""
        self._departures.append(now)

    def hold(self, until: float) -> None:
        """Let nobody pass before that time: the service asked for it."""
        self._held_until = max(self._held_until, until)

    async def wait(self) -> None:
        """Wait for one's turn and pass.

        Raises:
            LimiterError: What others let pass cannot be counted.
        """
        loop = asyncio.get_running_loop()
        async with self._turn:
            # The hold may be prolonged during the sleep, so it is looked at again.
            while (left := await self._left(loop)) > 0:  # noqa: ASYNC110
                await asyncio.sleep(left)
            self.depart_nowait(loop.time())

    async def _left(self, loop: asyncio.AbstractEventLoop) -> float:
        """Return the seconds to wait; at 0 the departure is counted where it is shared."""
        left = self.earliest() - loop.time()
        if left > 0 or self._shared is None or self._pace is None:
            return left
        return await asked(self._shared.depart(*self._pace))


def told_of_task(limiter: TaskLimiter, key: str, seconds: float, task_id: str) -> Awaitable[None]:
    """Tell a limiter that a task holds a slot, and its id where others may take it over."""
    if isinstance(limiter, SharedTaskLimiter):
        return limiter.occupy_task(key, seconds, task_id)
    return limiter.occupy(key, seconds)


async def asked(answer: Awaitable[_T]) -> _T:
    """Ask a limiter for something without which nothing may be sent.

    Raises:
        LimiterError: It failed.
    """
    try:
        return await answer
    except VeoError:
        raise
    except Exception as error:
        raise LimiterError(
            f"the limiter failed ({error!r}), so nothing was sent; mend it and submit again"
        ) from error


async def settled(telling: Awaitable[None], about: str) -> None:
    """Tell a limiter what is a fact by now.

    A cancellation waits for it, and its failure is logged: neither may cost a task that is paid. A
    slot that could not be given back lapses by itself.
    """

    async def bounded() -> None:
        async with asyncio.timeout(LIMITER_SECONDS):
            await telling

    try:
        await uncut(bounded())
    except Exception as error:  # noqa: BLE001  # a limiter may be anybody's
        _log.warning("the slot of %s could not be settled: %r; it lapses by itself", about, error)
