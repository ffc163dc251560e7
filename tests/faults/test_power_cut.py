"""A power cut at any moment: what was not flushed may be gone, and no promise is broken.

`kill -9` does not show that a flush is missing. Here the order of writes, flushes, names and
transactions is recorded from real batches, and every disk that they may leave is looked at.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.faults.disk_states import Record, Verdict, cut_everywhere
from tests.faults.kill_loop import LEFT, Nursery, job_for
from veo_async.simulator import Simulator

SIZE = 3_500_000  # three writes


@pytest.fixture(scope="module")
def simulator():
    with Simulator(
        time_scale=1000,
        clip=(64, 36),
        video_bytes=SIZE,
        credits=10**9,
        max_tasks=1000,
        create_rate=None,
        generation_seconds=5.0,
    ) as simulator:
        yield simulator


@pytest.fixture(scope="module")
def record(simulator, tmp_path_factory):
    """Return what runs prompts, perhaps after runs that crash, and gives the records of it all."""
    with Nursery() as nursery:

        def run(*prompts, new="", crashes=()):
            place = tmp_path_factory.mktemp("disk")
            (place / "videos").mkdir()
            folder = place / "videos" / new
            job = job_for(simulator, folder, prompts, tape=str(place / "tape"))
            for crash in crashes:
                assert nursery.run({**job, "watch": True, "crash": crash}).code == -9
            assert nursery.run(job).code == 0
            return [*map(json.loads, Path(job["tape"]).read_text().splitlines())]

        yield run


@pytest.fixture(scope="module")
def whole(record) -> list[Record]:
    """The records of one video."""
    return record("a boat")


def first(records: Sequence[Record], pattern: str) -> int:
    """Return where the first record is that looks like this."""
    return next(
        index
        for index, each in enumerate(records)
        if re.search(pattern, " ".join(map(str, each[:3])))
    )


def without(records: Sequence[Record], *patterns: str) -> list[Record]:
    kept = [*records]
    for pattern in patterns:
        del kept[first(kept, pattern)]
    return kept


def moved(records: Sequence[Record], pattern: str, before: str) -> list[Record]:
    """Return the records with one of them moved forward, to before another."""
    kept = [*records]
    taken = kept.pop(first(kept, pattern))
    to = first(kept, before)
    assert to <= first(records, pattern)
    return [*kept[:to], taken, *kept[to:]]


def test_the_records_hold_every_step_that_a_promise_rests_on(whole):
    order = [
        r"rename \S+\.new \S+\.db$",
        r"commit .*'intent'",
        r"^post a boat$",
        r"commit .*'submitted'",
        r"commit .*'ready'",
        r"commit .*'downloading'",
        r"create \S+\.mp4\.part$",
        rf"size \S+\.mp4\.part {SIZE}$",
        r"sync \S+\.mp4\.part$",
        r"link \S+\.mp4\.part \S+\.mp4$",
        r"create \S+boat\.json\.part$",
        r"sync \S+boat\.json\.part$",
        r"rename \S+\.json\.part \S+boat\.json$",
        r"commit .*'stored'",
        r"^told \S+ downloaded$",
    ]
    places = [first(whole, pattern) for pattern in order]
    assert places == sorted(places)


def test_no_cut_breaks_a_promise_about_one_video(whole):
    verdict = cut_everywhere(whole)
    assert verdict == Verdict(verdict.states, 0, frozenset())
    assert verdict.states > 150


def test_no_cut_breaks_a_promise_about_several_videos_at_once(simulator, record):
    simulator.add_fault("video:delay=200:match=fleet")  # so that all of them are under way
    prompts = [f"a fleet of {kind}" for kind in ("boats", "kites", "trams [fail]", "swans")]
    verdict = cut_everywhere(record(*prompts))
    assert verdict == Verdict(verdict.states, 0, frozenset())
    assert verdict.states > 1000


def test_no_cut_breaks_a_promise_about_a_download_that_was_cut_and_resumed(simulator, record):
    simulator.add_fault("video:cut_at=1500000:times=1:match=a cut")
    records = record("a cut boat")
    assert sum(each[0] == "get" for each in records) == 2
    verdict = cut_everywhere(records)
    assert verdict == Verdict(verdict.states, 0, frozenset())


@pytest.mark.parametrize("left", LEFT)
def test_no_cut_breaks_a_promise_about_work_that_a_crash_had_left(record, left):
    """What a dead process had not flushed is not on the disk because a new one sees it."""
    verdict = cut_everywhere(record("a boat", crashes=[LEFT[left]]))
    assert verdict == Verdict(verdict.states, 0, frozenset())


def test_no_cut_breaks_a_promise_about_a_folder_that_the_batch_makes(record):
    records = record("a boat", new="monday/morning")
    assert sum(each[0] == "mkdir" for each in records) == 2
    verdict = cut_everywhere(records)
    assert verdict == Verdict(verdict.states, 0, frozenset())


def test_no_cut_breaks_a_promise_about_a_folder_whose_maker_was_killed(record):
    """At one of its first moments, such as between the making and the flush, or at a later one."""
    crashes = [
        *([moment] for moment in range(1, 20)),
        ["open_for_writing > _make: rename", 1, "after"],
    ]
    bad = [
        crash
        for crash in crashes
        if cut_everywhere(record("a boat", new="monday/morning", crashes=[crash])).bad
    ]
    assert bad == []


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        (
            lambda records: without(records, r"sync \S+\.mp4\.part$"),
            {"a video under its name is whole", "what is stored stands whole under its name"},
        ),
        (
            lambda records: [each for each in records if not is_folder_flush(each)],
            {
                "what is stored stands whole under its name",
                "what is stored has its side file",
            },
        ),
        (
            lambda records: moved(records, r"commit .*'stored'", r"^link "),
            {"what is stored stands whole under its name", "what is stored has its side file"},
        ),
        (
            lambda records: moved(records, r"^link ", r"sync \S+\.mp4\.part$"),
            {"a video under its name is whole"},
        ),
        (
            lambda records: without(records, r"sync \S+\.json\.part$"),
            {"a side file under its name is whole", "what is stored has its side file"},
        ),
        (
            lambda records: moved(records, r"commit .*'stored'", r"rename \S+\.json\.part "),
            {"what is stored has its side file"},
        ),
        (
            lambda records: moved(records, r"^post ", r"commit .*'intent'"),
            {"a paid request is written down before it leaves"},
        ),
        (
            lambda records: moved(records, r"^get ", r"commit .*'ready'"),
            {"a link is written down before it is used"},
        ),
        (
            lambda records: moved(records, r"^told ", r"commit .*'stored'"),
            {"what the caller was told is on the disk"},
        ),
    ],
    ids=[
        "no flush of the file",
        "no flush of the folder",
        "the journal before the name",
        "the name before the flush",
        "no flush of the side file",
        "the journal before the side file",
        "the request before the intent",
        "the download before its link",
        "the caller before the journal",
    ],
)
def test_the_enumerator_sees_a_step_that_is_missing_or_too_early(whole, change, broken):
    verdict = cut_everywhere(change(whole))
    assert verdict.bad > 0
    assert verdict.broken == broken


def is_folder_flush(record: Record) -> bool:
    return record[0] == "sync" and "." not in record[1]
