"""The life of one job of a batch, as its journal tells it: a table, and what it means for slots.

A job wants one video. It may take several paid tasks to get it, one after the other: new ones after
failures, and for a film its extensions, whose steps are done one by one.
"""

from collections.abc import Mapping
from enum import Enum, StrEnum, auto
from typing import Final

__all__: list[str] = []


class JobState(StrEnum):
    """Where a job stands, in the words that the journal keeps."""

    NEW = "new"  # its next task does not exist: nothing was sent, or the service took nothing
    INTENT = "intent"  # the paid request is leaving, and its answer is not written down
    UNKNOWN = "unknown"  # its answer was lost: a task may exist and be paid
    SUBMITTED = "submitted"  # the service gave an id
    READY = "ready"  # the video can be fetched
    DOWNLOADING = "downloading"
    STORED = "stored"  # the whole file stands under its name
    FAILED = "failed"  # the service says so
    REJECTED = "rejected"  # the input or the service's rules forbid it
    EXPIRED = "expired"  # the service has deleted the video


class JobStep(Enum):
    """What can happen to a job."""

    INTENDED = auto()
    TURNED_AWAY = auto()  # the service took nothing: 429, 402 and their kin, or no byte left
    REJECTED = auto()
    LOST = auto()  # the answer, or the process that waited for it
    ACCEPTED = auto()  # an id, from the answer, a callback or a person
    EXTENDED = auto()  # a step of a film is done, and the next one is to be paid
    READY = auto()
    DOWNLOADING = auto()
    STORED = auto()
    FAILED = auto()
    EXPIRED = auto()
    NOT_CREATED = auto()  # a person looked, and there is no task
    AGAIN = auto()  # a new paid task is allowed
    MISSING = auto()  # the file is gone; the service may still have it


_IS_THERE: Final[Mapping[JobStep, JobState]] = {
    JobStep.READY: JobState.READY,
    JobStep.DOWNLOADING: JobState.DOWNLOADING,
    JobStep.STORED: JobState.STORED,
    JobStep.EXPIRED: JobState.EXPIRED,
}

TRANSITIONS: Final[Mapping[JobState, Mapping[JobStep, JobState]]] = {
    JobState.NEW: {
        JobStep.INTENDED: JobState.INTENT,
        JobStep.REJECTED: JobState.REJECTED,
        JobStep.AGAIN: JobState.NEW,
    },
    JobState.INTENT: {
        JobStep.TURNED_AWAY: JobState.NEW,
        JobStep.REJECTED: JobState.REJECTED,
        JobStep.LOST: JobState.UNKNOWN,
        JobStep.ACCEPTED: JobState.SUBMITTED,
    },
    JobState.UNKNOWN: {
        JobStep.ACCEPTED: JobState.SUBMITTED,
        JobStep.NOT_CREATED: JobState.NEW,
        JobStep.AGAIN: JobState.NEW,
    },
    JobState.SUBMITTED: {
        JobStep.ACCEPTED: JobState.SUBMITTED,  # where the id that a person gave was wrong
        JobStep.EXTENDED: JobState.NEW,
        JobStep.READY: JobState.READY,
        JobStep.FAILED: JobState.FAILED,
        JobStep.EXPIRED: JobState.EXPIRED,
    },
    JobState.READY: _IS_THERE,
    JobState.DOWNLOADING: _IS_THERE,
    JobState.STORED: {JobStep.MISSING: JobState.SUBMITTED},
    JobState.FAILED: {JobStep.AGAIN: JobState.NEW},
    JobState.REJECTED: {JobStep.AGAIN: JobState.NEW},
    JobState.EXPIRED: {},
}

# States in which work of an earlier run is paid, or may be, and not yet at home.
OPEN: Final = frozenset(
    {
        JobState.INTENT,
        JobState.UNKNOWN,
        JobState.SUBMITTED,
        JobState.READY,
        JobState.DOWNLOADING,
    }
)
# Of those, the ones whose task occupies a slot, or may.
HOLDS_SLOT: Final = frozenset({JobState.INTENT, JobState.UNKNOWN, JobState.SUBMITTED})


def advance(state: JobState, step: JobStep) -> JobState:
    """Return the state that follows.

    Raises:
        LookupError: The step cannot happen in this state.
    """
    try:
        return TRANSITIONS[state][step]
    except KeyError:
        raise LookupError(f"{step.name} cannot happen to a job that is {state}") from None
