"""The options that commands share, and the values they become."""

import functools
import os
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

import attrs
import click

from veo_async._version import __version__
from veo_async.models import Dialect
from veo_async.settings import BASE_URL, BASE_URL_VARIABLE, KEY_VARIABLE

__all__: list[str] = []

SIMULATED_SPEED: Final = 60.0  # a clip of a minute in a second: long enough to be watched
_FASTEST: Final = 1000.0  # links live 1.2 s then; faster, and they die before they are used

Command: TypeAlias = Callable[..., int]
Decorator: TypeAlias = Callable[[Command], Command]


@attrs.frozen(kw_only=True)
class Common:
    """What every command that talks to the service can be told.

    Attributes:
        api_key: The key, where it was given as an option.
        base_url: The API's host, where it was given as an option.
        upload_url: The upload host, where it was given as an option.
        dialect: In which form the service is asked.
        is_simulated: Whether an embedded simulator answers instead of the service.
        speed: Service seconds per real second.
        is_json: Whether the result is for programs.
        is_quiet: Whether only errors are shown.
        verbosity: 1 for the package's log, 2 for its details.
    """

    api_key: str | None = attrs.field(default=None, repr=False)
    base_url: str | None = None
    upload_url: str | None = None
    dialect: Dialect = attrs.field(default=Dialect.AUTO, converter=Dialect)
    is_simulated: bool = False
    speed: float = 1.0
    is_json: bool = False
    is_quiet: bool = False
    verbosity: int = 0

    @property
    def secrets(self) -> tuple[str, ...]:
        """What no message may show."""
        keys = (self.api_key or "", os.environ.get(KEY_VARIABLE, ""))
        return tuple(key.strip() for key in keys if key.strip())

    @property
    def repeated(self) -> tuple[str, ...]:
        """What a command that goes on must be told again; never the key itself."""
        told: list[str] = []
        if self.speed != 1:
            told += ["--time-scale", f"{self.speed:g}"]
        if self.dialect is not Dialect.AUTO:
            told += ["--dialect", str(self.dialect)]
        if self.base_url is not None:
            told += ["--base-url", self.base_url]
        if self.upload_url is not None:
            told += ["--upload-url", self.upload_url]
        if self.api_key is not None:
            told += ["--api-key", "YOUR_KEY"]
        return tuple(told)


_VERSION: Final = click.version_option(__version__, prog_name="veo-async")

_TALK: Final = (
    click.option(
        "--json", "is_json", is_flag=True, help="Print one JSON object, for errors as well."
    ),
    click.option(
        "-q", "--quiet", "is_quiet", is_flag=True, help="No progress, only results and errors."
    ),
    click.option(
        "-v",
        "--verbose",
        "verbosity",
        count=True,
        help="Log to stderr what happens; -vv for details.",
    ),
    _VERSION,
)

_TALK_FIELDS: Final = ("is_json", "is_quiet", "verbosity")

_SERVICE: Final = (
    click.option(
        "--time-scale",
        "speed",
        metavar="N",
        type=click.FloatRange(0, _FASTEST, min_open=True),
        help=f"How many times faster than life the simulator runs: {SIMULATED_SPEED:g} with"
        " --simulate, what `veo-async simulate` was told otherwise.",
    ),
    click.option(
        "--api-key",
        metavar="KEY",
        help=f"The account's key. Better set the environment variable {KEY_VARIABLE}: everyone on"
        " this computer can see a command line.",
    ),
    click.option(
        "--base-url",
        metavar="URL",
        help=f"The API's host. [default: ${BASE_URL_VARIABLE}, then {BASE_URL}]",
    ),
    click.option(
        "--upload-url",
        metavar="URL",
        help="The host that images go to, with the key. [default: the service's, or --base-url]",
    ),
    click.option(
        "--dialect",
        type=click.Choice([str(one) for one in Dialect]),
        default=str(Dialect.AUTO),
        help="The form in which the service is asked: as the spec says, as the live service does,"
        " in its newer form jobs, or in the first two at once. [default: auto]",
    ),
)

_SIMULATE: Final = (
    click.option(
        "--simulate",
        "is_simulated",
        is_flag=True,
        help="Try the command on a simulator inside it: no key, no network, no cost. It follows"
        " --dialect; without one the spec, or the live service where only that has what is wanted.",
    ),
)


def _explain_no_simulator(
    context: click.Context,
    _: click.Parameter,
    value: bool,  # noqa: FBT001  # click's signature
) -> None:
    if value:
        raise click.UsageError(
            f"`{context.info_name}` asks for a task of an earlier command, and what --simulate made"
            " is gone when its command ends. Use `veo-async simulate` in another terminal: it"
            " serves until you stop it",
            context,
        )


_NO_SIMULATE: Final = (
    click.option(
        "--simulate",
        is_flag=True,
        hidden=True,
        expose_value=False,
        is_eager=True,
        callback=_explain_no_simulator,
    ),
)


def version(command: Command) -> Command:
    """Add `--version`."""
    return _VERSION(command)


def talk_options(command: Command) -> Command:
    """Add the options about what is printed, which the command gets as one `Common`."""
    return _packed(command, _TALK, _TALK_FIELDS)


def client_options(*, can_simulate: bool) -> Decorator:
    """Add the options of a command that talks to the service; it gets them as one `Common`.

    Args:
        can_simulate: Whether it makes sense against a simulator that lasts as long as the command.
    """

    def decorate(command: Command) -> Command:
        options = (*(_SIMULATE if can_simulate else _NO_SIMULATE), *_SERVICE, *_TALK)
        return _packed(command, options, [field.name for field in attrs.fields(Common)])

    return decorate


def _packed(command: Command, options: tuple[Decorator, ...], fields: Iterable[str]) -> Command:
    @functools.wraps(command)
    def packed(**given: Any) -> int:  # noqa: ANN401  # click hands over whatever was declared
        common = {name: given.pop(name) for name in fields if name in given}
        return command(_common(**common), **given)

    decorated: Command = packed
    for option in reversed(options):
        decorated = option(decorated)
    return decorated


def _common(*, is_simulated: bool = False, speed: float | None = None, **given: Any) -> Common:  # noqa: ANN401
    usual = SIMULATED_SPEED if is_simulated else 1.0
    common = Common(is_simulated=is_simulated, speed=speed or usual, **given)
    if common.speed != 1 and not is_simulated and not _is_loopback(common.base_url):
        # Faster polls would do no good at the real service, and may get an account into trouble.
        raise click.UsageError(
            "--time-scale is for simulators; use --simulate, or the address of one that runs on"
            " this computer"
        )
    return common


def _is_loopback(given: str | None) -> bool:
    url = given or os.environ.get(BASE_URL_VARIABLE) or BASE_URL
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
