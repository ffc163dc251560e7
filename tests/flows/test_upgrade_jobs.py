"""In the newer form a conversion is a paid task of its own: created once, whatever happens."""

import asyncio

import attrs
import pytest

from veo_async import (
    BudgetExceededError,
    ClientClosedError,
    ConnectError,
    InsufficientCreditsError,
    NotFoundError,
    PollPolicy,
    RetryPolicy,
    ServiceUnavailableError,
    SubmitUncertainError,
    TaskFailedError,
    TaskTimeoutError,
    Timeouts,
    URLExpiredError,
    ValidationError,
    VeoClient,
)
from veo_async.prices import DEARER

pytestmark = pytest.mark.anyio
POLL = PollPolicy(interval=0.05, first=0.05, upgrade_interval=0.05)
QUICK = {
    "dialect": "jobs",
    "generation_seconds": 10,
    "upgrade_seconds": 20,
    "upgrade_4k_seconds": 20,
    "create_rate": None,
    "result_urls_expire": True,
}
SLOW = QUICK | {"upgrade_seconds": 100_000, "upgrade_4k_seconds": 100_000}
KINDS = ["1080p", "4k"]


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def jobs(world):
    """Open a client and a service of the newer form."""

    def opened(sim=QUICK, **settings):
        return world(sim=sim, **({"dialect": "jobs", "poll": POLL} | settings))

    return opened


def upgrade(veo, kind, video):
    return {"1080p": veo.upgrade_1080p, "4k": veo.upgrade_4k}[kind](video)


def price(kind):
    return {"1080p": DEARER.upgrade_1080p, "4k": DEARER.upgrade_4k}[kind]


def charged(w):
    return [charge.kind for charge in w.sim.ledger if not charge.refunded]


def budget(w):
    return w.veo._engine.settings.budget.committed


async def test_it_is_created_once_however_many_ask(jobs, kind):
    async with jobs() as w:
        task = await w.veo.submit("a prompt", aspect_ratio="9:16")
        async with asyncio.TaskGroup() as group:
            asking = [group.create_task(upgrade(w.veo, kind, task)) for _ in range(5)]
        videos = [one.result() for one in asking] + [await upgrade(w.veo, kind, task.id)]
        assert len({video.url for video in videos}) == 1
        assert (videos[0].task_id, videos[0].aspect_ratio) == (task.id, "9:16")
        assert (videos[0].resolution, videos[0].origin) == (kind, kind)
        assert charged(w) == ["generate", kind]
        assert w.sim.ledger.requests[kind] == 1
        assert budget(w) == DEARER.videos["veo3_fast"]["720p"] + price(kind)


async def test_it_holds_no_slot(jobs, kind):
    async with jobs(max_tasks=1) as w:
        await upgrade(w.veo, kind, await w.veo.generate("a prompt"))
        assert w.veo.statistics().slots_in_use == 0


@pytest.mark.parametrize(
    "fault", ["lose_answer", "garbage", "html=502", "status=500", "status=408", "empty"]
)
async def test_an_answer_that_was_lost_is_never_sent_again(jobs, kind, fault):
    async with jobs() as w:
        base = await w.veo.generate("a prompt")
        w.sim.add_fault(f"{kind}:{fault}:times=1")
        for _ in range(3):
            with pytest.raises(SubmitUncertainError, match=r"kie.ai/logs.*veo\.task\(id\)"):
                await upgrade(w.veo, kind, base)
        assert w.sim.ledger.requests[kind] == 1
        assert charged(w).count(kind) <= 1
        assert budget(w) == DEARER.videos["veo3_fast"]["720p"] + price(kind), "it may be charged"
        # Who looked at the log, and did not find it there, asks with a client of his own.
        async with VeoClient(
            w.sim.api_key, base_url=w.sim.base_url, dialect="jobs", poll=POLL
        ) as later:
            assert (await upgrade(later, kind, base)).resolution == kind


async def test_what_is_found_in_the_log_is_attached_by_its_id(jobs, kind):
    async with jobs() as w:
        base = await w.veo.generate("a prompt")
        w.sim.add_fault(f"{kind}:lose_answer:times=1")
        with pytest.raises(SubmitUncertainError):
            await upgrade(w.veo, kind, base)
        found = w.sim.ledger[-1].task_id
        assert found != base.task_id
        assert (await w.veo.task(found)).url != base.url


@pytest.mark.parametrize("fault", ["status=429", "status=455"])
async def test_what_was_turned_away_is_sent_again(jobs, kind, fault):
    async with jobs() as w:
        base = await w.veo.generate("a prompt")
        w.sim.add_fault(f"{kind}:{fault}:times=3")
        assert (await upgrade(w.veo, kind, base)).resolution == kind
        assert w.sim.ledger.requests[kind] == 4
        assert charged(w) == ["generate", kind]


async def test_what_is_turned_away_for_too_long_is_raised(jobs, kind):
    retry = RetryPolicy(base=0.005, cap=0.01, refused_for=0.1)
    async with jobs(retry=retry) as w:
        base = await w.veo.generate("a prompt")
        before = budget(w)
        w.sim.add_fault(f"{kind}:status=455")
        with pytest.raises(ServiceUnavailableError):
            await upgrade(w.veo, kind, base)
        assert budget(w) == before
        w.sim.clear_faults()
        await upgrade(w.veo, kind, base)
        assert charged(w) == ["generate", kind]


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("status=422:text=No such luck", ValidationError),
        ("status=402", InsufficientCreditsError),
        ("unknown", NotFoundError),
    ],
)
async def test_a_refusal_is_raised_and_asking_again_asks_anew(jobs, kind, fault, error):
    async with jobs() as w:
        base = await w.veo.generate("a prompt")
        before = budget(w)
        w.sim.add_fault(f"{kind}:{fault}:times=1")
        with pytest.raises(error):
            await upgrade(w.veo, kind, base)
        assert budget(w) == before
        await upgrade(w.veo, kind, base)
        assert charged(w) == ["generate", kind]


async def test_nothing_was_sent_where_nobody_listens(jobs, kind):
    async with jobs() as w:
        base = await w.veo.generate("a prompt")
    retry = RetryPolicy(attempts=2, base=0.001, cap=0.002)
    options = {"base_url": w.sim.base_url, "dialect": "jobs", "retry": retry, "max_credits": 500}
    async with VeoClient("key", **options) as veo:
        with pytest.raises(ConnectError):
            await upgrade(veo, kind, base)
        assert veo._engine.settings.budget.committed == 0


async def test_a_conversion_that_failed_costs_nothing_and_may_be_asked_for_again(jobs):
    async with jobs() as w:
        base = await w.veo.generate("[no4k] a prompt")
        before = budget(w)
        for number in range(2):
            with pytest.raises(TaskFailedError, match="upgrade another video") as caught:
                await w.veo.upgrade_4k(base)
            assert not caught.value.is_retryable
            assert budget(w) == before
            assert w.sim.ledger.requests["4k"] == number + 1
        assert charged(w) == ["generate"]


@pytest.mark.parametrize(
    "fault", ["status=500", "html=502", "garbage", "unknown", "status=429", "lose_answer"]
)
async def test_bad_polls_only_delay_it(jobs, kind, fault):
    async with jobs() as w:
        base = await w.veo.generate("a prompt")
        # An id that is a moment old may be unknown for a while.
        w.sim.add_fault(f"record-info:{fault}:times=3")
        assert (await upgrade(w.veo, kind, base)).resolution == kind
        assert charged(w) == ["generate", kind]


async def test_one_that_never_ends_is_given_up_and_goes_on_with_the_next_question(jobs, kind):
    async with jobs(sim=SLOW, timeouts=Timeouts(task=1.5)) as w:
        base = await w.veo.generate("a prompt")
        with pytest.raises(TaskTimeoutError):
            await upgrade(w.veo, kind, base)
        w.sim.advance(200_000)
        assert (await upgrade(w.veo, kind, base.task_id)).resolution == kind
        assert charged(w) == ["generate", kind]


async def test_a_caller_that_leaves_before_it_is_sent_pays_nothing(jobs, kind):
    # One create in the window: the next one waits for the gate.
    async with jobs(pace=(1, 3600.0)) as w:
        base = await w.veo.generate("a prompt")
        asking = asyncio.create_task(upgrade(w.veo, kind, base))
        other = asyncio.create_task(upgrade(w.veo, kind, base))
        await asyncio.sleep(0.05)
        for one in (asking, other):
            one.cancel()
            with pytest.raises(asyncio.CancelledError):
                await one
        assert not w.veo._engine.runtime.upgrader._orders
        assert w.sim.ledger.requests[kind] == 0


async def test_a_caller_that_leaves_takes_nothing_from_the_others(jobs, kind, until):
    async with jobs(sim=QUICK | {"faults": [f"{kind}:delay=30"]}) as w:
        base = await w.veo.generate("a prompt")
        first = asyncio.create_task(upgrade(w.veo, kind, base))
        second = asyncio.create_task(upgrade(w.veo, kind, base))
        await until(lambda: w.sim.ledger.requests[kind] == 1)
        first.cancel()
        assert (await second).resolution == kind
        assert charged(w) == ["generate", kind]


async def test_an_id_is_kept_although_its_caller_left_while_it_was_sent(jobs, kind, until):
    async with jobs(sim=QUICK | {"faults": [f"{kind}:delay=30"]}) as w:
        base = await w.veo.generate("a prompt")
        asking = asyncio.create_task(upgrade(w.veo, kind, base))
        await until(lambda: w.sim.ledger.requests[kind] == 1)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert (await upgrade(w.veo, kind, base)).resolution == kind
        assert w.sim.ledger.requests[kind] == 1


async def test_a_client_that_closes_waits_for_the_answer(jobs, kind, until, caplog):
    async with jobs(sim=QUICK | {"faults": [f"{kind}:delay=30"]}) as w:
        base = await w.veo.generate("a prompt")
        asking = asyncio.create_task(upgrade(w.veo, kind, base))
        await until(lambda: w.sim.ledger.requests[kind] == 1)
        await w.veo.aclose()
        with pytest.raises(ClientClosedError, match=r"which is paid; attach to that one") as told:
            await asking
        made = w.sim.ledger[-1].task_id
        assert told.value.task_id == made
        assert f"task {made} makes the" in caplog.text, "the paid id is told"


async def test_a_client_that_closes_while_one_is_made_says_which_task_makes_it(jobs, kind, until):
    async with jobs(sim=SLOW) as w:
        base = await w.veo.generate("a prompt")
        asking = [asyncio.create_task(upgrade(w.veo, kind, base)) for _ in range(2)]
        await until(lambda: charged(w)[1:] == [kind])
        asked = w.sim.ledger.requests["record-info"]
        await until(lambda: w.sim.ledger.requests["record-info"] > asked)
        await w.veo.aclose()
        for one in asking:
            with pytest.raises(ClientClosedError) as told:
                await one
            assert told.value.task_id == w.sim.ledger[-1].task_id


async def test_a_refusal_that_comes_while_a_client_closes_is_told_as_one(jobs, kind, until):
    faults = [f"{kind}:delay=30", f"{kind}:status=422:text=No such luck"]
    async with jobs(sim=QUICK | {"faults": faults}) as w:
        base = await w.veo.generate("a prompt")
        asking = asyncio.create_task(upgrade(w.veo, kind, base))
        await until(lambda: w.sim.ledger.requests[kind] == 1)
        await w.veo.aclose()
        with pytest.raises(ValidationError, match="No such luck"):
            await asking


async def test_a_client_that_cannot_wait_says_what_may_be_paid(jobs, kind, until, caplog):
    options = {"sim": QUICK | {"faults": [f"{kind}:hang"]}, "timeouts": Timeouts(close=0.2)}
    async with jobs(**options) as w:
        base = await w.veo.generate("a prompt")
        asking = asyncio.create_task(upgrade(w.veo, kind, base))
        await until(lambda: w.sim.ledger.requests[kind] == 1)
        await w.veo.aclose()
        with pytest.raises(SubmitUncertainError, match=r"veo\.task\(id\)"):
            await asking
        assert "was lost (the client was closed" in caplog.text


async def test_a_budget_is_kept(jobs, kind):
    async with jobs(max_credits=DEARER.videos["veo3_fast"]["720p"]) as w:
        base = await w.veo.generate("a prompt")
        with pytest.raises(BudgetExceededError):
            await upgrade(w.veo, kind, base)
        assert w.sim.ledger.requests[kind] == 0


async def test_a_link_is_renewed_without_a_new_task(jobs, kind, tmp_path):
    async with jobs() as w:
        large = await upgrade(w.veo, kind, await w.veo.generate("a prompt"))
        whole = await w.veo.download(large, tmp_path / "whole.mp4")
        w.sim.advance(21 * 60)
        again = await w.veo.download(large, tmp_path / "again.mp4")
        assert again.sha256 == whole.sha256
        # Another process has the value, and not what this client remembers.
        w.sim.advance(21 * 60)
        async with VeoClient(
            w.sim.api_key, base_url=w.sim.base_url, dialect="jobs", poll=POLL
        ) as later:
            assert (await later.download(large, tmp_path / "later.mp4")).sha256 == whole.sha256
            again = await upgrade(later, kind, large)
            assert again.task_id == large.task_id
        assert charged(w) == ["generate", kind]


async def test_an_upgraded_video_of_another_process_is_not_paid_again(jobs, kind):
    async with jobs() as w:
        large = await upgrade(w.veo, kind, await w.veo.generate("a prompt"))
        async with VeoClient(
            w.sim.api_key, base_url=w.sim.base_url, dialect="jobs", poll=POLL
        ) as later:
            again = await upgrade(later, kind, large)
            assert (again.task_id, again.resolution) == (large.task_id, kind)
        assert charged(w) == ["generate", kind]


async def test_a_link_whose_task_nobody_knows_is_not_paid_again(jobs, kind, tmp_path):
    async with jobs() as w:
        large = await upgrade(w.veo, kind, await w.veo.generate("a prompt"))
        w.sim.advance(21 * 60)
        async with VeoClient(
            w.sim.api_key, base_url=w.sim.base_url, dialect="jobs", poll=POLL
        ) as later:
            with pytest.raises(
                URLExpiredError, match=r"the video it was made from, which is paid again$"
            ):
                await later.download(attrs.evolve(large, raw={}), tmp_path / "x.mp4")
        assert charged(w) == ["generate", kind]


async def test_a_service_without_the_call_is_told_from_an_unknown_task(world, kind):
    # No simulator has the newer form without this call, so a fault has to stand in for one.
    async with world(sim=QUICK, dialect="jobs", poll=POLL) as w:
        base = await w.veo.generate("a prompt")
        w.sim.add_fault(f"{kind}:status=404:text=Not found")
        with pytest.raises(NotFoundError, match=r"no call for .* upgrades"):
            await upgrade(w.veo, kind, base)
        with pytest.raises(NotFoundError, match="nobody"):
            await upgrade(w.veo, kind, "nobody")
