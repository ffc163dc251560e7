"""The answers of the common calls: the balance and a temporary link (live document 2.10)."""

import json
from decimal import Decimal
from typing import Any

import pytest

from veo_async.errors import (
    APIError,
    AuthenticationError,
    NotFoundError,
    ServerError,
    UnexpectedResponseError,
    ValidationError,
)
from veo_async.protocol import codec
from veo_async.protocol.envelope import no_such_call
from veo_async.protocol.http import HttpResponse

LINK = "https://tempfile.aiquickdraw.com/v/1.mp4?token=abc"


def answer(data: str, status: int = 200, code: str = "200") -> HttpResponse:
    body = f'{{"code":{code},"msg":"success","data":{data}}}'
    return HttpResponse(status=status, body=body.encode())


@pytest.mark.parametrize(
    ("written", "balance"),
    [
        ("5916.25", "5916.25"),
        ("5454.65", "5454.65"),
        ("0", "0"),
        ("0.0", "0"),
        ("-0", "0"),
        ("-0.0", "0"),
        ("100", "100"),
        ("1e3", "1000"),
        ("1E-3", "0.001"),
        # As written, where a float would have rounded.
        ("0.1", "0.1"),
        ("12345678901234567.12345678", "12345678901234567.12345678"),
        ("0.12345678901234567890123456789012345678", "0.12345678901234567890123456789012345678"),
        ("999999999999999999", "999999999999999999"),
    ],
)
def test_a_balance_is_exact(written: str, balance: str) -> None:
    read = codec.read_credits(answer(written))
    assert type(read) is Decimal
    assert read == Decimal(balance)
    assert not read.is_signed()


@pytest.mark.parametrize(
    "written",
    [
        "-1",
        "-0.01",
        "NaN",
        "-NaN",
        "Infinity",
        "-Infinity",
        "null",
        "true",
        '""',
        '"5916.25"',
        '"NaN"',
        "[]",
        "[100]",
        "{}",
        '{"credits":100}',
        "1e18",
        "1e400",
        "1e999999999999999999999",
        "9" * 5000,
        "0." + "1" * 41,
    ],
    ids=lambda written: written[:24],
)
def test_what_is_no_balance_is_not_believed(written: str) -> None:
    with pytest.raises(UnexpectedResponseError) as caught:
        codec.read_credits(answer(written))
    assert str(caught.value).endswith("; check the base URL and any proxy in between")
    assert len(str(caught.value)) < 1_500


@pytest.mark.parametrize(
    "body",
    [b"", b"null", b"[]", b"5916.25", b"<html>", b"[" * 100_000, b'{"code":200}', b'{"data":1}'],
    ids=lambda body: repr(body)[:20],
)
@pytest.mark.parametrize("read", [codec.read_credits, codec.read_download_url])
def test_what_is_no_envelope_is_unexpected(read: Any, body: bytes) -> None:
    with pytest.raises(UnexpectedResponseError):
        read(HttpResponse(status=200, body=body))


@pytest.mark.parametrize("read", [codec.read_credits, codec.read_download_url])
@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        (401, 200, AuthenticationError),
        (404, 404, NotFoundError),
        (422, 200, ValidationError),
        (500, 500, ServerError),
        (200, 500, ServerError),
    ],
)
def test_a_refusal_is_raised(read: Any, code: int, status: int, kind: type[APIError]) -> None:
    with pytest.raises(APIError) as caught:
        read(answer("100", status, str(code)))
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    "data", [LINK, [LINK], {"url": LINK}, {"resultUrl": LINK}, f" {LINK}\n"], ids=repr
)
def test_a_temporary_link(data: object) -> None:
    assert codec.read_download_url(answer(json.dumps(data))) == LINK


@pytest.mark.parametrize(
    "data", [None, "", "soon", 7, [], {}, "ftp://host/a", "https://host/\n"], ids=repr
)
def test_what_is_no_link_is_not_followed(data: object) -> None:
    written = json.dumps(data)
    if data == "https://host/\n":
        written = '"https://host/\\nb"'
    with pytest.raises(UnexpectedResponseError, match="no link in the answer"):
        codec.read_download_url(answer(written))


def test_a_call_that_is_not_there_is_told_from_a_task_that_is_not() -> None:
    refusal = NotFoundError("x", message="Not found", code=404, http_status=404, task_id="t")
    refusal.request_id = "abc-1"
    error = no_such_call(refusal, "the balance", "look at it on the service's site")
    assert str(error) == (
        "this service has no call for the balance (it answered 404);"
        " look at it on the service's site"
    )
    assert (error.code, error.http_status, error.task_id) == (404, 404, "t")
    assert (error.message, error.request_id) == ("Not found", "abc-1")
