"""What a failure means: for the paid request, for free ones, and for how long to wait."""

import math
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veo_async.errors import (
    APIError,
    AuthenticationError,
    ConnectError,
    InsufficientCreditsError,
    InvalidRequestError,
    LimiterError,
    NotFoundError,
    QuotaExceededError,
    RateLimitError,
    ServerError,
    ServiceUnavailableError,
    TaskFailedError,
    TransportError,
    TransportTimeoutError,
    UnexpectedResponseError,
    ValidationError,
    VeoError,
)
from veo_async.protocol.retry import Taken, delay, is_transient, retry_after, taken
from veo_async.settings import RetryPolicy

NOW = datetime(2026, 11, 22, 11, 0, 0, tzinfo=UTC)

# (header, seconds). RFC 9110, 10.2.3: seconds, or a date; decimals are seen in the wild.
HEADERS: list[tuple[str | None, float | None]] = [
    (None, None),
    ("", None),
    (" ", None),
    ("0", 0.0),
    ("1", 1.0),
    ("120", 120.0),
    ("  7\t", 7.0),
    ("007", 7.0),
    ("999999999999", 999_999_999_999.0),
    ("9" * 13, None),
    ("9" * 100_000, None),
    ("1.5", 1.5),
    (".5", 0.5),
    ("1e2", 100.0),
    ("1e400", None),
    ("-1", None),
    ("-0.5", None),
    ("1_000", None),
    ("1,000", None),
    ("0x10", None),
    ("nan", None),
    ("inf", None),
    ("-inf", None),
    ("Infinity", None),
    ("\u0661\u0662", None),
    ("\u00b2", None),
    ("7s", None),
    ("7, 8", None),
    ("soon", None),
    ("\x00", None),
    ("\ud800", None),
    ("Sun, 22 Nov 2026 11:00:30 GMT", 30.0),
    ("Sun, 22 Nov 2026 11:01:00 -0000", 60.0),
    ("Sun, 22 Nov 2026 12:00:45 +0100", 45.0),
    ("Sunday, 22-Nov-26 11:00:30 GMT", 30.0),
    ("Sun Nov 22 11:00:30 2026", 30.0),
    ("Sun, 22 Nov 2026 10:59:59 GMT", 0.0),
    ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
    ("Sun, 99 Nov 2026 11:00:30 GMT", None),
    ("Sun, 22 Nov 99999999999999 11:00:30 GMT", None),
    ("Sun, 22 Nov 2026 11:00:30 +99999999", None),
    ("2026-11-22T11:00:30Z", None),
]


@pytest.mark.parametrize(("header", "seconds"), HEADERS, ids=lambda value: ascii(value)[:40])
def test_a_retry_after_header(header: str | None, seconds: float | None) -> None:
    assert retry_after(header, NOW) == seconds


def test_a_date_is_compared_across_zones() -> None:
    now = NOW.astimezone(timezone(timedelta(hours=-9)))
    assert retry_after("Sun, 22 Nov 2026 11:00:30 GMT", now) == 30.0


@given(
    st.text(st.characters(exclude_categories=()))
    | st.from_regex(r"[A-Z][a-z]{2}, ?\d{1,3} [A-Z][a-z]{2} \d{1,6} \d+:\d+:\d+ [+-]?\w{0,12}")
    | st.from_regex(r"\A[-+.\de_]{1,15}\Z")
)
def test_no_header_is_worse_than_none(header: str) -> None:
    seconds = retry_after(header, NOW)
    assert seconds is None or (math.isfinite(seconds) and seconds >= 0)


policies = st.builds(
    RetryPolicy, base=st.floats(0.001, 100), cap=st.floats(0.001, 1_000), attempts=st.just(4)
)


@given(policies, st.integers(1, 10**9), st.floats(0, 1))
def test_a_wait_is_drawn_between_nothing_and_a_doubling_ceiling(
    policy: RetryPolicy, failures: int, chance: float
) -> None:
    wait = delay(policy, failures, None, chance)
    assert 0 <= wait <= policy.cap
    assert wait <= policy.base * 2.0 ** min(failures - 1, 900)
    assert delay(policy, failures, None, 1.0) >= wait
    assert delay(policy, failures + 1, None, chance) >= wait


@given(policies, st.integers(1, 100), st.floats(0, 1e9), st.floats(0, 1))
def test_what_the_service_asks_for_goes_first_up_to_the_cap(
    policy: RetryPolicy, failures: int, asked: float, chance: float
) -> None:
    own = delay(policy, failures, None, chance)
    assert delay(policy, failures, asked, chance) == (min(asked, policy.cap) if asked else own)


def test_the_waits_of_the_default_policy() -> None:
    policy = RetryPolicy()
    assert [delay(policy, failures, None, 1.0) for failures in (1, 2, 3, 7, 99)] == [
        0.5,
        1,
        2,
        30,
        30,
    ]
    assert delay(policy, 3, None, 0.0) == 0.0
    assert delay(policy, 1, 12.5, 0.0) == 12.5
    assert delay(policy, 1, 3_600.0, 0.0) == 30.0
    # Obeyed, a 0 would be a loop that asks a busy service as fast as it can.
    assert delay(policy, 3, 0.0, 1.0) == 2.0


def api(kind: type[APIError], code: int, status: int = 200) -> APIError:
    return kind("no", code=code, http_status=status)


# What is known of a create that failed. The only outcome that may be sent again by itself is one
# where no byte left, or where the service says that it dropped the request.
OUTCOMES: list[tuple[VeoError, Taken]] = [
    (ConnectError("dns"), Taken.NOT_SENT),
    (TransportError("tls"), Taken.NOT_SENT),
    (TransportTimeoutError("connecting"), Taken.NOT_SENT),
    (TransportError("reset", request_sent=True), Taken.UNKNOWN),
    (TransportTimeoutError("no answer", request_sent=True), Taken.UNKNOWN),
    (ConnectError("odd", request_sent=True), Taken.UNKNOWN),
    *((api(RateLimitError, 429, status), Taken.TURNED_AWAY) for status in (200, 429)),
    *((api(ServiceUnavailableError, 455, status), Taken.TURNED_AWAY) for status in (200, 455)),
    *((api(AuthenticationError, 401, status), Taken.REFUSED) for status in (200, 401)),
    *((api(AuthenticationError, 403, status), Taken.REFUSED) for status in (200, 403)),
    *((api(InsufficientCreditsError, 402, status), Taken.REFUSED) for status in (200, 402)),
    *((api(NotFoundError, 404, status), Taken.REFUSED) for status in (200, 404)),
    *((api(QuotaExceededError, 433, status), Taken.REFUSED) for status in (200, 433)),
    *(
        (api(ValidationError, code, status), Taken.REFUSED)
        for code in (400, 405, 413, 415, 422, 451)
        for status in (200, code)
    ),
    *((api(ServerError, 408, status), Taken.UNKNOWN) for status in (200, 408)),
    *((api(ServerError, 500, status), Taken.UNKNOWN) for status in (200, 500)),
    *((api(ServerError, 501, status), Taken.UNKNOWN) for status in (200, 501)),
    (api(ServerError, 505, 200), Taken.REFUSED),  # the service's own words: it is switched off
    (api(ServerError, 505, 505), Taken.UNKNOWN),  # a proxy's, of anything
    *((api(ServerError, code, code), Taken.UNKNOWN) for code in (502, 503, 504, 520, 524)),
    (api(ServerError, 400, 400), Taken.UNKNOWN),  # the spec's "still generating"
    *((api(UnexpectedResponseError, 200, status), Taken.UNKNOWN) for status in (200, 202, 204)),
    (api(UnexpectedResponseError, 0, 200), Taken.UNKNOWN),
    *((api(UnexpectedResponseError, code, code), Taken.REFUSED) for code in (301, 302, 307, 308)),
    *((api(UnexpectedResponseError, code, code), Taken.REFUSED) for code in (400, 403, 405, 413)),
    *((api(ValidationError, code), Taken.UNKNOWN) for code in (406, 409, 425, 499)),
    (LimiterError("the slots cannot be counted"), Taken.REFUSED),
    (InvalidRequestError("no"), Taken.REFUSED),
]


@pytest.mark.parametrize(
    ("error", "known"),
    OUTCOMES,
    ids=[
        f"{type(error).__name__}-{getattr(error, 'code', '')}-{getattr(error, 'http_status', '')}"
        f"-{getattr(error, 'request_sent', '')}"
        for error, _ in OUTCOMES
    ],
)
def test_what_is_known_of_a_create_that_failed(error: VeoError, known: Taken) -> None:
    assert taken(error) is known


def test_nothing_else_may_be_sent_again() -> None:
    again = {Taken.NOT_SENT, Taken.TURNED_AWAY}
    for error, known in OUTCOMES:
        if known in again:
            is_unsent = isinstance(error, TransportError) and not error.request_sent
            assert is_unsent or isinstance(error, RateLimitError | ServiceUnavailableError)


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (ConnectError("x"), True),
        (TransportError("x", request_sent=True), True),
        (TransportTimeoutError("x"), True),
        (api(RateLimitError, 429), True),
        (api(ServiceUnavailableError, 455), True),
        (api(ServerError, 500), True),
        (api(ServerError, 408), True),
        (api(ServerError, 505), False),
        (api(UnexpectedResponseError, 403, 403), True),
        (api(AuthenticationError, 401), False),
        (api(InsufficientCreditsError, 402), False),
        (api(NotFoundError, 404), False),
        (api(ValidationError, 422), False),
        (api(QuotaExceededError, 433), False),
        (api(APIError, 418), False),
        (LimiterError("x"), False),
        (TaskFailedError("x"), False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, VeoError) else str(value),
)
def test_whether_a_free_call_is_worth_repeating(error: VeoError, passes: bool) -> None:
    assert is_transient(error) is passes
