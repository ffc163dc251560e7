"""Results, on stdout: a path for people and pipes, one JSON object for programs."""

import json
import os
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import attrs

from veo_async.models import Download, TaskRecord, Video

__all__: list[str] = []


@attrs.frozen
class Result:
    """What a command found out.

    Attributes:
        text: For people and pipes; None where all of it was printed on the way.
        json: For programs.
        code: The exit code.
    """

    text: str | None
    json: Mapping[str, object]
    code: int = 0

    def evolve(self, **more: object) -> "Result":
        """Return a copy whose JSON says more."""
        return attrs.evolve(self, json={**self.json, **more})


def saved(video: Video, download: Download) -> Result:
    """Return the result of a download."""
    return Result(
        str(download.path),
        {
            **_of_video(video),
            "path": download.path,
            "size": download.size,
            "sha256": download.sha256,
            "attempts": download.attempts,
            "download_seconds": round(download.seconds, 3),
        },
    )


def found(video: Video) -> Result:
    """Return the result of a task whose video stays at the service."""
    return Result(video.url, _of_video(video))


def recorded(record: TaskRecord) -> Result:
    """Return what the service says of a task."""
    fields: dict[str, object] = {
        "task_id": record.task_id,
        "status": record.status,
        "url": record.video_url,
        "urls": record.video_urls,
        "error_code": record.error_code,
        "error_message": record.error_message,
        "created_at": record.created_at,
        "completed_at": record.completed_at,
    }
    told = {
        name: value for name, value in fields.items() if value not in (None, ()) and name != "urls"
    }
    return Result("\n".join(f"{name}: {_shown(value)}" for name, value in told.items()), fields)


def _of_video(video: Video) -> dict[str, object]:
    return {
        "task_id": video.task_id,
        "path": None,
        "size": None,
        "sha256": None,
        "url": video.url,
        "urls": video.urls,
        "duration": video.duration,
        "resolution": video.resolution,
        "aspect_ratio": video.aspect_ratio,
        "seed": video.seed,
        "has_audio": video.has_audio,
        "created_at": video.created_at,
        "completed_at": video.completed_at,
        "credits_at_most": None,
    }


def _shown(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _plain(value: object) -> str:
    if isinstance(value, datetime | Path):
        return _shown(value)
    raise TypeError(f"{type(value).__name__} has no JSON")


def dumped(fields: Mapping[str, object]) -> str:
    """Return one line of JSON."""
    return json.dumps(fields, default=_plain)


def write(text: str) -> None:
    """Write to stdout at once. A reader that has left is no error.

    Raises:
        OSError: It cannot be written for another reason, such as a full disk.
    """
    out = sys.stdout
    if out is None:  # pyright: ignore[reportUnnecessaryComparison]  # closed by who started us
        return
    try:
        out.buffer.write(_encoded(f"{text}\n", out.encoding))
        out.flush()
    except BrokenPipeError:
        _forget()
    except OSError:
        _forget()
        raise


def _encoded(text: str, encoding: str) -> bytes:
    # A path may hold bytes that are no text; they leave as they came.
    try:
        return text.encode(encoding, "surrogateescape")
    except UnicodeEncodeError:
        return text.encode(encoding, "backslashreplace")


def _forget() -> None:
    """Let what is left in stdout's buffer go nowhere, or Python would complain at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
