"""A Redis server of its own, which may be killed, stopped, and started again with or without data.

`python -m` is not for it: tests and benchmarks import `RedisServer`, and pytest the fixture
`redis_server` from the `conftest.py` beside it.
"""

import contextlib
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

_STARTS_SECONDS = 20.0


def free_port() -> int:
    """Return a port that nobody is given by chance while a server is away from it."""
    while True:
        port = random.randrange(20_000, 32_000)  # below those that Linux gives away by itself
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class RedisServer:
    """A server on a port of loopback, while inside.

    Args:
        program: Its path.
        options: More of its options, such as `("--appendonly", "yes")`.
    """

    def __init__(self, program: str = "redis-server", options: tuple[str, ...] = ()) -> None:
        self._program = program
        self._options = options
        self._folder = Path(tempfile.mkdtemp(prefix="veo-redis-"))
        self._process: subprocess.Popen[bytes] | None = None
        self.port: int = free_port()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it with what it had written, and return when it answers."""
        self._process = subprocess.Popen(
            [
                self._program,
                *("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder)),
                *("--loglevel", "warning", "--logfile", str(self._folder / "log")),
                *self._options,
            ]
        )
        deadline = time.monotonic() + _STARTS_SECONDS
        # By its id, since another server may have come first to the port.
        while b"\r\nprocess_id:%d\r\n" % self._process.pid not in self.say("INFO", "server"):
            assert self._process.poll() is None, (self._folder / "log").read_text()
            assert time.monotonic() < deadline, "redis-server does not answer"
            time.sleep(0.01)

    def say(self, *words: str) -> bytes:
        """Send one command, and return the first 64 KiB of what comes back."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2) as line:
                line.sendall((" ".join(words) + "\r\n").encode())
                return line.recv(65536)
        except OSError:
            return b""

    def kill(self) -> None:
        """End it as a power cut would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process = None

    def freeze(self) -> None:
        """Make it hang."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def empty(self) -> None:
        """Lose its data, while it is killed."""
        for path in self._folder.iterdir():
            if path.name != "log":
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is not None:
            self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)
