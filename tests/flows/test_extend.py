"""Extending a video: paid like any other submit, from a video, a task or an id."""

import asyncio

import anyio
import pytest

from tests.flows.batches import LONG
from veo_async import (
    BudgetExceededError,
    ExtendRequest,
    InsufficientCreditsError,
    InvalidRequestError,
    NotFoundError,
    SubmitStarted,
    SubmitUncertainError,
    TaskFailedError,
    TaskSubmitted,
    TaskTimeoutError,
    Timeouts,
    ValidationError,
)

pytestmark = pytest.mark.anyio
LIVE = {"dialect": "live", "time_scale": 1000, "generation_seconds": 100}


def kinds(sim):
    """Return what was asked for, and of which prompt."""
    return [(post.kind, post.prompt) for post in sim.ledger.posts]


async def test_a_video_a_task_and_an_id_are_extended_in_tasks_of_their_own(world):
    async with world(sim=LIVE) as w:
        base = await w.veo.generate("a boat", aspect_ratio="9:16")
        ids = {base.task_id}
        for what in (base, w.veo.task(base.task_id), base.task_id):
            task = await w.veo.extend(what, "the river")
            video = await task
            assert task.request == ExtendRequest(base.task_id, "the river")
            assert video.task_id == task.id
            assert "_full" in video.url, "the whole film, not its last part"
            assert len(video.urls) == 2
            ids.add(task.id)
        assert len(ids) == 4
        assert kinds(w.sim) == [("generate", "a boat"), *[("extend", "the river")] * 3]
        assert w.sim.ledger.spent == 4 * 60


async def test_an_extension_is_extended_and_comes_home_as_the_whole_film(world, tmp_path):
    async with world(sim=LIVE) as w:
        film = await w.veo.generate("a boat")
        sizes = [(await w.veo.download(film, tmp_path / "0.mp4")).size]
        for n in (1, 2):
            film = await (await w.veo.extend(film, f"part {n}"))
            sizes.append((await w.veo.download(film, tmp_path / f"{n}.mp4")).size)
        assert sizes == sorted({*sizes}), "each is longer than the one before"


async def test_all_fields_of_an_extension_arrive(world):
    async with world(sim=LIVE) as w:
        base = await w.veo.generate("a boat")
        task = await w.veo.extend(
            base,
            "the river",
            model="veo3",
            seed=54321,
            watermark="mine",
            callback_url="https://example.com/hook",
            extra={"more": 1},
        )
        assert isinstance(task.request, ExtendRequest)
        assert task.request.callback_url == "https://example.com/hook"
        assert (await task).seed == 54321
        charge = w.sim.ledger[1]
        assert (charge.kind, charge.credits, charge.prompt) == ("extend", 250, "the river")


async def test_a_task_that_runs_is_waited_for_and_holds_the_only_slot(world):
    async with world(sim=LIVE, max_tasks=1) as w:
        task = await w.veo.submit("a boat")
        extension = await w.veo.extend(task, "the river")
        assert task.done
        await extension
        assert w.sim.ledger.peak_running == 1
        assert len(w.sim.ledger.posts) == 2


async def test_an_id_is_sent_as_it_is_and_not_asked_about_first(world):
    async with world(sim=LIVE | {"generation_seconds": LONG}) as w:
        task = await w.veo.submit("a boat")
        with pytest.raises(ValidationError, match="status is not success"):
            await w.veo.extend(task.id, "the river")
        assert w.veo.statistics().slots_in_use == 1
        assert w.sim.ledger.spent == 60


async def test_the_failure_of_the_task_to_extend_is_raised_and_nothing_is_sent(world):
    async with world(sim=LIVE) as w:
        task = await w.veo.submit("a boat [policy]")
        with pytest.raises(TaskFailedError) as caught:
            await w.veo.extend(task, "the river")
        assert caught.value.task_id == task.id
        assert kinds(w.sim) == [("generate", "a boat [policy]")]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"prompt": " "}, "prompt"),
        ({"prompt": "river", "model": "fast"}, "model"),
        ({"prompt": "river", "seed": 1}, "seed"),
        ({"prompt": "river", "aspect_ratio": "9:16"}, "aspect_ratio"),
        ({"prompt": "river", "extra": {"seeds": 12345}}, "extra"),
    ],
)
async def test_a_bad_field_is_told_before_anything_is_waited_for(world, fields, field):
    async with world(sim=LIVE | {"generation_seconds": LONG}) as w:
        task = await w.veo.submit("a boat")
        with pytest.raises(InvalidRequestError) as caught:
            await w.veo.extend(task, **fields)
        assert caught.value.field == field
        assert len(w.sim.ledger.posts) == 1


@pytest.mark.parametrize("bad", ["", "a b\n", None])
async def test_what_is_no_task_cannot_be_extended(world, bad):
    async with world(sim=LIVE) as w:
        with pytest.raises(InvalidRequestError) as caught:
            await w.veo.extend(bad, "the river")
        assert caught.value.field == "task_id"
        assert not w.sim.ledger.posts


async def test_one_submit_makes_one_task(world):
    async with world(sim=LIVE) as w:
        for length in (30, 8, ["the river"]):
            with pytest.raises(InvalidRequestError, match="generate, batch or run_job") as caught:
                await w.veo.submit("a boat", extend_to=length)
            assert caught.value.field == "extend_to"
        assert not w.sim.ledger.posts


# --- paid like any other


@pytest.mark.parametrize("fault", ["lose_answer", "garbage", "status=500", "reset_before"])
async def test_a_lost_answer_to_an_extension_is_uncertain_and_never_sent_again(world, fault):
    async with world(sim=LIVE) as w:
        base = await w.veo.generate("a boat")
        w.sim.add_fault(f"extend:{fault}:times=1")
        with pytest.raises(SubmitUncertainError) as caught:
            await w.veo.extend(base, "the river")
        assert caught.value.prompt == "the river"
        assert len(w.sim.ledger.posts) == 2
        assert w.veo.statistics().slots_in_use == 1, "a task may be running"


async def test_an_extension_that_is_turned_away_is_sent_again(world):
    async with world(sim=LIVE) as w:
        base = await w.veo.generate("a boat")
        w.sim.add_fault("extend:status=429:times=2")
        await (await w.veo.extend(base, "the river"))
        assert [post.outcome for post in w.sim.ledger.posts][1:] == ["unread", "unread", "accepted"]


async def test_an_extension_waits_for_a_slot_and_can_be_cancelled_there(world):
    async with world(sim=LIVE, max_tasks=1) as w:
        base = await w.veo.generate("a boat")
        w.sim.add_fault("record-info:status=500")
        await w.veo.submit("another")
        with anyio.move_on_after(0.05) as scope:
            await w.veo.extend(base, "the river")
        assert scope.cancelled_caught
        assert len(w.sim.ledger.posts) == 2
        assert w.veo.statistics().slots_waiting == 0


async def test_the_caller_of_an_extension_may_leave_and_its_task_is_named(world, caplog, until):
    async with world(sim=LIVE) as w:
        base = await w.veo.generate("a boat")
        w.sim.add_fault("extend:delay=200:times=1")
        caller = asyncio.create_task(w.veo.extend(base, "the river"))
        await until(lambda: len(w.sim.ledger.posts) == 2)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        [extension] = [charge.task_id for charge in w.sim.ledger if charge.kind == "extend"]
        await until(lambda: f"the caller left, and task {extension} goes on" in caplog.text)


async def test_a_budget_is_asked_before_an_extension_leaves(world):
    async with world(sim=LIVE, max_credits=100) as w:
        base = await w.veo.generate("a boat")
        with pytest.raises(BudgetExceededError):
            await w.veo.extend(base, "the river")
        assert len(w.sim.ledger.posts) == 1


async def test_a_refused_extension_gives_its_budget_back(world):
    async with world(sim=LIVE, max_credits=130) as w:
        base = await w.veo.generate("a boat")
        w.sim.add_fault("extend:status=422:times=1")
        with pytest.raises(ValidationError):
            await w.veo.extend(base, "the river")
        await w.veo.extend(base, "the river")


async def test_an_account_without_credits_is_told_of(world):
    async with world(sim=LIVE | {"credits": 100}) as w:
        base = await w.veo.generate("a boat")
        with pytest.raises(InsufficientCreditsError):
            await w.veo.extend(base, "the river")


async def test_an_extension_gets_a_callback_url_and_its_events_name_the_request(world):
    async with world(sim=LIVE, callback_url="https://example.com/hooks") as w:
        base = await w.veo.generate("a boat")
        task = await w.veo.extend(base, "the river")
        started = [event for event in w.events if isinstance(event, SubmitStarted)]
        told = [event for event in w.events if isinstance(event, TaskSubmitted)]
        assert started[1].request == told[1].request == task.request
        assert told[1].task_id == task.id
        assert task.request is not None
        assert task.request.callback_url == f"https://example.com/hooks/{told[1].key}"


# --- what a 404 means


async def test_a_service_that_extends_nothing_says_so(world):
    async with world(sim={"time_scale": 1000}) as w:
        base = await w.veo.generate("a boat")
        with pytest.raises(NotFoundError, match="has no such call") as caught:
            await w.veo.extend(base, "the river")
        assert (caught.value.code, caught.value.task_id) == (404, base.task_id)
        assert w.veo.statistics().slots_in_use == 0


@pytest.mark.parametrize("dialect", ["spec", "live"])
async def test_a_task_that_is_unknown_is_not_mistaken_for_a_call_that_is(world, dialect):
    async with world(sim=LIVE | {"dialect": dialect}) as w:
        with pytest.raises(NotFoundError) as caught:
            await w.veo.extend("0123456789abcdef", "the river")
        assert "has no such call" not in str(caught.value)
        assert caught.value.task_id == "0123456789abcdef"
        assert not w.sim.ledger.charges


async def test_an_original_that_is_missing_to_one_extension_does_not_mean_that_none_is_made(world):
    async with world(sim=LIVE) as w:
        base = await w.veo.generate("a boat")
        w.sim.add_fault("extend:status=404:http=200:text=Original task not found:times=1")
        with pytest.raises(NotFoundError, match="Original task not found") as caught:
            await w.veo.extend(base, "the river")
        assert "has no such call" not in str(caught.value)
        assert (await w.veo.extend(base, "the river")).request is not None


async def test_a_service_that_cannot_be_asked_what_it_meant_is_taken_at_its_word(world):
    async with world(sim={"time_scale": 1000}) as w:
        base = await w.veo.generate("a boat")
        w.sim.add_fault("record-info:status=500")
        with pytest.raises(NotFoundError) as caught:
            await w.veo.extend(base, "the river")
        assert "has no such call" not in str(caught.value)


async def test_an_extension_may_be_waited_for_with_a_bound(world):
    async with world(sim=LIVE, timeouts=Timeouts(response=5.0, close=2.0)) as w:
        base = await w.veo.generate("a boat")
        task = await w.veo.extend(base, "the river [stuck]")
        with pytest.raises(TaskTimeoutError):
            await task.wait(timeout=0.05)
