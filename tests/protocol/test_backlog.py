"""`Backlog` by the clock of its caller: it holds what could not be fetched, and lets go again."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veo_async.protocol.backlog import Backlog

WINDOW = 1200.0  # seconds that a link lives; four fifths of it count
TEN = 10


def downloaded(
    spans: Iterable[tuple[float, float, bool]], backlog: Backlog | None = None
) -> Backlog:
    """Return what has seen downloads from a time to a time, with their file or without."""
    backlog = Backlog() if backlog is None else backlog
    happened = [
        (at, is_end, is_whole)
        for began, ended, is_whole in spans
        for at, is_end in ((began, False), (ended, True))
    ]
    for at, is_end, is_whole in sorted(happened, key=lambda one: one[:2]):
        if is_end:
            backlog.ended(at, is_whole=is_whole)
        else:
            backlog.began(at)
    return backlog


def one_after_the_other(
    count: int, seconds: float, start: float = 0.0, *, is_whole: bool = True
) -> list[tuple[float, float, bool]]:
    return [
        (start + number * seconds, start + (number + 1) * seconds, is_whole)
        for number in range(count)
    ]


@pytest.mark.parametrize("videos", [0, 1, 2, 10, 1_000_000])
@pytest.mark.parametrize("now", [0.0, 5.0, 1e9])
def test_with_nothing_seen_there_is_room(videos: int, now: float) -> None:
    assert Backlog().has_room(videos, WINDOW, now)


@pytest.mark.parametrize(
    ("seconds", "most"),
    [
        (1.0, 1920),  # 960 s at half a second each: the next one counts as finished now
        (60.0, 32),
        (480.0, 4),
        (960.0, 2),
        (1e6, 1),  # no more than the last 20 minutes are remembered
    ],
)
def test_after_one_download_there_is_room_for_what_fits_the_window(
    seconds: float, most: int
) -> None:
    backlog = downloaded([(0.0, seconds, True)])
    assert backlog.has_room(most, WINDOW, seconds)
    assert not backlog.has_room(most + 1, WINDOW, seconds)


@pytest.mark.parametrize(
    ("seconds", "is_fine"), [(10.0, True), (80.0, True), (110.0, False), (400.0, False)]
)
def test_ten_tasks_are_ordered_only_while_ten_videos_can_be_fetched_in_time(
    seconds: float, is_fine: bool
) -> None:
    backlog = downloaded(one_after_the_other(100, seconds))
    assert backlog.has_room(TEN, WINDOW, 100 * seconds) is is_fine


def test_a_shorter_window_has_less_room() -> None:
    backlog = downloaded(one_after_the_other(10, 10.0))
    assert backlog.has_room(TEN, WINDOW, 100.0)
    assert not backlog.has_room(TEN, 100.0, 100.0)


def test_time_in_which_nothing_is_fetched_does_not_count() -> None:
    backlog = downloaded(one_after_the_other(5, 10.0))
    soon = backlog.seconds_for(TEN, 50.0)
    assert backlog.seconds_for(TEN, 50.0 + 14 * 3600.0) == soon
    later = downloaded(one_after_the_other(5, 10.0, start=14 * 3600.0), backlog)
    assert later.seconds_for(11, 14 * 3600.0 + 50.0) == pytest.approx(11 * 100.0 / 11)


def test_downloads_side_by_side_count_their_time_once() -> None:
    alone = downloaded([(0.0, 80.0, True)])
    together = downloaded([(0.0, 80.0, True)] * 8)
    assert alone.seconds_for(TEN, 80.0) == TEN * 80.0 / 2
    assert together.seconds_for(TEN, 80.0) == TEN * 80.0 / 9


def test_downloads_that_overlap_count_from_the_first_to_the_last() -> None:
    backlog = downloaded([(0.0, 60.0, True), (30.0, 90.0, True), (85.0, 120.0, True)])
    assert backlog.seconds_for(1, 120.0) == 120.0 / 4


def test_a_download_that_goes_on_counts_up_to_now() -> None:
    backlog = Backlog()
    backlog.began(100.0)
    assert backlog.seconds_for(1, 100.0) == 0.0
    assert backlog.seconds_for(1, 160.0) == 60.0
    assert backlog.seconds_for(TEN, 190.0) == 900.0
    assert backlog.has_room(TEN, WINDOW, 190.0)
    assert not backlog.has_room(TEN, WINDOW, 200.0)


def test_a_download_without_its_file_costs_time_and_brings_nothing() -> None:
    fine = downloaded(one_after_the_other(4, 60.0))
    half = downloaded(
        [
            *one_after_the_other(2, 60.0),
            *one_after_the_other(2, 60.0, start=120.0, is_whole=False),
        ]
    )
    assert fine.seconds_for(1, 240.0) == 240.0 / 5
    assert half.seconds_for(1, 240.0) == 240.0 / 3


@pytest.mark.parametrize("seconds", [960.0, 5_000.0, 14 * 3600.0])
def test_after_nothing_but_failures_one_at_a_time_is_let_through_and_then_more(
    seconds: float,
) -> None:
    """A storage that is down for a while must not hold a batch for ever."""
    backlog = downloaded([(0.0, seconds, False)])
    assert not backlog.has_room(2, WINDOW, seconds)
    assert backlog.has_room(1, WINDOW, seconds)
    now = seconds
    let_through = 0
    while not backlog.has_room(TEN, WINDOW, now):
        assert backlog.has_room(1, WINDOW, now)
        downloaded(one_after_the_other(1, 10.0, start=now), backlog)
        now += 10.0
        let_through += 1
    assert 0 < let_through <= 13


@pytest.mark.parametrize("slow", [1, 10, 100])
def test_it_recovers_when_the_line_gets_faster(slow: int) -> None:
    backlog = downloaded(one_after_the_other(slow, 600.0))
    now = slow * 600.0
    assert not backlog.has_room(TEN, WINDOW, now)
    fast = one_after_the_other(200, 10.0, start=now)
    downloaded(fast, backlog)
    now += 2000.0
    assert backlog.has_room(TEN, WINDOW, now)
    # What was slow is forgotten altogether after so much downloading.
    assert backlog.seconds_for(1, now) == pytest.approx(10.0, rel=0.02)


def test_it_holds_when_the_line_gets_slower() -> None:
    backlog = downloaded(one_after_the_other(1000, 5.0))
    now = 5000.0
    assert backlog.has_room(TEN, WINDOW, now)
    downloaded(one_after_the_other(10, 200.0, start=now), backlog)
    assert not backlog.has_room(TEN, WINDOW, now + 2000.0)


def test_what_is_remembered_does_not_grow() -> None:
    backlog = downloaded(one_after_the_other(10_000, 10.0))
    assert len(backlog._finished) <= 121


spans = st.lists(
    st.tuples(st.floats(0, 5_000), st.floats(0, 2_000), st.booleans()).map(
        lambda one: (one[0], one[0] + one[1], one[2])
    ),
    max_size=30,
)


@given(spans, st.integers(0, 1000), st.integers(0, 1000), st.floats(1, 1e5), st.floats(0, 1e5))
def test_more_videos_never_have_more_room_and_one_always_has(
    seen: list[tuple[float, float, bool]], one: int, other: int, window: float, later: float
) -> None:
    backlog = downloaded(seen)
    now = max((ended for _, ended, _ in seen), default=0.0) + later
    fewer, more = sorted((one, other))
    assert backlog.seconds_for(fewer, now) <= backlog.seconds_for(more, now)
    assert backlog.has_room(fewer, window, now) or not backlog.has_room(more, window, now)
    assert backlog.has_room(1, window, now)


@given(spans, st.integers(2, 100))
def test_asking_changes_nothing(seen: list[tuple[float, float, bool]], videos: int) -> None:
    backlog = downloaded(seen)
    now = max((ended for _, ended, _ in seen), default=0.0)
    answers = {backlog.seconds_for(videos, now + pause) for pause in (0.0, 0.0, 1.0, 1e6)}
    assert len(answers) == 1


@given(st.integers(1, 8), st.floats(0.1, 500), st.integers(2, 40))
def test_at_a_steady_rate_the_estimate_is_that_rate(
    lanes: int, seconds: float, rounds: int
) -> None:
    """So many lanes, each of which needs so many seconds for a file."""
    backlog = downloaded(one_after_the_other(rounds, seconds) * lanes)
    whole = min(rounds * seconds, WINDOW)
    truth = seconds / lanes
    estimate = backlog.seconds_for(1, rounds * seconds)
    # It is off by the round that is half remembered, and by the one that counts as finished.
    assert estimate == pytest.approx(truth, rel=(lanes * seconds + seconds) / whole)


@given(spans, st.floats(1, 100))
def test_it_recovers_from_anything(seen: list[tuple[float, float, bool]], seconds: float) -> None:
    backlog = downloaded(seen)
    start = max((ended for _, ended, _ in seen), default=0.0)
    count = int(2 * WINDOW / seconds)
    downloaded(one_after_the_other(count, seconds, start=start), backlog)
    assert backlog.has_room(9, WINDOW, start + count * seconds)
