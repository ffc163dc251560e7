"""What the command `batch` does: check all of the input, then make it, and tell of each item."""

import os
import shlex
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import attrs

from veo_async.batch import Batch
from veo_async.cli import output
from veo_async.cli.board import Board
from veo_async.cli.estimate import Estimate, image_check
from veo_async.cli.exits import Exit
from veo_async.cli.inputs import Row, Summary, opened, summary_of
from veo_async.cli.options import Common
from veo_async.cli.output import Result
from veo_async.cli.pricing import USD_PER_CREDIT
from veo_async.cli.report import Reporter
from veo_async.cli.running import Job, screen_of
from veo_async.cli.screen import Screen
from veo_async.cli.session import opened as client_opened
from veo_async.cli.tables import Format
from veo_async.cli.trail import Trail
from veo_async.cli.wording import lasted, megabytes, message_of, reworded
from veo_async.client import VeoClient
from veo_async.database import JOURNAL_NAME
from veo_async.errors import InvalidRequestError, VeoError
from veo_async.events import Event
from veo_async.outputs import naming
from veo_async.prices import Prices
from veo_async.request import RequestFields, local_images
from veo_async.results import BatchInput, BatchItem, BatchReport, Outcome
from veo_async.settings import URL_LIFETIME

__all__: list[str] = []

_SHOWN_ERRORS: Final = 20
_LISTS: Final = {
    "dearer": "dearer of the two price lists",
    "spec": "spec's price list",
    "live": "live price list",
}


@attrs.frozen(kw_only=True)
class Wish:
    """What the command was told, the fields of its requests apart.

    Attributes:
        source: The input: a path, or `-`.
        form: Its format, if its name is not to tell.
        folder: Where the files go.
        journal: The journal's file, if it is not in the folder.
        max_credits: What all runs together may spend.
        max_tasks: How many tasks may run at once.
        retries: How many new paid tasks a failed one may have.
        name: How files are named.
        prices: The price list.
        is_dry: Whether the input is only checked.
        resubmits_uncertain: Whether uncertain submits are paid again.
        words: The words of the command, to be repeated.
    """

    source: str
    form: Format | None
    folder: str
    journal: str | None
    max_credits: int | None
    max_tasks: int
    retries: int
    name: str | None
    prices: Prices
    is_dry: bool
    resubmits_uncertain: bool
    words: tuple[str, ...]

    def look(self, command: str, *options: str) -> str:
        """Return a command that looks at the folder."""
        where = [] if self.journal is None else ["--journal", self.journal]
        # A folder that looks like an option would be taken for one.
        named = ["--", self.folder] if self.folder.startswith("-") else [self.folder]
        return shlex.join(["veo-async", command, *options, *where, *named])


def run(common: Common, wish: Wish, fields: RequestFields) -> int:
    """Do what the command was told, and return the exit code."""
    screen = screen_of(common)
    naming(wish.name)  # refused before anything is read
    with opened(wish.source, wish.form) as source:
        estimate = Estimate(wish.prices)
        # What an earlier run has submitted needs its images no more; that run's journal tells.
        is_first = wish.is_dry or not _journal_of(wish).exists()
        check = image_check() if is_first else None
        summary = summary_of(source, fields, estimate.add, check)
        _tell_of_bad(screen, summary)
        for text in estimate.repeated[:_SHOWN_ERRORS]:
            screen.error(f"{text}; give every row a key of its own")
        if wish.is_dry:
            return _told_dry(common, screen, wish, summary, estimate)
        if not summary.good:
            screen.say("No row can be made. Nothing was sent, nothing was paid.", always=True)
            return Exit.USAGE
        making = _Making(common, wish, screen, summary, estimate)
        return making.run(lambda: source.rows(fields, check))


def _tell_of_bad(screen: Screen, summary: Summary) -> None:
    for error in summary.errors[:_SHOWN_ERRORS]:
        screen.error(reworded(str(error)))
    more = summary.bad - min(len(summary.errors), _SHOWN_ERRORS)
    if more:
        screen.say(f"and {more} more", always=True)


def _told_dry(
    common: Common, screen: Screen, wish: Wish, summary: Summary, estimate: Estimate
) -> int:
    usd = estimate.credits * USD_PER_CREDIT
    text = (
        f"{estimate.told(summary.good)} ({usd:.2f} USD) by the"
        f" {_LISTS.get(wish.prices.name) or f'price list {wish.prices.name}'}"
    )
    result = {
        "videos": summary.good,
        "tasks": estimate.tasks,
        "invalid": summary.bad,
        "credits_at_most": estimate.credits,
        "prices": wish.prices.name,
    }
    output.write(output.dumped(result) if common.is_json else text)
    if summary.bad:
        screen.say(f"{summary.bad} rows are invalid and would be left out", always=True)
    if _journal_of(wish).exists():
        screen.say(f"{wish.folder} holds an earlier run, which is not paid again. See it with:")
        screen.command(wish.look("jobs"))
    if wish.max_credits is not None and wish.max_credits < estimate.credits:
        screen.say(f"That is more than --max-credits {wish.max_credits}", always=True)
    screen.say("Dry run: nothing was sent, nothing was paid")
    return Exit.USAGE if summary.bad or estimate.repeated else Exit.DONE


def _journal_of(wish: Wish) -> Path:
    return Path(wish.folder) / JOURNAL_NAME if wish.journal is None else Path(wish.journal)


@attrs.define
class BatchTrail:
    """What is known of the batch, for messages about its end.

    Attributes:
        report: Its figures.
        has_begun: Whether its journal is open.
    """

    report: BatchReport = attrs.field(factory=BatchReport)
    has_begun: bool = False


@attrs.frozen(kw_only=True)
class BatchReporter(Reporter):
    """Tells how a batch ended before its end.

    Attributes:
        wish: What it was told.
        batch: What is known of it.
    """

    wish: Wish
    batch: BatchTrail

    def _standing(self, *, is_forced: bool) -> str:
        report = self.batch.report
        if not self.batch.has_begun:
            return "Stopped. Nothing was sent, nothing was paid."
        if self.common.is_simulated:
            return (
                f"Stopped. {report}. The simulated service is gone with this command; nothing was"
                " paid."
            )
        late = (
            " What was on the wire is in the journal, and is told of as uncertain."
            if is_forced
            else ""
        )
        return f"Stopped. {report}.{late} Nothing that was paid is lost. Go on with:"

    def _how_to_go_on(self, error: BaseException) -> str | None:
        del error  # the batch goes on after each
        if not self.batch.has_begun or self.common.is_simulated:
            return None
        self.screen.say(f"So far: {self.batch.report}. Go on with:", always=True)
        return self._say_resume()

    def _say_resume(self) -> str | None:
        if not self.batch.has_begun or self.common.is_simulated:
            return None
        command = self.screen.redacted(shlex.join(["veo-async", *self.wish.words]))
        self.screen.command(command)
        return command


@attrs.define(kw_only=True)
class BatchJob(Job):
    """The command on its way.

    Attributes:
        board: What is shown of it.
    """

    board: Board

    def on_event(self, event: Event) -> None:
        """Take an event of the client."""
        before = self.board.note
        self.board.take(event, self.screen.now())
        if self.board.note != before and self.board.note:
            self.screen.note(self.board.note, self.board.note.partition(";")[0])

    def say_stopping(self) -> None:
        """Say that what is on its way is waited for."""
        self.screen.say(
            "Stopping: answers to submits and downloads under way get some seconds; Ctrl-C again"
            " ends at once",
            always=True,
        )


class _Making:
    """One batch, from its options to its exit code."""

    def __init__(
        self, common: Common, wish: Wish, screen: Screen, summary: Summary, estimate: Estimate
    ) -> None:
        self._common = common
        self._wish = wish
        self._summary = summary
        self._estimate = estimate
        self._trail = BatchTrail()
        self._rows: dict[int, Row] = {}  # those with files, until they are told of
        self._board = Board(
            title="Making",
            began=time.monotonic(),
            about=estimate.told(summary.good),
            items=summary.good + summary.bad,
            tasks_each=estimate.tasks / max(summary.good, 1),
            slots=wish.max_tasks,
            speed=common.speed,
            model=estimate.usual_model,
        )
        reporter = BatchReporter(
            common=common, screen=screen, trail=Trail(), wish=wish, batch=self._trail
        )
        self._job = BatchJob(common=common, screen=screen, reporter=reporter, board=self._board)

    def run(self, rows: Callable[[], Iterator[Row]]) -> int:
        """Make it and return the exit code."""

        async def make() -> Result:
            screen, common = self._job.screen, self._common
            if common.is_simulated:
                screen.say(
                    f"Simulated: nothing is sent or paid, time runs {common.speed:g} times faster"
                )
            screen.begin(self._board)
            async with client_opened(
                common,
                self._job.on_event,
                max_tasks=self._wish.max_tasks,
                play_money=self._estimate.credits,
                needs_live=self._estimate.needs_live,
            ) as veo:
                report = await self._made(veo, rows())
            self._job.result = self._ended(report)
            return self._job.result

        return self._job.run(make)

    async def _made(self, veo: VeoClient, rows: Iterator[Row]) -> BatchReport:
        wish = self._wish
        batch = veo.batch(
            self._inputs(rows),
            directory=wish.folder,
            journal=wish.journal,
            max_credits=wish.max_credits,
            name=wish.name,
            prices=wish.prices,
            retries=wish.retries,
            resubmit_uncertain=wish.resubmits_uncertain,
            download_window=URL_LIFETIME / self._common.speed,
        )
        async with batch:
            self._trail.has_begun = True
            try:
                async for item in batch:
                    self._tell(batch, item)
            finally:
                # Left early, it still brings home what is under way.
                await batch.aclose()
                self._trail.report = batch.report
        return batch.report

    def _tell(self, batch: Batch, item: BatchItem) -> None:
        report = batch.report
        self._trail.report = report
        self._board.delivered(item, report)
        self._job.screen.make_room()
        if self._common.is_json:
            output.write(output.dumped({"item": _as_json(item)}))
        elif item.outcome is Outcome.DOWNLOADED:
            output.write(os.fspath(item.path or ""))
        row = self._rows.pop(item.index, None)
        is_known = isinstance(item.source, InvalidRequestError)  # told of before
        if item.error is not None and not is_known:
            self._job.screen.say(
                f"{_named(item, row)} {item.outcome}: {_said(item.error)}",
                style="error",
                always=True,
            )

    def _inputs(self, rows: Iterator[Row]) -> Iterator[BatchInput]:
        for index, row in enumerate(rows, 1):
            if row.error is not None:
                yield row.error
            elif row.request is not None:
                if local_images(row.request.image_urls):
                    self._rows[index] = row
                yield {**row.fields} if row.key is not None else row.request

    def _ended(self, report: BatchReport) -> Result:
        screen, wish = self._job.screen, self._wish
        screen.close()
        seconds = time.monotonic() - self._board.began
        screen.say(f"{report} ({megabytes(report.bytes)} in {lasted(seconds)})")
        if report.uncertain:
            screen.say("Settle what is uncertain, as this tells:", always=True)
            screen.command(wish.look("jobs", "--unknown"))
        if report.unpaid or report.running:
            screen.say(
                "Run the same command again for the rest, with more credits where those ended;"
                " what is done is not paid again",
                always=True,
            )
        screen.say("Look at it with:")
        screen.command(wish.look("report"))
        told = {**attrs.asdict(report), "directory": wish.folder}
        return Result(None if not self._common.is_json else "", {"report": told}, code_of(report))


def code_of(report: BatchReport) -> Exit:
    """Return the exit code of a batch that ran to its end."""
    if report.uncertain:
        return Exit.UNCERTAIN
    if report.unpaid:
        return Exit.CREDITS
    return Exit.FAILED if report.failed or report.rejected else Exit.DONE


def _named(item: BatchItem, row: Row | None) -> str:
    if row is None or not isinstance(item.error, InvalidRequestError):
        return f"Row {item.index}"
    return row.where(item.error.field)


def _said(error: VeoError) -> str:
    # What is wrong with a row names the row's columns, which are no options.
    is_of_row = isinstance(error, InvalidRequestError)
    return reworded(str(error)) if is_of_row else message_of(error)


def _as_json(item: BatchItem) -> dict[str, object]:
    error = item.error
    return {
        "index": item.index,
        "key": item.key,
        "outcome": item.outcome,
        "prompt": None if item.request is None else item.request.prompt,
        "task_id": item.task_id,
        "path": item.path,
        "size": None if item.download is None else item.download.size,
        "sha256": None if item.download is None else item.download.sha256,
        "credits": item.credits,
        "attempts": item.attempts,
        "error": None if error is None else _said(error),
        "error_type": None if error is None else type(error).__name__,
        "field": error.field if isinstance(error, InvalidRequestError) else None,
    }
