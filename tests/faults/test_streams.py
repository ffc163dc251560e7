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
    NotAnMP4Error,
    Timeouts,
    TruncatedError,
    URLExpiredError,
    VeoClient,
    VeoError,
)
from veo_async.download import VideoStream

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
