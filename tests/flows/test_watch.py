"""A task is watched until it ends; nothing that goes wrong on the way loses it."""

import asyncio
from datetime import UTC

import pytest
from aiohttp import web

from tests.flows.batches import LONG, service
from veo_async import (
    AuthenticationError,
    FileLimiter,
    NotFoundError,
    PollPolicy,
    RetryPolicy,
    RetryScheduled,
    TaskFailedError,
    TaskStatus,
    TaskTimeoutError,
    TaskUpdated,
    Timeouts,
    UnexpectedResponseError,
    VeoClient,
)

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("dialect", ["spec", "live"])
@pytest.mark.parametrize("running_as", ["status", "code"])
async def test_a_task_yields_every_change_and_then_its_video(world, dialect, running_as):
    async with world(sim={"dialect": dialect, "running_as": running_as}) as w:
        task = await w.veo.submit("a prompt", seed=12345)
        assert not task.done
        seen = [record.status async for record in task.updates()]
        assert seen[-1] is TaskStatus.SUCCESS
        assert set(seen[:-1]) <= {TaskStatus.GENERATING}
        assert task.done
        video = await task
        assert video == await task.wait() == await w.veo.task(task.id)
        assert video.url.startswith("http://127.0.0.1:")
        assert video.seed == 12345
        assert video.created_at is not None
        assert video.created_at.tzinfo is UTC
        assert video.completed_at is not None
        assert video.completed_at > video.created_at
        assert task.record is not None
        assert task.record.video_url == video.url


async def test_all_who_wait_share_one_polling(world):
    async with world() as w:
        task = await w.veo.submit("a prompt")
        same = w.veo.task(task.id)
        async with asyncio.TaskGroup() as group:
            waits = [group.create_task(one.wait()) for one in (task, same) for _ in range(20)]
        assert len({wait.result() for wait in waits}) == 1
        polls = w.sim.ledger.requests["record-info"]
        assert polls == w.veo.statistics().requests - 1
        changes = [event for event in w.events if isinstance(event, TaskUpdated)]
        assert len(changes) <= 2


async def test_two_readers_of_updates_see_the_same(world):
    async with world(poll=PollPolicy(interval=0.05, first=0)) as w:
        task = await w.veo.submit("a prompt")

        async def read() -> list[TaskStatus]:
            return [record.status async for record in task.updates()]

        async with asyncio.TaskGroup() as group:
            first, second = group.create_task(read()), group.create_task(read())
        assert first.result() == second.result() == [TaskStatus.GENERATING, TaskStatus.SUCCESS]
        assert await read() == [TaskStatus.SUCCESS]


async def test_a_task_of_an_earlier_process_is_attached_by_its_id(world):
    async with world() as w:
        task_id = (await w.veo.submit("a prompt")).id
        async with VeoClient(
            w.sim.api_key, base_url=w.sim.base_url, poll=PollPolicy(interval=0.05)
        ) as later:
            task = later.task(task_id)
            assert task.request is None
            waiting = asyncio.create_task(task.wait())
            await task.updates().__anext__()
            assert later.statistics().slots_in_use == 1, "it occupies a slot of the account"
            assert (await waiting).task_id == task_id
            assert later.statistics().slots_in_use == 0


@pytest.mark.parametrize(
    "fault",
    [
        "record-info:status=500",
        "record-info:status=502",
        "record-info:status=429",
        "record-info:status=455",
        "record-info:status=408",
        "record-info:status=401",
        "record-info:status=404",
        "record-info:unknown",
        "record-info:html",
        "record-info:html=503",
        "record-info:garbage",
        "record-info:empty",
        "record-info:truncated_json",
        "record-info:deep",
        "record-info:bomb=4000000",
        "record-info:lose_answer",
        "record-info:reset_before",
        "record-info:hang",
        "record-info:redirect=http://127.0.0.1:9/",
    ],
)
@pytest.mark.parametrize("dialect", ["spec", "live"])
async def test_bad_polls_only_delay_the_next_one(world, fault, dialect):
    options = {"dialect": dialect, "faults": [fault + ":times=3"]}
    async with world(sim=options, timeouts=Timeouts(response=0.2)) as w:
        task = await w.veo.submit("a prompt")
        assert (await task).task_id == w.sim.ledger[0].task_id
        assert w.veo.statistics().slots_in_use == 0


async def test_a_flood_of_failing_polls_does_not_lose_the_task(world):
    async with world(sim={"faults": ["record-info:status=500:times=40"]}) as w:
        await w.veo.generate("a prompt")
        retries = [event for event in w.events if isinstance(event, RetryScheduled)]
        assert len(retries) == 40
        assert {event.call for event in retries} == {"record-info"}


async def test_a_refusal_is_believed_when_it_repeats_and_the_slot_stays_occupied(world):
    async with world(sim={"faults": ["record-info:status=401"]}) as w:
        task = await w.veo.submit("a prompt")
        with pytest.raises(AuthenticationError):
            await task
        assert w.veo.statistics().slots_in_use == 1, "the task still runs at the service"
        assert w.sim.ledger.requests["record-info"] == RetryPolicy().attempts


async def test_an_id_that_the_service_does_not_know(world):
    async with world() as w:
        with pytest.raises(NotFoundError) as caught:
            await w.veo.status("veo_task_nobody")
        assert caught.value.task_id == "veo_task_nobody"
        with pytest.raises(NotFoundError):
            await w.veo.task("veo_task_nobody")
        assert w.veo.statistics().slots_in_use == 0


async def test_a_fresh_id_may_be_unknown_for_a_while(world):
    async with world(sim={"faults": ["record-info:status=404:times=12"]}) as w:
        await w.veo.generate("a prompt")


@pytest.mark.parametrize("dialect", ["spec", "live"])
@pytest.mark.parametrize(
    ("prompt", "is_retryable"), [("[policy] x", False), ("[error] x", True), ("[timeout] x", True)]
)
async def test_a_failed_task_says_why_and_what_to_do(world, dialect, prompt, is_retryable):
    async with world(sim={"dialect": dialect}) as w:
        task = await w.veo.submit(prompt)
        with pytest.raises(TaskFailedError) as caught:
            await task
        assert caught.value.task_id == task.id
        records = [record.status async for record in task.updates()]
        assert records == [TaskStatus.FAILED]
        assert w.veo.statistics().slots_in_use == 0
        if dialect == "live":
            assert caught.value.is_retryable is is_retryable
            assert caught.value.code is not None
            assert caught.value.reason.rstrip(".") in str(caught.value)


@pytest.mark.parametrize("failure_in", ["record", "envelope"])
async def test_a_refusal_in_the_envelope_is_a_failure_and_not_still_generating(world, failure_in):
    async with world(sim={"dialect": "live", "failure_in": failure_in}) as w:
        with pytest.raises(TaskFailedError) as caught:
            await w.veo.generate("[policy] x")
        assert caught.value.code == 400
        assert "flagged" in caught.value.reason


async def test_leaving_a_wait_changes_nothing(world):
    async with world() as w:
        task = await w.veo.submit("a prompt")
        with pytest.raises(TaskTimeoutError) as caught:
            await task.wait(timeout=0.05)
        assert caught.value.task_id == task.id
        assert w.veo.statistics().slots_in_use == 1
        waiting = asyncio.create_task(task.wait())
        await asyncio.sleep(0.05)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert w.veo.statistics().slots_in_use == 1
        assert (await task).task_id == task.id


async def test_a_task_is_given_up_at_its_longest_plausible_age(world):
    async with world(timeouts=Timeouts(task=0.4), max_tasks=1) as w:
        task = await w.veo.submit("[stuck] x")
        next_one = asyncio.create_task(w.veo.submit("next"))
        with pytest.raises(TaskTimeoutError):
            await task
        with pytest.raises(TaskTimeoutError):
            async for _ in task.updates():
                pass
        await next_one


async def test_attached_tasks_that_ended_hold_no_slot(world):
    async with world() as w:
        video = await w.veo.generate("a prompt")
        async with VeoClient(w.sim.api_key, base_url=w.sim.base_url) as later:
            assert (await later.task(video.task_id)).task_id == video.task_id
            assert later.statistics().slots_in_use == 0


async def test_status_is_one_question_repeated_only_after_failures_that_may_pass(world):
    poll = PollPolicy(interval=0.05, first=60)  # so that only `status` asks
    async with world(poll=poll) as w:
        task = await w.veo.submit("a prompt")
        async with VeoClient(
            w.sim.api_key, base_url=w.sim.base_url, retry=w.veo._engine.settings.retry
        ) as other:
            assert (await other.status(task)).status is TaskStatus.GENERATING
            assert other.statistics().requests == 1
            w.sim.add_fault("record-info:status=500:times=2")
            await other.status(task.id)
            assert other.statistics().requests == 4
            w.sim.add_fault("record-info:html=403")
            with pytest.raises(UnexpectedResponseError):
                await other.status(task.id)


async def test_a_success_without_a_link_is_asked_for_again_and_then_said():
    # No fault of the simulator: it never forgets a link, so a server of this test does.
    asked = 0

    async def answer(request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        data = {"taskId": request.query["taskId"], "status": 1, "videoUrl": None}
        if asked == links_from:
            data["videoUrl"] = "http://127.0.0.1:9/video.mp4"
        return web.json_response({"code": 200, "msg": "success", "data": data})

    app = web.Application()
    app.router.add_get("/api/v1/veo/record-info", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    poll = PollPolicy(interval=0.02)
    try:
        async with VeoClient("key", base_url=site.name, poll=poll) as veo:
            links_from = 0
            with pytest.raises(UnexpectedResponseError, match="no link"):
                await veo.task("blank")
            assert asked == RetryPolicy().attempts
            links_from = asked + 3
            assert (await veo.task("late")).url == "http://127.0.0.1:9/video.mp4"
    finally:
        await runner.cleanup()


async def test_a_link_is_renewed_although_the_service_hesitates(world, tmp_path):
    async with world() as w:
        video = await w.veo.generate("a prompt")
        w.sim.advance(21 * 60)
        w.sim.add_fault("record-info:status=400:times=2:text=Processing")
        saved = await w.veo.download(video, tmp_path / "late.mp4")
        assert saved.path.stat().st_size == saved.size


async def test_a_task_that_was_given_up_can_be_attached_again(world):
    async with world(timeouts=Timeouts(task=0.3)) as w:
        task = await w.veo.submit("a prompt that takes its time [stuck]")
        with pytest.raises(TaskTimeoutError):
            await task
        again = w.veo.task(task.id)
        assert again == task
        assert not again.done
        with pytest.raises(TaskTimeoutError):
            await again
        assert w.veo.statistics().slots_in_use == 0


async def test_a_task_that_was_refused_for_a_while_is_found_again_and_holds_one_slot(world):
    async with world(sim={"generation_seconds": 60}) as w:
        w.sim.add_fault("record-info:status=401:times=4")
        task = await w.veo.submit("a prompt")
        with pytest.raises(AuthenticationError):
            await task
        again = w.veo.task(task.id)
        waiting = asyncio.create_task(again.wait())
        async for _ in again.updates():
            assert w.veo.statistics().slots_in_use <= 1
        assert (await waiting).task_id == task.id
        assert w.veo.statistics().slots_in_use == 0


async def test_a_fresh_id_has_a_status_although_the_service_does_not_know_it_yet(world):
    async with world() as w:
        task = await w.veo.submit("a prompt")
        w.sim.add_fault("record-info:status=404:times=1")
        assert (await w.veo.status(task.id)).status is TaskStatus.GENERATING


async def test_tasks_are_equal_by_their_id(world):
    async with world() as w:
        task = await w.veo.submit("a prompt")
        assert task in w.veo.tasks
        assert {task, w.veo.task(task.id)} == {task}
        assert task != w.veo.task("another")


async def test_the_window_of_a_link_starts_when_the_link_is_received(world):
    async with world() as w:
        video = await w.veo.generate("a prompt")
        received = asyncio.get_running_loop().time()
        windows = w.veo._engine.runtime.downloader.windows
        assert windows.deadline(video.url, received + 600) <= received + 1200


async def test_a_task_that_is_taken_over_is_polled_though_somebody_holds_a_handle_of_it(
    tmp_path, until
):
    async with service(generation_seconds=LONG) as sim:
        poll = PollPolicy(interval=0.05, first=0.05)
        client = {"api_key": sim.api_key, "base_url": sim.base_url, "poll": poll}
        path = tmp_path / "slots.db"
        async with VeoClient(limiter=FileLimiter(path, lease=2), **client) as other:
            async with VeoClient(limiter=FileLimiter(path, lease=2), **client) as veo:
                task_id = (await veo.submit("a prompt")).id
                handle = other.task(task_id)
            await until(lambda: other.statistics().tasks_watched == 1)
            sim.advance(LONG)
            await until(lambda: handle.done)
            await until(lambda: other.statistics().slots_in_use == 0)
