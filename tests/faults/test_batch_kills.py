"""`kill -9` at any moment, again and again: nothing is paid twice, and nothing paid is lost."""

import json
import random
import subprocess

import pytest

from tests.faults.kill_loop import (
    JOURNAL,
    SLOTS,
    Nursery,
    Toll,
    command,
    job_for,
    judge,
    kill_loop,
    killed_batch,
    rows_of,
    service,
    strays_in,
    with_failures,
    with_twins,
)
from veo_async.simulator import Simulator

KILLS = 20


@pytest.mark.parametrize("kind", [with_twins, with_failures])
def test_no_kill_makes_a_prompt_paid_twice_or_a_paid_task_lost(tmp_path, kind):
    toll = kill_loop(tmp_path, KILLS, seed=11, kinds=[kind])
    assert toll.kills == KILLS
    assert toll.prompts >= 60
    # The judgement is about something.
    assert toll.stored > 30
    assert (toll.failed > 5) is (kind is with_failures)
    assert toll.uncertain_paid > 0
    # Nothing is paid twice, and what is paid is at home, failed, or listed.
    assert toll.paid_twice == 0
    assert toll.lost == 0
    assert toll.paid == toll.stored + toll.failed + toll.uncertain_paid
    # The service would have run ten times as many, and those of dead runs are counted.
    assert SLOTS / 2 < toll.peak <= SLOTS
    # Journal, files and books agree, but for the price of submits that were never paid.
    assert toll.wrong == []
    assert toll.unexplained == 0
    # And a run over a finished folder posts nothing.
    assert toll.reposts == 0
    assert toll.is_harmless


def test_what_is_brought_home_across_kills_plays(tmp_path, tool):
    probe = tool("ffprobe", "ffmpeg")
    with service(7) as simulator:
        prompts = [f"a boat {number}" for number in range(8)]
        toll = Toll()
        killed_batch(simulator, tmp_path, prompts, [0.3, 0.5, 0.4], toll)
    assert toll.is_harmless, toll
    videos = [*tmp_path.glob("*.mp4")]
    assert len(videos) == toll.stored > 0
    for video in videos:
        words = [probe, "-v", "error", "-show_entries", "stream=codec_name", "-of", "json", video]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        assert not done.stderr
        assert json.loads(done.stdout)["streams"][0]["codec_name"] == "h264"


def test_a_first_run_may_be_killed_while_it_makes_its_journal(tmp_path):
    dice = random.Random(5)
    toll = Toll()
    with service(5) as simulator:
        for number in range(6):
            # Shorter than it takes to open a journal, and up to twice as long.
            lives = [dice.uniform(0.0, 0.08) for _ in range(4)]
            prompts = with_failures(f"first {number}.", 3)
            killed_batch(simulator, tmp_path / f"{number}", prompts, lives, toll)
    assert toll.kills > 12
    assert toll.is_harmless, toll


def test_a_run_that_forgot_its_journal_is_seen_to_pay_twice(tmp_path):
    prompts = ["a boat", "a kite", "a tram"]
    with service(1) as simulator:
        simulator.clear_faults()
        job = job_for(simulator, tmp_path, prompts)
        toll = Toll()
        assert command(job).outcomes == {"downloaded": 3}
        judge(tmp_path, prompts, simulator.ledger.charges, toll)
        assert toll == Toll(prompts=3, paid=3, stored=3)
        (tmp_path / JOURNAL).unlink()
        assert command(job).outcomes == {"downloaded": 3}
        judge(tmp_path, prompts, simulator.ledger.charges, toll)
    assert toll.paid_twice == 3
    assert not toll.is_harmless


def test_a_paid_video_that_is_nowhere_is_seen_to_be_lost(tmp_path):
    prompts = ["a boat", "a kite", "a tram"]
    with service(1) as simulator:
        simulator.clear_faults()
        command(job_for(simulator, tmp_path, prompts))
        for path in tmp_path.glob("0002-*"):
            path.unlink()
        toll = Toll()
        judge(tmp_path, prompts, simulator.ledger.charges, toll)
    assert toll.lost == 1
    assert len(toll.wrong) == 1
    assert not toll.is_harmless


def test_a_task_that_ends_while_lost_submits_are_written_down_is_brought_home_once(tmp_path):
    prompts = ["a boat", *(f"late {number}" for number in range(6))]
    with (
        Simulator(
            time_scale=1000,
            clip=(64, 36),
            video_bytes=0,
            generation_seconds=100_000,
            faults=["generate:delay=100000:match=late"],
        ) as simulator,
        Nursery() as nursery,
    ):
        job = job_for(simulator, tmp_path, prompts, watch=True)
        commit = "JournalFile.intend > JournalFile._transaction: execute"
        known = "JournalFile.accepted > JournalFile._transaction: execute"
        first = nursery.run({**job, "prompts": prompts[:1], "crash": [known, 2, "after"]})
        second = nursery.run({**job, "crash": [commit, 12, "after"]})
        assert (first.code, second.code) == (-9, -9)
        assert [row.state for row in rows_of(tmp_path)] == ["submitted", *["intent"] * 6]
        simulator.advance(200_000)
        assert nursery.run(job).outcomes == {"downloaded": 1, "uncertain": 6}
        assert strays_in(tmp_path) == []
