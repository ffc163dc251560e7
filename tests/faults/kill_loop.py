"""Batches that are killed over and over, and the judgement of what is left: by the books and files.

The books are the simulator's ledger. Of the journal only the submits without an id are believed,
which nothing else can know of; it has to agree with the books in everything.
"""

import hashlib
import itertools
import json
import queue
import random
import shutil
import sqlite3
import struct
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, TypeAlias, TypeVar

import attrs

from veo_async.simulator import Simulator
from veo_async.simulator.records import Charge

ROOT = Path(__file__).parents[2]
JOURNAL = "veo-journal.db"
COMMAND = [sys.executable, "-X", "dev", "-W", "error", "-m", "tests.faults.batch_child"]
SPEED = 200.0
GENERATION = (40.0, 160.0)  # service seconds: a fifth to four fifths of a second
LONGEST_LIFE = 0.6  # seconds until a kill: many find tasks that run, and links that are new
SLOTS = 10
PRICE = 70  # of the usual model, by the price list of the simulator's dialect
_FAULTS = (
    "generate:lose_answer:probability=0.05",
    "record-info:status=500:probability=0.05",
    "video:cut_at=3000:probability=0.1",
)

_T = TypeVar("_T")
_R = TypeVar("_R")

# A step of the program as `watching` sees it: its name, the so-manieth time, before or after it.
Sight: TypeAlias = tuple[str, int, str]
COMMITS = "JournalFile.{0} > JournalFile._transaction: execute"

# What a crash can leave: a transaction, an intent, an id, a link, a part, two names of one file, a
# file without its side file, and both without a word in the journal.
LEFT: dict[str, Sight] = {
    "a half-made journal": ("open_for_writing > _make: execute", 5, "after"),
    "an open transaction": (COMMITS.format("accepted"), 2, "before"),
    "an intent": (COMMITS.format("intend"), 2, "after"),
    "an id": (COMMITS.format("accepted"), 2, "after"),
    "a link": (COMMITS.format("ready"), 2, "after"),
    "a part": ("_CheckedFile.write: write", 1, "after"),
    "two names": ("PartialFile._commit > _rename_new: link", 1, "after"),
    "a file": ("PartialFile._commit > fsync_folder: fsync", 1, "after"),
    "a file described": (COMMITS.format("stored"), 2, "before"),
}


# --- running the program


@attrs.frozen
class Ended:
    """How a run ended: its exit code, below 0 for a signal, and what it said if it lived."""

    code: int
    said: dict[str, Any] | None

    @property
    def outcomes(self) -> Counter[str]:
        """How many items had which outcome."""
        assert self.said is not None
        return Counter(item["outcome"] for item in self.said["items"])


class Nursery:
    """Runs the program again and again, each time as a process that may be killed."""

    def __enter__(self) -> Self:
        self._errors: IO[str] = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            COMMAND,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.communicate()
        said = self.complaints()
        self._errors.close()
        assert error is not None or not said, said

    def complaints(self) -> str:
        """Return what came to stderr: tracebacks and warnings."""
        self._errors.seek(0)
        return self._errors.read()

    def run(self, job: dict[str, Any]) -> Ended:
        """Run one job to its end, or until it is killed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        ended = Ended(**json.loads(line or '{"code": 1, "said": null}'))
        assert ended.code in {0, -9}, self.complaints()
        return ended


class Nurseries:
    """Several of them, for many cases at a time."""

    def __init__(self, count: int = 2) -> None:
        self._all = [Nursery() for _ in range(count)]
        self._free: queue.SimpleQueue[Nursery] = queue.SimpleQueue()
        self._open = ExitStack()

    def __enter__(self) -> Self:
        for nursery in self._all:
            self._free.put(self._open.enter_context(nursery))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.__exit__(kind, error, trace)

    def apply(self, work: Callable[[Nursery, _T], _R], cases: Iterable[_T]) -> list[_R]:
        """Return what comes of each case."""

        def with_one(case: _T) -> _R:
            nursery = self._free.get()
            try:
                return work(nursery, case)
            finally:
                self._free.put(nursery)

        with ThreadPoolExecutor(len(self._all)) as threads:
            return [*threads.map(with_one, cases)]


def command(job: dict[str, Any]) -> Ended:
    """Run the program once, as a shell would."""
    done = subprocess.run(
        [*COMMAND, json.dumps(job)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert not done.stderr, done.stderr
    return Ended(done.returncode, json.loads(done.stdout))


def job_for(
    simulator: Simulator, folder: Path, prompts: Sequence[str], **more: Any
) -> dict[str, Any]:
    """Return what the program is told."""
    return {
        "api_key": simulator.api_key,
        "base_url": simulator.base_url,
        "speed": simulator.time_scale,
        "directory": str(folder),
        "prompts": [*prompts],
        **more,
    }


# --- what is in a folder


def is_whole_mp4(path: Path) -> bool:
    """Return whether a file is a sequence of whole boxes, with an index and media among them."""
    content, at, kinds = path.read_bytes(), 0, set[bytes]()
    while at < len(content):
        size, kind = struct.unpack_from(">I4s", content.ljust(at + 8, b"\0"), at)
        at += size if size >= 8 else len(content) + 1
        kinds.add(kind)
    return at == len(content) and {b"ftyp", b"moov", b"mdat"} <= kinds


@attrs.frozen
class Row:
    """A job as its journal has it; `tasks` are its attempts, as (id, credits, end)."""

    key: str
    state: str
    file: str | None
    size: int | None
    sha256: str | None
    prompt: str
    tasks: tuple[tuple[str | None, int, str | None], ...]

    @property
    def task_id(self) -> str | None:
        """The newest task's id."""
        return self.tasks[-1][0] if self.tasks else None


def rows_of(folder: Path) -> list[Row]:
    """Read the journal of a folder from a copy, in which what was begun may be undone."""
    with tempfile.TemporaryDirectory() as aside:
        for path in folder.glob(f"{JOURNAL}*"):
            shutil.copy(path, aside)
        if not Path(aside, JOURNAL).exists():
            return []
        with closing(sqlite3.connect(Path(aside, JOURNAL))) as journal:
            assert journal.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            jobs = journal.execute(
                "SELECT key, state, file, size, sha256, request_text, id FROM jobs ORDER BY id"
            ).fetchall()
            tasks: dict[int, list[tuple[str | None, int, str | None]]] = {}
            for job, *task in journal.execute(
                'SELECT job, task_id, charged, "end" FROM attempts ORDER BY job, number'
            ):
                tasks.setdefault(job, []).append((task[0], task[1], task[2]))
    return [
        Row(*fields, json.loads(text)["prompt"], tuple(tasks.get(number, ())))
        for *fields, text, number in jobs
    ]


def at_home(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the side file of each whole video, by its task; what is not whole raises."""
    found: dict[str, dict[str, Any]] = {}
    for path in folder.glob("*.json"):
        if path.name.endswith(".part.json"):
            continue
        side = json.loads(path.read_text())
        video = folder / side["file"]
        content = video.read_bytes()
        assert side["size"] == len(content), video
        assert side["sha256"] == hashlib.sha256(content).hexdigest(), video
        assert is_whole_mp4(video), video
        assert video == path.with_suffix(".mp4")
        found[side["task_id"]] = side
    return found


def strays_in(folder: Path) -> list[str]:
    """Return what is neither a video with its side file nor the journal with its lock."""
    videos = {side["file"] for side in at_home(folder).values()}
    sides = {Path(name).with_suffix(".json").name for name in videos}
    usual = videos | sides | {JOURNAL, f"{JOURNAL}.lock"}
    return sorted(path.name for path in folder.iterdir() if path.name not in usual)


# --- the loop


@attrs.define
class Toll:
    """What many kills have done.

    Attributes:
        kills: Processes killed while they ran.
        prompts: Videos that were asked for.
        paid: Tasks that were charged, failed ones included.
        stored: Paid tasks that are at home.
        failed: Tasks that failed and were refunded.
        paid_twice: Prompts with more charges than videos asked for.
        lost: Paid tasks that are neither at home nor listed as uncertain.
        uncertain_paid: Submits without an id whose task was charged.
        uncertain_unpaid: Submits without an id that made no task.
        unexplained: Credits by which the journals and the books differ, apart from that.
        wrong: What else is not as it has to be.
        peak: The most tasks that ran at once.
        reposts: Paid requests of runs over finished folders.
    """

    kills: int = 0
    prompts: int = 0
    paid: int = 0
    stored: int = 0
    failed: int = 0
    paid_twice: int = 0
    lost: int = 0
    uncertain_paid: int = 0
    uncertain_unpaid: int = 0
    unexplained: int = 0
    wrong: list[str] = attrs.field(factory=list[str])
    peak: int = 0
    reposts: int = 0

    @property
    def is_harmless(self) -> bool:
        """Whether every promise was kept."""
        broken = self.paid_twice or self.lost or self.unexplained or self.wrong or self.reposts
        return not broken and self.peak <= SLOTS


@contextmanager
def service(seed: int) -> Iterator[Simulator]:
    """Serve what loses answers and cuts downloads, and would let more tasks run than it should."""
    with Simulator(
        seed=seed,
        time_scale=SPEED,
        clip=(64, 36),
        video_bytes=0,
        credits=10**9,
        max_tasks=10 * SLOTS,
        generation_seconds=GENERATION,
        faults=_FAULTS,
    ) as simulator:
        yield simulator


def with_twins(name: str, count: int) -> list[str]:
    """Return prompts of which every third is there twice, and one five times."""
    prompts = [f"{name} {number - number % 3 % 2}" for number in range(count - 4)]
    return [*prompts, *[f"{name} again"] * 4]


def with_failures(name: str, count: int) -> list[str]:
    """Return prompts of which some fail, for reasons that may pass and for others."""
    marks = {3: " [fail]", 6: " [policy]"}
    return [f"{name} {number}{marks.get(number % 8, '')}" for number in range(count)]


def killed_batch(
    simulator: Simulator,
    folder: Path,
    prompts: Sequence[str],
    lives: Iterable[float],
    toll: Toll,
) -> None:
    """Kill one batch after each of some seconds, let it end, and judge what is left.

    Args:
        simulator: The service.
        folder: Where the files go.
        prompts: The input.
        lives: Seconds after which each run is killed; the batch is over when one ends before.
        toll: What is added to.
    """
    job = job_for(
        simulator,
        folder,
        prompts,
        response=3.0,
        uncertain=GENERATION[1] / simulator.time_scale + 0.5,
    )
    before = len(simulator.ledger)
    with Nursery() as nursery:
        for seconds in lives:
            ended = nursery.run({**job, "kill_after": seconds})
            if ended.code == 0:
                break
            assert ended.code == -9, nursery.complaints()
            toll.kills += 1
        last = nursery.run(job)
    assert last.said is not None
    posts = len(simulator.ledger.posts)
    again = command(job)
    simulator.advance(GENERATION[1])  # tasks whose answers were lost may still be running
    ledger = simulator.ledger
    toll.reposts += len(ledger.posts) - posts
    toll.peak = ledger.peak_running
    judge(folder, prompts, ledger.charges[before:], toll)
    _compare(folder, last, again, toll)


def judge(folder: Path, prompts: Sequence[str], charges: Sequence[Charge], toll: Toll) -> None:
    """Add to the toll what one folder and what was charged for it come to."""
    kept = [charge for charge in charges if not charge.refunded]
    refunded = {charge.task_id for charge in charges if charge.refunded}
    home, rows = at_home(folder), rows_of(folder)
    failed = {row.task_id for row in rows if row.state == "failed"}
    unknown = Counter(row.prompt for row in rows if row.state == "unknown" and not row.task_id)
    missing = Counter(
        charge.prompt
        for charge in charges
        if charge.task_id not in (failed if charge.refunded else home)
    )
    hidden = Counter(charge.prompt for charge in kept if charge.task_id not in home) & unknown
    explained = (missing & unknown).total()
    bought, wanted = Counter(charge.prompt for charge in kept), Counter(prompts)
    toll.prompts += len(prompts)
    toll.paid += len(charges)
    toll.stored += len(home)
    toll.failed += len(failed & refunded)
    toll.paid_twice += sum(bought[prompt] > wanted[prompt] for prompt in bought)
    toll.lost += missing.total() - explained
    toll.uncertain_paid += explained
    toll.uncertain_unpaid += unknown.total() - explained
    journal = sum(task[1] for row in rows for task in row.tasks)
    books = sum(charge.credits for charge in kept)
    toll.unexplained += abs(journal - books - PRICE * (unknown - hidden).total())
    _check_rows(folder, rows, home, refunded, toll)


def _check_rows(
    folder: Path,
    rows: Sequence[Row],
    home: dict[str, dict[str, Any]],
    refunded: set[str],
    toll: Toll,
) -> None:
    """Look for what the journal, the files and the books do not agree on."""
    for row in rows:
        side = home.get(row.task_id or "")
        match row.state:
            case "stored":
                told = None if side is None else (side["key"], side["file"], side["sha256"])
                is_right = told == (row.key, row.file, row.sha256)
            case "failed":
                is_right = side is None and row.task_id in refunded
            case "unknown":
                is_right = side is None and row.task_id is None
            case _:
                is_right = False
        if not is_right:
            toll.wrong.append(f"{folder.name}: {row}")
    owned = {row.task_id for row in rows if row.state == "stored"}
    toll.wrong += [f"{folder.name}: {task} is nobody's" for task in home.keys() - owned]
    toll.wrong += [f"{folder.name}: {name} was left" for name in strays_in(folder)]


def _compare(folder: Path, last: Ended, again: Ended, toll: Toll) -> None:
    """Look for what the last run and the one after it do not agree on."""
    assert last.said is not None
    assert again.said is not None
    rows = rows_of(folder)
    counts = Counter(row.state for row in rows)
    wanted = Counter(skipped=counts["stored"], failed=counts["failed"], uncertain=counts["unknown"])
    if +again.outcomes != +wanted:
        toll.wrong.append(f"{folder.name}: {again.outcomes} of {wanted}")
    spent = sum(task[1] for row in rows for task in row.tasks)
    if not last.said["spent"] == again.said["spent"] == spent:
        toll.wrong.append(f"{folder.name}: reports of {last.said['spent']} for {spent} credits")


def kill_loop(
    folder: Path,
    kills: int,
    *,
    seed: int,
    kinds: Sequence[Callable[[str, int], list[str]]] = (with_twins, with_failures),
    batch: int = 60,
) -> Toll:
    """Kill so many runs, over as many batches as that takes.

    Args:
        folder: Where the batches get their folders.
        kills: How many.
        seed: Decides the moments, and what the service does.
        kinds: What makes the prompts, one kind after the other.
        batch: Prompts of one batch.
    """
    dice = random.Random(seed)
    toll = Toll()

    def lives() -> Iterator[float]:
        while toll.kills < kills:
            yield dice.uniform(0.0, LONGEST_LIFE)

    with service(seed) as simulator:
        for number, kind in enumerate(itertools.cycle(kinds), 1):
            prompts = kind(f"boat {number}.", batch)
            killed_batch(simulator, folder / f"{number}", prompts, lives(), toll)
            if toll.kills >= kills:
                break
    return toll
