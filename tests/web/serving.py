"""The README's web applications in the servers that people run them in, as processes."""

# ruff: noqa: ASYNC220  # tests may start processes and look at the disk

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import aiohttp
import attrs

from tests.test_readme import example
from veo_async.simulator import Simulator

SCALE: Final = 100
PATIENCE: Final = 60  # seconds for anything that would hang otherwise

# uvicorn's first process leaves the socket that it listens on to the system.
_TROUBLE: Final = re.compile(
    r"Traceback|ResourceWarning(?!: Enable tracemalloc|: unclosed <socket\.socket fd=3,)"
    "|never retrieved|never awaited|loop is closed|was destroyed"
)

# A server's command line, after `python -m`, and the example that it serves.
SERVERS: Final[dict[str, tuple[str, Sequence[str]]]] = {
    "uvicorn": ("fastapi", ["uvicorn", "app:app", "--workers", "{n}", "--port", "{port}"]),
    "gunicorn asgi": ("fastapi", ["gunicorn", "--preload", "-k", "asgi", "app:app"]),
    "aiohttp": ("aiohttp", ["app"]),
    "gunicorn aiohttp": (
        "aiohttp",
        ["gunicorn", "--preload", "-k", "aiohttp.GunicornWebWorker", "app:app"],
    ),
}

if find_spec("uvicorn.workers") is not None:  # which uvicorn wants to do without one day
    SERVERS["gunicorn uvicorn"] = (
        "fastapi",
        ["gunicorn", "--preload", "-k", "uvicorn.workers.UvicornWorker", "app:app"],
    )


def simulator(**settings: Any) -> Simulator:
    """Return a service that runs a hundred times faster than life, with tiny videos."""
    given: dict[str, Any] = {
        "time_scale": SCALE,
        "clip": (64, 36),
        "video_bytes": 0,
        "create_rate": None,  # what leaves at its pace may arrive a little closer
    }
    return Simulator(**(given | settings))


def source(name: str, *, interval: float = 5 / SCALE, edits: Mapping[str, str] = {}) -> str:
    """Return an example, with a client that keeps up with the simulator's time.

    Args:
        name: Which one.
        interval: Seconds between two polls.
        edits: What else stands in place of what.
    """
    code = example(name)
    pace = f"poll=sdk.PollPolicy(interval={interval}), pace=(20, {10 / SCALE})"
    quick = {"sdk.VeoClient(limiter=": f"sdk.VeoClient({pace}, limiter="}
    for old, new in {**quick, **edits}.items():
        assert code.count(old) == 1, old
        code = code.replace(old, new)
    return code


@attrs.frozen(kw_only=True)
class Answer:
    """What a server said."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    json: Any


@attrs.define
class Site:
    """An application that is being served.

    Attributes:
        url: Where.
        process: The server's first process.
        log: What it prints.
    """

    url: str
    process: "subprocess.Popen[bytes]"
    log: Path
    _session: aiohttp.ClientSession

    async def ask(
        self, path: str, *, headers: Mapping[str, str] | None = None, json: object = None
    ) -> Answer:
        method = "GET" if json is None else "POST"
        async with self._session.request(
            method, self.url + path, headers=headers, json=json
        ) as answer:
            body = await answer.read()
            is_json = answer.content_type == "application/json"
            return Answer(
                status=answer.status,
                headers=answer.headers,
                body=body,
                json=await answer.json() if is_json else None,
            )

    async def pour(self, path: str, into: bytearray) -> None:
        """Ask, and keep what comes even if its end does not."""
        async with self._session.get(self.url + path) as answer:
            async for piece in answer.content.iter_any():
                into += piece

    async def submit(self, prompt: str) -> str:
        """Submit a prompt, again after each refusal; return its task's id."""
        async with asyncio.timeout(PATIENCE):
            while True:
                answer = await self.ask("/videos", json={"prompt": prompt})
                if answer.status == 202:
                    return str(answer.json["id"])
                assert answer.status == 503, (answer, self.told()[-3000:])
                await asyncio.sleep(0.1)

    async def until_made(self, task_id: str) -> None:
        """Ask for a task's state until its video is there."""
        async with asyncio.timeout(PATIENCE):
            while (answer := await self.ask(f"/videos/{task_id}")).json.get("status") != "success":
                assert answer.status == 200, (answer, self.told()[-3000:])
                await asyncio.sleep(0.02)

    def workers(self) -> list[int]:
        """Return the processes that answer requests."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                stat = entry.joinpath("stat").read_text().rpartition(")")[2].split()
                is_server = b"resource_tracker" not in entry.joinpath("cmdline").read_bytes()
                if int(stat[1]) == self.process.pid and is_server and stat[0] != "Z":
                    found.append(int(entry.name))
        return found

    def connections_to(self, port: int) -> int:
        """Return how many connections to a port of this host are open on the clients' side."""
        rows = Path("/proc/net/tcp").read_text().splitlines()[1:]
        established = "01"
        return sum(
            int(remote.rpartition(":")[2], 16) == port and state == established
            for _, _, remote, state, *_ in map(str.split, rows)
        )

    def told(self) -> str:
        return self.log.read_text(errors="replace")

    def trouble(self) -> str:
        """Return what the log has from the first thing on that should not be in it."""
        told = self.told()
        found = _TROUBLE.search(told)
        return "" if found is None else told[found.start() :][:5000]

    async def stopped(self) -> int:
        """Stop the server as supervisors do; return its exit status."""
        self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE):
            while (status := self.process.poll()) is None:
                await asyncio.sleep(0.02)
        return status


@asynccontextmanager
async def serving(
    server: str,
    folder: Path,
    port: int,
    sim: Simulator,
    *,
    workers: int = 4,
    interval: float = 5 / SCALE,
    edits: Mapping[str, str] = {},
    settings: Mapping[str, str] = {},
) -> AsyncIterator[Site]:
    """Serve one of the README's applications, all of its workers up."""
    name, words = SERVERS[server]
    port_of_its_own = {"port=8080": f"port={port}"} if name == "aiohttp" else {}
    code = source(name, interval=interval, edits={**port_of_its_own, **edits})
    folder.joinpath("app.py").write_text(code, encoding="utf-8")
    command = [word.format(n=workers, port=port) for word in words]
    if command[0] == "gunicorn":
        command += ["-w", str(workers), "-b", f"127.0.0.1:{port}", "--graceful-timeout", "20"]
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={
                **os.environ,
                "KIE_API_KEY": sim.api_key,
                "KIE_BASE_URL": sim.base_url,
                "PYTHONUNBUFFERED": "1",
                "PYTHONWARNINGS": "default",  # the servers' own are none of ours
                **settings,
            },
        )
    try:
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(force_close=True, limit=0),
            timeout=aiohttp.ClientTimeout(total=PATIENCE),
        ) as session:
            site = Site(f"http://127.0.0.1:{port}", process, log, session)
            await _until_up(site, 1 if server == "aiohttp" else workers)
            yield site
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


async def _until_up(site: Site, workers: int) -> None:
    ready = re.compile("Application startup complete|Worker ready|Booting worker|Running on")
    async with asyncio.timeout(PATIENCE):
        while True:
            assert site.process.poll() is None, site.told()
            if len(ready.findall(site.told())) >= workers:
                with contextlib.suppress(aiohttp.ClientError):
                    if (await site.ask("/videos/unknown_id")).status == 404:
                        return
            await asyncio.sleep(0.05)
