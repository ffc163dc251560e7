"""CPU seconds per gigabyte of one download to disk, everything of this package's checks on."""

import asyncio
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import aiofiles
import aiohttp

from veo_async import VeoClient, Video
from veo_async.simulator.media import render_mp4

SIZE = 200_000_000
ROUNDS = 5


def cpu(who: int) -> float:
    """Return the CPU seconds spent so far by this process or its ended children."""
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


def in_process(work: Callable[[], None]) -> float:
    """Return the CPU seconds that `work` takes here."""
    before = cpu(resource.RUSAGE_SELF)
    work()
    return cpu(resource.RUSAGE_SELF) - before


def veo(url: str, target: Path) -> float:
    """Download with this package: length, MP4 boxes, SHA-256, fsync and rename included."""

    async def run() -> None:
        async with VeoClient("key", base_url=url.rpartition("/")[0]) as client:
            await client.download(Video(task_id="bench", url=url), target)

    return in_process(lambda: asyncio.run(run()))


def plain(url: str, target: Path, chunk: int) -> float:
    """Download with aiohttp and aiofiles in chunks, without a check."""

    async def run() -> None:
        async with (
            aiohttp.ClientSession() as session,
            session.get(url) as response,
            aiofiles.open(target, "wb") as file,
        ):
            async for piece in response.content.iter_chunked(chunk):
                await file.write(piece)

    return in_process(lambda: asyncio.run(run()))


def curl(url: str, target: Path) -> float:
    """Download with curl."""
    before = cpu(resource.RUSAGE_CHILDREN)
    subprocess.run(["curl", "-s", "-o", str(target), url], check=True)
    return cpu(resource.RUSAGE_CHILDREN) - before


PEERS: dict[str, Callable[[str, Path], float]] = {
    "veo_async, all checks": veo,
    "aiohttp + aiofiles, 64 KiB chunks": lambda url, target: plain(url, target, 64 * 1024),
    "aiohttp + aiofiles, 1 MiB chunks": lambda url, target: plain(url, target, 1024 * 1024),
    "curl": curl,
}


def main() -> None:
    """Measure in interleaved rounds, and print medians and spreads."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "source.mp4")
        source.write_bytes(render_mp4(width=64, height=36, seconds=8, seed=1, size=SIZE))
        server = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.server", str(source)],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert server.stdout is not None
            url = server.stdout.readline().strip()
            figures: dict[str, list[float]] = {name: [] for name in PEERS}
            for _ in range(ROUNDS):
                for name, peer in PEERS.items():
                    figures[name].append(peer(url, Path(folder, "target.mp4")) / (SIZE / 1e9))
        finally:
            server.terminate()
            server.communicate()
    print(f"CPU seconds per GB, {SIZE / 1e6:.0f} MB over HTTP on loopback, {ROUNDS} rounds")
    for name, values in figures.items():
        spread = f"{min(values):.2f} to {max(values):.2f}"
        print(f"  {name:36} {statistics.median(values):5.2f}  ({spread})")


if __name__ == "__main__":
    main()
