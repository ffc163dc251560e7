"""The one stream of events: every step of the work is on it, and listening costs nothing."""

import asyncio
import threading

import aiohttp
import pytest

from veo_async import (
    ClientClosed,
    ClientStarted,
    ConfigurationError,
    DownloadError,
    DownloadFailed,
    DownloadFinished,
    DownloadProgress,
    DownloadStarted,
    LimiterError,
    LimiterLost,
    LimiterRestored,
    LocalLimiter,
    NotFoundError,
    RequestFinished,
    SubmitFailed,
    SubmitQueued,
    SubmitStarted,
    SubmitUncertainError,
    SubmitWithdrawn,
    TaskEnded,
    TaskFailedError,
    TaskStatus,
    TaskSubmitted,
    TaskTimeoutError,
    TaskUpdated,
    Timeouts,
    VeoClient,
    VideoRequest,
)
from veo_async.cli.board import Board

pytestmark = pytest.mark.anyio

SLOW = {"generation_seconds": 10_000}


def kinds(events: list[object]) -> list[type]:
    """Return the types, repeated ones once."""
    found: list[type] = []
    for event in events:
        if type(event) not in found:
            found.append(type(event))
    return found


def only(events: list[object], kind: type) -> list[object]:
    return [event for event in events if isinstance(event, kind)]


async def test_a_video_is_told_from_its_submit_to_its_file(world, tmp_path):
    async with world() as w:
        await w.veo.download(await w.veo.generate("a prompt"), tmp_path / "x.mp4")
    assert kinds(w.events) == [
        ClientStarted,
        SubmitQueued,
        SubmitStarted,
        RequestFinished,
        TaskSubmitted,
        TaskUpdated,
        TaskEnded,
        DownloadStarted,
        DownloadProgress,
        DownloadFinished,
        ClientClosed,
    ]
    (queued,), (submitted,) = only(w.events, SubmitQueued), only(w.events, TaskSubmitted)
    (ended,), (closed,) = only(w.events, TaskEnded), only(w.events, ClientClosed)
    assert queued.key == submitted.key == ended.key
    assert ended.task_id == submitted.task_id
    assert (ended.record.status, ended.error) == (TaskStatus.SUCCESS, None)
    assert ended.seconds > 0
    assert closed.running == ()
    create, *polls = only(w.events, RequestFinished)
    assert (create.method, create.path, create.status) == ("POST", "/api/v1/veo/generate", 200)
    assert (create.key, create.task_id) == (queued.key, None)
    assert {(poll.key, poll.task_id) for poll in polls} == {(None, ended.task_id)}
    assert len({request.request_id for request in (create, *polls)}) == 1 + len(polls)


async def test_a_submit_that_is_withdrawn_says_so(world, until):
    async with world(max_tasks=1, sim=SLOW) as w:
        await w.veo.submit("holds the slot")
        waiting = asyncio.create_task(w.veo.submit("waits"))
        await until(lambda: w.veo.statistics().slots_waiting == 1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        queued, withdrawn = only(w.events, SubmitQueued)[-1], only(w.events, SubmitWithdrawn)
        assert [event.key for event in withdrawn] == [queued.key]
        assert not only(w.events, SubmitFailed)


async def test_a_submit_that_has_its_slot_and_is_withdrawn_by_aclose_says_so(world, until):
    async with world(pace=(1, 1000.0), sim=SLOW) as w:
        await w.veo.submit("passes the gate")
        waiting = asyncio.create_task(w.veo.submit("waits at the gate"))
        await until(lambda: len(only(w.events, SubmitStarted)) == 2)
        await w.veo.aclose()
        with pytest.raises(Exception, match="closed"):
            await waiting
        (withdrawn,) = only(w.events, SubmitWithdrawn)
        assert withdrawn.request.prompt == "waits at the gate"


async def test_every_submit_that_is_queued_has_one_end(world):
    """Whatever becomes of it: taken, refused, lost, withdrawn."""
    faults = ["generate:status=422:match=refused", "generate:lose_answer:match=lost"]
    async with world(max_tasks=3, sim=SLOW | {"faults": faults}) as w:
        words = ["taken 1", "refused", "lost", "taken 2", "waits 1", "waits 2"]
        submits = [asyncio.create_task(w.veo.submit(word)) for word in words]
        await asyncio.wait(submits[:4])
        submits[4].cancel()
        await asyncio.wait(submits[4:5])
        await w.veo.aclose()
        await asyncio.wait(submits)
        for submit in submits:
            submit.cancelled() or submit.exception()
        ends: dict[str, list[str]] = {event.key: [] for event in only(w.events, SubmitQueued)}
        for event in w.events:
            if isinstance(event, SubmitFailed | SubmitWithdrawn | TaskSubmitted):
                ends[event.key].append(type(event).__name__)
        assert len(ends) == len(words)
        assert all(len(names) == 1 for names in ends.values()), ends
        lost = [event for event in only(w.events, SubmitFailed) if event.is_uncertain]
        assert [event.error_type for event in lost] == ["SubmitUncertainError"]


async def test_a_task_that_fails_ends_with_its_record(world):
    async with world() as w:
        with pytest.raises(TaskFailedError):
            await w.veo.generate("a prompt [fail]")
        (ended,) = only(w.events, TaskEnded)
        assert (ended.record.status, ended.error, ended.error_type) == (
            TaskStatus.FAILED,
            None,
            None,
        )


async def test_a_task_that_is_given_up_says_why(world):
    timeouts = Timeouts(response=5.0, task=0.2, close=2.0)
    async with world(sim=SLOW, timeouts=timeouts) as w:
        task = await w.veo.submit("a prompt")
        with pytest.raises(TaskTimeoutError):
            await task
        (ended,) = only(w.events, TaskEnded)
        assert (ended.error_type, ended.task_id) == ("TaskTimeoutError", task.id)


async def test_closing_tells_what_goes_on(world):
    async with world(sim=SLOW) as w:
        task = await w.veo.submit("a prompt")
        await w.veo.aclose()
        assert [event.running for event in only(w.events, ClientClosed)] == [(task.id,)]
        assert [event.error_type for event in only(w.events, TaskEnded)] == ["ClientClosedError"]


async def test_a_download_that_fails_or_is_left_says_so(world, until, tmp_path):
    async with world(sim={"video_bytes": 200_000}) as w:
        video = await w.veo.generate("a prompt")
        w.sim.add_fault("video:status=500")
        with pytest.raises(DownloadError):
            await w.veo.download(video, tmp_path / "x.mp4")
        w.sim.clear_faults()
        w.sim.add_fault("video:stall_at=100000")
        left = asyncio.create_task(w.veo.download(video, tmp_path / "y.mp4"))
        await until(lambda: len(only(w.events, DownloadStarted)) == 2)
        left.cancel()
        with pytest.raises(asyncio.CancelledError):
            await left
        failed = [(event.path.name, event.error_type) for event in only(w.events, DownloadFailed)]
        assert failed == [("x.mp4", "DownloadError"), ("y.mp4", "CancelledError")]


async def test_a_request_without_an_answer_is_told_with_its_error(world):
    async with world(sim=SLOW | {"faults": ["generate:lose_answer"]}) as w:
        with pytest.raises(SubmitUncertainError) as caught:
            await w.veo.submit("a prompt")
        (request,) = only(w.events, RequestFinished)
        assert (request.status, request.error_type) == (None, "TransportError")
        assert caught.value.request_id == request.request_id


async def test_an_error_bears_the_name_of_its_request(world):
    async with world() as w:
        with pytest.raises(NotFoundError) as caught:
            await w.veo.status("nobody")
        (request,) = only(w.events, RequestFinished)
        assert (request.task_id, request.error_type) == ("nobody", "NotFoundError")
        assert caught.value.request_id == request.request_id


class Flaky(LocalLimiter):
    """A limiter whose store is away now and then."""

    is_away = True

    async def reserve(self, key: str) -> None:
        if self.is_away:
            raise ConnectionError("the store is away")
        await super().reserve(key)


async def test_a_limiter_that_is_lost_and_comes_back_is_told_once_each(world):
    limiter = Flaky(10)
    async with world(limiter=limiter) as w:
        for _ in range(3):
            with pytest.raises(LimiterError):
                await w.veo.submit("a prompt")
        limiter.is_away = False
        for _ in range(2):
            await w.veo.submit("a prompt")
        (lost,), (restored,) = only(w.events, LimiterLost), only(w.events, LimiterRestored)
        assert "the store is away" in lost.error
        assert restored.seconds >= 0
        assert len(only(w.events, SubmitFailed)) == 3


async def test_several_observers_hear_everything_whatever_one_of_them_does(world, caplog):
    first, last = [], []

    def broken(event: object) -> None:
        raise RuntimeError("the observer is broken")

    async with world(on_event=[first.append, broken, last.append]) as w:
        await w.veo.generate("a prompt")
    assert first == last != []
    assert "the observer is broken" in caplog.text


@pytest.mark.parametrize("given", [3, "print", [print, 3], {"a": 1}])
def test_what_cannot_listen_is_refused(given):
    with pytest.raises(ConfigurationError, match="on_event"):
        VeoClient("key", on_event=given)


async def test_statistics_of_an_event_may_be_asked_for_in_another_thread(world):
    """Exporters of metrics do that while the loop is at work."""
    failures: list[BaseException] = []
    done = threading.Event()
    async with world(max_tasks=50, pace=None, sim={"max_tasks": 50, "create_rate": None}) as w:
        (started,) = only(w.events, ClientStarted)

        def ask() -> None:
            try:
                while not done.wait(0.0001):
                    started.statistics()
            except BaseException as error:  # noqa: BLE001  # shown below
                failures.append(error)

        thread = threading.Thread(target=ask)
        thread.start()
        async with asyncio.TaskGroup() as group:
            for n in range(40):
                group.create_task(w.veo.generate(f"prompt {n}"))
        done.set()
        thread.join()
    assert not failures


async def test_without_an_observer_all_goes_on(world):
    async with world(on_event=None) as w:
        assert not w.veo._engine.settings.emitter.is_heard
        await w.veo.generate("a prompt")


async def test_the_id_that_a_gateway_gives_is_told(world):
    async def answer(request: aiohttp.web.Request) -> aiohttp.web.Response:
        headers = {"X-Request-Id": "gateway-17"}
        return aiohttp.web.json_response({"code": 404, "msg": "no"}, headers=headers)

    app = aiohttp.web.Application()
    app.router.add_route("*", "/{tail:.*}", answer)
    runner = aiohttp.web.AppRunner(app)
    await runner.setup()
    site = aiohttp.web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    events: list[object] = []
    async with VeoClient("key", base_url=site.name, on_event=events.append) as veo:
        with pytest.raises(NotFoundError):
            await veo.status("some-id")
    await runner.cleanup()
    assert [event.service_id for event in only(events, RequestFinished)] == ["gateway-17"]


@pytest.mark.parametrize("end", ["withdrawn", "failed", "ended"])
def test_a_lane_of_the_board_is_free_when_its_submit_is_over(end):
    request = VideoRequest("a prompt")
    board = Board(title="Making", began=0.0, items=2, slots=1)
    board.take(SubmitStarted(key="k", request=request), 1.0)
    assert len(board.tasks) == 1
    board.take(
        {
            "withdrawn": SubmitWithdrawn(key="k", request=request),
            "failed": SubmitFailed(
                key="k", request=request, error="no", error_type="X", is_uncertain=False
            ),
            "ended": TaskEnded(
                key="k", task_id="t", record=None, error="no", error_type="X", seconds=1.0
            ),
        }[end],
        2.0,
    )
    assert not board.tasks
