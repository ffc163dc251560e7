"""Every exit code, what is said with it, and that the key is not."""

from collections.abc import Callable
from typing import Any

import pytest

from veo_async import errors
from veo_async.cli.exits import MEANINGS, Exit, code_of
from veo_async.simulator import Simulator

Serve = Callable[..., Simulator]
KEY = "key-of-the-test-0123456789"


def case(name: str, code: int, *words: str, **settings: Any) -> Any:
    return pytest.param(code, words, settings, id=name)


CASES = [
    case("the task failed", 1, "[policy] boat"),
    case("maintenance in the middle of an answer", 5, "boat", faults=["generate:status=500"]),
    case("refused", 1, "boat", faults=["generate:status=422"]),
    case("wrong key", 3, "boat", faults=[f"generate:status=401:text=no such key {KEY}"]),
    case("no credits", 4, "boat", credits=10),
    case("quota", 4, "boat", faults=["generate:status=433"]),
    case("answer lost", 5, "boat", faults=["generate:lose_answer"]),
    case("garbage", 5, "boat", faults=["generate:garbage"]),
    case("stuck", 6, "[stuck] boat", "--timeout", "0.3"),
    case("links are dead", 7, "boat", faults=["video:expire"]),
    case("unreachable storage", 7, "boat", faults=["video:redirect=http://127.0.0.1:9/"]),
]


@pytest.mark.parametrize(("code", "words", "settings"), CASES)
def test_an_end_has_its_code_and_hides_the_key(
    veo: Any, serve: Serve, code: int, words: tuple[str, ...], settings: dict[str, Any]
) -> None:
    simulator = serve(**settings)
    ran = veo.at(simulator)("generate", *words, "--time-scale", 200, "-o", "my boat.mp4", "--json")
    assert ran.code == code, ran.err
    assert "Error: " in ran.err
    assert KEY not in ran.out + ran.err
    for what_programmers_do in ("veo.task(", "VeoClient", "Timeouts"):
        assert what_programmers_do not in ran.err
    assert "Traceback" not in ran.err
    assert ran.error["message"] in ran.err
    if simulator.ledger.spent and code != 5:
        task_id = simulator.ledger[0].task_id
        assert ran.error["task_id"] == task_id
        resume = f"veo-async wait {task_id} -o 'my boat.mp4' --time-scale 200"
        assert ran.error["resume"] == resume
        assert resume in ran.err.splitlines()[-1]


@pytest.mark.parametrize(
    ("code", "settings"),
    [
        (3, {"faults": [f"generate:status=401:text=no such key {KEY}"]}),
        (5, {"faults": ["generate:lose_answer"]}),
        (1, {"faults": ["generate:status=422"]}),
    ],
)
def test_a_traceback_hides_the_key(
    veo: Any, serve: Serve, code: int, settings: dict[str, Any]
) -> None:
    ran = veo.at(serve(**settings))("generate", "boat", "-vv")
    assert ran.code == code
    assert "Traceback" in ran.err
    assert KEY not in ran.out + ran.err


@pytest.mark.parametrize(
    "words",
    [
        ["generate", "boat", f"--api-key={KEY}", "--seed", "1"],
        ["generate", "boat", "--api-key", KEY, "--no-such-option"],
        ["generate", "boat", f"--api-key{KEY}"],
        ["generate", "boat", "--api-key", KEY, "--json"],
        ["status", "veo_task_1", "--api-key", KEY, "-v"],
    ],
)
def test_a_key_on_the_command_line_is_not_repeated(
    veo: Any, serve: Serve, words: list[str]
) -> None:
    simulator = serve(api_key="another-key", faults=[f"*:status=401:text=no such key {KEY}"])
    veo.environment["KIE_BASE_URL"] = simulator.base_url
    ran = veo(*words)
    assert ran.code in {2, 3}
    assert KEY not in ran.out + ran.err


def test_the_command_that_goes_on_has_the_options_but_not_the_key(veo: Any, serve: Serve) -> None:
    simulator = serve(time_scale=0)
    ran = veo(
        "generate", "boat", "--api-key", KEY, "--base-url", simulator.base_url,
        "--timeout", "0.1", "--no-overwrite", "--upgrade", "1080p", "--dialect", "spec", "--json",
    )  # fmt: skip
    assert ran.code == 6
    task_id = simulator.ledger[0].task_id
    assert ran.error["resume"] == (
        f"veo-async upgrade {task_id} --to 1080p --no-overwrite --dialect spec"
        f" --base-url {simulator.base_url}"
        " --api-key YOUR_KEY"
    )
    assert KEY not in ran.out + ran.err


def test_a_video_without_its_upgrade_is_not_lost(veo: Any, serve: Serve) -> None:
    simulator = serve(faults=["1080p:status=402"])
    ran = veo.at(simulator)("generate", "boat", "--upgrade", "1080p", "--time-scale", 200)
    assert ran.code == 4
    task_id = simulator.ledger[0].task_id
    assert f"veo-async upgrade {task_id} --to 1080p" in ran.err
    assert f"veo-async wait {task_id}" in ran.err


def test_the_table_stands_in_the_help(veo: Any) -> None:
    said = veo("--help").out
    assert all(f"{code.value}  {text}" in said for code, text in MEANINGS.items())


@pytest.mark.parametrize("name", errors.__all__)
def test_every_error_has_a_code(name: str) -> None:
    error = getattr(errors, name)()
    assert code_of(error, is_fetching=False) in {*Exit} - {Exit.DONE}
    assert code_of(error, is_fetching=True) is not Exit.FAILED
