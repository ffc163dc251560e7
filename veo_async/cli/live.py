"""The live lines on a terminal: one for a stage, and what it has below it.

Each is one row, so that a narrow or resized terminal shows them whole. `rich.live` forgets that a
terminal that gets narrower breaks the rows it already shows into more of them.
"""

import os
from collections.abc import Callable, Mapping
from typing import IO, ClassVar, Final

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from veo_async.cli.screen import Screen
from veo_async.cli.stage import Stage
from veo_async.cli.wording import shown

__all__: list[str] = []

_STYLES: Final[Mapping[str, str]] = {"": "", "error": "red", "command": "bold"}
_GAP: Final = "  "
_ROOM_FOR_BAR: Final = 70  # columns
_LEAST_NOTE: Final = 12  # columns; less of it says nothing
_DEFAULT_SIZE: Final = os.terminal_size((80, 24))
_ROWS_LEFT: Final = 3  # of a terminal's height, for messages above and a shell's prompt below
_ROOM_FOR_ECHO: Final = 3  # a Ctrl-C shows as ^C behind the line, and the cursor stands there
_ERASE: Final = "\r\x1b[2K"
_UP_AND_ERASE: Final = "\x1b[A\x1b[2K"
_NO_WRAP: Final = "\x1b[?7l"
_WRAP: Final = "\x1b[?7h"


def can_be_live(file: IO[str]) -> bool:
    """Return whether a terminal understands control sequences, and whether it may get them."""
    console = Console(file=file)
    return console.is_terminal and not console.legacy_windows


class LiveScreen(Screen):
    """Messages that scroll, above lines that show the stage and are painted again and again."""

    period: ClassVar[float] = 0.1

    def __init__(
        self,
        file: IO[str],
        now: Callable[[], float],
        *,
        is_quiet: bool = False,
        secrets: tuple[str, ...] = (),
    ) -> None:
        super().__init__(file, now, is_quiet=is_quiet, secrets=secrets)
        self._console = Console(file=file, highlight=False, markup=False, emoji=False)
        wide = self._console.encoding.startswith("utf")
        self._frames = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏" if wide else "|/-\\"
        self._cells = "━" if wide else "="
        self._turn = 0
        self._painted: list[int] = []
        self._breaks_rows = _breaks_rows(os.environ)

    @property
    def columns(self) -> int:
        """The width of the terminal at this moment."""
        return self._size.columns or _DEFAULT_SIZE.columns

    @property
    def _size(self) -> os.terminal_size:
        try:
            return os.get_terminal_size(self._file.fileno())
        except (OSError, ValueError):
            return _DEFAULT_SIZE

    def begin(self, stage: Stage) -> None:
        """Show a stage of the work from now on."""
        self.stage: Stage | None = stage
        self.tick()

    def clear(self) -> None:
        """Show no stage."""
        super().clear()
        self._flush([])

    def note(self, text: str, reason: str) -> None:  # noqa: ARG002  # it stands in the line
        """Show that something is wrong just now."""
        if self.stage is not None:
            self.stage.note = self.redacted(text)

    def tick(self) -> None:
        """Paint the lines again."""
        if self.stage is not None and not self.is_quiet:
            self._turn += 1
            self._flush([self._line(self.stage), *self._below(self.stage)])

    def make_room(self) -> None:
        """Take the painted lines away, until they are painted again."""
        self._flush([])

    def close(self) -> None:
        """Leave nothing unfinished on the screen."""
        self.clear()

    def _write(self, line: str, style: str) -> None:
        text = Text(line, style=_STYLES[style])
        if line.startswith("Error: "):
            text = Text.assemble(("Error:", "bold red"), line[len("Error:") :])
        self._flush([text], is_permanent=True, is_whole=style == "command")

    def _line(self, stage: Stage) -> Text:
        room = max(self.columns - _ROOM_FOR_ECHO, 1)
        frame = self._frames[self._turn % len(self._frames)]
        line = Text.assemble((frame, "cyan"), " ", (stage.title, "bold"))
        bar = stage.bar()
        if bar is not None and room >= _ROOM_FOR_BAR:
            full, empty = bar
            line.append(_GAP).append(self._cells * full, "green").append(self._cells * empty, "dim")
        for part in stage.parts(self.now()):
            if line.cell_len + len(_GAP) + cell_len(part) > room:
                break
            line.append(_GAP + part)
        if stage.note and room - line.cell_len >= _LEAST_NOTE:
            line.append(_GAP).append(shown(stage.note), "yellow")
        line.truncate(room, overflow="ellipsis")
        return line

    def _below(self, stage: Stage) -> list[Text]:
        room = max(self.columns - _ROOM_FOR_ECHO, 1)
        rows = (self._size.lines or _DEFAULT_SIZE.lines) - 1 - _ROWS_LEFT
        lines: list[Text] = []
        for row in stage.below(self.now(), max(rows, 0)):
            line = Text(_GAP + shown(self.redacted(row)), style="dim")
            line.truncate(room, overflow="ellipsis")
            lines.append(line)
        return lines

    def _flush(
        self, lines: list[Text], *, is_permanent: bool = False, is_whole: bool = False
    ) -> None:
        """Replace the painted lines by others, in one write."""
        if self.is_quiet and not is_permanent:
            return
        columns = self.columns
        with self._console.capture() as drawn:
            for number, line in enumerate(lines, 1):
                self._console.print(
                    line,
                    width=columns,
                    end="\n" if is_permanent or number < len(lines) else "",
                    no_wrap=None if is_permanent else True,
                    soft_wrap=is_whole,
                )
        self._put(self._erasing(columns) + drawn.get(), wraps=is_permanent)
        self._painted = [] if is_permanent else [line.cell_len for line in lines]

    def _put(self, text: str, *, wraps: bool = True) -> None:
        # A terminal may be narrower than it has told yet, and must not begin another row then.
        super()._put(text if wraps else f"{_NO_WRAP}{text}{_WRAP}")

    def _erasing(self, columns: int) -> str:
        """Return what takes the painted lines away, also where they were broken into rows since."""
        rows = max(len(self._painted) - 1, 0)
        if self._breaks_rows:
            rows += sum((cells - 1) // columns for cells in self._painted if cells)
        return _ERASE + _UP_AND_ERASE * rows


def _breaks_rows(environment: Mapping[str, str]) -> bool:
    """Return whether the terminal breaks its rows anew when it gets narrower.

    xterm, GNU screen and the Linux console cut them off instead.
    """
    cuts = "XTERM_VERSION" in environment or "STY" in environment
    return not cuts and environment.get("TERM") != "linux"
