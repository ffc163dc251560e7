"""Many videos from one input: pulled lazily, paid once, and brought home whatever happens.

The journal in the folder makes it so: run the same batch again, after a crash or a Ctrl-C, and it
goes on where it was.
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import attrs

from veo_async.accounts import Accounts
from veo_async.database import JOURNAL_NAME
from veo_async.earlier import Earlier
from veo_async.entries import Orders
from veo_async.errors import ClientClosedError, DownloadError, InvalidRequestError, JournalError
from veo_async.feed import BatchRequests, Feed
from veo_async.fetching import Fetching
from veo_async.files import prepare_folder, settle_folder
from veo_async.floor import Floor, closed_under_way
from veo_async.journal import Journal
from veo_async.journal_file import JournalFile
from veo_async.outputs import naming
from veo_async.ownership import finished, uncut
from veo_async.pauses import Pauses
from veo_async.prices import Budget, Prices
from veo_async.production import Production
from veo_async.protocol.jobs import JobState
from veo_async.request import RequestFields, VideoRequest
from veo_async.results import BatchItem, BatchReport
from veo_async.runtime import Runtime

__all__ = ["Batch"]


@attrs.frozen(eq=False, kw_only=True)
class Plan:
    """What a batch is told.

    Attributes:
        requests: The input.
        defaults: Fields of a request for inputs that do not have them.
        orders: How it is to be made.
        journal: The journal's file.
        budget: What all runs together may spend.
    """

    requests: BatchRequests
    defaults: RequestFields
    orders: Orders
    journal: Path
    budget: Budget

    def __attrs_post_init__(self) -> None:
        _check_iterable(self.requests)


def _check_iterable(requests: object) -> None:
    # A string is an iterable too, of its characters, and each would be a paid video.
    is_one = isinstance(requests, str | bytes | Mapping | VideoRequest)
    if is_one or not isinstance(requests, Iterable | AsyncIterable):
        raise InvalidRequestError(
            "requests is no iterable of requests; give a list, a generator or an async one",
            field="requests",
        )


def plan_of(
    requests: BatchRequests,
    defaults: RequestFields,
    *,
    directory: Path,
    journal: Path | None,
    budget: Budget,
    name: str | None,
    prices: Prices,
    retries: int,
    resubmits_uncertain: bool,
    window: float,
    callback_url: str | None,
) -> Plan:
    """Return what a batch is told; `VeoClient.batch` describes each of it.

    Raises:
        ConfigurationError: A setting is impossible.
        InvalidRequestError: `requests` is no iterable of requests.
    """
    orders = Orders(
        folder=directory,
        naming=naming(name),
        prices=prices,
        retries=retries,
        resubmits_uncertain=resubmits_uncertain,
        window=window,
        callback_url=callback_url,
    )
    return Plan(
        requests=requests,
        defaults=defaults,
        orders=orders,
        journal=directory / JOURNAL_NAME if journal is None else journal,
        budget=budget,
    )


class Batch:
    """The videos of one input, in the order in which they are finished.

    Use it with `async with`, and iterate over it with `async for`. It begins when it is entered.
    Leaving it early stops it: what is being submitted is waited for, since its answer is the only
    name of what was paid; tasks go on at the service, and the next run takes them up.
    """

    def __init__(self, plan: Plan, start: Callable[[], Runtime]) -> None:
        self._plan = plan
        self._start = start
        self._run: _Run | None = None

    async def __aenter__(self) -> Self:
        """Open the journal and begin.

        Raises:
            JournalError: Another run of this folder is live, or its journal cannot be used.
            DownloadError: No file can be written in the folder.
            ClientClosedError: The client was closed.
            WrongLoopError: This is another event loop or process than the client's.
        """
        if self._run is not None:
            raise ClientClosedError("this batch was entered before; make a new one of the client")
        self._run = await _Run.begin(self._plan, self._start())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()
        if error is None and self._run is not None:
            self._run.raise_unseen()

    def __aiter__(self) -> AsyncIterator[BatchItem]:
        """Iterate over the items, each one once."""
        return self

    async def __anext__(self) -> BatchItem:
        """Return the next item that is finished.

        Raises:
            StopAsyncIteration: All are.
            AuthenticationError: The key is refused. The journal is intact.
            JournalError: The journal failed. Nothing is submitted without it.
            TransportError: The service could not be reached from the start.
            Exception: What the input raised, once all that was pulled before is finished.
        """
        return await self._running().next()

    async def wait(self) -> BatchReport:
        """Run to the end without looking at the items, and return the report.

        Raises:
            VeoError: What iterating raises.
        """
        async for _ in self:
            pass
        return self.report

    def stop(self) -> None:
        """Pull and submit nothing more. What is paid is still brought home."""
        self._running().stop()

    async def aclose(self) -> None:
        """Stop, and let go of the journal. May be called more than once."""
        if self._run is not None:
            await self._run.close()

    @property
    def report(self) -> BatchReport:
        """The batch in figures, so far."""
        return BatchReport() if self._run is None else self._run.report()

    def _running(self) -> "_Run":
        if self._run is None:
            raise ClientClosedError("this batch has not begun; enter it with `async with`")
        return self._run


def _unwritten(sending: Iterable["asyncio.Task[object]"]) -> JournalError | None:
    for task in sending:
        error = task.exception() if task.done() and not task.cancelled() else None
        if isinstance(error, JournalError):
            return error
    return None


def prepare(folder: Path) -> None:
    """Make a folder, and see to it that files can be written there.

    Raises:
        DownloadError: They cannot.
    """
    prepare_folder(folder)
    try:
        settle_folder(folder)
    except OSError as error:
        raise DownloadError(
            f"the disk of {folder} failed ({error.strerror}); choose another folder"
        ) from error


class _Run:
    """A batch under way."""

    def __init__(self, plan: Plan, runtime: Runtime, journal: Journal, accounts: Accounts) -> None:
        self._runtime = runtime
        self._journal = journal
        self._accounts = accounts
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._ended: float | None = None
        self._is_seen = False
        self._closing: asyncio.Task[None] | None = None
        orders = plan.orders
        self.floor: Floor = Floor(runtime.owned, orders, accounts)
        pauses = journal.pauses = Pauses(runtime.settings.emitter, self.floor.tell)
        fetching = Fetching(runtime, journal, orders, tally=accounts.tally, pauses=pauses)
        self._production = Production(
            runtime,
            journal,
            orders,
            accounts=accounts,
            fetching=fetching,
            pauses=pauses,
            stop=self.floor,
        )
        earlier = Earlier(
            runtime,
            journal,
            orders,
            production=self._production,
            fetching=fetching,
            floor=self.floor,
        )
        feed = Feed(
            requests=plan.requests,
            defaults=plan.defaults,
            runtime=runtime,
            journal=journal,
            orders=orders,
            accounts=accounts,
            production=self._production,
            earlier=earlier,
            fetching=fetching,
            floor=self.floor,
            pauses=pauses,
        )
        self._feeder = runtime.owned.spawn(self._fed(feed))

    @classmethod
    async def begin(cls, plan: Plan, runtime: Runtime) -> "_Run":
        """Open the journal and begin."""
        loop = asyncio.get_running_loop()
        folder = plan.orders.folder
        await uncut(loop.run_in_executor(runtime.executor, prepare, folder))
        journal = await Journal.open(plan.journal, folder, mark=runtime.mark)
        try:
            charges = await journal.do(JournalFile.charges)
            runtime.home.check()
            ours = Budget(plan.budget.most, charges.total)
            accounts = Accounts(
                prices=plan.orders.prices, ours=ours, clients=runtime.settings.budget
            )
            return cls(plan, runtime, journal, accounts)
        except BaseException:
            await journal.aclose()
            raise

    async def _fed(self, feed: Feed) -> None:
        try:
            error = await feed.run()
            if error is not None:
                self.floor.end(error)
        except asyncio.CancelledError:
            self.floor.fail(closed_under_way())
            raise
        except Exception as error:  # noqa: BLE001  # told to whoever iterates
            self.floor.fail(error)
        finally:
            self.floor.is_fed = True
            self.floor.tell()

    async def next(self) -> BatchItem:
        """Return the next item."""
        floor = self.floor
        while not floor.items:
            if floor.is_over:
                self._end()
                self._is_seen = True
                if floor.failure is not None:
                    raise floor.failure
                raise StopAsyncIteration
            await floor.news()
        item = floor.items.popleft()
        floor.tell()
        return item

    def _end(self) -> None:
        if self._ended is None:
            self._ended = self._loop.time()

    def stop(self) -> None:
        """Submit nothing more."""
        self.floor.stop()

    def raise_unseen(self) -> None:
        """Raise why the batch ended, unless its iterator did."""
        if self.floor.failure is not None and not self._is_seen:
            raise self.floor.failure

    async def close(self) -> None:
        """Stop, wait for what must not be cut off, and let go of the journal."""
        if self._closing is None:
            self._closing = self._loop.create_task(self._close())
        await finished(self._closing)

    async def _close(self) -> None:
        """Answers to submits, and downloads, get `Timeouts.close` seconds."""
        self.floor.is_closing = True
        failure = self.floor.failure
        self.stop()
        self._feeder.cancel()
        downloading = self.floor.tasks_in(JobState.DOWNLOADING)
        for task in self.floor.tasks:
            if task not in downloading:
                task.cancel()
        sending = [*self._production.sending]
        left: set[asyncio.Task[Any]] = {*self.floor.tasks, *sending, self._feeder}
        await asyncio.wait(left, timeout=self._runtime.settings.timeouts.close)
        self._journal.may_wait = False  # what is not written by now is found as an intent
        while rest := [*self.floor.tasks, *self._production.sending]:
            for each in rest:
                each.cancel()
            await asyncio.wait(rest)
            await asyncio.sleep(0)  # done callbacks run one turn later
        self.floor.settle()
        # Not that all of it was cancelled here, but that a paid id could not be written down.
        self.floor.failure = failure or _unwritten(sending)
        self._end()
        await self._journal.aclose()

    def report(self) -> BatchReport:
        """Return the figures of this moment."""
        tally = self._accounts.tally
        ended = self._loop.time() if self._ended is None else self._ended
        counts = {outcome.value: count for outcome, count in self.floor.counts.items()}
        return BatchReport(
            **counts,
            running=self.floor.running,
            credits_spent=tally.spent,
            credits_uncertain=tally.uncertain,
            credits_failed=tally.failed,
            credits_saved=tally.saved,
            credits_total=self._accounts.ours.committed,
            seconds=ended - self._began,
            slot_use=self._slot_use(ended),
            bytes=tally.bytes,
        )

    def _slot_use(self, now: float) -> float | None:
        tally = self._accounts.tally
        if tally.first is None:
            return None
        last = now if tally.running else tally.last
        total = self._runtime.settings.limiter.statistics().total
        slots = total * (last - tally.first)
        # Tasks of an earlier run may hold more than there are.
        return min(tally.slot_seconds / slots, 1.0) if slots else None
