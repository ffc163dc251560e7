"""The downloader: whose turn it is, and when a file is whole."""

import asyncio
import heapq
import itertools
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from veo_async.api import Api
from veo_async.errors import NotAnMP4Error, TruncatedError
from veo_async.events import DownloadFinished, DownloadProgress, DownloadStarted, Emitter
from veo_async.files import PartialFile
from veo_async.models import Download, Video
from veo_async.protocol.mp4 import BoxWalk
from veo_async.protocol.ranges import Held
from veo_async.settings import WRITE_BYTES, RetryPolicy, Timeouts
from veo_async.transfer import Renew, Source, StartAgainError, Transfer, Windows

if TYPE_CHECKING:
    from veo_async.transport import Transport

__all__ = ["VideoStream"]

_log = logging.getLogger("veo_async")


class Turns:
    """Lets so many downloads run at once, the one whose window ends first goes first."""

    def __init__(self, total: int) -> None:
        self.active: int = 0
        self._total = total
        self._order = itertools.count()
        self._queue: list[tuple[float, int, asyncio.Future[None]]] = []

    @property
    def waiting(self) -> int:
        """How many wait."""
        return sum(not turn.done() for _, _, turn in self._queue)

    @asynccontextmanager
    async def turn(self, deadline: float) -> AsyncGenerator[None]:
        """Hold a place while inside."""
        await self._take(deadline)
        try:
            yield
        finally:
            self.active -= 1
            self._wake()

    async def _take(self, deadline: float) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._queue, (deadline, next(self._order), turn))
        self._wake()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._forget(turn)
            else:
                self.active -= 1
                self._wake()
            raise

    def _forget(self, turn: "asyncio.Future[None]") -> None:
        self._queue = [entry for entry in self._queue if entry[2] is not turn]
        heapq.heapify(self._queue)

    def _wake(self) -> None:
        while self._queue and self.active < self._total:
            _, _, turn = heapq.heappop(self._queue)
            if not turn.done():
                self.active += 1
                turn.set_result(None)


class VideoStream:
    """A video's bytes on their way to somewhere else, in order and as they arrive.

    Attributes:
        size: Bytes of the whole video, if the storage host says so.
        content_type: Its media type.
    """

    def __init__(self, transfer: Transfer, received: Callable[[int], None]) -> None:
        self.size: int | None = transfer.held.total
        self.content_type: str = transfer.content_type
        self._transfer = transfer
        self._received = received
        self._walk = BoxWalk()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield pieces of up to some hundred KiB.

        Nothing is read ahead of the consumer but what the connection's buffer holds.

        Raises:
            DownloadError: The rest cannot be had, or is not the rest of the same video.
            TransportError: The host cannot be reached.
            ClientClosedError: The client was closed.
        """
        while piece := await self._next():
            self._walk.feed(piece)
            if self._walk.fault is not None:
                break
            self._received(len(piece))
            yield piece
        fault = self._walk.verdict(length_known=self.size is not None)
        if fault is not None and self.size is None and self._walk.fault is None:
            raise TruncatedError(f"the video did not arrive whole: {fault}; ask for it again")
        if fault is not None:
            raise NotAnMP4Error(
                f"what the storage host calls a video is no whole MP4: {fault}; ask for it again"
                " later, or look at the task on the service's site"
            )

    async def _next(self) -> bytes:
        try:
            return await self._transfer.read()
        except StartAgainError as again:
            reason = again.reason
        raise reason


class Downloader:
    """The downloads of one client."""

    def __init__(
        self,
        transport: "Transport",
        api: Api,
        *,
        policy: RetryPolicy,
        timeouts: Timeouts,
        emitter: Emitter,
        max_downloads: int,
        executor: Executor,
    ) -> None:
        self.bytes_downloaded: int = 0
        self.turns: Turns = Turns(max_downloads)
        self.windows: Windows = Windows()
        self._transport = transport
        self._api = api
        self._policy = policy
        self._timeouts = timeouts
        self._emitter = emitter
        self._executor = executor

    async def save(
        self,
        video: Video,
        target: Path,
        *,
        overwrite: bool,
        renew: Renew,
        started: Callable[[], Awaitable[None]] | None = None,
    ) -> Download:
        """Bring a video to a file that is whole.

        Args:
            video: The video.
            target: The file.
            overwrite: Whether a file that is there may be replaced.
            renew: Asks the service for the video again, with a fresh link.
            started: Awaited once it is this download's turn, before a byte moves.

        Raises:
            FileExistsError: There is one already and `overwrite` is false.
            DownloadError: It could not be brought. Nothing stands under the name that was not there
                before.
            TransportError: The host cannot be reached.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        part = PartialFile(target, f"{video.task_id} {video.origin}", self._executor)
        job = _Job(Source(video, renew, self.windows), part, target)
        if not overwrite:
            await part.refuse_existing()
        self.windows.note(video.url, began)
        async with self.turns.turn(self.windows.deadline(video.url, began)):
            self._emitter.emit(DownloadStarted(task_id=video.task_id, path=target))
            if started is not None:
                await started()
            try:
                job.held = await part.open()
                await self._until_whole(job)
                digest = await part.commit(overwrite=overwrite)
            finally:
                await part.aclose(keep=job.is_video)
        download = Download(
            path=target,
            size=job.held.size,
            sha256=digest,
            attempts=job.attempts,
            seconds=loop.time() - began,
        )
        _log.info("task %s downloaded: %d bytes to %s", video.task_id, download.size, target)
        self._emitter.emit(DownloadFinished(task_id=video.task_id, download=download))
        return download

    async def _until_whole(self, job: "_Job") -> None:
        failures = 0
        while True:
            transfer = self._transfer(job.source, job.held)
            try:
                await self._pour(transfer, job)
            except StartAgainError as again:
                failures += 1
                if failures >= self._policy.attempts:
                    raise again.reason from None
                job.held = Held()
                await job.part.start_over()
                wait = self._api.wait_after(
                    "download", job.source.video.task_id, failures, again.reason
                )
            else:
                return
            finally:
                job.attempts += transfer.attempts
                await transfer.aclose()
            await asyncio.sleep(wait)

    def _transfer(self, source: Source, held: Held) -> Transfer:
        return Transfer(
            self._transport,
            self._api,
            source,
            held,
            policy=self._policy,
            stall=self._timeouts.stall,
        )

    async def _pour(self, transfer: Transfer, job: "_Job") -> None:
        await transfer.connect()
        job.held = transfer.held
        await job.part.note(transfer.held)
        pieces: list[bytes] = []
        gathered = 0
        while piece := await transfer.read():
            pieces.append(piece)
            gathered += len(piece)
            if gathered >= WRITE_BYTES:
                await self._write(b"".join(pieces), transfer, job)
                pieces.clear()
                gathered = 0
        await self._write(b"".join(pieces), transfer, job)
        length_known = transfer.held.total is not None
        fault = job.part.verdict(length_known=length_known)
        if fault is None:
            return
        if length_known:
            raise _not_an_mp4(job, fault)
        raise StartAgainError(
            TruncatedError(
                f"the video of task {job.source.video.task_id} did not arrive whole: {fault};"
                " download it again"
            )
        )

    async def _write(self, data: bytes, transfer: Transfer, job: "_Job") -> None:
        self.bytes_downloaded += len(data)
        # An answer that was cut before its first byte may have been followed by another file's.
        await job.part.note(transfer.held)
        fault = await job.part.write(data)
        if fault is not None:
            raise _not_an_mp4(job, fault)
        job.held = transfer.held
        self._emitter.emit(
            DownloadProgress(
                task_id=job.source.video.task_id,
                path=job.target,
                received=transfer.held.size,
                total=transfer.held.total,
            )
        )

    @asynccontextmanager
    async def stream(self, video: Video, renew: Renew) -> AsyncGenerator[VideoStream]:
        """Open a video for reading, without a file."""
        transfer = self._transfer(Source(video, renew, self.windows), Held())
        try:
            try:
                await transfer.connect()
            except StartAgainError as again:
                raise again.reason from None
            yield VideoStream(transfer, self._count)
        finally:
            await transfer.aclose()

    def _count(self, size: int) -> None:
        self.bytes_downloaded += size


@attrs.define
class _Job:
    """One download on its way to its file."""

    source: Source
    part: PartialFile
    target: Path
    held: Held = attrs.field(factory=Held)
    attempts: int = 0
    is_video: bool = True


def _not_an_mp4(job: _Job, fault: str) -> NotAnMP4Error:
    job.is_video = False
    return NotAnMP4Error(
        f"what the storage host calls the video of task {job.source.video.task_id} is no whole MP4:"
        f" {fault}; download it again later, or look at the task on the service's site"
    )
