"""The answers of record-info: spec (Check Status) and live document 2.4, and what must be survived.

A running task is paid for. What these tests guard most is that no odd answer ends it.
"""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from veo_async.errors import (
    APIError,
    AuthenticationError,
    InsufficientCreditsError,
    NotFoundError,
    QuotaExceededError,
    RateLimitError,
    ServerError,
    ServiceUnavailableError,
    TaskFailedError,
    UnexpectedResponseError,
    ValidationError,
)
from veo_async.models import TaskRecord, TaskStatus
from veo_async.protocol import codec
from veo_async.protocol.http import HttpResponse

ID = "0123456789abcdef0123456789abcdef"
LINK = f"https://tempfile.aiquickdraw.com/v/{ID}_1776728270.mp4"
GENERATING, SUCCESS, FAILED = TaskStatus

POLICY = "Your prompt was flagged by Website as violating content policies."
LANGUAGE = "Only English prompts are supported at this time."
IMAGE = (
    "Failed to fetch the image. Kindly verify any access limits set by you or your service "
    "provider."
)
UNSAFE = "public error unsafe image upload."
AUDIO = "The Google model was unable to generate audio for this request."
FLOW = (
    "Your request was rejected by Flow(<original error>). You may consider using our other "
    "fallback channels, which are likely to succeed. Please refer to the documentation."
)


def answer(body: object, status: int = 200, retry_after: float | None = None) -> HttpResponse:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return HttpResponse(status=status, body=data, retry_after=retry_after)


def envelope(code: Any, msg: Any, data: Any = None) -> dict[str, Any]:
    return {"code": code, "msg": msg, "data": data}


def read(data: object, task_id: str = ID) -> TaskRecord:
    return codec.read_record_info(answer(envelope(200, "success", data)), task_id)


def failure(response: HttpResponse, task_id: str = ID) -> APIError:
    with pytest.raises(APIError) as caught:
        codec.read_record_info(response, task_id)
    assert str(caught.value).isprintable()
    return caught.value


def test_the_sample_of_the_spec() -> None:
    sample = b"""
    {
      "code": 200,
      "msg": "success",
      "data": {
        "taskId": "veo_task_abcdef123456",
        "status": 1,
        "videoUrl": "https://storage.kie.ai/videos/veo_task_abcdef123456.mp4",
        "duration": 10,
        "resolution": "1080p",
        "aspectRatio": "16:9",
        "createdAt": "2025-11-15T10:30:00Z",
        "completedAt": "2025-11-15T10:35:00Z"
      }
    }
    """
    record = codec.read_record_info(answer(sample), "veo_task_abcdef123456")
    link = "https://storage.kie.ai/videos/veo_task_abcdef123456.mp4"
    assert record == TaskRecord(
        task_id="veo_task_abcdef123456",
        status=SUCCESS,
        video_url=link,
        video_urls=(link,),
        created_at=datetime(2025, 11, 15, 10, 30, tzinfo=UTC),
        completed_at=datetime(2025, 11, 15, 10, 35, tzinfo=UTC),
    )
    assert record.raw == json.loads(sample)["data"]
    video = codec.video_of(record)
    assert (video.task_id, video.url, video.urls) == (record.task_id, link, (link,))
    assert (video.duration, video.resolution, video.aspect_ratio) == (10.0, "1080p", "16:9")
    assert (video.seed, video.has_audio, video.origin) == (None, None, "record-info")
    assert (video.created_at, video.completed_at) == (record.created_at, record.completed_at)
    assert video.raw == record.raw


def live(**changes: Any) -> dict[str, Any]:
    """Return the live success of 2.4, changed."""
    response = {
        "taskId": ID,
        "resolution": "720p",
        "originUrls": None,
        "resultUrls": [LINK],
        "fullResultUrls": None,
        "hasAudioList": [True],
        "seeds": [61668],
    }
    return {
        "taskId": ID,
        "paramJson": json.dumps(
            {
                "aspectRatio": "16:9",
                "enableFallback": False,
                "enableTranslation": True,
                "model": "veo3_fast",
                "prompt": "A paper boat",
            }
        ),
        "completeTime": 1776728275000,
        "response": response,
        "successFlag": 1,
        "fallbackFlag": False,
        "createTime": 1776728214000,
        "errorCode": None,
        "errorMessage": None,
    } | changes


def test_the_live_success() -> None:
    record = read(live())
    assert record == TaskRecord(
        task_id=ID,
        status=SUCCESS,
        video_url=LINK,
        video_urls=(LINK,),
        created_at=datetime(2026, 4, 20, 23, 36, 54, tzinfo=UTC),
        completed_at=datetime(2026, 4, 20, 23, 37, 55, tzinfo=UTC),
    )
    video = codec.video_of(record)
    assert (video.seed, video.has_audio, video.duration) == (61668, True, None)
    assert (video.resolution, video.aspect_ratio) == ("720p", "16:9")


def test_the_live_failure() -> None:
    record = read(
        live(response=None, successFlag=3, errorCode=400, errorMessage=POLICY),
    )
    assert (record.status, record.error_code, record.error_message) == (FAILED, 400, POLICY)
    assert (record.video_url, record.video_urls) == (None, ())
    with pytest.raises(TaskFailedError) as caught:
        codec.video_of(record)
    error = caught.value
    assert (error.task_id, error.code, error.reason) == (ID, 400, POLICY)
    assert not error.is_retryable
    assert str(error).endswith("reword the prompt before submitting again")


# --- the newer form (live document 2.13)


def job(**changes: Any) -> dict[str, Any]:
    """Return the success of 2.13, changed."""
    return {
        "taskId": ID,
        "model": "veo-3-1",
        "state": "success",
        "param": json.dumps(
            {
                "model": "veo-3-1",
                "callBackUrl": "https://client.example/h",
                "input": {"prompt": "A paper boat", "aspect_ratio": "9:16", "resolution": "720p"},
            }
        ),
        "resultJson": json.dumps({"resultUrls": [LINK]}),
        "failCode": None,
        "failMsg": None,
        "costTime": 61,
        "completeTime": 1776728275000,
        "createTime": 1776728214000,
        "updateTime": 1776728275000,
        "progress": 100,
        "creditsConsumed": 60,
    } | changes


def test_a_success_of_the_newer_form() -> None:
    record = read(job())
    assert record == TaskRecord(
        task_id=ID,
        status=SUCCESS,
        video_url=LINK,
        video_urls=(LINK,),
        created_at=datetime(2026, 4, 20, 23, 36, 54, tzinfo=UTC),
        completed_at=datetime(2026, 4, 20, 23, 37, 55, tzinfo=UTC),
    )
    video = codec.video_of(record)
    assert (video.resolution, video.aspect_ratio, video.seed) == ("720p", "9:16", None)
    assert codec.credits_of(record) == 60
    assert codec.repeats_request(record)
    assert not codec.repeats_request(read(live()))


def recorded(**changes: Any) -> dict[str, Any]:
    """Return a record of the newer form as one was seen, of another model."""
    sent = {"model": "veo-3-1", "input": json.dumps({"prompt": "a boat", "aspect_ratio": "9:16"})}
    return {
        "taskId": ID,
        "model": "veo-3-1",
        "state": "success",
        "param": json.dumps(sent),
        "resultJson": json.dumps({"resultUrls": [LINK]}),
        "failCode": None,
        "failMsg": None,
        "costTime": 61,
        "completeTime": 1776728275123,
        "createTime": 1776728214456,
        "creditsConsumed": 63.0,
        "operationType": "veo-3-1",
        "response": {"resultUrls": [LINK]},
        "successFlag": 1,
        "paramJson": json.dumps(sent),
    } | changes


def test_a_record_as_it_was_seen() -> None:
    record = read(recorded())
    assert (record.status, record.video_urls) == (SUCCESS, (LINK,))
    assert record.created_at == datetime(2026, 4, 20, 23, 36, 54, 456_000, tzinfo=UTC)
    assert codec.video_of(record).aspect_ratio == "9:16"
    assert codec.credits_of(record) == 63
    assert codec.repeats_request(record)
    running = {"state": "waiting", "successFlag": 0, "resultJson": "", "completeTime": None}
    assert read(recorded(**running, response=None)).status is GENERATING
    # No failed one was seen: whatever the number beside it, the word ends the task.
    for flag in (0, 2, 3, None):
        failed = {"state": "fail", "successFlag": flag, "resultJson": None, "failCode": "500"}
        assert read(recorded(**failed, failMsg="x", response=None)).status is FAILED


def test_a_running_record_with_an_empty_message() -> None:
    record = read(live(successFlag=0, response=None, errorMessage="", completeTime=None))
    assert (record.status, record.error_code, record.error_message) == (GENERATING, None, None)


@pytest.mark.parametrize("code", [400, "400", 400.0])
def test_a_failure_of_the_newer_form(code: Any) -> None:
    record = read(job(state="fail", resultJson="", failCode=code, failMsg=POLICY))
    assert (record.status, record.error_code, record.error_message) == (FAILED, 400, POLICY)
    assert record.video_urls == ()


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ("waiting", GENERATING),
        ("queuing", GENERATING),
        ("generating", GENERATING),
        ("success", SUCCESS),
        ("fail", FAILED),
        # Unknown words end nothing, and neither does what is no word.
        ("failed", GENERATING),
        ("FAIL", GENERATING),
        ("", GENERATING),
        ("cancelled", GENERATING),
        (1, GENERATING),
        (3, GENERATING),
        (True, GENERATING),
        (["fail"], GENERATING),
        ({"state": "fail"}, GENERATING),
    ],
    ids=repr,
)
def test_a_state_of_the_newer_form(state: Any, status: TaskStatus) -> None:
    record = read(job(state=state, resultJson="", failCode="", failMsg="", completeTime=None))
    assert (record.status, record.error_code, record.error_message) == (status, None, None)


# Live document 2.4: what clients were found to read, and should not.
@pytest.mark.parametrize(
    ("data", "status"),
    [
        pytest.param(live(successFlag=-1), GENERATING, id="minus-1-as-failure"),
        pytest.param(live(successFlag=3), FAILED, id="3-as-success"),
        pytest.param(
            {"taskId": ID, "response": {"successFlag": 1, "resultUrls": [LINK]}, "successFlag": 0},
            GENERATING,
            id="flag-inside-response",
        ),
    ],
)
def test_wrong_readings_are_not_imitated(data: dict[str, Any], status: TaskStatus) -> None:
    assert read(data).status is status


def test_a_live_task_that_is_running() -> None:
    record = read(live(response=None, successFlag=0, completeTime=None))
    assert (record.status, record.video_url, record.completed_at) == (GENERATING, None, None)
    with pytest.raises(UnexpectedResponseError, match=r"is generating.*veo.task\("):
        codec.video_of(record)


# --- status

STATUSES: list[tuple[Any, TaskStatus]] = [
    (0, GENERATING),
    (1, SUCCESS),
    (2, FAILED),
    (3, FAILED),
    ("0", GENERATING),
    ("1", SUCCESS),
    (" 2 ", FAILED),
    (1.0, SUCCESS),
    (3.0, FAILED),
    # Unknown ones end nothing. -1 as a failure is a wrong reading found in clients (2.4).
    (-1, GENERATING),
    (4, GENERATING),
    (5, GENERATING),
    (100, GENERATING),
    (10**30, GENERATING),
    (1e300, GENERATING),
    (1.5, GENERATING),
    ("1.0", GENERATING),
    ("success", GENERATING),
    ("", GENERATING),
    ("9" * 400, GENERATING),
    ("\u0661", GENERATING),
    (True, GENERATING),
    (False, GENERATING),
    ([1], GENERATING),
    ({"status": 1}, GENERATING),
]


@pytest.mark.parametrize("flag", ["status", "successFlag"])
@pytest.mark.parametrize(("number", "status"), STATUSES, ids=lambda value: repr(value)[:20])
def test_a_status_number(flag: str, number: Any, status: TaskStatus) -> None:
    assert read({"taskId": ID, flag: number}).status is status
    assert read({"taskId": ID, flag: number, "errorCode": 501}).status is status


@pytest.mark.parametrize(
    ("data", "status"),
    [
        pytest.param({"status": None, "successFlag": 1}, SUCCESS, id="null-beside-a-number"),
        pytest.param({"status": "ok", "successFlag": 0}, GENERATING, id="word-beside-a-number"),
        pytest.param({"status": 7, "successFlag": 1}, SUCCESS, id="unknown-beside-known"),
        pytest.param({"status": 7, "successFlag": 9}, GENERATING, id="two-unknown"),
        pytest.param(
            {"response": {"successFlag": 3}}, GENERATING, id="inside-response-is-no-place"
        ),
        pytest.param({"state": "fail", "successFlag": 0}, FAILED, id="a-word-before-a-number"),
        pytest.param({"state": "what?", "successFlag": 1}, SUCCESS, id="a-number-then"),
        pytest.param({}, GENERATING, id="empty"),
        pytest.param({"videoUrl": LINK}, SUCCESS, id="no-flag-and-a-link"),
        pytest.param({"errorCode": 501}, FAILED, id="no-flag-and-an-error"),
        pytest.param({"errorCode": 200}, GENERATING, id="no-flag-and-no-error"),
        pytest.param({"errorCode": 0, "errorMessage": ""}, GENERATING, id="no-flag-and-a-zero"),
        pytest.param({"errorMessage": "oh"}, GENERATING, id="no-flag-and-only-words"),
        pytest.param({"status": 2, "videoUrl": LINK}, FAILED, id="failed-with-a-link"),
        pytest.param({"status": 0, "videoUrl": LINK}, GENERATING, id="running-with-a-link"),
        pytest.param({"status": 1}, SUCCESS, id="success-without-a-link"),
    ],
)
def test_flags_that_are_missing_or_disagree(data: dict[str, Any], status: TaskStatus) -> None:
    assert read({"taskId": ID, **data}).status is status


def test_a_success_without_a_link_is_told_as_that() -> None:
    with pytest.raises(UnexpectedResponseError, match=r"no link.*veo\.task\('0123") as caught:
        codec.video_of(read({"taskId": ID, "status": 1}))
    assert (caught.value.task_id, caught.value.code, caught.value.http_status) == (ID, 200, 200)


# --- links

ONE, TWO, FILM = (f"https://tempfile.aiquickdraw.com/v/{name}.mp4" for name in ("1", "2", "film"))
LINKS: list[Any] = [
    pytest.param({"videoUrl": ONE}, (ONE,), id="spec"),
    pytest.param({"response": {"resultUrls": [ONE, TWO]}}, (ONE, TWO), id="live-list"),
    pytest.param({"resultUrls": json.dumps([ONE])}, (ONE,), id="json-text-at-data-level"),
    pytest.param({"resultUrls": [ONE]}, (ONE,), id="list-at-data-level"),
    pytest.param({"response": {"resultUrls": json.dumps([ONE, TWO])}}, (ONE, TWO), id="json-text"),
    pytest.param({"response": json.dumps({"resultUrls": [ONE]})}, (ONE,), id="response-as-text"),
    pytest.param({"resultUrls": f"[{ONE}]"}, (ONE,), id="brackets-that-are-no-json"),
    pytest.param({"resultUrls": f"[{ONE}, {TWO}]"}, (ONE, TWO), id="two-in-such-brackets"),
    pytest.param({"resultUrls": ONE}, (ONE,), id="bare-text"),
    pytest.param({"resultUrls": f"  {ONE}\n"}, (ONE,), id="blanks-around"),
    pytest.param({"resultUrls": [ONE, ONE]}, (ONE,), id="twice"),
    pytest.param({"videoUrl": ONE, "response": {"resultUrls": [TWO, ONE]}}, (ONE, TWO), id="both"),
    pytest.param(
        {"response": {"resultUrls": [ONE], "fullResultUrls": [FILM]}}, (FILM, ONE), id="whole-film"
    ),
    pytest.param({"response": {"resultUrls": [ONE], "fullResultUrls": []}}, (ONE,), id="no-film"),
    pytest.param({"response": {"resultUrls": [ONE], "fullResultUrls": None}}, (ONE,), id="null"),
    pytest.param({"fullResultUrls": [FILM], "resultUrls": [ONE]}, (FILM, ONE), id="film-outside"),
    pytest.param({"videoUrl": "HTTPS://HOST/A.MP4"}, ("HTTPS://HOST/A.MP4",), id="upper-case"),
    pytest.param({"videoUrl": "http://host/a.mp4"}, ("http://host/a.mp4",), id="http"),
    pytest.param({"resultJson": {"resultUrls": [ONE, TWO]}}, (ONE, TWO), id="jobs"),
    pytest.param({"resultJson": json.dumps({"resultUrls": [ONE]})}, (ONE,), id="jobs-as-text"),
    pytest.param(
        {"resultJson": json.dumps({"resultUrls": json.dumps([ONE])})}, (ONE,), id="text-in-text"
    ),
    pytest.param({"resultJson": json.dumps({"resultUrl": ONE})}, (ONE,), id="jobs-singular"),
    pytest.param(
        {"resultJson": json.dumps({"data": {"result_urls": [ONE], "origin_urls": [TWO]}})},
        (ONE,),
        id="jobs-1080p",
    ),
    pytest.param(
        {"resultJson": json.dumps({"data": {"origin_urls": [TWO]}, "originUrls": [TWO]})},
        (),
        id="jobs-origin-only",
    ),
    pytest.param(
        {"resultJson": json.dumps({"resultUrls": [TWO], "data": {"result_urls": [ONE]}})},
        (ONE, TWO),
        id="jobs-the-size-that-was-asked-for-first",
    ),
    pytest.param(
        {"resultJson": json.dumps({"resultUrls": [ONE], "fullResultUrls": [FILM]})},
        (FILM, ONE),
        id="jobs-whole-film",
    ),
    pytest.param(
        {"resultJson": {"data": {"result_urls": [ONE], "full_result_urls": [FILM]}}},
        (FILM, ONE),
        id="jobs-whole-film-snake",
    ),
    pytest.param(
        {"resultJson": json.dumps({"data": {"image_urls": [ONE]}, "imageUrls": [ONE]})},
        (),
        id="jobs-pictures",
    ),
    pytest.param({"resultJson": ""}, (), id="jobs-running"),
    pytest.param({"resultJson": "{"}, (), id="jobs-broken"),
    pytest.param({"resultJson": "null"}, (), id="jobs-null"),
    pytest.param({"resultJson": json.dumps([ONE])}, (), id="jobs-list"),
    pytest.param(
        {"param": json.dumps({"input": {"image_urls": [ONE], "resultUrls": [ONE]}})},
        (),
        id="jobs-echo",
    ),
    pytest.param({"result_urls": [ONE], "image_urls": [TWO]}, (ONE,), id="snake-case"),
    # The 720p original of a 1080p video, and what the request said (2.4): never delivered.
    pytest.param({"response": {"resultUrls": [ONE], "originUrls": [TWO]}}, (ONE,), id="origin"),
    pytest.param({"response": {"originUrls": [TWO]}, "originUrls": [TWO]}, (), id="origin-only"),
    pytest.param(
        {"paramJson": json.dumps({"imageUrls": [ONE], "resultUrls": [ONE]})}, (), id="echo"
    ),
    pytest.param({"paramJson": json.dumps({"videoUrl": ONE, "url": ONE})}, (), id="echoed-url"),
    pytest.param(
        {"paramJson": {"videoUrl": ONE}, "promptJson": {"videoUrl": ONE}}, (), id="object"
    ),
    pytest.param({"callBackUrl": ONE, "imageUrls": [ONE], "msg": ONE}, (), id="other-urls"),
    pytest.param({"videoUrl": "ftp://host/a.mp4"}, (), id="ftp"),
    pytest.param({"videoUrl": "file:///etc/passwd"}, (), id="file"),
    pytest.param({"videoUrl": "javascript:alert(1)"}, (), id="javascript"),
    pytest.param({"videoUrl": "//host/a.mp4"}, (), id="no-scheme"),
    pytest.param({"videoUrl": "https://host/\r\nX: y"}, (), id="line-break"),
    pytest.param({"videoUrl": "https://host/\x1b[31m"}, (), id="terminal-escape"),
    pytest.param({"videoUrl": "https://host/\ud800"}, (), id="lone-surrogate"),
    pytest.param({"videoUrl": ""}, (), id="empty"),
    pytest.param({"videoUrl": None, "resultUrls": None, "response": None}, (), id="nulls"),
    pytest.param({"videoUrl": 7, "resultUrls": {"a": ONE}, "response": [ONE]}, (), id="types"),
    pytest.param({"resultUrls": [None, 7, [ONE], {"url": ONE}, ONE]}, (ONE,), id="mixed-list"),
    pytest.param({"resultUrls": "[]"}, (), id="empty-list-as-text"),
    pytest.param({"resultUrls": "[" * 200_000}, (), id="deep-text"),
    pytest.param({"response": "{" * 200_000}, (), id="deep-response-text"),
    pytest.param({"response": "{broken"}, (), id="broken-response-text"),
    pytest.param({"response": "{}]"}, (), id="trailing"),
]


@pytest.mark.parametrize(("data", "urls"), LINKS)
def test_links_are_found_where_they_may_be_and_nowhere_else(data: Any, urls: Any) -> None:
    record = read({"taskId": ID, "status": 1, **data})
    assert record.video_urls == urls
    assert record.video_url == (urls[0] if urls else None)


# --- times

MOMENT = datetime(2025, 6, 6, 10, 25, tzinfo=UTC)
TIMES: list[tuple[Any, datetime | None]] = [
    ("2025-06-06T10:25:00Z", MOMENT),
    ("2025-06-06T10:25:00.000Z", MOMENT),
    ("2025-06-06T12:25:00+02:00", MOMENT),
    ("2025-06-06 10:25:00", MOMENT),
    (" 2025-06-06 10:25:00 ", MOMENT),
    (1749205500000, MOMENT),
    (1749205500000.0, MOMENT),
    ("1749205500000", MOMENT),
    (1749205500, MOMENT),
    ("1749205500", MOMENT),
    (0, datetime(1970, 1, 1, tzinfo=UTC)),
    (None, None),
    ("", None),
    ("yesterday", None),
    ("2025-13-01T00:00:00Z", None),
    ("9999-12-31T23:59:59-23:59", None),
    ("0001-01-01T00:00:00+23:59", None),
    (10**30, None),
    (-(10**30), None),
    (1e308, None),
    ("9" * 5_000, None),
    (True, None),
    ([1749205500], None),
    ({}, None),
    ("\ud800", None),
    ("nan", None),
]


@pytest.mark.parametrize(("written", "moment"), TIMES, ids=lambda value: repr(value)[:30])
@pytest.mark.parametrize(
    ("created", "completed"),
    [("createdAt", "completedAt"), ("createTime", "completeTime")],
    ids=["spec", "live"],
)
def test_a_time_in_any_spelling_is_utc(
    created: str, completed: str, written: Any, moment: datetime | None
) -> None:
    record = read({"taskId": ID, created: written, completed: written})
    assert (record.created_at, record.completed_at) == (moment, moment)
    assert moment is None or (record.created_at is not None and record.created_at.tzinfo is UTC)


# --- the other fields

FIELDS: list[Any] = [
    pytest.param({"duration": 10}, "duration", 10.0, id="duration"),
    pytest.param({"duration": "8.5"}, "duration", 8.5, id="duration-text"),
    pytest.param({"duration": True}, "duration", None, id="duration-bool"),
    pytest.param({"duration": "long"}, "duration", None, id="duration-word"),
    pytest.param({"duration": 10**400}, "duration", None, id="duration-huge"),
    pytest.param({"duration": [10]}, "duration", None, id="duration-list"),
    pytest.param(
        {"response": {"resolution": "1080p"}}, "resolution", "1080p", id="live-resolution"
    ),
    pytest.param({"resolution": "\x1b[31m4k\n"}, "resolution", "[31m4k", id="resolution-escape"),
    pytest.param({"resolution": 1080}, "resolution", None, id="resolution-number"),
    pytest.param({"aspectRatio": "9:16"}, "aspect_ratio", "9:16", id="ratio"),
    pytest.param({"paramJson": '{"aspectRatio":"9:16"}'}, "aspect_ratio", "9:16", id="ratio-echo"),
    pytest.param(
        {"paramJson": '{"aspect_ratio":"9:16"}'}, "aspect_ratio", "9:16", id="ratio-snake"
    ),
    pytest.param({"paramJson": {"aspectRatio": "9:16"}}, "aspect_ratio", "9:16", id="ratio-object"),
    pytest.param({"paramJson": '{"aspectRatio":'}, "aspect_ratio", None, id="ratio-broken-echo"),
    pytest.param({"paramJson": "[1]"}, "aspect_ratio", None, id="ratio-list-echo"),
    pytest.param({"response": {"seeds": [56896]}}, "seed", 56896, id="seeds"),
    pytest.param({"response": {"seeds": []}}, "seed", None, id="no-seeds"),
    pytest.param({"response": {"seeds": ["56896"]}}, "seed", 56896, id="seed-text"),
    pytest.param({"seed": 12345}, "seed", 12345, id="spec-seed"),
    pytest.param({"resultJson": {"seeds": [56896]}}, "seed", 56896, id="jobs-seeds"),
    pytest.param({"resultJson": {"data": {"seeds": [56896]}}}, "seed", 56896, id="jobs-data-seeds"),
    pytest.param({"param": '{"input":{"seeds":12345}}'}, "seed", 12345, id="jobs-seed-echo"),
    pytest.param({"param": '{"input":{"prompt":"x"}}'}, "seed", None, id="jobs-no-seed"),
    pytest.param(
        {"param": '{"input":{"aspect_ratio":"9:16"}}'}, "aspect_ratio", "9:16", id="jobs-ratio"
    ),
    pytest.param(
        {"param": {"input": '{"aspect_ratio":"9:16"}'}}, "aspect_ratio", "9:16", id="jobs-text"
    ),
    pytest.param({"param": '{"aspect_ratio":"9:16"}'}, "aspect_ratio", "9:16", id="jobs-flat"),
    pytest.param(
        {"param": '{"input":{"resolution":"4k"}}'}, "resolution", "4k", id="jobs-resolution-echo"
    ),
    pytest.param(
        {"resultJson": '{"resolution":"1080p"}', "param": '{"input":{"resolution":"4k"}}'},
        "resolution",
        "1080p",
        id="jobs-resolution",
    ),
    pytest.param(
        {"resultJson": {"data": {"resolution": "1080p"}}},
        "resolution",
        "1080p",
        id="jobs-data-resolution",
    ),
    pytest.param({"resultJson": {"hasAudioList": [False]}}, "has_audio", False, id="jobs-muted"),
    pytest.param(
        {"resultJson": {"data": {"has_audio_list": [True]}}}, "has_audio", True, id="jobs-audio"
    ),
    pytest.param({"response": {"hasAudioList": [False]}}, "has_audio", False, id="muted"),
    pytest.param({"response": {"hasAudioList": None}}, "has_audio", None, id="audio-null"),
    pytest.param({"response": {"hasAudioList": [1]}}, "has_audio", None, id="audio-number"),
]


@pytest.mark.parametrize(("data", "field", "value"), FIELDS)
def test_what_else_is_known_of_a_video(data: Any, field: str, value: Any) -> None:
    video = codec.video_of(read({"taskId": ID, "status": 1, "videoUrl": ONE, **data}))
    assert getattr(video, field) == value


@pytest.mark.parametrize(
    ("told", "code"),
    [
        *((None, None), (400, 400), ("501", 501), (422.0, 422), ("boom", None), ({}, None)),
        *((True, None), (10**18, None), (10**4000, None)),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_an_error_code_is_a_number_or_nothing(told: Any, code: int | None) -> None:
    record = read({"taskId": ID, "successFlag": 3, "errorCode": told})
    assert (record.status, record.error_code) == (FAILED, code)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (None, None),
        ("", None),
        (" \n", None),
        ("\x1b\x00", None),
        (7, None),
        (["a"], None),
        ("failed", "failed"),
        ("two\r\nlines\x1b[2J", "two lines [2J"),
        ("lone \ud800 surrogate", "lone surrogate"),
        ("right\u202eleft", "right left"),
    ],
    ids=ascii,
)
def test_an_error_message_can_be_shown_and_logged(told: Any, words: str | None) -> None:
    record = read({"taskId": ID, "successFlag": 3, "errorCode": 400, "errorMessage": told})
    assert record.error_message == words
    error = codec.failure_of(record)
    assert error.reason == (words or "no reason given")
    assert str(error).isprintable()
    str(error).encode()


def test_an_endless_error_message_is_cut() -> None:
    record = read({"taskId": ID, "successFlag": 3, "errorMessage": "x " * 500_000})
    assert record.error_message is not None
    assert len(record.error_message) == 1000
    assert record.error_message.endswith("…")


# Live document, section 4, rows about `errorCode`: what the same request can hope for.
REASONS: list[tuple[int | None, str | None, bool]] = [
    (400, POLICY, False),
    (400, LANGUAGE, False),
    (400, IMAGE, False),
    (400, UNSAFE, False),
    (400, AUDIO, False),
    (400, AUDIO + " Please try again with another prompt.", False),
    (422, FLOW, False),
    (422, FLOW.replace("<original error>", "internal error: timeout"), False),
    (422, "failed", False),
    (408, "Timeout", True),
    (500, "Server Error", True),
    (500, "Internal Error, Please try again later.", True),
    (500, "Internal Error - Timeout", True),
    (501, "Generation failed.", True),
    (505, "This feature is disabled", False),
    (None, "Internal Error, Please try again later.", True),
    (None, "failed", False),
    (None, None, False),
]


@pytest.mark.parametrize(("code", "words", "again"), REASONS, ids=lambda value: str(value)[:40])
def test_whether_the_same_request_may_succeed(
    code: int | None, words: str | None, again: bool
) -> None:
    data = {"taskId": ID, "successFlag": 3, "errorCode": code, "errorMessage": words}
    error = codec.failure_of(read(data))
    assert (error.code, error.is_retryable, error.task_id) == (code, again, ID)
    remedy = "may succeed as a new task" if again else "before submitting again"
    assert str(error).endswith(remedy)


# --- ids


@pytest.mark.parametrize("name", ["taskId", "task_id"])
def test_an_answer_about_another_task_is_not_believed(name: str) -> None:
    other = live(taskId=None, successFlag=3) | {name: "another"}
    error = failure(answer(envelope(200, "success", other)))
    assert type(error) is UnexpectedResponseError
    assert error.task_id == ID
    assert "asked for task 0123456789abcdef0123456789abcdef, told of another;" in str(error)


@pytest.mark.parametrize("named", [None, "", "two words", "\x1b", ["x"], True], ids=repr)
def test_an_answer_that_names_no_task_is_about_the_one_asked_for(named: Any) -> None:
    assert read({"taskId": named, "status": 1, "videoUrl": ONE}).task_id == ID


def test_an_id_may_come_back_as_a_number() -> None:
    assert read({"taskId": 123, "status": 1}, "123").status is SUCCESS


# --- data


@pytest.mark.parametrize("data", [[], [live()], "done", "", 7, 1.5, True, False], ids=repr)
def test_data_that_is_no_object_is_asked_for_again(data: Any) -> None:
    error = failure(answer(envelope(200, "success", data)))
    assert type(error) is UnexpectedResponseError
    assert error.task_id == ID
    assert str(error).endswith("check the base URL and any proxy in between")


@pytest.mark.parametrize("body", [envelope(200, "success"), {"code": 200}], ids=["null", "absent"])
def test_no_data_means_an_unknown_id(body: Any) -> None:
    error = failure(answer(body))
    assert type(error) is NotFoundError
    assert (error.code, error.http_status, error.task_id) == (200, 200, ID)
    assert str(error).endswith("check the task id")


# --- error codes (spec: Error Codes; live document, section 4)

ERRORS: list[tuple[int, str, type[APIError], str]] = [
    (401, "You do not have access permissions", AuthenticationError, "where it is set"),
    (
        402,
        "The current credits are insufficient. Please top up.",
        InsufficientCreditsError,
        "submit again",
    ),
    (403, "Your request was rejected by Flow", AuthenticationError, "from which addresses"),
    (404, "Task not found", NotFoundError, "check the task id and the base URL"),
    (405, "Method not allowed", ValidationError, "as it says"),
    (408, "Timeout", ServerError, "ask again later"),
    (422, "record is null", NotFoundError, "records are kept for 14 days"),
    (422, "recordInfo is null", NotFoundError, "records are kept for 14 days"),
    (422, f"Record not found for taskId: {ID}", NotFoundError, "records are kept for 14 days"),
    (422, "Record does not exist", NotFoundError, "records are kept for 14 days"),
    (
        422,
        "Temporarily supports records within 14 days.",
        NotFoundError,
        "records and files are kept for 14 days",
    ),
    (422, "taskId is wrong", ValidationError, "as it says"),
    (400, "taskId parameter is required", ValidationError, "as it says"),
    (429, "Rate limit exceeded", RateLimitError, "wait and try again"),
    (
        429,
        "This request was rejected by Flow control: you were flagged",
        RateLimitError,
        "wait and try again",
    ),
    (433, "has exceeded the daily limit", QuotaExceededError, "or wait until it resets"),
    (455, "maintenance, record is null", ServiceUnavailableError, "in some minutes"),
    (500, "Server Error", ServerError, "try again later"),
    (500, "Internal Error, Please try again later.", ServerError, "try again later"),
    (500, "Internal Error - Timeout", ServerError, "try again later"),
    (500, "record is null", ServerError, "try again later"),
    (500, POLICY, ServerError, "try again later"),
    (500, "failed", ServerError, "try again later"),
    (505, "This feature is disabled", ServerError, "not available"),
    (999, "what?", ServerError, "try again later"),
    (201, "what?", UnexpectedResponseError, "any proxy in between"),
    (-1, "what?", UnexpectedResponseError, "any proxy in between"),
]


@pytest.mark.parametrize("real", [False, True], ids=["http-200", "http-as-code"])
@pytest.mark.parametrize(("code", "words", "kind", "remedy"), ERRORS, ids=lambda v: str(v)[:40])
def test_every_documented_error(
    code: int, words: str, kind: type[APIError], remedy: str, real: bool
) -> None:
    status = code if real and code >= 400 else 200
    error = failure(answer(envelope(code, words), status, retry_after=3.0))
    assert type(error) is kind
    assert (error.code, error.http_status, error.message) == (code, status, words)
    assert (error.task_id, error.retry_after) == (ID, 3.0)
    assert ID in str(error)
    assert str(error).endswith(remedy)


@pytest.mark.parametrize("real", [False, True], ids=["http-200", "http-as-code"])
@pytest.mark.parametrize(
    ("code", "words"),
    [
        (400, POLICY),
        (400, LANGUAGE),
        (400, IMAGE),
        (400, UNSAFE),
        (400, AUDIO),
        (400, AUDIO + " Please change the prompt and try generating again."),
        (400, POLICY.upper()),
        (422, FLOW),
        (422, FLOW.replace("<original error>", "the video is being generated")),
        (422, "failed"),
        (422, "Failed"),
        (451, IMAGE),
        (451, "anything"),
        (501, "Generation failed."),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_refusal_in_the_envelope_is_a_failed_task(code: int, words: str, real: bool) -> None:
    record = codec.read_record_info(answer(envelope(code, words), code if real else 200), ID)
    assert record == TaskRecord(task_id=ID, status=FAILED, error_code=code, error_message=words)


@pytest.mark.parametrize("real", [False, True], ids=["http-200", "http-as-code"])
@pytest.mark.parametrize(
    ("code", "words"),
    [
        (400, "Processing: task still generating"),
        (400, "Processing"),
        (400, "Task still generating"),
        (400, ""),
        (400, "some words that nobody knows"),
        (400, "1080P is processing. It should be ready in 1-2 minutes."),
        (422, "record status is not success"),
        (422, "record result data is blank"),
        (422, "record result data not exist"),
        (422, "record result data is empty"),
        (422, "The record is being generated, please try again later."),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_says_not_yet_is_a_running_task(code: int, words: str, real: bool) -> None:
    record = codec.read_record_info(answer(envelope(code, words), code if real else 200), ID)
    assert record == TaskRecord(task_id=ID, status=GENERATING)


PAGE = b"<html><body>Your request was flagged and rejected by Flow. record is null</body></html>"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (200, UnexpectedResponseError),
        (204, UnexpectedResponseError),
        (302, UnexpectedResponseError),
        (401, AuthenticationError),
        (403, UnexpectedResponseError),
        (404, UnexpectedResponseError),
        (405, UnexpectedResponseError),
        (410, UnexpectedResponseError),
        (422, UnexpectedResponseError),
        (429, RateLimitError),
        (451, UnexpectedResponseError),
        (500, ServerError),
        (501, ServerError),
        (502, ServerError),
        (503, ServerError),
    ],
)
@pytest.mark.parametrize("body", [PAGE, b"", b"[]", b"error code: 1010"], ids=repr)
def test_a_page_of_something_in_between_says_nothing_of_the_task(
    status: int, kind: type[APIError], body: bytes
) -> None:
    error = failure(answer(body, status))
    assert type(error) is kind
    assert (error.code, error.http_status, error.task_id) == (status, status, ID)


@pytest.mark.parametrize("body", [PAGE, b"", b'{"error": "Processing"}'], ids=repr)
def test_http_400_means_generating_whatever_the_body(body: bytes) -> None:
    assert codec.read_record_info(answer(body, 400), ID).status is GENERATING


def test_a_404_in_json_is_believed_although_it_is_no_envelope() -> None:
    error = failure(answer({"status": 404, "error": "Not Found"}, 404))
    assert type(error) is NotFoundError
    assert error.message == "Not Found"


def test_the_http_status_is_read_before_the_code() -> None:
    error = failure(answer(envelope(200, "success", live()), 503))
    assert (type(error), error.code) == (ServerError, 503)
