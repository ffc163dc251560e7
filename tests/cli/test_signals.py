"""Ctrl-C at every moment: what is paid has a name afterwards."""

import signal
from collections.abc import Callable
from typing import Any

import pytest

from veo_async.simulator import Simulator

Serve = Callable[..., Simulator]
Until = Callable[[Callable[[], object]], None]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_during_generation(
    veo: Any, serve: Serve, number: signal.Signals, code: int
) -> None:
    simulator = serve(time_scale=0)
    running = veo.at(simulator).start("generate", "A boat", "-o", "b.mp4", "--json")
    running.says("Generating")
    running.send(number)
    ran = running.ended()
    assert ran.code == code
    (charge,) = simulator.ledger
    assert ran.error["task_id"] == charge.task_id
    assert f"veo-async wait {charge.task_id} -o b.mp4" in ran.err.splitlines()[-1]
    assert "Traceback" not in ran.err


def test_a_submit_on_the_wire_is_waited_for(veo: Any, serve: Serve, until: Until) -> None:
    simulator = serve(time_scale=0, faults=["generate:delay=1"])
    running = veo.at(simulator).start("generate", "A boat", "-o", "b.mp4")
    until(lambda: simulator.ledger.posts)
    running.send(signal.SIGINT)
    running.says("Stopping")
    simulator.advance(2)
    ran = running.ended()
    assert ran.code == 130
    (charge,) = simulator.ledger
    assert f"veo-async wait {charge.task_id} -o b.mp4" in ran.err


def test_a_second_ctrl_c_ends_at_once_and_says_what_is_unknown(
    veo: Any, serve: Serve, until: Until
) -> None:
    simulator = serve(time_scale=0, faults=["generate:delay=1"])
    running = veo.at(simulator).start("generate", "A boat", "--json")
    until(lambda: simulator.ledger.posts)
    running.send(signal.SIGINT)
    running.says("Stopping")
    running.send(signal.SIGINT)
    ran = running.ended()
    assert ran.code == 130
    assert "may exist and be charged" in ran.error["message"]
    assert "https://kie.ai/logs" in ran.err


def test_a_signal_before_anything_left_says_so(veo: Any, serve: Serve) -> None:
    simulator = serve(faults=["generate:status=429:retry_after=30"])
    running = veo.at(simulator).start("generate", "A boat")
    running.says("429")
    running.send(signal.SIGINT)
    ran = running.ended()
    assert ran.code == 130
    assert "nothing was paid" in ran.err
    assert len(simulator.ledger) == 0


def test_a_download_that_is_cut_off_can_be_gone_on_with(
    veo: Any, serve: Serve, until: Until
) -> None:
    simulator = serve(video_bytes=3_000_000, faults=["video:stall_at=2000000:times=1"])
    program = veo.at(simulator)
    running = program.start("generate", "A boat", "-o", "b.mp4", "--time-scale", "200")
    until(lambda: simulator.ledger.requests["video"])
    running.send(signal.SIGINT)
    ran = running.ended()
    assert ran.code == 130
    assert not (veo.folder / "b.mp4").exists()
    resumed = ran.err.splitlines()[-1].split()
    assert resumed[0] == "veo-async"
    assert program(*resumed[1:]).code == 0
    assert (veo.folder / "b.mp4").stat().st_size == 3_000_000
    assert simulator.ledger.spent == 70


def test_an_embedded_simulator_is_closed_cleanly(veo: Any) -> None:
    running = veo.start("generate", "A boat", "--simulate", "--time-scale", "1")
    running.says("Generating")
    running.send(signal.SIGINT)
    ran = running.ended()
    assert ran.code == 130
    assert ran.err.splitlines()[-1].endswith("nothing was paid.")
    assert "Traceback" not in ran.err


def test_a_background_job_stays_deaf_to_ctrl_c(veo: Any, serve: Serve) -> None:
    simulator = serve()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    running = veo.at(simulator).start("generate", "A boat", "-o", "b.mp4", "--time-scale", "200")
    signal.signal(signal.SIGINT, signal.default_int_handler)
    running.says("Generating")
    running.send(signal.SIGINT)
    assert running.ended().code == 0


def test_the_simulator_is_served_until_ctrl_c(veo: Any) -> None:
    running = veo.start("simulate", "--time-scale", "200", "--fault", "generate:status=429:times=1")
    exports = [running.says(f"export {name}=") for name in ("KIE_API_KEY", "KIE_BASE_URL")]
    running.says("for instance")
    told = dict(line.removeprefix("export ").strip().split("=", 1) for line in exports)
    veo.environment.update(told)
    made = veo("generate", "A boat", "--time-scale", "200", "--no-download")
    running.send(signal.SIGINT)
    ran = running.ended()
    assert (made.code, ran.code) == (0, 0)
    assert "Videos made: 1" in ran.err
    assert "429" in made.err


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--fault", "generate:explode"], "no fault 'explode'"),
        (["--port", "70000"], "--port"),
        (["--dialect", "latin"], "--dialect"),
        (["--host", "192.0.2.1"], "cannot serve"),
    ],
)
def test_a_simulator_that_makes_no_sense_is_refused(veo: Any, words: list[str], named: str) -> None:
    ran = veo("simulate", *words)
    assert ran.code in {1, 2}
    assert named in ran.err
    assert "Traceback" not in ran.err
