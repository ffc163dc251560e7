"""Uploads, over real sockets (live document 2.11)."""

import base64
import http.server
import re
import socket
import threading
import tracemalloc
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import pytest

from tests.simulator.asking import ask, fetched, made, record
from veo_async.simulator import Dialect, Simulator

STREAM = "/api/file-stream-upload"
BASE64 = "/api/file-base64-upload"
URL = "/api/file-url-upload"

PNG = b"\x89PNG\r\n\x1a\n" + b"picture" * 9
BAD_KEY = "Authentication failed: Invalid API Key"
DAY = 24 * 3600.0


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator(dialect="live", time_scale=0, generation_seconds=60, clip=(64, 36)) as made:
        yield made


def encoded(body: bytes = PNG) -> str:
    return base64.b64encode(body).decode()


def form(body: bytes | None = PNG, name: str = "frame.png", **fields: str) -> dict[str, Any]:
    """Return a multipart body whose fields come after the file, with its type."""
    parts = [
        f'Content-Disposition: form-data; name="{key}"\r\n\r\n{value}'.encode()
        for key, value in fields.items()
    ]
    if body is not None:
        head = f'Content-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
        parts.insert(0, head.encode() + body)
    whole = b"".join(b"--edge\r\n" + part + b"\r\n" for part in parts) + b"--edge--\r\n"
    return {"fields": whole, "content_type": "multipart/form-data; boundary=edge"}


def put(sim: Simulator, body: bytes = PNG, **fields: str) -> dict[str, Any]:
    """Upload through JSON; return the data of the answer."""
    status, answer = ask(
        sim, BASE64, {"base64Data": encoded(body), "uploadPath": "images/in", **fields}
    )
    assert status == 200, answer
    data: dict[str, Any] = answer["data"]
    return data


@pytest.mark.parametrize("dialect", list(Dialect))
def test_the_recorded_answer_in_every_dialect(dialect: Dialect) -> None:
    with Simulator(dialect=dialect, time_scale=0) as sim:
        status, body = ask(sim, STREAM, **form(uploadPath="images/in"))
        data = body.pop("data")
        assert (status, body) == (
            200,
            {"success": True, "code": 200, "msg": "File uploaded successfully"},
        )
        name = data["fileName"]
        assert re.fullmatch(r"\d{13}-[0-9a-z]{11}\.png", name)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", data.pop("uploadedAt"))
        assert data == {
            "success": True,
            "fileName": name,
            "filePath": f"kieai/100001/images/in/{name}",
            "downloadUrl": f"{sim.files_url}/kieai/100001/images/in/{name}",
            "fileSize": len(PNG),
            "mimeType": "image/png",
        }
        assert fetched(data["downloadUrl"]) == ("image/png", PNG)
        assert (sim.ledger.requests["upload"], sim.ledger.spent) == (1, 0)


@pytest.mark.parametrize(
    ("body", "name", "mime"),
    [
        (PNG, "picture", "image/png"),
        (b"\xff\xd8\xff\xe0rest", "x", "image/jpeg"),
        (b"\xff\xd8\xff\xe0rest", "x.PNG", "image/png"),
        (b"\xff\xd8\xff\xe0rest", "x.bin", "application/octet-stream"),
        (b"RIFF\0\0\0\0WEBPrest", "x", "image/webp"),
        (b"\0\0\0\x18ftypisom", "x", "video/mp4"),
        (b"words", "x.txt", "text/plain"),
        (b"words", "x", "application/octet-stream"),
        (b"", "x.png", "image/png"),
    ],
)
def test_the_type_is_what_it_is_called_or_what_is_in_it(
    sim: Simulator, body: bytes, name: str, mime: str
) -> None:
    data = ask(sim, STREAM, **form(body, name, uploadPath="a"))[1]["data"]
    assert data["mimeType"] == mime
    assert fetched(data["downloadUrl"]) == (mime, body)


def test_base64_is_plain_or_a_data_url(sim: Simulator) -> None:
    for text, mime in (
        (encoded(), "image/png"),
        (f"data:image/webp;base64,{encoded(b'x')}", "image/webp"),
    ):
        status, answer = ask(sim, BASE64, {"base64Data": text, "uploadPath": "a"})
        assert (status, answer["data"]["mimeType"]) == (200, mime)


def test_the_same_name_overwrites(sim: Simulator) -> None:
    first = put(sim, b"one", fileName="a name.txt")
    second = put(sim, b"another", fileName="a name.txt")
    assert first["downloadUrl"] == second["downloadUrl"]
    assert second["filePath"] == "kieai/100001/images/in/a name.txt"
    assert fetched(second["downloadUrl"])[1] == b"another"
    assert put(sim)["fileName"] != put(sim)["fileName"]


@pytest.mark.parametrize("size", [3, 300_000, 2_000_000])
def test_a_file_is_kept_for_a_day(sim: Simulator, size: int) -> None:
    body = bytes(range(256)) * (size // 256 + 1)
    url = ask(sim, STREAM, **form(body, uploadPath="a"))[1]["data"]["downloadUrl"]
    sim.advance(DAY - 1)
    assert fetched(url)[1] == body
    sim.advance(1)
    with pytest.raises(urllib.error.HTTPError) as caught:
        fetched(url)
    with caught.value:
        assert caught.value.code == 404


BAD: list[tuple[str, dict[str, Any], int, str]] = [
    (STREAM, form(), 400, "Missing required parameter: uploadPath"),
    (STREAM, form(None, uploadPath="a"), 400, "Missing required parameter: file"),
    (STREAM, form(uploadPath="/a"), 400, "uploadPath must not begin or end with a slash"),
    (STREAM, form(uploadPath="a/"), 400, "uploadPath must not begin or end with a slash"),
    (STREAM, form(uploadPath="a/../b"), 400, "uploadPath must be a plain path"),
    (STREAM, form(uploadPath="a", fileName="../b"), 400, "fileName must not contain a path"),
    (STREAM, {"fields": b"x"}, 400, "Content-Type must be multipart/form-data"),
    (BASE64, {"fields": {"uploadPath": "a"}}, 400, "Missing required parameter: base64Data"),
    (BASE64, {"fields": {"base64Data": "AAAA"}}, 400, "Missing required parameter: uploadPath"),
    (
        BASE64,
        {"fields": {"base64Data": "data:image/png,x", "uploadPath": "a"}},
        400,
        "Base64 decoding failed: Invalid Base64 format",
    ),
    (
        BASE64,
        {"fields": {"base64Data": "A!", "uploadPath": "a"}},
        400,
        "Base64 decoding failed: Invalid Base64 format",
    ),
    (BASE64, {"fields": {"base64Data": 7, "uploadPath": "a"}}, 400, "base64Data must be a string"),
    (BASE64, {"fields": b"[1]"}, 400, "Request body cannot be read"),
    (URL, {"fields": {"uploadPath": "a"}}, 400, "Missing required parameter: fileUrl"),
    (
        URL,
        {"fields": {"fileUrl": "https://example.com/a.png", "uploadPath": "a"}},
        400,
        "fileUrl cannot be fetched: the simulator fetches http URLs of this machine only",
    ),
    (
        URL,
        {"fields": {"fileUrl": "http://127.0.0.1:9/a.png", "uploadPath": "a"}},
        400,
        "fileUrl cannot be fetched: ClientConnectorError",
    ),
    (STREAM, {"method": "GET"}, 405, "Method not allowed"),
    (STREAM, {**form(uploadPath="a"), "key": "wrong"}, 401, BAD_KEY),
    (BASE64, {"fields": {}, "key": "wrong"}, 401, BAD_KEY),
    (URL, {"fields": {}, "key": ""}, 401, BAD_KEY),
]


@pytest.mark.parametrize(("path", "request_", "code", "words"), BAD)
def test_a_bad_upload_is_a_real_status(
    sim: Simulator, path: str, request_: dict[str, Any], code: int, words: str
) -> None:
    assert ask(sim, path, **request_) == (code, {"success": False, "code": code, "msg": words})


def test_json_that_is_far_too_large_is_a_413(sim: Simulator) -> None:
    status, body = ask(sim, BASE64, {"base64Data": "A" * (17 << 20), "uploadPath": "a"})
    assert (status, body["success"]) == (413, False)


def test_an_upload_by_url_fetches_from_this_machine(sim: Simulator) -> None:
    first = put(sim, fileName="frame.png")
    status, answer = ask(sim, URL, {"fileUrl": first["downloadUrl"], "uploadPath": "b"})
    assert (status, answer["data"]["fileSize"]) == (200, len(PNG))
    assert fetched(answer["data"]["downloadUrl"]) == ("image/png", PNG)
    sim.advance(DAY)
    assert ask(sim, URL, {"fileUrl": first["downloadUrl"], "uploadPath": "b"})[1]["msg"] == (
        "fileUrl cannot be fetched: HTTP 404"
    )


def test_an_upload_by_url_is_called_what_the_request_says(sim: Simulator) -> None:
    first = put(sim, fileName="frame.png")["downloadUrl"]
    fields = {"fileUrl": first, "uploadPath": "b", "fileName": "start.png"}
    stored = ask(sim, URL, fields)[1]["data"]
    assert stored["fileName"] == "start.png"
    assert stored["downloadUrl"] == f"{sim.files_url}/kieai/100001/b/start.png"
    assert fetched(stored["downloadUrl"])[1] == PNG


@pytest.mark.parametrize("fault", [None, "upload:status=500", "upload:unknown", "upload:garbage"])
def test_its_answers_name_no_charset(sim: Simulator, fault: str | None) -> None:
    if fault is not None:
        sim.add_fault(fault)

    def kind(path: str, method: str) -> str:
        headers = {"Authorization": f"Bearer {sim.api_key}"}
        request = urllib.request.Request(sim.base_url + path, method=method, headers=headers)
        try:
            with urllib.request.urlopen(request) as answer:
                return str(answer.headers["Content-Type"])
        except urllib.error.HTTPError as error:
            with error:
                return str(error.headers["Content-Type"])

    assert {kind(path, method) for path in (STREAM, URL) for method in ("GET", "POST")} == {
        "application/json"
    }
    assert kind("/api/v1/chat/credit", "GET") == "application/json;charset=UTF-8"


def test_a_silent_host_is_given_up() -> None:
    silent = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            silent.wait(20)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        with Simulator(time_scale=1000) as sim:
            url = f"http://127.0.0.1:{server.server_port}/a.png"
            status, body = ask(sim, URL, {"fileUrl": url, "uploadPath": "a"})
        assert (status, body["msg"]) == (400, "fileUrl cannot be fetched: TimeoutError")
    finally:
        silent.set()
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.anyio
async def test_a_large_upload_takes_no_memory() -> None:
    """Client and simulator together hold a fraction of what passes between them."""
    size = 24 << 20

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(size >> 16):
            yield bytes(1 << 16)

    async with Simulator(time_scale=0) as sim, aiohttp.ClientSession() as session:
        fields = aiohttp.FormData()
        fields.add_field("file", pieces(), filename="film.bin")
        fields.add_field("uploadPath", "films")
        tracemalloc.start()
        headers = {"Authorization": f"Bearer {sim.api_key}"}
        async with session.post(sim.base_url + STREAM, data=fields, headers=headers) as answer:
            data = (await answer.json())["data"]
        async with session.get(data["downloadUrl"]) as answer:
            got = 0
            async for piece in answer.content.iter_any():
                got += len(piece)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert (data["fileSize"], got) == (size, size)
    assert peak < size / 4


def test_a_head_has_no_body_and_a_post_no_place(sim: Simulator) -> None:
    url = put(sim)["downloadUrl"]
    with urllib.request.urlopen(urllib.request.Request(url, method="HEAD")) as answer:
        assert (answer.headers["Content-Length"], answer.read()) == (str(len(PNG)), b"")
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(urllib.request.Request(url, method="DELETE"))
    with caught.value:
        assert caught.value.code == 405


def test_an_image_that_is_not_there_any_more_fails_the_task(sim: Simulator) -> None:
    url = put(sim)["downloadUrl"]
    foreign = "https://example.com/a.png"
    assert record(sim, made(sim, imageUrls=[url, foreign]))["successFlag"] == 1
    for bad in (f"{url}x", f"{sim.files_url}/"):
        failed = record(sim, made(sim, imageUrls=[url, bad]))
        assert (failed["successFlag"], failed["errorCode"]) == (3, 400)
        assert failed["errorMessage"].startswith("Failed to fetch the image.")
    sim.advance(DAY)
    assert record(sim, made(sim, imageUrls=[url]))["successFlag"] == 3
    assert [charge.refunded for charge in sim.ledger] == [False, True, True, True]


@pytest.mark.parametrize(
    ("name", "body", "flag"),
    [
        ("frame.png", PNG, 1),
        ("frame.png", b"\xff\xd8\xff\xe0rest", 3),
        ("frame.jpg", b"\xff\xd8\xff\xe0rest", 1),
        ("frame.webp", PNG, 3),
        ("frame", PNG, 1),
        ("frame.png", b"neither", 1),
    ],
)
def test_an_image_of_another_kind_than_its_name_says_fails_the_task(
    sim: Simulator, name: str, body: bytes, flag: int
) -> None:
    url = put(sim, body, fileName=name)["downloadUrl"]
    assert record(sim, made(sim, imageUrls=[url]))["successFlag"] == flag


@pytest.mark.parametrize(
    ("fault", "is_kept"), [("upload:lose_answer", True), ("upload:reset_before", False)]
)
def test_an_answer_can_get_lost(sim: Simulator, fault: str, is_kept: bool) -> None:
    sim.add_fault(f"{fault}:match=frame.png")
    fields = {"base64Data": encoded(), "uploadPath": "a", "fileName": "frame.png"}
    with pytest.raises(OSError):  # noqa: PT011  urllib wraps it or does not
        ask(sim, BASE64, fields)
    url = f"{sim.files_url}/kieai/100001/a/frame.png"
    if is_kept:
        assert fetched(url)[1] == PNG
    else:
        with pytest.raises(urllib.error.HTTPError) as caught:
            fetched(url)
        caught.value.close()
    assert ask(sim, BASE64, {**fields, "fileName": "other.png"})[0] == 200


def test_a_fault_speaks_as_the_upload_host_does(sim: Simulator) -> None:
    sim.add_fault("upload:status=500:text=Disk is full")
    assert ask(sim, BASE64, {}) == (500, {"success": False, "code": 500, "msg": "Disk is full"})


def test_a_sender_who_goes_away_leaves_nothing(sim: Simulator) -> None:
    host, _, port = sim.base_url.removeprefix("http://").partition(":")
    for path, kind in (
        (STREAM, "multipart/form-data; boundary=edge"),
        (BASE64, "application/json"),
    ):
        with socket.create_connection((host, int(port))) as raw:
            head = (
                f"POST {path} HTTP/1.1\r\nHost: x\r\nUser-Agent: x\r\nContent-Type: {kind}\r\n"
                f"Authorization: Bearer {sim.api_key}\r\nContent-Length: 9000000\r\n\r\n"
            )
            raw.sendall(head.encode() + form(bytes(500_000))["fields"][:-10])
    assert put(sim)["fileSize"] == len(PNG)
    assert sim.ledger.requests["upload"] == 3


def test_files_outlive_an_outage() -> None:
    sim = Simulator(time_scale=0)
    with sim:
        url = ask(sim, STREAM, **form(bytes(500_000), uploadPath="a"))[1]["data"]["downloadUrl"]
    with sim:
        assert len(fetched(url)[1]) == 500_000
