"""A batch's journal as the data of its page: items, figures, and a timeline of the slots."""

import heapq
import json
from collections.abc import Iterable
from typing import Final

from veo_async.jobs import Attempt, Job
from veo_async.models import JSON
from veo_async.protocol.jobs import JobState
from veo_async.settings import MAX_TASKS

__all__: list[str] = []

_OUTCOMES: Final = {
    JobState.NEW: "unpaid",
    JobState.INTENT: "running",
    JobState.UNKNOWN: "uncertain",
    JobState.SUBMITTED: "running",
    JobState.READY: "running",
    JobState.DOWNLOADING: "running",
    JobState.STORED: "downloaded",
    JobState.FAILED: "failed",
    JobState.REJECTED: "rejected",
    JobState.EXPIRED: "failed",
}
_ENDS: Final = {
    "success": "success",
    "replaced": "success",
    "failed": "failed",
    "not_created": "uncertain",
}


def run_of(
    jobs: Iterable[Job], *, title: str, made_at: float, is_running: bool, files: str = ""
) -> dict[str, JSON]:
    """Return what a page tells of a batch.

    Args:
        jobs: All of its jobs.
        title: What it is called.
        made_at: The time, epoch seconds.
        is_running: Whether the batch runs at this moment.
        files: What stands before the names of the files, seen from the page.
    """
    items: list[JSON] = []
    bars: list[tuple[float, float | None, int, str]] = []
    counts: dict[str, int] = {}
    spent = failed = size = 0
    for number, job in enumerate(jobs):
        outcome = _outcome(job, is_running=is_running)
        counts[outcome] = counts.get(outcome, 0) + 1
        items.append(_item(job, outcome, files))
        spent += job.charged
        failed += sum(one.charged for one in job.attempts if one.end == "failed")
        size += (job.size or 0) if job.state is JobState.STORED else 0
        bars += [
            (one.submitted_at, one.ended_at, number, _end(one))
            for one in job.attempts
            if one.submitted_at is not None
        ]
    lanes, slots = _lanes(bars, made_at)
    return {
        "title": title,
        "made_at": made_at,
        "slots": slots,
        "is_running": is_running,
        "totals": {
            "items": len(items),
            "credits_spent": spent,
            "credits_failed": failed,
            "bytes": size,
            **_time(bars, slots, made_at),
        },
        "counts": {**counts},
        "items": items,
        "timeline": lanes,
    }


def _outcome(job: Job, *, is_running: bool) -> str:
    # An intent that nobody is waiting for any more is a lost answer.
    is_lost = job.state is JobState.INTENT and not is_running
    is_paid = job.state is JobState.REJECTED and job.steps  # a film that may not go on
    return "uncertain" if is_lost else "failed" if is_paid else _OUTCOMES[job.state]


def _end(attempt: Attempt) -> str:
    return _ENDS.get(attempt.end or "", "running")


def _item(job: Job, outcome: str, files: str) -> dict[str, JSON]:
    request: dict[str, JSON] = {} if job.request_text is None else json.loads(job.request_text)
    first, last = (job.attempts[0], job.attempts[-1]) if job.attempts else (None, None)
    is_there = job.state is JobState.STORED and job.file is not None
    return {
        "index": job.position,
        "key": job.key,
        "outcome": outcome,
        "prompt": request.get("prompt", job.source),
        "model": request.get("model"),
        "aspect_ratio": request.get("aspect_ratio"),
        "seed": request.get("seed", job.seed),
        "resolution": request.get("resolution"),
        "duration": request.get("duration"),
        "file": f"{files}{job.file}" if is_there else None,
        "size": job.size,
        "sha256": job.sha256,
        "credits": job.charged,
        "task_id": job.task_id,
        "task_ids": [step.task_id for step in job.steps],
        "error": None if is_there else job.error,
        "attempts": len(job.attempts),
        "started_at": None if first is None else first.submitted_at,
        "ended_at": None if last is None else job.stored_at or last.ended_at,
    }


def _lanes(bars: list[tuple[float, float | None, int, str]], now: float) -> tuple[list[JSON], int]:
    """Give each bar the lane that has been free for longest, and return how many there are."""
    free: list[int] = [*range(MAX_TASKS)]
    busy: list[tuple[float, int]] = []
    lanes: list[JSON] = []
    slots = MAX_TASKS
    for start, end, item, outcome in sorted(bars, key=lambda bar: bar[0]):
        while busy and busy[0][0] <= start:
            heapq.heappush(free, heapq.heappop(busy)[1])
        if not free:
            free.append(slots)
            slots += 1
        lane = heapq.heappop(free)
        heapq.heappush(busy, (now if end is None else end, lane))
        lanes.append({"slot": lane, "item": item, "start": start, "end": end, "outcome": outcome})
    return lanes, slots


def _time(
    bars: list[tuple[float, float | None, int, str]], slots: int, now: float
) -> dict[str, JSON]:
    """Return the time in which any task ran, and how much of the slots' time had a task."""
    busy = used = 0.0
    until = 0.0
    for start, end, _, _ in sorted(bars, key=lambda bar: bar[0]):
        ended = now if end is None else end
        used += max(ended - start, 0.0)
        busy += max(ended - max(start, until), 0.0)
        until = max(until, ended)
    return {"seconds": busy, "slot_use": used / (slots * busy) if busy else None}
