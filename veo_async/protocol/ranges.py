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
_RANGE = re.compile(r"bytes[ \t]*=[ \t]*(\d{0,18})[ \t]*-[ \t]*(\d{0,18})[ \t]*", re.ASCII)
_NO_RANGE = re.compile(r"bytes \*/(\d{1,18})", re.ASCII | re.IGNORECASE)
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
        start: Offset of its first byte.
        size: Offset behind its last byte.
        etag: Strong ETag of the file they belong to, if it had one.
        total: Size of the whole file, if it was said.
    """

    start: int = 0
    size: int = 0
    etag: str | None = None
    total: int | None = None

    @property
    def is_empty(self) -> bool:
        """Whether not one byte is there."""
        return self.size == self.start

    @property
    def can_resume(self) -> bool:
        """Whether the rest can be asked for and be trusted to fit."""
        return self.is_empty or self.etag is not None


@attrs.frozen
class Span:
    """A part of a file that is asked for.

    Attributes:
        first: Offset of its first byte; None for the `last` bytes of the file.
        last: Offset of its last byte; None for the rest of the file.
    """

    first: int | None
    last: int | None = None

    def __str__(self) -> str:
        ends = ("" if end is None else str(end) for end in (self.first, self.last))
        return f"bytes={'-'.join(ends)}"

    def holds(self, start: int, end: int, total: int | None) -> bool:
        """Return whether the bytes from `start` to `end` are the beginning of what is asked for."""
        if self.first is None:
            return total is not None and start == max(0, total - (self.last or 0))
        return start == self.first and (self.last is None or end <= self.last)


def span_of(header: str | None) -> Span | None:
    """Return the part that a `Range` header asks for, None where the whole file is the answer.

    Several parts and malformed ones are answered like that too, as RFC 9110 allows (14.2).
    """
    match = None if header is None else _RANGE.fullmatch(header.strip())
    if match is None or not (match[1] or match[2]):
        return None
    first, last = (int(end) if end else None for end in match.groups())
    return None if first is not None and last is not None and last < first else Span(first, last)


class Verdict(Enum):
    """What an answer means for the bytes that are held."""

    GOES_ON = auto()  # its body follows the bytes held
    WHOLE = auto()  # its body is the file from its first byte
    COMPLETE = auto()  # nothing is missing
    BEYOND = auto()  # the file has no byte of the part that was asked for
    EXPIRED = auto()  # the link is dead: ask for a new one
    CHANGED = auto()  # it is a part of another file, or of none: start again
    FAILED = auto()  # a failure of the host that may pass


@attrs.frozen(kw_only=True)
class Answer:
    """A verdict with what the answer said of the file.

    Attributes:
        verdict: What it means.
        start: Offset of the first byte of the part that was asked for.
        stop: Offset behind the last one, where a part was asked for.
        etag: Strong ETag, if it has one.
        total: Size of the whole file, if it says so.
        reason: For people, where the verdict is bad.
    """

    verdict: Verdict
    start: int = 0
    stop: int | None = None
    etag: str | None = None
    total: int | None = None
    reason: str = ""


def request_headers(held: Held, span: Span | None = None) -> dict[str, str]:
    """Return the headers that ask for what is missing.

    Args:
        held: What is there.
        span: The part that is asked for; None for the whole file. Where bytes are held, it is the
            one that `judge` found.
    """
    headers = {"Accept-Encoding": "identity"}
    if not held.is_empty and held.etag is not None:
        headers["Range"] = str(Span(held.size, None if span is None else span.last))
        headers["If-Range"] = held.etag
    elif span is not None:
        headers["Range"] = str(span)
    return headers


def judge(held: Held, status: int, headers: Mapping[str, str], span: Span | None = None) -> Answer:
    """Return what an answer to `request_headers(held, span)` means.

    Args:
        held: What was there when the request was made.
        status: HTTP status of the answer.
        headers: Its headers; names are compared without case by the caller's mapping.
        span: The part that was asked for; None for the whole file.
    """
    if status in _EXPIRED:
        return Answer(verdict=Verdict.EXPIRED, reason=f"HTTP {status}")
    if status in {_OK, _PARTIAL}:
        return _not_a_video(headers) or _judge_body(held, status, headers, span)
    if status == _UNSATISFIABLE and not held.is_empty:
        return _judge_unsatisfiable(held, headers.get("Content-Range"))
    if status == _UNSATISFIABLE and span is not None:
        match = _NO_RANGE.fullmatch(headers.get("Content-Range", "").strip())
        return Answer(verdict=Verdict.BEYOND, total=None if match is None else int(match[1]))
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


def _judge_body(held: Held, status: int, headers: Mapping[str, str], span: Span | None) -> Answer:
    etag = strong_etag(headers.get("ETag"))
    if status == _OK:
        return Answer(verdict=Verdict.WHOLE, etag=etag, total=_length(headers))
    if span is not None and held.is_empty:
        return _judge_first_part(span, etag, headers)
    return _judge_part(held, etag, headers)


def _judge_first_part(span: Span, etag: str | None, headers: Mapping[str, str]) -> Answer:
    content_range = headers.get("Content-Range", "").strip()
    match = _CONTENT_RANGE.fullmatch(content_range)
    if match is not None:
        start, end = int(match[1]), int(match[2])
        total = None if match[3] == "*" else int(match[3])
        is_part = start <= end and (total is None or end < total)
        is_all_there = _length(headers) in {None, end - start + 1}
        if is_part and is_all_there and span.holds(start, end, total):
            return Answer(
                verdict=Verdict.GOES_ON, start=start, stop=end + 1, etag=etag, total=total
            )
    return Answer(
        verdict=Verdict.FAILED, reason=f"Content-Range {content_range[:_QUOTED]!r} for {span}"
    )


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
    is_same_file = held.is_empty or (etag is not None and etag == held.etag)
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
