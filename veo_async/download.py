"""The downloader: whose turn it is, and when a file is whole."""

import asyncio
import heapq
import itertools
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from veo_async.api import Api
from veo_async.errors import NotAnMP4Error, TruncatedError
from veo_async.events import (
    DownloadFailed,
    DownloadFinished,
    DownloadProgress,
    DownloadStarted,
    Emitter,
)
from veo_async.files import PartialFile
from veo_async.models import Download, Video
from veo_async.protocol.ranges import Held, Span, span_of, strong_etag
from veo_async.settings import DOWNLOAD_BYTES, RECENT_VIDEOS, RetryPolicy, Timeouts
from veo_async.streaming import VideoStream
from veo_async.transfer import Renew, Source, StartAgainError, Transfer, Windows

if TYPE_CHECKING:
    from veo_async.transport import Transport

__all__: list[str] = []

_log = logging.getLogger(__name__)


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
        self._recent: dict[str, Video] = {}
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
            try:
                if started is not None:
                    await started()
                digest = await self._brought(job, overwrite=overwrite)
            except BaseException as error:
                self._emitter.emit(
                    DownloadFailed(
                        task_id=video.task_id,
                        path=target,
                        error=str(error),
                        error_type=type(error).__name__,
                    )
                )
                raise
        download = Download(
            path=target,
            size=job.held.size,
            sha256=digest,
            attempts=job.attempts,
            seconds=loop.time() - began,
        )
        _log.info(
            "task %s downloaded: %d bytes to %s",
            video.task_id,
            download.size,
            target,
            extra={"task_id": video.task_id},
        )
        self._emitter.emit(DownloadFinished(task_id=video.task_id, download=download))
        return download

    async def _brought(self, job: "_Job", *, overwrite: bool) -> str:
        try:
            job.held = await job.part.open()
            await self._until_whole(job)
            return await job.part.commit(overwrite=overwrite)
        finally:
            await job.part.aclose(keep=job.is_video)

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

    def _transfer(
        self, source: Source, held: Held, span: Span | None = None, condition: str | None = None
    ) -> Transfer:
        return Transfer(
            self._transport,
            self._api,
            source,
            held,
            policy=self._policy,
            stall=self._timeouts.stall,
            span=span,
            condition=condition,
        )

    async def _pour(self, transfer: Transfer, job: "_Job") -> None:
        await transfer.connect()
        job.held = transfer.held
        await job.part.note(transfer.held)
        buffer = memoryview(bytearray(DOWNLOAD_BYTES))
        filled = 0
        while size := await transfer.read_into(buffer[filled:]):
            filled += size
            if filled == len(buffer):
                await self._write(buffer, transfer, job)
                filled = 0
        await self._write(buffer[:filled], transfer, job)
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

    async def _write(self, data: memoryview, transfer: Transfer, job: "_Job") -> None:
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
    async def stream(
        self, video: Video, renew: Renew, *, wanted: str | None = None, condition: str | None = None
    ) -> AsyncGenerator[VideoStream]:
        """Open a video for reading, without a file.

        Args:
            video: The video.
            renew: Asks the service for the video again, with a fresh link.
            wanted: The `Range` header of a request for it.
            condition: The `If-Range` header of that request.
        """
        source = Source(video, renew, self.windows)
        known = strong_etag(condition)
        # What does not prove equality (RFC 9110, 13.1.5) gets the whole video.
        span = span_of(wanted) if condition is None or known is not None else None
        transfer = self._transfer(source, Held(), span, None if span is None else known)
        try:
            try:
                await transfer.connect()
            except StartAgainError as again:
                raise again.reason from None
            self._remember(source.video)
            body = VideoStream(transfer, self._count)
            try:
                yield body
            finally:
                await body.aclose()
        finally:
            await transfer.aclose()

    def recent(self, task_id: str) -> Video | None:
        """Return a task's video that was streamed a moment ago, as long as its link is good.

        A browser asks for a film in many parts, and the service need not be asked for each.
        """
        video = self._recent.get(task_id)
        if video is None or not self.windows.is_open(video.url, asyncio.get_running_loop().time()):
            return None
        return video

    def _remember(self, video: Video) -> None:
        if video.origin == "record-info":
            self._recent.pop(video.task_id, None)
            self._recent[video.task_id] = video
            while len(self._recent) > RECENT_VIDEOS:
                del self._recent[next(iter(self._recent))]

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
