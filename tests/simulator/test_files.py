"""The file host, judged by curl, urllib and a table of ranges."""

import hashlib
import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest

from veo_async.simulator import Leak, Simulator
from veo_async.simulator.storage import Slice, choose

SIZE = 1_000_000


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator(
        time_scale=0, generation_seconds=60, upgrade_seconds=60, clip=(64, 36), video_bytes=SIZE
    ) as made:
        yield made


def ask(sim: Simulator, path: str, body: object = None) -> Any:
    request = urllib.request.Request(
        f"{sim.base_url}/api/v1/veo/{path}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {sim.api_key}"},
    )
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)["data"]


def video(sim: Simulator, **fields: object) -> str:
    task_id: str = ask(sim, "generate", {"prompt": "a boat", "seed": 12345, **fields})["taskId"]
    sim.advance(60)
    return task_id


def url_of(sim: Simulator, task_id: str) -> str:
    url: str = ask(sim, f"record-info?taskId={task_id}")["videoUrl"]
    return url


def get(url: str, method: str = "GET", **headers: str) -> tuple[int, Any, bytes]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, method=method, headers=named)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


Curl = Callable[..., "subprocess.CompletedProcess[bytes]"]


@pytest.fixture
def curl(tool: Callable[[str, str], str]) -> Curl:
    path = tool("curl", "curl")

    def run(*arguments: str | Path) -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run([path, "-sS", *arguments], capture_output=True, check=False)

    return run


def test_a_whole_file(sim: Simulator) -> None:
    status, headers, body = get(url_of(sim, video(sim)))
    assert (status, len(body)) == (200, SIZE)
    assert headers["Content-Type"] == "video/mp4"
    assert headers["Content-Length"] == str(SIZE)
    assert headers["Accept-Ranges"] == "bytes"
    assert headers["ETag"] == f'"{hashlib.sha256(body).hexdigest()}"'
    assert headers["Content-Encoding"] is None
    assert headers["Transfer-Encoding"] is None
    assert headers["Last-Modified"].endswith("GMT")


def test_last_modified_is_when_the_video_was_ready(sim: Simulator) -> None:
    task_id = video(sim)
    record = ask(sim, f"record-info?taskId={task_id}")
    headers = get(record["videoUrl"])[1]
    modified = parsedate_to_datetime(headers["Last-Modified"])
    assert modified.strftime("%Y-%m-%dT%H:%M:%SZ") == record["completedAt"]


def test_head_has_the_headers_only(sim: Simulator) -> None:
    url = url_of(sim, video(sim))
    status, headers, body = get(url, "HEAD", Range="bytes=5-9")
    assert (status, body, headers["Content-Length"]) == (200, b"", str(SIZE))
    assert headers["ETag"] == get(url)[1]["ETag"]
    assert get(url, "POST")[0] == 405


@pytest.mark.parametrize(
    ("wanted", "start", "stop"),
    [
        ("bytes=0-", 0, SIZE),
        ("bytes=0-0", 0, 1),
        ("bytes=1-1", 1, 2),
        ("bytes=500-999", 500, 1000),
        ("bytes=999999-", 999_999, SIZE),
        ("bytes=500000-99999999", 500_000, SIZE),
        ("bytes=-1", SIZE - 1, SIZE),
        ("bytes=-1000", SIZE - 1000, SIZE),
        ("bytes=-2000000", 0, SIZE),
        ("bytes = 3 - 4", 3, 5),
    ],
)
def test_a_range(sim: Simulator, wanted: str, start: int, stop: int) -> None:
    url = url_of(sim, video(sim))
    whole = get(url)[2]
    status, headers, body = get(url, Range=wanted)
    assert status == 206
    assert body == whole[start:stop]
    assert headers["Content-Range"] == f"bytes {start}-{stop - 1}/{SIZE}"
    assert headers["Content-Length"] == str(stop - start)
    assert headers["ETag"] == f'"{hashlib.sha256(whole).hexdigest()}"'


@pytest.mark.parametrize("wanted", ["bytes=1000000-", "bytes=1000000-1000001", "bytes=-0"])
def test_a_range_outside_the_file_is_a_416(sim: Simulator, wanted: str) -> None:
    status, headers, _ = get(url_of(sim, video(sim)), Range=wanted)
    assert (status, headers["Content-Range"]) == (416, f"bytes */{SIZE}")


@pytest.mark.parametrize(
    "wanted",
    [
        "bytes=0-1,5-6",
        "bytes=5-3",
        "bytes=-",
        "bytes=a-b",
        "bytes=",
        "items=0-1",
        "0-1",
        "",
        "bytes=0-1;",
        "bytes=--1",
        "bytes=\u0661-",
        "bytes=" + "9" * 40 + "-",
    ],
)
def test_a_range_nobody_can_serve_gives_the_whole(wanted: str) -> None:
    whole = Slice(200, 0, 10)
    assert choose({"Range": wanted}, size=10, etag='"x"', last_modified="d") == whole


@pytest.mark.parametrize(
    ("condition", "status"),
    [
        ('"{tag}"', 206),
        ('W/"{tag}"', 200),
        ('"other"', 200),
        ("{tag}", 200),
        ("", 200),
        ("{date}", 206),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 200),
        ("nonsense", 200),
    ],
)
def test_if_range_compares_strongly(sim: Simulator, condition: str, status: int) -> None:
    url = url_of(sim, video(sim))
    _, headers, whole = get(url)
    value = condition.format(tag=headers["ETag"].strip('"'), date=headers["Last-Modified"])
    found, _, body = get(url, Range="bytes=10-", If_Range=value)
    assert found == status
    assert body == (whole[10:] if status == 206 else whole)


@pytest.mark.parametrize(
    ("etag", "condition", "status"),
    [
        ('"x"', '"x"', 206),
        ('W/"x"', 'W/"x"', 200),
        ('W/"x"', '"x"', 200),
        (None, '"x"', 200),
        (None, "d", 206),
    ],
)
def test_if_range_without_a_strong_tag(etag: str | None, condition: str, status: int) -> None:
    headers = {"Range": "bytes=1-", "If-Range": condition}
    assert choose(headers, size=9, etag=etag, last_modified="d").status == status


@pytest.mark.parametrize(
    ("condition", "status"),
    [('"{tag}"', 304), ('W/"{tag}"', 304), ('"a", "{tag}"', 304), ("*", 304), ('"a"', 200)],
)
def test_if_none_match(sim: Simulator, condition: str, status: int) -> None:
    url = url_of(sim, video(sim))
    tag = get(url)[1]["ETag"].strip('"')
    found, headers, body = get(url, If_None_Match=condition.format(tag=tag))
    assert (found, len(body)) == (status, 0 if status == 304 else SIZE)
    assert headers["ETag"] == f'"{tag}"'


def test_curl_resumes(sim: Simulator, curl: Curl, tmp_path: Path) -> None:
    url, path = url_of(sim, video(sim)), tmp_path / "film.mp4"
    assert curl("-o", path, url).returncode == 0
    whole = path.read_bytes()
    path.write_bytes(whole[:333_333])
    assert curl("-C", "-", "-o", path, url).returncode == 0
    assert path.read_bytes() == whole
    assert curl("-r", "100-199", url).stdout == whole[100:200]
    assert curl("-r", "-5", url).stdout == whole[-5:]


def test_curl_resumes_after_a_cut(sim: Simulator, curl: Curl, tmp_path: Path) -> None:
    url, path = url_of(sim, video(sim)), tmp_path / "film.mp4"
    whole = get(url)[2]
    sim.add_fault("video:cut_at=400000")
    assert curl("-o", path, url).returncode == 18  # partial file
    assert path.stat().st_size == 400_000
    assert curl("-C", "-", "-o", path, url).returncode == 0
    assert path.read_bytes() == whole


def test_a_url_lives_twenty_minutes(sim: Simulator) -> None:
    url = url_of(sim, video(sim))
    sim.advance(1199)
    assert get(url)[0] == 200
    sim.advance(2)
    status, headers, body = get(url)
    assert (status, headers["Content-Type"]) == (403, "application/xml; charset=utf-8")
    assert b"Request has expired" in body


def test_record_info_renews_a_url_past_half_its_life(sim: Simulator) -> None:
    task_id = video(sim)
    first = url_of(sim, task_id)
    sim.advance(599)
    assert url_of(sim, task_id) == first
    sim.advance(2)
    second = url_of(sim, task_id)
    assert second != first
    assert get(first)[2] == get(second)[2]
    sim.advance(1100)
    assert (get(first)[0], get(second)[0]) == (403, 200)


def test_only_signed_urls_work(sim: Simulator) -> None:
    url = url_of(sim, video(sim))
    bare = url.partition("?")[0]
    for wrong in (bare, url[:-1] + ("0" if url[-1] != "0" else "1"), url.replace("serial=1", "")):
        assert get(wrong)[0] == 403
    assert get(bare.replace("veo_task", "other"))[0] == 404
    assert get(sim.files_url + "/")[0] == 404


def test_a_file_is_gone_after_fourteen_days() -> None:
    with Simulator(
        time_scale=0, generation_seconds=60, url_seconds=1e9, clip=(64, 36), video_bytes=0
    ) as sim:
        url = url_of(sim, video(sim))
        sim.advance(14 * 24 * 3600 - 1)
        assert get(url)[0] == 200
        sim.advance(1)
        assert get(url)[0] == 404


def test_equal_requests_are_equal_bytes() -> None:
    def films(seed: int) -> dict[str, bytes]:
        with Simulator(
            seed=seed, time_scale=0, generation_seconds=1, clip=(64, 36), video_bytes=0
        ) as sim:
            orders: dict[str, dict[str, object]] = {
                "one": {},
                "again": {},
                "other seed": {"seed": 54321},
                "other prompt": {"prompt": "a ship"},
                "other model": {"model": "veo3"},
                "drawn": {"seed": None},
                "drawn again": {"seed": None},
            }
            tasks = {name: video(sim, **fields) for name, fields in orders.items()}
            return {name: get(url_of(sim, task_id))[2] for name, task_id in tasks.items()}

    ours, theirs = films(1), films(2)
    assert ours["one"] == ours["again"] == theirs["one"]
    assert len(set(ours.values())) == len(ours) - 1
    assert ours == films(1)
    assert ours["drawn"] != theirs["drawn"]


@pytest.mark.parametrize(("ratio", "size"), [("16:9", (64, 36)), ("9:16", (36, 64))])
def test_a_vertical_video_is_vertical(ratio: str, size: tuple[int, int]) -> None:
    with Simulator(time_scale=0, generation_seconds=60, clip=(64, 36), video_bytes=0) as sim:
        body = get(url_of(sim, video(sim, aspectRatio=ratio)))[2]
    tkhd = body.index(b"tkhd")
    shape = int.from_bytes(body[tkhd + 80 : tkhd + 82]), int.from_bytes(body[tkhd + 84 : tkhd + 86])
    assert shape == size


def test_the_real_thing_is_hd_and_three_megabytes() -> None:
    with Simulator(time_scale=0, generation_seconds=60, upgrade_seconds=60) as sim:
        task_id = video(sim)
        body = get(url_of(sim, task_id))[2]
    tkhd = body.index(b"tkhd")
    assert len(body) == 3_000_000
    assert int.from_bytes(body[tkhd + 80 : tkhd + 82]) == 1280


def test_leaks_are_noticed(sim: Simulator) -> None:
    url = url_of(sim, video(sim))
    path = url.removeprefix(sim.files_url).partition("?")[0]
    get(url)
    assert not sim.ledger.leaks
    get(url, Authorization="Bearer whatever")
    get(url, X_Api_Key=sim.api_key)
    get(f"{sim.files_url}/x?key={sim.api_key}")
    request = urllib.request.Request(sim.files_url + "/y", data=b"{}", method="POST")
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request)
    caught.value.close()
    assert sim.ledger.leaks == (
        Leak(what="authorization", where=path, method="GET"),
        Leak(what="key", where=path, method="GET"),
        Leak(what="key", where="/x", method="GET"),
        Leak(what="body", where="/y", method="POST"),
    )


def test_the_two_origins_differ(sim: Simulator) -> None:
    assert sim.base_url != sim.files_url
    assert url_of(sim, video(sim)).startswith(sim.files_url + "/videos/")
