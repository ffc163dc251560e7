"""Uploads: every kind of source, every refusal, and what happens on a bad line."""

import asyncio
import io
import os
import socket
import threading
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import anyio
import pytest

from tests.faults.fileserver import KEY, FileServer, Reply
from tests.faults.test_key_safety import BROKEN, ONCE, SOON, assert_hidden
from tests.flows.uploads import (
    MEGABYTE,
    Hanging,
    UploadHost,
    cutting,
    digest_of,
    image,
    is_open,
    refusing,
    sparse,
)
from veo_async import (
    APIError,
    AuthenticationError,
    ClientClosedError,
    ConfigurationError,
    ConnectError,
    InvalidRequestError,
    NotFoundError,
    RateLimitError,
    RequestFinished,
    RetryPolicy,
    RetryScheduled,
    ServerError,
    Timeouts,
    TransportError,
    TransportTimeoutError,
    UnexpectedResponseError,
    ValidationError,
    VeoClient,
    VeoError,
)
from veo_async.configuration import read_upload_url
from veo_async.settings import BASE_URL
from veo_async.simulator import Simulator
from veo_async.upload import Uploader

pytestmark = pytest.mark.anyio

NOBODY = 65534
TEXT = b"frame by frame " * 9_000  # 135 kB: more than one piece


# --- what can be uploaded


def _file_at(path: Path, offset: int) -> io.BufferedReader:
    file = path.open("rb")
    file.seek(offset)
    return file


def _pipe(data: bytes) -> io.BufferedReader:
    reading, writing = os.pipe()
    os.write(writing, data)
    os.close(writing)
    return os.fdopen(reading, "rb")


class Readable:
    """Has nothing but `read`, and gives little at a time."""

    def __init__(self, data: bytes) -> None:
        self._left = io.BytesIO(data)

    def read(self, size: int, /) -> bytes:
        return self._left.read(min(size, 7_001))


SOURCES: dict[str, tuple[Callable[[Path], Any], bytes, str]] = {
    "path": (lambda path: path, TEXT, ".dat"),
    "text": (str, TEXT, ".dat"),
    "bytes": (lambda _path: TEXT, TEXT, ""),
    "bytearray": (lambda _path: bytearray(TEXT), TEXT, ""),
    "memoryview": (lambda _path: memoryview(TEXT)[3:], TEXT[3:], ""),
    "memoryview of numbers": (lambda _path: memoryview(TEXT).cast("I"), TEXT, ""),
    "file": (lambda path: _file_at(path, 0), TEXT, ".dat"),
    "file from where it stands": (lambda path: _file_at(path, 70_000), TEXT[70_000:], ".dat"),
    "in memory": (lambda _path: io.BytesIO(TEXT), TEXT, ""),
    "pipe": (lambda _path: _pipe(TEXT[:60_000]), TEXT[:60_000], ""),
    "anything readable": (lambda _path: Readable(TEXT), TEXT, ""),
}


@pytest.mark.parametrize("kind", SOURCES)
async def test_every_kind_of_source_arrives_whole(kind: str, tmp_path: Path) -> None:
    make, content, suffix = SOURCES[kind]
    path = tmp_path / "secret project.DAT"
    path.write_bytes(TEXT)
    async with UploadHost().serving() as host, host.client() as veo:
        source = make(path)
        url = await veo.upload(source)
        if isinstance(source, io.IOBase):
            assert not source.closed
            source.close()
    (arrived,) = host.arrived
    assert (arrived.size, arrived.digest) == (len(content), digest_of(content))
    assert url.startswith(f"{host.url}/kept/")
    assert arrived.fields["uploadPath"] == "veo-async"
    name = arrived.fields["fileName"]
    assert url.endswith(name)
    assert name == arrived.filename
    assert len(name) == 32 + len(suffix)
    assert name.endswith(suffix)
    assert "secret" not in name
    known = kind not in {"pipe", "anything readable"}
    assert ("Content-Length" in arrived.headers) is known
    assert arrived.headers["Authorization"] == f"Bearer {KEY}"
    assert arrived.headers["User-Agent"].startswith("veo-async/")


@pytest.mark.parametrize(
    ("name", "suffix", "content_type"),
    [("x.png", ".png", "image/png"), ("x", ".jpg", "image/jpeg"), ("x.txt", ".jpg", "image/jpeg")],
)
async def test_an_image_is_called_what_its_content_is(
    name: str, suffix: str, content_type: str, tmp_path: Path
) -> None:
    async with UploadHost().serving() as host, host.client() as veo:
        await veo.upload(image(tmp_path / name))
    (arrived,) = host.arrived
    assert arrived.fields["fileName"].endswith(suffix)
    assert arrived.content_type == content_type


async def test_two_uploads_of_one_file_have_different_names(tmp_path: Path) -> None:
    path = image(tmp_path / "x.png")
    async with UploadHost().serving() as host, host.client() as veo:
        assert await veo.upload(path) != await veo.upload(path)


@pytest.mark.parametrize("name", ["frame.png", "Bild für uns.png", 'quo"te.png'])
async def test_a_name_of_ones_own_is_kept(name: str) -> None:
    async with UploadHost().serving() as host, host.client() as veo:
        await veo.upload(TEXT, name=name)
        await veo.upload("https://a.example/other.png", name=name)
    assert [arrived.fields["fileName"] for arrived in host.arrived] == [name, name]


@pytest.mark.parametrize(
    "name", ["", " ", ".", "..", "a/b.png", "a\\b.png", "a\nb.png", "\0", "x" * 256, 7]
)
async def test_a_name_that_is_none_is_refused(name: Any) -> None:
    async with UploadHost().serving() as host, host.client() as veo:
        with pytest.raises(InvalidRequestError, match="without slashes") as caught:
            await veo.upload(TEXT, name=name)
        assert caught.value.field == "name"
    assert host.requests == 0


async def test_a_url_is_fetched_by_the_service_itself() -> None:
    link = "https://a.example/pictures/cat.WEBP?sig=abc.d/e"
    async with UploadHost().serving() as host, host.client() as veo:
        url = await veo.upload(link)
    (arrived,) = host.arrived
    assert arrived.fields["fileUrl"] == link
    assert arrived.fields["uploadPath"] == "veo-async"
    assert len(arrived.fields["fileName"]) == 32 + len(".webp")
    assert url.endswith(arrived.fields["fileName"])


async def test_against_the_simulator_what_was_uploaded_can_be_fetched(
    tmp_path: Path, unused_tcp_port: int
) -> None:
    async with (
        Simulator(dialect="live") as sim,
        VeoClient(sim.api_key, base_url=sim.base_url) as veo,
    ):
        first = await veo.upload(image(tmp_path / "x.png", size=70_000))
        again = await veo.upload(first, name="again.png")
        with pytest.raises(ValidationError):
            await veo.upload(f"http://127.0.0.1:{unused_tcp_port}/x.png")
        async with VeoClient("wrong-key-0123456789", base_url=sim.base_url) as stranger:
            with pytest.raises(AuthenticationError):
                await stranger.upload(TEXT)
    assert first.endswith(".png")
    assert again.endswith("/again.png")


# --- what cannot be uploaded


BAD_FILES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing": (lambda folder: folder / "none.png", "none.png', which is not there"),
    "folder": (lambda folder: folder, "which is a folder"),
    "empty": (lambda folder: sparse(folder / "empty.png", 0), "empty.png', which is empty"),
    "pipe": (lambda folder: _fifo(folder / "pipe.png"), "pipe.png', which is no regular file"),
    "device": (lambda _folder: "/dev/zero", "/dev/zero', which is no regular file"),
    "dangling link": (lambda folder: _link(folder / "a", folder / "b"), "which is not there"),
    "link to a folder": (lambda folder: _link(folder / "a", folder), "which is a folder"),
    "link to itself": (lambda folder: _link(folder / "a", folder / "a"), "cannot be read"),
    "no path": (lambda _folder: "a\0b", "cannot be read"),
    "no bytes": (lambda _folder: b"", "has nothing left to read"),
    "file at its end": (lambda _folder: _at_end(io.BytesIO(TEXT)), "has nothing left to read"),
    "empty pipe": (lambda _folder: _pipe(b""), "has nothing left to read"),
    "number": (lambda _folder: 7, "source is int; give a path"),
    "nothing": (lambda _folder: None, "source is NoneType; give a path"),
    "other URL": (lambda _folder: "ftp://a.example/x.png", "a URL with a blank, a password"),
    "data": (lambda _folder: "data:image/png;base64,AAAA", "a URL with a blank, a password"),
    "gaps": (lambda _folder: memoryview(TEXT)[::2], "a memoryview with gaps"),
    "letters": (lambda _folder: io.StringIO("abc"), "gives str instead of bytes"),
    "closed": (lambda folder: _closed(sparse(folder / "x", 9)), "cannot be read"),
    "async": (lambda _folder: AsyncFile(), "is AsyncFile, which is read with await"),
    "broken": (lambda _folder: Broken(), "cannot be read .no tape."),
}


class AsyncFile:
    async def read(self, size: int, /) -> bytes:
        return bytes(size)


class Broken:
    def read(self, size: int, /) -> bytes:
        raise RuntimeError("no tape")


def _fifo(path: Path) -> Path:
    os.mkfifo(path)
    return path


def _link(path: Path, target: Path) -> Path:
    path.symlink_to(target)
    return path


def _at_end(file: io.BytesIO) -> io.BytesIO:
    file.seek(0, os.SEEK_END)
    return file


def _closed(path: Path) -> io.BufferedReader:
    with path.open("rb") as file:
        return file


@pytest.mark.parametrize("case", BAD_FILES)
async def test_what_cannot_be_read_is_refused_before_anything_is_sent(
    case: str, tmp_path: Path
) -> None:
    make, words = BAD_FILES[case]
    async with UploadHost().serving() as host, host.client() as veo:
        source = make(tmp_path)
        with pytest.raises(InvalidRequestError, match=words) as caught:
            await veo.upload(source)
        assert caught.value.field == "source"
        assert "; " in str(caught.value), "it says what to do"
        assert veo.statistics().requests == 0
        if isinstance(source, io.IOBase):
            source.close()
    assert host.requests == 0


async def test_a_link_to_a_file_is_followed(tmp_path: Path) -> None:
    path = _link(tmp_path / "link.png", image(tmp_path / "there.png"))
    async with UploadHost().serving() as host, host.client() as veo:
        await veo.upload(path)
    assert host.arrived[0].size == 1000


async def test_what_may_not_be_read_is_refused(tmp_path: Path) -> None:
    path = image(tmp_path / "mine.png")
    path.chmod(0)
    me = os.geteuid()
    async with UploadHost().serving() as host, host.client() as veo:
        if me == 0:
            os.seteuid(NOBODY)  # the administrator may read everything
        try:
            with pytest.raises(InvalidRequestError, match="may not be read"):
                await veo.upload(path)
        finally:
            os.seteuid(me)


async def test_a_url_with_a_password_is_refused_without_showing_it() -> None:
    async with UploadHost().serving() as host, host.client() as veo:
        with pytest.raises(InvalidRequestError) as caught:
            await veo.upload("https://me:hunter2@a.example/x.png")
    assert "hunter2" not in str(caught.value)


def _cut_short(path: Path) -> None:
    os.truncate(path, MEGABYTE)


def _grown(path: Path) -> None:
    os.truncate(path, 33 * MEGABYTE)


def _overwritten(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"other")


@pytest.mark.parametrize("change", [_cut_short, _grown, _overwritten])
@pytest.mark.parametrize("as_file", [False, True])
async def test_a_file_that_changes_meanwhile_does_not_arrive(
    change: Callable[[Path], None], *, as_file: bool, tmp_path: Path
) -> None:
    path = sparse(tmp_path / "growing.png", 32 * MEGABYTE)

    async def once(size: int) -> None:
        host.on_piece = None
        change(path)

    async with UploadHost().serving() as host, host.client() as veo:
        host.on_piece = once
        file = path.open("rb")
        with file, pytest.raises(InvalidRequestError, match="changed while it was read") as caught:
            await veo.upload(file if as_file else path)
        assert caught.value.field == "source"
        assert "growing.png" in str(caught.value)
        assert_hidden(caught.value)
    assert host.arrived == []


# --- what the service says


ANSWERS = [
    (400, ValidationError, 1),
    (401, AuthenticationError, 1),
    (404, NotFoundError, 1),
    (405, NotFoundError, 1),
    (413, ValidationError, 1),
    (422, ValidationError, 1),
    (429, RateLimitError, 4),
    (500, ServerError, 4),
    (503, ServerError, 4),
]


@pytest.mark.parametrize(("status", "kind", "tries"), ANSWERS)
@pytest.mark.parametrize("source", [TEXT, "https://a.example/x.png"])
async def test_a_refusal_is_its_own_error_and_tried_again_where_it_may_pass(
    status: int, kind: type[APIError], tries: int, source: bytes | str
) -> None:
    host = UploadHost(script=[refusing(status, "because")] * 9)
    async with host.serving(), host.client() as veo:
        with pytest.raises(kind, match="because") as caught:
            await veo.upload(source)
        assert type(caught.value) is kind
        assert_hidden(caught.value)
        assert veo.statistics().requests == host.requests == tries
        assert veo.statistics().retries == tries - 1


async def test_a_service_without_uploads_says_so() -> None:
    other = FileServer(b"<html>404</html>", then=Reply(status=404))
    async with other.serving(), UploadHost().client(upload_url=other.url) as veo:
        with pytest.raises(NotFoundError, match=r"has no uploads; .*upload_url=…"):
            await veo.upload(TEXT)


async def test_a_pipe_is_sent_only_once() -> None:
    async with UploadHost(script=[refusing(500)]).serving() as host, host.client() as veo:
        with _pipe(TEXT[:60_000]) as pipe, pytest.raises(ServerError):
            await veo.upload(pipe)
    assert host.requests == 1


async def test_what_can_be_read_again_is_sent_again_from_its_start(tmp_path: Path) -> None:
    path = tmp_path / "x.dat"
    path.write_bytes(TEXT)
    events: list[object] = []
    async with UploadHost().serving() as host, host.client(on_event=events.append) as veo:
        with _file_at(path, 35_000) as file:
            for source in (path, TEXT, file):
                host.script = [refusing(500), refusing(503), refusing(429)]
                await veo.upload(source)
    assert [arrived.digest for arrived in host.arrived] == [
        digest_of(TEXT),
        digest_of(TEXT),
        digest_of(TEXT[35_000:]),
    ]
    finished = [event for event in events if isinstance(event, RequestFinished)]
    assert {(event.base_url, event.method, event.path) for event in finished} == {
        (host.url, "POST", "/api/file-stream-upload")
    }
    assert [event.status for event in finished] == 3 * [500, 503, 429, 200]
    retries = [event for event in events if isinstance(event, RetryScheduled)]
    assert [(event.call, event.task_id) for event in retries] == 9 * [("upload", None)]


async def test_a_refusal_that_comes_early_is_heard_before_all_was_sent(tmp_path: Path) -> None:
    path = sparse(tmp_path / "large.bin", 64 * MEGABYTE)
    async with UploadHost(script=[refusing(401)]).serving() as host, host.client() as veo:
        with pytest.raises(AuthenticationError):
            await veo.upload(path)
    assert host.requests == 1


# --- bad lines


@pytest.mark.parametrize("after", [1, 3 * MEGABYTE])
async def test_a_connection_that_is_cut_is_made_again(after: int, tmp_path: Path) -> None:
    path = sparse(tmp_path / "large.bin", 8 * MEGABYTE)
    async with UploadHost(script=[cutting(after)] * 2).serving() as host, host.client() as veo:
        await veo.upload(path)
        assert veo.statistics().retries == 2
    (arrived,) = host.arrived
    assert arrived.digest == digest_of(bytes(8 * MEGABYTE))


async def test_a_line_that_is_always_cut_gives_up(tmp_path: Path) -> None:
    path = sparse(tmp_path / "large.bin", 8 * MEGABYTE)
    async with UploadHost(script=[cutting(MEGABYTE)] * 9).serving() as host, host.client() as veo:
        with pytest.raises(TransportError) as caught:
            await veo.upload(path)
        assert_hidden(caught.value)
    assert host.requests == 4
    assert not is_open(path)


async def test_a_host_that_is_not_there_cannot_be_reached(unused_tcp_port: int) -> None:
    nowhere = f"http://127.0.0.1:{unused_tcp_port}"
    async with UploadHost().serving() as host, host.client(upload_url=nowhere) as veo:
        with pytest.raises(ConnectError) as caught:
            await veo.upload(TEXT)
        assert_hidden(caught.value)


async def test_an_upload_that_does_not_move_is_cut(tmp_path: Path) -> None:
    path = sparse(tmp_path / "large.bin", 64 * MEGABYTE)
    hanging = Hanging()
    settings = {"timeouts": Timeouts(stall=0.2, response=60), "retry": ONCE}
    async with UploadHost(script=[hanging]).serving() as host, host.client(**settings) as veo:
        with pytest.raises(TransportTimeoutError, match="try again") as caught:
            await veo.upload(path)
        assert_hidden(caught.value)
        hanging.go_on.set()
    assert not is_open(path)


async def test_an_answer_that_does_not_come_is_not_waited_for_for_ever() -> None:
    other = FileServer(then=Reply(early=True, end="hang"))
    settings = {"timeouts": Timeouts(stall=0.2, response=0.2), "retry": ONCE}
    async with other.serving(), UploadHost().client(upload_url=other.url, **settings) as veo:
        with pytest.raises(TransportTimeoutError):
            await veo.upload(TEXT)


async def test_an_upload_that_moves_may_take_longer_than_a_call(tmp_path: Path) -> None:
    path = sparse(tmp_path / "large.bin", 64 * MEGABYTE)

    async def slow(size: int) -> None:
        if size <= 20 * 64 * 1024:
            await asyncio.sleep(0.1)  # 2 s, in which the rest of it cannot leave

    host = UploadHost(on_piece=slow)
    async with host.serving(), host.client(timeouts=Timeouts(stall=10, response=1)) as veo:
        await veo.upload(path)
    assert host.arrived[0].size == 64 * MEGABYTE


@pytest.mark.parametrize("name", BROKEN)
async def test_broken_answers_give_errors_of_the_tree_without_the_key(name: str) -> None:
    other = FileServer(b'{"not": "an envelope"}', then=BROKEN[name])
    async with (
        other.serving(),
        UploadHost().client(upload_url=other.url, retry=ONCE, timeouts=SOON) as veo,
    ):
        for source in (TEXT, "https://a.example/x.png"):
            with pytest.raises(VeoError) as caught:
                await veo.upload(source)
            assert_hidden(caught.value)
    assert len(other.seen) == 2


# --- where the key goes


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_the_key_goes_to_the_upload_host_and_not_where_that_redirects(status: int) -> None:
    api, redirecting, other = FileServer(), FileServer(), FileServer()
    async with api.serving(), redirecting.serving(), other.serving():
        redirecting.then = Reply(status=status, headers={"Location": f"{other.url}/x"})
        settings: dict[str, Any] = {"base_url": api.url, "upload_url": redirecting.url}
        async with VeoClient(KEY, retry=ONCE, **settings) as veo:
            for source in (TEXT, "https://a.example/x.png"):
                with pytest.raises(UnexpectedResponseError):
                    await veo.upload(source)
    assert all(KEY.encode() in seen.head for seen in redirecting.seen)
    assert len(redirecting.seen) == 2
    assert api.connections == other.connections == 0


def test_files_go_to_the_upload_host_of_the_service_or_to_ones_own_api() -> None:
    live = "https://kieai.redpandaai.co"
    assert read_upload_url(None, BASE_URL) == live
    assert read_upload_url(None, "http://127.0.0.1:8000/base") == "http://127.0.0.1:8000/base"
    assert read_upload_url("https://up.example/", BASE_URL) == "https://up.example"
    assert read_upload_url(live, "http://127.0.0.1:8000") == live


@pytest.mark.parametrize("url", ["", "up.example", "ftp://up.example", "http://u:pw@up.example"])
def test_an_upload_host_that_is_none_is_refused_when_the_client_is_made(url: str) -> None:
    with pytest.raises(ConfigurationError, match="the upload URL is not an http") as caught:
        VeoClient(KEY, upload_url=url)
    assert "pw" not in str(caught.value)


# --- lifetimes


async def test_a_hundred_megabytes_are_never_in_memory(tmp_path: Path) -> None:
    path = sparse(tmp_path / "large.bin", 100 * MEGABYTE)
    async with UploadHost().serving() as host, host.client() as veo:
        await veo.upload(TEXT)  # what is loaded once is no growth
        tracemalloc.start()
        try:
            await veo.upload(path)
            with path.open("rb") as file:
                await veo.upload(file)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert [arrived.size for arrived in host.arrived[1:]] == 2 * [100 * MEGABYTE]
    assert peak < 12 * MEGABYTE, "of which the host, which is in here too, has its share"


async def test_a_cancelled_upload_leaves_nothing_open(tmp_path: Path) -> None:
    path = sparse(tmp_path / "large.bin", 64 * MEGABYTE)
    hanging = Hanging()
    async with UploadHost(script=[hanging]).serving() as host, host.client() as veo:
        work = asyncio.ensure_future(veo.upload(path))
        await hanging.begun.wait()
        assert is_open(path)
        work.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await work
        assert_hidden(caught.value)
        assert not is_open(path)
        hanging.go_on.set()
        with anyio.fail_after(20):
            while not hanging.is_cut:
                await asyncio.sleep(0.005)
        await veo.upload(TEXT)


async def test_whoever_leaves_while_a_file_is_opened_leaves_it_closed(tmp_path: Path) -> None:
    path = image(tmp_path / "x.png")
    busy = threading.Event()
    with ThreadPoolExecutor(1) as executor:
        executor.submit(busy.wait)
        uploader = Uploader(cast("Any", None), host="http://127.0.0.1:9", executor=executor)
        work = asyncio.ensure_future(uploader.upload(path))
        await asyncio.sleep(0)
        work.cancel()
        busy.set()
        with pytest.raises(asyncio.CancelledError):
            await work
        assert not is_open(path)


async def test_a_client_that_is_closed_meanwhile_says_so(tmp_path: Path) -> None:
    path = sparse(tmp_path / "large.bin", 64 * MEGABYTE)
    hanging = Hanging()
    async with UploadHost(script=[hanging]).serving() as host:
        veo = host.client()
        work = asyncio.ensure_future(veo.upload(path))
        await hanging.begun.wait()
        await veo.aclose()
        with pytest.raises(ClientClosedError):
            await work
        assert not is_open(path)
        with pytest.raises(ClientClosedError):
            await veo.upload(TEXT)
        hanging.go_on.set()


async def test_a_pipe_that_gives_nothing_does_not_keep_a_caller_who_leaves() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as pipe:
        async with UploadHost().serving() as host, host.client() as veo:
            with anyio.move_on_after(0.05) as scope:
                await veo.upload(pipe)
            assert scope.cancelled_caught
            os.close(writing)  # its thread ends too, before the file is closed
            await veo.upload(TEXT)
        assert host.requests == 1


async def test_uploads_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.dat" for number in range(6)]
    for number, path in enumerate(paths):
        path.write_bytes(bytes([number]) * (MEGABYTE + number))
    async with (
        UploadHost().serving() as host,
        host.client() as veo,
        asyncio.TaskGroup() as group,
    ):
        works = [group.create_task(veo.upload(path)) for path in paths]
    urls = [work.result() for work in works]
    assert len({*urls}) == 6
    kept = {arrived.fields["fileName"]: arrived.digest for arrived in host.arrived}
    assert [kept[url.rpartition("/")[2]] for url in urls] == [
        digest_of(path.read_bytes()) for path in paths
    ]


async def test_a_socket_can_be_uploaded() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, ours.makefile("rb") as file:
        theirs.sendall(TEXT[:1000])
        theirs.close()
        async with UploadHost().serving() as host, host.client() as veo:
            await veo.upload(file)
    assert host.arrived[0].size == 1000


async def test_after_one_failure_too_many_the_last_error_is_told() -> None:
    settings = {"retry": RetryPolicy(attempts=2, base=0.001, cap=0.002)}
    host = UploadHost(script=[refusing(429), refusing(503)])
    async with host.serving(), host.client(**settings) as veo:
        with pytest.raises(ServerError):
            await veo.upload(TEXT)
    assert host.requests == 2
