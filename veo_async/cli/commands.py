"""The commands, as click declares them. What they do is loaded when one of them runs."""

import sys
from typing import TYPE_CHECKING, Any, Final, Unpack

import click

from veo_async.cli.errand import Errand, SimulatorSettings, Target, is_live_only
from veo_async.cli.exits import MEANINGS
from veo_async.cli.options import (
    Common,
    client_options,
    talk_options,
    version,
)
from veo_async.cli.task_options import (
    EXTENSION,
    MAX_CREDITS,
    NO_DOWNLOAD,
    NO_WAIT,
    OUTPUT,
    REQUEST,
    TIMEOUT,
    UPGRADE,
    UPGRADES,
    check_then,
    film_of,
    repeated,
    with_options,
)
from veo_async.errors import BudgetExceededError, InvalidRequestError
from veo_async.prices import DEARER
from veo_async.request import (
    ExtendFields,
    ExtendRequest,
    RequestFields,
    VideoRequest,
    local_images,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from veo_async.cli.output import Result
    from veo_async.cli.work import Worker
    from veo_async.client import VeoClient

__all__: list[str] = []

_MOST_STDIN: Final = 64 * 1024  # bytes: more than any prompt that is not refused for its length
_CODES: Final = "\n".join(f"  {code.value:>3}  {text}" for code, text in MEANINGS.items())


_ORDER: Final = ("generate", "extend", "batch", "jobs", "resolve", "report")


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
      veo-async generate "It sails" --image boat.png --then "It reaches the sea" -o film.mp4
      veo-async batch prompts.txt -o videos

    The path of the file goes to stdout, messages go to stderr.
    """  # noqa: D301  # \b is click's mark of a paragraph to leave alone
    return 0


_TASK_ID: Final = click.argument("task_id", metavar="TASK_ID")


@program.command()
@click.argument("prompt")
@with_options(OUTPUT, REQUEST, UPGRADE, MAX_CREDITS, TIMEOUT, NO_DOWNLOAD, NO_WAIT)
@client_options(can_simulate=True)
def generate(
    common: Common,
    *,
    prompt: str,
    then: tuple[str, ...],
    upgrade: str | None,
    max_credits: int | None,
    timeout: float | None,
    output: str | None,
    may_replace: bool,
    is_wanted: bool,
    is_awaited: bool,
    **fields: Unpack[RequestFields],
) -> int:
    """Make a video of PROMPT and save it.

    PROMPT is a description of up to 1000 characters, in quotes; - reads it from stdin. This costs
    credits. Everything that can be wrong on this side, images and the folder included, is checked
    before.

    With --then or --extend-to it becomes a film: its extensions are made one after the other, each
    a paid task, and the whole film is saved.

    When the command is stopped or fails after that, it names the task and the command that goes on.
    """
    prompt = _from_stdin(common) if prompt == "-" else prompt
    request = VideoRequest(prompt, **film_of(fields, then))
    steps = request.extensions
    if not steps:  # a length that one video has
        request = request.evolve(extend_to=None)
    _check_wait(is_awaited=is_awaited, is_more=bool(steps or upgrade))
    target = Target(output=output, may_replace=may_replace, is_wanted=is_wanted)
    errand = Errand(
        target=target,
        timeout=timeout,
        upgrade=upgrade,
        steps=steps,
        repeated=repeated(fields),
        is_awaited=is_awaited,
        price=DEARER.of_film(request) + _price_of(upgrade),
        needs_live=is_live_only(request) or upgrade == UPGRADES[-1],
    )
    _check_price(errand, max_credits)
    if is_awaited:
        target.check()
    _check_images(request)
    return _run(common, errand, lambda worker, veo: worker.generate(veo, request))


@program.command(short_help="Extend a task's video, and save the film.")
@_TASK_ID
@click.argument("prompt")
@with_options(OUTPUT, EXTENSION, UPGRADE, MAX_CREDITS, TIMEOUT, NO_DOWNLOAD, NO_WAIT)
@client_options(can_simulate=False)
def extend(
    common: Common,
    *,
    task_id: str,
    prompt: str,
    then: tuple[str, ...],
    times: int,
    upgrade: str | None,
    max_credits: int | None,
    timeout: float | None,
    output: str | None,
    may_replace: bool,
    is_wanted: bool,
    is_awaited: bool,
    **fields: Unpack[ExtendFields],
) -> int:
    """Extend the video of a task by what PROMPT describes, and save the whole film.

    The task is one of this account, waited for first where it still runs, and not one that went
    through a 1080p upgrade. An extension is a task of its own that costs credits, and can be
    extended again: each --then is one more. PROMPT - reads it from stdin.
    """
    check_then(then)
    first = _from_stdin(common) if prompt == "-" else prompt
    steps = (*(first,) * times, *then)
    requests = [ExtendRequest(task_id, step, **fields) for step in steps]
    _check_wait(is_awaited=is_awaited, is_more=len(steps) > 1 or upgrade is not None)
    target = Target(output=output, may_replace=may_replace, is_wanted=is_wanted)
    errand = Errand(
        task_id=task_id,
        target=target,
        timeout=timeout,
        upgrade=upgrade,
        steps=steps,
        repeated=repeated(fields),
        is_awaited=is_awaited,
        price=sum(DEARER.of(one) for one in requests) + _price_of(upgrade),
    )
    _check_price(errand, max_credits)
    if is_awaited:
        target.check()
    return _run(common, errand, lambda worker, veo: worker.extend(veo, task_id, **fields))


def _check_wait(*, is_awaited: bool, is_more: bool) -> None:
    if is_more and not is_awaited:
        raise click.UsageError(
            "--no-wait is for a single task, and --then, --times, --extend-to and --upgrade take"
            " more; leave one of them out"
        )


def _check_images(request: VideoRequest) -> None:
    if local_images(request.image_urls):
        from veo_async.images import check_images  # noqa: PLC0415  # loads the client

        check_images(request.image_urls)


def _check_price(errand: Errand, most: int | None) -> None:
    if most is not None and errand.price > most:
        raise BudgetExceededError(
            f"this may cost {errand.price} credits and --max-credits is {most}; allow more, or ask"
            " for less",
            needed=errand.price,
            left=most,
        )


def _price_of(upgrade: str | None) -> int:
    return {"1080p": DEARER.upgrade_1080p, "4k": DEARER.upgrade_4k}.get(upgrade or "", 0)


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
    type=click.Choice(UPGRADES),
    default=UPGRADES[0],
    help=f"The resolution. [default: {UPGRADES[0]}]",
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
    """Upgrade a task's video to 1080p or 4k and save that.

    It costs some credits, once per video: asking again is free. Only the live service has 4k, which
    takes 5 to 10 minutes. A video that was upgraded to 1080p cannot be extended.
    """
    target = Target(output=output, may_replace=may_replace, is_wanted=is_wanted)
    errand = Errand(
        task_id=task_id, target=target, timeout=timeout, upgrade=to, price=_price_of(to)
    )
    target.check(task_id)
    return _run(common, errand, lambda worker, veo: worker.wait(veo, task_id))


@program.command(short_help="Serve a simulated service until Ctrl-C.")
@click.option("--host", default="127.0.0.1", help="Address to serve on. [default: 127.0.0.1]")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, help="Its port. [default: a free one]"
)
@click.option(
    "--dialect",
    type=click.Choice(["spec", "live", "jobs"]),
    default="spec",
    help="Which description of the service it follows; jobs is the live one without its older"
    " calls. [default: spec]",
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
@click.option("--webhook-key", metavar="KEY", help="Sign webhooks with this. [default: unsigned]")
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
