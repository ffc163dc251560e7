"""The whole product of states and events, and what the table promises about slots."""

from itertools import product

import pytest

from veo_async.protocol.lifecycle import SLOTS, TRANSITIONS, Slot, State, Step, advance

TERMINAL = {State.SUCCEEDED, State.FAILED, State.REFUSED, State.GIVEN_UP}

# Written out a second time, on purpose: what may happen to a submit, as the design tells it.
MOVES = {
    (State.WAITING, Step.SLOT_GRANTED, State.RESERVED),
    (State.WAITING, Step.REFUSED, State.REFUSED),
    (State.WAITING, Step.ATTACHED, State.RUNNING),
    (State.RESERVED, Step.HEADERS_SENT, State.SENT),
    (State.RESERVED, Step.REFUSED, State.REFUSED),
    (State.SENT, Step.ACCEPTED, State.RUNNING),
    (State.SENT, Step.TURNED_AWAY, State.RESERVED),
    (State.SENT, Step.REFUSED, State.REFUSED),
    (State.SENT, Step.ANSWER_LOST, State.UNCERTAIN),
    (State.UNCERTAIN, Step.ACCEPTED, State.RUNNING),
    (State.UNCERTAIN, Step.AGE_PASSED, State.GIVEN_UP),
    (State.RUNNING, Step.SEEN_SUCCESS, State.SUCCEEDED),
    (State.RUNNING, Step.SEEN_FAILURE, State.FAILED),
    (State.RUNNING, Step.AGE_PASSED, State.GIVEN_UP),
}
AFTER = {(state, event): after for state, event, after in MOVES}


@pytest.mark.parametrize(
    ("state", "event"),
    [*product(State, Step)],
    ids=[f"{state.name}-{event.name}" for state, event in product(State, Step)],
)
def test_each_event_in_each_state(state: State, event: Step) -> None:
    if (state, event) in AFTER:
        assert advance(state, event) is AFTER[state, event]
    else:
        with pytest.raises(LookupError, match=f"{event.name} cannot happen .* is {state.name}$"):
            advance(state, event)


def test_the_table_names_every_state_once_and_no_other_move() -> None:
    assert set(TRANSITIONS) == set(SLOTS) == set(State)
    assert {
        (state, event, after) for state, row in TRANSITIONS.items() for event, after in row.items()
    } == MOVES


def reached(start: State) -> set[State]:
    seen = {start}
    ahead = [start]
    while ahead:
        for after in TRANSITIONS[ahead.pop()].values():
            if after not in seen:
                seen.add(after)
                ahead.append(after)
    return seen


def test_every_state_can_be_reached() -> None:
    assert reached(State.WAITING) == set(State)


def test_every_event_happens_somewhere() -> None:
    assert {event for _, event, _ in MOVES} == set(Step)


@pytest.mark.parametrize("state", [*State], ids=lambda state: state.name)
def test_every_state_ends_and_an_end_is_an_end(state: State) -> None:
    assert reached(state) & TERMINAL
    assert (TRANSITIONS[state] == {}) is (state in TERMINAL)


def test_what_a_state_means_for_the_slots() -> None:
    assert {state for state in State if SLOTS[state] is Slot.OCCUPIED} == {
        State.SENT,
        State.UNCERTAIN,
        State.RUNNING,
    }
    assert {state for state in State if SLOTS[state] is Slot.RESERVED} == {State.RESERVED}
    assert {state for state in State if SLOTS[state] is Slot.NONE} == {State.WAITING, *TERMINAL}


def test_an_occupied_slot_is_freed_by_an_end_that_was_seen_by_age_or_by_a_refusal_only() -> None:
    frees = {
        event
        for state, event, after in MOVES
        if SLOTS[state] is Slot.OCCUPIED and SLOTS[after] is not Slot.OCCUPIED
    }
    assert frees == {
        Step.SEEN_SUCCESS,
        Step.SEEN_FAILURE,
        Step.AGE_PASSED,
        Step.REFUSED,
        Step.TURNED_AWAY,
    }


def test_what_may_be_a_paid_task_is_never_sent_again_nor_refused() -> None:
    for state in (State.UNCERTAIN, State.RUNNING):
        assert not reached(state) & {State.WAITING, State.RESERVED, State.SENT, State.REFUSED}


def test_no_slot_is_occupied_without_a_reservation_but_by_a_task_that_runs_already() -> None:
    for state, event, after in MOVES:
        if SLOTS[state] is Slot.NONE and SLOTS[after] is Slot.OCCUPIED:
            assert (event, after) == (Step.ATTACHED, State.RUNNING)
