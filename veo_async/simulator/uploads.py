"""Uploaded files: what they are called, where they go and how long they stay.

Knows no sockets; `intake.py` takes them in, `files.py` hands them out.
"""

import base64
import binascii
import mimetypes
import shutil
import tempfile
import weakref
from collections.abc import Generator, Mapping
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote, urlsplit

import attrs

from veo_async.simulator import dice
from veo_async.simulator.settings import UPLOAD_RETENTION_SECONDS

_ACCOUNT: Final = "kieai/100001"  # as in the answer that was recorded (live document 2.11)
_IN_MEMORY: Final = 256 << 10
"""Bytes of one upload that stay in memory; from there it goes to a temporary file."""

_NAME_LENGTH: Final = 11
_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"

_MAGIC: Final[Mapping[bytes, str]] = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
}
_UNKNOWN_TYPE: Final = "application/octet-stream"
_SNIFFED: Final = 16


class UploadError(Exception):
    """An upload is refused; the text is a short sentence.

    Args:
        text: What is wrong.
        code: HTTP status and code of the answer (live document 2.11: they are equal).
    """

    def __init__(self, text: str, code: int = 400) -> None:
        super().__init__(text)
        self.text: str = text
        self.code: int = code


class Content:
    """The bytes of one upload, written once in pieces: in memory at first, then on disk.

    Attributes:
        size: Bytes so far.
    """

    def __init__(self, attic: "Attic") -> None:
        self._attic = attic
        self._memory = bytearray()
        self._path: Path | None = None
        self._digest = sha256()
        self.size: int = 0

    @property
    def etag(self) -> str:
        """Strong entity tag."""
        return f'"{self._digest.hexdigest()}"'

    @property
    def head(self) -> bytes:
        """The first bytes, to tell the type by."""
        return next(self.pieces(_SNIFFED), b"")

    def write(self, piece: bytes) -> None:
        """Add bytes."""
        self._digest.update(piece)
        self.size += len(piece)
        self._memory += piece
        if len(self._memory) > _IN_MEMORY:
            self._spill()

    def pieces(self, step: int) -> Generator[bytes, None, None]:
        """Yield the bytes, `step` at a time, whether or not it is discarded meanwhile."""
        if self._path is None:
            whole = bytes(self._memory)
            for start in range(0, len(whole), step):
                yield whole[start : start + step]
            return
        if self._memory:
            self._spill()
        with self._path.open("rb") as file:
            while piece := file.read(step):
                yield piece

    def discard(self) -> None:
        """Give up the room that it takes; who reads it reads on."""
        self._memory.clear()
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def _spill(self) -> None:
        if self._path is None:
            self._path = self._attic.place()
        with self._path.open("ab") as file:
            file.write(self._memory)
        self._memory.clear()


class Attic:
    """A temporary directory, made when it is first needed and gone with its owner."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._count = 0

    def place(self) -> Path:
        """Return the path of a file that is not there yet."""
        if self._path is None:
            self._path = Path(tempfile.mkdtemp(prefix="veo-simulator-"))
            weakref.finalize(self, shutil.rmtree, self._path, ignore_errors=True)
        self._count += 1
        return self._path / f"{self._count}"


@attrs.frozen
class Upload:
    """A file that was taken in.

    Attributes:
        path: Path on the file host, without a leading slash.
        content: Its bytes.
        mime: Its type, by its name.
        since: Service seconds.
    """

    path: str
    content: Content
    mime: str
    since: float

    @property
    def is_misnamed(self) -> bool:
        """True for an image of another kind than its name says: Veo cannot use such a one.

        A client of the live service found this with a JPEG that was called .png.
        """
        found = _type_in(self.content.head)
        return self.mime.startswith("image/") and found is not None and found != self.mime


class Uploads:
    """All uploaded files; one of the same name takes the place of an earlier one."""

    def __init__(self, *, seed: int, epoch: datetime) -> None:
        self._seed = seed
        self._epoch = epoch
        self._attic = Attic()
        self._files: dict[str, Upload] = {}
        self._count = 0

    def blank(self) -> Content:
        """Return a content to write into."""
        return Content(self._attic)

    def store(
        self, content: Content, fields: Mapping[str, str], *, hint: str, now: float
    ) -> Upload:
        """Keep a file.

        Args:
            content: Its bytes.
            fields: `uploadPath` and, where wanted, `fileName` of the request.
            hint: A file name or a MIME type that its sender gave it, to find the type by.
            now: Service seconds.

        Raises:
            UploadError: For a place or a name that will not do.
        """
        folder = check_folder(fields.get("uploadPath"))
        likely = _type_in(content.head) or (hint if "/" in hint else _type_by(hint))
        name = _checked_name(fields.get("fileName") or self._random_name(hint, likely, now))
        mime = _type_by(name) or likely or _UNKNOWN_TYPE
        self._forget(now)
        upload = Upload(f"{_ACCOUNT}/{folder}/{name}", content, mime, now)
        earlier = self._files.pop(upload.path, None)
        if earlier is not None:
            earlier.content.discard()
        self._files[upload.path] = upload
        return upload

    def get(self, path: str, now: float) -> Upload | None:
        """Return the file at `path` (without a leading slash) while it is kept."""
        upload = self._files.get(path)
        if upload is None or now >= upload.since + UPLOAD_RETENTION_SECONDS:
            return None
        return upload

    def answer(self, upload: Upload, *, base_url: str) -> dict[str, object]:
        """Return the answer to an upload, as recorded (live document 2.11)."""
        moment = self._moment(upload.since).isoformat(timespec="milliseconds")
        return {
            "success": True,
            "code": 200,
            "msg": "File uploaded successfully",
            "data": {
                "success": True,
                "fileName": upload.path.rpartition("/")[2],
                "filePath": upload.path,
                "downloadUrl": f"{base_url}/{quote(upload.path)}",
                "fileSize": upload.content.size,
                "mimeType": upload.mime,
                "uploadedAt": moment.replace("+00:00", "Z"),
            },
        }

    def _moment(self, now: float) -> datetime:
        return self._epoch + timedelta(seconds=now)

    def _random_name(self, hint: str, mime: str | None, now: float) -> str:
        """Name a file `<epoch ms>-<base36>.<ext>`, as observed."""
        self._count += 1
        number = int(dice.digest("upload", self._seed, self._count)[:20], 16)
        letters = ""
        for _ in range(_NAME_LENGTH):
            number, digit = divmod(number, len(_DIGITS))
            letters += _DIGITS[digit]
        suffix = Path(hint).suffix if "/" not in hint else ""
        ending = suffix or mimetypes.guess_extension(mime or "", strict=False) or ".bin"
        return f"{int(self._moment(now).timestamp() * 1000)}-{letters}{ending}"

    def _forget(self, now: float) -> None:
        for path in [path for path in self._files if self.get(path, now) is None]:
            self._files.pop(path).content.discard()


def check_folder(folder: str | None) -> str:
    """Return an `uploadPath`.

    Raises:
        UploadError: It is missing, or no plain relative path (live document 2.11).
    """
    if not folder:
        raise UploadError("Missing required parameter: uploadPath")
    parts = folder.split("/")
    if not all(parts):
        raise UploadError("uploadPath must not begin or end with a slash")
    if {".", ".."} & set(parts) or "\\" in folder:
        raise UploadError("uploadPath must be a plain path")
    return folder


def decode(text: str, content: Content) -> str:
    """Decode plain Base64 or a data URL into `content`; return the type that the URL names.

    Raises:
        UploadError: It is neither.
    """
    mime, data = "", text
    if text.startswith("data:"):
        head, comma, data = text.removeprefix("data:").partition(",")
        mime, _, coding = head.rpartition(";")
        if not comma or coding != "base64":
            raise UploadError("Base64 decoding failed: Invalid Base64 format")
    try:
        content.write(base64.b64decode(data, validate=True))
    except (binascii.Error, ValueError) as error:
        raise UploadError("Base64 decoding failed: Invalid Base64 format") from error
    return mime


def name_in(url: str) -> str:
    """Return the file name at the end of a URL, to find the type by."""
    return unquote(urlsplit(url).path).rpartition("/")[2]


def _checked_name(name: str) -> str:
    if "/" in name or "\\" in name or name in {".", ".."}:
        raise UploadError("fileName must not contain a path")
    return name


def _type_in(head: bytes) -> str | None:
    """Tell the type by the first bytes."""
    for magic, mime in _MAGIC.items():
        if head.startswith(magic):
            return mime
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    return "video/mp4" if head[4:8] == b"ftyp" else None


def _type_by(name: str) -> str | None:
    """Tell the type by a name, as the file host does (`strict` would leave out WebP)."""
    return mimetypes.guess_type(name, strict=False)[0]
