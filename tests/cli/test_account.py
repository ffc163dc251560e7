"""The commands about the account and the service, and price lists of one's own."""

import base64
import json
import os
import pty
import subprocess
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from veo_async.cli.pricing import listed, price_list
from veo_async.errors import ConfigurationError
from veo_async.models import Model, Resolution
from veo_async.prices import DEARER, LIVE, PRICES
from veo_async.request import VideoRequest
from veo_async.simulator import Simulator

Serve = Callable[..., Simulator]
SPEED = ("--time-scale", "200")
# 1 x 1 pixels.
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def test_credits_are_a_number(veo: Any, serve: Serve) -> None:
    program = veo.at(serve(dialect="live", credits=5916.25))
    ran = program("credits")
    assert (ran.code, ran.out, ran.err) == (0, "5916.25\n", "")
    assert program("credits", "--json").json["credits"] == 5916.25
    assert veo("credits", "--simulate").out == "10000\n"


def test_a_key_that_is_refused_has_its_code(veo: Any, serve: Serve) -> None:
    ran = veo("credits", "--base-url", serve().base_url, "--api-key", "wrong-key")
    assert (ran.code, ran.out) == (3, "")


def test_a_file_is_uploaded(veo: Any, serve: Serve) -> None:
    program = veo.at(serve())
    (veo.folder / "frame.png").write_bytes(PNG)
    ran = program("upload", "frame.png")
    assert ran.code == 0, ran.err
    (url,) = ran.out.splitlines()
    assert url.endswith(".png")
    with urllib.request.urlopen(url) as answer:
        assert answer.read() == PNG
    piped = program("upload", "-", "--name", "mine.png", "--json", stdin=PNG)
    assert piped.json["url"].endswith("/mine.png")
    fetched = program("upload", url)
    assert fetched.code == 0, fetched.err
    assert fetched.out.strip() != url


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["gone.png"], "FILE holds 'gone.png', which is not there; check the path"),
        (["."], "FILE holds '.', which is a folder"),
        (["-"], "FILE holds '<stdin>', which has nothing left to read"),
        (["frame.png", "--name", "a/b.png"], "--name"),
        (["frame.png", "--upload-url", "nowhere"], "upload"),
    ],
)
def test_what_cannot_be_uploaded_is_named(
    veo: Any, serve: Serve, words: list[str], said: str
) -> None:
    simulator = serve()
    (veo.folder / "frame.png").write_bytes(PNG)
    ran = veo.at(simulator)("upload", *words)
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err
    assert not simulator.ledger.requests["upload"]


def test_the_upload_host_may_be_another_one(veo: Any, serve: Serve) -> None:
    api, files = serve(), serve()
    (veo.folder / "frame.png").write_bytes(PNG)
    ran = veo.at(api)(
        "generate", "A boat", "--image", "frame.png", "--upload-url", files.base_url, "--no-wait",
        *SPEED,
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert (files.ledger.requests["upload"], api.ledger.requests["upload"]) == (1, 0)
    assert "Uploading (frame.png)" in ran.err


def test_images_of_rows_are_files(veo: Any, serve: Serve) -> None:
    simulator = serve(dialect="live")
    program = veo.at(simulator)
    for name in ("first frame.png", "last.png"):
        (veo.folder / name).write_bytes(PNG)
    (veo.folder / "moving.png").write_bytes(b"GIF89a" + bytes(20))
    (veo.folder / "r.csv").write_text(
        "prompt,image_urls,key\n"
        "A boat,first frame.png last.png,one\nA car,moving.png,two\nA cat,gone.png,three\n",
        encoding="utf-8",
    )
    gif = "r.csv, line 3, column image_urls: image_urls holds 'moving.png', which is a GIF"
    gone = "r.csv, line 4, column image_urls: image_urls holds 'gone.png', which is not there"
    dry = program("batch", "r.csv", "--dry-run")
    assert (dry.code, dry.out.split(",")[0]) == (2, "1 videos")
    assert gif in dry.err
    assert gone in dry.err
    assert not simulator.ledger.requests["upload"]
    ran = program("batch", "r.csv", *SPEED)
    assert ran.code == 1
    assert "1 downloaded, 2 rejected" in ran.err
    assert simulator.ledger.requests["upload"] == 2
    # What is there needs its images no more, and what was missing may have come.
    (veo.folder / "first frame.png").unlink()
    (veo.folder / "gone.png").write_bytes(PNG)
    again = program("batch", "r.csv", *SPEED)
    assert "1 downloaded, 1 skipped, 1 rejected" in again.err
    assert "r.csv, line 3, column image_urls" in again.err
    assert len(simulator.ledger) == 2


def test_an_image_of_all_rows_is_refused_once(veo: Any, serve: Serve) -> None:
    (veo.folder / "p.txt").write_text("A boat\nA car\n", encoding="utf-8")
    ran = veo.at(serve())("batch", "p.txt", "--image", "gone.png")
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert ran.err.startswith("Error: --image holds 'gone.png'")


# --- models and prices


def test_models_needs_no_key(veo: Any) -> None:
    ran = veo("models")
    assert (ran.code, ran.err) == (0, "")
    for words in (*Model, *Resolution, "extension", "November 2025", "October 2026", "14 days"):
        assert words in ran.out
    told = veo("models", "--json").json
    assert told["prices"]["live"]["videos"]["veo3_fast"]["720p"] == 60
    assert told["prices"]["spec"]["upgrade_1080p"] == 20
    assert (told["images"]["REFERENCE_2_VIDEO"], told["durations"]) == ([1, 3], [4, 6, 8])


def test_a_list_that_models_shows_can_be_given_back(veo: Any, tmp_path: Path) -> None:
    (veo.folder / "p.txt").write_text("A boat\n", encoding="utf-8")
    known = veo("models", "--json").json["prices"]["live"]
    known["videos"]["veo3_fast"] = 55
    (veo.folder / "mine.json").write_text(json.dumps(known), encoding="utf-8")
    words = ("batch", "p.txt", "--then", "it sails", "--dry-run", "--prices", "mine.json")
    assert veo(*words, "--json").json == {
        "videos": 1,
        "tasks": 2,
        "invalid": 0,
        "credits_at_most": 115,
        "prices": "mine.json",
    }
    assert "by the price list mine.json" in veo(*words).out


def test_what_a_list_does_not_name_costs_what_the_dearer_one_says(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text('{"videos": {"veo3": {"4k": 1}, "veo3_lite": 2}, "upgrade_4k": 3}')
    prices = price_list(str(path))
    assert prices.of(VideoRequest("a", model="veo3", resolution="4k")) == 1
    assert prices.of(VideoRequest("a", model="veo3")) == DEARER.of(VideoRequest("a", model="veo3"))
    assert prices.of(VideoRequest("a", model="veo3_lite", resolution="4k")) == 2
    assert (prices.upgrade_4k, prices.upgrade_1080p) == (3, DEARER.upgrade_1080p)
    assert prices.extensions == DEARER.extensions
    path.write_text(json.dumps(listed(LIVE)))
    same = price_list(str(path))
    assert (same.videos, same.extensions, same.dated) == (LIVE.videos, LIVE.extensions, LIVE.dated)
    for name, known in PRICES.items():
        given = price_list(name)
        assert (given.name, given.videos, given.dated) == (name, known.videos, known.dated)


def test_the_extensions_of_a_film_are_free_by_no_list(veo: Any) -> None:
    (veo.folder / "p.txt").write_text("A boat\n", encoding="utf-8")
    for name in PRICES:
        request = VideoRequest("A boat", extend_to=["it sails"])
        steps = price_list(name).of_film(request) - price_list(name).of(request)
        assert steps == DEARER.extension(request.model)
    words = ("batch", "p.txt", "--then", "it sails", "--dry-run", "--prices", "spec")
    assert "at most 130 credits" in veo(*words).out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not JSON at character 1"),
        ("[]", "it is []; give an object"),
        ("{}", "no price is in it"),
        ('{"dated": "now"}', "no price is in it"),
        ('{"video": {}}', "'video' is unknown; known are videos"),
        ('{"videos": {"veo9": 1}}', "field videos: 'veo9' is unknown"),
        ('{"videos": {"veo3": {"8k": 1}}}', "field videos.veo3: '8k' is unknown"),
        ('{"videos": {"veo3": {"4k": 1.5}}}', "field videos.veo3.4k: it is 1.5; give whole"),
        ('{"videos": {"veo3": -1}}', "field videos.veo3: it is -1; give whole"),
        ('{"videos": {"veo3": true}}', "field videos.veo3: it is True; give whole"),
        ('{"videos": 60}', "field videos: it is 60; give an object"),
        ('{"extensions": {"veo3": "60"}}', "field extensions.veo3: it is '60'"),
        ('{"upgrade_1080p": null}', "field upgrade_1080p: it is None"),
        ('{"upgrade_4k": 1, "dated": 2026}', "field dated: it is 2026; give a text"),
        ("\xff", "not UTF-8 text"),
        (" " * 70_000, "longer than 65536 bytes"),
    ],
)
def test_a_list_that_is_none_is_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "p.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigurationError) as caught:
        price_list(str(path))
    assert str(caught.value).startswith(str(path))
    assert said in str(caught.value)
    assert ";" in str(caught.value)


def test_a_list_that_is_not_there_is_named(veo: Any, tmp_path: Path) -> None:
    (veo.folder / "p.txt").write_text("A boat\n", encoding="utf-8")
    ran = veo("batch", "p.txt", "--dry-run", "--prices", "cheap")
    assert ran.code == 2
    assert "cheap: neither a price list nor a file; choose dearer, spec, live" in ran.err
    with pytest.raises(ConfigurationError, match="Is a directory"):
        price_list(str(tmp_path))


def test_an_upload_from_a_terminal_is_refused(veo: Any) -> None:
    mine, theirs = pty.openpty()
    done = subprocess.run(
        veo.command("upload", "-"), cwd=veo.folder, env=veo.environment, stdin=theirs,
        capture_output=True, check=False,
    )  # fmt: skip
    os.close(theirs)
    os.close(mine)
    assert done.returncode == 2
    assert b"stdin is no file; pipe one" in done.stderr
