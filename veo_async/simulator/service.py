"""The service as a state machine: values and the time in, values out.

Knows no sockets, no clock and no chance of its own: `now` is an argument (service seconds, never
going back), and every draw comes from the seed. `app.py` puts it on the network.
"""

import functools
from collections.abc import Callable, Mapping
from decimal import Decimal
from hmac import compare_digest
from typing import Concatenate, ParamSpec

import attrs

from veo_async.simulator.jobs import JobShapes
from veo_async.simulator.orders import (
    Job,
    OrderError,
    read_extension,
    read_job,
    read_object,
    read_order,
    read_target,
    read_task_id,
    spelled_for_jobs,
)
from veo_async.simulator.problems import Problem, Refused
from veo_async.simulator.records import Callback, Charge, Kind, Reply
from veo_async.simulator.settings import RETENTION_SECONDS, Settings
from veo_async.simulator.shapes import LiveShapes, envelope, shapes_for
from veo_async.simulator.storage import Storage
from veo_async.simulator.tasks import Work
from veo_async.simulator.uploads import Uploads
from veo_async.simulator.works import Works

P = ParamSpec("P")


def _refusable(
    call: Callable[Concatenate["Service", P], Reply],
) -> Callable[Concatenate["Service", P], Reply]:
    """Let a call say no with `Refused`."""

    @functools.wraps(call)
    def answer(service: "Service", /, *args: P.args, **options: P.kwargs) -> Reply:
        try:
            return call(service, *args, **options)
        except Refused as refused:
            return service.problem(refused.problem, refused.text, task_id=refused.task_id)

    return answer


class Service:
    """One account of the service, its tasks and its money.

    Attributes:
        storage: The files that tasks leave behind.
        uploads: The files that were uploaded.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._shapes = shapes_for(settings)
        # Only the live service converts to 4K; the shell routes nothing there otherwise.
        self._live = LiveShapes(settings)
        self._jobs = JobShapes(settings)
        self._epoch = settings.epoch.timestamp()
        self.storage: Storage = Storage(
            secret=f"{settings.seed}",
            epoch=self._epoch,
            ttl=settings.url_seconds,
            retention=RETENTION_SECONDS,
            has_plain_urls=settings.has_lasting_links,
        )
        self.uploads: Uploads = Uploads(seed=settings.seed, epoch=settings.epoch)
        self._works = Works(settings, self.storage, self.uploads)
        self._account = self._works.account

    # -- what a shell and a ledger read ------------------------------------------------------

    @property
    def charges(self) -> tuple[Charge, ...]:
        """Every payment so far."""
        return self._account.charges

    @property
    def balance(self) -> Decimal:
        """Credits left."""
        return self._account.balance

    @property
    def running(self) -> int:
        """Tasks being generated, as of the last call."""
        return self._account.running

    @property
    def peak_running(self) -> int:
        """The most tasks there ever were at once."""
        return self._account.peak_running

    @property
    def idle_slot_seconds(self) -> float:
        """Unused slot time between the first and the last accepted create."""
        return self._account.idle_slot_seconds

    def prompt_of(self, task_id: str) -> str | None:
        """Return the prompt of a task, for faults that pick their requests by it."""
        task = self._works.get(task_id)
        return None if task is None else task.order.prompt

    # -- time --------------------------------------------------------------------------------

    def settle(self, now: float) -> None:
        """Let everything happen that is over by `now`: finishes, refunds, due webhooks."""
        self._works.settle(now)

    def take_due(self, now: float) -> list[Callback]:
        """Return the webhooks that became due since the last call."""
        self.settle(now)
        return [
            Callback(
                url=work.order.callback_url or "",
                task_id=work.id,
                prompt=work.order.prompt,
                body=self._callback(work, now),
            )
            for work in self._works.take_due()
        ]

    def next_finish(self) -> float | None:
        """Return when the next task or conversion ends, in service seconds."""
        return self._works.next_finish()

    # -- saying no ---------------------------------------------------------------------------

    def problem(self, problem: Problem, text: str | None = None, *, task_id: str = "") -> Reply:
        """Return the dialect's answer to a problem."""
        return self._shapes.problem(problem, text, task_id=task_id)

    def refusal(self, code: int, text: str) -> Reply:
        """Return the dialect's envelope for any code, for scripted faults."""
        return self._shapes.refusal(code, text)

    def is_key(self, header: str | None) -> bool:
        """True for the right `Authorization` header."""
        scheme, _, key = (header or "").partition(" ")
        given, wanted = key.strip().encode(), self._settings.api_key.encode()
        return scheme.lower() == "bearer" and compare_digest(given, wanted)

    def authorize(self, header: str | None) -> Reply | None:
        """Return the refusal of a wrong `Authorization` header, None for the right one."""
        return None if self.is_key(header) else self._shapes.problem(Problem.UNAUTHORIZED)

    # -- the calls ---------------------------------------------------------------------------

    @_refusable
    def generate(self, body: bytes, now: float) -> Reply:
        """`POST /api/v1/veo/generate` (spec: Create Task; live document 2.2).

        The order of the checks: rate, fields, credits, running tasks. A request over the rate
        is dropped and does not count against it (live document 2.12).
        """
        self._check_rate(now)
        work = self._generate(read_object(body), now)
        return self._shapes.created(work.id)

    @_refusable
    def extend(self, body: bytes, now: float) -> Reply:
        """`POST /api/v1/veo/extend` (live document 2.7), with the checks of `generate`."""
        self._check_rate(now)
        work = self._extend(read_object(body), now)
        return self._shapes.created(work.id)

    @_refusable
    def create(self, body: bytes, now: float) -> Reply:
        """`POST /api/v1/jobs/createTask` (live document 2.13).

        A conversion is no generation: it needs no room among the running tasks, and the rate
        (2.12, "new generation requests") does not count it.
        """
        self.settle(now)
        job = read_job(body)
        if not job.kind.is_conversion:
            self._check_rate(now)
        try:
            return self._jobs.created(self._begin(job, now).id)
        except OrderError as error:
            raise spelled_for_jobs(error) from None

    @_refusable
    def record_info(self, query: Mapping[str, str], now: float) -> Reply:
        """`GET /api/v1/veo/record-info` (spec: Check Status; live document 2.4)."""
        task = self._asked(query, now, Problem.UNKNOWN_RECORD)
        return self._shapes.record(self._works.view(task, now))

    @_refusable
    def job_record(self, query: Mapping[str, str], now: float) -> Reply:
        """`GET /api/v1/jobs/recordInfo` (live document 2.13)."""
        task = self._asked(query, now, Problem.UNKNOWN_JOB)
        return self._jobs.record(self._works.view(task, now))

    @_refusable
    def upgrade(self, query: Mapping[str, str], now: float) -> Reply:
        """The 1080P call (spec: Get 1080P Video; live document 2.5); it is paid for once."""
        base = self._asked(query, now, Problem.UNKNOWN_TASK)
        if self._settings.is_live and query.get("index", "0") != "0":
            raise Refused(Problem.INVALID, "index must be 0: there is one video")
        work = base.conversions.get(Kind.UPGRADE)
        if work is None:
            work = self._works.convert(Kind.UPGRADE, base, now)
        if now < work.ready:
            raise Refused(Problem.CONVERTING)
        view = self._works.view(work, now)
        return self._shapes.upgraded(attrs.evolve(view, created=self._epoch + base.created))

    @_refusable
    def upgrade_4k(self, body: bytes, now: float) -> Reply:
        """`POST /api/v1/veo/get-4k-video` (live document 2.6); it is paid for once.

        One that fails says so from then on, and is not begun again.
        """
        self.settle(now)
        fields = read_object(body)
        base = self._works.find(read_target(fields).task_id, now, Problem.UNKNOWN_TASK)
        work = base.conversions.get(Kind.UPGRADE_4K)
        if work is None:
            self._convert(Kind.UPGRADE_4K, fields, now)
            return self._live.upgrading_4k(base.id, is_new=True)
        if now < work.ready:
            return self._live.upgrading_4k(base.id, is_new=False)
        return self._live.upgraded_4k(self._works.view(work, now))

    def credit(self, now: float) -> Reply:
        """`GET /api/v1/chat/credit` (live document 2.10: recorded values are decimals)."""
        self.settle(now)
        return Reply(envelope(200, "success", float(self.balance)))

    @_refusable
    def download_url(self, body: bytes, now: float) -> Reply:
        """`POST /api/v1/common/download-url` (live document 2.10)."""
        self.settle(now)
        url = read_object(body).get("url")
        origin, path = self.storage.base_url, ""
        if isinstance(url, str) and url.startswith(origin):
            path = url.removeprefix(origin).partition("?")[0]
        file = self.storage.get(path)
        if file is None or now < file.ready:
            raise Refused(Problem.FOREIGN_URL)
        if now >= file.ready + RETENTION_SECONDS:
            raise Refused(Problem.TOO_OLD)
        return Reply(envelope(200, "success", self.storage.url(path, now, fresh=True)))

    # -- inside ------------------------------------------------------------------------------

    def _check_rate(self, now: float) -> None:
        self.settle(now)
        self._works.check_rate(now)

    def _begin(self, job: Job, now: float) -> Work:
        match job.kind:
            case Kind.GENERATE:
                return self._generate(job.fields, now, job.sent)
            case Kind.EXTEND:
                return self._extend(job.fields, now, job.sent)
            case _:
                return self._convert(job.kind, job.fields, now, job.sent)

    def _generate(self, fields: Mapping[str, object], now: float, sent: str | None = None) -> Work:
        settings = self._settings
        order = read_order(fields, dialect=settings.dialect, prompt_limit=settings.prompt_limit)
        return self._works.generate(attrs.evolve(order, sent=sent), now)

    def _extend(self, fields: Mapping[str, object], now: float, sent: str | None = None) -> Work:
        base = self._works.find(read_task_id(fields), now, Problem.NO_ORIGINAL)
        limit = self._settings.prompt_limit
        order = read_extension(fields, base=base.order, prompt_limit=limit)
        return self._works.extend(attrs.evolve(order, sent=sent), base, now)

    def _convert(
        self, kind: Kind, fields: Mapping[str, object], now: float, sent: str | None = None
    ) -> Work:
        target = read_target(fields)
        base = self._works.find(target.task_id, now, Problem.UNKNOWN_TASK)
        return self._works.convert(kind, base, now, callback_url=target.callback_url, sent=sent)

    def _asked(self, query: Mapping[str, str], now: float, unknown: Problem) -> Work:
        self.settle(now)
        task_id = query.get("taskId")
        if not task_id:
            raise Refused(Problem.NO_TASK_ID)
        return self._works.find(task_id, now, unknown)

    def _callback(self, work: Work, now: float) -> Mapping[str, object]:
        view = self._works.view(work, now)
        return self._jobs.callback(view) if work.is_job else self._shapes.callback(view)
