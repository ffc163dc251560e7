"""Bodies that are read into a buffer of the reader's: straight from the connection, or not."""

import asyncio
import gc
import random
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from yarl import URL

from tests.faults.fileserver import KEY, End, FileServer, Framing, Reply, movie
from veo_async import ClientClosedError, Timeouts, TransportError
from veo_async.inlet import SMALLEST, inlet_of
from veo_async.settings import READ_BYTES, ApiKey
from veo_async.transport import Stream, Transport

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize(
        "anyio_backend",
        [
            pytest.param(("asyncio", {}), id="asyncio"),
            pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"),
        ],
    ),
]

SIZE = 6_000_000
FILM = movie(SIZE)
STUCK = Reply(cut=3_000_000, end="hang")


@pytest.fixture(scope="module")
def certified(
    tmp_path_factory: pytest.TempPathFactory, tool: Callable[[str, str], str]
) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """What a host and who trusts it need for TLS."""
    folder = tmp_path_factory.mktemp("tls")
    command = [tool("openssl", "openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes"]
    command += ["-days", "2", "-keyout", f"{folder}/key", "-out", f"{folder}/cert"]
    command += ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(command, check=True, capture_output=True)
    host = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    host.load_cert_chain(folder / "cert", folder / "key")
    return host, ssl.create_default_context(cafile=str(folder / "cert"))


@asynccontextmanager
async def opened(
    host: FileServer, headers: dict[str, str] | None = None, **settings: Any
) -> AsyncIterator[tuple[Transport, Stream]]:
    wire = Transport(base_url=host.url, key=ApiKey(KEY), timeouts=Timeouts(), **settings)
    try:
        async with wire.fetch(host.link, headers or {}) as stream:
            yield wire, stream
    finally:
        await wire.aclose()


async def rest_of(stream: Stream, size: int = SMALLEST, got: bytearray | None = None) -> bytes:
    """Read to the end, through a buffer of that size."""
    buffer = memoryview(bytearray(size))
    got = bytearray() if got is None else got
    while count := await stream.read_into(buffer):
        got += buffer[:count]
    return bytes(got)


def is_direct(stream: Stream) -> bool:
    return type(stream._body).__name__ == "_Direct"


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("is_secure", [False, True], ids=["http", "tls"])
@pytest.mark.parametrize("size", [1, 999, 65_536, SMALLEST, 2 * SIZE])
async def test_all_bytes_come_in_order(
    certified: tuple[ssl.SSLContext, ssl.SSLContext], framing: Framing, is_secure: bool, size: int
) -> None:
    theirs, ours = certified
    film = FILM if size > 1 else FILM[:100_000]  # one byte at a time takes long
    async with (
        FileServer(film, then=Reply(framing=framing)).serving(
            theirs if is_secure else None
        ) as host,
        opened(host, ssl=ours if is_secure else True) as (_, stream),
    ):
        assert is_direct(stream) == (framing == "length" and size > 1)
        assert await rest_of(stream, size) == film


async def test_a_part_comes_straight_from_the_connection() -> None:
    later = {"Range": "bytes=2000000-"}
    async with FileServer(FILM).serving() as host, opened(host, later) as (_, stream):
        assert is_direct(stream)
        assert await rest_of(stream) == FILM[2_000_000:]


@pytest.mark.parametrize("is_secure", [False, True], ids=["http", "tls"])
async def test_a_host_that_closes_behind_the_body(
    certified: tuple[ssl.SSLContext, ssl.SSLContext], is_secure: bool
) -> None:
    """A TLS layer drops what it still holds for a reader who pauses when the connection ends."""
    theirs, ours = certified
    closing = Reply(headers={"Connection": "close"}, end="close")
    async with (
        FileServer(FILM, then=closing).serving(theirs if is_secure else None) as host,
        opened(host, ssl=ours if is_secure else True) as (_, stream),
    ):
        assert is_direct(stream) != is_secure
        assert await rest_of(stream) == FILM


async def test_two_readers_at_once_are_told_so() -> None:
    async with FileServer(FILM, then=STUCK).serving() as host, opened(host) as (_, stream):
        first = asyncio.ensure_future(rest_of(stream))
        await asyncio.sleep(0.2)
        with pytest.raises(TransportError, match="being read already"):
            await rest_of(stream)
        assert not first.done()
        first.cancel()


async def test_a_buffer_that_was_full_before_the_head_was_read() -> None:
    """aiohttp stops to read when its buffer is full, and must be emptied first."""
    dice = random.Random(5)
    async with FileServer(FILM).serving() as host:
        wire = Transport(base_url=host.url, key=ApiKey(KEY), timeouts=Timeouts())
        for _ in range(5):
            response = await wire._get(URL(host.link), {})
            await asyncio.sleep(dice.uniform(0, 0.05))  # the loop goes on to read
            stream = Stream(200, {}, inlet_of(response), wire._files)
            assert await rest_of(stream) == FILM
            response.close()
        await wire.aclose()


@pytest.mark.parametrize("end", ["close", "reset"])
@pytest.mark.parametrize("cut", [1, READ_BYTES, 1_500_000, 3_000_001, SIZE - 1])
async def test_what_arrived_before_a_cut_is_given_out_before_the_error(end: End, cut: int) -> None:
    cutting = FileServer(FILM, then=Reply(cut=cut, end=end))
    async with cutting.serving() as host, opened(host) as (_, stream):
        got = bytearray()
        with pytest.raises(TransportError) as caught:
            await rest_of(stream, got=got)
        assert FILM.startswith(got)
        # Of a reset, the kernel drops what nobody has taken.
        assert len(got) == cut or (end == "reset" and len(got) < cut)
        assert ";" in str(caught.value)
        assert caught.value.__cause__ is caught.value.__context__ is None
        with pytest.raises(TransportError):
            await rest_of(stream)


@pytest.mark.parametrize("is_secure", [False, True], ids=["http", "tls"])
async def test_a_cancelled_read_loses_nothing(
    certified: tuple[ssl.SSLContext, ssl.SSLContext], is_secure: bool
) -> None:
    dice = random.Random(3)
    theirs, ours = certified
    dripping = FileServer(FILM, then=Reply(drip=(40_000, 0.001)))
    async with (
        dripping.serving(theirs if is_secure else None) as host,
        opened(host, ssl=ours if is_secure else True) as (_, stream),
    ):
        buffer, got, cancelled = memoryview(bytearray(SMALLEST)), bytearray(), 0
        while len(got) < SIZE:
            reading = asyncio.ensure_future(stream.read_into(buffer))
            for _ in range(dice.randrange(6)):
                await asyncio.sleep(0)
            reading.cancel()
            try:
                got += buffer[: await reading]
            except asyncio.CancelledError:
                cancelled += 1
        assert got == FILM
        assert cancelled > 20
        assert await stream.read_into(buffer) == 0


async def test_a_loop_that_gives_an_arrival_in_parts_before_the_reader_has_run() -> None:
    """As Windows' does: it owns a buffer, and asks for room until that is empty."""
    async with FileServer(FILM, then=STUCK).serving() as host, opened(host) as (_, stream):
        got = bytearray()
        buffer = memoryview(bytearray(SMALLEST))
        while len(got) < 3_000_000:
            got += buffer[: await stream.read_into(buffer)]
        body = stream._body
        small = memoryview(bytearray(1000))
        for start in (3_000_000, 3_200_000):
            reading = asyncio.ensure_future(stream.read_into(small))
            await asyncio.sleep(0)
            rest = FILM[start : start + 200_000]
            while rest:
                room = body.get_buffer(-1)
                size = min(len(room), len(rest))
                room[:size] = rest[:size]
                body.buffer_updated(size)
                rest = rest[size:]
            got += small[: await reading]
            while len(got) < start + 200_000:
                got += small[: await stream.read_into(small)]
        assert got == FILM[: len(got)]


async def test_a_client_that_closes_wakes_who_reads() -> None:
    async with FileServer(FILM, then=STUCK).serving() as host, opened(host) as (wire, stream):
        reading = asyncio.ensure_future(rest_of(stream))
        await asyncio.sleep(0.2)
        assert not reading.done()
        await wire.aclose()
        with pytest.raises(ClientClosedError):
            await asyncio.wait_for(reading, 10)
        with pytest.raises(ClientClosedError):
            await stream.read_into(memoryview(bytearray(10)))


async def test_nothing_is_read_ahead_of_the_reader() -> None:
    """A slow consumer slows the host down: what it has sent stays in the kernel's buffers."""
    film = movie(60_000_000)
    async with FileServer(film).serving() as host, opened(host) as (_, stream):
        buffer = memoryview(bytearray(1000))
        assert await stream.read_into(buffer)
        await asyncio.sleep(0.3)
        assert len(stream._body._kept) <= 3 * READ_BYTES
        assert await rest_of(stream) == film[1000:]


async def test_more_than_was_announced_is_left_alone() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\nContent-Length: %d\r\n\r\n" % SIZE
    raw = Reply(raw=head + FILM + b"HTTP/1.1 200 OK\r\n\r\nmore" * 1000)
    async with FileServer(then=raw).serving() as host, opened(host) as (_, stream):
        assert await rest_of(stream) == FILM


async def test_connections_are_used_again_after_small_bodies_and_closed_after_large_ones() -> None:
    small = FileServer(FILM[: SMALLEST // 2])
    large = FileServer(FILM)
    async with small.serving(), large.serving():
        for host, connections in ((small, 1), (large, 3)):
            wire = Transport(base_url=host.url, key=ApiKey(KEY), timeouts=Timeouts())
            for _ in range(3):
                async with wire.fetch(host.link, {}) as stream:
                    assert await rest_of(stream) == host.body
            assert host.connections == connections
            await wire.aclose()


async def test_a_pool_of_the_application_keeps_no_connection_of_a_large_body() -> None:
    async with FileServer(FILM).serving() as host, aiohttp.TCPConnector(limit=1) as pool:
        async with opened(host, connector=pool) as (_, stream):
            assert await rest_of(stream) == FILM
        async with (
            aiohttp.ClientSession(connector=pool, connector_owner=False) as session,
            session.get(host.link) as answer,
        ):
            assert await answer.read() == FILM
        await asyncio.sleep(0.05)
        assert host.open <= 1
    gc.collect()


async def test_leaving_early_closes_the_connection() -> None:
    async with FileServer(FILM, then=STUCK).serving() as host:
        async with opened(host) as (_, stream):
            assert await stream.read_into(memoryview(bytearray(10)))
            assert host.open == 1
        for _ in range(100):
            if not host.open:
                break
            await asyncio.sleep(0.02)
        assert host.open == 0
