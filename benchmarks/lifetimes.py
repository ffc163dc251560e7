"""What a client's life leaves behind, what it costs, and what it costs to be watched."""

import asyncio
import gc
import logging
import resource
import threading
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider

from veo_async import OpenTelemetryObserver, PollPolicy, Timeouts, VeoClient
from veo_async.events import Event, Observer
from veo_async.simulator import Simulator

if TYPE_CHECKING:
    from collections.abc import Callable

CYCLES = 1_000
REQUESTS = 3_000
ROUNDS = 5


@attrs.frozen
class Sizes:
    """What a process holds at one moment."""

    descriptors: int
    threads: int
    tasks: int
    clients: int
    resident: int  # KiB, with the books of the simulator

    @classmethod
    def now(cls, clients: "weakref.WeakSet[VeoClient]") -> "Sizes":
        gc.collect()
        resident = int(Path("/proc/self/statm").read_text().split()[1])
        return cls(
            descriptors=len(list(Path("/proc/self/fd").iterdir())),
            threads=threading.active_count(),
            tasks=len(asyncio.all_tasks()),
            clients=len(clients),
            resident=resident * resource.getpagesize() // 1024,
        )


async def cycles(sim: Simulator) -> None:
    """Open a client, submit once, close it, a thousand times."""
    clients: weakref.WeakSet[VeoClient] = weakref.WeakSet()
    settings = {"base_url": sim.base_url, "pace": None, "max_tasks": 10**6}

    async def one() -> float:
        began = time.perf_counter()
        async with VeoClient(sim.api_key, **settings) as veo:
            clients.add(veo)
            await veo.submit("a prompt")
            closing = time.perf_counter()
        ended.append(time.perf_counter() - closing)
        return time.perf_counter() - began

    ended: list[float] = []
    for _ in range(50):
        await one()
    before = Sizes.now(clients)
    took = sorted([await one() for _ in range(CYCLES)])
    await asyncio.sleep(0.2)
    after = Sizes.now(clients)
    print(f"\n{CYCLES:,} times opened, one paid submit, closed, beside a simulator in a thread")
    print("| held by the process | after 50 | after 1,050 |\n|---|---|---|")
    for field in attrs.fields(Sizes):
        name = field.name + (" memory, KiB" if field.name == "resident" else "")
        print(f"| {name} | {getattr(before, field.name):,} | {getattr(after, field.name):,} |")
    ended.sort()
    print(
        f"\none cycle: median {1e3 * took[CYCLES // 2]:.1f} ms,"
        f" 99 % {1e3 * took[-CYCLES // 100]:.1f} ms;"
        f" closing: median {1e3 * ended[len(ended) // 2]:.2f} ms"
    )


async def watched(sim: Simulator) -> None:
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
        "OpenTelemetryObserver": telemetry,
    }
    costs: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(ROUNDS):
        for name, make in kinds.items():
            async with VeoClient(sim.api_key, base_url=sim.base_url, on_event=make()) as veo:
                task = await veo.submit("a prompt")
                began = time.thread_time()
                for _ in range(REQUESTS // ROUNDS):
                    await veo.status(task)
                costs[name].append(time.thread_time() - began)
            events.clear()
    print("\n| who listens | CPU per API call, µs, best of five rounds |\n|---|---|")
    for name, rounds in costs.items():
        print(f"| {name} | {1e6 * min(rounds) / (REQUESTS // ROUNDS):.0f} |")


async def hung(sim: Simulator) -> None:
    """Close a client amid ten submits that are never answered."""
    sim.add_fault("generate:hang")
    print("\n| ten submits without an answer, `Timeouts.close` | aclose() took |\n|---|---|")
    for close in (1.0, 3.0, 10.0):
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
        print(f"| {close:g} s | {time.perf_counter() - began:.2f} s |")
        for submit in submits:
            submit.exception()


def main() -> None:
    """Print the figures."""
    logging.getLogger("veo_async").setLevel(logging.ERROR)
    options = {"generation_seconds": 10**6, "max_tasks": 10**6, "create_rate": None}
    with Simulator(time_scale=100, credits=10**9, **options) as sim:
        asyncio.run(cycles(sim))
        asyncio.run(watched(sim))
        asyncio.run(hung(sim))


if __name__ == "__main__":
    main()
