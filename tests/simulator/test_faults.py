"""Every scripted fault, seen from raw clients."""

import asyncio
import gzip
import json
import socket
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from veo_async.simulator import Fault, Simulator
from veo_async.simulator.faults import Faults
from veo_async.simulator.records import Endpoint

SIZE = 1_000_000
API = [
    "generate",
    "extend",
    "record-info",
    "1080p",
    "4k",
    "credit",
    "download-url",
    "upload",
]


class Caller:
    """A simulator and a plain aiohttp client for it."""

    def __init__(self, sim: Simulator, session: aiohttp.ClientSession) -> None:
        self.sim = sim
        self.session = session

    def api(self, endpoint: str, **options: Any) -> Any:
        method, path = {
            "generate": ("POST", "/api/v1/veo/generate"),
            "record-info": ("GET", "/api/v1/veo/record-info?taskId=x"),
            "extend": ("POST", "/api/v1/veo/extend"),
            "1080p": ("GET", "/api/v1/veo/get-1080p-video?taskId=x"),
            "4k": ("POST", "/api/v1/veo/get-4k-video"),
            "credit": ("GET", "/api/v1/chat/credit"),
            "download-url": ("POST", "/api/v1/common/download-url"),
            "upload": ("POST", "/api/file-base64-upload"),
        }[endpoint]
        if method == "POST":
            options = {"json": {"prompt": "a boat", "url": "x"}, **options}
        headers = {"Authorization": f"Bearer {self.sim.api_key}"}
        return self.session.request(
            method, self.sim.base_url + path, headers=headers, allow_redirects=False, **options
        )

    async def video(self, prompt: str = "a boat") -> str:
        """Make a video; return its URL."""
        async with self.api("generate", json={"prompt": prompt}) as answer:
            task_id = (await answer.json())["data"]["taskId"]
        self.sim.advance(60)
        return await self.url(task_id)

    async def url(self, task_id: str) -> str:
        address = f"{self.sim.base_url}/api/v1/veo/record-info?taskId={task_id}"
        headers = {"Authorization": f"Bearer {self.sim.api_key}"}
        async with self.session.get(address, headers=headers) as answer:
            (url,) = (await answer.json())["data"]["response"]["resultUrls"]
        return str(url)


@pytest.fixture
async def caller() -> AsyncIterator[Caller]:
    async with (
        Simulator(
            dialect="live",
            time_scale=0,
            generation_seconds=60,
            clip=(64, 36),
            video_bytes=SIZE,
            result_urls_expire=True,
        ) as sim,
        aiohttp.ClientSession(auto_decompress=False) as session,
    ):
        yield Caller(sim, session)


# -- the values ------------------------------------------------------------------------------

TEXTS = [
    "generate:lose_answer",
    "generate:lose_answer:times=1",
    "generate:hang:processed=True",
    "record-info:status=503:every=3:text=upstream: away",
    "record-info:status=200:http=502",
    "1080p:status=429:retry_after=1.5",
    "credit:delay=2.5:after=1",
    "*:html=502:probability=0.25",
    "generate:redirect=http://127.0.0.1:8080/a?b=c:http=308",
    "video:cut_at=1000:times=2:match=a boat",
    "video:lying_range=total",
    "webhook:duplicate",
]


@pytest.mark.parametrize("text", TEXTS)
def test_the_text_form_goes_there_and_back(text: str) -> None:
    fault = Fault.parse(text)
    assert str(fault) == text
    assert Fault.parse(str(fault)) == fault


def test_parsing_reads_every_option() -> None:
    assert Fault.parse(
        "generate:status=500:times=1:after=2:every=3:probability=0.5:match=m:text=t:u"
        ":retry_after=4:http=599:processed=true"
    ) == Fault(
        "generate",
        "status",
        500,
        times=1,
        after=2,
        every=3,
        probability=0.5,
        match="m",
        text="t:u",
        retry_after=4.0,
        http=599,
        processed=True,
    )
    assert Fault("generate", "huge").value == 64 << 20
    assert Fault("video", "cut_at", "1e6").value == 1_000_000


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("generate", "write endpoint:kind"),
        ("", "write endpoint:kind"),
        ("nowhere:hang", "no endpoint 'nowhere': use one of generate, "),
        ("generate:explode", "no fault 'explode' for generate: use one of lose_answer, "),
        ("generate:cut_at=1", "no fault 'cut_at' for generate"),
        ("video:lose_answer", "no fault 'lose_answer' for video"),
        ("webhook:hang", "no fault 'hang' for webhook"),
        ("generate:delay", "delay needs a value"),
        ("generate:delay=x", "could not convert"),
        ("generate:delay=-1", "must not be negative"),
        ("generate:hang=1", "hang takes no value"),
        ("generate:hang:times=x", "invalid literal"),
        ("generate:hang:every=0", "every"),
        ("generate:hang:processed=maybe", "neither true nor false"),
        ("generate:hang:sometimes=1", "no fault 'hang:sometimes'"),
    ],
)
def test_a_bad_fault_says_why(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        Fault.parse(text)
    assert why in str(caught.value)


# -- which requests are hit --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "hit"),
    [
        ({}, [1, 2, 3, 4, 5, 6, 7, 8, 9]),
        ({"times": 2}, [1, 2]),
        ({"times": 0}, []),
        ({"after": 3}, [4, 5, 6, 7, 8, 9]),
        ({"every": 3}, [3, 6, 9]),
        ({"after": 2, "every": 3, "times": 2}, [5, 8]),
        ({"probability": 0.0}, []),
    ],
)
def test_occurrences(options: dict[str, Any], hit: list[int]) -> None:
    faults = Faults([Fault("generate", "hang", **options)], seed=0)
    found: list[int] = []
    for number in range(1, 10):
        faults.draw(Endpoint.RECORD_INFO, "")  # other calls do not count
        if faults.draw(Endpoint.GENERATE, "").replacing:
            found.append(number)
    assert found == hit


def test_probability_is_a_part_and_repeats() -> None:
    def run(seed: int) -> list[bool]:
        faults = Faults([Fault("generate", "hang", probability=0.3)], seed=seed)
        return [faults.draw(Endpoint.GENERATE, "").replacing is not None for _ in range(1000)]

    assert run(1) == run(1)
    assert run(1) != run(2)
    assert 250 < sum(run(1)) < 350


def test_match_picks_by_prompt() -> None:
    faults = Faults([Fault("video", "hang", match="boat", times=1)], seed=0)
    subjects = ["a ship", "a boat", "a boat"]
    assert [bool(faults.draw(Endpoint.VIDEO, one).replacing) for one in subjects] == [
        False,
        True,
        False,
    ]


def test_one_fault_replaces_and_many_modify() -> None:
    script = [
        Fault("video", "cut_at", 5),
        Fault("video", "hang", times=1),
        Fault("video", "no_length"),
        Fault("video", "empty", times=1),
        Fault("video", "delay", 2),
        Fault("video", "delay", 3),
    ]
    faults = Faults(script, seed=0)
    first, second = faults.draw(Endpoint.VIDEO, ""), faults.draw(Endpoint.VIDEO, "")
    assert first.replacing == script[1]
    assert second.replacing == script[3]  # hang was in its way, so it was not used up
    assert (first.delay, "no_length" in first, "gzip" in first) == (5, True, False)


def test_a_star_is_every_call_of_the_api() -> None:
    faults = Faults([Fault("*", "hang")], seed=0)
    hit = [endpoint.value for endpoint in Endpoint if faults.draw(endpoint, "").replacing]
    assert sorted(hit) == sorted(API)


# -- answers of the API --------------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.parametrize(("kind", "paid"), [("lose_answer", 1), ("reset_before", 0)])
async def test_a_reset_is_paid_or_not(caller: Caller, kind: str, paid: int) -> None:
    caller.sim.add_fault(Fault("generate", kind, times=1))
    with pytest.raises(aiohttp.ClientError):
        async with caller.api("generate"):
            pass
    ledger = caller.sim.ledger
    assert (len(ledger), len(ledger.posts), ledger.running) == (paid, 1, paid)
    assert ledger.posts[0].outcome == ("accepted" if paid else "unread")
    assert ledger.posts[0].fault == f"generate:{kind}:times=1"
    async with caller.api("generate") as answer:
        assert (await answer.json())["code"] == 200


def test_a_reset_is_a_tcp_reset() -> None:
    with Simulator(faults=["generate:lose_answer"]) as sim:
        host, _, port = sim.base_url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port))) as raw:
            body = b'{"prompt":"x"}'
            raw.sendall(
                f"POST /api/v1/veo/generate HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
                f"Authorization: Bearer {sim.api_key}\r\n\r\n".encode()
                + body
            )
            with pytest.raises(ConnectionResetError):
                raw.recv(1)
        assert len(sim.ledger) == 1


@pytest.mark.anyio
@pytest.mark.parametrize("endpoint", API)
async def test_a_hanging_call_says_nothing(caller: Caller, endpoint: str) -> None:
    caller.sim.add_fault(Fault(endpoint, "hang"))
    with pytest.raises(TimeoutError):
        async with caller.api(endpoint, timeout=aiohttp.ClientTimeout(total=0.2)):
            pass
    assert len(caller.sim.ledger) == 0


@pytest.mark.anyio
async def test_a_hanging_call_can_be_paid(caller: Caller) -> None:
    caller.sim.add_fault("generate:hang:processed=true")
    with pytest.raises(TimeoutError):
        async with caller.api("generate", timeout=aiohttp.ClientTimeout(total=0.2)):
            pass
    assert len(caller.sim.ledger) == 1


@pytest.mark.anyio
async def test_a_late_answer_is_late_in_service_time(caller: Caller) -> None:
    caller.sim.add_fault("generate:delay=30")
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(_status(caller.api("generate")))
        while not caller.sim.ledger.posts:
            await asyncio.sleep(0.01)
        assert len(caller.sim.ledger) == 1  # it takes effect at once
        caller.sim.advance(29)
        await asyncio.sleep(0.05)
        assert not waiting.done()
        caller.sim.advance(2)
    assert waiting.result() == 200


async def _status(request: Any) -> int:
    async with request as answer:
        return int(answer.status)


@pytest.mark.anyio
@pytest.mark.parametrize("endpoint", API)
@pytest.mark.parametrize("code", [400, 401, 402, 404, 408, 422, 429, 433, 451, 455, 500, 501, 505])
async def test_any_code_in_either_layer(caller: Caller, endpoint: str, code: int) -> None:
    caller.sim.add_fault(Fault(endpoint, "status", code, times=1, text="words"))
    caller.sim.add_fault(Fault(endpoint, "status", code, times=1, http=code, retry_after=2))
    async with caller.api(endpoint) as answer:
        body = await answer.json()
        is_http = code in {404, 429}
        if endpoint == "upload":
            assert body == {"success": False, "code": code, "msg": "words"}
            is_http = True
        else:
            assert body == {"code": code, "msg": "words", "data": None}
        assert answer.status == (code if is_http else 200)
    async with caller.api(endpoint) as answer:
        assert (answer.status, (await answer.json())["code"]) == (code, code)
        assert answer.headers["Retry-After"] == "2"
    assert len(caller.sim.ledger) == 0


@pytest.mark.anyio
async def test_the_specs_errors_are_http_errors() -> None:
    async with (
        Simulator(faults=["generate:status=500", "record-info:unknown"]) as sim,
        aiohttp.ClientSession() as session,
    ):
        caller = Caller(sim, session)
        async with caller.api("generate") as answer:
            assert answer.status == 500
            assert await answer.json() == {"code": 500, "msg": "Server Error", "data": None}
        async with caller.api("record-info") as answer:
            assert (answer.status, (await answer.json())["code"]) == (404, 404)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("text", "status", "paid"),
    [
        ("html", 200, 0),
        ("html=502", 502, 0),
        ("html=200:processed=true", 200, 1),
        ("empty", 200, 1),
        ("garbage", 200, 1),
        ("garbage:text=[1]", 200, 1),
        ("truncated_json", 200, 1),
        ("truncated_json:processed=false", 200, 0),
    ],
)
async def test_what_is_not_the_envelope(caller: Caller, text: str, status: int, paid: int) -> None:
    caller.sim.add_fault(f"generate:{text}")
    async with caller.api("generate") as answer:
        body = await answer.read()
        assert answer.status == status
        assert ("text/html" in answer.headers["Content-Type"]) is text.startswith("html")
    if text == "garbage:text=[1]":
        assert json.loads(body) == [1]
    else:
        with pytest.raises(ValueError, match=r"."):
            json.loads(body)
    assert len(caller.sim.ledger) == paid
    assert (body == b"") is (text == "empty")


@pytest.mark.anyio
async def test_a_huge_answer_is_the_answer_and_blanks(caller: Caller) -> None:
    caller.sim.add_fault("generate:huge=5000000")
    async with caller.api("generate") as answer:
        body = await answer.read()
    assert len(body) == 5_000_000
    assert json.loads(body)["code"] == 200
    assert len(caller.sim.ledger) == 1


@pytest.mark.anyio
async def test_a_bomb_is_small_until_it_is_opened(caller: Caller) -> None:
    caller.sim.add_fault("generate:bomb=5000000")
    async with caller.api("generate") as answer:
        assert answer.headers["Content-Encoding"] == "gzip"
        body = await answer.read()
    assert len(body) < 20_000
    assert len(gzip.decompress(body)) == 5_000_000


@pytest.mark.anyio
async def test_deep_json_is_deep(caller: Caller) -> None:
    caller.sim.add_fault("record-info:deep")
    async with caller.api("record-info") as answer:
        assert await answer.read() == b"[" * 200_000 + b"]" * 200_000


@pytest.mark.anyio
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_to_the_file_host_shows_who_leaks(caller: Caller, status: int) -> None:
    caller.sim.add_fault(Fault("generate", "redirect", "{files}/trap", http=status, times=1))
    async with caller.api("generate") as answer:
        assert answer.status == status
        target = answer.headers["Location"]
    assert target == f"{caller.sim.files_url}/trap"
    assert (len(caller.sim.ledger), caller.sim.ledger.leaks) == (0, ())
    headers = {"Authorization": f"Bearer {caller.sim.api_key}"}
    async with caller.session.post(target, headers=headers, json={"prompt": "x"}) as answer:
        assert answer.status == 405
    assert [leak.what for leak in caller.sim.ledger.leaks] == ["authorization", "body"]


@pytest.mark.anyio
async def test_faults_can_be_cleared(caller: Caller) -> None:
    caller.sim.add_fault(Fault("*", "status", 500))
    caller.sim.clear_faults()
    async with caller.api("credit") as answer:
        assert (await answer.json())["code"] == 200


@pytest.mark.anyio
async def test_a_fault_follows_a_task_by_its_prompt(caller: Caller) -> None:
    await caller.video("a boat")
    caller.sim.add_fault("record-info:status=500:match=boat")
    with pytest.raises(TypeError):
        await caller.url(caller.sim.ledger[0].task_id)
    assert await caller.video("a ship")


# -- answers of the file host ----------------------------------------------------------------------


async def fetch(caller: Caller, url: str, **headers: str) -> tuple[Any, bytes]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with caller.session.get(url, headers=named, allow_redirects=False) as answer:
        return answer, await answer.read()


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("text", "status", "kind"),
    [
        ("html", 200, "text/html"),
        ("html=503", 503, "text/html"),
        ("empty", 200, "video/mp4"),
        ("status=503:retry_after=7", 503, "application/xml"),
        ("status=401", 401, "application/xml"),
        ("redirect=https://example.com/a", 307, None),
    ],
)
async def test_other_answers_than_the_file(
    caller: Caller, text: str, status: int, kind: str | None
) -> None:
    url = await caller.video()
    caller.sim.add_fault(f"video:{text}:times=1")
    answer, body = await fetch(caller, url)
    assert answer.status == status
    assert len(body) < 1000
    assert kind is None or answer.headers["Content-Type"].startswith(kind)
    assert answer.headers.get("Retry-After") == ("7" if "retry_after" in text else None)
    assert len((await fetch(caller, url))[1]) == SIZE


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["reset_before", "hang"])
async def test_no_answer_at_all(caller: Caller, kind: str) -> None:
    url = await caller.video()
    caller.sim.add_fault(Fault("video", kind))
    short = aiohttp.ClientTimeout(total=0.2)
    with pytest.raises((aiohttp.ClientError, TimeoutError)):
        async with caller.session.get(url, timeout=short):
            pass


@pytest.mark.anyio
async def test_expire_needs_a_new_url(caller: Caller) -> None:
    url = await caller.video()
    caller.sim.add_fault("video:expire:times=1")
    assert [(await fetch(caller, url))[0].status for _ in range(2)] == [403, 403]
    fresh = await caller.url(caller.sim.ledger[0].task_id)
    assert (await fetch(caller, fresh))[0].status == 200
    assert (await fetch(caller, url))[0].status == 403


async def partial(
    caller: Caller, url: str, error: type[Exception], read: float = 5, **headers: str
) -> bytes:
    """Return what arrives before the body ends in `error`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body = b""
    timeout = aiohttp.ClientTimeout(sock_read=read)
    try:
        async with caller.session.get(url, headers=named, timeout=timeout) as answer:
            async for chunk in answer.content.iter_any():
                body += chunk
    except error:
        return body
    raise AssertionError("the body ended well")


@pytest.mark.anyio
async def test_cut_at_is_an_offset_of_the_file(caller: Caller) -> None:
    url = await caller.video()
    whole = (await fetch(caller, url))[1]
    caller.sim.add_fault("video:cut_at=700000")
    assert await partial(caller, url, aiohttp.ClientPayloadError) == whole[:700_000]
    assert (
        await partial(caller, url, aiohttp.ClientPayloadError, Range="bytes=500000-")
        == (whole[500_000:700_000])
    )
    assert (await fetch(caller, url, Range="bytes=700000-"))[1] == whole[700_000:]
    assert (await fetch(caller, url, Range="bytes=0-9"))[1] == whole[:10]


@pytest.mark.anyio
async def test_without_a_length_a_cut_looks_like_an_end(caller: Caller) -> None:
    url = await caller.video()
    whole = (await fetch(caller, url))[1]
    caller.sim.add_fault("video:no_length")
    answer, body = await fetch(caller, url)
    assert body == whole
    for absent in ("Content-Length", "Transfer-Encoding"):
        assert absent not in answer.headers
    assert answer.headers["Connection"] == "close"
    caller.sim.add_fault("video:cut_at=123456")
    assert (await fetch(caller, url))[1] == whole[:123_456]


@pytest.mark.anyio
async def test_a_stall_sends_no_more(caller: Caller) -> None:
    url = await caller.video()
    caller.sim.add_fault("video:stall_at=300000")
    body = await partial(caller, url, TimeoutError, read=0.3)
    assert len(body) == 300_000


@pytest.mark.anyio
async def test_changed_content_has_another_tag(caller: Caller) -> None:
    url = await caller.video()
    first, old = await fetch(caller, url)
    caller.sim.add_fault("video:change_etag:times=1")
    second, new = await fetch(caller, url, Range="bytes=10-", If_Range=first.headers["ETag"])
    assert (second.status, len(new)) == (200, SIZE)
    assert new != old
    assert second.headers["ETag"] != first.headers["ETag"]
    third, again = await fetch(caller, url)
    assert (again, third.headers["ETag"]) == (new, second.headers["ETag"])


@pytest.mark.anyio
async def test_tags_can_be_weak_or_absent(caller: Caller) -> None:
    url = await caller.video()
    tag = (await fetch(caller, url))[0].headers["ETag"]
    caller.sim.add_fault("video:weak_etag")
    answer, _ = await fetch(caller, url, Range="bytes=10-", If_Range=tag)
    assert (answer.status, answer.headers["ETag"]) == (200, f"W/{tag}")
    answer, _ = await fetch(caller, url, Range="bytes=10-", If_Range=f"W/{tag}")
    assert answer.status == 200
    caller.sim.clear_faults()
    caller.sim.add_fault("video:no_etag")
    answer, _ = await fetch(caller, url, Range="bytes=10-")
    assert answer.status == 206
    assert "ETag" not in answer.headers


@pytest.mark.anyio
async def test_ranges_can_be_unknown(caller: Caller) -> None:
    url = await caller.video()
    caller.sim.add_fault("video:no_ranges")
    answer, body = await fetch(caller, url, Range="bytes=10-")
    assert (answer.status, len(body)) == (200, SIZE)
    assert answer.headers["Accept-Ranges"] == "none"
    assert "Content-Range" not in answer.headers


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("value", "wanted"),
    [("start", "bytes 11-1000000/1000000"), ("total", "bytes 10-999999/1000001")],
)
async def test_ranges_can_lie(caller: Caller, value: str, wanted: str) -> None:
    url = await caller.video()
    whole = (await fetch(caller, url))[1]
    caller.sim.add_fault(Fault("video", "lying_range", value))
    answer, body = await fetch(caller, url, Range="bytes=10-")
    assert (answer.status, answer.headers["Content-Range"]) == (206, wanted)
    assert body == whole[10:]


@pytest.mark.anyio
async def test_if_range_can_be_ignored(caller: Caller) -> None:
    url = await caller.video()
    caller.sim.add_fault("video:ignore_if_range")
    answer, _ = await fetch(caller, url, Range="bytes=10-", If_Range='"other"')
    assert answer.status == 206


@pytest.mark.anyio
async def test_a_drip_is_slow_in_service_time(caller: Caller) -> None:
    url = await caller.video()
    whole = (await fetch(caller, url))[1]
    caller.sim.add_fault("video:drip=400")
    async with caller.session.get(url) as answer:
        assert await answer.content.readexactly(100) == whole[:100]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await answer.content.read(1)
        caller.sim.advance(0.25)
        assert await answer.content.readexactly(100) == whole[100:200]


@pytest.mark.anyio
async def test_gzip_nobody_asked_for(caller: Caller) -> None:
    url = await caller.video()
    whole = (await fetch(caller, url))[1]
    caller.sim.add_fault("video:gzip")
    answer, body = await fetch(caller, url, Accept_Encoding="identity", Range="bytes=10-")
    assert (answer.status, answer.headers["Content-Encoding"]) == (200, "gzip")
    assert gzip.decompress(body) == whole


@pytest.mark.anyio
async def test_heads_are_never_hit(caller: Caller) -> None:
    url = await caller.video()
    caller.sim.add_fault("video:status=500:times=1")
    async with caller.session.head(url) as answer:
        assert answer.status == 200
    assert (await fetch(caller, url))[0].status == 500


def test_curl_sees_the_faults_too(tool: Callable[[str, str], str], tmp_path: Path) -> None:
    path = tool("curl", "curl")

    def curl(*arguments: str | Path) -> int:
        return subprocess.run(
            [path, "-sS", "-f", "-m", "5", *arguments], capture_output=True, check=False
        ).returncode

    with Simulator(
        dialect="live", time_scale=0, generation_seconds=0, clip=(64, 36), video_bytes=SIZE
    ) as sim:
        headers = ("-H", f"Authorization: Bearer {sim.api_key}")
        generate = f"{sim.base_url}/api/v1/veo/generate"
        record = f"{sim.base_url}/api/v1/veo/record-info"
        answer = tmp_path / "answer"
        assert curl(*headers, "-d", '{"prompt":"x"}', "-o", answer, generate) == 0
        task_id = json.loads(answer.read_text())["data"]["taskId"]
        assert curl(*headers, "-o", answer, f"{record}?taskId={task_id}") == 0
        (url,) = json.loads(answer.read_text())["data"]["response"]["resultUrls"]
        film = tmp_path / "film"
        for fault, code in [
            ("video:cut_at=10", 18),
            ("video:reset_before", 56),
            ("video:status=500", 22),
            ("video:no_length:times=1", 0),
        ]:
            sim.add_fault(fault)
            assert curl("-o", film, url) == code, fault
            sim.clear_faults()
        sim.add_fault("generate:lose_answer")
        assert curl(*headers, "-d", '{"prompt":"x"}', generate) == 56
        assert len(sim.ledger) == 2
