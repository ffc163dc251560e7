"""The commands, as click declares them. What they do is loaded when one of them runs."""

import sys
from typing import TYPE_CHECKING, Any, Final, Unpack

import click

from veo_async.cli.errand import Errand, SimulatorSettings, Target
from veo_async.cli.exits import MEANINGS
from veo_async.cli.options import (
    Common,
    client_options,
    talk_options,
    version,
)
from veo_async.cli.task_options import NO_DOWNLOAD, OUTPUT, REQUEST, TIMEOUT, with_options
from veo_async.errors import InvalidRequestError
from veo_async.request import RequestFields, VideoRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from veo_async.cli.output import Result
    from veo_async.cli.work import Worker
    from veo_async.client import VeoClient

__all__: list[str] = []

_MOST_STDIN: Final = 64 * 1024  # bytes: more than any prompt that is not refused for its length
_CODES: Final = "\n".join(f"  {code.value:>3}  {text}" for code, text in MEANINGS.items())


_ORDER: Final = ("generate", "batch", "jobs", "resolve", "report")


class _Group(click.Group):
    """Commands in the order in which they are needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        return [*_ORDER, *(name for name in self.commands if name not in _ORDER)]


@click.group(
    cls=_Group,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=f"\b\nExit codes:\n{_CODES}",
)
@version
def program() -> int:
    """Make videos with KIE.ai's Veo 3.1: a prompt in, an MP4 file out, paid once.

    \b
    Try it without a key:
      veo-async generate "A paper boat on a river" --simulate
    With a key from https://kie.ai/api-key:
      export KIE_API_KEY=...
      veo-async generate "A paper boat on a river" -o boat.mp4
      veo-async batch prompts.txt -o videos

    The path of the file goes to stdout, messages go to stderr.
    """  # noqa: D301  # \b is click's mark of a paragraph to leave alone
    return 0


_TASK_ID: Final = click.argument("task_id", metavar="TASK_ID")


@program.command()
@click.argument("prompt")
@with_options(OUTPUT, REQUEST)
@click.option(
    "--upgrade",
    type=click.Choice(["1080p"]),
    help="Upgrade the finished video and save that; costs some credits more.",
)
@with_options(TIMEOUT, NO_DOWNLOAD)
@client_options(can_simulate=True)
def generate(
    common: Common,
    *,
    prompt: str,
    upgrade: str | None,
    timeout: float | None,
    output: str | None,
    may_replace: bool,
    is_wanted: bool,
    **fields: Unpack[RequestFields],
) -> int:
    """Make a video of PROMPT and save it.

    PROMPT is a description of up to 1000 characters, in quotes; - reads it from stdin. This costs
    credits. Everything that can be wrong on this side, the folder included, is checked before.

    When the command is stopped or fails after that, it names the task and the command that goes on.
    """
    target = Target(output=output, may_replace=may_replace, is_wanted=is_wanted)
    errand = Errand(target=target, timeout=timeout, upgrade=upgrade)
    request = VideoRequest(_from_stdin(common) if prompt == "-" else prompt, **fields)
    target.check()
    return _run(common, errand, lambda worker, veo: worker.generate(veo, request))


@program.command()
@_TASK_ID
@client_options(can_simulate=False)
def status(common: Common, *, task_id: str) -> int:
    """Tell how a task is doing, with one request.

    Ends with 0 whenever the service has told, also of a task that failed.
    """
    errand = Errand(task_id=task_id)
    return _run(common, errand, lambda worker, veo: worker.status(veo, task_id))


@program.command(short_help="Wait for a task and save its video.")
@_TASK_ID
@with_options(OUTPUT, TIMEOUT, NO_DOWNLOAD)
@client_options(can_simulate=False)
def wait(
    common: Common,
    *,
    task_id: str,
    timeout: float | None,
    output: str | None,
    may_replace: bool,
    is_wanted: bool,
) -> int:
    """Wait for a task, of an earlier command or another program, and save its video.

    This costs nothing.
    """
    target = Target(output=output, may_replace=may_replace, is_wanted=is_wanted)
    errand = Errand(task_id=task_id, target=target, timeout=timeout)
    target.check(task_id)
    return _run(common, errand, lambda worker, veo: worker.wait(veo, task_id))


@program.command()
@_TASK_ID
@with_options(OUTPUT)
@client_options(can_simulate=False)
def download(common: Common, *, task_id: str, output: str | None, may_replace: bool) -> int:
    """Save the video of a task that is finished.

    It does not wait for a task that is not (`wait` does). A download that was cut off is gone on
    with. Videos are kept for 14 days.
    """
    target = Target(output=output, may_replace=may_replace)
    errand = Errand(task_id=task_id, target=target)
    target.check(task_id)
    return _run(common, errand, lambda worker, veo: worker.download(veo, task_id))


@program.command()
@_TASK_ID
@click.option(
    "--to",
    type=click.Choice(["1080p"]),
    default="1080p",
    help="The resolution. [default: 1080p]",
)
@with_options(OUTPUT, TIMEOUT, NO_DOWNLOAD)
@client_options(can_simulate=False)
def upgrade(
    common: Common,
    *,
    task_id: str,
    to: str,
    timeout: float | None,
    output: str | None,
    may_replace: bool,
    is_wanted: bool,
) -> int:
    """Upgrade a task's video to 1080p and save that.

    It costs some credits, once per video: asking again is free.
    """
    target = Target(output=output, may_replace=may_replace, is_wanted=is_wanted)
    errand = Errand(task_id=task_id, target=target, timeout=timeout, upgrade=to)
    target.check(task_id)
    return _run(common, errand, lambda worker, veo: worker.wait(veo, task_id))


@program.command(short_help="Serve a simulated service until Ctrl-C.")
@click.option("--host", default="127.0.0.1", help="Address to serve on. [default: 127.0.0.1]")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, help="Its port. [default: a free one]"
)
@click.option(
    "--dialect",
    type=click.Choice(["spec", "live"]),
    default="spec",
    help="Which description of the service it follows. [default: spec]",
)
@click.option(
    "--time-scale",
    type=click.FloatRange(0),
    default=1.0,
    metavar="N",
    help="How many times faster than life it runs. [default: 1]",
)
@click.option(
    "--credits",
    "money",
    type=click.FloatRange(0),
    default=10_000,
    metavar="N",
    help="Play money of the account. [default: 10000]",
)
@click.option("--api-key", "key", metavar="KEY", help="The key it accepts. [default: a play key]")
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="FAULT",
    help="What goes wrong, as endpoint:kind[=value][:option=value]..., for instance"
    " generate:status=429:times=2, record-info:delay=3 or video:cut_at=100000. Repeatable.",
)
@talk_options
def simulate(common: Common, **settings: Unpack[SimulatorSettings]) -> int:
    """Serve a simulated service until Ctrl-C: no network, no cost.

    It prints the lines that point veo-async, or any program made with it, at it.
    """
    from veo_async.cli.serving import serve  # noqa: PLC0415  # loads the simulator

    return serve(common, settings)


def _run(
    common: Common,
    errand: Errand,
    work: "Callable[[Worker, VeoClient], Coroutine[Any, Any, Result]]",
) -> int:
    from veo_async.cli.work import run  # noqa: PLC0415  # loads the client

    return run(common, errand, work)


def _from_stdin(common: Common) -> str:
    source = sys.stdin
    if source is None:  # pyright: ignore[reportUnnecessaryComparison]  # closed by who started us
        return ""
    if source.isatty() and not common.is_quiet:
        sys.stderr.write("Type the prompt, then Ctrl-D on a line of its own.\n")
    try:
        return source.buffer.read(_MOST_STDIN).decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        raise InvalidRequestError(
            "prompt on stdin is not UTF-8 text; convert it", field="prompt"
        ) from None
