"""What the README shows is what works: its examples are run as they stand."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import veo_async
from veo_async import VeoError
from veo_async.simulator import Simulator

README = Path(__file__).parents[1].joinpath("README.md").read_text(encoding="utf-8")


def example(name: str) -> str:
    match = re.search(
        rf"<!-- example: {name} -->\n```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE
    )
    assert match, f"no example {name}"
    return match[1]


def command(name: str) -> str:
    match = re.search(rf"<!-- command: {name} -->\n```sh\n(.*?)\n```", README, re.DOTALL)
    assert match, f"no command {name}"
    return match[1]


@pytest.fixture
def simulator(monkeypatch):
    with Simulator(time_scale=50, clip=(64, 36), video_bytes=0) as sim:
        monkeypatch.setenv("KIE_API_KEY", sim.api_key)
        monkeypatch.setenv("KIE_BASE_URL", sim.base_url)
        yield sim


def started(code: str, folder: Path, *, name: str = "program.py") -> "subprocess.Popen[str]":
    folder.joinpath(name).write_text(code, encoding="utf-8")
    return subprocess.Popen(
        [sys.executable, "-X", "dev", "-W", "error", name],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )


def test_the_application_and_the_script(simulator, tmp_path):
    # Both at once, since a client asks for a task after 20 s at the earliest.
    one, many = tmp_path / "one", tmp_path / "many"
    one.mkdir()
    many.mkdir()
    many.joinpath("prompts.txt").write_text("a fox\n一只狐狸\nfails: [policy]\n", encoding="utf-8")
    application = started(example("await"), one)
    script = started(example("script"), many)
    steps = started(example("steps"), one, name="steps.py")
    out, err = application.communicate(timeout=55)
    assert application.returncode == 0, err
    assert out.startswith("videos/boat.mp4 ")
    assert one.joinpath("videos/boat.mp4").read_bytes()[4:8] == b"ftyp"
    out, err = script.communicate(timeout=55)
    assert script.returncode == 0, err
    assert "1 downloaded videos/0001-a-fox.mp4" in out
    assert "2 downloaded videos/0002.mp4" in out
    assert "3 failed task " in out
    assert "2 downloaded, 1 failed; 140 credits spent" in out
    out, err = steps.communicate(timeout=55)
    assert steps.returncode == 0, err
    assert "DownloadFinished(" in out
    assert "bytes_downloaded=" in out
    hd = next(charge.task_id for charge in simulator.ledger if charge.kind == "1080p")
    assert one.joinpath(f"videos/{hd}.mp4").exists()
    assert len(simulator.ledger) == 6


def test_a_job_that_is_delivered_again(simulator, tmp_path):
    program = tmp_path / "job.py"
    quick = "VeoClient(poll=PollPolicy(interval=0.1), limiter="
    code = example("job").replace("VeoClient(limiter=", quick)
    program.write_text(code.replace("import FileLimiter,", "import FileLimiter, PollPolicy,"))
    told = [
        subprocess.run(
            [sys.executable, "-X", "dev", "-W", "error", str(program), "order-17", "A paper boat"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        for _ in range(2)
    ]
    (charge,) = simulator.ledger
    assert told == [f"{charge.task_id} videos/order-17.mp4\n"] * 2
    assert tmp_path.joinpath("videos/order-17.mp4").read_bytes()[4:8] == b"ftyp"


def test_the_pytest_fixture(tmp_path):
    tmp_path.joinpath("test_title.py").write_text(example("test"), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


@pytest.mark.parametrize("name", ["video", "tests"])
def test_a_command_is_one_line_to_paste(name):
    line = command(name)
    assert "\n" not in line
    words = shlex.split(line)
    assert words[:4] == ["python3", "-m", "venv", ".venv"]


def test_the_errors_of_the_table_exist():
    table = README.partition("## Errors")[2].partition("## ")[0]
    names = set(re.findall(r"`(\w+Error)`", table)) - {"ValueError"}
    assert len(names) > 15
    for name in names:
        assert issubclass(getattr(veo_async, name), VeoError)
