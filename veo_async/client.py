"""The front door: one client, one connection pool, one set of slots."""

import asyncio
import os
import ssl as ssl_module
import warnings
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn, Self, Unpack

from veo_async.configuration import (
    Configuration,
    read_api_key,
    read_base_url,
    read_budget,
    read_dialect,
    read_pace,
    read_upload_url,
)
from veo_async.errors import (
    ClientClosedError,
    InvalidRequestError,
    NotFoundError,
    VeoError,
    WrongLoopError,
)
from veo_async.events import Emitter, Observer
from veo_async.files import refuse_existing, target_of
from veo_async.limits import LocalLimiter, TaskLimiter
from veo_async.models import (
    Dialect,
    Download,
    Resolution,
    TaskRecord,
    TaskStatus,
    Video,
)
from veo_async.ownership import finished
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
from veo_async.settings import (
    MAX_DOWNLOADS,
    MAX_TASKS,
    PACE,
    URL_LIFETIME,
    ApiKey,
    PollPolicy,
    RetryPolicy,
    Statistics,
    Timeouts,
)
from veo_async.task import VideoTask

if TYPE_CHECKING:
    import aiohttp

    from veo_async.batch import Batch
    from veo_async.feed import BatchRequests
    from veo_async.journal import JournalPlace
    from veo_async.keyed import Keyed
    from veo_async.results import JobResult
    from veo_async.runtime import Runtime
    from veo_async.streaming import VideoStream
    from veo_async.upload import UploadSource
    from veo_async.webhooks import WebhookReceiver
    from veo_async.workshop import Until

__all__ = ["VeoClient"]


class VeoClient:
    """A client of KIE.ai's Veo 3.1 API.

    One client serves one event loop with one connection pool. Use it with `async with`, or call
    `aclose()` in the end, from any task. It starts on its first use, so it may be made before the
    loop runs, and before a fork.

    Args:
        api_key: The account's key; the environment variable `KIE_API_KEY` when not given.
        base_url: The API's host; `KIE_BASE_URL`, then `https://api.kie.ai`, when not given.
        dialect: In which form the service is asked: `spec`, `live`, `jobs` (live document 2.13), or
            `auto`, the names of the first two at once. Its answers are read in every form. `jobs`
            has no seed for new videos, and no model for extensions: neither is sent there.
        max_tasks: Tasks that may run at once (spec: 10 per account).
        limiter: What counts the slots, where they are shared with others; `max_tasks` is its own
            business then.
        poll: When to ask whether a task is finished.
        retry: How to go on after a failure that may pass.
        timeouts: How long to wait for what.
        pace: How many creates in how many seconds (live service: 20 in 10 s); None for no limit.
        max_downloads: Files that are fetched at once.
        max_credits: What this client may spend, by the dearer price list; None for no limit.
        connector: The application's own aiohttp pool, which is used and never closed.
        proxy: URL of an HTTP proxy for everything.
        ssl: An SSL context, or False to check no certificate.
        upload_url: The host that files are uploaded to, and that gets the key with them;
            `https://kieai.redpandaai.co` (live document 2.11), or `base_url` where that is not the
            service's own.
        callback_url: Prefix of a callback URL for requests without one; a random token is appended
            as a path segment.
        webhooks: What receives the callbacks, mounted by the application where `callback_url` says.
            A callback wakes whoever waits for its task, and reveals the task of a submit whose
            answer was lost. Polling goes on as without.
        on_event: Called with every `Event`, on the event loop; or several such observers.

    Raises:
        ConfigurationError: A setting is missing or impossible.
    """

    def __init__(
        self,
        api_key: str | None = None,
        *,
        base_url: str | None = None,
        dialect: Dialect | str = Dialect.AUTO,
        max_tasks: int = MAX_TASKS,
        limiter: TaskLimiter | None = None,
        poll: PollPolicy = PollPolicy(),  # noqa: B008  # frozen
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008  # frozen
        timeouts: Timeouts = Timeouts(),  # noqa: B008  # frozen
        pace: tuple[int, float] | None = PACE,
        max_downloads: int = MAX_DOWNLOADS,
        max_credits: int | None = None,
        connector: "aiohttp.BaseConnector | None" = None,
        proxy: str | None = None,
        ssl: ssl_module.SSLContext | bool | None = None,
        upload_url: str | None = None,
        callback_url: str | None = None,
        webhooks: "WebhookReceiver | None" = None,
        on_event: Observer | Iterable[Observer] | None = None,
    ) -> None:
        self._runtime: Runtime | None = None
        self._keyed: Keyed | None = None
        self._closing: asyncio.Task[None] | None = None
        self._is_closed = False
        self._upgraded_ids: set[tuple[Resolution, str]] = set()
        # Wrapped first, or it would stand in the traceback of whatever is wrong.
        given = None if api_key is None else ApiKey(api_key)
        del api_key
        slots = LocalLimiter(max_tasks) if limiter is None else limiter
        host = read_base_url(base_url)
        self._settings = Configuration(
            key=read_api_key(given),
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
        # aiohttp is loaded now, since loading it later would stop a running loop for 0.2 s.
        import_module("veo_async.keyed")

    # --- making videos

    async def submit(
        self, request: VideoRequest | str, **fields: Unpack[RequestFields]
    ) -> VideoTask:
        """Submit a request, once it has a slot, and return its task.

        The paid request is sent once. A caller that is cancelled before it left spends nothing;
        after that the task goes on, stays watched and is named in the log and in `tasks`.

        Images that are paths are looked at first, all of them, and uploaded before there is a slot.
        What this client uploaded in the last twelve hours is not uploaded again.

        Args:
            request: A `VideoRequest`, or a prompt with a request's fields as keywords.
            **fields: The fields, where `request` is a prompt.

        Raises:
            InvalidRequestError: The request breaks the service's rules, or an image is missing, is
                no JPEG, PNG or WebP, or too large. Nothing was sent.
            BudgetExceededError: It would cost more than `max_credits` leaves. Nothing was sent.
            SubmitUncertainError: The answer was lost: a task may exist. It is not sent again.
            APIError: The service refused; its class says what to do.
            TransportError: The service could not be reached. Nothing was sent.
            LimiterError: The slots could not be counted. Nothing was sent.
            ClientClosedError: The client was closed. Nothing was sent.
            WrongLoopError: This is another event loop or process than the client's.
        """
        wanted = _request(request, fields)
        if wanted.extend_to is not None:
            raise InvalidRequestError(
                "extend_to takes several tasks, and submit makes one; use generate, batch or"
                " run_job, or extend its task once it is finished",
                field="extend_to",
            )
        return await self._paid(wanted, self._settings.budget)

    async def extend(
        self, task: VideoTask | Video | str, prompt: str, **fields: Unpack[ExtendFields]
    ) -> VideoTask:
        """Submit an extension of a finished video (live document 2.7), and return its task.

        It is paid like any other request, which `submit` describes. The service makes a new task;
        its video is the whole film, where the service gives that. A video that went through 1080P
        generation cannot be extended.

        Args:
            task: The video, its task, which is waited for first, or a task id, which is sent as it
                is.
            prompt: What happens next, 1 to 1000 characters.
            **fields: The further fields of an `ExtendRequest`. Its model is not taken from the
                video's: the usual one is `veo3_fast`.

        Raises:
            InvalidRequestError: The request breaks the service's rules. Nothing was sent.
            NotFoundError: The service does not know the task, or extends no videos.
            VeoError: What `submit` raises, and `VideoTask.wait` for a task.
        """
        base = task.task_id if isinstance(task, Video) else _task_id(task)
        wanted = ExtendRequest(base, prompt, **fields)
        codec.check(wanted)
        self._started()
        if isinstance(task, VideoTask):
            await task.wait()
        return await self._paid(wanted, self._settings.budget)

    async def _paid(self, wanted: PaidRequest, budget: Budget) -> VideoTask:
        from veo_async.paying import paid  # noqa: PLC0415  # loaded by __init__

        return await paid(self._started(), wanted, budget)

    async def generate(self, request: VideoRequest | str, **fields: Unpack[RequestFields]) -> Video:
        """Submit a request and return its finished video.

        With `extend_to` it is a film: the video is extended so many times, each time in a new paid
        task, and what is returned is the last one's. The whole of it has to be within `max_credits`
        before the first task is paid. Where a step fails, the error says which, and how to go on
        from what is paid.

        Args:
            request: A `VideoRequest`, or a prompt with a request's fields as keywords.
            **fields: The fields, where `request` is a prompt.

        Raises:
            VeoError: What `submit` and `VideoTask.wait` raise; for a film also what `extend` does.
        """
        from veo_async.films import Share, filmed  # noqa: PLC0415  # loaded by __init__

        wanted = _request(request, fields)
        share = Share.of(self._settings.budget, DEARER.of_film(wanted))
        try:
            return await filmed(wanted, lambda step: self._paid(step, share))
        finally:
            share.close()

    def task(self, task_id: str) -> VideoTask:
        """Return a task by its id, also one of an earlier process.

        Raises:
            InvalidRequestError: It cannot be an id.
        """
        return self._started().watcher.attach(_task_id(task_id))

    @property
    def tasks(self) -> tuple[VideoTask, ...]:
        """The tasks that are being watched, those included whose submitter was cancelled."""
        return () if self._runtime is None else self._runtime.watcher.active

    async def status(self, task: VideoTask | str) -> TaskRecord:
        """Ask the service once for a task, and again only after failures that may pass.

        An id that this client got in the last 90 s, and that the service does not know yet, is
        generating.

        Raises:
            InvalidRequestError: It cannot be an id.
            NotFoundError: The service does not know it.
            APIError: The service refused to answer.
            TransportError: No answer came.
        """
        runtime = self._started()
        task_id = _task_id(task)
        try:
            return await runtime.api.repeated(
                "record-info", task_id, lambda: runtime.api.record_info(task_id)
            )
        except NotFoundError:
            if not runtime.watcher.is_fresh(task_id):
                raise
            return TaskRecord(task_id=task_id, status=TaskStatus.GENERATING)

    async def upgrade_1080p(self, video: Video | VideoTask | str) -> Video:
        """Convert a finished video to 1080P (spec: Get 1080P Video), and wait until it is ready.

        It costs some credits, once per video: asking again is free. In the dialect `jobs` it is a
        paid task of its own, which this client creates once per video and never sends again.

        Args:
            video: A video, or its task or task id, which is waited for first.

        Raises:
            TaskTimeoutError: It is not ready after `Timeouts.task` seconds.
            TaskFailedError: The conversion failed. It is not charged.
            SubmitUncertainError: In the dialect `jobs`: the answer to its creation was lost.
            BudgetExceededError: It would cost more than `max_credits` leaves.
            NotFoundError: The service does not know the task, or has no such conversion.
            VeoError: What `VideoTask.wait` raises; `APIError` when the service refuses.
        """
        return await self._upgraded(Resolution.HD_1080P, video)

    async def upgrade_4k(self, video: Video | VideoTask | str) -> Video:
        """Convert a finished video to 4K (live document 2.6), and wait until it is ready.

        It takes 5 to 10 minutes and costs many credits, once per video: asking again is free, also
        after an answer was lost, since repeating the call is how the service is asked. In the
        dialect `jobs` it is a paid task of its own, which this client creates once per video and
        never sends again. The spec has no such call.

        Args:
            video: A video, or its task or task id, which is waited for first.

        Raises:
            TaskTimeoutError: It is not ready after `Timeouts.task` seconds.
            TaskFailedError: The conversion failed. It is not charged.
            SubmitUncertainError: In the dialect `jobs`: the answer to its creation was lost.
            BudgetExceededError: It would cost more than `max_credits` leaves.
            NotFoundError: The service does not know the task, or has no such conversion.
            ServerError: There is no 4K version of this video.
            VeoError: What `VideoTask.wait` raises; `APIError` when the service refuses.
        """
        return await self._upgraded(Resolution.UHD_4K, video)

    async def _upgraded(self, to: Resolution, video: Video | VideoTask | str) -> Video:
        from veo_async.upgrade import UPGRADES  # noqa: PLC0415  # loaded by __init__

        runtime = self._started()
        kind = UPGRADES[to]
        base = await self._video(video)
        price = kind.price(DEARER)
        is_new = (to, base.task_id) not in self._upgraded_ids
        if is_new:
            self._settings.budget.commit(price)
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
            self._settings.budget.release(price)

    async def credits(self) -> Decimal:
        """Return the account's balance in credits, exactly (live document 2.10).

        Raises:
            NotFoundError: The service has no such call, such as the spec's.
            UnexpectedResponseError: The answer is no balance.
            APIError: The service refused to answer.
            TransportError: No answer came.
        """
        runtime = self._started()
        return await runtime.api.repeated("credits", None, runtime.api.credits)

    async def _video(self, video: Video | VideoTask | str, timeout: float | None = None) -> Video:  # noqa: ASYNC109  # VideoTask.wait's
        if isinstance(video, Video):
            return video
        task = video if isinstance(video, VideoTask) else self.task(video)
        return await task.wait(timeout)

    async def _finished(self, task_id: str) -> Video | None:
        """Return the video of a task that this client does not watch, if it is there already.

        An id that the service does not know is told at once, which a watcher would ask for again.
        """
        task = self.task(task_id)
        if task.done or task.record is not None:
            return None
        record = await self.status(task)
        is_there = record.status is TaskStatus.SUCCESS and record.video_url is not None
        return codec.video_of(record) if is_there else None

    async def upload(self, source: "UploadSource", *, name: str | None = None) -> str:
        """Upload a file, and return the public URL that the service keeps it at for a day.

        For the images of requests; those that are given as paths are uploaded without this. It is
        free (live document 2.11), and repeated after failures that may pass, where the source can
        be read from its start again. A large file is sent in pieces and never held in memory. It
        may take any time, as long as it moves: only `Timeouts.stall` bounds it.

        Everybody who has the URL can read the file. A string that is no URL is taken for a path:
        take none from strangers. The key goes along to `upload_url`.

        Args:
            source: A path; bytes; a file opened in binary mode, which is read in a thread, from
                where it stands, and not closed; or an http(s) URL that the service fetches by
                itself.
            name: What the service is to call it. The same name again replaces the file, which some
                readers see late. When not given, it is a random one with the right suffix.

        Raises:
            InvalidRequestError: It is missing, empty or cannot be read, or changed while it was.
            NotFoundError: This service has no uploads.
            APIError: The service refused; its class says what to do.
            TransportError: The upload host could not be reached, or did not answer.
            ClientClosedError: The client was closed.
            WrongLoopError: This is another event loop or process than the client's.
        """
        runtime = self._started()
        return await runtime.owned.call(
            runtime.uploader.upload(source, name=name), may_be_withdrawn=lambda: True
        )

    # --- bringing videos home

    async def download(
        self,
        video: Video | VideoTask | str,
        to: str | os.PathLike[str],
        *,
        overwrite: bool = True,
    ) -> Download:
        """Bring a video to a file, whole or not at all.

        The bytes go to `<name>.part` beside it, which a later download goes on from.

        Args:
            video: A video, or its task or task id, which is waited for first.
            to: The file, or a folder, which gets a file named by the task id. Missing folders are
                made.
            overwrite: Whether a file that is there may be replaced.

        Raises:
            FileExistsError: There is one and `overwrite` is false. No byte has moved.
            DownloadError: It could not be brought; its class says why.
            TransportError: The storage host cannot be reached.
            VeoError: What `VideoTask.wait` raises, for a task or an id.
        """
        runtime = self._started()
        if not overwrite and not isinstance(video, Video):
            refuse_existing(target_of(to, _task_id(video)))
        found = await self._video(video)
        work = runtime.downloader.save(
            found, target_of(to, found.task_id), overwrite=overwrite, renew=runtime.renewed
        )
        return await runtime.owned.call(work, may_be_withdrawn=lambda: True)

    @asynccontextmanager
    async def stream(
        self,
        video: Video | VideoTask | str,
        *,
        range: str | None = None,  # noqa: A002  # HTTP's name
        if_range: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109  # VideoTask.wait's
    ) -> AsyncGenerator["VideoStream"]:
        """Open a video's bytes, to pass them on without a file.

        Whatever goes wrong before the first byte is raised here, so that an HTTP answer can still
        say so. A link that expires, and a connection that breaks, are renewed and not seen.

        Args:
            video: A video, or its task or task id, which is waited for first.
            range: The `Range` header of a browser's request, for a part of the video. What is no
                single range of bytes gets the whole of it, as RFC 9110 allows.
            if_range: The `If-Range` header of that request.
            timeout: Seconds to wait for an unfinished task at most.

        Raises:
            NotFoundError: The service does not know the id.
            DownloadError: It cannot be had.
            TransportError: The storage host cannot be reached.
            TaskTimeoutError: It is not finished yet after `timeout` seconds.
            VeoError: What `VideoTask.wait` raises, for a task or an id.
        """
        runtime = self._started()
        found = None if isinstance(video, Video) else runtime.downloader.recent(_task_id(video))
        if found is None and isinstance(video, str):
            found = await self._finished(video)
        if found is None:
            found = await self._video(video, timeout)
        async with runtime.downloader.stream(
            found, runtime.renewed, wanted=range, condition=if_range
        ) as body:
            yield body

    def batch(
        self,
        requests: "BatchRequests",
        *,
        directory: str | os.PathLike[str],
        journal: str | os.PathLike[str] | None = None,
        max_credits: int | None = None,
        name: str | None = None,
        prices: Prices = DEARER,
        retries: int = 0,
        resubmit_uncertain: bool = False,
        download_window: float = URL_LIFETIME,
        **fields: Unpack[RequestFields],
    ) -> "Batch":
        """Return a batch, which makes a video of each request once it is entered.

        Its journal makes it safe to be killed at any moment and run again: what is paid is brought
        home, what is there is skipped, and nothing is paid twice.

        A request with `extend_to` is a film: its video is made first, then each extension of it, as
        paid tasks of one item, and the file is the whole of it. It is begun only where
        `max_credits` reaches to its end. A later run goes on at the step at which it was.

        With `webhooks` and `callback_url`, an item whose answer was lost waits for its callback for
        as long as its slot is held, and comes out as what became of it; without one it is
        `uncertain`. A callback that an inbox keeps settles it in a later run.

        An item whose image is missing, or is none, is `rejected`, and looked at again in a later
        run. One that is paid needs its image no more.

        Args:
            requests: An iterable or async iterable, pulled lazily, of requests, prompts, or
                mappings of a request's fields and perhaps a `key` that names the item. The same
                request twice is two videos.
            directory: Where the files go, with a description beside each.
            journal: The journal's file; `veo-journal.db` in the directory when not given. It must
                be on a local disk.
            max_credits: What all runs of this journal together may spend; None for no limit.
            name: How files are named: a format string over `index`, `slug`, `seed`, `key` and
                `model`, or a text to begin every name with.
            prices: The price list that budgets and reports go by; the dearer of the two otherwise.
            retries: How many new paid tasks a job may have after failures that may pass.
            resubmit_uncertain: Whether submits of earlier runs whose answers were lost are paid
                again, once their slots have lapsed. Each may cost its price twice.
            download_window: Seconds for which a link can be used (spec: Download TTL). No more is
                submitted than can be fetched in it.
            **fields: Fields of a request for prompts, and for mappings that do not have them.

        Raises:
            ConfigurationError: A setting is impossible.
            InvalidRequestError: `requests` is no iterable of requests.
        """
        from veo_async.batch import Batch, plan_of  # noqa: PLC0415  # loaded by __init__

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
            callback_url=self._settings.callback_url,
        )
        return Batch(plan, self._started)

    async def run_job(
        self,
        key: str,
        request: VideoRequest | str | None = None,
        *,
        directory: str | os.PathLike[str],
        until: "Until" = "downloaded",
        journal: "str | os.PathLike[str] | JournalPlace | None" = None,
        **fields: Unpack[RequestFields],
    ) -> "JobResult":
        """Bring a job of a queue to its end: the same key is the same task and the same payment.

        Queues deliver a job again after a worker died. It then goes on where that one was: a task
        that is known is asked for, a video that is ready is fetched, a file that is there is
        returned at once. While another worker that lives has the job, this one waits for it. A
        caller that is cancelled before the request left spends nothing; after that the job goes on.
        A film (`extend_to`) is one job, which goes on at the step at which it was.

        Several processes of one host may share a journal in a file; give them a shared limiter too.
        A batch must not run on it at the same time. Images that are paths are files of the machine
        that this runs on, and needed until the request has left.

        Args:
            key: What names the job, 1 to 200 characters; the file is named by it too.
            request: A `VideoRequest`, or a prompt with a request's fields as keywords. None where
                the journal knows the key already.
            directory: Where the file goes, with a description beside it.
            until: `downloaded`, or `ready`: finished at the service, with its link known.
            journal: The journal's file; `veo-journal.db` in the directory when not given. It must
                be on a local disk. Or a `PostgresJournal`, for workers on several hosts.
            **fields: The fields, where `request` is a prompt.

        Raises:
            InvalidRequestError: The request breaks a rule, the key is unknown and there is no
                request, or it stands for another one that was paid.
            SubmitUncertainError: The answer to its submit was lost, now or in a worker that died: a
                task may exist. It holds its slot, and is not sent again.
            TaskFailedError: The generation failed, now or before. It is not paid again.
            ValidationError: The service refused the request, now or before. Nothing was paid.
            BudgetExceededError: It would cost more than `max_credits` leaves. Nothing was sent.
            JournalError: The journal cannot be used, or a batch runs on it. Nothing was sent.
            DownloadError: The video is there, and could not be brought. Ask again.
            VeoError: What `submit` and `VideoTask.wait` raise.
            ClientClosedError: The client was closed.
            WrongLoopError: This is another event loop or process than the client's.
        """
        from veo_async.database import JOURNAL_NAME  # noqa: PLC0415  # loaded by __init__
        from veo_async.journal import FilePlace  # noqa: PLC0415
        from veo_async.keyed import Keyed  # noqa: PLC0415
        from veo_async.workshop import Wanted  # noqa: PLC0415

        if request is None and fields:
            raise InvalidRequestError(
                f"{next(iter(fields))} was given without a prompt; give both", field="request"
            )
        wanted = Wanted(
            key=key, request=None if request is None else _request(request, fields), until=until
        )
        folder = Path(directory)
        runtime = self._started()
        if self._keyed is None:
            self._keyed = Keyed(runtime)
        path = folder / JOURNAL_NAME if journal is None else journal
        place = FilePlace(Path(path)) if isinstance(path, str | os.PathLike) else path
        return await self._keyed.run(wanted, folder=folder, place=place)

    # --- lifetime

    def statistics(self) -> Statistics:
        """Return what the client is doing at this moment."""
        if self._runtime is not None:
            return self._runtime.statistics()
        slots = self._settings.limiter.statistics()
        return Statistics(
            slots_total=slots.total, slots_in_use=slots.in_use, slots_waiting=slots.waiting
        )

    async def __aenter__(self) -> Self:
        self._started()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the client. May be called more than once, from any task of its loop.

        It takes `Timeouts.close` seconds at most, and 2 s more where something hangs. Submits whose
        request has left get the first four fifths of them for their answer; everything else is
        stopped at once. Tasks go on at the service, and are named in the log. A cancellation waits
        until the client is closed.

        Raises:
            WrongLoopError: This is another event loop or process than the client's.
        """
        if self._runtime is not None:
            self._runtime.home.check_place()
        self._is_closed = True
        if self._runtime is None:
            return
        self._runtime.home.is_closed = True
        if self._closing is None:
            lasts = [] if self._keyed is None else [self._keyed.aclose()]
            closing = self._runtime.close(*lasts)
            self._closing = asyncio.get_running_loop().create_task(closing)
        await finished(self._closing)

    def _started(self) -> "Runtime":
        """Return the running parts, made on first use.

        Raises:
            ClientClosedError: The client was closed.
            WrongLoopError: This is another event loop or process than the client's.
        """
        if self._is_closed:
            raise ClientClosedError("this client was closed; make a new one")
        if self._runtime is None:
            from veo_async.runtime import Runtime  # noqa: PLC0415  # loaded by __init__

            self._runtime = Runtime.start(self._settings)
        self._runtime.home.check()
        return self._runtime

    def __del__(self) -> None:
        # The attribute is missing where the constructor refused its arguments.
        if getattr(self, "_runtime", None) is not None and not self._is_closed:
            warnings.warn(
                f"{self!r} was not closed; use `async with`, or `await veo.aclose()`",
                ResourceWarning,
                source=self,
                stacklevel=2,
            )

    def __reduce__(self) -> NoReturn:
        # Its key would travel with it, and its connections could not.
        raise WrongLoopError("a client cannot be sent to another process; make one there")

    def __repr__(self) -> str:
        settings: Configuration | None = getattr(self, "_settings", None)
        where = "unfinished" if settings is None else settings.base_url
        return f"<VeoClient {where} {'closed' if self._is_closed else 'open'}>"


def _request(request: VideoRequest | str, fields: RequestFields) -> VideoRequest:
    if not isinstance(request, VideoRequest):
        return VideoRequest(request, **fields)
    if fields:
        name = next(iter(fields))
        raise InvalidRequestError(
            f"{name} was given beside a VideoRequest; put it into the request", field=name
        )
    return request


def _task_id(task: VideoTask | str) -> str:
    if isinstance(task, VideoTask):
        return task.id
    task_id = as_id(task)
    if task_id is None:
        raise InvalidRequestError(
            f"task_id is {task!r:.80}; give the id that the service gave", field="task_id"
        )
    return task_id
