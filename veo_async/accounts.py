"""The money of a batch: what may be spent, what is, and what came back."""

import attrs

from veo_async.entries import Entry
from veo_async.errors import BudgetExceededError
from veo_async.prices import DEARER, Budget, Prices
from veo_async.protocol.jobs import OPEN, JobState

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

    def can_pay(self, entry: Entry) -> bool:
        """Return whether both budgets allow what a job needs."""
        return self.refusal(entry) is None

    def refusal(self, entry: Entry) -> BudgetExceededError | None:
        """Return why a budget does not allow what a job needs, if one does not.

        For a film that is all that is left of it: one that cannot be paid to its end is not begun.
        """
        ours, clients = self._needed(entry)
        return self.ours.refusal(ours) or self.clients.refusal(clients)

    def _needed(self, entry: Entry) -> tuple[int, int]:
        """Return what is not committed of what a job needs, by each price list."""
        ours, clients = self._ahead(entry, entry.left - entry.ahead)
        if entry.is_committed:
            return ours, clients
        request, done = entry.wanted, len(entry.job.steps)
        return (
            ours + self.prices.of_step(request, done),
            clients + DEARER.of_step(request, done),
        )

    def _ahead(self, entry: Entry, count: int) -> tuple[int, int]:
        """Return what so many extensions cost, by each price list."""
        if not count:
            return 0, 0
        model = entry.wanted.model
        return count * self.prices.extension(model), count * DEARER.extension(model)

    def pay(self, entry: Entry) -> None:
        """Commit what a job needs, which `refusal` allowed in the same turn of the loop."""
        ours, clients = self._needed(entry)
        self.ours.commit(ours)
        self.clients.commit(clients)
        self._spend(entry, ours)
        entry.ahead = entry.left
        self._is_at_hand(entry)

    def pay_ahead(self, entry: Entry) -> None:
        """Commit the extensions of a film whose task an earlier run paid, if the budgets allow."""
        ours, clients = self._ahead(entry, entry.left - entry.ahead)
        if self.ours.refusal(ours) is None and self.clients.refusal(clients) is None:
            self.ours.commit(ours)
            self.clients.commit(clients)
            self._spend(entry, ours)
            entry.ahead = entry.left

    def go_on(self, entry: Entry) -> None:
        """Take what was committed ahead for the next step, now that the one before is done."""
        if entry.ahead:
            entry.ahead -= 1
            self._is_at_hand(entry)

    def _is_at_hand(self, entry: Entry) -> None:
        entry.is_committed = True
        entry.price = self.prices.of_step(entry.wanted, len(entry.job.steps))

    def forgo(self, entry: Entry) -> None:
        """Take back what was committed for extensions that are not to be made."""
        ours, clients = self._ahead(entry, entry.ahead)
        self.ours.release(ours)
        self.clients.release(clients)
        self._spend(entry, -ours)
        entry.ahead = 0

    def take_back(self, entry: Entry) -> None:
        """Take back the price of a task that does not exist, and of what was to follow it.

        Harmless where none is committed.
        """
        self.forgo(entry)
        if entry.is_committed and entry.request is not None:
            entry.is_committed = False
            self.ours.release(entry.price)
            self.clients.release(DEARER.of_step(entry.request, len(entry.job.steps)))
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
                listed = DEARER.of_step(entry.request, len(entry.job.steps))
                self.clients.release(listed - credits_)

    def _spend(self, entry: Entry, credits_: int) -> None:
        entry.spent += credits_
        self.tally.spent += credits_
