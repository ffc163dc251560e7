"""The slots of an account, shared by the processes of one host through an SQLite file.

The file has a rollback journal and one row, the ledger; a report is one transaction in a thread of
its own. Time is the machine's since it was started, which nobody sets, and goes on while it sleeps.
"""

import asyncio
import json
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol, TypedDict

from veo_async.broker import UnreachableError
from veo_async.errors import ConfigurationError, JournalError, LimiterError
from veo_async.lockfile import refuse_network
from veo_async.membership import LEASE, SharedLimiter
from veo_async.protocol.slots import FORMAT, Answer, Ledger, Report, exchange, new_ledger
from veo_async.settings import MAX_TASKS

if sys.platform != "win32":
    import fcntl

__all__ = ["FileLimiter"]

_APPLICATION: Final = 0x56454F4C  # "VEOL"
_BUSY_SECONDS: Final = 2.0  # for other members, who need milliseconds each
_POLL_SECONDS: Final = 1.0  # the death of a process is no change of the file
_GLANCE_SECONDS: Final = 0.05  # a glance costs 0.1 ms of a thread
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


class Clock(Protocol):
    """The time of one machine, in milliseconds."""

    def boot(self) -> str:
        """Return what names the time since the machine was started."""
        ...

    def now(self) -> int:
        """Return the time since then."""
        ...

    def wall(self) -> int:
        """Return the time of day, which may jump."""
        ...


class MachineClock:
    """The time of this machine."""

    def boot(self) -> str:
        """Return what names the time since the machine was started; empty if nobody tells."""
        try:
            return _BOOT_ID.read_text().strip()
        except OSError:
            return ""

    def now(self) -> int:
        """Return the time since then, sleep included where the system tells."""
        clock: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
        return time.clock_gettime_ns(clock) // 1_000_000

    def wall(self) -> int:
        """Return the time of day."""
        return int(datetime.now(UTC).timestamp() * 1000)


class _Kept(TypedDict):
    """What the file holds: the ledger, and when it was written by both clocks."""

    boot: str
    now: int
    wall: int
    ledger: Ledger


class FileStore:
    """One member's way to the file.

    Args:
        path: The file.
        member: The member's name.
        clock: The machine's time.
        mounts: The system's table of mounts, if it is not in its usual place.
    """

    glance_seconds: float | None = _GLANCE_SECONDS
    poll_seconds: float = _POLL_SECONDS

    def __init__(self, path: Path, member: str, clock: Clock, mounts: Path | None = None) -> None:
        self.name: str = f"the limiter's file {path}"
        self._path = path
        self._member = member
        self._clock = clock
        self._mounts = {} if mounts is None else {"mounts": mounts}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="veo_async_limiter")
        self._connection: sqlite3.Connection | None = None
        self._life: int | None = None
        self._version: object = None

    async def exchange(self, report: Report) -> Answer:
        """Hand in a report in one transaction."""
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, self._exchange, report
        )

    async def glance(self) -> bool:
        """Return whether another member has written."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._has_changed)

    async def aclose(self) -> None:
        """Close the file, and let the thread end."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown()

    def _exchange(self, report: Report) -> Answer:
        with _mapping(self._path):
            if self._connection is None:
                self._open()
            assert self._connection is not None  # noqa: S101  # for type checkers
            connection = self._connection
            connection.execute("BEGIN IMMEDIATE")
            try:
                answer = self._write(connection, report)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            self._version = self._data_version(connection)
        return answer

    def _write(self, connection: sqlite3.Connection, report: Report) -> Answer:
        text = str(connection.execute("SELECT ledger FROM slots").fetchone()[0])
        now, boot = self._clock.now(), self._clock.boot()
        ledger = _read(self._path, text, now, boot, self._clock.wall())
        before = json.dumps(ledger)
        dead = {name for name in ledger["members"] if self._is_dead(name)}
        answer = exchange(ledger, report, now, dead)
        if json.dumps(ledger) != before or not text:
            kept = _Kept(boot=boot, now=now, wall=self._clock.wall(), ledger=ledger)
            connection.execute("UPDATE slots SET ledger = ?", (json.dumps(kept),))
        for name in dead:
            _remove(self._life_of(name))
        return answer

    # --- the file

    def _open(self) -> None:
        path = self._path
        folder = path.parent
        folder.mkdir(parents=True, exist_ok=True)
        try:
            refuse_network(folder, **self._mounts)
        except JournalError:
            raise LimiterError(
                f"{folder} is on a network file system, where locks do not hold between hosts; keep"
                f" {path.name} on a local disk, or share the slots with RedisLimiter"
            ) from None
        connection = sqlite3.connect(
            path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            _prepare(path, connection)
            self._take_life()
        except BaseException:
            connection.close()
            raise
        self._connection = connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._life is not None:
            _remove(self._life_of(self._member))
            os.close(self._life)
            self._life = None

    def _has_changed(self) -> bool:
        # The counter in the file's first page, which costs no transaction.
        try:
            connection = self._connection
            return connection is None or self._data_version(connection) != self._version
        except sqlite3.Error:
            return True  # the exchange will say what is wrong

    def _data_version(self, connection: sqlite3.Connection) -> object:
        return connection.execute("PRAGMA data_version").fetchone()[0]

    # --- a lock per member, which the system lets go of when its process ends

    def _life_of(self, member: str) -> Path:
        return self._path.with_name(f"{self._path.name}.{member}")

    def _take_life(self) -> None:
        if sys.platform == "win32":
            return
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        handle = os.open(self._life_of(self._member), flags, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
            raise
        self._life = handle

    def _is_dead(self, member: str) -> bool:
        if sys.platform == "win32" or member == self._member:
            return False
        try:
            handle = os.open(self._life_of(member), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return True
        except OSError:
            return False  # its lease tells
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return False
        finally:
            os.close(handle)
        return True


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()


def _check_marks(path: Path, version: int, application: int) -> None:
    if application != _APPLICATION:
        raise _unusable(path, "is a database of another program")
    if version != FORMAT:
        raise _unusable(path, f"has format {version}, and this version knows {FORMAT}")


def _prepare(path: Path, connection: sqlite3.Connection) -> None:
    # By SQLite alone: closing the file would take the locks of another connection of this process.
    connection.execute("PRAGMA synchronous = EXTRA")
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if version == application == tables == 0:
            connection.execute("CREATE TABLE slots (ledger TEXT NOT NULL)")
            connection.execute("INSERT INTO slots VALUES ('')")
            connection.execute(f"PRAGMA application_id = {_APPLICATION}")
            connection.execute(f"PRAGMA user_version = {FORMAT}")
        else:
            _check_marks(path, version, application)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _read(path: Path, text: str, now: int, boot: str, wall: int) -> Ledger:
    """Return the ledger, as it is after a start of the machine if there was one."""
    if not text:
        return new_ledger(0)
    try:
        kept: _Kept = json.loads(text)
        ledger, then = kept["ledger"], kept["now"]
        is_same_boot = kept["boot"] == boot and then <= now
        slept = 0 if is_same_boot else max(0, wall - kept["wall"])
    except (ValueError, TypeError, KeyError) as error:
        raise _unusable(path, f"is damaged ({error})") from error
    if is_same_boot:
        return ledger
    # All members have died with the machine. What ran at the service has gone on meanwhile.
    fresh = new_ledger(0)
    for key, row in ledger["rows"].items():
        left = row["until"] - then - slept
        if row["until"] and left > 0:
            row["since"] += now - then - slept
            row["until"] = now + left
            fresh["rows"][key] = row
    return fresh


def _unusable(path: Path, why: str) -> LimiterError:
    return LimiterError(
        f"{path} {why}; it was not touched. Give another path, the same for all processes of the"
        " account, or delete it when no client is running"
    )


@contextmanager
def _mapping(path: Path) -> Generator[None]:
    """Turn what goes wrong with the file into what the broker knows."""
    try:
        yield
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", "")
        if name.startswith(("SQLITE_BUSY", "SQLITE_FULL", "SQLITE_IOERR")):
            raise UnreachableError(str(error)) from error
        if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            raise _unusable(path, f"is damaged ({error})") from error
        raise LimiterError(
            f"the limiter's file {path} failed ({error}); look at its folder, then submit again"
        ) from error
    except OSError as error:
        raise LimiterError(
            f"the limiter's file {path} cannot be used ({error.strerror or error}); give a path in"
            " a folder that can be written"
        ) from error


class FileLimiter(SharedLimiter):
    """Shares the account's slots between the processes of one host, through a file and no server.

    A killed process frees what it had reserved at once, and its running tasks are watched by
    another process of the same account. Give the same instance to several clients of one loop, and
    an instance of its own to each other loop. Fork before its first use, not after.

    Args:
        path: The file, the same for all processes of the account; it is made if it is not there.
            It must be on a local disk, and is damaged by nothing but a change by hand. Beside it,
            each process keeps a file of its own while it is open.
        total: Tasks that may run at once (spec: 10 per account). The lowest number that a living
            process gives holds for all.
        lease: Seconds after which a process that was not heard of counts as dead, where its end
            cannot be seen. All give the same.

    Raises:
        ConfigurationError: A setting is impossible.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        total: int = MAX_TASKS,
        lease: float = LEASE,
    ) -> None:
        super().__init__(total=total, lease=lease)
        if not os.fspath(path):
            raise ConfigurationError("path is empty; give the path of a file on a local disk")
        self._path = Path(os.path.realpath(path))  # the locks of members are beside the file
        self._clock: Clock = MachineClock()

    def _store(self, member: str, ring: Callable[[], None]) -> FileStore:  # noqa: ARG002  # it is looked at instead
        return FileStore(self._path, member, self._clock)

    def __repr__(self) -> str:
        return f"<FileLimiter {self._path} total={self._total}>"
