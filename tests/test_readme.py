"""What the README shows is what works: its examples are run as they stand."""

import base64
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import veo_async
from veo_async import Model, PollPolicy, Resolution, VeoError, VideoRequest
from veo_async.cli.pricing import price_list
from veo_async.prices import LIVE, SPEC
from veo_async.protocol.timetable import ENOUGH
from veo_async.simulator import Simulator

# 1 x 1 pixels.
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
README = Path(__file__).parents[1].joinpath("README.md").read_text(encoding="utf-8")


def example(name: str) -> str:
    match = re.search(
        rf"<!-- example: {name} -->\n```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE
    )
    assert match, f"no example {name}"
    return match[1]


def command(name: str) -> str:
    match = re.search(rf"<!-- commands?: {name} -->\n```sh\n(.*?)\n```", README, re.DOTALL)
    assert match, f"no command {name}"
    return match[1]


def hurried(name: str) -> str:
    """Return an example that asks at once; otherwise the first time is after 20 s."""
    code = example(name).replace("VeoClient()", "VeoClient(poll=PollPolicy(interval=0.1))")
    return code.replace("import VeoClient", "import PollPolicy, VeoClient")


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


@pytest.fixture
def live(monkeypatch):
    with Simulator(
        dialect="live",
        time_scale=50,
        clip=(64, 36),
        video_bytes=0,
        generation_seconds=20,
        upgrade_4k_seconds=20,
    ) as sim:
        monkeypatch.setenv("KIE_API_KEY", sim.api_key)
        monkeypatch.setenv("KIE_BASE_URL", sim.base_url)
        yield sim


def test_films_and_images(live, tmp_path):
    film, images = tmp_path / "film", tmp_path / "images"
    film.mkdir()
    images.mkdir()
    for name in ("a.png", "b.png"):
        images.joinpath(name).write_bytes(PNG)
    filming, drawing = started(hurried("film"), film), started(hurried("images"), images)
    _, err = filming.communicate(timeout=55)
    assert filming.returncode == 0, err
    assert {path.name for path in film.joinpath("videos").iterdir()} == {"film.mp4", "longer.mp4"}
    out, err = drawing.communicate(timeout=55)
    assert drawing.returncode == 0, err
    assert out.endswith(" credits\n")
    assert images.joinpath("videos/boat-4k.mp4").read_bytes()[4:8] == b"ftyp"
    kinds = sorted(charge.kind for charge in live.ledger)
    assert kinds == ["4k", *["extend"] * 3, *["generate"] * 3]
    assert live.ledger.requests["upload"] == 3


@pytest.mark.parametrize("name", ["film", "live"])
def test_the_commands_work(live, tmp_path, name):
    for image in ("a.png", "b.png"):
        tmp_path.joinpath(image).write_bytes(PNG)
    for line in command(name).splitlines():
        program, *words = shlex.split(line)
        assert program == "veo-async"
        if words[0] in {"generate", "extend", "upgrade"}:
            words += ["--time-scale", "50"]
        newest = live.ledger[-1].task_id if live.ledger else ""
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "veo_async.cli",
                *(newest if w == "TASK_ID" else w for w in words),
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, f"{line}: {done.stderr}"
        assert done.stdout
        if "-o" in words:
            assert tmp_path.joinpath(words[words.index("-o") + 1]).exists()


def test_the_prices_are_those_of_the_lists():
    lines = (line.strip("|").split("|") for line in README.splitlines())
    rows = {cells[0].strip(" `"): cells[1:] for cells in lines if len(cells) == 6}
    for model in Model:
        spec, *live = (int(cell) if cell.strip() else None for cell in rows[model])
        assert spec == SPEC.videos.get(model, {}).get(Resolution.HD_720P)
        assert live == [*(LIVE.videos[model][one] for one in Resolution), LIVE.extensions[model]]


def test_a_price_list_of_ones_own(tmp_path):
    match = re.search(r"```json\n(.*?)```", README, re.DOTALL)
    assert match
    path = tmp_path / "prices.json"
    path.write_text(match[1], encoding="utf-8")
    assert price_list(str(path)).of(VideoRequest("a")) == 55


def test_the_polls_are_those_of_the_policy():
    told = " ".join(README.split())
    usual = PollPolicy()
    assert (
        f"asked for {usual.first_after:g} s after its submit, then every {usual.interval:g} s,"
        f" and after the client has seen {ENOUGH} tasks of its kind"
    ) in told
    assert "poll=PollPolicy.adaptive()" in told


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
