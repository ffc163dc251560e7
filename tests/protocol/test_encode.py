"""What goes out in each dialect, byte for byte as JSON.

Spec: Create Task, Check Status, Get 1080P Video. Live document 2.2, 2.5 to 2.7, 2.10 and 2.13.
"""

import json
from typing import Any

import pytest

from veo_async.errors import InvalidRequestError
from veo_async.models import Dialect, Resolution
from veo_async.protocol import codec
from veo_async.protocol.dialect import FORMS
from veo_async.request import ExtendRequest, PaidRequest, VideoRequest

TEXT_SAMPLE = """
{
  "prompt": "A cinematic landscape with mountains during golden hour sunset, realistic lighting",
  "model": "veo3",
  "generationType": "TEXT_2_VIDEO",
  "aspectRatio": "16:9",
  "seed": 12345,
  "callBackUrl": "https://webhook.your-domain.com/veo"
}
"""
FRAMES_SAMPLE = """
{
  "imageUrls": ["https://example.com/start.jpg", "https://example.com/end.jpg"],
  "prompt": "Smooth transition between the two scenes",
  "model": "veo3",
  "generationType": "FIRST_AND_LAST_FRAMES_2_VIDEO",
  "aspectRatio": "16:9",
  "callBackUrl": "https://webhook.your-domain.com/veo"
}
"""
IMAGE = "https://example.com/a.png"


def body(request: PaidRequest, dialect: str = "auto") -> Any:
    """Return the body as the other side reads it."""
    return json.loads(json.dumps(codec.encode_create(request, FORMS[Dialect(dialect)]).body))


def test_the_text_sample_of_the_spec() -> None:
    request = VideoRequest(
        "A cinematic landscape with mountains during golden hour sunset, realistic lighting",
        model="veo3",
        generation_type="TEXT_2_VIDEO",
        aspect_ratio="16:9",
        seed=12_345,
        callback_url="https://webhook.your-domain.com/veo",
    )
    live = {"aspect_ratio": "16:9", "seeds": 12_345}  # live document, section 3
    # Sent always: the two documents disagree on its default (live document 2.2).
    said = {"enableTranslation": True}
    assert body(request) == json.loads(TEXT_SAMPLE) | live | said


def test_the_frames_sample_of_the_spec() -> None:
    request = VideoRequest(
        "Smooth transition between the two scenes",
        image_urls=["https://example.com/start.jpg", "https://example.com/end.jpg"],
        model="veo3",
        aspect_ratio="16:9",
        callback_url="https://webhook.your-domain.com/veo",
    )
    more = {"aspect_ratio": "16:9", "enableTranslation": True}
    assert body(request) == json.loads(FRAMES_SAMPLE) | more


def test_what_is_not_given_is_not_sent() -> None:
    assert body(VideoRequest("a boat")) == {
        "prompt": "a boat",
        "model": "veo3_fast",
        "generationType": "TEXT_2_VIDEO",
        "enableTranslation": True,
    }


def test_all_fields_at_once() -> None:
    request = VideoRequest(
        "a boat",
        model="veo3_fast",
        generation_type="REFERENCE_2_VIDEO",
        image_urls=(IMAGE,),
        aspect_ratio="Auto",
        seed=99_999,
        callback_url="https://example.com/hook?a=b",
        enable_translation=False,
        watermark="mine",
        resolution="4k",
        duration=8,
        extra={"enableFallback": False, "nested": {"a": [1, None]}},
    )
    assert body(request) == {
        "prompt": "a boat",
        "model": "veo3_fast",
        "generationType": "REFERENCE_2_VIDEO",
        "imageUrls": [IMAGE],
        "aspectRatio": "Auto",
        "aspect_ratio": "Auto",
        "seed": 99_999,
        "seeds": 99_999,
        "callBackUrl": "https://example.com/hook?a=b",
        "enableTranslation": False,
        "watermark": "mine",
        "resolution": "4k",
        "duration": 8,
        "enableFallback": False,
        "nested": {"a": [1, None]},
    }


@pytest.mark.parametrize(
    ("images", "kind"),
    [
        (0, "TEXT_2_VIDEO"),
        (1, "FIRST_AND_LAST_FRAMES_2_VIDEO"),
        (2, "FIRST_AND_LAST_FRAMES_2_VIDEO"),
        (3, "REFERENCE_2_VIDEO"),
    ],
)
def test_the_mode_is_always_said(images: int, kind: str) -> None:
    sent = body(VideoRequest("a boat", image_urls=[IMAGE] * images))
    assert sent["generationType"] == kind
    assert sent.get("imageUrls", []) == [IMAGE] * images


@pytest.mark.parametrize(
    "prompt", ['"quoted" \\ and\nbroken', "船と夕日", "\N{SAILBOAT}\U0001f3a5"]
)
def test_a_prompt_arrives_as_it_was_written(prompt: str) -> None:
    assert body(VideoRequest(prompt))["prompt"] == prompt


FULL = VideoRequest(
    "a boat",
    image_urls=(IMAGE,),
    aspect_ratio="9:16",
    seed=12_345,
    callback_url="https://example.com/hook",
    enable_translation=False,
    watermark="mine",
    resolution="1080p",
    duration=8,
    extra={"enableFallback": False},
)
ALIKE = {
    "prompt": "a boat",
    "model": "veo3_fast",
    "generationType": "FIRST_AND_LAST_FRAMES_2_VIDEO",
    "imageUrls": [IMAGE],
    "callBackUrl": "https://example.com/hook",
    "enableTranslation": False,
    "watermark": "mine",
    "resolution": "1080p",
    "duration": 8,
    "enableFallback": False,
}


@pytest.mark.parametrize(
    ("dialect", "path", "sent"),
    [
        ("spec", "/api/v1/veo/generate", {**ALIKE, "aspectRatio": "9:16", "seed": 12_345}),
        ("live", "/api/v1/veo/generate", {**ALIKE, "aspect_ratio": "9:16", "seeds": 12_345}),
        (
            "auto",
            "/api/v1/veo/generate",
            {
                **ALIKE,
                "aspectRatio": "9:16",
                "seed": 12_345,
                "aspect_ratio": "9:16",
                "seeds": 12_345,
            },
        ),
        (
            "jobs",
            "/api/v1/jobs/createTask",
            {
                "model": "veo-3-1",
                "callBackUrl": "https://example.com/hook",
                "input": {
                    "prompt": "a boat",
                    "model": "veo3_fast",
                    "generation_type": "FIRST_AND_LAST_FRAMES_2_VIDEO",
                    "image_urls": [IMAGE],
                    "aspect_ratio": "9:16",
                    "enable_translation": False,
                    "watermark": "mine",
                    "resolution": "1080p",
                    "duration": 8,
                    "enable_fallback": False,
                },
            },
        ),
    ],
)
def test_a_request_in_each_dialect(dialect: str, path: str, sent: object) -> None:
    call = codec.encode_create(FULL, FORMS[Dialect(dialect)])
    assert (call.method, call.path, call.query) == ("POST", path, {})
    assert body(FULL, dialect) == sent


EXTENSION = ExtendRequest(
    "base-1",
    "it sails on",
    model="veo3",
    seed=12_345,
    callback_url="https://example.com/hook",
    watermark="mine",
    extra={"more": [1]},
)
OLD_EXTENSION = {
    "taskId": "base-1",
    "prompt": "it sails on",
    "model": "quality",
    "seeds": 12_345,
    "callBackUrl": "https://example.com/hook",
    "watermark": "mine",
    "more": [1],
}


@pytest.mark.parametrize(
    ("dialect", "path", "sent"),
    [
        ("spec", "/api/v1/veo/extend", OLD_EXTENSION),
        ("live", "/api/v1/veo/extend", OLD_EXTENSION),
        ("auto", "/api/v1/veo/extend", OLD_EXTENSION),
        (
            "jobs",
            "/api/v1/jobs/createTask",
            {
                "model": "veo/extend",
                "callBackUrl": "https://example.com/hook",
                "input": {
                    "task_id": "base-1",
                    "prompt": "it sails on",
                    "seeds": 12_345,
                    "watermark": "mine",
                    "more": [1],
                },
            },
        ),
    ],
)
def test_an_extension_in_each_dialect(dialect: str, path: str, sent: object) -> None:
    call = codec.encode_create(EXTENSION, FORMS[Dialect(dialect)])
    assert (call.method, call.path, call.query) == ("POST", path, {})
    assert body(EXTENSION, dialect) == sent


@pytest.mark.parametrize(
    ("model", "called"), [("veo3", "quality"), ("veo3_fast", "fast"), ("veo3_lite", "lite")]
)
def test_an_extension_has_other_names_for_the_models(model: str, called: str) -> None:
    sent = body(ExtendRequest("base-1", "on", model=model))
    assert sent == {"taskId": "base-1", "prompt": "on", "model": called}


def test_the_least_extension_of_the_newer_form() -> None:
    sent = body(ExtendRequest("base-1", "on"), "jobs")
    assert sent == {"model": "veo/extend", "input": {"task_id": "base-1", "prompt": "on"}}


def test_what_is_sent_does_not_change_what_is_sent_next() -> None:
    body(VideoRequest("one", extra={"only": 1}), "jobs")
    assert "only" not in body(VideoRequest("two"), "jobs")["input"]


OWN_NAMES = {
    "prompt": "prompt",
    "model": "model",
    "generationType": "generation_type",
    "generation_type": "generation_type",
    "imageUrls": "image_urls",
    "image_urls": "image_urls",
    "aspectRatio": "aspect_ratio",
    "aspect_ratio": "aspect_ratio",
    "seed": "seed",
    "seeds": "seed",
    "callBackUrl": "callback_url",
    "enableTranslation": "enable_translation",
    "enable_translation": "enable_translation",
    "watermark": "watermark",
    "resolution": "resolution",
    "duration": "duration",
}


@pytest.mark.parametrize("name", OWN_NAMES)
def test_extra_cannot_repeat_a_field_in_any_spelling(name: str) -> None:
    request = VideoRequest("a boat", extra={name: "x"})
    with pytest.raises(InvalidRequestError, match=f"{name!r}.*set that field instead$") as caught:
        codec.encode_create(request)
    assert caught.value.field == "extra"


@pytest.mark.parametrize("name", ["taskId", "task_id", "prompt", "seeds", "callBackUrl"])
def test_extra_cannot_repeat_a_field_of_an_extension(name: str) -> None:
    with pytest.raises(InvalidRequestError, match=f"{name!r}.*set that field instead$"):
        codec.check(ExtendRequest("base-1", "on", extra={name: "x"}))


def test_what_is_a_field_of_the_one_may_be_an_extra_of_the_other() -> None:
    extra = {"resolution": "720p"}
    assert body(ExtendRequest("base-1", "on", extra=extra))["resolution"] == "720p"
    assert body(VideoRequest("a boat", extra={"taskId": "x"}))["taskId"] == "x"


@pytest.mark.parametrize("dialect", Dialect)
def test_an_image_that_was_not_uploaded_is_not_sent(dialect: Dialect) -> None:
    request = VideoRequest("a boat", image_urls=["frame.png"])
    with pytest.raises(InvalidRequestError, match=r"'frame\.png'.*veo\.upload") as caught:
        codec.encode_create(request, FORMS[dialect])
    assert caught.value.field == "image_urls"


@pytest.mark.parametrize(
    ("dialect", "path"),
    [
        ("auto", "/api/v1/veo/record-info"),
        ("spec", "/api/v1/veo/record-info"),
        ("live", "/api/v1/veo/record-info"),
        ("jobs", "/api/v1/jobs/recordInfo"),
    ],
)
def test_a_task_is_asked_for_where_its_dialect_says(dialect: str, path: str) -> None:
    ask = codec.encode_record_info("veo_task_abcdef123456", FORMS[Dialect(dialect)])
    assert (ask.method, ask.path, ask.body) == ("GET", path, None)
    assert ask.query == {"taskId": "veo_task_abcdef123456"}


SPEC_PATH, LIVE_PATH = "/api/v1/veo/get-veo-3-1080-p-video", "/api/v1/veo/get-1080p-video"


@pytest.mark.parametrize(
    ("dialect", "paths"),
    [("auto", [SPEC_PATH, LIVE_PATH]), ("spec", [SPEC_PATH]), ("live", [LIVE_PATH])],
)
def test_the_1080p_call_has_another_path_in_the_spec_than_in_life(
    dialect: str, paths: list[str]
) -> None:
    calls = FORMS[Dialect(dialect)].upgrades[Resolution.HD_1080P]
    sent = [codec.encode_upgrade(call, "abc") for call in calls]
    assert [call.path for call in sent] == paths
    for call in sent:
        assert (call.method, call.query, call.body) == ("GET", {"taskId": "abc"}, None)


@pytest.mark.parametrize("dialect", ["auto", "spec", "live"])
def test_the_4k_call_is_a_post(dialect: str) -> None:
    (call,) = FORMS[Dialect(dialect)].upgrades[Resolution.UHD_4K]
    sent = codec.encode_upgrade(call, "abc")
    assert (sent.method, sent.path) == ("POST", "/api/v1/veo/get-4k-video")
    assert (sent.query, sent.body) == ({}, {"taskId": "abc"})
    assert not call.is_paid_task, "asking again is how it is asked about"


@pytest.mark.parametrize(
    ("resolution", "model", "name"),
    [("1080p", "veo/get-1080p-video", "taskId"), ("4k", "veo/get-4k-video", "task_id")],
)
def test_in_the_newer_form_a_conversion_is_a_task(resolution: str, model: str, name: str) -> None:
    (call,) = FORMS[Dialect.JOBS].upgrades[Resolution(resolution)]
    assert call.is_paid_task
    sent = codec.encode_upgrade(call, "abc")
    assert (sent.method, sent.path, sent.query) == ("POST", "/api/v1/jobs/createTask", {})
    assert sent.body == {"model": model, "input": {name: "abc"}}


def test_the_common_calls() -> None:
    balance = codec.encode_credits()
    assert (balance.method, balance.path) == ("GET", "/api/v1/chat/credit")
    assert (balance.query, balance.body) == ({}, None)
    link = codec.encode_download_url("https://host/a.mp4?b=c")
    assert (link.method, link.path) == ("POST", "/api/v1/common/download-url")
    assert link.body == {"url": "https://host/a.mp4?b=c"}
