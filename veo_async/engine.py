"""What stands behind the front door: the parts of one client, from their start to their end."""

import asyncio
import os
import ssl as ssl_module
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from veo_async.batch import Batch, plan_of
from veo_async.configuration import (
    Configuration,
    read_api_key,
    read_base_url,
    read_budget,
    read_dialect,
    read_pace,
    read_upload_url,
)
from veo_async.database import JOURNAL_NAME
from veo_async.errors import ClientClosedError, InvalidRequestError, NotFoundError, VeoError
from veo_async.events import Emitter, Observer
from veo_async.feed import BatchRequests
from veo_async.files import refuse_existing, target_of
from veo_async.films import Share, filmed
from veo_async.journal import FilePlace, JournalPlace
from veo_async.keyed import Keyed
from veo_async.limits import LocalLimiter, TaskLimiter
from veo_async.models import Dialect, Download, Resolution, TaskRecord, TaskStatus, Video
from veo_async.ownership import finished
from veo_async.paying import paid
from veo_async.prices import DEARER, Budget, Prices
from veo_async.protocol import codec
from veo_async.protocol.reading import as_id
from veo_async.request import (
    ExtendFields,
    ExtendRequest,
    PaidRequest,
    RequestFields,
    VideoRequest,
)
from veo_async.results import JobResult
from veo_async.runtime import Runtime
from veo_async.settings import ApiKey, PollPolicy, RetryPolicy, Statistics, Timeouts
from veo_async.streaming import VideoStream
from veo_async.task import VideoTask
from veo_async.upgrade import UPGRADES
from veo_async.upload import UploadSource
from veo_async.workshop import Until, Wanted

if TYPE_CHECKING:
    import aiohttp

    from veo_async.webhooks import WebhookReceiver

__all__: list[str] = []


def configured(
    *,
    key: ApiKey | None,
    base_url: str | None,
    dialect: Dialect | str,
    max_tasks: int,
    limiter: TaskLimiter | None,
    poll: PollPolicy,
    retry: RetryPolicy,
    timeouts: Timeouts,
    pace: tuple[int, float] | None,
    max_downloads: int,
    max_credits: int | None,
    connector: "aiohttp.BaseConnector | None",
    proxy: str | None,
    ssl: ssl_module.SSLContext | bool | None,
    upload_url: str | None,
    callback_url: str | None,
    webhooks: "WebhookReceiver | None",
    on_event: Observer | Iterable[Observer] | None,
) -> Configuration:
    """Return what a client is told, checked; `VeoClient` describes each of it.

    Raises:
        ConfigurationError: A setting is missing or impossible.
    """
    slots = LocalLimiter(max_tasks) if limiter is None else limiter
    host = read_base_url(base_url)
    return Configuration(
        key=read_api_key(key),
        base_url=host,
        dialect=read_dialect(dialect),
        upload_url=read_upload_url(upload_url, host),
        limiter=slots,
        gate=read_pace(pace, slots),
        poll=poll,
        retry=retry,
        timeouts=timeouts,
        max_downloads=max_downloads,
        budget=read_budget(max_credits),
        connector=connector,
        proxy=proxy,
        ssl=True if ssl is None else ssl,
        callback_url=callback_url,
        webhooks=webhooks,
        emitter=Emitter.to(on_event),
    )


class Engine:
    """One client at work; `VeoClient` describes what it can be asked for.

    Attributes:
        settings: What the client was told.
        runtime: Its running parts, made on first use.
        is_closed: Whether it was closed.
    """

    def __init__(self, settings: Configuration) -> None:
        self.settings: Configuration = settings
        self.runtime: Runtime | None = None
        self.is_closed: bool = False
        self._keyed: Keyed | None = None
        self._closing: asyncio.Task[None] | None = None
        self._upgraded_ids: set[tuple[Resolution, str]] = set()

    def started(self) -> Runtime:
        """Return the running parts, made on first use.

        Raises:
            ClientClosedError: The client was closed.
            WrongLoopError: This is another event loop or process than the client's.
        """
        if self.is_closed:
            raise ClientClosedError("this client was closed; make a new one")
        if self.runtime is None:
            self.runtime = Runtime.start(self.settings)
        self.runtime.home.check()
        return self.runtime

    async def aclose(self) -> None:
        """Let go of everything."""
        if self.runtime is not None:
            self.runtime.home.check_place()
        self.is_closed = True
        if self.runtime is None:
            return
        self.runtime.home.is_closed = True
        if self._closing is None:
            lasts = [] if self._keyed is None else [self._keyed.aclose()]
            closing = self.runtime.close(*lasts)
            self._closing = asyncio.get_running_loop().create_task(closing)
        await finished(self._closing)

    def statistics(self) -> Statistics:
        """Return what is being done at this moment."""
        if self.runtime is not None:
            return self.runtime.statistics()
        slots = self.settings.limiter.statistics()
        return Statistics(
            slots_total=slots.total, slots_in_use=slots.in_use, slots_waiting=slots.waiting
        )

    # --- what is paid

    async def submit(self, wanted: VideoRequest) -> VideoTask:
        """Submit a request that takes one task."""
        if wanted.extend_to is not None:
            raise InvalidRequestError(
                "extend_to takes several tasks, and submit makes one; use generate, batch or"
                " run_job, or extend its task once it is finished",
                field="extend_to",
            )
        return await self._paid(wanted, self.settings.budget)

    async def extend(
        self, task: VideoTask | Video | str, prompt: str, fields: ExtendFields
    ) -> VideoTask:
        """Submit an extension, of a task once that is finished."""
        wanted = ExtendRequest(id_of(task), prompt, **fields)
        codec.check(wanted)
        self.started()
        if isinstance(task, VideoTask):
            await task.wait()
        return await self._paid(wanted, self.settings.budget)

    async def generate(self, wanted: VideoRequest) -> Video:
        """Submit a request and its extensions, and return the last one's video."""
        share = Share.of(self.settings.budget, DEARER.of_film(wanted))
        try:
            return await filmed(wanted, lambda step: self._paid(step, share))
        finally:
            share.close()

    async def _paid(self, wanted: PaidRequest, budget: Budget) -> VideoTask:
        return await paid(self.started(), wanted, budget)

    async def upgrade(self, to: Resolution, video: Video | VideoTask | str) -> Video:
        """Convert a finished video, and wait until that is ready."""
        runtime = self.started()
        kind = UPGRADES[to]
        base = await self._video(video)
        price = kind.price(DEARER)
        is_new = (to, base.task_id) not in self._upgraded_ids
        if is_new:
            self.settings.budget.commit(price)
            self._upgraded_ids.add((to, base.task_id))
        try:
            return await runtime.owned.call(
                runtime.upgrader.ready(kind, base), may_be_withdrawn=lambda: True
            )
        except VeoError:
            if not runtime.upgrader.may_be_paid(kind, base.task_id):
                self._refund(to, base.task_id, price)
            raise

    def _refund(self, to: Resolution, task_id: str, price: int) -> None:
        """Take back what was promised for a conversion, once."""
        if (to, task_id) in self._upgraded_ids:
            self._upgraded_ids.discard((to, task_id))
            self.settings.budget.release(price)

    # --- what is asked

    def attach(self, task_id: str) -> VideoTask:
        """Return a task by its id."""
        return self.started().watcher.attach(id_of(task_id))

    async def status(self, task: VideoTask | str) -> TaskRecord:
        """Ask for a task once, and again after failures that may pass."""
        runtime = self.started()
        task_id = id_of(task)
        try:
            return await runtime.api.repeated(
                "record-info", task_id, lambda: runtime.api.record_info(task_id)
            )
        except NotFoundError:
            if not runtime.watcher.is_fresh(task_id):
                raise
            return TaskRecord(task_id=task_id, status=TaskStatus.GENERATING)

    async def credits(self) -> Decimal:
        """Return the account's balance."""
        runtime = self.started()
        return await runtime.api.repeated("credits", None, runtime.api.credits)

    async def _video(self, video: Video | VideoTask | str, timeout: float | None = None) -> Video:  # noqa: ASYNC109  # VideoTask.wait's
        if isinstance(video, Video):
            return video
        task = video if isinstance(video, VideoTask) else self.attach(video)
        return await task.wait(timeout)

    async def _finished(self, task_id: str) -> Video | None:
        """Return the video of a task that this client does not watch, if it is there already.

        An id that the service does not know is told at once, which a watcher would ask for again.
        """
        task = self.attach(task_id)
        if task.done or task.record is not None:
            return None
        record = await self.status(task)
        is_there = record.status is TaskStatus.SUCCESS and record.video_url is not None
        return codec.video_of(record) if is_there else None

    # --- what is moved

    async def upload(self, source: UploadSource, name: str | None) -> str:
        """Upload a file, and return its URL."""
        runtime = self.started()
        return await runtime.owned.call(
            runtime.uploader.upload(source, name=name), may_be_withdrawn=lambda: True
        )

    async def download(
        self, video: Video | VideoTask | str, to: str | os.PathLike[str], *, overwrite: bool
    ) -> Download:
        """Bring a video to a file, whole or not at all."""
        runtime = self.started()
        if not overwrite and not isinstance(video, Video):
            refuse_existing(target_of(to, id_of(video)))
        found = await self._video(video)
        work = runtime.downloader.save(
            found, target_of(to, found.task_id), overwrite=overwrite, renew=runtime.renewer.renewed
        )
        return await runtime.owned.call(work, may_be_withdrawn=lambda: True)

    @asynccontextmanager
    async def stream(
        self,
        video: Video | VideoTask | str,
        *,
        wanted: str | None,
        condition: str | None,
        timeout: float | None,  # noqa: ASYNC109  # VideoTask.wait's
    ) -> AsyncGenerator[VideoStream]:
        """Open a video's bytes."""
        runtime = self.started()
        found = None if isinstance(video, Video) else runtime.downloader.recent(id_of(video))
        if found is None and isinstance(video, str):
            found = await self._finished(video)
        if found is None:
            found = await self._video(video, timeout)
        async with runtime.downloader.stream(
            found, runtime.renewer.renewed, wanted=wanted, condition=condition
        ) as body:
            yield body

    # --- what is written down

    def batch(
        self,
        requests: BatchRequests,
        fields: RequestFields,
        *,
        directory: str | os.PathLike[str],
        journal: str | os.PathLike[str] | None,
        max_credits: int | None,
        name: str | None,
        prices: Prices,
        retries: int,
        resubmit_uncertain: bool,
        download_window: float,
    ) -> Batch:
        """Return a batch, which begins once it is entered."""
        plan = plan_of(
            requests,
            fields,
            directory=Path(directory),
            journal=None if journal is None else Path(journal),
            budget=read_budget(max_credits),
            name=name,
            prices=prices,
            retries=retries,
            resubmits_uncertain=resubmit_uncertain,
            window=download_window,
            callback_url=self.settings.callback_url,
        )
        return Batch(plan, self.started)

    async def run_job(
        self,
        key: str,
        request: VideoRequest | None,
        *,
        directory: str | os.PathLike[str],
        until: Until,
        journal: str | os.PathLike[str] | JournalPlace | None,
    ) -> JobResult:
        """Bring a job of a queue to its end."""
        wanted = Wanted(key=key, request=request, until=until)
        folder = Path(directory)
        runtime = self.started()
        if self._keyed is None:
            self._keyed = Keyed(runtime)
        path = folder / JOURNAL_NAME if journal is None else journal
        place = FilePlace(Path(path)) if isinstance(path, str | os.PathLike) else path
        return await self._keyed.run(wanted, folder=folder, place=place)


def id_of(task: VideoTask | Video | str) -> str:
    """Return the id of a task.

    Raises:
        InvalidRequestError: It cannot be one.
    """
    if isinstance(task, Video):
        return task.task_id
    if isinstance(task, VideoTask):
        return task.id
    task_id = as_id(task)
    if task_id is None:
        raise InvalidRequestError(
            f"task_id is {task!r:.80}; give the id that the service gave", field="task_id"
        )
    return task_id
