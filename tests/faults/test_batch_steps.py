"""A crash before and after every step of the journal, the network and the files, one at a time.

The steps are those that a run without a crash was seen to take. After each crash the same command
is run again, and has to come to the same end, with one exception: the moment between the intent and
the id, in which nobody can know whether a task was paid.
"""

import inspect
import itertools
import random
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.faults.kill_loop import (
    COMMITS,
    LEFT,
    PRICE,
    Nurseries,
    Nursery,
    Sight,
    at_home,
    job_for,
    rows_of,
    strays_in,
)
from veo_async.journal_file import JournalFile
from veo_async.simulator import Simulator

SPEED = 1000.0
TRIES = 4


def nothing(_folder: Path) -> None:
    """Leave a folder as it is."""


def delete_video(folder: Path) -> None:
    """Delete what the first run brought home, but for its side file."""
    for path in folder.glob("*.mp4"):
        path.unlink()


@attrs.frozen
class Course:
    """What can happen to one prompt.

    Attributes:
        name: What the course is called.
        prompt: Words of the prompt, with the simulator's marker.
        faults: What goes wrong.
        options: Of the batch.
        before: What happens to the folder after a first whole run; None for no such run.
    """

    name: str
    prompt: str = "a boat"
    faults: Sequence[str] = ()
    options: dict[str, Any] = attrs.field(factory=dict[str, Any])
    before: Callable[[Path], None] | None = None


COURSES = {
    course.name: course
    for course in (
        Course("plain"),
        Course("failed", "a boat [fail]"),
        Course("paid again", "a boat [error]", options={"retries": 1}),
        Course("turned away", faults=["generate:status=429:times=1"]),
        Course("answer lost", faults=["generate:lose_answer:times=1"]),
        Course("rejected", faults=["generate:status=422:times=1"]),
        Course("download cut", faults=["video:cut_at=9000:times=1"]),
        Course("unpaid", options={"max_credits": PRICE - 1}),
        Course("file deleted", before=delete_video),
        Course("run again", before=nothing),
    )
}


@attrs.frozen
class End:
    """What there is in the end, but for what differs between two videos.

    Attributes:
        state: Where the journal has the job.
        ends: How its tasks ended, as the journal has it.
        files: Suffixes of what stands in the folder beside the journal.
        refunds: Whether each charge was refunded.
        posts: What the service made of each paid request.
    """

    state: str
    ends: tuple[str | None, ...]
    files: tuple[str, ...]
    refunds: tuple[bool, ...]
    posts: tuple[str, ...]


@attrs.define
class Stage:
    """One simulator for all cases, each of which has a prompt and a folder of its own."""

    simulator: Simulator
    folder: Path
    nurseries: Nurseries
    numbers: Any = attrs.field(factory=lambda: itertools.count(1))

    def case(self, course: Course) -> "Case":
        """Return a new case of a course."""
        number = next(self.numbers)
        prompt = f"{course.prompt} .{number}."
        for fault in course.faults:
            self.simulator.add_fault(f"{fault}:match=.{number}.")
        folder = self.folder / f"{number}"
        job = job_for(self.simulator, folder, [prompt], **course.options)
        return Case(self, prompt, folder, job)

    def ready(self, nursery: Nursery, course: Course) -> "Case":
        """Return a new case, after the first whole run that its course begins with."""
        case = self.case(course)
        if course.before is not None:
            nursery.run(case.job)
            course.before(case.folder)
        return case

    def steps(self, course: Course, crashes: Iterable[Sight] = ()) -> list[Sight]:
        """Return what a run without a crash is seen to do, perhaps after others that had one."""

        def watched(nursery: Nursery, _: None) -> list[Sight]:
            case = self.ready(nursery, course)
            for crash in crashes:
                assert case.crashes(nursery, crash)
            ended = nursery.run({**case.job, "watch": True})
            assert ended.said is not None
            return [(name, number, when) for name, number, when in ended.said["steps"]]

        [seen] = self.nurseries.apply(watched, [None])
        return seen

    def end(self, course: Course) -> End:
        """Return the end without a crash."""

        def whole(nursery: Nursery, _: None) -> End:
            case = self.ready(nursery, course)
            nursery.run(case.job)
            return case.end()

        [end] = self.nurseries.apply(whole, [None])
        return end


@attrs.define
class Case:
    """One prompt on its way through crashes."""

    stage: Stage
    prompt: str
    folder: Path
    job: dict[str, Any]
    left: list[str] = attrs.field(factory=list[str])

    def crashes(self, nursery: Nursery, crash: Sequence[Any]) -> bool:
        """Run until the crash; return whether there was one."""
        ended = nursery.run({**self.job, "watch": True, "crash": [*crash]})
        self.left += [row.state for row in rows_of(self.folder)]
        return ended.code != 0

    def end(self) -> End:
        """Return what there is now."""
        ledger = self.stage.simulator.ledger
        home = at_home(self.folder)
        [row] = rows_of(self.folder)
        charges = [charge for charge in ledger if charge.prompt == self.prompt]
        assert {*home} <= {charge.task_id for charge in charges}
        assert strays_in(self.folder) == []
        if row.state == "stored":
            side = home[row.task_id or ""]
            assert (side["sha256"], side["size"], side["file"]) == (row.sha256, row.size, row.file)
        return End(
            row.state,
            tuple(task[2] for task in row.tasks),
            tuple(sorted(p.suffix for p in self.folder.glob(f"*{self.prompt.split('.')[1]}*.*"))),
            tuple(charge.refunded for charge in charges),
            tuple(post.outcome for post in ledger.posts if post.prompt == self.prompt),
        )

    def check(self, wanted: End, crashes: Sequence[Any]) -> None:
        """Compare the end with that of a run without a crash."""
        end = self.end()
        about = f"after {crashes}, which left {self.left}"
        if "intent" not in self.left:
            assert end == wanted, about
            return
        # Uncertain, not sent again, and with no more paid than without the crash.
        assert (end.state, end.files) == ("unknown", ()), about
        assert len(end.ends) <= max(1, len(wanted.ends)), about
        assert len(end.refunds) <= max(len(wanted.refunds), 1), about
        assert len(end.posts) <= len(wanted.posts), about


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    with (
        Simulator(
            dialect="live",  # which says why a task failed
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
        yield Stage(simulator, tmp_path_factory.mktemp("steps"), nurseries)


def try_all(
    stage: Stage, course: Course, crashes: Sequence[Sequence[Sight]], *, wanted: End
) -> set[tuple[str, str]]:
    """Try each row of crashes, then a run to the end; return the names that the last ones hit."""

    def tried(nursery: Nursery, row: Sequence[Sight]) -> set[tuple[str, str]]:
        for _ in range(TRIES):
            case = stage.ready(nursery, course)
            has_crashed = [case.crashes(nursery, crash) for crash in row]
            nursery.run(case.job)
            case.check(wanted, row)
            if all(has_crashed):
                return {(row[-1][0], row[-1][-1])}
        return set()

    return set().union(*stage.nurseries.apply(tried, crashes))


def certain(steps: Iterable[Sight]) -> set[tuple[str, str]]:
    """Return the names of steps that every run takes: an answer may come in one piece or more."""
    return {(name, when) for name, no, when in steps if no == 1 or not name.endswith(": recv")}


@pytest.fixture(scope="module")
def plain(stage) -> list[Sight]:
    return stage.steps(COURSES["plain"])


@pytest.mark.parametrize("name", COURSES)
def test_a_crash_at_any_step_changes_nothing_about_the_end(stage, plain, name):
    course = COURSES[name]
    steps = plain if name == "plain" else [*({*stage.steps(course)} - {*plain})]
    assert steps
    hit = try_all(stage, course, [[step] for step in steps], wanted=stage.end(course))
    assert hit >= certain(steps)


@pytest.mark.parametrize("left", LEFT)
def test_a_second_crash_while_the_next_run_takes_up_the_work_changes_nothing(stage, plain, left):
    course = COURSES["plain"]
    steps = stage.steps(course, [LEFT[left]])
    known = {(name, when) for name, _, when in plain}
    new = [step for step in steps if (step[0], step[2]) not in known]
    others = random.Random(left).sample([step for step in steps if step[1] == 1], 12)
    row = [[LEFT[left], step] for step in [*new, *others]]
    hit = try_all(stage, course, row, wanted=stage.end(course))
    assert hit >= certain([*new, *others])


def test_three_crashes_at_any_moments_change_nothing(stage):
    course, dice = COURSES["plain"], random.Random(3)
    wanted = stage.end(course)

    def tried(nursery: Nursery, moments: Sequence[int]) -> int:
        case = stage.case(course)
        crashes = sum(case.crashes(nursery, [moment]) for moment in moments)
        nursery.run(case.job)
        case.check(wanted, moments)
        return crashes

    rows = [[dice.randrange(60, 200) for _ in range(3)] for _ in range(30)]
    assert sum(stage.nurseries.apply(tried, rows)) > 45  # the shortest runs take half the steps


def test_every_kind_of_step_is_among_those_that_were_crashed_at(stage, plain):
    """A step that the journal learns needs a course here."""
    seen = {step for course in COURSES.values() for step, _, _ in stage.steps(course)}
    asks_a_person = {"not_created", "expired"}  # or fourteen days
    writing = {
        name
        for name, method in inspect.getmembers(JournalFile, inspect.isfunction)
        if not name.startswith("_") and "_writing" in method.__code__.co_names
    }
    assert {"intend", "accepted", "ready", "downloading", "stored", "lost"} <= writing
    missing = {name for name in writing if COMMITS.format(name) not in seen}
    of_films = {"extended"}  # test_film_steps
    assert missing == asks_a_person | of_films
    for call in ("call_once", "call", "fetch"):
        assert {f"Transport.{call}: {verb}" for verb in ("connect", "send", "recv")} <= seen
    verbs = {step.rpartition(": ")[2] for step in seen}
    files = {"open", "write", "truncate", "flush", "fsync", "link", "unlink", "replace", "flock"}
    assert files <= verbs
