"""A video through a web application to a browser, and many prompts at once in several workers.

`python -m benchmarks.web`
"""

import asyncio
import contextlib
import itertools
import json
import os
import resource
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
from aiohttp import web

from tests.conftest import free_port
from tests.limits.redis_server import RedisServer
from tests.web.serving import serving, simulator
from veo_async import VeoClient, Video
from veo_async.simulator.media import render_mp4

SIZE = 200_000_000
ROUNDS = 5
TICK = 0.002
PROMPTS = 200


# --- the application: the package's stream beside a plain proxy, in a process that measures itself


class Meter:
    """Lag of the event loop, memory and CPU of this process, since it was last asked."""

    def __init__(self) -> None:
        self._lags: list[float] = []
        self._start()

    def _start(self) -> None:
        self._lags.clear()
        self._cpu = self._spent()
        self._resident = self._peak = self._held()

    @staticmethod
    def _spent() -> float:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return usage.ru_utime + usage.ru_stime

    @staticmethod
    def _held() -> int:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    async def watch(self, _app: web.Application) -> AsyncIterator[None]:
        async def tick() -> None:
            loop = asyncio.get_running_loop()
            for turn in itertools.count():
                due = loop.time() + TICK
                await asyncio.sleep(TICK)
                self._lags.append(loop.time() - due)
                if turn % 10 == 0:
                    self._peak = max(self._peak, self._held())

        async with asyncio.TaskGroup() as group:
            task = group.create_task(tick())
            yield
            task.cancel()

    async def tell(self, _request: web.Request) -> web.Response:
        lags = sorted(self._lags) or [0.0]
        told = {
            "p99": lags[int(len(lags) * 0.99)],
            "max": lags[-1],
            "cpu": self._spent() - self._cpu,
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


def streaming() -> None:
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        film = Path(folder, "source.mp4")
        film.write_bytes(render_mp4(width=64, height=36, seconds=8, seed=1, size=SIZE))
        storage = _child(stack, ["benchmarks.server", str(film)])
        assert storage.stdout is not None
        source = storage.stdout.readline().strip()
        port = free_port()
        app = _child(stack, ["benchmarks.web", "serve", source, str(port)])
        assert app.stdout is not None
        app.stdout.readline()
        cases: dict[str, Callable[[], float]] = {
            "veo.stream": lambda: fetch(port, "/veo"),
            "plain aiohttp proxy": lambda: fetch(port, "/plain"),
            "veo.stream, a browser of 40 MB/s": lambda: fetch(port, "/veo", rate=40e6),
            "plain aiohttp proxy, the same": lambda: fetch(port, "/plain", rate=40e6),
            "veo.stream, 20 that leave at 5 MB": lambda: _leave(port, "/veo"),
        }
        rows: dict[str, list[dict[str, float]]] = {name: [] for name in cases}
        for turn in range(ROUNDS + 1):
            for name, case in cases.items():
                told(port)
                seconds = case()
                row = told(port) | {"seconds": seconds}
                if turn:  # the first one warms up
                    rows[name].append(row)
    print(f"{SIZE / 1e6:.0f} MB through an application on loopback, {ROUNDS} rounds: medians")
    print(f"  {'':36} {'s':>6} {'CPU s/GB':>9} {'lag p99':>9} {'max':>9} {'memory':>9}")
    for name, found in rows.items():
        figure = _medians(found)
        longest = max(row["max"] for row in found)
        per_gb = figure["cpu"] / (SIZE / 1e9)
        cpu = f"{per_gb:9.2f}" if "leave" not in name else f"{'':9}"
        print(
            f"  {name:36} {figure['seconds']:6.2f} {cpu} {figure['p99'] * 1e3:6.1f} ms"
            f" {longest * 1e3:6.1f} ms {max(row['memory'] for row in found) / 1e6:6.1f} MB"
        )


def _medians(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(row[name] for row in rows) for name in rows[0]}


def _leave(port: int, path: str) -> float:
    return sum(fetch(port, path, until=5_000_000) for _ in range(20))


def _child(stack: contextlib.ExitStack, words: list[str]) -> "subprocess.Popen[str]":
    child = subprocess.Popen([sys.executable, "-m", *words], stdout=subprocess.PIPE, text=True)

    def stop() -> None:
        child.terminate()
        child.communicate()

    stack.callback(stop)
    return child


# --- many prompts


async def crowd(server: str, limiter: str, edits: dict[str, str], *, kills: int) -> None:
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
            known = {*ids}
            ledger = sim.ledger
            unknown = [post for post in ledger.posts if post.task_id and post.task_id not in known]
            lost = sum(post.prompt not in cut for post in unknown)
            refused = sum(post.outcome != "accepted" for post in ledger.posts)
            paid = len(unknown) - lost
            figures = (kills, len(ids), len(cut), paid, lost, ledger.peak_running, refused)
            print(f"  {server:18} {limiter:13}", *(f"{figure:8}" for figure in figures), end="")
            print(f" {seconds:8.1f}")


def crowds() -> None:
    print(f"{PROMPTS} prompts at once, 4 workers, the service 100 times faster than life")
    names = ("kills", "answered", "cut", "paid", "lost", "peak", "refused", "seconds")
    print(f"  {'server':18} {'limiter':13}", *(f"{name:>8}" for name in names))
    with RedisServer() as redis:
        shared = f'sdk.RedisLimiter("{redis.url}", account="ours", lease=3)'
        for server in ("uvicorn", "gunicorn asgi", "gunicorn aiohttp"):
            for kills in (0, 3):
                asyncio.run(crowd(server, "FileLimiter", {}, kills=kills))
                edits = {'sdk.FileLimiter("veo-slots.db")': shared}
                asyncio.run(crowd(server, "RedisLimiter", edits, kills=kills))


def main() -> None:
    match sys.argv[1:]:
        case ["serve", source, port]:
            web.run_app(application(source), host="127.0.0.1", port=int(port), access_log=None)
        case ["crowds"]:
            crowds()
        case _:
            streaming()
            crowds()


if __name__ == "__main__":
    main()
