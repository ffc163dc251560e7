"""What a failure means for the next try: repeat, wait how long, or stop."""

import math
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum, auto

from veo_async.errors import (
    APIError,
    RateLimitError,
    ServerError,
    ServiceUnavailableError,
    TransportError,
    UnexpectedResponseError,
    VeoError,
)
from veo_async.protocol import remedies
from veo_async.settings import RetryPolicy

__all__: list[str] = []

_LONGEST_DIGITS = 12  # of a Retry-After in seconds; more is nonsense and slow to convert
_SWITCHED_OFF = 505  # live document, section 4: of the 5xx, the one that does not pass
_FIRST_ERROR = 400
_REFUSING_STATUSES = range(300, 500)
# Codes under HTTP 200 that say that no task was made (live document, section 4, and HTTP's own).
_REFUSING_CODES = frozenset({400, 401, 402, 403, 404, 405, 413, 415, 422, 433, 451, 505})


class Taken(Enum):
    """What is known of a paid request that failed."""

    NOT_SENT = auto()  # no byte left: it may be sent again
    TURNED_AWAY = auto()  # the service dropped it for now: it may be sent again
    REFUSED = auto()  # the service said no for good
    UNKNOWN = auto()  # a task may exist: it may never be sent again


def taken(error: VeoError) -> Taken:
    """Return what `error`, from a create call, says of the task (the paid request is sent once)."""
    if isinstance(error, TransportError):
        return Taken.UNKNOWN if error.request_sent else Taken.NOT_SENT
    if isinstance(error, RateLimitError | ServiceUnavailableError):
        return Taken.TURNED_AWAY
    if isinstance(error, ServerError) and not _is_off(error):
        return Taken.UNKNOWN
    if isinstance(error, APIError):
        # A redirect or a page of the edge in front means that the service never saw the request. A
        # code under HTTP 200 is believed only where it is known to mean no.
        is_no = error.http_status in _REFUSING_STATUSES or error.code in _REFUSING_CODES
        return Taken.REFUSED if is_no else Taken.UNKNOWN
    return Taken.REFUSED


def _is_off(error: ServerError) -> bool:
    # In the service's own words; as an HTTP status it may be a proxy's, of anything.
    return error.code == _SWITCHED_OFF and error.http_status < _FIRST_ERROR


def is_transient(error: VeoError) -> bool:
    """Return whether repeating a call that costs nothing may help."""
    if isinstance(error, ServerError | UnexpectedResponseError) and remedies.is_lasting(
        error.code, error.message
    ):
        return False
    return isinstance(
        error,
        TransportError
        | RateLimitError
        | ServiceUnavailableError
        | ServerError
        | UnexpectedResponseError,
    )


def delay(policy: RetryPolicy, failures: int, retry_after: float | None, chance: float) -> float:
    """Return the seconds to wait after so many failures in a row.

    Args:
        policy: The bounds.
        failures: How many tries have failed, from 1.
        retry_after: What the service asked for, in seconds. A 0 asks for nothing: obeyed, it
            would make a service that is too busy busier.
        chance: A random number from 0 to 1.
    """
    if retry_after:
        return min(retry_after, policy.cap)
    ceiling = min(policy.cap, policy.base * 2.0 ** min(failures - 1, 60))
    return ceiling * chance


def retry_after(header: str | None, now: datetime) -> float | None:
    """Read a `Retry-After` header: seconds, or an HTTP date. None for anything else.

    Args:
        header: Its value, as it came.
        now: The current time, aware.
    """
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        return float(text) if len(text) <= _LONGEST_DIGITS else None
    seconds = _decimal(text)
    return seconds if seconds is not None else _seconds_until(text, now)


def _decimal(text: str) -> float | None:
    if len(text) > _LONGEST_DIGITS or not text.isascii() or "_" in text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def _seconds_until(text: str, now: datetime) -> float | None:
    try:
        moment = parsedate_to_datetime(text)
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return max(0.0, (aware - now).total_seconds())
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
