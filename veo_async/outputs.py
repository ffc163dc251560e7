"""The files of a batch: how they are named, what stands beside each, and whether one is whole."""

import hashlib
import json
import os
import re
import shutil
import string
import unicodedata
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from veo_async.errors import ConfigurationError
from veo_async.files import discard_part, fsync_folder
from veo_async.jobs import Job
from veo_async.protocol.mp4 import BoxWalk
from veo_async.request import VideoRequest
from veo_async.settings import WRITE_BYTES

if TYPE_CHECKING:
    from veo_async.models import JSON

__all__: list[str] = []

_SUFFIX: Final = ".mp4"
_USUAL: Final = "{index:04}-{slug}-{seed}"
_LONGEST_SLUG: Final = 48
_LONGEST_STEM: Final = 150  # bytes, since only ASCII gets in
_RESERVED: Final = frozenset(
    {"con", "prn", "aux", "nul"}
    | {f"{name}{number}" for name in ("com", "lpt") for number in range(1, 10)}
)  # no file of Windows may be called so
_NOT_WORDS: Final = re.compile(r"[^a-z0-9]+")
_NOT_SAFE: Final = re.compile(r"[^A-Za-z0-9._-]+")
_GAPS: Final = re.compile(r"-{2,}")
_FIELDS: Final = ("index", "slug", "seed", "key", "model")


@attrs.frozen
class Naming:
    """How a batch names its files: never by anything that the server says.

    Attributes:
        template: A format string over `index` (a number), `slug` (the prompt's first words),
            `seed`, `key` and `model`.
    """

    template: str = _USUAL

    def name(self, index: int, key: str, request: VideoRequest) -> str:
        """Return the name of a file, which another one may have."""
        seed = "" if request.seed is None else str(request.seed)
        stem = self.template.format(
            index=index, slug=slug(request.prompt), seed=seed, key=key, model=str(request.model)
        )
        stem = stem.removesuffix(_SUFFIX)
        safe = _GAPS.sub("-", _NOT_SAFE.sub("-", stem)).strip("-.")[:_LONGEST_STEM].rstrip("-.")
        if not safe or safe.lower().partition(".")[0] in _RESERVED:
            safe = f"{index:04}-{safe}".rstrip("-")
        return safe + _SUFFIX


def naming(template: str | None) -> Naming:
    """Return how files are named.

    Args:
        template: A format string, or a plain text to begin every name with; None for the usual.

    Raises:
        ConfigurationError: It is no such template.
    """
    if template is None:
        return Naming()
    try:
        chosen = Naming(template if _fields(template) else f"{template}-{_USUAL}")
        chosen.name(1, "key", VideoRequest("prompt", seed=10_000))
    except (ValueError, TypeError, AttributeError, LookupError) as error:
        raise ConfigurationError(
            f"name {template!r} cannot name files ({error}); use the fields"
            f" {', '.join('{' + field + '}' for field in _FIELDS)}, such as"
            " {index:04}-{slug}"
        ) from None
    return chosen


def _fields(template: str) -> set[str]:
    fields = {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}
    unknown = sorted(fields - {*_FIELDS})
    if unknown:
        raise ValueError(f"there is no field {unknown[0]!r}")
    return fields


def slug(prompt: str) -> str:
    """Return the first words of a prompt, in what every file system takes."""
    plain = unicodedata.normalize("NFKD", prompt).encode("ascii", "ignore").decode().lower()
    words = _NOT_WORDS.sub("-", plain).strip("-")
    if len(words) <= _LONGEST_SLUG:
        return words
    cut = words[: _LONGEST_SLUG + 1].rpartition("-")[0]
    return cut or words[:_LONGEST_SLUG]


def side_path(video: Path) -> Path:
    """Return where the description of a video stands."""
    return video.with_suffix(".json")


def write_side(video: Path, job: Job, *, size: int, sha256: str, now: float) -> None:
    """Put a description beside a video, whole or not at all.

    Raises:
        OSError: The disk failed.
    """
    attempt = job.attempt
    submitted_at = None if attempt is None else attempt.submitted_at
    told: dict[str, JSON] = {
        "key": job.key,
        "request": None if job.request_text is None else json.loads(job.request_text),
        "task_id": job.task_id,
        "task_ids": [step.task_id for step in job.steps],  # of a film: the last one is the above
        "seed": job.seed,
        "file": video.name,
        "size": size,
        "sha256": sha256,
        "credits": job.charged,
        "attempts": len(job.attempts),
        "submitted_at": _iso(submitted_at),
        "generated_at": _iso(None if attempt is None else attempt.ended_at),
        "stored_at": _iso(now),
    }
    target = side_path(video)
    part = target.with_name(f"{target.name}.part")
    with suppress(FileNotFoundError):
        part.unlink()
    try:
        with part.open("x", encoding="utf-8") as file:
            json.dump(told, file, ensure_ascii=False, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    except OSError:
        part.unlink(missing_ok=True)
        raise
    fsync_folder(target.parent)


def _iso(moment: float | None) -> str | None:
    return None if moment is None else datetime.fromtimestamp(moment, UTC).isoformat()


@attrs.frozen
class WholeFile:
    """A video that stands under its name.

    Attributes:
        size: Bytes.
        sha256: Digest, in hex.
    """

    size: int
    sha256: str


def whole_file(video: Path) -> WholeFile | None:
    """Return what stands under a name that only a whole video gets, and clear up behind it.

    A process that was killed between the rename and the journal leaves such a file.

    Raises:
        OSError: It cannot be read.
    """
    digest, walk, size = hashlib.sha256(), BoxWalk(), 0
    try:
        with video.open("rb") as file:
            while piece := file.read(WRITE_BYTES):
                digest.update(piece)
                walk.feed(memoryview(piece))
                size += len(piece)
            os.fsync(file.fileno())
    except FileNotFoundError:
        return None
    if walk.verdict(length_known=True) is not None:
        return None
    discard_part(video)
    fsync_folder(video.parent)
    return WholeFile(size, digest.hexdigest())


def free_bytes(folder: Path) -> int:
    """Return how much room the disk of a folder has."""
    return shutil.disk_usage(folder).free
