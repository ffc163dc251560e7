"""The work that earlier runs, or other workers, paid for and did not bring home."""

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Final, TypeAlias

from veo_async.entries import Entry, Orders, uncertain, wall
from veo_async.errors import VeoError
from veo_async.fetching import Fetching
from veo_async.floor import Floor
from veo_async.jobs import Job
from veo_async.journal import Journal
from veo_async.journal_file import JournalFile
from veo_async.limits import asked, told_of_task
from veo_async.models import Video
from veo_async.production import Production
from veo_async.protocol.jobs import HOLDS_SLOT, JobState
from veo_async.results import BatchItem, Outcome
from veo_async.runtime import Runtime
from veo_async.settings import LIMITER_SECONDS

__all__: list[str] = []

_KILLED: Final = "its run was killed before it came"
_Work: TypeAlias = Coroutine[object, object, BatchItem]


class Resumption:
    """Goes on with single jobs where somebody else stopped."""

    def __init__(
        self, runtime: Runtime, journal: Journal, *, production: Production, fetching: Fetching
    ) -> None:
        self._runtime = runtime
        self._journal = journal
        self._production = production
        self._fetching = fetching

    async def hold_slot(self, job: Job) -> None:
        """Occupy the slot of a job's task for as long as that may run.

        Raises:
            LimiterError: The slots cannot be counted.
        """
        attempt, settings = job.attempt, self._runtime.settings
        timeouts = settings.timeouts
        if attempt is None:
            return
        began = attempt.submitted_at or attempt.intent_at
        is_known = job.state is JobState.SUBMITTED
        lasts = timeouts.task if is_known else timeouts.lost
        left = began + lasts - wall()
        if left > 0:
            # A clock that was set back must not hold it for longer than it can last.
            limiter, token, seconds = settings.limiter, attempt.token, min(left, lasts)
            if is_known and attempt.task_id is not None:
                holding = told_of_task(limiter, token, seconds, attempt.task_id)
            else:
                holding = limiter.occupy(token, seconds)
            await asked(_in_time(holding))

    def follow(self, entry: Entry) -> _Work:
        """Ask for the task of a job, and bring its video home."""
        attempt = entry.job.attempt
        if attempt is None or attempt.task_id is None:
            raise LookupError(f"job {entry.job.key} is submitted and has no task")
        age = max(0.0, wall() - (attempt.submitted_at or attempt.intent_at))
        task = self._runtime.watcher.resume(attempt.task_id, attempt.token, entry.step, age)
        return self._production.finish(entry, task)

    async def fetch(self, entry: Entry) -> BatchItem:
        """Bring the finished video of a job home."""
        adopted = await self._fetching.adopt(entry)
        if adopted is not None:
            return adopted
        job = entry.job
        loop = asyncio.get_running_loop()
        video = video_of(job)
        age = max(0.0, wall() - (job.url_at or 0.0))
        self._runtime.downloader.windows.note(video.url, loop.time() - age)
        return await self._fetching.fetch(entry, video)

    async def lost(self, entry: Entry, why: str) -> VeoError:
        """Write down that the answer to a job's submit was lost, and return the error for that."""
        error = uncertain(entry, entry.job.error or why)
        if entry.job.state is JobState.INTENT:
            kept = {"error_kind": type(error).__name__, "error": why}
            entry.job = await self._journal.do(JournalFile.lost, entry.job, kept)
        return entry.at_step(error)

    async def revealed(self, entry: Entry) -> BatchItem | None:
        """Bring the video of the task home that a callback names, once one does."""
        task = await self._production.revealed(entry)
        return None if task is None else await self._production.finish(entry, task)


class Earlier(Resumption):
    """The work that earlier runs of a batch paid for and did not bring home."""

    def __init__(
        self,
        runtime: Runtime,
        journal: Journal,
        orders: Orders,
        *,
        production: Production,
        fetching: Fetching,
        floor: Floor,
    ) -> None:
        super().__init__(runtime, journal, production=production, fetching=fetching)
        self._orders = orders
        self._floor = floor

    async def take_up(self) -> tuple[dict[str, Entry], list[Entry]]:
        """Go on with it; return all of it by its keys, and the jobs that are to be paid again.

        Slots first, or the service would see more tasks than it allows: those of submits whose
        answer was lost, and of tasks that run. Then the tasks, then the videos whose links die
        first.
        """
        await self._journal.do(JournalFile.forget_invalid)
        entries = [self._orders.entry(job) for job in await self._journal.do(JournalFile.open_jobs)]
        for entry in entries:
            if entry.job.state in HOLDS_SLOT:
                await self.hold_slot(entry.job)
        # Sorted before any of it is started, since what runs moves on.
        running = [one for one in entries if one.job.state is JobState.SUBMITTED]
        lost = [one for one in entries if one.job.state in {JobState.INTENT, JobState.UNKNOWN}]
        ready = [one for one in entries if one.job.state in {JobState.READY, JobState.DOWNLOADING}]
        for entry in running:
            self._floor.start(entry, self.follow(entry))
        for entry in sorted(ready, key=lambda one: one.job.url_at or 0.0):
            self._floor.start(entry, self.fetch(entry))
        again: list[Entry] = []
        for entry in lost:
            again += await self._uncertain(entry)
        return {entry.job.key: entry for entry in entries}, again

    def take_up_again(self, entry: Entry) -> None:
        """Ask for the task of a job whose file is gone, and bring its video home."""
        self._floor.start(entry, self.follow(entry))

    async def _uncertain(self, entry: Entry) -> list[Entry]:
        attempt, timeouts = entry.job.attempt, self._runtime.settings.timeouts
        error = await self.lost(entry, _KILLED)
        if await self._production.may_be_revealed(entry):
            self._floor.start(entry, self._revealed_or(error, entry))
            return []
        is_old = attempt is not None and wall() - attempt.intent_at > timeouts.lost
        if self._orders.resubmits_uncertain and is_old and entry.request is not None:
            entry.job = await self._journal.do(JournalFile.again, entry.job)
            return [entry]
        self._floor.deliver(self._orders.item(entry, Outcome.UNCERTAIN, error))
        return []

    async def _revealed_or(self, error: VeoError, entry: Entry) -> BatchItem:
        item = await self.revealed(entry)
        return self._orders.item(entry, Outcome.UNCERTAIN, error) if item is None else item


def video_of(job: Job) -> Video:
    """Return the video of a job that is finished at the service."""
    return Video(task_id=job.task_id or "", url=job.url or "", seed=job.seed)


async def _in_time(holding: Awaitable[None]) -> None:
    async with asyncio.timeout(LIMITER_SECONDS):
        await holding
