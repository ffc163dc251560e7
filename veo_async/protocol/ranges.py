"""How a transfer goes on after a cut: what to ask for, and whether the answer fits the bytes held.

The only proof that two answers are parts of one file is a strong ETag (RFC 9110, 8.8.1 and 13.1.5).
Without one, a transfer that was cut starts again.
"""

import re
from collections.abc import Mapping
from enum import Enum, auto

import attrs

__all__: list[str] = []

_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", re.ASCII | re.IGNORECASE)
_STRONG_ETAG = re.compile(r'"[\x21\x23-\x7e\x80-\xff]+"')  # an empty one tells nothing apart
_EXPIRED = frozenset({401, 403, 404, 410})
_PAGES = ("text/", "application/xml", "application/json", "application/xhtml")
_OK = 200
_PARTIAL = 206
_UNSATISFIABLE = 416
_QUOTED = 80  # characters of a header in a reason, which ends up in a message for people


@attrs.frozen(kw_only=True)
class Held:
    """What is already there of a file.

    Attributes:
        size: Bytes.
        etag: Strong ETag of the file they belong to, if it had one.
        total: Size of the whole file, if it was said.
    """

    size: int = 0
    etag: str | None = None
    total: int | None = None

    @property
    def can_resume(self) -> bool:
        """Whether the rest can be asked for and be trusted to fit."""
        return self.size == 0 or self.etag is not None


class Verdict(Enum):
    """What an answer means for the bytes that are held."""

    GOES_ON = auto()  # its body follows the bytes held
    WHOLE = auto()  # its body is the file from its first byte
    COMPLETE = auto()  # nothing is missing
    EXPIRED = auto()  # the link is dead: ask for a new one
    CHANGED = auto()  # it is a part of another file, or of none: start again
    FAILED = auto()  # a failure of the host that may pass


@attrs.frozen(kw_only=True)
class Answer:
    """A verdict with what the answer said of the file.

    Attributes:
        verdict: What it means.
        etag: Strong ETag, if it has one.
        total: Size of the whole file, if it says so.
        reason: For people, where the verdict is bad.
    """

    verdict: Verdict
    etag: str | None = None
    total: int | None = None
    reason: str = ""


def request_headers(held: Held) -> dict[str, str]:
    """Return the headers that ask for what is missing."""
    headers = {"Accept-Encoding": "identity"}
    if held.size and held.etag is not None:
        headers["Range"] = f"bytes={held.size}-"
        headers["If-Range"] = held.etag
    return headers


def judge(held: Held, status: int, headers: Mapping[str, str]) -> Answer:
    """Return what an answer to `request_headers(held)` means.

    Args:
        held: What was there when the request was made.
        status: HTTP status of the answer.
        headers: Its headers; names are compared without case by the caller's mapping.
    """
    if status in _EXPIRED:
        return Answer(verdict=Verdict.EXPIRED, reason=f"HTTP {status}")
    if status in {_OK, _PARTIAL}:
        refusal = _not_a_video(headers)
        if refusal is not None:
            return refusal
        etag = strong_etag(headers.get("ETag"))
        if status == _PARTIAL:
            return _judge_part(held, etag, headers)
        return Answer(verdict=Verdict.WHOLE, etag=etag, total=_length(headers))
    if status == _UNSATISFIABLE and held.size:
        return _judge_unsatisfiable(held, headers.get("Content-Range"))
    return Answer(verdict=Verdict.FAILED, reason=f"HTTP {status}")


def _not_a_video(headers: Mapping[str, str]) -> Answer | None:
    coding = headers.get("Content-Encoding", "identity").strip().lower()
    if coding not in {"", "identity"}:
        return Answer(
            verdict=Verdict.FAILED, reason=f"unasked Content-Encoding {coding[:_QUOTED]!r}"
        )
    kind = headers.get("Content-Type", "").strip().lower()
    if kind.startswith(_PAGES):
        return Answer(verdict=Verdict.EXPIRED, reason=f"{kind[:_QUOTED]!r} in place of a video")
    return None


def _judge_part(held: Held, etag: str | None, headers: Mapping[str, str]) -> Answer:
    content_range = headers.get("Content-Range", "").strip()
    changed = Answer(
        verdict=Verdict.CHANGED,
        reason=f"Content-Range {content_range[:_QUOTED]!r}, ETag {etag!r:.{_QUOTED}}",
    )
    match = _CONTENT_RANGE.fullmatch(content_range)
    if match is None:
        return changed
    start, end = int(match[1]), int(match[2])
    total = held.total if match[3] == "*" else int(match[3])
    is_next = start == held.size and start <= end and (total is None or end < total)
    is_same_size = held.total in {None, total}
    # A part without the ETag of the bytes held may be one of another file, also where the host says
    # that it looked at If-Range: some look past it.
    is_same_file = not held.size or (etag is not None and etag == held.etag)
    is_all_there = _length(headers) in {None, end - start + 1}
    if is_next and is_same_size and is_same_file and is_all_there:
        return Answer(verdict=Verdict.GOES_ON, etag=etag, total=total)
    return changed


def _judge_unsatisfiable(held: Held, content_range: str | None) -> Answer:
    if held.total is not None and held.size == held.total:
        same = (content_range or "").strip() in {"", f"bytes */{held.total}"}
        if same:
            return Answer(verdict=Verdict.COMPLETE, etag=held.etag, total=held.total)
    return Answer(verdict=Verdict.CHANGED, reason=f"HTTP 416, {(content_range or '')[:_QUOTED]!r}")


def _length(headers: Mapping[str, str]) -> int | None:
    text = headers.get("Content-Length", "").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None  # noqa: PLR2004  # fits 64 bits


def strong_etag(value: str | None) -> str | None:
    """Return an ETag that proves equality byte for byte; None for weak and malformed ones."""
    if value is None:
        return None
    text = value.strip()
    return text if _STRONG_ETAG.fullmatch(text) else None
