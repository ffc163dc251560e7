"""Extensions, over real sockets (live document 2.7)."""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.simulator.asking import (
    EXTEND,
    GENERATE,
    UPGRADE,
    UPGRADE_4K,
    ask,
    create,
    data,
    fetched,
    made,
    record,
    refused,
)
from veo_async.simulator import Simulator

MODELS = ("lite", "fast", "quality", "veo3_lite", "veo3_fast", "veo3")


@pytest.fixture
def live() -> Iterator[Simulator]:
    with Simulator(
        dialect="live",
        time_scale=0,
        generation_seconds=60,
        upgrade_seconds=60,
        upgrade_4k_seconds=60,
        clip=(64, 36),
        video_bytes=0,
    ) as sim:
        yield sim


def extend(sim: Simulator, base: str, **fields: object) -> Any:
    return ask(sim, EXTEND, {"taskId": base, "prompt": "the boat reaches the river", **fields})


def test_an_extension_has_a_segment_and_the_whole_film(
    live: Simulator, tool: Callable[[str, str], str], tmp_path: Path
) -> None:
    base = made(live, duration=4, aspect_ratio="9:16")
    first = made(live, EXTEND, taskId=base)
    second = made(live, EXTEND, taskId=first)
    for task_id, whole in ((first, 11.0), (second, 18.0)):
        response = record(live, task_id)["response"]
        for name, seconds in (("resultUrls", 8.0), ("fullResultUrls", whole)):
            (url,) = response[name]
            kind, body = fetched(url)
            file = tmp_path / "film.mp4"
            file.write_bytes(body)
            assert kind == "video/mp4"
            size, length = probed(tool("ffprobe", "ffmpeg"), file)
            assert size == (36, 64)
            assert length == pytest.approx(seconds, abs=0.05)
        assert response["resolution"] == "720p"


def probed(ffprobe: str, file: Path) -> tuple[tuple[int, int], float]:
    """Return the picture and the length that ffprobe sees in a film, whose frames it decodes."""
    words = ["-v", "error", "-count_frames", "-show_format", "-show_streams", "-of", "json"]
    ran = subprocess.run([ffprobe, *words, file], check=True, capture_output=True, text=True)
    assert ran.stderr == ""
    seen = json.loads(ran.stdout)
    (picture,) = (stream for stream in seen["streams"] if stream["codec_type"] == "video")
    return (picture["width"], picture["height"]), float(seen["format"]["duration"])


def test_its_record_looks_like_that_of_any_task(live: Simulator) -> None:
    base = made(live)
    task_id = create(live, EXTEND, taskId=base, model="lite", seeds=12345, watermark="mine")
    running = record(live, task_id)
    assert (running["successFlag"], running["response"]) == (0, None)
    live.advance(60)
    done = record(live, task_id)
    assert done["successFlag"] == 1
    assert done["response"]["seeds"] == [12345]
    assert json.loads(done["paramJson"]) == {
        "model": "lite",
        "prompt": "a boat",
        "seeds": 12345,
        "taskId": base,
        "waterMark": "mine",
    }


def test_the_same_request_gives_the_same_film_and_another_one_another(live: Simulator) -> None:
    base = made(live, seeds=10000)
    films = [
        fetched(record(live, made(live, EXTEND, taskId=base, **more))["response"][name][0])[1]
        for more in ({"seeds": 20000}, {"seeds": 20000}, {"seeds": 30000})
        for name in ("resultUrls", "fullResultUrls")
    ]
    assert films[0:2] == films[2:4]
    assert len(set(films)) == 4


@pytest.mark.parametrize(
    ("fields", "price"), [({}, 60), ({"model": "lite"}, 30), ({"model": "quality"}, 250)]
)
def test_an_extension_is_a_paid_create(live: Simulator, fields: dict[str, Any], price: int) -> None:
    base = made(live)
    task_id = data(extend(live, base, **fields))["taskId"]
    charge = live.ledger[-1]
    assert (charge.kind, charge.credits, charge.task_id) == ("extend", price, task_id)
    assert charge.model == fields.get("model", "fast")
    posts = live.ledger.posts
    assert [(post.kind, post.outcome) for post in posts] == [
        ("generate", "accepted"),
        ("extend", "accepted"),
    ]
    assert (posts[1].task_id, posts[1].prompt) == (task_id, "the boat reaches the river")
    assert live.ledger.requests["extend"] == 1


def test_extensions_count_among_the_ten_and_in_the_rate() -> None:
    with Simulator(
        dialect="live", time_scale=0, generation_seconds=60, max_tasks=2, create_rate=(3, 10.0)
    ) as sim:
        base = made(sim)
        answers = [extend(sim, base), extend(sim, base), extend(sim, base), extend(sim, base)]
        assert [body["code"] for _, body in answers] == [200, 200, 429, 429]
        assert answers[2][0] == 429
        assert sim.ledger.peak_running == 2
        assert ask(sim, GENERATE, {"prompt": "x"})[1]["code"] == 429
        sim.advance(60)
        assert sim.ledger.running == 0
        assert extend(sim, base)[1]["code"] == 200


def test_what_cannot_be_extended(live: Simulator) -> None:
    running = create(live)
    assert refused(extend(live, running)) == (422, "record status is not success")
    live.advance(60)
    failed = made(live, prompt="[fail]")
    assert refused(extend(live, failed)) == (422, "record status is not success")
    assert refused(extend(live, "0" * 32)) == (404, "The original task was not found")
    upgraded, large, fallback = (
        made(live),
        made(live, resolution="1080p"),
        made(live, enableFallback=True),
    )
    assert ask(live, f"{UPGRADE}?taskId={upgraded}")[1]["code"] == 400
    for base in (upgraded, large, fallback):
        code, words = refused(extend(live, base))
        assert (code, "1080P" in words) == (422, True)
    assert "extend" not in {charge.kind for charge in live.ledger}


def test_a_video_that_was_made_in_4k_from_720p_can_be_extended(live: Simulator) -> None:
    base = made(live)
    data(ask(live, UPGRADE_4K, {"taskId": base}))
    assert extend(live, base)[1]["code"] == 200


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"taskId": None}, "taskId is required"),
        ({"taskId": 7}, "taskId must be a string"),
        ({"prompt": ""}, "prompt is required"),
        ({"model": "veo3_max"}, f"model must be one of {', '.join(MODELS)}"),
        ({"seeds": 1}, "seeds must be an integer from 10000 to 99999"),
        ({"seeds": "09999"}, "seeds must be an integer from 10000 to 99999"),
        ({"seeds": "123456"}, "seeds must be an integer"),
        ({"watermark": 1}, "watermark must be a string"),
        ({"callBackUrl": 1}, "callBackUrl must be a string"),
    ],
)
def test_a_wrong_field_is_a_422_that_names_it(
    live: Simulator, fields: dict[str, Any], words: str
) -> None:
    base = made(live)
    assert refused(extend(live, base, **fields)) == (422, words)
    assert len(live.ledger) == 1


@pytest.mark.parametrize(
    ("given", "named", "price"),
    [
        ("veo3_lite", "lite", 30),
        ("veo3_fast", "fast", 60),
        ("veo3", "quality", 250),
        ("quality", "quality", 250),
    ],
)
def test_a_model_may_have_the_name_of_a_generation(
    live: Simulator, given: str, named: str, price: int
) -> None:
    longer = data(extend(live, made(live), model=given, seeds="12345", callBackUrl=""))
    charge = live.ledger[1]
    assert (charge.task_id, charge.model, charge.credits) == (longer["taskId"], named, price)
    live.advance(60)
    assert record(live, longer["taskId"])["response"]["seeds"] == [12345]


def test_an_extension_can_be_too_dear() -> None:
    with Simulator(dialect="live", time_scale=0, generation_seconds=60, credits=119) as sim:
        assert refused(extend(sim, made(sim)))[0] == 402


@pytest.mark.parametrize(
    ("marker", "flag", "code"), [("[policy]", 3, 400), ("[early]", 2, 501), ("[person]", 3, 422)]
)
def test_a_marked_extension_fails_and_is_not_charged(
    live: Simulator, marker: str, flag: int, code: int
) -> None:
    base = made(live)
    failed = record(live, made(live, EXTEND, taskId=base, prompt=marker))
    assert (failed["successFlag"], failed["errorCode"], failed["response"]) == (flag, code, None)
    assert [charge.refunded for charge in live.ledger] == [False, True]


@pytest.mark.parametrize(("fault", "paid"), [("extend:lose_answer", 1), ("extend:reset_before", 0)])
def test_its_answer_can_get_lost(live: Simulator, fault: str, paid: int) -> None:
    base = made(live)
    live.add_fault(fault)
    with pytest.raises(OSError):  # noqa: PT011  urllib wraps it or does not
        extend(live, base)
    assert [post.kind for post in live.ledger.posts] == ["generate", "extend"]
    assert len(live.ledger) == 1 + paid


def test_faults_find_it_by_its_prompt_and_by_that_of_the_original(live: Simulator) -> None:
    base = made(live, prompt="harbour")
    live.add_fault("extend:status=455:match=reaches the river")
    assert refused(extend(live, base)) == (455, "Service is under maintenance")
    live.clear_faults()
    live.add_fault("1080p:status=455:match=harbour")
    assert refused(ask(live, f"{UPGRADE}?taskId={base}"))[0] == 455


def test_the_whole_film_can_be_kept_back() -> None:
    with Simulator(
        dialect="live", time_scale=0, generation_seconds=60, extension_urls="segment"
    ) as sim:
        response = record(sim, made(sim, EXTEND, taskId=made(sim)))["response"]
        assert response["fullResultUrls"] is None
        assert len(response["resultUrls"]) == 1


@pytest.mark.parametrize("dialect", ["spec", "jobs"])
def test_only_the_live_dialect_has_the_call(dialect: Any) -> None:
    with Simulator(dialect=dialect) as sim:
        assert ask(sim, EXTEND, {"prompt": "x"})[0] == 404
