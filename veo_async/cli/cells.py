"""What a row of an input says about a request: the names of its columns, and text to values."""

import difflib
import json
import re
import reprlib
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final, NoReturn

from veo_async.errors import InvalidRequestError
from veo_async.models import JSON
from veo_async.request import RequestFields, is_http_url, is_image_path

__all__: list[str] = []

NAMES: Final = ("prompt", "key", *RequestFields.__annotations__)
_LONGEST_KEY: Final = 200  # characters: it is shown, and part of file names


def _folded(name: str) -> str:
    return re.sub(r"[-_\s]", "", name).lower()


# `aspectRatio`, `aspect-ratio` and `Aspect ratio` are one name. The service says `seeds`.
_FIELDS: Final[Mapping[str, str]] = {**{_folded(name): name for name in NAMES}, "seeds": "seed"}


def field_of(name: str) -> str | None:
    """Return the field that a column's name means, if it means one."""
    return _FIELDS.get(_folded(name))


def titled(name: str) -> str:
    """Return a column's name as the input spells it, on one line."""
    return " ".join(name.split())


def hint_for(name: str) -> str:
    """Return what to do about a name that means no field."""
    close = difflib.get_close_matches(_folded(name), _FIELDS, n=1)
    return f"did you mean {_FIELDS[close[0]]}?" if close else "known are " + ", ".join(NAMES)


def check_key(key: object) -> None:
    """Make sure that a row's own name can be one.

    Raises:
        InvalidRequestError: It cannot.
    """
    if isinstance(key, str) and key.isprintable() and key.strip() and len(key) <= _LONGEST_KEY:
        return
    raise InvalidRequestError(
        f"key is {reprlib.repr(key)}; give a text of 1 to {_LONGEST_KEY} printable characters",
        field="key",
    )


def parsed(text: str) -> JSON:
    """Read one JSON value, by the letter of the standard.

    Raises:
        ValueError: It is none; the message says why and where.
    """
    try:
        value: JSON = json.loads(
            text, parse_constant=_no_constant, object_pairs_hook=_without_twins
        )
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON at character {error.pos + 1} ({error.msg})") from None
    except RecursionError:
        raise ValueError("not JSON that can be read (it is nested too deeply)") from None
    except _NotJSONError:
        raise
    except ValueError:  # Python's own limit
        raise ValueError("not JSON that can be read (a number has too many digits)") from None
    return value


class _NotJSONError(ValueError):
    """What Python would take and other readers would not, or differently."""


def _no_constant(name: str) -> NoReturn:
    raise _NotJSONError(f"not JSON ({name} is no number of it)")


def _without_twins(pairs: list[tuple[str, JSON]]) -> dict[str, JSON]:
    members = dict(pairs)
    if len(members) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        twin = next(name for name, count in counts.items() if count > 1)
        raise _NotJSONError(f"not plain JSON ({reprlib.repr(twin)} occurs twice in one object)")
    return members


def value_of(field: str, cell: str) -> object:
    """Return what the text of a cell means.

    A text that means nothing stays as it is: the request refuses it, and says what it takes.

    Raises:
        InvalidRequestError: The cell is to be JSON and is not.
    """
    convert = _CONVERSIONS.get(field)
    return cell if convert is None else convert(field, cell)


def _number(_: str, cell: str) -> object:
    return int(cell) if re.fullmatch(r"[+-]?[0-9]{1,18}", cell) else cell


def _truth(_: str, cell: str) -> object:
    return _TRUTHS.get(cell.lower(), cell)


def _json(field: str, cell: str) -> object:
    try:
        return parsed(cell)
    except ValueError as error:
        wanted = _WANTED.get(field, "object")
        raise InvalidRequestError(
            f"{field} is {error}; give a JSON {wanted}", field=field
        ) from None


def _images(field: str, cell: str) -> object:
    if cell.startswith("["):
        return _json(field, cell)
    found: list[str] = []
    for part in cell.split("|"):
        words, image = _BLANKS.split(part.strip()), ""
        # The name of a file may have blanks in it, and its ending tells where it is over.
        for word, gap in zip(words[::2], [*words[1::2], ""], strict=True):
            image += word
            if is_http_url(image) or is_image_path(image):
                found.append(image)
                image = ""
            else:
                image += gap
        found += [image] if image else []
    return found


def _film(field: str, cell: str) -> object:
    if cell.startswith("["):
        return _json(field, cell)
    if "|" in cell:
        return [prompt.strip() for prompt in cell.split("|") if prompt.strip()]
    number = _number(field, cell)
    return float(cell) if number is cell and _DECIMAL.fullmatch(cell) else number


# A comma may be part of a URL, but not one that a blank follows.
_BLANKS: Final = re.compile(r"(,?\s+)")
_DECIMAL: Final = re.compile(r"[0-9]{1,9}\.[0-9]{1,9}")
_WANTED: Final[Mapping[str, str]] = {
    "image_urls": "array of URLs or paths",
    "extend_to": "array of prompts",
}
_TRUTHS: Final[Mapping[str, bool]] = {
    "true": True,
    "yes": True,
    "1": True,
    "false": False,
    "no": False,
    "0": False,
}
_CONVERSIONS: Final[Mapping[str, Callable[[str, str], object]]] = {
    "seed": _number,
    "duration": _number,
    "enable_translation": _truth,
    "image_urls": _images,
    "extend_to": _film,
    "extra": _json,
}
