"""Ways for an HTTP answer to go wrong that both hosts share."""

import asyncio
import contextlib
import socket
import struct
import zlib
from collections.abc import Iterator
from typing import Final

from aiohttp import web

from veo_async.simulator.clock import Clock
from veo_async.simulator.faults import Fault

HTML: Final = (
    "<!DOCTYPE html><html><head><title>Just a moment...</title></head>"
    "<body><h1>This is not the answer you are looking for</h1></body></html>"
)

_PIECE: Final = 1 << 16
_LINGER_NOT: Final = struct.pack("ii", 1, 0)
_LOOK_SECONDS: Final = 0.05


async def body(request: web.Request, limit: int) -> bytes | None:
    """Read the body of a request; None where it is longer than `limit` bytes."""
    read = bytearray()
    while piece := await request.content.readany():
        read += piece
        if len(read) > limit:
            return None
    return bytes(read)


def reset(request: web.BaseRequest) -> web.Response:
    """Cut the connection with a TCP reset; return what aiohttp wants to have and cannot send."""
    transport = request.transport
    if transport is not None:
        connection: socket.socket | None = transport.get_extra_info("socket")
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        transport.abort()
    return web.Response()


async def hang(request: web.BaseRequest, clock: Clock) -> web.Response:
    """Say nothing until the client has gone or the simulator stops."""
    await hold(request, clock)
    return reset(request)


async def hold(request: web.BaseRequest, clock: Clock) -> None:
    """Wait until the client has gone or the simulator stops."""
    while request.transport is not None and not clock.is_stopped:  # noqa: ASYNC110  no such event
        await asyncio.sleep(_LOOK_SECONDS)


def page(fault: Fault) -> web.Response:
    """Return an HTML page, as a proxy would."""
    return web.Response(status=int(fault.number), text=fault.text or HTML, content_type="text/html")


def elsewhere(fault: Fault, target: str) -> web.Response:
    """Return a redirect."""
    return web.Response(status=fault.http or 307, headers={"Location": target})


def blanks(head: bytes, size: int) -> Iterator[bytes]:
    """Yield `head`, then blanks up to `size` bytes."""
    yield head
    left = size - len(head)
    while left > 0:
        yield b" " * min(left, _PIECE)
        left -= _PIECE


def zipped(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Yield gzip of `pieces`."""
    packer = zlib.compressobj(6, zlib.DEFLATED, 31)
    for piece in pieces:
        packed = packer.compress(piece)
        if packed:
            yield packed
    yield packer.flush()


def brackets(levels: int) -> Iterator[bytes]:
    """Yield JSON arrays in each other."""
    for bracket in (b"[", b"]"):
        for start in range(0, levels, _PIECE):
            yield bracket * min(_PIECE, levels - start)


async def stream(
    request: web.BaseRequest, pieces: Iterator[bytes], *, content_type: str, encoding: str = ""
) -> web.StreamResponse:
    """Send `pieces` in chunked encoding, as fast as the client takes them."""
    answer = web.StreamResponse()
    answer.content_type = content_type
    if encoding:
        answer.headers["Content-Encoding"] = encoding
    await answer.prepare(request)
    for piece in pieces:
        await answer.write(piece)
    await answer.write_eof()
    return answer
