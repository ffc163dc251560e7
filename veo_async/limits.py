"""How many tasks may run, and how fast they may be made.

A slot belongs to the remote task, not to a coroutine: it is *reserved* before the paid request,
*occupied* from the moment that request leaves, and free when a terminal state was seen or the
longest plausible age has passed.
"""

import asyncio
from collections import deque
from contextlib import suppress
from typing import Protocol, runtime_checkable

import attrs

from veo_async.errors import ConfigurationError
from veo_async.settings import MAX_TASKS

__all__ = ["LimiterStatistics", "LocalLimiter", "TaskLimiter"]


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
        """
        ...

    async def release(self, key: str) -> None:
        """Give the key's slot back. A key that holds none is no error."""
        ...

    def statistics(self) -> LimiterStatistics:
        """Return a snapshot."""
        ...


class LocalLimiter:
    """The slots of one process and event loop.

    `anyio.CapacityLimiter` cannot hold more than its total, which tasks of an earlier process need,
    and does not let go of an entity that outlived its time.
    """

    def __init__(self, total: int = MAX_TASKS) -> None:
        if total < 1:
            raise ConfigurationError(f"max_tasks is {total}; give 1 or more")
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
        times = [lapses for lapses in self._held.values() if lapses is not None]
        if self._waiting and times:
            loop = asyncio.get_running_loop()
            self._lapse = loop.call_at(min(times), self._grant)


class PaceGate:
    """Lets so many pass in any window of so many seconds, in the order in which they came.

    Args:
        pace: The count and the window in seconds, or None to let everyone pass who need not wait
            because the service asked for it.
    """

    def __init__(self, pace: tuple[int, float] | None) -> None:
        if pace is not None and not (pace[0] >= 1 and pace[1] > 0):
            raise ConfigurationError(
                f"pace is {pace}; give (how many, in how many seconds), or None for no limit"
            )
        self._pace = pace
        self._departures: deque[float] = deque(maxlen=pace[0] if pace else 0)
        self._held_until = 0.0

    def book_nowait(self, now: float) -> float:
        """Book the next departure and return its time."""
        departure = max(now, self._held_until)
        if self._pace is not None:
            count, seconds = self._pace
            if len(self._departures) == count:
                departure = max(departure, self._departures[0] + seconds)
            self._departures.append(departure)
        return departure

    def hold(self, until: float) -> None:
        """Let nobody pass before that time: the service asked for it."""
        self._held_until = max(self._held_until, until)

    async def wait(self) -> None:
        """Wait for one's departure."""
        loop = asyncio.get_running_loop()
        departure = self.book_nowait(loop.time())
        # The hold may be prolonged during the sleep, so it is looked at again.
        while (left := max(departure, self._held_until) - loop.time()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(left)
