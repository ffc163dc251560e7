"""The same flows in each dialect of the client, against the services that speak it."""

import anyio
import pytest

from tests.flows.receivers import on_aiohttp
from veo_async import (
    CallbackReceived,
    ConfigurationError,
    Dialect,
    NotFoundError,
    PollPolicy,
    RequestFinished,
    SubmitUncertainError,
    TaskFailedError,
    TaskStatus,
    TaskSubmitted,
    VeoClient,
    WebhookReceiver,
)

pytestmark = pytest.mark.anyio
POLL = PollPolicy(interval=0.05, first=0.05, upgrade_interval=0.05)
QUICK = {"generation_seconds": 10, "upgrade_seconds": 10}

# The client's dialect, the service.
PAIRS = [
    ("auto", "spec"),
    ("auto", "live"),
    ("spec", "spec"),
    ("live", "live"),
    ("jobs", "live"),
    ("jobs", "jobs"),
]
OLD_PATHS = {"/api/v1/veo/generate", "/api/v1/veo/record-info"}
PATHS = {
    ("auto", "spec"): {*OLD_PATHS, "/api/v1/veo/get-veo-3-1080-p-video"},
    ("auto", "live"): {
        *OLD_PATHS,
        "/api/v1/veo/get-veo-3-1080-p-video",
        "/api/v1/veo/get-1080p-video",
    },
    ("spec", "spec"): {*OLD_PATHS, "/api/v1/veo/get-veo-3-1080-p-video"},
    ("live", "live"): {*OLD_PATHS, "/api/v1/veo/get-1080p-video"},
    ("jobs", "live"): {"/api/v1/jobs/createTask", "/api/v1/jobs/recordInfo"},
    ("jobs", "jobs"): {"/api/v1/jobs/createTask", "/api/v1/jobs/recordInfo"},
}


@pytest.fixture(params=PAIRS, ids="-asks-".join)
def pair(request):
    return request.param


@pytest.fixture
def spoken(world, pair):
    """Open a client of one dialect and a service that speaks it."""

    def opened(sim=None, **settings):
        spoken, service = pair
        options = {"dialect": service} | QUICK | (sim or {})
        return world(sim=options, **({"dialect": spoken, "poll": POLL} | settings))

    return opened


async def test_a_video_is_made_converted_and_brought_home(spoken, pair, tmp_path):
    async with spoken() as w:
        task = await w.veo.submit("a prompt", aspect_ratio="9:16", seed=12345)
        records = [record async for record in task.updates()]
        assert records[-1].status is TaskStatus.SUCCESS
        video = await task
        assert (video.task_id, video.aspect_ratio) == (task.id, "9:16")
        assert video.created_at is not None
        assert video.completed_at is not None
        assert video.completed_at > video.created_at
        assert (await w.veo.status(task.id)).video_url is not None
        hd = await w.veo.upgrade_1080p(video)
        assert (hd.task_id, hd.resolution) == (task.id, "1080p")
        small = await w.veo.download(video, tmp_path / "small.mp4")
        large = await w.veo.download(hd, tmp_path / "large.mp4")
        assert small.sha256 != large.sha256
        assert [charge.kind for charge in w.sim.ledger] == ["generate", "1080p"]
        calls = {event.path for event in w.events if isinstance(event, RequestFinished)}
        assert calls == PATHS[pair], "and no other is tried"
        assert w.sim.ledger.leaks == ()


async def test_a_seed_is_told_where_it_was_sent(spoken, pair):
    async with spoken() as w:
        video = await w.veo.generate("a prompt", seed=12345)
        # The newer form has no seed, so that another one was drawn.
        assert video.seed == (None if pair[0] == "jobs" else 12345)
        assert (await w.veo.task(video.task_id)).seed == video.seed


@pytest.mark.parametrize(
    ("prompt", "is_retryable", "step"),
    [
        ("[policy] x", False, "reword the prompt before submitting again"),
        ("[language] x", False, "leave enable_translation on before submitting again"),
        ("[image] x", False, "veo.upload() before submitting again"),
        ("[unsafe] x", False, "use another image before submitting again"),
        ("[audio] x", False, "what is heard in the prompt before submitting again"),
        ("[person] x", False, "real people out of the prompt before submitting again"),
        ("[rejected] x", False, "change the prompt or the images before submitting again"),
        ("[error] x", True, "may succeed as a new task"),
        ("[fail] x", True, "may succeed as a new task"),
    ],
)
async def test_a_failed_task_says_why_and_what_to_do(spoken, pair, prompt, is_retryable, step):
    async with spoken() as w:
        with pytest.raises(TaskFailedError) as caught:
            await w.veo.generate(prompt)
        if pair[1] != "spec":  # whose record has no reason
            assert caught.value.is_retryable is is_retryable
            assert str(caught.value).endswith(step)
        assert w.veo.statistics().slots_in_use == 0


async def test_a_batch_and_a_job(spoken, pair, tmp_path):
    async with spoken() as w:
        prompts = ["one", "two", "[policy] three"]
        async with w.veo.batch(prompts, directory=tmp_path) as batch:
            outcomes = sorted([str(item.outcome) async for item in batch])
        assert outcomes == ["downloaded", "downloaded", "failed"]
        async with w.veo.batch(prompts, directory=tmp_path) as again:
            assert sorted([str(item.outcome) async for item in again]) == [
                "failed",
                "skipped",
                "skipped",
            ]
        for _ in range(2):
            done = await w.veo.run_job("a job", "a prompt", directory=tmp_path / "jobs")
            assert done.path is not None
        assert w.sim.ledger.requests["generate"] == 4


@pytest.mark.parametrize("prompt", ["a prompt", "[policy] x"])
async def test_a_callback_wakes_whoever_waits(spoken, prompt):
    receiver = WebhookReceiver("key")
    async with on_aiohttp(receiver) as url:
        options = {"webhook_key": "key"}
        # Longer than any test: only a callback can wake.
        never = PollPolicy(interval=300.0, first=300.0)
        async with spoken(sim=options, webhooks=receiver, callback_url=url, poll=never) as w:
            with anyio.fail_after(20):
                task = await w.veo.submit(prompt)
                async for record in task.updates():
                    assert record.task_id == task.id
            while not w.sim.ledger.deliveries:
                await anyio.sleep(0.01)
            assert {entry.status for entry in w.sim.ledger.deliveries} == {200}
            assert any(isinstance(event, CallbackReceived) for event in w.events)


async def test_a_callback_reveals_the_task_of_a_lost_answer(spoken):
    receiver = WebhookReceiver()
    faults = ["generate:lose_answer"]
    async with (
        on_aiohttp(receiver) as url,
        spoken(sim={"faults": faults}, webhooks=receiver, callback_url=url) as w,
    ):
        with pytest.raises(SubmitUncertainError):
            await w.veo.submit("a prompt")
        with anyio.fail_after(20):
            while w.veo.statistics().slots_in_use:
                await anyio.sleep(0.01)
        (event,) = (event for event in w.events if isinstance(event, TaskSubmitted))
        assert event.task_id == w.sim.ledger[0].task_id


async def test_an_id_that_nobody_knows(spoken):
    async with spoken() as w:
        for asking in (w.veo.status("nobody"), w.veo.task("nobody").wait()):
            with pytest.raises(NotFoundError) as caught:
                await asking
            assert caught.value.task_id == "nobody"
        with pytest.raises(NotFoundError, match="nobody"):
            await w.veo.upgrade_1080p("nobody")


async def test_a_task_of_another_process_is_attached_by_its_id(spoken, pair):
    async with spoken() as w:
        task_id = (await w.veo.submit("a prompt")).id
        async with VeoClient(
            w.sim.api_key, base_url=w.sim.base_url, dialect=pair[0], poll=POLL
        ) as later:
            assert (await later.task(task_id)).task_id == task_id
            assert (await later.upgrade_1080p(task_id)).resolution == "1080p"


@pytest.mark.parametrize(("spoken", "service"), [pair for pair in PAIRS if pair[1] != "spec"])
async def test_the_resolution_that_was_asked_for_is_what_is_delivered(world, spoken, service):
    async with world(sim={"dialect": service} | QUICK, dialect=spoken, poll=POLL) as w:
        video = await w.veo.generate("a prompt", resolution="1080p")
        assert video.resolution == "1080p"
        assert "origin" not in video.url, "the 720p original is not the video"
        assert not any("origin" in url for url in video.urls)


# What the live document leaves open (section 5), either way.
@pytest.mark.parametrize("spoken", ["live", "jobs"])
@pytest.mark.parametrize(
    "option",
    [
        {"times": "text"},
        {"times": "iso"},
        {"result_urls": "text"},
        {"origin_urls": "absent"},
        {"origin_urls": "array"},
        {"error_status": "http"},
        {"failure_in": "envelope"},
        {"unknown_task": "null"},
        {"unknown_task": "record is null"},
        {"record_fields": "documented"},
    ],
    ids=str,
)
async def test_what_nobody_knows_of_the_service_may_be_either_way(world, spoken, option):
    options = {"dialect": "live"} | QUICK | option
    async with world(sim=options, dialect=spoken, poll=POLL) as w:
        video = await w.veo.generate("a prompt", aspect_ratio="9:16")
        assert "origin" not in video.url
        assert video.created_at is not None
        assert video.completed_at is not None
        assert video.completed_at > video.created_at
        with pytest.raises(TaskFailedError, match="reword the prompt"):
            await w.veo.generate("[policy] x")
        with pytest.raises(NotFoundError):
            await w.veo.status("nobody")


@pytest.mark.parametrize(("spoken", "service"), [("jobs", "live"), ("live", "live")])
async def test_tasks_of_the_older_and_the_newer_form_are_the_same(world, spoken, service):
    other = {"jobs": "live", "live": "jobs"}[spoken]
    async with world(sim={"dialect": service} | QUICK, dialect=spoken, poll=POLL) as w:
        task_id = (await w.veo.generate("a prompt")).task_id
        async with VeoClient(
            w.sim.api_key, base_url=w.sim.base_url, dialect=other, poll=POLL
        ) as later:
            assert (await later.task(task_id)).task_id == task_id


async def test_an_id_that_the_newer_form_does_not_know_is_asked_for_nowhere_else(world):
    async with world(sim={"dialect": "live"}, dialect="jobs", poll=POLL) as w:
        with pytest.raises(NotFoundError) as caught:
            await w.veo.status("an_older_one")
        assert caught.value.message == "recordInfo is null"
        assert {e.path for e in w.events if isinstance(e, RequestFinished)} == {
            "/api/v1/jobs/recordInfo"
        }


@pytest.mark.parametrize(
    ("spoken", "service"), [("jobs", "spec"), ("spec", "jobs"), ("auto", "jobs"), ("live", "jobs")]
)
async def test_a_service_that_does_not_speak_the_dialect(world, spoken, service):
    async with world(sim={"dialect": service}, dialect=spoken) as w:
        with pytest.raises(NotFoundError, match=r"the dialect of the client$") as caught:
            await w.veo.generate("a prompt")
        assert caught.value.code == 404
        assert caught.value.request_id is not None
        assert len(w.sim.ledger) == 0
        assert w.veo.statistics().slots_in_use == 0


@pytest.mark.parametrize("dialect", ["", "SPEC", "kie", 7, None, ["spec"], "x" * 1000])
def test_a_dialect_that_there_is_not_is_refused_when_the_client_is_made(dialect):
    with pytest.raises(ConfigurationError) as caught:
        VeoClient("key", dialect=dialect)
    assert str(caught.value).endswith("choose one of 'auto', 'spec', 'live', 'jobs'")
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("dialect", [*Dialect, *map(str, Dialect)])
def test_every_dialect_may_be_named(dialect):
    VeoClient("key", dialect=dialect)
