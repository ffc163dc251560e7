"""What a batch may spend, and that the service's books say the same as its own."""

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.flows.batches import (
    LONG,
    Counted,
    broken,
    charges,
    jobs,
    paid_once,
    prompts,
    ran,
    running,
    service,
    videos,
)
from veo_async import (
    AuthenticationError,
    ConnectError,
    InsufficientCreditsError,
    Outcome,
    QuotaExceededError,
    RetryPolicy,
    SubmitsPaused,
    SubmitsResumed,
    TaskFailedError,
    Timeouts,
    UnexpectedResponseError,
    ValidationError,
    VideoRequest,
)
from veo_async.accounts import Accounts
from veo_async.entries import Entry
from veo_async.jobs import Attempt, Job
from veo_async.prices import DEARER, LIVE, SPEC, Budget
from veo_async.protocol.jobs import JobState
from veo_async.simulator import Fault, Simulator

pytestmark = pytest.mark.anyio


def paid(sim: Simulator, prompt: str) -> int:
    """Return how many tasks were made of a prompt."""
    return sum(charge.prompt == prompt for charge in sim.ledger)


# --- budgets


@pytest.mark.parametrize(
    ("budget", "made"), [(0, 0), (69, 0), (70, 1), (139, 1), (140, 2), (840, 12), (5000, 15)]
)
async def test_a_budget_is_never_overshot_with_ten_in_flight(budget, made, tmp_path):
    counted = Counted(prompts(15))
    async with service() as sim:
        done = await ran(sim, counted, tmp_path, max_credits=budget, prices=SPEC)
        assert sim.ledger.spent == 70 * made <= budget
    assert done.outcomes == {
        outcome: count
        for outcome, count in {"downloaded": made, "unpaid": int(made < 15)}.items()
        if count
    }
    assert counted.pulled == min(made + 1, 15), "nothing is pulled behind the first unpaid one"
    report = done.run.batch.report
    assert report.credits_spent == report.credits_total == charges(tmp_path).total == 70 * made


async def test_what_is_unpaid_is_made_by_a_later_run_in_the_same_budget(tmp_path):
    async with service() as sim:
        first = await ran(sim, prompts(4), tmp_path, max_credits=150, prices=SPEC)
        (unpaid,) = (item for item in first if item.outcome is Outcome.UNPAID)
        assert (unpaid.credits, unpaid.task_id, unpaid.path) == (0, None, None)
        again = await ran(sim, prompts(4), tmp_path, max_credits=150, prices=SPEC)
        assert again.outcomes == {"skipped": 2, "unpaid": 1}, "it counts all runs of the journal"
        more = await ran(sim, prompts(4), tmp_path, max_credits=280, prices=SPEC)
        assert more.outcomes == {"skipped": 2, "downloaded": 2}
        paid_once(sim, prompts(4))


async def test_a_refund_is_waited_for_before_the_money_is_called_spent(tmp_path):
    wanted = ["boat 1 [policy]", "boat 2 [policy]", "boat 3", "boat 4"]
    async with service(dialect="live", generation_seconds=300) as sim:
        done = await ran(sim, wanted, tmp_path, max_credits=140, prices=DEARER)
        paid_once(sim, ["boat 3", "boat 4"])
    assert done.outcomes == {"failed": 2, "downloaded": 2}
    assert done.run.batch.report.credits_spent == 140


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    budget=st.integers(0, 900),
    kinds=st.lists(st.sampled_from(["", "", "[fail]", "[policy]", "[early]"]), max_size=14),
    dear=st.sets(st.integers(0, 13)),
    retries=st.integers(0, 2),
)
def test_no_budget_is_overshot_whatever_fails(budget, kinds, dear, retries, tmp_path_factory):
    rows = [
        {"prompt": f"boat {n} {kind}", "model": "veo3" if n in dear else "veo3_lite"}
        for n, kind in enumerate(kinds)
    ]
    folder = tmp_path_factory.mktemp("videos")
    balances = []

    async def scenario() -> None:
        async with service(dialect="live", generation_seconds=30) as sim:
            options = {"max_credits": budget, "prices": LIVE, "retries": retries}
            async with running(sim, rows, folder, **options) as run:
                async for _ in run.batch:
                    balances.append(10**6 - sim.ledger.balance)  # noqa: PERF401
            report = run.batch.report
            assert all(spent <= budget for spent in balances)
            assert sim.ledger.spent == report.credits_spent == charges(folder).total <= budget
            assert report.credits_uncertain == report.credits_failed == 0

    asyncio.run(scenario())


async def test_the_clients_budget_holds_for_its_batches_too(tmp_path):
    async with service() as sim, running(sim, [], tmp_path, client={"max_credits": 150}) as run:
        await run.veo.generate("single")
        batch = run.veo.batch(prompts(5), directory=tmp_path / "other")
        async with batch:
            report = await batch.wait()
        assert (report.downloaded, report.unpaid) == (1, 1)
        assert sim.ledger.spent == 140


async def test_what_a_batch_did_not_spend_is_left_to_its_client(tmp_path, until):
    async with (
        service(faults=["generate:status=429"]) as sim,
        running(sim, prompts(3), tmp_path, client={"max_credits": 140}) as run,
    ):
        await until(lambda: len(sim.ledger.posts) > 2)
        await run.batch.aclose()
        sim.clear_faults()
        for prompt in ("single", "other"):
            await run.veo.generate(prompt)
        assert run.batch.report.credits_spent == run.batch.report.credits_total == 0


@pytest.mark.parametrize("model", ["veo3_lite", "veo3_fast", "veo3"])
@pytest.mark.parametrize("resolution", ["720p", "1080p"])
async def test_the_price_list_is_the_services_to_the_credit(model, resolution, tmp_path):
    async with service(dialect="live") as sim:
        options = {"prices": LIVE, "model": model, "resolution": resolution}
        done = await ran(sim, prompts(2), tmp_path, **options)
        assert sim.ledger.spent == done.run.batch.report.credits_spent == charges(tmp_path).total
        assert [item.credits for item in done] == [sim.ledger.spent // 2] * 2


def test_a_video_that_is_fetched_again_changes_no_budget():
    # The service said that it cost less than the price list did, and the journal counted that.
    attempt = Attempt(number=1, token="token", credits=70, charged=60, intent_at=0.0, end="success")
    job = Job(key="key", position=1, state=JobState.SUBMITTED, attempts=(attempt,))
    accounts = Accounts(prices=DEARER, ours=Budget(500, 60), clients=Budget(500))
    accounts.charged(
        Entry(job=job, request=VideoRequest("boat"), source="boat"), 60, is_failure=False
    )
    assert (accounts.ours.committed, accounts.clients.committed) == (60, 0)
    assert accounts.tally.spent == 0


def test_what_the_service_says_of_a_price_counts_and_not_the_list():
    request = VideoRequest("boat")
    attempt = Attempt(number=1, token="token", credits=70, charged=70, intent_at=0.0)
    for is_failure, cost, clients in ((False, 60, 70), (True, 60, 60), (True, 0, 0)):
        job = Job(key="key", position=1, state=JobState.SUBMITTED, attempts=(attempt,))
        entry = Entry(job=job, request=request, source="boat", price=70)
        accounts = Accounts(prices=DEARER, ours=Budget(500), clients=Budget(500))
        accounts.pay(entry)
        accounts.charged(entry, cost, is_failure=is_failure)
        accounts.take_back(entry)
        accounts.lost(entry)
        accounts.settle(entry)
        assert (accounts.ours.committed, accounts.clients.committed) == (cost, clients)
        assert (accounts.tally.spent, entry.spent) == (cost, cost)
        assert accounts.tally.failed == (cost if is_failure else 0)
        assert accounts.tally.uncertain == 0


# --- the account's money


@pytest.mark.parametrize("dialect", ["spec", "live"])
async def test_an_account_that_runs_dry_ends_the_batch_cleanly(dialect, tmp_path):
    counted = Counted(prompts(30))
    async with service(dialect=dialect, credits=300, generation_seconds=400) as sim:
        price = 70 if dialect == "spec" else 60
        done = await ran(sim, counted, tmp_path, prices=SPEC if dialect == "spec" else LIVE)
        made = 300 // price
        assert sim.ledger.spent == done.run.batch.report.credits_spent == made * price
    assert done.outcomes == {"downloaded": made, "unpaid": counted.pulled - made}
    assert counted.pulled <= 12
    first, *_ = (item for item in done if item.error is not None)
    assert isinstance(first.error, InsufficientCreditsError)
    async with service(dialect=dialect, seed=1) as topped_up:
        again = await ran(topped_up, prompts(30), tmp_path)
        assert again.outcomes == {"skipped": made, "downloaded": 30 - made}
        assert len(topped_up.ledger) == 30 - made


@pytest.mark.parametrize(
    ("status", "kind"), [(402, InsufficientCreditsError), (433, QuotaExceededError)]
)
@pytest.mark.parametrize("dialect", ["spec", "live"])
async def test_a_refusal_for_money_is_unpaid_and_made_by_the_next_run(
    status, kind, dialect, tmp_path
):
    fault = f"generate:status={status}:after=3:times=1"
    async with service(dialect=dialect, faults=[fault]) as sim:
        done = await ran(sim, prompts(8), tmp_path)
        assert done.outcomes.keys() == {"downloaded", "unpaid"}
        (told,) = (item for item in done if item.error is not None)
        assert isinstance(told.error, kind)
        assert (told.outcome, told.credits) == ("unpaid", 0)
        again = await ran(sim, prompts(8), tmp_path)
        assert again.outcomes.keys() == {"downloaded", "skipped"}
        paid_once(sim, prompts(8))
        assert charges(tmp_path).total == 8 * 70


# --- failures


@pytest.mark.parametrize("marker", ["[fail]", "[early]", "[error]", "[timeout]"])
async def test_failures_that_may_pass_are_paid_anew_so_often_and_no_more(marker, tmp_path):
    prompt = f"boat {marker}"
    async with service(dialect="live") as sim:
        for retries, tasks in ((0, 1), (0, 1), (2, 3), (2, 3), (3, 4)):
            done = await ran(sim, [prompt, "boat"], tmp_path, retries=retries, prices=LIVE)
            assert (done.of(prompt).outcome, done.of(prompt).attempts) == ("failed", tasks)
            assert isinstance(done.of(prompt).error, TaskFailedError)
            assert done.of(prompt).error.is_retryable
            assert paid(sim, prompt) == tasks
        assert charges(tmp_path).total == sim.ledger.spent == 60


@pytest.mark.parametrize("marker", ["[policy]", "[language]", "[image]", "[unsafe]", "[rejected]"])
@pytest.mark.parametrize("failure_in", ["record", "envelope"])
async def test_what_can_never_pass_is_never_paid_anew(marker, failure_in, tmp_path):
    async with service(dialect="live", failure_in=failure_in) as sim:
        for _ in range(2):
            done = await ran(sim, [f"boat {marker}"], tmp_path, retries=5)
            (item,) = done
            assert (item.outcome, item.attempts) == ("failed", 1)
            assert not item.error.is_retryable
            assert item.error.reason
        assert len(sim.ledger) == 1


async def test_a_task_that_passes_at_last_is_paid_once_in_all(tmp_path):
    # The simulator decides by the prompt, so the failure is one that its answers tell.
    fault = Fault("record-info", "status", 501, times=1, text="Generation failed.")
    async with service(dialect="live", faults=[fault], failure_in="envelope") as sim:
        done = await ran(sim, ["boat"], tmp_path, retries=1, prices=LIVE)
        (item,) = done
        report = done.run.batch.report
    assert (item.outcome, item.attempts, item.credits) == ("downloaded", 2, 60)
    assert report.credits_spent == charges(tmp_path).total == 60
    assert len(jobs(tmp_path)[item.key].attempts) == 2


@pytest.mark.parametrize("dialect", ["spec", "live"])
async def test_what_the_service_refuses_is_rejected_in_its_words(dialect, tmp_path):
    words = "imageUrls must contain http or https URLs only"
    faults = [Fault("generate", "status", 422, match="bad", text=words)]
    async with service(dialect=dialect, faults=faults) as sim:
        for _ in range(2):
            done = await ran(sim, ["bad boat", "good boat"], tmp_path)
            item = done.of("bad boat")
            assert (item.outcome, item.task_id, item.credits) == ("rejected", None, 0)
            assert item.request.prompt == "bad boat"
            assert isinstance(item.error, ValidationError)
            assert words in str(item.error)
        assert sum(post.prompt == "bad boat" for post in sim.ledger.posts) == 1
        paid_once(sim, ["good boat"])
        assert charges(tmp_path).total == 70


# --- refusals that pass, and those of everything


async def test_a_busy_account_only_slows_a_batch_down(tmp_path):
    for number, retry_after in enumerate((None, 0.02)):
        folder = tmp_path / str(number)
        # Long enough that a fourth one comes while three run, however slow this machine is.
        async with service(max_tasks=3, retry_after=retry_after, generation_seconds=400) as sim:
            done = await ran(sim, prompts(12), folder)
            assert any(post.code == 429 for post in sim.ledger.posts)
            paid_once(sim, prompts(12))
            assert sim.ledger.peak_running <= 3
        assert done.outcomes == {"downloaded": 12}


@pytest.mark.parametrize("status", [429, 455])
@pytest.mark.parametrize("dialect", ["spec", "live"])
async def test_a_refusal_that_lasts_longer_than_a_submit_waits_is_no_error(
    status, dialect, tmp_path, until
):
    retry = RetryPolicy(base=0.005, cap=0.01, refused_for=0.05)
    async with service(dialect=dialect, faults=[f"generate:status={status}"]) as sim:
        async with running(sim, prompts(12), tmp_path, client={"retry": retry}) as run:
            await until(lambda: run.texts(SubmitsPaused))
            sim.clear_faults()
            report = await run.batch.wait()
        assert run.texts(SubmitsPaused) == run.texts(SubmitsResumed)
        assert report.downloaded == 12
        paid_once(sim, prompts(12))


async def test_an_outage_pauses_a_batch_that_goes_on_after_it(tmp_path, until):
    counted = Counted(prompts(30))
    sim = service()
    async with sim:
        entered = running(sim, counted, tmp_path)
        run = await entered.__aenter__()
        await until(lambda: run.batch.report.downloaded >= 5)
    await until(lambda: run.texts(SubmitsPaused))
    assert counted.pulled <= run.batch.report.total + 25, "the input waits as well"
    async with sim:
        outcomes = [item.outcome async for item in run.batch]
        await entered.__aexit__(None, None, None)
        assert len(outcomes) == 30
        # Answers and files that were on the wire are lost to this run, and nothing is paid twice.
        assert len(run.texts(SubmitsPaused)) == len(run.texts(SubmitsResumed))
        assert max(paid(sim, prompt) for prompt in prompts(30)) == 1
        again = await ran(sim, prompts(30), tmp_path)
        assert set(again.outcomes) <= {"skipped", "downloaded", "uncertain"}
        made = again.outcomes["skipped"] + again.outcomes.get("downloaded", 0)
        assert len(videos(tmp_path)) == made >= 20
        assert max(paid(sim, prompt) for prompt in prompts(30)) == 1


@pytest.mark.parametrize("dialect", ["spec", "live"])
async def test_a_key_that_is_refused_ends_the_batch_and_harms_nothing(dialect, tmp_path):
    faults = ["generate:status=401:after=4"]
    async with service(dialect=dialect, faults=faults) as sim:
        done, error = await broken(sim, prompts(14), tmp_path, AuthenticationError)
        assert error.code == 401
        assert done.outcomes["downloaded"] == 4
        report = done.run.batch.report
        price = 70 if dialect == "spec" else 60
        assert report.credits_spent == charges(tmp_path).total == 4 * 70
        assert sim.ledger.spent == 4 * price
        sim.clear_faults()
        again = await ran(sim, prompts(14), tmp_path)
        assert again.outcomes == {"skipped": 4, "downloaded": 10}
        paid_once(sim, prompts(14))


async def test_a_host_that_never_answered_is_an_error_and_no_pause(tmp_path, unused_tcp_port):
    retry = RetryPolicy(attempts=2, base=0.001)
    client = {"base_url": f"http://127.0.0.1:{unused_tcp_port}", "retry": retry}
    async with service() as sim:
        done, error = await broken(sim, prompts(20), tmp_path, ConnectError, client=client)
        assert str(unused_tcp_port) in str(error)
        assert done.run.batch.report.credits_spent == charges(tmp_path).total == 0
        again = await ran(sim, prompts(20), tmp_path)
        assert again.outcomes == {"downloaded": 20}
        paid_once(sim, prompts(20))


async def test_pages_in_place_of_a_service_end_the_batch_and_cost_nothing(tmp_path):
    retry = RetryPolicy(attempts=3, base=0.001, cap=0.002)
    async with service(faults=["generate:html=403"]) as sim:
        done, error = await broken(
            sim, prompts(20), tmp_path, UnexpectedResponseError, client={"retry": retry}
        )
        assert error.http_status == 403
        assert len(sim.ledger) == 0
        assert 3 <= len(sim.ledger.posts) <= 40
        assert set(done.outcomes) <= {"unpaid"}
        sim.clear_faults()
        again = await ran(sim, prompts(20), tmp_path)
        assert again.outcomes == {"downloaded": 20}


async def test_a_wrong_path_ends_the_batch(tmp_path):
    async with service(faults=["generate:html=404"]) as sim:
        retry = RetryPolicy(attempts=2, base=0.001)
        done, _ = await broken(sim, prompts(3), tmp_path, Exception, client={"retry": retry})
        assert done.run.batch.report.credits_total == 0


# --- lost answers


@pytest.mark.parametrize(
    "fault", ["lose_answer", "garbage", "empty", "status=500", "reset_before", "html"]
)
async def test_a_lost_answer_is_uncertain_in_every_run_and_never_sent_again(fault, tmp_path):
    async with service(faults=[f"generate:{fault}:match=boat 2:times=1"]) as sim:
        done = await ran(sim, prompts(3), tmp_path, prices=SPEC)
        item, report = done.of("boat 2"), done.run.batch.report
        assert (item.outcome, item.task_id, item.credits) == ("uncertain", None, 70)
        assert item.key in str(item.error)
        assert (report.credits_spent, report.credits_uncertain) == (210, 70)
        assert report.running == 0
        again = await ran(sim, prompts(3), tmp_path, prices=SPEC)
        assert again.outcomes == {"skipped": 2, "uncertain": 1}
        assert again.run.batch.report.credits_total == charges(tmp_path).total == 210
        assert sum(post.prompt == "boat 2" for post in sim.ledger.posts) == 1


async def test_a_lost_answer_holds_its_slot_in_this_run_and_in_the_next(tmp_path, until):
    options = {"faults": ["generate:lose_answer:times=1"], "generation_seconds": LONG}
    async with service(**options) as sim:
        for pulled in (11, 10):
            counted = Counted(prompts(30))
            async with running(sim, counted, tmp_path) as run:
                await until(lambda run=run: run.veo.statistics().slots_waiting == 1)
                assert run.veo.statistics().slots_in_use == 10
                await until(lambda: sim.ledger.running == 10)
                assert counted.pulled >= pulled
        assert sim.ledger.peak_running == 10
        assert len(sim.ledger.posts) == 10


async def test_a_lost_answer_is_paid_again_only_where_that_is_wanted_and_later(tmp_path):
    async with service(faults=["generate:lose_answer:times=1"]) as sim:
        await ran(sim, ["boat"], tmp_path)
        soon = await ran(sim, ["boat"], tmp_path, resubmit_uncertain=True)
        assert soon.outcomes == {"uncertain": 1}, "its slot has not lapsed"
        patience = {"timeouts": Timeouts(uncertain=0.01, response=0.2, close=2)}
        await asyncio.sleep(0.3)
        later = await ran(sim, ["boat"], tmp_path, client=patience)
        assert later.outcomes == {"uncertain": 1}
        wanted = await ran(sim, ["boat"], tmp_path, client=patience, resubmit_uncertain=True)
        (item,) = wanted
        assert (item.outcome, item.attempts) == ("downloaded", 2)
        assert paid(sim, "boat") == 2, "each may cost its price twice"
        assert charges(tmp_path).total == sim.ledger.spent == 140
        assert (await ran(sim, ["boat"], tmp_path)).outcomes == {"skipped": 1}
