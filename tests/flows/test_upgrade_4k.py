"""4K: a call that is repeated until it says that the video is there, and paid once."""

import asyncio

import pytest

from veo_async import (
    AuthenticationError,
    BudgetExceededError,
    NotFoundError,
    PollPolicy,
    ServerError,
    TaskTimeoutError,
    Timeouts,
    ValidationError,
    VeoClient,
)
from veo_async.prices import DEARER

pytestmark = pytest.mark.anyio
POLL = PollPolicy(interval=0.05, first=0.05, upgrade_interval=0.05)
QUICK = {
    "dialect": "live",
    "generation_seconds": 10,
    "upgrade_seconds": 10,
    "upgrade_4k_seconds": 20,
}
TALL = {"aspect_ratio": "9:16", "seed": 12345}


def budget(w):
    return w.veo._engine.settings.budget.committed


@pytest.mark.parametrize("dialect", ["auto", "live", "spec"])
@pytest.mark.parametrize("given", ["video", "task", "id", "running"])
async def test_a_video_its_task_or_its_id_can_be_upgraded(world, dialect, given):
    async with world(sim=QUICK, poll=POLL, dialect=dialect) as w:
        task = await w.veo.submit("a prompt", **TALL)
        if given != "running":
            await task
        asked_with = {"video": None, "task": task, "id": task.id, "running": task}[given]
        large = await w.veo.upgrade_4k(asked_with or await task)
        base = await task
        assert (large.resolution, large.origin) == ("4k", "4k")
        assert (large.task_id, large.seed) == (base.task_id, 12345)
        assert (large.aspect_ratio, large.has_audio) == ("9:16", True)
        assert large.url not in base.urls
        assert large.url.partition("?")[0].endswith(".mp4"), "and not its still"
        kinds = [charge.kind for charge in w.sim.ledger]
        assert kinds == ["generate", "4k"], "charged once, however often it was asked for"


async def test_asking_again_is_free(world):
    async with world(sim=QUICK, poll=POLL) as w:
        task = await w.veo.submit("a prompt")
        async with asyncio.TaskGroup() as group:
            asking = [group.create_task(w.veo.upgrade_4k(task)) for _ in range(5)]
        again = await w.veo.upgrade_4k(task.id)
        assert {one.result().url for one in asking} == {again.url}
        assert [charge.kind for charge in w.sim.ledger] == ["generate", "4k"]
        assert budget(w) == DEARER.videos["veo3_fast"]["720p"] + DEARER.upgrade_4k


async def test_both_conversions_of_one_video(world, tmp_path):
    async with world(sim=QUICK, poll=POLL) as w:
        base = await w.veo.generate("a prompt")
        hd = await w.veo.upgrade_1080p(base)
        large = await w.veo.upgrade_4k(hd)
        digests = {
            (await w.veo.download(one, tmp_path / f"{one.resolution}.mp4")).sha256
            for one in (base, hd, large)
        }
        assert len(digests) == 3
        assert [charge.kind for charge in w.sim.ledger] == ["generate", "1080p", "4k"]


@pytest.mark.parametrize(
    "fault",
    [
        "4k:status=500",
        "4k:status=429",
        "4k:status=455",
        "4k:html=502",
        "4k:lose_answer",
        "4k:garbage",
        "4k:empty",
        "4k:reset_before",
    ],
)
async def test_bad_answers_only_delay_it_and_a_lost_one_is_paid_once(world, fault):
    options = QUICK | {"faults": [fault + ":times=3"]}
    async with world(sim=options, poll=POLL) as w:
        large = await w.veo.upgrade_4k(await w.veo.generate("a prompt"))
        assert large.resolution == "4k"
        assert [charge.kind for charge in w.sim.ledger] == ["generate", "4k"]


async def test_there_is_no_4k_version_of_every_video(world):
    async with world(sim=QUICK, poll=POLL) as w:
        base = await w.veo.generate("[no4k] a prompt")
        before = budget(w)
        with pytest.raises(ServerError, match=r"upgrade another video, or take this one in 1080p$"):
            await w.veo.upgrade_4k(base)
        assert sum(charge.credits for charge in w.sim.ledger if not charge.refunded) == 60
        assert budget(w) == before, "what failed is not charged"


async def test_the_spec_has_no_4k_call(world):
    async with world(sim={"generation_seconds": 10}, poll=POLL) as w:
        task = await w.veo.submit("a prompt")
        base = await task
        before = budget(w)
        with pytest.raises(NotFoundError, match=r"no call for 4K upgrades.*as it is") as caught:
            await w.veo.upgrade_4k(base)
        assert caught.value.task_id == base.task_id
        assert budget(w) == before
        with pytest.raises(NotFoundError, match="nobody"):
            await w.veo.upgrade_4k("nobody")


async def test_an_unknown_task_is_no_missing_call(world):
    async with world(sim=QUICK, poll=POLL) as w:
        for asked_with in ("nobody", (await w.veo.generate("a prompt"))):
            if asked_with != "nobody":
                w.sim.add_fault("4k:status=422:text=record is null")
            with pytest.raises(NotFoundError, match="check the task id"):
                await w.veo.upgrade_4k(asked_with)
        assert [charge.kind for charge in w.sim.ledger] == ["generate"]


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("4k:status=422:text=No such luck", ValidationError),
        ("4k:status=401", AuthenticationError),
        ("4k:status=505", ServerError),
    ],
)
async def test_a_refusal_is_raised_and_its_credits_are_free_again(world, fault, kind):
    async with world(sim=QUICK | {"faults": [fault]}, poll=POLL) as w:
        base = await w.veo.generate("a prompt")
        before = budget(w)
        async with asyncio.TaskGroup() as group:
            asking = [group.create_task(_refused(w, base, kind)) for _ in range(3)]
        assert all(one.result() for one in asking)
        assert budget(w) == before, "once, although three asked"
        w.sim.clear_faults()
        await w.veo.upgrade_4k(base)
        assert budget(w) == before + DEARER.upgrade_4k


async def _refused(w, base, kind):
    with pytest.raises(kind):
        await w.veo.upgrade_4k(base)
    return True


async def test_a_refusal_after_it_was_begun_gives_no_credits_back(world):
    options = QUICK | {"faults": ["4k:status=401:after=1"], "upgrade_4k_seconds": 100_000}
    async with world(sim=options, poll=POLL) as w:
        base = await w.veo.generate("a prompt")
        before = budget(w)
        await _refused(w, base, AuthenticationError)
        assert budget(w) == before + DEARER.upgrade_4k
        assert [charge.kind for charge in w.sim.ledger] == ["generate", "4k"]


async def test_a_budget_is_kept(world):
    async with world(sim=QUICK, poll=POLL, max_credits=DEARER.upgrade_4k) as w:
        base = await w.veo.generate("a prompt")
        with pytest.raises(BudgetExceededError) as caught:
            await w.veo.upgrade_4k(base)
        assert caught.value.needed == DEARER.upgrade_4k
        assert w.sim.ledger.requests["4k"] == 0


async def test_a_conversion_that_never_ends_is_given_up(world):
    options = QUICK | {"upgrade_4k_seconds": 100_000}
    async with world(sim=options, poll=POLL, timeouts=Timeouts(task=1.0)) as w:
        with pytest.raises(TaskTimeoutError, match=r"4K video.*ask for it again later"):
            await w.veo.upgrade_4k(await w.veo.generate("a prompt"))


def test_4k_is_asked_about_no_faster_than_the_live_document_allows():
    assert PollPolicy().upgrade_4k_every == 30.0
    assert PollPolicy().upgrade_every == 20.0
    chosen = PollPolicy(upgrade_interval=7)
    assert (chosen.upgrade_every, chosen.upgrade_4k_every) == (7, 7)


async def test_its_link_is_renewed_as_4k(world, tmp_path):
    async with world(sim=QUICK | {"result_urls_expire": True}, poll=POLL) as w:
        large = await w.veo.upgrade_4k(await w.veo.generate("a prompt"))
        whole = await w.veo.download(large, tmp_path / "whole.mp4")
        w.sim.advance(21 * 60)
        again = await w.veo.download(large, tmp_path / "again.mp4")
        assert again.sha256 == whole.sha256
        assert [charge.kind for charge in w.sim.ledger] == ["generate", "4k"]


async def test_a_video_of_another_process_can_be_upgraded_by_its_id(world):
    async with world(sim=QUICK, poll=POLL) as w:
        video = await w.veo.generate("a prompt")
        async with VeoClient(w.sim.api_key, base_url=w.sim.base_url, poll=POLL) as later:
            assert (await later.upgrade_4k(video.task_id)).resolution == "4k"
