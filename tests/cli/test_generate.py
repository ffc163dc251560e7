"""From a prompt to a file, with the real program."""

import hashlib
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from veo_async.simulator import Simulator

Serve = Callable[..., Simulator]


@pytest.fixture(scope="module")
def nowhere() -> Iterator[Simulator]:
    """A simulator that nobody should ask for anything."""
    with Simulator() as simulator:
        yield simulator


def is_mp4(path: Path) -> bool:
    return path.read_bytes()[4:8] == b"ftyp"


def test_a_clip_without_key_or_network(veo: Any) -> None:
    ran = veo("generate", "A paper boat", "--simulate", "--time-scale", 300)
    assert ran.code == 0, ran.err
    (path,) = ran.out.splitlines()
    assert path.startswith("veo_task_")
    assert is_mp4(veo.folder / path)
    assert "nothing is sent or paid" in ran.err
    assert "Generated" in ran.err


def test_json_says_everything_a_program_needs(veo: Any, serve: Serve) -> None:
    simulator = serve()
    ran = veo.at(simulator)(
        "generate", "A boat", "-o", "new/boat.mp4", "--seed", 12345, "--time-scale", 200, "--json"
    )
    assert ran.code == 0, ran.err
    said = ran.json
    content = (veo.folder / "new/boat.mp4").read_bytes()
    assert said["path"] == "new/boat.mp4"
    assert said["size"] == len(content)
    assert said["sha256"] == hashlib.sha256(content).hexdigest()
    assert said["task_id"] == simulator.ledger[0].task_id
    assert said["url"].startswith("http://")
    assert (said["seed"], said["resolution"], said["duration"]) == (12345, "720p", 10.0)
    assert said["credits_at_most"] == 70
    assert said["seconds"] > 0
    assert datetime.fromisoformat(said["created_at"]) < datetime.fromisoformat(said["completed_at"])


def test_every_field_reaches_the_service(veo: Any, serve: Serve) -> None:
    simulator = serve(dialect="live")
    program = veo.at(simulator)
    ran = program(
        "generate", "A boat", "--model", "veo3_lite", "--generation-type", "REFERENCE_2_VIDEO",
        "--image-url", "https://a.example/1.png", "--image-url", "https://a.example/2.png",
        "--aspect-ratio", "auto", "--seed", 54321, "--callback-url", "http://127.0.0.1:9/done",
        "--no-translation", "--watermark", "mine", "--resolution", "1080p", "--duration", 8,
        "--time-scale", 200, "--no-download", "--json",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert (ran.json["resolution"], ran.json["path"]) == ("1080p", None)
    (charge,) = simulator.ledger
    assert (charge.model, charge.prompt) == ("veo3_lite", "A boat")
    assert list(veo.folder.iterdir()) == []
    assert simulator.ledger.deliveries[0].url == "http://127.0.0.1:9/done"


def test_the_prompt_comes_from_stdin(veo: Any, serve: Serve) -> None:
    simulator = serve()
    ran = veo.at(simulator)(
        "generate",
        "-",
        "--time-scale",
        200,
        "--no-download",
        stdin="  Ein Schiffchen ⛵\n".encode(),
    )
    assert ran.code == 0, ran.err
    assert ran.out.startswith("http://")
    assert simulator.ledger.posts[0].prompt == "Ein Schiffchen ⛵"


def test_an_upgrade_is_saved_in_place_of_the_video(veo: Any, serve: Serve) -> None:
    simulator = serve()
    ran = veo.at(simulator)(
        "generate", "A boat", "--upgrade", "1080p", "-o", "hd/", "--time-scale", 200, "--json"
    )
    assert ran.code == 0, ran.err
    assert ran.json["resolution"] == "1080p"
    assert ran.json["credits_at_most"] == 90
    assert [charge.kind for charge in simulator.ledger] == ["generate", "1080p"]
    assert is_mp4(veo.folder / "hd" / f"{ran.json['task_id']}.mp4")


def test_a_file_is_replaced_unless_that_is_refused(veo: Any, serve: Serve) -> None:
    simulator = serve()
    (veo.folder / "boat.mp4").write_text("old")
    command = ("generate", "A boat", "-o", "boat.mp4", "--time-scale", 200)
    refused = veo.at(simulator)(*command, "--no-overwrite")
    assert refused.code == 2
    assert "--output boat.mp4" in refused.err
    assert simulator.ledger.posts == ()
    assert (veo.folder / "boat.mp4").read_text() == "old"
    assert veo.at(simulator)(*command).code == 0
    assert is_mp4(veo.folder / "boat.mp4")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["", "--seed", "12345"], "PROMPT"),
        (["x" * 1001], "PROMPT"),
        (["p", "--seed", "9999"], "--seed"),
        (["p", "--seed", "abc"], "--seed"),
        (["p", "--model", "veo9"], "--model"),
        (["p", "--aspect-ratio", "4:3"], "--aspect-ratio"),
        (["p", "--image", "frame.gif"], "--image is 'frame.gif'"),
        (["p", "--image-url", "frame.png"], "--image holds 'frame.png', which is not there"),
        (["p", "--image", "file.png"], "--image holds 'file.png', which is no JPEG"),
        (["p", "--image", "."], "--image is '.'"),
        (["p", "--extend-to", "0"], "--extend-to"),
        (["p", "--extend-to", "3601"], "'--extend-to': 3601.0 is not in the range 0<x<=3600"),
        (["p", "--extend-to", "9", "--then", "q"], "--extend-to and --then exclude each other"),
        (["p", "--then", " "], "--then is empty"),
        (["p", "--then", "q", "--resolution", "4k"], "--then does not go with resolution 4k"),
        (["p", "--then", "q", "--no-wait"], "--no-wait is for a single task"),
        (["p", "--upgrade", "1080p", "--no-wait"], "--no-wait is for a single task"),
        (["p", "--upgrade", "8k"], "--upgrade"),
        (["p", "--dialect", "latin"], "--dialect"),
        (["p", "--upload-url", "ftp://host"], "upload"),
        (["p", "--generation-type", "REFERENCE_2_VIDEO"], "--generation-type"),
        (["p", "--callback-url", "example.com"], "--callback-url"),
        (["p", "--duration", "7"], "--duration"),
        (["p", "--watermark", " "], "--watermark"),
        (["p", "--timeout", "0"], "--timeout"),
        (["p", "-o", "file.txt/boat.mp4"], "--output"),
        (["p", "-o", "file.txt/"], "--output"),
        (["p", "-o", "x" * 300], "--output"),
        (["p", "--base-url", "ftp://host"], "base URL"),
        (["a", "paper", "boat"], "in quotes"),
        (["p", "--colour", "red"], "--colour"),
    ],
)
def test_what_is_wrong_is_named_before_anything_is_paid(
    veo: Any, nowhere: Simulator, words: list[str], named: str
) -> None:
    (veo.folder / "file.txt").write_text("a file where a folder is wanted")
    (veo.folder / "file.png").write_text("a text where an image is wanted")
    ran = veo.at(nowhere)("generate", *words)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("Error: ")
    assert named in ran.err
    assert "Traceback" not in ran.err
    assert nowhere.ledger.posts == ()


@pytest.mark.parametrize(
    ("words", "kind", "field"),
    [
        (["p", "--image", "frame.gif"], "InvalidRequestError", "image_urls"),
        (["p", "-o", "/dev/null/boat.mp4"], "InvalidRequestError", "output"),
        (["p", "--seed", "abc"], "UsageError", "seed"),
    ],
)
def test_what_is_wrong_is_json_for_programs(
    veo: Any, words: list[str], kind: str, field: str
) -> None:
    ran = veo("generate", *words, "--json")
    assert ran.code == 2
    assert (ran.error["type"], ran.error["field"]) == (kind, field)
    assert ran.error["message"] in ran.err


def test_no_key_is_explained(veo: Any) -> None:
    ran = veo("generate", "A boat")
    assert ran.code == 2
    assert ran.err.count("\n") == 1
    assert "KIE_API_KEY" in ran.err
    assert "--simulate" in ran.err
    assert "VeoClient" not in ran.err


def test_quiet_says_nothing_but_the_result(veo: Any, serve: Serve) -> None:
    ran = veo.at(serve())("generate", "A boat", "-q", "-o", "b.mp4", "--time-scale", 200)
    assert (ran.code, ran.out, ran.err) == (0, "b.mp4\n", "")


def test_plain_progress_has_no_control_characters(veo: Any, serve: Serve) -> None:
    simulator = serve(faults=["record-info:status=503:times=2:text=away\x1b[2J"])
    program = veo.at(simulator)
    program.environment["FORCE_COLOR"] = "1"
    ran = program("generate", "A boat", "-o", "b.mp4", "--time-scale", 200)
    assert ran.code == 0
    assert all(one.isprintable() or one == "\n" for one in ran.err)
    wanted = ["Submitting", "Submitted", "Generating", "503", "Generated", "Downloading"]
    places = [ran.err.index(words) for words in wanted]
    assert places == sorted(places)


def test_verbose_logs_with_dates(veo: Any, serve: Serve) -> None:
    ran = veo.at(serve())("generate", "A boat", "-v", "-o", "b.mp4", "--time-scale", 200)
    logged = [line for line in ran.err.splitlines() if " INFO " in line]
    assert logged
    assert all(datetime.fromisoformat(line.split()[0]).tzinfo for line in logged)


def test_a_reader_that_leaves_is_no_error(veo: Any, serve: Serve) -> None:
    program = veo.at(serve())
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        program.command("generate", "A boat", "-o", "b.mp4", "--time-scale", "200", "--json"),
        cwd=veo.folder, env=program.environment, stdout=writing, stderr=subprocess.PIPE,
        check=False,
    )  # fmt: skip
    os.close(writing)
    assert done.returncode == 0
    assert b"Broken" not in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_full_disk_behind_stdout_is_told(veo: Any, serve: Serve) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("needs /dev/full")
    program = veo.at(serve())
    with full.open("w") as out:
        done = subprocess.run(
            program.command("generate", "A boat", "--time-scale", "200", "-o", "b.mp4"),
            cwd=veo.folder, env=program.environment, stdout=out, stderr=subprocess.PIPE,
            check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert b"b.mp4" in done.stderr.splitlines()[-1]
    assert b"Traceback" not in done.stderr


def test_the_result_is_one_line_of_json_also_for_odd_names(veo: Any, serve: Serve) -> None:
    name = b"b\xff\n\xc3\xa9.mp4".decode("utf-8", "surrogateescape")
    ran = veo.at(serve())("generate", "A boat", "--time-scale", 200, "-o", name, "--json")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["path"] == name
    assert is_mp4(veo.folder / name)
