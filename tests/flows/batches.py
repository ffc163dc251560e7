"""A service that is a thousand times faster than life, and runs of a batch against it."""

from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import attrs
import pytest

from veo_async import (
    BatchItem,
    Outcome,
    PollPolicy,
    RetryPolicy,
    SubmitsPaused,
    SubmitsResumed,
    Timeouts,
    VeoClient,
)
from veo_async.batch import Batch
from veo_async.database import JOURNAL_NAME
from veo_async.events import Event
from veo_async.jobs import Job
from veo_async.journal_file import Charges, read_journal
from veo_async.simulator import Simulator

LONG = 10**5  # service seconds: a task that does not end while a test looks


def service(**options: Any) -> Simulator:
    """Return a simulator whose tasks take a tenth of a second."""
    usual: dict[str, Any] = {
        "time_scale": 1000,
        "clip": (64, 36),
        "video_bytes": 0,
        "create_rate": None,
        "generation_seconds": 100,
        "credits": 10**6,
    }
    return Simulator(**(usual | options))


def client_of(sim: Simulator, **settings: Any) -> VeoClient:
    """Return a client that keeps up with it."""
    usual: dict[str, Any] = {
        "base_url": sim.base_url,
        "poll": PollPolicy(interval=0.03, first=0.1),
        "retry": RetryPolicy(base=0.005, cap=0.05),
        "timeouts": Timeouts(response=5.0, stall=2.0, close=2.0),
        "pace": None,
    }
    return VeoClient(sim.api_key, **(usual | settings))


@attrs.define
class Run:
    """One run of a batch, as a process would make it: with a client of its own.

    Attributes:
        sim: The service.
        veo: The client.
        batch: The batch.
        events: What the client told.
    """

    sim: Simulator
    veo: VeoClient
    batch: Batch
    events: list[Event]

    def count(self, kind: type) -> int:
        """Return how many events of a kind there were."""
        return sum(isinstance(event, kind) for event in self.events)

    def texts(self, kind: type[SubmitsPaused] | type[SubmitsResumed]) -> list[str]:
        """Return the reasons of the pauses that began, or of those that are over."""
        return [event.reason for event in self.events if isinstance(event, kind)]


@asynccontextmanager
async def running(
    sim: Simulator,
    requests: Any,
    folder: Path,
    *,
    client: dict[str, Any] | None = None,
    **options: Any,
) -> AsyncGenerator[Run]:
    """Run a batch with a client of its own while inside."""
    events: list[Event] = []
    async with client_of(sim, **({"on_event": events.append} | (client or {}))) as veo:
        batch = veo.batch(requests, directory=folder, **options)
        async with batch:
            yield Run(sim, veo, batch, events)


@attrs.frozen
class Done:
    """A run that has ended.

    Attributes:
        items: What came out, in that order.
        run: The run.
    """

    items: list[BatchItem]
    run: Run

    @property
    def outcomes(self) -> dict[str, int]:
        """How many items had which outcome."""
        return {**Counter(str(item.outcome) for item in self.items)}

    def __iter__(self) -> Iterator[BatchItem]:
        return iter(self.items)

    def of(self, prompt: str) -> BatchItem:
        """Return the item of a prompt."""
        (found,) = (
            item
            for item in self.items
            if item.request is not None and item.request.prompt == prompt
        )
        return found


async def ran(
    sim: Simulator,
    requests: Any,
    folder: Path,
    *,
    client: dict[str, Any] | None = None,
    **options: Any,
) -> Done:
    """Run a batch to its end."""
    async with running(sim, requests, folder, client=client, **options) as run:
        items = [item async for item in run.batch]
    assert run.batch.report.total == len(items)
    assert {**run.batch.report.counts} == Counter(
        {outcome: sum(item.outcome is outcome for item in items) for outcome in Outcome}
    )
    return Done(items, run)


async def broken(
    sim: Simulator,
    requests: Any,
    folder: Path,
    kind: type[BaseException],
    *,
    client: dict[str, Any] | None = None,
    **options: Any,
) -> tuple[Done, BaseException]:
    """Run a batch until it raises, and return what came before and the error."""
    items: list[BatchItem] = []
    run: Run | None = None
    try:
        async with running(sim, requests, folder, client=client, **options) as run:
            async for item in run.batch:
                items.append(item)  # noqa: PERF401  # they must survive the error
    except kind as error:
        assert run is not None, "it began"
        return Done(items, run), error
    pytest.fail(f"it did not raise {kind.__name__}")


def prompts(count: int) -> list[str]:
    return [f"boat {number}" for number in range(1, count + 1)]


def jobs(folder: Path) -> dict[str, Job]:
    """Return what the journal of a folder says, by key."""
    with closing(read_journal(folder / JOURNAL_NAME, folder)) as journal:
        return {job.key: job for job in journal.jobs()}


def charges(folder: Path) -> Charges:
    """Return what the journal of a folder has added up."""
    with closing(read_journal(folder / JOURNAL_NAME, folder)) as journal:
        return journal.charges()


def videos(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.mp4"))


def paid_once(sim: Simulator, wanted: Iterable[str]) -> None:
    """Judge by the service's books: one charge per prompt, and never more than ten at once."""
    paid = Counter(charge.prompt for charge in sim.ledger if not charge.refunded)
    assert paid == Counter(wanted)
    assert sim.ledger.peak_running <= 10


class Counted:
    """An input that counts how much of it was pulled."""

    def __init__(self, sources: Iterable[Any], on_pull: Callable[[int], None] = bool) -> None:
        self.pulled: int = 0
        self._sources = sources
        self._on_pull = on_pull

    def __iter__(self) -> Iterator[Any]:
        for source in self._sources:
            self.pulled += 1
            self._on_pull(self.pulled)
            yield source

    async def __aiter__(self) -> AsyncGenerator[Any]:
        for source in self:
            yield source
