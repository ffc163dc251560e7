"""How a client finds the task of a lost answer, in virtual time."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

import attrs

from tests.flows.virtual_time import VirtualLoop
from veo_async import RetryPolicy, Timeouts, VeoError
from veo_async.errors import ServerError
from veo_async.events import Emitter
from veo_async.hearing import Hearing
from veo_async.limits import LocalLimiter
from veo_async.models import TaskRecord

if TYPE_CHECKING:
    from veo_async.api import Api
    from veo_async.task import Watcher

T = TypeVar("T")
RECORD = cast("TaskRecord", object())


@attrs.define
class Service:
    """The endpoints: it says nothing but errors, or nothing but the record."""

    is_failing: bool = False
    asked: list[str] = attrs.field(factory=list[str])

    async def record_info(self, task_id: str) -> TaskRecord:
        self.asked.append(task_id)
        if self.is_failing:
            raise ServerError("away", code=503, http_status=503, message="away")
        return RECORD

    def wait_after(self, name: str, task_id: str | None, failures: int, error: VeoError) -> float:
        return 1.0


class NoTasks:
    """A watcher of no task."""

    def find(self, task_id: str) -> None:
        return None


@attrs.define
class Kept:
    """What an inbox holds from some second on."""

    since: float
    looks: int = 0

    async def __call__(self, token: str) -> Sequence[str]:
        self.looks += 1
        return ["task"] if asyncio.get_running_loop().time() >= self.since else []


async def revealed(service: Service, kept: Kept, seconds: float) -> tuple[TaskRecord | None, float]:
    """Return what was found, and after how many seconds."""
    hearing = Hearing(
        cast("Api", service),
        cast("Watcher", NoTasks()),
        limiter=LocalLimiter(),
        policy=RetryPolicy(),
        timeouts=Timeouts(),
        emitter=Emitter(),
        verifier=b"v" * 32,
        kept=kept,
    )
    async with asyncio.timeout(3000):
        found = await hearing.reveal("token", None, seconds=seconds)
    return found, asyncio.get_running_loop().time()


def run(main: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


def test_a_service_that_fails_is_not_asked_for_ever() -> None:
    service = Service(is_failing=True)
    found, seconds = run(revealed(service, Kept(0.0), 0.0))
    assert found is None
    assert 60 <= seconds <= 120
    assert 10 <= len(service.asked) <= 25
    found, seconds = run(revealed(service, Kept(0.0), 1000.0))
    assert found is None
    assert 900 <= seconds <= 1000, "as long as a callback is waited for"


def test_a_callback_that_only_the_inbox_heard_of_is_found() -> None:
    service = Service()
    found, seconds = run(revealed(service, Kept(100.0), 1000.0))
    assert found is RECORD
    assert 100 <= seconds <= 116
    assert service.asked == ["task"]


def test_the_inbox_is_looked_into_once_more_at_the_end() -> None:
    found, seconds = run(revealed(Service(), Kept(20.0), 20.0))
    assert found is RECORD
    assert seconds < 21
    kept = Kept(30.0)
    assert run(revealed(Service(), kept, 20.0)) == (None, 20.0)
    assert kept.looks <= 5
