"""Bodies that no honest service sends: a reader answers, or raises what it documents. No more."""

import json
import logging
import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veo_async.errors import APIError, TaskFailedError, UnexpectedResponseError, VeoError
from veo_async.models import Resolution, TaskRecord, TaskStatus, Video
from veo_async.protocol import codec, reading
from veo_async.protocol.http import HttpResponse
from veo_async.protocol.polling import is_final
from veo_async.protocol.retry import is_transient, taken

ID = "0123456789abcdef0123456789abcdef"
LINK = "https://tempfile.aiquickdraw.com/v/1.mp4"
BASE = Video(task_id=ID, url=LINK)
STATUSES = [200, 204, 302, 400, 401, 403, 404, 408, 422, 429, 451, 455, 500, 501, 503, 999]

READERS: dict[str, Callable[[HttpResponse], object]] = {
    "generate": codec.read_generate,
    "record-info": lambda response: codec.read_record_info(response, ID),
    "1080p": lambda response: codec.read_upgrade(response, BASE, Resolution.HD_1080P),
    "4k": lambda response: codec.read_upgrade(response, BASE, Resolution.UHD_4K),
    "credits": codec.read_credits,
    "download-url": codec.read_download_url,
}


def said(value: object) -> str:
    """Return what a person gets to see of a value or an error."""
    text = f"{value}"
    assert text.isprintable(), "nothing that moves a terminal's cursor"
    text.encode()
    repr(value).encode("ascii", "backslashreplace")
    return text


def read_all(body: bytes, status: int) -> list[object]:
    """Read a body as every answer; return what came of it, once each promise was checked."""
    outcomes: list[object] = []
    for name, reader in READERS.items():
        response = HttpResponse(status=status, body=body, retry_after=None)
        try:
            outcome = reader(response)
        except APIError as error:
            outcome = error
        if isinstance(outcome, APIError):
            _check_error(outcome)
        if isinstance(outcome, TaskRecord):
            _check_record(outcome)
        if name == "generate" and isinstance(outcome, str):
            assert 0 < len(said(outcome)) <= 256
        if isinstance(outcome, Decimal):
            assert 0 <= outcome < 10**18
        if isinstance(outcome, Video):
            said(outcome.url)
            codec.upgrade_task(outcome)
        outcomes.append(outcome)
    return outcomes


def _check_error(error: APIError) -> None:
    assert len(said(error)) < 1_500
    said(error.message)
    taken(error)
    is_transient(error)
    is_final(error, in_a_row=9, believed_after=4, age=None)


def _check_record(record: TaskRecord) -> None:
    assert record.task_id == ID
    assert record.status in TaskStatus
    if record.error_message is not None:
        said(record.error_message)
    for url in record.video_urls:
        assert said(url)[:8].lower().startswith(("http://", "https://"))
    if record.status is TaskStatus.FAILED:
        assert len(said(codec.failure_of(record))) < 1_500
    else:
        codec.upgraded_by(record, BASE, Resolution.UHD_4K)
    cost = codec.credits_of(record)
    assert cost is None or cost >= 0
    codec.repeats_request(record)
    try:
        video = codec.video_of(record)
    except (TaskFailedError, UnexpectedResponseError):
        return
    assert record.status is not TaskStatus.FAILED
    assert video.duration is None or math.isfinite(video.duration)
    said(video.resolution)
    said(video.aspect_ratio)


def good(**changes: Any) -> bytes:
    data = {"taskId": ID, "status": 1, "videoUrl": LINK}
    return json.dumps({"code": 200, "msg": "success", "data": data} | changes).encode()


UNREADABLE: list[Any] = [
    pytest.param(b"", id="empty"),
    pytest.param(b"\n\n", id="blank"),
    pytest.param(b"[" * 200_000, id="depth-200000-lists"),
    pytest.param(b'{"data":' * 200_000 + b"1" + b"}" * 200_000, id="depth-200000-objects"),
    pytest.param(b'{"code":200,"x":' + b"9" * 5_000 + b"}", id="5000-digits"),
    pytest.param(good() + b"}", id="trailing"),
    pytest.param(good()[:-1], id="cut"),
    pytest.param(good().decode().encode("utf-16"), id="utf-16"),
    pytest.param(good().decode().encode("utf-32"), id="utf-32"),
    pytest.param(b"\x1f\x8b\x08" + bytes(range(256)), id="gzip"),
    pytest.param(b"\x00" * 1_000_000, id="a-million-zeros"),
    pytest.param(b" " * 1_048_577, id="a-blank-mebibyte"),
    pytest.param(b"<!DOCTYPE html><html>" + b"<br>" * 100_000, id="html"),
    pytest.param(b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", id="xml"),
    pytest.param(b"error code: 1010", id="edge"),
    pytest.param(b"callback(" + good() + b")", id="jsonp"),
    pytest.param(b"[" + good() + b"]", id="list"),
    pytest.param(json.dumps(good().decode()).encode(), id="json-in-text"),
    pytest.param(b"null", id="null"),
    pytest.param(b"true", id="true"),
    pytest.param(b"-0", id="number"),
    pytest.param(b"NaN", id="nan"),
    pytest.param(b'"\\ud800"', id="lone-surrogate"),
    pytest.param(good(code=True), id="code-bool"),
    pytest.param(good(code=[200]), id="code-list"),
    pytest.param(good(code={"code": 200}), id="code-object"),
    pytest.param(good(code=200.5), id="code-half"),
    pytest.param(good(code="OK"), id="code-word"),
    pytest.param(good(code="2" * 19), id="code-19-digits-of-text"),
    pytest.param(good(code=10**18), id="code-19-digits"),
    pytest.param(good(code=10**4000), id="code-4001-digits"),
    pytest.param(good(code=1e300), id="code-1e300"),
    pytest.param(b'{"code":NaN,"data":null}', id="code-nan"),
    pytest.param(b'{"code":-Infinity,"data":null}', id="code-infinity"),
    pytest.param(b'{"code":1e999,"data":null}', id="code-1e999"),
    pytest.param(b'{"code":200,"code":null,"data":null}', id="code-twice-then-null"),
]


@pytest.mark.parametrize("body", UNREADABLE)
def test_what_is_no_envelope_is_unexpected(body: bytes) -> None:
    outcomes = read_all(body, 200)
    for outcome in outcomes[1:]:
        assert type(outcome) is UnexpectedResponseError
    # An id is an id (a paid task hangs on it), whatever the code beside it is.
    assert outcomes[0] == ID or type(outcomes[0]) is UnexpectedResponseError


@pytest.mark.parametrize("body", UNREADABLE)
@pytest.mark.parametrize("status", STATUSES)
def test_no_status_makes_it_worse(body: bytes, status: int) -> None:
    read_all(body, status)


READABLE: list[Any] = [
    pytest.param(good(), id="plain"),
    pytest.param(b"\xef\xbb\xbf" + good(), id="bom"),
    pytest.param(b"\r\n\t " + good() + b"\n", id="blanks"),
    pytest.param(good(code="200"), id="code-text"),
    pytest.param(good(code=" 200 "), id="code-text-in-blanks"),
    pytest.param(good(code=200.0), id="code-float"),
    pytest.param(good(msg=None), id="msg-null"),
    pytest.param(good(msg={"a": 1}), id="msg-object"),
    pytest.param(good(msg=7), id="msg-number"),
    pytest.param(good(msg="\ud800\x1b[2J\u202e"), id="msg-hostile"),
    pytest.param(good(msg="x" * 900_000), id="msg-huge"),
    pytest.param(good(more=[{"a": [None]}] * 1_000), id="unknown-fields"),
    pytest.param(good(ratio=1.5)[:-4] + b"NaN}", id="nan-elsewhere"),
    pytest.param(good()[:-1] + b',"msg":"a\xff\xfeb"}', id="invalid-utf-8-in-a-text"),
    pytest.param(good()[:-1] + b',"msg":"a\x00\nb"}', id="raw-control-characters-in-a-text"),
    pytest.param(b'{"code":500,"data":{},' + good()[1:], id="duplicated-keys-the-last-wins"),
]


@pytest.mark.parametrize("body", READABLE)
def test_what_can_be_understood_is_understood(body: bytes) -> None:
    task_id, record, video, *_ = read_all(body, 200)
    assert task_id == ID
    assert isinstance(record, TaskRecord)
    assert (record.status, record.video_url) == (TaskStatus.SUCCESS, LINK)
    assert isinstance(video, Video)


@pytest.mark.parametrize(
    ("msg", "shown"),
    [
        ("two\r\nlines", "two lines"),
        ("\x1b[31mred\x1b[0m", "[31mred [0m"),
        ("\x1b]0;title\x07", "]0;title"),
        ("bell\x07back\x08space", "bell back space"),
        ("c1 \x9b31m", "c1 31m"),
        ("right\u202eleft", "right left"),
        ("zero\u200bwidth", "zero width"),
        ("lone \ud800 surrogate", "lone surrogate"),
        ("tab\tand  blanks ", "tab and blanks"),
        ("中文 ✓ \U0001f3a5", "中文 ✓ \U0001f3a5"),
        ("x" * 1_001, "x" * 999 + "…"),
    ],
    ids=lambda text: ascii(text)[:30],
)
def test_the_service_s_words_never_move_a_terminal(
    msg: str, shown: str, caplog: pytest.LogCaptureFixture
) -> None:
    body = json.dumps({"code": 402, "msg": msg, "data": None}).encode()
    with pytest.raises(APIError) as caught:
        codec.read_generate(HttpResponse(status=200, body=body))
    assert caught.value.message == shown
    assert shown in said(caught.value)
    logging.getLogger("veo_async").warning("%s", caught.value)
    assert shown in caplog.text


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({"msg": "one", "message": "two"}, "one"),
        ({"msg": " ", "message": "two"}, "two"),
        ({"msg": "\x1b", "error": "three"}, "three"),
        ({"msg": ["one"], "message": 2, "error": "three"}, "three"),
        ({}, '{"code": 402}'),
    ],
    ids=repr,
)
def test_words_are_taken_from_where_they_are(fields: dict[str, Any], shown: str) -> None:
    body = json.dumps({"code": 402} | fields).encode()
    with pytest.raises(APIError) as caught:
        codec.read_generate(HttpResponse(status=200, body=body))
    assert caught.value.message == shown


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b"", "an empty body"),
        (b"\x00\x01", "an empty body"),
        (b"<html>\n <b>no</b>\n</html>", "<html> <b>no</b> </html>"),
        (b"\xffbad", "\N{REPLACEMENT CHARACTER}bad"),
        (b"y" * 500, "y" * 199 + "…"),
    ],
    ids=repr,
)
def test_a_body_without_words_is_quoted_short(body: bytes, shown: str) -> None:
    with pytest.raises(UnexpectedResponseError) as caught:
        codec.read_generate(HttpResponse(status=200, body=body))
    assert caught.value.message == shown


# --- whatever comes in

statuses = st.sampled_from(STATUSES) | st.integers(100, 999)
keys = st.sampled_from(
    """code msg message error data taskId task_id status successFlag response resultUrls resultUrl
    videoUrl fullResultUrls originUrls url result_url errorCode errorMessage createTime createdAt
    completeTime completedAt paramJson duration resolution aspectRatio seed seeds hasAudioList
    state resultJson result_urls origin_urls failCode failMsg param input creditsConsumed
    """.split()  # noqa: SIM905  # a list of thirty words reads better so
)
hostile_text = st.text(st.characters(exclude_categories=()), max_size=20)
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-1, 5),
    st.sampled_from(STATUSES),
    st.floats(),
    hostile_text,
    st.sampled_from(
        [
            *(ID, LINK, f'["{LINK}"]', f"[{LINK}]", "{", "[", '{"a":1}', "2025-06-06 10:25:00"),
            *("Your prompt was flagged", "record is null", "1080P is processing", "failed"),
            *("success", "fail", "waiting", f'{{"resultUrls":["{LINK}"]}}', '{"data":{"url":1}}'),
            *("1", "9" * 5_000, "1e400", "[" * 2_000),
        ]
    ),
)
trees = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(keys | hostile_text, inner, max_size=8)
    ),
    max_leaves=30,
)
envelopes = st.fixed_dictionaries(
    {"code": st.sampled_from(STATUSES) | leaves, "data": trees | st.dictionaries(keys, trees)},
    optional={"msg": leaves, "message": leaves, "error": leaves},
)


@given(st.binary(max_size=200), statuses)
def test_any_bytes(body: bytes, status: int) -> None:
    read_all(body, status)


@given(trees, statuses, st.booleans())
def test_any_json(tree: Any, status: int, plain: bool) -> None:
    read_all(json.dumps(tree, ensure_ascii=plain).encode(errors="surrogatepass"), status)


@given(envelopes, statuses)
def test_any_envelope(body: Any, status: int) -> None:
    read_all(json.dumps(body).encode(), status)


@given(trees)
def test_no_reader_of_a_value_ever_raises(value: Any) -> None:
    number = reading.as_int(value)
    assert number is None or (type(number) is int and abs(number) < 10**18)
    decimal = reading.as_float(value)
    assert decimal is None or math.isfinite(decimal)
    moment = reading.as_time(value)
    assert moment is None or moment.utcoffset() is not None
    text = reading.as_text(value)
    assert text is None or text.strip()
    line = reading.as_line(value, 50)
    assert line is None or (len(line) <= 50 and said(line) == line.strip() != "")
    task_id = reading.as_id(value)
    assert task_id is None or (0 < len(said(task_id)) <= 256 and not set(task_id) & {" ", "\ufffd"})
    assert reading.as_bool(value) in {None, True, False}
    assert isinstance(reading.as_object(value), dict)
    assert all(said(url) for url in reading.as_urls(value))
    reading.first(value)


@given(envelopes, st.integers(0, 2_000))
def test_a_body_cut_anywhere(body: Any, cut: int) -> None:
    read_all(json.dumps(body).encode()[:cut], 200)


def test_every_error_of_a_reader_is_of_the_one_tree() -> None:
    for status in STATUSES:
        for outcome in read_all(b"{}", status):
            assert isinstance(outcome, VeoError | TaskRecord)
