"""A file server in a process of its own, so that its CPU is not counted.

`python -m benchmarks.server FILE` serves one file under any path, and prints its address. What
`serving` starts has files of given sizes, each named by its size (`/200000000.mp4`, or any other
path whose long number it is), and keeps books. HTTP answers go out by sendfile. A path that starts
with `/slow` is served slowly, and one that starts with `/stalled` stops part of the way for the
first who asks.
"""

import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any

import attrs

from veo_async.simulator.media import render_mp4

FOLDER = Path(__file__).parents[1] / ".benchmarks"  # a disk, where /tmp may be memory
PIECE = 1024 * 1024
SLOW = 600_000  # bytes per second
BEAT = 0.1  # seconds between two pieces of a slow answer
STALLS_AT = 0.6
CURVE = "ec_paramgen_curve:prime256v1"


@contextmanager
def temporary() -> Generator[Path]:
    """Give a folder for a while, on the disk of the checkout."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        yield Path(folder)


# --- the parent's side


@attrs.frozen
class Served:
    """A server that runs.

    Attributes:
        folder: Where its files are.
        http: Its address over HTTP.
        https: Its address over TLS; empty without.
        authority: The certificate of who signed its own.
    """

    folder: Path
    http: str
    https: str
    authority: Path
    _process: "subprocess.Popen[str]"

    def file(self, size: int) -> Path:
        """Return a served file."""
        return self.folder / f"{size}.mp4"

    def books(self) -> list[dict[str, Any]]:
        """Return what was asked for, in order; see `Request`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(file=self._process.stdin, flush=True)
        found: list[dict[str, Any]] = json.loads(self._process.stdout.readline())
        return found


@contextmanager
def serving(sizes: Sequence[int], *, secure: bool = False) -> Generator[Served]:
    """Serve MP4s of these sizes until left."""
    with temporary() as folder:
        for size in sizes:
            _write_video(folder / f"{size}.mp4", size)
        if secure:
            _certify(folder)
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.server", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            told = json.loads(process.stdout.readline())
            yield Served(folder, told["http"], told["https"], folder / "authority.pem", process)
        finally:
            process.communicate()  # its input ends, and so does it


def _write_video(path: Path, size: int) -> None:
    """Write an MP4 with noise at its end, piece by piece: a gigabyte need not be held."""
    video = render_mp4(width=64, height=36, seconds=1, seed=1)
    gap = size - len(video)
    with path.open("wb") as file:
        file.write(video + gap.to_bytes(4, "big") + b"free")
        for left in range(gap - 8, 0, -PIECE):
            file.write(os.urandom(min(left, PIECE)))


def _certify(folder: Path) -> None:
    """Make an authority, and a certificate for loopback that it signs."""
    new = ["openssl", "req", "-x509", "-days", "2", "-nodes", "-newkey", "ec", "-pkeyopt", CURVE]
    usage = "keyUsage=critical,keyCertSign"
    own = ["-subj", "/CN=an authority", "-addext", usage, "-out", "authority.pem"]
    _openssl([*new, *own, "-keyout", "authority.key"], folder)
    signed = ["-CA", "authority.pem", "-CAkey", "authority.key", "-subj", "/CN=localhost"]
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    leaf = ["-addext", "basicConstraints=critical,CA:FALSE"]
    _openssl([*new, *signed, *names, *leaf, "-out", "own.pem", "-keyout", "own.key"], folder)


def _openssl(command: Sequence[str], folder: Path) -> None:
    subprocess.run(command, check=True, cwd=folder, capture_output=True)


# --- the child's side


@attrs.define
class Request:
    """One line of the books.

    Attributes:
        path: What was asked for.
        range: Its `Range` header.
        if_range: Its `If-Range` header.
        cipher: TLS version and cipher; empty without TLS.
        start: Offset of the first byte.
        sent: Bytes that left.
        began: When it was asked for, seconds of this machine's clock.
        last: When the last byte left.
        longest: Most seconds between two of its pieces.
    """

    path: str
    range: str | None
    if_range: str | None
    cipher: str
    start: int = 0
    sent: int = 0
    began: float = attrs.field(factory=time.monotonic)
    last: float = attrs.field(factory=time.monotonic)
    longest: float = 0.0

    def count(self, sent: int) -> None:
        """Take note that bytes left."""
        now = time.monotonic()
        self.longest = max(self.longest, now - self.last)
        self.last = now
        self.sent += sent


class FileServer(ThreadingHTTPServer):
    """Serves in threads: what they do, sending and encrypting, does not hold the interpreter."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, place: Path, context: ssl.SSLContext | None, books: list[Request]) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.place = place
        self.books = books
        self._context = context

    def finish_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401  # socketserver's
        """Answer on one connection until it ends."""
        with suppress(ConnectionError, ssl.SSLError):  # a client that has had enough
            if self._context is None:
                super().finish_request(request, client_address)
                return
            with self._context.wrap_socket(request, server_side=True) as secured:
                super().finish_request(secured, client_address)

    def path_of(self, path: str) -> Path:
        """Return the file that a path means."""
        if self.place.is_file():
            return self.place
        return self.place / f"{re.findall('[0-9]{5,}', path)[-1]}.mp4"

    @property
    def address(self) -> str:
        """Where it listens."""
        scheme = "http" if self._context is None else "https"
        return f"{scheme}://127.0.0.1:{self.server_port}"


class Answers(BaseHTTPRequestHandler):
    """Answers the requests of one connection."""

    protocol_version = "HTTP/1.1"
    server: FileServer

    def do_GET(self) -> None:
        """Answer with the file, or with its rest."""
        path = self.server.path_of(self.path)
        size, etag = path.stat().st_size, f'"{path.stem}"'
        asked, condition = self.headers["Range"], self.headers["If-Range"]
        entry = Request(self.path, asked, condition, self._cipher())
        is_first = all(entry.path != one.path for one in self.server.books)
        self.server.books.append(entry)
        found = re.fullmatch(r"bytes=(\d+)-", asked or "")
        if found and condition in {None, etag}:
            entry.start = int(found[1])
        self.send_response(206 if entry.start else 200)
        if entry.start:
            self.send_header("Content-Range", f"bytes {entry.start}-{size - 1}/{size}")
        self.send_header("Content-Type", "video/mp4")
        self.send_header("ETag", etag)
        self.send_header("Content-Length", str(size - entry.start))
        self.end_headers()
        with path.open("rb") as file:
            self._send(file, size, entry, is_first=is_first)

    def _cipher(self) -> str:
        used = self.connection.cipher() if isinstance(self.connection, ssl.SSLSocket) else None
        return f"{used[1]}, {used[0]}" if used else ""

    def _send(self, file: IO[bytes], size: int, entry: Request, *, is_first: bool) -> None:
        if self.path.startswith("/stalled") and is_first:
            self._pour(file, entry, int(STALLS_AT * size))
            with suppress(ConnectionError):
                while self.connection.recv(PIECE):
                    pass
            self.close_connection = True
            return
        if self.path.startswith("/slow"):
            self._drip(file, entry)
        else:
            self._pour(file, entry, size)

    def _drip(self, file: IO[bytes], entry: Request) -> None:
        """Send the rest, at a rate that holds from the first byte to the last."""
        file.seek(entry.start)
        while piece := file.read(int(SLOW * BEAT)):
            self.connection.sendall(piece)
            entry.count(len(piece))
            due = entry.began + entry.sent / SLOW
            time.sleep(max(0.0, due - time.monotonic()))

    def _pour(self, file: IO[bytes], entry: Request, stop: int) -> None:
        """Send up to an offset, as fast as it is taken."""
        if not isinstance(self.connection, ssl.SSLSocket):
            entry.count(self.connection.sendfile(file, entry.start, stop - entry.start))
            return
        file.seek(entry.start)
        while piece := file.read(PIECE):
            self.connection.sendall(piece)
            entry.count(len(piece))

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _context(folder: Path) -> ssl.SSLContext | None:
    if not (folder / "own.pem").exists():
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(folder / "own.pem", folder / "own.key")
    return context


def _start(server: FileServer) -> None:
    threading.Thread(target=server.serve_forever, daemon=True).start()


def serve_folder(folder: Path) -> None:
    """Serve until the input ends; a line of it asks for the books."""
    books: list[Request] = []
    addresses: dict[str, str] = {"https": ""}
    contexts: Mapping[str, ssl.SSLContext | None] = {"http": None, "https": _context(folder)}
    for scheme, context in contexts.items():
        if scheme == "http" or context is not None:
            server = FileServer(folder, context, books)
            addresses[scheme] = server.address
            _start(server)
    print(json.dumps(addresses), flush=True)
    with suppress(KeyboardInterrupt):
        for _ in sys.stdin:
            print(json.dumps([attrs.asdict(entry) for entry in books]), flush=True)


def serve_file(path: Path) -> None:
    """Serve one file until the parent ends this process."""
    server = FileServer(path, None, [])
    print(f"{server.address}/video.mp4", flush=True)
    with suppress(KeyboardInterrupt):
        server.serve_forever()


def has(program: str) -> bool:
    """Return whether a program is installed."""
    return shutil.which(program) is not None


if __name__ == "__main__":
    given = Path(sys.argv[1])
    (serve_folder if given.is_dir() else serve_file)(given)
