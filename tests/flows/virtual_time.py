"""A day in seconds: an event loop whose clock jumps, and a transport that never leaves the process.

The client runs as it is, with its journal and its files. Two whole ports are replaced, no name is
patched: the clock, which asyncio asks its loop for, and the transport, behind which the simulator's
service stands as the state machine that it is.
"""

import asyncio
import itertools
import json
import random
import selectors
import struct
from collections import Counter, deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

import attrs
from multidict import CIMultiDict

from veo_async import BatchReport, LimiterStatistics, LocalLimiter, VeoClient, VideoRequest
from veo_async.errors import ClientClosedError, TransportError
from veo_async.events import Event, SubmitStarted
from veo_async.prices import SPEC
from veo_async.protocol.http import HttpRequest, HttpResponse
from veo_async.runtime import Runtime
from veo_async.settings import MAX_TASKS
from veo_async.simulator.faults import Fault, Faults
from veo_async.simulator.media import render_mp4
from veo_async.simulator.records import Charge, Endpoint, Reply
from veo_async.simulator.service import Service
from veo_async.simulator.settings import Settings
from veo_async.simulator.storage import Verdict, choose

T = TypeVar("T")

# --- the clock


class JumpingSelector(selectors.DefaultSelector):
    """Where a loop waits, and so where time passes: it jumps to the next timer instead.

    Only when nothing else can happen before that timer. Work in threads (the journal, the files)
    takes real time and no virtual time: while there is any, its end is waited for, and timers wait
    as well. Without this every time-out would fire during the first commit.

    Nothing is known of work outside, so there must be none: a socket to another process would be
    jumped over.

    Attributes:
        now: The time, in virtual seconds.
        working: How many calls are under way in threads.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.working = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        # asyncio passes 0 while callbacks are ready, None without a timer, else the seconds to it.
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        if self.working:
            return super().select(None)  # a thread that is done writes to the loop's own pipe
        woken = super().select(0)  # by `call_soon_threadsafe`, before time would have passed
        if not woken:
            self.now += timeout
        return woken


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time."""

    def __init__(self) -> None:
        self._jumping = JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., T], *args: Any
    ) -> "asyncio.Future[T]":
        # `asyncio.to_thread` and aiofiles come through here too. The count goes down in the turn in
        # which the result arrives: whoever waits for it is ready by then, so time stands still.
        future = super().run_in_executor(executor, func, *args)
        self._jumping.working += 1
        future.add_done_callback(self._worked)
        return future

    def _worked(self, _: "asyncio.Future[Any]") -> None:
        self._jumping.working -= 1

    async def shutdown_default_executor(self, *_: float | None) -> None:
        # Its threads are joined by one that nobody counts, so a time-out would be over at once.
        await super().shutdown_default_executor()


# --- the slots, counted from outside


class SlotBook:
    """A limiter that keeps the hours of its slots.

    Slot time is what ten slots have between the first task and `until`. It falls into four:

    - *generating*: from the moment the service accepted a task until the service ended it;
    - *unseen*: from there until a poll saw it and the slot was given back. This delay of detection
      is what polling costs, and no fault of those who submit;
    - *lapsing*: from the end of a task whose answer was lost until its slot lapsed;
    - *idle*: all the rest. For each slot that is the time from the moment the client saw the end of
      its task, or its slot lapsed, until the service accepted the next one.

    Args:
        until: When the books are closed, in virtual seconds.
        slots: How many slots the client is given of the account's ten.

    Attributes:
        until: When the books are closed, in virtual seconds.
        first: When the first task was accepted.
        generating: Seconds, see above.
        unseen: Seconds, see above.
        lapsing: Seconds, see above.
        tasks: How many were accepted before `until`.
        seen: How many ends were seen before `until`.
        gaps: For each task, how long its slot had been free, in seconds.
    """

    def __init__(self, until: float, slots: int = MAX_TASKS) -> None:
        self.until = until
        self.first: float | None = None
        self.generating = self.unseen = self.lapsing = 0.0
        self.tasks = self.seen = 0
        self.gaps: list[float] = []
        self._slots = LocalLimiter(slots)
        self._keys: dict[str, str] = {}
        self._lost: set[str] = set()
        self._open: dict[str, tuple[float, float]] = {}
        self._freed: deque[float] = deque()

    @property
    def total(self) -> float:
        """All slot time, in seconds."""
        return MAX_TASKS * (self.until - (self.first or 0.0))

    @property
    def idle(self) -> float:
        """The part of it that the client let pass, in seconds."""
        return self.total - self.generating - self.unseen - self.lapsing

    def observe(self, event: Event) -> None:
        """Learn which slot a prompt has."""
        if isinstance(event, SubmitStarted):
            self._keys[event.request.prompt] = event.key

    def accepted(self, prompt: str, *, ready: float, now: float, is_lost: bool) -> None:
        """Take note that the service took a task, and when it will end it.

        `is_lost` says that the client will not hear of it, so that its slot can only lapse.
        """
        key = self._keys.pop(prompt)
        self._open[key] = (now, ready)
        if is_lost:
            self._lost.add(key)
        if self.first is None:
            self.first = now
            self._freed.extend([now] * MAX_TASKS)
        if now < self.until:
            self.tasks += 1
            # A slot that lapsed may be taken in the turn in which it lapsed, and told of later.
            self.gaps.append(now - (self._freed.popleft() if self._freed else now))

    def close(self) -> None:
        """Count the slots that are still held."""
        for key in [*self._open]:
            self._ended(key, self.until)

    def _ended(self, key: str, now: float) -> None:
        if key not in self._open:
            return
        began, ready, end = (min(moment, self.until) for moment in (*self._open.pop(key), now))
        self.generating += ready - began
        if key in self._lost:
            self.lapsing += end - ready
        else:
            self.unseen += end - ready
            self.seen += now < self.until
        self._freed.append(end)

    # what the client calls

    async def reserve(self, key: str) -> None:
        await self._slots.reserve(key)

    async def occupy(self, key: str, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        if key in self._lost:
            loop.call_later(seconds, lambda: self._ended(key, loop.time()))
        await self._slots.occupy(key, seconds)

    async def release(self, key: str) -> None:
        self._ended(key, asyncio.get_running_loop().time())
        await self._slots.release(key)

    def statistics(self) -> LimiterStatistics:
        return self._slots.statistics()


# --- the wire


@attrs.define
class Body:
    """An answer whose body takes its time; None among its pieces is a connection that breaks."""

    status: int
    headers: Mapping[str, str]
    _pieces: Iterator[bytes | None]
    _seconds: float
    _transport: "VirtualTransport"

    async def read_into(self, buffer: memoryview) -> int:
        """Put the next bytes at the beginning of a buffer, which holds every piece."""
        for piece in self._pieces:
            await asyncio.sleep(self._seconds)
            self._transport.check()
            if piece is None:
                raise TransportError("the transfer failed: the connection was reset; try again")
            buffer[: len(piece)] = piece
            return len(piece)
        return 0


class VirtualTransport:
    """The transport's port, with the service behind it and no network in between.

    An answer takes 30 to 300 ms, a connection of its own half of that, and a file as long as 3 MB
    take at 1 to 5 MB/s. It is a small file, since filling it up would cost real time only.

    Attributes:
        requests: How many were made.
        api_host: Where they seem to go.
        service: What answers.
        answers: How often which endpoint answered with which code; None is a lost answer.
        refused: How many creates the service itself refused, as there were too many at once.
    """

    def __init__(self, book: SlotBook, *, faults: Iterable[str], seed: int) -> None:
        self.requests = 0
        self.api_host = "127.0.0.1"
        self.service = Service(Settings(credits=10**9, seed=seed))
        self.service.storage.base_url = f"http://{self.api_host}"
        self.answers: Counter[tuple[Endpoint, int | None]] = Counter()
        self.refused = 0
        self._book = book
        self._faults = Faults(map(Fault.parse, faults), seed=seed)
        self._chance = random.Random(seed)
        self._movie = render_mp4(width=64, height=36, seconds=0.5, seed=seed)
        self._is_closed = False

    def movie(self, task_id: str) -> bytes:
        """Return the file that a task makes; no two are equal."""
        name = task_id.encode()
        return self._movie + struct.pack(">I4s", 8 + len(name), b"free") + name

    def check(self) -> None:
        """Refuse to go on once it is closed."""
        if self._is_closed:
            raise ClientClosedError("the client was closed; use a client that is open")

    async def aclose(self) -> None:
        """Close it."""
        self._is_closed = True

    async def call(self, request: HttpRequest) -> HttpResponse:
        """Send a request that may safely be sent twice."""
        self._begin()
        return await self._answered(request, Endpoint.RECORD_INFO)

    async def call_once(
        self, request: HttpRequest, leaving: Callable[[], Coroutine[Any, Any, None]]
    ) -> HttpResponse:
        """Send a paid request, over a connection of its own."""
        self._begin()
        await self._travel()
        await leaving()
        return await self._answered(request, Endpoint.GENERATE)

    @asynccontextmanager
    async def fetch(self, url: str, headers: Mapping[str, str]) -> AsyncGenerator[Body]:
        """Open a file's body."""
        self._begin()
        await self._travel()
        await self._travel()
        yield self._body(url, headers)

    def _begin(self) -> None:
        self.check()
        self.requests += 1

    async def _travel(self) -> None:
        await asyncio.sleep(self._chance.uniform(0.015, 0.15))
        self.check()

    async def _answered(self, request: HttpRequest, endpoint: Endpoint) -> HttpResponse:
        await self._travel()
        reply = self._act(request, endpoint)
        await self._travel()
        self.answers[endpoint, None if reply is None else reply.code] += 1
        if reply is None:
            raise TransportError(
                f"{request.method} {request.path} failed: the connection was reset; try again",
                request_sent=True,
            )
        return HttpResponse(status=reply.http, body=json.dumps(dict(reply.body)).encode())

    def _act(self, request: HttpRequest, endpoint: Endpoint) -> Reply | None:
        """Return what the service answers; None where no answer arrives."""
        prompt = str((request.body or {}).get("prompt", ""))
        fault = self._faults.draw(endpoint, prompt).replacing
        if fault is not None and not fault.takes_effect:
            is_told = fault.kind == "status"
            return self.service.refusal(int(fault.number), "not now") if is_told else None
        now = asyncio.get_running_loop().time()
        if endpoint is Endpoint.RECORD_INFO:
            return self.service.record_info(request.query, now)
        reply = self.service.generate(json.dumps(request.body).encode(), now)
        if reply.task_id is None:
            self.refused += 1
        else:
            work = self.service._works.get(reply.task_id)
            assert work is not None
            ready = work.ready
            self._book.accepted(prompt, ready=ready, now=now, is_lost=fault is not None)
        return None if fault is not None else reply

    def _body(self, url: str, headers: Mapping[str, str]) -> Body:
        path, query = urlsplit(url).path, dict(parse_qsl(urlsplit(url).query))
        file = self.service.storage.get(path)
        verdict = self.service.storage.judge(path, query, asyncio.get_running_loop().time())
        if file is None or verdict is not Verdict.GOOD:
            return Body(403, CIMultiDict(), iter(()), 0.0, self)
        movie, etag = self.movie(file.task_id), f'"{file.task_id}"'
        part = choose(headers, size=len(movie), etag=etag, last_modified="")
        told = {
            "Content-Type": "video/mp4",
            "Content-Length": str(part.stop - part.start),
            "Content-Range": f"bytes {part.start}-{part.stop - 1}/{len(movie)}",
            "ETag": etag,
        }
        middle = (part.start + part.stop) // 2
        pieces: list[bytes | None] = [movie[part.start : middle], movie[middle : part.stop]]
        if "cut_at" in self._faults.draw(Endpoint.VIDEO, file.prompt):
            pieces[1] = None
        seconds = 3e6 / self._chance.uniform(1e6, 5e6) / len(pieces)
        return Body(part.status, CIMultiDict(told), iter(pieces), seconds, self)


# --- the run

FAULTS = (
    "generate:status=429:every=50",
    "generate:lose_answer:match=(unheard of)",
    "record-info:status=500:every=40",
    "record-info:reset_before:every=90",
    "video:cut_at=1:every=30",
)


def prompts() -> Iterator[VideoRequest]:
    """Yield prompts without end: three for the slow model to one for the fast; a few fail."""
    for number in itertools.count(1):
        words = (
            f"Take {number}: a paper boat drifts down a rain gutter, slow dolly shot, warm light"
        )
        words += " [fail]" * (number % 40 == 7) + " (unheard of)" * (number % 500 == 250)
        yield VideoRequest(words, model="veo3_fast" if number % 4 == 0 else "veo3")


@attrs.frozen(kw_only=True)
class Day:
    """What came of a run.

    Attributes:
        folder: Where the files and the journal are.
        report: What the batch says of itself.
        charges: What the service says that it was paid for.
        book: The hours of the slots.
        transport: The wire.
    """

    folder: Path
    report: BatchReport
    charges: tuple[Charge, ...]
    book: SlotBook
    transport: VirtualTransport


def run_a_day(
    folder: Path,
    *,
    hours: float,
    seed: int = 1,
    slots: int = MAX_TASKS,
    faults: Iterable[str] = FAULTS,
    at: Mapping[float, Callable[[], None]] | None = None,
) -> Day:
    """Run a batch of prompts without end for so many virtual hours, and bring home what is paid.

    Args:
        folder: Where the files and the journal go; a RAM disk is faster.
        hours: Virtual hours until the batch is stopped.
        seed: Decides every draw.
        slots: How many tasks the client believes it may run.
        faults: What goes wrong, in the simulator's text form: a `status` anywhere, answers of
            creates that are lost, polls that are reset, files that are cut.
        at: What is called at which hour.
    """
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(
            _a_day(
                folder,
                SlotBook(hours * 3600.0, slots),
                seed=seed,
                faults=faults,
                at=at or {},
            )
        )


async def _a_day(
    folder: Path,
    book: SlotBook,
    *,
    seed: int,
    faults: Iterable[str],
    at: Mapping[float, Callable[[], None]],
) -> Day:
    loop = asyncio.get_running_loop()
    transport = VirtualTransport(book, faults=faults, seed=seed)
    veo = VeoClient(
        "virtual-key",
        base_url=f"http://{transport.api_host}",
        limiter=book,
        on_event=book.observe,
    )
    veo._engine.runtime = Runtime.start(
        veo._engine.settings, transport=transport, chance=random.Random(seed).random
    )
    async with veo, veo.batch(prompts(), directory=folder, prices=SPEC) as batch:
        loop.call_at(book.until, batch.stop)
        for hour, call in at.items():
            loop.call_at(hour * 3600.0, call)
        async for _ in batch:
            pass
    book.close()
    transport.service.settle(loop.time())
    return Day(
        folder=folder,
        report=batch.report,
        charges=transport.service.charges,
        book=book,
        transport=transport,
    )
