"""One job of a batch on its way: its paid task and its video, each step written down first.

What is said to the journal before what: the intent before the request leaves, the id before anyone
is told, the link before its download, and `stored` after the file is whole and on the disk.
"""

import asyncio
import logging
from functools import partial
from typing import Final, Protocol

import attrs

from veo_async.accounts import Accounts
from veo_async.entries import Entry, Orders, told, uncertain, wall
from veo_async.errors import (
    APIError,
    AuthenticationError,
    ClientClosedError,
    ConnectError,
    InsufficientCreditsError,
    JournalError,
    LimiterError,
    NotFoundError,
    QuotaExceededError,
    RateLimitError,
    ServiceUnavailableError,
    SubmitUncertainError,
    TaskFailedError,
    TaskTimeoutError,
    TransportError,
    UnexpectedResponseError,
    ValidationError,
    VeoError,
)
from veo_async.fetching import Fetching
from veo_async.journal import Journal
from veo_async.journal_file import JournalFile
from veo_async.pauses import Pauses
from veo_async.protocol import codec
from veo_async.protocol.jobs import JobState
from veo_async.request import VideoRequest
from veo_async.results import BatchItem, Outcome
from veo_async.runtime import Runtime
from veo_async.submit import Submission, with_token
from veo_async.task import VideoTask

__all__: list[str] = []

_log = logging.getLogger("veo_async")
_LEFT: Final = "the batch was left before it came"
_PASSING: Final = RateLimitError | ServiceUnavailableError | UnexpectedResponseError
_OUT_OF_MONEY: Final = (InsufficientCreditsError, QuotaExceededError)


class Stop(Protocol):
    """What says that nothing more may be submitted."""

    @property
    def is_stopped(self) -> bool:
        """Whether it does."""
        ...

    def stop(self) -> None:
        """Say it."""
        ...


class Production:
    """Makes the jobs of one batch, each in a task of its own."""

    def __init__(
        self,
        runtime: Runtime,
        journal: Journal,
        orders: Orders,
        *,
        accounts: Accounts,
        fetching: Fetching,
        pauses: Pauses,
        stop: Stop,
    ) -> None:
        self._accounts = accounts
        self._fetching = fetching
        self._runtime = runtime
        self._journal = journal
        self._orders = orders
        self._pauses = pauses
        self._stop = stop
        self.sending: set[asyncio.Task[object]] = set()
        self._has_contact = False

    async def make(self, entry: Entry) -> BatchItem:
        """Submit a job whose price is committed, and bring its video home.

        Raises:
            VeoError: Nothing can be made any more: the key is refused, the journal failed.
        """
        request = entry.request
        if request is None:
            raise LookupError("a job without a request cannot be submitted")
        try:
            task = await self._submitted(entry, request)
        except SubmitUncertainError as error:
            entry.granted.set()  # the next one need not wait for a callback
            revealed = await self.revealed(entry)
            if revealed is None:
                self._accounts.lost(entry)
                return self._orders.item(entry, Outcome.UNCERTAIN, error)
            task = revealed
        except _OUT_OF_MONEY as error:
            self._accounts.take_back(entry)
            self._stop.stop()
            return self._orders.item(entry, Outcome.UNPAID, error)
        except ValidationError as error:
            self._accounts.take_back(entry)
            return self._orders.item(entry, Outcome.REJECTED, error)
        finally:
            entry.granted.set()
        return await self.finish(entry, task)

    async def finish(self, entry: Entry, task: VideoTask) -> BatchItem:
        """Bring the video of a job's task home, or that of a new one where that is allowed.

        Raises:
            VeoError: Nothing can be made any more: the key is refused, the journal failed.
        """
        try:
            return await self._follow(entry, task)
        except TaskFailedError as error:
            request = entry.request
            if request is None or not self._may_pay_again(entry, request, error):
                return self._orders.item(entry, Outcome.FAILED, error)
            self._accounts.pay(entry, request)
            _log.info("task %s is paid again as a new one: %s", error.task_id, error)
            entry.job = await self._journal.do(JournalFile.again, entry.job)
        return await self.make(entry)

    def _may_pay_again(self, entry: Entry, request: VideoRequest, error: TaskFailedError) -> bool:
        is_allowed = error.is_retryable and self._orders.allows_another(entry.job)
        return is_allowed and not self._stop.is_stopped and self._accounts.can_pay(request)

    async def _submitted(self, entry: Entry, request: VideoRequest) -> VideoTask:
        """Return the task of a job, however long the service does not take it.

        Raises:
            VeoError: It is refused, uncertain, or cannot be asked for.
            asyncio.CancelledError: The batch was stopped before the service took it.
        """
        failures = 0
        while not self._stop.is_stopped:
            token = self._runtime.settings.new_token()
            job = Submission(
                key=token,
                request=self._with_callback(request, token),
                record=_Record(self, entry, token),
            )
            try:
                return await self._runtime.owned.call(
                    self._send(entry, job), may_be_withdrawn=partial(_may_be_withdrawn, job)
                )
            except ClientClosedError:
                if self._runtime.home.is_closed:
                    raise
                break  # the batch was stopped, and it was not let out any more
            except APIError as error:
                self._has_contact = self._has_contact or not isinstance(
                    error, UnexpectedResponseError | NotFoundError
                )
                if not isinstance(error, _PASSING):
                    raise
                failures += 1
                reason: VeoError = error
            except (TransportError, LimiterError) as error:
                failures += 1
                reason = error
            if not self._may_pass(reason, failures):
                raise reason
            wait = self._runtime.api.wait_after("generate", None, failures, reason)
            async with self._pauses.reason("submit", str(reason)):
                await asyncio.sleep(wait)
        raise asyncio.CancelledError

    def _may_pass(self, error: VeoError, failures: int) -> bool:
        if isinstance(error, UnexpectedResponseError):
            return failures < self._runtime.settings.retry.attempts
        # A network that never worked is a wrong address; one that did will work again.
        return self._has_contact or not isinstance(error, ConnectError)

    def _with_callback(self, request: VideoRequest, token: str) -> VideoRequest:
        prefix = self._orders.callback_url
        if request.callback_url is not None or prefix is None:
            return request
        return request.evolve(callback_url=with_token(prefix, token))

    # --- callbacks that name the task of a submit whose answer was lost

    def _wait_for_a_callback(self, entry: Entry) -> float:
        """Return the seconds for which one is worth waiting for: its slot is held as long."""
        attempt, request = entry.job.attempt, entry.request
        is_called = self._orders.callback_url is not None and (
            request is None or request.callback_url is None
        )
        if attempt is None or not is_called or self._runtime.hearing is None:
            return 0.0
        return max(0.0, self._runtime.settings.timeouts.lost - (wall() - attempt.intent_at))

    async def may_be_revealed(self, entry: Entry) -> bool:
        """Return whether a callback has named, or may name, the task of a job."""
        hearing, attempt = self._runtime.hearing, entry.job.attempt
        if hearing is None or attempt is None:
            return False
        return self._wait_for_a_callback(entry) > 0 or await hearing.waits(attempt.token)

    async def revealed(self, entry: Entry) -> VideoTask | None:
        """Return the task of a job whose answer was lost, once a callback names it.

        None where no callback came for as long as its slot is held.

        Raises:
            JournalError: Its id could not be written down.
        """
        hearing, attempt = self._runtime.hearing, entry.job.attempt
        if hearing is None or attempt is None:
            return None
        record = await hearing.reveal(
            attempt.token,
            entry.request,
            seconds=self._wait_for_a_callback(entry),
            is_taken=self._is_anothers,
        )
        if record is None:
            return None
        await self.accepted(entry, record.task_id)
        age = max(0.0, wall() - attempt.intent_at)
        return await hearing.take_up(record, attempt.token, entry.request, age)

    async def _is_anothers(self, task_id: str) -> bool:
        return await self._journal.do(JournalFile.of_task, task_id) is not None

    async def _send(self, entry: Entry, job: Submission) -> VideoTask:
        """Submit, in a task that outlives whoever waits, and write down what came of it."""
        watcher = self._runtime.watcher
        this = asyncio.current_task()
        if this is not None:
            self.sending.add(this)
            this.add_done_callback(self.sending.discard)
        try:
            return await self._runtime.submitter.run(
                job, lambda task_id: watcher.begin(task_id, job.key, job.request)
            )
        except SubmitUncertainError as error:
            reason = str(error.__cause__ or error).partition(";")[0]
            kept = {"error_kind": type(error).__name__, "error": reason}
            entry.job = await self._journal.do(JournalFile.lost, entry.job, kept)
            raise uncertain(entry, reason) from error
        except ValidationError as error:
            entry.job = await self._journal.do(
                JournalFile.rejected, entry.job, told(error), now=wall()
            )
            raise
        finally:
            if entry.job.state is JobState.INTENT:
                await self._given_up(entry, job)

    async def _given_up(self, entry: Entry, job: Submission) -> None:
        """Write down what is known of a submit that ended without an answer."""
        if job.may_be_withdrawn:
            entry.job = await self._journal.do(JournalFile.turned_away, entry.job, now=wall())
        elif job.task_id is None:
            kept = {"error_kind": SubmitUncertainError.__name__, "error": _LEFT}
            entry.job = await self._journal.do(JournalFile.lost, entry.job, kept)

    async def _follow(self, entry: Entry, task: VideoTask) -> BatchItem:
        """Wait for a task and bring its video home.

        Raises:
            TaskFailedError: The service says that it failed.
            VeoError: Nothing can be asked any more.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        self._accounts.tally.began(began)
        try:
            video = await task.wait()
        except TaskFailedError as error:
            await self._failed(entry, task, error)
            raise
        except AuthenticationError:
            raise
        except (TaskTimeoutError, APIError) as error:
            return await self._fetching.not_had(entry, error)
        finally:
            self._accounts.tally.ended(began, loop.time())
        self._has_contact = True
        cost = _cost(task)
        if cost is not None:
            self._accounts.charged(entry, cost, is_failure=False)
        entry.job = await self._journal.do(
            JournalFile.ready, entry.job, url=video.url, seed=video.seed, cost=cost, now=wall()
        )
        return await self._fetching.fetch(entry, video)

    async def _failed(self, entry: Entry, task: VideoTask, error: TaskFailedError) -> None:
        # Failed tasks are free (live document 2.12), unless the service says what it took.
        charged = _cost(task) or 0
        self._accounts.charged(entry, charged, is_failure=True)
        entry.job = await self._journal.do(
            JournalFile.failed, entry.job, told(error), charged=charged, now=wall()
        )

    # --- what the journal is told of a submit

    async def intend(self, entry: Entry, token: str) -> None:
        """Write down that the paid request of a job leaves.

        Raises:
            asyncio.CancelledError: The batch is stopped, and nothing may leave any more.
        """
        request = entry.request
        if request is None:
            raise LookupError("a job without a request cannot be submitted")
        try:
            entry.job = await self._journal.do(
                JournalFile.intend,
                entry.job,
                token=token,
                credits_=entry.price,
                name=self._orders.naming.name(entry.job.position, entry.job.key, request),
                now=wall(),
            )
        except asyncio.CancelledError:
            # It is written down all the same. Its caller left, or the request's own time was up,
            # after which it is sent again.
            written = await self._journal.do(JournalFile.find, entry.job.key)
            entry.job = entry.job if written is None else written
            if entry.job.state is JobState.INTENT:
                entry.job = await self._journal.do(JournalFile.turned_away, entry.job, now=wall())
            raise
        if self._stop.is_stopped:
            raise asyncio.CancelledError

    async def turned_away(self, entry: Entry) -> None:
        """Write down that the service took nothing.

        Raises:
            asyncio.CancelledError: The batch is stopped, and it is not to be sent again.
        """
        entry.job = await self._journal.do(JournalFile.turned_away, entry.job, now=wall())
        if self._stop.is_stopped:
            raise asyncio.CancelledError

    async def accepted(self, entry: Entry, task_id: str) -> None:
        """Write down the id of a job's task."""
        self._has_contact = True
        try:
            entry.job = await self._journal.do(JournalFile.accepted, entry.job, task_id, now=wall())
        except JournalError as error:
            unwritten = JournalError(
                f"task {task_id} is paid, and its id could not be written down ({error}); mend the"
                f" disk, then settle job {entry.job.key} with `veo-async resolve`, by that id",
                path=error.path,
            )
            _log.error("%s", unwritten)  # whoever waits for it may have left
            raise unwritten from error


@attrs.frozen
class _Record:
    """Tells the journal of one submit's steps."""

    production: Production
    entry: Entry
    token: str

    async def reserved(self) -> None:
        self.entry.granted.set()

    async def leaving(self) -> None:
        await self.production.intend(self.entry, self.token)

    async def turned_away(self) -> None:
        await self.production.turned_away(self.entry)

    async def accepted(self, task_id: str) -> None:
        await self.production.accepted(self.entry, task_id)


def _may_be_withdrawn(job: Submission) -> bool:
    return job.may_be_withdrawn


def _cost(task: VideoTask) -> int | None:
    return None if task.record is None else codec.credits_of(task.record)
