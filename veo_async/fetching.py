"""From a finished video to a whole file with its description, each step written down first."""

import asyncio
import errno
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final, TypeVar

from veo_async.accounts import Tally
from veo_async.entries import Entry, Orders, told, wall
from veo_async.errors import (
    APIError,
    AuthenticationError,
    DownloadError,
    NotFoundError,
    TaskFailedError,
    TaskTimeoutError,
    TransportError,
    TruncatedError,
    URLExpiredError,
    VeoError,
)
from veo_async.journal import Journal
from veo_async.journal_file import JournalFile
from veo_async.models import Video
from veo_async.outputs import WholeFile, whole_file, write_side
from veo_async.ownership import uncut
from veo_async.pauses import Pauses
from veo_async.protocol.backlog import Backlog
from veo_async.protocol.jobs import JobState
from veo_async.results import BatchItem, Outcome
from veo_async.runtime import Runtime
from veo_async.settings import DISK_SECONDS, RETENTION

__all__: list[str] = []

_T = TypeVar("_T")
_log = logging.getLogger("veo_async")
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})


class Fetching:
    """Brings the videos of one batch home."""

    def __init__(
        self, runtime: Runtime, journal: Journal, orders: Orders, *, tally: Tally, pauses: Pauses
    ) -> None:
        self.backlog: Backlog = Backlog()
        self.blocked: int = 0  # videos that cannot be written just now
        self._runtime = runtime
        self._journal = journal
        self._orders = orders
        self._tally = tally
        self._pauses = pauses

    async def fetch(self, entry: Entry, video: Video) -> BatchItem:
        """Bring a finished video to its file.

        Raises:
            AuthenticationError: The key is refused.
            JournalError: The journal failed.
        """
        entry.video = video
        target = self._orders.target(entry.job)
        failures = 0
        is_blocked = False
        async with AsyncExitStack() as blocking:
            while True:
                try:
                    return await self._saved(entry, video, target)
                except FileExistsError:
                    return await self._obstructed(entry, video, target)
                except (DownloadError, TransportError) as error:
                    is_full = _is_disk_full(error)
                    failures += not is_full
                    if is_full and not is_blocked:
                        # Also while it is tried again: that is no sign yet that there is room.
                        await blocking.enter_async_context(self._blocked(str(error)))
                    elif not is_full:
                        await blocking.aclose()
                    is_blocked = is_full
                    if is_full:
                        await asyncio.sleep(DISK_SECONDS)
                    elif self._is_worth_another_try(error, failures):
                        await asyncio.sleep(self._runtime.settings.retry.cap)
                    else:
                        return await self.not_had(entry, error)
                except AuthenticationError:
                    raise
                except (APIError, TaskFailedError, TaskTimeoutError) as error:  # no link any more
                    return await self.not_had(entry, error)

    async def _obstructed(self, entry: Entry, video: Video, target: Path) -> BatchItem:
        job = entry.job
        if job.state is JobState.DOWNLOADING:
            # What came there meanwhile is not this video, whatever a later run finds.
            link, received = job.url or video.url, job.url_at or wall()
            entry.job = await self._journal.do(
                JournalFile.ready, job, url=link, seed=job.seed, cost=None, now=received
            )
        text = f"{target} stands in the way; move it and run the batch again"
        return self._orders.item(entry, Outcome.FAILED, DownloadError(text))

    @asynccontextmanager
    async def _blocked(self, text: str) -> AsyncGenerator[None]:
        self.blocked += 1
        try:
            async with self._pauses.reason("disk", text):
                yield
        finally:
            self.blocked -= 1

    def _is_worth_another_try(self, error: VeoError, failures: int) -> bool:
        may_pass = isinstance(error, TransportError | TruncatedError) or (
            type(error) is DownloadError and error.__cause__ is None
        )
        return may_pass and failures < self._runtime.settings.retry.attempts

    async def _saved(self, entry: Entry, video: Video, target: Path) -> BatchItem:
        loop = asyncio.get_running_loop()
        is_active = False

        async def started() -> None:
            nonlocal is_active
            is_active = True
            self.backlog.began(loop.time())
            entry.job = await self._journal.do(JournalFile.downloading, entry.job)

        is_whole = False
        try:
            download = await self._runtime.downloader.save(
                video, target, overwrite=False, renew=self._runtime.renewer.renewed, started=started
            )
            is_whole = True
        finally:
            if is_active:
                self.backlog.ended(loop.time(), is_whole=is_whole)
        entry.download = download
        self._tally.brought(download.size)
        return await self._at_home(entry, target, WholeFile(download.size, download.sha256))

    async def adopt(self, entry: Entry) -> BatchItem | None:
        """Return the item of a job whose file is whole already, though its journal does not say so.

        Raises:
            JournalError: The journal failed.
        """
        job = entry.job
        if job.state is not JobState.DOWNLOADING and job.sha256 is None:
            return None  # a file that is there is somebody else's
        target = self._orders.target(job)
        try:
            whole = await self._on_disk(lambda: whole_file(target))
        except OSError:
            return None
        is_ours = job.state is JobState.DOWNLOADING or (whole and whole.sha256 == job.sha256)
        return await self._at_home(entry, target, whole) if whole and is_ours else None

    async def _at_home(self, entry: Entry, target: Path, whole: WholeFile) -> BatchItem:
        def describe() -> None:
            write_side(target, entry.job, size=whole.size, sha256=whole.sha256, now=wall())

        try:
            await self._on_disk(describe)
        except OSError as error:  # the video is what was paid for
            _log.warning("%s has no description beside it: %s", target, error)
        entry.job = await self._journal.do(
            JournalFile.stored, entry.job, size=whole.size, sha256=whole.sha256, now=wall()
        )
        return self._orders.item(entry, Outcome.DOWNLOADED)

    async def not_had(self, entry: Entry, error: VeoError) -> BatchItem:
        """Return the item of a job whose video is not to be had, now or for ever."""
        attempt = entry.job.attempt
        began = wall() if attempt is None else attempt.submitted_at or attempt.intent_at
        if isinstance(error, NotFoundError | URLExpiredError) and wall() - began > RETENTION:
            entry.job = await self._journal.do(JournalFile.expired, entry.job, told(error))
        return self._orders.item(entry, Outcome.FAILED, error)

    async def _on_disk(self, step: Callable[[], _T]) -> _T:
        loop = asyncio.get_running_loop()
        return await uncut(loop.run_in_executor(self._runtime.executor, step))


def _is_disk_full(error: BaseException) -> bool:
    """Return whether a download failed because nothing can be written just now."""
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno in _FULL
