"""What goes out (spec: Create Task, Check Status, Get 1080P Video), byte for byte as JSON."""

import json
from typing import Any

import pytest

from veo_async.errors import InvalidRequestError
from veo_async.protocol import codec, dialect
from veo_async.request import VideoRequest

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


def body(request: VideoRequest) -> Any:
    """Return the body as the other side reads it."""
    return json.loads(json.dumps(codec.encode_generate(request).body))


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


@pytest.mark.parametrize(
    "name", sorted({name for names in dialect.REQUEST_NAMES.values() for name in names})
)
def test_extra_cannot_repeat_a_field_in_either_spelling(name: str) -> None:
    request = VideoRequest("a boat", extra={name: "x"})
    with pytest.raises(InvalidRequestError, match=f"{name!r}.*set that field instead$") as caught:
        codec.encode_generate(request)
    assert caught.value.field == "extra"


def test_the_calls_go_where_the_spec_says() -> None:
    create = codec.encode_generate(VideoRequest("a boat"))
    assert (create.method, create.path, create.query) == ("POST", "/api/v1/veo/generate", {})
    ask = codec.encode_record_info("veo_task_abcdef123456")
    assert (ask.method, ask.path, ask.body) == ("GET", "/api/v1/veo/record-info", None)
    assert ask.query == {"taskId": "veo_task_abcdef123456"}


def test_the_1080p_call_knows_the_path_of_the_spec_and_the_live_one() -> None:
    assert dialect.UPGRADE_1080P_PATHS == (
        "/api/v1/veo/get-veo-3-1080-p-video",
        "/api/v1/veo/get-1080p-video",
    )
    for path in dialect.UPGRADE_1080P_PATHS:
        call = codec.encode_upgrade_1080p("abc", path)
        assert (call.method, call.path, call.body) == ("GET", path, None)
        assert call.query == {"taskId": "abc"}
