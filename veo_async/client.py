"""The front door: one client, one connection pool, one set of slots."""

import os
import warnings
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NoReturn, Self, Unpack

from veo_async.errors import InvalidRequestError, WrongLoopError
from veo_async.models import Dialect, Download, Resolution, TaskRecord, Video
from veo_async.prices import DEARER, Prices
from veo_async.request import ExtendFields, RequestFields, VideoRequest
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

# What is at work behind the door is loaded with the first client, and all at once: loading it later
# would stop a running loop for 0.2 s, and programs that only import this should not wait for it.
if TYPE_CHECKING:
    import ssl as ssl_module
    from decimal import Decimal
    from types import TracebackType

    import aiohttp

    from veo_async.batch import Batch
    from veo_async.engine import Engine
    from veo_async.events import Observer
    from veo_async.feed import BatchRequests
    from veo_async.journal import JournalPlace
    from veo_async.limits import TaskLimiter
    from veo_async.results import JobResult
    from veo_async.streaming import VideoStream
    from veo_async.task import VideoTask
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
        limiter: "TaskLimiter | None" = None,
        poll: PollPolicy = PollPolicy(),  # noqa: B008  # frozen
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008  # frozen
        timeouts: Timeouts = Timeouts(),  # noqa: B008  # frozen
        pace: tuple[int, float] | None = PACE,
        max_downloads: int = MAX_DOWNLOADS,
        max_credits: int | None = None,
        connector: "aiohttp.BaseConnector | None" = None,
        proxy: str | None = None,
        ssl: "ssl_module.SSLContext | bool | None" = None,
        upload_url: str | None = None,
        callback_url: str | None = None,
        webhooks: "WebhookReceiver | None" = None,
        on_event: "Observer | Iterable[Observer] | None" = None,
    ) -> None:
        # Wrapped first, or it would stand in the traceback of whatever is wrong.
        given = None if api_key is None else ApiKey(api_key)
        del api_key
        from veo_async.engine import Engine, configured  # noqa: PLC0415  # see above

        self._engine: Engine = Engine(
            configured(
                key=given,
                base_url=base_url,
                dialect=dialect,
                max_tasks=max_tasks,
                limiter=limiter,
                poll=poll,
                retry=retry,
                timeouts=timeouts,
                pace=pace,
                max_downloads=max_downloads,
                max_credits=max_credits,
                connector=connector,
                proxy=proxy,
                ssl=ssl,
                upload_url=upload_url,
                callback_url=callback_url,
                webhooks=webhooks,
                on_event=on_event,
            )
        )

    # --- making videos

    async def submit(
        self, request: VideoRequest | str, **fields: Unpack[RequestFields]
    ) -> "VideoTask":
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
        return await self._engine.submit(_request(request, fields))

    async def extend(
        self, task: "VideoTask | Video | str", prompt: str, **fields: Unpack[ExtendFields]
    ) -> "VideoTask":
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
        return await self._engine.extend(task, prompt, fields)

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
        return await self._engine.generate(_request(request, fields))

    def task(self, task_id: str) -> "VideoTask":
        """Return a task by its id, also one of an earlier process.

        Raises:
            InvalidRequestError: It cannot be an id.
        """
        return self._engine.attach(task_id)

    @property
    def tasks(self) -> "tuple[VideoTask, ...]":
        """The tasks that are being watched, those included whose submitter was cancelled."""
        runtime = self._engine.runtime
        return () if runtime is None else runtime.watcher.active

    async def status(self, task: "VideoTask | str") -> TaskRecord:
        """Ask the service once for a task, and again only after failures that may pass.

        An id that this client got in the last 90 s, and that the service does not know yet, is
        generating.

        Raises:
            InvalidRequestError: It cannot be an id.
            NotFoundError: The service does not know it.
            APIError: The service refused to answer.
            TransportError: No answer came.
        """
        return await self._engine.status(task)

    async def upgrade_1080p(self, video: "Video | VideoTask | str") -> Video:
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
        return await self._engine.upgrade(Resolution.HD_1080P, video)

    async def upgrade_4k(self, video: "Video | VideoTask | str") -> Video:
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
        return await self._engine.upgrade(Resolution.UHD_4K, video)

    async def credits(self) -> "Decimal":
        """Return the account's balance in credits, exactly (live document 2.10).

        Raises:
            NotFoundError: The service has no such call, such as the spec's.
            UnexpectedResponseError: The answer is no balance.
            APIError: The service refused to answer.
            TransportError: No answer came.
        """
        return await self._engine.credits()

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
        return await self._engine.upload(source, name)

    # --- bringing videos home

    async def download(
        self,
        video: "Video | VideoTask | str",
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
        return await self._engine.download(video, to, overwrite=overwrite)

    @asynccontextmanager
    async def stream(
        self,
        video: "Video | VideoTask | str",
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
        async with self._engine.stream(
            video, wanted=range, condition=if_range, timeout=timeout
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
        return self._engine.batch(
            requests,
            fields,
            directory=directory,
            journal=journal,
            max_credits=max_credits,
            name=name,
            prices=prices,
            retries=retries,
            resubmit_uncertain=resubmit_uncertain,
            download_window=download_window,
        )

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
        if request is None and fields:
            raise InvalidRequestError(
                f"{next(iter(fields))} was given without a prompt; give both", field="request"
            )
        wanted = None if request is None else _request(request, fields)
        return await self._engine.run_job(
            key, wanted, directory=directory, until=until, journal=journal
        )

    # --- lifetime

    def statistics(self) -> Statistics:
        """Return what the client is doing at this moment."""
        return self._engine.statistics()

    async def __aenter__(self) -> Self:
        self._engine.started()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: "TracebackType | None",
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
        await self._engine.aclose()

    def __del__(self) -> None:
        # The attribute is missing where the constructor refused its arguments.
        engine: Engine | None = getattr(self, "_engine", None)
        if engine is not None and engine.runtime is not None and not engine.is_closed:
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
        engine: Engine | None = getattr(self, "_engine", None)
        if engine is None:
            return "<VeoClient unfinished>"
        return f"<VeoClient {engine.settings.base_url} {'closed' if engine.is_closed else 'open'}>"


def _request(request: VideoRequest | str, fields: RequestFields) -> VideoRequest:
    if not isinstance(request, VideoRequest):
        return VideoRequest(request, **fields)
    if fields:
        name = next(iter(fields))
        raise InvalidRequestError(
            f"{name} was given beside a VideoRequest; put it into the request", field=name
        )
    return request
