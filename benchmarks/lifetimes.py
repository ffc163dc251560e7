"""What a client's life leaves behind, what it costs, and what it costs to be watched."""

import asyncio
import gc
import logging
import statistics
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider

from benchmarks import measuring, results
from benchmarks.results import Bound, Results, Table
from veo_async import OpenTelemetryObserver, PollPolicy, Timeouts, VeoClient
from veo_async.events import Event, Observer
from veo_async.simulator import Simulator

FIRST = 50
CYCLES = 1_000
REQUESTS = 3_000
ROUNDS = 5
CLOSE = (1.0, 3.0, 10.0)
RESIDENT = "resident memory, the simulator's books included, MB"


@attrs.frozen
class Sizes:
    """What a process holds at one moment."""

    descriptors: int
    threads: int
    tasks: int
    clients: int
    resident: float  # MB

    @classmethod
    def now(cls, clients: "weakref.WeakSet[VeoClient]") -> "Sizes":
        gc.collect()
        return cls(
            descriptors=len(list(Path("/proc/self/fd").iterdir())),
            threads=threading.active_count(),
            tasks=len(asyncio.all_tasks()),
            clients=len(clients),
            resident=round(measuring.rss(), 1),
        )


Found = tuple[list[Table], list[Bound]]


async def cycles(sim: Simulator) -> Found:
    """Open a client, submit once, close it, a thousand times."""
    clients: weakref.WeakSet[VeoClient] = weakref.WeakSet()
    closing: list[float] = []

    async def one() -> float:
        began = time.perf_counter()
        settings: dict[str, Any] = {"base_url": sim.base_url, "pace": None, "max_tasks": 10**6}
        async with VeoClient(sim.api_key, **settings) as veo:
            clients.add(veo)
            await veo.submit("a prompt")
            closes = time.perf_counter()
        ended = time.perf_counter()
        closing.append(ended - closes)
        return ended - began

    for _ in range(FIRST):
        await one()
    before = Sizes.now(clients)
    closing.clear()
    took = [await one() for _ in range(CYCLES)]
    await asyncio.sleep(0.2)
    after = Sizes.now(clients)
    names = [
        (field.name, field.name.replace("resident", RESIDENT)) for field in attrs.fields(Sizes)
    ]
    held = [
        (name, f"{getattr(before, field):,}", f"{getattr(after, field):,}") for field, name in names
    ]
    times = [
        (name, *(f"{1e3 * figure:.2f}" for figure in (statistics.median(each), late(each))))
        for name, each in {"a whole life": took, "`aclose()` of it": closing}.items()
    ]
    head = ("held by the process", f"after {FIRST:,}", f"after {FIRST + CYCLES:,}")
    bounds = [
        Bound(f"{name} left by {CYCLES:,} clients", getattr(after, name) - getattr(before, name), 0)
        for name in ("descriptors", "threads", "tasks", "clients")
    ]
    return [Table(head, held), Table(("ms", "median", "p99"), times)], bounds


def late(times: Sequence[float]) -> float:
    """Return the 99th percentile."""
    return measuring.percentile(times, 0.99)


async def watched(sim: Simulator) -> Found:
    """Measure the CPU of the client's thread per API call, for each kind of observer."""
    events: list[Event] = []

    def telemetry() -> Observer:
        return OpenTelemetryObserver(
            tracer_provider=TracerProvider(shutdown_on_exit=False),
            meter_provider=MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False),
        )

    kinds: dict[str, Callable[[], Observer | None]] = {
        "nobody": lambda: None,
        "a list": lambda: events.append,
        "`OpenTelemetryObserver`": telemetry,
    }
    costs: dict[str, list[float]] = {name: [] for name in kinds}
    for number in range(ROUNDS + 1):
        for name, make in kinds.items():
            async with VeoClient(sim.api_key, base_url=sim.base_url, on_event=make()) as veo:
                task = await veo.submit("a prompt")
                began = time.thread_time()
                for _ in range(REQUESTS // ROUNDS):
                    await veo.status(task)
                cost = 1e6 * (time.thread_time() - began) / (REQUESTS // ROUNDS)
            events.clear()
            if number:  # the first one warms up
                costs[name].append(cost)
    rows = [
        (name, f"{min(each):.0f}", measuring.spread(each, ".0f")) for name, each in costs.items()
    ]
    head = ("who listens", "µs of CPU per API call, best round", f"median of {ROUNDS}")
    return [Table(head, rows)], []


async def hung(sim: Simulator) -> Found:
    """Close a client amid ten submits that are never answered."""
    sim.add_fault("generate:hang")
    rows: list[tuple[str, str]] = []
    for close in CLOSE:
        veo = VeoClient(
            sim.api_key,
            base_url=sim.base_url,
            poll=PollPolicy(interval=0.05),
            timeouts=Timeouts(close=close),
            pace=None,
        )
        posts = len(sim.ledger.posts)
        loop = asyncio.get_running_loop()
        submits = [loop.create_task(veo.submit(f"prompt {n}")) for n in range(10)]
        while len(sim.ledger.posts) < posts + 10:  # noqa: ASYNC110  # it is another thread's
            await asyncio.sleep(0.01)
        began = time.perf_counter()
        await veo.aclose()
        rows.append((f"{close:g} s", f"{time.perf_counter() - began:.2f} s"))
        for submit in submits:
            submit.exception()
    head = ("ten submits without an answer, `Timeouts(close=…)`", "`aclose()` takes")
    return [Table(head, rows)], []


def measure() -> Results:
    """Measure one after the other, beside a simulator in a thread."""
    logging.getLogger("veo_async").setLevel(logging.ERROR)
    options: dict[str, Any] = {
        "time_scale": 100,
        "generation_seconds": 10**6,
        "max_tasks": 10**6,
        "create_rate": None,
        "credits": 10**9,
    }
    tables: list[Table] = []
    bounds: list[Bound] = []
    with Simulator(**options) as sim:
        for part in (cycles, watched, hung):
            more, promised = asyncio.run(part(sim))
            tables += more
            bounds += promised
    return Results(
        title="Lifetimes",
        text=(
            f"{CYCLES:,} times a client is opened, pays for a task and is closed, beside a"
            " simulator in another thread of the process: the memory includes its books of these"
            f" tasks. CPU of an API call is the client's thread alone, of {REQUESTS:,} calls for"
            " each kind of observer, which take turns."
        ),
        tables=tables,
        bounds=bounds,
    )


if __name__ == "__main__":
    results.run(measure)
