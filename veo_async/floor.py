"""The jobs of a batch that are under way, the items that wait to be read, and the news of both."""

import asyncio
from collections import deque
from collections.abc import Coroutine
from typing import TypeVar

from veo_async.entries import Entry, Orders
from veo_async.errors import VeoError
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

    def __init__(self, owned: OwnedTasks, orders: Orders) -> None:
        self.items: deque[BatchItem] = deque()
        self.counts: dict[Outcome, int] = dict.fromkeys(Outcome, 0)
        self.is_stopped: bool = False
        self.is_closing: bool = False
        self.is_fed: bool = False
        self.failure: BaseException | None = None
        self._owned = owned
        self._orders = orders
        self._working: dict[asyncio.Task[None], Entry] = {}
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
        return self._left + sum(entry.job.state in OPEN for entry in self._working.values())

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come."""
        return self.is_closing or (self.is_fed and not self._working)

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """The tasks in which they are worked on."""
        return [*self._working]

    def tasks_in(self, *states: JobState) -> list[asyncio.Task[None]]:
        """Return the tasks of the jobs that stand there."""
        return [task for task, entry in self._working.items() if entry.job.state in states]

    def start(self, entry: Entry, work: Coroutine[object, object, BatchItem]) -> None:
        """Work on a job; its item is delivered."""
        task = self._owned.spawn(self._worked(entry, work))
        self._working[task] = entry
        task.add_done_callback(self._ended)

    async def _worked(self, entry: Entry, work: Coroutine[object, object, BatchItem]) -> None:
        try:
            item = await work
        except asyncio.CancelledError:
            # What was stopped before the service took it was not paid, and is told of.
            if self.is_closing or not self.is_stopped or entry.job.state is not JobState.NEW:
                raise
            item = self._orders.item(entry, Outcome.UNPAID)
        self.deliver(item)

    def _ended(self, task: asyncio.Task[None]) -> None:
        entry = self._working.pop(task)
        entry.granted.set()
        self._left += entry.job.state in OPEN - {JobState.UNKNOWN}
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fail(error)
        self.tell()

    def deliver(self, item: BatchItem) -> None:
        """Hand over an item."""
        self.counts[item.outcome] += 1
        self.items.append(item)
        self.tell()

    def fail(self, error: BaseException) -> None:
        """End the batch for a reason that is not one item's."""
        if self.failure is None or not isinstance(self.failure, VeoError):
            self.failure = error
        self.stop()

    def stop(self) -> None:
        """Submit nothing more; take back what waits for its slot."""
        if self.is_stopped:
            return
        self.is_stopped = True
        for task, entry in self._working.items():
            if not entry.granted.is_set() and entry.job.state is JobState.NEW:
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
        return None if task.cancelled() else task.result()

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
