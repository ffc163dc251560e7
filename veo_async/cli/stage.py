"""One stage of the work, and how it reads at a moment."""

import attrs

from veo_async.cli.wording import clock, lasted, megabytes

__all__: list[str] = []

BAR_CELLS = 20


@attrs.define(kw_only=True)
class Stage:
    """What is going on.

    Attributes:
        title: In a word or two.
        began: When, in seconds.
        about: What else is known of it.
        note: What is wrong at the moment.
        received: Bytes so far.
        total: Bytes in all.
    """

    title: str
    began: float
    about: str = ""
    note: str = ""
    received: int = 0
    total: int | None = None
    _first: tuple[float, int] | None = None

    def receive(self, now: float, received: int, total: int | None) -> None:
        """Take a count of bytes."""
        self.note = ""
        self.received, self.total = received, total
        if self._first is None or received < self._first[1]:  # a download that started again
            self._first = now, received

    def rate(self, now: float) -> float | None:
        """Return bytes per second since the first count, which may be of an earlier command."""
        if self._first is None:
            return None
        since, base = self._first
        if now <= since or self.received <= base:
            return None
        return (self.received - base) / (now - since)

    def opening(self) -> str:
        """Return the line that says that it began."""
        return f"{self.title} ({self.about})" if self.about else self.title

    def still(self, now: float) -> str:
        """Return the line that says that it goes on."""
        details = self.amounts(now) or ([self.about] if self.about else [])
        tail = ", ".join([self.note] if self.note else details)
        line = f"Still {self.title[0].lower()}{self.title[1:]} after {lasted(now - self.began)}"
        return f"{line} ({tail})" if tail else line

    def amounts(self, now: float) -> list[str]:
        """Return what is known of the bytes, the most telling first."""
        if not self.received:
            return []
        found = [megabytes(self.received)]
        if self.total:
            share = f"{100 * self.received // self.total}%"
            found = [share, f"{self.received / 1e6:.1f} of {megabytes(self.total)}"]
        rate = self.rate(now)
        return found if rate is None else [*found, f"{megabytes(rate)}/s"]

    def parts(self, now: float) -> list[str]:
        """Return the pieces of a live line after the title, the most telling first."""
        amounts = self.amounts(now)
        elapsed = clock(now - self.began)
        if amounts:
            return [*amounts, elapsed]
        return [elapsed, self.about] if self.about and not self.note else [elapsed]

    def bar(self) -> tuple[int, int] | None:
        """Return the full and the empty cells of a bar."""
        if not self.total:
            return None
        full = min(BAR_CELLS, BAR_CELLS * self.received // self.total)
        return full, BAR_CELLS - full

    def below(self, now: float, rows: int) -> list[str]:  # noqa: ARG002  # for stages that have more
        """Return further lines, at most so many."""
        return []
