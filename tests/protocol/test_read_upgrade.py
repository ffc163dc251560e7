"""The answers of the 1080P and 4K calls: spec (Get 1080P Video), live document 2.5, 2.6 and 4."""

import json
from datetime import UTC, datetime
from typing import Any

import attrs
import pytest

from veo_async.errors import (
    APIError,
    AuthenticationError,
    InsufficientCreditsError,
    NotFoundError,
    RateLimitError,
    ServerError,
    ServiceUnavailableError,
    TaskFailedError,
    UnexpectedResponseError,
    ValidationError,
)
from veo_async.models import Resolution, TaskRecord, TaskStatus, Video
from veo_async.protocol import codec
from veo_async.protocol.http import HttpResponse

ID = "0123456789abcdef0123456789abcdef"
SMALL = f"https://tempfile.aiquickdraw.com/v/{ID}_1776728270.mp4"
LARGE = f"https://tempfile.aiquickdraw.com/p/{ID}_1776728999.mp4"
BASE = Video(
    task_id=ID,
    url=SMALL,
    urls=(SMALL,),
    duration=8.0,
    resolution="720p",
    aspect_ratio="16:9",
    seed=61668,
    has_audio=True,
    created_at=datetime(2026, 4, 20, tzinfo=UTC),
)
PROCESSING = "1080P is processing. It should be ready in 1-2 minutes. Please check back shortly."


def answer(body: object, status: int = 200) -> HttpResponse:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return HttpResponse(status=status, body=data, retry_after=None)


def envelope(code: Any, msg: Any, data: Any = None) -> dict[str, Any]:
    return {"code": code, "msg": msg, "data": data}


def read(body: object, status: int = 200) -> Video | None:
    return codec.read_upgrade(answer(body, status), BASE, Resolution.HD_1080P)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param({"resultUrl": LARGE}, id="live"),
        pytest.param({"result_url": LARGE}, id="snake-case"),
        pytest.param({"videoUrl": LARGE}, id="video-url"),
        pytest.param({"url": LARGE}, id="url"),
        pytest.param({"resultUrls": [LARGE]}, id="list"),
        pytest.param({"resultUrls": json.dumps([LARGE])}, id="list-as-text"),
        pytest.param({"response": {"resultUrls": [LARGE]}}, id="as-record-info"),
        pytest.param({"taskId": ID, "status": 1, "videoUrl": LARGE}, id="as-the-spec's-status"),
        pytest.param(LARGE, id="bare-text"),
    ],
)
def test_a_link_in_any_spelling_is_the_converted_video(data: Any) -> None:
    video = read(envelope(200, "success", data))
    assert video == attrs.evolve(BASE, url=LARGE, urls=(LARGE,), resolution="1080p", origin="1080p")
    assert video.raw == (data if isinstance(data, dict) else {})


@pytest.mark.parametrize(("code", "status"), [(422, 200), (422, 422), (400, 200), (404, 404)])
def test_a_link_counts_beside_a_code_that_sounds_bad(code: int, status: int) -> None:
    body = envelope(code, "The video has been generated successfully", {"resultUrls": [LARGE]})
    video = read(body, status)
    assert video is not None
    assert video.url == LARGE


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (200, "success"),
        (400, PROCESSING),
        (400, "Processing: 1080P conversion in progress"),
        (400, ""),
        (422, PROCESSING),
        (422, "The 1080P record is being generated, please try again later."),
        (422, "Please wait for the record to generate"),
        (422, "record status is not success"),
        (422, "record result data is blank"),
        (422, "record result data not exist"),
        (422, "record result data is empty"),
    ],
    ids=lambda value: str(value)[:40],
)
@pytest.mark.parametrize("real", [False, True], ids=["http-200", "http-as-code"])
@pytest.mark.parametrize(
    "data",
    [None, {}, {"resultUrl": None}, {"resultUrl": ""}, "soon", {"originUrls": [LARGE]}],
    ids=repr,
)
def test_not_ready_yet(code: int, words: str, real: bool, data: Any) -> None:
    assert read(envelope(code, words, data), code if real else 200) is None


ERRORS: list[tuple[int, str, type[APIError]]] = [
    (400, "Your prompt was flagged by Website as violating content policies.", ValidationError),
    (401, "You do not have access permissions", AuthenticationError),
    (402, "Credits are insufficient for generating 1080P", InsufficientCreditsError),
    (404, "Not found", NotFoundError),
    (408, "Timeout", ServerError),
    (422, "record is null", NotFoundError),
    (422, "Temporarily supports records within 14 days.", NotFoundError),
    (422, "Your request was rejected by Flow(unable to generate)", ValidationError),
    (422, "index is wrong", ValidationError),
    (429, "Rate limit exceeded", RateLimitError),
    (451, "Failed to fetch the image.", ValidationError),
    (455, "maintenance", ServiceUnavailableError),
    (500, "Internal Error, Please try again later.", ServerError),
    (500, "1080P is processing", ServerError),
    (501, "Generation failed.", ServerError),
    (505, "This feature is disabled", ServerError),
]


@pytest.mark.parametrize("real", [False, True], ids=["http-200", "http-as-code"])
@pytest.mark.parametrize(("code", "words", "kind"), ERRORS, ids=lambda value: str(value)[:40])
def test_every_documented_error(code: int, words: str, kind: type[APIError], real: bool) -> None:
    status = code if real else 200
    with pytest.raises(APIError) as caught:
        read(envelope(code, words), status)
    error = caught.value
    assert type(error) is kind
    assert (error.code, error.http_status, error.message) == (code, status, words)
    assert error.task_id == ID
    assert ID in str(error)
    assert "; " in str(error)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (200, UnexpectedResponseError),
        (302, UnexpectedResponseError),
        (400, UnexpectedResponseError),
        (403, UnexpectedResponseError),
        # The live service has no such path as the spec's: this is how the other one is found.
        (404, NotFoundError),
        (502, ServerError),
    ],
)
@pytest.mark.parametrize("body", [b"<html>1080P is processing</html>", b"", b"{}"], ids=repr)
def test_what_is_no_envelope_is_an_error(status: int, kind: type[APIError], body: bytes) -> None:
    with pytest.raises(APIError) as caught:
        read(body, status)
    assert type(caught.value) is kind
    assert caught.value.code == caught.value.http_status == status


def test_a_link_in_a_page_or_under_a_5xx_is_not_delivered() -> None:
    with pytest.raises(UnexpectedResponseError):
        read({"data": {"resultUrl": LARGE}})
    with pytest.raises(ServerError):
        read(envelope(200, "success", {"resultUrl": LARGE}), 502)


# --- 4K (live document 2.6)

PICTURE = "https://tempfile.aiquickdraw.com/p/1.jpg"


def read_4k(body: object, status: int = 200) -> Video | None:
    return codec.read_upgrade(answer(body, status), BASE, Resolution.UHD_4K)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (200, "success"),
        (
            422,
            "4k is processing. It should be ready in 5-10 minutes. Please check back shortly.",
        ),
        (400, "4k is processing. It should be ready in 5-10 minutes. Please check back shortly."),
        (422, "record status is not success"),
    ],
)
@pytest.mark.parametrize("real", [False, True], ids=["http-200", "http-as-code"])
def test_4k_is_not_ready_yet(code: int, words: str, real: bool) -> None:
    data = {"taskId": ID, "resultUrls": None, "imageUrls": None}
    assert read_4k(envelope(code, words, data), code if real else 200) is None
    # Its picture comes before its film, and is not the film.
    assert read_4k(envelope(code, words, data | {"imageUrls": [PICTURE]})) is None


@pytest.mark.parametrize(
    "data",
    [
        {"taskId": ID, "resultUrls": [LARGE], "imageUrls": [PICTURE]},
        {"task_id": ID, "result_urls": [LARGE], "media_ids": ["a"], "image_urls": [PICTURE]},
        {"taskId": ID, "response": {"resultUrls": [LARGE], "mediaIds": ["a"]}, "successFlag": 1},
    ],
    ids=["2.6", "callback-page", "record-info"],
)
@pytest.mark.parametrize("code", [422, 200])
def test_4k_is_ready_although_the_code_is_422(code: int, data: Any) -> None:
    video = read_4k(envelope(code, "The video has been generated successfully", data))
    assert video == attrs.evolve(BASE, url=LARGE, urls=(LARGE,), resolution="4k", origin="4k")
    assert (video.duration, video.seed, video.has_audio) == (8.0, 61668, True)
    assert codec.upgrade_task(video) is None


def test_there_is_no_4k_version() -> None:
    words = "The 4K version of this video is unavailable. Please try a different video."
    with pytest.raises(ServerError) as caught:
        read_4k(envelope(500, words, {"taskId": ID}))
    assert (caught.value.message, caught.value.task_id) == (words, ID)


# --- a conversion that is a task of its own (live document 2.13)


def made(status: TaskStatus, **fields: Any) -> TaskRecord:
    return TaskRecord(task_id="another", status=status, **fields)


def test_a_task_of_its_own_gives_the_video_of_its_base() -> None:
    record = made(
        TaskStatus.SUCCESS, video_url=LARGE, video_urls=(LARGE, SMALL), raw={"taskId": "another"}
    )
    video = codec.upgraded_by(record, BASE, Resolution.UHD_4K)
    assert video == attrs.evolve(BASE, url=LARGE, urls=(LARGE, SMALL), resolution="4k", origin="4k")
    assert video.task_id == ID
    assert codec.upgrade_task(video) == "another"


@pytest.mark.parametrize("status", [TaskStatus.GENERATING, TaskStatus.SUCCESS])
def test_a_task_of_its_own_without_a_link_is_not_ready(status: TaskStatus) -> None:
    assert codec.upgraded_by(made(status), BASE, Resolution.UHD_4K) is None


def test_a_link_of_a_task_that_runs_is_not_delivered() -> None:
    record = made(TaskStatus.GENERATING, video_url=LARGE, video_urls=(LARGE,))
    assert codec.upgraded_by(record, BASE, Resolution.UHD_4K) is None


def test_a_task_of_its_own_may_fail() -> None:
    record = made(TaskStatus.FAILED, error_code=500, error_message="Server Error")
    with pytest.raises(TaskFailedError) as caught:
        codec.upgraded_by(record, BASE, Resolution.UHD_4K)
    assert (caught.value.task_id, caught.value.is_retryable) == ("another", True)


@pytest.mark.parametrize("raw", [{}, {"taskId": None}, {"taskId": ID}, {"taskId": "a b"}], ids=str)
def test_what_names_no_other_task_was_made_by_none(raw: Any) -> None:
    assert codec.upgrade_task(attrs.evolve(BASE, raw=raw)) is None
