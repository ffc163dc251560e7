"""Reading uploads from the network: multipart, Base64 in JSON, or the URL of a file.

In reality this is a host of its own with the same key (live document 2.11); here it answers on the
API's origin.
"""

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Final

import aiohttp
import attrs
from aiohttp import BodyPartReader, web

from veo_async.simulator import wire
from veo_async.simulator.orders import NotAnObjectError, read_object
from veo_async.simulator.records import Reply
from veo_async.simulator.settings import (
    UPLOAD_BODY_LIMIT,
    UPLOAD_FETCH_FLOOR,
    UPLOAD_FETCH_SECONDS,
)
from veo_async.simulator.uploads import Content, UploadError, check_folder, decode, name_in
from veo_async.simulator.webhooks import is_loopback
from veo_async.simulator.world import World

_PIECE: Final = 64 << 10
_FIELD_LIMIT: Final = 4096
"""Bytes of a form field that is no file."""

_USER_AGENT: Final = "veo-simulator"

_TOO_LARGE: Final = "Request body is too large"


@attrs.frozen
class Parcel:
    """An upload as it arrived, before anybody judged it.

    Attributes:
        fields: The text fields, by name.
        content: The bytes, where the request carried them in pieces.
        hint: What the sender called the file, or its type.
        missing: Name of the required parameter that holds the file, where it was absent.
        error: What made the request unreadable.
    """

    fields: Mapping[str, str] = attrs.field(factory=dict[str, str])
    content: Content | None = None
    hint: str = ""
    missing: str | None = None
    error: UploadError | None = None

    @property
    def name(self) -> str:
        """What the file is called, as far as the request says so."""
        return self.fields.get("fileName") or self.hint


class Intake:
    """Takes uploads in.

    Args:
        world: The account they belong to.
        time_scale: Service seconds per real second, for the time limit of a fetch.
    """

    def __init__(self, world: World, *, time_scale: float) -> None:
        self._world = world
        seconds = UPLOAD_FETCH_SECONDS / time_scale if time_scale else UPLOAD_FETCH_SECONDS
        self._timeout = aiohttp.ClientTimeout(total=max(seconds, UPLOAD_FETCH_FLOOR))
        self._readers: Mapping[str, Callable[[web.Request], Awaitable[Parcel]]] = {
            "/api/file-stream-upload": self._form,
            "/api/file-base64-upload": self._base64,
            "/api/file-url-upload": self._url,
        }

    async def read(self, request: web.Request) -> Parcel:
        """Read a request to its end, whatever is in it."""
        try:
            return await self._readers[request.path](request)
        except UploadError as error:
            return Parcel(error=error)
        except (NotAnObjectError, ValueError):
            return Parcel(error=UploadError("Request body cannot be read"))

    async def keep(self, parcel: Parcel) -> Reply:
        """Judge a parcel, put its file where it belongs and answer."""
        world = self._world
        try:
            content = await self._content(parcel)
            with world.lock:
                uploads, now = world.service.uploads, world.clock.now()
                upload = uploads.store(content, parcel.fields, hint=parcel.hint, now=now)
                return Reply(uploads.answer(upload, base_url=world.files_url))
        except UploadError as error:
            self.drop(parcel)
            return refusal(error.code, error.text)

    def drop(self, parcel: Parcel) -> None:
        """Throw a parcel away."""
        if parcel.content is not None:
            parcel.content.discard()

    async def _content(self, parcel: Parcel) -> Content:
        if parcel.error is not None:
            raise parcel.error
        if parcel.missing is not None:
            raise UploadError(f"Missing required parameter: {parcel.missing}")
        check_folder(parcel.fields.get("uploadPath"))
        return parcel.content or await self._fetch(parcel.fields["fileUrl"])

    async def _form(self, request: web.Request) -> Parcel:
        if not request.content_type.startswith("multipart/"):
            await _drain(request)
            raise UploadError("Content-Type must be multipart/form-data")
        content = self._world.service.uploads.blank()
        try:
            return await _read_form(request, content)
        except BaseException:  # bad, or its sender is gone: nobody will ask for the bytes
            content.discard()
            raise

    async def _base64(self, request: web.Request) -> Parcel:
        fields = _texts(read_object(await _limited(request)))
        data = fields.pop("base64Data", "")
        if not data:
            return Parcel(fields, missing="base64Data")
        content = self._world.service.uploads.blank()
        hint = decode(data, content)
        return Parcel(fields, content, fields.get("fileName") or hint)

    async def _url(self, request: web.Request) -> Parcel:
        fields = _texts(read_object(await _limited(request)))
        url = fields.get("fileUrl", "")
        return Parcel(fields, hint=name_in(url), missing=None if url else "fileUrl")

    async def _fetch(self, url: str) -> Content:
        """Fetch a file from this machine; a test tool asks nobody else."""
        if not url.startswith("http://") or not is_loopback(url):
            raise UploadError(
                "fileUrl cannot be fetched: the simulator fetches http URLs of this machine only"
            )
        content = self._world.service.uploads.blank()
        headers = {"User-Agent": _USER_AGENT}
        try:
            async with (
                aiohttp.ClientSession(timeout=self._timeout, headers=headers) as session,
                session.get(url) as answer,
            ):
                if answer.status != HTTPStatus.OK:
                    raise UploadError(f"fileUrl cannot be fetched: HTTP {answer.status}")
                async for piece in answer.content.iter_chunked(_PIECE):
                    content.write(piece)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            content.discard()
            raise UploadError(f"fileUrl cannot be fetched: {type(error).__name__}") from error
        return content


def refusal(code: int, text: str) -> Reply:
    """The upload host's errors: HTTP status and code are equal (live document 2.11)."""
    return Reply({"success": False, "code": code, "msg": text}, http=code)


async def _limited(request: web.Request) -> bytes:
    body = await wire.body(request, UPLOAD_BODY_LIMIT)
    if body is None:
        raise UploadError(_TOO_LARGE, 413)
    return body


async def _drain(request: web.Request) -> None:
    while await request.content.readany():
        pass


async def _read_form(request: web.Request, content: Content) -> Parcel:
    fields: dict[str, str] = {}
    hint: str | None = None
    async for part in await request.multipart():
        if not isinstance(part, BodyPartReader):
            continue
        if part.name == "file" and hint is None:
            hint = part.filename or part.headers.get("Content-Type") or ""
            while piece := await part.read_chunk(_PIECE):
                content.write(piece)
        elif part.name is not None:
            fields[part.name] = await _text(part)
    missing = "file" if hint is None else None
    return Parcel(fields, content, hint or "", missing=missing)


async def _text(part: BodyPartReader) -> str:
    text = bytearray()
    while piece := await part.read_chunk(_FIELD_LIMIT):
        text += piece
        if len(text) > _FIELD_LIMIT:
            raise UploadError(f"{part.name} is too long")
    return text.decode()


def _texts(fields: Mapping[str, object]) -> dict[str, str]:
    for name, value in fields.items():
        if value is not None and not isinstance(value, str):
            raise UploadError(f"{name} must be a string")
    return {name: value for name, value in fields.items() if isinstance(value, str)}
