"""Tasks that belong to the client, not to whoever called it.

Neither an anyio shield nor `asyncio.shield` keeps a task id through every kind of cancellation: the
first does not stop `Task.cancel()`, the second dies with the loop. Work that must not be lost runs
in a task of its own here, and `aclose()` drains it.
"""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import ContextVar, copy_context
from typing import Any, Final, TypeVar

import anyio

from veo_async.errors import ClientClosedError, WrongLoopError

__all__: list[str] = []

_T = TypeVar("_T")
_CLEANUP_SHARE: Final = 0.2  # of the time to close, for what follows a cancellation
_CLEANUP_SECONDS: Final = 1.0  # at least: a commit on a busy disk
_LOOK_SECONDS: Final = 0.2  # between two looks for work that was started meanwhile
_log = logging.getLogger(__name__)


async def finished(work: "asyncio.Task[_T]") -> _T:
    """Return what `work` returns, and never leave before it is done.

    A cancellation that arrives meanwhile is raised afterwards, and at once where the client that
    owns the caller was closed and has waited long enough.
    """
    owner = _owner.get()
    cancelled = await _ended(work, owner)
    if cancelled is not None:
        if not work.done():
            work.cancel()
            work.add_done_callback(_looked_at)
        else:
            _looked_at(work)
        raise cancelled
    return work.result()


def _looked_at(work: "asyncio.Task[Any]") -> None:
    if not work.cancelled():
        work.exception()  # or it would be reported as never retrieved


async def _ended(
    work: "asyncio.Task[Any]", owner: "OwnedTasks | None"
) -> asyncio.CancelledError | None:
    """Wait until `work` is done, and return the last cancellation that arrived meanwhile."""
    cancelled: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):  # or a cancelled scope would cancel again at every turn
        while not work.done():
            try:
                await asyncio.wait({work})
            except asyncio.CancelledError as error:
                cancelled = error
                if owner is not None and owner.has_given_up:
                    break
    return cancelled


async def uncut(work: Awaitable[_T]) -> _T:
    """Return what `work` returns; a cancellation waits until it is done."""

    async def run() -> _T:
        return await work

    return await finished(asyncio.get_running_loop().create_task(run()))


def running_loop() -> asyncio.AbstractEventLoop:
    """Return the loop that runs here.

    Raises:
        WrongLoopError: None does.
    """
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise WrongLoopError(
            "no event loop is running here; use the client from a coroutine, run by asyncio.run()"
        ) from None


class Home:
    """The event loop and the process that a client's parts belong to, until it is closed."""

    def __init__(self) -> None:
        self.is_closed: bool = False
        self._loop = running_loop()
        self._pid = os.getpid()

    def check(self) -> None:
        """Make sure that the caller is at home, and that nobody closed it.

        Raises:
            ClientClosedError: The client was closed.
            WrongLoopError: This is another event loop or process.
        """
        self.check_place()
        if self.is_closed:
            raise ClientClosedError("this client was closed; make a new one")

    def check_place(self) -> None:
        """Make sure that the caller is at home.

        Raises:
            WrongLoopError: This is another event loop or process.
        """
        if self._pid != os.getpid():
            raise WrongLoopError(
                "this client was used before the process forked; make one in each process"
            )
        if self._loop is not running_loop():
            raise WrongLoopError(
                "this client belongs to another event loop; make one in each loop, and close it"
                " there"
            )


# Whose work the running task is, as far as it is a client's.
_owner: ContextVar["OwnedTasks | None"] = ContextVar("veo_async_owner", default=None)


class OwnedTasks:
    """The running work of one client.

    Attributes:
        has_given_up: Whether the time is up in which what cannot be cut off could end.
    """

    def __init__(self) -> None:
        self.has_given_up: bool = False
        self._tasks: dict[asyncio.Task[Any], Callable[[], bool]] = {}
        self._calls: dict[asyncio.Task[Any], asyncio.Future[None]] = {}

    def spawn(
        self, work: Coroutine[Any, Any, _T], *, may_be_withdrawn: Callable[[], bool] = lambda: True
    ) -> "asyncio.Task[_T]":
        """Start work that nobody waits for."""
        context = copy_context()
        context.run(_owner.set, self)
        task = asyncio.get_running_loop().create_task(work, context=context)
        self._tasks[task] = may_be_withdrawn
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.pop(task, None)
        self._let_go(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.debug("%s ended with %r", task.get_coro(), error)

    def _let_go(self, task: "asyncio.Task[Any]") -> None:
        over = self._calls.pop(task, None)
        if over is not None and not over.done():
            over.set_result(None)

    async def call(
        self, work: Coroutine[Any, Any, _T], *, may_be_withdrawn: Callable[[], bool]
    ) -> _T:
        """Wait for work that outlives its caller once it may no longer be withdrawn.

        Raises:
            ClientClosedError: The client was closed first.
        """
        task = self.spawn(work, may_be_withdrawn=may_be_withdrawn)
        over = self._calls[task] = asyncio.get_running_loop().create_future()
        try:
            await over
        except asyncio.CancelledError:
            if may_be_withdrawn():
                task.cancel()
                await _ended(task, self)
            raise
        if not task.done() or task.cancelled():
            raise ClientClosedError(
                "the client was closed while this was under way; use a client that is open"
            )
        return task.result()

    async def drain(self, seconds: float) -> bool:
        """Withdraw what may be, give the rest its time, then cancel it as well.

        Args:
            seconds: How long all of it may take. The last part of it is for what was cancelled and
                has to write something down, or waits for a disk.

        Returns:
            Whether everything has ended.
        """
        clock = asyncio.get_running_loop().time
        answered = clock() + seconds * (1 - _CLEANUP_SHARE)
        end = answered + max(seconds * _CLEANUP_SHARE, _CLEANUP_SECONDS)
        must_finish: set[asyncio.Task[Any]] = set()
        cancelled: set[asyncio.Task[Any]] = set()
        for task, may_be_withdrawn in self._tasks.items():
            if may_be_withdrawn():
                task.cancel()
                cancelled.add(task)
            else:
                must_finish.add(task)
        if must_finish:
            await asyncio.wait(must_finish, timeout=answered - clock())
        # Work that ended may have started new work, such as the watching of a new task.
        while self._tasks and (left := end - clock()) > 0:
            for task in self._tasks.keys() - cancelled:
                task.cancel()
                cancelled.add(task)
            await asyncio.wait(self._tasks, timeout=min(left, _LOOK_SECONDS))
            await asyncio.sleep(0)  # done callbacks, which empty the dict, run one turn later
        if self._tasks:
            await self._give_up()
        return not self.has_given_up

    async def _give_up(self) -> None:
        """Leave behind what waits for something that does not come: a dead disk, a limiter."""
        self.has_given_up = True
        _log.warning(
            "closed while %d steps had not ended, such as %s; they are left behind, look at the"
            " disk and the limiter",
            len(self._tasks),
            getattr(next(iter(self._tasks)).get_coro(), "__qualname__", "a step"),
        )
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks, timeout=_LOOK_SECONDS)
        await asyncio.sleep(0)
        for task in self._tasks:  # which swallow cancellations
            self._let_go(task)
