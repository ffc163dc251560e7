"""One video's bytes in order, across cuts and expired links, judged by the rules of `ranges`."""

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Protocol

import attrs

from veo_async.api import Api
from veo_async.errors import (
    ContentChangedError,
    DownloadError,
    TransportError,
    TransportTimeoutError,
    TruncatedError,
    URLExpiredError,
    VeoError,
)
from veo_async.models import Video
from veo_async.protocol import ranges
from veo_async.protocol.ranges import Answer, Held, Span, Verdict
from veo_async.settings import (
    MAX_URL_REFRESHES,
    MAX_VIDEO_BYTES,
    MIN_BYTES_PER_SECOND,
    PROGRESS_BYTES,
    URL_LIFETIME,
    RetryPolicy,
)

if TYPE_CHECKING:
    from veo_async.transport import Stream, Transport

__all__: list[str] = []


class Renew(Protocol):
    """Asks the service for a video again, with a fresh link."""

    async def __call__(self, video: Video, /, *, is_dead: bool = False) -> Video:
        """Ask for it.

        Args:
            video: The video.
            is_dead: Whether its link was seen not to work, rather than to be old.
        """
        ...


class StartAgainError(Exception):
    """The bytes held cannot be continued. Holds the error for those who cannot start again."""

    def __init__(self, reason: DownloadError) -> None:
        super().__init__(str(reason))
        self.reason = reason


@attrs.define
class Windows:
    """Until when each link can be used, in loop time."""

    _received: dict[str, float] = attrs.field(factory=dict[str, float])

    def renew(self, url: str, now: float) -> None:
        """Remember that a link was handed out anew, which may be the same one as before."""
        self._received.pop(url, None)
        self.note(url, now)

    def note(self, url: str, now: float) -> None:
        """Remember that a link was received, and forget those that are long dead."""
        self._received.setdefault(url, now)
        while True:
            oldest = next(iter(self._received))
            if oldest == url or now - self._received[oldest] <= URL_LIFETIME:
                break
            del self._received[oldest]

    def is_open(self, url: str, now: float) -> bool:
        """Return whether a link was received not too long ago to be used."""
        return url in self._received and now < self.deadline(url, now)

    def deadline(self, url: str, now: float) -> float:
        """Return the end of a link's window; one never seen before starts now."""
        return self._received.get(url, now) + URL_LIFETIME


@attrs.define
class Source:
    """Where a video's bytes come from, as long as its link can be renewed.

    Attributes:
        video: The video.
        renew: Asks the service for the video again, with a fresh link.
        windows: The links' windows, shared by the client.
    """

    video: Video
    renew: Renew
    windows: Windows
    _renewals: int = 0
    _expired: bool = False

    def expire(self, reason: str) -> None:
        """Take note that the link is dead.

        Raises:
            URLExpiredError: Too many of them were.
        """
        self._expired = True
        if self._renewals >= MAX_URL_REFRESHES:
            raise URLExpiredError(
                f"no link to the video of task {self.video.task_id} works any more ({reason});"
                " check on the service's site whether it is still there"
            )

    async def url(self) -> str:
        """Return a link that should work."""
        now = asyncio.get_running_loop().time()
        self.windows.note(self.video.url, now)
        if self._expired or now >= self.windows.deadline(self.video.url, now):
            self._renewals += 1
            self.video = await self.renew(self.video, is_dead=self._expired)
            self._expired = False
            self.windows.renew(self.video.url, asyncio.get_running_loop().time())
        return self.video.url


class Transfer:
    """The bytes of one video in order, across cuts and expired links.

    It never starts again by itself: where the bytes that were handed out cannot be continued, it
    raises, and its user decides.

    Attributes:
        held: What was handed out, and what is known of the file.
        span: The part that is transferred; None for the whole file, also where the storage host
            knows no parts.
        is_beyond: Whether the file has no byte of that part.
        content_type: What the storage host calls it.
        attempts: Requests for its bytes.
    """

    def __init__(
        self,
        transport: "Transport",
        api: Api,
        source: Source,
        held: Held,
        *,
        policy: RetryPolicy,
        stall: float,
        span: Span | None = None,
        condition: str | None = None,
    ) -> None:
        self.held: Held = held
        self.span: Span | None = span
        self.is_beyond: bool = False
        self.content_type: str = "video/mp4"
        self.attempts: int = 0
        self._transport = transport
        self._api = api
        self._source = source
        self._policy = policy
        self._stall = stall
        self._patience = stall
        self._quota = 0.0
        self._failures = 0
        self._progress = 0
        self._ended = False
        self._has_begun = False
        self._condition = condition
        self._open = AsyncExitStack()
        self._stream: Stream | None = None

    @property
    def stop(self) -> int | None:
        """Offset behind the last byte that comes, if it is known."""
        if self.span is None or self.span.last is None:
            return self.held.total
        return self.span.last + 1

    async def connect(self) -> None:
        """Open the body that follows the bytes held.

        Raises:
            DownloadError: It cannot be had.
            TransportError: The host cannot be reached.
        """
        while self._stream is None and not self._ended:
            url = await self._source.url()
            self.attempts += 1
            try:
                await self._try(url)
            except TransportError as error:
                await self._failed(error)

    async def _try(self, url: str) -> None:
        headers = ranges.request_headers(self.held, self.span)
        stream = await self._open.enter_async_context(self._transport.fetch(url, headers))
        answer = ranges.judge(self.held, stream.status, stream.headers, self.span)
        if self._condition not in {None, answer.etag} and answer.verdict is Verdict.GOES_ON:
            # Asked about here, since some hosts look past If-Range.
            self.span = self._condition = None
            await self.aclose()
        elif answer.verdict in {Verdict.WHOLE, Verdict.GOES_ON}:
            self._begin(stream, answer)
        elif answer.verdict is Verdict.BEYOND and not self._has_begun:
            self.held = attrs.evolve(self.held, total=answer.total)
            self.is_beyond = self._ended = True
            await self.aclose()
        elif answer.verdict is Verdict.COMPLETE:
            self._ended = True
        else:
            await self.aclose()
            await self._refused(answer)

    def _begin(self, stream: "Stream", answer: Answer) -> None:
        if answer.verdict is Verdict.WHOLE and (
            not self.held.is_empty or (self._has_begun and self.span is not None)
        ):
            raise StartAgainError(
                ContentChangedError(
                    "the storage host sent the whole file in place of its rest: it changed, or"
                    " cannot be resumed; download it again"
                )
            )
        if answer.total is not None and answer.total > MAX_VIDEO_BYTES:
            raise DownloadError(
                f"the storage host announces {answer.total} bytes, more than any video has; report"
                " it to the service"
            )
        self.held = attrs.evolve(self.held, etag=answer.etag, total=answer.total)
        if answer.verdict is Verdict.WHOLE:
            self.span = None
        elif answer.stop is not None:
            self.span = Span(answer.start, answer.stop - 1)
            self.held = attrs.evolve(self.held, start=answer.start, size=answer.start)
        self._condition = None
        self._has_begun = True
        self.content_type = stream.headers.get("Content-Type", self.content_type)
        self._stream = stream
        self._patience = self._stall

    async def _refused(self, answer: Answer) -> None:
        task_id = self._source.video.task_id
        match answer.verdict:
            case Verdict.EXPIRED:
                self._source.expire(answer.reason)
            case Verdict.CHANGED | Verdict.BEYOND:
                raise StartAgainError(
                    ContentChangedError(
                        f"the video of task {task_id} changed at the storage host"
                        f" ({answer.reason}); download it again"
                    )
                )
            case _:
                await self._failed(
                    DownloadError(
                        f"the storage host does not give the video of task {task_id}"
                        f" ({answer.reason}); download it again later"
                    )
                )

    async def _failed(self, error: VeoError) -> None:
        """Wait before the next try.

        Raises:
            VeoError: `error`, when it was the last one.
        """
        self._failures = 1 if self._progress >= PROGRESS_BYTES else self._failures + 1
        self._progress = 0
        if self._failures >= self._policy.attempts:
            raise error
        task_id = self._source.video.task_id
        await asyncio.sleep(self._api.wait_after("download", task_id, self._failures, error))

    async def read_into(self, buffer: memoryview) -> int:
        """Put the next bytes at the beginning of a buffer; return their number, 0 at the end.

        Raises:
            DownloadError: The rest cannot be had.
            TransportError: The host cannot be reached.
        """
        while not self._ended:
            await self.connect()
            if self._stream is None:
                break
            try:
                size = await self._read_in_time(self._stream, buffer)
            except TransportError as error:
                await self._cut(error)
                continue
            if size:
                self._take(size)
                return size
            if self.stop is None or self.held.size == self.stop:
                self._ended = True
                break
            await self._cut(TransportError("the body ended early"))
        await self.aclose()
        return 0

    def _take(self, received: int) -> None:
        size = self.held.size + received
        most = MAX_VIDEO_BYTES if self.stop is None else self.stop
        if size > most:
            raise DownloadError(
                f"the storage host sends more than {most} bytes; report it to the service"
            )
        self.held = attrs.evolve(self.held, size=size)
        self._progress += received

    async def _read_in_time(self, stream: "Stream", buffer: memoryview) -> int:
        """Read, while the time spent waiting keeps up with the least rate.

        Only waiting counts: a slow disk or a slow browser behind this is not the host's fault.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(self._patience):
                size = await stream.read_into(buffer)
        except TimeoutError:
            raise TransportTimeoutError(
                f"under {MIN_BYTES_PER_SECOND // 1024} KiB/s for {self._stall:g} s; download it"
                " again, or allow more time in Timeouts.stall",
                request_sent=True,
            ) from None
        self._patience -= loop.time() - began
        self._quota += size
        if self._quota >= MIN_BYTES_PER_SECOND * self._stall:
            self._patience = self._stall
            self._quota = 0.0
        return size

    async def _cut(self, error: VeoError) -> None:
        await self.aclose()
        broken = TruncatedError(
            f"the connection broke at byte {self.held.size} of {self.held.total or 'unknown'}"
            f" ({error}); download it again"
        )
        if not self.held.can_resume:
            raise StartAgainError(broken)
        await self._failed(broken)

    async def aclose(self) -> None:
        """Let go of the connection."""
        self._stream = None
        await self._open.aclose()
