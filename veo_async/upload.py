"""Uploads: a file on its way to a public URL (live document 2.11)."""

import asyncio
import io
import os
import secrets
import stat
from collections.abc import AsyncGenerator, Callable, Mapping
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from inspect import iscoroutinefunction
from pathlib import PurePath
from typing import Final, NoReturn, Protocol, TypeAlias, TypeVar, cast
from urllib.parse import urlsplit

import anyio.to_thread
import attrs

from veo_async.api import Api
from veo_async.errors import InvalidRequestError
from veo_async.ownership import uncut
from veo_async.protocol import images, uploads
from veo_async.protocol.uploads import Form
from veo_async.request import is_http_url
from veo_async.settings import UPLOAD_BYTES, WRITE_BYTES

__all__: list[str] = []

_T = TypeVar("_T")
_FIELD: Final = "source"
_LONGEST_NAME: Final = 255  # bytes, on every common file system
_LONGEST_SUFFIX: Final = 8
_LONGEST_SHOWN: Final = 200
_UNKNOWN_TYPE: Final = "application/octet-stream"
_SOURCES: Final = "give a path, bytes, a file opened in binary mode or an http(s) URL"


class BinaryFile(Protocol):
    """What can be read from: an open file, a pipe, a `BytesIO`."""

    def read(self, size: int, /) -> bytes:
        """Return up to so many bytes, none at the end."""
        ...


UploadSource: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryFile
# Device, inode, size, and when it was written to, in nanoseconds.
State: TypeAlias = tuple[int, int, int, int]


def refusal(field: str, called: str, fault: str, remedy: str) -> InvalidRequestError:
    """Return the error for a file that cannot be uploaded."""
    shown = called if len(called) <= _LONGEST_SHOWN else f"…{called[1 - _LONGEST_SHOWN :]}"
    return InvalidRequestError(f"{field} holds {shown!r}, which {fault}; {remedy}", field=field)


def _no_file(field: str, called: str, error: Exception) -> InvalidRequestError:
    if isinstance(error, FileNotFoundError):
        return refusal(field, called, "is not there", "check the path")
    if isinstance(error, IsADirectoryError):
        return refusal(field, called, "is a folder", "name a file in it")
    if isinstance(error, PermissionError):
        return refusal(field, called, "may not be read", "change its permissions")
    why = error.strerror if isinstance(error, OSError) and error.strerror else error
    return refusal(field, called, f"cannot be read ({why})", "check the file and its disk")


def changed(field: str, called: str) -> InvalidRequestError:
    """Return the error for a file that is another one by now."""
    return refusal(
        field, called, "changed while it was read", "upload it again once nobody writes to it"
    )


def _open_at_once(path: str, flags: int) -> int:
    # Opening a pipe that nobody writes to would wait for ever.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def opened(path: str, field: str) -> tuple[io.FileIO, State]:
    """Open a regular file for reading; return it, and what tells whether it has changed.

    Raises:
        InvalidRequestError: It is none, cannot be read, or is empty.
    """
    try:
        file = io.FileIO(path, opener=_open_at_once)
    except (OSError, ValueError) as error:
        raise _no_file(field, path, error) from None
    try:
        return file, _checked(os.fstat(file.fileno()), path, field)
    except BaseException:
        file.close()
        raise


def _checked(found: os.stat_result, path: str, field: str) -> State:
    if not stat.S_ISREG(found.st_mode):
        raise refusal(field, path, "is no regular file", "name a file on a disk")
    if not found.st_size:
        raise refusal(field, path, "is empty", "choose another file")
    return _state_of(found)


def _state_of(found: os.stat_result) -> State:
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


class _Source(Protocol):
    """Something to upload."""

    @property
    def called(self) -> str: ...

    @property
    def size(self) -> int | None: ...

    @property
    def suffix(self) -> str: ...

    @property
    def is_repeatable(self) -> bool: ...

    async def peek(self) -> bytes:
        """Return how it begins."""
        ...

    async def rewind(self) -> None:
        """Go back to where it begins."""
        ...

    async def read(self, left: int | None) -> bytes | memoryview:
        """Return the next bytes, of so many that are left; none at the end."""
        ...


@attrs.define(eq=False)
class _Memory:
    """Bytes that are there."""

    whole: memoryview
    called: str = "bytes"
    suffix: str = ""
    is_repeatable: bool = True
    _position: int = 0

    @property
    def size(self) -> int:
        return len(self.whole)

    async def peek(self) -> bytes:
        return bytes(self.whole[: images.HEAD_BYTES])

    async def rewind(self) -> None:
        self._position = 0

    async def read(self, left: int | None) -> memoryview:
        piece = self.whole[self._position :][:left]
        self._position += len(piece)
        return piece


@attrs.define(eq=False, kw_only=True)
class File:
    """A file that is read in a thread.

    Attributes:
        file: What is read.
        called: Its name, for people.
        field: What it was given as.
        executor: The threads for files that stand on a disk.
        start: Where it begins; None where it can be read only once.
        size: Bytes from there to its end, where that is known.
        state: What tells whether it has changed, for a file on a disk.
    """

    file: BinaryFile
    called: str
    field: str
    executor: Executor
    start: int | None = None
    size: int | None = None
    state: State | None = None
    _first: bytes = b""
    # A read that was cancelled may still be under way when the next one is due.
    _reading: asyncio.Lock = attrs.field(factory=asyncio.Lock)

    @property
    def is_repeatable(self) -> bool:
        """Whether it can be read again."""
        return self.start is not None

    @property
    def suffix(self) -> str:
        """The end of its name."""
        return _suffix(self.called)

    async def measure(self) -> None:
        """Find out where it begins and how long it is."""
        loop = asyncio.get_running_loop()
        await uncut(loop.run_in_executor(self.executor, self._measure))

    def _measure(self) -> None:
        seek = cast("Callable[[int, int], int] | None", getattr(self.file, "seek", None))
        tell = cast("Callable[[], int] | None", getattr(self.file, "tell", None))
        if seek is None or tell is None:
            return
        try:
            start = tell()
            end = seek(0, os.SEEK_END)
            seek(start, os.SEEK_SET)
        except Exception:  # noqa: BLE001  # a pipe; a closed file tells when it is read
            return
        self.start, self.size, self.state = start, max(0, end - start), self._state()

    def _state(self) -> State | None:
        fileno = cast("Callable[[], int] | None", getattr(self.file, "fileno", None))
        try:
            return None if fileno is None else _state_of(os.fstat(fileno()))
        except (OSError, ValueError):  # in memory
            return None

    async def peek(self) -> bytes:
        """Return how it begins.

        Raises:
            InvalidRequestError: It cannot be read.
        """
        self._first = await self.read(self.size)
        return self._first

    async def rewind(self) -> None:
        """Go back to where it begins, unless nothing but that was read.

        Raises:
            InvalidRequestError: It cannot.
        """
        if self.start is not None:
            self._first = b""
            await self._locked(self._rewind)

    def _rewind(self) -> None:
        seek = cast("Callable[[int, int], int]", getattr(self.file, "seek"))  # noqa: B009  # not in the Protocol
        seek(self.start or 0, os.SEEK_SET)

    async def read(self, left: int | None) -> bytes:
        """Return the next bytes, of so many that are left.

        Raises:
            InvalidRequestError: It cannot be read, or has changed.
        """
        if self._first:
            piece, self._first = self._first, b""
            return piece
        return await self._locked(lambda: self._read(left))

    def _read(self, left: int | None) -> bytes:
        size = WRITE_BYTES if left is None else min(left, WRITE_BYTES)
        piece = cast("object", self.file.read(size))
        if not isinstance(piece, bytes | bytearray):
            raise InvalidRequestError(
                f"{self.field} {self.called!r} gives {type(piece).__name__} instead of bytes; open"
                " it in binary mode",
                field=self.field,
            )
        is_cut = not piece and left
        is_last = left is not None and len(piece) >= left
        if is_cut or len(piece) > size or (is_last and self.state != self._state()):
            raise changed(self.field, self.called)
        return bytes(piece)

    async def settle(self) -> None:
        """Wait until nobody reads it any more; a pipe may be read for ever."""
        if self.is_repeatable:
            await uncut(self._reading.acquire())

    async def _locked(self, step: Callable[[], _T]) -> _T:
        async with self._reading:
            try:
                return await self._run(step)
            except InvalidRequestError:
                raise
            except Exception as error:  # anybody's object
                raise _no_file(self.field, self.called, error) from error

    async def _run(self, step: Callable[[], _T]) -> _T:
        if self.is_repeatable:
            return await uncut(asyncio.get_running_loop().run_in_executor(self.executor, step))
        # A pipe may give nothing for ever. A thread that waits for it is left behind.
        return await anyio.to_thread.run_sync(step, abandon_on_cancel=True)


@attrs.define(eq=False)
class _Attempt:
    """One try to send a form: the body of its request."""

    source: _Source
    form: Form
    _left: int | None = attrs.field(init=False)
    _block: memoryview = attrs.field(init=False)
    _is_over: bool = attrs.field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._left = self.source.size
        self._block = memoryview(self.form.head)

    @property
    def headers(self) -> Mapping[str, str]:
        """Its type and length."""
        told = {"Content-Type": self.form.content_type}
        if self.source.size is not None:
            length = len(self.form.head) + self.source.size + len(self.form.tail)
            told["Content-Length"] = str(length)
        return told

    @property
    def is_repeatable(self) -> bool:
        """Whether there may be another try."""
        return self.source.is_repeatable

    async def read(self) -> memoryview:
        """Return the next bytes; each piece that is taken counts as progress."""
        if not self._block and not self._is_over:
            await self._fill()
        piece = self._block[:UPLOAD_BYTES]
        self._block = self._block[UPLOAD_BYTES:]
        return piece

    async def _fill(self) -> None:
        piece = b"" if self._left == 0 else await self.source.read(self._left)
        if piece:
            self._block = memoryview(piece)
            self._left = None if self._left is None else self._left - len(piece)
        else:
            self._block = memoryview(self.form.tail)
            self._is_over = True


class Uploader:
    """The uploads of one client."""

    def __init__(self, api: Api, *, host: str, executor: Executor) -> None:
        self._api = api
        self._host = host
        self._executor = executor

    async def upload(self, source: UploadSource, *, name: str | None = None) -> str:
        """Upload a file, and return its public URL; `VeoClient.upload` describes it."""
        called = None if name is None else _checked_name(name)
        if isinstance(source, str) and is_http_url(source):
            return await self._fetched(source, called)
        if isinstance(source, bytes | bytearray | memoryview):
            return await self.send(_Memory(_flat(source)), called)
        if isinstance(source, str | os.PathLike):
            async with self.open(_path(source), _FIELD) as opened_file:
                return await self.send(opened_file, called)
        async with self._taken_up(source) as file:
            return await self.send(file, called)

    @asynccontextmanager
    async def open(self, path: str, field: str) -> AsyncGenerator[File]:
        """Open a file on a disk.

        Raises:
            InvalidRequestError: It cannot be read.
        """
        files: list[io.FileIO] = []

        def begin() -> File:
            file, state = opened(path, field)
            files.append(file)
            return File(
                file=file,
                called=path,
                field=field,
                executor=self._executor,
                start=0,
                size=state[2],
                state=state,
            )

        try:
            ours = await uncut(asyncio.get_running_loop().run_in_executor(self._executor, begin))
            try:
                yield ours
            finally:
                await ours.settle()
        finally:
            for file in files:  # also where nobody waited for it any more
                file.close()

    @asynccontextmanager
    async def _taken_up(self, file: BinaryFile) -> AsyncGenerator[File]:
        read: object = getattr(file, "read", None)
        if not callable(read):
            _refuse(f"is {type(file).__name__}")
        if iscoroutinefunction(read):
            _refuse(f"is {type(file).__name__}, which is read with await")
        name: object = getattr(file, "name", None)
        called = name if isinstance(name, str) else type(file).__name__
        theirs = File(file=file, called=called, field=_FIELD, executor=self._executor)
        try:
            await theirs.measure()
            yield theirs
        finally:
            await theirs.settle()

    async def send(self, source: _Source, name: str | None = None) -> str:
        """Send what is open, again while that may help.

        Raises:
            InvalidRequestError: It cannot be read, or is empty.
            APIError: The service refused, or has no uploads.
            TransportError: No answer came.
        """
        head = await source.peek()
        if not head:
            raise refusal(
                _FIELD,
                source.called,
                "has nothing left to read",
                "go back to its start, or give more",
            )
        kind = images.kind_of(head)
        form = uploads.form_of(
            name or secrets.token_hex(16) + (source.suffix if kind is None else kind.suffix),
            _UNKNOWN_TYPE if kind is None else kind.content_type,
            secrets.token_hex(16),
        )
        call = uploads.encode_stream_upload(self._host)

        async def once() -> str:
            await source.rewind()
            return await self._api.upload(call, _Attempt(source, form))

        return await (self._api.repeated("upload", None, once) if source.is_repeatable else once())

    async def _fetched(self, url: str, name: str | None) -> str:
        called = name or secrets.token_hex(16) + _suffix(urlsplit(url).path)
        call = uploads.encode_url_upload(self._host, url, called)
        return await self._api.repeated("upload", None, lambda: self._api.upload(call))


def _refuse(fault: str) -> NoReturn:
    raise InvalidRequestError(f"{_FIELD} {fault}; {_SOURCES}", field=_FIELD)


def _path(source: str | os.PathLike[str]) -> str:
    path = os.fsdecode(source)
    if "://" in path or path.startswith("data:"):
        # It is not shown, since it may hold a password.
        _refuse("is a URL with a blank, a password, or another scheme than http and https")
    return path


def _flat(source: bytes | bytearray | memoryview) -> memoryview:
    try:
        return memoryview(source).cast("B")
    except TypeError:
        _refuse("is a memoryview with gaps")


def _suffix(name: str) -> str:
    """Return the end of a name, if it is one that tells what kind of file it is."""
    suffix = PurePath(name).suffix.lower()
    is_plain = suffix[1:].isascii() and suffix[1:].isalnum() and len(suffix) <= _LONGEST_SUFFIX
    return suffix if is_plain else ""


def _checked_name(name: object) -> str:
    if isinstance(name, str) and name.strip(". ") and name.isprintable():
        is_short = len(name.encode(errors="replace")) <= _LONGEST_NAME
        if is_short and not {"/", "\\"} & {*name}:
            return name
    raise InvalidRequestError(
        f"name is {name!r:.80}; give a file's name without slashes, such as 'frame.png'",
        field="name",
    )
