"""A batch: one item for each input, as it is finished, whatever the others do."""

import asyncio
import gc
import json
import os
import threading
from pathlib import Path

import pytest

from tests.flows.batches import (
    LONG,
    Counted,
    broken,
    charges,
    client_of,
    jobs,
    paid_once,
    prompts,
    ran,
    running,
    service,
    videos,
)
from veo_async import (
    BatchItem,
    BatchReport,
    ClientClosedError,
    ConfigurationError,
    DownloadStarted,
    Event,
    InvalidRequestError,
    JournalError,
    Outcome,
    SubmitStarted,
    TaskFailedError,
    TaskSubmitted,
    VideoRequest,
)
from veo_async.database import JOURNAL_NAME
from veo_async.entries import Entry
from veo_async.jobs import Job
from veo_async.protocol.mp4 import BoxWalk
from veo_async.settings import DISK_THREADS, LOOK_AHEAD, UNREAD_ITEMS

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("dialect", ["spec", "live"])
async def test_every_prompt_gets_its_video_and_is_paid_once(dialect, tmp_path):
    async with service(dialect=dialect, generation_seconds=500) as sim:
        done = await ran(sim, prompts(25), tmp_path)
        paid_once(sim, prompts(25))
        assert sim.ledger.peak_running <= 10
        assert len(sim.ledger.posts) == 25, "not one was turned away"
    assert done.outcomes == {"downloaded": 25}
    assert sorted(item.index for item in done) == [*range(1, 26)]
    assert len({item.key for item in done}) == len({item.task_id for item in done}) == 25
    for item in done:
        assert (item.source, item.request.prompt) == (f"boat {item.index}",) * 2
        assert item.path.name == f"{item.index:04}-boat-{item.index}.mp4"
        walk = BoxWalk()
        walk.feed(memoryview(item.path.read_bytes()))
        assert walk.verdict(length_known=True) is None
        assert item.download.size == item.path.stat().st_size
        told = json.loads(item.path.with_suffix(".json").read_text())
        assert (told["task_id"], told["sha256"]) == (item.task_id, item.download.sha256)
        assert (item.error, item.attempts) == (None, 1)


async def test_items_come_in_the_order_in_which_they_are_finished(tmp_path, until):
    async with service(generation_seconds=LONG) as sim:
        sim.add_fault("video:hang:match=boat 1")
        async with running(sim, prompts(4), tmp_path) as run:
            await until(lambda: len(sim.ledger) == 4)
            sim.advance(LONG)
            came = [(await anext(run.batch)).index for _ in range(3)]
            assert sorted(came) == [2, 3, 4]
            assert run.batch.report.running == 1


async def test_one_that_fails_stops_no_other(tmp_path):
    wanted = ["boat 1", "boat 2 [policy]", "boat 3", "boat 4 [fail]", "boat 5"]
    async with service(dialect="live") as sim:
        done = await ran(sim, wanted, tmp_path)
        paid_once(sim, ["boat 1", "boat 3", "boat 5"])
    assert done.outcomes == {"downloaded": 3, "failed": 2}
    policy, fail = done.of("boat 2 [policy]"), done.of("boat 4 [fail]")
    assert isinstance(policy.error, TaskFailedError)
    assert "violating content policies" in policy.error.reason
    assert (policy.error.code, policy.error.is_retryable) == (400, False)
    assert (fail.error.code, fail.error.is_retryable) == (501, True)
    assert policy.path is None
    assert policy.task_id == policy.error.task_id
    assert policy.credits == 0


async def test_the_same_prompt_twice_is_two_videos_in_every_run(tmp_path):
    wanted = ["boat", "ship", "boat", "boat"]
    async with service() as sim:
        first = await ran(sim, wanted, tmp_path)
        again = await ran(sim, wanted, tmp_path)
        paid_once(sim, wanted)
    assert again.outcomes == {"skipped": 4}
    assert {item.index: item.key for item in first} == {item.index: item.key for item in again}
    assert {item.key: item.path for item in first} == {item.key: item.path for item in again}
    assert len(videos(tmp_path)) == 4


async def test_defaults_are_for_inputs_without_a_value_of_their_own(tmp_path):
    wanted = ["one", {"prompt": "two", "seed": 20_000}, VideoRequest("three", seed=30_000)]
    async with service() as sim:
        done = await ran(sim, wanted, tmp_path, seed=10_000, model="veo3")
    assert {item.request.prompt: item.request.seed for item in done} == {
        "one": 10_000,
        "two": 20_000,
        "three": 30_000,
    }
    assert {item.request.prompt: str(item.request.model) for item in done} == {
        "one": "veo3",
        "two": "veo3",
        "three": "veo3_fast",
    }
    assert sorted(videos(tmp_path)) == [
        "0001-one-10000.mp4",
        "0002-two-20000.mp4",
        "0003-three-30000.mp4",
    ]


async def test_files_are_named_as_they_are_wanted(tmp_path):
    async with service() as sim:
        rows = [{"prompt": "a boat", "key": "x/../y"}, {"prompt": "a boat", "key": "z"}]
        await ran(sim, rows, tmp_path / "keys", name="{key}")
        await ran(sim, ["a boat", "a ship"], tmp_path / "same", name="{model}")
        await ran(sim, ["a boat"], tmp_path / "prefix", name="film")
    assert videos(tmp_path / "keys") == ["x-..-y.mp4", "z.mp4"]
    assert videos(tmp_path / "same") == ["veo3_fast-2.mp4", "veo3_fast.mp4"]
    assert videos(tmp_path / "prefix") == ["film-0001-a-boat.mp4"]


async def test_a_foreign_file_keeps_its_name(tmp_path):
    mine = tmp_path / "0001-boat-1.mp4"
    mine.write_bytes(b"mine")
    async with service() as sim:
        done = await ran(sim, prompts(1), tmp_path)
    assert mine.read_bytes() == b"mine"
    assert done.items[0].path.name == "0001-boat-1-2.mp4"


# --- what is told of it


async def test_the_report_is_right_before_while_and_after(tmp_path, until):
    async with service(generation_seconds=LONG) as sim, client_of(sim) as veo:
        batch = veo.batch([*prompts(2), None], directory=tmp_path)
        assert batch.report == BatchReport()
        async with batch:
            item = await anext(batch)
            await until(lambda: batch.report.slot_use is not None and len(sim.ledger) == 2)
            assert item.outcome is Outcome.REJECTED
            report = batch.report
            assert (report.rejected, report.total, report.running) == (1, 1, 2)
            assert report.credits_spent == 140
            assert 0 <= report.slot_use < 1
            sim.advance(LONG)
            end = await batch.wait()
        assert batch.report == end
        assert (end.downloaded, end.rejected, end.running, end.total) == (2, 1, 0, 3)
        assert end.credits_spent == end.credits_total == sim.ledger.spent == 140
        assert end.bytes == sum((tmp_path / name).stat().st_size for name in videos(tmp_path))
        assert end.seconds > 0
        assert "2 downloaded, 1 rejected; 140 credits spent" in str(end)


async def test_a_run_with_nothing_left_to_do_says_what_it_saved(tmp_path):
    async with service() as sim:
        await ran(sim, prompts(3), tmp_path)
        done = await ran(sim, prompts(3), tmp_path)
    report = done.run.batch.report
    assert (report.skipped, report.credits_saved, report.credits_spent) == (3, 210, 0)
    assert (report.credits_total, report.slot_use) == (210, None)


async def test_an_observer_that_raises_costs_nothing(tmp_path):
    def broken(event: object) -> None:
        raise asyncio.CancelledError

    async with service() as sim:
        done = await ran(sim, prompts(12), tmp_path, client={"on_event": broken})
        paid_once(sim, prompts(12))
    assert done.outcomes == {"downloaded": 12}


async def test_the_key_stands_in_no_file(tmp_path):
    async with service(faults=["generate:lose_answer:times=1"]) as sim:
        await ran(sim, [*prompts(3), "x [fail]", None], tmp_path)
        for path in tmp_path.iterdir():
            assert sim.api_key.encode() not in path.read_bytes()


# --- lazily


async def test_nothing_is_pulled_far_ahead_of_the_slots(tmp_path, until):
    for source in (iter, aiter):
        counted = Counted(prompts(1000))
        folder = tmp_path / source.__name__
        async with (
            service(generation_seconds=LONG) as sim,
            running(sim, source(counted), folder) as run,
        ):
            await until(lambda sim=sim: sim.ledger.running == 10)
            await until(lambda run=run: run.veo.statistics().slots_waiting == 1)
            assert counted.pulled == 11


async def test_what_is_done_already_is_looked_at_some_at_a_time(tmp_path, until):
    async with service() as sim:
        await ran(sim, prompts(40), tmp_path)
    async with service(generation_seconds=LONG, seed=1) as sim:
        counted = Counted([*prompts(40), *(f"ship {n}" for n in range(100))])
        async with running(sim, counted, tmp_path) as run:
            await until(lambda: run.veo.statistics().slots_waiting == 1)
            assert 40 + 11 <= counted.pulled <= 40 + 11 + LOOK_AHEAD
            assert run.batch.report.skipped == 40


async def test_an_input_that_raises_midway_is_told_once_all_before_it_is_finished(tmp_path):
    def cut(count: int):
        yield from prompts(count)
        raise OSError("the list is gone")

    async def later(count: int):
        for prompt in cut(count):
            yield prompt

    async with service() as sim:
        for count, source in ((13, cut), (14, later), (30, cut)):
            came, error = await broken(sim, source(count), tmp_path, OSError)
            assert error.args == ("the list is gone",)
            assert sorted(item.index for item in came) == [*range(1, count + 1)]
            assert all(item.path.exists() for item in came)
        paid_once(sim, prompts(30))


async def test_failures_are_still_paid_anew_when_the_input_has_broken(tmp_path):
    def cut():
        yield "boat [fail]"
        raise OSError("the list is gone")

    async with service(dialect="live") as sim:
        came, _ = await broken(sim, cut(), tmp_path, OSError, retries=2)
    assert [item.attempts for item in came] == [3]


async def test_an_input_that_is_cancelled_from_within_is_no_end_of_it(tmp_path):
    async def source():
        yield "boat 1"
        raise asyncio.CancelledError

    async with service() as sim:
        came, error = await broken(sim, source(), tmp_path, InvalidRequestError)
    assert came.outcomes == {"downloaded": 1}
    assert "cancelled" in str(error)


async def test_a_body_that_does_not_look_is_told_why_the_batch_ended(tmp_path):
    def cut():
        yield "boat 1"
        raise OSError("the list is gone")

    async with service() as sim:
        with pytest.raises(OSError, match="the list is gone"):
            async with running(sim, cut(), tmp_path) as run:
                await anext(run.batch)


async def test_a_reader_that_stops_reading_pauses_the_pull_and_loses_nothing(tmp_path, until):
    counted = Counted([None] * 300)
    async with service() as sim, running(sim, counted, tmp_path) as run:
        await until(lambda: run.batch.report.total >= UNREAD_ITEMS)
        await asyncio.sleep(0.1)
        assert counted.pulled <= UNREAD_ITEMS + LOOK_AHEAD
        items = [item async for item in run.batch]
        assert [item.index for item in items] == [*range(1, 301)]


async def test_a_million_prompts_take_no_more_memory_than_a_hundred(tmp_path):
    def kept() -> int:
        gc.collect()
        return sum(isinstance(each, Entry | Job | BatchItem) for each in gc.get_objects())

    counted = Counted(f"boat {n}" for n in range(1_000_000))
    async with service(generation_seconds=0) as sim, running(sim, counted, tmp_path) as run:
        most = []
        for _ in range(4):
            for _ in range(20):
                await anext(run.batch)
            most.append(kept())
        assert most[-1] <= most[0] + 3 * 15, "and not three times 20 more of each"
        assert counted.pulled <= 80 + UNREAD_ITEMS + LOOK_AHEAD


# --- lifetime


async def test_a_batch_begins_when_it_is_entered_and_once(tmp_path):
    async with service() as sim, client_of(sim) as veo:
        batch = veo.batch(prompts(1), directory=tmp_path)
        with pytest.raises(ClientClosedError, match="has not begun"):
            await anext(batch)
        with pytest.raises(ClientClosedError, match="has not begun"):
            batch.stop()
        await batch.aclose()
        assert not any(tmp_path.iterdir())
        async with batch:
            await batch.wait()
            with pytest.raises(StopAsyncIteration):
                await anext(batch)
        with pytest.raises(ClientClosedError, match="entered before"):
            async with batch:
                pass
        await batch.aclose()
        await batch.aclose()
        with pytest.raises(StopAsyncIteration):
            await anext(batch)


async def test_a_journal_has_one_run_at_a_time(tmp_path, until):
    async with service(generation_seconds=LONG) as sim:
        async with running(sim, prompts(1), tmp_path) as run:
            await until(lambda: sim.ledger.running == 1)
            with pytest.raises(JournalError) as caught:
                async with run.veo.batch(prompts(1), directory=tmp_path):
                    pass
            assert f"process {os.getpid()} on host {os.uname().nodename}" in str(caught.value)
        sim.advance(LONG)
        done = await ran(sim, prompts(1), tmp_path)
        assert done.outcomes == {"downloaded": 1}


async def test_two_batches_of_a_client_share_its_slots(tmp_path, until):
    async with service(generation_seconds=LONG) as sim, client_of(sim) as veo:
        ours, theirs = ([f"{name} {n}" for n in range(12)] for name in ("boat", "ship"))
        async with (
            veo.batch(ours, directory=tmp_path / "boats") as boats,
            veo.batch(theirs, directory=tmp_path / "ships") as ships,
        ):
            await until(lambda: veo.statistics().slots_waiting == 2 and sim.ledger.running == 10)
            assert {charge.prompt.split()[0] for charge in sim.ledger} == {"boat", "ship"}
            sim.advance(LONG)
            await until(lambda: len(sim.ledger) == 20)
            sim.advance(LONG)
            await until(lambda: len(sim.ledger) == 24)
            sim.advance(LONG)
            await boats.wait()
            await ships.wait()
        paid_once(sim, [*ours, *theirs])


async def test_single_videos_take_their_turn_between_those_of_a_batch(tmp_path, until):
    started = []

    def note(event: object) -> None:
        if isinstance(event, SubmitStarted):
            started.append(event.request.prompt)

    async with service(generation_seconds=LONG) as sim, client_of(sim, on_event=note) as veo:
        async with veo.batch(prompts(13), directory=tmp_path) as batch:
            await until(lambda: veo.statistics().slots_waiting == 1)
            single = asyncio.create_task(veo.generate("single"))
            await until(lambda: veo.statistics().slots_waiting == 2)
            sim.advance(LONG)
            await until(lambda: len(sim.ledger) == 14)
            sim.advance(LONG)
            await batch.wait()
            await single
        paid_once(sim, [*prompts(13), "single"])
    assert started.index("single") == 11, "first come, first served"


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("retries", -1),
        ("retries", 1.5),
        ("download_window", 0),
        ("download_window", float("inf")),
        ("max_credits", -1),
        ("name", "{prompt}"),
        ("name", "{index"),
    ],
)
async def test_an_impossible_setting_is_refused_at_once(option, value, tmp_path):
    async with service() as sim, client_of(sim) as veo:
        with pytest.raises(ConfigurationError):
            veo.batch(prompts(1), directory=tmp_path, **{option: value})


def descriptors() -> int:
    return len([*Path("/proc/self/fd").iterdir()])


async def test_many_batches_leave_nothing_behind(tmp_path):
    async with service() as sim, client_of(sim) as veo:

        async def once(number: int) -> None:
            async with veo.batch(prompts(2), directory=tmp_path / str(number)) as batch:
                await anext(batch)

        await once(0)
        before = descriptors(), threading.active_count()
        for number in range(1, 9):
            await once(number)
        names = {task.get_coro().__qualname__ for task in asyncio.all_tasks()}
        assert not {name for name in names if "Batch" in name or "Floor" in name or "_Run" in name}
        after = descriptors(), threading.active_count()
        assert after[1] < before[1] + DISK_THREADS, "the client's pool makes its threads by need"
        assert after[0] <= before[0] + 20, "connections of the pool"


def test_a_batch_runs_on_uvloop(tmp_path):
    uvloop = pytest.importorskip("uvloop")

    async def scenario() -> None:
        async with service() as sim:
            done = await ran(sim, prompts(12), tmp_path)
            assert done.outcomes == {"downloaded": 12}
            paid_once(sim, prompts(12))

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario())


async def test_a_closed_client_makes_no_batch(tmp_path):
    async with service() as sim:
        veo = client_of(sim)
        batch = veo.batch(prompts(1), directory=tmp_path)
        await veo.aclose()
        with pytest.raises(ClientClosedError):
            async with batch:
                pass
        assert not any(tmp_path.iterdir())


async def test_a_client_closed_first_ends_its_batches(tmp_path, until):
    async with service(generation_seconds=LONG) as sim:
        async with running(sim, prompts(10), tmp_path) as run:
            await until(lambda: sim.ledger.running == 10)
            await run.veo.aclose()
            with pytest.raises(ClientClosedError, match="run the batch again"):
                await anext(run.batch)
        assert [job.state for job in jobs(tmp_path).values()] == ["submitted"] * 10
        sim.advance(LONG)
        done = await ran(sim, prompts(10), tmp_path)
        paid_once(sim, prompts(10))
        assert done.outcomes == {"downloaded": 10}
        assert charges(tmp_path).total == sim.ledger.spent


@pytest.mark.parametrize("turns", range(16))
async def test_a_client_closed_while_it_submits_says_how_to_go_on(turns, tmp_path):
    accepted = asyncio.Event()

    def look(event: Event) -> None:
        if isinstance(event, TaskSubmitted):
            accepted.set()

    async with service(generation_seconds=LONG) as sim:
        async with running(sim, prompts(2), tmp_path, client={"on_event": look}) as run:
            await accepted.wait()
            for _ in range(turns):
                await asyncio.sleep(0)
            await run.veo.aclose()
            with pytest.raises(ClientClosedError, match="run the batch again"):
                await run.batch.wait()  # what was not paid comes out first
        sim.advance(LONG)
        await ran(sim, prompts(2), tmp_path)
        paid_once(sim, prompts(2))


async def test_the_journal_may_stand_elsewhere(tmp_path):
    journal = tmp_path / "books" / "mine.db"
    async with service() as sim:
        folder = tmp_path / "videos"
        await ran(sim, prompts(2), folder, journal=journal)
        done = await ran(sim, prompts(2), folder, journal=journal)
    assert done.outcomes == {"skipped": 2}
    assert journal.exists()
    assert not (folder / JOURNAL_NAME).exists()


async def test_downloads_hold_no_slot(tmp_path, until):
    async with service(faults=["video:hang"]) as sim, running(sim, prompts(30), tmp_path) as run:
        await until(lambda: len(sim.ledger) == 30)
        assert not run.batch.report.downloaded
        assert any(isinstance(event, DownloadStarted) for event in run.events)
