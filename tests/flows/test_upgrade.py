"""1080P: two paths, one of which answers, and a wait until it is ready."""

import pytest

from veo_async import (
    NotFoundError,
    PollPolicy,
    TaskTimeoutError,
    Timeouts,
    ValidationError,
    VeoClient,
)

pytestmark = pytest.mark.anyio
POLL = PollPolicy(interval=0.05, first=0.05, upgrade_interval=0.05)
QUICK = {"generation_seconds": 10, "upgrade_seconds": 10}


@pytest.mark.parametrize("dialect", ["spec", "live"])
@pytest.mark.parametrize("given", ["video", "task", "id"])
@pytest.mark.parametrize("converting_code", [400, 422, 500])
async def test_a_video_its_task_or_its_id_can_be_upgraded(world, dialect, given, converting_code):
    options = {**QUICK, "dialect": dialect, "converting_code": converting_code}
    async with world(sim=options, poll=POLL) as w:
        task = await w.veo.submit("a prompt", aspect_ratio="9:16", seed=12345)
        base = await task
        hd = await w.veo.upgrade_1080p({"video": base, "task": task, "id": task.id}[given])
        assert hd.task_id == base.task_id
        assert hd.url != base.url
        assert hd.resolution == "1080p"
        assert (hd.duration, hd.created_at) == (base.duration, base.created_at)
        kinds = [charge.kind for charge in w.sim.ledger]
        assert kinds == ["generate", "1080p"], "charged once, however often it was asked for"


async def test_the_path_that_answered_is_remembered(world):
    async with world(sim={**QUICK, "dialect": "live"}, poll=POLL) as w:
        for n in range(2):
            await w.veo.upgrade_1080p(await w.veo.submit(f"prompt {n}"))
        assert w.sim.ledger.requests["other"] == 1


@pytest.mark.parametrize(
    "fault",
    [
        "1080p:status=500",
        "1080p:status=429",
        "1080p:html=502",
        "1080p:lose_answer",
        "1080p:garbage",
    ],
)
@pytest.mark.parametrize("dialect", ["spec", "live"])
async def test_bad_answers_only_delay_it(world, fault, dialect):
    options = {**QUICK, "dialect": dialect, "faults": [fault + ":times=2"]}
    async with world(sim=options, poll=POLL) as w:
        hd = await w.veo.upgrade_1080p(await w.veo.generate("a prompt"))
        assert hd.resolution == "1080p"
        assert len(w.sim.ledger) == 2


@pytest.mark.parametrize("dialect", ["spec", "live"])
async def test_what_was_begun_is_unknown_only_where_that_is_repeated(world, dialect):
    options = {**QUICK, "dialect": dialect, "faults": ["1080p:html=404:after=1:times=3"]}
    async with world(sim=options, poll=POLL) as w:
        hd = await w.veo.upgrade_1080p(await w.veo.generate("a prompt"))
        assert hd.resolution == "1080p"
        w.sim.add_fault("1080p:html=404:after=1")
        with pytest.raises(NotFoundError):
            await w.veo.upgrade_1080p(await w.veo.generate("another prompt"))


@pytest.mark.parametrize("dialect", ["spec", "live"])
async def test_a_task_that_nobody_knows_cannot_be_upgraded(world, dialect):
    async with world(sim={**QUICK, "dialect": dialect}, poll=POLL) as w:
        with pytest.raises(NotFoundError):
            await w.veo.upgrade_1080p("nobody")


async def test_a_path_that_knows_no_such_task_is_the_right_one(world):
    options = {**QUICK, "faults": ["1080p:status=422:text=record is null"]}
    async with world(sim=options, poll=POLL) as w:
        with pytest.raises(NotFoundError, match="check the task id"):
            await w.veo.upgrade_1080p(await w.veo.generate("a prompt"))
        assert w.sim.ledger.requests["1080p"] == 1
        assert w.sim.ledger.requests["other"] == 0


@pytest.mark.parametrize("dialect", ["spec", "live"])
async def test_a_refusal_is_raised(world, dialect):
    options = {**QUICK, "dialect": dialect, "faults": ["1080p:status=422:text=No such luck"]}
    async with world(sim=options, poll=POLL) as w:
        with pytest.raises(ValidationError, match="No such luck"):
            await w.veo.upgrade_1080p(await w.veo.generate("a prompt"))


async def test_a_conversion_that_never_ends_is_given_up(world):
    options = {**QUICK, "upgrade_seconds": 100_000}
    async with world(sim=options, poll=POLL, timeouts=Timeouts(task=1.0)) as w:
        with pytest.raises(TaskTimeoutError):
            await w.veo.upgrade_1080p(await w.veo.generate("a prompt"))


@pytest.mark.parametrize("dialect", ["spec", "live"])
async def test_an_expired_link_of_an_upgraded_video_is_renewed_as_1080p(world, dialect, tmp_path):
    async with world(sim={**QUICK, "dialect": dialect, "result_urls_expire": True}, poll=POLL) as w:
        hd = await w.veo.upgrade_1080p(await w.veo.generate("a prompt"))
        whole = await w.veo.download(hd, tmp_path / "whole.mp4")
        w.sim.advance(21 * 60)
        again = await w.veo.download(hd, tmp_path / "again.mp4")
        assert again.sha256 == whole.sha256
        assert again.attempts == 2


async def test_a_video_of_another_process_can_be_upgraded_by_its_id(world):
    async with world(sim=QUICK, poll=POLL) as w:
        video = await w.veo.generate("a prompt")
        async with VeoClient(w.sim.api_key, base_url=w.sim.base_url, poll=POLL) as later:
            assert (await later.upgrade_1080p(video.task_id)).resolution == "1080p"
