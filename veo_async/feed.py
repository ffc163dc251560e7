"""The input of a batch: pulled lazily, looked up in the journal, and ordered where it is new."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import Final, TypeAlias

import attrs

from veo_async.accounts import Accounts
from veo_async.earlier import Earlier
from veo_async.entries import Entry, Orders, retold, told, wall
from veo_async.errors import (
    DownloadError,
    InvalidRequestError,
    VeoError,
)
from veo_async.fetching import Fetching
from veo_async.floor import Floor
from veo_async.images import is_mendable
from veo_async.jobs import Draft, Job, draft_of, is_past, not_to_be_changed, request_text
from veo_async.journal import Journal
from veo_async.journal_file import Found, JournalFile
from veo_async.outputs import free_bytes
from veo_async.ownership import uncut
from veo_async.pauses import Pauses
from veo_async.production import Production
from veo_async.protocol import codec
from veo_async.protocol.jobs import JobState
from veo_async.request import RequestFields, VideoRequest
from veo_async.results import BatchInput, Outcome
from veo_async.runtime import Runtime
from veo_async.settings import DISK_RESERVE, DISK_SECONDS, LOOK_AHEAD, UNREAD_ITEMS

__all__: list[str] = []

BatchRequests: TypeAlias = Iterable[BatchInput] | AsyncIterable[BatchInput]
_CHANGEABLE: Final = frozenset({JobState.NEW, JobState.FAILED, JobState.REJECTED})
_GATE_SECONDS: Final = 1.0  # between two looks at a backlog, should nothing happen meanwhile


@attrs.frozen(eq=False, kw_only=True)
class Feed:
    """Pulls the input of one batch."""

    requests: BatchRequests
    defaults: RequestFields
    runtime: Runtime
    journal: Journal
    orders: Orders
    accounts: Accounts
    production: Production
    earlier: Earlier
    fetching: Fetching
    floor: Floor
    pauses: Pauses

    async def run(self) -> Exception | None:
        """Work until the input ends or the batch is stopped; return what the input raised.

        Raises:
            VeoError: The journal failed, or the folder is gone.
        """
        taken_up, again = await self.earlier.take_up()
        for entry in again:
            await self._order(entry)
        pull = _Pull(self.requests, self.defaults, self.floor)
        size = 1
        while not self.floor.is_stopped and not pull.is_over:
            await self._until_read()
            drafts = await pull.next(size)
            found = await self.journal.do(JournalFile.look_up, drafts)
            done = [await self._take(one, taken_up.get(one.key)) for one in found]
            # While all of it turns out to be done already, more of it is looked at in one go.
            size = min(2 * size, LOOK_AHEAD) if all(done) else 1
        return pull.failure

    async def _until_read(self) -> None:
        while len(self.floor.items) >= UNREAD_ITEMS and not self.floor.is_stopped:
            await self.floor.news()

    async def _take(self, found: Found, taken_up: Entry | None) -> bool:
        """Do what an input needs; return whether it needed no new task."""
        draft, job = found.draft, found.job
        if draft.request is None or found.is_repeated:
            await self._reject(found)
            return True
        entry = self._entry(found, draft.request)
        if taken_up is not None:
            if found.is_changed:
                taken_up.is_changed = True
                self._refuse_change(entry, draft.request)
            return True
        if job is None:
            await self._order(entry)
            return False
        if found.is_changed:
            return await self._take_changed(entry, draft.request)
        return await self._take_again(entry, found, job)

    async def _take_again(self, entry: Entry, found: Found, job: Job) -> bool:
        match job.state:
            case JobState.STORED:
                await self._take_stored(entry, found)
            case JobState.FAILED if self._may_fail_again(job):
                entry.job = await self.journal.do(JournalFile.again, job)
                await self._order(entry)
                return False
            case JobState.NEW:
                await self._order(entry)
                return False
            case JobState.REJECTED if is_mendable(entry.request, job.error_kind):
                entry.job = await self.journal.do(JournalFile.again, job)
                await self._order(entry)
                return False
            case JobState.REJECTED:
                self.floor.deliver(self.orders.refused(entry, retold(job)))
            case _:
                self._deliver(entry, Outcome.FAILED, entry.at_step(retold(job)))
        return True

    def _entry(self, found: Found, request: VideoRequest) -> Entry:
        draft = found.draft
        job = found.job or Job(
            key=found.key, position=draft.position, request_text=request_text(request)
        )
        # Its place is that of this input: rows may have moved since.
        return Entry(
            job=job,
            request=request,
            source=draft.source,
            index=draft.position,
        )

    def _deliver(self, entry: Entry, outcome: Outcome, error: VeoError | None = None) -> None:
        self.floor.deliver(self.orders.item(entry, outcome, error))

    async def _reject(self, found: Found) -> None:
        draft = found.draft
        error = draft.error or InvalidRequestError(
            f"key {found.key!r} occurs twice in this input; give every row a key of its own",
            field="key",
        )
        job = found.job or Job(key=found.key, position=draft.position, source=draft.source_text)
        if found.job is None and not found.is_repeated:
            job = await self.journal.do(JournalFile.rejected, job, told(error), now=wall())
        entry = Entry(job=job, request=draft.request, source=draft.source, index=draft.position)
        self._deliver(entry, Outcome.REJECTED, error)

    async def _take_changed(self, entry: Entry, request: VideoRequest) -> bool:
        job = entry.job
        if job.state in _CHANGEABLE and not is_past(job, request):
            entry.job = await self.journal.do(JournalFile.again, job, request_text(request))
            await self._order(entry)
            return False
        self._refuse_change(entry, request)
        return True

    def _refuse_change(self, entry: Entry, request: VideoRequest) -> None:
        self._deliver(entry, Outcome.REJECTED, not_to_be_changed(entry.job, request))

    async def _take_stored(self, entry: Entry, found: Found) -> None:
        if found.is_missing:
            entry.job = await self.journal.do(JournalFile.missing, entry.job)
            self.earlier.take_up_again(entry)
        elif found.damage is not None:
            path = self.orders.target(entry.job)
            text = f"{path} {found.damage} and run the batch again"
            self._deliver(entry, Outcome.FAILED, DownloadError(text))
        else:
            self.accounts.tally.saved += self.orders.prices.of_film(entry.wanted)
            self._deliver(entry, Outcome.SKIPPED)

    def _may_fail_again(self, job: Job) -> bool:
        may_succeed = codec.may_succeed(job.error_code, job.error or "")
        return may_succeed and self.orders.allows_another(job)

    # --- ordering

    async def _order(self, entry: Entry) -> None:
        """Start a job once it can be paid and brought home; return once it has its slot."""
        if not await self._has_images(entry):
            return
        await self._until_submits_get_through()
        await self._until_there_is_room()
        await self._until_there_is_disk()
        await self._until_payable(entry)  # the last one: nothing may be paid between it and this
        if self.floor.is_stopped:
            if entry.job.state is JobState.NEW:
                entry.job = await self.journal.do(JournalFile.unpaid, entry.job, now=wall())
            self.floor.deliver(self.orders.unpaid(entry, self.accounts.refusal(entry)))
            return
        self.accounts.pay(entry)
        self.floor.start(entry, self.production.make(entry))
        await entry.granted.wait()

    async def _has_images(self, entry: Entry) -> bool:
        """Return whether the local images of a job can be uploaded; refuse it otherwise."""
        try:
            await self.runtime.images.check(entry.step or entry.wanted)
        except InvalidRequestError as error:
            entry.job = await self.journal.do(
                JournalFile.rejected, entry.job, told(error), now=wall()
            )
            self.floor.deliver(self.orders.refused(entry, error))
            return False
        return True

    async def _until_submits_get_through(self) -> None:
        """Wait while those that were pulled before cannot be submitted."""
        while self.pauses.holds("submit") and not self.floor.is_stopped:
            await self.floor.news(_GATE_SECONDS)

    async def _until_payable(self, entry: Entry) -> None:
        """Wait while a task that fails may still give its credits back."""
        while not self.accounts.can_pay(entry) and not self.floor.is_stopped:
            if not self.floor.working:
                self.floor.stop()
                return
            await self.floor.news()

    async def _until_there_is_room(self) -> None:
        """Wait while what is ordered already could not be fetched before its links die."""

        def has_room() -> bool:
            now = asyncio.get_running_loop().time()
            ordered = self.floor.working + 1
            is_fine = self.fetching.backlog.has_room(ordered, self.orders.window, now)
            return is_fine or self.floor.is_stopped

        if has_room():
            return
        text = "the videos that are ready could not be fetched in time at the present rate"
        async with self.pauses.reason("backlog", text):
            while not has_room():
                await self.floor.news(_GATE_SECONDS)

    async def _until_there_is_disk(self) -> None:
        """Wait while the videos on their way would not fit."""
        if await self._fits():
            return
        text = f"the disk of {self.orders.folder} is full; free some space"
        async with self.pauses.reason("disk", text):
            while not await self._fits():
                await self.floor.news(DISK_SECONDS)

    async def _fits(self) -> bool:
        if self.floor.is_stopped:
            return True
        if self.fetching.blocked:
            return False
        loop = asyncio.get_running_loop()
        folder = self.orders.folder
        try:
            free = await uncut(loop.run_in_executor(self.runtime.executor, free_bytes, folder))
        except OSError as error:
            raise DownloadError(
                f"{folder} cannot be looked at ({error.strerror}); run the batch again once it can"
            ) from error
        each = max(DISK_RESERVE, 2 * self.accounts.tally.largest)
        return free >= each * (self.floor.working + 1)


class _Pull:
    """The input as drafts, one after the other, from an iterable or an async iterable."""

    def __init__(self, requests: BatchRequests, defaults: RequestFields, floor: Floor) -> None:
        self.is_over: bool = False
        self.failure: Exception | None = None
        self._defaults = defaults
        self._floor = floor
        self._position = 0
        self._sync: Iterator[object] | None = None
        self._async: AsyncIterator[object] | None = None
        if isinstance(requests, AsyncIterable):
            self._async = aiter(requests)
        else:
            self._sync = iter(requests)

    async def next(self, count: int) -> list[Draft]:
        """Return the next drafts, fewer where the input ends or the batch is stopped."""
        drafts: list[Draft] = []
        while len(drafts) < count and not self.is_over and not self._floor.is_stopped:
            try:
                source = await self._one()
            except Exception as error:  # noqa: BLE001  # told once what was pulled is finished
                self.failure = error
                source = None
            if source is None:
                self.is_over = True
                break
            self._position += 1
            drafts.append(_sendable(draft_of(source[0], self._position, self._defaults)))
        return drafts

    async def _one(self) -> tuple[object] | None:
        if self._sync is not None:
            for source in self._sync:
                return (source,)
        elif self._async is not None:
            # It may wait for ever, and must not keep a batch that is stopped from its end.
            return await self._floor.unless_stopped(_first(self._async))
        return None


def _sendable(draft: Draft) -> Draft:
    """Return a draft that is invalid where its request is one that cannot be sent."""
    try:
        if draft.request is not None:
            codec.check(draft.request)
    except InvalidRequestError as error:
        return attrs.evolve(draft, request=None, error=error)
    return draft


async def _first(source: AsyncIterator[object]) -> tuple[object] | None:
    async for one in source:
        return (one,)
    return None
