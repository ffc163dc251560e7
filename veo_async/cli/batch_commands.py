"""The commands about many videos, as click declares them."""

import sys
from typing import Final, Unpack

import click

from veo_async.cli.commands import program
from veo_async.cli.options import Common, client_options, talk_options
from veo_async.cli.pricing import price_list
from veo_async.cli.tables import Format
from veo_async.cli.task_options import REQUEST, film_of, with_options
from veo_async.prices import PRICES
from veo_async.request import RequestFields
from veo_async.settings import MAX_TASKS

__all__ = ["program"]

_FOLDER: Final = click.argument("folder", metavar="DIR", type=click.Path())
_JOURNAL: Final = click.option(
    "--journal",
    metavar="FILE",
    help="The journal's file, on a local disk. [default: veo-journal.db in DIR]",
)
_DIRECTORY: Final = (
    click.option(
        "-o",
        "--output",
        "--directory",
        "folder",
        metavar="DIR",
        default="videos",
        help="Folder for the files. It is made when it is missing. [default: videos]",
    ),
    _JOURNAL,
)
_MONEY: Final = (
    click.option(
        "--max-credits",
        metavar="N",
        type=click.IntRange(0),
        help="What all runs in DIR together may spend.",
    ),
    click.option(
        "--retries",
        metavar="N",
        type=click.IntRange(0),
        default=0,
        help="How many new paid tasks a video may have after failures that may pass. [default: 0]",
    ),
    click.option(
        "--prices",
        metavar=f"[{'|'.join(PRICES)}|FILE]",
        default="dearer",
        help="Price list for estimate, budget and report: the spec's, the live service's, the"
        " dearer of the two, or a JSON file of your own, as `models --json` shows them. [default:"
        " dearer]",
    ),
    click.option(
        "--resubmit-uncertain",
        "resubmits_uncertain",
        is_flag=True,
        help="Pay once more for submits of earlier runs whose answers were lost. They may have been"
        " charged: each can cost its price twice.",
    ),
)


@program.command(short_help="Make a video of each row of a file.")
@click.argument("source", metavar="INPUT")
@click.option(
    "--format",
    "form",
    type=click.Choice([str(one) for one in Format]),
    help="Format of INPUT. [default: by its ending; txt for stdin]",
)
@with_options(_DIRECTORY)
@click.option("--dry-run", "is_dry", is_flag=True, help="Check all of INPUT, and tell the price.")
@with_options(_MONEY)
@click.option(
    "--name",
    metavar="TEXT",
    help="How files are named, with {index}, {slug}, {seed}, {key} and {model}; or a text to begin"
    " each name with. [default: {index:04}-{slug}-{seed}]",
)
@click.option(
    "--max-tasks",
    metavar="N",
    type=click.IntRange(1),
    default=MAX_TASKS,
    help=f"Tasks that may run at once. [default: {MAX_TASKS}]",
)
@with_options(REQUEST)
@client_options(can_simulate=True)
def batch(
    common: Common,
    *,
    source: str,
    form: str | None,
    folder: str,
    journal: str | None,
    is_dry: bool,
    max_credits: int | None,
    retries: int,
    prices: str,
    then: tuple[str, ...],
    resubmits_uncertain: bool,
    name: str | None,
    max_tasks: int,
    **fields: Unpack[RequestFields],
) -> int:
    """Make a video of each row of INPUT, and save them in a folder.

    INPUT is a .txt file with a prompt on each line, a .csv file whose columns are fields of a
    request, or a .jsonl file with an object on each line; - reads stdin. Fields are prompt, model,
    aspect_ratio, seed, image_urls, generation_type, resolution, duration, watermark,
    enable_translation, callback_url, extend_to and extra; key names a row in every run. The options
    about a video hold for rows that do not say otherwise.

    image_urls are URLs, or files, which are uploaded; in .csv several with blanks or | between
    them. extend_to makes a film of a row: a number of seconds, or prompts, in .csv with | between
    them; a single prompt, or one with a | in it, is written as a JSON array.

    All of INPUT, images included, is checked before anything is paid. A journal in the folder keeps
    what is paid: run the same command again, after a crash or a Ctrl-C, and it goes on where it
    was. Nothing is paid twice, what is there is skipped, and one bad row does not stop the others.

    The paths of the files go to stdout as they are finished; with --json, an object for each row
    and one for the whole, each on a line.
    """
    from veo_async.cli.batching import Wish, run  # noqa: PLC0415  # loads the client

    wish = Wish(
        source=source,
        form=None if form is None else Format(form),
        folder=folder,
        journal=journal,
        max_credits=max_credits,
        max_tasks=max_tasks,
        retries=retries,
        name=name,
        prices=price_list(prices),
        is_dry=is_dry,
        resubmits_uncertain=resubmits_uncertain,
        words=tuple(sys.argv[1:]),
    )
    return run(common, wish, film_of(fields, then))


@program.command(short_help="List what a batch has done.")
@_FOLDER
@_JOURNAL
@click.option("--unknown", is_flag=True, help="Only submits whose answer was lost.")
@click.option("--failed", is_flag=True, help="Only those that failed, expired or were rejected.")
@talk_options
def jobs(common: Common, *, folder: str, journal: str | None, unknown: bool, failed: bool) -> int:
    """List the videos of a batch in the folder DIR and where each stands.

    It may be run while the batch runs. With --json, an object for each on a line.
    """
    from veo_async.cli.looking import list_jobs  # noqa: PLC0415  # loads the journal

    return list_jobs(common, folder, journal, is_unknown=unknown, is_failed=failed)


@program.command(short_help="Settle a submit whose answer was lost.")
@_FOLDER
@click.argument("key", metavar="KEY")
@_JOURNAL
@click.option("--task-id", metavar="ID", help="The task that the submit became.")
@click.option("--not-created", is_flag=True, help="The submit became no task.")
@talk_options
def resolve(
    common: Common,
    *,
    folder: str,
    key: str,
    journal: str | None,
    task_id: str | None,
    not_created: bool,
) -> int:
    """Tell the batch in the folder DIR what became of the submit KEY, whose answer was lost.

    Look for its prompt in the account's log at https://kie.ai/logs. If there is a task, give its
    id: the next run brings its video home. If there is none, say so: the next run submits it anew.
    """
    from veo_async.cli.looking import settle  # noqa: PLC0415  # loads the journal

    return settle(common, folder, key, journal, task_id=task_id, not_created=not_created)


@program.command(short_help="Make a page to look at a batch.")
@_FOLDER
@_JOURNAL
@click.option("--page", metavar="FILE", help="The page. [default: report.html in DIR]")
@talk_options
def report(common: Common, *, folder: str, journal: str | None, page: str | None) -> int:
    """Write a page about the batch in the folder DIR, and print its path.

    It plays the videos, tells what each cost and how the slots were used. It needs no network, and
    nothing but the folder.
    """
    from veo_async.cli.looking import write_page  # noqa: PLC0415  # loads the journal

    return write_page(common, folder, journal, page)
