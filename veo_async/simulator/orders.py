"""Reading and judging the body of a request."""

import json
import re
from collections.abc import Mapping
from typing import NoReturn, cast
from urllib.parse import urlsplit

import attrs

from veo_async.simulator.problems import RATIO_ERROR, REFERENCE_DURATION, Problem, Refused
from veo_async.simulator.records import Dialect, Kind, Order
from veo_async.simulator.settings import (
    CLIP_SECONDS,
    EXTENSION_MODELS,
    EXTENSION_SECONDS,
    IMAGE_LIMITS,
    MODELS,
    SEED_RANGE,
)

_RATIOS = ("16:9", "9:16", "Auto")
_RESOLUTIONS = ("720p", "1080p", "4k")
_DURATIONS = (4, 6, 8)
_FIVE_DIGITS = re.compile(r"[0-9]{5}")

_JOB_MODELS: Mapping[str, Kind] = {
    "veo-3-1": Kind.GENERATE,
    "veo/extend": Kind.EXTEND,
    "veo/get-1080p-video": Kind.UPGRADE,
    "veo/get-4k-video": Kind.UPGRADE_4K,
}

JOB_MODEL_OF: Mapping[Kind, str] = {kind: name for name, kind in _JOB_MODELS.items()}
"""Live document 2.13: the `model` of `POST /api/v1/jobs/createTask`."""

JOB_NAMES: Mapping[str, str] = {
    "taskId": "task_id",
    "imageUrls": "image_urls",
    "generationType": "generation_type",
    "aspectRatio": "aspect_ratio",
    "enableTranslation": "enable_translation",
    "enableFallback": "enable_fallback",
}
"""Names of `/api/v1/veo` and what they are called in an `input` (live document 2.13)."""

# One companion is documented with `taskId`. A generation has no seed in this form.
_NOT_IN_JOBS = (frozenset(JOB_NAMES) | {"seed", "seeds", "callBackUrl"}) - {"taskId"}


class NotAnObjectError(Refused):
    """The body is not a JSON object."""

    def __init__(self) -> None:
        super().__init__(Problem.NOT_JSON)


class OrderError(Refused):
    """A field is wrong; the text is a short sentence that names it.

    Args:
        field: Its name.
        rule: What it must be.
    """

    def __init__(self, field: str, rule: str) -> None:
        super().__init__(Problem.INVALID, f"{field} {rule}")
        self.field: str = field
        self.rule: str = rule


@attrs.frozen
class Job:
    """The body of `POST /api/v1/jobs/createTask`.

    Attributes:
        kind: What it asks for.
        fields: Its fields, in the names of `/api/v1/veo`.
        sent: All of it as records repeat it: JSON text, in which the `input` is JSON text too.
    """

    kind: Kind
    fields: Mapping[str, object]
    sent: str


@attrs.frozen
class Target:
    """What a conversion asks for: which video, and where to say that it is there."""

    task_id: str
    callback_url: str | None


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
    wants_fallback = False
    generation_type = read.choice("generationType", tuple(IMAGE_LIMITS[dialect])) or (
        "FIRST_AND_LAST_FRAMES_2_VIDEO" if images else "TEXT_2_VIDEO"
    )
    model = read.choice("model", MODELS[dialect]) or "veo3_fast"
    ratio_name, seed_name, watermark_name = "aspectRatio", "seed", "watermark"
    resolution, duration = "720p", CLIP_SECONDS[dialect]
    if dialect is not Dialect.SPEC:
        ratio_name = read.first("aspect_ratio", "aspectRatio")
        seed_name = read.first("seeds", "seed")
        watermark_name = read.first("watermark", "waterMark")  # the vendor's own page sends this
        resolution = read.choice("resolution", _RESOLUTIONS) or resolution
        duration = read.duration() or duration
        wants_fallback = read.flag("enableFallback") is True
    is_spec = dialect is Dialect.SPEC
    ratio = read.choice(ratio_name, _RATIOS, None if is_spec else RATIO_ERROR) or "16:9"
    order = Order(
        prompt=prompt,
        model=model,
        generation_type=generation_type,
        image_urls=images,
        ratio=ratio,
        seed=read.seed(seed_name),
        # A released client of the live service sends "playground" for it.
        callback_url=read.url("callBackUrl") if is_spec else read.text("callBackUrl"),
        enable_translation=read.flag("enableTranslation") is not False,
        watermark=read.text(watermark_name),
        resolution=resolution,
        duration=duration,
        named=read.named,
        is_fallback=wants_fallback and ratio == "16:9",
    )
    _check_mode(order, dialect)
    return order


def read_extension(fields: Mapping[str, object], *, base: Order, prompt_limit: int | None) -> Order:
    """Judge the fields of an extension of `base` (live document 2.7).

    Raises:
        OrderError: For the first field that breaks a rule.
    """
    read = _Reader(fields)
    return Order(
        prompt=read.prompt(prompt_limit),
        model=EXTENSION_MODELS[read.choice("model", tuple(EXTENSION_MODELS)) or "fast"],
        generation_type="",
        image_urls=(),
        ratio=base.ratio,
        seed=read.seed("seeds", or_text=True),
        callback_url=read.text("callBackUrl"),
        enable_translation=True,
        watermark=read.text(read.first("watermark", "waterMark")),
        resolution="720p",
        duration=EXTENSION_SECONDS,
        named=read.named,
        kind=Kind.EXTEND,
        base_id=read.task_id(),
    )


def read_target(fields: Mapping[str, object]) -> Target:
    """Judge the fields of a conversion (live document 2.5, 2.6, 2.13).

    Raises:
        OrderError: For the first field that breaks a rule.
    """
    read = _Reader(fields)
    if read.integer("index"):
        raise OrderError("index", "must be 0: there is one video")
    return Target(read.task_id(), read.text("callBackUrl"))


def read_task_id(fields: Mapping[str, object]) -> str:
    """Return the id of the task that a request is about.

    Raises:
        OrderError: There is none.
    """
    return _Reader(fields).task_id()


def read_job(body: bytes) -> Job:
    """Read the body of `POST /api/v1/jobs/createTask` (live document 2.13).

    Names of `input` that are not documented are ignored, as the service does.

    Raises:
        NotAnObjectError: It is none.
        OrderError: For a model there is not, or an input that is no object.
    """
    fields = read_object(body)
    kind = _JOB_MODELS.get(_Reader(fields).choice("model", tuple(_JOB_MODELS)) or "")
    if kind is None:
        raise OrderError("model", f"is required: one of {', '.join(_JOB_MODELS)}")
    inner = fields.get("input")
    if not isinstance(inner, dict):
        raise OrderError("input", "must be an object")
    given = cast("dict[str, object]", inner)
    back = {wire: name for name, wire in JOB_NAMES.items()}
    unknown = _NOT_IN_JOBS if kind is Kind.GENERATE else _NOT_IN_JOBS - {"seeds"}
    named = {back.get(name, name): value for name, value in given.items() if name not in unknown}
    return Job(
        kind,
        {**named, "callBackUrl": fields.get("callBackUrl")},
        packed({**fields, "input": packed(given)}),
    )


def packed(value: object) -> str:
    """Return JSON text as records have it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def spelled_for_jobs(error: OrderError) -> OrderError:
    """Return `error` in the names of `/api/v1/jobs`."""
    return OrderError(JOB_NAMES.get(error.field, error.field), error.rule)


def is_web_url(value: str) -> bool:
    """True for an http or https URL."""
    try:
        parts = urlsplit(value)
        _ = parts.port  # raises for a port that is no number
    except ValueError:
        return False
    blank = any(character.isspace() for character in value)
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and not blank


def _check_mode(order: Order, dialect: Dialect) -> None:
    mode, count = order.generation_type, len(order.image_urls)
    low, high = IMAGE_LIMITS[dialect][mode]
    if not low <= count <= high:
        if high == 0:
            raise OrderError("imageUrls", f"must be absent for {mode}")
        raise OrderError("imageUrls", f"must have {low} to {high} items for {mode}")
    if dialect is not Dialect.SPEC and mode == "REFERENCE_2_VIDEO":
        if order.model == "veo3":
            raise OrderError("model", f"must be veo3_fast or veo3_lite for {mode}")
        if order.duration != CLIP_SECONDS[dialect]:
            raise Refused(Problem.INVALID, REFERENCE_DURATION)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


class _Reader:
    """Typed access to the fields of one request."""

    def __init__(self, fields: Mapping[str, object]) -> None:
        self._fields = fields

    @property
    def named(self) -> frozenset[str]:
        """Names that were given."""
        return frozenset(name for name, value in self._fields.items() if value is not None)

    def first(self, *names: str) -> str:
        """Return the first name that is given, the last one if none is."""
        return next((name for name in names if self._fields.get(name) is not None), names[-1])

    def text(self, name: str) -> str | None:
        value = self._fields.get(name)
        if value is not None and not isinstance(value, str):
            raise OrderError(name, "must be a string")
        return value

    def prompt(self, limit: int | None) -> str:
        value = self.text("prompt")
        if value is None or not value.strip():
            raise OrderError("prompt", "is required")
        if limit is not None and len(value) > limit:
            raise OrderError("prompt", f"must have at most {limit} characters")
        return value

    def choice(self, name: str, allowed: tuple[str, ...], words: str | None = None) -> str | None:
        value = self.text(name)
        if value is not None and value not in allowed:
            if words is not None:
                raise Refused(Problem.INVALID, words)
            raise OrderError(name, f"must be one of {', '.join(allowed)}")
        return value

    def flag(self, name: str) -> bool | None:
        value = self._fields.get(name)
        if value is not None and not isinstance(value, bool):
            raise OrderError(name, "must be true or false")
        return value

    def task_id(self) -> str:
        value = self.text("taskId")
        if not value:
            raise OrderError("taskId", "is required")
        return value

    def integer(self, name: str) -> int | None:
        value = self._fields.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise OrderError(name, "must be an integer")
        return value

    def seed(self, name: str, *, or_text: bool = False) -> int | None:
        text, (low, high) = self._fields.get(name), SEED_RANGE
        is_text = or_text and isinstance(text, str) and _FIVE_DIGITS.fullmatch(text)
        value = int(str(text)) if is_text else self.integer(name)
        if value is not None and not low <= value <= high:
            raise OrderError(name, f"must be an integer from {low} to {high}")
        return value

    def duration(self) -> int | None:
        value = self.integer("duration")
        if value is not None and value not in _DURATIONS:
            raise OrderError("duration", "must be one of 4, 6, 8")
        return value

    def url(self, name: str) -> str | None:
        value = self.text(name)
        if value is not None and not is_web_url(value):
            raise OrderError(name, "must be an http or https URL")
        return value

    def images(self) -> tuple[str, ...]:
        value = self._fields.get("imageUrls")
        if value is None:
            return ()
        if not isinstance(value, list):
            raise OrderError("imageUrls", "must be a list of URLs")
        urls: list[str] = []
        for item in cast("list[object]", value):
            if not isinstance(item, str) or not is_web_url(item):
                raise OrderError("imageUrls", "must contain http or https URLs only")
            urls.append(item)
        return tuple(urls)
