"""All tasks of the account: how they start, when they end, and how an answer sees them."""

import heapq
import itertools
import math
from urllib.parse import parse_qsl, unquote, urlsplit

import attrs

from veo_async.simulator import dice
from veo_async.simulator.account import Account
from veo_async.simulator.orders import is_web_url
from veo_async.simulator.problems import (
    NO_IMAGE,
    STUCK_MARKER,
    Problem,
    Refused,
    failure_for,
)
from veo_async.simulator.records import Failure, Kind, Order, State, TaskView
from veo_async.simulator.settings import (
    EXTENSION_PRICES,
    PRICES,
    RETENTION_SECONDS,
    SEED_RANGE,
    UPGRADE_4K_PRICE,
    UPGRADE_PRICES,
    Settings,
)
from veo_async.simulator.storage import Storage, Verdict
from veo_async.simulator.tasks import Studio, Work
from veo_async.simulator.uploads import Uploads


class Works:
    """Tasks and conversions, paid for and under way or over.

    Attributes:
        account: Who pays.
    """

    def __init__(self, settings: Settings, storage: Storage, uploads: Uploads) -> None:
        self._settings = settings
        self._epoch = settings.epoch.timestamp()
        self._storage = storage
        self._uploads = uploads
        self._studio = Studio(settings, storage)
        self.account: Account = Account(settings)
        self._tasks: dict[str, Work] = {}
        self._numbers = itertools.count()
        self._finishing: list[tuple[float, int, Work]] = []
        self._due: list[Work] = []

    # -- time --------------------------------------------------------------------------------

    def settle(self, now: float) -> None:
        """Let everything happen that is over by `now`: finishes, refunds, due webhooks."""
        while self._finishing and self._finishing[0][0] <= now:
            ready, _, work = heapq.heappop(self._finishing)
            self.account.settle(ready)
            if work.is_counted:
                self.account.free()
            if work.failure is not None:
                self.account.refund(work.charge)
            if is_web_url(work.order.callback_url or ""):
                self._due.append(work)
        self.account.settle(now)

    def take_due(self) -> list[Work]:
        """Return what is over and has a webhook, once."""
        due, self._due = self._due, []
        return due

    def next_finish(self) -> float | None:
        """Return when the next one ends, in service seconds."""
        if not self._finishing or self._finishing[0][0] == math.inf:
            return None
        return self._finishing[0][0]

    # -- looking -----------------------------------------------------------------------------

    def get(self, task_id: str) -> Work | None:
        """Return a task, however old."""
        return self._tasks.get(task_id)

    def find(self, task_id: str, now: float, unknown: Problem) -> Work:
        """Return a task.

        Raises:
            Refused: It is `unknown`, or older than its records are kept.
        """
        task = self._tasks.get(task_id)
        if task is None:
            raise Refused(unknown, task_id=task_id)
        if now >= task.created + RETENTION_SECONDS:
            raise Refused(Problem.TOO_OLD)
        return task

    def view(self, work: Work, now: float) -> TaskView:
        """Return what an answer at `now` shows."""
        state = work.state(now)
        success, over = state is State.SUCCESS, state is not State.GENERATING

        def url(path: str | None) -> str | None:
            return self._storage.url(path, now) if success and path is not None else None

        return TaskView(
            task_id=work.id,
            order=work.order,
            state=state,
            seed=work.seed,
            resolution=work.order.made_at,
            created=self._epoch + work.created,
            completed=self._epoch + work.ready if over else None,
            url=url(work.path),
            origin_url=url(work.origin_path),
            whole_url=url(work.whole_path),
            image_url=url(work.image_path),
            failure=work.failure if over else None,
            credits=self.account.charge(work.charge).credits,
            now=self._epoch + now,
            progress=work.progress(now),
        )

    # -- making ------------------------------------------------------------------------------

    def check_rate(self, now: float) -> None:
        """Count a create.

        Raises:
            Refused: It is one too many; then it does not count (live document 2.12).
        """
        if not self.account.within_rate(now):
            raise Refused(Problem.RATE)

    def generate(self, order: Order, now: float) -> Work:
        """Start a generation.

        Raises:
            Refused: There is no money or no room for it.
        """
        price = PRICES[self._settings.dialect][order.model, order.resolution]
        return self._start(order, price, now, base=None)

    def extend(self, order: Order, base: Work, now: float) -> Work:
        """Start an extension (live document 2.7).

        Raises:
            Refused: As for a generation, and where there is nothing to extend.
        """
        _check_base(base, now)
        if base.is_1080p or base.order.kind.is_conversion:
            raise Refused(Problem.BASE_CONVERTED)
        return self._start(order, EXTENSION_PRICES[order.model], now, base=base)

    def convert(
        self,
        kind: Kind,
        base: Work,
        now: float,
        *,
        callback_url: str | None = None,
        sent: str | None = None,
    ) -> Work:
        """Start a conversion.

        That of `/api/v1/veo` belongs to its base, whose id it has, and is asked for once; that
        of `/api/v1/jobs`, as `sent`, is a task of its own every time (live document 2.6, 2.13).

        Raises:
            Refused: There is no money for it, or nothing to convert.
        """
        _check_base(base, now)
        is_1080p, is_own_task = kind is Kind.UPGRADE, sent is not None
        if is_1080p and base.order.is_fallback:
            raise Refused(Problem.BASE_FALLBACK)
        price = UPGRADE_PRICES[self._settings.dialect] if is_1080p else UPGRADE_4K_PRICE
        self._afford(price)
        task_id = self._studio.task_id(len(self._tasks)) if is_own_task else base.id
        order = attrs.evolve(
            base.order,
            kind=kind,
            base_id=base.id,
            named=frozenset[str](),
            callback_url=callback_url,
            resolution="1080p" if is_1080p else "4k",
            sent=sent,
        )
        ready = now + self._studio.conversion_seconds(kind, task_id)
        work = Work(
            id=task_id,
            order=order,
            created=now,
            ready=ready,
            failure=self._studio.conversion_failure(kind, order),
            charge=self._pay(task_id, order, price, now),
            path=self._studio.conversion_path(kind, task_id, ready),
            seed=base.seed,
            seconds=self._studio.seconds(order, base),
        )
        if is_own_task:
            self._tasks[task_id] = work
        else:
            base.conversions[kind] = work
        base.is_1080p = base.is_1080p or is_1080p
        if work.failure is None:
            self._studio.convert(work, base)
        self._finish_later(work)
        return work

    def _start(self, order: Order, price: int, now: float, *, base: Work | None) -> Work:
        self._afford(price)
        if self.account.is_busy:
            raise Refused(Problem.BUSY)
        number = len(self._tasks)
        draw = (self._settings.seed, number)
        task_id = self._studio.task_id(number)
        ready = now + self._studio.generation_seconds(order, *draw)
        if STUCK_MARKER in order.prompt:
            ready = math.inf
        work = Work(
            id=task_id,
            order=order,
            created=now,
            ready=ready,
            failure=failure_for(order.prompt) or self._image_failure(order, now),
            charge=self._pay(task_id, order, price, now),
            path=self._studio.film_path(task_id, ready),
            seed=dice.integer(*SEED_RANGE, "seed", *draw) if order.seed is None else order.seed,
            seconds=self._studio.seconds(order, base),
            is_1080p=order.made_at != "720p",
        )
        self._tasks[task_id] = work
        if work.failure is None and ready < math.inf:
            self._studio.shoot(work)
        self.account.occupy()
        self._finish_later(work)
        return work

    def _image_failure(self, order: Order, now: float) -> Failure | None:
        """Fail where an image is to be on the file host and is not; foreign ones pass unseen."""
        origin = f"{self._storage.base_url}/"
        ours = [url for url in order.image_urls if url.startswith(origin)]
        return None if all(self._is_image(url, now) for url in ours) else NO_IMAGE

    def _is_image(self, url: str, now: float) -> bool:
        parts = urlsplit(url)
        path = unquote(parts.path)
        upload = self._uploads.get(path.lstrip("/"), now)
        if upload is not None:
            return not upload.is_misnamed
        verdict = self._storage.judge(path, dict(parse_qsl(parts.query)), now)
        return path.endswith(".jpg") and verdict is Verdict.GOOD

    def _afford(self, price: int) -> None:
        if price > self.account.balance:
            raise Refused(Problem.NO_CREDITS)

    def _pay(self, task_id: str, order: Order, price: int, now: float) -> int:
        return self.account.pay(
            task_id, order.kind, price, prompt=order.prompt, model=order.model, now=now
        )

    def _finish_later(self, work: Work) -> None:
        heapq.heappush(self._finishing, (work.ready, next(self._numbers), work))


def _check_base(base: Work, now: float) -> None:
    state = base.state(now)
    if state is State.GENERATING:
        raise Refused(Problem.BASE_RUNNING)
    if state is not State.SUCCESS:
        raise Refused(Problem.BASE_FAILED)
