"""What to make: the requests, checked before any credit is spent."""

import difflib
import json
import math
import os
import re
from collections.abc import Callable, Container, Iterable, Mapping
from collections.abc import Set as AbstractSet
from enum import StrEnum
from typing import Any, Final, TypeAlias, TypedDict, TypeGuard, TypeVar, Unpack, cast
from urllib.parse import urlsplit

import attrs

from veo_async.errors import InvalidRequestError
from veo_async.models import JSON, AspectRatio, GenerationType, JSONObject, Model, Resolution

__all__ = ["ExtendFields", "ExtendRequest", "PaidRequest", "RequestFields", "VideoRequest"]

MAX_PROMPT_CHARACTERS: Final = 1000  # spec: Parameters; characters, not bytes
SEEDS: Final = range(10_000, 100_000)  # spec: Parameters; both ends count
DURATIONS: Final = (4, 6, 8)  # live document 2.2; seconds
MAX_FRAMES: Final = 2  # spec: Parameters; first and last frame
MAX_REFERENCES: Final = 3  # live document 2.2; the spec knows 2
CLIP_SECONDS: Final = 8  # live document 2.12, Clip length; the spec's sample says 10
EXTENSION_SECONDS: Final = 7  # live document 5: clients say 7 or 8
LONGEST_FILM: Final = 3600  # seconds; no rule of the service: hundreds of paid tasks, and no slip
IMAGE_SUFFIXES: Final = (".jpg", ".jpeg", ".png", ".webp")  # spec: Specs; live document 2.2


class RequestFields(TypedDict, total=False):
    """The fields of a `VideoRequest` other than its prompt, as keywords."""

    model: Model | str
    generation_type: GenerationType | str | None
    image_urls: Iterable[str | os.PathLike[str]]
    aspect_ratio: AspectRatio | str | None
    seed: int | None
    callback_url: str | None
    enable_translation: bool
    watermark: str | None
    resolution: Resolution | str | None
    duration: int | None
    extend_to: float | Iterable[str] | None
    extra: JSONObject


class ExtendFields(TypedDict, total=False):
    """The fields of an `ExtendRequest` other than its task and prompt, as keywords."""

    model: Model | str
    seed: int | None
    callback_url: str | None
    watermark: str | None
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


def _id(field: str, value: object) -> str:
    if isinstance(value, str) and value.strip():
        return _encodable(field, value)
    raise _refuse(field, value, "give the id that the service gave")


def _is_list(value: object) -> TypeGuard[Iterable[object]]:
    # The order of frames counts, and a set has none.
    is_other = isinstance(value, str | bytes | Mapping | AbstractSet)
    return isinstance(value, Iterable) and not is_other


def _images(field: str, value: object) -> tuple[str, ...]:
    if not _is_list(value):
        raise _refuse(field, value, "give a list of URLs, or of paths of images")
    return tuple(_image(field, member) for member in value)


def _image(field: str, value: object) -> str:
    is_path = isinstance(value, os.PathLike)
    name = os.fsdecode(cast("os.PathLike[str]", value)) if is_path else value
    # A path has to be known again as one where a journal kept its text.
    if isinstance(name, str) and (is_http_url(name) or is_image_path(name)):
        return _encodable(field, name)
    raise _refuse(
        field,
        value,
        "give an absolute http:// or https:// URL, or the path of a .jpg, .jpeg, .png or .webp"
        " file",
    )


# More than one letter, since a single one is a drive.
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")


def is_image_path(value: str) -> bool:
    """Return whether a text can be the path of an image; whether it is one, its file has to say."""
    is_url = value.startswith("//") or "://" in value or _SCHEME.match(value) is not None
    return not is_url and value.isprintable() and value.lower().endswith(IMAGE_SUFFIXES)


def local_images(images: Iterable[str]) -> tuple[str, ...]:
    """Return those of a request's images that are paths, and have to be uploaded first."""
    return tuple(image for image in images if not is_http_url(image))


def _extend_to(field: str, value: object) -> float | tuple[str, ...]:
    if isinstance(value, int | float) and not isinstance(value, bool):
        if value > LONGEST_FILM:
            raise _refuse(field, value, f"give {LONGEST_FILM} seconds at most")
        if value > 0:
            return value
    elif _is_list(value):
        prompts = tuple(_prompt(field, member) for member in value)
        if prompts:
            return prompts
    raise _refuse(field, value, "give the seconds of the whole film, or a list of prompts")


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
    "image_urls": _images,
    "aspect_ratio": _one_of(AspectRatio),
    "seed": _int_in(SEEDS, f"an int from {SEEDS[0]} to {SEEDS[-1]}"),
    "callback_url": _url,
    "enable_translation": _flag,
    "watermark": _text,
    "resolution": _one_of(Resolution),
    "duration": _int_in(DURATIONS, "4, 6 or 8 (seconds)"),
    "extend_to": _extend_to,
    "extra": _extra,
}
_NEVER_NONE: Final = frozenset({"model", "image_urls", "enable_translation", "extra"})
_IMAGES_TAKEN: Final[Mapping[GenerationType, tuple[int, int]]] = {
    GenerationType.TEXT_2_VIDEO: (0, 0),
    GenerationType.FIRST_AND_LAST_FRAMES_2_VIDEO: (1, MAX_FRAMES),
    GenerationType.REFERENCE_2_VIDEO: (1, MAX_REFERENCES),
}


def _checked(
    name: str, value: object, known: Mapping[str, Callable[[str, object], object]] = _CHECKS
) -> object:
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}?" if close else "known are " + ", ".join(known)
        raise InvalidRequestError(f"{_shown(name)} is not a field of a request; {hint}", field=name)
    if value is None and name not in _NEVER_NONE:
        return None
    return known[name](name, value)


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
        image_urls: 1 or 2 frames, or 1 to 3 references: public http(s) URLs, or paths of JPEG, PNG
            or WebP files, which are uploaded first. Take no paths from strangers, then.
        aspect_ratio: `16:9`, `9:16` or `Auto`; None leaves it to the service.
        seed: 10000 to 99999; None lets the service draw one. The dialect `jobs` has none for new
            videos (live document 2.13), so that it is not sent there.
        callback_url: Where the service reports the end of the task; sent as it is.
        enable_translation: Whether the service translates the prompt to English.
        watermark: Text to print into the picture.
        resolution: `720p`, `1080p` or `4k` (live service only).
        duration: 4, 6 or 8 seconds (live service only).
        extend_to: What makes it a longer film, one paid task after the other (live service only):
            the prompts of the extensions, or the seconds of the whole film, up to 3600, whose
            extensions then have its own prompt.
        extra: Further fields of the request's JSON body, as they are; `enableFallback`, which the
            service advises against (live document 2.2), is spelled as the dialect has it.

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
    extend_to: float | tuple[str, ...] | None = None
    extra: JSONObject = attrs.field(hash=False, kw_only=True)

    def __init__(self, prompt: str, **fields: Unpack[RequestFields]) -> None:
        values: dict[str, Any] = {"prompt": _prompt("prompt", prompt), "extra": {}}
        values.update((name, _checked(name, value)) for name, value in fields.items())
        if values.get("generation_type") is None:
            values["generation_type"] = _type_for(len(values.get("image_urls", ())))
        for field in attrs.fields(VideoRequest):
            object.__setattr__(self, field.name, values.get(field.name, field.default))
        _check_images(self.generation_type, len(self.image_urls))
        if self.extend_to is not None and self.resolution not in {None, Resolution.HD_720P}:
            # Live document 2.7: a video that went through 1080P generation cannot be extended.
            raise InvalidRequestError(
                f"extend_to does not go with resolution {self.resolution}, which the service cannot"
                " extend; leave the resolution out",
                field="extend_to",
            )

    @property
    def extensions(self) -> tuple[str, ...]:
        """The prompts of the extensions that follow it, each a paid task."""
        if self.extend_to is None or isinstance(self.extend_to, tuple):
            return self.extend_to or ()
        missing = self.extend_to - (self.duration or CLIP_SECONDS)
        return (self.prompt,) * max(0, math.ceil(missing / EXTENSION_SECONDS))

    def evolve(self, **fields: Unpack[RequestFields]) -> "VideoRequest":
        """Return a copy with other fields. It keeps its mode where that takes the new images.

        Raises:
            InvalidRequestError: The new fields break the service's rules.
        """
        values: dict[str, Any] = attrs.asdict(self, recurse=False)
        values.update(fields)
        if "image_urls" in fields and "generation_type" not in fields:
            images = values["image_urls"] = _images("image_urls", fields["image_urls"])
            least, most = _IMAGES_TAKEN[self.generation_type]
            if not least <= len(images) <= most:
                del values["generation_type"]
        return VideoRequest(**values)


_EXTEND_CHECKS: Final = {name: _CHECKS[name] for name in ExtendFields.__annotations__}


@attrs.frozen(init=False)
class ExtendRequest:
    """One extension of a finished video (live document 2.7), checked when it is made.

    Attributes:
        task_id: The task whose video it goes on from, made by this account.
        prompt: What happens next, 1 to 1000 characters.
        model: `veo3` (quality), `veo3_fast` (default) or `veo3_lite`; not sent in the dialect
            `jobs`, which has none for extensions (live document 2.13).
        seed: 10000 to 99999; None lets the service draw one.
        callback_url: Where the service reports the end of the task; sent as it is.
        watermark: Text to print into the picture.
        extra: Further fields of the request's JSON body.

    Raises:
        InvalidRequestError: A field breaks the service's rules; its `field` names it.
    """

    task_id: str
    prompt: str
    model: Model = Model.FAST
    seed: int | None = None
    callback_url: str | None = None
    watermark: str | None = None
    extra: JSONObject = attrs.field(hash=False, kw_only=True)

    def __init__(self, task_id: str, prompt: str, **fields: Unpack[ExtendFields]) -> None:
        values: dict[str, Any] = {
            "task_id": _id("task_id", task_id),
            "prompt": _prompt("prompt", prompt),
            "extra": {},
        }
        values.update(
            (name, _checked(name, value, _EXTEND_CHECKS)) for name, value in fields.items()
        )
        for field in attrs.fields(ExtendRequest):
            object.__setattr__(self, field.name, values.get(field.name, field.default))

    def evolve(self, **fields: Unpack[ExtendFields]) -> "ExtendRequest":
        """Return a copy with other fields.

        Raises:
            InvalidRequestError: The new fields break the service's rules.
        """
        values: dict[str, Any] = attrs.asdict(self, recurse=False)
        values.update(fields)
        return ExtendRequest(**values)


PaidRequest: TypeAlias = VideoRequest | ExtendRequest
