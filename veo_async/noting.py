"""What a journal is told of a paid request: each step before it is taken, or anyone hears of it."""

import asyncio
import logging
from typing import Protocol

import attrs

from veo_async.entries import Entry, Orders, wall
from veo_async.errors import JournalError
from veo_async.journal import Journal
from veo_async.journal_file import JournalFile
from veo_async.ownership import uncut
from veo_async.protocol.jobs import JobState

__all__: list[str] = []

_log = logging.getLogger("veo_async")


class Stop(Protocol):
    """What says that nothing more may be submitted."""

    @property
    def is_stopped(self) -> bool:
        """Whether it does."""
        ...

    def stop(self) -> None:
        """Say it."""
        ...


@attrs.frozen(eq=False)
class Notes:
    """Writes down what happens to the paid requests of one batch.

    Attributes:
        journal: Where.
        orders: How the batch is to be made.
        stop: Whether anything may still leave.
    """

    journal: Journal
    orders: Orders
    stop: Stop

    async def intend(self, entry: Entry, token: str) -> None:
        """Write down that the paid request of a job leaves.

        Raises:
            asyncio.CancelledError: The batch is stopped, and nothing may leave any more.
        """
        naming, job = self.orders.naming, entry.job
        try:
            entry.job = await self.journal.do(
                JournalFile.intend,
                job,
                token=token,
                credits_=entry.price,
                name=naming.name(job.position, job.key, entry.wanted),
                now=wall(),
            )
        except asyncio.CancelledError:
            # It is written down all the same. Its caller left, or the request's own time was up,
            # after which it is sent again.
            await uncut(self._withdrawn(entry, token))  # who is closed is cancelled more than once
            raise
        if self.stop.is_stopped:
            raise asyncio.CancelledError

    async def _withdrawn(self, entry: Entry, token: str) -> None:
        """Write down that a request which was to leave did not, and not that of another worker."""
        written = await self.journal.do(JournalFile.find, entry.job.key)
        attempt = None if written is None else written.attempt
        if written is None or attempt is None or attempt.token != token:
            return
        entry.job = written
        if written.state is JobState.INTENT:
            entry.job = await self.journal.do(JournalFile.turned_away, written, now=wall())

    async def turned_away(self, entry: Entry) -> None:
        """Write down that the service took nothing.

        Raises:
            asyncio.CancelledError: The batch is stopped, and it is not to be sent again.
        """
        entry.job = await self.journal.do(JournalFile.turned_away, entry.job, now=wall())
        if self.stop.is_stopped:
            raise asyncio.CancelledError

    async def accepted(self, entry: Entry, task_id: str) -> None:
        """Write down the id of a job's task."""
        try:
            entry.job = await self.journal.do(JournalFile.accepted, entry.job, task_id, now=wall())
        except JournalError as error:
            unwritten = JournalError(
                f"task {task_id} is paid, and its id could not be written down ({error}); mend the"
                f" disk, then settle job {entry.job.key} with `veo-async resolve`, by that id",
                path=error.path,
            )
            _log.error("%s", unwritten)  # whoever waits for it may have left
            raise unwritten from error


@attrs.frozen
class Noting:
    """Tells the journal of one submit's steps."""

    notes: Notes
    entry: Entry
    token: str

    async def reserved(self) -> None:
        self.entry.granted.set()

    async def leaving(self) -> None:
        await self.notes.intend(self.entry, self.token)

    async def turned_away(self) -> None:
        await self.notes.turned_away(self.entry)

    async def accepted(self, task_id: str) -> None:
        await self.notes.accepted(self.entry, task_id)
