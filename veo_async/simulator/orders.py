"""Reading and judging the body of a create request."""

import json
from collections.abc import Mapping
from typing import NoReturn, cast
from urllib.parse import urlsplit

from veo_async.simulator.records import Dialect, Order
from veo_async.simulator.settings import CLIP_SECONDS, IMAGE_LIMITS, MODELS, SEED_RANGE

_RATIOS = ("16:9", "9:16", "Auto")
_RESOLUTIONS = ("720p", "1080p", "4k")
_DURATIONS = (4, 6, 8)


class NotAnObjectError(Exception):
    """The body is not a JSON object."""


class OrderError(Exception):
    """A field is wrong; the text is a short sentence that names it."""


def read_object(body: bytes) -> dict[str, object]:
    """Decode a JSON object.

    Raises:
        NotAnObjectError: For anything else, however deep, long or malformed.
    """
    try:
        value: object = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise NotAnObjectError from error
    if not isinstance(value, dict):
        raise NotAnObjectError
    return cast("dict[str, object]", value)


def read_order(
    fields: Mapping[str, object], *, dialect: Dialect, prompt_limit: int | None
) -> Order:
    """Judge the fields of a create request.

    Names the document does not have are ignored, and null counts as absent. Where the live
    service has two spellings of a field, its own wins (live document 2.3, 5).

    Raises:
        OrderError: For the first field that breaks a rule (spec: Parameters; live document 2.2).
    """
    read = _Reader(fields)
    prompt = read.prompt(prompt_limit)
    images = read.images()
    generation_type = read.choice("generationType", tuple(IMAGE_LIMITS[dialect])) or (
        "FIRST_AND_LAST_FRAMES_2_VIDEO" if images else "TEXT_2_VIDEO"
    )
    model = read.choice("model", MODELS[dialect]) or "veo3_fast"
    ratio_name, seed_name = "aspectRatio", "seed"
    resolution, duration = "720p", CLIP_SECONDS[dialect]
    if dialect is Dialect.LIVE:
        ratio_name = read.first("aspect_ratio", "aspectRatio")
        seed_name = read.first("seeds", "seed")
        resolution = read.choice("resolution", _RESOLUTIONS) or resolution
        duration = read.duration() or duration
        read.flag("enableFallback")
    order = Order(
        prompt=prompt,
        model=model,
        generation_type=generation_type,
        image_urls=images,
        ratio=read.choice(ratio_name, _RATIOS) or "16:9",
        seed=read.seed(seed_name),
        callback_url=read.url("callBackUrl"),
        enable_translation=read.flag("enableTranslation") is not False,
        watermark=read.text("watermark"),
        resolution=resolution,
        duration=duration,
        named=frozenset(name for name, value in fields.items() if value is not None),
    )
    _check_mode(order, dialect)
    return order


def _check_mode(order: Order, dialect: Dialect) -> None:
    mode, count = order.generation_type, len(order.image_urls)
    low, high = IMAGE_LIMITS[dialect][mode]
    if not low <= count <= high:
        if high == 0:
            raise OrderError(f"imageUrls must be absent for {mode}")
        raise OrderError(f"imageUrls must have {low} to {high} items for {mode}")
    if dialect is Dialect.LIVE and mode == "REFERENCE_2_VIDEO":
        if order.model == "veo3":
            raise OrderError(f"model must be veo3_fast or veo3_lite for {mode}")
        if order.duration != CLIP_SECONDS[dialect]:
            raise OrderError(f"duration must be {CLIP_SECONDS[dialect]} for {mode}")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _is_web_url(value: str) -> bool:
    try:
        parts = urlsplit(value)
        _ = parts.port  # raises for a port that is no number
    except ValueError:
        return False
    blank = any(character.isspace() for character in value)
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and not blank


class _Reader:
    """Typed access to the fields of one request."""

    def __init__(self, fields: Mapping[str, object]) -> None:
        self._fields = fields

    def first(self, *names: str) -> str:
        """Return the first name that is given, the last one if none is."""
        return next((name for name in names if self._fields.get(name) is not None), names[-1])

    def text(self, name: str) -> str | None:
        value = self._fields.get(name)
        if value is not None and not isinstance(value, str):
            raise OrderError(f"{name} must be a string")
        return value

    def prompt(self, limit: int | None) -> str:
        value = self.text("prompt")
        if value is None or not value.strip():
            raise OrderError("prompt is required")
        if limit is not None and len(value) > limit:
            raise OrderError(f"prompt must have at most {limit} characters")
        return value

    def choice(self, name: str, allowed: tuple[str, ...]) -> str | None:
        value = self.text(name)
        if value is not None and value not in allowed:
            raise OrderError(f"{name} must be one of {', '.join(allowed)}")
        return value

    def flag(self, name: str) -> bool | None:
        value = self._fields.get(name)
        if value is not None and not isinstance(value, bool):
            raise OrderError(f"{name} must be true or false")
        return value

    def integer(self, name: str) -> int | None:
        value = self._fields.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise OrderError(f"{name} must be an integer")
        return value

    def seed(self, name: str) -> int | None:
        value = self.integer(name)
        low, high = SEED_RANGE
        if value is not None and not low <= value <= high:
            raise OrderError(f"{name} must be an integer from {low} to {high}")
        return value

    def duration(self) -> int | None:
        value = self.integer("duration")
        if value is not None and value not in _DURATIONS:
            raise OrderError("duration must be one of 4, 6, 8")
        return value

    def url(self, name: str) -> str | None:
        value = self.text(name)
        if value is not None and not _is_web_url(value):
            raise OrderError(f"{name} must be an http or https URL")
        return value

    def images(self) -> tuple[str, ...]:
        value = self._fields.get("imageUrls")
        if value is None:
            return ()
        if not isinstance(value, list):
            raise OrderError("imageUrls must be a list of URLs")
        urls: list[str] = []
        for item in cast("list[object]", value):
            if not isinstance(item, str) or not _is_web_url(item):
                raise OrderError("imageUrls must contain http or https URLs only")
            urls.append(item)
        return tuple(urls)
