"""How a transfer goes on after a cut (RFC 9110: 8.8.1, 13.1.5, 14.4, 15.3.7, 15.5.17)."""

from itertools import product
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from veo_async.protocol.ranges import (
    Answer,
    Held,
    Span,
    Verdict,
    judge,
    request_headers,
    span_of,
    strong_etag,
)

TAG = '"a1b2"'
NOTHING = Held()
HALF = Held(size=50, etag=TAG, total=100)
REST = {"Content-Range": "bytes 50-99/100", "ETag": TAG, "Content-Length": "50"}


@pytest.mark.parametrize(
    ("held", "asked"),
    [
        (NOTHING, {}),
        (Held(etag=TAG, total=100), {}),
        (Held(size=50, total=100), {}),
        (HALF, {"Range": "bytes=50-", "If-Range": TAG}),
        (Held(size=1, etag=TAG), {"Range": "bytes=1-", "If-Range": TAG}),
    ],
)
def test_a_rest_is_asked_for_only_where_it_can_be_proved_to_fit(
    held: Held, asked: dict[str, str]
) -> None:
    assert request_headers(held) == {"Accept-Encoding": "identity"} | asked
    assert held.can_resume is (held.size == 0 or bool(asked))


@pytest.mark.parametrize(
    ("value", "tag"),
    [
        ('"a"', '"a"'),
        (' "a" ', '"a"'),
        ('"!#~"', '"!#~"'),
        ('"\xe9\x80"', '"\xe9\x80"'),
        ('"a\'b\\c"', '"a\'b\\c"'),
        (None, None),
        ("", None),
        ('""', None),
        ("a", None),
        ('W/"a"', None),
        ('w/"a"', None),
        ('W/ "a"', None),
        ('"a', None),
        ('a"', None),
        ('"a""b"', None),
        ('"a", "b"', None),
        ('"a b"', None),
        ('"a\x7f"', None),
        ('"a\n"', None),
        ('"\u0100"', None),
        ('"\udc80"', None),
        ("'a'", None),
    ],
    ids=ascii,
)
def test_only_a_strong_etag_proves_anything(value: str | None, tag: str | None) -> None:
    assert strong_etag(value) == tag


@pytest.mark.parametrize("status", [401, 403, 404, 410])
@pytest.mark.parametrize("held", [NOTHING, HALF], ids=["fresh", "resumed"])
def test_a_dead_link(status: int, held: Held) -> None:
    assert judge(held, status, REST) == Answer(verdict=Verdict.EXPIRED, reason=f"HTTP {status}")


@pytest.mark.parametrize(
    "status", [100, 201, 202, 204, 301, 304, 400, 402, 405, 408, 412, 418, 429, 451, 500, 502, 503]
)
@pytest.mark.parametrize("held", [NOTHING, HALF], ids=["fresh", "resumed"])
def test_a_failure_that_may_pass(status: int, held: Held) -> None:
    assert judge(held, status, REST) == Answer(verdict=Verdict.FAILED, reason=f"HTTP {status}")


@pytest.mark.parametrize(
    "kind",
    [
        "text/html",
        "TEXT/HTML; charset=utf-8",
        " text/plain",
        "text/xml",
        "application/xml",
        "application/xhtml+xml",
        "application/json",
        "application/json;charset=UTF-8",
    ],
)
@pytest.mark.parametrize("status", [200, 206])
def test_a_page_in_place_of_a_video_means_that_the_link_is_dead(kind: str, status: int) -> None:
    answer = judge(HALF, status, REST | {"Content-Type": kind})
    assert answer.verdict is Verdict.EXPIRED
    assert answer.reason.endswith("in place of a video")


@pytest.mark.parametrize(
    "kind",
    [
        "",
        "video/mp4",
        "VIDEO/MP4",
        "application/octet-stream",
        "binary/octet-stream",
        "video/quicktime",
    ],
)
@pytest.mark.parametrize("coding", [None, "", "identity", " Identity "])
def test_anything_else_may_be_a_video(kind: str, coding: str | None) -> None:
    headers = {"Content-Type": kind, "ETag": TAG, "Content-Length": "100"}
    if coding is not None:
        headers["Content-Encoding"] = coding
    assert judge(NOTHING, 200, headers) == Answer(verdict=Verdict.WHOLE, etag=TAG, total=100)


@pytest.mark.parametrize(
    "coding", ["gzip", "br", "GZIP", "identity, gzip", "aes128gcm", "x" * 5_000]
)
@pytest.mark.parametrize("status", [200, 206])
def test_an_encoding_that_nobody_asked_for_is_not_stored(coding: str, status: int) -> None:
    answer = judge(HALF, status, REST | {"Content-Encoding": coding})
    assert answer.verdict is Verdict.FAILED
    assert answer.reason.startswith("unasked Content-Encoding")
    assert len(answer.reason) < 200


@pytest.mark.parametrize(
    ("length", "total"),
    [
        ("100", 100),
        (" 100 ", 100),
        ("0", 0),
        ("9" * 18, 10**18 - 1),
        (None, None),
        ("", None),
        ("-1", None),
        ("+100", None),
        ("1_00", None),
        ("1e2", None),
        ("100, 100", None),
        ("\u0661", None),
        ("\u00b2", None),
        ("9" * 19, None),
    ],
    ids=ascii,
)
@pytest.mark.parametrize("held", [NOTHING, HALF], ids=["fresh", "resumed"])
def test_a_200_is_the_file_from_its_first_byte(
    held: Held, length: str | None, total: int | None
) -> None:
    headers = {"ETag": TAG} if length is None else {"ETag": TAG, "Content-Length": length}
    assert judge(held, 200, headers) == Answer(verdict=Verdict.WHOLE, etag=TAG, total=total)


def test_a_weak_etag_of_a_200_is_not_kept() -> None:
    for tag in ('W/"a1b2"', "a1b2", ""):
        assert judge(NOTHING, 200, {"ETag": tag}) == Answer(verdict=Verdict.WHOLE)


# --- 206


def part(held: Held, **changes: str | None) -> Answer:
    headers: dict[str, Any] = REST | {name.replace("_", "-"): v for name, v in changes.items()}
    return judge(held, 206, {name: value for name, value in headers.items() if value is not None})


GOES_ON = Answer(verdict=Verdict.GOES_ON, etag=TAG, total=100)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"Content_Length": None},
        {"Content_Length": "fifty"},
        {"Content_Range": "bytes 50-99/*"},
        {"Content_Range": " bytes 50-99/100 "},
        {"Content_Range": "Bytes 50-99/100"},
        {"Content_Range": "bytes 50-98/100", "Content_Length": "49"},
        {"Content_Range": "bytes 50-50/100", "Content_Length": "1"},
        {"Content_Type": "video/mp4"},
    ],
    ids=str,
)
def test_a_part_that_fits_goes_on(changes: dict[str, str | None]) -> None:
    assert part(HALF, **changes) == GOES_ON


@pytest.mark.parametrize(
    "changes",
    [
        {"Content_Range": None},
        {"Content_Range": ""},
        {"Content_Range": "bytes"},
        {"Content_Range": "bytes 50-99"},
        {"Content_Range": "bytes=50-99/100"},
        {"Content_Range": "bytes */100"},
        {"Content_Range": "bytes 0-99/100", "Content_Length": "100"},
        {"Content_Range": "bytes 0-49/100"},
        {"Content_Range": "bytes 49-99/100", "Content_Length": "51"},
        {"Content_Range": "bytes 51-99/100", "Content_Length": "49"},
        {"Content_Range": "bytes 50-49/100", "Content_Length": "0"},
        {"Content_Range": "bytes 50-40/100", "Content_Length": None},
        {"Content_Range": "bytes 50-100/100", "Content_Length": "51"},
        {"Content_Range": "bytes 50-100/*", "Content_Length": "51"},
        {"Content_Range": "bytes 50-99/101"},
        {"Content_Range": "bytes 50-99/99"},
        {"Content_Range": "bytes 50-99/0"},
        {"Content_Range": "bytes -50-99/100"},
        {"Content_Range": "bytes 50-99/100, bytes 0-1/100"},
        {"Content_Range": "bytes 50-99/100\n"[:-1] + "x"},
        {"Content_Range": "items 50-99/100"},
        {"Content_Range": "bytes \u0665\u0660-99/100"},
        {"Content_Range": "bytes 50-" + "9" * 19 + "/*"},
        {"Content_Range": "x" * 10_000},
        # The body is not what the range says: the whole file, labelled as its rest.
        {"Content_Length": "100"},
        {"Content_Length": "49"},
        {"Content_Length": "0"},
        # No proof that it is the same file.
        {"ETag": None},
        {"ETag": ""},
        {"ETag": 'W/"a1b2"'},
        {"ETag": '"other"'},
        {"ETag": '"A1B2"'},
        {"ETag": "a1b2"},
    ],
    ids=lambda changes: str(changes)[:60],
)
def test_a_part_that_does_not_fit_is_of_another_file(changes: dict[str, str | None]) -> None:
    answer = part(HALF, **changes)
    assert answer.verdict is Verdict.CHANGED
    assert (answer.etag, answer.total) == (None, None)
    assert answer.reason.isprintable()
    assert 0 < len(answer.reason) < 250


def test_a_part_never_follows_bytes_without_an_etag() -> None:
    held = Held(size=50, total=100)
    for tag in (None, "", TAG, 'W/"a1b2"'):
        assert part(held, ETag=tag).verdict is Verdict.CHANGED


@pytest.mark.parametrize(
    ("changes", "answer"),
    [
        ({}, Answer(verdict=Verdict.GOES_ON, etag=TAG, total=100)),
        ({"ETag": None}, Answer(verdict=Verdict.GOES_ON, total=100)),
        ({"ETag": 'W/"a1b2"'}, Answer(verdict=Verdict.GOES_ON, total=100)),
        ({"Content_Range": "bytes 0-49/*"}, Answer(verdict=Verdict.GOES_ON, etag=TAG)),
    ],
    ids=str,
)
def test_an_unasked_part_may_begin_a_file(changes: dict[str, str | None], answer: Answer) -> None:
    begin: dict[str, str | None] = {"Content_Range": "bytes 0-49/100"}
    assert part(NOTHING, **(begin | changes)) == answer


def test_a_size_that_was_never_said_is_learnt_from_a_part() -> None:
    held = Held(size=50, etag=TAG)
    assert part(held) == GOES_ON
    assert part(held, Content_Range="bytes 50-99/*") == attrs.evolve(GOES_ON, total=None)


# --- 416

ALL = Held(size=100, etag=TAG, total=100)


@pytest.mark.parametrize(
    ("held", "content_range", "verdict"),
    [
        (ALL, None, Verdict.COMPLETE),
        (ALL, "", Verdict.COMPLETE),
        (ALL, "bytes */100", Verdict.COMPLETE),
        (ALL, " bytes */100 ", Verdict.COMPLETE),
        (ALL, "bytes */99", Verdict.CHANGED),
        (ALL, "bytes */101", Verdict.CHANGED),
        (ALL, "bytes */*", Verdict.CHANGED),
        (ALL, "bytes 0-99/100", Verdict.CHANGED),
        (ALL, "x" * 10_000, Verdict.CHANGED),
        (HALF, None, Verdict.CHANGED),
        (HALF, "bytes */100", Verdict.CHANGED),
        (HALF, "bytes */50", Verdict.CHANGED),
        (Held(size=100, etag=TAG), "bytes */100", Verdict.CHANGED),
        (Held(size=101, etag=TAG, total=100), "bytes */100", Verdict.CHANGED),
        (NOTHING, "bytes */0", Verdict.FAILED),
        (Held(etag=TAG, total=0), None, Verdict.FAILED),
    ],
    ids=lambda value: str(value)[:40],
)
def test_an_unsatisfiable_range(held: Held, content_range: str | None, verdict: Verdict) -> None:
    headers = {} if content_range is None else {"Content-Range": content_range}
    answer = judge(held, 416, headers)
    assert answer.verdict is verdict
    if verdict is Verdict.COMPLETE:
        assert (answer.etag, answer.total) == (TAG, 100)
    else:
        assert 0 < len(answer.reason) < 250


# --- a whole transfer, from a host that is honest, sloppy or lying


@attrs.frozen
class Version:
    """One content of the file at the host."""

    content: bytes
    etag: str | None

    @property
    def headers(self) -> dict[str, str]:
        return {} if self.etag is None else {"ETag": self.etag}


def whole(version: Version, *, length: bool) -> tuple[int, dict[str, str], bytes]:
    headers = dict(version.headers)
    if length:
        headers["Content-Length"] = str(len(version.content))
    return 200, headers, version.content


def rest(
    version: Version, start: int, *, said_start: int, said_total: str, body_from: int
) -> tuple[int, dict[str, str], bytes]:
    last = len(version.content) - 1
    body = version.content[body_from:]
    headers = version.headers | {
        "Content-Range": f"bytes {said_start}-{last}/{said_total}",
        "Content-Length": str(len(body)),
    }
    if start > last:
        return 416, {"Content-Range": f"bytes */{len(version.content)}"}, b""
    return 206, headers, body


BEHAVIOURS = [
    "honest",
    "looks-past-if-range",
    "looks-past-range",
    "no-length",
    "no-etag-in-parts",
    "weak-etag-in-parts",
    "shifted-label",
    "shifted-both",
    "wrong-total",
    "star",
    "whole-labelled-as-rest",
    "page",
    "gone",
    "broken",
    "unsatisfiable",
]
SHIFTS = [-2, -1, 1, 2]


def serve(
    version: Version, asked: dict[str, str], behaviour: str, shift: int
) -> tuple[int, dict[str, str], bytes]:
    size = len(version.content)
    simple = {
        "page": (200, {"Content-Type": "text/html"}, b"<html>"),
        "gone": (404, {}, b""),
        "broken": (503, {}, b""),
        "unsatisfiable": (416, {"Content-Range": f"bytes */{size}"}, b""),
    }
    if behaviour in simple:
        return simple[behaviour]
    if "Range" not in asked or behaviour in {"looks-past-range", "no-length"}:
        return whole(version, length=behaviour != "no-length")
    if behaviour == "honest" and asked["If-Range"] != version.etag:
        return whole(version, length=True)
    start = int(asked["Range"].removeprefix("bytes=").removesuffix("-"))
    label, origin = {
        "shifted-label": (start + shift, start),
        "shifted-both": (start + shift, start + shift),
        "whole-labelled-as-rest": (start, 0),
    }.get(behaviour, (start, start))
    label, origin = max(label, 0), max(origin, 0)
    # Shown as a right label it could not be told from the truth by anyone.
    if behaviour.startswith("shifted") and label == start:
        return 503, {}, b""
    total = {"wrong-total": str(size + shift), "star": "*"}.get(behaviour, str(size))
    status, headers, body = rest(
        version, start, said_start=label, said_total=total, body_from=origin
    )
    if behaviour == "no-etag-in-parts":
        headers.pop("ETag", None)
    if behaviour == "weak-etag-in-parts" and "ETag" in headers:
        headers["ETag"] = "W/" + headers["ETag"]
    return status, headers, body


OLD = Version(b"abcdef", '"old"')
LATER = [
    OLD,
    Version(b"ABCDEF", '"new"'),
    Version(b"ABCDEF", 'W/"old"'),
    Version(b"ABCDEF", "old"),
    Version(b"ABCDEF", None),
    Version(b"ABCDEFGH", '"longer"'),
    Version(b"ABCD", '"shorter"'),
]


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_after_a_cut_nothing_but_the_rest_of_the_same_file_goes_on(behaviour: str) -> None:
    for cut, later, shift in product(range(1, 6), LATER, SHIFTS):
        held = Held(size=cut, etag=OLD.etag, total=len(OLD.content))
        status, headers, body = serve(later, request_headers(held), behaviour, shift)
        answer = judge(held, status, headers)
        assert answer.verdict is not Verdict.COMPLETE
        if answer.verdict is Verdict.GOES_ON:
            assert OLD.content[:cut] + body == OLD.content
        if answer.verdict is Verdict.WHOLE:
            assert body == later.content
        if later is OLD and behaviour == "honest":
            assert answer.verdict is Verdict.GOES_ON


@st.composite
def versions(draw: st.DrawFn) -> list[Version]:
    """Draw what a file was and became. Often of one length, so that no length gives it away."""
    same = draw(st.none() | st.integers(2, 12))
    kinds = draw(
        st.lists(st.sampled_from(['"v{}"', '"v{}"', 'W/"v{}"', None]), min_size=1, max_size=3)
    )
    return [
        Version(
            content=bytes(range(16 * number, 16 * number + (same or draw(st.integers(1, 12))))),
            etag=None if kind is None else kind.format(number),
        )
        for number, kind in enumerate(kinds)
    ]


@settings(max_examples=500)
@given(versions(), st.data())
def test_what_was_put_together_is_one_version_of_the_file(
    found: list[Version], draw: st.DataObject
) -> None:
    held, bytes_held = NOTHING, b""
    for _ in range(12):
        version = draw.draw(st.sampled_from(found), "version")
        behaviour = draw.draw(st.just("honest") | st.sampled_from(BEHAVIOURS), "behaviour")
        shift = draw.draw(st.sampled_from(SHIFTS), "shift")
        status, headers, body = serve(version, request_headers(held), behaviour, shift)
        answer = judge(held, status, headers)
        if answer.verdict is Verdict.COMPLETE:
            break
        if answer.verdict is Verdict.CHANGED or (answer.verdict is Verdict.WHOLE and held.size):
            held, bytes_held = NOTHING, b""  # start again
            continue
        if answer.verdict not in {Verdict.WHOLE, Verdict.GOES_ON}:
            continue
        cut = draw.draw(st.just(len(body)) | st.integers(0, len(body)), "cut")
        bytes_held += body[:cut]
        held = Held(size=len(bytes_held), etag=answer.etag, total=answer.total)
        if held.total is not None and held.size > held.total:
            return  # more than was announced: the transfer fails
        if held.size == held.total or (held.total is None and cut == len(body)):
            break
        if not held.can_resume:
            held, bytes_held = NOTHING, b""
    else:
        return  # given up: nothing was called whole
    assert bytes_held in {version.content for version in found}


# --- parts of a file


@pytest.mark.parametrize(
    ("header", "span"),
    [
        ("bytes=0-", Span(0)),
        ("bytes=5-9", Span(5, 9)),
        ("bytes=5-5", Span(5, 5)),
        ("bytes=-7", Span(None, 7)),
        ("bytes=-0", Span(None, 0)),
        (" bytes = 5 - 9 ", Span(5, 9)),
        (None, None),
        ("", None),
        ("bytes=-", None),
        ("bytes=9-5", None),
        ("bytes=1-2,5-9", None),
        ("bytes=1-2;", None),
        ("bytes=+1-2", None),
        ("bytes=\u0661-", None),
        ("bytes=1-\n5", None),
        ("bytes=" + "9" * 19 + "-", None),
        ("Bytes=1-", None),
        ("seconds=1-2", None),
    ],
    ids=ascii,
)
def test_a_range_header(header: str | None, span: Span | None) -> None:
    assert span_of(header) == span
    if span is not None:
        assert span_of(str(span)) == span


@pytest.mark.parametrize("span", [Span(50), Span(50, 79), Span(None, 50)])
def test_a_part_is_asked_for_as_it_is_wanted(span: Span) -> None:
    nothing = request_headers(NOTHING, span)
    assert nothing == {"Accept-Encoding": "identity", "Range": str(span)}
    assert request_headers(Held(start=50, size=50, etag=TAG, total=100), span) == nothing


@pytest.mark.parametrize(("span", "rest"), [(Span(50, 79), "bytes=60-79"), (Span(50), "bytes=60-")])
def test_the_rest_of_a_part_ends_where_the_part_does(span: Span, rest: str) -> None:
    held = Held(start=50, size=60, etag=TAG, total=100)
    asked = {"Accept-Encoding": "identity", "Range": rest, "If-Range": TAG}
    assert request_headers(held, span) == asked


def answered(span: Span, content_range: str, **headers: str) -> Answer:
    return judge(NOTHING, 206, {"Content-Range": content_range, "ETag": TAG} | headers, span)


@pytest.mark.parametrize(
    ("span", "content_range", "start", "stop", "total"),
    [
        (Span(50), "bytes 50-99/100", 50, 100, 100),
        (Span(50), "bytes 50-99/*", 50, 100, None),
        (Span(50), "bytes 50-60/100", 50, 61, 100),
        (Span(50, 79), "bytes 50-79/100", 50, 80, 100),
        (Span(50, 79), "bytes 50-70/100", 50, 71, 100),
        (Span(50, 999), "bytes 50-99/100", 50, 100, 100),
        (Span(0), "bytes 0-99/100", 0, 100, 100),
        (Span(None, 30), "bytes 70-99/100", 70, 100, 100),
        (Span(None, 300), "bytes 0-99/100", 0, 100, 100),
    ],
)
def test_a_part_that_was_asked_for(
    span: Span, content_range: str, start: int, stop: int, total: int | None
) -> None:
    length = {"Content-Length": str(stop - start)}
    assert answered(span, content_range, **length) == Answer(
        verdict=Verdict.GOES_ON, start=start, stop=stop, etag=TAG, total=total
    )


@pytest.mark.parametrize(
    ("span", "content_range"),
    [
        (Span(50), "bytes 49-99/100"),
        (Span(50), "bytes 51-99/100"),
        (Span(50), "bytes 50-100/100"),
        (Span(50), "bytes 50-49/100"),
        (Span(50, 79), "bytes 50-80/100"),
        (Span(None, 30), "bytes 69-99/100"),
        (Span(None, 30), "bytes 71-99/100"),
        (Span(None, 30), "bytes 70-99/*"),
        (Span(None, 0), "bytes 0-99/100"),
        (Span(50), "items 50-99/100"),
        (Span(50), ""),
    ],
)
def test_a_part_that_was_not_asked_for(span: Span, content_range: str) -> None:
    answer = answered(span, content_range)
    assert answer.verdict is Verdict.FAILED
    assert str(span) in answer.reason


def test_a_part_whose_length_is_not_the_one_it_says() -> None:
    answer = answered(Span(50), "bytes 50-99/100", **{"Content-Length": "51"})
    assert answer.verdict is Verdict.FAILED


@pytest.mark.parametrize(
    ("content_range", "total"),
    [("bytes */100", 100), ("Bytes */0", 0), ("bytes */*", None), ("", None), ("*/100", None)],
)
def test_a_part_that_is_not_there(content_range: str, total: int | None) -> None:
    answer = judge(NOTHING, 416, {"Content-Range": content_range}, Span(500))
    assert answer == Answer(verdict=Verdict.BEYOND, total=total)


def test_a_host_that_knows_no_parts_sends_the_whole() -> None:
    headers = {"ETag": TAG, "Content-Length": "100"}
    answer = judge(NOTHING, 200, headers, Span(50))
    assert answer == Answer(verdict=Verdict.WHOLE, etag=TAG, total=100)


def test_a_page_in_place_of_a_part_is_a_dead_link() -> None:
    answer = answered(Span(50), "bytes 50-99/100", **{"Content-Type": "text/html"})
    assert answer.verdict is Verdict.EXPIRED


def test_the_rest_of_a_part_has_to_fit_like_any_rest() -> None:
    held = Held(start=50, size=60, etag=TAG, total=100)
    rest = {"Content-Range": "bytes 60-79/100", "ETag": TAG}
    assert judge(held, 206, rest, Span(50, 79)).verdict is Verdict.GOES_ON
    assert judge(held, 206, rest | {"ETag": '"b"'}, Span(50, 79)).verdict is Verdict.CHANGED
    assert judge(held, 416, {}, Span(50, 79)).verdict is Verdict.CHANGED
