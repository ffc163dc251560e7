"""One job of a batch on its way: its paid task and its video, each step written down first.

What is said to the journal before what: the intent before the request leaves, the id before anyone
is told, the link before its download, and `stored` after the file is whole and on the disk.
"""

import asyncio
import logging
from functools import partial
from typing import Final

import attrs

from veo_async.accounts import Accounts
from veo_async.entries import Entry, Orders, told, uncertain, wall
from veo_async.errors import (
    APIError,
    AuthenticationError,
    ClientClosedError,
    ConnectError,
    InsufficientCreditsError,
    InvalidRequestError,
    LimiterError,
    NotFoundError,
    QuotaExceededError,
    RateLimitError,
    ServerError,
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
from veo_async.films import explained
from veo_async.jobs import step_at
from veo_async.journal import Journal
from veo_async.journal_file import JournalFile
from veo_async.noting import Notes, Noting, Stop
from veo_async.pauses import Pauses
from veo_async.protocol import codec
from veo_async.protocol.jobs import JobState
from veo_async.request import PaidRequest
from veo_async.results import BatchItem, Outcome
from veo_async.runtime import Runtime
from veo_async.submit import Submission, with_token
from veo_async.task import VideoTask

__all__: list[str] = []

_log = logging.getLogger("veo_async")
_LEFT: Final = "the batch was left before it came"
_CHANGED: Final = (
    "the input has another request for it by now, so that no more of this one is paid; run the"
    " batch again, which makes the new one and keeps what both begin with"
)
_PASSING: Final = RateLimitError | ServiceUnavailableError | ServerError | UnexpectedResponseError
_OUT_OF_MONEY: Final = (InsufficientCreditsError, QuotaExceededError)


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
        self._notes = Notes(journal, orders, stop)
        self.sending: set[asyncio.Task[object]] = set()
        self._has_contact = False

    async def make(self, entry: Entry) -> BatchItem:
        """Submit a job, and bring its video home; a film's steps one after the other.

        Raises:
            VeoError: Nothing can be made any more: the key is refused, the journal failed.
        """
        return await self._work(entry, None)

    async def finish(self, entry: Entry, task: VideoTask) -> BatchItem:
        """Go on with a job whose task is known, and bring its video home.

        Raises:
            VeoError: Nothing can be made any more: the key is refused, the journal failed.
        """
        self._accounts.pay_ahead(entry)
        return await self._work(entry, task)

    async def _work(self, entry: Entry, task: VideoTask | None) -> BatchItem:
        try:
            item = await self._made(entry, task)
        finally:
            self._accounts.forgo(entry)
        return attrs.evolve(item, credits=entry.spent)

    async def _made(self, entry: Entry, task: VideoTask | None) -> BatchItem:
        while True:
            if task is None:
                begun = await self._begun(entry)
                if isinstance(begun, BatchItem):
                    return begun
                task = begun
            item = await self._ended(entry, task)
            if item is not None:
                return item
            task = None

    async def _begun(self, entry: Entry) -> VideoTask | BatchItem:
        """Return the next task of a job, or its item where there is none."""
        refusal = self._unpaid(entry)
        if refusal is not None:
            return self._orders.unpaid(entry, refusal)
        try:
            return await self._submitted(entry)
        except SubmitUncertainError as error:
            entry.granted.set()  # the next one need not wait for a callback
            revealed = await self.revealed(entry)
            if revealed is not None:
                return revealed
            self._accounts.lost(entry)
            return self._orders.item(entry, Outcome.UNCERTAIN, entry.at_step(error))
        except ServerError as error:  # an image could not be uploaded, and nothing was sent
            self._accounts.take_back(entry)
            return self._orders.item(entry, Outcome.FAILED, error)
        except (*_OUT_OF_MONEY, ValidationError, NotFoundError, InvalidRequestError) as error:
            return await self._refused(entry, error)
        finally:
            entry.granted.set()

    def _unpaid(self, entry: Entry) -> VeoError | None:
        """See to it that the next task of a job is paid, or return why it must not be."""
        if entry.is_changed:
            self._accounts.take_back(entry)
            return VeoError(_CHANGED)
        if entry.is_committed:
            return None
        refusal = self._accounts.refusal(entry)  # a film that the budgets did not allow ahead
        if refusal is None:
            self._accounts.pay(entry)
        return refusal

    async def _refused(self, entry: Entry, error: VeoError) -> BatchItem:
        """Return the item of a job that the service does not want to make, or not yet.

        Raises:
            NotFoundError: It knows no such call, and so makes nothing.
        """
        if isinstance(error, NotFoundError):
            step = step_at(entry.job, entry.wanted)
            error, is_unable = await explained(self._runtime.api, step, error)
            if is_unable or not entry.job.steps:
                raise entry.at_step(error)
        self._accounts.take_back(entry)
        if isinstance(error, _OUT_OF_MONEY):
            self._stop.stop()
            return self._orders.unpaid(entry, error)
        return self._orders.refused(entry, error)

    async def _ended(self, entry: Entry, task: VideoTask) -> BatchItem | None:
        """Return the item of a job whose task has ended; None where another task is to follow."""
        try:
            return await self._follow(entry, task)
        except TaskFailedError as error:
            if not self._may_pay_again(entry, error):
                return self._orders.item(entry, Outcome.FAILED, entry.at_step(error))
            self._accounts.pay(entry)
            _log.info("task %s is paid again as a new one: %s", error.task_id, error)
            entry.job = await self._journal.do(JournalFile.again, entry.job)
            return None

    def _may_pay_again(self, entry: Entry, error: TaskFailedError) -> bool:
        is_allowed = error.is_retryable and self._orders.allows_another(entry.job)
        may_be_sent = entry.request is not None and not self._stop.is_stopped
        return is_allowed and may_be_sent and self._accounts.can_pay(entry)

    async def _submitted(self, entry: Entry) -> VideoTask:
        """Return the task of a job, however long the service does not take it.

        Raises:
            VeoError: It is refused, uncertain, or cannot be asked for.
            asyncio.CancelledError: The batch was stopped before the service took it.
        """
        request = step_at(entry.job, entry.wanted)
        failures = 0
        while not self._stop.is_stopped:
            token = self._runtime.settings.new_token()
            try:
                sent = await self._runtime.images.uploaded(request)
                job = Submission(
                    key=token,
                    request=self._with_callback(sent, token),
                    record=Noting(self._notes, entry, token),
                )
                task = await self._runtime.owned.call(
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
            else:
                self._has_contact = True
                return task
            if not self._may_pass(reason, failures):
                raise reason
            wait = self._runtime.api.wait_after("generate", None, failures, reason)
            async with self._pauses.reason("submit", str(reason)):
                await asyncio.sleep(wait)
        raise asyncio.CancelledError

    def _may_pass(self, error: VeoError, failures: int) -> bool:
        if isinstance(error, UnexpectedResponseError | ServerError):
            return failures < self._runtime.settings.retry.attempts
        # A network that never worked is a wrong address; one that did will work again.
        return self._has_contact or not isinstance(error, ConnectError)

    def _with_callback(self, request: PaidRequest, token: str) -> PaidRequest:
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
            entry.step,
            seconds=self._wait_for_a_callback(entry),
            is_taken=self._is_anothers,
        )
        if record is None:
            return None
        self._has_contact = True
        await self._notes.accepted(entry, record.task_id)
        age = max(0.0, wall() - attempt.intent_at)
        return await hearing.take_up(record, attempt.token, entry.step, age)

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

    async def _follow(self, entry: Entry, task: VideoTask) -> BatchItem | None:
        """Wait for a task and bring its video home; None where it is to be extended.

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
            return await self._fetching.not_had(entry, entry.at_step(error))
        finally:
            self._accounts.tally.ended(began, loop.time())
        self._has_contact = True
        cost = _cost(task)
        if entry.left:
            await self._extended(entry, cost)
            return None
        if cost is not None:
            self._accounts.charged(entry, cost, is_failure=False)
        entry.job = await self._journal.do(
            JournalFile.ready, entry.job, url=video.url, seed=video.seed, cost=cost, now=wall()
        )
        return await self._fetching.fetch(entry, video)

    async def _extended(self, entry: Entry, cost: int | None) -> None:
        """Write down that a step of a film is done, and see to the money of the next one."""
        attempt = entry.job.attempt
        listed = 0 if attempt is None else attempt.charged
        self._accounts.charged(entry, listed if cost is None else cost, is_failure=False)
        entry.job = await self._journal.do(JournalFile.extended, entry.job, cost=cost, now=wall())
        self._accounts.go_on(entry)

    async def _failed(self, entry: Entry, task: VideoTask, error: TaskFailedError) -> None:
        # Failed tasks are free (live document 2.12), unless the service says what it took.
        charged = _cost(task) or 0
        self._accounts.charged(entry, charged, is_failure=True)
        entry.job = await self._journal.do(
            JournalFile.failed, entry.job, told(error), charged=charged, now=wall()
        )


def _may_be_withdrawn(job: Submission) -> bool:
    return job.may_be_withdrawn


def _cost(task: VideoTask) -> int | None:
    return None if task.record is None else codec.credits_of(task.record)
