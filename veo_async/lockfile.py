"""Who may have a journal open, and only where locks and fsync keep their word."""

import errno
import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from veo_async.errors import JournalError

if sys.platform != "win32":
    import fcntl

__all__: list[str] = []

_MOUNTS: Final = Path("/proc/self/mountinfo")
# Where a lock may not be seen by another host, or a flush may not reach a disk.
_NETWORK_TYPES: Final = frozenset(
    {
        "afs", "afpfs", "beegfs", "ceph", "cifs", "coda", "davfs", "fuse.ceph", "fuse.davfs2",
        "fuse.gcsfuse", "fuse.glusterfs", "fuse.rclone", "fuse.s3fs", "fuse.sshfs", "glusterfs",
        "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "pvfs2", "smb2", "smb3", "smbfs",
    }
)  # fmt: skip
_ESCAPES: Final = {"\\040": " ", "\\011": "\t", "\\012": "\n", "\\134": "\\"}
_HOLDER_BYTES: Final = 4096
_MOST_HOLDERS: Final = 20  # that are told of, where many share a lock
_HELD: Final = frozenset({errno.EAGAIN, errno.EACCES, errno.EWOULDBLOCK})


def refuse_network(folder: Path, mounts: Path = _MOUNTS) -> None:
    """Make sure that a folder is on a disk of this machine, as far as the system tells.

    Args:
        folder: A folder that exists.
        mounts: The system's table of mounts.

    Raises:
        JournalError: It is on a network file system.
    """
    kind = file_system(folder.resolve(), mounts)
    if kind in _NETWORK_TYPES:
        raise JournalError(
            f"{folder} is on a network file system ({kind}), where a journal can be damaged by two"
            " hosts; keep it on a local disk with journal=, or --journal. The videos may stay",
            path=str(folder),
        )


def file_system(folder: Path, mounts: Path) -> str | None:
    """Return the type of the file system that holds a folder, None where nobody tells."""
    try:
        lines = os.fsdecode(mounts.read_bytes()).split("\n")
    except OSError:
        return None
    found: tuple[int, str] | None = None
    for line in lines:
        before, _, after = line.partition(" - ")
        fields, kind = before.split(" "), after.split(" ")
        if len(fields) < 5 or not after:  # noqa: PLR2004  # proc(5): the fifth is the mount point
            continue
        point = Path(_unescaped(fields[4]))
        # A later line hides an earlier one at the same place.
        if folder.is_relative_to(point) and (found is None or len(point.parts) >= found[0]):
            found = len(point.parts), kind[0]
    return None if found is None else found[1]


def _unescaped(text: str) -> str:
    for code, character in _ESCAPES.items():
        text = text.replace(code, character)
    return text


class Lock:
    """A lock that the system lets go of when its process ends, however that happens.

    One has it alone, or any number share it.

    Args:
        path: The lock's file. It stays, since deleting it would let two in.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle: int | None = None

    def take(self, *, is_shared: bool = False) -> None:
        """Take it.

        Args:
            is_shared: Whether others may have it too, who share it as well.

        Raises:
            JournalError: Somebody else has it; the message names them.
            OSError: It cannot be had.
        """
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
        handle = os.open(self._path, flags, 0o644)
        try:
            _lock(handle, is_shared=is_shared)
        except OSError as error:
            holder = _holder(handle)
            os.close(handle)
            if error.errno not in _HELD:
                raise
            raise JournalError(
                f"the journal beside {self._path} is in use by {holder}; wait until that has ended,"
                " or stop it",
                path=str(self._path),
            ) from None
        except BaseException:
            os.close(handle)
            raise
        self._handle = handle
        _tell_holders(handle, [*_holders(handle)] if is_shared else [])

    def change(self, *, is_shared: bool) -> bool:
        """Share it, or have it alone, from now on; return whether that was possible.

        Where it was not, it is let go of: the system gives up the one before it takes the other.

        Raises:
            OSError: It cannot be had.
        """
        if self._handle is None:
            return False
        try:
            _lock(self._handle, is_shared=is_shared)
        except OSError as error:
            self.release()
            if error.errno not in _HELD:
                raise
            return False
        return True

    def release(self) -> None:
        """Let go of it. Harmless when it was not taken."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def _lock(handle: int, *, is_shared: bool) -> None:
    if sys.platform != "win32":  # no advisory locks there
        fcntl.flock(handle, (fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)


def _tell_holders(handle: int, others: list[tuple[int, str]]) -> None:
    those = [*others[-_MOST_HOLDERS:], (os.getpid(), socket.gethostname())]
    text = "\n".join(json.dumps({"pid": pid, "host": host}) for pid, host in those)
    # Only words for people: the lock itself is the system's, so a full disk does no harm.
    with suppress(OSError):
        os.ftruncate(handle, 0)
        os.pwrite(handle, text.encode(), 0)


def _holder(handle: int) -> str:
    for pid, host in _holders(handle):
        return f"process {pid} on host {host}"
    return "another process"


def _holders(handle: int) -> Iterator[tuple[int, str]]:
    """Yield those who said that they have a lock, and may be there still."""
    with suppress(OSError, ValueError, TypeError, KeyError, RecursionError):
        for line in os.pread(handle, _HOLDER_BYTES, 0).decode().splitlines():
            told = json.loads(line)
            pid, host = int(told["pid"]), str(told["host"])
            if host != socket.gethostname() or is_running(pid):
                yield pid, host


def is_running(pid: int) -> bool:
    """Return whether a process of this machine runs, as far as the system tells."""
    if sys.platform == "win32":  # where the question would interrupt it
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # it is somebody else's
        return True
    return True
