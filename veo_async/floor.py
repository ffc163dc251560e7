"""The jobs of a batch that are under way, the items that wait to be read, and the news of both."""

import asyncio
from collections import deque
from collections.abc import Coroutine
from typing import TypeVar

from veo_async.accounts import Accounts
from veo_async.entries import Entry, Orders
from veo_async.errors import ClientClosedError, InvalidRequestError, VeoError
from veo_async.ownership import OwnedTasks
from veo_async.protocol.jobs import OPEN, JobState
from veo_async.results import BatchItem, Outcome

__all__: list[str] = []

_T = TypeVar("_T")


class Floor:
    """Where the jobs of one batch are worked on, each in a task that the client owns.

    Attributes:
        items: What is finished and not read yet.
        counts: How many items had which outcome.
        is_stopped: Whether nothing more may be submitted.
        is_closing: Whether the batch is being left.
        is_fed: Whether nothing more will be started.
        failure: Why the whole batch ends, if it does.
    """

    def __init__(self, owned: OwnedTasks, orders: Orders, accounts: Accounts) -> None:
        self.items: deque[BatchItem] = deque()
        self.counts: dict[Outcome, int] = dict.fromkeys(Outcome, 0)
        self.is_stopped: bool = False
        self.is_closing: bool = False
        self.is_fed: bool = False
        self.failure: BaseException | None = None
        self._owned = owned
        self._orders = orders
        self._accounts = accounts
        self._working: dict[asyncio.Task[BatchItem], Entry] = {}
        self._cut_off: list[Entry] = []
        self._left = 0
        self._stoppable: set[asyncio.Task[object]] = set()
        self._changed = asyncio.Event()

    @property
    def working(self) -> int:
        """How many jobs are under way."""
        return len(self._working)

    @property
    def running(self) -> int:
        """How many tasks are paid and not at home; a later run takes up those that stay so."""
        under_way = sum(entry.job.state in OPEN for entry in self._working.values())
        return self._left + under_way + sum(_is_left(entry) for entry in self._cut_off)

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come."""
        return self.is_closing or (self.is_fed and not self._working)

    @property
    def tasks(self) -> list[asyncio.Task[BatchItem]]:
        """The tasks in which they are worked on."""
        return [*self._working]

    def tasks_in(self, *states: JobState) -> list[asyncio.Task[BatchItem]]:
        """Return the tasks of the jobs that stand there."""
        return [task for task, entry in self._working.items() if entry.job.state in states]

    def start(self, entry: Entry, work: Coroutine[object, object, BatchItem]) -> None:
        """Work on a job; its item is delivered."""
        task = self._owned.spawn(work)
        self._working[task] = entry
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[BatchItem]) -> None:
        entry = self._working.pop(task)
        entry.granted.set()
        error = None if task.cancelled() else task.exception()
        if not task.cancelled() and error is None:
            self._left += _is_left(entry)
            self.deliver(task.result())
        else:
            self._cut(entry, error)
        self.tell()

    def _cut(self, entry: Entry, error: BaseException | None) -> None:
        is_new = entry.job.state is JobState.NEW
        if is_new:
            self._accounts.take_back(entry)
        else:
            self._cut_off.append(entry)
        if error is not None:
            self.fail(error)
        elif is_new and self.is_stopped and not self.is_closing:
            self.deliver(self._orders.unpaid(entry))
        elif not self.is_closing:
            self.fail(closed_under_way())

    def settle(self) -> None:
        """Count what is known by now of the jobs that were cut off."""
        for entry in self._cut_off:
            self._accounts.settle(entry)

    def deliver(self, item: BatchItem) -> None:
        """Hand over an item."""
        self.counts[item.outcome] += 1
        self.items.append(item)
        self.tell()

    def fail(self, error: BaseException) -> None:
        """End the batch for a reason that is not one item's."""
        if isinstance(error, ClientClosedError):
            error = closed_under_way()  # whichever part of the client met it first
        if self.failure is None or not isinstance(self.failure, VeoError):
            self.failure = error
        self.stop()
        for task in self.tasks_in(JobState.UNKNOWN):
            task.cancel()  # it waits for a callback, which the caller must not wait for now

    def end(self, error: BaseException) -> None:
        """Note why there is no more input. What was pulled before goes on."""
        self.failure = error if self.failure is None else self.failure

    def stop(self) -> None:
        """Submit nothing more; take back what the service has not taken."""
        if self.is_stopped:
            return
        self.is_stopped = True
        this = asyncio.current_task()  # knows by itself what it has to say
        for task, entry in self._working.items():
            if entry.job.state is JobState.NEW and task is not this:
                task.cancel()
        for pull in self._stoppable:
            pull.cancel()
        self.tell()

    async def unless_stopped(self, work: Coroutine[object, object, _T]) -> _T | None:
        """Return what `work` returns, or None where the batch is stopped first."""
        task = self._owned.spawn(work)
        self._stoppable.add(task)
        try:
            await asyncio.wait({task})
        finally:
            self._stoppable.discard(task)
            task.cancel()
        if not task.cancelled():
            return task.result()
        if self.is_stopped:
            return None
        raise InvalidRequestError(
            "the input was cancelled while it was read; see what cancels it, and run the batch"
            " again",
            field="requests",
        )

    def tell(self) -> None:
        """Let everyone who waits for news look again."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def news(self, seconds: float | None = None) -> None:
        """Wait until something has changed, or so many seconds."""
        changed = self._changed
        try:
            async with asyncio.timeout(seconds):
                await changed.wait()
        except TimeoutError:
            return


def closed_under_way() -> ClientClosedError:
    """Return the error of a batch whose client was closed, which says how to go on."""
    return ClientClosedError(
        "the client was closed while a batch was under way; run the batch again, which goes on"
        " where it was"
    )


def _is_left(entry: Entry) -> bool:
    return entry.job.state in OPEN - {JobState.UNKNOWN}
