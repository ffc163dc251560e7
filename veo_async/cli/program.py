"""From the words of a command line to an exit code, whatever happens."""

import sys

import click

from veo_async.cli.account_commands import program
from veo_async.cli.choice import screen_for
from veo_async.cli.exits import Exit
from veo_async.cli.options import Common
from veo_async.cli.report import Reporter
from veo_async.cli.trail import Trail

__all__: list[str] = []


def run(words: list[str]) -> int:
    """Run a command and return its exit code."""
    try:
        code: object = program.main(
            words, "veo-async", standalone_mode=False, windows_expand_args=False
        )
    except click.Abort:
        sys.stderr.write("Stopped. Nothing was sent, nothing was paid.\n")
        return Exit.INTERRUPTED
    except click.ClickException as error:
        return _misused(words, error)
    except Exception as error:  # noqa: BLE001  # a traceback tells people nothing, and may tell a key
        return _reporter(words).failed(error)
    return code if isinstance(code, int) else Exit.DONE


def _misused(words: list[str], error: click.ClickException) -> int:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        sys.stderr.write(f"{error.format_message()}\n")
        return Exit.USAGE
    reporter = _reporter(words)
    context = error.ctx if isinstance(error, click.UsageError) else None
    name = "veo-async" if context is None else context.command_path
    message = error.format_message().rstrip(".")
    if "unexpected extra argument" in message and name.endswith("generate"):
        message += "; put the prompt in quotes"
    reporter.screen.error(message)
    reporter.screen.say(f"Try: {name} --help", always=True)
    param = error.param if isinstance(error, click.BadParameter) else None
    reporter.json_error("UsageError", message, {"field": None if param is None else param.name})
    return Exit.USAGE


def _reporter(words: list[str]) -> Reporter:
    """Return what tells of an error that came before the options were read, or all of them."""
    options = words[: words.index("--")] if "--" in words else words
    common = Common(
        is_json="--json" in options,
        api_key=_key_in(options),
        verbosity=int(not {"-v", "-vv", "--verbose"}.isdisjoint(options)),
    )
    screen = screen_for(lambda: 0.0, is_quiet=False, secrets=common.secrets)
    return Reporter(common=common, screen=screen, trail=Trail())


def _key_in(words: list[str]) -> str | None:
    for word, following in zip(words, [*words, ""][1:], strict=True):
        if word == "--api-key":
            return following
        if word.startswith("--api-key"):
            return word.removeprefix("--api-key").lstrip("=:")
    return None
