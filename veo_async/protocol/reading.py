"""Tolerant readers of JSON that someone else wrote. None of them raises."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from math import isfinite
from typing import cast

from veo_async.models import JSON, JSONObject
from veo_async.protocol.dialect import Place

__all__: list[str] = []

_LONGEST_ID = 256
_LARGEST_INT = 10**18  # what is larger fits no database, and is no code of any service
_UNREADABLE = "\N{REPLACEMENT CHARACTER}"
_BYTE_ORDER_MARK = "\ufeff"
_SPACES = " \t\n\r"  # RFC 8259, section 2
_DECODER = json.JSONDecoder(strict=False)  # made once, which `loads` does for every answer
_MILLISECONDS_FROM = 1e11  # a smaller number of milliseconds would lie before March 1973


def parse(body: bytes | str) -> "JSON | Exception":
    """Parse JSON; what cannot be parsed comes back as the exception that says why.

    A byte that is no UTF-8, or a bare control character, is tolerated inside a string: the echo of
    a prompt, cut short by the service, must not hide a finished video.
    """
    try:
        text = body.decode(errors="replace") if isinstance(body, bytes) else body
        text = text.removeprefix(_BYTE_ORDER_MARK).strip(_SPACES)
        value, end = cast("tuple[JSON, int]", _DECODER.raw_decode(text))
        return value if end == len(text) else json.JSONDecodeError("Extra data", text, end)
    except (ValueError, RecursionError) as error:
        return error


def exact_number(body: bytes, name: str) -> Decimal | None:
    """Return a number at the top of a JSON object, as it was written there."""
    try:
        parsed = json.loads(
            body.decode("utf-8-sig", errors="replace"),
            strict=False,
            parse_int=Decimal,
            parse_float=Decimal,
            parse_constant=Decimal,
        )
    except (ValueError, ArithmeticError, RecursionError):
        return None
    number = cast("dict[str, object]", parsed).get(name) if isinstance(parsed, dict) else None
    return number if isinstance(number, Decimal) and number.is_finite() else None


def as_object(value: JSON) -> JSONObject:
    """Return a JSON object, also out of JSON text; an empty one for anything else."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        parsed = parse(value)
        return parsed if isinstance(parsed, dict) else {}
    return value if isinstance(value, dict) else {}


def find(data: JSONObject, places: tuple[Place, ...]) -> JSON:
    """Return the first value that is there and not null."""
    for place in places:
        found = data.get(place[0])
        if found is not None and len(place) > 1:
            found = at(data, place)
        if found is not None:
            return found
    return None


def at(data: JSONObject, place: Place) -> JSON:
    """Return the value that is there, or None."""
    found = data.get(place[0])
    for step in place[1:]:
        found = as_object(found).get(step)
    return found


def as_int(value: JSON) -> int | None:
    """Read a whole number of up to 18 digits, also out of digits in a string."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value if abs(value) < _LARGEST_INT else None
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < _LARGEST_INT else None
    if isinstance(value, str):
        digits = value.strip()
        if digits.isascii() and digits.removeprefix("-").isdigit() and len(digits) <= 18:  # noqa: PLR2004  # of _LARGEST_INT
            return int(digits)
    return None


def as_float(value: JSON) -> float | None:
    """Read a finite number, also out of a string."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if isfinite(number) else None


def as_text(value: JSON) -> str | None:
    """Read a string that holds something."""
    return value if isinstance(value, str) and value.strip() else None


def as_line(value: JSON, most: int) -> str | None:
    """Read words for people, as one line that a terminal and a log may show."""
    if not isinstance(value, str):
        return None
    # Cut first: the rest, which may be a megabyte, is not looked at.
    shown = value[: 4 * most]
    if not shown.isprintable():
        shown = "".join(c if c.isprintable() else " " for c in shown)
    line = " ".join(shown.split())
    return (line if len(line) <= most else line[: most - 1] + "…") or None


def as_id(value: JSON) -> str | None:
    """Read an id: opaque, but printable and of a sane length."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value) if abs(value) < 10**_LONGEST_ID else None
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_ID:
        return None
    is_plain = value.isprintable() and " " not in value and _UNREADABLE not in value
    return value if is_plain else None


def as_urls(value: JSON) -> tuple[str, ...]:
    """Read links: one, a list, or a list as JSON text.

    Left out is what is not http(s), and what holds a control character.
    """
    texts = [member.strip() for member in _members(value) if isinstance(member, str)]
    return tuple(
        text
        for text in texts
        if text[:8].lower().startswith(("https://", "http://")) and text.isprintable()
    )


def _members(value: JSON) -> Sequence[JSON]:
    if isinstance(value, list):
        return value
    if isinstance(value, str) and value.lstrip().startswith("["):
        parsed = parse(value)
        # The live document's own example, `[http://...]`, is not JSON.
        return parsed if isinstance(parsed, list) else value.strip().strip("[]").split(",")
    return [value]


def as_bool(value: JSON) -> bool | None:
    """Read a boolean."""
    return value if isinstance(value, bool) else None


def first(value: JSON) -> JSON:
    """Return the first member of a list, or the value itself."""
    if isinstance(value, list):
        return value[0] if value else None
    return value


def as_time(value: JSON) -> datetime | None:
    """Read a moment as UTC: ISO 8601, zone-less (taken as UTC), epoch seconds or milliseconds."""
    if value is None or isinstance(value, bool):
        return None
    number = None if isinstance(value, str) and ":" in value else as_float(value)
    try:
        if number is not None:
            seconds = number / 1000 if abs(number) >= _MILLISECONDS_FROM else number
            return datetime.fromtimestamp(seconds, UTC)
        if isinstance(value, str):
            moment = datetime.fromisoformat(value.strip())
            return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return None
