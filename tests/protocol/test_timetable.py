"""When tasks are asked for, by what was seen of others, in a simulation of many of them."""

import random
from collections.abc import Callable

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from veo_async.protocol.polling import next_poll
from veo_async.protocol.timetable import ENOUGH, KINDS, REMEMBERED, Timetable
from veo_async.settings import PollPolicy

FAST = ("veo3_fast", "720p")


@attrs.frozen
class Seen:
    """What many tasks took.

    Attributes:
        polls: Requests per task.
        delay: Seconds from the end of a task to the poll that sees it, on the average.
    """

    polls: float
    delay: float


def watched(
    timetable: Timetable | None,
    seconds: Callable[[random.Random], float],
    *,
    tasks: int = 3000,
    warm: int = 200,
) -> Seen:
    """Watch one task after the other; None asks every 5 s, as the spec says."""
    draw = random.Random(7)
    polls, delay = 0, 0.0
    for number in range(tasks):
        end = seconds(draw)
        age = last = 0.0
        wait = 5.0 if timetable is None else timetable.first(FAST, 0.0)
        asked = 1
        while age + wait < end:
            age = last = age + wait
            asked += 1
            wait = 5.0 if timetable is None else timetable.next(FAST, age, 0.0, draw.random())
        age += wait
        if timetable is not None:
            timetable.note(FAST, last, age)
        if number >= warm:
            polls += asked
            delay += age - end
    return Seen(polls / (tasks - warm), delay / (tasks - warm))


def learned(timetable: Timetable, *ends: float, times: int = ENOUGH) -> Timetable:
    for _ in range(times):
        for end in ends:
            timetable.note(FAST, end - 1, end)
    return timetable


SERVICES: dict[str, Callable[[random.Random], float]] = {
    "uniform": lambda draw: draw.uniform(60, 180),
    "long tail": lambda draw: 60 + draw.lognormvariate(3.4, 0.6),
    "two speeds": lambda draw: draw.gauss(70, 5) if draw.random() < 0.5 else draw.gauss(160, 8),
}


@pytest.mark.parametrize("service", SERVICES)
def test_the_usual_policy_saves_requests_and_no_time(service):
    fixed = watched(None, SERVICES[service])
    usual = watched(Timetable(PollPolicy()), SERVICES[service])
    assert usual.polls < 0.65 * fixed.polls
    assert usual.delay < 1.05 * fixed.delay


@pytest.mark.parametrize("service", SERVICES)
def test_the_adaptive_policy_halves_the_delay_at_no_more_requests(service):
    fixed = watched(None, SERVICES[service])
    adaptive = watched(Timetable(PollPolicy.adaptive()), SERVICES[service])
    assert adaptive.polls < 1.02 * fixed.polls
    assert adaptive.delay < 0.53 * fixed.delay


def test_tasks_that_fail_early_are_not_overlooked_for_long():
    def seconds(draw: random.Random) -> float:
        return draw.uniform(5, 20) if draw.random() < 0.05 else draw.uniform(60, 180)

    usual = watched(Timetable(PollPolicy()), seconds)
    assert usual.delay < 3.5


def test_a_service_that_has_become_faster_is_noticed():
    timetable = learned(Timetable(PollPolicy()), 100.0)
    assert timetable.first(FAST, 0.0) == pytest.approx(0.9 * 99)
    learned(timetable, 40.0, times=REMEMBERED // 10)
    assert timetable.first(FAST, 0.0) == pytest.approx(0.9 * 39)


@pytest.mark.parametrize("policy", [PollPolicy(), PollPolicy.adaptive()], ids=["usual", "adaptive"])
def test_a_few_ends_prove_nothing(policy):
    timetable = learned(Timetable(policy), 300.0, times=ENOUGH - 1)
    assert timetable.first(FAST, 0.0) == 20.0
    assert timetable.next(FAST, 100.0, 0.0, 0.5) == 5.0


def test_what_a_policy_asks_for_at_least_is_kept():
    timetable = learned(Timetable(PollPolicy(first=500.0)), 100.0)
    assert timetable.first(FAST, 0.0) == 500.0
    assert timetable.first(FAST, 450.0) == 50.0


def test_tasks_of_earlier_processes_are_asked_for_at_once_and_as_usual():
    timetable = learned(Timetable(PollPolicy.adaptive()), 60.0, 120.0)
    assert timetable.first(FAST, None) == 0.0
    assert timetable.first(FAST, 1000.0) == 0.0
    assert timetable.next(FAST, None, 0.0, 0.5) == 5.0


def test_who_is_older_than_all_others_is_asked_for_as_usual():
    timetable = learned(Timetable(PollPolicy.adaptive()), 60.0, 120.0)
    assert timetable.next(FAST, 119.0, 0.0, 0.5) != 5.0
    assert timetable.next(FAST, 120.0, 0.0, 0.5) == 5.0


def test_kinds_do_not_learn_from_each_other():
    timetable = learned(Timetable(PollPolicy()), 100.0)
    assert timetable.first(("veo3", "720p"), 0.0) == 20.0


def test_no_more_than_so_many_kinds_are_remembered():
    timetable = learned(Timetable(PollPolicy()), 100.0)
    for kind in range(KINDS):
        timetable.note(kind, 1.0, 2.0)
    assert timetable.first(FAST, 0.0) == 20.0


def test_ends_that_are_all_the_same_need_no_stretch():
    timetable = learned(Timetable(PollPolicy.adaptive()), 75.0)
    wait = timetable.first(FAST, 0.0)
    assert wait == pytest.approx(0.95 * 74)
    assert 0.5 <= timetable.next(FAST, wait, 0.0, 0.5) <= 5.0


@given(
    st.lists(st.tuples(st.floats(0, 2_000), st.floats(0, 60)), min_size=1, max_size=60),
    st.builds(PollPolicy, st.floats(0.01, 60), is_adaptive=st.booleans()),
    st.floats(0, 3_000),
    st.floats(0, 100),
    st.floats(0, 1),
)
def test_nobody_is_asked_too_often_or_too_seldom(
    ends: list[tuple[float, float]], policy: PollPolicy, age: float, wait: float, chance: float
) -> None:
    timetable = Timetable(policy)
    for last_seen, late in ends:
        timetable.note(FAST, last_seen, last_seen + late)
    pause = timetable.next(FAST, age, wait, chance)
    least, most = (0.1, 6.0) if policy.is_adaptive else (1.0, 1.0)
    assert next_poll(least * policy.interval, wait, chance) <= pause * (1 + 1e-9)
    assert pause <= next_poll(most * policy.interval, wait, chance) * (1 + 1e-9)
    assert timetable.first(FAST, 0.0) >= policy.first_after
