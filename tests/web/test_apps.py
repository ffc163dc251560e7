"""The README's applications as people run them: several workers, one account, real servers."""

import asyncio
import os
import signal

import aiohttp
import pytest

from tests.conftest import free_port
from tests.limits.redis_server import RedisServer
from tests.web.serving import PATIENCE, SERVERS, Site, serving, simulator
from veo_async.simulator import Simulator

pytestmark = pytest.mark.anyio

ONE_OF_EACH = ["uvicorn", "aiohttp"]
WITH_WORKERS = ["uvicorn", "gunicorn aiohttp"]


async def make(site: Site, sim: Simulator, count: int, what: str = "boat") -> list[str]:
    """Submit so many prompts at once; return the ids of their tasks once all are made."""
    ids = await asyncio.gather(*(site.submit(f"{what} {number}") for number in range(count)))
    await asyncio.gather(*(site.until_made(task_id) for task_id in ids))
    assert {charge.task_id for charge in sim.ledger} >= {*ids}
    return ids


def refusals(sim: Simulator) -> list[int | None]:
    """Return why creates were refused: with shared slots none is, not even as one too many."""
    return [post.code for post in sim.ledger.posts if post.outcome != "accepted"]


@pytest.mark.parametrize("server", SERVERS)
async def test_prompts_go_in_and_videos_come_out(server, tmp_path, unused_tcp_port):
    async with simulator() as sim, serving(server, tmp_path, unused_tcp_port, sim) as site:
        ids = await make(site, sim, 24)
        assert len(sim.ledger) == 24
        assert sim.ledger.peak_running <= 10
        assert refusals(sim) == []
        whole = await site.ask(f"/videos/{ids[0]}/file")
        assert (whole.status, whole.headers["Content-Type"]) == (200, "video/mp4")
        assert whole.body[4:8] == b"ftyp"
        size = len(whole.body)
        assert whole.headers["Content-Length"] == str(size)
        part = {"Range": "bytes=100-299", "If-Range": whole.headers["ETag"]}
        answer = await site.ask(f"/videos/{ids[0]}/file", headers=part)
        assert (answer.status, answer.body) == (206, whole.body[100:300])
        assert answer.headers["Content-Range"] == f"bytes 100-299/{size}"
        answer = await site.ask(f"/videos/{ids[0]}/file", headers={"Range": f"bytes={size}-"})
        assert (answer.status, answer.body) == (416, b"")
        assert answer.headers["Content-Range"] == f"bytes */{size}"
        assert await site.stopped() in {0, -signal.SIGTERM}
        assert site.trouble() == ""


async def test_workers_of_several_hosts_share_through_redis(tmp_path, unused_tcp_port, tool):
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    with RedisServer(tool("redis-server", "redis-server")) as redis:
        code = f'sdk.RedisLimiter("{redis.url}", account="ours", lease=3)'
        edits = {'sdk.FileLimiter("veo-slots.db")': code}
        async with (
            simulator() as sim,
            serving("gunicorn asgi", first, unused_tcp_port, sim, workers=2, edits=edits) as site,
            serving("aiohttp", second, free_port(), sim, edits=edits) as other,
        ):
            some, more = await asyncio.gather(
                make(site, sim, 12, "boat"), make(other, sim, 12, "ship")
            )
            assert {charge.task_id for charge in sim.ledger} == {*some, *more}
            assert refusals(sim) == []
            await site.until_made(more[0])
            assert await site.stopped() in {0, -signal.SIGTERM}
            assert await other.stopped() in {0, -signal.SIGTERM}
            assert (site.trouble(), other.trouble()) == ("", "")


@pytest.mark.parametrize("server", WITH_WORKERS)
async def test_a_worker_killed_in_the_middle_loses_no_paid_task(server, tmp_path, unused_tcp_port):
    ids: list[str] = []
    cut: list[str] = []

    async def submit(site: Site, prompt: str) -> None:
        try:
            ids.append(await site.submit(prompt))
        except aiohttp.ClientError:  # its worker was killed: this user does not know
            cut.append(prompt)

    async with (
        simulator(generation_seconds=(30, 60)) as sim,
        serving(server, tmp_path, unused_tcp_port, sim, workers=3) as site,
        asyncio.timeout(PATIENCE),
    ):
        users = [asyncio.create_task(submit(site, f"boat {number}")) for number in range(32)]
        while len(ids) < 8:
            await asyncio.sleep(0.01)
        os.kill(site.workers()[0], signal.SIGKILL)
        await asyncio.wait(users)
        assert len(ids) + len(cut) == 32
        assert len(ids) >= 8
        for task_id in ids:
            await site.until_made(task_id)
            assert (await site.ask(f"/videos/{task_id}/file")).body[4:8] == b"ftyp"
        # Nothing was paid once more, and nothing is unknown but to those whose connection was cut.
        paid = [post for post in sim.ledger.posts if post.task_id is not None]
        assert len({post.prompt for post in paid}) == len(paid)
        assert {post.prompt for post in paid if post.task_id not in ids} <= {*cut}
        assert sim.ledger.peak_running <= 10
        assert refusals(sim) == []
        # The slots of the dead come back: the others have seen the ends of their tasks.
        before = len(sim.ledger)
        await make(site, sim, 12)
        assert len(sim.ledger) == before + 12
        assert refusals(sim) == []


@pytest.mark.parametrize("server", ["uvicorn", "gunicorn asgi", "aiohttp"])
async def test_a_server_told_to_stop_finishes_what_it_has_begun(server, tmp_path, unused_tcp_port):
    faults = ["generate:delay=100:after=1"]
    async with (
        simulator(faults=faults) as sim,
        serving(server, tmp_path, unused_tcp_port, sim, workers=2) as site,
    ):
        await make(site, sim, 1)
        late = asyncio.create_task(site.ask("/videos", json={"prompt": "a late boat"}))
        async with asyncio.timeout(PATIENCE):
            while sim.ledger.requests["generate"] < 2:
                await asyncio.sleep(0.005)
        assert await site.stopped() in {0, -signal.SIGTERM}
        answer = await late
        assert answer.status == 202, site.told()
        assert answer.json["id"] == sim.ledger[1].task_id
        assert site.trouble() == ""


@pytest.mark.parametrize("server", ONE_OF_EACH)
async def test_errors_are_told_as_http_tells_them(server, tmp_path, unused_tcp_port):
    edits = {"timeout=20": "timeout=0.5"}
    async with (
        simulator(generation_seconds=10) as sim,
        serving(server, tmp_path, unused_tcp_port, sim, workers=1, edits=edits) as site,
    ):
        answer = await site.ask("/videos", json={"prompt": " "})
        assert answer.status == 422
        assert answer.json["error"].startswith("prompt")
        for path in ("/videos/veo_task_nobody", "/videos/veo_task_nobody/file"):
            assert (await site.ask(path)).status == 404
        stuck, failed = await site.submit("[stuck]"), await site.submit("[fail]")
        for task_id, status in ((stuck, 503), (failed, 409)):
            answer = await site.ask(f"/videos/{task_id}/file")
            assert answer.status == status
            assert task_id in answer.json["error"]
        made = await site.submit("a boat")
        await site.until_made(made)
        sim.add_fault("video:status=500")
        answer = await site.ask(f"/videos/{made}/file")
        assert (answer.status, "500" in answer.json["error"]) == (502, False)


@pytest.mark.parametrize("server", ONE_OF_EACH)
async def test_what_breaks_in_the_middle_is_a_cut_and_no_error_page(
    server, tmp_path, unused_tcp_port
):
    async with (
        simulator(video_bytes=4 << 20) as sim,
        serving(server, tmp_path, unused_tcp_port, sim, workers=1) as site,
    ):
        (made,) = await make(site, sim, 1)
        whole = (await site.ask(f"/videos/{made}/file")).body
        sim.add_fault("video:cut_at=3000000")
        sim.add_fault("video:no_etag")
        got = bytearray()
        with pytest.raises(aiohttp.ClientError):
            await site.pour(f"/videos/{made}/file", got)
        assert whole.startswith(bytes(got))
        assert len(got) < len(whole)


@pytest.mark.parametrize("server", ONE_OF_EACH)
async def test_a_browser_that_leaves_is_not_fetched_for(server, tmp_path, unused_tcp_port):
    async with (
        simulator(video_bytes=40 << 20, faults=["video:drip=100000:after=1"]) as sim,
        serving(server, tmp_path, unused_tcp_port, sim, workers=1) as site,
    ):
        (made,) = await make(site, sim, 1)
        assert (await site.ask(f"/videos/{made}/file", headers={"Range": "bytes=0-9"})).body
        for _ in range(4):
            reader, writer = await asyncio.open_connection("127.0.0.1", unused_tcp_port)
            writer.write(f"GET /videos/{made}/file HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            await reader.readexactly(200_000)
            writer.close()
        port = int(sim.files_url.rpartition(":")[2])
        async with asyncio.timeout(PATIENCE):
            while site.connections_to(port):
                await asyncio.sleep(0.02)
        assert site.trouble() == ""


@pytest.mark.parametrize("server", WITH_WORKERS)
async def test_callbacks_reach_the_worker_that_waits(server, tmp_path, unused_tcp_port):
    """Nobody polls in this test, so that only a callback tells of a slot that is free."""
    settings = {
        "WEBHOOK_KEY": "a key of webhooks",
        "CALLBACK_URL": f"http://127.0.0.1:{unused_tcp_port}/hooks",
    }
    async with (
        simulator(webhook_key=settings["WEBHOOK_KEY"]) as sim,
        serving(
            server, tmp_path, unused_tcp_port, sim, workers=2, interval=1000, settings=settings
        ) as site,
    ):
        await make(site, sim, 24)
        assert len(sim.ledger) == 24
        assert {delivery.status for delivery in sim.ledger.deliveries} == {200}
