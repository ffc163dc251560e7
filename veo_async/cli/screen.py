"""Messages and progress as plain lines."""

from collections.abc import Callable
from typing import IO, ClassVar, Final

from veo_async.cli.stage import Stage
from veo_async.cli.wording import shown

__all__: list[str] = []

_PLAIN_EVERY: Final = 10.0  # seconds between two lines of a stage that goes on
_SHORTEST_SECRET: Final = 6  # a shorter one would blot out ordinary words


class Screen:
    """Messages as plain lines without control characters.

    Args:
        file: Where they go.
        now: The time in seconds.
        is_quiet: Whether only errors and what was asked for are shown.
        secrets: What never appears in a line.
    """

    period: ClassVar[float] = 1.0  # seconds between two calls of `tick`

    def __init__(
        self,
        file: IO[str],
        now: Callable[[], float],
        *,
        is_quiet: bool = False,
        secrets: tuple[str, ...] = (),
    ) -> None:
        self.stage: Stage | None = None
        self.now = now
        self.is_quiet = is_quiet
        self._file = file
        self._secrets = [secret for secret in secrets if len(secret) >= _SHORTEST_SECRET]
        self._spoke = now()
        self._noted = ""

    def redacted(self, text: str) -> str:
        """Return a text without the secrets."""
        for secret in self._secrets:
            text = text.replace(secret, "…")
        return text

    def say(self, text: str, *, style: str = "", always: bool = False) -> None:
        """Write a message.

        Args:
            text: One line, or several.
            style: How it looks where that can be shown.
            always: Also where only errors are wanted.
        """
        if self.is_quiet and not always:
            return
        self._spoke = self.now()
        for line in self.redacted(text).splitlines():
            self._write(shown(line), style)

    def command(self, text: str) -> None:
        """Write a command to copy, which is never broken into lines."""
        self._write(f"  {shown(self.redacted(text))}", "command")

    def error(self, text: str) -> None:
        """Write what went wrong."""
        self.say(f"Error: {text}", style="error", always=True)

    def begin(self, stage: Stage) -> None:
        """Show a stage of the work from now on."""
        self.stage = stage
        self._noted = ""
        self.say(stage.opening())

    def clear(self) -> None:
        """Show no stage."""
        self.stage = None

    def note(self, text: str, reason: str) -> None:
        """Show that something is wrong just now.

        Args:
            text: What.
            reason: What it has in common with the next time.
        """
        if self.stage is not None:
            self.stage.note = text
        if reason != self._noted:
            self._noted = reason
            self.say(text[:1].upper() + text[1:])

    def received(self, now: float, received: int, total: int | None) -> None:
        """Show a count of bytes."""
        if self.stage is not None:
            self.stage.receive(now, received, total)

    def tick(self) -> None:
        """Show that time has passed."""
        if self.stage is not None and self.now() - self._spoke >= _PLAIN_EVERY:
            self.say(self.stage.still(self.now()))

    def make_room(self) -> None:
        """Leave the line free for what is written to stdout, which may be the same terminal."""

    def close(self) -> None:
        """Leave nothing unfinished on the screen."""
        self.stage = None

    def _write(self, line: str, style: str) -> None:  # noqa: ARG002  # for the live screen
        self._put(f"{line}\n")

    def _put(self, text: str) -> None:
        # Nobody may be reading any more, and a paid video does not depend on it.
        try:
            self._file.write(text)
            self._file.flush()
        except (OSError, ValueError):
            pass
