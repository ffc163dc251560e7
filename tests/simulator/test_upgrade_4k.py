"""The 4K call, over real sockets (live document 2.6)."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.simulator.asking import UPGRADE_4K, ask, create, data, fetched, made, record, refused
from veo_async.simulator import Simulator

PROCESSING = "4k is processing. It should be ready in 5-10 minutes. Please check back shortly."
UNAVAILABLE = "The 4K version of this video is unavailable. Please try a different video."


@pytest.fixture
def live() -> Iterator[Simulator]:
    with Simulator(
        dialect="live",
        time_scale=0,
        generation_seconds=60,
        upgrade_4k_seconds=300,
        clip=(64, 36),
        video_bytes=0,
    ) as sim:
        yield sim


def test_the_three_answers(live: Simulator) -> None:
    task_id = made(live)
    empty = {"taskId": task_id, "resultUrls": None, "imageUrls": None}

    def asked() -> tuple[int, Any]:
        return ask(live, UPGRADE_4K, {"taskId": task_id, "index": 0})

    assert asked() == (200, {"code": 200, "msg": "success", "data": empty})
    assert asked() == (200, {"code": 422, "msg": PROCESSING, "data": empty})
    live.advance(299)
    assert asked()[1]["msg"] == PROCESSING
    live.advance(1)
    status, ready = asked()
    found = ready.pop("data")
    assert (status, ready) == (
        200,
        {"code": 422, "msg": "The video has been generated successfully"},
    )
    assert found["taskId"] == task_id
    assert [len(found["resultUrls"]), len(found["imageUrls"])] == [1, 1]
    assert [(charge.kind, charge.credits) for charge in live.ledger] == [
        ("generate", 60),
        ("4k", 120),
    ]
    assert live.ledger.requests["4k"] == 4
    assert [post.kind for post in live.ledger.posts] == ["generate"]
    assert record(live, task_id)["response"]["resolution"] == "720p"


def test_the_files_are_a_film_and_a_picture(
    tool: Callable[[str, str], str], tmp_path: Path
) -> None:
    with Simulator(
        dialect="live", time_scale=0, generation_seconds=60, upgrade_4k_seconds=1, video_bytes=0
    ) as sim:
        task_id = made(sim, aspect_ratio="9:16", duration=4)
        ask(sim, UPGRADE_4K, {"taskId": task_id})
        sim.advance(1)
        found = ask(sim, UPGRADE_4K, {"taskId": task_id})[1]["data"]
        for name, wanted in (("resultUrls", "video/mp4"), ("imageUrls", "image/jpeg")):
            kind, body = fetched(found[name][0])
            assert kind == wanted
            (tmp_path / name).write_bytes(body)
            words = ["-v", "error", "-show_entries", "stream=width,height", "-of", "csv=p=0"]
            ran = subprocess.run(
                [tool("ffprobe", "ffmpeg"), *words, "-select_streams", "v", tmp_path / name],
                check=True,
                capture_output=True,
                text=True,
            )
            assert (ran.stdout.strip(), ran.stderr) == ("2160,3840", "")


@pytest.mark.parametrize("seed", range(5))
def test_it_takes_five_to_ten_minutes(seed: int) -> None:
    with Simulator(dialect="live", time_scale=0, generation_seconds=60, seed=seed) as sim:
        task_id = made(sim)
        for seconds, words in ((0, "success"), (299, PROCESSING), (301, None)):
            sim.advance(seconds)
            msg = ask(sim, UPGRADE_4K, {"taskId": task_id})[1]["msg"]
            assert msg == (words or "The video has been generated successfully")


def test_some_videos_have_no_4k_version_and_pay_nothing_for_it(live: Simulator) -> None:
    task_id = made(live, prompt="a boat [no4k]")
    assert ask(live, UPGRADE_4K, {"taskId": task_id})[1]["code"] == 200
    assert ask(live, UPGRADE_4K, {"taskId": task_id})[1]["msg"] == PROCESSING
    live.advance(300)
    for _ in range(2):
        assert refused(ask(live, UPGRADE_4K, {"taskId": task_id})) == (500, UNAVAILABLE)
    assert [charge.refunded for charge in live.ledger] == [False, True]
    assert live.ledger.spent == 60


def test_what_cannot_be_converted(live: Simulator) -> None:
    running = create(live)
    assert refused(ask(live, UPGRADE_4K, {"taskId": running})) == (
        422,
        "record status is not success",
    )
    live.advance(60)
    for fields, code, words in (
        ({"taskId": "0" * 32}, 422, "Record does not exist"),
        ({}, 422, "taskId is required"),
        ({"taskId": running, "index": 1}, 422, "index must be 0: there is one video"),
        ({"taskId": running, "index": "0"}, 422, "index must be an integer"),
        ({"taskId": running, "callBackUrl": 1}, 422, "callBackUrl must be a string"),
    ):
        assert refused(ask(live, UPGRADE_4K, fields)) == (code, words)
    live.advance(14 * 24 * 3600)
    assert refused(ask(live, UPGRADE_4K, {"taskId": running})) == (
        422,
        "Temporarily supports records within 14 days.",
    )
    assert len(live.ledger) == 1


def test_it_can_be_too_dear() -> None:
    with Simulator(dialect="live", time_scale=0, generation_seconds=60, credits=179) as sim:
        assert refused(ask(sim, UPGRADE_4K, {"taskId": made(sim)}))[0] == 402


def test_it_is_a_post(live: Simulator) -> None:
    assert ask(live, f"{UPGRADE_4K}?taskId=x")[0] == 405


def test_a_conversion_is_no_running_task() -> None:
    with Simulator(dialect="live", time_scale=0, generation_seconds=60, max_tasks=1) as sim:
        task_id = made(sim)
        data(ask(sim, UPGRADE_4K, {"taskId": task_id}))
        assert sim.ledger.running == 0
        create(sim)


def test_its_answer_can_get_lost_and_is_paid_once(live: Simulator) -> None:
    task_id = made(live)
    live.add_fault("4k:lose_answer:times=1")
    with pytest.raises(OSError):  # noqa: PT011  urllib wraps it or does not
        ask(live, UPGRADE_4K, {"taskId": task_id})
    assert ask(live, UPGRADE_4K, {"taskId": task_id})[1]["msg"] == PROCESSING
    assert live.ledger.spent == 180
