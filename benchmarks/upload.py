"""A 100 MB file uploaded: what it takes in memory, CPU and the event loop's patience.

Each way runs in a process of its own, against a host that throws away what it gets.
"""

import asyncio
import base64
import json
import os
import random
import re
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp

from veo_async import VeoClient

SIZE = 100_000_000
ROUNDS = 5
TICK = 0.002

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
    "veo_async": veo,
    "aiohttp.FormData": form,
    "Base64 in JSON": in_json,
}


def memory(name: str) -> float:
    """Return a figure of this process's memory, in MB."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


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
    before, began, cpu = memory("VmRSS"), loop.time(), _cpu()
    await way(host, path)
    told = {"seconds": loop.time() - began, "cpu": _cpu() - cpu}
    over.set()
    told["stop"] = await watching
    told["memory"] = memory("VmHWM") - before
    return told


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


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


def main() -> None:
    """Measure in interleaved rounds, and print medians."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "large.bin")
        with path.open("wb") as file:
            for _ in range(SIZE // 1_000_000):
                file.write(random.randbytes(1_000_000))
            os.fsync(file.fileno())
        server = subprocess.Popen(_ran("serve"), stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout is not None
            host = server.stdout.readline().strip()
            figures: dict[str, list[dict[str, float]]] = {name: [] for name in WAYS}
            for _ in range(ROUNDS):
                for name in WAYS:
                    out = subprocess.run(
                        _ran(name, host, str(path)), stdout=subprocess.PIPE, check=True
                    )
                    figures[name].append(json.loads(out.stdout))
        finally:
            server.terminate()
            server.communicate()
    print(f"{SIZE / 1e6:.0f} MB uploaded over loopback, medians of {ROUNDS} rounds")
    print(f"  {'':18} memory grew by, CPU, time, the loop stood still for up to")
    for name, rounds in figures.items():
        middle = {each: statistics.median(one[each] for one in rounds) for each in rounds[0]}
        print(
            f"  {name:18} {middle['memory']:8.1f} MB {middle['cpu']:6.2f} s"
            f" {middle['seconds']:6.2f} s {1000 * middle['stop']:6.0f} ms"
        )


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve"]:
            asyncio.run(_serve())
        case [chosen, to, source]:
            print(json.dumps(asyncio.run(measured(WAYS[chosen], to, Path(source)))))
        case _:
            main()
