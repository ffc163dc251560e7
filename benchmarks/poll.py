"""CPU of one poll on a warm connection: sockets, bare aiohttp, this package, and peers' clients."""

import asyncio
import gzip
import json
import subprocess
import sys
import zlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import TypeAlias

import aiohttp

from benchmarks import measuring, peers, results
from benchmarks.peer import poll_measured
from benchmarks.peer.poll_measured import KEY, Poll
from benchmarks.results import Bound, Results, Table
from veo_async import VeoClient

ROUNDS = 11
POLLS = 1_000
PATIENCE = 60.0  # seconds for one process
HOST = "127.0.0.1"
SIZE = 1_024  # bytes of a body before gzip
TASK = "0123456789abcdef0123456789abcdef"
PATH = "/api/v1/veo/record-info?taskId="
PROMPT = (
    "Wide shot, dawn: a small terrier trots along an empty harbour wall while the first ferry of"
    " the day turns behind it, its windows still lit. Gulls lift one after another from the"
    " bollards as the dog comes near. The camera follows at knee height, slowly, then lets it run"
    " ahead and tilts up to a sky that goes from slate to apricot. 35 mm film grain, shallow depth"
    " of field, muted colours, soft light from the left. Sound: rigging that taps against masts,"
    " paws on wet stone, a distant horn, no music. At the end a fisherman in a yellow jacket looks"
    " up from his nets and whistles once; the dog stops, listens with its head on one side, and"
    " turns round. Keep the horizon level, keep the dog sharp, show no text, no logos, no other"
    " people, and hold the last frame for a second so that it can be cut against the next take of"
    " the same harbour."
)

FLOOR = "asyncio streams"
READ = "aiohttp, GET and read"
NAMED = "aiohttp, GET and read, a host with a name"
PARSED = "aiohttp, GET and json.loads"
OURS = "veo_async, to a TaskRecord"
OPENAI = "openai, `videos.retrieve`"
PEERS = {
    "httpx, GET and JSON": "httpx",
    OPENAI: "openai",
    "google-genai, `operations.get`": "genai",
    "replicate, `predictions.async_get`": "replicate",
}
SIMPLE = (READ, OURS)  # the ways that are measured with a plain answer too
PLAINLY = "plainly "

Figures: TypeAlias = Mapping[str, Sequence[float]]


# --- the service, in a process of its own


def sized(form: Callable[[str], object]) -> bytes:
    """Return the JSON of a body with as much of the prompt as gives it its size."""
    room = SIZE - len(json.dumps(form("")))
    return json.dumps(form(PROMPT[:room])).encode()


def record(task_id: str, prompt: str) -> object:
    """Return the live service's record of a task that is generating."""
    parameters = {
        "aspectRatio": "16:9",
        "enableFallback": False,
        "enableTranslation": True,
        "model": "veo3_fast",
        "prompt": prompt,
    }
    data = {
        "taskId": task_id,
        "paramJson": json.dumps(parameters),
        "completeTime": None,
        "response": None,
        "successFlag": 0,
        "fallbackFlag": False,
        "createTime": 1776728214000,
        "errorCode": None,
        "errorMessage": None,
    }
    return {"code": 200, "msg": "success", "data": data}


def video(task_id: str, prompt: str) -> object:
    """Return openai's form of a video that is generating."""
    return {
        "id": task_id,
        "object": "video",
        "created_at": 1776728214,
        "status": "in_progress",
        "completed_at": None,
        "error": None,
        "expires_at": None,
        "model": "sora-2",
        "progress": 33,
        "prompt": prompt,
        "remixed_from_video_id": None,
        "seconds": "8",
        "size": "1280x720",
    }


def operation(task_id: str, prompt: str) -> object:
    """Return google-genai's form of an operation that is under way."""
    return {
        "name": f"models/veo-3.1-generate-preview/operations/{task_id}",
        "metadata": {"@type": "type.googleapis.com/GenerateVideosMetadata", "prompt": prompt},
        "done": False,
    }


def prediction(task_id: str, prompt: str) -> object:
    """Return replicate's form of a prediction that is under way."""
    url = f"https://api.replicate.com/v1/predictions/{task_id}"
    return {
        "id": task_id,
        "model": "google/veo-3-fast",
        "version": "hidden",
        "input": {"prompt": prompt},
        "logs": "Using seed: 61668\n",
        "output": None,
        "error": None,
        "status": "processing",
        "created_at": "2026-04-20T23:36:54.12Z",
        "started_at": "2026-04-20T23:36:54.31Z",
        "urls": {"get": url, "cancel": f"{url}/cancel"},
    }


FORMS: Mapping[bytes, Callable[[str, str], object]] = {
    b"/api/v1/veo/": record,
    b"/videos/": video,
    b"/v1/models/": operation,
    b"/v1/predictions/": prediction,
}


def recorded(body: bytes, *, packs: bool) -> bytes:
    """Return an answer as the live service sends it; packed for those who ask for that."""
    encoding = b"Content-Encoding: gzip\r\n" if packs else b""
    packed = gzip.compress(body, 6, mtime=0) if packs else body
    return (
        b"HTTP/1.1 200 OK\r\nDate: Mon, 20 Apr 2026 23:37:12 GMT\r\n"
        b"Content-Type: application/json;charset=UTF-8\r\nTransfer-Encoding: chunked\r\n"
        b"Connection: keep-alive\r\nServer: cloudflare\r\n"
        b"Set-Cookie: JSESSIONID=0A1B2C3D4E5F60718293A4B5C6D7E8F9; Path=/; HttpOnly\r\n"
        b"%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (encoding, len(packed), packed)
    )


def plain(body: bytes, *, packs: bool) -> bytes:  # noqa: ARG001  # in the place of `recorded`
    """Return an answer without anything that costs."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head % len(body) + body


def asks_for_gzip(head: bytes) -> bool:
    """Return whether a request is answered with a packed body."""
    lines = head.lower().split(b"\r\n")
    return any(line.startswith(b"accept-encoding:") and b"gzip" in line for line in lines)


class Answering(asyncio.Protocol):
    """Answers every request for one path with the same bytes."""

    def __init__(self, answers: Mapping[bytes, Mapping[bool, bytes]]) -> None:
        self._answers = answers
        self._heard = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the connection."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer each head that is whole."""
        *whole, self._heard = (self._heard + data).split(b"\r\n\r\n")
        for head in whole:
            path = head.split(b" ", 2)[1]
            answer = next(text for start, text in self._answers.items() if path.startswith(start))
            self._transport.write(answer[asks_for_gzip(head)])


async def serve() -> None:
    """Serve until the input ends; say the ports of the recorded and of the plain answers."""
    bodies = {start: sized(partial(form, TASK)) for start, form in FORMS.items()}
    ports: list[int] = []
    for dressed in (recorded, plain):
        answers = {
            start: {packs: dressed(body, packs=packs) for packs in (False, True)}
            for start, body in bodies.items()
        }
        server = await asyncio.get_running_loop().create_server(
            partial(Answering, answers), "127.0.0.1", 0
        )
        ports.append(server.sockets[0].getsockname()[1])
    print(json.dumps(ports), flush=True)
    await asyncio.to_thread(sys.stdin.read)


@contextmanager
def service() -> Generator[list[str]]:
    """Start a service; yield the addresses of the recorded and of the plain answers."""
    with measuring.child("poll") as (_, told):
        ports: list[int] = json.loads(told.readline())
        yield [f"http://{HOST}:{port}" for port in ports]


# --- the ways, each in a process of its own


@asynccontextmanager
async def sockets(base: str, task: str) -> AsyncGenerator[Poll]:
    """Give what reads an answer, whose form it knows, and unpacks it."""
    host, _, port = base.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    request = (
        f"GET {PATH}{task} HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {KEY}\r\n"
        "Accept: */*\r\nAccept-Encoding: gzip, deflate\r\n\r\n"
    ).encode()

    async def poll() -> object:
        writer.write(request)
        await reader.readuntil(b"\r\n\r\n")
        size = int(await reader.readuntil(b"\r\n"), 16)
        packed = await reader.readexactly(size)
        await reader.readexactly(len(b"\r\n0\r\n\r\n"))
        return zlib.decompress(packed, wbits=31)

    yield poll
    writer.close()


@asynccontextmanager
async def read(base: str, task: str) -> AsyncGenerator[Callable[[], Awaitable[bytes]]]:
    """Give a GET whose body is read, with a session as it comes."""
    headers = {"Authorization": f"Bearer {KEY}"}
    async with aiohttp.ClientSession() as session:

        async def poll() -> bytes:
            async with session.get(base + PATH + task, headers=headers) as response:
                return await response.read()

        yield poll


@asynccontextmanager
async def named(base: str, task: str) -> AsyncGenerator[Poll]:
    """Give the same, of a host whose cookies aiohttp keeps: it keeps none of an IP address."""
    async with read(base.replace(HOST, "localhost"), task) as poll:
        yield poll


@asynccontextmanager
async def parsed(base: str, task: str) -> AsyncGenerator[Poll]:
    """Give a GET, and the JSON of its body."""
    async with read(base, task) as get:

        async def poll() -> object:
            return json.loads(await get())

        yield poll


@asynccontextmanager
async def ours(base: str, task: str) -> AsyncGenerator[Poll]:
    """Give this package's question for a task."""
    async with VeoClient(KEY, base_url=base) as veo:
        yield lambda: veo.status(task)


CLIENTS = {FLOOR: sockets, READ: read, NAMED: named, PARSED: parsed, OURS: ours}


def cost(name: str, base: str) -> float:
    """Return the CPU microseconds of a poll in a fresh process."""
    words = [sys.executable, "-m", "benchmarks.poll", "--way", name]
    if name in PEERS:
        script = Path(__file__).with_name("peer") / f"poll_{PEERS[name]}.py"
        words = [peers.python(), str(script)]
    words += [base, TASK, str(POLLS)]
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, timeout=PATIENCE)
    return float(json.loads(done.stdout))


# --- the figures


def compared() -> tuple[Figures, Figures]:
    """Return the microseconds of each way with the recorded answer, and of some with a plain one.

    All of them take turns.
    """
    with service() as (packed, plain):
        ways = {name: partial(cost, name, packed) for name in (*CLIENTS, *PEERS)}
        ways |= {PLAINLY + name: partial(cost, name, plain) for name in SIMPLE}
        found = measuring.taking_turns(ways, ROUNDS)
    return (
        {name: found[name] for name in (*CLIENTS, *PEERS)},
        {name: found[PLAINLY + name] for name in SIMPLE},
    )


def table(caption: str, figures: Figures) -> Table:
    """Return a table of the ways, each beside a bare GET."""
    least = median(figures[READ])
    rows = [
        (name, measuring.spread(found, ".0f"), f"{median(found) / least:.2f}")
        for name, found in figures.items()
    ]
    return Table(("way", "CPU per poll, µs", f"of {READ}"), rows, caption)


def measure() -> Results:
    """Measure all ways in turns."""
    packed, simple = compared()
    spent = median(packed[OURS])
    return Results(
        title="One poll",
        text=(
            f"{POLLS:,} requests, one after the other over one kept-alive connection, in a fresh"
            f" process that measures itself after {poll_measured.WARM} requests that load the code;"
            f" {ROUNDS} rounds. A body has {SIZE:,} bytes of JSON, of its own form for each peer."
            " aiohttp's sessions and the peers are as they come, and ask for gzip; this package"
            " asks for bodies that are not packed. Unless a row says otherwise, the host is an IP"
            " address, of which aiohttp keeps no cookies. The bounds are those of the"
            f" recorded answer. Peers: {peers.versions()}."
        ),
        tables=[
            table(
                "The answer as recorded: gzip if asked for, chunks, and a cookie each time.",
                packed,
            ),
            table("A plain answer: not packed, with a Content-Length.", simple),
        ],
        bounds=[
            Bound(
                "CPU of a poll, parts of a bare aiohttp GET and read",
                spent / median(packed[READ]),
                1.3,
            ),
            Bound("CPU of a poll, parts of openai's", spent / median(packed[OPENAI]), 0.15),
        ],
    )


def main(words: Sequence[str]) -> None:
    """Serve, be one of the ways, or measure all."""
    if words[:1] == ["--serve"]:
        asyncio.run(serve())
    elif words[:1] == ["--way"]:
        poll_measured.main(CLIENTS[words[1]], words[2:])
    else:
        results.run(measure)


if __name__ == "__main__":
    main(sys.argv[1:])
