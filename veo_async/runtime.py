"""What a client is made of once it runs: all of it in one event loop and one process."""

import logging
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import attrs

from veo_async.api import Api
from veo_async.configuration import Configuration
from veo_async.download import Downloader
from veo_async.models import Video
from veo_async.ownership import Home, OwnedTasks
from veo_async.protocol import codec
from veo_async.settings import DISK_THREADS, Statistics
from veo_async.submit import Submitter
from veo_async.task import Watcher
from veo_async.transport import Transport
from veo_async.upgrade import Upgrader

__all__: list[str] = []

_log = logging.getLogger("veo_async")
_CHANCE: Final = random.SystemRandom().random


@attrs.frozen(eq=False, kw_only=True)
class Runtime:
    """The parts, put together.

    Attributes:
        api: The endpoints.
        submitter: Slots, pace and the one paid request.
        watcher: The tasks that are polled.
        upgrader: The conversions that are asked for.
        downloader: The files that are fetched.
        owned: The tasks that do the work.
        settings: What the client was told.
        transport: The wire.
        executor: The threads that write files.
        home: The event loop and process that all this belongs to.
    """

    api: Api
    submitter: Submitter
    watcher: Watcher
    upgrader: Upgrader
    downloader: Downloader
    owned: OwnedTasks
    settings: Configuration
    transport: Transport
    executor: ThreadPoolExecutor
    home: Home

    @classmethod
    def start(
        cls,
        settings: Configuration,
        *,
        transport: Transport | None = None,
        chance: Callable[[], float] = _CHANCE,
    ) -> "Runtime":
        """Put the parts together in the running loop.

        Args:
            settings: What the client was told.
            transport: Another wire than the network; it is closed with the rest.
            chance: Draws a number from 0 to 1.
        """
        home = Home()
        owned = OwnedTasks()
        executor = ThreadPoolExecutor(DISK_THREADS, thread_name_prefix="veo_async_disk")
        if transport is None:
            transport = Transport(
                base_url=settings.base_url,
                key=settings.key,
                timeouts=settings.timeouts,
                connector=settings.connector,
                proxy=settings.proxy,
                ssl=settings.ssl,
            )
        api = Api(transport, policy=settings.retry, chance=chance, emitter=settings.emitter)
        downloader = Downloader(
            transport,
            api,
            policy=settings.retry,
            timeouts=settings.timeouts,
            emitter=settings.emitter,
            max_downloads=settings.max_downloads,
            executor=executor,
        )
        return cls(
            api=api,
            submitter=Submitter(
                api,
                limiter=settings.limiter,
                gate=settings.gate,
                policy=settings.retry,
                timeouts=settings.timeouts,
                emitter=settings.emitter,
            ),
            watcher=Watcher(
                api,
                limiter=settings.limiter,
                poll=settings.poll,
                policy=settings.retry,
                timeouts=settings.timeouts,
                emitter=settings.emitter,
                chance=chance,
                spawn=owned.spawn,
                home=home,
                note_link=downloader.windows.note,
            ),
            upgrader=Upgrader(api, poll=settings.poll, timeouts=settings.timeouts, chance=chance),
            downloader=downloader,
            owned=owned,
            settings=settings,
            transport=transport,
            executor=executor,
            home=home,
        )

    async def renewed(self, video: Video) -> Video:
        """Return a video with a fresh link.

        Raises:
            APIError: The service has none.
            TransportError: No answer came.
        """
        if video.origin != "record-info":
            return await self.upgrader.ready(video)

        async def ask() -> Video:
            # An answer without a link is one of those that may pass: the video was there before.
            return codec.video_of(await self.api.record_info(video.task_id))

        fresh = await self.api.repeated("record-info", video.task_id, ask)
        return attrs.evolve(video, url=fresh.url, urls=fresh.urls)

    def statistics(self) -> Statistics:
        """Return what is being done at this moment."""
        slots = self.settings.limiter.statistics()
        return Statistics(
            slots_total=slots.total,
            slots_in_use=slots.in_use,
            slots_waiting=slots.waiting,
            tasks_watched=len(self.watcher.active),
            downloads_active=self.downloader.turns.active,
            downloads_waiting=self.downloader.turns.waiting,
            requests=self.transport.requests,
            retries=self.api.retries,
            bytes_downloaded=self.downloader.bytes_downloaded,
        )

    async def close(self) -> None:
        """Drain the paid requests that are on the wire, stop the rest, and let go of everything."""
        left = [task.id for task in self.watcher.active]
        await self.owned.drain(self.settings.timeouts.close)
        if left:
            _log.warning(
                "closed, and paid tasks go on at the service: %s; attach with veo.task(id)",
                ", ".join(left),
            )
        await self.transport.aclose()
        self.executor.shutdown()
