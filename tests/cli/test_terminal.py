"""The live line, on a real pseudo terminal."""

import fcntl
import io
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest
from rich.cells import cell_len

from veo_async.cli.live import LiveScreen, _breaks_rows
from veo_async.cli.screen import Screen
from veo_async.cli.stage import Stage
from veo_async.simulator import Simulator

Serve = Callable[..., Simulator]
PATIENCE = 30.0
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@attrs.define
class Terminal:
    """One end of a pseudo terminal; the program has the other one as its stderr."""

    mine: int
    theirs: int
    seen: str = ""

    def resize(self, columns: int, rows: int) -> None:
        """Give it a size."""
        fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read_until(self, words: str) -> str:
        """Read on until the words come; return what came since the last call."""
        deadline = time.monotonic() + PATIENCE
        new = ""
        while words not in ESCAPES.sub("", new):
            left = deadline - time.monotonic()
            assert left > 0, f"{words!r} not in {new!r}"
            if select.select([self.mine], [], [], left)[0]:
                new += os.read(self.mine, 65536).decode(errors="replace")
        self.seen += new
        return new


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    mine, theirs = pty.openpty()
    yield Terminal(mine, theirs)
    os.close(mine)
    os.close(theirs)


def frames(output: str) -> list[str]:
    """Return what was painted, one text per repaint."""
    painted = [ESCAPES.sub("", part) for part in output.split("\r\x1b[2K")]
    return [text.strip("\r\n") for text in painted if text.strip()]


def test_the_line_fits_the_terminal_also_after_a_resize(
    veo: Any, serve: Serve, terminal: Terminal
) -> None:
    simulator = serve(time_scale=0)
    terminal.resize(80, 24)
    process = subprocess.Popen(
        veo.at(simulator).command("generate", "A boat", "-o", "b.mp4"),
        cwd=veo.folder, env=veo.at(simulator).environment,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=terminal.theirs,
    )  # fmt: skip
    with process:
        wide = terminal.read_until("usually 60 to 90 s")
        assert max(map(cell_len, frames(wide))) < 80
        terminal.resize(30, 10)
        terminal.read_until("Generating  0:01")
        narrow = terminal.read_until("Generating  0:01")
        assert max(map(cell_len, frames(narrow))) < 30
        process.send_signal(2)
        said = terminal.read_until("b.mp4")
        assert process.wait(PATIENCE) == 130
        assert process.stdout is not None
        assert process.stdout.read() == b""
    task_id = simulator.ledger[0].task_id
    assert f"veo-async wait {task_id} -o b.mp4" in ESCAPES.sub("", said)
    assert terminal.seen.count("\x1b[?7l") == terminal.seen.count("\x1b[?7h")


def test_the_download_is_shown_and_the_line_goes_away(
    veo: Any, serve: Serve, terminal: Terminal
) -> None:
    simulator = serve(video_bytes=3_000_000, faults=["video:drip=20000"])
    terminal.resize(100, 30)
    process = subprocess.Popen(
        veo.at(simulator).command("generate", "A boat", "-o", "b.mp4", "--time-scale", "200"),
        cwd=veo.folder, env={**veo.at(simulator).environment, "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=terminal.theirs,
    )  # fmt: skip
    with process:
        terminal.read_until("of 3.0 MB")
        terminal.read_until("Downloaded 3.0 MB")
        assert process.stdout is not None
        assert process.stdout.read() == b"b.mp4\n"
        assert process.wait(PATIENCE) == 0
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", terminal.seen)


@attrs.define
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def test_plain_lines_go_on_every_ten_seconds() -> None:
    clock, file = Clock(), io.StringIO()
    screen = Screen(file, clock)
    screen.begin(Stage(title="Generating", began=0.0, about="usually 60 to 90 s"))
    for second in range(1, 32):
        clock.now = float(second)
        screen.tick()
    assert file.getvalue().splitlines() == [
        "Generating (usually 60 to 90 s)",
        "Still generating after 10 s (usually 60 to 90 s)",
        "Still generating after 20 s (usually 60 to 90 s)",
        "Still generating after 30 s (usually 60 to 90 s)",
    ]


def test_trouble_is_told_once_as_long_as_it_is_the_same() -> None:
    clock, file = Clock(), io.StringIO()
    screen = Screen(file, clock)
    screen.begin(Stage(title="Waiting", began=0.0))
    for delay in (1, 2, 4):
        screen.note(f"it is away; trying again in {delay} s", "it is away")
    clock.now = 10.0
    screen.tick()
    assert file.getvalue().splitlines() == [
        "Waiting",
        "It is away; trying again in 1 s",
        "Still waiting after 10 s (it is away; trying again in 4 s)",
    ]


def test_the_rate_counts_what_came_in_this_time() -> None:
    stage = Stage(title="Downloading", began=0.0)
    stage.receive(1.0, 5_000_000, 10_000_000)
    assert stage.parts(1.0) == ["50%", "5.0 of 10.0 MB", "0:01"]
    stage.receive(3.0, 6_000_000, 10_000_000)
    assert stage.parts(3.0) == ["60%", "6.0 of 10.0 MB", "0.5 MB/s", "0:03"]
    assert stage.bar() == (12, 8)
    stage.receive(4.0, 1_000_000, None)
    assert stage.parts(4.0) == ["1.0 MB", "0:04"]


@pytest.mark.parametrize("columns", [1, 2, 5, 10, 20, 40, 79, 80, 81, 300])
def test_a_live_line_is_never_wider_than_the_terminal(
    monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setattr(LiveScreen, "columns", columns)
    file = io.StringIO()
    screen = LiveScreen(file, Clock(5.0))
    stage = Stage(title="Generating 夏", began=0.0, about="usually 60 to 90 s")
    screen.begin(stage)
    screen.note("the service answered 503 夏夏夏夏夏夏夏夏夏夏夏夏夏夏夏夏夏夏夏\x1b[2J", "x")
    screen.tick()
    screen.received(5.0, 10**6, 10**7)
    screen.tick()
    painted = frames(file.getvalue())
    assert len(painted) == 3
    assert all(cell_len(text) <= max(columns - 3, 1) for text in painted)


def test_rows_that_a_narrower_terminal_made_are_erased(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LiveScreen, "columns", 80)
    file = io.StringIO()
    screen = LiveScreen(file, Clock())
    screen._breaks_rows = True
    screen.begin(Stage(title="Generating", began=0.0, about="x" * 50))
    length = cell_len(frames(file.getvalue())[0])
    monkeypatch.setattr(LiveScreen, "columns", 20)
    file.truncate(0)
    screen.tick()
    assert file.getvalue().count("\x1b[A") == (length - 1) // 20


@pytest.mark.parametrize(
    ("environment", "breaks"),
    [
        ({"TERM": "xterm-256color"}, True),
        ({"TERM": "screen", "TMUX": "x"}, True),
        ({"TERM": "xterm", "XTERM_VERSION": "XTerm(379)"}, False),
        ({"TERM": "screen", "STY": "1.pts"}, False),
        ({"TERM": "linux"}, False),
    ],
)
def test_terminals_that_cut_rows_off_are_known(environment: dict[str, str], breaks: bool) -> None:
    assert _breaks_rows(environment) is breaks


def test_a_dumb_terminal_gets_plain_lines(veo: Any, serve: Serve, terminal: Terminal) -> None:
    program = veo.at(serve())
    process = subprocess.Popen(
        program.command("generate", "A boat", "-o", "b.mp4", "--time-scale", "200"),
        cwd=veo.folder, env={**program.environment, "TERM": "dumb"},
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=terminal.theirs,
    )  # fmt: skip
    with process:
        terminal.read_until("Downloaded")
        assert process.wait(PATIENCE) == 0
    assert "\x1b" not in terminal.seen
