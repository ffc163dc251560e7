"""The journal's file: what was paid, and where it is, one function and one transaction a change."""

import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import attrs

from veo_async.database import open_for_reading
from veo_async.jobs import NOT_CREATED, REPLACED, SUCCESS, Attempt, Draft, Job, is_same, kept_of
from veo_async.outputs import side_path
from veo_async.protocol.jobs import OPEN, JobState, JobStep, advance
from veo_async.store import Connection, Store

__all__: list[str] = []

_JOB: Final = ", ".join(field.name for field in attrs.fields(Job) if field.name != "attempts")
_ATTEMPT: Final = ", ".join(f'"{field.name}"' for field in attrs.fields(Attempt))
_OPEN: Final = ", ".join(f"'{state}'" for state in sorted(OPEN))
_NO_ERROR: Final[Mapping[str, object]] = {"error_kind": None, "error_code": None, "error": None}
_PAGE: Final = 200  # rows that are read at once


@attrs.frozen(kw_only=True)
class Found:
    """What the journal says of an input.

    Attributes:
        draft: The input.
        key: What names it.
        job: What is known of it; None if it is new.
        is_repeated: Whether its key was pulled before in this run.
        is_changed: Whether the key stands for another request.
        is_missing: Whether its file was stored and is gone.
        damage: What is wrong with its file, if something is, and what to do.
    """

    draft: Draft
    key: str
    job: Job | None = None
    is_repeated: bool = False
    is_changed: bool = False
    is_missing: bool = False
    damage: str | None = None


@attrs.frozen(kw_only=True)
class Charges:
    """What the tasks of a journal cost, in credits.

    Attributes:
        total: All of it, as far as that is known.
        failed: The part that failed tasks cost.
    """

    total: int
    failed: int


class JournalFile:
    """The file, for one thread at a time.

    Args:
        database: The open file, or another database that keeps what it would.
        folder: Where the videos go.
    """

    def __init__(self, database: Store, folder: Path) -> None:
        self._database = database
        self._db: Connection = database.connection
        self._folder = folder

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    @property
    def is_live(self) -> bool:
        """Whether another process is running the batch at this moment."""
        return self._database.is_live

    # --- reading

    def jobs(self, where: str = "TRUE") -> Iterator[Job]:
        """Yield the jobs, in the order in which they were begun.

        The file is not held meanwhile: a reader that dawdles must not keep its runner from writing.

        Args:
            where: Which ones, as an SQL condition of this package's own.
        """
        last = 0
        while True:
            with self._database.mapping():
                rows = self._db.execute(
                    f"SELECT {_JOB}, id FROM jobs WHERE id > ? AND {where} ORDER BY id LIMIT ?",  # noqa: S608
                    (last, _PAGE),
                ).fetchall()
                page = [self._job(row) for row in rows]
            yield from page
            if len(rows) < _PAGE:
                return
            last = rows[-1][-1]

    def open_jobs(self) -> list[Job]:
        """Return the jobs whose work is paid, or may be, and not yet at home."""
        return [*self.jobs(f"state IN ({_OPEN})")]

    def find(self, key: str) -> Job | None:
        """Return the job of a key."""
        with self._database.mapping():
            row = self._db.execute(f"SELECT {_JOB}, id FROM jobs WHERE key = ?", (key,)).fetchone()  # noqa: S608
            return None if row is None else self._job(row)

    def of_task(self, task_id: str) -> Job | None:
        """Return the job that has, or had, a task."""
        with self._database.mapping():
            found = self._db.execute(
                "SELECT key FROM jobs WHERE id IN (SELECT job FROM attempts WHERE task_id = ?)"
                " ORDER BY id",
                (task_id,),
            ).fetchone()
        return None if found is None else self.find(found[0])

    def charges(self) -> Charges:
        """Add up what the tasks cost."""
        with self._database.mapping():
            total, failed = self._db.execute(
                "SELECT COALESCE(SUM(charged), 0),"
                " COALESCE(SUM(CASE WHEN \"end\" = 'failed' THEN charged END), 0) FROM attempts"
            ).fetchone()
            return Charges(total=total, failed=failed)

    def look_up(self, drafts: Sequence[Draft]) -> list[Found]:
        """Return what is known of some inputs, and count them as pulled in this run.

        The same request once more is another video: its key gets a number.
        """
        found: list[Found] = []
        with self._transaction("BEGIN"):
            for draft in drafts:
                count = self._pulled(draft.identity)
                if draft.key is not None:
                    key, is_repeated = draft.key, count > 1
                else:
                    key, is_repeated = _numbered(draft.identity, count), False
                found.append(Found(draft=draft, key=key, is_repeated=is_repeated))
            # Inside: what cannot be read is asked for again, and must not count twice.
            return [one if one.is_repeated else self._known(one) for one in found]

    def _pulled(self, identity: str) -> int:
        self._db.execute(
            "INSERT INTO pulled VALUES (?, 1)"
            " ON CONFLICT (identity) DO UPDATE SET count = pulled.count + 1",
            (identity,),
        )
        row = self._db.execute("SELECT count FROM pulled WHERE identity = ?", (identity,))
        count: int = row.fetchone()[0]
        return count

    def _known(self, found: Found) -> Found:
        job = self.find(found.key)
        if job is None:
            return found
        draft = found.draft
        is_changed = draft.key is not None and not _asks_for(job, draft)
        damage, is_missing = None, False
        if job.state is JobState.STORED:
            is_missing, damage = self.file_of(job)
        return attrs.evolve(
            found, job=job, is_changed=is_changed, is_missing=is_missing, damage=damage
        )

    def file_of(self, job: Job) -> tuple[bool, str | None]:
        """Return whether a stored file is gone, and what is wrong with it if something is."""
        try:
            size = (self._folder / (job.file or "")).stat().st_size
        except FileNotFoundError:
            return True, None
        except OSError as error:
            return False, f"cannot be looked at ({error.strerror or error}); make it readable"
        if size == job.size:
            return False, None
        return False, f"was changed: it has {size} bytes and not {job.size}; move it away"

    # --- writing: what happens to a job

    def forget_invalid(self) -> None:
        """Forget the invalid inputs of earlier runs: each run tells of its own."""
        with self._transaction():
            self._db.execute("DELETE FROM jobs WHERE request_text IS NULL")

    def intend(self, job: Job, *, token: str, credits_: int, name: str, now: float) -> Job:
        """Write down that a paid request leaves now, and which file its video gets."""
        with self._writing(job, JobStep.INTENDED, now, token) as row:
            if self._is_intended(row, token):
                return self._again(job)
            file = self._free_name(job.file or name, row)
            self._set(row, state=JobState.INTENT, file=file, **_NO_ERROR)
            number = 1 + max((attempt.number for attempt in self._attempts(row)), default=0)
            self._db.execute(
                "INSERT INTO attempts (job, number, token, credits, charged, intent_at)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (row, number, token, credits_, credits_, now),
            )
        return self._again(job)

    def turned_away(self, job: Job, *, now: float) -> Job:
        """Write down that the service took nothing."""
        with self._writing(job, JobStep.TURNED_AWAY, now) as row:
            self._set(row, state=JobState.NEW)
            self._forget_attempt(row, job)
        return self._again(job)

    def accepted(self, job: Job, task_id: str, *, now: float) -> Job:
        """Write down the id of a task."""
        with self._writing(job, JobStep.ACCEPTED) as row:
            self._set(row, state=JobState.SUBMITTED, **_NO_ERROR)
            self._set_attempt(row, task_id=task_id, submitted_at=now)
        return self._again(job)

    def lost(self, job: Job, error: Mapping[str, object]) -> Job:
        """Write down that an answer was lost."""
        with self._writing(job, JobStep.LOST) as row:
            self._set(row, state=JobState.UNKNOWN, **error)
        return self._again(job)

    def rejected(self, job: Job, error: Mapping[str, object], *, now: float) -> Job:
        """Write down that the rules forbid it."""
        with self._writing(job, JobStep.REJECTED, now) as row:
            self._set(row, state=JobState.REJECTED, **error)
            if job.state is JobState.INTENT:
                self._forget_attempt(row, job)
        return self._again(job)

    def unpaid(self, job: Job, *, now: float) -> Job:
        """Write down that it was wanted, and that the money ended first."""
        with self._transaction():
            self._row(job, now)
        return self._again(job)

    def extended(self, job: Job, *, cost: int | None, now: float) -> Job:
        """Write down that a step of a film is done, so that the next one may be paid."""
        with self._writing(job, JobStep.EXTENDED) as row:
            self._set(row, state=JobState.NEW)
            charged = {} if cost is None else {"charged": cost}
            self._set_attempt(row, end=SUCCESS, ended_at=now, **charged)
        return self._again(job)

    def ready(self, job: Job, *, url: str, seed: int | None, cost: int | None, now: float) -> Job:
        """Write down that the video is finished, where it is, and what it cost if that is known."""
        with self._writing(job, JobStep.READY) as row:
            self._set(row, state=JobState.READY, url=url, url_at=now, seed=seed)
            if job.state is JobState.SUBMITTED:
                self._set_attempt(row, end=SUCCESS, ended_at=now)
            if cost is not None:
                self._set_attempt(row, charged=cost)
        return self._again(job)

    def downloading(self, job: Job) -> Job:
        """Write down that the video is being fetched."""
        with self._writing(job, JobStep.DOWNLOADING) as row:
            self._set(row, state=JobState.DOWNLOADING)
        return self._again(job)

    def stored(self, job: Job, *, size: int, sha256: str, now: float) -> Job:
        """Write down that the whole file stands under its name."""
        with self._writing(job, JobStep.STORED) as row:
            self._set(row, state=JobState.STORED, size=size, sha256=sha256, stored_at=now)
        return self._again(job)

    def failed(self, job: Job, error: Mapping[str, object], *, charged: int, now: float) -> Job:
        """Write down that the service says that the generation failed, and what it cost."""
        with self._writing(job, JobStep.FAILED) as row:
            self._set(row, state=JobState.FAILED, **error)
            self._set_attempt(
                row,
                end="failed",
                ended_at=now,
                charged=charged,
                error=error.get("error"),
                error_code=error.get("error_code"),
            )
        return self._again(job)

    def expired(self, job: Job, error: Mapping[str, object]) -> Job:
        """Write down that the service has deleted the video."""
        with self._writing(job, JobStep.EXPIRED) as row:
            self._set(row, state=JobState.EXPIRED, **error)
        return self._again(job)

    def missing(self, job: Job) -> Job:
        """Write down that a stored file is gone."""
        with self._writing(job, JobStep.MISSING) as row:
            self._set(row, state=JobState.SUBMITTED)
        return self._again(job)

    def again(self, job: Job, wanted: str | None = None) -> Job:
        """Write down that a new paid task of it is allowed.

        Args:
            job: The job.
            wanted: The request, where it is another one by now. What is done of a film stays done
                as far as both begin alike.
        """
        with self._writing(job, JobStep.AGAIN) as row:
            self._set(row, state=JobState.NEW)
            if wanted is not None:
                self._set(row, request_text=wanted, file=None)  # which is named by the request
                for attempt in job.steps[kept_of(job, wanted) :]:
                    self._db.execute(
                        'UPDATE attempts SET "end" = ? WHERE job = ? AND number = ?',
                        (REPLACED, row, attempt.number),
                    )
        return self._again(job)

    def not_created(self, job: Job, *, now: float) -> Job:
        """Write down that a person looked, and that there is no task."""
        with self._writing(job, JobStep.NOT_CREATED) as row:
            self._set(row, state=JobState.NEW, **_NO_ERROR)
            self._set_attempt(row, end=NOT_CREATED, ended_at=now, charged=0)
        return self._again(job)

    # --- inside

    @contextmanager
    def _writing(
        self, job: Job, step: JobStep, now: float = 0.0, token: str | None = None
    ) -> Generator[int]:
        """Open the transaction of one step; the row's number is what it is about."""
        advance(job.state, step)
        with self._transaction():
            row = self._row(job, now)
            self._check_unmoved(job, step, token)
            yield row

    def _check_unmoved(self, job: Job, step: JobStep, token: str | None) -> None:
        """Make sure that nobody else has moved a job on. Here nobody else is."""

    def _is_intended(self, row: int, token: str) -> bool:
        """Return whether a submit is written down already, by a step that is taken once more."""
        found = self._db.execute("SELECT job FROM attempts WHERE token = ?", (token,)).fetchone()
        return found is not None and found[0] == row

    def _row(self, job: Job, now: float) -> int:
        """Return the row of a job, which gets one at its first step."""
        found = self._db.execute("SELECT id FROM jobs WHERE key = ?", (job.key,)).fetchone()
        if found is None:
            self._db.execute(
                "INSERT INTO jobs (key, position, request_text, source, state, created_at)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (job.key, job.position, job.request_text, _text(job.source), job.state, now),
            )
            found = self._db.execute("SELECT id FROM jobs WHERE key = ?", (job.key,)).fetchone()
        row: int = found[0]
        return row

    def _set(self, row: int, **values: object) -> None:
        names = ", ".join(f"{name} = ?" for name in values)
        told = [_text(value) for value in values.values()]
        self._db.execute(f"UPDATE jobs SET {names} WHERE id = ?", (*told, row))  # noqa: S608

    def _set_attempt(self, row: int, **values: object) -> None:
        names = ", ".join(f'"{name}" = ?' for name in values)
        told = [_text(value) for value in values.values()]
        self._db.execute(
            f"UPDATE attempts SET {names} WHERE job = ? AND number ="  # noqa: S608
            " (SELECT MAX(number) FROM attempts WHERE job = ?)",
            (*told, row, row),
        )

    def _forget_attempt(self, row: int, job: Job) -> None:
        # The one that the caller means: whoever was cut off while it was told says it twice, and
        # another one may have its number by then.
        token = None if job.attempt is None else job.attempt.token
        self._db.execute("DELETE FROM attempts WHERE job = ? AND token = ?", (row, token))

    def _free_name(self, name: str, row: int) -> str:
        """Return a name that no other job has and that nothing stands under."""
        stem, suffix = os.path.splitext(name)  # noqa: PTH122  # keeps a folder in front
        number = 1
        while True:
            other = self._db.execute(
                f"SELECT id FROM jobs WHERE {self._database.same_file}",  # noqa: S608
                (name,),
            ).fetchone()
            is_ours = other is not None and other[0] == row
            if is_ours or (other is None and self._is_free(name)):
                return name
            number += 1
            name = f"{stem}-{number}{suffix}"

    def _is_free(self, name: str) -> bool:
        video = self._folder / name
        return not any(os.path.lexists(path) for path in (video, side_path(video)))

    def _again(self, job: Job) -> Job:
        found = self.find(job.key)
        return job if found is None else found

    def _job(self, row: Sequence[Any]) -> Job:
        *values, number = row
        fields = dict(zip(_JOB.split(", "), values, strict=True))
        try:
            fields["state"] = JobState(fields["state"])
        except ValueError as error:
            raise self._database.unusable(f"is damaged ({error})") from error
        return Job(attempts=tuple(self._attempts(number)), **fields)

    def _attempts(self, row: int) -> list[Attempt]:
        names = [field.name for field in attrs.fields(Attempt)]
        cursor = self._db.execute(
            f"SELECT {_ATTEMPT} FROM attempts WHERE job = ? ORDER BY number",  # noqa: S608
            (row,),
        )
        return [Attempt(**dict(zip(names, values, strict=True))) for values in cursor]

    @contextmanager
    def _transaction(self, begin: str = "BEGIN IMMEDIATE") -> Generator[None]:
        with self._database.mapping():
            self._db.execute(begin)
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                # A failed COMMIT may have rolled back by itself.
                with suppress(self._database.errors):
                    self._db.execute("ROLLBACK")
                raise


def _asks_for(job: Job, draft: Draft) -> bool:
    if draft.request is None or job.request_text is None:
        return draft.request is None and job.request_text is None
    return is_same(draft.request, job.request_text)


def _text(value: object) -> object:
    """Return what a database takes: half a character, such as a file's name may hold, is none."""
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    return value


def _numbered(identity: str, count: int) -> str:
    return identity if count == 1 else f"{identity}-{count}"


def read_journal(path: Path, folder: Path) -> JournalFile:
    """Open a journal to look at it, whether its batch runs or not.

    Raises:
        JournalError: There is none, or it cannot be read.
    """
    return JournalFile(open_for_reading(path), folder)
