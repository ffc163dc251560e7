"""Commands about a task that exists."""

import json
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

from veo_async.simulator import Simulator

Serve = Callable[..., Simulator]


def submitted(simulator: Simulator) -> str:
    """Make a task as another program would, and return its id."""
    request = urllib.request.Request(
        f"{simulator.base_url}/api/v1/veo/generate",
        data=json.dumps({"prompt": "A boat"}).encode(),
        headers={
            "Authorization": f"Bearer {simulator.api_key}",
            "Content-Type": "application/json",
        },
    )
    with urllib.request.urlopen(request) as answer:
        return str(json.load(answer)["data"]["taskId"])


@pytest.fixture
def made(veo: Any, serve: Serve) -> tuple[Any, Simulator, str]:
    """A program, its simulator, and a task that is finished there."""
    simulator = serve(time_scale=0)
    task_id = submitted(simulator)
    simulator.advance(100)
    return veo.at(simulator), simulator, task_id


def test_status_is_told(made: tuple[Any, Simulator, str]) -> None:
    veo, _, task_id = made
    ran = veo("status", task_id)
    assert ran.code == 0
    told = dict(line.split(": ", 1) for line in ran.out.splitlines())
    assert (told["task_id"], told["status"]) == (task_id, "success")
    assert told["url"].startswith("http://")
    assert ran.err == ""
    said = veo("status", task_id, "--json").json
    assert (said["task_id"], said["status"], said["url"] is not None) == (task_id, "success", True)


def test_wait_saves_the_video(made: tuple[Any, Simulator, str]) -> None:
    veo, simulator, task_id = made
    ran = veo("wait", task_id)
    assert (ran.code, ran.out) == (0, f"{task_id}.mp4\n")
    assert (veo.folder / f"{task_id}.mp4").read_bytes()[4:8] == b"ftyp"
    assert simulator.ledger.spent == 70


def test_download_saves_the_video(made: tuple[Any, Simulator, str]) -> None:
    veo, _, task_id = made
    ran = veo("download", task_id, "-o", "boat.mp4")
    assert (ran.code, ran.out) == (0, "boat.mp4\n")
    again = veo("download", task_id, "-o", "boat.mp4", "--no-overwrite")
    assert again.code == 2
    assert "--no-overwrite" in again.err


def test_download_does_not_wait(veo: Any, serve: Serve) -> None:
    simulator = serve(time_scale=0)
    task_id = submitted(simulator)
    ran = veo.at(simulator)("download", task_id, "-o", "boat.mp4", "--json")
    assert ran.code == 6
    assert ran.error["resume"] == f"veo-async wait {task_id} -o boat.mp4"
    assert ran.error["resume"] in ran.err


def test_upgrade_saves_the_larger_video(veo: Any, serve: Serve) -> None:
    simulator = serve()
    task_id = submitted(simulator)
    ran = veo.at(simulator)(
        "upgrade", task_id, "--to", "1080p", "-o", "hd/", "--time-scale", 200, "--json"
    )
    assert ran.code == 0, ran.err
    assert (ran.json["resolution"], ran.json["path"]) == ("1080p", f"hd/{task_id}.mp4")
    assert [charge.kind for charge in simulator.ledger] == ["generate", "1080p"]


@pytest.mark.parametrize("command", ["status", "wait", "download", "upgrade"])
def test_a_simulator_of_its_own_would_know_no_task(veo: Any, command: str) -> None:
    ran = veo(command, "veo_task_1", "--simulate")
    assert ran.code == 2
    assert "`veo-async simulate`" in ran.err


def test_an_unknown_task_is_told_at_once(veo: Any, serve: Serve) -> None:
    ran = veo.at(serve())("status", "veo_task_unknown", "--json")
    assert ran.code == 1
    assert ran.error["type"] == "NotFoundError"
    assert (ran.error["task_id"], ran.error["code"]) == ("veo_task_unknown", 404)
