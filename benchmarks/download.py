"""CPU seconds per gigabyte of one download to disk, everything of this package's checks on."""

import json
import resource
import statistics
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import measuring, peers, results, server
from benchmarks.peer import download_measured
from benchmarks.results import Bound, Plot, Results, Table
from benchmarks.server import Served
from veo_async import VeoClient, Video

SIZE = 200_000_000
TINY = 20_000  # what a program costs that downloads next to nothing
WARM = 2_000_000
ROUNDS = 7
SLOW_ROUNDS = 3
GROWTH = {2_000_000: 5, 20_000_000: 5, SIZE: 3, 1_000_000_000: 3}  # rounds of each size

OURS = "veo_async, all checks"
DIGEST = "SHA-256 of it, on its own"
REST = "veo_async without the digest"
FLOOR = "asyncio, one buffer, writes on the loop"
AIOHTTP = "aiohttp + aiofiles, 1 MiB chunks"
OPENAI = "openai, `stream_to_file`"
CURL = "curl"

PROGRAMS = {
    CURL: ["curl", "--silent", "--fail", "--output"],
    "wget": ["wget", "--quiet", "--output-document"],
    "aria2c": ["aria2c", "--quiet", "--dir=/", "--file-allocation=none", "--out"],
}
AUTHORITY = {CURL: "--cacert", "wget": "--ca-certificate", "aria2c": "--ca-certificate"}
FAST = {FLOOR: ("floor", ""), AIOHTTP: ("aiohttp", str(1024 * 1024))}
SLOW = {
    "aiohttp + aiofiles, 256 KiB chunks": ("aiohttp", str(256 * 1024)),
    "aiohttp + aiofiles, 64 KiB chunks": ("aiohttp", str(64 * 1024)),
    "aiohttp + aiofiles, 16 KiB chunks": ("aiohttp", str(16 * 1024)),
    "google-genai, `files.download` to a path": ("genai", ""),
    "httpx, stream": ("httpx", ""),
    OPENAI: ("openai", ""),
}
CLIENTS = FAST | SLOW

Way = Callable[[], float]


# --- the ways


@asynccontextmanager
async def client(task: download_measured.Task) -> AsyncGenerator[download_measured.Fetch]:
    """Give what fetches with this package: length, MP4 boxes, SHA-256, fsync and rename."""
    trust = True if task.context is None else task.context
    async with VeoClient("key", base_url=task.base, max_downloads=task.count, ssl=trust) as veo:

        async def fetch(size: int, target: Path) -> None:
            await veo.download(Video(task_id=target.stem, url=task.url(size)), target)

        yield fetch


def command(name: str, way: str = "") -> list[str]:
    """Return the command of a client's process; the name "" is this package's."""
    if not name:
        return [sys.executable, "-m", "benchmarks.download", "--client"]
    script = Path(__file__).with_name("peer") / f"download_{name}.py"
    return [peers.python(), str(script), "--way", way]


def child(words: Sequence[str], folder: Path) -> dict[str, Any]:
    """Run a client's process, and return what it measured; its files are gone then."""
    done = subprocess.run([*words], check=True, stdout=subprocess.PIPE, text=True)
    for path in folder.glob("target-*"):
        path.unlink()
    told: dict[str, Any] = json.loads(done.stdout)
    if told["outcome"] != "whole":
        raise RuntimeError(f"{' '.join(words)} ended with {told['outcome']}")
    return told


class Ground:
    """One server and one folder for all ways over HTTP, or over TLS."""

    def __init__(self, served: Served, folder: Path, *, secure: bool) -> None:
        self.hashing: list[float] = []
        self._base = served.https if secure else served.http
        self._authority = served.authority if secure else None
        self._folder = folder

    def client(self, name: str, way: str = "", size: int = SIZE) -> float:
        """Return the CPU seconds per gigabyte of a client."""
        words = [*command(name, way), self._base, str(self._folder), str(size), f"--warm={WARM}"]
        if self._authority is not None:
            words.append(f"--authority={self._authority}")
        told = child(words if name else [*words, "--hash"], self._folder)
        if not name:
            self.hashing.append(told["hash"] / (size / 1e9))
        return float(told["cpu"]) / (size / 1e9)

    def program(self, name: str, size: int = SIZE) -> float:
        """Return the CPU seconds per gigabyte of a program, without those of its start."""
        return (self._program(name, size) - self._program(name, TINY)) / (size / 1e9)

    def _program(self, name: str, size: int) -> float:
        target = self._folder / "target-0.mp4"
        trust = []
        if self._authority is not None:
            trust.append(f"{AUTHORITY[name]}={self._authority}")
            if name == CURL:
                trust = [AUTHORITY[name], str(self._authority)]
        place = str(target).removeprefix("/") if name == "aria2c" else str(target)
        words = [*PROGRAMS[name], place, *trust, f"{self._base}/{size}.mp4"]

        def run() -> None:
            subprocess.run(words, check=True, stdout=subprocess.DEVNULL)

        seconds = measuring.cpu_of(run, resource.RUSAGE_CHILDREN)
        if target.stat().st_size != size:
            raise RuntimeError(f"{name} brought {target.stat().st_size} bytes")
        target.unlink()
        return seconds

    def ways(self, clients: Mapping[str, tuple[str, str]]) -> dict[str, Way]:
        """Return clients as ways."""
        return {name: partial(self.client, *peer) for name, peer in clients.items()}

    def programs(self) -> dict[str, Way]:
        """Return the programs that are installed as ways."""
        return {name: partial(self.program, name) for name in PROGRAMS if server.has(name)}


# --- the figures


def compared(ground: Ground) -> dict[str, list[float]]:
    """Return the CPU seconds per gigabyte of all ways."""
    ways: dict[str, Way] = {
        OURS: partial(ground.client, ""),
        **ground.programs(),
        **ground.ways(FAST),
    }
    figures = measuring.taking_turns(ways, ROUNDS)
    hashing = ground.hashing[1:]  # without the warm-up, as everywhere
    rest = [whole - part for whole, part in zip(figures[OURS], hashing, strict=True)]
    figures = {OURS: figures[OURS], DIGEST: hashing, REST: rest, **figures}
    return figures | measuring.taking_turns(ground.ways(SLOW), SLOW_ROUNDS)


def growing(ground: Ground) -> Plot:
    """Return how the CPU of a gigabyte goes down as a download grows."""
    lines: dict[str, Sequence[tuple[float, float]]] = {}
    for size, rounds in GROWTH.items():
        ways: dict[str, Way] = {
            OURS: partial(ground.client, "", size=size),
            AIOHTTP: partial(ground.client, *CLIENTS[AIOHTTP], size=size),
        }
        if server.has(CURL):
            ways[CURL] = partial(ground.program, CURL, size)
        for name, values in measuring.taking_turns(ways, rounds).items():
            point = size / 1e6, statistics.median(values)
            lines[name] = [*lines.get(name, ()), point]
    return Plot("CPU of one download over HTTP", "MB", "CPU s per GB", lines, has_log_y=True)


def bounds(
    scheme: str, figures: Mapping[str, Sequence[float]], most: Sequence[float]
) -> list[Bound]:
    """Return what is promised over HTTP or TLS."""
    median = {name: statistics.median(values) for name, values in figures.items()}
    found = [
        Bound(
            f"CPU of {REST}, parts of openai's stream_to_file, {scheme}",
            median[REST] / median[OPENAI],
            most[1],
        )
    ]
    if CURL in median:
        name = f"CPU of {REST}, parts of curl's, {scheme}"
        found.insert(0, Bound(name, median[REST] / median[CURL], most[0]))
    return found


def beside(figures: Mapping[str, Sequence[float]], name: str) -> tuple[str, str]:
    """Return a way's figures, and what part they are of openai's."""
    part = statistics.median(figures[name]) / statistics.median(figures[OPENAI])
    return measuring.spread(figures[name]), f"{part:.2f}"


def measure() -> Results:
    """Measure in turns, over HTTP and then over TLS."""
    with (
        server.temporary() as folder,
        server.serving([TINY, *GROWTH], secure=True) as served,
    ):
        plain = Ground(served, folder, secure=False)
        http = compared(plain)
        https = compared(Ground(served, folder, secure=True))
        plot = growing(plain)
        ciphers = sorted({entry["cipher"] for entry in served.books()} - {""})
    rows = [
        (name, *(cell for figures in (http, https) for cell in beside(figures, name)))
        for name in http
    ]
    missing = [name for name in PROGRAMS if name not in http]
    return Results(
        title="One download to disk",
        text=(
            f"CPU seconds per GB of one download of {SIZE / 1e6:.0f} MB, {ROUNDS} rounds; the ways"
            f" from {next(iter(SLOW))!r} on: {SLOW_ROUNDS}. TLS is {' and '.join(ciphers)} with an"
            " authority of its own. Each Python client runs in a fresh process, which loads its"
            " code with a small download and then measures itself: make the client, download,"
            " close. The programs are measured whole, less a download of next to nothing. Ours"
            " checks length and MP4 boxes, hashes, and waits for fsync, which no other way does."
            " SHA-256 is measured on the same bytes in the same process, reading not counted;"
            " without the digest is the difference."
            + (f" Not installed here: {', '.join(missing)}." if missing else "")
            + f" Peers: {peers.versions()}."
        ),
        tables=[
            Table(("", "over HTTP", "of openai's", "over TLS", "of openai's"), rows),
        ],
        bounds=[*bounds("HTTP", http, (0.9, 0.25)), *bounds("TLS", https, (1.1, 0.15))],
        plots=[plot],
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--client"]:
        download_measured.main(client, sys.argv[2:])
    else:
        results.run(measure)
