"""The service as a state machine: values and the time in, values out.

Knows no sockets, no clock and no chance of its own: `now` is an argument (service seconds, never
going back), and every draw comes from the seed. `app.py` puts it on the network.
"""

import heapq
import math
from collections import deque
from collections.abc import Mapping
from decimal import Decimal
from hmac import compare_digest

import attrs

from veo_async.simulator import dice
from veo_async.simulator.orders import NotAnObjectError, OrderError, read_object, read_order
from veo_async.simulator.records import (
    Callback,
    Charge,
    Dialect,
    Failure,
    Footage,
    Order,
    Reply,
    State,
    TaskView,
)
from veo_async.simulator.settings import (
    FILE_BYTES,
    FRAME_SIZES,
    GENERATION_SECONDS,
    PRICES,
    RETENTION_SECONDS,
    SEED_RANGE,
    UPGRADE_PRICES,
    Settings,
    bounds,
)
from veo_async.simulator.shapes import STUCK_MARKER, Problem, envelope, failure_for, shapes_for
from veo_async.simulator.storage import Storage, StoredFile


@attrs.define
class _Task:
    id: str
    order: Order
    seed: int
    created: float
    ready: float
    failure: Failure | None
    charge: int
    path: str
    origin_path: str | None = None
    upgrade_path: str | None = None
    upgrade_ready: float = math.inf

    def state(self, now: float) -> State:
        if now < self.ready:
            return State.GENERATING
        return State.SUCCESS if self.failure is None else self.failure.state


class Service:
    """One account of the service, its tasks and its money.

    Attributes:
        storage: The files that tasks leave behind.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._shapes = shapes_for(settings)
        self._epoch = settings.epoch.timestamp()
        self.storage: Storage = Storage(
            secret=f"{settings.seed}",
            epoch=self._epoch,
            ttl=settings.url_seconds,
            retention=RETENTION_SECONDS,
        )
        self._tasks: dict[str, _Task] = {}
        self._charges: list[Charge] = []
        self._balance = Decimal(str(settings.credits))
        self._creates: deque[float] = deque()
        self._finishing: list[tuple[float, int, _Task]] = []
        self._due: list[tuple[str, _Task]] = []
        self._running = 0
        self._peak = 0
        self._settled = 0.0
        self._idle = 0.0
        self._idle_since_create: float | None = None

    # -- what a shell and a ledger read ------------------------------------------------------

    @property
    def charges(self) -> tuple[Charge, ...]:
        """Every payment so far."""
        return tuple(self._charges)

    @property
    def balance(self) -> Decimal:
        """Credits left."""
        return self._balance

    @property
    def running(self) -> int:
        """Tasks being generated, as of the last call."""
        return self._running

    @property
    def peak_running(self) -> int:
        """The most tasks there ever were at once."""
        return self._peak

    @property
    def idle_slot_seconds(self) -> float:
        """Unused slot time between the first and the last accepted create."""
        return self._idle

    def prompt_of(self, task_id: str) -> str | None:
        """Return the prompt of a task, for faults that pick their requests by it."""
        task = self._tasks.get(task_id)
        return None if task is None else task.order.prompt

    # -- time --------------------------------------------------------------------------------

    def settle(self, now: float) -> None:
        """Let everything happen that is over by `now`: finishes, refunds, due webhooks."""
        while self._finishing and self._finishing[0][0] <= now:
            ready, _, task = heapq.heappop(self._finishing)
            self._count_idle(ready)
            self._running -= 1
            if task.failure is not None:
                self._refund(task)
            if task.order.callback_url is not None:
                self._due.append((task.order.callback_url, task))
        self._count_idle(now)

    def take_due(self, now: float) -> list[Callback]:
        """Return the webhooks that became due since the last call."""
        self.settle(now)
        due, self._due = self._due, []
        return [
            Callback(
                url=url,
                task_id=task.id,
                prompt=task.order.prompt,
                body=self._shapes.callback(self._view(task, now)),
            )
            for url, task in due
        ]

    def next_finish(self) -> float | None:
        """Return when the next task ends, in service seconds."""
        if not self._finishing or self._finishing[0][0] == math.inf:
            return None
        return self._finishing[0][0]

    # -- the calls ---------------------------------------------------------------------------

    def problem(self, problem: Problem) -> Reply:
        """Return the dialect's answer to a problem that the shell has found."""
        return self._shapes.problem(problem)

    def refusal(self, code: int, text: str) -> Reply:
        """Return the dialect's envelope for any code, for scripted faults."""
        return self._shapes.refusal(code, text)

    def authorize(self, header: str | None) -> Reply | None:
        """Return the refusal of a wrong `Authorization` header, None for the right one."""
        scheme, _, key = (header or "").partition(" ")
        given, wanted = key.strip().encode(), self._settings.api_key.encode()
        if scheme.lower() == "bearer" and compare_digest(given, wanted):
            return None
        return self._shapes.problem(Problem.UNAUTHORIZED)

    def generate(self, body: bytes, now: float) -> Reply:
        """`POST /api/v1/veo/generate` (spec: Create Task; live document 2.2).

        The order of the checks: rate, fields, credits, running tasks. A request over the rate
        is dropped and does not count against it (live document 2.12).
        """
        self.settle(now)
        if not self._within_rate(now):
            return self._shapes.problem(Problem.RATE)
        try:
            order = read_order(
                read_object(body),
                dialect=self._settings.dialect,
                prompt_limit=self._settings.prompt_limit,
            )
        except NotAnObjectError:
            return self._shapes.problem(Problem.NOT_JSON)
        except OrderError as error:
            return self._shapes.problem(Problem.INVALID, str(error))
        price = PRICES[self._settings.dialect][order.model, order.resolution]
        if price > self._balance:
            return self._shapes.problem(Problem.NO_CREDITS)
        if self._running >= self._settings.max_tasks:
            return self._shapes.problem(Problem.BUSY)
        return self._shapes.created(self._start(order, price, now).id)

    def record_info(self, query: Mapping[str, str], now: float) -> Reply:
        """`GET /api/v1/veo/record-info` (spec: Check Status; live document 2.4)."""
        task = self._find(query, now)
        return task if isinstance(task, Reply) else self._shapes.record(self._view(task, now))

    def upgrade(self, query: Mapping[str, str], now: float) -> Reply:
        """The 1080P call (spec: Get 1080P Video; live document 2.5); it is paid for once."""
        task = self._find(query, now)
        if isinstance(task, Reply):
            return task
        refused = self._refuse_upgrade(task, query, now)
        if refused is not None:
            return refused
        path = task.upgrade_path or self._convert(task, now)
        if now < task.upgrade_ready:
            return self._shapes.problem(Problem.CONVERTING)
        view = self._view(task, now)
        return self._shapes.upgraded(
            attrs.evolve(
                view,
                url=self.storage.url(path, now),
                resolution="1080p",
                completed=self._epoch + task.upgrade_ready,
            )
        )

    def credit(self, now: float) -> Reply:
        """`GET /api/v1/chat/credit` (live document 2.10: recorded values are decimals)."""
        self.settle(now)
        return Reply(envelope(200, "success", float(self._balance)))

    def download_url(self, body: bytes, now: float) -> Reply:
        """`POST /api/v1/common/download-url` (live document 2.10)."""
        self.settle(now)
        try:
            url = read_object(body).get("url")
        except NotAnObjectError:
            return self._shapes.problem(Problem.NOT_JSON)
        origin, path = self.storage.base_url, ""
        if isinstance(url, str) and url.startswith(origin):
            path = url.removeprefix(origin).partition("?")[0]
        file = self.storage.get(path)
        if file is None or now < file.ready:
            return self._shapes.problem(Problem.FOREIGN_URL)
        if now >= file.ready + RETENTION_SECONDS:
            return self._shapes.problem(Problem.TOO_OLD)
        return Reply(envelope(200, "success", self.storage.url(path, now, fresh=True)))

    # -- inside ------------------------------------------------------------------------------

    def _within_rate(self, now: float) -> bool:
        if self._settings.create_rate is None:
            return True
        count, window = self._settings.create_rate
        while self._creates and self._creates[0] <= now - window:
            self._creates.popleft()
        if len(self._creates) >= count:
            return False
        self._creates.append(now)
        return True

    def _start(self, order: Order, price: int, now: float) -> _Task:
        number = len(self._tasks)
        draw = (self._settings.seed, number)
        live = self._settings.dialect is Dialect.LIVE
        name = dice.digest("task", *draw)
        task_id = name[:32] if live else f"veo_task_{name[:12]}"
        seed = order.seed if order.seed is not None else dice.integer(*SEED_RANGE, "seed", *draw)
        ready = now + self._generation_seconds(order, *draw)
        if STUCK_MARKER in order.prompt:
            ready = math.inf
        finish = 0 if ready == math.inf else int(self._epoch + ready)
        task = _Task(
            id=task_id,
            order=order,
            seed=seed,
            created=now,
            ready=ready,
            failure=failure_for(order.prompt),
            charge=self._pay(task_id, "generate", price, order, now),
            path=f"/v/{task_id}_{finish}.mp4" if live else f"/videos/{task_id}.mp4",
        )
        self._tasks[task_id] = task
        if task.failure is None and ready < math.inf:
            self._store(task, task.path, order.resolution, ready)
            if order.resolution != "720p":
                task.origin_path = f"/v/{task_id}_{finish}_origin.mp4"
                self._store(task, task.origin_path, "720p", ready)
        heapq.heappush(self._finishing, (ready, number, task))
        if self._idle_since_create is not None:
            self._idle += self._idle_since_create
        self._idle_since_create = 0.0
        self._running += 1
        self._peak = max(self._peak, self._running)
        return task

    def _refuse_upgrade(self, task: _Task, query: Mapping[str, str], now: float) -> Reply | None:
        if self._settings.dialect is Dialect.LIVE and query.get("index", "0") != "0":
            return self._shapes.problem(Problem.INVALID, "index must be 0: there is one video")
        state = task.state(now)
        if state is State.GENERATING:
            return self._shapes.problem(Problem.BASE_RUNNING)
        if state is not State.SUCCESS:
            return self._shapes.problem(Problem.BASE_FAILED)
        price = UPGRADE_PRICES[self._settings.dialect]
        if task.upgrade_path is None and price > self._balance:
            return self._shapes.problem(Problem.NO_CREDITS)
        return None

    def _convert(self, task: _Task, now: float) -> str:
        low, high = bounds(self._settings.upgrade_seconds)
        ready = now + dice.between(low, high, "upgrade", self._settings.seed, task.id)
        live = self._settings.dialect is Dialect.LIVE
        name = f"/p/{dice.digest('upgrade', task.id)[:32]}_{int(self._epoch + ready)}.mp4"
        path = name if live else f"/videos/{task.id}_1080p.mp4"
        task.upgrade_path, task.upgrade_ready = path, ready
        self._pay(task.id, "1080p", UPGRADE_PRICES[self._settings.dialect], task.order, now)
        self._store(task, path, "1080p", ready)
        return path

    def _generation_seconds(self, order: Order, *draw: object) -> float:
        given = self._settings.generation_seconds
        low, high = bounds(GENERATION_SECONDS[order.model] if given is None else given)
        return dice.between(low, high, "generation", *draw)

    def _store(self, task: _Task, path: str, resolution: str, ready: float) -> None:
        order = task.order
        width, height = self._settings.clip or FRAME_SIZES[resolution]
        if order.shape == "9:16":
            width, height = height, width
        size = self._settings.video_bytes
        content = (
            order.prompt,
            order.model,
            order.generation_type,
            order.image_urls,
            order.watermark,
            task.seed,
        )
        footage = Footage(
            width=width,
            height=height,
            seconds=float(order.duration),
            seed=int(dice.digest("content", *content, resolution)[:15], 16),
            size=FILE_BYTES[resolution] if size is None else size,
        )
        self.storage.add(
            StoredFile(
                path=path, task_id=task.id, prompt=order.prompt, footage=footage, ready=ready
            )
        )

    def _pay(self, task_id: str, kind: str, price: int, order: Order, now: float) -> int:
        self._balance -= price
        self._charges.append(
            Charge(
                task_id=task_id,
                kind=kind,
                credits=price,
                prompt=order.prompt,
                model=order.model,
                at=now,
            )
        )
        return len(self._charges) - 1

    def _refund(self, task: _Task) -> None:
        charge = self._charges[task.charge]
        self._charges[task.charge] = attrs.evolve(charge, refunded=True)
        self._balance += charge.credits

    def _find(self, query: Mapping[str, str], now: float) -> _Task | Reply:
        self.settle(now)
        task_id = query.get("taskId")
        if not task_id:
            return self._shapes.problem(Problem.NO_TASK_ID)
        task = self._tasks.get(task_id)
        if task is None:
            return self._shapes.problem(Problem.UNKNOWN_TASK)
        if now >= task.created + RETENTION_SECONDS:
            return self._shapes.problem(Problem.TOO_OLD)
        return task

    def _view(self, task: _Task, now: float) -> TaskView:
        state = task.state(now)
        success, over = state is State.SUCCESS, state is not State.GENERATING
        origin = task.origin_path
        return TaskView(
            task_id=task.id,
            order=task.order,
            state=state,
            seed=task.seed,
            resolution=task.order.resolution,
            created=self._epoch + task.created,
            completed=self._epoch + task.ready if over else None,
            url=self.storage.url(task.path, now) if success else None,
            origin_url=self.storage.url(origin, now) if success and origin is not None else None,
            failure=task.failure if over else None,
            credits=self._charges[task.charge].credits,
        )

    def _count_idle(self, now: float) -> None:
        """Add up unused slot time; it counts once a later create proves there was work."""
        if self._idle_since_create is not None and now > self._settled:
            free = self._settings.max_tasks - self._running
            self._idle_since_create += free * (now - self._settled)
        self._settled = max(self._settled, now)
