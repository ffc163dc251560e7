"""Opened and closed anywhere, many times, with nothing left behind."""

import asyncio
import gc
import multiprocessing
import os
import socket
import threading
import warnings
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from veo_async import (
    AuthenticationError,
    BudgetExceededError,
    ClientClosedError,
    ConfigurationError,
    NotFoundError,
    PollPolicy,
    Statistics,
    VeoClient,
    VideoTask,
    WrongLoopError,
)
from veo_async.simulator import Simulator

pytestmark = pytest.mark.anyio


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    monkeypatch.delenv("KIE_API_KEY", raising=False)
    monkeypatch.delenv("KIE_BASE_URL", raising=False)


def test_without_a_key_it_says_where_to_put_one():
    with pytest.raises(ConfigurationError, match="KIE_API_KEY") as caught:
        VeoClient()
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("key", ["", "  ", "two words", "line\nbreak", "schlüssel", "\x07bell"])
def test_an_impossible_key_is_refused_without_being_shown(key):
    with pytest.raises(ConfigurationError) as caught:
        VeoClient(key)
    assert not key.strip() or key.strip() not in str(caught.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"base_url": "ftp://example.com"},
        {"base_url": "example.com"},
        {"base_url": "https://user:secret@example.com"},
        {"base_url": "https://example.com/?key=secret"},
        {"base_url": "https://example.com:notaport"},
        {"base_url": "http://[::1"},
        {"base_url": "https://exa..mple.com"},
        {"max_tasks": 0},
        {"max_downloads": 0},
        {"max_credits": -1},
        {"pace": (0, 10.0)},
        {"pace": (10, 0.0)},
        {"callback_url": "not a url"},
        {"callback_url": "http://[::1"},
        {"callback_url": "https://example.com/a b"},
        {"proxy": "socks5://secret@localhost:1080"},
        {"pace": 20},
        {"pace": ()},
        {"pace": (2.5, 1.0)},
        {"max_tasks": "3"},
        {"max_tasks": 2.5},
        {"timeouts": None},
        {"retry": 3},
        {"poll": 5.0},
    ],
)
def test_impossible_settings_are_refused_when_the_client_is_made(settings):
    with pytest.raises(ConfigurationError) as caught:
        VeoClient("key", **settings)
    assert "secret" not in str(caught.value)


async def test_key_and_host_come_from_the_environment(monkeypatch):
    async with Simulator(time_scale=100) as sim:
        monkeypatch.setenv("KIE_API_KEY", f" {sim.api_key}\n")
        monkeypatch.setenv("KIE_BASE_URL", sim.base_url + "/")
        async with VeoClient() as veo:
            await veo.submit("a prompt")


async def test_a_base_url_with_a_path_is_a_gateway():
    paths: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        paths.append(request.path)
        return web.json_response({"code": 401, "msg": "no"})

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    async with VeoClient("key", base_url=site.name + "/gateway/kie/") as veo:
        with pytest.raises(AuthenticationError):
            await veo.status("some-id")
    await runner.cleanup()
    assert paths == ["/gateway/kie/api/v1/veo/record-info"]


async def test_it_closes_from_another_task_and_more_than_once():
    async with Simulator(time_scale=100) as sim:
        veo = VeoClient(sim.api_key, base_url=sim.base_url)
        await asyncio.create_task(veo.__aenter__())
        task = await veo.submit("a prompt")
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(veo.aclose())
        await veo.aclose()
        with pytest.raises(ClientClosedError) as caught:
            await task
        assert caught.value.task_id == task.id
        for use in (veo.submit("x"), veo.status("x"), veo.download("x", "x.mp4")):
            with pytest.raises(ClientClosedError):
                await use
        with pytest.raises(ClientClosedError):
            veo.task("x")


async def test_closing_ends_what_runs_and_names_what_goes_on(world, caplog):
    caplog.set_level("INFO", "veo_async")
    async with world(sim={"generation_seconds": 10_000}) as w:
        tasks = [await w.veo.submit(f"prompt {n}") for n in range(3)]
        waits = [asyncio.create_task(task.wait()) for task in tasks]
        await asyncio.sleep(0)
        await w.veo.aclose()
        for wait in waits:
            with pytest.raises(ClientClosedError):
                await wait
        assert all(task.id in caplog.text for task in tasks)


async def test_many_clients_leave_nothing_behind():
    async with Simulator(time_scale=100, generation_seconds=10_000, max_tasks=1000) as sim:
        sim_options = {"base_url": sim.base_url, "pace": None, "max_tasks": 1000}
        sizes: list[tuple[int, int, int]] = []
        for round_number in range(60):
            async with VeoClient(sim.api_key, **sim_options) as veo:
                if round_number % 20 == 0:
                    await veo.submit("a prompt")
                else:
                    with pytest.raises(Exception, match="404"):
                        await veo.status("nobody")
            if round_number in {9, 59}:
                gc.collect()
                await asyncio.sleep(0.05)
                sizes.append((descriptors(), threading.active_count(), len(asyncio.all_tasks())))
        assert sizes[0] == sizes[1]


async def test_a_client_that_was_not_closed_says_so():
    async with Simulator() as sim:
        connector = aiohttp.TCPConnector()
        veo = VeoClient(sim.api_key, base_url=sim.base_url, connector=connector)
        await veo.__aenter__()
        sessions = veo._runtime.transport
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del veo
            gc.collect()
        assert any("aclose" in str(warning.message) for warning in caught)
        await sessions.aclose()
        await connector.close()


async def test_the_applications_own_pool_is_used_and_not_closed(world):
    connector = aiohttp.TCPConnector()
    async with world(connector=connector) as w:
        video = await w.veo.generate("a prompt")
        async with w.veo.stream(video) as body:
            assert len([piece async for piece in body]) > 0
    assert not connector.closed
    await connector.close()


def test_another_event_loop_gets_a_typed_error():
    veo = VeoClient("key", base_url="http://127.0.0.1:9")

    async def use() -> None:
        await veo.status("some-id")

    async def first() -> None:
        await veo.__aenter__()
        with pytest.raises(WrongLoopError, match="another event loop"):
            await asyncio.to_thread(asyncio.run, use())
        await veo.aclose()

    asyncio.run(first())

    other = VeoClient("key", base_url="http://127.0.0.1:9")

    async def start() -> None:
        await other.__aenter__()
        await other._runtime.transport.aclose()
        other._runtime.executor.shutdown()

    asyncio.run(start())
    with pytest.raises(WrongLoopError, match="another event loop"):
        asyncio.run(other.status("some-id"))
    other._is_closed = True


def test_without_a_loop_it_says_so():
    with pytest.raises(WrongLoopError, match=r"asyncio\.run"):
        VeoClient("key").task("some-id")


def test_a_client_may_be_made_before_the_loop_and_one_after_the_other():
    for _ in range(3):
        veo = VeoClient("key", base_url="http://127.0.0.1:9")

        async def main(veo: VeoClient = veo) -> None:
            async with veo:
                assert veo.statistics() == Statistics(
                    slots_total=10, slots_in_use=0, slots_waiting=0
                )

        asyncio.run(main())


def _child(queue: "multiprocessing.Queue[str]", veo: VeoClient) -> None:
    try:
        veo._started()
    except Exception as error:  # noqa: BLE001
        queue.put(type(error).__name__)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_after_a_fork_it_says_so():
    async with VeoClient("key", base_url="http://127.0.0.1:9") as veo:
        context = multiprocessing.get_context("fork")
        queue: multiprocessing.Queue[str] = context.Queue()
        child = context.Process(target=_child, args=(queue, veo))
        child.start()
        name = await asyncio.to_thread(queue.get, timeout=20)
        await asyncio.to_thread(child.join)
        assert name == "WrongLoopError"


async def test_statistics_tell_what_is_going_on(world):
    async with world(max_tasks=2, sim={"generation_seconds": 50}) as w:
        waits = [asyncio.create_task(w.veo.generate(f"prompt {n}")) for n in range(5)]
        while w.veo.statistics().tasks_watched < 2:
            await asyncio.sleep(0.01)
        now = w.veo.statistics()
        assert (now.slots_total, now.slots_in_use, now.slots_waiting) == (2, 2, 3)
        assert (now.tasks_watched, now.requests, now.retries) == (2, 2, 0)
        for wait in waits:
            wait.cancel()


@pytest.mark.parametrize("loop", ["uvloop"])
def test_it_runs_on_uvloop(loop, tmp_path):
    uvloop = pytest.importorskip(loop)

    async def main() -> None:
        async with Simulator(time_scale=100, generation_seconds=20) as sim:
            poll = PollPolicy(interval=0.05)
            async with VeoClient(sim.api_key, base_url=sim.base_url, poll=poll) as veo:
                saved = await veo.download(await veo.generate("a prompt"), tmp_path / "x.mp4")
                assert saved.path.stat().st_size == saved.size

    uvloop.run(main())


async def test_a_wait_that_meets_aclose_ends(world):
    async with world() as w:
        task = w.veo.task("some-id")
        waiting = asyncio.create_task(task.wait())
        await asyncio.sleep(0)
        await w.veo.aclose()
        with pytest.raises(ClientClosedError):
            await asyncio.wait_for(waiting, timeout=5)


async def test_a_task_of_a_closed_client_says_so(world):
    async with world() as w:
        task = w.veo.task("some-id")
        await w.veo.aclose()
        with pytest.raises(ClientClosedError):
            await task
        with pytest.raises(ClientClosedError):
            async for _ in task.updates():
                pass


async def test_a_task_awaited_in_another_loop_says_so(world):
    async with world(sim={"generation_seconds": 10_000}) as w:
        for task in (w.veo.task("some-id"), await w.veo.submit("a prompt")):

            async def use(task: VideoTask = task) -> None:
                await task

            with pytest.raises(WrongLoopError):
                await asyncio.to_thread(asyncio.run, use())


async def test_an_upgrade_ends_at_once_when_the_client_is_closed(world):
    options = {"upgrade_seconds": 100_000}
    poll = PollPolicy(interval=0.05, upgrade_interval=3600)
    async with world(sim=options, poll=poll) as w:
        video = await w.veo.generate("a prompt")
        upgrading = asyncio.create_task(w.veo.upgrade_1080p(video))
        while w.sim.ledger.requests["1080p"] == 0:
            await asyncio.sleep(0.005)
        await w.veo.aclose()
        with pytest.raises(ClientClosedError):
            await asyncio.wait_for(upgrading, timeout=5)


async def test_an_upgrade_counts_in_the_budget_once(world):
    poll = PollPolicy(interval=0.05, upgrade_interval=0.05)
    async with world(max_credits=90 + 70, poll=poll) as w:
        video = await w.veo.generate("a prompt")
        await w.veo.upgrade_1080p(video)
        await w.veo.upgrade_1080p(video)
        other = await w.veo.generate("another")
        with pytest.raises(BudgetExceededError) as caught:
            await w.veo.upgrade_1080p(other)
        assert (caught.value.needed, caught.value.left) == (20, 0)
        assert w.sim.ledger.spent == 160


async def test_an_existing_file_is_refused_before_the_video_is_waited_for(world, tmp_path):
    tmp_path.joinpath("there.mp4").write_bytes(b"mine")
    async with world(sim={"generation_seconds": 10_000}) as w:
        task = await w.veo.submit("a prompt")
        with pytest.raises(FileExistsError):
            await w.veo.download(task, tmp_path / "there.mp4", overwrite=False)


async def test_paid_requests_use_the_pools_resolver_and_a_connection_of_their_own():
    asked: list[str] = []

    class Resolver(aiohttp.ThreadedResolver):
        """A resolver of the application's own: a private name that no public one knows."""

        async def resolve(self, host, port=0, family=socket.AF_INET):
            asked.append(host)
            return await super().resolve("127.0.0.1", port, family)

    async with Simulator(time_scale=100) as sim:
        port = sim.base_url.rpartition(":")[2]
        connector = aiohttp.TCPConnector(resolver=Resolver(), use_dns_cache=False)
        base_url = f"http://veo.internal:{port}"
        async with VeoClient(sim.api_key, base_url=base_url, connector=connector) as veo:
            with pytest.raises(NotFoundError):
                await veo.status("nobody")
            for n in range(3):
                await veo.submit(f"prompt {n}")
        assert asked == ["veo.internal"] * 4, "one connection to ask, and one for each paid request"
        await connector.close()
