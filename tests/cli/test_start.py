"""How the program starts, and how it words things."""

import subprocess
import sys
from typing import Any

import pytest

from veo_async import errors
from veo_async.cli.trail import Submit, Trail
from veo_async.cli.wording import lasted, message_of, option_of, span
from veo_async.request import RequestFields

PROBE = """
import sys
from veo_async.cli import main
try:
    main()
finally:
    heavy = {"aiohttp", "asyncio", "anyio", "rich", "aiofiles", "veo_async.simulator"}
    assert heavy.isdisjoint(sys.modules), heavy & set(sys.modules)
"""


@pytest.mark.parametrize(
    "words", [["--help"], ["generate", "--help"], ["--version"], ["wait", "-h"]]
)
def test_help_loads_nothing_heavy(words: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_a_missing_library_is_named_in_one_line(missing: str) -> None:
    hidden = f"import sys; sys.modules[{missing!r}] = None\nfrom veo_async.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", hidden], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert missing in done.stderr
    assert "install veo-async[cli]" in done.stderr


def test_no_command_shows_the_help(veo: Any) -> None:
    ran = veo()
    assert ran.code == 2
    assert "generate" in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize("name", RequestFields.__annotations__)
def test_every_field_has_its_option(veo: Any, name: str) -> None:
    if name == "extra":
        return  # for programs
    assert option_of(name) in _help_of_generate(veo)


_known: dict[str, str] = {}


def _help_of_generate(veo: Any) -> str:
    if not _known:
        _known["help"] = veo("generate", "--help").out
    return _known["help"]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            errors.InvalidRequestError("seed is 'seed; seed'; give seed or model", field="seed"),
            "--seed is 'seed; seed'; give --seed or --model",
        ),
        (
            errors.TaskTimeoutError("task x: attach to it later with veo.task(id)"),
            "task x: go on later with `veo-async wait TASK_ID`",
        ),
        (
            errors.SubmitUncertainError("lost. Attach? attach to its id with veo.task(id), or"),
            "lost. Attach? go on with `veo-async wait TASK_ID`, or",
        ),
        (
            errors.UnexpectedResponseError("later with veo.task('a_1')"),
            "later with `veo-async wait a_1`",
        ),
        (
            errors.NotFoundError(
                "no call (404); check the base URL, and the dialect of the client"
            ),
            "no call (404); check the base URL, and --dialect",
        ),
        (
            errors.ValidationError("so far is task x: go on with veo.extend('x', prompt)"),
            "so far is task x: go on with `veo-async extend x PROMPT`",
        ),
        (
            errors.ValidationError("no image; upload the image with veo.upload()"),
            "no image; upload the image with `veo-async upload`",
        ),
        (
            FileExistsError(17, "File exists", "b.mp4"),
            "b.mp4 exists already; choose another name with --output",
        ),
        (OSError(28, "No space left on device"), "No space left on device"),
        (
            KeyError("x"),
            "unexpected KeyError: 'x'; this is a bug, please report it with what -v shows",
        ),
    ],
)
def test_messages_are_for_a_command_line(error: Exception, said: str) -> None:
    assert message_of(error) == said


def test_durations_read_well() -> None:
    assert [lasted(seconds) for seconds in (0.04, 9.9, 71.2, 125.0, 180.0)] == [
        "0.0 s", "9.9 s", "71 s", "2 min 5 s", "3 min",
    ]  # fmt: skip
    assert [span(*pair) for pair in ((60, 90), (1, 1.5), (60, 120), (120, 300))] == [
        "60 to 90 s", "1 to 1.5 s", "1 to 2 min", "2 to 5 min",
    ]  # fmt: skip


def test_an_odd_id_is_quoted() -> None:
    assert (
        Trail(task_id="-x y'z", submit=Submit.TAKEN).resume() == "veo-async wait -- '-x y'\"'\"'z'"
    )
    assert Trail(task_id="a", options=("-o", "b c")).resume() == "veo-async wait a -o 'b c'"


def test_a_lost_submit_does_not_quote_the_advice_to_try_again() -> None:
    inner = errors.TransportError("POST failed: reset; try again", request_sent=True)
    error = errors.SubmitUncertainError(f"lost ({inner}). It is not sent again; look there")
    error.__cause__ = inner
    assert message_of(error) == "lost (POST failed: reset). It is not sent again; look there"
