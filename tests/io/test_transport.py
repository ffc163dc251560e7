"""The wire: what an error says of the request, and what one request costs."""

import asyncio
import contextlib
import gzip
import json
import resource
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.faults.fileserver import KEY, FileServer, Framing, Reply, movie
from veo_async import (
    ClientClosedError,
    ConnectError,
    LimiterError,
    Timeouts,
    TransportError,
    TransportTimeoutError,
    VeoError,
)
from veo_async.protocol.http import HttpRequest, HttpResponse
from veo_async.settings import MAX_ANSWER_BYTES, ApiKey
from veo_async.transport import Transport

pytestmark = pytest.mark.anyio

SOON = Timeouts(connect=0.3, response=0.3)
PAID = HttpRequest(method="POST", path="/generate", body={"prompt": "x"})
FREE = HttpRequest(method="GET", path="/record-info", query={"taskId": "a b&c"})
ANSWER = b'{"code": 200}'


@asynccontextmanager
async def transport(base_url: str, **settings: Any) -> AsyncIterator[Transport]:
    made = Transport(
        base_url=base_url, key=ApiKey(KEY), timeouts=settings.pop("timeouts", SOON), **settings
    )
    try:
        yield made
    finally:
        await made.aclose()


class Leaving:
    """What is done before the first byte, and how often it was."""

    def __init__(self, error: Exception | None = None) -> None:
        self.count = 0
        self.error = error

    async def __call__(self) -> None:
        self.count += 1
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error


async def paid(wire: Transport, leaving: Leaving | None = None) -> HttpResponse:
    return await wire.call_once(PAID, leaving or Leaving())


async def test_a_request_and_its_answer() -> None:
    async with FileServer(ANSWER).serving() as host, transport(f"{host.url}/base/") as wire:
        answer = await wire.call(FREE)
        assert (answer.status, answer.body, answer.retry_after) == (200, ANSWER, None)
        host.script = [Reply(status=429, headers={"Retry-After": "7"})]
        assert (await paid(wire)).retry_after == 7
    first, second = host.seen
    assert (first.method, first.path) == ("GET", "/base/record-info?taskId=a+b%26c")
    assert first.headers["authorization"] == f"Bearer {KEY}"
    assert json.loads(second.body) == PAID.body
    assert second.headers["user-agent"].startswith("veo-async/")
    assert {seen.headers["accept-encoding"] for seen in host.seen} == {"identity"}


@pytest.fixture(scope="module")
def untrusted(
    tmp_path_factory: pytest.TempPathFactory, tool: Callable[[str, str], str]
) -> ssl.SSLContext:
    folder = tmp_path_factory.mktemp("tls")
    names = "subjectAltName=DNS:localhost,IP:127.0.0.1"
    command = [
        tool("openssl", "openssl"),
        *["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"],
    ]
    command += ["-keyout", f"{folder}/key", "-out", f"{folder}/cert"]
    command += ["-subj", "/CN=localhost", "-addext", names]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert", folder / "key")
    return context


async def failure(wire: Transport, leaving: Leaving) -> TransportError:
    with pytest.raises(TransportError) as caught:
        await wire.call_once(PAID, leaving)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert ";" in str(caught.value)
    return caught.value


async def test_where_no_connection_stands_nothing_was_sent(
    unused_tcp_port: int, untrusted: ssl.SSLContext
) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)  # the server's
    async with FileServer(ANSWER).serving(untrusted) as host:
        for base_url in (
            f"http://127.0.0.1:{unused_tcp_port}",
            "http://no-such-host.invalid",
            host.url,  # a certificate nobody trusts
        ):
            leaving = Leaving()
            async with transport(base_url) as wire:
                error = await failure(wire, leaving)
                assert isinstance(error, ConnectError)
                assert not error.request_sent
                assert leaving.count == 0
    assert host.seen == []


async def test_a_connection_that_is_never_answered() -> None:
    """The kernel drops what comes to a queue that is full."""
    with socket.socket() as full, contextlib.ExitStack() as stack:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        leaving = Leaving()
        patient = Timeouts(connect=0.2, response=5)
        base_url = f"http://127.0.0.1:{full.getsockname()[1]}"
        async with transport(base_url, timeouts=patient) as wire:
            error = await failure(wire, leaving)
    assert isinstance(error, ConnectError)
    assert not error.request_sent
    assert leaving.count == 0


@pytest.mark.parametrize(
    "reply",
    [
        Reply(early=True),
        Reply(early=True, end="reset"),
        Reply(cut=3),
        Reply(cut=3, end="reset"),
        Reply(raw=b"nonsense\r\n\r\n"),
        Reply(raw=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
        Reply(raw=b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd"),
        Reply(raw=b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + b"\r\n\r\n"),
    ],
)
async def test_where_the_answer_is_lost_a_byte_may_have_arrived(reply: Reply) -> None:
    leaving = Leaving()
    async with FileServer(ANSWER, then=reply).serving() as host, transport(host.url) as wire:
        error = await failure(wire, leaving)
    assert error.request_sent
    assert leaving.count == 1
    assert len(host.seen) == 1  # and it was sent once


@pytest.mark.parametrize(
    "reply",
    [
        Reply(early=True, end="hang"),
        Reply(cut=3, end="hang"),
        Reply(raw=b"HTTP/1.1 200 OK\r\n", end="hang"),
        Reply(body=b" " * 100, drip=(1, 0.05)),
    ],
)
async def test_an_answer_that_takes_too_long(reply: Reply) -> None:
    async with FileServer(ANSWER, then=reply).serving() as host, transport(host.url) as wire:
        error = await failure(wire, Leaving())
        assert isinstance(error, TransportTimeoutError)
        assert error.request_sent
        with pytest.raises(TransportTimeoutError):
            await wire.call(FREE)


async def test_a_connection_that_is_reset_before_the_request() -> None:
    """The kernel accepts, and the host resets before it has read."""

    async def reset(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    server = await asyncio.start_server(reset, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, transport(f"http://127.0.0.1:{port}") as wire:
        leaving = Leaving()
        error = await failure(wire, leaving)
    # Whether the first byte left before the reset is the kernel's secret, so both answers are safe
    # as long as "not sent" means that the caller was not told that it would leave.
    assert error.request_sent is (leaving.count == 1)


async def test_what_is_refused_before_it_leaves_is_not_sent() -> None:
    refusal = LimiterError("the slots cannot be counted; try again")
    async with FileServer(ANSWER).serving() as host, transport(host.url) as wire:
        with pytest.raises(LimiterError) as caught:
            await wire.call_once(PAID, Leaving(refusal))
        assert caught.value is refusal
        error = await failure(wire, Leaving(OSError("the disk is full")))
        assert not error.request_sent
        assert (await paid(wire)).status == 200
    assert len(host.seen) == 1


async def test_a_paid_request_never_rides_a_used_connection() -> None:
    async with FileServer(ANSWER).serving() as host, transport(host.url) as wire:
        for _ in range(3):
            await wire.call(FREE)
        for _ in range(3):
            await paid(wire)
            await wire.call(FREE)
    posts = [seen.connection for seen in host.seen if seen.method == "POST"]
    gets = {seen.connection for seen in host.seen if seen.method == "GET"}
    assert len(set(posts)) == len(posts) == 3
    assert len(gets) == 1
    assert not gets & set(posts)


async def test_also_with_the_applications_own_pool() -> None:
    async with FileServer(ANSWER).serving() as host, aiohttp.TCPConnector() as pool:
        async with transport(host.url, connector=pool) as wire:
            for _ in range(3):
                await wire.call(FREE)
                await paid(wire)
        assert not pool.closed
    posts = [seen.connection for seen in host.seen if seen.method == "POST"]
    assert len(set(posts)) == 3
    assert not set(posts) & {seen.connection for seen in host.seen if seen.method == "GET"}


async def test_a_pool_of_another_kind_carries_everything(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    host = FileServer(ANSWER)
    server = await asyncio.start_unix_server(host._talk, path)
    async with server, aiohttp.UnixConnector(path) as pool:
        async with transport("http://anything.example", connector=pool) as wire:
            assert (await paid(wire)).body == ANSWER
            assert (await wire.call(FREE)).body == ANSWER
        assert not pool.closed


@pytest.mark.parametrize("framing", ["length", "close"])
async def test_an_answer_without_an_end_is_bounded(framing: Framing) -> None:
    then = Reply(framing=framing)
    async with (
        FileServer(b" " * (200 << 20), then=then).serving() as host,
        transport(host.url, timeouts=Timeouts()) as wire,
    ):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert len((await wire.call(FREE)).body) == MAX_ANSWER_BYTES + 1
        assert len((await paid(wire)).body) == MAX_ANSWER_BYTES + 1
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown * 1024 < 32 << 20


async def test_a_gzip_bomb_is_bounded() -> None:
    bomb = Reply(body=gzip.compress(b" " * (64 << 20)), headers={"Content-Encoding": "gzip"})
    async with FileServer(b"", then=bomb).serving() as host, transport(host.url) as wire:
        try:
            answer = await wire.call(FREE)
        except TransportError:
            pass
        else:
            assert len(answer.body) == MAX_ANSWER_BYTES + 1


async def test_the_key_is_taken_out_of_what_the_other_side_says() -> None:
    async with FileServer(f"bad key {KEY}!".encode()).serving() as host:
        async with transport(host.url) as wire:
            assert (await wire.call(FREE)).body == b"bad key ***!"
        host.body = bytes(range(256))
        async with transport(host.url) as wire:
            assert (await wire.call(FREE)).body == host.body
        made = Transport(base_url=host.url, key=ApiKey("key"), timeouts=SOON)
        host.body = b"the key of a test"
        assert (await made.call(FREE)).body == host.body
        await made.aclose()


async def test_after_closing_nothing_is_sent() -> None:
    async with FileServer(movie(5 << 20)).serving() as host:
        made = Transport(base_url=host.url, key=ApiKey(KEY), timeouts=SOON)
        opened = made.fetch(host.link, {})
        stream = await opened.__aenter__()
        buffer = memoryview(bytearray(1 << 20))
        assert await stream.read_into(buffer)
        count = len(host.seen)
        await made.aclose()
        await made.aclose()
        calls = [made.call(FREE), paid(made), stream.read_into(buffer)]
        calls.append(made.fetch(host.link, {}).__aenter__())
        for call in calls:
            with pytest.raises(ClientClosedError):
                await call
        await opened.__aexit__(None, None, None)
    assert len(host.seen) == count


async def test_calls_are_counted() -> None:
    async with FileServer(ANSWER).serving() as host, transport(host.url) as wire:
        await wire.call(FREE)
        await paid(wire)
        async with wire.fetch(host.link, {"Range": "bytes=2-"}) as stream:
            buffer = memoryview(bytearray(100))
            assert buffer[: await stream.read_into(buffer)] == ANSWER[2:]
            assert stream.headers["content-RANGE"] == f"bytes 2-{len(ANSWER) - 1}/{len(ANSWER)}"
        assert wire.requests == 3


async def test_any_answer_is_a_value_or_an_error_of_the_tree() -> None:
    """Bytes as they come, cut and bent: nothing of aiohttp comes through."""
    good = (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n" + ANSWER
    )
    bent = [good[:cut] for cut in range(0, len(good), 3)]
    bent += [
        good[:at] + odd + good[at + 1 :]
        for at in range(0, 70, 4)
        for odd in (b"\0", b"\xff", b"\n")
    ]
    failures: list[VeoError] = []
    async with FileServer(ANSWER).serving() as host, transport(host.url) as wire:
        for raw in bent:
            host.then = Reply(raw=raw)
            for call in (wire.call(FREE), paid(wire)):
                try:
                    assert isinstance(await call, HttpResponse)
                except VeoError as error:
                    failures.append(error)
    assert failures
    assert all(error.__context__ is None for error in failures)
