"""The rules of a request, one by one (spec: Parameters; live document 2.2)."""

import copy
import json
import pickle
from types import MappingProxyType
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from veo_async.errors import InvalidRequestError, VeoError
from veo_async.models import (
    AspectRatio,
    GenerationType,
    Model,
    Resolution,
    TaskStatus,
)
from veo_async.request import VideoRequest

A = "https://example.com/start.jpg"
B = "https://example.com/end.jpg"
C = "https://example.com/style.webp"
TEXT = GenerationType.TEXT_2_VIDEO
FRAMES = GenerationType.FIRST_AND_LAST_FRAMES_2_VIDEO
REFERENCE = GenerationType.REFERENCE_2_VIDEO


def made(prompt: Any = "a boat", **fields: Any) -> VideoRequest:
    return VideoRequest(prompt, **fields)


def refusal(prompt: Any = "a boat", **fields: Any) -> InvalidRequestError:
    with pytest.raises(InvalidRequestError) as caught:
        VideoRequest(prompt, **fields)
    error = caught.value
    assert isinstance(error, ValueError)
    assert isinstance(error, VeoError)
    assert str(error).isprintable()
    assert ";" in str(error), "every message ends with what to do next"
    return error


def test_the_defaults_are_those_of_the_spec() -> None:
    request = VideoRequest("a boat")
    assert attrs.asdict(request, recurse=False) == {
        "prompt": "a boat",
        "model": Model.FAST,
        "generation_type": TEXT,
        "image_urls": (),
        "aspect_ratio": None,
        "seed": None,
        "callback_url": None,
        "enable_translation": True,
        "watermark": None,
        "resolution": None,
        "duration": None,
        "extend_to": None,
        "extra": {},
    }


@pytest.mark.parametrize(
    "prompt",
    [
        pytest.param("x", id="one-character"),
        pytest.param("x" * 1000, id="1000-ascii"),
        pytest.param("船" * 1000, id="1000-chinese-3000-bytes"),
        pytest.param("\N{SAILBOAT}" * 1000, id="1000-sailboats"),
        pytest.param("\N{VIDEO CAMERA}" * 1000, id="1000-astral-2000-utf16-units"),
        pytest.param(" a\n\tboat ", id="line-breaks-and-blanks-are-kept"),
        pytest.param("nul \x00 inside", id="nul"),
    ],
)
def test_a_prompt_of_up_to_1000_characters_is_kept_as_it_is(prompt: str) -> None:
    assert made(prompt).prompt == prompt


@pytest.mark.parametrize(
    "prompt",
    [
        pytest.param("x" * 1001, id="1001-ascii"),
        pytest.param("船" * 1001, id="1001-chinese"),
        pytest.param("\N{VIDEO CAMERA}" * 1001, id="1001-astral"),
        pytest.param("x" * 100_000, id="100000"),
    ],
)
def test_a_longer_prompt_is_refused_and_the_message_counts(prompt: str) -> None:
    error = refusal(prompt)
    assert error.field == "prompt"
    assert str(error).endswith(f"shorten it by {len(prompt) - 1000}")


@pytest.mark.parametrize(
    "prompt",
    [
        pytest.param("", id="empty"),
        pytest.param("   ", id="blanks"),
        pytest.param("\n\t\u2003", id="unicode-blanks"),
        pytest.param("a \ud800 b", id="lone-high-surrogate"),
        pytest.param("\udfff", id="lone-low-surrogate"),
        pytest.param(None, id="none"),
        pytest.param(b"a boat", id="bytes"),
        pytest.param(7, id="int"),
        pytest.param(["a boat"], id="list"),
        pytest.param(10**5000, id="5001-digit-int"),
    ],
)
def test_what_is_no_prompt_is_refused(prompt: Any) -> None:
    assert refusal(prompt).field == "prompt"


@pytest.mark.parametrize("length", [0.1, 8, 30, 3600, ["x"], ("x" * 1000, "y")])
def test_a_film_has_a_length_or_the_prompts_of_its_extensions(length: Any) -> None:
    request = made(extend_to=length)
    assert request.extend_to == (tuple(length) if isinstance(length, list) else length)
    assert request.evolve(seed=12345).extensions == request.extensions


@pytest.mark.parametrize(
    "length",
    [
        *(0, -1, float("nan"), float("inf"), -float("inf"), True, "30", b"30"),
        pytest.param(3601, id="more-than-an-hour"),
        pytest.param(10**12, id="more-prompts-than-there-is-memory"),
        pytest.param(1e300, id="more-prompts-than-a-tuple-holds"),
        pytest.param(10**400, id="no-float"),
        *([], [""], ["x" * 1001], [None], [["x"]], {"x"}, {"x": "y"}, ["\ud800"]),
    ],
)
def test_what_is_no_film_is_refused_before_it_is_counted(length: Any) -> None:
    assert refusal(extend_to=length).field == "extend_to"


GOOD_URLS = [
    "https://example.com/a.png",
    "http://example.com",
    "HTTPS://EXAMPLE.COM/A.PNG",
    "https://example.com:8443/a?b=c&d=%20#e",
    "https://[2001:db8::1]/a.png",
    "https://bücher.example/bild.png",
    "https://example.com/船.webp",
    "http://127.0.0.1:8080/hooks",
    "https://example.com/" + "a" * 3000,
]
BAD_URLS = [
    "",
    " ",
    "example.com/a.gif",
    "/a",
    "//example.com/a.png",
    "ftp://example.com/a.png",
    "file:///etc/passwd",
    "javascript:alert(1)",
    "data:image/png;base64,AAAA",
    "https:",
    "https://",
    "https:///a.png",
    "https:/example.com/a.png",
    "https:example.com/a.png",
    "https://:443/a.png",
    "https://?x",
    "https://#x",
    "https://user:password@example.com/a.png",
    "https://user@example.com/a.png",
    "https://@example.com/a.png",
    "https://example.com\\@evil.example/a.png",
    "https://example.com/a b.png",
    " https://example.com/a.png",
    "https://example.com/a.png ",
    "https://example.com/a.png\n",
    "https://exam\tple.com/a.png",
    "https://example.com/\r\nHost: evil.example",
    "https://example.com/\x00",
    "https://example.com/\x7f",
    "https://example.com/\x85",
    "https://example.com/\u00a0a",
    "https://example.com/\u200b",
    "https://example.com/\u202egnp.a",
    "https://example.com/\u2028",
    "https://example.com/\ud800",
    "https://example.com:99999/a.png",
    "https://example.com:port/a.png",
    "https://example.com:-1/a.png",
    "https://[::1/a.png",
    "https://[example.com]/a.png",
    "https://exam\u2100ple.com/a.png",
    "\ufeffhttps://example.com/a.png",
    None,
    b"https://example.com/a.png",
    7,
    ["https://example.com/a.png"],
]


@pytest.mark.parametrize("url", GOOD_URLS)
def test_an_absolute_http_url_is_taken_as_it_is(url: str) -> None:
    assert made(image_urls=[url]).image_urls == (url,)
    assert made(callback_url=url).callback_url == url


@pytest.mark.parametrize("url", BAD_URLS, ids=ascii)
def test_anything_else_is_no_url(url: Any) -> None:
    assert refusal(image_urls=[url]).field == "image_urls"
    assert refusal(image_urls=[A, url]).field == "image_urls"
    if url is not None:
        assert refusal(callback_url=url).field == "callback_url"


@pytest.mark.parametrize(
    "images",
    [
        pytest.param(A, id="a-bare-string"),
        pytest.param(A.encode(), id="bytes"),
        pytest.param(None, id="none"),
        pytest.param(7, id="int"),
        pytest.param({A: B}, id="mapping"),
        pytest.param({A, B}, id="a-set-has-no-first-frame"),
        pytest.param(frozenset({A}), id="frozenset"),
        pytest.param([[A]], id="nested"),
        pytest.param(bytearray(b"https"), id="bytearray"),
    ],
)
def test_images_are_a_list_of_urls(images: Any) -> None:
    assert refusal(image_urls=images).field == "image_urls"


@pytest.mark.parametrize("kind", [list, tuple, iter], ids=["list", "tuple", "iterator"])
def test_images_of_any_ordered_kind_become_a_tuple(kind: Any) -> None:
    assert made(image_urls=kind([A, B])).image_urls == (A, B)


@pytest.mark.parametrize(
    ("images", "chosen"),
    [(0, TEXT), (1, FRAMES), (2, FRAMES), (3, REFERENCE)],
    ids=["none-text", "one-frame", "two-frames", "three-references"],
)
@pytest.mark.parametrize("given_as", ["left-out", "none"])
def test_the_mode_is_chosen_from_the_images(
    images: int, chosen: GenerationType, given_as: str
) -> None:
    fields: dict[str, Any] = {} if given_as == "left-out" else {"generation_type": None}
    assert made(image_urls=[A, B, C][:images], **fields).generation_type is chosen


@pytest.mark.parametrize("kind", [*GenerationType], ids=str)
@pytest.mark.parametrize("images", range(5))
def test_each_mode_takes_its_number_of_images(kind: GenerationType, images: int) -> None:
    takes = {TEXT: {0}, FRAMES: {1, 2}, REFERENCE: {1, 2, 3}}[kind]
    urls = [A, B, C, A][:images]
    if images in takes:
        assert made(image_urls=urls, generation_type=str(kind)).generation_type is kind
    else:
        error = refusal(image_urls=urls, generation_type=kind)
        assert error.field == "image_urls"
        assert f"holds {images}" in str(error)


@pytest.mark.parametrize("images", [4, 5, 100])
def test_more_images_than_any_mode_takes_are_refused(images: int) -> None:
    assert refusal(image_urls=[A] * images).field == "image_urls"


CHOICES: dict[str, type[Model | GenerationType | AspectRatio | Resolution]] = {
    "model": Model,
    "generation_type": GenerationType,
    "aspect_ratio": AspectRatio,
    "resolution": Resolution,
}


def test_the_values_on_the_wire_are_the_documented_ones() -> None:
    assert [*map(str, Model)] == ["veo3", "veo3_fast", "veo3_lite"]
    assert [*map(str, AspectRatio)] == ["16:9", "9:16", "Auto"]
    assert [*map(str, Resolution)] == ["720p", "1080p", "4k"]
    assert [*map(str, GenerationType)] == [
        "TEXT_2_VIDEO",
        "FIRST_AND_LAST_FRAMES_2_VIDEO",
        "REFERENCE_2_VIDEO",
    ]


@pytest.mark.parametrize("field", ["model", "aspect_ratio", "resolution"])
def test_a_choice_may_be_a_plain_string_or_a_member(field: str) -> None:
    for member in CHOICES[field]:
        assert getattr(made(**{field: member}), field) is member
        assert getattr(made(**{field: str(member)}), field) is member


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", "veo-3"),
        ("model", "VEO3"),
        ("model", ""),
        ("model", None),
        ("model", 3),
        ("model", ["veo3"]),
        ("generation_type", "text_2_video"),
        ("generation_type", "TEXT_TO_VIDEO"),
        ("generation_type", 0),
        ("aspect_ratio", "auto"),
        ("aspect_ratio", "AUTO"),
        ("aspect_ratio", "4:3"),
        ("aspect_ratio", "16:9 "),
        ("aspect_ratio", 16 / 9),
        ("aspect_ratio", (16, 9)),
        ("resolution", "4K"),
        ("resolution", "1080P"),
        ("resolution", 1080),
        ("resolution", {"1080p"}),
    ],
    ids=repr,
)
def test_a_choice_outside_its_list_is_refused_with_the_list(field: str, value: Any) -> None:
    error = refusal(**{field: value})
    assert error.field == field
    assert all(repr(str(member)) in str(error) for member in CHOICES[field])


@pytest.mark.parametrize("seed", [10_000, 10_001, 12_345, 99_999, None])
def test_a_seed_of_five_digits_is_taken(seed: int | None) -> None:
    assert made(seed=seed).seed == seed


@pytest.mark.parametrize(
    "seed",
    [
        *(0, 1, 9_999, 100_000, -12_345, 12_345.0, 12_345.5, "12345", True, False, [12_345]),
        *(float("nan"), 10**4000, 10**5000),
    ],
    ids=lambda seed: type(seed).__name__,
)
def test_any_other_seed_is_refused(seed: Any) -> None:
    error = refusal(seed=seed)
    assert error.field == "seed"
    assert str(error).endswith("give an int from 10000 to 99999")


@pytest.mark.parametrize("duration", [4, 6, 8, None])
def test_a_duration_that_is_sold_is_taken(duration: int | None) -> None:
    assert made(duration=duration).duration == duration


@pytest.mark.parametrize("duration", [0, 5, 10, -8, 8.0, "8", True, [8]], ids=repr)
def test_any_other_duration_is_refused(duration: Any) -> None:
    assert refusal(duration=duration).field == "duration"


@pytest.mark.parametrize("flag", [True, False])
def test_translation_is_a_bool(flag: bool) -> None:
    assert made(enable_translation=flag).enable_translation is flag


@pytest.mark.parametrize("flag", [None, 0, 1, "true", "", [True]], ids=repr)
def test_and_nothing_but_a_bool(flag: Any) -> None:
    assert refusal(enable_translation=flag).field == "enable_translation"


@pytest.mark.parametrize("text", ["mine", "© 2026 船", None])
def test_a_watermark_is_text_or_none(text: str | None) -> None:
    assert made(watermark=text).watermark == text


@pytest.mark.parametrize("text", ["", "  ", 7, b"mine", ["mine"], "\ud800"], ids=ascii)
def test_a_watermark_that_holds_nothing_to_print_is_refused(text: Any) -> None:
    assert refusal(watermark=text).field == "watermark"


EXTRAS: list[Any] = [{}, {"enableFallback": True}, {"a": [1, 2.5, None, {"b": "船"}]}]


@pytest.mark.parametrize("extra", EXTRAS, ids=repr)
def test_extra_takes_json_values(extra: Any) -> None:
    assert made(extra=extra).extra == extra
    assert made(extra=MappingProxyType(extra)).extra == extra


def test_extra_is_a_copy_down_to_the_ground() -> None:
    inner = [1]
    request = made(extra={"a": inner})
    inner.append(2)
    assert request.extra == {"a": [1]}


def circle() -> list[object]:
    ring: list[object] = []
    ring.append(ring)
    return ring


def deep(levels: int) -> object:
    value: object = 0
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "extra",
    [
        pytest.param(None, id="none"),
        pytest.param([("a", 1)], id="pairs"),
        pytest.param("a=1", id="text"),
        pytest.param({"a": object()}, id="object"),
        pytest.param({"a": {1, 2}}, id="set"),
        pytest.param({"a": b"x"}, id="bytes"),
        pytest.param({"a": float("nan")}, id="nan"),
        pytest.param({"a": float("inf")}, id="infinity"),
        pytest.param({(1, 2): 1}, id="tuple-as-key"),
        pytest.param({"a": "\ud800"}, id="lone-surrogate"),
        pytest.param({"a": 10**5000}, id="5001-digit-int"),
        pytest.param({"a": circle()}, id="circle"),
        pytest.param({"a": deep(100_000)}, id="deep"),
    ],
)
def test_extra_that_is_no_json_is_refused(extra: Any) -> None:
    assert refusal(extra=extra).field == "extra"


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("aspectRatio", "aspect_ratio"),
        ("aspect", "aspect_ratio"),
        ("imageUrls", "image_urls"),
        ("image_url", "image_urls"),
        ("callBackUrl", "callback_url"),
        ("callback", "callback_url"),
        ("generationType", "generation_type"),
        ("enableTranslation", "enable_translation"),
        ("seeds", "seed"),
        ("waterMark", "watermark"),
        ("modle", "model"),
        ("resolutions", "resolution"),
        ("durations", "duration"),
    ],
)
def test_an_unknown_field_is_refused_with_the_one_that_was_meant(name: str, meant: str) -> None:
    error = refusal(**{name: "x"})
    assert error.field == name
    assert str(error).endswith(f"did you mean {meant}?")


@pytest.mark.parametrize("name", ["qwxyz", "", "\x1b[31m", "\ud800"], ids=ascii)
def test_an_unknown_field_like_no_other_is_refused_with_the_list(name: str) -> None:
    error = refusal(**{name: 1})
    assert error.field == name
    assert "known are model, generation_type, image_urls" in str(error)


def test_a_hostile_value_is_shown_short_and_escaped() -> None:
    error = refusal(model="\x1b[31m" + "x" * 10_000)
    assert len(str(error)) < 250
    assert "\\x1b" in str(error)


# --- a value among values

FULL: dict[str, Any] = {
    "model": "veo3",
    "generation_type": "REFERENCE_2_VIDEO",
    "image_urls": [A, B],
    "aspect_ratio": "9:16",
    "seed": 12_345,
    "callback_url": "https://example.com/hook",
    "enable_translation": False,
    "watermark": "mine",
    "resolution": "1080p",
    "duration": 6,
    "extra": {"enableFallback": False},
}


def test_a_request_cannot_be_changed() -> None:
    request = made()
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        request.prompt = "another"  # type: ignore[misc]
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        del request.prompt
    with pytest.raises(AttributeError):
        request.unknown = 1  # type: ignore[attr-defined]


def test_equal_fields_make_equal_requests_and_hashes() -> None:
    one, other = made(**FULL), made(**FULL)
    assert one == other
    assert hash(one) == hash(other)
    assert {one: 1}[other] == 1


@pytest.mark.parametrize("field", [*FULL])
def test_each_field_counts_in_a_comparison(field: str) -> None:
    fields = {name: value for name, value in FULL.items() if name != field}
    if field == "image_urls":
        fields[field] = [B, A]
    assert made(**fields) != made(**FULL)


@pytest.mark.parametrize("fields", [{}, FULL], ids=["bare", "full"])
def test_a_request_survives_pickle_and_copy(fields: dict[str, Any]) -> None:
    request = made(**fields)
    assert pickle.loads(pickle.dumps(request)) == request
    assert copy.copy(request) == request
    assert copy.deepcopy(request) == request
    assert attrs.evolve(request) == request
    assert request.evolve() == request
    assert repr(request).startswith("VideoRequest(prompt='a boat'")


@pytest.mark.parametrize(
    ("before", "change", "after"),
    [
        ({}, {"image_urls": [A]}, FRAMES),
        ({}, {"image_urls": [A, B, C]}, REFERENCE),
        ({"image_urls": [A]}, {"image_urls": []}, TEXT),
        ({"image_urls": [A, B]}, {"image_urls": [C]}, FRAMES),
        ({"image_urls": [A, B]}, {"image_urls": [A, B, C]}, REFERENCE),
        ({"image_urls": [A], "generation_type": REFERENCE}, {"image_urls": [B]}, REFERENCE),
        pytest.param(
            {"image_urls": [A], "generation_type": REFERENCE},
            {"image_urls": iter([B])},
            REFERENCE,
            id="an iterator",
        ),
        ({"image_urls": [A], "generation_type": REFERENCE}, {"image_urls": []}, TEXT),
        ({"image_urls": [A]}, {"image_urls": [B], "generation_type": REFERENCE}, REFERENCE),
        ({"image_urls": [A], "generation_type": REFERENCE}, {"generation_type": None}, FRAMES),
        ({"image_urls": [A], "generation_type": REFERENCE}, {"prompt": "b"}, REFERENCE),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_copy_keeps_its_mode_where_that_takes_the_images(
    before: dict[str, Any], change: Any, after: GenerationType
) -> None:
    assert made(**before).evolve(**change).generation_type is after


def test_a_copy_with_other_fields_is_checked_and_leaves_the_first_alone() -> None:
    request = made(**FULL)
    assert request.evolve(seed=54_321).seed == 54_321
    assert request.seed == 12_345
    changes: list[tuple[str, Any]] = [("seed", 1), ("image_urls", 7), ("seeds", 12_345)]
    for field, value in changes:
        change: Any = {field: value}
        with pytest.raises(InvalidRequestError) as caught:
            request.evolve(**change)
        assert caught.value.field == field


def test_only_success_and_failure_are_terminal() -> None:
    assert [status for status in TaskStatus if status.is_terminal] == ["success", "failed"]


# --- whatever comes in

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
odd_values = st.one_of(
    json_values,
    st.text(st.characters(exclude_categories=())),
    st.binary(),
    st.complex_numbers(),
    st.sets(st.integers()),
    st.lists(st.sampled_from([A, B, C, "", None, 7]), max_size=5),
    st.sampled_from([*Model, *GenerationType, *AspectRatio, *Resolution, 12_345, 8, A, object()]),
)
names = st.sampled_from([*FULL, "seeds", "aspectRatio"]) | st.text(
    st.characters(exclude_categories=())
)


@given(
    st.one_of(st.text(min_size=1, max_size=20), odd_values),
    st.dictionaries(names.filter(lambda name: name not in {"prompt", "self"}), odd_values),
)
def test_any_input_is_a_request_or_an_invalid_request(prompt: Any, fields: dict[str, Any]) -> None:
    made_of_it: VideoRequest | InvalidRequestError
    try:
        made_of_it = VideoRequest(prompt, **fields)
    except InvalidRequestError as error:
        made_of_it = error
    if isinstance(made_of_it, InvalidRequestError):
        # Images that do not fit the mode are told of the images.
        assert made_of_it.field in {"prompt", "image_urls", *fields}
        assert str(made_of_it).isprintable()
    else:
        assert made_of_it == pickle.loads(pickle.dumps(made_of_it))
        assert hash(made_of_it) == hash(made_of_it.evolve())
        json.dumps(attrs.asdict(made_of_it), allow_nan=False).encode()
