"""Where the jobs of one shared journal are worked on: each by one worker, from where it stands."""

import asyncio
import logging
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal, TypeAlias

import attrs

from veo_async.accounts import Accounts
from veo_async.batch import prepare
from veo_async.earlier import Resumption, video_of
from veo_async.entries import Entry, Orders, retold
from veo_async.errors import (
    ClientClosedError,
    ConfigurationError,
    DownloadError,
    InvalidRequestError,
    JournalError,
    TaskFailedError,
    VeoError,
)
from veo_async.fetching import Fetching
from veo_async.jobs import Job, checked_key, is_past, is_same, not_to_be_changed, request_text
from veo_async.journal import JournalPlace, SharedJournal
from veo_async.journal_file import JournalFile
from veo_async.models import Video
from veo_async.outputs import Naming
from veo_async.ownership import finished, uncut
from veo_async.pauses import Pauses
from veo_async.prices import DEARER, Budget
from veo_async.production import Production
from veo_async.protocol import codec
from veo_async.protocol.jobs import JobState
from veo_async.request import VideoRequest
from veo_async.results import BatchItem, JobResult, Outcome
from veo_async.runtime import Runtime
from veo_async.settings import CLAIM_SECONDS, RENEW_SECONDS, URL_LIFETIME
from veo_async.shared import Claim
from veo_async.store import MovedError

__all__: list[str] = []

Until: TypeAlias = Literal["downloaded", "ready"]
_UNTIL: Final = ("downloaded", "ready")
_KILLED: Final = "its worker was killed before it came"
_ENDED: Final = frozenset({JobState.FAILED, JobState.REJECTED, JobState.EXPIRED})
_CHANGEABLE: Final = frozenset({JobState.NEW, JobState.REJECTED})
_FINISHED: Final = frozenset({JobState.READY, JobState.DOWNLOADING, JobState.STORED})
_NAMES: Final = Naming("{key}")  # of the job, so that a file is found by it
_log = logging.getLogger(__name__)


@attrs.frozen(kw_only=True)
class Wanted:
    """What a queue delivers.

    Attributes:
        key: What names the job.
        request: What is asked for; None where the journal knows it.
        until: Where it ends: `downloaded` or `ready`, which is finished at the service.
    """

    key: str
    request: VideoRequest | None
    until: Until

    def __attrs_post_init__(self) -> None:
        checked_key(self.key)
        if self.until not in _UNTIL:
            raise ConfigurationError(f"until is {self.until!r}; give 'downloaded' or 'ready'")
        if self.request is not None:
            codec.check(self.request)

    def asks_for(self, job: Job) -> bool:
        """Return whether this asks for what a job is."""
        if self.request is None:
            return True
        return job.request_text is not None and is_same(self.request, job.request_text)


class _NeverStopped:
    """Says that submits go on: each job of a queue stands for itself."""

    is_stopped: bool = False

    def stop(self) -> None:
        """Do nothing."""


class _LeftAtService(Fetching):
    """Leaves finished videos where they are."""

    async def fetch(self, entry: Entry, video: Video) -> BatchItem:
        """Take note of a video."""
        entry.video = video
        return self._orders.item(entry, Outcome.SKIPPED)


@attrs.define(eq=False)
class _Work:
    """A job under way in this client.

    Attributes:
        wanted: What it was begun for.
        entry: The job, once its journal was asked.
        waiting: How many wait for it.
        is_withdrawn: Whether the last one of them has left, so that it ends.
    """

    wanted: Wanted
    entry: Entry | None = None
    waiting: int = 0
    is_withdrawn: bool = False

    @property
    def is_paid(self) -> bool:
        """Whether it costs something, or may."""
        job = None if self.entry is None else self.entry.job
        return job is not None and (job.state is not JobState.NEW or bool(job.steps))

    def serves(self, wanted: Wanted) -> bool:
        """Return whether its result is what somebody else wants too."""
        is_same_request = wanted.request is None or wanted.request == self.wanted.request
        is_same_end = wanted.until == self.wanted.until
        return is_same_request and is_same_end and not self.is_withdrawn


class Workshop:
    """Where the jobs of one journal are worked on, with their files in one folder."""

    def __init__(self, runtime: Runtime, journal: SharedJournal, folder: Path) -> None:
        self._runtime = runtime
        self._journal = journal
        self._orders = Orders(
            folder=folder,
            naming=_NAMES,
            prices=DEARER,
            retries=0,
            resubmits_uncertain=False,
            window=URL_LIFETIME,
            callback_url=runtime.settings.callback_url,
        )
        self._accounts = Accounts(prices=DEARER, ours=Budget(), clients=runtime.settings.budget)
        pauses = journal.pauses = Pauses(runtime.settings.emitter, lambda: None)
        self._resumptions: dict[Until, tuple[Production, Resumption]] = {
            "downloaded": self._means(Fetching, pauses),
            "ready": self._means(_LeftAtService, pauses),
        }
        self._works: dict[str, tuple[_Work, asyncio.Task[JobResult]]] = {}
        self._renewing: asyncio.Task[None] | None = None

    def _means(self, kind: type[Fetching], pauses: Pauses) -> tuple[Production, Resumption]:
        fetching = kind(
            self._runtime, self._journal, self._orders, tally=self._accounts.tally, pauses=pauses
        )
        production = Production(
            self._runtime,
            self._journal,
            self._orders,
            accounts=self._accounts,
            fetching=fetching,
            pauses=pauses,
            stop=_NeverStopped(),
        )
        resumption = Resumption(
            self._runtime, self._journal, production=production, fetching=fetching
        )
        return production, resumption

    @classmethod
    async def open(cls, runtime: Runtime, folder: Path, place: JournalPlace) -> "Workshop":
        """Open a journal.

        The slots of tasks whose workers are dead are held, or more would run than may.

        Raises:
            JournalError: It cannot be used.
            DownloadError: No file can be written in the folder.
            LimiterError: The slots cannot be counted.
        """
        loop = asyncio.get_running_loop()
        await uncut(loop.run_in_executor(runtime.executor, prepare, folder))
        journal = await SharedJournal.share(place, folder, mark=runtime.mark)
        try:
            runtime.home.check()
            workshop = cls(runtime, journal, folder)
            _, resumption = workshop._resumptions["ready"]
            for job in await journal.orphans():
                await resumption.hold_slot(job)
        except BaseException:
            await journal.aclose()
            raise
        workshop._renewing = runtime.owned.spawn(workshop._renew())
        return workshop

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            if self._works:
                try:
                    await self._journal.renew()
                except JournalError as error:  # others may think that this worker is dead
                    _log.warning("the claims of this worker could not be renewed: %s", error)

    async def aclose(self) -> None:
        """Give up all claims, and let go of the journal."""
        if self._renewing is not None:
            self._renewing.cancel()
        self._journal.may_wait = False
        try:
            await self._journal.release_all()
        except JournalError as error:
            _log.warning("the claims of this worker lapse by themselves: %s", error)
        await self._journal.aclose()

    # --- one job

    async def run(self, wanted: Wanted) -> JobResult:
        """Bring a job to where it is wanted."""
        while (known := self._works.get(wanted.key)) is not None:
            work, task = known
            if work.serves(wanted):
                return await self._result(work, task)
            await asyncio.wait({task})
            if self._runtime.home.is_closed:
                raise closed()
        work = _Work(wanted)
        task = self._runtime.owned.spawn(self._make(work))
        self._works[wanted.key] = (work, task)
        task.add_done_callback(lambda _: self._works.pop(wanted.key, None))
        return await self._result(work, task)

    async def _result(self, work: _Work, task: "asyncio.Task[JobResult]") -> JobResult:
        work.waiting += 1
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            if work.waiting == 1 and not work.is_paid:
                work.is_withdrawn = True
                task.cancel()
                with suppress(asyncio.CancelledError, VeoError):
                    await finished(task)
            raise
        finally:
            work.waiting -= 1
        if task.cancelled():
            raise closed()
        return task.result()

    async def _make(self, work: _Work) -> JobResult:
        told = await self._told_at_once(work.wanted)
        if told is not None:
            return told
        key = work.wanted.key
        sending: set[asyncio.Task[object]] = set()
        try:
            while True:
                claim = await self._claimed(key)
                with suppress(MovedError):
                    return await self._brought(work, claim)
        except asyncio.CancelledError:
            if work.entry is not None and work.entry.job.state is JobState.INTENT:
                sending |= self._resumptions[work.wanted.until][0].sending
            raise
        finally:
            if sending:
                # While an answer is awaited, its job is nobody else's.
                self._runtime.owned.spawn(self._release_after(key, sending))
            else:
                await self._release(key)

    async def _release_after(self, key: str, sending: "set[asyncio.Task[object]]") -> None:
        await asyncio.wait(sending)
        await self._release(key)

    async def _told_at_once(self, wanted: Wanted) -> JobResult | None:
        """Return the result of a job that needs nothing to be done, and so no claim.

        Raises:
            VeoError: What it ended with.
        """
        job = await self._journal.do(JournalFile.find, wanted.key)
        if job is None or not wanted.asks_for(job):
            return None
        if job.state in _ENDED:
            raise self._orders.entry(job).at_step(_ended(job))
        is_told = job.state in _FINISHED if wanted.until == "ready" else False
        if wanted.until == "downloaded" and job.state is JobState.STORED:
            is_missing, damage = await self._journal.file_of(job)
            is_told = not is_missing and damage is None
        return self._told(self._orders.entry(job)) if is_told else None

    async def _claimed(self, key: str) -> Claim:
        """Return a job as this client's, once nobody else who lives has it."""
        claim = await self._journal.claim(key)
        if claim.holder is not None:
            _log.info("job %s is worked on by %s; waiting for it", key, claim.holder)
        while claim.holder is not None:
            await asyncio.sleep(CLAIM_SECONDS)
            claim = await self._journal.claim(key)
        return claim

    async def _release(self, key: str) -> None:
        try:
            await self._journal.release(key)
        except JournalError as error:
            _log.warning("the claim of job %s lapses by itself: %s", key, error)

    async def _brought(self, work: _Work, claim: Claim) -> JobResult:
        """Do what is left to do for a job.

        Raises:
            MovedError: Somebody else has done something to it meanwhile.
        """
        entry = work.entry = await self._entry(work.wanted, claim)
        try:
            item = await self._item(entry, work.wanted.until)
        except BaseException:
            self._accounts.settle(entry)
            raise
        if item is not None and item.error is not None:
            raise item.error
        return self._told(entry)

    async def _item(self, entry: Entry, until: Until) -> BatchItem | None:
        production, resumption = self._resumptions[until]
        item: BatchItem | None = None
        match entry.job.state:
            case JobState.NEW:
                item = await self._paid(entry, production)
            case JobState.INTENT | JobState.UNKNOWN:
                item = await self._uncertain(entry, production, resumption)
            case JobState.SUBMITTED:
                await resumption.hold_slot(entry.job)
                item = await resumption.follow(entry)
            case JobState.READY | JobState.DOWNLOADING | JobState.STORED:
                if until == "downloaded":
                    item = await self._at_home(entry, resumption)
            case _:
                raise entry.at_step(_ended(entry.job))
        return item

    async def _entry(self, wanted: Wanted, claim: Claim) -> Entry:
        job = claim.job
        if job is None:
            if wanted.request is None:
                raise InvalidRequestError(
                    f"job {wanted.key!r} is not in this journal; give its request as well",
                    field="request",
                )
            text = request_text(wanted.request)
            job = Job(key=wanted.key, position=claim.position, request_text=text)
        elif wanted.request is not None and not wanted.asks_for(job):
            if job.state not in _CHANGEABLE or is_past(job, wanted.request):
                raise not_to_be_changed(job, wanted.request)
            job = await self._journal.do(JournalFile.again, job, request_text(wanted.request))
        return self._orders.entry(job)

    async def _paid(self, entry: Entry, production: Production) -> BatchItem:
        if entry.request is None:
            raise InvalidRequestError(
                f"the request of job {entry.job.key} breaks this version's rules; give it again",
                field="request",
            )
        refusal = self._accounts.refusal(entry)
        if refusal is not None:
            raise entry.at_step(refusal)
        self._accounts.pay(entry)
        return await production.make(entry)

    async def _uncertain(
        self, entry: Entry, production: Production, resumption: Resumption
    ) -> BatchItem:
        """Go on with a job whose answer was lost, if a callback names its task.

        Raises:
            SubmitUncertainError: None does.
        """
        await resumption.hold_slot(entry.job)
        error = await resumption.lost(entry, _KILLED)
        item = None
        if await production.may_be_revealed(entry):
            item = await resumption.revealed(entry)
        if item is None:
            raise error
        return item

    async def _at_home(self, entry: Entry, resumption: Resumption) -> BatchItem | None:
        if entry.job.state is not JobState.STORED:
            return await resumption.fetch(entry)
        is_missing, damage = await self._journal.file_of(entry.job)
        if damage is not None:
            raise DownloadError(
                f"{self._orders.target(entry.job)} {damage} and ask for job {entry.job.key} again"
            )
        if not is_missing:
            return None
        entry.job = await self._journal.do(JournalFile.missing, entry.job)
        return await resumption.follow(entry)

    def _told(self, entry: Entry) -> JobResult:
        job = entry.job
        return JobResult(
            key=job.key,
            request=entry.request,
            task_id=job.task_id or "",
            video=video_of(job) if entry.video is None else entry.video,
            path=self._orders.target(job) if job.state is JobState.STORED else None,
            download=entry.download,
            credits=job.charged,
        )


def _ended(job: Job) -> VeoError:
    if job.state is not JobState.FAILED:
        return retold(job)
    return TaskFailedError(
        f"task {job.task_id} of job {job.key} failed ({job.error_code or 'no code'}):"
        f" {(job.error or 'no reason was given').rstrip('.')}; give a new task a key of its own",
        task_id=job.task_id or "",
        code=job.error_code,
        reason=job.error or "",
        is_retryable=codec.may_succeed(job.error_code, job.error or ""),
    )


def closed() -> ClientClosedError:
    """Return the error of a job whose client was closed."""
    return ClientClosedError(
        "the client was closed while a job was under way; run it again, which goes on where it was"
    )
