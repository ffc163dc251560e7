"""Every number of the simulated service, once, with where it comes from."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, Literal

import attrs
from attrs.validators import ge, gt, in_, min_len

from veo_async.simulator.records import Dialect

SEED_RANGE: Final = (10_000, 99_999)
"""Spec: Parameters, `seed`."""

IMAGE_LIMITS: Final[Mapping[Dialect, Mapping[str, tuple[int, int]]]] = {
    # Spec: Parameters ("1-2 valid URLs") and Specs ("Max Images 2").
    Dialect.SPEC: {
        "TEXT_2_VIDEO": (0, 0),
        "FIRST_AND_LAST_FRAMES_2_VIDEO": (1, 2),
        "REFERENCE_2_VIDEO": (1, 2),
    },
    # Live document 2.2, Constraints.
    Dialect.LIVE: {
        "TEXT_2_VIDEO": (0, 0),
        "FIRST_AND_LAST_FRAMES_2_VIDEO": (1, 2),
        "REFERENCE_2_VIDEO": (1, 3),
    },
}

MODELS: Final[Mapping[Dialect, tuple[str, ...]]] = {
    Dialect.SPEC: ("veo3", "veo3_fast"),
    Dialect.LIVE: ("veo3", "veo3_fast", "veo3_lite"),
}

CLIP_SECONDS: Final[Mapping[Dialect, int]] = {
    Dialect.SPEC: 10,  # the sample status answer
    Dialect.LIVE: 8,  # live document 2.12, Clip length
}

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

PRICES: Final[Mapping[Dialect, Mapping[tuple[str, str], int]]] = {
    # Spec: Pricing.
    Dialect.SPEC: {("veo3", "720p"): 80, ("veo3_fast", "720p"): 70},
    # Live document 2.12.
    Dialect.LIVE: {
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
}

UPGRADE_PRICES: Final[Mapping[Dialect, int]] = {Dialect.SPEC: 20, Dialect.LIVE: 5}

GENERATION_SECONDS: Final[Mapping[str, tuple[float, float]]] = {
    "veo3_lite": (30.0, 50.0),
    "veo3_fast": (60.0, 90.0),  # live document 2.4: 61, 67 and 89 s observed
    "veo3": (120.0, 240.0),  # live document 2.4: "2-5 min"
}

UPGRADE_SECONDS: Final = (60.0, 120.0)
"""Live document 2.5: "It should be ready in 1-2 minutes"."""

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
    url_seconds: float = attrs.field(default=URL_SECONDS, validator=gt(0))
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
    converting_code: Literal[400, 422] = attrs.field(default=400, validator=in_((400, 422)))
    retry_after: float | None = None
    webhook_key: str | None = None
    webhook_spacing: float = attrs.field(default=30.0, validator=ge(0))
    epoch: datetime = attrs.field(default=None, converter=_dated)

    def __attrs_post_init__(self) -> None:
        for name in ("generation_seconds", "upgrade_seconds"):
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


def bounds(value: float | tuple[float, float]) -> tuple[float, float]:
    """Return (shortest, longest) for a length of time that may be given as one number."""
    return value if isinstance(value, tuple) else (value, value)
