"""A journal that several workers share: who works on what, and nobody undoes another's step.

A claim says who works on a job. It lapses with its owner, and only keeps others from waiting at the
same place. What is written is safe without it: a step is taken only from where its writer believes
the job to be, so one who was frozen and wakes up changes nothing that others have moved on.
"""

import os
import secrets
import socket
from pathlib import Path
from typing import Final

import attrs

from veo_async.jobs import Job
from veo_async.journal_file import JournalFile
from veo_async.lockfile import is_running
from veo_async.protocol.jobs import HOLDS_SLOT, JobState, JobStep, advance
from veo_async.store import MovedError, Store

__all__: list[str] = []

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_NAMESPACE: Final = Path("/proc/self/ns/pid")
_HOLDS_SLOT: Final = ", ".join(f"'{state}'" for state in sorted(HOLDS_SLOT))
_FORGETTING: Final = frozenset({JobStep.TURNED_AWAY, JobStep.REJECTED})  # the attempt, perhaps
_CLAIM: Final = "owner, place, pid, born, lapses"


def _born(pid: int) -> str:
    """Return when a process began, in the system's words, to tell it from a later one of its id."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
    return text.rpartition(")")[2].split()[19]  # proc(5): the 22nd; the second may hold anything


def _boot_of(place: str) -> str:
    return place.partition("/")[0]


def _here() -> str:
    """Return where a process id means the same process: one boot, one container, one host."""
    try:
        boot = _BOOT_ID.read_text(encoding="ascii").strip()
        container = str(_NAMESPACE.stat().st_ino)
    except OSError:
        boot = container = ""
    return f"{boot}/{container}/{socket.gethostname()}"


@attrs.frozen(kw_only=True)
class Owner:
    """Who claims jobs: one client in one process.

    Attributes:
        name: Random.
        place: Where its process id means its process.
        pid: The process.
        born: When that began.
    """

    name: str
    place: str
    pid: int
    born: str

    @classmethod
    def new(cls) -> "Owner":
        """Return an owner in this process."""
        pid = os.getpid()
        return cls(name=secrets.token_hex(8), place=_here(), pid=pid, born=_born(pid))

    def __str__(self) -> str:
        return f"process {self.pid} on host {self.place.rpartition('/')[2]}"


@attrs.frozen(kw_only=True)
class Claim:
    """What came of a claim.

    Attributes:
        holder: Who has the job; None where the one who asked has it now.
        job: What is known of it; None if it is new.
        position: The place of a new one.
    """

    holder: Owner | None = None
    job: Job | None = None
    position: int = 1


class SharedJournalFile(JournalFile):
    """The part of a journal that one worker has, for one thread at a time.

    Args:
        database: The open database.
        folder: Where this worker's videos go.
        owner: Who it is.
    """

    def __init__(self, database: Store, folder: Path, owner: Owner) -> None:
        super().__init__(database, folder)
        self._owner = owner

    def claim(self, key: str, *, seconds: float) -> Claim:
        """Claim a job for so many seconds, unless somebody who lives has it."""
        with self._transaction():
            now = self._database.clock()
            row = self._db.execute(
                f"SELECT {_CLAIM} FROM claims WHERE key = ?",  # noqa: S608
                (key,),
            ).fetchone()
            if row is not None:
                *said, lapses = row
                holder = Owner(**dict(zip(("name", "place", "pid", "born"), said, strict=True)))
                if holder.name != self._owner.name and self._lives(holder, lapses - now, seconds):
                    return Claim(holder=holder)
            self._db.execute("DELETE FROM claims WHERE key = ?", (key,))
            self._db.execute(
                f"INSERT INTO claims (key, {_CLAIM}) VALUES (?, ?, ?, ?, ?, ?)",  # noqa: S608
                (key, *attrs.astuple(self._owner), now + seconds),
            )
            (last,) = self._db.execute("SELECT COALESCE(MAX(id), 0) FROM jobs").fetchone()
            return Claim(job=self.find(key), position=last + 1)

    def renew(self, *, seconds: float) -> None:
        """Claim for so many seconds more what is claimed."""
        with self._transaction():
            self._db.execute(
                "UPDATE claims SET lapses = ? WHERE owner = ?",
                (self._database.clock() + seconds, self._owner.name),
            )

    def release(self, key: str) -> None:
        """Give a claim up."""
        with self._transaction():
            self._db.execute(
                "DELETE FROM claims WHERE key = ? AND owner = ?", (key, self._owner.name)
            )

    def release_all(self) -> None:
        """Give all claims up."""
        with self._transaction():
            self._db.execute("DELETE FROM claims WHERE owner = ?", (self._owner.name,))

    def orphans(self, *, seconds: float) -> list[Job]:
        """Return the jobs that hold slots, or may, and that nobody who lives works on."""
        with self._database.mapping():
            now = self._database.clock()
            rows = self._db.execute(f"SELECT key, {_CLAIM} FROM claims").fetchall()  # noqa: S608
        living = {
            key
            for key, name, place, pid, born, lapses in rows
            if self._lives(Owner(name=name, place=place, pid=pid, born=born), lapses - now, seconds)
        }
        jobs = self.jobs(f"state IN ({_HOLDS_SLOT})")
        return [job for job in jobs if job.key not in living]

    def _lives(self, holder: Owner, left: float, seconds: float) -> bool:
        if self._database.is_local:
            # Its clock begins anew with each start of the machine.
            is_old = _boot_of(holder.place) != _boot_of(self._owner.place) or left > 2 * seconds
            if is_old:
                return False
        if holder.place == self._owner.place and not (
            is_running(holder.pid) and _born(holder.pid) == holder.born
        ):
            return False
        return left > 0

    def _check_unmoved(self, job: Job, step: JobStep, token: str | None) -> None:
        stored = self._again(job)
        was = None if job.attempt is None else job.attempt.token
        now = None if stored.attempt is None else stored.attempt.token
        if step is JobStep.INTENDED:
            # Whoever claims it next takes an intent for one whose sender is dead.
            is_ours = self._db.execute(
                "SELECT 1 FROM claims WHERE key = ? AND owner = ?", (job.key, self._owner.name)
            ).fetchone()
            may_go_on = is_ours is not None and stored.state is job.state and now == was
            is_done = stored.state is JobState.INTENT and now == token
        elif step is JobStep.ACCEPTED:
            # Even where others gave the answer up: this is the one they gave up.
            no_id = stored.attempt is not None and stored.attempt.task_id is None
            may_go_on = now == was and (no_id or stored.state is job.state)
            is_done = now == was and stored.state is JobState.SUBMITTED
        else:
            may_go_on = stored.state is job.state and now == was
            # Also where it was done before a connection was lost, and is done once more.
            is_done = stored.state is advance(job.state, step) and (
                now == was or step in _FORGETTING
            )
        if not (may_go_on or is_done):
            raise MovedError(
                f"job {job.key} is {stored.state} by now, which somebody else has written down; ask"
                " for it again",
            )
