"""Tasks that belong to the client, not to whoever called it.

Neither an anyio shield nor `asyncio.shield` keeps a task id through every kind of cancellation: the
first does not stop `Task.cancel()`, the second dies with the loop. Work that must not be lost runs
in a task of its own here, and `aclose()` drains it.
"""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import anyio

from veo_async.errors import ClientClosedError, WrongLoopError

__all__: list[str] = []

_T = TypeVar("_T")
_log = logging.getLogger("veo_async")


async def finished(work: "asyncio.Task[_T]") -> _T:
    """Return what `work` returns, and never leave before it is done.

    A cancellation that arrives meanwhile is raised afterwards.
    """
    cancelled = await _ended(work)
    if cancelled is not None:
        if not work.cancelled():
            work.exception()  # looked at, so that it is not reported as never retrieved
        raise cancelled
    return work.result()


async def _ended(work: "asyncio.Task[Any]") -> asyncio.CancelledError | None:
    """Wait until `work` is done, and return the last cancellation that arrived meanwhile."""
    cancelled: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):  # or a cancelled scope would cancel again at every turn
        while not work.done():
            try:
                await asyncio.wait({work})
            except asyncio.CancelledError as error:
                cancelled = error
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


class OwnedTasks:
    """The running work of one client."""

    def __init__(self) -> None:
        self._tasks: dict[asyncio.Task[Any], Callable[[], bool]] = {}

    def spawn(
        self, work: Coroutine[Any, Any, _T], *, may_be_withdrawn: Callable[[], bool] = lambda: True
    ) -> "asyncio.Task[_T]":
        """Start work that nobody waits for."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[task] = may_be_withdrawn
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.debug("%s ended with %r", task.get_coro(), error)

    async def call(
        self, work: Coroutine[Any, Any, _T], *, may_be_withdrawn: Callable[[], bool]
    ) -> _T:
        """Wait for work that outlives its caller once it may no longer be withdrawn.

        Raises:
            ClientClosedError: The client was closed first.
        """
        task = self.spawn(work, may_be_withdrawn=may_be_withdrawn)
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            if may_be_withdrawn():
                task.cancel()
                await _ended(task)
            raise
        if task.cancelled():
            raise ClientClosedError(
                "the client was closed while this was under way; use a client that is open"
            )
        return task.result()

    async def drain(self, seconds: float) -> None:
        """Withdraw what may be, give the rest so many seconds, then cancel it as well."""
        must_finish: set[asyncio.Task[Any]] = set()
        for task, may_be_withdrawn in self._tasks.items():
            if may_be_withdrawn():
                task.cancel()
            else:
                must_finish.add(task)
        if must_finish:
            await asyncio.wait(must_finish, timeout=seconds)
        # Work that ended may have started new work, such as the watching of a new task.
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)
            await asyncio.sleep(0)  # done callbacks, which empty the dict, run one turn later
