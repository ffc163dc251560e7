"""Films: a video and its extensions, each step paid once, whatever happens between them."""

import asyncio
import json
import sqlite3
from collections import Counter
from contextlib import closing
from typing import Any

import pytest
from aiohttp import ClientSession
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.flows import batches, uploads
from tests.flows.batches import charges, jobs, service, videos
from tests.flows.receivers import enveloped, on_aiohttp, post
from veo_async import (
    BudgetExceededError,
    ClientClosedError,
    ExtendRequest,
    InsufficientCreditsError,
    InvalidRequestError,
    NotFoundError,
    Outcome,
    PollPolicy,
    RateLimitError,
    RetryPolicy,
    SubmitFailed,
    SubmitStarted,
    SubmitUncertainError,
    TaskFailedError,
    TaskSubmitted,
    TaskTimeoutError,
    Timeouts,
    ValidationError,
    VeoClient,
    VideoRequest,
    WebhookReceiver,
)
from veo_async.database import JOURNAL_NAME, open_for_sharing
from veo_async.journal_file import JournalFile
from veo_async.prices import LIVE
from veo_async.protocol.jobs import JobState
from veo_async.settling import settle
from veo_async.simulator import Simulator

pytestmark = pytest.mark.anyio
SERVICE = {"dialect": "live", "time_scale": 1000, "generation_seconds": 30}
PRICE = 60  # of a step, by the live list
FILM: dict[str, Any] = {"key": "film", "prompt": "one", "extend_to": ["two", "three"]}
STEPS = ["one", "two", "three"]
ASKING = {"poll": PollPolicy(interval=0.02, first=0.02)}


def live(**options: Any) -> Simulator:
    return service(**({"dialect": "live", "generation_seconds": 30} | options))


def fast(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a run whose client asks more often."""
    return options | {"client": ASKING | options.get("client", {})}


def running(sim: Simulator, rows: Any, folder: Any, **options: Any) -> Any:
    return batches.running(sim, rows, folder, **fast(options))


async def ran(sim: Simulator, rows: Any, folder: Any, **options: Any) -> batches.Done:
    return await batches.ran(sim, rows, folder, **fast(options))


def client_of(sim: Simulator, **options: Any) -> VeoClient:
    return batches.client_of(sim, **(ASKING | options))


def paid(sim: Simulator) -> list[str]:
    """Return the prompts that were paid, in that order."""
    return [charge.prompt for charge in sim.ledger if not charge.refunded]


def ids(sim: Simulator) -> dict[str, str]:
    """Return the task of each prompt, the last one where there are several."""
    return {charge.prompt: charge.task_id for charge in sim.ledger}


def told_of(error: BaseException, step: int, film_id: str | None, *, of: int = 3) -> None:
    """Judge what an error says of a film."""
    text = str(error)
    assert text.startswith(f"step {step} of {of} of the film: ")
    assert text.count("of the film:") == 1
    if film_id is None:
        assert "film so far" not in text
    else:
        assert f"so far is task {film_id}, which is paid" in text
        assert f"veo.extend({film_id!r}, prompt)" in text


# --- generate


async def test_a_film_is_made_step_by_step_and_its_video_is_the_whole_of_it(world, tmp_path):
    async with world(**ASKING, sim=SERVICE) as w:
        video = await w.veo.generate(
            "one",
            extend_to=["two", "three"],
            model="veo3_lite",
            seed=23456,
            aspect_ratio="9:16",
            watermark="mine",
            extra={"enableFallback": False},
        )
        assert paid(w.sim) == STEPS
        assert [charge.credits for charge in w.sim.ledger] == [30] * 3
        assert video.task_id == ids(w.sim)["three"]
        assert "_full" in video.url
        assert (video.aspect_ratio, video.seed) == ("9:16", 23456)
        asked = [event.request for event in w.events if isinstance(event, TaskSubmitted)]
        assert asked == [
            VideoRequest(
                "one",
                model="veo3_lite",
                seed=23456,
                aspect_ratio="9:16",
                watermark="mine",
                extra={"enableFallback": False},
            ),
            *(
                ExtendRequest(
                    ids(w.sim)[base], prompt, model="veo3_lite", seed=23456, watermark="mine"
                )
                for base, prompt in (("one", "two"), ("two", "three"))
            ),
        ]
        assert (await w.veo.download(video, tmp_path / "film.mp4")).size > 0


@pytest.mark.parametrize(
    ("seconds", "steps"), [(5, 1), (8, 1), (8.5, 2), (15, 2), (16, 3), (30, 5)]
)
async def test_a_length_in_seconds_takes_as_many_steps_as_that_needs(world, seconds, steps):
    async with world(**ASKING, sim=SERVICE) as w:
        await w.veo.generate("a boat", extend_to=seconds)
        assert paid(w.sim) == ["a boat"] * steps


async def test_a_film_needs_one_slot_and_gives_it_back_between_its_steps(world):
    async with world(**ASKING, sim=SERVICE, max_tasks=1) as w:
        async with asyncio.TaskGroup() as group:
            for name in "ab":
                group.create_task(w.veo.generate(name, extend_to=[f"{name}2", f"{name}3"]))
        assert w.sim.ledger.peak_running == 1
        assert paid(w.sim) == ["a", "b", "a2", "b2", "a3", "b3"], "first come, first served"
        assert w.veo.statistics().slots_in_use == 0


async def test_a_film_is_refused_before_its_first_credit_where_the_budget_ends_in_it(world):
    async with world(**ASKING, sim=SERVICE, max_credits=189) as w:
        with pytest.raises(BudgetExceededError) as caught:
            await w.veo.generate("one", extend_to=["two", "three"])
        assert (caught.value.needed, caught.value.left) == (190, 189)
        assert not w.sim.ledger.posts
        await w.veo.generate("one", extend_to=["two"])


async def test_nothing_else_can_spend_what_a_film_needs_to_its_end(world):
    async with world(**ASKING, sim=SERVICE, max_credits=210) as w:
        film = asyncio.create_task(w.veo.generate("one", extend_to=["two", "three"]))
        await asyncio.sleep(0)
        with pytest.raises(BudgetExceededError):
            await w.veo.submit("another")
        await film
        assert paid(w.sim) == STEPS


@pytest.mark.parametrize(
    ("fault", "error", "left"),
    [
        ("extend:status=422:times=1", ValidationError, 1),
        ("extend:lose_answer:times=1", SubmitUncertainError, 0),
        ("extend:status=402:times=1", InsufficientCreditsError, 1),
        ("extend:status=429", RateLimitError, 1),
    ],
)
async def test_a_film_that_cannot_go_on_says_where_it_ended_and_how_to_go_on(
    world, fault, error, left
):
    retry = RetryPolicy(base=0.01, cap=0.05, refused_for=0.2)
    async with world(**ASKING, sim=SERVICE, retry=retry, max_credits=70 + 60 + 60) as w:
        w.sim.add_fault(fault)
        with pytest.raises(error) as caught:
            await w.veo.generate("one", extend_to=["two", "three"])
        base = ids(w.sim)["one"]
        told_of(caught.value, 2, base)
        assert caught.value.__dict__ == caught.value.__dict__ | (
            {"code": int(fault.split("=")[1][:3])} if "status" in fault else {"prompt": "two"}
        )
        assert paid(w.sim) == ["one", "two"][: 2 - left], "and nothing is paid again"
        # What the film did not use is free again, and what may be paid is not.
        w.sim.clear_faults()
        for _ in range(left + 1):
            await w.veo.extend(base, "on")
        with pytest.raises(BudgetExceededError):
            await w.veo.extend(base, "on")


@pytest.mark.parametrize("step", [1, 2, 3])
async def test_a_step_that_fails_keeps_its_error_and_the_film_is_not_paid_again(world, step):
    prompts = [f"{prompt}{' [policy]' * (n == step)}" for n, prompt in enumerate(STEPS, 1)]
    async with world(**ASKING, sim=SERVICE) as w:
        with pytest.raises(TaskFailedError, match="content polic") as caught:
            await w.veo.generate(prompts[0], extend_to=prompts[1:])
        assert (caught.value.code, caught.value.is_retryable) == (400, False)
        assert caught.value.task_id == ids(w.sim)[prompts[step - 1]]
        told_of(caught.value, step, ids(w.sim)[prompts[step - 2]] if step > 1 else None)
        assert len(w.sim.ledger.posts) == step
        if step > 1:
            await (await w.veo.extend(ids(w.sim)[prompts[step - 2]], "another"))


async def test_a_service_that_extends_nothing_leaves_the_first_video(world):
    async with world(sim={"time_scale": 1000}) as w:
        with pytest.raises(NotFoundError, match="no such call") as caught:
            await w.veo.generate("one", extend_to=["two", "three"])
        told_of(caught.value, 2, ids(w.sim)["one"])
        assert paid(w.sim) == ["one"]


def is_at_step_two(w) -> bool:
    """Whether the second of two tasks is known and watched, and no other one is any more."""
    ids = [charge.task_id for charge in w.sim.ledger]
    return len(ids) == 2 and [task.id for task in w.veo.tasks] == ids[1:]


async def test_who_leaves_a_film_is_told_of_its_tasks_and_spends_no_more(world, caplog, until):
    async with world(**ASKING, sim=SERVICE, max_credits=200) as w:
        film = asyncio.create_task(w.veo.generate("one", extend_to=["two [stuck]", "three"]))
        await until(lambda: is_at_step_two(w))
        film.cancel()
        with pytest.raises(asyncio.CancelledError):
            await film
        one, two = (charge.task_id for charge in w.sim.ledger)
        assert f"task {two} goes on" in caplog.text
        assert "step 2 of 3" in caplog.text
        assert f"only where task {two} comes to nothing" in caplog.text, "or it is paid twice"
        assert f"veo.extend({one!r}, prompt)" in caplog.text
        # The third step is free again.
        await w.veo.extend(one, "other")
        with pytest.raises(BudgetExceededError):
            await w.veo.extend(one, "other")


async def test_a_client_that_is_closed_under_a_film_says_what_is_paid(world, until):
    async with world(**ASKING, sim=SERVICE) as w:
        film = asyncio.create_task(w.veo.generate("one", extend_to=["two [stuck]", "three"]))
        await until(lambda: is_at_step_two(w))
        await w.veo.aclose()
        with pytest.raises(ClientClosedError) as caught:
            await film
        told_of(caught.value, 2, w.sim.ledger[0].task_id)
        assert caught.value.task_id == w.sim.ledger[1].task_id
        assert f"only where task {caught.value.task_id} comes to nothing" in str(caught.value)


async def test_a_step_that_takes_too_long_may_still_end_and_is_not_to_be_paid_again(world):
    times = Timeouts(response=5.0, stall=2.0, close=2.0, task=0.5)
    async with world(**ASKING, sim=SERVICE, timeouts=times) as w:
        with pytest.raises(TaskTimeoutError) as caught:
            await w.veo.generate("one", extend_to=["two [stuck]", "three"])
        told_of(caught.value, 2, w.sim.ledger[0].task_id)
        assert f"only where task {w.sim.ledger[1].task_id} comes to nothing" in str(caught.value)


# --- batches


async def test_a_batch_brings_films_and_single_videos_home(tmp_path):
    rows = [FILM, "single", {"prompt": "long", "extend_to": 15}]
    async with live() as sim:
        done = await ran(sim, rows, tmp_path, prices=LIVE)
        assert Counter(paid(sim)) == Counter([*STEPS, "single", "long", "long"])
        task = ids(sim)
        spent = sim.ledger.spent
    assert done.outcomes == {"downloaded": 3}
    film = done.of("one")
    assert (film.task_id, film.attempts, film.credits) == (task["three"], 3, 3 * PRICE)
    assert film.request == VideoRequest("one", extend_to=["two", "three"])
    assert film.path is not None
    side = json.loads(film.path.with_suffix(".json").read_text())
    assert side["task_ids"] == [task[prompt] for prompt in STEPS]
    assert (side["task_id"], side["credits"], side["attempts"]) == (task["three"], 180, 3)
    assert side["request"]["extend_to"] == ["two", "three"]
    report = done.run.batch.report
    assert report.credits_spent == charges(tmp_path).total == spent == 6 * PRICE
    assert (report.slot_use or 0) > 0
    job = jobs(tmp_path)["film"]
    assert [step.end for step in job.attempts] == ["success"] * 3


async def test_a_finished_film_is_skipped_and_saves_its_whole_price(tmp_path):
    async with live() as sim:
        await ran(sim, [FILM], tmp_path, prices=LIVE)
        again = await ran(sim, [FILM], tmp_path, prices=LIVE)
        assert paid(sim) == STEPS
    assert again.outcomes == {"skipped": 1}
    assert again.run.batch.report.credits_saved == 3 * PRICE
    assert again.items[0].credits == 0


async def test_however_a_length_is_said_the_same_steps_are_the_same_film(tmp_path):
    async with live() as sim:
        await ran(sim, [{"prompt": "long", "extend_to": 15}, "short"], tmp_path)
        others = [
            {"prompt": "long", "extend_to": 14.5},
            {"prompt": "short", "extend_to": 8},
        ]
        assert (await ran(sim, others, tmp_path)).outcomes == {"skipped": 2}
        listed = [{"prompt": "long", "extend_to": ["long"]}]
        assert (await ran(sim, listed, tmp_path)).outcomes == {"skipped": 1}
        assert len(sim.ledger) == 3


async def test_a_file_that_was_deleted_is_fetched_again_and_no_step_is_paid(tmp_path):
    async with live() as sim:
        first = await ran(sim, [FILM], tmp_path)
        path = first.items[0].path
        assert path is not None
        content = path.read_bytes()
        path.unlink()
        again = await ran(sim, [FILM], tmp_path)
        assert again.outcomes == {"downloaded": 1}
        assert path.read_bytes() == content
        assert paid(sim) == STEPS
        assert again.run.batch.report.credits_spent == 0


async def test_a_film_that_the_service_has_deleted_is_no_film_that_lacks_a_step(tmp_path):
    async with live() as sim:
        (first,) = await ran(sim, [FILM], tmp_path)
        assert first.path is not None
    first.path.unlink()
    async with live() as other:  # which knows nothing of it
        for days in (15, 0):
            with closing(sqlite3.connect(tmp_path / JOURNAL_NAME)) as journal, journal:
                journal.execute(
                    "UPDATE attempts SET submitted_at = submitted_at - ?", (days * 24 * 3600,)
                )
            (item,) = await ran(other, [FILM], tmp_path)
            assert (item.outcome, item.task_id) == (Outcome.FAILED, first.task_id)
            assert isinstance(item.error, NotFoundError)
            assert "of the film" not in str(item.error), "it has all of its steps"
            assert "film so far" not in str(item.error)
        assert jobs(tmp_path)["film"].state is JobState.EXPIRED
        async with client_of(other) as veo:
            with pytest.raises(NotFoundError) as caught:
                await veo.run_job("film", directory=tmp_path)
            assert "of the film" not in str(caught.value)
        assert not other.ledger.posts


async def test_each_film_of_one_image_that_is_refused_tells_of_itself(tmp_path):
    """One upload serves all of them, and so does its error."""
    images = [uploads.image(tmp_path / "boat.png")]
    films = {"long": ["two", "three"], "short": ["two"], "single": None}
    host = uploads.UploadHost(script=[uploads.refusing(400)])
    async with host.serving(), live() as sim, client_of(sim, upload_url=host.url) as veo:
        errors = await asyncio.gather(
            *(
                veo.generate(prompt, extend_to=more, image_urls=images)
                for prompt, more in films.items()
            ),
            return_exceptions=True,
        )
        assert host.requests == 1
        assert not sim.ledger.posts
    long, short, single = errors
    told_of(long, 1, None)
    told_of(short, 1, None, of=2)
    assert "of the film" not in str(single)


async def stopped_at(sim: Simulator, folder: Any, step: int, until: Any, **options: Any) -> Any:
    """Run a film until it waits for the paid request of a step, and stop it there."""
    sim.add_fault(f"extend:status=429:match={STEPS[step - 1]}")
    async with running(sim, [FILM], folder, **options) as run:
        await until(lambda: any(post.prompt == STEPS[step - 1] for post in sim.ledger.posts))
        run.batch.stop()
        items = [item async for item in run.batch]
    sim.clear_faults()
    return items, run.batch.report


@pytest.mark.parametrize("step", [2, 3])
async def test_a_stop_between_two_steps_is_gone_on_from(tmp_path, until, step):
    async with live() as sim:
        (item,), report = await stopped_at(sim, tmp_path, step, until, prices=LIVE)
        done = STEPS[: step - 1]
        assert paid(sim) == done
        assert (item.outcome, item.task_id) == (Outcome.UNPAID, ids(sim)[done[-1]])
        told_of(item.error, step, ids(sim)[done[-1]])
        assert "run it again" in str(item.error)
        assert item.credits == report.credits_spent == sim.ledger.spent == len(done) * PRICE
        assert item.attempts == len(done)
        assert jobs(tmp_path)["film"].state is JobState.NEW
        again = await ran(sim, [FILM], tmp_path, prices=LIVE)
        assert again.outcomes == {"downloaded": 1}
        assert paid(sim) == STEPS
        assert again.items[0].credits == (4 - step) * PRICE
        assert again.run.batch.report.credits_total == charges(tmp_path).total == 3 * PRICE


async def test_a_stop_while_a_step_runs_lets_that_one_end_and_pays_no_other(tmp_path, until):
    async with live(generation_seconds=300) as sim:
        async with running(sim, [FILM], tmp_path) as run:
            await until(lambda: len(sim.ledger) == 1)
            run.batch.stop()
            (item,) = [item async for item in run.batch]
        assert (item.outcome, paid(sim)) == (Outcome.UNPAID, ["one"])
        told_of(item.error, 2, ids(sim)["one"])
        assert (await ran(sim, [FILM], tmp_path)).outcomes == {"downloaded": 1}
        assert paid(sim) == STEPS


@pytest.mark.parametrize("step", [1, 2, 3])
async def test_a_batch_that_is_left_in_any_step_is_gone_on_from_there(tmp_path, until, step):
    async with live(generation_seconds=400) as sim:
        async with running(sim, [FILM], tmp_path, prices=LIVE) as run:
            await until(lambda: len(sim.ledger) == step)
            await run.batch.aclose()
        report = run.batch.report
        assert report.credits_spent == charges(tmp_path).total == step * PRICE
        again = await ran(sim, [FILM], tmp_path, prices=LIVE)
        assert again.outcomes == {"downloaded": 1}
        assert paid(sim) == STEPS
        assert again.run.batch.report.credits_total == 3 * PRICE


@pytest.mark.parametrize("step", [1, 2, 3])
@pytest.mark.parametrize("fault", ["lose_answer", "reset_before"])
async def test_a_lost_answer_is_uncertain_at_its_step_until_somebody_says_what_it_was(
    tmp_path, step, fault
):
    prompt = STEPS[step - 1]
    call = "generate" if step == 1 else "extend"
    async with live(faults=[f"{call}:{fault}:times=1:match={prompt}"]) as sim:
        first = await ran(sim, [FILM], tmp_path, prices=LIVE)
        (item,) = first
        assert (item.outcome, item.attempts) == (Outcome.UNCERTAIN, step)
        told_of(item.error, step, ids(sim)[STEPS[step - 2]] if step > 1 else None)
        assert isinstance(item.error, SubmitUncertainError)
        assert item.error.prompt == prompt, "what to look for in the account's log"
        report = first.run.batch.report
        assert (report.credits_spent, report.credits_uncertain) == (step * PRICE, PRICE)
        assert (await ran(sim, [FILM], tmp_path)).outcomes == {"uncertain": 1}
        is_made = fault == "lose_answer"
        with closing(
            JournalFile(open_for_sharing(tmp_path / JOURNAL_NAME, mark=None), tmp_path)
        ) as f:
            settle(f, "film", task_id=ids(sim)[prompt] if is_made else None, now=0.0)
        again = await ran(sim, [FILM], tmp_path, prices=LIVE)
        assert again.outcomes == {"downloaded": 1}
        assert paid(sim) == STEPS
        assert again.run.batch.report.credits_total == sim.ledger.spent == 3 * PRICE
        assert again.items[0].attempts == 3


@pytest.mark.parametrize("step", [1, 2, 3])
async def test_a_step_that_fails_is_paid_again_alone_where_that_is_allowed(tmp_path, step):
    prompts = [f"{prompt}{' [error]' * (n == step)}" for n, prompt in enumerate(STEPS, 1)]
    row = {"key": "film", "prompt": prompts[0], "extend_to": prompts[1:]}
    async with live() as sim:
        done = await ran(sim, [row], tmp_path, retries=2, prices=LIVE)
        (item,) = done
        assert (item.outcome, item.attempts) == (Outcome.FAILED, step + 2)
        told_of(item.error, step, ids(sim)[prompts[step - 2]] if step > 1 else None)
        assert [post.prompt for post in sim.ledger.posts] == [
            *prompts[: step - 1],
            *[prompts[step - 1]] * 3,
        ]
        assert paid(sim) == prompts[: step - 1]
        assert item.credits == done.run.batch.report.credits_spent == (step - 1) * PRICE
        assert charges(tmp_path).total == sim.ledger.spent == (step - 1) * PRICE
        # And in a later run, which tells the same.
        again = await ran(sim, [row], tmp_path, retries=2)
        assert again.outcomes == {"failed": 1}
        told_of(again.items[0].error, step, ids(sim)[prompts[step - 2]] if step > 1 else None)
        assert len(sim.ledger.posts) == step + 2
        more = await ran(sim, [row], tmp_path, retries=3)
        assert more.outcomes == {"failed": 1}
        assert len(sim.ledger.posts) == step + 3


async def test_a_film_may_go_on_after_a_failure_that_passed(tmp_path):
    async with live() as sim:
        sim.add_fault("record-info:status=501:times=1:match=two")
        first = await ran(sim, [FILM], tmp_path, retries=1, prices=LIVE)
        assert first.outcomes == {"downloaded": 1}
        assert first.items[0].credits == first.run.batch.report.credits_spent
        assert first.items[0].attempts == 4
        ends = [step.end for step in jobs(tmp_path)["film"].attempts]
        assert ends == ["success", "failed", "success", "success"]


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [("extend:status=422:match=three", "failed"), ("generate:status=422:match=one", "rejected")],
)
async def test_a_step_that_is_refused_is_a_failure_where_something_is_paid(
    tmp_path, fault, outcome
):
    async with live(faults=[fault]) as sim:
        done = await ran(sim, [FILM], tmp_path, prices=LIVE)
        assert done.outcomes == {outcome: 1}
        step = 3 if outcome == "failed" else 1
        told_of(done.items[0].error, step, ids(sim).get("two"))
        assert done.items[0].credits == sim.ledger.spent == (step - 1) * PRICE
        sim.clear_faults()
        again = await ran(sim, [FILM], tmp_path)
        assert again.outcomes == {outcome: 1}
        told_of(again.items[0].error, step, ids(sim).get("two"))
        assert len(paid(sim)) == step - 1


async def test_an_account_that_runs_dry_inside_a_film_is_topped_up_and_gone_on_with(tmp_path):
    async with live(credits=2 * PRICE) as sim:
        done = await ran(sim, [FILM, "single"], tmp_path, prices=LIVE, client={"max_tasks": 1})
        film = done.of("one")
        assert film.outcome is Outcome.UNPAID
        assert isinstance(film.error, InsufficientCreditsError)
        begun = [prompt for prompt in paid(sim) if prompt != "single"]
        told_of(film.error, 1 + len(begun), ids(sim)[begun[-1]])
        assert charges(tmp_path).total == sim.ledger.spent == 2 * PRICE
    async with live() as other:
        # Another service knows nothing of the task that was paid: nothing is paid for it.
        again = await ran(other, [FILM], tmp_path)
        assert again.outcomes == {"failed": 1}
        assert isinstance(again.items[0].error, NotFoundError)
        assert not other.ledger.charges
        assert again.run.batch.report.credits_spent == 0


async def test_a_service_that_extends_nothing_ends_the_batch_with_its_journal_intact(tmp_path):
    async with service() as sim:
        _, error = await batches.broken(sim, [FILM], tmp_path, NotFoundError)
        told_of(error, 2, ids(sim)["one"])
        assert "no such call" in str(error)
        assert paid(sim) == ["one"]
        assert jobs(tmp_path)["film"].state is JobState.NEW
        assert charges(tmp_path).total == sim.ledger.spent


@pytest.mark.parametrize("dialect", ["live", "jobs"])
async def test_a_callback_names_the_step_whose_answer_was_lost_and_the_film_goes_on(
    tmp_path, dialect
):
    receiver = WebhookReceiver()
    row = {"key": "film", "prompt": "boat", "extend_to": 22}  # steps that differ by nothing else
    async with on_aiohttp(receiver) as prefix, live(dialect=dialect) as sim:
        for call in ("generate", "extend"):
            sim.add_fault(f"{call}:lose_answer")
        client = {"webhooks": receiver, "callback_url": prefix, "dialect": dialect}
        done = await ran(sim, [row], tmp_path, client=client, prices=LIVE)
        assert done.outcomes == {"downloaded": 1}
        assert paid(sim) == ["boat"] * 3
        assert done.items[0].credits == sim.ledger.spent == 3 * PRICE
        assert done.run.batch.report.credits_uncertain == 0


async def test_a_callback_that_names_an_earlier_step_settles_no_lost_answer(tmp_path, until):
    receiver = WebhookReceiver()
    times = Timeouts(response=0.5, stall=2.0, close=2.0, uncertain=0.5)
    async with on_aiohttp(receiver) as prefix, live() as sim, ClientSession() as session:
        sim.add_fault("extend:reset_before:times=1")
        client = {"webhooks": receiver, "callback_url": prefix, "timeouts": times}
        async with running(sim, [FILM], tmp_path, client=client) as run:
            await until(lambda: run.count(SubmitFailed) == 1)
            first, lost = jobs(tmp_path)["film"].attempts
            for token in (lost.token, first.token, lost.token):
                told = enveloped(first.task_id or "")
                await post(session, f"{prefix}/{token}", told)
            (item,) = [item async for item in run.batch]
        assert item.outcome is Outcome.UNCERTAIN
        assert jobs(tmp_path)["film"].attempts == (first, lost)
        assert paid(sim) == ["one"]


@pytest.mark.parametrize("step", [1, 2, 3])
async def test_a_step_that_may_be_paid_again_is_so_where_that_is_allowed_and_reached(
    tmp_path, step
):
    call = "generate" if step == 1 else "extend"
    options = {"prices": LIVE, "resubmit_uncertain": True}
    async with live(faults=[f"{call}:reset_before:times=1:match={STEPS[step - 1]}"]) as sim:
        first = await ran(sim, [FILM], tmp_path, **options)
        assert first.outcomes == {"uncertain": 1}
        with closing(sqlite3.connect(tmp_path / JOURNAL_NAME)) as journal, journal:
            journal.execute("UPDATE attempts SET intent_at = intent_at - 3600")
        short = await ran(sim, [FILM], tmp_path, **options, max_credits=4 * PRICE - 1)
        assert short.outcomes == {"unpaid": 1}
        assert paid(sim) == STEPS[: step - 1]
        again = await ran(sim, [FILM], tmp_path, **options, max_credits=4 * PRICE)
        assert again.outcomes == {"downloaded": 1}
        assert paid(sim) == STEPS
        assert again.run.batch.report.credits_total == 4 * PRICE, "the lost one may be paid"
        assert again.items[0].attempts == 4


# --- another request under the same key


async def failed_at_three(sim: Simulator, folder: Any) -> None:
    row = FILM | {"extend_to": ["two", "three [policy]"]}
    assert (await ran(sim, [row], folder, prices=LIVE)).outcomes == {"failed": 1}
    assert paid(sim) == ["one", "two"]


@pytest.mark.parametrize(
    ("changes", "kept", "more"),
    [
        ({"extend_to": ["two", "other"]}, 2, ["other"]),
        ({"extend_to": ["two", "other", "more"]}, 2, ["other", "more"]),
        ({"extend_to": ["other", "three"]}, 1, ["other", "three"]),
        ({"prompt": "other", "extend_to": ["two", "three"]}, 0, ["other", "two", "three"]),
        ({"extend_to": ["two", "three"], "seed": 12345}, 0, STEPS),
        ({"prompt": "other", "extend_to": None}, 0, ["other"]),
    ],
)
async def test_of_a_changed_film_the_first_steps_that_are_the_same_are_kept(
    tmp_path, changes, kept, more
):
    async with live() as sim:
        await failed_at_three(sim, tmp_path)
        done = await ran(sim, [FILM | changes], tmp_path, prices=LIVE)
        assert done.outcomes == {"downloaded": 1}
        assert paid(sim) == ["one", "two", *more]
        assert done.items[0].credits == len(more) * PRICE
        ends = [step.end for step in jobs(tmp_path)["film"].attempts]
        replaced = ["success"] * kept + ["replaced"] * (2 - kept)
        assert ends == [*replaced, "failed", *["success"] * len(more)]
        assert charges(tmp_path).total == sim.ledger.spent
        assert (await ran(sim, [FILM | changes], tmp_path)).outcomes == {"skipped": 1}


@pytest.mark.parametrize("retries", [0, 1])
async def test_a_film_that_was_changed_under_way_pays_no_step_that_is_not_wanted(
    tmp_path, until, retries
):
    changed = FILM | {"extend_to": ["two", "other"]}
    async with live(generation_seconds=300) as sim:
        async with running(sim, [FILM], tmp_path, prices=LIVE) as run:
            await until(lambda: len(sim.ledger) == 1)
            await run.batch.aclose()
        options = {"prices": LIVE, "retries": retries, "max_credits": 4 * PRICE}
        done = await ran(sim, [changed], tmp_path, **options)
        assert done.outcomes == {"rejected": 1, "unpaid": 1}
        (left,) = (item for item in done if item.outcome is Outcome.UNPAID)
        told_of(left.error, 2, ids(sim)["one"])
        assert "run the batch again" in str(left.error)
        assert paid(sim) == ["one"]
        assert done.run.batch.report.credits_spent == 0
        again = await ran(sim, [changed], tmp_path, **options)
        assert again.outcomes == {"downloaded": 1}
        assert paid(sim) == ["one", "two", "other"]
        assert again.run.batch.report.credits_total == charges(tmp_path).total == 3 * PRICE


@pytest.mark.parametrize("changes", [{"extend_to": ["two"]}, {"extend_to": None}])
async def test_a_film_that_is_past_what_is_asked_for_now_is_not_paid_a_second_time(
    tmp_path, changes
):
    async with live() as sim:
        await failed_at_three(sim, tmp_path)
        done = await ran(sim, [FILM | changes], tmp_path)
        assert done.outcomes == {"rejected": 1}
        assert isinstance(done.items[0].error, InvalidRequestError)
        there = ids(sim)["two" if changes["extend_to"] else "one"]
        assert f"is task {there} already; download that" in str(done.items[0].error)
        assert paid(sim) == ["one", "two"]


# --- money


async def test_a_film_that_the_budget_does_not_reach_is_not_begun(tmp_path):
    rows = [FILM, {"key": "next", "prompt": "next", "extend_to": ["on"]}]
    async with live() as sim:
        done = await ran(sim, rows, tmp_path, max_credits=5 * PRICE - 1, prices=LIVE)
        assert done.outcomes == {"downloaded": 1, "unpaid": 1}
        assert paid(sim) == STEPS
        unpaid = done.of("next")
        assert isinstance(unpaid.error, BudgetExceededError)
        assert (unpaid.error.needed, unpaid.error.left) == (2 * PRICE, 2 * PRICE - 1)
        told_of(unpaid.error, 1, None, of=2)
        more = await ran(sim, rows, tmp_path, max_credits=5 * PRICE, prices=LIVE)
        assert more.outcomes == {"skipped": 1, "downloaded": 1}


async def test_a_smaller_budget_of_a_later_run_ends_a_film_between_its_steps(tmp_path, until):
    async with live(generation_seconds=300) as sim:
        async with running(sim, [FILM], tmp_path, prices=LIVE) as run:
            await until(lambda: len(sim.ledger) == 1)
            await run.batch.aclose()
        done = await ran(sim, [FILM], tmp_path, max_credits=3 * PRICE - 1, prices=LIVE)
        (item,) = done
        assert (item.outcome, paid(sim)) == (Outcome.UNPAID, ["one"])
        assert isinstance(item.error, BudgetExceededError)
        told_of(item.error, 2, ids(sim)["one"])
        assert item.credits == done.run.batch.report.credits_spent == 0
        more = await ran(sim, [FILM], tmp_path, max_credits=3 * PRICE, prices=LIVE)
        assert more.outcomes == {"downloaded": 1}
        assert paid(sim) == STEPS


async def test_ten_films_at_a_time_never_overshoot_a_budget(tmp_path):
    rows = [
        {"key": f"{n}", "prompt": f"film {n}", "extend_to": [f"film {n} on"] * (n % 4) or None}
        for n in range(24)
    ]
    budget = 40 * PRICE
    async with live(generation_seconds=(30, 200)) as sim:
        done = await ran(sim, rows, tmp_path, max_credits=budget, prices=LIVE)
        spent = sim.ledger.spent
        assert budget - 4 * PRICE < spent <= budget
        assert sim.ledger.peak_running <= 10
        assert done.run.batch.report.credits_spent == charges(tmp_path).total == spent
        for item in done:
            if item.outcome is Outcome.DOWNLOADED:
                assert item.request is not None
                assert item.attempts == len(item.request.extensions) + 1
        # Not one film is begun that cannot be ended.
        assert {job.state for job in jobs(tmp_path).values()} <= {JobState.STORED, JobState.NEW}
        assert not any(job.steps for job in jobs(tmp_path).values() if job.state is JobState.NEW)


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    budget=st.integers(0, 900),
    films=st.lists(
        st.lists(st.sampled_from(["", "", "", "[error]", "[policy]"]), min_size=1, max_size=4),
        max_size=8,
    ),
    dear=st.sets(st.integers(0, 7)),
    retries=st.integers(0, 2),
    is_cut=st.booleans(),
)
def test_no_budget_is_overshot_whichever_step_fails(  # noqa: PLR0917  # hypothesis names them
    budget, films, dear, retries, is_cut, tmp_path_factory
):
    rows = [
        {
            "key": f"{n}",
            "prompt": f"film {n}.0 {kinds[0]}",
            "extend_to": [f"film {n}.{k} {kind}" for k, kind in enumerate(kinds[1:], 1)] or None,
            "model": "veo3" if n in dear else "veo3_lite",
        }
        for n, kinds in enumerate(films)
    ]
    folder = tmp_path_factory.mktemp("videos")
    balances = []

    async def scenario() -> None:
        async with live(generation_seconds=30) as sim:
            options = {"max_credits": budget, "prices": LIVE, "retries": retries}
            if is_cut:
                async with running(sim, rows, folder, **options) as run:
                    async for _ in run.batch:
                        break
                assert run.batch.report.credits_spent == charges(folder).total
            async with running(sim, rows, folder, **options) as run:
                async for _ in run.batch:
                    balances.append(10**6 - sim.ledger.balance)  # noqa: PERF401
            report = run.batch.report
            assert all(spent <= budget for spent in balances)
            assert sim.ledger.spent == report.credits_total == charges(folder).total <= budget
            assert report.credits_uncertain == report.credits_failed == 0
            posts = Counter(post.prompt for post in sim.ledger.posts)
            assert all(count <= 1 + retries for count in posts.values())
            bought = Counter(charge.prompt for charge in sim.ledger if not charge.refunded)
            assert all(count == 1 for count in bought.values())

    asyncio.run(scenario())


async def test_begun_films_are_ended_before_many_more_are_begun(tmp_path):
    rows = [
        {"key": f"{n}", "prompt": f"{n} a", "extend_to": [f"{n} b", f"{n} c"]} for n in range(18)
    ]
    async with live(generation_seconds=50) as sim:
        done = await ran(sim, rows, tmp_path, client={"max_tasks": 3})
        assert done.outcomes == {"downloaded": 18}
        open_films = most = 0
        for post in sim.ledger.posts:
            open_films += ((post.prompt or "")[-1] == "a") - ((post.prompt or "")[-1] == "c")
            most = max(most, open_films)
        assert most <= 9, "three slots, and as many steps that wait as a film has"


# --- keyed jobs


async def test_a_job_of_a_queue_may_be_a_film(tmp_path):
    async with live() as sim, client_of(sim) as veo:
        done = await veo.run_job("film", "one", extend_to=["two", "three"], directory=tmp_path)
        again = await veo.run_job("film", directory=tmp_path)
        assert paid(sim) == STEPS
        assert (done.task_id, done.credits) == (ids(sim)["three"], jobs(tmp_path)["film"].charged)
        assert again.task_id == done.task_id
        assert again.path == done.path == tmp_path / "film.mp4"


async def test_a_film_may_be_left_at_the_service(tmp_path):
    async with live() as sim, client_of(sim) as veo:
        done = await veo.run_job(
            "film", "one", extend_to=["two"], directory=tmp_path, until="ready"
        )
        assert (done.path, done.task_id) == (None, ids(sim)["two"])
        assert "_full" in done.video.url
        assert not videos(tmp_path)
        home = await veo.run_job("film", directory=tmp_path)
        assert home.path is not None
        assert paid(sim) == ["one", "two"]


@pytest.mark.parametrize("step", [1, 2, 3])
async def test_a_film_of_a_worker_that_ended_is_gone_on_with_by_the_next(tmp_path, until, step):
    wanted = VideoRequest("one", extend_to=["two", "three"])
    async with live(generation_seconds=300) as sim:
        async with client_of(sim) as veo:
            work = asyncio.create_task(veo.run_job("film", wanted, directory=tmp_path))
            await until(lambda: len(sim.ledger) == step)
            await veo.aclose()
            with pytest.raises(ClientClosedError):
                await work
        async with client_of(sim) as veo:
            done = await veo.run_job("film", wanted, directory=tmp_path)
        assert paid(sim) == STEPS
        assert done.task_id == ids(sim)["three"]


async def test_who_leaves_a_film_that_is_begun_lets_it_go_on(tmp_path, until):
    async with live(generation_seconds=100) as sim, client_of(sim) as veo:
        sim.add_fault("extend:status=429")
        work = asyncio.create_task(
            veo.run_job("film", "one", extend_to=["two"], directory=tmp_path)
        )
        await until(lambda: len(sim.ledger.posts) > 2)  # it waits between two steps
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        sim.clear_faults()
        await until(lambda: bool(videos(tmp_path)))
        assert (await veo.run_job("film", directory=tmp_path)).task_id == ids(sim)["two"]
        assert paid(sim) == ["one", "two"]


async def test_a_film_that_failed_is_not_paid_again_and_says_what_there_is(tmp_path):
    async with live() as sim, client_of(sim) as veo:
        for _ in range(2):
            with pytest.raises(TaskFailedError) as caught:
                await veo.run_job(
                    "film", "one", extend_to=["two", "three [error]"], directory=tmp_path
                )
            told_of(caught.value, 3, ids(sim)["two"])
        assert len(sim.ledger.posts) == 3


async def test_a_queues_film_that_was_refused_may_be_changed_and_keeps_its_steps(tmp_path):
    async with live(faults=["extend:status=422:times=1:match=three"]) as sim, client_of(sim) as veo:
        with pytest.raises(ValidationError) as caught:
            await veo.run_job("film", "one", extend_to=["two", "three"], directory=tmp_path)
        told_of(caught.value, 3, ids(sim)["two"])
        with pytest.raises(InvalidRequestError, match=f"is task {ids(sim)['two']} already"):
            await veo.run_job("film", "one", extend_to=["two"], directory=tmp_path)
        await veo.run_job("film", "one", extend_to=["two", "other"], directory=tmp_path)
        assert paid(sim) == ["one", "two", "other"]


async def test_a_queues_film_is_within_the_clients_budget_or_not_begun(tmp_path):
    async with live() as sim, client_of(sim, max_credits=189) as veo:
        with pytest.raises(BudgetExceededError):
            await veo.run_job("film", "one", extend_to=["two", "three"], directory=tmp_path)
        assert not sim.ledger.posts


async def test_a_lost_answer_inside_a_queues_film_is_uncertain(tmp_path):
    async with live(faults=["extend:lose_answer:times=1"]) as sim, client_of(sim) as veo:
        for _ in range(2):
            with pytest.raises(SubmitUncertainError) as caught:
                await veo.run_job("film", "one", extend_to=["two"], directory=tmp_path)
            told_of(caught.value, 2, ids(sim)["one"], of=2)
        assert len(sim.ledger.posts) == 2


async def test_a_step_is_told_of_by_events_like_any_other_task(tmp_path):
    async with live(faults=["extend:status=422:match=three"]) as sim:
        done = await ran(sim, [FILM], tmp_path)
        started = [each.request for each in done.run.events if isinstance(each, SubmitStarted)]
        assert [request.prompt for request in started] == STEPS
        assert [type(request) for request in started] == [VideoRequest, *[ExtendRequest] * 2]
        assert started[0] == VideoRequest("one")
        assert done.run.count(SubmitFailed) == 1
