"""`stream()`: the same rules as for files, without one."""

# ruff: noqa: ASYNC240  # a test may look at the disk

import asyncio
import os
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.faults.fileserver import End, FileServer, Framing, Reply, box, client_of, movie, video
from tests.faults.test_downloads import PAGE
from veo_async import (
    ClientClosedError,
    ContentChangedError,
    DownloadError,
    NotAnMP4Error,
    NotFoundError,
    TaskTimeoutError,
    Timeouts,
    TruncatedError,
    URLExpiredError,
    VeoClient,
    VeoError,
)
from veo_async.streaming import VideoStream

pytestmark = pytest.mark.anyio

SIZE = 1_500_000
FILM = movie(SIZE)


async def read(veo: VeoClient, link: str) -> bytes:
    async with veo.stream(video(link)) as body:
        return b"".join([piece async for piece in body])


async def test_whole_bytes_with_size_and_type() -> None:
    async with FileServer(FILM).serving() as host, client_of(host) as veo:
        async with veo.stream(video(host.link)) as body:
            assert (body.size, body.content_type) == (SIZE, "video/mp4")
            assert b"".join([piece async for piece in body]) == FILM
        assert veo.statistics().bytes_downloaded == SIZE


@pytest.mark.parametrize("framing", ["chunked", "close"])
async def test_without_a_length(framing: Framing) -> None:
    then = Reply(framing=framing, headers={"Content-Type": None})
    async with (
        FileServer(FILM, then=then).serving() as host,
        client_of(host) as veo,
        veo.stream(video(host.link)) as body,
    ):
        assert (body.size, body.content_type) == (None, "video/mp4")
        assert b"".join([piece async for piece in body]) == FILM


@pytest.mark.parametrize("end", ["close", "reset"])
async def test_a_cut_is_not_seen(end: End) -> None:
    cuts = [5, 435, 500_000, 500_001, 900_000, SIZE - 1]
    script = [Reply(cut=cut, end=end) for cut in cuts]
    async with FileServer(FILM, *script).serving() as host, client_of(host) as veo:
        assert await read(veo, host.link) == FILM
    assert any(seen.start for seen in host.seen)


async def test_a_dead_link_in_the_middle_is_not_seen() -> None:
    host = FileServer(FILM, Reply(cut=900_000), Reply(status=403))
    async with host.serving(), client_of(host) as veo:
        api = b'{"code":200,"data":{"taskId":"task_1","status":1,"videoUrl":"%s"}}'
        host.route = lambda seen: (
            Reply(body=api % host.link.encode()) if seen.path.startswith("/api/") else None
        )
        assert await read(veo, host.link) == FILM


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        ([Reply(cut=900_000), Reply(etag='"v2"')], ContentChangedError),
        ([Reply(cut=900_000), Reply(ranges=False)], ContentChangedError),
        ([Reply(cut=900_000, etag=None)], TruncatedError),
        ([Reply(cut=900_000, etag='W/"v1"')], TruncatedError),
        ([Reply(cut=900_000, framing="close")], TruncatedError),
        ([Reply(cut=900_000), *[Reply(status=500)] * 4], VeoError),
        ([Reply(body=b"")], NotAnMP4Error),
        ([Reply(body=PAGE)], NotAnMP4Error),
        ([Reply(body=FILM[:-1])], NotAnMP4Error),
    ],
)
async def test_what_cannot_go_on_is_an_error(script: list[Reply], kind: type[VeoError]) -> None:
    async with FileServer(FILM, *script).serving() as host, client_of(host) as veo:
        async with AsyncExitStack() as stack:
            body = await stack.enter_async_context(veo.stream(video(host.link)))
            got = bytearray()
            with pytest.raises(kind) as caught:
                await _collect(body, got)
        assert FILM.startswith(bytes(got))
        assert len(got) < SIZE
        assert caught.value.__context__ is None
        assert "again" in str(caught.value)


async def _collect(body: VideoStream, got: bytearray) -> None:
    async for piece in body:
        got += piece


async def test_a_dead_link_is_an_error_before_the_first_byte() -> None:
    async with FileServer(FILM, then=Reply(status=410)).serving() as host, client_of(host) as veo:
        with pytest.raises((URLExpiredError, VeoError)):
            async with veo.stream(video(host.link)):
                raise AssertionError("there is no body")


def resident() -> int:
    """Return the bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_a_slow_reader_is_waited_for() -> None:
    """Memory is bounded by the connection's buffer, whatever the size of the film."""
    host = FileServer(FILM + box(b"free", b"\1" * (200 << 20)))
    size, pieces, peak = 0, 0, 0
    async with host.serving(), client_of(host, timeouts=Timeouts(stall=0.2)) as veo:
        before = resident()
        async with veo.stream(video(host.link)) as body:
            async for piece in body:
                size += len(piece)
                pieces += 1
                peak = max(peak, resident() - before) if pieces % 20 == 0 else peak
                if pieces in {5, 50}:
                    await asyncio.sleep(0.3)  # longer than a stall: only waiting is timed
    assert size == len(host.body)
    assert len(host.seen) == 1
    assert peak < 24 << 20


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a_reader_who_leaves_early_closes_the_connection(framing: Framing) -> None:
    host = FileServer(movie(20 << 20), then=Reply(framing=framing))
    before, tasks = len([*Path("/proc/self/fd").iterdir()]), asyncio.all_tasks()
    async with host.serving(), client_of(host) as veo:
        for _ in range(5):
            async with veo.stream(video(host.link)) as body:
                async for _piece in body:
                    break
            while host.open:
                await asyncio.sleep(0.001)
        with pytest.raises(LookupError):
            async with veo.stream(video(host.link)) as body:
                raise LookupError
        while host.open:
            await asyncio.sleep(0.001)
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == tasks
    assert len([*Path("/proc/self/fd").iterdir()]) <= before


async def test_reading_goes_on_where_it_was_left() -> None:
    async with (
        FileServer(FILM, then=Reply(framing="close")).serving() as host,
        client_of(host) as veo,
        veo.stream(video(host.link)) as body,
    ):
        got = bytearray()
        async for piece in body:
            got += piece
            break
        async for piece in body:
            got += piece
    assert got == FILM


async def test_entered_in_one_task_and_left_in_another() -> None:
    async with FileServer(FILM, Reply(cut=600_000)).serving() as host, client_of(host) as veo:
        opened = veo.stream(video(host.link))
        body = await asyncio.create_task(_enter(opened))
        got = await asyncio.create_task(_all_of(body))
        await asyncio.create_task(_leave(opened))
    assert got == FILM


async def _enter(opened: Any) -> Any:
    return await opened.__aenter__()


async def _all_of(body: VideoStream) -> bytes:
    return b"".join([piece async for piece in body])


async def _leave(opened: Any) -> None:
    await opened.__aexit__(None, None, None)


@pytest.mark.parametrize("is_shared", [False, True])
@pytest.mark.parametrize("etag", ['"v1"', None])
async def test_closing_the_client_ends_the_stream(etag: str | None, is_shared: bool) -> None:
    stuck = Reply(cut=900_000, end="hang", etag=etag)
    async with FileServer(FILM, then=stuck).serving() as host, aiohttp.TCPConnector() as pool:
        veo = client_of(host, connector=pool if is_shared else None)
        async with veo.stream(video(host.link)) as body:
            reading = asyncio.create_task(_all_of(body))
            while veo.statistics().bytes_downloaded < 900_000:
                await asyncio.sleep(0.001)
            await veo.aclose()
            await asyncio.wait({reading})
            assert isinstance(reading.exception(), ClientClosedError)
        assert len(host.seen) == 1


async def test_cancelled_while_reading() -> None:
    stuck = Reply(cut=900_000, end="hang")
    async with FileServer(FILM, then=stuck).serving() as host, client_of(host) as veo:
        reading = asyncio.create_task(read(veo, host.link))
        while veo.statistics().bytes_downloaded < 100_000:
            await asyncio.sleep(0.001)
        reading.cancel()
        await asyncio.wait({reading})
        assert reading.cancelled()
        while host.open:
            await asyncio.sleep(0.001)


async def test_a_slow_reader_costs_no_processor_time() -> None:
    async with (
        FileServer(movie(5 << 20)).serving() as host,
        client_of(host) as veo,
        veo.stream(video(host.link)) as body,
    ):
        async for _piece in body:
            break
        began = time.process_time()
        await asyncio.sleep(0.2)
        assert time.process_time() - began < 0.15


# --- parts, as browsers ask for them

PARTS = [
    ("bytes=0-", 0, SIZE),
    ("bytes=0-0", 0, 1),
    ("bytes=0-999999999", 0, SIZE),
    ("bytes=5-", 5, SIZE),
    ("bytes=700000-1099999", 700_000, 1_100_000),
    (f"bytes={SIZE - 1}-", SIZE - 1, SIZE),
    ("bytes=-200000", SIZE - 200_000, SIZE),
    ("bytes=-1", SIZE - 1, SIZE),
    ("bytes=-999999999", 0, SIZE),
    (" bytes = 3 - 9 ", 3, 10),
]


@pytest.mark.parametrize(("asked", "start", "stop"), PARTS)
async def test_a_part_of_a_video(asked: str, start: int, stop: int) -> None:
    async with FileServer(FILM).serving() as host, client_of(host) as veo:
        async with veo.stream(video(host.link), range=asked) as body:
            assert body.status == 206
            assert (body.size, body.length) == (SIZE, stop - start)
            assert dict(body.headers) == {
                "Content-Type": "video/mp4",
                "Accept-Ranges": "bytes",
                "Content-Length": str(stop - start),
                "Content-Range": f"bytes {start}-{stop - 1}/{SIZE}",
                "ETag": '"v1"',
            }
            assert b"".join([piece async for piece in body]) == FILM[start:stop]
        assert veo.statistics().bytes_downloaded == stop - start
    assert len(host.seen) == 1


@pytest.mark.parametrize(
    "asked",
    [None, "", "bytes=", "bytes=-", "bytes=9-3", "bytes=0-1,5-9", "items=0-5", "bytes=a-b", "0-5"],
)
async def test_what_is_no_single_range_gets_the_whole(asked: str | None) -> None:
    async with (
        FileServer(FILM).serving() as host,
        client_of(host) as veo,
        veo.stream(video(host.link), range=asked) as body,
    ):
        assert (body.status, body.length) == (200, SIZE)
        assert "Content-Range" not in body.headers
        assert b"".join([piece async for piece in body]) == FILM
    assert "range" not in host.seen[0].headers


async def test_a_part_that_is_not_there() -> None:
    async with FileServer(FILM).serving() as host, client_of(host) as veo:
        for asked in (f"bytes={SIZE}-", "bytes=999999999-"):
            async with veo.stream(video(host.link), range=asked) as body:
                assert (body.status, body.size, body.length) == (416, SIZE, 0)
                assert body.headers["Content-Range"] == f"bytes */{SIZE}"
                assert body.headers["Content-Length"] == "0"
                assert [piece async for piece in body] == []
    assert len(host.seen) == 2


@pytest.mark.parametrize(
    ("condition", "status"),
    [('"v1"', 206), ('"v2"', 200), ('W/"v1"', 200), ("Tue, 24 Nov 2026 10:00:00 GMT", 200)],
)
@pytest.mark.parametrize("is_heeded", [True, False])
async def test_if_range(condition: str, status: int, is_heeded: bool) -> None:
    """Also where the storage host looks past it."""
    host = FileServer(FILM)
    if not is_heeded:
        host.route = lambda seen: Reply(status=206) if "range" in seen.headers else None
    async with (
        host.serving(),
        client_of(host) as veo,
        veo.stream(video(host.link), range="bytes=500000-", if_range=condition) as body,
    ):
        assert body.status == status
        got = b"".join([piece async for piece in body])
    assert got == (FILM[500_000:] if status == 206 else FILM)


async def test_a_host_without_ranges_sends_the_whole() -> None:
    async with (
        FileServer(FILM, then=Reply(ranges=False)).serving() as host,
        client_of(host) as veo,
        veo.stream(video(host.link), range="bytes=700000-") as body,
    ):
        assert (body.status, body.length) == (200, SIZE)
        assert b"".join([piece async for piece in body]) == FILM


@pytest.mark.parametrize("end", ["close", "reset"])
@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [("bytes=300000-", 300_000, SIZE), ("bytes=300000-1299999", 300_000, 1_300_000)],
)
async def test_a_cut_in_a_part_is_not_seen(end: End, asked: str, start: int, stop: int) -> None:
    cuts = [300_000, 300_001, 900_000, stop - 1]
    script = [Reply(cut=cut, end=end) for cut in cuts]
    async with (
        FileServer(FILM, *script).serving() as host,
        client_of(host) as veo,
        veo.stream(video(host.link), range=asked) as body,
    ):
        assert b"".join([piece async for piece in body]) == FILM[start:stop]
    assert any(seen.start > 300_000 for seen in host.seen)


async def test_a_dead_link_under_a_part_is_not_seen() -> None:
    host = FileServer(FILM, Reply(status=403), Reply(cut=900_000), Reply(status=410))
    async with host.serving(), client_of(host) as veo:
        api = b'{"code":200,"data":{"taskId":"task_1","status":1,"videoUrl":"%s"}}'
        host.route = lambda seen: (
            Reply(body=api % host.link.encode()) if seen.path.startswith("/api/") else None
        )
        async with veo.stream(video(host.link), range="bytes=-800000") as body:
            assert body.status == 206
            assert b"".join([piece async for piece in body]) == FILM[-800_000:]


@pytest.mark.parametrize(
    "second",
    [
        Reply(etag='"v2"'),
        Reply(ranges=False),
        Reply(body=FILM + b"more"),
        Reply(body=FILM[:600_000]),
    ],
    ids=["etag", "whole", "longer", "shorter"],
)
@pytest.mark.parametrize("cut", [700_000, 900_000], ids=["before a byte", "after some"])
async def test_another_file_under_a_part_is_an_error(second: Reply, cut: int) -> None:
    async with FileServer(FILM, Reply(cut=cut), then=second).serving() as host:
        async with client_of(host) as veo, AsyncExitStack() as stack:
            body = await stack.enter_async_context(
                veo.stream(video(host.link), range="bytes=700000-1399999")
            )
            got = bytearray()
            with pytest.raises(ContentChangedError, match="again"):
                await _collect(body, got)
        assert FILM[700_000:].startswith(bytes(got))


async def test_another_size_before_the_first_byte_is_an_error() -> None:
    """The size was told to the browser already."""
    script = [Reply(cut=0, etag=None), Reply(body=FILM + box(b"free", b"1" * 9), etag=None)]
    async with FileServer(FILM, *script).serving() as host, client_of(host) as veo:
        with pytest.raises(ContentChangedError, match="again"):
            await read(veo, host.link)


@pytest.mark.parametrize(
    "lie",
    [
        "bytes 0-799999/1500000",
        "bytes 700000-1500000/1500000",
        "bytes 700000-699999/1500000",
        "bytes 700000-1400000/*",
        "items 700000-1399999/1500000",
        "",
    ],
)
async def test_a_part_that_was_not_asked_for_is_an_error(lie: str) -> None:
    lying = Reply(status=206, headers={"Content-Range": lie})
    async with FileServer(FILM, then=lying).serving() as host, client_of(host) as veo:
        with pytest.raises(DownloadError, match="again"):
            async with veo.stream(video(host.link), range="bytes=700000-1399999"):
                raise AssertionError("there is no body")
    assert len(host.seen) == 4


async def test_a_page_in_place_of_the_first_part_is_no_video() -> None:
    page = Reply(body=PAGE * 99, headers={"Content-Type": "video/mp4"})
    async with (
        FileServer(FILM, then=page).serving() as host,
        client_of(host) as veo,
        veo.stream(video(host.link), range="bytes=0-99") as body,
    ):
        with pytest.raises(NotAnMP4Error):
            await anext(body)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("video/quicktime", "video/quicktime"),
        ("Video/MP4; x=y", "Video/MP4; x=y"),
        ("image/svg+xml", "video/mp4"),
        ("application/octet-stream", "video/mp4"),
        ("", "video/mp4"),
    ],
)
async def test_no_browser_is_told_of_anything_but_a_video(said: str, told: str) -> None:
    then = Reply(headers={"Content-Type": said})
    async with (
        FileServer(FILM, then=then).serving() as host,
        client_of(host) as veo,
        veo.stream(video(host.link)) as body,
    ):
        assert body.content_type == body.headers["Content-Type"] == told


async def test_a_stream_that_was_left_opens_nothing() -> None:
    async with FileServer(FILM).serving() as host, client_of(host) as veo:
        async with veo.stream(video(host.link)) as body:
            await anext(body)
        with pytest.raises(DownloadError, match="open another"):
            await anext(body)
    assert len(host.seen) == 1


# --- a browser asks many times


def _api(host: FileServer, status: int = 1) -> None:
    text = b'{"code":200,"data":{"taskId":"task_1","status":%d,"videoUrl":"%s"}}'
    answer = text % (status, host.link.encode())
    host.route = lambda seen: Reply(body=answer) if seen.path.startswith("/api/") else None


def _questions(host: FileServer) -> int:
    return sum(seen.path.startswith("/api/v1/veo/") for seen in host.seen)


async def test_the_service_is_asked_once_for_many_parts() -> None:
    async with FileServer(FILM).serving() as host, client_of(host) as veo:
        _api(host)
        for start in range(0, SIZE, 300_000):
            async with veo.stream("task_1", range=f"bytes={start}-") as body:
                assert await anext(body)
        assert _questions(host) == 1


async def test_an_id_that_nobody_knows_is_told_at_once() -> None:
    async with FileServer(FILM).serving() as host, client_of(host) as veo:
        unknown = Reply(status=404, body=b'{"code":404,"msg":"no such task"}')
        host.route = lambda seen: unknown if seen.path.startswith("/api/") else None
        with pytest.raises(NotFoundError, match="task_1"):
            async with veo.stream("task_1"):
                raise AssertionError("there is no body")
        assert len(host.seen) == 1


async def test_a_link_of_before_that_died_is_asked_for_again() -> None:
    async with FileServer(FILM).serving() as host, client_of(host) as veo:
        _api(host)
        async with veo.stream("task_1") as body:
            await anext(body)
        host.script = [Reply(status=403)]
        async with veo.stream("task_1") as body:
            assert b"".join([piece async for piece in body]) == FILM
        assert _questions(host) == 2


async def test_an_unfinished_task_is_waited_for_no_longer_than_allowed() -> None:
    async with FileServer(FILM).serving() as host, client_of(host) as veo:
        _api(host, status=0)
        with pytest.raises(TaskTimeoutError, match="task_1"):
            async with veo.stream("task_1", timeout=0.05):
                raise AssertionError("there is no body")
        _api(host)
        async with veo.stream("task_1", timeout=60) as body:
            assert await anext(body)
