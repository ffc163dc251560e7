"""The JSON, field by field, against the samples of the two documents."""

import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest

from veo_async.simulator.problems import Problem
from veo_async.simulator.records import Dialect, Reply
from veo_async.simulator.service import Service
from veo_async.simulator.settings import Settings
from veo_async.simulator.shapes import shapes_for

SPEC_START = datetime(2025, 11, 15, 10, 30, tzinfo=UTC)
LIVE_START = datetime.fromtimestamp(1776728214, UTC)
SIGNED = r"\?expires=\d+&serial=\d+&signature=[0-9a-f]{32}"


def finished(service: Service, **fields: object) -> tuple[str, Any]:
    """Create a task at 0, read it when it is over, at 400."""
    service.storage.base_url = "https://storage.test"
    reply = service.generate(json.dumps(fields).encode(), 0)
    assert reply.task_id is not None
    return reply.task_id, service.record_info({"taskId": reply.task_id}, 400).body


def spec(**options: Any) -> Service:
    return Service(
        Settings(dialect=Dialect.SPEC, epoch=SPEC_START, generation_seconds=300, **options)
    )


def live(seconds: float = 61, **options: Any) -> Service:
    return Service(
        Settings(dialect=Dialect.LIVE, epoch=LIVE_START, generation_seconds=seconds, **options)
    )


def test_spec_create_answer() -> None:
    reply = spec().generate(b'{"prompt": "A cinematic landscape"}', 0)
    assert reply.task_id is not None
    assert re.fullmatch(r"veo_task_[0-9a-f]{12}", reply.task_id)
    assert reply == Reply({"code": 200, "msg": "success", "data": {"taskId": reply.task_id}})


def test_spec_status_answer() -> None:
    """The sample, except that the base video is 720p and has a signed URL."""
    task_id, body = finished(spec(), prompt="A cinematic landscape", aspectRatio="16:9")
    url = body["data"].pop("videoUrl")
    assert re.fullmatch(rf"https://storage\.test/videos/{task_id}\.mp4{SIGNED}", url)
    assert body == {
        "code": 200,
        "msg": "success",
        "data": {
            "taskId": task_id,
            "status": 1,
            "duration": 10,
            "resolution": "720p",
            "aspectRatio": "16:9",
            "createdAt": "2025-11-15T10:30:00Z",
            "completedAt": "2025-11-15T10:35:00Z",
        },
    }


def test_spec_status_while_running_and_failed() -> None:
    service = spec()
    task_id, failed = finished(service, prompt="[fail]", aspectRatio="9:16")
    running = service.record_info({"taskId": task_id}, 1).body
    for body, status, completed in (
        (running, 0, None),
        (failed, 2, "2025-11-15T10:35:00Z"),
    ):
        assert body == {
            "code": 200,
            "msg": "success",
            "data": {
                "taskId": task_id,
                "status": status,
                "videoUrl": None,
                "duration": 10,
                "resolution": "720p",
                "aspectRatio": "9:16",
                "createdAt": "2025-11-15T10:30:00Z",
                "completedAt": completed,
            },
        }


def test_spec_1080p_answer() -> None:
    service = spec(upgrade_seconds=60)
    task_id, record = finished(service, prompt="x", aspectRatio="Auto")
    query = {"taskId": task_id}
    pending = service.upgrade(query, 400)
    assert pending.body == {
        "code": 400,
        "msg": "Processing: 1080P conversion in progress",
        "data": None,
    }
    ready: Any = service.upgrade(query, 460).body
    url = ready["data"].pop("videoUrl")
    assert re.fullmatch(rf"https://storage\.test/videos/{task_id}_1080p\.mp4{SIGNED}", url)
    assert ready == {
        "code": 200,
        "msg": "success",
        "data": {
            "taskId": task_id,
            "status": 1,
            "duration": 10,
            "resolution": "1080p",
            "aspectRatio": "16:9",
            "createdAt": record["data"]["createdAt"],
            "completedAt": "2025-11-15T10:37:40Z",
        },
    }


@pytest.mark.parametrize(("prompt", "status"), [("x", 1), ("[fail]", 2)])
def test_spec_webhook(prompt: str, status: int) -> None:
    service = spec()
    task_id, record = finished(service, prompt=prompt, callBackUrl="http://127.0.0.1/hook")
    (callback,) = service.take_due(400)
    assert callback.body == {
        "taskId": task_id,
        "status": status,
        "videoUrl": record["data"]["videoUrl"],
        "duration": 10,
        "completedAt": "2025-11-15T10:35:00Z",
    }


def test_live_create_answer() -> None:
    reply = live().generate(b'{"prompt": "A paper boat"}', 0)
    assert reply.task_id is not None
    assert re.fullmatch(r"[0-9a-f]{32}", reply.task_id)
    assert reply == Reply({"code": 200, "msg": "success", "data": {"taskId": reply.task_id}})


def test_live_success() -> None:
    task_id, body = finished(live(), prompt="A paper boat", model="veo3_fast", seeds=61668)
    (url,) = body["data"]["response"].pop("resultUrls")
    assert url == f"https://storage.test/v/{task_id}_1776728275.mp4"
    param = body["data"].pop("paramJson")
    assert param == (
        '{"aspectRatio":"16:9","enableFallback":false,"enableTranslation":true,'
        '"model":"veo3_fast","prompt":"A paper boat","seeds":61668}'
    )
    assert body == {
        "code": 200,
        "msg": "success",
        "data": {
            "taskId": task_id,
            "completeTime": 1776728275000,
            "response": {
                "taskId": task_id,
                "resolution": "720p",
                "originUrls": None,
                "fullResultUrls": None,
                "hasAudioList": [True],
                "seeds": [61668],
            },
            "successFlag": 1,
            "fallbackFlag": False,
            "createTime": 1776728214000,
            "errorCode": None,
            "errorMessage": None,
        },
    }


def test_live_times_are_whole_seconds() -> None:
    _, body = finished(live(61.7), prompt="A paper boat")
    assert body["data"]["completeTime"] == 1776728275000


def test_live_while_running_has_every_key_with_nothing_in_it() -> None:
    service = live()
    task_id, _ = finished(service, prompt="A paper boat")
    assert service.record_info({"taskId": task_id}, 5).body == {
        "code": 200,
        "msg": "success",
        "data": {
            "taskId": task_id,
            "paramJson": '{"aspectRatio":"16:9","enableFallback":false,"enableTranslation":true,'
            '"model":"veo3_fast","prompt":"A paper boat"}',
            "completeTime": None,
            "response": None,
            "successFlag": 0,
            "fallbackFlag": False,
            "createTime": 1776728214000,
            "errorCode": None,
            "errorMessage": "",
        },
    }


def test_live_failure() -> None:
    task_id, body = finished(live(46), prompt="[policy]")
    param = body["data"].pop("paramJson")
    assert json.loads(param)["prompt"] == "[policy]"
    assert body == {
        "code": 200,
        "msg": "success",
        "data": {
            "taskId": task_id,
            "completeTime": 1776728260000,
            "response": None,
            "successFlag": 3,
            "errorCode": 400,
            "errorMessage": "Your prompt was flagged by Website as violating content policies.",
            "createTime": 1776728214000,
            "fallbackFlag": False,
        },
    }


def test_live_echo_of_every_field() -> None:
    _, body = finished(
        live(),
        prompt="\N{SNOWMAN}",
        imageUrls=["https://x.test/a.png"],
        model="veo3_lite",
        generationType="REFERENCE_2_VIDEO",
        aspect_ratio="Auto",
        resolution="1080p",
        duration=8,
        seeds=12345,
        callBackUrl="https://client.example/h",
        enableTranslation=False,
        watermark="W",
    )
    assert json.loads(body["data"]["paramJson"]) == {
        "aspectRatio": "Auto",
        "callBackUrl": "https://client.example/h",
        "duration": 8,
        "enableFallback": False,
        "enableTranslation": False,
        "generationType": "REFERENCE_2_VIDEO",
        "imageUrls": ["https://x.test/a.png"],
        "model": "veo3_lite",
        "prompt": "\N{SNOWMAN}",
        "resolution": "1080p",
        "seeds": 12345,
        "waterMark": "W",
    }


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ({"waterMark": "W"}, "W"),
        ({"watermark": "W", "waterMark": "V"}, "W"),
        ({"waterMark": None}, None),
    ],
)
def test_live_watermark_may_have_its_echos_name(sent: dict[str, Any], shown: str | None) -> None:
    _, body = finished(live(), prompt="x", **sent)
    assert json.loads(body["data"]["paramJson"]).get("waterMark") == shown


@pytest.mark.parametrize("given", ["playground", "", "ftp://x", "https://client.example/h"])
def test_live_callback_url_is_any_text_and_called_where_it_is_a_url(given: str) -> None:
    service = live()
    _, body = finished(service, prompt="x", callBackUrl=given)
    assert json.loads(body["data"]["paramJson"])["callBackUrl"] == given
    assert len(service.take_due(400)) == given.startswith("https")


def test_live_drawn_seed_has_five_digits_and_stays() -> None:
    service = live()
    seeds: set[int] = set()
    for _ in range(10):
        task_id, body = finished(service, prompt="x")
        (seed,) = body["data"]["response"]["seeds"]
        again: Any = service.record_info({"taskId": task_id}, 500).body
        assert again["data"]["response"]["seeds"] == [seed]
        assert 10_000 <= seed <= 99_999
        seeds.add(seed)
    assert len(seeds) > 1


def test_live_higher_resolution_keeps_an_original() -> None:
    task_id, body = finished(live(), prompt="x", resolution="1080p")
    response = body["data"]["response"]
    assert response["resolution"] == "1080p"
    (origin,) = response["originUrls"]
    (result,) = response["resultUrls"]
    assert f"/v/{task_id}_" in origin
    assert origin != result


def test_live_1080p_answer() -> None:
    service = live(upgrade_seconds=60)
    task_id, _ = finished(service, prompt="x")
    assert service.upgrade({"taskId": task_id}, 400) == Reply(
        {
            "code": 400,
            "msg": "1080P is processing. It should be ready in 1-2 minutes. "
            "Please check back shortly.",
            "data": None,
        }
    )
    ready: Any = service.upgrade({"taskId": task_id}, 460).body
    url = ready["data"].pop("resultUrl")
    assert ready == {"code": 200, "msg": "success", "data": {}}
    assert re.fullmatch(r"https://storage\.test/p/[0-9a-f]{32}_1776728674\.mp4", url)


def test_live_webhook_success() -> None:
    service = live()
    task_id, record = finished(
        service, prompt="x", resolution="1080p", callBackUrl="http://127.0.0.1/h"
    )
    (callback,) = service.take_due(400)
    response = record["data"]["response"]
    assert callback.body == {
        "code": 200,
        "msg": "Veo3.1 video generated successfully.",
        "data": {
            "taskId": task_id,
            "promptJson": record["data"]["paramJson"],
            "info": {
                "resultUrls": response["resultUrls"],
                "originUrls": response["originUrls"],
                "resolution": "1080p",
            },
            "fallbackFlag": False,
            "creditsConsumed": 65,
        },
    }


def test_live_webhook_failure() -> None:
    service = live()
    task_id, _ = finished(service, prompt="[person]", callBackUrl="http://127.0.0.1/h")
    (callback,) = service.take_due(400)
    assert callback.body == {
        "code": 422,
        "msg": "failed",
        "data": {"taskId": task_id, "fallbackFlag": False},
    }


@pytest.mark.parametrize(
    ("problem", "spec_code", "live_http", "live_code", "live_text"),
    [
        (Problem.UNAUTHORIZED, 401, 200, 401, "You do not have access permissions"),
        (Problem.NOT_JSON, 400, 200, 400, None),
        (Problem.TOO_LARGE, 413, 413, 413, None),
        (Problem.INVALID, 422, 200, 422, None),
        (
            Problem.NO_CREDITS,
            402,
            200,
            402,
            "The current credits are insufficient. Please top up.",
        ),
        (Problem.RATE, 429, 429, 429, "Rate limit exceeded"),
        (Problem.BUSY, 429, 429, 429, "Rate limit exceeded"),
        (Problem.NO_TASK_ID, 422, 200, 400, "taskId parameter is required"),
        (Problem.UNKNOWN_RECORD, 404, 200, 422, "Record not found for taskId: "),
        (Problem.UNKNOWN_JOB, 404, 200, 422, "recordInfo is null"),
        (Problem.UNKNOWN_TASK, 404, 200, 422, "Record does not exist"),
        (Problem.TOO_OLD, 404, 200, 422, "Temporarily supports records within 14 days."),
        (Problem.GENERATING, 400, 200, 400, None),
        (Problem.BASE_RUNNING, 400, 200, 422, "record status is not success"),
        (Problem.BASE_FAILED, 422, 200, 422, "record status is not success"),
        (
            Problem.CONVERTING,
            400,
            200,
            400,
            "1080P is processing. It should be ready in 1-2 minutes. Please check back shortly.",
        ),
        (Problem.FOREIGN_URL, 422, 200, 422, "url is wrong"),
        (Problem.NO_ENDPOINT, 404, 404, 404, None),
        (Problem.NO_METHOD, 405, 405, 405, None),
    ],
)
def test_every_error(
    problem: Problem, spec_code: int, live_http: int, live_code: int, live_text: str | None
) -> None:
    spec_reply = shapes_for(Settings(dialect=Dialect.SPEC)).problem(problem)
    assert (spec_reply.http, spec_reply.code) == (spec_code, spec_code)
    live_reply = shapes_for(Settings(dialect=Dialect.LIVE)).problem(problem)
    assert (live_reply.http, live_reply.code) == (live_http, live_code)
    if live_text is not None:
        assert live_reply.body["msg"] == live_text
    for reply in (spec_reply, live_reply):
        assert set(reply.body) == {"code", "msg", "data"}
        assert reply.body["data"] is None
        assert reply.body["msg"]


def test_the_table_of_errors_is_whole() -> None:
    """Every problem has an answer in each dialect."""
    for dialect in Dialect:
        for problem in Problem:
            assert shapes_for(Settings(dialect=dialect)).problem(problem).code >= 400
