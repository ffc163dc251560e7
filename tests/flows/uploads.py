"""A host that takes files as the live service does (live document 2.11), and does as it is told."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import attrs
from aiohttp import BodyPartReader, ClientConnectionError, ClientPayloadError, web

from tests.faults.fileserver import KEY, QUICK
from veo_async import Timeouts, VeoClient

Act: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]
MEGABYTE = 1024 * 1024


@attrs.frozen(kw_only=True)
class Arrived:
    """An upload that arrived whole.

    Attributes:
        fields: The form's fields, or the JSON.
        size: Bytes of the file.
        digest: Its SHA-256.
        filename: What the file's part was called.
        content_type: What it was said to be.
        headers: Those of the request.
    """

    fields: Mapping[str, str]
    size: int = 0
    digest: str = ""
    filename: str | None = None
    content_type: str | None = None
    headers: Mapping[str, str]


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@attrs.define(eq=False)
class UploadHost:
    """Takes uploads.

    Attributes:
        arrived: Those that were whole.
        requests: How many began.
        script: What is done with the next ones, one after the other.
        on_piece: Awaited for each piece of a file, with the size so far.
    """

    arrived: list[Arrived] = attrs.field(factory=list[Arrived])
    requests: int = 0
    script: list[Act] = attrs.field(factory=list[Act])
    on_piece: Callable[[int], Awaitable[None]] | None = None
    url: str = ""

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["UploadHost"]:
        app = web.Application(client_max_size=10 * MEGABYTE)
        app.router.add_post("/api/file-stream-upload", self._form)
        app.router.add_post("/api/file-url-upload", self._url)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            yield self
        finally:
            await runner.cleanup()

    async def _form(self, request: web.Request) -> web.StreamResponse:
        if (told := await self._as_told(request)) is not None:
            return told
        fields: dict[str, str] = {}
        try:
            async for part in await request.multipart():
                assert isinstance(part, BodyPartReader)
                if part.name != "file":
                    fields[part.name or ""] = await part.text()
                    continue
                size, digest = 0, hashlib.sha256()
                while piece := await part.read_chunk(64 * 1024):
                    size += len(piece)
                    digest.update(piece)
                    if self.on_piece is not None:
                        await self.on_piece(size)
                file = {
                    "size": size,
                    "digest": digest.hexdigest(),
                    "filename": part.filename,
                    "content_type": part.headers.get("Content-Type"),
                }
        except (OSError, ClientPayloadError, ClientConnectionError, ValueError, AssertionError):
            return web.Response(status=400)  # it was cut off
        self.arrived.append(Arrived(fields=fields, headers=request.headers, **file))
        return self._answer(fields["fileName"])

    async def _url(self, request: web.Request) -> web.StreamResponse:
        if (told := await self._as_told(request)) is not None:
            return told
        fields: dict[str, str] = await request.json()
        self.arrived.append(Arrived(fields=fields, headers=request.headers))
        return self._answer(fields["fileName"])

    async def _as_told(self, request: web.Request) -> web.StreamResponse | None:
        self.requests += 1
        return await self.script.pop(0)(request) if self.script else None

    def _answer(self, name: str) -> web.Response:
        data = {"success": True, "fileName": name, "downloadUrl": f"{self.url}/kept/{name}"}
        return web.json_response({"success": True, "code": 200, "msg": "ok", "data": data})

    def client(self, **settings: Any) -> VeoClient:
        """Return a client that uploads here; its API is somewhere else."""
        usual: dict[str, Any] = {
            "base_url": "http://127.0.0.1:9/nowhere",
            "upload_url": self.url or None,
            "retry": QUICK,
            "timeouts": Timeouts(connect=5, response=10, stall=10, close=2),
        }
        return VeoClient(KEY, **(usual | settings))


def refusing(status: int, message: str = "no") -> Act:
    """Refuse an upload without reading it."""

    async def act(_request: web.Request) -> web.StreamResponse:
        body = {"success": False, "code": status, "msg": message}
        return web.json_response(body, status=status)

    return act


def cutting(after: int) -> Act:
    """Break the connection once so many bytes have arrived."""

    async def act(request: web.Request) -> web.StreamResponse:
        left = after
        while left > 0 and (piece := await request.content.read(64 * 1024)):
            left -= len(piece)
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    return act


@attrs.define(eq=False)
class Hanging:
    """Reads nothing more, once an upload has begun, until it is told to, and then refuses it.

    Attributes:
        begun: Set once it has.
        go_on: What tells it.
        is_cut: Whether the upload turned out to be cut off.
    """

    begun: asyncio.Event = attrs.field(factory=asyncio.Event)
    go_on: asyncio.Event = attrs.field(factory=asyncio.Event)
    is_cut: bool = False

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        await request.content.read(1)
        self.begun.set()
        await self.go_on.wait()
        try:
            while await request.content.readany():
                pass
        except (OSError, ClientPayloadError, ClientConnectionError):
            self.is_cut = True
        return web.json_response({"success": False, "code": 422, "msg": "no"}, status=422)


def sparse(path: Path, size: int) -> Path:
    """Make a file of zeros that takes no room, and was not changed for a while."""
    with path.open("wb") as file:
        file.truncate(size)
    os.utime(path, (1_700_000_000, 1_700_000_000))
    return path


def image(path: Path, *, size: int = 1000, mark: int = 0) -> Path:
    """Make what looks like a JPEG, by its name's end or in any case, and say how it differs."""
    head = {
        ".png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x40\0\0\0\x30\x08\2\0\0\0",
        ".webp": b"RIFF\x10\0\0\0WEBPVP8 \0\0\0\0",
    }.get(path.suffix, b"\xff\xd8\xff\xe0\0\x10JFIF\0")
    path.write_bytes(head.ljust(size - 1, b"\0") + bytes([mark]))
    return path


def is_open(path: Path) -> bool:
    """Return whether this process has a file open."""
    folder = Path("/proc/self/fd")
    return any(path == each.readlink() for each in folder.iterdir() if each.is_symlink())
