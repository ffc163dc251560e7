"""The answer to a create call: an id, or what exactly is known of the task that was paid for."""

import json
from typing import Any

import pytest

from veo_async.errors import (
    APIError,
    AuthenticationError,
    InsufficientCreditsError,
    NotFoundError,
    QuotaExceededError,
    RateLimitError,
    ServerError,
    ServiceUnavailableError,
    UnexpectedResponseError,
    ValidationError,
)
from veo_async.protocol import codec
from veo_async.protocol.http import HttpResponse
from veo_async.protocol.remedies import COMPLAINTS
from veo_async.protocol.retry import Taken, taken

ID = "0123456789abcdef0123456789abcdef"
REMEDY = (
    *(complaint.step for complaint in COMPLAINTS),
    "check the key, at https://kie.ai/api-key, and where it is set",
    "check what the key may do and from which addresses",
    "top up the account and submit again",
    "check the task id and the base URL",
    "ask again later",
    "change the request as it says",
    "wait and try again",
    "raise the key's cap in the account's settings, or wait",
    "try again in some minutes",
    "try again later",
    "check the base URL and any proxy in between",
    "look for its task",
    "check the task id; records are kept for 14 days",
)


def answer(body: object, status: int = 200, retry_after: float | None = None) -> HttpResponse:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return HttpResponse(status=status, body=data, retry_after=retry_after)


def envelope(code: Any, msg: Any, data: Any = None) -> dict[str, Any]:
    return {"code": code, "msg": msg, "data": data}


def failure(response: HttpResponse) -> APIError:
    with pytest.raises(APIError) as caught:
        codec.read_generate(response)
    assert str(caught.value).endswith(REMEDY)
    assert str(caught.value).isprintable()
    return caught.value


def test_the_sample_of_the_spec() -> None:
    sample = b"""
    {
      "code": 200,
      "msg": "success",
      "data": {
        "taskId": "veo_task_abcdef123456"
      }
    }
    """
    assert codec.read_generate(answer(sample)) == "veo_task_abcdef123456"


@pytest.mark.parametrize(
    ("data", "task_id"),
    [
        pytest.param({"taskId": ID}, ID, id="live-id"),
        pytest.param({"taskId": ID, "recordId": ID}, ID, id="with-record-id"),
        pytest.param({"task_id": ID}, ID, id="snake-case"),
        pytest.param({"taskId": None, "task_id": ID}, ID, id="null-beside-it"),
        pytest.param({"taskId": 123456789012345678}, "123456789012345678", id="number"),
        pytest.param({"taskId": "タスク-1"}, "タスク-1", id="any-printable-text"),
        pytest.param({"taskId": "x" * 256}, "x" * 256, id="256-characters"),
        pytest.param(json.dumps({"taskId": ID}), ID, id="object-as-text"),
    ],
)
def test_an_id_is_read_in_any_spelling(data: Any, task_id: str) -> None:
    assert codec.read_generate(answer(envelope(200, "success", data))) == task_id


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(envelope("200", "success", {"taskId": ID}), id="code-as-text"),
        pytest.param(envelope(200.0, "success", {"taskId": ID}), id="code-as-float"),
        pytest.param(envelope(0, "success", {"taskId": ID}), id="code-0"),
        pytest.param(envelope(None, "success", {"taskId": ID}), id="code-null"),
        pytest.param({"data": {"taskId": ID}}, id="no-code"),
        pytest.param(envelope(500, "Internal Error - Timeout", {"taskId": ID}), id="code-500"),
        pytest.param(envelope(429, "Rate limit exceeded", {"taskId": ID}), id="code-429"),
        pytest.param(
            b"\xef\xbb\xbf" + json.dumps(envelope(200, "", {"taskId": ID})).encode(), id="bom"
        ),
        pytest.param(
            b'{"code":200,"msg":"caf\xe9","data":{"taskId":"%s"}}' % ID.encode(), id="latin-1"
        ),
        pytest.param(
            b'{"code":200,"msg":"a\tb","data":{"taskId":"%s"}}' % ID.encode(), id="raw-tab"
        ),
    ],
)
@pytest.mark.parametrize("status", [200, 201, 302, 402, 429, 500, 503])
def test_an_id_counts_whatever_stands_beside_it(body: object, status: int) -> None:
    # A task that has an id can be asked for; one whose id was thrown away is paid and lost.
    assert codec.read_generate(answer(body, status)) == ID


def test_a_refusal_that_names_the_video_to_go_on_from_made_no_task() -> None:
    # As the 4K call does (live document 2.6): its id would be taken for that of the new task.
    refusal = answer(envelope(422, "record status is not success", {"taskId": ID}))
    with pytest.raises(ValidationError) as caught:
        codec.read_generate(refusal, ID)
    assert taken(caught.value) is Taken.REFUSED
    assert codec.read_generate(refusal, "another") == ID
    assert codec.read_generate(answer(envelope(200, "success", {"taskId": ID})), ID) == ID
    lost = answer(envelope(500, "Server Error", {"taskId": ID}))
    with pytest.raises(ServerError) as unknown:
        codec.read_generate(lost, ID)
    assert taken(unknown.value) is Taken.UNKNOWN


FLOW = (
    "Your request was rejected by Flow(<original error>). You may consider using our other "
    "fallback channels, which are likely to succeed. Please refer to the documentation."
)
POLICY = "Your prompt was flagged by Website as violating content policies."
KEY_2026 = (
    "Unauthorized \N{EN DASH} Authentication failed. Please check that your Authorization and "
    "Content-Type headers are correctly set."
)

# Code, words, class, what is known of the task. Spec: Error Codes; live document, section 4.
ROWS: list[tuple[int, str, type[APIError], Taken]] = [
    (400, POLICY, ValidationError, Taken.REFUSED),
    (400, "Only English prompts are supported at this time.", ValidationError, Taken.REFUSED),
    (400, "public error unsafe image upload.", ValidationError, Taken.REFUSED),
    (400, "Processing: task still generating", ServerError, Taken.UNKNOWN),
    (400, "Task still generating", ServerError, Taken.UNKNOWN),
    (400, "Processing", ServerError, Taken.UNKNOWN),
    (400, "Request body must be a JSON object", ValidationError, Taken.REFUSED),
    (401, "You do not have access permissions", AuthenticationError, Taken.REFUSED),
    (401, KEY_2026, AuthenticationError, Taken.REFUSED),
    (
        402,
        "The current credits are insufficient. Please top up.",
        InsufficientCreditsError,
        Taken.REFUSED,
    ),
    (403, "Forbidden", AuthenticationError, Taken.REFUSED),
    (404, "Not found", NotFoundError, Taken.REFUSED),
    (405, "Method not allowed", ValidationError, Taken.REFUSED),
    (408, "Timeout", ServerError, Taken.UNKNOWN),
    (413, "Request body is too large", ValidationError, Taken.REFUSED),
    (415, "Unsupported media type", ValidationError, Taken.REFUSED),
    (422, "Please enter prompt.", ValidationError, Taken.REFUSED),
    (422, FLOW, ValidationError, Taken.REFUSED),
    (429, "Rate limit exceeded", RateLimitError, Taken.TURNED_AWAY),
    (
        433,
        "The current number of points used by apiKey has exceeded the daily limit",
        QuotaExceededError,
        Taken.REFUSED,
    ),
    (
        451,
        "Failed to fetch the image. Kindly verify any access limits",
        ValidationError,
        Taken.REFUSED,
    ),
    (455, "The service is being maintained", ServiceUnavailableError, Taken.TURNED_AWAY),
    (500, "Server Error", ServerError, Taken.UNKNOWN),
    (500, "Internal Error, Please try again later.", ServerError, Taken.UNKNOWN),
    (500, "This field is required", ServerError, Taken.UNKNOWN),
    (500, "record is null", ServerError, Taken.UNKNOWN),
    (501, "Generation failed.", ServerError, Taken.UNKNOWN),
]


@pytest.mark.parametrize("real", [False, True], ids=["http-200", "http-as-code"])
@pytest.mark.parametrize(
    ("code", "words", "kind", "known"), ROWS, ids=lambda value: str(value)[:40]
)
def test_every_documented_refusal(
    code: int, words: str, kind: type[APIError], known: Taken, real: bool
) -> None:
    status = code if real else 200
    error = failure(answer(envelope(code, words), status, retry_after=7.0))
    assert type(error) is kind
    assert (error.code, error.http_status, error.message) == (code, status, words)
    assert error.retry_after == 7.0
    assert error.task_id is None
    assert words.rstrip(".") in str(error)
    assert ".;" not in str(error)
    assert taken(error) is known


# Undocumented codes under HTTP 200 prove nothing, so a task may exist.
@pytest.mark.parametrize(
    "code", [-1, 0, 1, 100, 201, 204, 302, 399, 409, 425, 499, 506, 999, 10**17]
)
def test_a_code_nobody_documents_leaves_it_open(code: int) -> None:
    error = failure(answer(envelope(code, "what?")))
    assert error.code == code
    assert taken(error) is Taken.UNKNOWN


GARBAGE: list[Any] = [
    b"",
    b" ",
    b"null",
    b"[]",
    b'"ok"',
    b"200",
    b"{}",
    b"<html><title>502</title></html>",
    b"\xff\xfe{\x00}\x00",
    json.dumps({"code": 200}).encode("utf-16"),
    b"[" * 200_000,
    b'{"data":' * 200_000,
    b'{"code":200,"data":{"taskId":"x' + b"x" * 2_000_000,
    b'{"code":200,"data":{"taskId":' + b"9" * 5_000 + b"}}",
    envelope(200, "success"),
    envelope(200, "success", []),
    envelope(200, "success", "done"),
    envelope(200, "success", 7),
    envelope(200, "success", {}),
    envelope(200, "success", {"taskId": None}),
    envelope(200, "success", {"taskId": ""}),
    envelope(200, "success", {"taskId": "two words"}),
    envelope(200, "success", {"taskId": "line\nbreak"}),
    envelope(200, "success", {"taskId": "\x1b[31m"}),
    envelope(200, "success", {"taskId": "\ud800"}),
    envelope(200, "success", {"taskId": "x" * 257}),
    envelope(200, "success", {"taskId": True}),
    envelope(200, "success", {"taskId": 1.5}),
    envelope(200, "success", {"taskId": ["x"]}),
    envelope(200, "success", {"taskId": 10**300}),
    b'{"code":200,"data":{"taskId":"ab\xffcd"}}',
]


@pytest.mark.parametrize("body", GARBAGE, ids=lambda body: repr(body)[:40])
@pytest.mark.parametrize("status", [200, 204, 299])
def test_a_200_without_a_readable_id_leaves_it_open(body: object, status: int) -> None:
    error = failure(answer(body, status))
    assert type(error) is UnexpectedResponseError
    assert taken(error) is Taken.UNKNOWN
    assert len(str(error)) < 1_500


def test_the_answer_without_an_id_is_quoted_since_people_may_find_the_id_in_it() -> None:
    error = failure(answer(envelope(200, "success", {"taskId": "veo task 7"})))
    assert "veo task 7" in str(error)


PAGE = b"<html>\r\n<head><title>nginx</title></head></html>"


@pytest.mark.parametrize(
    ("status", "body", "kind", "known"),
    [
        (301, b"", UnexpectedResponseError, Taken.REFUSED),
        (302, PAGE, UnexpectedResponseError, Taken.REFUSED),
        (307, b"", UnexpectedResponseError, Taken.REFUSED),
        (400, PAGE, UnexpectedResponseError, Taken.REFUSED),
        (401, b"", AuthenticationError, Taken.REFUSED),
        (402, PAGE, InsufficientCreditsError, Taken.REFUSED),
        (403, b"error code: 1010", UnexpectedResponseError, Taken.REFUSED),
        (404, PAGE, NotFoundError, Taken.REFUSED),
        (405, PAGE, UnexpectedResponseError, Taken.REFUSED),
        (408, PAGE, ServerError, Taken.UNKNOWN),
        (413, PAGE, UnexpectedResponseError, Taken.REFUSED),
        (422, PAGE, ValidationError, Taken.REFUSED),
        (429, b"", RateLimitError, Taken.TURNED_AWAY),
        (500, PAGE, ServerError, Taken.UNKNOWN),
        (502, PAGE, ServerError, Taken.UNKNOWN),
        (503, b"", ServerError, Taken.UNKNOWN),
        (504, PAGE, ServerError, Taken.UNKNOWN),
        (524, PAGE, ServerError, Taken.UNKNOWN),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_status_without_an_envelope(
    status: int, body: bytes, kind: type[APIError], known: Taken
) -> None:
    error = failure(answer(body, status))
    assert type(error) is kind
    assert (error.code, error.http_status) == (status, status)
    assert taken(error) is known


def test_the_http_status_is_read_before_the_code() -> None:
    error = failure(answer(envelope(200, "success"), 500))
    assert type(error) is ServerError
    assert (error.code, error.http_status) == (500, 500)
    assert taken(failure(answer(envelope(422, "no"), 504))) is Taken.UNKNOWN


def test_both_numbers_are_told_where_they_differ() -> None:
    assert "answered 422, HTTP 200: no;" in str(failure(answer(envelope(422, "no"))))
    assert "answered 422: no;" in str(failure(answer(envelope(422, "no"), 422)))
