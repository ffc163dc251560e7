"""Sees what a process does to its files, its journal and its sockets, and kills it at one of these.

`sys.setprofile` reports every call of a C function in every thread, and an audit hook the names of
files: nothing of the program is replaced or knows of it. Used by `batch_child`, once per process.
"""

import io
import json
import os
import signal
import socket
import sqlite3
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import veo_async

_PRODUCT = str(Path(veo_async.__file__).parent)
_TRANSPORT = str(Path(_PRODUCT, "transport.py"))
_SYSTEM = {
    "connect", "fdatasync", "flock", "fsync", "ftruncate", "link", "mkdir", "open", "pwrite",
    "rename", "replace", "rmdir", "unlink",
}  # fmt: skip
_MODULES = {"posix", "nt", "fcntl", "io", "_io", "_sqlite3"}
_METHODS: dict[type, set[str]] = {
    socket.socket: {"connect", "recv", "recv_into", "send", "sendmsg"},
    sqlite3.Connection: {"close", "execute"},
    io.FileIO: {"close", "truncate", "write"},
    io.TextIOWrapper: {"__exit__", "flush"},
}


def _leaves_a_trace(function: Any) -> bool:
    """Return whether a C function does something that outlives the process."""
    verb, owner = function.__name__, function.__self__
    if getattr(function, "__module__", None) in _MODULES:
        return verb in _SYSTEM
    return any(isinstance(owner, kind) and verb in names for kind, names in _METHODS.items())


def _frames(frame: FrameType | None) -> Iterator[FrameType]:
    """Yield the frames of the product, the innermost one first."""
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(_PRODUCT) and "/simulator/" not in name:
            yield frame
        frame = frame.f_back


def _described(frames: list[FrameType]) -> str:
    names = [frame.f_code.co_qualname for frame in frames]
    whole = [name for name in names if not name.endswith(("<lambda>", ".run"))] or names
    outer, inner = whole[-1], whole[0]
    return outer if outer == inner else f"{outer} > {inner}"


def watch(steps: "Steps | None", tape: "Tape | None") -> None:
    """Begin to watch this process."""
    if tape is not None:
        sys.addaudithook(tape.hear)
    watchers = [each for each in (tape, steps) if each is not None]  # what crashes comes last

    def profile(frame: FrameType, event: str, function: Any) -> None:
        if not event.startswith("c_"):
            return
        try:
            for watcher in watchers:
                watcher.look(frame, event, function)
        except BaseException:  # noqa: BLE001  # the program would get it, and be watched no more
            traceback.print_exc()
            os._exit(1)

    if watchers:
        threading.setprofile(profile)
        sys.setprofile(profile)


class Steps:
    """The steps of this process in the order in which they happen, each with its name.

    A name says which function of the product is at work and what it asks the system for, such as
    `JournalFile.intend > JournalFile._transaction: execute`. Each step is seen twice: before and
    after it.

    Args:
        crash: Where to die: `[name, occurrence, "before" or "after"]`, or `[number]` for the
            so-manieth sight of any step; None to go on.
    """

    def __init__(self, crash: list[Any] | None) -> None:
        self.seen: list[tuple[str, int, str]] = []
        self._crash = None if crash is None else tuple(crash)
        self._counts: Counter[tuple[str, str]] = Counter()
        self._calls: dict[int, str] = {}  # what is spoken of over which socket
        self._names: dict[tuple[int, int], str] = {}  # what each thread is inside of
        self._lock = threading.Lock()

    def look(self, frame: FrameType, event: str, function: Any) -> None:
        """Look at one call, before or after it."""
        thread = threading.get_ident()
        if event == "c_call":
            name = self._name(frame, function)
            if name is not None:
                self._names[thread, id(frame)] = name
                self._sight(name, "before")
        elif self._names:
            name = self._names.pop((thread, id(frame)), None)
            if name is not None:
                self._sight(name, "after")

    def _name(self, frame: FrameType, function: Any) -> str | None:
        if not _leaves_a_trace(function):
            return None
        if isinstance(function.__self__, socket.socket):
            return self._exchange(frame, function.__self__, function.__name__)
        frames = [*_frames(frame)]
        return f"{_described(frames)}: {function.__name__}" if frames else None

    def _exchange(self, frame: FrameType, on: socket.socket, verb: str) -> str | None:
        """Name what is said over a socket: its answer is read by the event loop."""
        for each in _frames(frame):
            if each.f_code.co_filename == _TRANSPORT:
                self._calls[id(on)] = each.f_code.co_qualname
        call = self._calls.get(id(on))
        return None if call is None else f"{call}: {verb}"

    def _sight(self, name: str, when: str) -> None:
        with self._lock:
            self._counts[name, when] += 1
            sight = (name, self._counts[name, when], when)
            self.seen.append(sight)
            if self._crash in {sight, (len(self.seen),)}:
                os.kill(os.getpid(), signal.SIGKILL)


class Tape:
    """What this process does to a folder's disk, and says to the service, in the order of it.

    Each record is a list: `["mkdir" | "create" | "unlink", path]`, `["link" | "rename", path,
    new]`, `["size", path, bytes]` for content that was written or cut off, `["sync", path]` for a
    file or a folder, `["commit", path, rows]` for a transaction of the journal with all that it has
    then, `["post", prompt]` and `["get", url]` before the first byte of such a request leaves, and
    what `tell` is told.

    Args:
        folder: The folder.
        to: What the records are appended to, one a line, for whoever is there after a crash. Paths
            are relative to where it stands, which is above the folder.
    """

    def __init__(self, folder: Path, to: Path) -> None:
        self._to = to.open("a")
        self._folder = folder
        self._root = to.parent
        above = [each for each in folder.parents if each.is_relative_to(self._root)]
        self._folders = [folder, *above]
        self._sizes: dict[int, int] = {}  # by inode
        self._asked: dict[int, list[Any]] = {}  # what each thread has asked the system for
        self._saying: dict[int, list[Any]] = {}  # what each socket is used for
        self._lock = threading.RLock()

    def close(self) -> None:
        """End."""
        self._to.close()

    def tell(self, *words: Any) -> None:
        """Record what the one who runs the batch is told."""
        with self._lock:
            self._write([*words])

    def _name(self, path: Any) -> str | None:
        """Return a path as it is recorded; None for what is of no interest."""
        if isinstance(path, int):
            return None
        full = Path(os.fsdecode(path))
        is_ours = full in self._folders or full.is_relative_to(self._folder)
        return str(full.relative_to(self._root)) if is_ours and full.suffix != ".lock" else None

    def hear(self, event: str, args: tuple[Any, ...]) -> None:
        """Hear of the names that a call is about."""
        verb = {
            "os.link": "link",
            "os.mkdir": "mkdir",
            "os.remove": "unlink",
            "os.rename": "rename",
        }.get(event)
        if verb is not None:
            if verb in {"unlink", "rename"}:
                self._forget(args[verb == "rename"])  # of two names, what stood under the new one
            names = [self._name(each) for each in args[: 2 if verb in {"link", "rename"} else 1]]
            if None not in names:
                self._asked[threading.get_ident()] = [verb, *names]
        elif event == "open" and args[2] & os.O_CREAT:
            name = self._name(args[0])
            if name is not None and not os.path.lexists(args[0]):
                self._record("create", name)

    def look(self, frame: FrameType, event: str, function: Any) -> None:
        """Look at one call, before or after it."""
        if not _leaves_a_trace(function):
            return
        verb = function.__name__
        thread = threading.get_ident()
        if isinstance(function.__self__, sqlite3.Connection):
            self._executed(function.__self__, event)
        elif isinstance(function.__self__, socket.socket):
            if event == "c_call":
                self._spoken(frame, function.__self__, verb)
        elif event == "c_exception":
            self._asked.pop(thread, None)
        elif event == "c_return":
            if verb == "fsync":
                name = self._synced(frame)
                self._record(*([] if name is None else ["sync", name]))
            elif verb not in {"open", "mkdir"} or thread in self._asked:
                self._record(*self._asked.pop(thread, ()))

    def _record(self, *record: Any) -> None:
        with self._lock:
            self._measure()
            if record:
                self._write([*record])

    def _write(self, record: list[Any]) -> None:
        self._to.write(json.dumps(record) + "\n")
        self._to.flush()

    def _measure(self) -> None:
        """Record which files have grown or shrunk, whatever they are called by now."""
        for path in self._folder.glob("*"):
            name = self._name(path)
            if name is None or ".db" in path.name:
                continue
            try:
                found = path.stat()
            except FileNotFoundError:  # another thread has renamed it, and is about to say so
                continue
            if self._sizes.get(found.st_ino, 0) != found.st_size:
                self._sizes[found.st_ino] = found.st_size
                self._write(["size", name, found.st_size])

    def _forget(self, path: Any) -> None:
        """Take note that a name goes; its inode, if it has no other one, may be another file's."""
        with suppress(OSError):
            found = os.lstat(path)
            if found.st_nlink == 1:
                self._sizes.pop(found.st_ino, None)

    def _synced(self, frame: FrameType) -> str | None:
        """Return what a file is called that is being flushed to the disk."""
        held = frame.f_locals.get("file", frame.f_locals.get("handle"))
        number = held if isinstance(held, int) else held.fileno()
        here = os.fstat(number)
        for path in (*self._folders, *self._folder.glob("*")):
            with suppress(FileNotFoundError):  # another thread has renamed it
                if os.path.samestat(path.stat(), here):
                    return self._name(path)
        return None

    def _executed(self, connection: sqlite3.Connection, event: str) -> None:
        thread = threading.get_ident()
        if event == "c_call":
            try:
                self._asked[thread] = [connection.in_transaction]
            except sqlite3.ProgrammingError:  # it is closed
                self._asked[thread] = [False]
            return
        [was_inside] = self._asked.pop(thread, [False])
        if not was_inside or connection.in_transaction:
            return
        path = connection.execute("PRAGMA database_list").fetchone()[2]
        cursor = connection.execute(
            "SELECT state, file, size, url, json_extract(request_text, '$.prompt'), task_id"
            " FROM jobs LEFT JOIN attempts ON job = jobs.id ORDER BY jobs.id, number"
        )
        self._record("commit", self._name(path), cursor.fetchall())

    def _spoken(self, frame: FrameType, on: socket.socket, verb: str) -> None:
        """Record what is sent over a socket, which another task may do than the one that asked."""
        calls = {each.f_code.co_name: each.f_locals for each in _frames(frame)}
        if "call_once" in calls:
            self._saying[id(on)] = ["post", calls["call_once"]["request"].body["prompt"]]
        elif "_get" in calls:
            self._saying[id(on)] = ["get", str(calls["_get"]["url"])]
        elif "call" in calls:
            self._saying.pop(id(on), None)
        if verb in {"send", "sendmsg"} and id(on) in self._saying:
            self._record(*self._saying[id(on)])
