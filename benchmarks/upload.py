"""A 100 MB file uploaded: what it takes in memory, CPU and the event loop's patience.

Each way runs in a process of its own, against a host that throws away what it gets.
"""

import asyncio
import base64
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import aiohttp

from benchmarks import measuring, results
from benchmarks.results import Bound, Results, Table
from veo_async import VeoClient

SIZE = 100_000_000
ROUNDS = 5
TICK = 0.002
OURS = "veo_async"

Way = Callable[[str, Path], Awaitable[None]]


async def veo(host: str, path: Path) -> None:
    """Upload with this package."""
    async with VeoClient("key", base_url=host) as client:
        await client.upload(path)


async def form(host: str, path: Path) -> None:
    """Upload with aiohttp's own form, which reads the file by itself."""
    with path.open("rb") as file:
        data = aiohttp.FormData({"uploadPath": "x"})
        data.add_field("file", file, filename="x.bin")
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{host}/api/file-stream-upload", data=data) as response,
        ):
            await response.read()


async def in_json(host: str, path: Path) -> None:
    """Upload as Base64 in JSON, the service's other call for files."""
    text = base64.b64encode(await asyncio.to_thread(path.read_bytes)).decode()
    body = {"base64Data": text, "uploadPath": "x"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{host}/api/file-base64-upload", json=body) as response,
    ):
        await response.read()


WAYS: dict[str, Way] = {
    OURS: veo,
    "aiohttp.FormData": form,
    "Base64 in JSON": in_json,
}


async def longest_stop(over: asyncio.Event) -> float:
    """Return the longest time for which the event loop did nothing else, in seconds."""
    loop, longest = asyncio.get_running_loop(), 0.0
    while not over.is_set():
        began = loop.time()
        await asyncio.sleep(TICK)
        longest = max(longest, loop.time() - began - TICK)
    return longest


async def measured(way: Way, host: str, path: Path) -> dict[str, float]:
    """Return what one upload takes."""
    small = path.with_name("small.bin")
    small.write_bytes(b"x")
    await way(host, small)  # loads what is loaded once
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    watching = loop.create_task(longest_stop(over))
    await asyncio.sleep(0.01)
    measuring.forget_peak()
    before, began, cpu = measuring.rss(), loop.time(), measuring.cpu()
    await way(host, path)
    told = {"seconds": loop.time() - began, "cpu": measuring.cpu() - cpu}
    over.set()
    told["stop"] = await watching
    told["memory"] = max(0.0, measuring.peak_rss() - before)
    return told


async def _take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            found = re.search(rb"content-length: (\d+)", head.lower())
            left = 0 if found is None else int(found[1])
            while left and (piece := await reader.read(min(left, 1024 * 1024))):
                left -= len(piece)
            body = b'{"code": 200, "data": {"downloadUrl": "http://127.0.0.1/x"}}'
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def _serve() -> None:
    server = await asyncio.start_server(_take, "127.0.0.1", 0, limit=4 * 1024 * 1024)
    host, port = server.sockets[0].getsockname()
    print(f"http://{host}:{port}", flush=True)
    async with server:
        await server.serve_forever()


def _ran(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "benchmarks.upload", *arguments]


@contextmanager
def host() -> Generator[str]:
    """Start a host in a process of its own, and yield its address."""
    server = subprocess.Popen(_ran("serve"), stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        yield server.stdout.readline().strip()
    finally:
        server.terminate()
        server.communicate()


def in_turns(path: Path) -> dict[str, list[dict[str, float]]]:
    """Return the figures of each way, measured in rounds in which each has one turn."""
    figures: dict[str, list[dict[str, float]]] = {name: [] for name in WAYS}
    with host() as address:
        for _ in range(ROUNDS):
            for name in WAYS:
                words = _ran(name, address, str(path))
                done = subprocess.run(words, stdout=subprocess.PIPE, check=True)
                figures[name].append(json.loads(done.stdout))
    return figures


def row(name: str, rounds: list[dict[str, float]]) -> tuple[str, ...]:
    """Return a row of the table."""
    of = {figure: [one[figure] for one in rounds] for figure in rounds[0]}
    stops = [1000 * stop for stop in of["stop"]]
    return (
        name,
        measuring.spread(of["memory"], ".1f"),
        measuring.spread(of["cpu"]),
        measuring.spread(of["seconds"]),
        measuring.spread(stops, ".0f"),
    )


def measure() -> Results:
    """Measure in rounds."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "large.bin")
        with path.open("wb") as file:
            for _ in range(SIZE // 1_000_000):
                file.write(random.randbytes(1_000_000))
            os.fsync(file.fileno())
        figures = in_turns(path)
    names = {
        OURS: "`veo.upload`, from a path",
        "aiohttp.FormData": "`aiohttp.FormData`, from an open file",
        "Base64 in JSON": "Base64 in JSON, the service's other call",
    }
    megabytes = f"{SIZE / 1e6:.0f} MB"
    grown = statistics.median(one["memory"] for one in figures[OURS])
    head = ("way", "memory grows by, MB", "CPU s", "s", "the event loop stands still for up to, ms")
    return Results(
        title=f"A {megabytes} upload",
        text=(
            f"{megabytes} uploaded over loopback, to a host that throws away what it gets. Each way"
            " runs in a process of its own, which measures itself after it has uploaded one byte;"
            f" {ROUNDS} rounds."
        ),
        tables=[Table(head, [row(names[name], rounds) for name, rounds in figures.items()])],
        bounds=[Bound(f"MB that memory grows in an upload of {megabytes}", grown, 10)],
    )


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve"]:
            asyncio.run(_serve())
        case [chosen, to, source]:
            print(json.dumps(asyncio.run(measured(WAYS[chosen], to, Path(source)))))
        case _:
            results.run(measure)
