"""Whether more videos may be ordered, given how fast they are brought home."""

from collections import deque

import attrs

__all__: list[str] = []

_REMEMBERED = 1200.0  # seconds of downloading: a rate of the last minutes, not of last night
_SHARE = 0.8  # of the window; the rest is for a rate that drops


@attrs.define
class Backlog:
    """The rate at which downloads finish, counted over the time in which any is under way.

    Times are seconds of any clock that does not go back.
    """

    _active: int = 0
    _since: float = 0.0
    _busy: float = 0.0
    _finished: deque[float] = attrs.field(factory=deque[float])

    def began(self, now: float) -> None:
        """A download got its turn."""
        self._count(now)
        self._active += 1

    def ended(self, now: float, *, is_whole: bool) -> None:
        """A download ended, with its file or without."""
        self._count(now)
        self._active -= 1
        if is_whole:
            self._finished.append(self._busy)

    def seconds_for(self, videos: int, now: float) -> float:
        """Return how long it takes to bring so many videos home.

        The one that is under way counts as if it finished now: nothing is known before the first.
        """
        self._count(now)
        return videos * min(self._busy, _REMEMBERED) / (len(self._finished) + 1)

    def has_room(self, videos: int, window: float, now: float) -> bool:
        """Return whether so many videos can be fetched before the links to them die.

        A single one always has room: after downloads that all failed, it is how to find out more.

        Args:
            videos: Those that wait, those that are being fetched, and those that are being made.
            window: Seconds that a link lives (spec: Download TTL).
            now: The time.
        """
        return videos <= 1 or self.seconds_for(videos, now) <= window * _SHARE

    def _count(self, now: float) -> None:
        if self._active:
            self._busy += now - self._since
        self._since = now
        while self._finished and self._busy - self._finished[0] > _REMEMBERED:
            self._finished.popleft()
