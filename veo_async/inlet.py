"""Bodies that are read into a buffer of the reader's own.

aiohttp gives a body away in pieces that were copied out of the socket's and out of its parser's,
which costs more than all else that a download does. So of a large body of known length only the
beginning comes from it: then the connection delivers straight into the reader's buffer, through
asyncio's own `BufferedProtocol`, and is closed at the end rather than used again.
"""

import asyncio
from typing import Final, Protocol

import aiohttp
from aiohttp import hdrs

__all__: list[str] = []

SMALLEST: Final = 1024 * 1024  # bytes to come that are worth a connection that is not used again
_SPARE_BYTES: Final = 64 * 1024


class Inlet(Protocol):
    """A body that is read into the reader's buffers."""

    async def read_into(self, buffer: memoryview) -> int:
        """Put what arrives next at the beginning of a buffer; return its size, 0 at the end.

        A cancelled read loses nothing: what it got is given to the next one.

        Raises:
            Exception: The connection broke, and all that arrived before was read.
        """
        ...

    def set_exception(self, error: BaseException) -> None:
        """Let who reads, now or later, get this error."""
        ...


def inlet_of(response: aiohttp.ClientResponse) -> Inlet:
    """Return the body of an answer of which nothing was read."""
    begun = _Parsed(response.content)
    connection, length = response.connection, _length(response)
    if connection is None or connection.transport is None or length is None:
        return begun
    transport = connection.transport
    if transport.is_closing() or length < SMALLEST or _ends_with(response, transport):
        return begun
    arrived = b""
    # Taking from a full buffer lets aiohttp parse what it has kept back, which may fill it again.
    while piece := begun.arrived():
        arrived += piece
    if begun.failure is None and transport.is_reading() and length - len(arrived) >= SMALLEST:
        return _Direct(transport, arrived, length)
    begun.kept = arrived
    return begun


def _ends_with(response: aiohttp.ClientResponse, transport: asyncio.Transport) -> bool:
    """Return whether the host closes a TLS connection behind the body.

    What the TLS layer still holds back for a reader who pauses is lost then: always in uvloop, and
    in asyncio where it is more than one buffer.
    """
    is_old = response.version is not None and response.version < aiohttp.HttpVersion11
    is_last = "close" in response.headers.get(hdrs.CONNECTION, "").lower()
    return (is_old or is_last) and transport.get_extra_info("ssl_object") is not None


def _length(response: aiohttp.ClientResponse) -> int | None:
    length = response.headers.get(hdrs.CONTENT_LENGTH, "")
    is_plain = hdrs.TRANSFER_ENCODING not in response.headers
    return int(length) if is_plain and length.isascii() and length.isdigit() else None


class _Parsed:
    """A body as aiohttp gives it."""

    def __init__(self, content: aiohttp.StreamReader) -> None:
        self.kept: bytes = b""
        self.failure: Exception | None = None
        self._content = content

    async def read_into(self, buffer: memoryview) -> int:
        """Put what arrives next at the beginning of a buffer; return its size, 0 at the end."""
        if not self.kept and self.failure is None:
            try:
                self.kept = await self._content.readany()
            except Exception as error:  # noqa: BLE001  # the border
                self.failure = error
                # aiohttp hides what arrived before the connection broke behind the error.
                self._content.set_exception(None)  # type: ignore[arg-type]
                self.kept = self._content.read_nowait()
        if not self.kept and self.failure is not None:
            raise self.failure
        size = min(len(self.kept), len(buffer))
        buffer[:size] = self.kept[:size]
        self.kept = self.kept[size:]
        return size

    def arrived(self) -> bytes:
        """Take what is there already."""
        try:
            return self._content.read_nowait()
        except Exception as error:  # noqa: BLE001  # the border
            self.failure = error
            return b""

    def set_exception(self, error: BaseException) -> None:
        """Let who reads, now or later, get this error."""
        self._content.set_exception(error)


class _Direct(asyncio.BufferedProtocol):
    """A body of known length, straight from the connection.

    The connection is read only while somebody waits, so nothing is read ahead.
    """

    def __init__(self, transport: asyncio.Transport, arrived: bytes, length: int) -> None:
        self._transport = transport
        self._former = transport.get_protocol()
        self._kept = memoryview(arrived)
        self._left = length - len(arrived)  # bytes of the body that the connection still holds
        self._buffer: memoryview | None = None  # of the reader, as far as it is free
        self._spare: memoryview | None = None
        self._size = 0
        self._woken: asyncio.Future[None] | None = None
        self._failure: BaseException | None = None
        transport.pause_reading()
        transport.set_protocol(self)

    async def read_into(self, buffer: memoryview) -> int:
        """Put what arrives next at the beginning of a buffer; return its size, 0 at the end."""
        if self._kept:
            size = min(len(self._kept), len(buffer))
            buffer[:size] = self._kept[:size]
            self._kept = self._kept[size:]
            return size
        if not self._left:
            return 0
        if self._failure is None:
            await self._arrival(buffer[: self._left])
        size, self._size = self._size, 0
        if not size and self._failure is not None:
            raise self._failure
        return size

    async def _arrival(self, buffer: memoryview) -> None:
        if self._woken is not None:
            raise RuntimeError("this body is being read already")
        self._woken = asyncio.get_running_loop().create_future()
        self._buffer = buffer
        self._transport.resume_reading()
        try:
            await self._woken
        except asyncio.CancelledError:
            self._kept = memoryview(bytes(buffer[: self._size]) + bytes(self._kept))
            self._size = 0
            raise
        finally:
            self._transport.pause_reading()
            self._buffer = self._woken = None

    def _wake(self) -> None:
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    def set_exception(self, error: BaseException) -> None:
        """Let who reads, now or later, get this error."""
        self._failure = error
        self._wake()

    # --- what the connection calls

    def get_buffer(self, sizehint: int) -> memoryview:
        """Say where the next bytes go.

        Some event loops ask again before the reader has run, and give what is left of an arrival.
        """
        if self._buffer:
            return self._buffer
        self._spare = memoryview(bytearray(max(sizehint, _SPARE_BYTES)))
        return self._spare

    def buffer_updated(self, nbytes: int) -> None:
        """Take note of bytes that arrived."""
        size = min(nbytes, self._left)
        if self._spare is not None:
            self._kept = memoryview(bytes(self._kept) + bytes(self._spare[:size]))
            self._spare = None
        elif self._buffer is not None:
            self._size += size
            self._buffer = self._buffer[size:]
        self._left -= size
        self._transport.pause_reading()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """Take note of the end, and let aiohttp do so."""
        if self._failure is None:
            self._failure = exc or ConnectionError(f"it was closed {self._left} bytes too early")
        self._wake()
        self._former.connection_lost(exc)

    def pause_writing(self) -> None:
        """Let aiohttp know."""
        self._former.pause_writing()

    def resume_writing(self) -> None:
        """Let aiohttp know."""
        self._former.resume_writing()
