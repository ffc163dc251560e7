"""Opened and closed anywhere, many times, with nothing left behind."""

import asyncio
import contextlib
import gc
import multiprocessing
import os
import pickle
import socket
import sqlite3
import threading
import warnings
import weakref
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import aiohttp
import attrs
import pytest
from aiohttp import web

from tests.flows.batches import LONG, client_of, service
from veo_async import (
    AuthenticationError,
    BudgetExceededError,
    ClientClosedError,
    ConfigurationError,
    NotFoundError,
    PollPolicy,
    Statistics,
    SubmitUncertainError,
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


async def test_many_clients_leave_nothing_behind(until):
    """Opened, used for a paid submit, and closed, two hundred times."""
    options = {"generation_seconds": 10_000, "max_tasks": 1000, "create_rate": None}
    async with Simulator(time_scale=100, credits=10**6, **options) as sim:
        settings = {"base_url": sim.base_url, "pace": None, "max_tasks": 1000}
        clients: weakref.WeakSet[VeoClient] = weakref.WeakSet()
        tasks = len(asyncio.all_tasks())
        before = (0, 0)
        for round_number in range(201):
            async with VeoClient(sim.api_key, **settings) as veo:
                clients.add(veo)
                await veo.submit("a prompt")
            del veo
            if round_number == 0:  # what is made once and for all
                gc.collect()
                await until(lambda: len(asyncio.all_tasks()) == tasks)
                before = descriptors(), threading.active_count()
        gc.collect()
        assert len(clients) == 0
        # The simulator closes its side of a connection a moment after the client did.
        await until(lambda: descriptors() <= before[0] and threading.active_count() <= before[1])
        await until(lambda: len(asyncio.all_tasks()) == tasks)
        assert len(sim.ledger.posts) == 201


async def test_a_client_that_was_not_closed_says_so():
    async with Simulator() as sim:
        connector = aiohttp.TCPConnector()
        veo = VeoClient(sim.api_key, base_url=sim.base_url, connector=connector)
        await veo.__aenter__()
        sessions = veo._engine.runtime.transport
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
        await other._engine.runtime.transport.aclose()
        other._engine.runtime.executor.shutdown()

    asyncio.run(start())
    with pytest.raises(WrongLoopError, match="another event loop"):
        asyncio.run(other.status("some-id"))
    other._engine.is_closed = True


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


async def test_closing_it_in_another_loop_says_so_and_leaves_it_open(world):
    async with world() as w:
        await w.veo.__aenter__()
        with pytest.raises(WrongLoopError):
            await asyncio.to_thread(asyncio.run, w.veo.aclose())
        assert (await w.veo.submit("a prompt")).id


async def test_it_is_opened_used_and_closed_by_three_tasks(world):
    """As web frameworks do it."""
    async with world() as w:
        veo = VeoClient(w.sim.api_key, base_url=w.sim.base_url, poll=PollPolicy(interval=0.05))
        await asyncio.create_task(veo.__aenter__())
        assert (await asyncio.create_task(veo.generate("a prompt"))).url
        await asyncio.create_task(veo.__aexit__(None, None, None))
        assert "closed" in repr(veo)


def test_eight_threads_each_with_a_loop_and_a_client(tmp_path):
    async def one(sim: Simulator, name: str) -> None:
        poll = PollPolicy(interval=0.05)
        async with VeoClient(sim.api_key, base_url=sim.base_url, poll=poll, max_tasks=1) as veo:
            for n in range(2):
                video = await veo.generate(f"{name} {n}")
                saved = await veo.download(video, tmp_path / f"{name} {n}.mp4")
                assert saved.path.stat().st_size == saved.size

    small = {"video_bytes": 20_000, "clip": (64, 36), "create_rate": None}
    with Simulator(time_scale=100, generation_seconds=20, **small) as sim:
        with ThreadPoolExecutor(8) as threads:
            deque(threads.map(lambda n: asyncio.run(one(sim, f"thread {n}")), range(8)))
        assert len([*tmp_path.glob("*.mp4")]) == 16
        assert len({charge.task_id for charge in sim.ledger}) == 16


async def test_two_clients_and_the_application_share_a_pool(world):
    connector = aiohttp.TCPConnector()
    async with world(connector=connector) as w, aiohttp.ClientSession(connector=connector) as app:
        options = {"base_url": w.sim.base_url, "connector": connector}
        async with VeoClient(w.sim.api_key, **options) as other:
            first, second = await asyncio.gather(w.veo.submit("one"), other.submit("two"))
            assert first.id != second.id
        assert not connector.closed
        assert (await w.veo.generate("three")).url
        async with app.get(w.sim.base_url) as answer:
            assert answer.status
        await w.veo.aclose()
        assert not connector.closed
        async with app.get(w.sim.base_url) as answer:
            assert answer.status
    assert connector.closed, "by the application's session, which owns it"


# --- forks


def _uses(veo: VeoClient) -> list[str]:
    """Try everything in a process that has no right to, and say what came of it."""
    said = []
    for use in (
        lambda: veo.task("x"),
        lambda: asyncio.run(veo.submit("a prompt")),
        lambda: asyncio.run(veo.status("x")),
        lambda: asyncio.run(veo.download("x", "x.mp4")),
        lambda: asyncio.run(veo.aclose()),
    ):
        try:
            use()
        except Exception as error:  # noqa: BLE001  # its name is what is asked for
            said.append(type(error).__name__)
    return said


def _child(queue: "multiprocessing.Queue[list[str]]", veo: VeoClient) -> None:
    queue.put(_uses(veo))


forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")


@forks
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_after_a_fork_of_multiprocessing_it_says_so(world):
    async with world(sim={"generation_seconds": 10_000}) as w:
        await w.veo.submit("of the parent")
        context = multiprocessing.get_context("fork")
        queue: multiprocessing.Queue[list[str]] = context.Queue()
        child = context.Process(target=_child, args=(queue, w.veo))
        child.start()
        names = await asyncio.to_thread(queue.get, timeout=20)
        await asyncio.to_thread(child.join)
        assert names == ["WrongLoopError"] * 5
        assert len(w.sim.ledger.posts) == 1
        assert (await w.veo.submit("of the parent again")).id


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
async def test_it_is_not_sent_to_another_process(method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip("not on this platform")
    async with VeoClient("a-key-that-must-not-travel", base_url="http://127.0.0.1:9") as veo:
        context = multiprocessing.get_context(method)
        child = context.Process(target=_uses, args=(veo,))
        with pytest.raises(WrongLoopError, match="make one there"):
            await asyncio.to_thread(child.start)
        with pytest.raises(WrongLoopError):
            pickle.dumps(veo)


@forks
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_a_child_that_lets_go_of_it_leaves_the_parents_connections_alone(until):
    """Parent and child share what the system knows of the parent's loop and its sockets."""
    ports: list[int] = []

    async def answer(request: web.Request) -> web.Response:
        ports.append(request.transport.get_extra_info("peername")[1])
        return web.json_response({"code": 401, "msg": "no"})

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    holder = [VeoClient("key", base_url=site.name)]
    with pytest.raises(AuthenticationError):
        await holder[0].status("x")
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            holder.clear()
            gc.collect()
        os._exit(0)
    await asyncio.to_thread(os.waitpid, pid, 0)
    async with asyncio.timeout(20):
        with pytest.raises(AuthenticationError):
            await holder[0].status("x")
    assert len(ports) == 2
    assert ports[0] == ports[1], "the connection was kept"
    await holder[0].aclose()
    await runner.cleanup()


def _works(veo: VeoClient, queue: "multiprocessing.Queue[str]") -> None:
    async def main() -> str:
        async with veo:
            return (await veo.generate("of the child")).task_id

    queue.put(asyncio.run(main()))


@forks
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_client_made_before_the_fork_and_first_used_after_it_works():
    """As servers do that load the application before they fork their workers."""
    with Simulator(time_scale=100, generation_seconds=20) as sim:
        veo = VeoClient(sim.api_key, base_url=sim.base_url, poll=PollPolicy(interval=0.05))
        context = multiprocessing.get_context("fork")
        queue: multiprocessing.Queue[str] = context.Queue()
        children = [context.Process(target=_works, args=(veo, queue)) for _ in range(2)]
        for child in children:
            child.start()
        ids = {queue.get(timeout=60) for _ in children}
        for child in children:
            child.join()
        assert ids == {charge.task_id for charge in sim.ledger}
        assert len(ids) == 2
        assert asyncio.run(_made_by(veo)) not in ids


async def _made_by(veo: VeoClient) -> str:
    async with veo:
        return (await veo.generate("of the parent")).task_id


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


async def test_statistics_before_the_first_use_and_after_the_end(world):
    async with world(max_tasks=3, sim={"generation_seconds": 20}) as w:
        nothing = Statistics(slots_total=3, slots_in_use=0, slots_waiting=0)
        unused = VeoClient("key", max_tasks=3)
        assert unused.statistics() == nothing
        video = await w.veo.generate("a prompt")
        async with w.veo.stream(video) as body:
            size = sum([len(piece) async for piece in body])
        await w.veo.aclose()
        end = w.veo.statistics()
        assert (end.slots_in_use, end.tasks_watched, end.downloads_active) == (0, 0, 0)
        assert (end.bytes_downloaded, end.retries) == (size, 0)
        assert end.requests == sum(w.sim.ledger.requests.values())
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            end.requests = 0


async def test_statistics_of_downloads_under_way(world, until, tmp_path):
    async with world(max_downloads=2, sim={"video_bytes": 100_000}) as w:
        videos = [await w.veo.generate(f"prompt {n}") for n in range(4)]
        w.sim.add_fault("video:stall_at=50000")
        loads = [
            asyncio.create_task(w.veo.download(video, tmp_path / video.task_id)) for video in videos
        ]
        await until(lambda: w.veo.statistics().downloads_waiting == 2)
        assert w.veo.statistics().downloads_active == 2
        for load in loads:
            load.cancel()
        await asyncio.wait(loads)
        now = w.veo.statistics()
        assert (now.downloads_active, now.downloads_waiting) == (0, 0)


# --- another event loop than asyncio's own

uvloop = pytest.mark.parametrize(
    "anyio_backend", [pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop")]
)


@uvloop
async def test_a_video_on_uvloop(world, tmp_path, anyio_backend):
    assert type(asyncio.get_running_loop()).__module__ == "uvloop"
    async with world() as w:
        saved = await w.veo.download(await w.veo.generate("a prompt"), tmp_path / "x.mp4")
        assert saved.path.stat().st_size == saved.size


@uvloop
async def test_a_batch_with_failures_on_uvloop(world, tmp_path, anyio_backend):
    faults = ["record-info:status=503:every=3", "video:cut_at=10000:times=2"]
    async with world(sim={"faults": faults, "video_bytes": 50_000}) as w:
        prompts = ["one", "two", "three [fail]"]
        async with w.veo.batch(prompts, directory=tmp_path) as batch:
            outcomes = sorted([str(item.outcome) async for item in batch])
        assert outcomes == ["downloaded", "downloaded", "failed"]


@uvloop
async def test_cancelled_submits_and_a_lost_answer_on_uvloop(world, until, anyio_backend):
    faults = ["generate:lose_answer:match=lost"]
    async with world(max_tasks=2, sim={"faults": faults, "generation_seconds": 10_000}) as w:
        await w.veo.submit("goes on")
        with pytest.raises(SubmitUncertainError):
            await w.veo.submit("lost")
        waiting = asyncio.create_task(w.veo.submit("waits"))
        await until(lambda: w.veo.statistics().slots_waiting == 1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert len(w.sim.ledger.posts) == 2


@uvloop
async def test_closing_amid_a_download_on_uvloop(world, until, tmp_path, anyio_backend):
    async with world(sim={"video_bytes": 5_000_000}) as w:
        video = await w.veo.generate("a prompt")
        w.sim.add_fault("video:stall_at=4000000:times=1")
        loading = asyncio.create_task(w.veo.download(video, tmp_path / "x.mp4"))
        await until(lambda: w.veo.statistics().bytes_downloaded > 3_000_000)
        await w.veo.aclose()
        with pytest.raises(ClientClosedError):
            await loading
        assert (tmp_path / "x.mp4.part").stat().st_size > 3_000_000


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


async def test_a_journal_that_hangs_keeps_no_client_open(tmp_path, until):
    async with service(generation_seconds=LONG) as sim:
        veo = client_of(sim)
        job = asyncio.create_task(veo.run_job("a", "A boat", directory=tmp_path))
        await until(lambda: len(veo.tasks) == 1)
        path = tmp_path / "veo-journal.db"
        with contextlib.closing(sqlite3.connect(path, timeout=20, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            async with asyncio.timeout(20):  # a busy journal is waited for longer than that
                await veo.aclose()
            other.execute("ROLLBACK")
        with pytest.raises(ClientClosedError):
            await job
