"""A file that is either whole under its name, or not there.

The bytes go to `name.part` in the same folder. The order at the end is: flush, fsync the file,
rename it, fsync the folder. `name.part.json` says what the bytes are a part of, so that another
process can go on where this one was stopped.
"""

import asyncio
import errno
import hashlib
import io
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Generator
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import aiofiles.threadpool
import attrs

from veo_async.errors import DownloadError
from veo_async.models import JSON
from veo_async.ownership import uncut
from veo_async.protocol.mp4 import BoxWalk
from veo_async.protocol.ranges import Held, strong_etag
from veo_async.protocol.reading import as_int, as_object, as_text, parse
from veo_async.settings import MAX_VIDEO_BYTES, WRITE_BYTES

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

if sys.platform != "win32":
    import fcntl

__all__: list[str] = []

_T = TypeVar("_T")
_LONGEST_NAME: Final = 255 - len(".part.json")  # bytes, on every common file system
_SIDE_BYTES: Final = 64 * 1024  # a side record has a few hundred
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


def settle_folder(folder: Path) -> None:
    """Make sure that a power cut leaves a folder where it is, whoever made it.

    Raises:
        OSError: The disk failed.
    """
    for parent in folder.absolute().parents:
        with suppress(PermissionError):  # somebody else's, and not new
            fsync_folder(parent)


def prepare_folder(folder: Path) -> None:
    """Make a folder, and make sure that files can be made in it.

    Raises:
        DownloadError: They cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise DownloadError(
            f"no file can be written in {folder} ({error.strerror}); choose another folder"
        ) from error


def target_of(to: str | os.PathLike[str], task_id: str) -> Path:
    """Return the file to write: `to` itself, or a name made of the id where `to` is a folder."""
    text = os.fspath(to)
    path = Path(text)
    if text.endswith(("/", os.sep)) or os.path.isdir(text):  # noqa: PTH112  # Path's raises OSError
        return path / f"{_safe_name(task_id)}.mp4"
    return path


def refuse_existing(target: Path) -> None:
    """Look whether a name is free.

    Raises:
        FileExistsError: It is not.
    """
    try:
        target.lstat()
    except (OSError, ValueError):  # a name that cannot be one is refused when the part is opened
        return
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))


def _safe_name(task_id: str) -> str:
    """Return a file name for an id, which is the service's and may hold anything."""
    plain = task_id.replace("_", "").replace("-", "")
    if plain.isascii() and plain.isalnum() and len(task_id) <= 64:  # noqa: PLR2004  # twice a real id
        return task_id
    return "veo_" + hashlib.sha256(task_id.encode()).hexdigest()[:32]


def _boot_id() -> str:
    """Return what names this boot. After a power cut, unsynced bytes of a part are not trusted."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""


class _CheckedFile(io.FileIO):
    """A file whose content is hashed and walked in the same thread hop that writes it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "r+", opener=_open_part)
        self.digest = hashlib.sha256()
        self.walk = BoxWalk()

    def write(self, piece: "ReadableBuffer", /) -> int:
        """Write all of it: the system may take less at a time without an error."""
        left = memoryview(piece)
        while left:
            left = left[super().write(left) :]
        self._check(piece)
        return memoryview(piece).nbytes

    def _check(self, piece: "ReadableBuffer") -> None:
        self.digest.update(piece)
        self.walk.feed(memoryview(piece))

    def start_over(self) -> None:
        """Forget everything."""
        self.seek(0)
        self.truncate()
        self.digest = hashlib.sha256()
        self.walk = BoxWalk()

    def take_in(self) -> None:
        """Check what is there already, and stand at its end."""
        while piece := self.read(WRITE_BYTES):
            self._check(piece)


def _open_part(path: str, _flags: int) -> int:
    nofollow = getattr(os, "O_NOFOLLOW", 0)
    return os.open(path, os.O_RDWR | os.O_CREAT | nofollow | getattr(os, "O_CLOEXEC", 0), 0o666)


def _parts(target: Path) -> tuple[Path, Path]:
    """Return the part of a target, and what stands beside it."""
    name = target.name
    encoded = name.encode(errors="surrogatepass")  # half a character is refused later on
    if len(encoded) > _LONGEST_NAME:
        name = hashlib.sha256(encoded).hexdigest()
    return target.with_name(f"{name}.part"), target.with_name(f"{name}.part.json")


def discard_part(target: Path) -> None:
    """Delete what a download that was killed after its end left beside the whole file.

    Raises:
        OSError: It cannot be deleted.
    """
    for path in _parts(target):
        path.unlink(missing_ok=True)


class PartialFile:
    """The `.part` of one target, held by one download at a time.

    Every operation is done when it returns, also for a caller that is cancelled meanwhile: a write
    that lands later would corrupt what the next one reads.
    """

    def __init__(self, target: Path, source: str, executor: Executor) -> None:
        self._target = target
        self._part, self._side = _parts(target)
        self._source = source
        self._executor = executor
        self._checked: _CheckedFile | None = None
        self._noted: Held | None = None

    async def refuse_existing(self) -> None:
        """Look whether the name is free.

        Raises:
            FileExistsError: It is not.
        """
        await self._run(lambda: refuse_existing(self._target))

    async def open(self) -> Held:
        """Make or take up the part; return what it holds of the same source."""
        return await self._run(self._open)

    def _open(self) -> Held:
        prepare_folder(self._target.parent)
        if self._target.is_dir():
            raise DownloadError(f"{self._target} is a folder; name a file in it")
        checked = _locked(self._part)
        try:
            held = self._held(checked)
            if held.size:
                checked.take_in()
            if not held.size or checked.walk.fault is not None:
                held = Held()
                checked.start_over()
                self._side.unlink(missing_ok=True)
        except BaseException:
            checked.close()
            raise
        self._checked = checked
        return held

    def _held(self, checked: _CheckedFile) -> Held:
        size = checked.seek(0, os.SEEK_END)
        checked.seek(0)
        try:
            side = as_object(_object(_read_side(self._side)))
        except OSError:
            return Held()
        etag, total = strong_etag(as_text(side.get("etag"))), as_int(side.get("total"))
        is_ours = side.get("source") == self._source and side.get("boot") == _boot_id() != ""
        if not is_ours or etag is None or size > (MAX_VIDEO_BYTES if total is None else total):
            return Held()
        return Held(size=size, etag=etag, total=total)

    async def note(self, held: Held) -> None:
        """Record what the bytes are a part of, and make sure that the rest has room.

        Raises:
            DownloadError: The disk is too full.
        """
        noted = attrs.evolve(held, size=0)
        if noted != self._noted:
            await self._run(lambda: self._note(held))
            self._noted = noted

    def _note(self, held: Held) -> None:
        if held.total is not None:
            free = shutil.disk_usage(self._part.parent).free
            if free < held.total - held.size:
                raise OSError(errno.ENOSPC, f"{held.total - held.size} bytes needed, {free} free")
        self._side.unlink(missing_ok=True)
        if held.etag is None:
            return
        side = {
            "source": self._source,
            "etag": held.etag,
            "total": held.total,
            "boot": _boot_id(),
        }
        with self._side.open("x") as file:  # a link that someone put there is not followed
            json.dump(side, file)

    async def write(self, piece: bytes | memoryview) -> str | None:
        """Append a piece; return why this is no MP4, once that is certain."""
        file = self._file()
        writer = aiofiles.threadpool.wrap(file, executor=self._executor)
        with self._mapped():
            await uncut(writer.write(piece))
        return file.walk.fault

    async def start_over(self) -> None:
        """Throw away what was written."""
        await self._run(self._file().start_over)

    def verdict(self, *, length_known: bool) -> str | None:
        """Return why this is not a whole MP4, or None if it is one."""
        return self._file().walk.verdict(length_known=length_known)

    async def commit(self, *, overwrite: bool) -> str:
        """Put the file under its name, and return its SHA-256 in hex.

        Raises:
            FileExistsError: There is one by now, and it may not be replaced.
            DownloadError: The disk failed.
        """
        return await self._run(lambda: self._commit(overwrite=overwrite))

    def _commit(self, *, overwrite: bool) -> str:
        file = self._file()
        os.fsync(file.fileno())
        if overwrite:
            self._part.replace(self._target)
        else:
            _rename_new(self._part, self._target)
        fsync_folder(self._target.parent)
        self._side.unlink(missing_ok=True)
        digest = file.digest.hexdigest()
        file.close()
        return digest

    async def aclose(self, *, keep: bool) -> None:
        """Let go of the part, and delete it where nothing can go on from it.

        Harmless after `commit`.

        Args:
            keep: Whether what it holds may be a part of the video.
        """
        await self._run(lambda: self._close(keep=keep))

    def _close(self, *, keep: bool) -> None:
        file = self._checked
        if file is None or file.closed:
            return
        # What cannot be deleted is started over by the next download, and its lock must go now.
        with file, suppress(OSError):
            if not (keep and os.fstat(file.fileno()).st_size and self._side.exists()):
                self._part.unlink(missing_ok=True)
                self._side.unlink(missing_ok=True)

    def _file(self) -> _CheckedFile:
        if self._checked is None:
            raise LookupError("the part is not open")
        return self._checked

    async def _run(self, step: Callable[[], _T]) -> _T:
        with self._mapped():
            return await uncut(asyncio.get_running_loop().run_in_executor(self._executor, step))

    @contextmanager
    def _mapped(self) -> Generator[None]:
        try:
            yield
        except FileExistsError:
            raise
        except OSError as error:
            raise DownloadError(
                f"{self._target} cannot be written: {error.strerror or error}; free or change the"
                " disk and download again"
            ) from error
        except ValueError as error:  # a NUL, or half a character
            raise DownloadError(
                f"{self._target!r} is no name of a file ({error}); choose another"
            ) from error


def _object(body: bytes) -> JSON:
    parsed = parse(body)
    return None if isinstance(parsed, Exception) else parsed


def _read_side(path: Path) -> bytes:
    """Read a side record, and nothing that someone put in its place: no link, no endless file."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    handle = os.open(path, flags)
    try:
        return os.read(handle, _SIDE_BYTES)
    finally:
        os.close(handle)


def _locked(path: Path) -> _CheckedFile:
    """Open a part for nobody else.

    A part that was renamed meanwhile, or is linked to a finished file by a `commit` that was
    killed half-way, is not touched: its bytes are those of a whole file.
    """
    while True:
        file = _CheckedFile(path)
        try:
            _lock(file, path)
            mine = os.fstat(file.fileno())
            if mine.st_nlink == 1 and os.path.samestat(mine, path.lstat()):
                return file
            if mine.st_nlink > 1:
                path.unlink(missing_ok=True)
        except FileNotFoundError:
            pass
        except BaseException:
            file.close()
            raise
        file.close()


def _lock(file: io.FileIO, path: Path) -> None:
    if sys.platform == "win32":  # no advisory locks there
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in {errno.EAGAIN, errno.EACCES}:
            return  # a file system without locks
        raise DownloadError(
            f"{path} is being written by another download; wait for it or choose another name"
        ) from None


def _rename_new(part: Path, target: Path) -> None:
    try:
        target.hardlink_to(part)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        refuse_existing(target)
        part.rename(target)
    else:
        part.unlink()


def fsync_folder(folder: Path) -> None:
    """Make sure that the names in a folder are on the disk."""
    if os.name == "nt":  # pragma: no cover  # folders cannot be opened there
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:  # a file system without it
            raise
    finally:
        os.close(handle)
