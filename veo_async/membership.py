"""What limiters have in common whose slots are counted outside of this process."""

import math
import os
from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from veo_async.broker import Broker, Store
from veo_async.errors import ConfigurationError, WrongLoopError
from veo_async.limits import LimiterMember, LimiterStatistics
from veo_async.ownership import running_loop

if TYPE_CHECKING:
    import asyncio

__all__: list[str] = []

LEASE: Final = 30.0  # seconds: short beside a task of minutes, long beside a stall of a program


class SharedLimiter:
    """A limiter whose slots are counted outside of this process.

    It is open from its first use in a running event loop until the last client that uses it is
    closed, or `aclose()` is called; after that it may be opened again, in the same or another loop.
    So it may be made before a loop runs, and before a fork.

    Args:
        total: Tasks that may run at once. All members give the same number; if not, the lowest of
            those who live holds.
        lease: Seconds after which a member that was not heard of counts as dead. All members give
            the same.
    """

    def __init__(self, *, total: int, lease: float) -> None:
        if type(total) is not int or total < 1:
            raise ConfigurationError(f"total is {total!r}; give a whole number of 1 or more")
        if not (lease > 0 and math.isfinite(lease)):
            raise ConfigurationError(f"lease is {lease!r}; give seconds above 0")
        self._total = total
        self._lease = lease
        self._broker: Broker | None = None
        self._place: tuple[int, asyncio.AbstractEventLoop] | None = None

    @abstractmethod
    def _store(self, member: str, ring: Callable[[], None]) -> Store:
        """Return what speaks to the place where slots are counted, not open yet."""

    async def reserve(self, key: str) -> None:
        """Wait for a free slot and reserve it.

        Inside a process those who came first are served first, and between processes whoever has
        waited longest. While the slots cannot be counted for the moment, it waits as well.

        Raises:
            LimiterError: The slots cannot be counted, and waiting will not help.
            WrongLoopError: It is in use in another event loop or process.
        """
        await self._open().reserve(key)

    async def occupy(self, key: str, seconds: float) -> None:
        """Hold a slot for a task that runs, or may run, for so many seconds at most.

        For a key that is reserved it returns once that is certain. Otherwise the task is a fact,
        above the total too, and is told as soon as that is possible.

        Raises:
            LimiterError: The slots cannot be counted, and waiting will not help; or the reservation
                was lost, or could not be confirmed within 5 s: reserve the key again.
            WrongLoopError: It is in use in another event loop or process.
        """
        await self._open().occupy(key, seconds)

    async def occupy_task(self, key: str, seconds: float, task_id: str) -> None:
        """Hold a slot as `occupy` does, for a task that another member may take over.

        Raises:
            LimiterError: The slots cannot be counted, and waiting will not help.
            WrongLoopError: It is in use in another event loop or process.
        """
        await self._open().occupy(key, seconds, task_id)

    async def release(self, key: str) -> None:
        """Give the key's slot back, now or as soon as that can be told.

        Raises:
            LimiterError: The slots cannot be counted, and waiting will not help.
            WrongLoopError: It is in use in another event loop or process.
        """
        await self._open().release(key)

    async def depart(self, count: int, seconds: float) -> float:
        """Count one create of all members, unless the last seconds have so many.

        Returns:
            0 if it may leave now, otherwise the seconds after which to ask again.

        Raises:
            LimiterError: The creates cannot be counted, and waiting will not help.
            WrongLoopError: It is in use in another event loop or process.
        """
        return await self._open().depart(count, seconds)

    def statistics(self) -> LimiterStatistics:
        """Return what was last seen of all members, and how many wait in this process."""
        if self._broker is None:
            return LimiterStatistics(total=self._total, in_use=0, waiting=0)
        return self._broker.statistics()

    def join(self, member: LimiterMember) -> None:
        """Take a client in, in its running loop.

        Raises:
            WrongLoopError: It is in use in another event loop or process.
        """
        self._open().clients.append(member)

    async def leave(self, member: LimiterMember, keys: Iterable[str]) -> None:
        """Let a client go, and everything with the last one.

        Raises:
            WrongLoopError: It is in use in another event loop or process.
        """
        broker = self._opened()
        if broker is None:
            return
        if member in broker.clients:
            broker.clients.remove(member)
        if broker.clients:
            broker.orphan(keys)
        else:
            await self.aclose()

    async def aclose(self) -> None:
        """Give up what is reserved, leave what is occupied to other members, and close everything.

        It may be called more than once. Whoever waits for a slot gets a `LimiterError`.

        Raises:
            WrongLoopError: It is in use in another event loop or process.
        """
        broker = self._opened()
        if broker is not None:
            self._broker = None
            await broker.aclose()

    def _opened(self) -> Broker | None:
        """Return what is open here, if anything.

        Raises:
            WrongLoopError: It is open in another event loop or process.
        """
        place = os.getpid(), running_loop()
        if self._broker is None or self._place == place:
            return self._broker
        if self._place is not None and self._place[0] != place[0]:
            raise WrongLoopError(
                "this limiter was used before the process forked; make one in each process, or use"
                " it only after the fork"
            )
        if self._broker.is_closed:  # with its loop
            return None
        raise WrongLoopError(
            "this limiter is in use in another event loop; make one in each loop, or close the"
            " clients of that loop first"
        )

    def _open(self) -> Broker:
        broker = self._opened()
        if broker is None or broker.is_closed:
            broker = Broker(self._store, total=self._total, lease=self._lease)
            self._broker = broker
            self._place = os.getpid(), running_loop()
        return broker
