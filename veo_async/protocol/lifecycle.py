"""The life of one submit: a table from state and event to state. A missing entry is an error."""

from collections.abc import Mapping
from enum import Enum, auto
from typing import Final

__all__: list[str] = []


class State(Enum):
    """Where a submit, and the task that comes of it, stands."""

    WAITING = auto()  # holds nothing
    RESERVED = auto()  # may submit; nothing has left
    SENT = auto()  # the request is leaving or gone; no answer yet
    UNCERTAIN = auto()  # the answer was lost: a task may exist
    RUNNING = auto()  # the service gave an id
    SUCCEEDED = auto()
    FAILED = auto()
    REFUSED = auto()  # no task exists
    GIVEN_UP = auto()  # older than any task gets


class Step(Enum):
    """What can happen to a submit."""

    SLOT_GRANTED = auto()
    HEADERS_SENT = auto()
    TURNED_AWAY = auto()  # 429 or 455: the service says that it took nothing
    REFUSED = auto()  # a definite no, or nothing could be sent, or the caller left in time
    ANSWER_LOST = auto()
    ACCEPTED = auto()  # an id
    ATTACHED = auto()  # an id of an earlier process
    SEEN_SUCCESS = auto()
    SEEN_FAILURE = auto()
    AGE_PASSED = auto()


class Slot(Enum):
    """What a state means for the account's slots."""

    NONE = auto()
    RESERVED = auto()  # permission: dies with its holder
    OCCUPIED = auto()  # a fact about the remote task, or about one that may exist


TRANSITIONS: Final[Mapping[State, Mapping[Step, State]]] = {
    State.WAITING: {
        Step.SLOT_GRANTED: State.RESERVED,
        Step.REFUSED: State.REFUSED,
        Step.ATTACHED: State.RUNNING,
    },
    State.RESERVED: {
        Step.HEADERS_SENT: State.SENT,
        Step.REFUSED: State.REFUSED,
    },
    State.SENT: {
        Step.ACCEPTED: State.RUNNING,
        Step.TURNED_AWAY: State.RESERVED,
        Step.REFUSED: State.REFUSED,
        Step.ANSWER_LOST: State.UNCERTAIN,
    },
    State.UNCERTAIN: {
        Step.ACCEPTED: State.RUNNING,
        Step.AGE_PASSED: State.GIVEN_UP,
    },
    State.RUNNING: {
        Step.SEEN_SUCCESS: State.SUCCEEDED,
        Step.SEEN_FAILURE: State.FAILED,
        Step.AGE_PASSED: State.GIVEN_UP,
    },
    State.SUCCEEDED: {},
    State.FAILED: {},
    State.REFUSED: {},
    State.GIVEN_UP: {},
}

SLOTS: Final[Mapping[State, Slot]] = {
    State.WAITING: Slot.NONE,
    State.RESERVED: Slot.RESERVED,
    State.SENT: Slot.OCCUPIED,
    State.UNCERTAIN: Slot.OCCUPIED,
    State.RUNNING: Slot.OCCUPIED,
    State.SUCCEEDED: Slot.NONE,
    State.FAILED: Slot.NONE,
    State.REFUSED: Slot.NONE,
    State.GIVEN_UP: Slot.NONE,
}


def advance(state: State, event: Step) -> State:
    """Return the state that follows.

    Raises:
        LookupError: The event cannot happen in this state.
    """
    try:
        return TRANSITIONS[state][event]
    except KeyError:
        raise LookupError(f"{event.name} cannot happen to a submit that is {state.name}") from None
