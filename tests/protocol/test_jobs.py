"""The whole product of states and steps of a job, and what the table promises about money."""

from itertools import product

import pytest

from veo_async.protocol.jobs import HOLDS_SLOT, OPEN, TRANSITIONS, JobState, JobStep, advance

# Written out a second time, on purpose: what may happen to a job, as the design tells it.
MOVES = {
    (JobState.NEW, JobStep.INTENDED, JobState.INTENT),
    (JobState.NEW, JobStep.REJECTED, JobState.REJECTED),
    (JobState.NEW, JobStep.AGAIN, JobState.NEW),
    (JobState.INTENT, JobStep.TURNED_AWAY, JobState.NEW),
    (JobState.INTENT, JobStep.REJECTED, JobState.REJECTED),
    (JobState.INTENT, JobStep.LOST, JobState.UNKNOWN),
    (JobState.INTENT, JobStep.ACCEPTED, JobState.SUBMITTED),
    (JobState.UNKNOWN, JobStep.ACCEPTED, JobState.SUBMITTED),
    (JobState.UNKNOWN, JobStep.NOT_CREATED, JobState.NEW),
    (JobState.UNKNOWN, JobStep.AGAIN, JobState.NEW),
    (JobState.SUBMITTED, JobStep.ACCEPTED, JobState.SUBMITTED),
    (JobState.SUBMITTED, JobStep.EXTENDED, JobState.NEW),
    (JobState.SUBMITTED, JobStep.READY, JobState.READY),
    (JobState.SUBMITTED, JobStep.FAILED, JobState.FAILED),
    (JobState.SUBMITTED, JobStep.EXPIRED, JobState.EXPIRED),
    (JobState.READY, JobStep.READY, JobState.READY),
    (JobState.READY, JobStep.DOWNLOADING, JobState.DOWNLOADING),
    (JobState.READY, JobStep.STORED, JobState.STORED),
    (JobState.READY, JobStep.EXPIRED, JobState.EXPIRED),
    (JobState.DOWNLOADING, JobStep.READY, JobState.READY),
    (JobState.DOWNLOADING, JobStep.DOWNLOADING, JobState.DOWNLOADING),
    (JobState.DOWNLOADING, JobStep.STORED, JobState.STORED),
    (JobState.DOWNLOADING, JobStep.EXPIRED, JobState.EXPIRED),
    (JobState.STORED, JobStep.MISSING, JobState.SUBMITTED),
    (JobState.FAILED, JobStep.AGAIN, JobState.NEW),
    (JobState.REJECTED, JobStep.AGAIN, JobState.NEW),
}
AFTER = {(state, step): after for state, step, after in MOVES}
# Nothing is to be done for them in a later run, unless somebody changes something.
FINAL = {JobState.STORED, JobState.FAILED, JobState.REJECTED, JobState.EXPIRED}
# What pays for something: a new task after a failure, and the next one of a film.
PAYING = frozenset({JobStep.AGAIN, JobStep.EXTENDED})
PAID = {JobState.SUBMITTED, JobState.READY, JobState.DOWNLOADING, JobState.STORED}


@pytest.mark.parametrize(
    ("state", "step"),
    [*product(JobState, JobStep)],
    ids=[f"{state.name}-{step.name}" for state, step in product(JobState, JobStep)],
)
def test_each_step_in_each_state(state: JobState, step: JobStep) -> None:
    if (state, step) in AFTER:
        assert advance(state, step) is AFTER[state, step]
    else:
        with pytest.raises(LookupError, match=f"^{step.name} cannot happen .* is {state}$"):
            advance(state, step)


def test_the_table_names_every_state_once_and_no_other_move() -> None:
    assert set(TRANSITIONS) == set(JobState)
    assert {
        (state, step, after) for state, row in TRANSITIONS.items() for step, after in row.items()
    } == MOVES


def test_a_state_is_kept_under_the_name_that_it_has_had_from_the_start() -> None:
    # The journals of earlier versions hold these words.
    assert [str(state) for state in JobState] == [
        "new",
        "intent",
        "unknown",
        "submitted",
        "ready",
        "downloading",
        "stored",
        "failed",
        "rejected",
        "expired",
    ]


def reached(start: JobState, *, without: frozenset[JobStep] = frozenset()) -> set[JobState]:
    seen = {start}
    ahead = [start]
    while ahead:
        for step, after in TRANSITIONS[ahead.pop()].items():
            if after not in seen and step not in without:
                seen.add(after)
                ahead.append(after)
    return seen


def test_every_state_can_be_reached() -> None:
    assert reached(JobState.NEW) == set(JobState)


def test_every_step_happens_somewhere() -> None:
    assert {step for _, step, _ in MOVES} == set(JobStep)


@pytest.mark.parametrize("state", sorted({*JobState} - FINAL))
def test_every_state_that_is_not_final_has_a_way_out_to_a_file(state: JobState) -> None:
    assert set(TRANSITIONS[state].values()) - {state}
    assert JobState.STORED in reached(state)


@pytest.mark.parametrize("state", sorted(FINAL))
def test_a_final_state_is_left_by_a_decision_only(state: JobState) -> None:
    assert set(TRANSITIONS[state]) <= {JobStep.AGAIN, JobStep.MISSING}


def test_open_is_what_is_paid_or_may_be_and_not_at_home() -> None:
    assert {*JobState} - FINAL - {JobState.NEW} == OPEN


def test_a_slot_is_held_from_the_intent_until_an_end_was_seen() -> None:
    assert HOLDS_SLOT < OPEN
    taken = {
        (step, after)
        for state, step, after in MOVES
        if state not in HOLDS_SLOT and after in HOLDS_SLOT
    }
    # A file that is gone is asked for by its task, which ended long ago.
    assert taken == {
        (JobStep.INTENDED, JobState.INTENT),
        (JobStep.MISSING, JobState.SUBMITTED),
    }
    given_back = {
        step for state, step, after in MOVES if state in HOLDS_SLOT and after not in HOLDS_SLOT
    }
    assert given_back == {
        JobStep.TURNED_AWAY,
        JobStep.REJECTED,
        JobStep.EXTENDED,
        JobStep.READY,
        JobStep.FAILED,
        JobStep.EXPIRED,
        JobStep.NOT_CREATED,
        JobStep.AGAIN,
    }


@pytest.mark.parametrize("state", sorted(PAID))
def test_what_is_paid_is_not_paid_again_unless_it_failed_and_that_is_allowed(
    state: JobState,
) -> None:
    assert JobState.INTENT not in reached(state, without=PAYING)
    assert JobStep.AGAIN not in TRANSITIONS[state]


def test_a_film_goes_on_from_a_task_that_was_seen_to_end_and_from_nowhere_else() -> None:
    assert {(state, after) for state, step, after in MOVES if step is JobStep.EXTENDED} == {
        (JobState.SUBMITTED, JobState.NEW)
    }


def test_what_may_be_paid_is_sent_again_by_a_decision_only() -> None:
    decisions = PAYING | {JobStep.NOT_CREATED}
    assert JobState.INTENT not in reached(JobState.UNKNOWN, without=decisions)
    assert {step for (state, step) in AFTER if state is JobState.INTENT} & decisions == set()
