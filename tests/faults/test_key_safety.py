"""The key, and the prompt, go to the API's origin; no error, log line or dump shows the key."""

import asyncio
import contextlib
import copy
import json
import logging
import pickle
import ssl
import subprocess
import traceback
import warnings
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.faults.fileserver import KEY, PROMPT, FileServer, Reply, client_of, movie, video
from veo_async import (
    ClientClosedError,
    ConfigurationError,
    LimiterError,
    RetryPolicy,
    SubmitUncertainError,
    Timeouts,
    VeoClient,
    VeoError,
)
from veo_async.limits import LocalLimiter

pytestmark = pytest.mark.anyio

FILM = movie(20_000)
ONCE = RetryPolicy(attempts=1, base=0.001, cap=0.002, refused_for=0.01)
SOON = Timeouts(connect=0.3, response=0.2, stall=0.2, task=0.02, uncertain=0.5, close=0.2)

Call = Callable[[VeoClient, FileServer], Awaitable[object]]


async def _status(veo: VeoClient, host: FileServer) -> object:
    return await veo.status("task_1")


async def _upgrade(veo: VeoClient, host: FileServer) -> object:
    return await veo.upgrade_1080p(video(host.link))


async def _submit(veo: VeoClient, host: FileServer) -> object:
    return await veo.submit(PROMPT)


async def _stream(veo: VeoClient, host: FileServer) -> object:
    async with veo.stream(video(host.link)) as body:
        return [piece async for piece in body]


API_CALLS: list[Call] = [_status, _upgrade, _submit]
CALLS: list[Call] = [*API_CALLS, _stream]


@pytest.fixture(scope="session")
def tls(
    tmp_path_factory: pytest.TempPathFactory, tool: Callable[[str, str], str]
) -> ssl.SSLContext:
    """A context with a certificate that nobody trusts."""
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


# --- redirects


def targets(host: FileServer, other: FileServer) -> dict[str, str]:
    return {
        "other port": f"{other.url}/x",
        "other name": f"http://localhost:{host.port}/x",
        "other name and port": f"http://localhost:{other.port}/x",
        "other scheme": f"https://127.0.0.1:{other.port}/x",
        "no scheme": f"//127.0.0.1:{other.port}/x",
        "credentials": f"http://user:word@127.0.0.1:{other.port}/x",
        "same host": "/x",
        "loop": "",
    }


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("where", [*targets(FileServer(), FileServer())])
@pytest.mark.parametrize("call", CALLS)
async def test_no_redirect_carries_the_key_or_the_prompt(
    status: int, where: str, call: Call
) -> None:
    host, other = FileServer(FILM), FileServer(FILM)
    async with host.serving(), other.serving():
        async with client_of(host, retry=ONCE, timeouts=SOON) as veo:
            location = targets(host, other)[where]
            host.route = lambda seen: (
                None
                if seen.path == "/x"
                else Reply(status=status, headers={"Location": location or seen.path})
            )
            try:
                await call(veo, host)
            except VeoError as error:
                assert_hidden(error)
        sent_to_api = [seen for seen in host.seen if seen.path.startswith("/api/")]
        others = [*other.seen, *(seen for seen in host.seen if seen not in sent_to_api)]
        assert not any(KEY.encode() in seen.head + seen.body for seen in others)
        assert not any(PROMPT.encode() in seen.head + seen.body for seen in others)
        assert not any(seen.method == "POST" for seen in others)
        assert sum(seen.method == "POST" for seen in host.seen) <= 1
        if call is not _stream:
            assert other.connections == 0
            assert all(KEY.encode() in seen.head for seen in sent_to_api)


async def test_the_key_is_not_sent_where_a_video_lies_at_the_apis_host() -> None:
    async with FileServer(FILM).serving() as host, client_of(host) as veo:
        await _stream(veo, host)
    assert KEY.encode() not in host.wire
    assert b"uthorization" not in host.wire


async def test_from_https_to_http_is_refused(tls: ssl.SSLContext) -> None:
    secure, plain = FileServer(FILM), FileServer(FILM)
    async with secure.serving(tls), plain.serving(), client_of(plain, ssl=False) as veo:
        secure.route = lambda _seen: Reply(status=302, headers={"Location": plain.link})
        with pytest.raises(VeoError, match="https to http"):
            await _stream(veo, secure)
    assert plain.seen == []


async def test_what_the_environment_and_the_hosts_say_is_not_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, other = FileServer(FILM), FileServer(FILM)
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password netrc-word\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".netrc").write_text(netrc.read_text())
    async with host.serving(), other.serving():
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY"):
            monkeypatch.setenv(name, other.url)
        cookie = {"Set-Cookie": "who=tracked; Path=/", "Set-cookie": "again=1"}
        host.then = Reply(headers=cookie)
        async with client_of(host, retry=ONCE, timeouts=SOON) as veo:
            for _ in range(2):
                for call in CALLS:
                    with contextlib.suppress(VeoError):
                        await call(veo, host)
    assert other.connections == 0
    assert len(host.seen) >= 8
    assert b"netrc-word" not in host.wire
    assert b"ookie" not in host.wire
    assert b"Basic" not in host.wire


# --- what shows


def chain(error: BaseException | None) -> Iterator[BaseException]:
    met: set[int] = set()
    left = [error]
    while left:
        one = left.pop()
        if one is not None and id(one) not in met:
            met.add(id(one))
            yield one
            left += [one.__cause__, one.__context__]


def assert_hidden(error: BaseException) -> None:
    """Look for the key in everything that a crash report may hold of an error."""
    shown = [*traceback.TracebackException.from_exception(error, capture_locals=True).format()]
    for one in chain(error):
        shown += [str(one), repr(one), repr(one.args), repr(vars(one))]
        shown += traceback.TracebackException.from_exception(one, capture_locals=True).format()
        if isinstance(one, VeoError):
            again = pickle.loads(pickle.dumps(one))
            assert (type(again), str(again), vars(again)) == (type(one), str(one), vars(one))
            assert str(copy.copy(one)) == str(one)
            shown.append(repr(pickle.dumps(one)))
    assert KEY not in "\n".join(shown)


ECHO = f"Bearer {KEY}".encode()
BROKEN = {
    "closed before headers": Reply(early=True),
    "reset before headers": Reply(early=True, end="reset"),
    "closed in the body": Reply(cut=9),
    "reset in the body": Reply(cut=9, end="reset"),
    "silence": Reply(early=True, end="hang"),
    "silence in the body": Reply(cut=9, end="hang"),
    "other protocol": Reply(raw=b"SSH-2.0-OpenSSH_9.2\r\n"),
    "echo": Reply(raw=ECHO + b"\r\n\r\n"),
    "echo in the status line": Reply(raw=b"HTTP/1.1 abc " + ECHO + b"\r\n\r\n"),
    "echo in a header": Reply(raw=b"HTTP/1.1 200 OK\r\n" + ECHO + b"\r\n\r\n"),
    "echo in a length": Reply(raw=b"HTTP/1.1 200 OK\r\nContent-Length: " + ECHO + b"\r\n\r\n"),
    "echo in the body": Reply(body=ECHO),
    "echo in an error": Reply(
        status=401, body=json.dumps({"code": 401, "msg": f"bad key {KEY}"}).encode()
    ),
    "echo in a message": Reply(body=json.dumps({"code": 422, "msg": f"bad key {KEY}"}).encode()),
    "bad status": Reply(raw=b"HTTP/1.1 99999 OK\r\n\r\n"),
    "bad version": Reply(raw=b"HTTP/9.1 200 OK\r\n\r\n"),
    "bad chunk": Reply(raw=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}"),
    "bad chunk later": Reply(
        raw=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\nzz\r\n"
    ),
    "two lengths": Reply(
        raw=b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}"
    ),
    "bad gzip": Reply(
        raw=b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 9\r\n\r\nnot gzip!"
    ),
    "huge header": Reply(raw=b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n{}"),
    "many headers": Reply(raw=b"HTTP/1.1 200 OK\r\n" + b"X: x\r\n" * 50_000 + b"\r\n{}"),
    "binary": Reply(raw=bytes(range(256)) * 4),
    "odd bytes": Reply(raw=b"HTTP/1.1 200 \xff\xfe\r\nX\xff: \xfe\r\nContent-Length: 0\r\n\r\n"),
    "no content": Reply(raw=b"HTTP/1.1 204 No Content\r\n\r\n"),
    "endless 1xx": Reply(raw=b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
    "switching": Reply(raw=b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nx"),
    "redirect": Reply(status=302, headers={"Location": "http://[::1"}),
    **{
        str(status): Reply(status=status)
        for status in (400, 401, 402, 404, 408, 422, 429, 455, 500)
    },
}


@pytest.mark.parametrize("name", BROKEN)
async def test_broken_answers_give_errors_of_the_tree_without_the_key(
    name: str, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(0)
    for logger in ("", "aiohttp", "asyncio", "veo_async"):
        caplog.set_level(0, logger)
    asyncio.get_running_loop().set_debug(True)
    host = FileServer(b'{"not": "an envelope"}', then=BROKEN[name])
    async with host.serving(), client_of(host, retry=ONCE, timeouts=SOON) as veo:
        for call in API_CALLS if "echo" in name else CALLS:
            try:
                await call(veo, host)
            except VeoError as error:
                assert_hidden(error)
            else:
                assert (call, name) == (_status, "400")  # which means "generating" there
        assert KEY not in repr(veo) + str(veo) + repr(veo.statistics())
    assert KEY not in caplog.text
    assert KEY not in "".join(capsys.readouterr())
    posts = len([seen for seen in host.seen if seen.method == "POST"])
    assert posts == 1 or (posts and name in {"429", "455"})


@pytest.mark.parametrize("call", API_CALLS)
async def test_hosts_that_cannot_be_reached(
    call: Call, unused_tcp_port: int, tls: ssl.SSLContext
) -> None:
    host = FileServer(b"{}")
    async with host.serving(tls):
        nowhere = ["http://no-such-host.invalid", f"http://127.0.0.1:{unused_tcp_port}", host.url]
        nowhere += [f"https://localhost:{unused_tcp_port}", f"http://127.0.0.1:{host.port}"]
        # The server's side of a handshake that failed is not what is looked at here.
        asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
        for base_url in nowhere:
            async with client_of(host, retry=ONCE, timeouts=SOON, base_url=base_url) as veo:
                with pytest.raises(VeoError) as caught:
                    await call(veo, host)
                assert_hidden(caught.value)
    assert host.seen == []


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("reply", [Reply(early=True, end="hang"), Reply(cut=9, end="hang")])
async def test_cancelled_calls(call: Call, reply: Reply) -> None:
    async with (
        FileServer(FILM, then=reply).serving() as host,
        client_of(host, timeouts=SOON) as veo,
    ):
        work = asyncio.ensure_future(call(veo, host))
        while not host.seen:
            await asyncio.sleep(0.001)
        work.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await work
        assert_hidden(caught.value)


async def test_a_call_that_is_cancelled_by_a_timeout_ends_in_time() -> None:
    silence = Reply(early=True, end="hang")
    async with FileServer(FILM, then=silence).serving() as host, client_of(host) as veo:
        with pytest.raises(TimeoutError) as caught:
            await asyncio.wait_for(veo.status("task_1"), 0.05)
        assert_hidden(caught.value)


@pytest.mark.parametrize("reply", [Reply(early=True, end="hang"), Reply(cut=9, end="hang")])
async def test_a_client_that_is_closed_meanwhile(reply: Reply) -> None:
    """Whoever waits for an answer is told at once, not when the answer's time is over."""
    async with FileServer(FILM, then=reply).serving() as host:
        for call in CALLS:
            veo = client_of(host, timeouts=Timeouts(close=0.05))
            host.seen.clear()
            work = asyncio.ensure_future(call(veo, host))
            while not host.seen:
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.01)
            await veo.aclose()
            with pytest.raises(VeoError) as caught:
                await work
            kind = SubmitUncertainError if call is _submit else ClientClosedError
            assert isinstance(caught.value, kind)
            assert_hidden(caught.value)
            with pytest.raises(ClientClosedError) as refused:
                await call(veo, host)
            assert_hidden(refused.value)


class BrokenLimiter(LocalLimiter):
    """Counts the reserved, and fails when the request leaves."""

    async def occupy(self, key: str, seconds: float) -> None:
        raise LimiterError("the slots cannot be counted; try again") from ConnectionError("away")


async def test_a_limiter_that_fails_just_before_the_request_leaves() -> None:
    async with (
        FileServer(b"{}").serving() as host,
        client_of(host, retry=ONCE, limiter=BrokenLimiter(10)) as veo,
    ):
        with pytest.raises(LimiterError) as caught:
            await veo.submit(PROMPT)
        assert_hidden(caught.value)
    assert host.seen == []


@pytest.mark.parametrize("bad", ["\n", " ", "\N{SNOWMAN}", "\0"])
def test_a_key_that_no_key_can_be(bad: str) -> None:
    def make() -> None:
        VeoClient(api_key=KEY[:9] + bad + KEY[9:])

    with pytest.raises(ConfigurationError) as caught:
        make()
    # The caller's own line is his; ours must not add to it.
    ours = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    text = "\n".join(repr(frame.locals) for frame in ours.stack if "veo_async" in frame.filename)
    assert KEY[:9] not in text
    assert KEY[:9] not in str(caught.value) + repr(caught.value)


@pytest.mark.parametrize(
    "settings", [{"base_url": "ftp://x"}, {"max_downloads": 0}, {"callback_url": "x"}]
)
def test_other_settings_that_are_wrong(settings: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        VeoClient(KEY, **settings)
    ours = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    text = "\n".join(repr(frame.locals) for frame in ours.stack if "veo_async/" in frame.filename)
    assert KEY not in text + str(caught.value)


async def test_a_client_that_was_forgotten() -> None:
    async with FileServer(FILM).serving() as host:
        veo = client_of(host)
        await _stream(veo, host)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            runtime = veo._engine.runtime
            veo.__del__()
        assert caught
        assert KEY not in "".join(f"{one.message!r} {one.source!r}" for one in caught)
        assert runtime is not None
        assert KEY not in repr(runtime)
        await veo.aclose()


async def test_what_lies_on_the_disk(tmp_path: Path) -> None:
    stuck = Reply(cut=2_500_000, end="hang")
    async with FileServer(movie(3 << 20), then=stuck).serving() as host:
        veo = client_of(host)
        link = f"{host.link}?Signature=secret-of-the-link"
        work = asyncio.create_task(veo.download(video(link), tmp_path / "v.mp4"))
        while veo.statistics().bytes_downloaded < 1 << 20:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)
        await veo.aclose()
        with pytest.raises(ClientClosedError):
            await work
    side = (tmp_path / "v.mp4.part.json").read_text()
    assert KEY not in side
    assert "secret-of-the-link" not in side


async def test_the_logs_of_a_good_day(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    asyncio.get_running_loop().set_debug(True)
    for logger in ("", "aiohttp", "asyncio", "veo_async"):
        caplog.set_level(logging.NOTSET, logger)
    envelope = {"code": 200, "msg": "success", "data": {"taskId": "task_1", "status": 0}}
    async with FileServer(FILM).serving() as host, client_of(host) as veo:
        host.route = lambda seen: (
            Reply(body=json.dumps(envelope).encode()) if seen.path.startswith("/api/") else None
        )
        task = await veo.submit(PROMPT)
        await veo.status(task)
        await veo.download(video(host.link), tmp_path / "v.mp4")
        assert KEY not in repr(task) + repr(veo) + repr(asyncio.all_tasks())
    assert "task_1" in caplog.text
    assert KEY not in caplog.text


async def test_a_lost_answer_names_the_prompt_and_not_the_key() -> None:
    lost = Reply(early=True)
    async with FileServer(b"{}", then=lost).serving() as host, client_of(host) as veo:
        with pytest.raises(SubmitUncertainError) as caught:
            await veo.submit(PROMPT)
        assert caught.value.prompt == PROMPT
        assert_hidden(caught.value)


async def test_a_proxy_sees_the_key_only_on_its_way_to_the_api(unused_tcp_port: int) -> None:
    """A plain proxy for plain http: it passes everything on, and must be trusted with it."""
    host = FileServer(b"{}")
    async with host.serving():
        refusing = Reply(status=407)
        proxy = FileServer(b"{}", then=refusing)
        async with proxy.serving():
            base_url = "https://api.example.com"
            async with client_of(
                host, retry=ONCE, timeouts=SOON, base_url=base_url, proxy=proxy.url
            ) as veo:
                for call in API_CALLS:
                    with pytest.raises(VeoError) as caught:
                        await call(veo, host)
                    assert_hidden(caught.value)
    assert {seen.method for seen in proxy.seen} == {"CONNECT"}
    assert KEY.encode() not in proxy.wire


async def test_the_applications_own_pool_is_not_closed_and_learns_nothing() -> None:
    async with FileServer(FILM).serving() as host, aiohttp.TCPConnector() as pool:
        async with client_of(host, connector=pool) as veo:
            await _stream(veo, host)
            with contextlib.suppress(VeoError):
                await veo.status("task_1")
        assert not pool.closed
        async with (
            aiohttp.ClientSession(connector=pool, connector_owner=False) as session,
            session.get(host.link) as answer,
        ):
            assert await answer.read() == FILM
        assert KEY.encode() not in host.seen[-1].head
        await asyncio.sleep(0)
