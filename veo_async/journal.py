"""A journal for one event loop: a step runs in a thread, and is never cut short."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, Final, ParamSpec, Protocol, TypeVar

import attrs

from veo_async.database import is_full, open_for_sharing, open_for_writing
from veo_async.errors import JournalError
from veo_async.jobs import Job
from veo_async.journal_file import JournalFile
from veo_async.ownership import uncut
from veo_async.settings import DISK_SECONDS, LEASE_SECONDS, SERVER_SECONDS
from veo_async.shared import Claim, Owner, SharedJournalFile
from veo_async.store import Store, UnreachableError

if TYPE_CHECKING:
    from veo_async.pauses import Pauses

__all__: list[str] = []

_P = ParamSpec("_P")
_T = TypeVar("_T")
_log = logging.getLogger("veo_async")
_FULL: Final = "the disk of the journal is full; free some space, and it goes on by itself"
_SHORTEST: Final = 0.1  # seconds until a server that is gone is looked for again, then doubled
_LONGEST: Final = 5.0
# What happened to a task that is paid, or may be. It is written down however long that takes.
_FACTS: Final = frozenset(
    {
        JournalFile.turned_away,
        JournalFile.accepted,
        JournalFile.lost,
        JournalFile.rejected,
        JournalFile.extended,
        JournalFile.ready,
        JournalFile.stored,
        JournalFile.failed,
        JournalFile.expired,
    }
)


class JournalPlace(Protocol):
    """Where a journal is, that several workers share."""

    def open_store(self, mark: str | None) -> Store:
        """Open it, in a thread; make it where there is none.

        Args:
            mark: What kind of money its tasks are paid with; one journal holds one kind. None
                takes any, and makes none.

        Raises:
            JournalError: It cannot be used.
        """
        ...


@attrs.frozen
class FilePlace:
    """A journal in a file, for the processes of one machine.

    Attributes:
        path: The file.
    """

    path: Path

    def open_store(self, mark: str | None) -> Store:
        """Open it; make it where there is none."""
        return open_for_sharing(self.path, mark=mark)


class Journal:
    """A journal file for one event loop: every step runs in one thread, and is never cut short.

    Args:
        file: The open file.
        executor: The one thread.
        pause: Seconds between two looks at a disk that is full.

    Attributes:
        may_wait: Whether a disk that is full, or a journal that cannot be got at, is waited for.
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
        database, executor = await _opened(lambda: open_for_writing(path, mark=mark))
        return cls(JournalFile(database, folder), executor)

    async def do(
        self,
        step: Callable[Concatenate[JournalFile, _P], _T],
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _T:
        """Run a step. A cancellation waits until it is done; a full disk is waited for.

        So is a server that is gone, or a file that another program keeps: for `SERVER_SECONDS`, and
        for as long as it takes where a task is paid or may be.

        Raises:
            JournalError: It could not be written down.
        """
        return await self._do(
            lambda: step(self._file, *args, **kwargs),
            about=f"task {args[1]} is paid, and " if step is JournalFile.accepted else "",
            is_fact=step in _FACTS,
        )

    async def _do(self, step: Callable[[], _T], *, about: str = "", is_fact: bool = False) -> _T:
        loop = asyncio.get_running_loop()
        patience = loop.time() + SERVER_SECONDS
        wait = _SHORTEST
        while True:
            try:
                return await uncut(loop.run_in_executor(self._executor, step))
            except UnreachableError as error:
                if not self.may_wait or not (is_fact or loop.time() < patience):
                    raise
                text = f"{about}the journal cannot be written ({error})"
                await self._paused(text, wait)
                wait = min(2 * wait, _LONGEST)
            except JournalError as error:
                if not (is_full(error) and self.may_wait):
                    raise
                await self._paused(_FULL, self._pause)

    async def _paused(self, text: str, seconds: float) -> None:
        _log.warning("%s", text)
        async with nullcontext() if self.pauses is None else self.pauses.reason("journal", text):
            await asyncio.sleep(seconds)

    async def aclose(self) -> None:
        """Let go of the file, once every step is done."""
        loop = asyncio.get_running_loop()
        try:
            await uncut(loop.run_in_executor(self._executor, self._file.close))
        finally:
            self._executor.shutdown()


class SharedJournal(Journal):
    """The part of a shared journal that one client has.

    Args:
        file: The open journal.
        executor: The one thread.
    """

    def __init__(self, file: SharedJournalFile, executor: ThreadPoolExecutor) -> None:
        super().__init__(file, executor)
        self._shared = file

    @classmethod
    async def share(cls, place: JournalPlace, folder: Path, *, mark: str) -> "SharedJournal":
        """Open, or make, a journal that others may have open too.

        Raises:
            JournalError: A batch of it is live, or it cannot be used; it is as it was.
        """
        store, executor = await _opened(lambda: place.open_store(mark))
        return cls(SharedJournalFile(store, folder, Owner.new()), executor)

    async def claim(self, key: str) -> Claim:
        """Claim a job, unless somebody who lives has it."""
        return await self._do(lambda: self._shared.claim(key, seconds=LEASE_SECONDS))

    async def renew(self) -> None:
        """Keep what is claimed."""
        await self._do(lambda: self._shared.renew(seconds=LEASE_SECONDS))

    async def release(self, key: str) -> None:
        """Give a claim up."""
        await self._do(lambda: self._shared.release(key))

    async def release_all(self) -> None:
        """Give all claims up."""
        await self._do(self._shared.release_all)

    async def orphans(self) -> list[Job]:
        """Return the jobs that hold slots, or may, and that nobody who lives works on."""
        return await self._do(lambda: self._shared.orphans(seconds=LEASE_SECONDS))

    async def file_of(self, job: Job) -> tuple[bool, str | None]:
        """Return whether a stored file is gone, and what is wrong with it if something is."""
        return await self._do(lambda: self._shared.file_of(job))


_Opened = TypeVar("_Opened", bound=Store)


async def _opened(opening: Callable[[], _Opened]) -> tuple[_Opened, ThreadPoolExecutor]:
    """Return an open database, and the one thread that may use it."""
    executor = ThreadPoolExecutor(1, thread_name_prefix="veo_async_journal")
    work = asyncio.get_running_loop().run_in_executor(executor, opening)
    try:
        return await uncut(work), executor
    except BaseException:
        if work.done() and not work.cancelled() and work.exception() is None:
            work.result().close()
        executor.shutdown(wait=False)
        raise
