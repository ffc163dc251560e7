"""What a person found out about a submit whose answer was lost, written down."""

from veo_async.errors import InvalidRequestError, JournalError, SubmitUncertainError
from veo_async.jobs import Job
from veo_async.journal_file import JournalFile
from veo_async.protocol.jobs import JobState
from veo_async.protocol.reading import as_id
from veo_async.settings import LEASE_SECONDS
from veo_async.shared import SharedJournalFile

__all__: list[str] = []


def settle(file: JournalFile, key: str, *, task_id: str | None, now: float) -> Job:
    """Write down the task of a job, or that it has none.

    Args:
        file: The journal.
        key: What names the job.
        task_id: The task's id; None where there is no task.
        now: Epoch seconds.

    Raises:
        InvalidRequestError: There is no such job, it is not one to be settled, or the id is no id
            or another job's.
        JournalError: Somebody works on the job, or the journal failed.
    """
    if task_id is not None and as_id(task_id) is None:
        raise InvalidRequestError(
            f"task_id is {task_id!r:.80}; give the id that the service gave", field="task_id"
        )
    if not isinstance(file, SharedJournalFile):
        return _settled(file, key, task_id=task_id, now=now)
    claim = file.claim(key, seconds=LEASE_SECONDS)
    if claim.holder is not None:
        raise JournalError(
            f"job {key!r:.80} is worked on by {claim.holder}; wait until that is done, and look at"
            " it again"
        )
    try:
        return _settled(file, key, task_id=task_id, now=now)
    finally:
        file.release(key)


def _settled(file: JournalFile, key: str, *, task_id: str | None, now: float) -> Job:
    job = _unsettled(file, key, has_id=task_id is not None)
    if task_id is None:
        return file.not_created(job, now=now)
    _refuse_known(file, task_id)
    return file.accepted(job, task_id, now=now)


def _unsettled(file: JournalFile, key: str, *, has_id: bool) -> Job:
    job = file.find(key)
    if job is None:
        raise InvalidRequestError(
            f"there is no job {key!r:.80} here; see `veo-async jobs` for the keys", field="key"
        )
    if job.state is JobState.SUBMITTED and has_id:
        return job  # an id that was wrong is corrected
    if job.state is JobState.INTENT:
        job = file.lost(job, {"error_kind": SubmitUncertainError.__name__})
    if job.state is not JobState.UNKNOWN:
        raise InvalidRequestError(
            f"job {key} is {job.state}, and only an unknown one can be settled; see `veo-async"
            " jobs`",
            field="key",
        )
    return job


def _refuse_known(file: JournalFile, task_id: str) -> None:
    other = file.of_task(task_id)
    if other is not None:
        raise InvalidRequestError(
            f"task {task_id} is the one of job {other.key} already; look for another one",
            field="task_id",
        )
