"""The commands that look into a batch's journal: list, settle, and make a page of it."""

import json
import os
import shlex
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import attrs
import click

from veo_async import gallery, settling
from veo_async.cli import output
from veo_async.cli.exits import Exit
from veo_async.cli.options import Common
from veo_async.cli.running import screen_of
from veo_async.cli.screen import Screen
from veo_async.cli.wording import shown
from veo_async.database import JOURNAL_NAME
from veo_async.errors import DownloadError
from veo_async.jobs import Job
from veo_async.journal import FilePlace, JournalPlace
from veo_async.journal_file import JournalFile, read_journal
from veo_async.lanes import run_of
from veo_async.protocol.jobs import JobState
from veo_async.shared import Owner, SharedJournalFile

__all__: list[str] = []

_PROMPT_CELLS: Final = 60
_SERVERS: Final = ("postgresql://", "postgres://")
_UNKNOWN: Final = frozenset({JobState.UNKNOWN, JobState.INTENT})
_FAILED: Final = frozenset({JobState.FAILED, JobState.EXPIRED, JobState.REJECTED})


def _place(folder: str, journal: str | None) -> JournalPlace:
    if journal is not None and journal.startswith(_SERVERS):
        from veo_async.integrations.postgres import PostgresJournal  # noqa: PLC0415  # an extra

        return PostgresJournal(journal)
    return FilePlace(Path(folder) / JOURNAL_NAME if journal is None else Path(journal))


@contextmanager
def _journal(folder: str, journal: str | None) -> Generator[JournalFile]:
    place = _place(folder, journal)
    if isinstance(place, FilePlace):
        file = read_journal(place.path, Path(folder))
    else:
        file = JournalFile(place.open_store(None), Path(folder))
    try:
        yield file
    finally:
        file.close()


@contextmanager
def _open_for_settling(folder: str, journal: str | None) -> Generator[JournalFile]:
    """Open a journal, also one that workers share at this moment; not one of a batch that runs."""
    with _journal(folder, journal) as file:
        if not file.is_live:
            yield file
            return
    store = _place(folder, journal).open_store(None)
    shared = SharedJournalFile(store, Path(folder), Owner.new())
    try:
        yield shared
    finally:
        shared.close()


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
    told = json.loads(job.request_text)
    prompts = [told.get("prompt", ""), *(told.get("extend_to") or ())]
    # What was lost of a film is the step that it had come to.
    step = len(job.steps) if job.state in {JobState.UNKNOWN, JobState.INTENT} else 0
    prompt = prompts[step] if step < len(prompts) else prompts[0]
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
    elsewhere = [] if journal is None else ["--journal", _without_password(journal)]
    for job in uncertain[:3]:
        # A key that looks like an option would be taken for one.
        words = ["veo-async", "resolve", *elsewhere]
        named = ["--", folder, job.key]
        screen.command(shlex.join([*words, "--task-id", "ID", *named]))
        screen.command(shlex.join([*words, "--not-created", *named]))


def _without_password(journal: str) -> str:
    parts = urlsplit(journal)
    if not journal.startswith(_SERVERS) or parts.password is None:
        return journal
    return urlunsplit(parts._replace(netloc=parts.netloc.replace(f":{parts.password}@", "@", 1)))


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
    with _open_for_settling(folder, journal) as file:
        job = settling.settle(file, key, task_id=task_id, now=datetime.now(UTC).timestamp())
    screen = screen_of(common)
    if common.is_json:
        output.write(_json(job, job.state))
    screen.say("Settled. The next run of the batch goes on from it")
    return Exit.DONE


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
