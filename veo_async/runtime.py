"""What a client is made of once it runs: all of it in one event loop and one process."""

import asyncio
import logging
import os
import random
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Final
from weakref import WeakSet

import attrs

from veo_async.api import Api
from veo_async.configuration import Configuration
from veo_async.download import Downloader
from veo_async.events import (
    ClientClosed,
    ClientStarted,
    Emitter,
    LimiterLost,
    LimiterRestored,
)
from veo_async.guard import is_loopback
from veo_async.hearing import Hearing
from veo_async.images import Images
from veo_async.limits import SharedTaskLimiter, settled
from veo_async.ownership import Home, OwnedTasks
from veo_async.protocol import callbacks, dialect
from veo_async.renewal import Renewer
from veo_async.settings import DISK_THREADS, Statistics
from veo_async.submit import Submission, Submitter
from veo_async.task import Watcher
from veo_async.transport import Transport
from veo_async.upgrade import Upgrader
from veo_async.upload import Uploader

__all__: list[str] = []

_log = logging.getLogger(__name__)
_GOODBYE_SECONDS: Final = 1.0  # at least, for those that have to be told of the end
_CHANCE: Final = random.SystemRandom().random


@attrs.define(eq=False)
class _Member:
    """A client, as a shared limiter sees it."""

    emitter: Emitter
    watcher: Watcher | None = None

    def adopt(self, task_id: str, key: str, age: float, /) -> None:
        if self.watcher is not None:
            self.watcher.resume(task_id, key, None, age)

    def lost(self, error: str, /) -> None:
        self.emitter.emit(LimiterLost(error=error))

    def restored(self, seconds: float, /) -> None:
        self.emitter.emit(LimiterRestored(seconds=seconds))


@attrs.frozen(eq=False, kw_only=True)
class Runtime:
    """The parts, put together.

    Attributes:
        api: The endpoints.
        submitter: Slots, pace and the one paid request.
        watcher: The tasks that are polled.
        upgrader: The conversions that are asked for.
        renewer: The links that are asked for again.
        downloader: The files that are fetched.
        uploader: The files that are sent.
        images: The local images of requests.
        owned: The tasks that do the work.
        settings: What the client was told.
        transport: The wire.
        executor: The threads that write files.
        home: The event loop and process that all this belongs to.
        hearing: What callbacks mean to it, if it has a receiver.
        member: The client, as a limiter that is shared sees it.
    """

    api: Api
    submitter: Submitter
    watcher: Watcher
    upgrader: Upgrader
    renewer: Renewer
    downloader: Downloader
    uploader: Uploader
    images: Images
    owned: OwnedTasks
    settings: Configuration
    transport: Transport
    executor: ThreadPoolExecutor
    home: Home
    member: "_Member"
    hearing: Hearing | None = None

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

        member = _Member(settings.emitter)
        # Before anything is open, since it may refuse.
        if isinstance(settings.limiter, SharedTaskLimiter):
            settings.limiter.join(member)
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
        api = Api(
            transport,
            base_url=settings.base_url,
            policy=settings.retry,
            chance=chance,
            emitter=settings.emitter,
            form=dialect.FORMS[settings.dialect],
        )
        downloader = Downloader(
            transport,
            api,
            policy=settings.retry,
            timeouts=settings.timeouts,
            emitter=settings.emitter,
            max_downloads=settings.max_downloads,
            executor=executor,
        )
        watcher = Watcher(
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
        )
        member.watcher = watcher
        hearing: Hearing | None = None
        if settings.webhooks is not None:
            hearing = Hearing(
                api,
                watcher,
                limiter=settings.limiter,
                policy=settings.retry,
                timeouts=settings.timeouts,
                emitter=settings.emitter,
                verifier=settings.verifier,
                kept=settings.webhooks.task_ids,
            )
        uploader = Uploader(api, host=settings.upload_url, executor=executor)
        upgrader = Upgrader(
            api,
            poll=settings.poll,
            policy=settings.retry,
            timeouts=settings.timeouts,
            gate=settings.gate,
            chance=chance,
            owned=owned,
            home=home,
        )
        made = cls(
            api=api,
            submitter=Submitter(
                api,
                limiter=settings.limiter,
                gate=settings.gate,
                policy=settings.retry,
                timeouts=settings.timeouts,
                emitter=settings.emitter,
            ),
            watcher=watcher,
            hearing=hearing,
            member=member,
            upgrader=upgrader,
            renewer=Renewer(api, upgrader),
            downloader=downloader,
            uploader=uploader,
            images=Images(uploader, owned=owned, executor=executor),
            owned=owned,
            settings=settings,
            transport=transport,
            executor=executor,
            home=home,
        )
        if settings.webhooks is not None and made.hearing is not None:
            settings.webhooks.register(made.hearing)
        _running.add(made)
        settings.emitter.emit(ClientStarted(base_url=settings.base_url, statistics=made.statistics))
        return made

    def listen_for(self, job: Submission) -> None:
        """Wait for a callback to name the task of a submit whose answer was lost."""
        url = job.request.callback_url
        is_ours = url is not None and callbacks.last_segment(url) == job.key
        if self.hearing is not None and is_ours:
            self.owned.spawn(self.hearing.settle(job.key, job.request))

    @property
    def mark(self) -> str:
        """What kind of money the tasks are paid with, as a journal knows it."""
        # Nobody is paid on a loopback host, and what was made for play money must not be taken
        # for what was paid.
        return "simulated" if is_loopback(self.transport.api_host) else ""

    def statistics(self) -> Statistics:
        """Return what is being done at this moment."""
        slots = self.settings.limiter.statistics()
        return Statistics(
            slots_total=slots.total,
            slots_in_use=slots.in_use,
            slots_waiting=slots.waiting,
            tasks_watched=self.watcher.count,
            downloads_active=self.downloader.turns.active,
            downloads_waiting=self.downloader.turns.waiting,
            requests=self.transport.requests,
            retries=self.api.retries,
            bytes_downloaded=self.downloader.bytes_downloaded,
        )

    async def close(self, *lasts: Coroutine[object, object, None]) -> None:
        """Drain the paid requests that are on the wire, stop the rest, and let go of everything.

        It takes as long as `Timeouts.close` allows, and 2 s more where something hangs.

        Args:
            *lasts: More that has to be let go of, once nothing is under way any more.
        """
        clock = asyncio.get_running_loop().time
        end = clock() + self.settings.timeouts.close
        is_drained = await self.owned.drain(self.settings.timeouts.close)
        left = tuple(self.watcher.left)
        if left:
            _log.warning(
                "closed, and paid tasks go on at the service: %s; attach with veo.task(id)",
                ", ".join(left),
            )
        goodbyes = [*lasts, self.transport.aclose()]
        if isinstance(self.settings.limiter, SharedTaskLimiter):
            leaving = self.settings.limiter.leave(self.member, self.watcher.left_keys)
            goodbyes.append(settled(leaving, "this client"))
        if self.settings.webhooks is not None and self.hearing is not None:
            goodbyes.append(self.settings.webhooks.forget(self.hearing))
        await self._say(goodbyes, end - clock())
        # A thread that hangs in a disk would hang whoever waits for it.
        self.executor.shutdown(wait=is_drained, cancel_futures=True)
        _running.discard(self)
        self.settings.emitter.emit(
            ClientClosed(base_url=self.settings.base_url, statistics=self.statistics, running=left)
        )

    async def _say(
        self, goodbyes: Iterable[Coroutine[object, object, None]], seconds: float
    ) -> None:
        """Take the steps of the end, and leave behind those that take too long."""
        taking = {self.owned.spawn(step) for step in goodbyes}
        await asyncio.wait(taking, timeout=max(seconds, _GOODBYE_SECONDS))
        if any(not step.done() for step in taking):
            await self.owned.drain(0)


# Clients that run in this process, and those that ran in its parent when it forked.
_running: WeakSet[Runtime] = WeakSet()
_parents: list[Runtime] = []


def _keep_the_parents() -> None:
    """Never collect a client that a fork left here.

    Its pool would close its connections, which takes the parent's sockets off the parent's loop:
    the two processes share what the system keeps of it.
    """
    _parents.extend(_running)
    _running.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_keep_the_parents)
