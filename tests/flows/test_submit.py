"""Submitting is spending: sent once, never lost, and a slot for every task there may be."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any

import anyio
import pytest

from veo_async import (
    AuthenticationError,
    BudgetExceededError,
    ClientClosedError,
    ConnectError,
    InsufficientCreditsError,
    InvalidRequestError,
    PollPolicy,
    QuotaExceededError,
    RateLimitError,
    RetryPolicy,
    ServiceUnavailableError,
    SubmitFailed,
    SubmitStarted,
    SubmitUncertainError,
    TaskSubmitted,
    Timeouts,
    UnexpectedResponseError,
    ValidationError,
    VeoClient,
    VeoError,
    VideoRequest,
)
from veo_async.simulator import Fault, Simulator

pytestmark = pytest.mark.anyio
SCALE = 100


async def test_fifty_at_once_run_ten_at_a_time_and_idle_no_slot(world):
    idle: list[object] = []
    client: list[VeoClient] = []

    def watch(event: object) -> None:
        now = client[0].statistics()
        if now.slots_waiting and now.slots_in_use < now.slots_total:
            idle.append(event)

    async with world(on_event=watch) as w:
        client.append(w.veo)
        async with asyncio.TaskGroup() as group:
            made = [
                group.create_task(w.veo.generate(f"prompt {n}", seed=10_000 + n)) for n in range(50)
            ]
        ledger = w.sim.ledger
        assert len(ledger) == 50
        assert ledger.peak_running == 10
        assert len({task.result().task_id for task in made}) == 50
        assert not idle
        assert len(ledger.posts) == 50, "not one was turned away"
        assert w.veo.statistics().slots_in_use == 0


async def test_submits_get_their_slots_in_the_order_in_which_they_came(world):
    async with world(max_tasks=2) as w:
        async with asyncio.TaskGroup() as group:
            for n in range(12):
                group.create_task(w.veo.submit(f"prompt {n}"))
        started = [event.request.prompt for event in w.events if isinstance(event, SubmitStarted)]
        assert started == [f"prompt {n}" for n in range(12)]


async def test_slots_are_freed_although_nobody_waits_for_the_tasks(world):
    async with world(max_tasks=1) as w:
        for n in range(3):
            await w.veo.submit(f"prompt {n}")
        assert w.sim.ledger.peak_running == 1


async def test_all_fields_arrive(world):
    async with world() as w:
        video = await w.veo.generate(
            VideoRequest(
                "二艘纸船",
                model="veo3",
                image_urls=["https://example.com/a.png", "https://example.com/b.png"],
                generation_type="FIRST_AND_LAST_FRAMES_2_VIDEO",
                aspect_ratio="9:16",
                seed=12345,
                enable_translation=False,
                watermark="mine",
            )
        )
        assert (video.aspect_ratio, video.seed, video.duration) == ("9:16", 12345, 10)
        assert w.sim.ledger[0].prompt == "二艘纸船"
        assert w.sim.ledger.spent == 80


@pytest.mark.parametrize(
    ("fault", "reaches_the_service"),
    [
        ("generate:lose_answer", True),
        ("generate:garbage", True),
        ("generate:empty", True),
        ("generate:truncated_json", True),
        ("generate:html", False),
        ("generate:status=500", False),
        ("generate:status=502", False),
        ("generate:status=408", False),
        ("generate:hang", False),
        ("generate:reset_before", False),
    ],
)
@pytest.mark.parametrize("dialect", ["spec", "live"])
async def test_a_lost_answer_is_uncertain_and_never_sent_again(
    world, fault, reaches_the_service, dialect
):
    options = {"dialect": dialect, "faults": [fault + ":times=1"]}
    async with world(sim=options, timeouts=Timeouts(response=0.5)) as w:
        with pytest.raises(SubmitUncertainError) as caught:
            await w.veo.submit("a paid prompt")
        assert len(w.sim.ledger.posts) == 1
        assert len(w.sim.ledger) == int(reaches_the_service)
        assert caught.value.prompt == "a paid prompt"
        assert "never" in caught.value.args[0] or "not sent again" in caught.value.args[0]
        assert w.veo.statistics().slots_in_use == 1, "a task may be running"
        failed = [event for event in w.events if isinstance(event, SubmitFailed)]
        assert [event.is_uncertain for event in failed] == [True]
        assert failed[0].key == caught.value.key


async def test_an_id_counts_whatever_comes_behind_it(world):
    async with world(sim={"faults": ["generate:huge:times=1"]}) as w:
        task = await w.veo.submit("a prompt")
        assert task.id == w.sim.ledger[0].task_id


async def test_an_uncertain_submit_gives_its_slot_back_in_time(world):
    options = {"faults": ["generate:lose_answer:times=1"]}
    async with world(sim=options, max_tasks=1, timeouts=Timeouts(uncertain=0.3)) as w:
        with pytest.raises(SubmitUncertainError):
            await w.veo.submit("lost")
        await w.veo.submit("next")
        lost, taken = w.sim.ledger.posts
        assert taken.at - lost.at >= 0.25 * SCALE


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, AuthenticationError),
        (402, InsufficientCreditsError),
        (403, AuthenticationError),
        (404, VeoError),
        (413, ValidationError),
        (422, ValidationError),
        (433, QuotaExceededError),
        (451, ValidationError),
    ],
)
@pytest.mark.parametrize("dialect", ["spec", "live"])
async def test_a_refusal_frees_the_slot_and_is_not_repeated(world, status, error, dialect):
    options = {"dialect": dialect, "faults": [f"generate:status={status}"]}
    async with world(sim=options) as w:
        with pytest.raises(error) as caught:
            await w.veo.submit("a prompt")
        assert caught.value.code == status
        assert len(w.sim.ledger.posts) == 1
        assert w.veo.statistics().slots_in_use == 0


@pytest.mark.parametrize("status", [429, 455])
@pytest.mark.parametrize("dialect", ["spec", "live"])
async def test_a_submit_that_is_turned_away_goes_on_until_it_is_taken(world, status, dialect):
    options = {"dialect": dialect, "faults": [f"generate:status={status}:times=6"]}
    async with world(sim=options) as w:
        await w.veo.submit("a prompt")
        assert len(w.sim.ledger.posts) == 7
        assert len(w.sim.ledger) == 1


@pytest.mark.parametrize(
    ("status", "error"), [(429, RateLimitError), (455, ServiceUnavailableError)]
)
async def test_a_lasting_refusal_is_raised_in_the_end(world, status, error):
    retry = RetryPolicy(base=0.01, cap=0.02, refused_for=1.5)
    async with world(sim={"faults": [f"generate:status={status}"]}, retry=retry) as w:
        with pytest.raises(error):
            await w.veo.submit("a prompt")
        assert w.veo.statistics().slots_in_use == 0
        assert len(w.sim.ledger.posts) > 1


async def test_a_busy_account_slows_submits_down_and_loses_none(world):
    # Another program takes slots of the same account: the service refuses what this client allows.
    async with world(sim={"max_tasks": 3}) as w:
        async with asyncio.TaskGroup() as group:
            for n in range(9):
                group.create_task(w.veo.generate(f"prompt {n}"))
        assert len(w.sim.ledger) == 9
        assert w.sim.ledger.peak_running <= 3


async def test_a_redirect_of_the_paid_request_is_not_followed(world):
    fault = Fault("generate", "redirect", "http://127.0.0.1:9/elsewhere")
    async with world(sim={"faults": [fault]}) as w:
        with pytest.raises(UnexpectedResponseError):
            await w.veo.submit("a prompt")
        assert len(w.sim.ledger) == 0
        assert w.veo.statistics().slots_in_use == 0


async def test_a_service_out_of_reach_is_tried_again_and_nothing_is_uncertain(unused_tcp_port):
    base_url = f"http://127.0.0.1:{unused_tcp_port}"
    retry = RetryPolicy(attempts=3, base=0.01)
    async with VeoClient("key", base_url=base_url, retry=retry) as veo:
        with pytest.raises(ConnectError) as caught:
            await veo.submit("a prompt")
        assert not caught.value.request_sent
        assert veo.statistics().requests == 3
        assert veo.statistics().slots_in_use == 0


async def test_bad_input_is_refused_before_anything_leaves(world):
    async with world() as w:
        for field, call in {
            "prompt": lambda: w.veo.submit("x" * 1001),
            "sed": lambda: w.veo.submit("x", sed=1),
            "seed": lambda: w.veo.generate("x", seed=9_999),
            "model": lambda: w.veo.submit(VideoRequest("x"), model="veo3"),
            "extra": lambda: w.veo.submit("x", extra={"prompt": "y"}),
            "task_id": lambda: w.veo.status("no id\n"),
        }.items():
            with pytest.raises(InvalidRequestError) as caught:
                await call()
            assert caught.value.field == field
        assert w.veo.statistics().requests == 0


async def test_the_budget_is_checked_before_the_request_leaves(world):
    async with world(max_credits=150) as w:
        await w.veo.submit("first")
        await w.veo.submit("second")
        with pytest.raises(BudgetExceededError) as caught:
            await w.veo.submit("third")
        assert (caught.value.needed, caught.value.left) == (70, 10)
        assert len(w.sim.ledger.posts) == 2


async def test_a_refused_submit_gives_its_budget_back(world):
    async with world(sim={"faults": ["generate:status=422:times=1"]}, max_credits=70) as w:
        with pytest.raises(ValidationError):
            await w.veo.submit("refused")
        await w.veo.submit("taken")


async def test_a_token_is_appended_to_the_clients_callback_url_only(world):
    seen: list[str | None] = []
    async with world(callback_url="http://127.0.0.1:9/hooks/?a=b") as w:
        await w.veo.submit("mine")
        await w.veo.submit("own", callback_url="http://127.0.0.1:9/own")
        started = [event for event in w.events if isinstance(event, SubmitStarted)]
        seen = [event.request.callback_url for event in started]
        assert seen == [f"http://127.0.0.1:9/hooks/{started[0].key}?a=b", "http://127.0.0.1:9/own"]


# --- cancellation

Work = Callable[[], Coroutine[Any, Any, Any]]
Cancel = Callable[[Work, int], Awaitable[None]]


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def natively(work: Work, after: int) -> None:
    async def run() -> None:
        await work()

    task = asyncio.create_task(run())
    await turns(after)
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()


async def by_scope(work: Work, after: int) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(work)
        await turns(after)
        group.cancel_scope.cancel()


async def by_wait_for(work: Work, after: int) -> None:
    await natively(lambda: asyncio.wait_for(work(), timeout=60), after)


@pytest.mark.parametrize("cancel", [natively, by_scope, by_wait_for])
async def test_a_submit_cancelled_at_any_moment_loses_no_task_and_leaks_no_slot(
    world, cancel: Cancel, until
):
    options = {"max_tasks": 1000, "create_rate": None, "generation_seconds": 100_000}
    poll = PollPolicy(interval=0.05, first=1000)  # nobody's turn yet: polls prove nothing here
    async with world(sim=options, max_tasks=1000, pace=None, poll=poll) as w:
        for after in range(80):
            await cancel(partial(w.veo.submit, f"prompt {after}"), after)
        submitted: list[str] = []

        def settled() -> bool:
            nonlocal submitted
            submitted = [e.task_id for e in w.events if isinstance(e, TaskSubmitted)]
            return sorted(submitted) == sorted(charge.task_id for charge in w.sim.ledger)

        await until(settled)
        assert 0 < len(submitted) < 80, "some were cancelled before, some after their request left"
        assert {task.id for task in w.veo.tasks} == set(submitted)
        assert w.veo.statistics().slots_in_use == len(submitted)
        assert not [e for e in w.events if isinstance(e, SubmitFailed)]


async def test_waiting_for_a_slot_can_be_cancelled_without_a_trace(world, until):
    async with world(sim={"generation_seconds": 1000}, max_tasks=1) as w:
        await w.veo.submit("first")
        for cancel in (natively, by_scope, by_wait_for):
            await cancel(partial(w.veo.submit, "second"), 3)
        await until(lambda: w.veo.statistics().slots_waiting == 0)
        assert w.veo.statistics().slots_in_use == 1
        assert len(w.sim.ledger.posts) == 1


async def test_the_id_of_a_submit_whose_caller_left_is_logged(world, caplog, until):
    async with world(sim={"faults": ["generate:delay=20"]}) as w:
        task = asyncio.create_task(w.veo.submit("a prompt"))
        await until(lambda: w.veo.statistics().requests == 1)
        await asyncio.sleep(0.05)
        task.cancel()
        await until(lambda: bool(w.veo.tasks))
        assert w.veo.tasks[0].id in caplog.text
        assert (await w.veo.tasks[0]).task_id == w.sim.ledger[0].task_id


async def test_closing_waits_for_the_answer_of_a_submit_on_the_wire(world, until):
    async with world(sim={"faults": ["generate:delay=20"]}, max_tasks=1) as w:
        sending = asyncio.create_task(w.veo.submit("on the wire"))
        waiting = asyncio.create_task(w.veo.submit("still waiting"))
        await until(lambda: len(w.sim.ledger.posts) == 1)
        await w.veo.aclose()
        assert (await sending).id == w.sim.ledger[0].task_id
        with pytest.raises(ClientClosedError):
            await waiting
        assert len(w.sim.ledger.posts) == 1


async def test_closing_gives_up_after_its_time_and_says_that_it_is_uncertain(world, until):
    options = {"faults": ["generate:hang"]}
    async with world(sim=options, timeouts=Timeouts(close=0.1)) as w:
        sending = asyncio.create_task(w.veo.submit("on the wire"))
        await until(lambda: w.veo.statistics().requests == 1)
        await asyncio.sleep(0.05)
        await w.veo.aclose()
        with pytest.raises(SubmitUncertainError):
            await sending


async def test_a_failing_observer_costs_nothing(world, caplog):
    def fail(event: object) -> None:
        raise RuntimeError("the observer is broken")

    async with world(on_event=fail) as w:
        await w.veo.generate("a prompt")
    assert "the observer is broken" in caplog.text


async def test_paid_requests_leave_no_faster_than_the_pace(world):
    async with world(sim={"create_rate": (5, 20.0)}, pace=(5, 0.5), max_tasks=20) as w:
        async with asyncio.TaskGroup() as group:
            for n in range(15):
                group.create_task(w.veo.submit(f"prompt {n}"))
        assert [post.code for post in w.sim.ledger.posts] == [200] * 15


async def test_a_slow_answer_keeps_its_slot(world):
    options = {"faults": ["generate:delay=60:times=1"], "generation_seconds": 1000}
    limits = Timeouts(uncertain=0.1, task=1000)
    async with world(sim=options, max_tasks=1, timeouts=limits) as w:
        first = asyncio.create_task(w.veo.submit("slow"))
        second = asyncio.create_task(w.veo.submit("must wait"))
        await first
        await asyncio.sleep(0.05)
        assert len(w.sim.ledger.posts) == 1
        second.cancel()


async def test_submits_that_were_turned_away_still_have_their_connect_retries(
    unused_tcp_port, until
):
    # The service refuses more submits than there are retries, asks for a second, and is gone.
    port = unused_tcp_port
    retry = RetryPolicy(attempts=8, base=0.05, cap=1.0)
    options = {"port": port, "time_scale": SCALE, "clip": (64, 36), "video_bytes": 0}
    faults = ["generate:status=429:retry_after=0.01:times=9", "generate:status=429:retry_after=1"]
    sim = Simulator(faults=faults, **options)
    async with VeoClient(sim.api_key, base_url=f"http://127.0.0.1:{port}", retry=retry) as veo:
        async with sim:
            submit = asyncio.create_task(veo.submit("a prompt"))
            await until(lambda: veo.statistics().retries == 10)
        await until(lambda: veo.statistics().retries > 10)
        sim.clear_faults()
        async with sim:
            await submit
        assert len(sim.ledger) == 1


def warnings_about(task_id: str, caplog: pytest.LogCaptureFixture) -> int:
    return sum(task_id in r.message for r in caplog.records if r.levelname == "WARNING")


async def test_an_id_is_named_where_people_look_when_its_caller_leaves(world, caplog, until):
    async with world(sim={"generation_seconds": 10_000}) as w:
        making = asyncio.create_task(w.veo.generate("a prompt"))
        await until(lambda: bool(w.veo.tasks))
        making.cancel()
        with pytest.raises(asyncio.CancelledError):
            await making
        task_id = w.sim.ledger[0].task_id
        assert warnings_about(task_id, caplog) == 1
        caplog.clear()
        await w.veo.aclose()
        assert warnings_about(task_id, caplog) == 1


async def test_a_cancellation_in_the_turn_of_the_answer_names_the_id(world, caplog):
    def cancel(event: object) -> None:
        if isinstance(event, TaskSubmitted):
            submitting.cancel()

    async with world(on_event=cancel) as w:
        submitting = asyncio.create_task(w.veo.submit("a prompt"))
        with pytest.raises(asyncio.CancelledError):
            await submitting
        task_id = w.sim.ledger[0].task_id
        assert warnings_about(task_id, caplog) >= 1
        assert [task.id for task in w.veo.tasks] == [task_id]


async def test_polls_begin_when_a_task_can_be_finished(world):
    poll = PollPolicy(interval=0.05, first=0.5)
    async with world(poll=poll) as w:
        task = await w.veo.submit("a prompt")
        await asyncio.sleep(0.2)
        assert w.sim.ledger.requests["record-info"] == 0
        await task
