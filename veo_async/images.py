"""Images that a request names by their paths: looked at before anything is spent, then uploaded."""

import asyncio
from collections.abc import Iterable
from concurrent.futures import Executor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import attrs

from veo_async.errors import ClientClosedError, InvalidRequestError, VeoError
from veo_async.ownership import OwnedTasks, finished, uncut
from veo_async.protocol.images import HEAD_BYTES, fault_of
from veo_async.request import PaidRequest, VideoRequest, is_http_url, local_images
from veo_async.settings import RECENT_UPLOADS, UPLOAD_LIFETIME
from veo_async.upload import State, Uploader, changed, opened, refusal

__all__: list[str] = []

_FIELD: Final = "image_urls"


@attrs.frozen
class _Image:
    """An image as it was seen; equal images are uploaded once."""

    path: str
    state: State


def check_images(images: Iterable[str]) -> None:
    """Make sure that those of a request's images that are paths can be uploaded. It reads files.

    Raises:
        InvalidRequestError: One is missing, or is not what the service takes.
    """
    for path in local_images(images):
        _looked_at(path)


def _looked_at(path: str) -> _Image:
    file, state = opened(path, _FIELD)
    try:
        head = file.read(HEAD_BYTES)
    except OSError as error:
        why = f"cannot be read ({error.strerror})"
        raise refusal(_FIELD, path, why, "check the file and its disk") from None
    finally:
        file.close()
    fault = fault_of(head, state[2])
    if fault is not None:
        raise refusal(_FIELD, path, fault, "give a JPEG, PNG or WebP of at most 10 MB")
    # Where it stands may depend on the folder that the program is in at the moment.
    return _Image(str(Path(path).absolute()), state)


@attrs.frozen
class Kept:
    """The URL of an image, and when it was uploaded: in loop time, and on the wall.

    Loop time stands still while a machine sleeps, and the service's does not.
    """

    url: str
    at: float
    moment: datetime

    def is_fresh(self, now: float, moment: datetime) -> bool:
        """Return whether it works, and for long enough for a task that has to wait."""
        age = (moment - self.moment).total_seconds()
        return now - self.at < UPLOAD_LIFETIME and 0 <= age < UPLOAD_LIFETIME


@attrs.define(eq=False)
class _Work:
    """An upload under way, and how many wait for it."""

    task: "asyncio.Task[str]"
    waiting: int = 0


class Images:
    """The local images of one client's requests."""

    def __init__(self, uploader: Uploader, *, owned: OwnedTasks, executor: Executor) -> None:
        self._uploader = uploader
        self._owned = owned
        self._executor = executor
        self._kept: dict[_Image, Kept] = {}
        self._works: dict[_Image, _Work] = {}

    async def check(self, request: PaidRequest) -> None:
        """Make sure that a request's local images can be uploaded.

        Raises:
            InvalidRequestError: One is missing, or is not what the service takes.
        """
        await self._all_looked_at(request)

    async def _all_looked_at(self, request: PaidRequest) -> list[_Image]:
        paths = local_images(request.image_urls) if isinstance(request, VideoRequest) else ()
        if not paths:
            return []
        look = [*paths]
        return await uncut(
            asyncio.get_running_loop().run_in_executor(
                self._executor, lambda: [_looked_at(path) for path in look]
            )
        )

    async def uploaded(self, request: PaidRequest) -> PaidRequest:
        """Return a request with the URLs of its images in the places of their paths.

        What this client uploaded in the last twelve hours is not uploaded again.

        Raises:
            InvalidRequestError: One is missing, or is not what the service takes. None was
                uploaded.
            APIError: The service refused one, or has no uploads.
            TransportError: No answer came.
        """
        found = await self._all_looked_at(request)
        if not found or not isinstance(request, VideoRequest):
            return request
        urls = iter([await self._url(image) for image in found])
        return request.evolve(
            image_urls=[given if is_http_url(given) else next(urls) for given in request.image_urls]
        )

    async def _url(self, image: _Image) -> str:
        """Return an image's URL, from whoever uploads it or did.

        Raises:
            VeoError: It could not be uploaded; the next one to ask tries again.
        """
        kept = self._kept.get(image)
        now = asyncio.get_running_loop().time()
        if kept is not None and kept.is_fresh(now, datetime.now(UTC)):
            return kept.url
        work = self._works.get(image)
        if work is None:
            work = self._works[image] = _Work(self._owned.spawn(self._upload(image)))
            work.task.add_done_callback(lambda task: self._forget(image, task))
        return await self._result(image, work)

    def _forget(self, image: _Image, task: "asyncio.Task[str]") -> None:
        work = self._works.get(image)
        if work is not None and work.task is task:
            del self._works[image]

    async def _result(self, image: _Image, work: _Work) -> str:
        work.waiting += 1
        try:
            await asyncio.wait({work.task})
        except asyncio.CancelledError:
            if work.waiting == 1:
                self._forget(image, work.task)  # whoever comes now uploads it anew
                work.task.cancel()
                with suppress(asyncio.CancelledError, VeoError):
                    await finished(work.task)
            raise
        finally:
            work.waiting -= 1
        if work.task.cancelled():
            raise ClientClosedError(
                "the client was closed while an image was uploaded; use a client that is open"
            )
        return work.task.result()

    async def _upload(self, image: _Image) -> str:
        async with self._uploader.open(image.path, _FIELD) as file:
            if file.state != image.state:
                raise changed(_FIELD, image.path)
            url = await self._uploader.send(file)
        now = asyncio.get_running_loop().time()
        self._kept.pop(image, None)
        self._kept[image] = Kept(url, now, datetime.now(UTC))
        while len(self._kept) > RECENT_UPLOADS:
            del self._kept[next(iter(self._kept))]
        return url


def is_mendable(request: VideoRequest | None, error_kind: str | None) -> bool:
    """Return whether a request that was refused may pass now: its files may be others by then."""
    is_input = error_kind == InvalidRequestError.__name__
    return is_input and request is not None and bool(local_images(request.image_urls))
