"""A crash before and after every step of the journal, the network and the files of a film.

After each crash the same command is run again, and the film is finished with each of its tasks paid
once. Where nobody can know whether a step was paid, it says so, pays nothing, and goes on once a
person has looked into the service's books.
"""

import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.faults.kill_loop import (
    COMMITS,
    JOURNAL,
    Nurseries,
    Nursery,
    Sight,
    at_home,
    job_for,
    rows_of,
    strays_in,
)
from veo_async.database import open_for_sharing
from veo_async.journal_file import JournalFile
from veo_async.settling import settle
from veo_async.simulator import Simulator

SPEED = 1000.0
STEPS = 3
PRICE = 70  # of a step, by the list that the program goes by: the spec's has no extensions
TRIES = 4


@attrs.frozen
class Course:
    """What can happen to one film.

    Attributes:
        name: What the course is called.
        marks: What its prompts end with: the simulator's markers.
        faults: What goes wrong.
        options: Of the batch.
        before: What happens to the folder after a first whole run; None for no such run.
        wanted: Where the job ends without a crash.
        paid: How many of its steps are paid and not given back then.
    """

    name: str
    marks: Sequence[str] = ("", "", "")
    faults: Sequence[str] = ()
    options: dict[str, Any] = attrs.field(factory=dict[str, Any])
    before: Callable[[Path], None] | None = None
    wanted: str = "stored"
    paid: int = STEPS


def delete_video(folder: Path) -> None:
    """Delete what the first run brought home, but for its side file."""
    for path in folder.glob("*.mp4"):
        path.unlink()


COURSES = {
    course.name: course
    for course in (
        Course("plain"),
        Course("turned away", faults=["extend:status=429:times=1"]),
        Course("failed", marks=("", " [policy]", ""), wanted="failed", paid=1),
        Course(
            "paid again",
            marks=("", " [error]", ""),
            options={"retries": 1},
            wanted="failed",
            paid=1,
        ),
        Course("refused", faults=["extend:status=422:times=2"], wanted="rejected", paid=1),
        Course("file deleted", before=delete_video),
    )
}


@attrs.define
class Case:
    """One film on its way through crashes."""

    simulator: Simulator
    course: Course
    prompts: list[str]
    folder: Path
    job: dict[str, Any]
    left: list[str] = attrs.field(factory=list[str])

    def crashes(self, nursery: Nursery, crash: Sequence[Any]) -> bool:
        """Run until the crash; return whether there was one."""
        ended = nursery.run({**self.job, "watch": True, "crash": [*crash]})
        self.left += [f"{row.state} after {len(row.tasks)}" for row in rows_of(self.folder)]
        return ended.code != 0

    def finish(self, nursery: Nursery) -> None:
        """Run to the end, and say what the books say where the program cannot know."""
        for _ in range(STEPS):
            ended = nursery.run(self.job)
            [row] = rows_of(self.folder)
            if row.state != "unknown":
                return
            assert ended.outcomes == {"uncertain": 1}
            known = {task[0] for task in row.tasks}
            prompt = self.prompts[sum(end == "success" for _, _, end in row.tasks)]
            found = [
                charge.task_id
                for charge in self.simulator.ledger
                if charge.prompt == prompt and charge.task_id not in known
            ]
            with closing(
                JournalFile(open_for_sharing(self.folder / JOURNAL, mark=None), self.folder)
            ) as file:
                settle(file, row.key, task_id=found[0] if found else None, now=0.0)
        pytest.fail("it is uncertain more often than it has steps")

    def check(self, crashes: Sequence[Any]) -> None:
        """Judge the end by the books, the journal and the files."""
        about = f"after {crashes}, which left {self.left}"
        [row] = rows_of(self.folder)
        assert row.state == self.course.wanted, about
        charges = [c for c in self.simulator.ledger if c.prompt in self.prompts]
        kept = [charge for charge in charges if not charge.refunded]
        paid = Counter(charge.prompt for charge in kept)
        assert paid == Counter(self.prompts[: self.course.paid]), about
        tries = 1 + self.course.options.get("retries", 0)
        assert max(Counter(charge.prompt for charge in charges).values()) <= tries, about
        steps = [task for task in row.tasks if task[2] == "success"]
        assert [task[0] for task in steps] == [charge.task_id for charge in kept], about
        assert sum(task[1] for task in row.tasks) == sum(task[1] for task in steps), about
        assert strays_in(self.folder) == [], about
        home = at_home(self.folder)
        if row.state != "stored":
            assert not home, about
            return
        side = home[steps[-1][0] or ""]
        assert (side["sha256"], side["size"], side["file"]) == (row.sha256, row.size, row.file)
        assert side["task_ids"] == [task[0] for task in steps], about
        assert side["attempts"] == len(row.tasks)


@attrs.define
class Stage:
    """One simulator for all cases, each of which has prompts and a folder of its own."""

    simulator: Simulator
    folder: Path
    nurseries: Nurseries
    numbers: Any = attrs.field(factory=lambda: itertools.count(1))

    def case(self, nursery: Nursery, course: Course) -> Case:
        """Return a new case of a course, after the whole run that it may begin with."""
        number = next(self.numbers)
        prompts = [f"step {n} .{number}.{mark}" for n, mark in enumerate(course.marks)]
        for fault in course.faults:
            self.simulator.add_fault(f"{fault}:match=.{number}.")
        folder = self.folder / f"{number}"
        row = {"prompt": prompts[0], "extend_to": prompts[1:]}
        job = job_for(self.simulator, folder, [row], **course.options)
        case = Case(self.simulator, course, prompts, folder, job)
        if course.before is not None:
            nursery.run(case.job)
            course.before(case.folder)
        return case

    def steps(self, course: Course) -> list[Sight]:
        """Return what a run without a crash is seen to do, and judge its end."""

        def watched(nursery: Nursery, _: None) -> list[Sight]:
            case = self.case(nursery, course)
            ended = nursery.run({**case.job, "watch": True})
            assert ended.said is not None
            case.check([])
            return [(name, number, when) for name, number, when in ended.said["steps"]]

        [seen] = self.nurseries.apply(watched, [None])
        return seen


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    with (
        Simulator(
            dialect="live",
            time_scale=SPEED,
            clip=(64, 36),
            video_bytes=0,
            credits=10**9,
            max_tasks=1000,
            create_rate=None,
            generation_seconds=5.0,  # of 20 until the first poll
        ) as simulator,
        Nurseries(2) as nurseries,
    ):
        yield Stage(simulator, tmp_path_factory.mktemp("films"), nurseries)


def try_all(stage: Stage, course: Course, crashes: Iterable[Sequence[Any]]) -> int:
    """Try each row of crashes, then a run to the end; return how many came about."""

    def tried(nursery: Nursery, row: Sequence[Any]) -> int:
        for _ in range(TRIES):
            case = stage.case(nursery, course)
            has_crashed = [case.crashes(nursery, crash) for crash in row]
            case.finish(nursery)
            case.check(row)
            if all(has_crashed):
                return 1
        return 0

    return sum(stage.nurseries.apply(tried, crashes))


def lasting(steps: Iterable[Sight]) -> list[Sight]:
    """Return the steps that make a difference; each step of a single video has a test elsewhere."""
    return [
        (name, number, when)
        for name, number, when in steps
        if when == "after"
        and (name.endswith("> JournalFile._transaction: execute") or "call_once: " in name)
    ]


@pytest.fixture(scope="module")
def plain(stage) -> list[Sight]:
    return stage.steps(COURSES["plain"])


@pytest.mark.parametrize("name", COURSES)
def test_a_crash_at_any_step_of_a_film_pays_no_step_twice_and_loses_none(stage, plain, name):
    course = COURSES[name]
    steps = lasting(plain if name == "plain" else stage.steps(course))
    if name != "plain":
        steps = [*({*steps} - {*plain})]
    sure = {(step, when) for step, number, when in steps if number == 1 or ": recv" not in step}
    hit = try_all(stage, course, [[step] for step in steps])
    assert hit >= len(sure) > 0


def test_a_crash_in_each_of_the_runs_of_a_film_changes_nothing(stage):
    dice = random.Random(7)
    rows = [[[dice.randrange(40, 300)] for _ in range(4)] for _ in range(6)]
    try_all(stage, COURSES["plain"], rows)


def test_each_step_of_a_film_was_crashed_at(plain):
    """One that the journal learns for films needs to be there."""
    counts = Counter((name, when) for name, _, when in plain)
    for name, times in (("intend", STEPS), ("accepted", STEPS), ("extended", STEPS - 1)):
        # A transaction begins, and ends, in the same words.
        assert counts[COMMITS.format(name), "after"] == 2 * times
    assert counts[COMMITS.format("ready"), "after"] == 2


# --- kills at any moment


def settled(simulator: Simulator, folder: Path) -> int:
    """Say of each lost answer what the books say; return how many there were."""
    rows = [row for row in rows_of(folder) if row.state == "unknown"]
    known = {task[0] for row in rows_of(folder) for task in row.tasks}
    for row in rows:
        step = sum(end == "success" for _, _, end in row.tasks)
        found = [
            charge.task_id
            for charge in simulator.ledger
            if charge.prompt == f"{row.prompt[:-1]}{step}" and charge.task_id not in known
        ]
        with closing(JournalFile(open_for_sharing(folder / JOURNAL, mark=None), folder)) as file:
            settle(file, row.key, task_id=found[0] if found else None, now=0.0)
    return len(rows)


def test_no_kill_makes_a_step_paid_twice_or_a_film_lost(tmp_path):
    kills, dice = 6, random.Random(11)
    rows = [
        {"prompt": f"film {n}.0", "extend_to": [f"film {n}.{step}" for step in (1, 2)]}
        for n in range(24)
    ]
    prompts = [f"film {n}.{step}" for n in range(24) for step in range(STEPS)]
    with (
        Simulator(
            seed=11,
            dialect="live",
            time_scale=200,
            clip=(64, 36),
            video_bytes=0,
            credits=10**9,
            max_tasks=100,
            generation_seconds=(40.0, 160.0),
            faults=[
                "extend:lose_answer:times=1:match=film 1.1",
                *(f"{call}:lose_answer:probability=0.05" for call in ("generate", "extend")),
                "record-info:status=500:probability=0.05",
            ],
        ) as simulator,
        Nursery() as nursery,
    ):
        job = job_for(simulator, tmp_path, rows, response=3.0, uncertain=1.3)
        lost = 0
        for _ in range(kills):
            ended = nursery.run({**job, "kill_after": dice.uniform(0.2, 0.7)})
            assert ended.code == -9, "it ended before it could be killed"
            lost += settled(simulator, tmp_path)
        for _ in range(10):
            nursery.run(job)
            simulator.advance(160.0)  # tasks whose answers were lost may still be running
            lost += (found := settled(simulator, tmp_path))
            if not found:
                break
        charges = simulator.ledger.charges
        peak = simulator.ledger.peak_running
        posts = len(simulator.ledger.posts)
        assert nursery.run(job).outcomes == {"skipped": len(rows)}
        assert len(simulator.ledger.posts) == posts
    assert lost > 0, "the judgement is about something"
    assert Counter(charge.prompt for charge in charges) == Counter(prompts)
    assert peak <= 10
    home = at_home(tmp_path)
    paid = {charge.task_id for charge in charges}
    assert {task for side in home.values() for task in side["task_ids"]} == paid
    assert [len(side["task_ids"]) for side in home.values()] == [STEPS] * len(rows)
    assert strays_in(tmp_path) == []
