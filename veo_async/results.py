"""What comes out of a batch, an item for each input and a report of the whole, and of a job."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TypeAlias

import attrs

from veo_async.errors import InvalidRequestError, VeoError
from veo_async.models import Download, Video
from veo_async.request import VideoRequest

__all__ = ["BatchInput", "BatchItem", "BatchReport", "JobResult", "Outcome"]

BatchInput: TypeAlias = VideoRequest | str | Mapping[str, object] | InvalidRequestError


class Outcome(StrEnum):
    """What became of an item."""

    DOWNLOADED = "downloaded"
    SKIPPED = "skipped"  # the file of an earlier run is there
    FAILED = "failed"  # no video, no whole film, or not brought home; the error says which
    UNCERTAIN = "uncertain"  # the answer to the submit was lost: it may be paid, it is never resent
    REJECTED = "rejected"  # the request breaks a rule; nothing was paid
    UNPAID = "unpaid"  # the budget or the credits ended first; a later run takes it up


@attrs.frozen(kw_only=True)
class BatchItem:
    """One input of a batch and what became of it.

    Attributes:
        key: What names the item in the journal; equal in every run.
        index: Its place in the input, from 1.
        source: The input as it was given; the request, for work of an earlier run.
        request: What was asked for; None where the input was invalid.
        outcome: What became of it.
        task_id: The service's id of its last task, if there was one; for a film that is done or
            not, what it has come to.
        path: The file, where there is one.
        error: Why there is none.
        download: How the file came, where this run fetched it.
        credits: What this run committed for it, by the price list; 0 for what failed or was there.
            What a film has come to is paid, whatever happens to its next step.
        attempts: Paid tasks that it took, in all runs; a film takes one a step.
    """

    key: str
    index: int
    source: BatchInput | object = None
    request: VideoRequest | None = None
    outcome: Outcome
    task_id: str | None = None
    path: Path | None = None
    error: VeoError | None = None
    download: Download | None = None
    credits: int = 0
    attempts: int = 0


@attrs.frozen(kw_only=True)
class BatchReport:
    """A batch in figures, so far. Its text is a summary for people.

    Attributes:
        downloaded: Items whose file this run brought home.
        skipped: Items whose file was there.
        failed: Items without a video, or whose video is not at home yet.
        uncertain: Items that may be paid and have no id.
        rejected: Items that break a rule.
        unpaid: Items that the budget or the credits did not reach.
        running: Tasks that are paid and whose video is not at home; a later run takes up those
            that stay so.
        credits_spent: What this run committed, by the price list. Failed tasks are free (live
            document 2.12), unless the service says otherwise.
        credits_uncertain: The part of it that lost answers may have cost.
        credits_failed: What failed tasks cost.
        credits_saved: What the skipped items would have cost again.
        credits_total: What all runs of this journal committed.
        seconds: From the start to the end, or until now.
        slot_use: The part of the slots' time in which they had a task, from the first submit to the
            last end; None before there was one.
        bytes: Size of the files that were brought home.
    """

    downloaded: int = 0
    skipped: int = 0
    failed: int = 0
    uncertain: int = 0
    rejected: int = 0
    unpaid: int = 0
    running: int = 0
    credits_spent: int = 0
    credits_uncertain: int = 0
    credits_failed: int = 0
    credits_saved: int = 0
    credits_total: int = 0
    seconds: float = 0.0
    slot_use: float | None = None
    bytes: int = 0

    @property
    def counts(self) -> Mapping[Outcome, int]:
        """How many items had which outcome."""
        return {outcome: getattr(self, outcome.value) for outcome in Outcome}

    @property
    def total(self) -> int:
        """How many items came out."""
        return sum(self.counts.values())

    def __str__(self) -> str:
        told = [f"{count} {outcome}" for outcome, count in self.counts.items() if count]
        if self.running:
            told.append(f"{self.running} not at home yet")
        money = [f"{self.credits_spent} credits spent"]
        if self.credits_uncertain:
            money.append(f"{self.credits_uncertain} of them uncertain")
        if self.credits_failed:
            money.append(f"{self.credits_failed} for failures")
        if self.credits_saved:
            money.append(f"{self.credits_saved} saved")
        use = "" if self.slot_use is None else f", slots {self.slot_use:.1%} in use"
        items = ", ".join(told) or "nothing"
        return f"{items}; {', '.join(money)}; {self.seconds:.1f} s{use}"


@attrs.frozen(kw_only=True)
class JobResult:
    """What a job of a queue has come to.

    Attributes:
        key: What names it.
        request: What was asked for; None where a version with other rules wrote it down.
        task_id: The service's id of its task, for a film of the last one.
        video: The finished video. Its link may have died since; downloads ask for a new one.
        path: The file, where it was wanted; None where the video is at the service.
        download: How the file came, where this call fetched it.
        credits: What its tasks cost, as far as that is known.
    """

    key: str
    request: VideoRequest | None = None
    task_id: str
    video: Video
    path: Path | None = None
    download: Download | None = None
    credits: int = 0
