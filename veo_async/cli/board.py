"""The progress of a batch: what is done, the slots, the downloads, and how long it will take."""

from collections.abc import Mapping
from typing import Final

import attrs

from veo_async.cli.stage import BAR_CELLS, Stage
from veo_async.cli.wording import clock, lasted, megabytes, without_remedy
from veo_async.events import (
    DownloadFailed,
    DownloadProgress,
    DownloadStarted,
    Event,
    RetryScheduled,
    SubmitFailed,
    SubmitsPaused,
    SubmitsResumed,
    SubmitStarted,
    SubmitWithdrawn,
    TaskEnded,
    TaskSubmitted,
    TaskUpdated,
)
from veo_async.models import Model, TaskStatus
from veo_async.request import ExtendRequest
from veo_async.results import BatchItem, BatchReport, Outcome

__all__: list[str] = []

# Seconds from a submit to its video, until some were seen (live document 2.4: 61 to 89 s for fast
# ones, 2 to 5 min in general).
_USUAL: Final[Mapping[Model, float]] = {Model.QUALITY: 180.0}
_USUAL_ELSE: Final = 75.0
_PRIOR: Final = 3  # tasks that the usual time counts as much as
_SHOWN_DOWNLOADS: Final = 3
_NAME_CELLS: Final = 28
_MINUTE: Final = 60.0
_BAD: Final = (Outcome.FAILED, Outcome.UNCERTAIN, Outcome.REJECTED, Outcome.UNPAID)


@attrs.define(kw_only=True)
class Slot:
    """A task at the service.

    Attributes:
        prompt: What it makes.
        began: Since when, in seconds.
        lane: The line that shows it, from 0.
        task_id: Its id, once it has one.
    """

    prompt: str
    began: float
    lane: int
    task_id: str | None = None


@attrs.define(kw_only=True)
class Transfer:
    """A download under way.

    Attributes:
        name: Of the file.
        received: Bytes so far.
        total: Bytes in all.
    """

    name: str
    received: int = 0
    total: int | None = None


@attrs.define(kw_only=True)
class Board(Stage):
    """What is going on in a batch.

    Attributes:
        items: How many there are.
        tasks_each: How many paid tasks one of them takes on average; a film takes several.
        slots: How many tasks may run at once.
        speed: How many times faster than life the service runs.
        model: What most of it is made with.
        report: The batch in figures.
        tasks: The tasks that run, by the token of their submit.
        transfers: The downloads, by task id.
    """

    items: int
    tasks_each: float = 1.0
    slots: int
    speed: float = 1.0
    model: Model = Model.FAST
    report: BatchReport = attrs.field(factory=BatchReport)
    tasks: dict[str, Slot] = attrs.field(factory=dict[str, Slot])
    transfers: dict[str, Transfer] = attrs.field(factory=dict[str, Transfer])
    _finished: int = 0
    _task_seconds: float = 0.0
    _began_work: float | None = None

    def take(self, event: Event, now: float) -> None:
        """Take an event of the client."""
        match event:
            case SubmitStarted():
                self._began_work = now if self._began_work is None else self._began_work
                is_more = isinstance(event.request, ExtendRequest)
                prompt = f"then: {event.request.prompt}" if is_more else event.request.prompt
                self.tasks[event.key] = Slot(prompt=prompt, began=now, lane=self._free_lane())
            case TaskSubmitted():
                slot = self.tasks.get(event.key)
                if slot is not None:
                    slot.task_id, slot.began = event.task_id, now
            case SubmitFailed() | SubmitWithdrawn() | TaskEnded():
                self.tasks.pop(event.key, None)
            case DownloadFailed():
                self.transfers.pop(event.task_id, None)
            case TaskUpdated():
                self._updated(event, now)
            case DownloadStarted():
                self.transfers[event.task_id] = Transfer(name=event.path.name)
            case DownloadProgress():
                transfer = self.transfers.get(event.task_id)
                if transfer is not None:
                    transfer.received, transfer.total = event.received, event.total
            case _:
                self._trouble(event)

    def _trouble(self, event: Event) -> None:
        match event:
            case SubmitsPaused():
                self.note: str = f"paused: {without_remedy(event.reason)}"
            case SubmitsResumed():
                self.note = ""
            case RetryScheduled() if event.call == "generate":
                self.note = f"{without_remedy(event.error)}; trying again in {lasted(event.delay)}"
            case _:
                pass

    def _updated(self, event: TaskUpdated, now: float) -> None:
        self.note = "" if not self.note.startswith("paused") else self.note
        record = event.record
        key = next((key for key, one in self.tasks.items() if one.task_id == record.task_id), None)
        if record.status is TaskStatus.GENERATING:
            if key is None:  # of an earlier run
                self.tasks[record.task_id] = Slot(
                    prompt="", began=now, lane=self._free_lane(), task_id=record.task_id
                )
        elif key is not None:
            slot = self.tasks.pop(key)
            if slot.prompt:
                self._finished += 1
                self._task_seconds += now - slot.began

    def delivered(self, item: BatchItem, report: BatchReport) -> None:
        """Take an item that is finished."""
        self.report = report
        if item.task_id is not None:
            self.transfers.pop(item.task_id, None)
            # It may have been given up, which no poll has told.
            over = [key for key, one in self.tasks.items() if one.task_id == item.task_id]
            for key in over:
                del self.tasks[key]

    # --- how it reads

    @property
    def done(self) -> int:
        """How many items are finished."""
        return self.report.total

    def bar(self) -> tuple[int, int] | None:
        """Return the full and the empty cells of a bar."""
        full = BAR_CELLS * min(self.done, self.items) // max(self.items, 1)
        return full, BAR_CELLS - full

    def parts(self, now: float) -> list[str]:
        """Return the pieces of the first live line after the title, the most telling first."""
        found = [f"{self.done}/{self.items}", f"{self.report.credits_spent} credits"]
        left = self.seconds_left(now)
        if left is not None:
            found.append(f"{clock(left)} left")
        rate = self._per_minute(now)
        if rate is not None:
            found.append(f"{rate}/min")
        return [*found, *self._troubles(), clock(now - self.began)]

    def below(self, now: float, rows: int) -> list[str]:
        """Return the slots and the downloads, at most so many lines."""
        slots = {slot.lane: slot for slot in self.tasks.values()}
        lanes = max(self.slots, *(lane + 1 for lane in slots), 1)
        lines = [_slot(lane + 1, slots.get(lane), now) for lane in range(lanes)]
        transfers = self._transfers()
        if transfers:
            lines.append(transfers)
        if len(lines) > rows:
            running = f"{len(self.tasks)} of {self.slots} slots in use"
            lines = [running, *([transfers] if transfers else [])][:rows]
        return lines

    def still(self, now: float) -> str:
        """Return the line that says that it goes on."""
        left = self.seconds_left(now)
        told = [
            f"{self.done} of {self.items} done",
            *self._troubles(),
            f"{len(self.tasks)} running",
            *([f"{len(self.transfers)} downloading"] if self.transfers else []),
            f"{self.report.credits_spent} credits",
            *([f"about {lasted(left)} left"] if left is not None else []),
            *([self.note] if self.note else []),
        ]
        return ", ".join(told)

    def seconds_left(self, now: float) -> float | None:
        """Return the expected seconds to the end, by what tasks have taken so far."""
        waiting = (self.items - self.done) * self.tasks_each - len(self.tasks)
        if self._began_work is None or (waiting <= 0 and not self.tasks):
            return None
        usual = _USUAL.get(self.model, _USUAL_ELSE) / self.speed
        mean = (self._task_seconds + _PRIOR * usual) / (self._finished + _PRIOR)
        under_way = sum(max(mean - (now - slot.began), 0.0) for slot in self.tasks.values())
        # The steps of a film follow each other, so that the last films leave slots unused.
        useful = min(self.slots, max(self.items - self.done, 1))
        return max(
            (max(waiting, 0) * mean + under_way) / useful,
            max((mean - (now - slot.began) for slot in self.tasks.values()), default=0.0),
            0.0,
        )

    def _per_minute(self, now: float) -> str | None:
        if self._began_work is None or not self._finished or now <= self._began_work:
            return None
        rate = self._finished * _MINUTE / (now - self._began_work)
        return f"{rate:.0f}" if rate >= 10 else f"{rate:.1f}"  # noqa: PLR2004  # as in `lasted`

    def _troubles(self) -> list[str]:
        counts = self.report.counts
        return [f"{counts[outcome]} {outcome}" for outcome in _BAD if counts[outcome]]

    def _free_lane(self) -> int:
        taken = {slot.lane for slot in self.tasks.values()}
        return next(lane for lane in range(len(taken) + 1) if lane not in taken)

    def _transfers(self) -> str:
        shown = [*self.transfers.values()][:_SHOWN_DOWNLOADS]
        told = [_transfer(one) for one in shown]
        more = len(self.transfers) - len(shown)
        return "↓   " + ", ".join([*told, *([f"{more} more"] if more else [])]) if told else ""


def _slot(number: int, slot: Slot | None, now: float) -> str:
    if slot is None:
        return f"{number:>2}           -"
    what = slot.prompt or f"task {slot.task_id} of an earlier run"
    state = "submitting" if slot.task_id is None else clock(now - slot.began)
    return f"{number:>2}  {state:>10}  {what}"


def _transfer(one: Transfer) -> str:
    is_short = len(one.name) <= _NAME_CELLS
    name = one.name if is_short else f"{one.name[: _NAME_CELLS - 1]}…"
    if one.total:
        return f"{name} {100 * one.received // one.total}%"
    return f"{name} {megabytes(one.received)}" if one.received else name
