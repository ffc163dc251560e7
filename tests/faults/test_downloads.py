"""Downloads under every fault of the host, the network and the disk: whole, or not there."""

# ruff: noqa: ASYNC240  # a test may look at the disk

import asyncio
import contextlib
import errno
import gzip
import hashlib
import json
import os
import random
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.fileserver import (
    KEY,
    End,
    FileServer,
    Framing,
    Reply,
    Seen,
    borders,
    client_of,
    movie,
    record,
    video,
)
from veo_async import (
    ConnectError,
    ContentChangedError,
    Download,
    DownloadError,
    NotAnMP4Error,
    Timeouts,
    TransportTimeoutError,
    TruncatedError,
    URLExpiredError,
    VeoClient,
    VeoError,
)
from veo_async.simulator import Simulator

pytestmark = pytest.mark.anyio

SIZE = 1_200_000
FILM = movie(SIZE)
OTHER = movie(SIZE, seed=2)
PAGE = b"<!DOCTYPE html><html><body>Just a moment</body></html>"
OLD = b"the file of yesterday"


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def assert_whole(saved: Download, body: bytes) -> None:
    content = saved.path.read_bytes()
    assert content == body
    assert (saved.size, saved.sha256) == (len(body), sha(body))
    assert left_of(saved.path) == []


def left_of(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.glob("*.part*"))


def assert_typed(error: BaseException) -> None:
    """An error of the tree, whose message ends with what to do."""
    assert isinstance(error, VeoError)
    text = str(error).lower()
    steps = (
        "again",
        "choose",
        "check",
        "free",
        "report",
        "wait",
        "name a",
        "only public",
        "follow",
    )
    assert any(step in text.rsplit(";", 1)[-1] for step in steps), text


async def refused(server: FileServer, target: Path, kind: type[VeoError]) -> VeoError:
    """Download over a file of yesterday; check that it stays when that fails."""
    target.write_bytes(OLD)
    async with client_of(server, timeouts=Timeouts(connect=2, response=0.3, stall=0.3)) as veo:
        with pytest.raises(kind) as caught:
            await veo.download(video(server.link), target)
    assert target.read_bytes() == OLD
    assert_typed(caught.value)
    return caught.value


# --- cuts


def offsets() -> list[int]:
    dice = random.Random(20_26)
    edges = {0, 1, 7, 8, 9, SIZE - 1, *(b + d for b in borders(SIZE) for d in (-1, 0, 1, 7, 8))}
    edges |= {k + d for k in (64 << 10, 256 << 10, 1 << 20) for d in (-1, 0, 1)}
    return sorted(edges | {dice.randrange(SIZE) for _ in range(30)})


@pytest.mark.parametrize(
    ("moov_first", "end", "framing"),
    [
        (True, "close", "length"),
        (False, "reset", "length"),
        (False, "close", "chunked"),
        (True, "reset", "chunked"),
    ],
)
async def test_a_cut_anywhere_is_resumed(
    tmp_path: Path, moov_first: bool, end: End, framing: Framing
) -> None:
    body = movie(SIZE, moov_first=moov_first)
    async with FileServer(body).serving() as host, client_of(host) as veo:
        for cut in offsets():
            host.script = [Reply(cut=cut, end=end, framing=framing)]
            host.seen.clear()
            assert_whole(await veo.download(video(host.link), tmp_path / "v.mp4"), body)
            again = host.seen[-1]
            # A reset may drop what the kernel still held; of a close, no byte is asked for twice.
            assert again.start == cut or (end == "reset" and again.start < cut)
            assert again.headers.get("if-range") == ('"v1"' if again.start else None)


async def test_a_host_that_breaks_off_after_every_few_bytes(tmp_path: Path) -> None:
    """Each connection brings something on, so that none of them is the last one."""
    cuts = range(20_000, SIZE, 20_000)
    async with (
        FileServer(FILM, *[Reply(cut=cut) for cut in cuts]).serving() as host,
        client_of(host) as veo,
    ):
        saved = await veo.download(video(host.link), tmp_path / "v.mp4")
    assert_whole(saved, FILM)
    assert [seen.start for seen in host.seen] == [0, *cuts]


async def test_many_cuts_in_one_transfer(tmp_path: Path) -> None:
    dice = random.Random(7)
    async with FileServer(FILM).serving() as host, client_of(host) as veo:
        for _ in range(12):
            cuts = sorted(dice.sample(range(SIZE), 9))
            host.script = [Reply(cut=cut, end=dice.choice(["close", "reset"])) for cut in cuts]
            assert_whole(await veo.download(video(host.link), tmp_path / "v.mp4"), FILM)


async def test_a_host_that_gives_the_file_in_slices(tmp_path: Path) -> None:
    """It may answer with less of the range than was asked for (RFC 9110, 15.3.7)."""
    step = 300_000

    def slices(seen: Seen) -> Reply:
        stop = min(seen.start + step, SIZE)
        return Reply(
            status=206,
            body=FILM[:stop],
            headers={"Content-Range": f"bytes {seen.start}-{stop - 1}/{SIZE}"},
        )

    async with FileServer(FILM).serving() as host, client_of(host) as veo:
        host.route = slices
        assert_whole(await veo.download(video(host.link), tmp_path / "v.mp4"), FILM)


async def test_a_host_that_never_gets_anywhere_is_given_up(tmp_path: Path) -> None:
    async with FileServer(FILM, then=Reply(cut=100)).serving() as host:
        error = await refused(host, tmp_path / "v.mp4", TruncatedError)
    assert "100 of 1200000" in str(error)


@pytest.mark.parametrize("moov_first", [True, False])
async def test_a_body_without_a_length_is_whole_by_its_boxes(
    tmp_path: Path, moov_first: bool
) -> None:
    body = movie(SIZE, moov_first=moov_first)
    cuts = [28, 29, 435, 437, SIZE - 408, SIZE - 1, 700_000]
    async with FileServer(body).serving() as host, client_of(host) as veo:
        host.then = Reply(framing="close")
        assert_whole(await veo.download(video(host.link), tmp_path / "v.mp4"), body)
        for cut in cuts:
            host.script = [Reply(framing="close", cut=cut)]
            assert_whole(await veo.download(video(host.link), tmp_path / "v.mp4"), body)


async def test_a_body_without_a_length_that_is_always_cut_is_refused(tmp_path: Path) -> None:
    async with FileServer(FILM, then=Reply(framing="close", cut=900_000)).serving() as host:
        await refused(host, tmp_path / "v.mp4", TruncatedError)


# --- what proves that two answers are parts of one file


@pytest.mark.parametrize("etag", ['W/"v1"', None, "v1", '"v 1"'])
async def test_without_a_strong_etag_it_starts_again(tmp_path: Path, etag: str | None) -> None:
    first, then = Reply(etag=etag, cut=700_000), Reply(etag=etag)
    async with FileServer(FILM, first, then=then).serving() as host, client_of(host) as veo:
        assert_whole(await veo.download(video(host.link), tmp_path / "v.mp4"), FILM)
    assert not any("range" in seen.headers for seen in host.seen)


async def test_a_file_that_changed_is_fetched_from_its_start(tmp_path: Path) -> None:
    script = [Reply(cut=700_000), Reply(body=OTHER, etag='"v2"')]
    then = Reply(body=OTHER, etag='"v2"')
    async with FileServer(FILM, *script, then=then).serving() as host, client_of(host) as veo:
        assert_whole(await veo.download(video(host.link), tmp_path / "v.mp4"), OTHER)


async def test_a_file_that_changes_every_time_is_given_up(tmp_path: Path) -> None:
    async with FileServer(FILM).serving() as host:
        host.route = lambda _seen: Reply(etag=f'"{len(host.seen)}"', cut=700_000)
        await refused(host, tmp_path / "v.mp4", ContentChangedError)


async def test_a_host_without_ranges_starts_again(tmp_path: Path) -> None:
    script = [Reply(cut=700_000, ranges=False), Reply(cut=900_000, ranges=False)]
    then = Reply(ranges=False)
    async with FileServer(FILM, *script, then=then).serving() as host, client_of(host) as veo:
        assert_whole(await veo.download(video(host.link), tmp_path / "v.mp4"), FILM)


@pytest.mark.parametrize(
    "lie",
    [
        "bytes 700001-1199999/1200000",
        "bytes 0-1199999/1200000",
        "bytes 600000-1199999/1200001",
        "bytes */1200000",
        "bytes 600000-599999/1200000",
        "bytes 600000-1200000/1200000",
        "items 1-2/3",
        "",
        None,
    ],
)
async def test_a_lying_content_range_is_not_believed(tmp_path: Path, lie: str | None) -> None:
    lying = Reply(status=206, headers={"Content-Range": lie})
    async with (
        FileServer(FILM, Reply(cut=600_000), lying).serving() as host,
        client_of(host) as veo,
    ):
        assert_whole(await veo.download(video(host.link), tmp_path / "v.mp4"), FILM)


async def test_a_part_nobody_asked_for_is_not_believed(tmp_path: Path) -> None:
    lying = Reply(status=206, headers={"Content-Range": "bytes 5-1199999/1200000"})
    async with FileServer(FILM, lying).serving() as host, client_of(host) as veo:
        assert_whole(await veo.download(video(host.link), tmp_path / "v.mp4"), FILM)


async def test_a_part_of_another_etag_is_not_believed(tmp_path: Path) -> None:
    other = Reply(status=206, body=OTHER, etag='"v2"')
    script = [Reply(cut=700_000), other]
    async with FileServer(FILM, *script).serving() as host, client_of(host) as veo:
        assert_whole(await veo.download(video(host.link), tmp_path / "v.mp4"), FILM)


@pytest.mark.parametrize("content_range", ["bytes */1200000", "bytes */900000", None])
async def test_416_in_the_middle_starts_again(tmp_path: Path, content_range: str | None) -> None:
    odd = Reply(status=416, headers={"Content-Range": content_range})
    async with FileServer(FILM, Reply(cut=700_000), odd).serving() as host, client_of(host) as veo:
        assert_whole(await veo.download(video(host.link), tmp_path / "v.mp4"), FILM)


async def test_416_at_the_start_is_a_failure_of_the_host(tmp_path: Path) -> None:
    async with FileServer(FILM, then=Reply(status=416)).serving() as host:
        await refused(host, tmp_path / "v.mp4", DownloadError)


# --- links


@pytest.mark.parametrize(
    "dead",
    [
        Reply(status=401),
        Reply(status=403),
        Reply(status=404),
        Reply(status=410),
        Reply(status=200, body=PAGE, headers={"Content-Type": "text/html; charset=utf-8"}),
        Reply(status=200, body=b"<Error/>", headers={"Content-Type": "application/xml"}),
        Reply(status=200, body=b"{}", headers={"Content-Type": "application/json"}),
    ],
)
@pytest.mark.parametrize("middle", [False, True])
async def test_a_dead_link_is_renewed_and_the_transfer_goes_on(
    tmp_path: Path, dead: Reply, middle: bool
) -> None:
    host = FileServer(FILM)
    links = {"/old": [Reply(cut=700_000), dead] if middle else [dead], "/new": [Reply()]}

    def route(seen: Seen) -> Reply | None:
        if seen.path.startswith("/api/"):
            return Reply(
                body=record(f"{host.url}/new"), headers={"Content-Type": "application/json"}
            )
        return links[seen.path].pop(0)

    host.route = route
    async with host.serving(), client_of(host) as veo:
        saved = await veo.download(video(f"{host.url}/old"), tmp_path / "v.mp4")
    assert_whole(saved, FILM)
    last = host.seen[-1]
    assert last.path == "/new"
    assert (last.start > 0) is middle
    assert sum(seen.path.startswith("/api/") for seen in host.seen) == 1


async def test_links_that_are_all_dead_end_the_download(tmp_path: Path) -> None:
    host = FileServer(FILM)
    host.route = lambda seen: (
        Reply(body=record(host.link), headers={"Content-Type": "application/json"})
        if seen.path.startswith("/api/")
        else Reply(status=403)
    )
    async with host.serving():
        await refused(host, tmp_path / "v.mp4", URLExpiredError)
    asked = [seen.path.partition("?")[0] for seen in host.seen if seen.path.startswith("/api/")]
    assert asked.count("/api/v1/veo/record-info") == 5
    assert asked.count("/api/v1/common/download-url") == 1, "it gave the same dead link"
    assert len(asked) == 6


async def test_the_simulator_expires_a_link_in_the_middle(tmp_path: Path) -> None:
    with Simulator(time_scale=0, generation_seconds=1, clip=(64, 36), video_bytes=SIZE) as sim:
        async with VeoClient(sim.api_key, base_url=sim.base_url) as veo:
            task = await veo.submit("a boat")
            sim.advance(60)
            found = (await veo.status(task.id)).video_url
            assert found is not None
            sim.add_fault("video:cut_at=700000:times=1")
            sim.add_fault("video:expire:times=1:after=1")
            saved = await veo.download(video(found, task.id), tmp_path / "v.mp4")
        assert saved.path.stat().st_size == SIZE
        assert saved.sha256 == sha(saved.path.read_bytes())
        assert sim.ledger.requests["video"] == 3
        assert sim.ledger.leaks == ()


@pytest.mark.parametrize(
    "fault",
    [
        "cut_at=0",
        "cut_at=1000000",
        "change_etag",
        "weak_etag",
        "no_etag",
        "no_ranges",
        "lying_range=start",
        "lying_range=total",
        "ignore_if_range",
        "no_length",
        "reset_before",
        "html",
        "status=503",
        "gzip",
        "expire",
    ],
)
async def test_faults_of_the_simulator_beside_a_cut(tmp_path: Path, fault: str) -> None:
    with Simulator(time_scale=0, generation_seconds=1, clip=(64, 36), video_bytes=SIZE) as sim:
        async with VeoClient(sim.api_key, base_url=sim.base_url) as veo:
            task = await veo.submit("a boat")
            sim.advance(60)
            found = (await veo.status(task.id)).video_url
            assert found is not None
            sim.add_fault("video:cut_at=700000:times=1")
            sim.add_fault(f"video:{fault}:times=2")
            saved = await veo.download(video(found, task.id), tmp_path / "v.mp4")
            fresh = (await veo.status(task.id)).video_url
            assert fresh is not None
            again = await veo.download(video(fresh, task.id), tmp_path / "again.mp4")
    assert saved.sha256 == again.sha256 == sha(saved.path.read_bytes())
    assert left_of(saved.path) == []


# --- bodies


@pytest.mark.parametrize("body", [gzip.compress(FILM), FILM])
async def test_a_coded_body_is_not_taken(tmp_path: Path, body: bytes) -> None:
    coded = Reply(body=body, headers={"Content-Encoding": "gzip"})
    async with FileServer(FILM, then=coded).serving() as host:
        await refused(host, tmp_path / "v.mp4", DownloadError)
    assert {seen.headers["accept-encoding"] for seen in host.seen} == {"identity"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\0" * 4000,
        PAGE,
        random.Random(1).randbytes(100_000),
        FILM[:28] + b"\0\0\0\3free",
        FILM[:436],
        FILM[:-1],
        FILM + b"\0",
        gzip.compress(FILM),
    ],
)
async def test_what_is_no_whole_mp4_is_refused(tmp_path: Path, body: bytes) -> None:
    async with FileServer(body).serving() as host:
        await refused(host, tmp_path / "v.mp4", NotAnMP4Error)
    assert left_of(tmp_path / "v.mp4") == []


@pytest.mark.parametrize("framing", ["chunked", "close"])
async def test_a_body_longer_than_the_file_is_refused(tmp_path: Path, framing: Framing) -> None:
    long = Reply(
        status=206,
        body=FILM + b"\0" * 70_000,
        framing=framing,
        headers={"Content-Range": f"bytes 0-{SIZE - 1}/{SIZE}"},
    )
    async with FileServer(FILM, then=long).serving() as host:
        await refused(host, tmp_path / "v.mp4", DownloadError)


async def test_a_file_that_claims_to_be_huge_is_refused(tmp_path: Path) -> None:
    huge = Reply(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n" + FILM[:500])
    async with FileServer(FILM, then=huge).serving() as host:
        await refused(host, tmp_path / "v.mp4", DownloadError)


# --- hosts


@pytest.mark.parametrize("status", [400, 429, 500, 502, 503])
async def test_a_failing_host_is_asked_again(tmp_path: Path, status: int) -> None:
    script = [Reply(status=status), Reply(cut=600_000), Reply(status=status)]
    async with FileServer(FILM, *script).serving() as host, client_of(host) as veo:
        assert_whole(await veo.download(video(host.link), tmp_path / "v.mp4"), FILM)


@pytest.mark.parametrize("reply", [Reply(status=503), Reply(early=True), Reply(raw=b"SSH-2.0\r\n")])
async def test_a_host_that_stays_down_ends_the_download(tmp_path: Path, reply: Reply) -> None:
    async with FileServer(FILM, then=reply).serving() as host:
        await refused(host, tmp_path / "v.mp4", VeoError)
    assert len(host.seen) in {4, 8}  # aiohttp repeats a GET whose connection was dropped


async def test_a_host_that_says_nothing_times_out(tmp_path: Path) -> None:
    async with FileServer(FILM, then=Reply(early=True, end="hang")).serving() as host:
        await refused(host, tmp_path / "v.mp4", TransportTimeoutError)


async def test_a_host_that_is_not_there(tmp_path: Path, unused_tcp_port: int) -> None:
    target = tmp_path / "v.mp4"
    async with FileServer().serving() as host, client_of(host) as veo:
        with pytest.raises(ConnectError) as caught:
            await veo.download(video(f"http://127.0.0.1:{unused_tcp_port}/v"), target)
    assert_typed(caught.value)
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    "stall", [Reply(cut=600_000, end="hang"), Reply(drip=(50, 0.02)), Reply(cut=0, end="hang")]
)
async def test_a_transfer_under_the_least_rate_is_cut_and_resumed(
    tmp_path: Path, stall: Reply
) -> None:
    quick = Timeouts(connect=2, response=5, stall=0.3)
    async with FileServer(FILM, stall).serving() as host, client_of(host, timeouts=quick) as veo:
        saved = await veo.download(video(host.link), tmp_path / "v.mp4")
    assert_whole(saved, FILM)
    assert saved.attempts == 2


async def test_a_host_that_only_drips_is_given_up(tmp_path: Path) -> None:
    async with FileServer(FILM, then=Reply(drip=(50, 0.02))).serving() as host:
        await refused(host, tmp_path / "v.mp4", DownloadError)


# --- redirects


def hops(host: FileServer, count: int, status: int = 302) -> None:
    def route(seen: Seen) -> Reply | None:
        number = int(seen.path.removeprefix("/hop"))
        if number >= count:
            return None
        return Reply(status=status, headers={"Location": f"/hop{number + 1}"})

    host.route = route


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_five_redirects_are_followed(tmp_path: Path, status: int) -> None:
    async with FileServer(FILM).serving() as host, client_of(host) as veo:
        hops(host, 5, status)
        host.script = [Reply(cut=600_000)]
        saved = await veo.download(video(f"{host.url}/hop0"), tmp_path / "v.mp4")
    assert_whole(saved, FILM)
    assert len({seen.headers.get("range") for seen in host.seen[6:]}) == 1
    assert all(seen.headers["if-range"] == '"v1"' for seen in host.seen[6:])
    assert {seen.headers["accept-encoding"] for seen in host.seen} == {"identity"}


async def test_six_redirects_are_refused(tmp_path: Path) -> None:
    target = tmp_path / "v.mp4"
    async with FileServer(FILM).serving() as host, client_of(host) as veo:
        hops(host, 6)
        with pytest.raises(DownloadError, match="redirects") as caught:
            await veo.download(video(f"{host.url}/hop0"), target)
    assert_typed(caught.value)
    assert len(host.seen) == 6
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    "location",
    ["ftp://host/v", "file:///etc/passwd", "http://[::1", "javascript:1", "http://\xe9\xff:99999/"],
)
async def test_a_redirect_to_nowhere_is_refused(tmp_path: Path, location: str) -> None:
    lost = Reply(status=302, headers={"Location": location})
    async with FileServer(FILM, then=lost).serving() as host:
        await refused(host, tmp_path / "v.mp4", DownloadError)
    assert len(host.seen) == 1


# --- names and folders


@pytest.mark.parametrize(
    "name",
    ["v.mp4", "a b  c.mp4", "film \N{SNOWMAN} \xe9.mp4", "n" * 251 + ".mp4", "-rf", ".v", "'\"\n"],
)
async def test_any_name_of_a_file_will_do(tmp_path: Path, name: str) -> None:
    script = [Reply(cut=1_100_000)]
    async with FileServer(FILM, *script).serving() as host, client_of(host) as veo:
        assert_whole(await veo.download(video(host.link), tmp_path / name), FILM)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["n" * 256, "\xe9" * 128, "nul\0.mp4", "half\ud83d.mp4"])
@pytest.mark.parametrize("overwrite", [True, False])
async def test_an_impossible_name_is_refused_before_a_byte_moves(
    tmp_path: Path, name: str, overwrite: bool
) -> None:
    async with FileServer(FILM).serving() as host, client_of(host) as veo:
        with pytest.raises(DownloadError) as caught:
            await veo.download(video(host.link), f"{tmp_path}/{name}", overwrite=overwrite)
    assert_typed(caught.value)
    assert host.seen == []
    assert [*tmp_path.iterdir()] == []


async def test_a_folder_gets_a_file_named_by_the_task(tmp_path: Path) -> None:
    async with FileServer(FILM).serving() as host, client_of(host) as veo:
        saved = await veo.download(video(host.link), tmp_path)
        assert saved.path == tmp_path / "task_1.mp4"
        saved = await veo.download(video(host.link, "../../etc/x"), f"{tmp_path}/new/")
        assert saved.path.parent == tmp_path / "new"
        assert saved.path.name.startswith("veo_")


async def test_a_path_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(OLD)
    async with FileServer(FILM).serving() as host, client_of(host) as veo:
        for overwrite in (True, False):
            with pytest.raises(DownloadError) as caught:
                await veo.download(
                    video(host.link), tmp_path / "file" / "v.mp4", overwrite=overwrite
                )
            assert_typed(caught.value)
    assert host.seen == []
    assert (tmp_path / "file").read_bytes() == OLD


async def test_a_link_in_the_place_of_the_part_is_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(OLD)
    (tmp_path / "v.mp4.part").symlink_to(precious)
    async with FileServer(FILM).serving() as host, client_of(host) as veo:
        with pytest.raises(DownloadError) as caught:
            await veo.download(video(host.link), tmp_path / "v.mp4")
    assert_typed(caught.value)
    assert precious.read_bytes() == OLD
    assert host.seen == []


@pytest.mark.parametrize("kind", ["symbolic", "hard"])
async def test_a_link_in_the_place_of_the_record_is_not_followed(tmp_path: Path, kind: str) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(OLD)
    side = tmp_path / "v.mp4.part.json"
    if kind == "symbolic":
        side.symlink_to(precious)
    else:
        side.hardlink_to(precious)
    async with FileServer(FILM).serving() as host, client_of(host) as veo:
        assert_whole(await veo.download(video(host.link), tmp_path / "v.mp4"), FILM)
    assert precious.read_bytes() == OLD


async def test_a_part_that_is_another_name_of_a_file_does_not_touch_it(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(OLD)
    (tmp_path / "v.mp4.part").hardlink_to(precious)
    async with FileServer(FILM).serving() as host, client_of(host) as veo:
        assert_whole(await veo.download(video(host.link), tmp_path / "v.mp4"), FILM)
    assert precious.read_bytes() == OLD


@pytest.mark.parametrize("name", ["v.mp4.part", "v.mp4.part.json"])
async def test_a_pipe_in_the_place_of_a_part_does_not_hang(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    async with FileServer(FILM).serving() as host, client_of(host) as veo:
        with contextlib.suppress(DownloadError):
            assert_whole(await veo.download(video(host.link), tmp_path / "v.mp4"), FILM)


# --- one name, two downloads; overwrite


async def test_two_downloads_to_one_name(tmp_path: Path) -> None:
    target = tmp_path / "v.mp4"
    async with (
        FileServer(FILM, then=Reply(drip=(100_000, 0.005))).serving() as host,
        client_of(host) as veo,
    ):
        first = asyncio.create_task(veo.download(video(host.link), target))
        while not host.seen:
            await asyncio.sleep(0.001)
        with pytest.raises(DownloadError, match="another download") as caught:
            await veo.download(video(host.link), target)
        assert_typed(caught.value)
        assert_whole(await first, FILM)


async def test_overwrite_false_before_a_byte_moves(tmp_path: Path) -> None:
    target = tmp_path / "v.mp4"
    target.write_bytes(OLD)
    async with FileServer(FILM).serving() as host, client_of(host) as veo:
        with pytest.raises(FileExistsError):
            await veo.download(video(host.link), target, overwrite=False)
        (tmp_path / "link").symlink_to("nowhere")
        with pytest.raises(FileExistsError):
            await veo.download(video(host.link), tmp_path / "link", overwrite=False)
    assert host.seen == []
    assert target.read_bytes() == OLD


async def test_overwrite_false_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "v.mp4"
    host = FileServer(FILM)

    def route(_seen: Seen) -> Reply | None:
        target.write_bytes(OLD)  # someone else was quicker
        return None

    host.route = route
    async with host.serving(), client_of(host) as veo:
        with pytest.raises(FileExistsError):
            await veo.download(video(host.link), target, overwrite=False)
        assert target.read_bytes() == OLD
        host.route = lambda _seen: None
        assert_whole(await veo.download(video(host.link), target), FILM)


# --- disks


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small disk can only be mounted by root")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def remount(disk: Path, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", str(disk)], check=True)


async def test_a_disk_too_small_is_seen_before_a_byte_is_written(small_disk: Path) -> None:
    target = small_disk / "v.mp4"
    target.write_bytes(OLD)
    async with FileServer(FILM).serving() as host, client_of(host) as veo:
        with pytest.raises(DownloadError, match="bytes needed") as caught:
            await veo.download(video(host.link), target)
    assert_typed(caught.value)
    assert target.read_bytes() == OLD
    assert left_of(target) == []


async def test_a_disk_that_fills_up_keeps_what_it_has(small_disk: Path) -> None:
    target = small_disk / "v.mp4"
    target.write_bytes(OLD)
    body = movie(3 << 20)
    script = [Reply(framing="chunked")]
    async with FileServer(body, *script).serving() as host, client_of(host) as veo:
        with pytest.raises(DownloadError, match="No space left") as caught:
            await veo.download(video(host.link), target)
        assert_typed(caught.value)
        assert target.read_bytes() == OLD
        remount(small_disk, "size=16m")
        assert_whole(await veo.download(video(host.link), target), body)
    assert 0 < host.seen[-1].start < 1 << 20


async def test_a_disk_that_may_only_be_read(small_disk: Path) -> None:
    target = small_disk / "v.mp4"
    target.write_bytes(OLD)
    remount(small_disk, "ro")
    async with FileServer(FILM).serving() as host, client_of(host) as veo:
        with pytest.raises(DownloadError) as caught:
            await veo.download(video(host.link), target)
    assert_typed(caught.value)
    assert target.read_bytes() == OLD
    assert host.seen == []


async def test_a_quota_of_the_process(tmp_path: Path) -> None:
    target = tmp_path / "v.mp4"
    target.write_bytes(OLD)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    body = movie(3 << 20)
    async with FileServer(body).serving() as host, client_of(host) as veo:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, hard))
        try:
            with pytest.raises(DownloadError, match=os.strerror(errno.EFBIG)) as caught:
                await veo.download(video(host.link), target)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert_typed(caught.value)
        assert target.read_bytes() == OLD
        assert_whole(await veo.download(video(host.link), target), body)
    assert host.seen[-1].start == 1_500_000


# --- parts of earlier processes

BIG = movie(6 << 20)
KILLED = """
import asyncio, sys
from veo_async import Video, VeoClient

async def main(api, link, target, task_id):
    async with VeoClient("a-key", base_url=api) as veo:
        await veo.download(Video(task_id=task_id, url=link), target)

asyncio.run(main(*sys.argv[1:]))
"""


async def kill_in_the_middle(host: FileServer, target: Path) -> int:
    """Let another process download, kill it, and return how many bytes it left."""
    host.script.insert(0, Reply(cut=4 << 20, end="hang"))
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KILLED, host.url, host.link, str(target), "task_1"
    )
    part = target.with_name(f"{target.name}.part")
    while not (part.exists() and part.stat().st_size >= 3 << 20):
        assert child.returncode is None
        await asyncio.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    await child.wait()
    return part.stat().st_size


async def test_a_killed_process_is_gone_on_from(tmp_path: Path) -> None:
    target = tmp_path / "v.mp4"
    async with FileServer(BIG).serving() as host, client_of(host) as veo:
        left = await kill_in_the_middle(host, target)
        assert not target.exists()
        host.seen.clear()
        assert_whole(await veo.download(video(host.link), target), BIG)
    (asked,) = host.seen
    assert asked.start == left


def side_of(target: Path) -> Path:
    return target.with_name(f"{target.name}.part.json")


def part_of(target: Path) -> Path:
    return target.with_name(f"{target.name}.part")


def spoil(target: Path, how: str) -> None:
    side = side_of(target)
    said = json.loads(side.read_text())
    match how:
        case "no record":
            side.unlink()
        case "garbage":
            side.write_bytes(b"\xff\0{" * 50)
        case "cut record":
            side.write_text(side.read_text()[:-5])
        case "a list":
            side.write_text("[1]")
        case "too long":
            with part_of(target).open("ab") as part:
                part.truncate(len(BIG) + 1)
        case "no mp4":
            with part_of(target).open("r+b") as part:
                part.write(b"\0" * 100)
        case "short record":
            side.write_text("")
        case _:
            key, _, value = how.partition("=")
            side.write_text(json.dumps(said | {key: value or None}))


@pytest.mark.parametrize(
    "how",
    [
        "no record",
        "garbage",
        "cut record",
        "short record",
        "a list",
        "too long",
        "no mp4",
        "boot=another",
        "boot",
        "source=task_1 1080p",
        "source",
        "etag=weak",
        'etag="x"\r\nX-Evil: 1',
        "etag",
        "total=-1",
        "total=5",
    ],
)
async def test_a_part_that_proves_nothing_is_started_again(tmp_path: Path, how: str) -> None:
    target = tmp_path / "v.mp4"
    async with FileServer(BIG).serving() as host, client_of(host) as veo:
        host.script = [Reply(cut=4 << 20)]
        host.then = Reply(status=500)
        with pytest.raises(VeoError):
            await veo.download(video(host.link), target)
        assert part_of(target).stat().st_size >= 3 << 20
        spoil(target, how)
        host.seen.clear()
        host.then = Reply()
        assert_whole(await veo.download(video(host.link), target), BIG)
    assert [seen.start for seen in host.seen] == [0]


async def test_a_part_of_another_file_is_started_again(tmp_path: Path) -> None:
    target = tmp_path / "v.mp4"
    async with FileServer(BIG).serving() as host, client_of(host) as veo:
        host.script, host.then = [Reply(cut=4 << 20)], Reply(status=500)
        with pytest.raises(VeoError):
            await veo.download(video(host.link), target)
        host.then = Reply(etag='"v2"')
        host.body = movie(6 << 20, seed=3)
        assert_whole(await veo.download(video(host.link), target), host.body)
        assert host.seen[-2].start > 0
        host.script, host.then = [Reply(cut=4 << 20)], Reply(status=500)
        with pytest.raises(VeoError):
            await veo.download(video(host.link), target)
        host.then, host.body = Reply(), BIG
        host.seen.clear()
        assert_whole(await veo.download(video(host.link, "task_2"), target), BIG)
    assert [seen.start for seen in host.seen] == [0]


async def test_a_part_that_holds_everything_needs_no_byte(tmp_path: Path) -> None:
    target = tmp_path / "v.mp4"
    async with FileServer(BIG).serving() as host, client_of(host) as veo:
        host.script, host.then = [Reply(cut=4 << 20)], Reply(status=500)
        with pytest.raises(VeoError):
            await veo.download(video(host.link), target)
        part_of(target).write_bytes(BIG)
        host.then = Reply()
        assert_whole(await veo.download(video(host.link), target), BIG)
    assert host.seen[-1].start == len(BIG)


async def test_the_record_tells_what_the_bytes_are_a_part_of(tmp_path: Path) -> None:
    """An answer that breaks before its first byte says nothing of the bytes of the next one."""
    target = tmp_path / "v.mp4"
    second = Reply(body=movie(6 << 20, seed=3), etag='"v2"', cut=4 << 20)
    async with FileServer(BIG, Reply(cut=0), second).serving() as host, client_of(host) as veo:
        host.then = Reply(status=500)
        with pytest.raises(VeoError):
            await veo.download(video(host.link), target)
        assert json.loads(side_of(target).read_text())["etag"] == '"v2"'
        assert KEY not in side_of(target).read_text()
        host.then = Reply()  # the first file again
        assert_whole(await veo.download(video(host.link), target), BIG)
