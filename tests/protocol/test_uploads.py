"""An upload as bytes, judged by other readers of forms, and its answer (live document 2.11)."""

import json
from email.parser import BytesParser
from typing import Any

import pytest

from veo_async import (
    APIError,
    AuthenticationError,
    NotFoundError,
    RateLimitError,
    ServerError,
    UnexpectedResponseError,
    ValidationError,
)
from veo_async.protocol.http import HttpResponse
from veo_async.protocol.retry import is_transient
from veo_async.protocol.uploads import (
    encode_stream_upload,
    encode_url_upload,
    form_of,
    read_upload,
)

LINK = "https://tempfile.example/kieai/100001/veo-async/frame.png"
RECORDED = {
    "success": True,
    "code": 200,
    "msg": "File uploaded successfully",
    "data": {
        "success": True,
        "fileName": "1776323952044-dtzo7rcrpdj.png",
        "filePath": "kieai/100001/images/in/1776323952044-dtzo7rcrpdj.png",
        "downloadUrl": LINK,
        "fileSize": 70,
        "mimeType": "image/png",
        "uploadedAt": "2026-04-16T07:19:12.309Z",
    },
}
QUICKSTART = {"success": True, "code": 200, "data": {"fileId": "f", "fileUrl": LINK}}


def answer(body: Any, status: int = 200) -> HttpResponse:
    text = body if isinstance(body, str) else json.dumps(body)
    return HttpResponse(status=status, body=text.encode())


def refusal(code: int, message: str) -> HttpResponse:
    return answer({"success": False, "code": code, "msg": message}, status=code)


@pytest.mark.parametrize("name", ["a.png", 'quo"te.png', "Bild für uns.png", "100%22.png"])
def test_a_form_says_the_same_to_another_reader(name: str) -> None:
    form = form_of(name, "image/png", "b0undary")
    content = b"\x89PNG\r\n--almost\r\n\0"
    head = f"Content-Type: {form.content_type}\r\n\r\n".encode()
    parts = BytesParser().parsebytes(head + form.head + content + form.tail).get_payload()
    assert isinstance(parts, list)
    seen = {
        part.get_param("name", header="content-disposition"): part.get_payload(decode=True)
        for part in parts
    }
    assert seen == {
        "uploadPath": b"veo-async",
        "fileName": name.encode(),
        "file": content,
    }
    assert parts[2].get_content_type() == "image/png"
    assert str(parts[2]["content-disposition"]).count('"') == 4, "no name ends its own quotes"


def test_a_form_goes_to_the_upload_host() -> None:
    call = encode_stream_upload("https://up.example")
    assert (call.method, call.base_url, call.path, call.body) == (
        "POST",
        "https://up.example",
        "/api/file-stream-upload",
        None,
    )


def test_a_url_is_given_to_the_service_as_json() -> None:
    call = encode_url_upload("https://up.example", "https://a.example/x.png", "f.png")
    assert (call.method, call.base_url, call.path) == (
        "POST",
        "https://up.example",
        "/api/file-url-upload",
    )
    assert call.body == {
        "fileUrl": "https://a.example/x.png",
        "uploadPath": "veo-async",
        "fileName": "f.png",
    }


@pytest.mark.parametrize("body", [RECORDED, QUICKSTART])
def test_the_url_is_read_from_both_spellings(body: dict[str, Any]) -> None:
    assert read_upload(answer(body)) == LINK


@pytest.mark.parametrize(
    ("told", "url"),
    [
        ("https://h.example/a b.png", "https://h.example/a%20b.png"),
        ("https://h.example/fü.png?a=b&c=d#e", "https://h.example/f%C3%BC.png?a=b&c=d#e"),
        ("https://h.example/a%20b.png", "https://h.example/a%20b.png"),
        (" http://[::1]:8000/x.png ", "http://[::1]:8000/x.png"),
        ("https://h.example/\ud800\n.png", "https://h.example/?%0A.png"),
    ],
)
def test_a_url_comes_out_as_one_that_can_be_sent_on(told: str, url: str) -> None:
    assert read_upload(answer({"code": 200, "data": {"downloadUrl": told}})) == url


REFUSALS = [
    (refusal(400, "Missing required parameter: uploadPath"), ValidationError, False),
    (refusal(400, "Base64 decoding failed: Invalid Base64 format"), ValidationError, False),
    (refusal(401, "Authentication failed: Invalid API Key"), AuthenticationError, False),
    (refusal(422, "fileUrl is wrong"), ValidationError, False),
    (refusal(404, "not found"), NotFoundError, False),
    (refusal(405, "Method not allowed"), NotFoundError, False),
    (answer("<html>404 Not Found</html>", 404), NotFoundError, False),
    (answer("405: Method Not Allowed", 405), NotFoundError, False),
    (answer("<html>413 Request Entity Too Large</html>", 413), ValidationError, False),
    (refusal(429, "slow down"), RateLimitError, True),
    (refusal(500, "Server Error"), ServerError, True),
    (answer("<html>502 Bad Gateway</html>", 502), ServerError, True),
    (answer({"success": False, "code": 500, "msg": "Server Error"}), ServerError, True),
    (answer("", 302), UnexpectedResponseError, True),
    (answer("<html>hello</html>"), UnexpectedResponseError, True),
    (answer({"code": 200, "data": None}), UnexpectedResponseError, True),
    (answer({"code": 200, "data": {"downloadUrl": ""}}), UnexpectedResponseError, True),
    (answer({"code": 200, "data": {"downloadUrl": "/x.png"}}), UnexpectedResponseError, True),
    (answer({"code": 200, "data": {"downloadUrl": "file:///x"}}), UnexpectedResponseError, True),
    (answer({"code": 200, "data": {"downloadUrl": 7}}), UnexpectedResponseError, True),
]


@pytest.mark.parametrize(("response", "kind", "may_pass"), REFUSALS)
def test_every_refusal_is_its_own_error(
    response: HttpResponse, kind: type[APIError], *, may_pass: bool
) -> None:
    with pytest.raises(APIError) as caught:
        read_upload(response)
    assert type(caught.value) is kind
    assert is_transient(caught.value) is may_pass
    assert "; " in str(caught.value), "it says what to do"


@pytest.mark.parametrize("status", [404, 405])
def test_a_service_without_uploads_is_said_to_have_none(status: int) -> None:
    with pytest.raises(NotFoundError, match=r"it has no uploads; .*upload_url") as caught:
        read_upload(answer("", status))
    assert caught.value.code == caught.value.http_status == status
