"""An inbox's file, for one thread of a process, and the sockets by which processes poke each other.

A callback whose `put` returned is on the disk: a rollback journal with `synchronous=EXTRA`.
"""

import hashlib
import os
import socket
import sqlite3
import stat
import tempfile
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self

from veo_async.errors import WebhookError
from veo_async.protocol.callbacks import Callback
from veo_async.settings import RETENTION

__all__: list[str] = []

_APPLICATION: Final = 0x56454F49  # "VEOI"
_BUSY_SECONDS: Final = 5.0  # for another worker's commit; the service waits 15 s (live 2.8)
_ADMISSION_SECONDS: Final = 24 * 3600.0  # between two notes that a key is in use
_IDS_PER_TOKEN: Final = 8  # a submit has one task; whoever learned its token may invent others
_OVERLAP_SECONDS: Final = 60.0
_PUTS_PER_PRUNE: Final = 1000
_LONGEST_SOCKET: Final = 100  # bytes of its path; Linux takes 107, others fewer

_SCHEMA: Final = (
    """CREATE TABLE callbacks (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        token TEXT NOT NULL,
        task_id TEXT NOT NULL,
        at REAL NOT NULL,
        UNIQUE (token, task_id)
    )""",
    "CREATE TABLE verifiers (verifier BLOB PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID",
)
_making: Final = threading.Lock()  # closing a file drops SQLite's locks on it in this process


class InboxFile:
    """The file, for the one thread."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.has_news_for_others: bool = False
        self._db = db
        self._own: set[int] = set()
        self._puts = 0
        # A little from before, which may have come while this was being opened.
        self._last: int = db.execute(
            "SELECT COALESCE(MAX(number), 0) FROM callbacks WHERE at < ?",
            (_wall() - _OVERLAP_SECONDS,),
        ).fetchone()[0]

    def admit(self, verifier: bytes) -> None:
        """Note that tokens made with this are to be recognised."""
        row = self._db.execute(
            "SELECT at FROM verifiers WHERE verifier = ?", (verifier,)
        ).fetchone()
        if row is not None and abs(_wall() - row[0]) < _ADMISSION_SECONDS:
            return
        with self._transaction():
            self._db.execute("INSERT OR REPLACE INTO verifiers VALUES (?, ?)", (verifier, _wall()))
            self._prune()
        self.has_news_for_others = True

    def verifiers(self) -> frozenset[bytes]:
        """Return what tokens are recognised by."""
        return frozenset(row[0] for row in self._db.execute("SELECT verifier FROM verifiers"))

    def put(self, callback: Callback) -> None:
        """Keep a callback."""
        with self._transaction():
            # Replaced, so that it has a new number and is passed on again.
            row = self._db.execute(
                "INSERT OR REPLACE INTO callbacks (token, task_id, at) VALUES (?, ?, ?)",
                (callback.token, callback.task_id, _wall()),
            ).lastrowid
            self._db.execute(
                "DELETE FROM callbacks WHERE token = ? AND number NOT IN (SELECT number"
                " FROM callbacks WHERE token = ? ORDER BY number DESC LIMIT ?)",
                (callback.token, callback.token, _IDS_PER_TOKEN),
            )
            self._puts += 1
            if self._puts % _PUTS_PER_PRUNE == 0:
                self._prune()
        self._own.add(row or 0)
        self.has_news_for_others = True

    def task_ids(self, token: str) -> list[str]:
        """Return the ids of a token's callbacks."""
        rows = self._db.execute(
            "SELECT task_id FROM callbacks WHERE token = ? ORDER BY number", (token,)
        )
        return [row[0] for row in rows]

    def news(self) -> list[Callback]:
        """Return the callbacks that others wrote since the last look."""
        rows = self._db.execute(
            "SELECT number, token, task_id FROM callbacks WHERE number > ? ORDER BY number",
            (self._last,),
        ).fetchall()
        if rows:
            self._last = rows[-1][0]
        found = [Callback(task_id, token) for row, token, task_id in rows if row not in self._own]
        self._own = {row for row in self._own if row > self._last}
        return found

    def _prune(self) -> None:
        before = (_wall() - RETENTION,)
        self._db.execute("DELETE FROM callbacks WHERE at < ?", before)
        self._db.execute("DELETE FROM verifiers WHERE at < ?", before)

    @contextmanager
    def _transaction(self) -> Generator[None]:
        with _transaction(self._db):
            yield


@contextmanager
def _transaction(db: sqlite3.Connection) -> Generator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):  # a failed COMMIT may have rolled back by itself
            db.execute("ROLLBACK")
        raise


class Neighbours:
    """The sockets of all workers, in one folder: a datagram to one says that there is news."""

    def __init__(self, path: Path) -> None:
        self.sockets: tuple[socket.socket, ...] = ()
        self._folder = _folder_of(path)
        self._name = f"{os.getpid()}-{os.urandom(4).hex()}"

    def __enter__(self) -> Self:
        if self._folder is None:
            return self
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            if not _is_private(self._folder):
                return self
            own = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        except OSError:  # the file is looked at more often instead
            return self
        try:
            own.setblocking(False)  # noqa: FBT003  # its only form
            own.bind(str(self._folder / self._name))
        except OSError:
            own.close()
            return self
        self.sockets = (own,)
        return self

    def __exit__(self, *_: object) -> None:
        for own in self.sockets:
            own.close()
            if self._folder is not None:
                with suppress(OSError):
                    (self._folder / self._name).unlink()

    def poke(self) -> None:
        """Tell the other workers to look, and clear away those that were killed."""
        for own in self.sockets:
            names = os.listdir(self._folder)  # noqa: PTH208  # names are all that is needed
            for name in names:
                if name != self._name:
                    self._poke(own, f"{self._folder}/{name}")

    def _poke(self, own: socket.socket, path: str) -> None:
        try:
            own.sendto(b"!", path)
        except ConnectionRefusedError:
            # Whatever else lies here refuses as well, and may be dear to somebody.
            with suppress(OSError):
                if stat.S_ISSOCK(os.lstat(path).st_mode):
                    os.unlink(path)  # noqa: PTH108  # a text already
        except OSError:  # it is gone, or has been poked often enough
            pass


def _folder_of(path: Path) -> Path | None:
    """Return the folder of the sockets; None where there can be none."""
    if not hasattr(socket, "AF_UNIX") or not hasattr(os, "getuid"):
        return None
    folder = path.with_name(f"{path.name}.members")
    if len(os.fsencode(folder)) <= _LONGEST_SOCKET - 20:
        return folder
    name = hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()[:16]
    short = Path(tempfile.gettempdir()) / f"veo-async-{os.getuid()}-{name}"
    return short if len(os.fsencode(short)) <= _LONGEST_SOCKET - 20 else None


def _is_private(folder: Path) -> bool:
    """Return whether a folder is ours alone: its name can be guessed, so others may make it."""
    found = folder.lstat()
    is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
    return is_ours and not found.st_mode & 0o077


def connected(path: Path) -> sqlite3.Connection:
    with _making:
        # Those who can read it can make tokens.
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        db = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
    try:
        db.execute("PRAGMA journal_mode = DELETE")
        db.execute("PRAGMA synchronous = EXTRA")
        with _transaction(db):
            _prepare(path, db)
    except BaseException:
        db.close()
        raise
    return db


def _prepare(path: Path, db: sqlite3.Connection) -> None:
    found = db.execute("PRAGMA application_id").fetchone()[0]
    if found == _APPLICATION:
        return
    if db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]:
        raise WebhookError(f"{path} is no inbox; give another path", status=503)
    for statement in _SCHEMA:
        db.execute(statement)
    db.execute(f"PRAGMA application_id = {_APPLICATION}")


@contextmanager
def mapping(path: Path) -> Generator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise WebhookError(
            f"the inbox {path} failed ({error}); look at the disk, the callback is sent again",
            status=503,
        ) from error


def _wall() -> float:
    return datetime.now(UTC).timestamp()
