"""The commands that look into a batch's journal: list, settle, and make a page of it."""

import json
import os
import shlex
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import attrs
import click

from veo_async import gallery
from veo_async.cli import output
from veo_async.cli.exits import Exit
from veo_async.cli.options import Common
from veo_async.cli.running import screen_of
from veo_async.cli.screen import Screen
from veo_async.cli.wording import shown
from veo_async.database import JOURNAL_NAME
from veo_async.errors import DownloadError, InvalidRequestError, JournalError
from veo_async.jobs import Job
from veo_async.journal_file import JournalFile, read_journal
from veo_async.lanes import run_of
from veo_async.protocol.jobs import JobState
from veo_async.protocol.reading import as_id

__all__: list[str] = []

_PROMPT_CELLS: Final = 60
_UNKNOWN: Final = frozenset({JobState.UNKNOWN, JobState.INTENT})
_FAILED: Final = frozenset({JobState.FAILED, JobState.EXPIRED, JobState.REJECTED})


@contextmanager
def _journal(folder: str, journal: str | None) -> Generator[JournalFile]:
    path = Path(folder) / JOURNAL_NAME if journal is None else Path(journal)
    file = read_journal(path, Path(folder))
    try:
        yield file
    finally:
        file.close()


def list_jobs(
    common: Common, folder: str, journal: str | None, *, is_unknown: bool, is_failed: bool
) -> int:
    """Print the jobs of a batch."""
    screen = screen_of(common)
    wanted = {*(_UNKNOWN if is_unknown else ()), *(_FAILED if is_failed else ())}
    uncertain: list[Job] = []
    count = 0
    with _journal(folder, journal) as file:
        for job in file.jobs():
            # While the batch runs, an intent is a submit on the wire, and no loss.
            state = _state(job, is_live=file.is_live)
            if wanted and state not in wanted:
                continue
            count += 1
            output.write(_json(job, state) if common.is_json else _line(job, state))
            if state is JobState.UNKNOWN:
                uncertain.append(job)
        if file.is_live:
            screen.say("The batch is running at this moment")
    if not count:
        screen.say("There are none")
    _say_how_to_settle(screen, folder, journal, uncertain)
    return Exit.DONE


def _state(job: Job, *, is_live: bool) -> JobState:
    return JobState.UNKNOWN if job.state is JobState.INTENT and not is_live else job.state


def _line(job: Job, state: JobState) -> str:
    what = job.file if state is JobState.STORED else job.error
    prompt = _prompt(job)
    if len(prompt) > _PROMPT_CELLS:
        prompt = prompt[: _PROMPT_CELLS - 1] + "…"
    columns = [
        f"{job.position:>5}",
        f"{state:<11}",
        job.key,
        job.task_id or "-",
        f"{job.charged} credits",
        shown(prompt),
        *([shown(what)] if what else []),
    ]
    return "  ".join(columns)


def _prompt(job: Job) -> str:
    if job.request_text is None:
        return job.source or ""
    prompt = json.loads(job.request_text).get("prompt", "")
    return prompt if isinstance(prompt, str) else ""


def _json(job: Job, state: JobState) -> str:
    told: dict[str, object] = attrs.asdict(job)
    told.pop("request_text")
    told["state"] = state
    told["request"] = None if job.request_text is None else json.loads(job.request_text)
    told["credits"] = job.charged
    told["task_id"] = job.task_id
    return output.dumped(told)


def _say_how_to_settle(
    screen: Screen, folder: str, journal: str | None, uncertain: list[Job]
) -> None:
    if not uncertain:
        return
    screen.say(
        "Look for these prompts at https://kie.ai/logs. Where there is a task, give its id; where"
        " there is none, say so:"
    )
    elsewhere = [] if journal is None else ["--journal", journal]
    for job in uncertain[:3]:
        # A key that looks like an option would be taken for one.
        words = ["veo-async", "resolve", *elsewhere]
        named = ["--", folder, job.key]
        screen.command(shlex.join([*words, "--task-id", "ID", *named]))
        screen.command(shlex.join([*words, "--not-created", *named]))


def settle(
    common: Common,
    folder: str,
    key: str,
    journal: str | None,
    *,
    task_id: str | None,
    not_created: bool,
) -> int:
    """Write down what became of a submit whose answer was lost."""
    if (task_id is None) is not not_created:
        raise click.UsageError("give either --task-id ID or --not-created")
    if task_id is not None and as_id(task_id) is None:
        raise InvalidRequestError(
            f"task_id is {task_id!r:.80}; give the id that the service gave", field="task_id"
        )
    with _journal(folder, journal) as file:
        if file.is_live:
            raise JournalError(f"the batch in {folder} is running; stop it first", path=folder)
        job = _unsettled(file, key, has_id=task_id is not None)
        _refuse_known(file, task_id)
        now = datetime.now(UTC).timestamp()
        if task_id is None:
            job = file.not_created(job, now=now)
        else:
            job = file.accepted(job, task_id, now=now)
    screen = screen_of(common)
    if common.is_json:
        output.write(_json(job, job.state))
    screen.say("Settled. The next run of the batch goes on from it")
    return Exit.DONE


def _refuse_known(file: JournalFile, task_id: str | None) -> None:
    other = None if task_id is None else file.of_task(task_id)
    if other is not None:
        raise InvalidRequestError(
            f"task {task_id} is the one of job {other.key} already; look for another one",
            field="task_id",
        )


def _unsettled(file: JournalFile, key: str, *, has_id: bool) -> Job:
    job = file.find(key)
    if job is None:
        raise InvalidRequestError(
            f"there is no job {key!r:.80} here; see `veo-async jobs` for the keys", field="key"
        )
    if job.state is JobState.SUBMITTED and has_id:
        return job  # an id that was wrong is corrected
    if job.state is JobState.INTENT:
        job = file.lost(job, {"error_kind": "SubmitUncertainError"})
    if job.state is not JobState.UNKNOWN:
        raise InvalidRequestError(
            f"job {key} is {job.state}, and only an unknown one can be settled; see `veo-async"
            " jobs`",
            field="key",
        )
    return job


def write_page(common: Common, folder: str, journal: str | None, page: str | None) -> int:
    """Write the page about a batch."""
    target = Path(folder) / "report.html" if page is None else Path(page)
    with _journal(folder, journal) as file:
        where = Path(os.path.relpath(folder, target.parent))
        run = run_of(
            file.jobs(),
            title=Path(folder).resolve().name,
            made_at=datetime.now(UTC).timestamp(),
            is_running=file.is_live,
            files="" if where == Path() else f"{where.as_posix()}/",
        )
    part = target.with_name(f"{target.name}.part")
    try:
        part.write_text(gallery.page(run), encoding="utf-8")
        part.replace(target)
    except OSError as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise DownloadError(
            f"{target} cannot be written ({error.strerror or error}); choose another with --page"
        ) from error
    told: Mapping[str, object] = {"page": target, "counts": run["counts"], "totals": run["totals"]}
    output.write(output.dumped(told) if common.is_json else str(target))
    return Exit.DONE
