"""Every number of the simulated service, once, with where it comes from."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, Literal, TypeVar

import attrs
from attrs.validators import ge, gt, in_, min_len, optional

from veo_async.simulator.records import Dialect

T = TypeVar("T")


def _either(spec: T, live: T) -> Mapping[Dialect, T]:
    """The two ways to call the live service differ in words, not in numbers."""
    return {Dialect.SPEC: spec, Dialect.LIVE: live, Dialect.JOBS: live}


SEED_RANGE: Final = (10_000, 99_999)
"""Spec: Parameters, `seed`."""

IMAGE_LIMITS: Final[Mapping[Dialect, Mapping[str, tuple[int, int]]]] = _either(
    # Spec: Parameters ("1-2 valid URLs") and Specs ("Max Images 2").
    {
        "TEXT_2_VIDEO": (0, 0),
        "FIRST_AND_LAST_FRAMES_2_VIDEO": (1, 2),
        "REFERENCE_2_VIDEO": (1, 2),
    },
    # Live document 2.2, Constraints.
    {
        "TEXT_2_VIDEO": (0, 0),
        "FIRST_AND_LAST_FRAMES_2_VIDEO": (1, 2),
        "REFERENCE_2_VIDEO": (1, 3),
    },
)

MODELS: Final[Mapping[Dialect, tuple[str, ...]]] = _either(
    ("veo3", "veo3_fast"), ("veo3", "veo3_fast", "veo3_lite")
)

CLIP_SECONDS: Final[Mapping[Dialect, int]] = _either(
    10,  # the sample status answer
    8,  # live document 2.12, Clip length
)

EXTENSION_SECONDS: Final = 8
"""Length of the new part (live document 2.7: it may be one segment, and 2.12: 8 s)."""

EXTENSION_GAIN: Final = 7
"""Seconds that an extension adds to the film: clients say 7 or 8 (live document, section 5)."""

FRAME_SIZES: Final[Mapping[str, tuple[int, int]]] = {
    "720p": (1280, 720),
    "1080p": (1920, 1080),
    "4k": (3840, 2160),
}

FILE_BYTES: Final[Mapping[str, int]] = {
    "720p": 3_000_000,  # live document 2.12, Real file
    "1080p": 8_000_000,  # the same film at 2.25 times the pixels
    "4k": 30_000_000,
}

PRICES: Final[Mapping[Dialect, Mapping[tuple[str, str], int]]] = _either(
    # Spec: Pricing.
    {("veo3", "720p"): 80, ("veo3_fast", "720p"): 70},
    # Live document 2.12.
    {
        ("veo3_lite", "720p"): 30,
        ("veo3_lite", "1080p"): 35,
        ("veo3_lite", "4k"): 150,
        ("veo3_fast", "720p"): 60,
        ("veo3_fast", "1080p"): 65,
        ("veo3_fast", "4k"): 180,
        ("veo3", "720p"): 250,
        ("veo3", "1080p"): 255,
        ("veo3", "4k"): 370,
    },
)

EXTENSION_PRICES: Final[Mapping[str, int]] = {"lite": 30, "fast": 60, "quality": 250}
"""Live document 2.12, by the model names of 2.7."""

EXTENSION_MODELS: Final[Mapping[str, str]] = {
    **{name: name for name in EXTENSION_PRICES},
    # Clients in use send the names of a generation; whether the service takes them is unknown.
    "veo3_lite": "lite",
    "veo3_fast": "fast",
    "veo3": "quality",
}
"""What the model of an extension may be called, and its name in 2.7."""

UPGRADE_PRICES: Final[Mapping[Dialect, int]] = _either(20, 5)

UPGRADE_4K_PRICE: Final = 120
"""Live document 2.12."""

GENERATION_SECONDS: Final[Mapping[str, tuple[float, float]]] = {
    "veo3_lite": (30.0, 50.0),
    "veo3_fast": (60.0, 90.0),  # live document 2.4: 61, 67 and 89 s observed
    "veo3": (120.0, 240.0),  # live document 2.4: "2-5 min"
    # Live document 2.7, extensions: "several minutes to over ten".
    "lite": (120.0, 300.0),
    "fast": (180.0, 420.0),
    "quality": (300.0, 660.0),
}

UPGRADE_SECONDS: Final = (60.0, 120.0)
"""Live document 2.5: "It should be ready in 1-2 minutes"."""

UPGRADE_4K_SECONDS: Final = (300.0, 600.0)
"""Live document 2.6: "It should be ready in 5-10 minutes"."""

UPLOAD_RETENTION_SECONDS: Final = 24 * 3600.0
"""Live document 2.11, Retention: the newest copy's 24 hours."""

UPLOAD_FETCH_SECONDS: Final = 30.0
"""Live document 2.11: time limit of an upload by URL, in service seconds."""

UPLOAD_FETCH_FLOOR: Final = 2.0
"""Real seconds it has at least: the other side does not run faster when the service does."""

UPLOAD_BODY_LIMIT: Final = 16 << 20
"""Bytes of a JSON upload: 10 MB (live document 2.11) in Base64, and something around it."""

RETENTION_SECONDS: Final = 14 * 24 * 3600.0
"""Spec: Specs, Storage Duration."""

URL_SECONDS: Final = 20 * 60.0
"""Spec: Specs, Download TTL."""

BODY_LIMIT: Final = 1 << 20
"""Bytes of a request body; a prompt of 1000 characters and two URLs need a few KB."""

WEBHOOK_ATTEMPTS: Final = 4
"""One and three retries (live document 2.8)."""

WEBHOOK_TIMEOUT: Final = 15.0
"""Service seconds a receiver has for its answer (live document 2.8)."""

WEBHOOK_TIMEOUT_FLOOR: Final = 2.0
"""Real seconds it has at least: the receiver does not run faster when the service does."""

DEFAULT_KEY: Final = "sim-key-0123456789abcdef"
"""Recognisable in logs, and worth nothing."""


def _dated(epoch: datetime | None) -> datetime:
    return datetime.now(UTC).replace(microsecond=0) if epoch is None else epoch


@attrs.frozen(kw_only=True)
class Settings:
    """The choices a user of the simulator has; `Simulator` describes each of them."""

    dialect: Dialect = attrs.field(default=Dialect.SPEC, converter=Dialect)
    credits: float = attrs.field(default=10_000, validator=ge(0))
    max_tasks: int = attrs.field(default=10, validator=ge(1))  # spec: Specs, Concurrent Tasks
    seed: int = 0
    api_key: str = attrs.field(default=DEFAULT_KEY, validator=min_len(1))
    # Live document 2.12, Rate.
    create_rate: tuple[int, float] | None = (20, 10.0)
    # Spec: Parameters, `prompt`.
    prompt_limit: int | None = 1000
    generation_seconds: float | tuple[float, float] | None = None
    upgrade_seconds: float | tuple[float, float] = UPGRADE_SECONDS
    upgrade_4k_seconds: float | tuple[float, float] = UPGRADE_4K_SECONDS
    url_seconds: float = attrs.field(default=URL_SECONDS, validator=gt(0))
    result_urls_expire: bool | None = None
    clip: tuple[int, int] | None = None
    video_bytes: int | None = None
    running_as: Literal["status", "code"] = attrs.field(
        default="status", validator=in_(("status", "code"))
    )
    error_status: Literal["body", "http"] = attrs.field(
        default="body", validator=in_(("body", "http"))
    )
    failure_in: Literal["record", "envelope"] = attrs.field(
        default="record", validator=in_(("record", "envelope"))
    )
    converting_code: Literal[400, 422, 500] = attrs.field(
        default=400, validator=in_((400, 422, 500))
    )
    times: Literal["millis", "text", "iso"] = attrs.field(
        default="millis", validator=in_(("millis", "text", "iso"))
    )
    result_urls: Literal["list", "text"] = attrs.field(
        default="list", validator=in_(("list", "text"))
    )
    origin_urls: Literal["null", "absent", "array"] = attrs.field(
        default="null", validator=in_(("null", "absent", "array"))
    )
    unknown_task: Literal["422", "record is null", "null"] = attrs.field(
        default="422", validator=in_(("422", "record is null", "null"))
    )
    record_fields: Literal["recorded", "documented"] = attrs.field(
        default="recorded", validator=in_(("recorded", "documented"))
    )
    requires_user_agent: bool = False
    extension_urls: Literal["whole", "segment"] = attrs.field(
        default="whole", validator=in_(("whole", "segment"))
    )
    callbacks: Literal["D2", "D3", "D4", "D6", "schema"] = attrs.field(
        default="D6", validator=in_(("D2", "D3", "D4", "D6", "schema"))
    )
    retry_after: float | None = None
    webhook_key: str | None = attrs.field(default=None, validator=optional(min_len(1)))
    webhook_spacing: float = attrs.field(default=30.0, validator=ge(0))
    epoch: datetime = attrs.field(default=None, converter=_dated)

    def __attrs_post_init__(self) -> None:
        for name in ("generation_seconds", "upgrade_seconds", "upgrade_4k_seconds"):
            low, high = bounds(getattr(self, name) or 0.0)
            if not 0 <= low <= high:
                raise ValueError(f"{name} must be seconds, or (shortest, longest) of them")
        for name in ("prompt_limit", "video_bytes", "retry_after"):
            if (getattr(self, name) or 0) < 0:
                raise ValueError(f"{name} must not be negative")
        if self.clip is not None and any(side < 1 or side % 2 for side in self.clip):
            raise ValueError("clip must be (width, height), even numbers of pixels")
        if self.epoch.tzinfo is None:
            raise ValueError("epoch must be an aware datetime")

    @property
    def is_live(self) -> bool:
        """True for the two ways to call the live service."""
        return self.dialect is not Dialect.SPEC

    @property
    def has_lasting_links(self) -> bool:
        """True where the link of a result stays the same and works as long as its file is kept."""
        expires = self.result_urls_expire
        return self.is_live if expires is None else not expires


def bounds(value: float | tuple[float, float]) -> tuple[float, float]:
    """Return (shortest, longest) for a length of time that may be given as one number."""
    return value if isinstance(value, tuple) else (value, value)
