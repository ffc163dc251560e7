"""Callbacks kept on the disk, for the worker that waits for them and for the run after a crash.

SQLite with a rollback journal and `synchronous=EXTRA`, in one thread of each process: a callback
that was answered with 200 is on the disk. Workers of one host share the file, and poke each other.
"""

import asyncio
import logging
import os
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Final, Protocol, TypeVar, runtime_checkable

from veo_async.errors import ConfigurationError, JournalError, WebhookError
from veo_async.inbox_file import InboxFile, Neighbours, connected, mapping
from veo_async.lockfile import refuse_network
from veo_async.protocol.callbacks import Callback, is_token

__all__ = ["FileInbox", "Inbox"]

_T = TypeVar("_T")
_log = logging.getLogger(__name__)

_LOOK_SECONDS: Final = 1.0  # between two looks at a file whose members poke each other
_BLIND_LOOK_SECONDS: Final = 0.05  # the same where they cannot
_AGAIN_SECONDS: Final = 5.0  # until a file that failed is tried again
_CLOSE_SECONDS: Final = 2.0  # for a commit to end
_IDLE_SECONDS: Final = 5.0  # that a thread stays which serves no client


@runtime_checkable
class Inbox(Protocol):
    """Where callbacks are kept until they have reached the worker that waits for them."""

    def join(self, verifier: bytes, hear: Callable[[Callback], None]) -> None:
        """Take part, for a client that makes tokens with `verifier`.

        Args:
            verifier: What proves its tokens; other workers may keep it, but not show it.
            hear: Called, in any thread, with callbacks that other workers were sent.
        """
        ...

    async def leave(self, verifier: bytes, hear: Callable[[Callback], None]) -> None:
        """Take part no longer. The last one to leave lets go of everything."""
        ...

    async def recognises(self, token: str) -> bool:
        """Return whether a client of any worker made a token.

        Raises:
            WebhookError: That cannot be told (503).
        """
        ...

    async def put(self, callback: Callback) -> None:
        """Keep a callback that has a token, and tell the other workers; return once it is safe.

        Raises:
            WebhookError: It is not safe (503).
        """
        ...

    async def task_ids(self, token: str) -> Sequence[str]:
        """Return the ids that callbacks with a token named, the newest last.

        Raises:
            WebhookError: That cannot be told (503).
        """
        ...

    async def aclose(self) -> None:
        """Let go of everything. It may be used again."""
        ...


class FileInbox:
    """An inbox in a file, for the workers of one host.

    It works from every event loop and thread of a process. It may be made before a fork, and is to
    be used after it.

    Args:
        path: The file, in a folder that exists, on a local disk. Beside it there is a folder with
            the sockets by which the workers poke each other.
        mounts: The system's table of mounts, if it is not in its usual place.

    Raises:
        ConfigurationError: There is no such folder, or it is on a network file system.
    """

    def __init__(self, path: str | os.PathLike[str], *, mounts: Path | None = None) -> None:
        self._path = Path(path).absolute()
        if not self._path.parent.is_dir():
            raise ConfigurationError(
                f"inbox: {self._path.parent} is no folder; make it, or give another path"
            )
        try:
            refuse_network(self._path.parent, **({} if mounts is None else {"mounts": mounts}))
        except JournalError:
            raise ConfigurationError(
                f"inbox: {self._path.parent} is on a network file system, where locks do not hold"
                " between hosts; give a path on a local disk, or a RedisInbox"
            ) from None
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._members: list[tuple[bytes, Callable[[Callback], None]]] = []
        self._worker: _Worker | None = None

    def join(self, verifier: bytes, hear: Callable[[Callback], None]) -> None:
        """Take part, for a client that makes tokens with `verifier`."""
        if self._pid != os.getpid():
            self._begin()
        with self._lock:
            self._members.append((verifier, hear))
        self._do(lambda file: file.admit(verifier))

    async def leave(self, verifier: bytes, hear: Callable[[Callback], None]) -> None:
        """Take part no longer. The last one to leave lets go of the file."""
        with self._lock, suppress(ValueError):
            self._members.remove((verifier, hear))
        if not self._members:
            await self.aclose()

    async def recognises(self, token: str) -> bool:
        """Return whether a client of any worker made a token.

        Raises:
            WebhookError: The file cannot be read (503).
        """
        await asyncio.wrap_future(self._do(lambda _: None))
        worker = self._worker
        known: Collection[bytes] = () if worker is None else worker.verifiers
        return any(is_token(token, verifier) for verifier in known)

    async def put(self, callback: Callback) -> None:
        """Keep a callback, and poke the other workers; return once it is on the disk.

        Raises:
            WebhookError: It could not be written (503).
        """
        await asyncio.wrap_future(self._do(lambda file: file.put(callback)))

    async def task_ids(self, token: str) -> Sequence[str]:
        """Return the ids that callbacks with a token named, the newest last.

        Raises:
            WebhookError: The file cannot be read (503).
        """
        return await asyncio.wrap_future(self._do(lambda file: file.task_ids(token)))

    async def aclose(self) -> None:
        """Let go of the file once all is written. It may be used again."""
        with self._lock:
            worker, self._worker = self._worker, None
        if worker is not None:
            worker.stop()
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(None, worker.join, _CLOSE_SECONDS)

    def _do(self, step: "Callable[[InboxFile], _T]") -> "Future[_T]":
        if self._pid != os.getpid():
            self._begin()
        with self._lock:
            if self._worker is not None:
                told = self._worker.offer(step)
                if told is not None:
                    return told
            self._worker = _Worker(self._path, self._hear, self._served)
            told = self._worker.offer(step)
            self._worker.start()
        if told is None:
            raise WebhookError("the inbox's thread has ended; send it again", status=503)
        return told

    def _hear(self, callback: Callback) -> None:
        with self._lock:
            hearers = {hear for _, hear in self._members}
        for hear in hearers:
            hear(callback)

    def _served(self) -> Collection[bytes]:
        with self._lock:
            return {verifier for verifier, _ in self._members}

    def __repr__(self) -> str:
        return f"FileInbox({str(self._path)!r})"


class _Worker(threading.Thread):
    """The one thread of a process that touches the file."""

    def __init__(
        self,
        path: Path,
        hear: Callable[[Callback], None],
        served: Callable[[], Collection[bytes]],
    ) -> None:
        super().__init__(name="veo_async_inbox", daemon=True)
        self.verifiers: frozenset[bytes] = frozenset()
        self._path = path
        self._hear = hear
        self._served = served
        self._admit_at = float("-inf")
        self._open_at = float("-inf")
        self._lock = threading.Lock()
        self._steps: deque[Callable[[InboxFile | WebhookError], None]] = deque()
        self._is_over = False
        self._is_told = False
        self._awake, self._alarm = socket.socketpair()
        for end in (self._awake, self._alarm):
            end.setblocking(False)  # noqa: FBT003  # its only form

    def offer(self, step: "Callable[[InboxFile], _T]") -> "Future[_T] | None":
        """Have a step done; None where the thread ends and does nothing more."""
        future: Future[_T] = Future()

        def run(file: "InboxFile | WebhookError") -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                with mapping(self._path):
                    future.set_result(step(_usable(file)))
            except BaseException as error:  # noqa: BLE001  # it belongs to who asked
                future.set_exception(error)

        with self._lock:
            if self._is_over:
                return None
            self._steps.append(run)
            self._ring()
        return future

    def stop(self) -> None:
        """End once everything that was asked for is done."""
        with self._lock:
            self._is_told = True
            self._ring()

    def _ring(self) -> None:
        if not self._is_over:
            with suppress(BlockingIOError):  # it has been rung often enough
                self._alarm.send(b"!")

    def run(self) -> None:
        """Serve until told to stop, or until nobody has needed it for a while."""
        try:
            with ExitStack() as stack:
                self._serve(stack)
        finally:
            with self._lock:
                self._is_over = True
                self._awake.close()
                self._alarm.close()
            for step in self._taken():
                step(WebhookError("the inbox's thread has ended; send it again", status=503))

    def _serve(self, stack: ExitStack) -> None:
        neighbours = stack.enter_context(Neighbours(self._path))
        selector = stack.enter_context(selectors.DefaultSelector())
        for each in (self._awake, *neighbours.sockets):
            selector.register(each, selectors.EVENT_READ)
        file: InboxFile | WebhookError = self._opened(stack)
        look = _LOOK_SECONDS if neighbours.sockets else _BLIND_LOOK_SECONDS
        idle = 0.0
        while not self._may_end(is_idle=idle >= _IDLE_SECONDS):
            ready = selector.select(look)
            idle = 0.0 if ready or self._served() else idle + look
            for key, _ in ready:
                _drain(key.fileobj)
            steps = self._taken()
            is_due = steps or (self._served() and time.monotonic() >= self._open_at)
            if is_due and isinstance(file, WebhookError):
                file = self._opened(stack)
            for step in steps:
                step(file)
            if isinstance(file, InboxFile):
                self._admit(file)
                if file.has_news_for_others:
                    file.has_news_for_others = False
                    neighbours.poke()
                self._look(file)

    def _opened(self, stack: ExitStack) -> "InboxFile | WebhookError":
        try:
            with mapping(self._path), ExitStack() as tried:
                file = InboxFile(tried.enter_context(closing(connected(self._path))))
                self.verifiers = file.verifiers()
                stack.enter_context(tried.pop_all())
        except WebhookError as error:
            _log.error("%s", error)
            self._open_at = time.monotonic() + _AGAIN_SECONDS
            return error
        return file

    def _may_end(self, *, is_idle: bool) -> bool:
        with self._lock:
            if not self._steps and (self._is_told or is_idle):
                self._is_over = True
            return self._is_over

    def _taken(self) -> list["Callable[[InboxFile | WebhookError], None]"]:
        with self._lock:
            steps = [*self._steps]
            self._steps.clear()
        return steps

    def _admit(self, file: "InboxFile") -> None:
        """Have the tokens of clients recognised for as long as they are here."""
        now = time.monotonic()
        if now < self._admit_at:
            return
        self._admit_at = now + _LOOK_SECONDS
        try:
            with mapping(self._path):
                for verifier in self._served():
                    file.admit(verifier)
        except WebhookError as error:
            self._admit_at = now + _AGAIN_SECONDS
            _log.warning("%s", error)

    def _look(self, file: "InboxFile") -> None:
        """Pass on what other workers wrote."""
        try:
            with mapping(self._path):
                self.verifiers = file.verifiers()
                news = file.news()
        except WebhookError as error:
            _log.warning("%s", error)
            return
        for callback in news:
            self._hear(callback)


def _drain(ready: object) -> None:
    if isinstance(ready, socket.socket):
        with suppress(BlockingIOError):
            while ready.recv(4096):
                pass


def _usable(file: InboxFile | WebhookError) -> InboxFile:
    if isinstance(file, WebhookError):
        raise file
    return file
