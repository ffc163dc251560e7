"""Why a batch submits nothing at the moment, told once when it begins and once when it is over."""

from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

from veo_async.events import Emitter, SubmitsPaused, SubmitsResumed

__all__: list[str] = []


class Pauses:
    """The reasons that hold at this moment, by kind.

    Args:
        emitter: Whom to tell of them.
        tell: Called when one of them is over.
    """

    def __init__(self, emitter: Emitter, tell: Callable[[], None]) -> None:
        self._emitter = emitter
        self._tell = tell
        self._counts: Counter[str] = Counter()

    def holds(self, kind: str) -> bool:
        """Return whether a reason of that kind holds."""
        return self._counts[kind] > 0

    @asynccontextmanager
    async def reason(self, kind: str, text: str) -> AsyncGenerator[None]:
        """Say that nothing is submitted for this reason while inside."""
        self._counts[kind] += 1
        if self._counts[kind] == 1:
            self._emitter.emit(SubmitsPaused(reason=text))
        try:
            yield
        finally:
            self._counts[kind] -= 1
            if not self._counts[kind]:
                self._emitter.emit(SubmitsResumed(reason=text))
                self._tell()
