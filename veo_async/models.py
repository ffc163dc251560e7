"""The values that go in and come out: requests, records, videos, downloads."""

import difflib
import json
from collections.abc import Callable, Container, Iterable, Mapping
from collections.abc import Set as AbstractSet
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, TypeAlias, TypedDict, TypeGuard, TypeVar, Unpack, cast
from urllib.parse import urlsplit

import attrs

from veo_async.errors import InvalidRequestError

__all__ = [
    "JSON",
    "AspectRatio",
    "Download",
    "GenerationType",
    "JSONObject",
    "Model",
    "RequestFields",
    "Resolution",
    "TaskRecord",
    "TaskStatus",
    "Video",
    "VideoRequest",
]

JSON: TypeAlias = "dict[str, JSON] | list[JSON] | str | int | float | bool | None"
JSONObject: TypeAlias = Mapping[str, JSON]

MAX_PROMPT_CHARACTERS: Final = 1000  # spec: Parameters; characters, not bytes
SEEDS: Final = range(10_000, 100_000)  # spec: Parameters; both ends count
DURATIONS: Final = (4, 6, 8)  # live document 2.2; seconds
MAX_FRAMES: Final = 2  # spec: Parameters; first and last frame
MAX_REFERENCES: Final = 3  # live document 2.2; the spec knows 2


class Model(StrEnum):
    """The models (spec: Models Available; `veo3_lite`: live document 2.2)."""

    QUALITY = "veo3"
    FAST = "veo3_fast"
    LITE = "veo3_lite"


class GenerationType(StrEnum):
    """What a video is made from (spec: Generation Modes)."""

    TEXT_2_VIDEO = "TEXT_2_VIDEO"
    FIRST_AND_LAST_FRAMES_2_VIDEO = "FIRST_AND_LAST_FRAMES_2_VIDEO"
    REFERENCE_2_VIDEO = "REFERENCE_2_VIDEO"


class AspectRatio(StrEnum):
    """The shape of the picture (spec: Parameters)."""

    LANDSCAPE = "16:9"
    PORTRAIT = "9:16"
    AUTO = "Auto"


class Resolution(StrEnum):
    """The size of the picture (live document 2.2)."""

    HD_720P = "720p"
    HD_1080P = "1080p"
    UHD_4K = "4k"


class TaskStatus(StrEnum):
    """Where a task stands (spec: Status Codes 0, 1 and 2)."""

    GENERATING = "generating"
    SUCCESS = "success"
    FAILED = "failed"

    @property
    def is_terminal(self) -> bool:
        """Whether the service has finished with the task."""
        return self is not TaskStatus.GENERATING


class RequestFields(TypedDict, total=False):
    """The fields of a `VideoRequest` other than its prompt, as keywords."""

    model: Model | str
    generation_type: GenerationType | str | None
    image_urls: Iterable[str]
    aspect_ratio: AspectRatio | str | None
    seed: int | None
    callback_url: str | None
    enable_translation: bool
    watermark: str | None
    resolution: Resolution | str | None
    duration: int | None
    extra: JSONObject


_Choice = TypeVar("_Choice", bound=StrEnum)
_SHOWN_CHARACTERS: Final = 80  # one line of a terminal


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001  # more digits than Python writes, deep nesting, anybody's object
        text = f"{type(value).__name__} without end"
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"


def _refuse(field: str, value: object, remedy: str) -> InvalidRequestError:
    return InvalidRequestError(f"{field} is {_shown(value)}; {remedy}", field=field)


def is_http_url(value: str) -> bool:
    """Return whether a text is an absolute http(s) URL without blanks or credentials."""
    if not value.isprintable() or " " in value or "\\" in value:
        return False
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.username is None


def _url(field: str, value: object) -> str:
    if isinstance(value, str) and is_http_url(value):
        return value
    raise _refuse(field, value, "give an absolute http:// or https:// URL")


def _prompt(field: str, value: object) -> str:
    if not isinstance(value, str):
        raise _refuse(field, value, "give the video's description as a str")
    if not value.strip():
        raise InvalidRequestError(f"{field} is empty; describe the video", field=field)
    if len(value) > MAX_PROMPT_CHARACTERS:
        raise InvalidRequestError(
            f"{field} has {len(value)} characters and the service takes {MAX_PROMPT_CHARACTERS};"
            f" shorten it by {len(value) - MAX_PROMPT_CHARACTERS}",
            field=field,
        )
    return _encodable(field, value)


def _encodable(field: str, value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequestError(
            f"{field} holds a lone surrogate at character {error.start}, which cannot be sent;"
            " remove it",
            field=field,
        ) from None
    return value


def _text(field: str, value: object) -> str:
    if isinstance(value, str) and value.strip():
        return _encodable(field, value)
    raise _refuse(field, value, "give some text, or None for none")


def _is_list(value: object) -> TypeGuard[Iterable[object]]:
    # The order of frames counts, and a set has none.
    is_other = isinstance(value, str | bytes | Mapping | AbstractSet)
    return isinstance(value, Iterable) and not is_other


def _urls(field: str, value: object) -> tuple[str, ...]:
    if not _is_list(value):
        raise _refuse(field, value, "give a list of URLs")
    return tuple(_url(field, member) for member in value)


def _flag(field: str, value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise _refuse(field, value, "give True or False")


def _one_of(kind: type[_Choice]) -> Callable[[str, object], _Choice]:
    def check(field: str, value: object) -> _Choice:
        if isinstance(value, str) and value in {*kind}:
            return kind(value)
        raise _refuse(field, value, "choose one of " + ", ".join(repr(str(one)) for one in kind))

    return check


def _int_in(allowed: Container[int], words: str) -> Callable[[str, object], int]:
    def check(field: str, value: object) -> int:
        if type(value) is int and value in allowed:
            return value
        raise _refuse(field, value, f"give {words}")

    return check


def _extra(field: str, value: object) -> JSONObject:
    if not isinstance(value, Mapping):
        raise _refuse(field, type(value), "give a mapping of request fields")
    try:
        text = json.dumps({**value}, allow_nan=False, ensure_ascii=False)
        copied: JSON = json.loads(text.encode())  # a lone surrogate does not get through
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequestError(
            f"{field} is not JSON ({error}); give JSON values only", field=field
        ) from None
    return cast("JSONObject", copied)


# What may be None is simply not sent.
_CHECKS: Final[Mapping[str, Callable[[str, object], object]]] = {
    "model": _one_of(Model),
    "generation_type": _one_of(GenerationType),
    "image_urls": _urls,
    "aspect_ratio": _one_of(AspectRatio),
    "seed": _int_in(SEEDS, f"an int from {SEEDS[0]} to {SEEDS[-1]}"),
    "callback_url": _url,
    "enable_translation": _flag,
    "watermark": _text,
    "resolution": _one_of(Resolution),
    "duration": _int_in(DURATIONS, "4, 6 or 8 (seconds)"),
    "extra": _extra,
}
_NEVER_NONE: Final = frozenset({"model", "image_urls", "enable_translation", "extra"})
_IMAGES_TAKEN: Final[Mapping[GenerationType, tuple[int, int]]] = {
    GenerationType.TEXT_2_VIDEO: (0, 0),
    GenerationType.FIRST_AND_LAST_FRAMES_2_VIDEO: (1, MAX_FRAMES),
    GenerationType.REFERENCE_2_VIDEO: (1, MAX_REFERENCES),
}


def _checked(name: str, value: object) -> object:
    if name not in _CHECKS:
        close = difflib.get_close_matches(name, _CHECKS, n=1)
        hint = f"did you mean {close[0]}?" if close else "known are " + ", ".join(_CHECKS)
        raise InvalidRequestError(f"{_shown(name)} is not a field of a request; {hint}", field=name)
    if value is None and name not in _NEVER_NONE:
        return None
    return _CHECKS[name](name, value)


def _type_for(images: int) -> GenerationType:
    if not images:
        return GenerationType.TEXT_2_VIDEO
    if images <= MAX_FRAMES:
        return GenerationType.FIRST_AND_LAST_FRAMES_2_VIDEO
    return GenerationType.REFERENCE_2_VIDEO


def _check_images(kind: GenerationType, images: int) -> None:
    least, most = _IMAGES_TAKEN[kind]
    if least <= images <= most:
        return
    wanted = "none" if not most else f"{least} to {most}"
    raise InvalidRequestError(
        f"image_urls holds {images} and {kind} takes {wanted};"
        " change the images or the generation_type",
        field="image_urls",
    )


@attrs.frozen(init=False)
class VideoRequest:
    """One video to make, checked when it is made, before any credit is spent.

    Attributes:
        prompt: What the video shows, 1 to 1000 characters (spec: Parameters).
        model: `veo3` (quality), `veo3_fast` (default) or `veo3_lite` (live service only).
        generation_type: What it is made from; chosen by the number of images when not given.
        image_urls: Public http(s) URLs: 1 or 2 frames, or 1 to 3 references.
        aspect_ratio: `16:9`, `9:16` or `Auto`; None leaves it to the service.
        seed: 10000 to 99999; None lets the service draw one.
        callback_url: Where the service reports the end of the task; sent as it is.
        enable_translation: Whether the service translates the prompt to English.
        watermark: Text to print into the picture.
        resolution: `720p`, `1080p` or `4k` (live service only).
        duration: 4, 6 or 8 seconds (live service only).
        extra: Further fields of the request's JSON body.

    Raises:
        InvalidRequestError: A field breaks the service's rules; its `field` names it.
    """

    prompt: str
    model: Model = Model.FAST
    generation_type: GenerationType = GenerationType.TEXT_2_VIDEO
    image_urls: tuple[str, ...] = ()
    aspect_ratio: AspectRatio | None = None
    seed: int | None = None
    callback_url: str | None = None
    enable_translation: bool = True
    watermark: str | None = None
    resolution: Resolution | None = None
    duration: int | None = None
    extra: JSONObject = attrs.field(hash=False, kw_only=True)

    def __init__(self, prompt: str, **fields: Unpack[RequestFields]) -> None:
        values: dict[str, Any] = {"prompt": _prompt("prompt", prompt), "extra": {}}
        values.update((name, _checked(name, value)) for name, value in fields.items())
        if values.get("generation_type") is None:
            values["generation_type"] = _type_for(len(values.get("image_urls", ())))
        for field in attrs.fields(VideoRequest):
            object.__setattr__(self, field.name, values.get(field.name, field.default))
        _check_images(self.generation_type, len(self.image_urls))

    def evolve(self, **fields: Unpack[RequestFields]) -> "VideoRequest":
        """Return a copy with other fields. It keeps its mode where that takes the new images.

        Raises:
            InvalidRequestError: The new fields break the service's rules.
        """
        values: dict[str, Any] = attrs.asdict(self, recurse=False)
        values.update(fields)
        if "image_urls" in fields and "generation_type" not in fields:
            images = values["image_urls"] = _urls("image_urls", fields["image_urls"])
            least, most = _IMAGES_TAKEN[self.generation_type]
            if not least <= len(images) <= most:
                del values["generation_type"]
        return VideoRequest(**values)


@attrs.frozen(kw_only=True)
class TaskRecord:
    """What the service says of a task: one answer of `record-info`.

    Attributes:
        task_id: The service's id.
        status: Where the task stands.
        video_url: The finished video; it can be fetched for 20 minutes (spec: Download TTL).
        video_urls: Every link of the answer, the best one first.
        error_code: The service's reason for a failure, as a number.
        error_message: The service's reason for a failure, in its own words.
        created_at: When the task was made, UTC.
        completed_at: When it ended, UTC.
        raw: The answer's `data`, as it came.
    """

    task_id: str
    status: TaskStatus
    video_url: str | None = None
    video_urls: tuple[str, ...] = ()
    error_code: int | None = None
    error_message: str | None = None
    created_at: datetime | None = None
    completed_at: datetime | None = None
    raw: JSONObject = attrs.field(factory=dict[str, JSON], eq=False, repr=False)


@attrs.frozen(kw_only=True)
class Video:
    """A finished video at the service, ready to be downloaded.

    Attributes:
        task_id: The task that made it.
        url: Where it lies, for 20 minutes from the answer that named it (spec: Download TTL).
        urls: Every link of the answer, `url` first.
        duration: Seconds, where the service says so.
        resolution: `720p`, `1080p` or `4k`, where the service says so.
        aspect_ratio: Where the service says so.
        seed: The seed that was used, where the service says so.
        has_audio: False when the service muted it; None when it does not say.
        created_at: When the task was made, UTC.
        completed_at: When it ended, UTC.
        origin: Which call gives its link again: `record-info` or `1080p`.
        raw: The answer's `data`, as it came.
    """

    task_id: str
    url: str
    urls: tuple[str, ...] = ()
    duration: float | None = None
    resolution: str | None = None
    aspect_ratio: str | None = None
    seed: int | None = None
    has_audio: bool | None = None
    created_at: datetime | None = None
    completed_at: datetime | None = None
    origin: str = "record-info"
    raw: JSONObject = attrs.field(factory=dict[str, JSON], eq=False, repr=False)


@attrs.frozen(kw_only=True)
class Download:
    """A whole video file on disk.

    Attributes:
        path: Where it is.
        size: Bytes.
        sha256: Digest of its content, in hex.
        attempts: Connections that it took.
        seconds: From the call to the file, waiting included.
    """

    path: Path
    size: int
    sha256: str
    attempts: int
    seconds: float
