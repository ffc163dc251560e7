"""What the README shows is what works: its examples are run as they stand."""

import os
import re
import shlex
import subprocess
import sys
import urllib.request
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


def post(url: str, body: bytes) -> tuple[int, str]:
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return answer.status, answer.read().decode()


def test_the_web_backend(simulator, tmp_path, unused_tcp_port):
    code = example("web").replace("port=8080", f"port={unused_tcp_port}")
    server = started(code, tmp_path)
    site = f"http://127.0.0.1:{unused_tcp_port}"
    try:
        assert server.stdout is not None
        server.stdout.readline()
        status, body = post(f"{site}/videos", b'{"prompt": "A paper boat"}')
        assert status == 202
        task_id = simulator.ledger[0].task_id
        assert task_id in body
        with urllib.request.urlopen(f"{site}/videos/{task_id}", timeout=20) as answer:
            assert answer.read() == b'{"status": "generating"}'
        with urllib.request.urlopen(f"{site}/videos/{task_id}/file", timeout=50) as answer:
            video = answer.read()
            assert answer.headers["Content-Type"] == "video/mp4"
            assert int(answer.headers["Content-Length"]) == len(video)
        assert video[4:8] == b"ftyp"
    finally:
        server.terminate()
        _, err = server.communicate(timeout=20)
    assert server.returncode == 0, err


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
