"""The real program as a process, against simulators of the test's own."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import attrs
import pytest

from veo_async.simulator import Simulator

KEY = "key-of-the-test-0123456789"
PATIENCE = 30.0
FAST = 200.0


@attrs.frozen
class Ran:
    """How a program ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one JSON object of its stdout."""
        lines = self.out.splitlines()
        assert len(lines) == 1, self.out
        parsed = json.loads(lines[0])
        assert isinstance(parsed, dict)
        return parsed

    @property
    def error(self) -> dict[str, Any]:
        """The error of its JSON."""
        error = self.json["error"]
        assert isinstance(error, dict)
        return error


class Running:
    """The program while it runs. What it says can be waited for."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self._err: list[str] = []
        self._out: list[str] = []
        self._news = threading.Condition()
        self._readers = [
            threading.Thread(target=self._read, args=pair)
            for pair in ((process.stderr, self._err), (process.stdout, self._out))
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream: IO[str], lines: list[str]) -> None:
        for line in stream:
            with self._news:
                lines.append(line)
                self._news.notify_all()
        stream.close()

    def says(self, words: str) -> str:
        """Wait until a line, of either stream, contains the words."""
        found: list[str] = []

        def look() -> bool:
            found[:] = [line for line in (*self._err, *self._out) if words in line]
            return bool(found)

        with self._news:
            assert self._news.wait_for(look, PATIENCE), f"{words!r} not in {self._err}"
        return found[0]

    def send(self, number: signal.Signals) -> None:
        """Send a signal, as a terminal or an operator does."""
        self.process.send_signal(number)

    def ended(self) -> Ran:
        """Wait for the end."""
        code = self.process.wait(PATIENCE)
        for reader in self._readers:
            reader.join(PATIENCE)
        return Ran(code, "".join(self._out), "".join(self._err))


@attrs.define
class Program:
    """The command line program in a folder and an environment of its own."""

    folder: Path
    environment: dict[str, str] = attrs.field(factory=dict[str, str])

    def command(self, *words: object) -> list[str]:
        """Return the words that start it."""
        return [sys.executable, "-m", "veo_async.cli", *map(str, words)]

    def start(self, *words: object) -> Running:
        """Start it."""
        return Running(
            subprocess.Popen(
                self.command(*words),
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )

    def __call__(self, *words: object, stdin: bytes = b"") -> Ran:
        """Run it to its end."""
        done = subprocess.run(
            self.command(*words),
            cwd=self.folder,
            env=self.environment,
            input=stdin,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
        return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())

    def at(self, simulator: Simulator) -> "Program":
        """Return the program with a simulator in its environment."""
        told = {"KIE_API_KEY": simulator.api_key, "KIE_BASE_URL": simulator.base_url}
        return Program(self.folder, {**self.environment, **told})


@pytest.fixture
def veo(tmp_path: Path) -> Program:
    """Return the program in an empty folder, with neither key nor terminal."""
    unwanted = {"KIE_API_KEY", "KIE_BASE_URL", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES"}
    unwanted |= {"PYTHONDEVMODE"}  # says on stderr when a loaded machine is slow
    kept = {name: value for name, value in os.environ.items() if name not in unwanted}
    return Program(tmp_path, {**kept, "TERM": "xterm-256color", "PYTHONWARNINGS": "error"})


@pytest.fixture
def serve() -> Iterator[Callable[..., Simulator]]:
    """Return what starts simulators with small files; they end with the test."""
    started: list[Simulator] = []

    def start(**settings: Any) -> Simulator:
        usual = {"api_key": KEY, "time_scale": FAST, "clip": (64, 36), "video_bytes": 40_000}
        simulator = Simulator(**{**usual, **settings})
        simulator.__enter__()
        started.append(simulator)
        return simulator

    yield start
    for simulator in started:
        simulator.__exit__(None, None, None)


@pytest.fixture(autouse=True)
def _interruptible() -> Iterator[None]:
    """Let children be interrupted, also where a shell switched that off for its background jobs."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def until() -> Callable[[Callable[[], object]], None]:
    """Return what waits for a condition that nobody announces, such as a line in a ledger."""

    def wait(condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline
            threading.Event().wait(0.01)

    return wait
