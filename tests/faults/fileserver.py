"""A file host that does what a script says, connection by connection, and a proxy that breaks TCP.

Both are raw asyncio: a server that knows HTTP well would refuse most of what is done here.
"""

import asyncio
import contextlib
import json
import random
import re
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Literal, TypeAlias

import attrs

from veo_async import PollPolicy, RetryPolicy, Timeouts, VeoClient, Video

KEY = "sk-4f1d8e2b7a90c35d61ef"
PROMPT = "a paper boat in the rain"
QUICK = RetryPolicy(attempts=4, base=0.001, cap=0.002)
OFTEN = PollPolicy(interval=0.01, upgrade_interval=0.01)

End: TypeAlias = Literal["close", "reset", "hang"]
Framing: TypeAlias = Literal["length", "chunked", "close"]
How: TypeAlias = Literal["close", "reset", "half", "hang", "drip"]
_PIECE = 64 * 1024


def box(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(payload), kind) + payload


def movie(size: int = 300_000, *, seed: int = 1, moov_first: bool = True) -> bytes:
    """Return something with the boxes of an MP4: the header sizes are 28, 408 and the rest."""
    dice = random.Random(seed)
    head = box(b"ftyp", b"isom\0\0\2\0isomiso2mp41")
    index = box(b"moov", dice.randbytes(400))
    media = box(b"mdat", dice.randbytes(size - len(head) - len(index) - 8))
    return head + (index + media if moov_first else media + index)


def borders(size: int, *, moov_first: bool = True) -> list[int]:
    """Return where the boxes of `movie` start."""
    return [28, 28 + 408] if moov_first else [28, size - 408]


def video(url: str, task_id: str = "task_1", *, origin: str = "record-info") -> Video:
    return Video(task_id=task_id, url=url, origin=origin)


def record(url: str, task_id: str = "task_1") -> bytes:
    """Return what `record-info` says of a finished task (spec: Get Video Details)."""
    data = {"taskId": task_id, "status": 1, "videoUrl": url}
    return json.dumps({"code": 200, "msg": "success", "data": data}).encode()


@attrs.frozen(kw_only=True)
class Reply:
    """One answer.

    Attributes:
        body: In place of the server's file.
        status: In place of 200 and 206.
        headers: Set beside, or in place of, the usual ones; None leaves one out.
        etag: The file's entity tag.
        ranges: Whether `Range` is heeded.
        framing: How the end of the body is told.
        cut: Offset in the file where this connection breaks.
        end: How it breaks.
        drip: (bytes, seconds between them) instead of everything at once.
        raw: Sent in place of an HTTP answer.
        early: Ends the connection before an answer.
    """

    body: bytes | None = None
    status: int | None = None
    headers: Mapping[str, str | None] = attrs.field(factory=dict[str, str | None])
    etag: str | None = '"v1"'
    ranges: bool = True
    framing: Framing = "length"
    cut: int | None = None
    end: End = "close"
    drip: tuple[int, float] | None = None
    raw: bytes | None = None
    early: bool = False


@attrs.frozen(kw_only=True)
class Seen:
    """One request as it came."""

    method: str
    path: str
    headers: Mapping[str, str]
    head: bytes
    body: bytes
    connection: int

    @property
    def start(self) -> int:
        """First byte that was asked for."""
        found = re.fullmatch(r"bytes=(\d+)-\d*", self.headers.get("range", ""))
        return int(found[1]) if found else 0

    def span(self, size: int) -> tuple[int, int]:
        """First byte that was asked for, of so many, and the one behind the last."""
        first, _, last = self.headers.get("range", "bytes=0-")[6:].partition("-")
        if not first:
            return max(0, size - int(last)), size
        return int(first), min(size, int(last) + 1) if last else size


Script: TypeAlias = Callable[[Seen], Reply | None]


class FileServer:
    """Serves one file by a script; once that is used up, as a good host would.

    Attributes:
        seen: Every request, in order.
        connections: How many were opened.
        open: How many are open now.
        route: Asked first; what it returns goes before the script.
    """

    def __init__(self, body: bytes = b"", *script: Reply, then: Reply | None = None) -> None:
        self.body = body
        self.script = [*script]
        self.then = Reply() if then is None else then
        self.route: Script = lambda _seen: None
        self.seen: list[Seen] = []
        self.connections = 0
        self.open = 0
        self.port = 0
        self.scheme = "http"
        self._busy: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    @property
    def link(self) -> str:
        return f"{self.url}/v.mp4"

    def at(self, host: str) -> str:
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def wire(self) -> bytes:
        """Everything that any client sent."""
        return b"\n".join(seen.head + seen.body for seen in self.seen)

    @asynccontextmanager
    async def serving(
        self, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
    ) -> AsyncIterator["FileServer"]:
        self.scheme = "http" if tls is None else "https"
        server = await asyncio.start_server(self._talk, host, 0, ssl=tls, backlog=512)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in self._busy:
                task.cancel()
            if self._busy:
                await asyncio.wait(self._busy)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._busy.add(task)
        self.connections += 1
        self.open += 1
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                number = self.connections
                while (end := await self._answer(await _request(reader, number), writer)) is None:
                    pass
                if end == "hang":
                    await reader.read()
                if end == "reset":
                    abort(writer)
        finally:
            self.open -= 1
            self._busy.discard(task)
            writer.close()

    async def _answer(self, seen: Seen, writer: asyncio.StreamWriter) -> End | None:
        self.seen.append(seen)
        reply = self.route(seen)
        if reply is None:
            reply = self.script.pop(0) if self.script else self.then
        if reply.early:
            return reply.end
        if reply.raw is not None:
            await _send(writer, reply.raw, reply.drip)
            return reply.end
        body = self.body if reply.body is None else reply.body
        status, start, stop = _chosen(reply, seen, len(body))
        writer.write(_head(reply, status, (start, stop), len(body)))
        is_cut = reply.cut is not None and start <= reply.cut < stop
        if is_cut and reply.cut is not None:
            stop = reply.cut
        payload = b"" if status in {301, 302, 303, 307, 308, 416} else body[start:stop]
        if reply.framing == "chunked":
            payload = b"%x\r\n%s\r\n" % (len(payload), payload) if payload else b""
            payload += b"" if is_cut else b"0\r\n\r\n"
        await _send(writer, payload, reply.drip)
        if is_cut:
            return reply.end
        if reply.framing == "close":
            return "close"
        return None


async def _request(reader: asyncio.StreamReader, connection: int) -> Seen:
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").rstrip().split("\r\n")
    method, path, _ = first.split(" ", 2)
    headers = {
        name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
    }
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Seen(
        method=method, path=path, headers=headers, head=head, body=body, connection=connection
    )


def _chosen(reply: Reply, seen: Seen, size: int) -> tuple[int, int, int]:
    start, stop = seen.span(size)
    if reply.status is not None:
        return (reply.status, start, stop) if reply.status == 206 else (reply.status, 0, size)
    same = seen.headers.get("if-range") in {None, reply.etag}
    if not (reply.ranges and same and "range" in seen.headers):
        return 200, 0, size
    return (206, start, stop) if start < size else (416, 0, size)


def _head(reply: Reply, status: int, span: tuple[int, int], size: int) -> bytes:
    start, stop = span
    headers: dict[str, str | None] = {"Content-Type": "video/mp4", "ETag": reply.etag}
    if status == 206:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    if status == 416:
        headers["Content-Range"] = f"bytes */{size}"
    if reply.framing == "chunked":
        headers["Transfer-Encoding"] = "chunked"
    elif reply.framing == "length":
        bodiless = status in {301, 302, 303, 307, 308, 416}
        headers["Content-Length"] = "0" if bodiless else str(stop - start)
    headers.update(reply.headers)
    lines = [f"{name}: {value}" for name, value in headers.items() if value is not None]
    return "\r\n".join([f"HTTP/1.1 {status} Whatever", *lines, "", ""]).encode("latin-1")


async def _send(
    writer: asyncio.StreamWriter, payload: bytes, drip: tuple[int, float] | None
) -> None:
    step, pause = (_PIECE, None) if drip is None else drip
    for start in range(0, len(payload), step):
        writer.write(payload[start : start + step])
        await writer.drain()
        if pause is not None:
            await asyncio.sleep(pause)
    await writer.drain()


def abort(writer: asyncio.StreamWriter) -> None:
    """Break a connection with a TCP reset; what was written and not sent is lost."""
    connection: socket.socket = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@attrs.frozen
class Break:
    """When a proxied connection breaks: after so many bytes of the answer, and how."""

    after: int
    how: How = "close"


class BreakingProxy:
    """A TCP proxy in front of a port, whose connections break by a script, then no more."""

    def __init__(self, port: int, *script: Break) -> None:
        self.script = [*script]
        self.port = 0
        self._target = port
        self._busy: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["BreakingProxy"]:
        server = await asyncio.start_server(self._pass, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in self._busy:
                task.cancel()
            if self._busy:
                await asyncio.wait(self._busy)
            for writer in self._writers:  # or what nobody reads keeps them open
                writer.transport.abort()
            await asyncio.sleep(0)  # their sockets are closed in the next turn

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._busy.add(task)
        self._writers.append(writer)
        plan = self.script.pop(0) if self.script else None
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._target)
            self._writers.append(up_writer)
            sending = asyncio.create_task(_copy(reader, up_writer))
            try:
                with contextlib.suppress(OSError, asyncio.CancelledError):
                    await _copy_until(up_reader, writer, plan)
            finally:
                sending.cancel()
                await asyncio.wait({sending})
                up_writer.close()
                writer.close()
        finally:
            self._busy.discard(task)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await reader.read(_PIECE):
            writer.write(piece)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()


async def _copy_until(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, plan: Break | None
) -> None:
    left = float("inf") if plan is None else plan.after
    while left > 0 and (piece := await reader.read(int(min(left, _PIECE)))):
        left -= len(piece)
        writer.write(piece)
        await writer.drain()
    if plan is None or left > 0:
        return
    match plan.how:
        case "reset":
            abort(writer)
        case "half":
            writer.write_eof()
            await asyncio.sleep(0.2)
        case "hang":
            await asyncio.Event().wait()
        case "drip":
            while piece := await reader.read(16):
                writer.write(piece)
                await asyncio.sleep(0.05)
        case _:
            pass


def client_of(server: FileServer, key: str = KEY, **settings: object) -> VeoClient:
    """Return a client whose API is the server, and that loses no time between its tries."""
    given = {
        "base_url": server.url,
        "retry": QUICK,
        "poll": OFTEN,
        "timeouts": Timeouts(connect=2, response=5),
    }
    return VeoClient(key, **(given | settings))  # type: ignore[arg-type]
