"""The newer form of the live service, over real sockets (live document 2.13)."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.simulator.asking import (
    CREATE,
    CREDIT,
    EXTEND,
    GENERATE,
    JOB,
    RECORD,
    UPGRADE,
    UPGRADE_4K,
    ask,
    data,
    fetched,
    made,
    record,
    refused,
)
from veo_async.simulator import Simulator

MODES = ("TEXT_2_VIDEO", "FIRST_AND_LAST_FRAMES_2_VIDEO", "REFERENCE_2_VIDEO")
OPTIONS: dict[str, Any] = {
    "time_scale": 0,
    "generation_seconds": 60,
    "upgrade_seconds": 60,
    "upgrade_4k_seconds": 60,
    "clip": (64, 36),
    "video_bytes": 0,
}


@pytest.fixture
def jobs() -> Iterator[Simulator]:
    with Simulator(dialect="jobs", **OPTIONS) as sim:
        yield sim


@pytest.fixture
def documented() -> Iterator[Simulator]:
    with Simulator(dialect="jobs", record_fields="documented", **OPTIONS) as sim:
        yield sim


@pytest.fixture
def live() -> Iterator[Simulator]:
    with Simulator(dialect="live", **OPTIONS) as sim:
        yield sim


def ordered(sim: Simulator, model: str = "veo-3-1", /, **given: object) -> Any:
    fields = {"prompt": "a boat", **given} if model == "veo-3-1" else given
    return ask(sim, CREATE, {"model": model, "input": fields})


def created(sim: Simulator, model: str = "veo-3-1", /, **given: object) -> str:
    """Make a task of 60 s and let it end; return its id."""
    answer = data(ordered(sim, model, **given))
    assert answer["recordId"] == answer["taskId"]
    sim.advance(60)
    task_id: str = answer["taskId"]
    return task_id


def looked(sim: Simulator, task_id: str) -> Any:
    return data(ask(sim, f"{JOB}?taskId={task_id}"))


def echoed(job: Any) -> Any:
    """Return the request that a recorded record repeats."""
    param = json.loads(job["param"])
    return {**param, "input": json.loads(param["input"])}


def result(sim: Simulator, task_id: str) -> Any:
    return json.loads(looked(sim, task_id)["resultJson"])


SENT = {
    "model": "veo-3-1",
    "callBackUrl": "http://127.0.0.1:9/hook",
    "input": {"prompt": "a boat", "model": "veo3", "aspect_ratio": "9:16", "seed": 7},
}


def test_the_recorded_fields_from_waiting_to_success() -> None:
    with Simulator(dialect="jobs", **{**OPTIONS, "generation_seconds": 60.25}) as jobs:
        jobs.advance(0.5)
        task_id = data(ask(jobs, CREATE, SENT))["taskId"]
        seen = [looked(jobs, task_id)]
        for seconds in (3, 3, 30):
            jobs.advance(seconds)
            seen.append(looked(jobs, task_id))
        assert [job == seen[0] for job in seen] == [True] * 4
        (running, *_) = seen
        start = running["createTime"]
        assert start % 1000 == 500
        param = running["param"]
        assert param == running["paramJson"]
        echo = json.loads(param)
        assert json.loads(echo.pop("input")) == SENT["input"]
        assert echo == {"model": "veo-3-1", "callBackUrl": "http://127.0.0.1:9/hook"}
        assert running == {
            "taskId": task_id,
            "model": "veo-3-1",
            "state": "waiting",
            "param": param,
            "resultJson": "",
            "failCode": None,
            "failMsg": None,
            "costTime": None,
            "completeTime": None,
            "createTime": start,
            "creditsConsumed": 250.0,
            "operationType": "veo-3-1",
            "successFlag": 0,
            "paramJson": param,
        }
        assert isinstance(running["creditsConsumed"], float)
        jobs.advance(30)
        done = looked(jobs, task_id)
        (url,) = done["response"]["resultUrls"]
        assert fetched(url)[1][4:8] == b"ftyp"
        assert done == {
            **running,
            "state": "success",
            "resultJson": f'{{"resultUrls":["{url}"]}}',
            "costTime": 60,
            "completeTime": start + 60_250,
            "successFlag": 1,
            "response": {"resultUrls": [url]},
        }


def test_the_recorded_fields_of_a_failed_task(jobs: Simulator) -> None:
    job = looked(jobs, created(jobs, prompt="[policy]"))
    assert (job["state"], job["successFlag"], job["failCode"]) == ("fail", 3, "400")
    assert job["failMsg"].startswith("Your prompt was flagged")
    assert (job["resultJson"], job["creditsConsumed"], jobs.ledger.spent) == (None, 0.0, 0)
    assert "response" not in job


@pytest.mark.parametrize("resolution", ["1080p", "4k"])
def test_the_recorded_response_has_the_file_that_was_asked_for(
    jobs: Simulator, resolution: str
) -> None:
    task_id = created(jobs, resolution=resolution)
    assert looked(jobs, task_id)["response"] == {
        "resultUrls": result(jobs, task_id)["data"]["result_urls"]
    }
    longer = created(jobs, "veo/extend", task_id=created(jobs), prompt="further")
    assert looked(jobs, longer)["response"] == result(jobs, longer)


def test_the_documented_fields_from_waiting_to_success(documented: Simulator) -> None:
    jobs = documented
    task_id = data(ask(jobs, CREATE, SENT))["taskId"]
    start = looked(jobs, task_id)["createTime"]
    seen = []
    for seconds in (0, 3, 3, 30, 24):
        jobs.advance(seconds)
        job = looked(jobs, task_id)
        seen.append((job["state"], job["progress"], bool(job["resultJson"]), job["costTime"]))
        assert job["updateTime"] >= start
    assert seen == [
        ("waiting", 0, False, None),
        ("queuing", 5, False, None),
        ("generating", 10, False, None),
        ("generating", 60, False, None),
        ("success", 100, True, 60),
    ]
    done = looked(jobs, task_id)
    assert json.loads(done.pop("param")) == {
        "model": "veo-3-1",
        "callBackUrl": "http://127.0.0.1:9/hook",
        "input": {"prompt": "a boat", "model": "veo3", "aspect_ratio": "9:16"},
    }
    (url,) = json.loads(done.pop("resultJson"))["resultUrls"]
    assert fetched(url)[1][4:8] == b"ftyp"
    assert done == {
        "taskId": task_id,
        "model": "veo-3-1",
        "state": "success",
        "failCode": "",
        "failMsg": "",
        "costTime": 60,
        "completeTime": start + 60_000,
        "createTime": start,
        "updateTime": start + 60_000,
        "progress": 100,
        "creditsConsumed": 250,
    }
    assert start % 1000 == 0


def test_the_documented_fields_of_a_failed_task(documented: Simulator) -> None:
    jobs = documented
    job = looked(jobs, created(jobs, prompt="[policy]"))
    assert (job["state"], job["failCode"], job["resultJson"]) == ("fail", "400", "")
    assert job["failMsg"].startswith("Your prompt was flagged")
    assert (job["creditsConsumed"], jobs.ledger.spent) == (0, 0)


def test_a_stuck_task_stays_below_a_hundred(documented: Simulator) -> None:
    task_id = data(ordered(documented, prompt="[stuck]"))["taskId"]
    documented.advance(10_000)
    job = looked(documented, task_id)
    assert (job["state"], job["progress"]) == ("generating", 99)


@pytest.mark.parametrize(("resolution", "price"), [("1080p", 65), ("4k", 180)])
def test_a_larger_file_is_further_inside(jobs: Simulator, resolution: str, price: int) -> None:
    task_id = created(jobs, resolution=resolution)
    found = result(jobs, task_id)
    assert list(found) == ["data"]
    assert {name: len(urls) for name, urls in found["data"].items()} == {
        "result_urls": 1,
        "origin_urls": 1,
    }
    assert found["data"]["result_urls"] != found["data"]["origin_urls"]
    assert jobs.ledger.spent == price


def test_the_companions_make_tasks_of_their_own(jobs: Simulator) -> None:
    base = created(jobs)
    longer = created(jobs, "veo/extend", task_id=base, prompt="further", seeds=12345)
    assert set(result(jobs, longer)) == {"resultUrls", "fullResultUrls"}
    large = created(jobs, "veo/get-1080p-video", taskId=longer, index=0)
    largest = created(jobs, "veo/get-4k-video", task_id=base, index=0)
    again = created(jobs, "veo/get-4k-video", task_id=base)
    assert len({base, longer, large, largest, again}) == 5
    assert set(result(jobs, large)["data"]) == {"result_urls", "origin_urls"}
    assert set(result(jobs, largest)["data"]) == {"result_urls", "origin_urls", "image_urls"}
    (still,) = result(jobs, largest)["data"]["image_urls"]
    assert fetched(still)[0] == "image/jpeg"
    ledger = jobs.ledger
    assert [(charge.kind, charge.credits, charge.task_id) for charge in ledger] == [
        ("generate", 60, base),
        ("extend", 60, longer),
        ("1080p", 5, large),
        ("4k", 120, largest),
        ("4k", 120, again),
    ]
    assert [post.kind for post in ledger.posts] == ["generate", "extend", "1080p", "4k", "4k"]
    assert {name: ledger.requests[name] for name in ("generate", "extend", "1080p", "4k")} == {
        "generate": 1,
        "extend": 1,
        "1080p": 1,
        "4k": 2,
    }
    for task_id, model, given in (
        (longer, "veo/extend", {"task_id": base, "prompt": "further", "seeds": 12345}),
        (large, "veo/get-1080p-video", {"taskId": longer, "index": 0}),
        (largest, "veo/get-4k-video", {"task_id": base, "index": 0}),
    ):
        job = looked(jobs, task_id)
        assert job["model"] == job["operationType"] == model
        assert echoed(job) == {"model": model, "input": given}


def test_conversions_are_not_among_the_running_tasks() -> None:
    with Simulator(dialect="jobs", **{**OPTIONS, "max_tasks": 1, "create_rate": (2, 10.0)}) as sim:
        base = created(sim)
        for _ in range(3):
            assert ordered(sim, "veo/get-1080p-video", taskId=base)[1]["code"] == 200
        assert sim.ledger.running == 0
        assert ordered(sim)[1]["code"] == 200
        assert ordered(sim, "veo/extend", task_id=base, prompt="x")[0:1] == (200,)
        assert ordered(sim)[0] == 429


def test_a_video_without_4k_fails_and_is_not_charged(jobs: Simulator) -> None:
    job = looked(jobs, created(jobs, "veo/get-4k-video", task_id=created(jobs, prompt="[no4k]")))
    assert (job["state"], job["failCode"]) == ("fail", "500")
    assert job["failMsg"].startswith("The 4K version of this video is unavailable.")
    assert jobs.ledger.spent == 60


def test_a_video_that_went_through_1080p_cannot_be_extended(jobs: Simulator) -> None:
    base = created(jobs)
    large = created(jobs, "veo/get-1080p-video", taskId=base)
    for task_id in (base, large):
        assert refused(ordered(jobs, "veo/extend", task_id=task_id, prompt="x"))[0] == 422


@pytest.mark.parametrize(
    ("model", "given", "code", "words"),
    [
        ("veo-3-1", {"prompt": ""}, 422, "prompt is required"),
        ("veo-3-1", {"model": "fast"}, 422, "model must be one of veo3, veo3_fast, veo3_lite"),
        ("veo-3-1", {"aspect_ratio": "1:1"}, 422, "Ratio error"),
        ("veo-3-1", {"aspect_ratio": 1}, 422, "aspect_ratio must be a string"),
        ("veo-3-1", {"image_urls": "x"}, 422, "image_urls must be a list of URLs"),
        (
            "veo-3-1",
            {"generation_type": "TEXT"},
            422,
            f"generation_type must be one of {', '.join(MODES)}",
        ),
        ("veo-3-1", {"enable_translation": 1}, 422, "enable_translation must be true or false"),
        ("veo-3-1", {"duration": 5}, 422, "duration must be one of 4, 6, 8"),
        ("veo/extend", {"prompt": "x"}, 422, "task_id is required"),
        ("veo/extend", {"task_id": "0", "prompt": "x"}, 404, "The original task was not found"),
        ("veo/get-1080p-video", {}, 422, "task_id is required"),
        ("veo/get-1080p-video", {"taskId": "0"}, 422, "Record does not exist"),
        ("veo/get-4k-video", {"task_id": "0"}, 422, "Record does not exist"),
    ],
)
def test_a_wrong_input_is_a_422_in_the_words_of_this_form(
    jobs: Simulator, model: str, given: dict[str, Any], code: int, words: str
) -> None:
    assert refused(ordered(jobs, model, **given)) == (code, words)
    assert jobs.ledger.charges == ()


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        (b"[1]", 400, "JSON object"),
        ({}, 422, "model is required"),
        ({"model": "veo-2"}, 422, "model must be one of"),
        ({"model": "veo-3-1"}, 422, "input must be an object"),
        ({"model": "veo-3-1", "input": "{}"}, 422, "input must be an object"),
        (
            {"model": "veo-3-1", "input": {"prompt": "x"}, "callBackUrl": 1},
            422,
            "callBackUrl must be a string",
        ),
    ],
)
def test_a_wrong_body(jobs: Simulator, body: object, code: int, words: str) -> None:
    found, text = refused(ask(jobs, CREATE, body))
    assert (found, words in text) == (code, True)
    assert [(post.kind, post.outcome) for post in jobs.ledger.posts] == [("generate", "refused")]


def test_names_of_the_other_form_are_ignored(documented: Simulator, jobs: Simulator) -> None:
    given = {"aspectRatio": "9:16", "seeds": "x", "seed": 1, "enable_fallback": False}
    job = looked(documented, created(documented, **given))
    assert json.loads(job["param"])["input"] == {
        "prompt": "a boat",
        "model": "veo3_fast",
        "enable_fallback": False,
    }
    assert echoed(looked(jobs, created(jobs, **given)))["input"] == {"prompt": "a boat", **given}


def test_the_watermark_may_have_its_echos_name(documented: Simulator) -> None:
    job = looked(documented, created(documented, waterMark="W"))
    assert json.loads(job["param"])["input"]["watermark"] == "W"


def test_an_unknown_task(jobs: Simulator) -> None:
    assert refused(ask(jobs, f"{JOB}?taskId=x")) == (422, "recordInfo is null")
    assert refused(ask(jobs, JOB)) == (400, "taskId parameter is required")


def test_the_older_calls_are_gone(jobs: Simulator) -> None:
    for path, fields in (
        (GENERATE, {"prompt": "x"}),
        (EXTEND, {"prompt": "x"}),
        (UPGRADE_4K, {"taskId": "x"}),
        (f"{RECORD}?taskId=x", None),
        (f"{UPGRADE}?taskId=x", None),
    ):
        status, body = ask(jobs, path, fields)
        assert (status, body["code"], body["data"]) == (404, 404, None)
    assert data(ask(jobs, CREDIT)) == 10_000
    (url,) = result(jobs, created(jobs))["resultUrls"]
    fresh = data(ask(jobs, "/api/v1/common/download-url", {"url": url}))
    assert fetched(fresh)[1] == fetched(url)[1]


def test_a_task_is_the_same_whichever_form_asks(live: Simulator) -> None:
    old, new = made(live, seeds=12345, imageUrls=["https://example.com/a.png"]), created(live)
    for task_id in (old, new):
        (url,) = record(live, task_id)["response"]["resultUrls"]
        assert result(live, task_id)["resultUrls"] == [url]
    assert echoed(looked(live, old)) == {
        "model": "veo-3-1",
        "input": {
            "prompt": "a boat",
            "model": "veo3_fast",
            "image_urls": ["https://example.com/a.png"],
            "seeds": 12345,
        },
    }
    large = created(live, "veo/get-4k-video", task_id=old)
    shown = record(live, large)
    assert shown["response"]["mediaIds"] == [large]
    assert shown["response"]["resolution"] == "4k"
    assert "fallbackFlag" not in shown
    assert looked(live, made(live, EXTEND, taskId=old))["model"] == "veo/extend"


@pytest.mark.parametrize(
    ("fault", "model", "hit"),
    [
        ("generate:status=500", "veo-3-1", True),
        ("extend:status=500", "veo/extend", True),
        ("1080p:status=500", "veo/get-1080p-video", True),
        ("4k:status=500", "veo/get-4k-video", True),
        ("generate:status=500", "veo/extend", False),
        ("4k:status=500:match=a boat", "veo/get-4k-video", True),
        ("4k:status=500:match=a ship", "veo/get-4k-video", False),
    ],
)
def test_a_fault_finds_a_job_by_what_it_does(
    jobs: Simulator, fault: str, model: str, hit: bool
) -> None:
    base = created(jobs)
    jobs.add_fault(fault)
    given = {"prompt": "x"} if model in {"veo-3-1", "veo/extend"} else {}
    code = ordered(jobs, model, **({} if model == "veo-3-1" else {"task_id": base}), **given)[1]
    assert (code["code"] == 500) is hit


def test_a_fault_finds_the_record(jobs: Simulator) -> None:
    task_id = created(jobs)
    jobs.add_fault("record-info:unknown:times=1")
    assert refused(ask(jobs, f"{JOB}?taskId={task_id}")) == (422, "recordInfo is null")
    assert looked(jobs, task_id)["state"] == "success"
    assert jobs.ledger.requests["record-info"] == 2


def test_its_answer_can_get_lost(jobs: Simulator) -> None:
    jobs.add_fault("generate:lose_answer:times=1")
    with pytest.raises(OSError):  # noqa: PT011  urllib wraps it or does not
        ordered(jobs)
    (post,) = jobs.ledger.posts
    assert (post.outcome, post.task_id) == ("accepted", jobs.ledger[0].task_id)
