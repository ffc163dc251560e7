"""Service time: real time, scaled, plus jumps."""

import asyncio
import contextlib
import time


class Clock:
    """A clock that starts at 0 when the simulator first serves.

    Reading and jumping work from any thread; waiting works in the serving loop.

    Args:
        scale: Service seconds per real second; 0 stands still except for jumps.

    Raises:
        ValueError: For a negative scale.
    """

    def __init__(self, scale: float) -> None:
        if scale < 0:
            raise ValueError("time_scale must be 0 or more")
        self._scale = scale
        self._started: float | None = None
        self._jumped = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiters: set[asyncio.Future[None]] = set()

    @property
    def is_stopped(self) -> bool:
        """True while nothing is served: whoever waits for service time is to give up."""
        return self._loop is None

    def start(self) -> None:
        """Bind to the running loop and, the first time, begin to count."""
        self._loop = asyncio.get_running_loop()
        if self._started is None:
            self._started = time.monotonic()

    def stop(self) -> None:
        """Wake all who wait, and let go of the loop; time goes on."""
        self._loop = None
        self._wake()

    def now(self) -> float:
        """Return service seconds since the start."""
        if self._started is None:
            return self._jumped
        return (time.monotonic() - self._started) * self._scale + self._jumped

    def advance(self, seconds: float) -> None:
        """Jump ahead.

        Raises:
            ValueError: For a jump back.
        """
        if seconds < 0:
            raise ValueError("service time never goes back: pass seconds >= 0")
        self._jumped += seconds
        self.poke()

    def poke(self) -> None:
        """Let every waiter look at the time again."""
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has just closed
                loop.call_soon_threadsafe(self._wake)

    async def pause(self, until: float | None) -> None:
        """Wait for the moment `until` (None: for ever), a poke or the stop, whichever is first."""
        if self.is_stopped:
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            async with asyncio.timeout(self._real_seconds(until)):
                await waiter
        except TimeoutError:
            pass
        finally:
            self._waiters.discard(waiter)

    async def sleep(self, seconds: float) -> None:
        """Wait `seconds` of service time, or until the simulator stops."""
        end = self.now() + seconds
        while self.now() < end and not self.is_stopped:
            await self.pause(end)

    def _real_seconds(self, until: float | None) -> float | None:
        if until is None:
            return None
        left = until - self.now()
        if left <= 0:
            return 0.0
        return left / self._scale if self._scale else None

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
