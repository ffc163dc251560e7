"""The options of commands about one task: what is asked for, and where it goes."""

from enum import StrEnum
from typing import Final

import click

from veo_async.cli.options import Command, Decorator
from veo_async.errors import InvalidRequestError
from veo_async.models import (
    AspectRatio,
    GenerationType,
    Model,
    Resolution,
)
from veo_async.request import (
    DURATIONS,
    EXTENSION_SECONDS,
    LONGEST_FILM,
    SEEDS,
    ExtendFields,
    RequestFields,
    VideoRequest,
)
from veo_async.settings import Timeouts

__all__: list[str] = []

UPGRADES: Final = (str(Resolution.HD_1080P), str(Resolution.UHD_4K))
MOST_EXTENSIONS: Final = LONGEST_FILM // EXTENSION_SECONDS  # of one command, as in a request


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
        help=f"Seconds to wait in all, at most. [default: {Timeouts().task:g} for each task]",
    ),
)
_MODEL: Final = click.option(
    "--model",
    type=click.Choice(_values(Model)),
    default=str(Model.FAST),
    help="veo3 looks best, veo3_fast costs less; see `models`. [default: veo3_fast]",
)
_SEED: Final = click.option(
    "--seed",
    type=int,
    metavar="N",
    help=f"{SEEDS[0]} to {SEEDS[-1]}; the same seed gives the same video.",
)
_WATERMARK: Final = click.option(
    "--watermark", metavar="TEXT", help="Text to print into the picture."
)
_CALLBACK: Final = click.option(
    "--callback-url", metavar="URL", help="Where the service reports the end of the task."
)
_THEN: Final = click.option(
    "--then",
    metavar="PROMPT",
    multiple=True,
    help="What happens after that: one extension more, by a prompt of its own. Each is paid."
    " Repeatable.",
)
REQUEST: Final = (
    _MODEL,
    click.option(
        "--generation-type",
        type=click.Choice(_values(GenerationType), case_sensitive=False),
        metavar="TYPE",
        help=f"{', '.join(GenerationType)}. [default: chosen by the images]",
    ),
    click.option(
        "--image",
        "--image-url",
        "image_urls",
        metavar="PATH_OR_URL",
        multiple=True,
        help="An image: the first frame, then the last one; or references. A file is uploaded"
        " first. Repeatable.",
    ),
    click.option(
        "--aspect-ratio",
        type=click.Choice(_values(AspectRatio), case_sensitive=False),
        metavar=f"[{'|'.join(AspectRatio)}]",
        help="Shape of the picture. [default: the service's]",
    ),
    _SEED,
    _WATERMARK,
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
    _CALLBACK,
    click.option(
        "--extend-to",
        type=click.FloatRange(0, LONGEST_FILM, min_open=True),
        metavar="S",
        help="Extend the video to a film of so many seconds, by the same prompt; live service only."
        f" Each step adds about {EXTENSION_SECONDS} s and is paid.",
    ),
    _THEN,
)
EXTENSION: Final = (
    click.option(
        "--times",
        type=click.IntRange(1, MOST_EXTENSIONS),
        default=1,
        metavar="N",
        help="How many extensions PROMPT makes, before those of --then. Each is paid. [default: 1]",
    ),
    _THEN,
    _MODEL,
    _SEED,
    _WATERMARK,
    _CALLBACK,
)
UPGRADE: Final = (
    click.option(
        "--upgrade",
        type=click.Choice(UPGRADES),
        help="Upgrade the finished video and save that; costs some credits more.",
    ),
)
MAX_CREDITS: Final = (
    click.option(
        "--max-credits",
        metavar="N",
        type=click.IntRange(0),
        help="Refuse what may cost more in all, by the dearer price list.",
    ),
)
NO_WAIT: Final = (
    click.option(
        "--no-wait",
        "is_awaited",
        is_flag=True,
        flag_value=False,
        default=True,
        help="Print the task's id as soon as it has one; `wait` brings its video later.",
    ),
)


def film_of(fields: RequestFields, then: tuple[str, ...]) -> RequestFields:
    """Return a request's fields with the prompts of its extensions.

    Raises:
        UsageError: Its length was given as well.
        InvalidRequestError: One is no prompt.
    """
    if not then:
        return fields
    if fields.get("extend_to") is not None:
        raise click.UsageError("--extend-to and --then exclude each other; give one of them")
    check_then(then)
    return {**fields, "extend_to": then}


def check_then(then: tuple[str, ...]) -> None:
    """Make sure that the prompts of extensions are prompts.

    Raises:
        InvalidRequestError: One is not.
    """
    try:
        for prompt in then:
            VideoRequest(prompt)
    except InvalidRequestError as error:
        said = str(error).removeprefix(error.field)
        raise InvalidRequestError(f"then{said}", field="then") from None


def repeated(fields: RequestFields | ExtendFields) -> tuple[str, ...]:
    """Return the options that a command which extends further must be given again."""
    told: list[str] = []
    if fields.get("model", Model.FAST) != Model.FAST:
        told += ["--model", str(fields.get("model"))]
    for name in ("seed", "watermark", "callback_url"):
        value = fields.get(name)
        if value is not None:
            told += [f"--{name.replace('_', '-')}", str(value)]
    return tuple(told)


def with_options(*groups: tuple[Decorator, ...]) -> Decorator:
    """Add groups of options, in this order."""

    def decorate(command: Command) -> Command:
        for option in reversed([option for group in groups for option in group]):
            command = option(command)
        return command

    return decorate
