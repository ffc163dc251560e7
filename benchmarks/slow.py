"""Downloads from a host that is slow, and from one that stops sending; in real time."""

import hashlib
import itertools
import json
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks import peers, results, server
from benchmarks.download import command
from benchmarks.results import Bound, Results, Table
from benchmarks.server import Served

SIZE = 200_000_000
CHUNK = str(1024 * 1024)
OURS = ("", "")
AIOHTTP = ("aiohttp", CHUNK)
CASES = {
    "slow": ("slow", OURS),
    "slow, aiohttp with its defaults": ("slow", AIOHTTP),
    "stalled": ("stalled", OURS),
    "stalled, aiohttp with its defaults": ("stalled", AIOHTTP),
}


class Case:
    """One download in a process of its own."""

    def __init__(self, number: int, host: str, way: Sequence[str], served: Served) -> None:
        self.told: dict[str, Any] = {}
        self.prefix = f"/{host}-{number}"
        self.target = served.folder / f"{host}-{number}-0.mp4"
        place = [served.http + self.prefix, str(served.folder), str(SIZE)]
        self.process = subprocess.Popen(
            [*command(*way), *place, f"--name={host}-{number}"],
            stdout=subprocess.PIPE,
            text=True,
        )

    def stop(self) -> None:
        """End it, if it has not ended."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()

    def wait(self, source: bytes) -> None:
        """Wait for its end, and see whether the file is what the server has."""
        told, _ = self.process.communicate()
        self.told = json.loads(told)
        if self.told["outcome"] == "whole" and digest(self.target) != source:
            self.told["outcome"] = "damaged"
        self.told["outcome"] = {"whole": "whole, same SHA-256"}.get(
            self.told["outcome"], self.told["outcome"]
        )

    @property
    def is_whole(self) -> bool:
        """Whether it ended well."""
        return str(self.told["outcome"]).startswith("whole")

    def requests(self, books: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return its lines of the server's books."""
        return [one for one in books if one["path"].startswith(f"{self.prefix}/")]


def digest(path: Path) -> bytes:
    """Return a file's SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def silence(asked: Sequence[dict[str, Any]], seconds: float) -> float:
    """Return the most seconds in which no byte left, from the first request to the end."""
    between = [after["began"] - before["last"] for before, after in itertools.pairwise(asked)]
    end = asked[0]["began"] + seconds
    return float(max(*(one["longest"] for one in asked), *between, end - asked[-1]["last"]))


def row(name: str, case: Case, asked: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    """Return a row of the table."""
    ranges = [f"`Range: {one['range']}`, `If-Range: {one['if_range']}`" for one in asked[1:]]
    return (
        name,
        f"{case.told['seconds']:.1f}",
        f"{sum(one['sent'] for one in asked) / 1e6:.1f}",
        case.told["outcome"],
        f"{len(asked)}",
        f"{silence(asked, case.told['seconds']):.1f}",
        "; ".join(ranges),
    )


def measure() -> Results:
    """Measure all of it at once."""
    with server.serving([SIZE]) as served, ExitStack() as stack:
        peers.python()
        cases: dict[str, Case] = {}
        for number, (name, (host, way)) in enumerate(CASES.items()):
            cases[name] = Case(number, host, way, served)
            stack.callback(cases[name].stop)
        source = digest(served.file(SIZE))
        for case in cases.values():
            case.wait(source)
        books = served.books()
    asked = {name: case.requests(books) for name, case in cases.items()}
    sent = {name: sum(one["sent"] for one in lines) for name, lines in asked.items()}
    twice = max(0, *(sent[name] - SIZE for name in ("slow", "stalled")))
    head = ("", "s", "MB sent", "outcome", "requests", "longest silence, s", "went on with")
    return Results(
        title="Slow and stalled",
        text=(
            f"{SIZE / 1e6:.0f} MB from a host that sends {server.SLOW / 1e6:g} MB/s, and from one"
            f" that stops for good at {server.STALLS_AT:.0%} of the first answer, all at once, in"
            " real time and with default time-outs, each in a process of its own. Bytes, requests"
            f" and silence are the server's books. Peers: {peers.versions()}."
        ),
        tables=[Table(head, [row(name, case, asked[name]) for name, case in cases.items()])],
        bounds=[
            Bound("slow downloads that did not end well", int(not cases["slow"].is_whole), 0),
            Bound("stalled downloads that did not end well", int(not cases["stalled"].is_whole), 0),
            Bound("bytes fetched twice, parts of the file", twice / SIZE, 0.05),
        ],
    )


if __name__ == "__main__":
    results.run(measure)
