"""A video through a web application to a browser, and many prompts at once in several workers.

`python -m benchmarks.web streaming` measures one part, and `python -m benchmarks.web crowds` the
other.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import aiohttp
import attrs
from aiohttp import web

from benchmarks import measuring, results
from benchmarks.results import Bound, Results, Table
from tests.conftest import free_port
from tests.limits.redis_server import RedisServer
from tests.web.serving import serving, simulator
from veo_async import VeoClient, Video
from veo_async.simulator.media import render_mp4

SIZE = 200_000_000
ROUNDS = 3
TICK = 0.002
PROMPTS = 100
KILLS = 3
SERVERS = ("uvicorn", "gunicorn asgi", "gunicorn aiohttp")
PARTS = ("streaming", "crowds")
SLOW = "a browser that takes 40 MB/s"
LEAVING = "`veo.stream`, 20 browsers that leave at 5 MB"


# --- the application: the package's stream beside a plain proxy, in a process that measures itself


class Meter:
    """Lag of the event loop, memory and CPU of this process, since it was last asked."""

    def __init__(self) -> None:
        self._lags: list[float] = []
        self._start()

    def _start(self) -> None:
        self._lags.clear()
        self._cpu = measuring.cpu()
        self._resident = self._peak = measuring.rss()

    async def watch(self, _app: web.Application) -> AsyncIterator[None]:
        async def tick() -> None:
            loop = asyncio.get_running_loop()
            for turn in itertools.count():
                due = loop.time() + TICK
                await asyncio.sleep(TICK)
                self._lags.append(loop.time() - due)
                if turn % 10 == 0:
                    self._peak = max(self._peak, measuring.rss())

        async with asyncio.TaskGroup() as group:
            task = group.create_task(tick())
            yield
            task.cancel()

    async def tell(self, _request: web.Request) -> web.Response:
        lags = self._lags or [0.0]
        told = {
            "p99": measuring.percentile(lags, 0.99),
            "max": max(lags),
            "cpu": measuring.cpu() - self._cpu,
            "memory": self._peak - self._resident,
        }
        self._start()
        return web.json_response(told)


async def through_veo(request: web.Request) -> web.StreamResponse:
    part = request.headers.get("Range")
    video = Video(task_id="bench", url=request.app[SOURCE])
    async with request.app[VEO].stream(video, range=part) as body:
        response = web.StreamResponse(status=body.status, headers=body.headers)
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            async for piece in body:
                await response.write(piece)
        return response


async def through_aiohttp(request: web.Request) -> web.StreamResponse:
    async with request.app[PLAIN].get(request.app[SOURCE]) as answer:
        response = web.StreamResponse(
            headers={name: answer.headers[name] for name in ("Content-Type", "Content-Length")}
        )
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            async for piece in answer.content.iter_any():
                await response.write(piece)
        return response


VEO = web.AppKey("veo", VeoClient)
PLAIN = web.AppKey("plain", aiohttp.ClientSession)
SOURCE = web.AppKey("source", str)


def application(source: str) -> web.Application:
    async def clients(app: web.Application) -> AsyncIterator[None]:
        base = source.rpartition("/")[0]
        async with VeoClient("key", base_url=base) as app[VEO], aiohttp.ClientSession() as plain:
            app[PLAIN] = plain
            yield

    app = web.Application()
    app[SOURCE] = source
    meter = Meter()
    app.cleanup_ctx.extend([clients, meter.watch])
    app.router.add_get("/veo", through_veo)
    app.router.add_get("/plain", through_aiohttp)
    app.router.add_get("/meter", meter.tell)
    return app


# --- the browsers


def fetch(port: int, path: str, *, rate: float | None = None, until: int | None = None) -> float:
    """Read an answer, at so many bytes per second at most; return the seconds it took."""
    began = time.monotonic()
    buffer = bytearray(1 << 20)
    got = 0
    with socket.create_connection(("127.0.0.1", port)) as line:
        line.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        while size := line.recv_into(buffer):
            got += size
            if until is not None and got >= until:
                break
            if rate is not None:
                time.sleep(max(0.0, began + got / rate - time.monotonic()))
    assert until is not None or got > SIZE, f"{path}: only {got} bytes"
    return time.monotonic() - began


def told(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/meter") as answer:
        found: dict[str, float] = json.load(answer)
        return found


def streamed() -> dict[str, list[dict[str, float]]]:
    """Return the figures of each case, measured in rounds in which each has one turn."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        film = Path(folder, "source.mp4")
        film.write_bytes(render_mp4(width=64, height=36, seconds=8, seed=1, size=SIZE))
        source = _child(stack, ["benchmarks.server", str(film)])
        port = free_port()
        _child(stack, ["benchmarks.web", "serve", source, str(port)])
        cases: dict[str, Callable[[], float]] = {
            "`veo.stream`": lambda: fetch(port, "/veo"),
            "a plain aiohttp proxy, without a check": lambda: fetch(port, "/plain"),
            f"`veo.stream`, {SLOW}": lambda: fetch(port, "/veo", rate=40e6),
            f"the plain proxy, {SLOW}": lambda: fetch(port, "/plain", rate=40e6),
            LEAVING: lambda: _leave(port, "/veo"),
        }
        rows: dict[str, list[dict[str, float]]] = {name: [] for name in cases}
        for turn in range(ROUNDS + 1):
            for name, case in cases.items():
                told(port)
                seconds = case()
                row = told(port) | {"seconds": seconds}
                if turn:  # the first one warms up
                    rows[name].append(row)
    return rows


def streaming() -> Table:
    """Return what a video costs that goes through an application."""
    rows: list[tuple[str, ...]] = []
    for name, found in streamed().items():
        of = {figure: [row[figure] for row in found] for figure in found[0]}
        per_gb = [cpu / (SIZE / 1e9) for cpu in of["cpu"]]
        rows.append(
            (
                name,
                measuring.spread(of["seconds"]),
                "" if name == LEAVING else measuring.spread(per_gb),
                f"{1e3 * statistics.median(of['p99']):.1f} ms",
                f"{1e3 * max(of['max']):.1f} ms",
                f"{max(of['memory']):.1f} MB",
            )
        )
    head = ("", "s", "CPU s per GB", "event loop's lag, p99", "longest", "memory grows by")
    caption = (
        f"A {SIZE / 1e6:.0f} MB video through an aiohttp.web application in a process that measures"
        f" itself: {ROUNDS} rounds, the longest lag and the most memory of all rounds."
    )
    return Table(head, rows, caption)


def _leave(port: int, path: str) -> float:
    return sum(fetch(port, path, until=5_000_000) for _ in range(20))


def _child(stack: contextlib.ExitStack, words: list[str]) -> str:
    """Start a child that is stopped with the stack; return the first line that it prints."""
    child = subprocess.Popen([sys.executable, "-m", *words], stdout=subprocess.PIPE, text=True)

    def stop() -> None:
        child.terminate()
        child.communicate()

    stack.callback(stop)
    assert child.stdout is not None
    return child.stdout.readline().strip()


# --- many prompts


@attrs.frozen
class Crowd:
    """What became of many prompts at once.

    Attributes:
        kills: How many workers were killed.
        answered: How many users got an answer.
        cut: How many did not, since their worker was killed.
        paid: How many of those were paid for.
        lost: How many paid tasks are nobody's, and no worker was killed that had them.
        peak: How many tasks there were at once.
        refused: How many creates the service refused.
        seconds: Until all videos were made.
    """

    kills: int
    answered: int
    cut: int
    paid: int
    lost: int
    peak: int
    refused: int
    seconds: float


async def crowd(server: str, edits: dict[str, str], *, kills: int) -> Crowd:
    """Send many prompts at once to a server of the README's, some workers of which are killed."""
    ids: list[str] = []
    cut: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        async with (
            simulator(credits=1_000_000) as sim,
            serving(server, Path(folder), free_port(), sim, edits=edits) as site,
        ):

            async def submit(prompt: str) -> None:
                try:
                    ids.append(await site.submit(prompt))
                except aiohttp.ClientError:
                    cut.append(prompt)

            began = time.monotonic()
            async with asyncio.TaskGroup() as users:
                for number in range(PROMPTS):
                    users.create_task(submit(f"boat {number}"))
                for kill in range(kills):
                    while len(ids) + len(cut) < (kill + 1) * PROMPTS // (kills + 2):  # noqa: ASYNC110
                        await asyncio.sleep(0.01)
                    os.kill(site.workers()[0], signal.SIGKILL)
            for task_id in ids:
                await site.until_made(task_id)
            seconds = time.monotonic() - began
            ledger = sim.ledger
            known = {*ids}
            unknown = [post for post in ledger.posts if post.task_id and post.task_id not in known]
            lost = sum(post.prompt not in cut for post in unknown)
            return Crowd(
                kills=kills,
                answered=len(ids),
                cut=len(cut),
                paid=len(unknown) - lost,
                lost=lost,
                peak=ledger.peak_running,
                refused=sum(post.outcome != "accepted" for post in ledger.posts),
                seconds=seconds,
            )


def crowds() -> tuple[Table, list[Bound]]:
    """Return what became of many prompts at once, with each server and each limiter."""
    found: list[tuple[str, str, Crowd]] = []
    with contextlib.ExitStack() as stack:
        limiters: dict[str, dict[str, str]] = {"`FileLimiter`": {}}
        if shutil.which("redis-server") is not None:
            redis = stack.enter_context(RedisServer())
            shared = f'sdk.RedisLimiter("{redis.url}", account="ours", lease=3)'
            limiters["`RedisLimiter`"] = {'sdk.FileLimiter("veo-slots.db")': shared}
        for server, kills, (limiter, edits) in itertools.product(
            SERVERS, (0, KILLS), limiters.items()
        ):
            found.append((server, limiter, asyncio.run(crowd(server, edits, kills=kills))))
    rows = [
        (server, limiter, *map(str, attrs.astuple(one)[:-1]), f"{one.seconds:.1f}")
        for server, limiter, one in found
    ]
    head = (
        *("server", "limiter", "kills", "answered", "cut", "cut and paid", "**lost**"),
        *("most tasks at once, of 10", "**creates refused**", "s"),
    )
    caption = (
        f"{PROMPTS} prompts at once to the README's applications with 4 workers, some of which get"
        " `kill -9`; the service is 100 times faster than life. A user whose worker was killed is"
        " cut."
        + ("" if len(limiters) > 1 else " `redis-server` is missing here, and so are its rows.")
    )
    crowded = [one for _, _, one in found]
    bounds = [
        Bound("tasks lost in a web application", sum(one.lost for one in crowded), 0),
        Bound("tasks of a web application at once", max(one.peak for one in crowded), 10),
        Bound("creates refused in a web application", sum(one.refused for one in crowded), 0),
    ]
    return Table(head, rows, caption), bounds


def measure(parts: Sequence[str] = ()) -> Results:
    """Measure these parts, or all."""
    tables: list[Table] = []
    bounds: list[Bound] = []
    if "streaming" in (parts or PARTS):
        tables.append(streaming())
    if "crowds" in (parts or PARTS):
        table, bounds = crowds()
        tables.append(table)
    return Results(
        title="Web applications",
        text="A video to a browser, and many prompts in several workers, over loopback.",
        tables=tables,
        bounds=bounds,
    )


def main() -> None:
    """Measure what the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", nargs="*", help=f"{', '.join(PARTS)}; all when not given")
    given, others = parser.parse_known_args()
    results.run(lambda: measure(given.part), others)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", source, port]:
            web.run_app(application(source), host="127.0.0.1", port=int(port), access_log=None)
        case _:
            main()
