"""The options of commands about one task: what is asked for, and where it goes."""

from enum import StrEnum
from typing import Final

import click

from veo_async.cli.options import Command, Decorator
from veo_async.models import (
    AspectRatio,
    GenerationType,
    Model,
    Resolution,
)
from veo_async.request import DURATIONS, SEEDS
from veo_async.settings import Timeouts

__all__: list[str] = []


def _values(kind: type[StrEnum]) -> list[str]:
    return [str(one) for one in kind]


OUTPUT: Final = (
    click.option(
        "-o",
        "--output",
        metavar="PATH",
        help="File, or folder: one that exists or a path that ends with /. It is made when it is"
        " missing. [default: ./TASK_ID.mp4]",
    ),
    click.option(
        "--no-overwrite",
        "may_replace",
        is_flag=True,
        flag_value=False,
        default=True,
        help="Refuse to replace a file that exists.",
    ),
)
NO_DOWNLOAD: Final = (
    click.option(
        "--no-download",
        "is_wanted",
        is_flag=True,
        flag_value=False,
        default=True,
        help="Print the video's URL instead of saving it.",
    ),
)
TIMEOUT: Final = (
    click.option(
        "--timeout",
        metavar="S",
        type=click.FloatRange(0, min_open=True),
        help=f"Seconds to wait for the video at most. [default: {Timeouts().task:g}]",
    ),
)
REQUEST: Final = (
    click.option(
        "--model",
        type=click.Choice(_values(Model)),
        default=str(Model.FAST),
        help="veo3 looks best, veo3_fast costs less. [default: veo3_fast]",
    ),
    click.option(
        "--generation-type",
        type=click.Choice(_values(GenerationType), case_sensitive=False),
        metavar="TYPE",
        help=f"{', '.join(GenerationType)}. [default: chosen by the images]",
    ),
    click.option(
        "--image-url",
        "image_urls",
        metavar="URL",
        multiple=True,
        help="A public image: the first frame, then the last one; or references. Repeatable.",
    ),
    click.option(
        "--aspect-ratio",
        type=click.Choice(_values(AspectRatio), case_sensitive=False),
        metavar=f"[{'|'.join(AspectRatio)}]",
        help="Shape of the picture. [default: the service's]",
    ),
    click.option(
        "--seed",
        type=int,
        metavar="N",
        help=f"{SEEDS[0]} to {SEEDS[-1]}; the same seed gives the same video.",
    ),
    click.option("--watermark", metavar="TEXT", help="Text to print into the picture."),
    click.option(
        "--no-translation",
        "enable_translation",
        is_flag=True,
        flag_value=False,
        default=True,
        help="Send the prompt as it is instead of in English.",
    ),
    click.option(
        "--resolution",
        type=click.Choice(_values(Resolution), case_sensitive=False),
        help="Live service only.",
    ),
    click.option(
        "--duration",
        type=int,
        metavar="S",
        help=f"{', '.join(map(str, DURATIONS))} seconds; live service only.",
    ),
    click.option(
        "--callback-url", metavar="URL", help="Where the service reports the end of the task."
    ),
)


def with_options(*groups: tuple[Decorator, ...]) -> Decorator:
    """Add groups of options, in this order."""

    def decorate(command: Command) -> Command:
        for option in reversed([option for group in groups for option in group]):
            command = option(command)
        return command

    return decorate
