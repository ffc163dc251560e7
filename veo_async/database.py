"""A journal's file as a database: for one batch, or shared, and refused if it cannot be trusted.

SQLite with a rollback journal and `synchronous=EXTRA`: a commit that returned is on the disk. (Its
write-ahead log can be damaged by a second connection before 3.51.3, and saves nothing here: an
account takes 20 submits in 10 s.)
"""

import os
import sqlite3
import struct
import threading
import time
from collections import Counter
from collections.abc import Generator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Final

import attrs

from veo_async.errors import JournalError
from veo_async.files import fsync_folder, settle_folder
from veo_async.lockfile import Lock, refuse_network
from veo_async.settings import WRITE_BYTES
from veo_async.store import UnreachableError

__all__: list[str] = []

JOURNAL_NAME: Final = "veo-journal.db"
_MAGIC: Final = b"SQLite format 3\0"
_HEADER: Final = struct.Struct(">16s44xI4xI28x")  # magic, user version, application id
_APPLICATION: Final = 0x56454F4A  # "VEOJ"
_VERSION: Final = 1
_BUSY_SECONDS: Final = 30.0  # for a reader, such as `veo-async jobs`, to get out of the way
_LOOK_SECONDS: Final = 0.02
_SHARING_SECONDS: Final = 3.0  # for one who looks at the journal to let go of it
_CHECK: Final = "PRAGMA quick_check(1)"

_SCHEMA: Final = (
    """CREATE TABLE jobs (
        id INTEGER PRIMARY KEY,
        key TEXT NOT NULL UNIQUE,
        position INTEGER NOT NULL,
        request_text TEXT,
        source TEXT,
        state TEXT NOT NULL,
        file TEXT UNIQUE COLLATE NOCASE,
        size INTEGER,
        sha256 TEXT,
        seed INTEGER,
        url TEXT,
        url_at REAL,
        error_kind TEXT,
        error_code INTEGER,
        error TEXT,
        created_at REAL NOT NULL,
        stored_at REAL
    )""",
    """CREATE TABLE attempts (
        job INTEGER NOT NULL REFERENCES jobs (id),
        number INTEGER NOT NULL,
        token TEXT NOT NULL UNIQUE,
        task_id TEXT,
        credits INTEGER NOT NULL,
        charged INTEGER NOT NULL,
        intent_at REAL NOT NULL,
        submitted_at REAL,
        ended_at REAL,
        "end" TEXT,
        error_code INTEGER,
        error TEXT,
        PRIMARY KEY (job, number)
    ) WITHOUT ROWID""",
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    "CREATE INDEX jobs_state ON jobs (state)",
)
# Of all processes, and running while the machine sleeps; elsewhere than on Linux every clock does.
_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_CLAIMS: Final = """CREATE TABLE IF NOT EXISTS claims (
    key TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    place TEXT NOT NULL,
    pid INTEGER NOT NULL,
    born TEXT NOT NULL,
    lapses REAL NOT NULL
) WITHOUT ROWID"""  # made when a journal is shared for the first time

# What this process has open and shares. Looking into such a file by any other way than SQLite's
# would take SQLite's locks on it away: POSIX drops all of a process when it closes one handle.
_shared: Counter[tuple[int, int]] = Counter()
_sharing: Final = threading.Lock()


@attrs.frozen(eq=False)
class Database:
    """An open journal file, for one thread at a time.

    Attributes:
        path: The file.
        connection: What speaks to it.
        lock: What keeps others out; None where it is only looked at.
        is_live: Whether others write to it, and it is only looked at.
        inode: What tells the file from others, where it is shared.
    """

    path: Path
    connection: sqlite3.Connection
    lock: Lock | None
    is_live: bool = False
    inode: tuple[int, int] | None = None

    @property
    def is_local(self) -> bool:
        """Whether all who share it are on this machine."""
        return True

    @property
    def same_file(self) -> str:
        """The condition for a job to have the file of a name, in SQL."""
        return "file = ?"

    @property
    def errors(self) -> type[Exception]:
        """What the connection raises."""
        return sqlite3.Error

    def close(self) -> None:
        """Let go of the file."""
        if self.inode is None:
            self.connection.close()
        else:
            with _sharing:
                self.connection.close()
                _shared[self.inode] -= 1
        if self.lock is not None:
            self.lock.release()

    def mapping(self) -> AbstractContextManager[None]:
        """Turn what goes wrong with it into a `JournalError` while inside."""
        return mapping(self.path)

    def unusable(self, why: str) -> JournalError:
        """Return the error for content that makes no sense."""
        return unusable(self.path, why)

    def clock(self) -> float:
        """Return the seconds since the machine was started, those in which it slept included."""
        return time.clock_gettime(_CLOCK)


def open_for_writing(path: Path, *, mark: str = "") -> Database:
    """Open, or make, the journal of a batch for its one live runner.

    What cannot be used is left as it was.

    Args:
        path: The file.
        mark: What kind of money its tasks are paid with; one journal holds one kind.

    Raises:
        JournalError: Another runner is live, it is on a network file system, it is damaged, of a
            later version, no journal at all, or marked otherwise.
    """
    with mapping(path):
        path, lock = _place(path)
        lock.take()
    try:
        return Database(path, _connected(path, mark), lock)
    except BaseException:
        lock.release()
        raise


def _place(path: Path) -> tuple[Path, Lock]:
    """Return where a journal that is written to really is, and its lock, which nobody took yet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path = _real(path)
    refuse_network(path.parent)
    return path, Lock(path.with_name(f"{path.name}.lock"))


def open_for_sharing(path: Path, *, mark: str | None = "") -> Database:
    """Open, or make, a journal that several processes of this machine write to, job by job.

    What cannot be used is left as it was.

    Args:
        path: The file.
        mark: What kind of money its tasks are paid with; one journal holds one kind. None takes
            any, and makes none.

    Raises:
        JournalError: A batch of it is live, it is on a network file system, it is damaged, of a
            later version, no journal at all, or marked otherwise.
    """
    with mapping(path):
        path, lock = _place(path)
        _share(lock, path, mark)
    try:
        with mapping(path), _sharing:
            about = path.stat()
            inode = (about.st_dev, about.st_ino)
            connection = _connected(path, mark, is_known=_shared[inode] > 0)
            _shared[inode] += 1
    except BaseException:
        lock.release()
        raise
    database = Database(path, connection, lock, inode=inode)
    try:
        with mapping(path):
            connection.execute(_CLAIMS)
    except BaseException:
        database.close()
        raise
    return database


def _share(lock: Lock, path: Path, mark: str | None) -> None:
    """Take a share in a lock, beside a journal that is there when it returns."""
    patience = time.monotonic() + _SHARING_SECONDS
    while True:
        try:
            lock.take(is_shared=True)
            if path.exists() or mark is None:
                return
            # It is made by one who has it alone.
            if lock.change(is_shared=False):
                if not path.exists():
                    _make(path, mark)
                if lock.change(is_shared=True):
                    return
        except JournalError:
            if time.monotonic() > patience:
                raise
        except BaseException:
            lock.release()
            raise
        time.sleep(_LOOK_SECONDS)


def open_for_reading(path: Path) -> Database:
    """Open a journal to read it, whether its batch runs or not.

    Raises:
        JournalError: There is none, or it cannot be read.
    """
    if not path.exists():
        raise JournalError(
            f"{path} does not exist; name the folder of a batch, which holds its {JOURNAL_NAME}",
            path=str(path),
        )
    with mapping(path):
        path = _real(path)
        lock = Lock(path.with_name(f"{path.name}.lock"))
        try:
            lock.take()
        except JournalError:
            # Its runner is live, and would repair what a crash left behind; this one must not. Nor
            # may it open the file by itself: in the runner's process, closing it again would take
            # SQLite's locks away.
            return Database(path, _connection(path, "ro"), None, is_live=True)
        except OSError:  # nothing can be written here
            _check_header(path)
            return Database(path, _connection(path, "ro"), None)
    try:
        return Database(path, _connected(path, None), lock)
    except BaseException:
        lock.release()
        raise


def _real(path: Path) -> Path:
    """Return the file itself: it has one lock and one disk, whatever links lead to it."""
    if path.is_symlink() and not path.exists():
        raise unusable(path, "is a link to what is not there")
    return Path(os.path.realpath(path))


def _connected(path: Path, mark: str | None, *, is_known: bool = False) -> sqlite3.Connection:
    with mapping(path):
        if mark is not None and not path.exists():
            _make(path, mark)
        if not is_known:
            _check_header(path)
        connection = _connection(path, "rw")
        try:
            if not is_known:
                _check(path, connection)
            _prepare(path, connection, mark)
        except BaseException:
            connection.close()
            raise
    return connection


def _make(path: Path, mark: str) -> None:
    """Make a journal that is whole under its name, or not there: an empty file is a damaged one."""
    new = path.with_name(f"{path.name}.new")
    for stray in (new, *(each.with_name(f"{each.name}-journal") for each in (new, path))):
        stray.unlink(missing_ok=True)  # or SQLite would roll a new file back to an old one
    with closing(_connection(new, "rwc")) as connection:
        connection.execute("PRAGMA synchronous = EXTRA")
        connection.execute("BEGIN IMMEDIATE")
        for statement in _SCHEMA:
            connection.execute(statement)
        connection.execute("INSERT INTO meta VALUES ('mark', ?)", (mark,))
        connection.execute(f"PRAGMA application_id = {_APPLICATION}")
        connection.execute(f"PRAGMA user_version = {_VERSION}")
        connection.execute("COMMIT")
    settle_folder(path.parent)
    new.rename(path)
    fsync_folder(path.parent)


def _connection(path: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=_BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,  # one thread at a time, not always the same one
    )


def _check_header(path: Path) -> None:
    """Look at a file before SQLite does, which may change it.

    Raises:
        JournalError: It is no journal of this package and version.
    """
    with path.open("rb") as file:
        header = file.read(_HEADER.size)
    if not header:
        raise unusable(path, "is empty")
    if len(header) < _HEADER.size or not header.startswith(_MAGIC):
        raise unusable(path, "is damaged, or no journal at all")
    _, version, application = _HEADER.unpack(header)
    if application != _APPLICATION:
        raise unusable(path, "is a database of another program")
    if version > _VERSION:
        raise JournalError(
            f"{path} was written by a later version of veo_async (format {version}, this one knows"
            f" {_VERSION}); install that version. The file was not touched",
            path=str(path),
        )


def unusable(path: Path, why: str) -> JournalError:
    return JournalError(
        f"{path} {why}; it was not touched. Restore a copy of it, or give another file with"
        " journal=, or --journal; a new one does not know what is paid already",
        path=str(path),
    )


def _read_through(path: Path) -> None:
    """Read a file once from end to end.

    The check goes to and fro in it: of 100 MB, a disk makes 3 s, and 0.2 s in a row.
    """
    piece = bytearray(WRITE_BYTES)
    with path.open("rb", buffering=0) as file:
        while file.readinto(piece):
            pass


def _check(path: Path, connection: sqlite3.Connection) -> None:
    _read_through(path)
    try:
        verdict = connection.execute(_CHECK).fetchone()[0]
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise
        raise unusable(path, f"is damaged ({error})") from error
    if verdict != "ok":
        raise unusable(path, f"is damaged ({verdict.splitlines()[-1]})")


def _prepare(path: Path, connection: sqlite3.Connection, mark: str | None) -> None:
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.execute("PRAGMA synchronous = EXTRA")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA temp_store = FILE")  # a million inputs are counted there
    connection.execute("PRAGMA temp.journal_mode = MEMORY")
    if mark is None:
        return
    connection.execute("CREATE TEMP TABLE pulled (identity TEXT PRIMARY KEY, count) WITHOUT ROWID")
    _check_mark(path, connection, mark)


def _check_mark(path: Path, connection: sqlite3.Connection, mark: str) -> None:
    found = connection.execute("SELECT value FROM meta WHERE name = 'mark'").fetchone()[0]
    if found != mark:
        kinds = {"": "real money", "simulated": "play money of a simulator"}
        raise JournalError(
            f"{path} is of a batch paid with {kinds.get(found, found)}, and this one is paid with"
            f" {kinds.get(mark, mark)}; give each a folder of its own",
            path=str(path),
        )


@contextmanager
def mapping(path: Path) -> Generator[None]:
    """Turn what goes wrong with the file at `path` into a `JournalError`."""
    try:
        yield
    except sqlite3.Error as error:
        raise _mapped(path, error) from error
    except UnicodeDecodeError as error:  # SQLite quotes what is damaged
        raise unusable(path, f"is damaged ({error.reason})") from error
    except OSError as error:
        raise JournalError(
            f"the journal {path} cannot be used ({error.strerror or error}); choose another place"
            " with journal=, or --journal",
            path=str(path),
        ) from error


def _mapped(path: Path, error: sqlite3.Error) -> JournalError:
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return unusable(path, f"is damaged ({error})")
    if name.startswith("SQLITE_BUSY"):
        return UnreachableError(
            f"the journal {path} is kept by another program ({error}); end that, and it goes on by"
            " itself, or run the batch again: what is written down is safe",
            path=str(path),
        )
    return JournalError(
        f"the journal {path} failed ({error}); look at the disk, then run the batch again: what is"
        " written down is safe",
        path=str(path),
    )


def is_full(error: BaseException) -> bool:
    """Return whether a journal failed because its disk is full, so that nothing was changed."""
    cause = error.__cause__
    return getattr(cause, "sqlite_errorname", "") == "SQLITE_FULL"
