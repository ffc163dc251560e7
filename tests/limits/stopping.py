"""Limiters that stop a submit between its reservation and its request."""

import asyncio
from typing import Any

from veo_async import FileLimiter, RedisLimiter
from veo_async.membership import SharedLimiter


class _Stopping(SharedLimiter):
    """Lets nobody leave until it is told.

    Attributes:
        keys: What was reserved, in order.
        stopped: Whether somebody wanted to leave.
        may_go_on: Whether everybody may.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.keys: list[str] = []
        self.stopped = asyncio.Event()
        self.may_go_on = asyncio.Event()

    async def reserve(self, key: str) -> None:
        self.keys.append(key)
        await super().reserve(key)

    async def depart(self, count: int, seconds: float) -> float:
        self.stopped.set()
        await self.may_go_on.wait()
        return 0


class StoppingFileLimiter(_Stopping, FileLimiter):
    """Through a file."""


class StoppingRedisLimiter(_Stopping, RedisLimiter):
    """Through Redis."""
