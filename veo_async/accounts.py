"""The money of a batch: what may be spent, what is, and what came back."""

import attrs

from veo_async.entries import Entry
from veo_async.errors import BudgetExceededError
from veo_async.prices import DEARER, Budget, Prices
from veo_async.protocol.jobs import OPEN, JobState
from veo_async.request import VideoRequest

__all__: list[str] = []


@attrs.define
class Tally:
    """What a run has done so far, in figures.

    Attributes:
        spent: Credits committed by this run.
        uncertain: The part that lost answers may have cost.
        failed: What failed tasks cost.
        saved: What the skipped items would have cost.
        slot_seconds: Time in which a task of this run occupied a slot.
        first: Loop time of the first task.
        last: Loop time at which the last one ended.
        running: Tasks under way.
        bytes: Size of the files that were brought home.
        largest: The largest of them.
    """

    spent: int = 0
    uncertain: int = 0
    failed: int = 0
    saved: int = 0
    slot_seconds: float = 0.0
    first: float | None = None
    last: float = 0.0
    running: int = 0
    bytes: int = 0
    largest: int = 0

    def began(self, now: float) -> None:
        """A task occupies a slot."""
        self.first = now if self.first is None else self.first
        self.running += 1

    def brought(self, size: int) -> None:
        """A file was brought home."""
        self.bytes += size
        self.largest = max(self.largest, size)

    def ended(self, began: float, now: float) -> None:
        """A task was seen to end, or is no longer looked at."""
        self.running -= 1
        self.slot_seconds += now - began
        self.last = max(self.last, now)


@attrs.frozen(kw_only=True)
class Accounts:
    """Two budgets, one of the batch and one of its client, and the tally of this run.

    Attributes:
        prices: What the batch goes by.
        ours: The batch's budget. It counts what all runs of its journal spent.
        clients: The client's budget, by the dearer price list.
        tally: This run in figures.
    """

    prices: Prices
    ours: Budget
    clients: Budget
    tally: Tally = attrs.field(factory=Tally)

    def can_pay(self, request: VideoRequest) -> bool:
        """Return whether both budgets allow a task."""
        return self.refusal(request) is None

    def refusal(self, request: VideoRequest) -> BudgetExceededError | None:
        """Return why a budget does not allow a task, if one does not."""
        ours = self.ours.refusal(self.prices.of(request))
        return ours or self.clients.refusal(DEARER.of(request))

    def pay(self, entry: Entry, request: VideoRequest) -> None:
        """Commit a task's price, which `refusal` allowed in the same turn of the loop."""
        self.ours.commit(entry.price)
        self.clients.commit(DEARER.of(request))
        entry.is_committed = True
        self._spend(entry, entry.price)

    def take_back(self, entry: Entry) -> None:
        """Take back the price of a task that does not exist. Harmless where none is committed."""
        if entry.is_committed and entry.request is not None:
            entry.is_committed = False
            self.ours.release(entry.price)
            self.clients.release(DEARER.of(entry.request))
            self._spend(entry, -entry.price)

    def lost(self, entry: Entry) -> None:
        """Take note that it is not known whether a task was paid. It is noted once."""
        if entry.is_committed:
            entry.is_committed = False
            self.tally.uncertain += entry.price

    def settle(self, entry: Entry) -> None:
        """Take note of what is known of a job that was cut off, by what its journal says."""
        if entry.job.state in {JobState.INTENT, JobState.UNKNOWN}:
            self.lost(entry)
        elif entry.job.state not in OPEN | {JobState.STORED}:
            self.take_back(entry)

    def charged(self, entry: Entry, credits_: int, *, is_failure: bool) -> None:
        """Take note of what a task really cost, before its journal does."""
        attempt = entry.job.attempt
        committed = 0 if attempt is None else attempt.charged
        self.ours.release(committed - credits_)
        if is_failure:
            self.tally.failed += credits_
        if entry.is_committed:  # and not work of an earlier run
            entry.is_committed = False
            self._spend(entry, credits_ - committed)
            if is_failure and entry.request is not None:
                self.clients.release(DEARER.of(entry.request) - credits_)

    def _spend(self, entry: Entry, credits_: int) -> None:
        entry.spent += credits_
        self.tally.spent += credits_
