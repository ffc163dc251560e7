"""The commands about the account and the service, as click declares them."""

import sys
from typing import BinaryIO

import click

from veo_async.cli.batch_commands import program
from veo_async.cli.errand import Errand
from veo_async.cli.options import Common, client_options, talk_options
from veo_async.errors import InvalidRequestError

__all__ = ["program"]


@program.command("credits", short_help="Tell how many credits the account has.")
@client_options(can_simulate=True)
def balance(common: Common) -> int:
    """Print the number of credits that the account has left.

    Credits are decimals. Only the live service tells them.
    """
    from veo_async.cli.work import run  # noqa: PLC0415  # loads the client

    return run(common, Errand(), lambda worker, veo: worker.balance(veo))


@program.command(short_help="Upload an image, and print its URL.")
@click.argument("source", metavar="FILE|URL|-")
@click.option(
    "--name",
    metavar="NAME",
    help="What the service calls the file; another one of that name is replaced. [default: random]",
)
@client_options(can_simulate=True)
def upload(common: Common, *, source: str, name: str | None) -> int:
    """Upload a file, or what a URL shows, and print the public URL that it gets.

    It is free. --image and image_urls take files as they are; use this for images that many
    commands share, or that another program needs. Whoever knows the URL can see the file, which the
    service keeps for about a day. - reads a file from stdin.
    """
    from veo_async.cli.work import run  # noqa: PLC0415  # loads the client

    given: str | BinaryIO = _stdin() if source == "-" else source
    named = "stdin" if source == "-" else source
    errand = Errand(is_free=True)
    return run(common, errand, lambda worker, veo: worker.upload(veo, given, named, name))


def _stdin() -> BinaryIO:
    source = sys.stdin
    if source is None or source.isatty():  # pyright: ignore[reportUnnecessaryComparison]  # closed by who started us
        raise InvalidRequestError(
            "source is -, and stdin is no file; pipe one into this command", field="source"
        )
    return source.buffer


@program.command(short_help="List models, prices and limits.")
@talk_options
def models(common: Common) -> int:
    """List the models, what they cost by either price list, and what the service takes.

    It needs neither a key nor a network. The prices are those of the spec and of the live service's
    public list, at the dates that are shown. With --json, each list can be saved to a file, edited,
    and given to `batch --prices`.
    """
    from veo_async.cli import output  # noqa: PLC0415
    from veo_async.cli.offer import listing  # noqa: PLC0415

    output.write(listing(is_json=common.is_json))
    return 0
