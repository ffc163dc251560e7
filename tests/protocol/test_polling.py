"""When a task is asked for, and when a bad answer is believed (spec: Integration Notes, 5 s)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veo_async.errors import (
    APIError,
    AuthenticationError,
    ConnectError,
    InsufficientCreditsError,
    NotFoundError,
    QuotaExceededError,
    RateLimitError,
    ServerError,
    ServiceUnavailableError,
    TransportError,
    TransportTimeoutError,
    UnexpectedResponseError,
    ValidationError,
    VeoError,
)
from veo_async.protocol.polling import first_poll, is_final, next_poll
from veo_async.settings import PollPolicy


@pytest.mark.parametrize(
    ("policy", "age", "wait"),
    [
        (PollPolicy(), 0.0, 20.0),
        (PollPolicy(), 5.0, 15.0),
        (PollPolicy(), 20.0, 0.0),
        (PollPolicy(), 10_000.0, 0.0),
        (PollPolicy(), None, 0.0),
        (PollPolicy(interval=2.0), 0.0, 8.0),
        (PollPolicy(first=45.0), 5.0, 40.0),
        (PollPolicy(first=0.0), 0.0, 0.0),
    ],
)
def test_the_first_poll(policy: PollPolicy, age: float | None, wait: float) -> None:
    assert first_poll(policy, age) == wait


@pytest.mark.parametrize(
    ("chance", "wait"), [(0.0, 4.5), (0.5, 5.0), (1.0, 5.5)], ids=["early", "middle", "late"]
)
def test_the_next_poll_is_a_tenth_either_way(chance: float, wait: float) -> None:
    assert next_poll(5.0, 0.0, chance) == pytest.approx(wait)


@given(st.floats(0.01, 1_000), st.floats(0, 1_000), st.floats(0, 1))
def test_a_failed_poll_may_delay_the_next_and_never_hastens_it(
    interval: float, wait: float, chance: float
) -> None:
    undisturbed = next_poll(interval, 0.0, chance)
    assert 0.89 * interval < undisturbed < 1.11 * interval
    assert next_poll(interval, wait, chance) == max(undisturbed, wait)


PASSING: list[VeoError] = [
    ConnectError("x"),
    TransportError("x", request_sent=True),
    TransportTimeoutError("x", request_sent=True),
    RateLimitError("x", code=429),
    ServiceUnavailableError("x", code=455),
    ServerError("x", code=500),
    ServerError("x", code=408),
    UnexpectedResponseError("x", code=200),
    UnexpectedResponseError("x", code=404, http_status=404),
    # The task is paid already: credits that ran out do not end it.
    InsufficientCreditsError("x", code=402),
    QuotaExceededError("x", code=433),
    APIError("x", code=418),
    VeoError("x"),
]


@pytest.mark.parametrize("error", PASSING, ids=lambda error: f"{type(error).__name__}-{error}")
@pytest.mark.parametrize("age", [None, 0.0, 89.0, 1e6], ids=str)
def test_what_passes_never_ends_a_task(error: VeoError, age: float | None) -> None:
    assert not is_final(error, in_a_row=10**6, believed_after=1, age=age)


@pytest.mark.parametrize("kind", [AuthenticationError, NotFoundError, ValidationError])
@pytest.mark.parametrize("age", [None, 90.0, 1e6], ids=str)
def test_a_definite_refusal_is_believed_when_it_repeats(
    kind: type[APIError], age: float | None
) -> None:
    verdicts = [is_final(kind("x"), in_a_row=n, believed_after=4, age=age) for n in range(1, 6)]
    assert verdicts == [False, False, False, True, True]


@pytest.mark.parametrize(
    ("age", "final"), [(0.0, False), (89.9, False), (90.0, True), (None, True)], ids=str
)
def test_an_unknown_id_is_not_yet_for_90_seconds(age: float | None, final: bool) -> None:
    assert is_final(NotFoundError("x"), in_a_row=99, believed_after=4, age=age) is final


def test_other_refusals_need_no_grace() -> None:
    for kind in (AuthenticationError, ValidationError):
        assert is_final(kind("x"), in_a_row=4, believed_after=4, age=0.0)
