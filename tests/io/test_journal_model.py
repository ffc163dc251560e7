"""A batch on a real journal file, beside a service that keeps its own books: who is right?

A machine of hypothesis orders, loses answers, crashes and settles in any order; the service's books
judge it after every step. The same machine with a bug planted into it has to be found out.
"""

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import attrs
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from veo_async.database import JOURNAL_NAME, Database, open_for_reading, open_for_writing
from veo_async.jobs import Draft, Job, JobState, draft_of, request_text
from veo_async.journal_file import Charges, Found, JournalFile
from veo_async.protocol.jobs import HOLDS_SLOT, OPEN

SLOTS = 3
CREDITS = 60
ERROR: Mapping[str, object] = {"error_kind": "TestError", "error_code": 500, "error": "it broke"}
# Two prompts that come again and again, and rows with keys, of which one changes.
SOURCES = ["A", "B", ("k1", "k1 v0"), ("k1", "k1 v1"), ("k2", "k2 v0"), "F"]
STEPS = {"F": ["F", "F+1", "F+2"]}  # a film, with the prompts of its paid tasks
CHANGEABLE = {JobState.NEW, JobState.FAILED, JobState.REJECTED}
some = st.integers(0, 5)  # one of those that there are
_T = TypeVar("_T")
_Rule = TypeVar("_Rule", bound=Callable[..., Any])


def one_of(those: list[_T], number: int) -> _T:
    return those[number % len(those)]


def while_there_are(those: Callable[[Any], Collection[object]]) -> Callable[[_Rule], _Rule]:
    """Let a rule be chosen only where there is something for it to be about."""

    def decorated(step: _Rule) -> _Rule:
        return precondition(lambda machine: bool(those(machine)))(step)

    return decorated


@attrs.define
class Task:
    """A paid task, in the books of the service."""

    token: str
    prompt: str
    status: str = "running"
    cost: int | None = None


@attrs.define
class Service:
    """The service: what is on its way to it, and what it took."""

    in_flight: dict[str, str] = attrs.field(factory=dict)  # token → prompt
    tasks: dict[str, Task] = attrs.field(factory=dict)  # id → task

    def arrive(self, token: str) -> None:
        self.tasks[f"task-{len(self.tasks) + 1}"] = Task(token, self.in_flight.pop(token))

    @property
    def running(self) -> set[str]:
        return {task.token for task in self.tasks.values() if task.status == "running"}

    def id_of(self, token: str) -> str | None:
        return next((name for name, task in self.tasks.items() if task.token == token), None)

    def task_of(self, job: Job) -> Task | None:
        return None if job.attempt is None else self.tasks.get(self.id_of(job.attempt.token) or "")


@cache
def empty_journal() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, JOURNAL_NAME)
        open_for_writing(path).close()
        return path.read_bytes()


def given(source: str | tuple[str, str]) -> object:
    """Return a source as it stands in an input."""
    if isinstance(source, tuple):
        return {"key": source[0], "prompt": source[1]}
    return {"prompt": source, "extend_to": STEPS[source][1:]} if source in STEPS else source


def group_of(prompt: str) -> str:
    """Return what is wanted by a prompt: that of a row with a key may change, and is one video."""
    return prompt.partition(" ")[0]


class BatchMachine(RuleBasedStateMachine):
    """A batch that is run again and again, as the package runs it, over one journal."""

    Journal: ClassVar[type[JournalFile]] = JournalFile
    holds_slot: ClassVar[frozenset[JobState]] = HOLDS_SLOT

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="veo-model-"))
        (self.folder / JOURNAL_NAME).write_bytes(empty_journal())
        self.clock = 0
        self.service = Service()
        # What has to be so, whatever the journal says.
        self.keys: dict[object, str] = {}
        self.known: set[str] = set()
        self.most_pulled = Counter[str]()
        self.allowed = Counter[str]()
        self.tokens: dict[str, list[str]] = {}
        self.charged: dict[str, int] = {}
        self.failed: set[str] = set()
        self.given_up: set[str] = set()
        self.wanted: dict[str, str] = {}
        self.fetched: set[str] = set()  # its file is on the disk, though perhaps not written down
        self.is_home: set[str] = set()
        self.is_expired: set[str] = set()
        self.deleted: set[str] = set()
        self.start()

    def teardown(self) -> None:
        self.file.close()
        shutil.rmtree(self.folder)

    # --- a run and its end

    def opened(self, opening: Callable[[Path], Database]) -> JournalFile:
        database = opening(self.folder / JOURNAL_NAME)
        # Runs end here, and never machines, nor in the middle of a transaction.
        database.connection.execute("PRAGMA synchronous = OFF")
        database.connection.execute("PRAGMA journal_mode = MEMORY")
        return self.Journal(database, self.folder)

    def start(self) -> None:
        self.file = self.opened(open_for_writing)
        self.slots: set[str] = set()
        self.work: dict[str, Job] = {}
        self.pulled = Counter[object]()
        self.file.forget_invalid()
        jobs = self.file.open_jobs()
        for job in jobs:
            if job.state in self.holds_slot and job.attempt is not None:
                self.slots.add(job.attempt.token)
        for job in jobs:
            self.take_up(job)
        self.taken_up = {job.key for job in jobs}

    def take_up(self, job: Job) -> None:
        if job.state is JobState.INTENT:
            job = self.file.lost(job, ERROR)
        self.work[job.key] = job

    @while_there_are(lambda self: self.work)
    @rule()
    def crash(self) -> None:
        self.file.close()
        self.start()

    # --- the input

    @while_there_are(lambda self: self.known)
    @rule(order=st.permutations(SOURCES))
    def run_again(self, order: list[str | tuple[str, str]]) -> None:
        self.crash()
        for source in order:
            self.pull(source)

    @precondition(lambda self: len(self.those(JobState.NEW)) < SLOTS)
    @rule(source=st.sampled_from(SOURCES))
    def pull(self, source: str | tuple[str, str]) -> None:
        prompt = source if isinstance(source, str) else source[1]
        draft = draft_of(given(source), sum(self.pulled.values()) + 1, {})
        [found] = self.file.look_up([draft])
        self.judge_key(source, found)
        if found.is_repeated or found.key in self.taken_up:
            return
        group = group_of(prompt)
        self.most_pulled[group] = max(self.most_pulled[group], self.pulled[group])
        assert (found.job is not None) == (found.key in self.known)
        assert draft.request is not None
        text = request_text(draft.request)
        if found.job is None:
            self.wanted[found.key] = prompt
            self.work[found.key] = Job(key=found.key, position=draft.position, request_text=text)
        else:
            self.go_on(found, found.job, prompt, text)

    def go_on(self, found: Found, job: Job, prompt: str, text: str) -> None:
        assert found.is_changed == (prompt != self.wanted[job.key])
        if found.is_changed:
            if job.state in CHANGEABLE:
                self.pay_again(job, prompt, text)
        elif job.state is JobState.STORED:
            assert found.is_missing == (job.key in self.deleted)
            assert found.damage is None
            if found.is_missing:
                self.is_home.discard(job.key)
                self.deleted.discard(job.key)
                self.work[job.key] = self.file.missing(job)
        elif job.state is JobState.FAILED:
            self.pay_again(job)
        elif job.state is JobState.NEW:
            self.work[job.key] = job

    def judge_key(self, source: str | tuple[str, str], found: Found) -> None:
        name = source if isinstance(source, str) else source[0]
        self.pulled[name] += 1
        number = self.pulled[name]
        item = (name, number) if isinstance(source, str) else name
        assert found.is_repeated == (not isinstance(source, str) and number > 1)
        assert self.keys.setdefault(item, found.key) == found.key, "a key is another one by now"
        assert len({*self.keys.values()}) == len(self.keys), "two inputs have one key"

    # --- what happens to a job

    def those(self, *states: JobState, has: Callable[[Job], bool] = bool) -> list[Job]:
        return [job for _, job in sorted(self.work.items()) if job.state in states and has(job)]

    def token_of(self, job: Job) -> str:
        assert job.attempt is not None
        return job.attempt.token

    def step_of(self, job: Job) -> str:
        """Return the prompt of the paid task that a job needs next, or is at."""
        prompt = self.wanted[job.key]
        return STEPS.get(prompt, [prompt])[len(job.steps)]

    def to_submit(self) -> list[Job]:
        return self.those(JobState.NEW) if len(self.slots) < SLOTS else []

    @while_there_are(to_submit)
    @rule(number=some)
    def submit(self, number: int) -> None:
        job = one_of(self.to_submit(), number)
        self.clock += 1
        token = f"token-{self.clock}"
        self.slots.add(token)
        self.send(job, token)

    def send(self, job: Job, token: str) -> None:
        prompt = self.step_of(job)
        self.work[job.key] = self.intend(job, token)
        self.service.in_flight[token] = prompt

    def intend(self, job: Job, token: str) -> Job:
        self.known.add(job.key)
        self.tokens.setdefault(job.key, []).append(token)
        self.charged[token] = CREDITS
        name = f"{group_of(self.wanted[job.key])}.mp4"
        return self.file.intend(
            job, token=token, credits_=CREDITS, name=name, now=float(self.clock)
        )

    @while_there_are(lambda self: self.those(JobState.NEW))
    @rule(number=some)
    def unpaid(self, number: int) -> None:
        job = one_of(self.those(JobState.NEW), number)
        self.known.add(job.key)
        self.file.unpaid(job, now=0.0)
        del self.work[job.key]

    @while_there_are(lambda self: self.service.in_flight)
    @rule(number=some)
    def arrive(self, number: int) -> None:
        self.service.arrive(one_of(sorted(self.service.in_flight), number))

    @while_there_are(lambda self: self.service.in_flight)
    @rule(number=some)
    def vanish(self, number: int) -> None:
        """Let a request get lost on its way."""
        del self.service.in_flight[one_of(sorted(self.service.in_flight), number)]

    def answered(self) -> list[Job]:
        return self.those(JobState.INTENT, has=lambda job: self.service.task_of(job) is not None)

    @while_there_are(answered)
    @rule(number=some)
    def accepted(self, number: int) -> None:
        job = one_of(self.answered(), number)
        task_id = self.service.id_of(self.token_of(job))
        assert task_id is not None
        self.work[job.key] = self.file.accepted(job, task_id, now=float(self.clock))

    def not_taken(self) -> list[Job]:
        in_flight = self.service.in_flight
        return self.those(JobState.INTENT, has=lambda job: self.token_of(job) in in_flight)

    def forget(self, job: Job) -> None:
        token = self.token_of(job)
        del self.service.in_flight[token], self.charged[token]
        self.tokens[job.key].remove(token)
        self.slots.remove(token)

    @while_there_are(not_taken)
    @rule(number=some)
    def turned_away(self, number: int) -> None:
        job = one_of(self.not_taken(), number)
        self.forget(job)
        self.work[job.key] = self.file.turned_away(job, now=0.0)

    @while_there_are(not_taken)
    @rule(number=some)
    def refused(self, number: int) -> None:
        job = one_of(self.not_taken(), number)
        self.forget(job)
        self.file.rejected(job, ERROR, now=0.0)
        del self.work[job.key]

    @while_there_are(lambda self: self.those(JobState.INTENT))
    @rule(number=some)
    def lost(self, number: int) -> None:
        job = one_of(self.those(JobState.INTENT), number)
        self.work[job.key] = self.lose(job)

    def lose(self, job: Job) -> Job:
        return self.file.lost(job, ERROR)

    @while_there_are(lambda self: self.service.running)
    @rule(number=some, is_fine=st.booleans(), cost=st.sampled_from([None, 0, 7, 250]))
    def finish(self, number: int, is_fine: bool, cost: int | None) -> None:
        running = [task for task in self.service.tasks.values() if task.status == "running"]
        task = one_of(running, number)
        task.status, task.cost = "success" if is_fine else "failed", cost

    def ended(self) -> list[Job]:
        return self.those(JobState.SUBMITTED, has=self.has_ended)

    def has_ended(self, job: Job) -> bool:
        task = self.service.task_of(job)
        return task is not None and task.status != "running"

    @while_there_are(ended)
    @rule(number=some)
    def seen(self, number: int) -> None:
        job = one_of(self.ended(), number)
        task, token = self.service.task_of(job), self.token_of(job)
        assert task is not None
        self.slots.discard(token)
        if task.status == "success":
            if task.cost is not None:
                self.charged[token] = task.cost
            self.work[job.key] = self.succeeded(job, task)
        else:
            self.failed.add(token)
            self.charged[token] = task.cost or 0
            self.work[job.key] = self.file.failed(job, ERROR, charged=task.cost or 0, now=0.0)

    def succeeded(self, job: Job, task: Task) -> Job:
        is_new = job.attempt is not None and job.attempt.end is None
        if is_new and self.step_of(job) != STEPS.get(self.wanted[job.key], [task.prompt])[-1]:
            return self.file.extended(job, cost=task.cost, now=0.0)
        return self.file.ready(job, url="https://v.test/", seed=None, cost=task.cost, now=0.0)

    def target(self, job: Job) -> Path:
        assert job.file is not None, "a job has no file"
        return self.folder / job.file

    def to_fetch(self) -> list[Job]:
        return self.those(
            JobState.READY, JobState.DOWNLOADING, has=lambda job: job.key not in self.fetched
        )

    @while_there_are(to_fetch)
    @rule(number=some)
    def fetch(self, number: int) -> None:
        """Put the whole file under its name. A crash may come before that is written down."""
        job = self.file.downloading(one_of(self.to_fetch(), number))
        self.work[job.key] = job
        assert not self.target(job).exists(), "somebody's file stands in the way"
        self.target(job).write_text(job.task_id or "")
        self.fetched.add(job.key)

    def to_store(self) -> list[Job]:
        return self.those(
            JobState.READY, JobState.DOWNLOADING, has=lambda job: job.key in self.fetched
        )

    @while_there_are(to_store)
    @rule(number=some)
    def store(self, number: int) -> None:
        job = one_of(self.to_store(), number)
        size = self.target(job).stat().st_size
        self.file.stored(job, size=size, sha256="", now=0.0)
        self.is_home.add(job.key)
        del self.work[job.key]

    @while_there_are(to_fetch)
    @rule(number=some)
    def expire(self, number: int) -> None:
        job = one_of(self.to_fetch(), number)
        self.file.expired(job, ERROR)
        self.is_expired.add(job.key)
        del self.work[job.key]

    @while_there_are(to_submit)
    @rule(number=some, steps=st.integers(2, 7), is_fine=st.booleans())
    def go_far(self, number: int, steps: int, is_fine: bool) -> None:
        """Go several steps in a row: single ones seldom get as far as a file."""
        way: list[tuple[Callable[[], object], Callable[[int], None]]] = [
            (self.to_submit, self.submit),
            (lambda: self.service.in_flight, self.arrive),
            (self.answered, self.accepted),
            (lambda: self.service.running, lambda number: self.finish(number, is_fine, None)),
            (self.ended, self.seen),
            (self.to_fetch, self.fetch),
            (self.to_store, self.store),
        ]
        for may_go, step in way[:steps]:
            if may_go():
                step(number)

    # --- what people do

    @while_there_are(lambda self: self.is_home - self.deleted)
    @rule(number=some)
    def delete(self, number: int) -> None:
        job = self.file.find(one_of(sorted(self.is_home - self.deleted), number))
        assert job is not None
        self.target(job).unlink()
        self.fetched.remove(job.key)
        self.deleted.add(job.key)

    @precondition(lambda self: not self.known)
    @rule(name=st.sampled_from(["A.mp4", "a-2.MP4", "k1.mp4", "k2.mp4", "B.json"]))
    def put_a_foreign_file(self, name: str) -> None:
        """Put a file of one's own into the folder, under a name that is nobody's so far."""
        taken = {(job.file or "").casefold() for job in self.file.jobs()}
        if name.casefold().replace(".json", ".mp4") not in taken:
            (self.folder / name).write_text("foreign")

    def may_be_paid_again(self) -> list[Job]:
        # A lost submit is given up after the time for which its task can run.
        busy = {*self.service.running, *self.service.in_flight}
        return self.those(
            JobState.FAILED, JobState.UNKNOWN, has=lambda job: self.token_of(job) not in busy
        )

    @while_there_are(may_be_paid_again)
    @rule(number=some)
    def again(self, number: int) -> None:
        self.pay_again(one_of(self.may_be_paid_again(), number))

    def pay_again(self, job: Job, prompt: str | None = None, text: str | None = None) -> None:
        if job.state in {JobState.FAILED, JobState.UNKNOWN}:
            self.allowed[group_of(self.step_of(job))] += 1
        if job.state is JobState.UNKNOWN:
            self.given_up.add(self.token_of(job))
            self.slots.discard(self.token_of(job))
        if prompt is not None:
            self.wanted[job.key] = prompt
        self.work[job.key] = self.file.again(job, text)

    @while_there_are(lambda self: self.those(JobState.INTENT, JobState.UNKNOWN))
    @rule(number=some)
    def settle(self, number: int) -> None:
        """Stop the run, and say what became of a submit: the service's books know."""
        key = one_of(self.those(JobState.INTENT, JobState.UNKNOWN), number).key
        self.file.close()
        self.file = self.opened(open_for_reading)
        job = self.file.find(key)
        assert job is not None
        if job.state is JobState.INTENT:
            job = self.file.lost(job, ERROR)
        token = self.token_of(job)
        if (task_id := self.service.id_of(token)) is not None:
            self.file.accepted(job, task_id, now=float(self.clock))
        else:
            self.service.in_flight.pop(token, None)
            self.charged[token] = 0
            self.file.not_created(job, now=float(self.clock))
        self.crash()

    # --- the judge

    @invariant()
    def judge(self) -> None:
        jobs = [*self.file.jobs()]
        self.judge_payments()
        self.judge_tasks(jobs)
        self.judge_slots()
        self.judge_books(jobs)
        self.judge_work(jobs)
        self.judge_files(jobs)

    def judge_payments(self) -> None:
        paid = Counter(group_of(task.prompt) for task in self.service.tasks.values())
        for group, count in paid.items():
            source = group.partition("+")[0]
            wanted = self.most_pulled[source] if source in SOURCES else 1
            assert count <= wanted + self.allowed[group], f"{group} is paid {count} times"

    def judge_tasks(self, jobs: list[Job]) -> None:
        attempts = {attempt.token: (job, attempt) for job in jobs for attempt in job.attempts}
        for task_id, task in self.service.tasks.items():
            assert task.token in attempts, f"{task_id} is not in the journal"
            job, attempt = attempts[task.token]
            is_unknown = attempt == job.attempt and job.state in {JobState.INTENT, JobState.UNKNOWN}
            may_be_nameless = is_unknown or task.token in self.given_up
            assert attempt.task_id == task_id or (attempt.task_id is None and may_be_nameless)

    def judge_slots(self) -> None:
        assert len(self.service.running) <= SLOTS, "the service sees more tasks than it allows"
        assert {*self.service.running, *self.service.in_flight} <= self.slots

    def judge_books(self, jobs: list[Job]) -> None:
        made = {job.key: [attempt.token for attempt in job.attempts] for job in jobs}
        assert made == {key: self.tokens.get(key, []) for key in self.known}
        charged = {attempt.token: attempt.charged for job in jobs for attempt in job.attempts}
        assert charged == self.charged
        failed = sum(self.charged[token] for token in self.failed)
        assert self.file.charges() == Charges(total=sum(charged.values()), failed=failed)

    def judge_work(self, jobs: list[Job]) -> None:
        for job in jobs:
            assert job.request is not None
            assert job.request.prompt == self.wanted[job.key]
            assert job.state not in OPEN or self.work.get(job.key) == job, "nobody works on it"
            task = self.service.task_of(job)
            if task is not None and task.status == "success" and task.token not in self.given_up:
                ended = self.is_home | self.is_expired
                # A film waits between two steps until its row is pulled again.
                is_begun = job.state is JobState.NEW and 0 < len(job.steps) < 3
                is_seen_to = job.key in ended or job.key in self.work or is_begun
                assert is_seen_to, "nobody fetches what is paid"

    def judge_files(self, jobs: list[Job]) -> None:
        names = [job.file.casefold() for job in jobs if job.file is not None]
        assert len({*names}) == len(names), "two jobs have one file"
        for job in jobs:
            assert (job.state is JobState.STORED) == (job.key in self.is_home)
            if job.key in self.fetched:
                assert self.target(job).read_text() == job.task_id
                is_whole = len(job.steps) == len(STEPS.get(self.wanted[job.key], [""]))
                assert is_whole, "a part of a film is taken for the film"


QUICK = settings(
    max_examples=100,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


def test_the_journal_agrees_with_the_books_of_the_service() -> None:
    run_state_machine_as_test(BatchMachine, settings=QUICK)


# --- the same with a bug in it


class TakesAnIntentForNew(BatchMachine):
    """Sends what may have been sent, since no answer to it was written down."""

    def take_up(self, job: Job) -> None:
        if job.state is JobState.INTENT:
            self.charged[self.token_of(job)] = 0
            job = self.file.not_created(self.file.lost(job, ERROR), now=0.0)
        self.work[job.key] = job


class TakesAnIntentForNewBeforeTheCashierOnly(TakesAnIntentForNew):
    """The same, seen by nobody but who counts the payments."""

    @invariant()
    def judge(self) -> None:
        self.judge_payments()


class FreesTheSlotsOfUnknownSubmits(BatchMachine):
    """Starts with slots that tasks may occupy whose ids nobody knows."""

    holds_slot = HOLDS_SLOT - {JobState.UNKNOWN}


class FreesTheSlotsOfTasks(BatchMachine):
    """Starts with all slots free, as a semaphore does."""

    holds_slot = frozenset[JobState]()


class IntendsAfterTheAnswer(BatchMachine):
    """Writes down what it has sent once it has heard of it."""

    def send(self, job: Job, token: str) -> None:
        self.service.in_flight[token] = self.step_of(job)
        self.unwritten[token] = job

    def start(self) -> None:
        super().start()
        self.unwritten: dict[str, Job] = {}

    @while_there_are(lambda self: self.service.in_flight)
    @rule(number=some)
    def arrive(self, number: int) -> None:
        token = one_of(sorted(self.service.in_flight), number)
        self.service.arrive(token)
        job = self.unwritten.pop(token, None)
        if job is not None and self.work.get(job.key) == job:
            self.work[job.key] = self.intend(job, token)


class ForgetsLostAnswers(BatchMachine):
    """Takes a lost answer for none, and sends again."""

    def lose(self, job: Job) -> Job:
        token = self.token_of(job)
        self.tokens[job.key].remove(token)
        del self.charged[token]
        self.slots.remove(token)
        return self.file.turned_away(job, now=0.0)


class OverlooksWhatIsReady(BatchMachine):
    """Takes up the tasks, and not the videos."""

    class Journal(JournalFile):
        def open_jobs(self) -> list[Job]:
            ready = {JobState.READY, JobState.DOWNLOADING}
            return [job for job in super().open_jobs() if job.state not in ready]


class ForgetsTheWrongAttempt(BatchMachine):
    """Drops the first attempt of a job whose newest one was turned away."""

    class Journal(JournalFile):
        def _forget_attempt(self, row: int, job: Job) -> None:
            super()._forget_attempt(row, attrs.evolve(job, attempts=job.attempts[:1]))


class KeepsTheAttemptThatWasTurnedAway(BatchMachine):
    """Counts what the service did not take."""

    class Journal(JournalFile):
        def _forget_attempt(self, row: int, job: Job) -> None:
            """Do nothing."""


class DoesNotNumberRepeats(BatchMachine):
    """Takes the same prompt once more for the same video."""

    class Journal(JournalFile):
        def _pulled(self, identity: str) -> int:
            return min(1, super()._pulled(identity))


class NumbersByPosition(BatchMachine):
    """Makes the key of a repeat depend on the rows around it."""

    class Journal(JournalFile):
        def look_up(self, drafts: Sequence[Draft]) -> list[Found]:
            return super().look_up(
                [
                    one
                    if one.key is not None
                    else attrs.evolve(one, identity=f"{one.identity}-{one.position}")
                    for one in drafts
                ]
            )


class ChargesWhatWasNotCreated(BatchMachine):
    """Keeps the charge of a submit that came to nothing."""

    class Journal(JournalFile):
        def not_created(self, job: Job, *, now: float) -> Job:
            charged = job.charged
            job = super().not_created(job, now=now)
            self._db.execute("UPDATE attempts SET charged = ? WHERE charged = 0", (charged,))
            return job


class ChargesForFailures(BatchMachine):
    """Counts the price of a failed task."""

    class Journal(JournalFile):
        def failed(self, job: Job, error: Mapping[str, object], *, charged: int, now: float) -> Job:
            return super().failed(job, error, charged=CREDITS, now=now)


class DoesNotLearnTheCost(BatchMachine):
    """Keeps the price where the service said what it took."""

    class Journal(JournalFile):
        def ready(
            self, job: Job, *, url: str, seed: int | None, cost: int | None, now: float
        ) -> Job:
            return super().ready(job, url=url, seed=seed, cost=None, now=now)


class ForgetsAStep(BatchMachine):
    """Begins a film anew that is under way."""

    class Journal(JournalFile):
        def extended(self, job: Job, *, cost: int | None, now: float) -> Job:
            super().extended(job, cost=cost, now=now)
            self._db.execute("UPDATE attempts SET \"end\" = 'replaced' WHERE \"end\" = 'success'")
            return self._again(job)


class TakesAStepForTheFilm(BatchMachine):
    """Fetches the first part of a film, and takes that for all of it."""

    class Journal(JournalFile):
        def extended(self, job: Job, *, cost: int | None, now: float) -> Job:
            return self.ready(job, url="https://v.test/", seed=None, cost=cost, now=now)


class StoresWithoutAName(BatchMachine):
    """Loses the name of the file when it is whole."""

    class Journal(JournalFile):
        def stored(self, job: Job, *, size: int, sha256: str, now: float) -> Job:
            job = super().stored(job, size=size, sha256=sha256, now=now)
            self._db.execute("UPDATE jobs SET file = NULL WHERE key = ?", (job.key,))
            return job


class KeepsTheOldRequest(BatchMachine):
    """Sends the request of yesterday for a row that was changed."""

    class Journal(JournalFile):
        def again(self, job: Job, wanted: str | None = None) -> Job:
            return super().again(job)


class NamesTheFirstAttempt(BatchMachine):
    """Writes the id of a task to the first attempt of its job."""

    class Journal(JournalFile):
        def accepted(self, job: Job, task_id: str, *, now: float) -> Job:
            job = super().accepted(job, task_id, now=now)
            self._db.execute("UPDATE attempts SET task_id = ? WHERE number = 1", (task_id,))
            return job


class DoesNotLookAtTheDisk(BatchMachine):
    """Takes a name that somebody's file has."""

    class Journal(JournalFile):
        def _is_free(self, name: str) -> bool:
            return True


class KeepsAMissingFile(BatchMachine):
    """Takes a file for stored that is gone."""

    class Journal(JournalFile):
        def file_of(self, job: Job) -> tuple[bool, str | None]:
            return False, None


PLANTED = [
    TakesAnIntentForNew,
    TakesAnIntentForNewBeforeTheCashierOnly,
    FreesTheSlotsOfUnknownSubmits,
    FreesTheSlotsOfTasks,
    IntendsAfterTheAnswer,
    ForgetsLostAnswers,
    OverlooksWhatIsReady,
    ForgetsTheWrongAttempt,
    KeepsTheAttemptThatWasTurnedAway,
    DoesNotNumberRepeats,
    NumbersByPosition,
    ChargesWhatWasNotCreated,
    ChargesForFailures,
    DoesNotLearnTheCost,
    ForgetsAStep,
    TakesAStepForTheFilm,
    StoresWithoutAName,
    KeepsTheOldRequest,
    NamesTheFirstAttempt,
    DoesNotLookAtTheDisk,
    KeepsAMissingFile,
]
# To find it is enough; nobody reads the shortest way to it.
UNTIL_FOUND = settings(QUICK, max_examples=1000, phases=[Phase.generate], print_blob=False)


@pytest.mark.parametrize("machine", PLANTED, ids=lambda machine: machine.__name__)
def test_a_planted_bug_is_found(machine: type[BatchMachine]) -> None:
    with pytest.raises(AssertionError):
        run_state_machine_as_test(machine, settings=UNTIL_FOUND)
