"""A client and a simulator that run a hundred times faster than life."""

import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest

from veo_async import PollPolicy, RetryPolicy, Timeouts, VeoClient
from veo_async.events import Event
from veo_async.simulator import Simulator

SCALE = 100


@attrs.frozen
class World:
    sim: Simulator
    veo: VeoClient
    events: list[Event]


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder whose path leaves room for the name of a unix socket."""
    with tempfile.TemporaryDirectory(prefix="veo") as folder:
        yield Path(folder)


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], Awaitable[None]]:
    """Wait until something that happens elsewhere has happened."""

    async def wait(condition: Callable[[], bool]) -> None:
        with anyio.fail_after(20):
            while not condition():
                await anyio.sleep(0.005)

    return wait


@pytest.fixture
def world() -> Callable[..., AbstractAsyncContextManager[World]]:
    """Open a simulator and a client of it; `sim=` and further keywords are their settings."""

    @asynccontextmanager
    async def opened(sim: dict[str, Any] | None = None, **settings: Any) -> AsyncGenerator[World]:
        events: list[Event] = []
        options: dict[str, Any] = {
            "poll": PollPolicy(interval=5 / SCALE),
            "retry": RetryPolicy(base=0.01, cap=0.1),
            "timeouts": Timeouts(response=5.0, stall=2.0, close=2.0),
            "pace": (20, 10.0 / SCALE),
            "on_event": events.append,
        } | settings
        simulator = Simulator(
            **({"time_scale": SCALE, "clip": (64, 36), "video_bytes": 0} | (sim or {}))
        )
        async with (
            simulator,
            VeoClient(simulator.api_key, base_url=simulator.base_url, **options) as veo,
        ):
            yield World(simulator, veo, events)

    return opened
