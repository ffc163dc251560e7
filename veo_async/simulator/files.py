"""The file host: a second origin that serves the videos, byte ranges included."""

import contextlib
import zlib
from collections.abc import Iterator
from email.utils import formatdate
from http import HTTPStatus
from typing import Final

import attrs
from aiohttp import web

from veo_async.simulator import wire
from veo_async.simulator.faults import Fault, Hits
from veo_async.simulator.footage import Clip, Projector
from veo_async.simulator.records import Endpoint, Leak
from veo_async.simulator.settings import BODY_LIMIT
from veo_async.simulator.storage import Slice, StoredFile, Verdict, choose
from veo_async.simulator.uploads import Upload
from veo_async.simulator.world import World

_PIECE: Final = 256 << 10
"""Bytes per write: large enough to be fast, small enough to feel the client's pace."""

_DRIPS_PER_SECOND: Final = 4

_ERRORS: Final = {
    # As S3 and its kin word them.
    Verdict.EXPIRED: (403, "AccessDenied", "Request has expired"),
    Verdict.FORGED: (403, "SignatureDoesNotMatch", "The signature does not match"),
    Verdict.UNKNOWN: (404, "NoSuchKey", "The specified key does not exist."),
}


class _RawResponse(web.StreamResponse):
    """An answer whose Content-Length, right, wrong or absent, is sent as it stands."""

    _length_check = False


class FileHost:
    """Answers requests for files.

    Args:
        world: The account whose files they are.
        projector: Where their bytes come from.
    """

    def __init__(self, world: World, projector: Projector) -> None:
        self._world = world
        self._projector = projector

    def app(self) -> web.Application:
        """Return the application to serve."""
        app = web.Application(client_max_size=BODY_LIMIT)
        app.router.add_route("*", "/{path:.*}", self.answer)
        return app

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        world = self._world
        self._watch(request)
        with world.lock:
            upload = world.service.uploads.get(request.path.lstrip("/"), world.clock.now())
        if upload is not None:
            world.count(Endpoint.OTHER)
            return await _hand_out(request, upload)
        world.count(Endpoint.VIDEO)
        if request.method not in {"GET", "HEAD"}:
            return _no_method()
        with world.lock:
            file = world.service.storage.get(request.path)
            hits = Hits()
            if file is not None and request.method == "GET":
                hits = world.faults.draw(Endpoint.VIDEO, f"{file.prompt} {request.path_qs}")
            if file is not None and "change_etag" in hits:
                file.revision += 1
            if file is not None and hits.replacing and hits.replacing.kind == "expire":
                world.service.storage.revoke(file.path)
            verdict = world.service.storage.judge(request.path, request.query, world.clock.now())
        if hits.delay:
            await world.clock.sleep(hits.delay)
        if hits.replacing is not None and hits.replacing.kind != "expire":
            return await self._spoil(request, hits.replacing)
        if verdict is not Verdict.GOOD or file is None:
            return _error(*_ERRORS[verdict])
        return await self._serve(request, file, hits)

    def _watch(self, request: web.Request) -> None:
        """Put whatever should not have come here into the books."""
        key = self._world.settings.api_key
        names = {name.lower() for name in request.headers}
        found: list[str] = []
        if names & {"authorization", "proxy-authorization"}:
            found.append("authorization")
        elif key in request.path_qs or any(key in value for value in request.headers.values()):
            found.append("key")
        if request.body_exists:
            found.append("body")
        with self._world.lock:
            self._world.leaks.extend(
                Leak(what=what, where=request.path, method=request.method) for what in found
            )

    async def _spoil(self, request: web.Request, fault: Fault) -> web.StreamResponse:
        match fault.kind:
            case "hang":
                return await wire.hang(request, self._world.clock)
            case "reset_before":
                return wire.reset(request)
            case "html":
                return wire.page(fault)
            case "redirect":
                return wire.elsewhere(fault, self._world.target(str(fault.value)))
            case "empty":
                return web.Response(content_type="video/mp4")
            case _:
                error = _error(int(fault.number), "ServiceError", fault.text or "Please try again")
                if fault.retry_after is not None:
                    error.headers["Retry-After"] = f"{fault.retry_after:g}"
                return error

    async def _serve(
        self, request: web.Request, file: StoredFile, hits: Hits
    ) -> web.StreamResponse:
        footage = attrs.evolve(file.footage, seed=file.footage.seed + file.revision)
        clip = await self._projector.clip(footage)
        modified = formatdate(self._world.settings.epoch.timestamp() + file.ready, usegmt=True)
        etag = _etag(clip, hits)
        size = len(clip.body)
        wanted = {name: request.headers[name] for name in _conditions(request, hits)}
        part = choose(wanted, size=size, etag=etag, last_modified=modified)
        headers = {"Last-Modified": modified, "Accept-Ranges": "bytes"}
        if "no_ranges" in hits:
            headers["Accept-Ranges"] = "none"
        if etag is not None:
            headers["ETag"] = etag
        if part.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            headers["Content-Range"] = f"bytes */{size}"
            return _error(416, "InvalidRange", "The range is not satisfiable", headers)
        if part.status == HTTPStatus.PARTIAL_CONTENT:
            headers["Content-Range"] = _content_range(part, size, hits)
        answer = _RawResponse(status=part.status, headers=headers)
        if part.status == HTTPStatus.NOT_MODIFIED:
            await answer.prepare(request)
            return answer
        answer.content_type = "video/mp4" if file.footage.seconds else "image/jpeg"
        await self._send(request, answer, clip.body, part, hits)
        return answer

    async def _send(
        self,
        request: web.Request,
        answer: _RawResponse,
        body: bytes,
        part: Slice,
        hits: Hits,
    ) -> None:
        zipped = "gzip" in hits
        stop, stalls = _crossing(part, hits)
        if zipped:
            answer.headers["Content-Encoding"] = "gzip"
        elif "no_length" not in hits:
            answer.content_length = part.stop - part.start
        if zipped or "no_length" in hits or stop < part.stop:
            answer.force_close()
        try:
            await answer.prepare(request)
        except ConnectionResetError:  # who asked is gone
            return
        if request.method == "HEAD":
            return
        drip = hits.modifier("drip")
        step = _PIECE if drip is None else max(1, int(drip.number / _DRIPS_PER_SECOND))
        pieces = _pieces(memoryview(body)[part.start : stop], step)
        for piece in _packed(pieces) if zipped else pieces:
            await answer.write(piece)
            if drip is not None:
                await self._world.clock.sleep(len(piece) / max(drip.number, 1e-9))
                if self._world.clock.is_stopped:
                    return
        if stalls:
            await wire.hold(request, self._world.clock)


async def _hand_out(request: web.Request, upload: Upload) -> web.StreamResponse:
    """Serve an uploaded file: public, no range, for as long as it is kept."""
    if request.method not in {"GET", "HEAD"}:
        return _no_method()
    answer = web.StreamResponse(headers={"ETag": upload.content.etag})
    answer.content_type = upload.mime
    answer.content_length = upload.content.size
    await answer.prepare(request)
    if request.method == "GET":
        with contextlib.closing(upload.content.pieces(_PIECE)) as pieces:
            for piece in pieces:
                await answer.write(piece)
    return answer


def _no_method() -> web.Response:
    return _error(405, "MethodNotAllowed", "The specified method is not allowed")


def _crossing(part: Slice, hits: Hits) -> tuple[int, bool]:
    """Return where the bytes end, and whether they end in silence."""
    stop, stalls = part.stop, False
    for kind in ("cut_at", "stall_at"):
        fault = hits.modifier(kind)
        if fault is not None and part.start < fault.number < stop:
            stop, stalls = int(fault.number), kind == "stall_at"
    return stop, stalls


def _conditions(request: web.Request, hits: Hits) -> list[str]:
    names = ["Range", "If-Range", "If-None-Match"]
    if request.method == "HEAD" or "no_ranges" in hits or "gzip" in hits:
        names = ["If-None-Match"]
    elif "ignore_if_range" in hits:
        names.remove("If-Range")
    return [name for name in names if name in request.headers]


def _etag(clip: Clip, hits: Hits) -> str | None:
    if "no_etag" in hits:
        return None
    return f"W/{clip.etag}" if "weak_etag" in hits else clip.etag


def _content_range(part: Slice, size: int, hits: Hits) -> str:
    lie = hits.modifier("lying_range")
    start, stop = part.start, part.stop
    if lie is not None and lie.value == "total":
        size += 1
    elif lie is not None:
        start, stop = start + 1, stop + 1
    return f"bytes {start}-{stop - 1}/{size}"


def _pieces(body: memoryview, step: int) -> Iterator[memoryview]:
    for start in range(0, len(body), step):
        yield body[start : start + step]


def _packed(pieces: Iterator[memoryview]) -> Iterator[bytes]:
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    for piece in pieces:
        packed = packer.compress(piece)
        if packed:
            yield packed
    yield packer.flush()


def _error(
    status: int, code: str, message: str, headers: dict[str, str] | None = None
) -> web.Response:
    text = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    )
    return web.Response(status=status, text=text, content_type="application/xml", headers=headers)
