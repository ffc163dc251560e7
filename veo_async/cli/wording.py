"""The library's words in those of the command line, and numbers for people."""

import errno
import re
from typing import Final

from veo_async.errors import InvalidRequestError, SubmitUncertainError, VeoError

__all__: list[str] = []

# What the library advises to programmers, and what a command line offers instead.
_PHRASES: Final = (
    (re.compile(r"veo\.task\(id\)"), "`veo-async wait TASK_ID`"),
    (re.compile(r"veo\.task\((['\"]?)([^)'\"]*)\1\)"), r"`veo-async wait \2`"),
    (re.compile(r"veo\.extend\((['\"]?)([^)'\", ]*)\1, prompt\)"), r"`veo-async extend \2 PROMPT`"),
    (re.compile(r"veo\.upload\(\)"), "`veo-async upload`"),
    (re.compile(r"the dialect of the client"), "--dialect"),
    (re.compile(r"upgrade with a new client"), "upgrade again"),
    (
        re.compile(r"pass VeoClient\(api_key=…\)"),
        "try the command with --simulate, which needs none",
    ),
    (re.compile(r", or allow more time in Timeouts"), ""),
    (re.compile(r"\bmax_credits\b"), "--max-credits"),
    (re.compile(r", or None for none"), ", or leave it out"),
    (re.compile(r"give an int "), "give a whole number "),
    (re.compile(r"attach to (it|its id)"), r"go on with \1"),
    (re.compile(r"go on with (it|its id) (later )?with "), r"go on \2with "),
)
_NAMES: Final = {
    "prompt": "PROMPT",
    "task_id": "TASK_ID",
    "enable_translation": "--no-translation",
    "image_urls": "--image",
    "source": "FILE",
}
_FIELDS: Final = re.compile(
    r"\b(model|generation_type|image_urls|aspect_ratio|seed|callback_url|enable_translation"
    r"|watermark|resolution|duration|extend_to|output)\b"
)
_TASK: Final = re.compile(r" \(task [^)]*\)")
_SECONDS_OF_MINUTES: Final = 120  # from here on minutes are easier to read


def option_of(field: str) -> str:
    """Return how the command line spells a field of a request."""
    return _NAMES.get(field) or "--" + field.replace("_", "-")


def message_of(error: BaseException) -> str:
    """Return an error's message for who reads a terminal."""
    if isinstance(error, InvalidRequestError):
        return reworded(_with_options(str(error), error.field))
    if isinstance(error, VeoError):
        return reworded(_without_inner_remedy(error))
    if isinstance(error, OSError):
        return _of_system(error)
    return (
        f"unexpected {type(error).__name__}: {error}; this is a bug, please report it with what -v"
        " shows"
    )


def _without_inner_remedy(error: VeoError) -> str:
    # What a lost submit quotes advises to try again, which is what must not be done.
    message, inner = str(error), error.__cause__
    if isinstance(error, SubmitUncertainError) and isinstance(inner, VeoError):
        message = message.replace(str(inner), without_remedy(str(inner)))
    return message


def _with_options(message: str, field: str) -> str:
    # Only the first and the last words are the library's; between them stands the user's value.
    head, semicolon, remedy = message.rpartition(";")
    if field and head.startswith(field):
        named = "--extend-to or --then" if field == "extend_to" else option_of(field)
        head = named + head[len(field) :]
    return head + semicolon + _FIELDS.sub(lambda found: option_of(found[1]), remedy)


def reworded(message: str) -> str:
    """Return a message of the library with advice for a command line."""
    for pattern, words in _PHRASES:
        message = pattern.sub(words, message)
    return message


def _of_system(error: OSError) -> str:
    if error.errno == errno.EEXIST:
        return f"{error.filename} exists already; choose another name with --output"
    where = f" ({error.filename})" if error.filename else ""
    return f"{error.strerror or error}{where}"


def without_remedy(text: str) -> str:
    """Return what happened, without the task that is known and the advice that comes too early."""
    return _TASK.sub("", text.rpartition(";")[0] or text)


def shown(text: str) -> str:
    """Return a text in which nothing can move the cursor or hide."""
    return "".join(one if one.isprintable() else "�" for one in text)


def clock(seconds: float) -> str:
    """Write a duration as on a clock: `1:05`, `1:02:03`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def lasted(seconds: float) -> str:
    """Write a duration in words: `0.4 s`, `71 s`, `2 min 5 s`."""
    if seconds < 10:  # noqa: PLR2004  # above, a tenth says nothing
        return f"{seconds:.1f} s"
    if seconds < _SECONDS_OF_MINUTES:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if rest else f"{minutes} min"


def span(low: float, high: float) -> str:
    """Write a range of durations: `1 to 1.5 s`, `60 to 90 s`, `2 to 5 min`."""
    if high < _SECONDS_OF_MINUTES:
        return f"{_rounded(low)} to {_rounded(high)} s"
    return f"{_rounded(low / 60)} to {_rounded(high / 60)} min"


def _rounded(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0") if number < 10 else f"{number:.0f}"  # noqa: PLR2004  # as in `lasted`


def megabytes(size: float) -> str:
    """Write a number of bytes: `3.0 MB`, `12 KB`."""
    if size < 100_000:  # noqa: PLR2004  # a tenth of a megabyte
        return f"{size / 1000:.0f} KB"
    return f"{size / 1e6:.1f} MB"
