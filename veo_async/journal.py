"""The journal of a batch for one event loop: a step runs in a thread, and is never cut short."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from veo_async.database import is_full, open_for_writing
from veo_async.errors import JournalError
from veo_async.journal_file import JournalFile
from veo_async.ownership import uncut
from veo_async.settings import DISK_SECONDS

if TYPE_CHECKING:
    from veo_async.pauses import Pauses

__all__: list[str] = []

_P = ParamSpec("_P")
_T = TypeVar("_T")
_log = logging.getLogger("veo_async")


class Journal:
    """A journal file for one event loop: every step runs in one thread, and is never cut short.

    Args:
        file: The open file.
        executor: The one thread.
        pause: Seconds between two looks at a disk that is full.

    Attributes:
        may_wait: Whether a disk that is full is waited for.
        pauses: Who is told that it is.
    """

    def __init__(
        self, file: JournalFile, executor: ThreadPoolExecutor, *, pause: float = DISK_SECONDS
    ) -> None:
        self._file = file
        self._executor = executor
        self._pause = pause
        self.may_wait: bool = True
        self.pauses: Pauses | None = None

    @classmethod
    async def open(cls, path: Path, folder: Path, *, mark: str = "") -> "Journal":
        """Open, or make, the journal of a batch.

        Raises:
            JournalError: Another runner is live, or the file cannot be used; it is as it was.
        """
        executor = ThreadPoolExecutor(1, thread_name_prefix="veo_async_journal")
        loop = asyncio.get_running_loop()
        opening = loop.run_in_executor(executor, lambda: open_for_writing(path, mark=mark))
        try:
            database = await uncut(opening)
        except BaseException:
            if opening.done() and not opening.cancelled() and opening.exception() is None:
                opening.result().close()
            executor.shutdown(wait=False)
            raise
        return cls(JournalFile(database, folder), executor)

    async def do(
        self,
        step: Callable[Concatenate[JournalFile, _P], _T],
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _T:
        """Run a step. A cancellation waits until it is done; a full disk is waited for.

        Raises:
            JournalError: It could not be written down.
        """
        loop = asyncio.get_running_loop()
        while True:
            try:
                return await uncut(
                    loop.run_in_executor(self._executor, lambda: step(self._file, *args, **kwargs))
                )
            except JournalError as error:
                if not (is_full(error) and self.may_wait):
                    raise
            await self._until_the_next_try()

    async def _until_the_next_try(self) -> None:
        text = "the disk of the journal is full; free some space, and it goes on by itself"
        _log.warning("%s", text)
        async with nullcontext() if self.pauses is None else self.pauses.reason("journal", text):
            await asyncio.sleep(self._pause)

    async def aclose(self) -> None:
        """Let go of the file, once every step is done."""
        loop = asyncio.get_running_loop()
        try:
            await uncut(loop.run_in_executor(self._executor, self._file.close))
        finally:
            self._executor.shutdown()
