"""The values that come out: records, videos, downloads, and the words of the service."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TypeAlias

import attrs

__all__ = [
    "JSON",
    "AspectRatio",
    "Dialect",
    "Download",
    "GenerationType",
    "JSONObject",
    "Model",
    "Resolution",
    "TaskRecord",
    "TaskStatus",
    "Video",
]

JSON: TypeAlias = "dict[str, JSON] | list[JSON] | str | int | float | bool | None"
JSONObject: TypeAlias = Mapping[str, JSON]


class Dialect(StrEnum):
    """In which form the service is asked. Its answers are read in every form."""

    AUTO = "auto"  # the names of the spec and of the live service at once
    SPEC = "spec"
    LIVE = "live"  # live document 2.2 to 2.7
    JOBS = "jobs"  # live document 2.13: the form that is to replace the other one


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
        origin: Which call gives its link again: `record-info`, `1080p` or `4k`.
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
