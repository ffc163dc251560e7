"""A video on its way to a browser, with what an HTTP answer says of it."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, Self

from veo_async.errors import (
    ContentChangedError,
    DownloadError,
    NotAnMP4Error,
    TruncatedError,
)
from veo_async.protocol.mp4 import BoxWalk
from veo_async.settings import READ_BYTES
from veo_async.transfer import StartAgainError, Transfer

__all__ = ["VideoStream"]

_OK: Final = 200
_PARTIAL: Final = 206
_UNSATISFIABLE: Final = 416


class VideoStream:
    """A video's bytes on their way to somewhere else, in order and as they arrive.

    Iterate over it for pieces of up to some hundred KiB. Nothing is read ahead of the consumer but
    what the connection's buffer holds, so a slow browser slows the storage host down.

    Attributes:
        size: Bytes of the whole video, if the storage host says so.
        length: Bytes that come here, if that is known.
        content_type: Its media type.
        status: What an HTTP answer with these bytes is: 200, 206 for a part of the video, 416 where
            it has no byte of the part that was asked for.
        headers: The headers of that answer.
    """

    def __init__(self, transfer: Transfer, received: Callable[[int], None]) -> None:
        self.size: int | None = transfer.held.total
        self.content_type: str = _media_type(transfer.content_type)
        self._transfer = transfer
        self._received = received
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._start = transfer.held.start
        self._etag = transfer.held.etag
        self._walk = BoxWalk() if self._start == 0 and not transfer.is_beyond else None
        self._is_closed = False
        stop = self._start if transfer.is_beyond else transfer.stop
        self.length: int | None = None if stop is None else stop - self._start
        self.status: int = _status(transfer)
        self.headers: Mapping[str, str] = MappingProxyType(self._headers())

    def _headers(self) -> dict[str, str]:
        headers = {"Content-Type": self.content_type, "Accept-Ranges": "bytes"}
        if self.length is not None:
            headers["Content-Length"] = str(self.length)
        if self._etag is not None:
            headers["ETag"] = self._etag
        of = "*" if self.size is None else self.size
        if self.status == _PARTIAL and self.length is not None:
            headers["Content-Range"] = f"bytes {self._start}-{self._start + self.length - 1}/{of}"
        elif self.status == _UNSATISFIABLE and self.size is not None:
            headers["Content-Range"] = f"bytes */{of}"
        return headers

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """Return the next piece.

        Raises:
            DownloadError: The rest cannot be had, or is not the rest of the same video.
            TransportError: The host cannot be reached.
            ClientClosedError: The client was closed.
        """
        if self._is_closed:
            raise DownloadError(
                "this stream of a video was left; open another one with veo.stream()"
            )
        piece = await self._next()
        self._check_sameness()
        if self._walk is not None:
            self._walk.feed(piece)
            self._check_film(self._walk, ended=not piece)
        if not piece:
            raise StopAsyncIteration
        self._received(len(piece))
        return piece

    async def _next(self) -> bytes:
        try:
            size = await self._transfer.read_into(self._buffer)
        except StartAgainError as again:
            reason = again.reason
        else:
            return bytes(self._buffer[:size])
        raise reason

    def _check_sameness(self) -> None:
        """Refuse another file that answers in place of the one whose size was told already."""
        held = self._transfer.held
        if self.size not in {None, held.total} or self._etag not in {None, held.etag}:
            raise ContentChangedError(
                "the video changed at the storage host before its first byte came; ask for it again"
            )

    def _check_film(self, walk: BoxWalk, *, ended: bool) -> None:
        is_whole = ended and self.size in {None, self._transfer.held.size}
        fault = walk.verdict(length_known=self.size is not None) if is_whole else walk.fault
        if fault is None:
            return
        if self.size is None and walk.fault is None:
            raise TruncatedError(f"the video did not arrive whole: {fault}; ask for it again")
        raise NotAnMP4Error(
            f"what the storage host calls a video is no whole MP4: {fault}; ask for it again"
            " later, or look at the task on the service's site"
        )

    async def aclose(self) -> None:
        """Let go of the connection, which leaving `veo.stream()` does as well."""
        self._is_closed = True
        await self._transfer.aclose()


def _status(transfer: Transfer) -> int:
    if transfer.is_beyond:
        return _UNSATISFIABLE
    return _OK if transfer.span is None else _PARTIAL


def _media_type(said: str) -> str:
    """Return the type to pass on: no browser is to take a film for a page that holds scripts."""
    return said if said.lower().startswith("video/") else "video/mp4"
