"""A conversion to another resolution: asked for, and asked about until it is ready."""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from copy import copy
from typing import Final, TypeAlias

import attrs

from veo_async.api import NO_SUCH_PATH, Api
from veo_async.errors import (
    APIError,
    ClientClosedError,
    NotFoundError,
    SubmitUncertainError,
    TaskFailedError,
    TaskTimeoutError,
    URLExpiredError,
    VeoError,
)
from veo_async.limits import PaceGate
from veo_async.models import Resolution, Video
from veo_async.ownership import Home, OwnedTasks, finished
from veo_async.prices import Prices
from veo_async.protocol import codec, polling, remedies, retry
from veo_async.protocol.envelope import no_such_call
from veo_async.settings import UNKNOWN_ID_GRACE, PollPolicy, RetryPolicy, Timeouts

__all__: list[str] = []

_OTHERWISE: Final = "take the video as it is, or check the dialect of the client"
_log = logging.getLogger(__name__)


@attrs.frozen(kw_only=True)
class Upgrade:
    """One kind of conversion.

    Attributes:
        resolution: What comes of it.
        name: What people call it.
        price: What a price list says that it costs.
        every: Seconds between two questions for it, by a poll policy.
    """

    resolution: Resolution
    name: str
    price: Callable[[Prices], int]
    every: Callable[[PollPolicy], float]


TO_1080P: Final = Upgrade(
    resolution=Resolution.HD_1080P,
    name="1080P",
    price=lambda prices: prices.upgrade_1080p,
    every=lambda poll: poll.upgrade_every,
)
TO_4K: Final = Upgrade(
    resolution=Resolution.UHD_4K,
    name="4K",
    price=lambda prices: prices.upgrade_4k,
    every=lambda poll: poll.upgrade_4k_every,
)
UPGRADES: Final[Mapping[str, Upgrade]] = {one.resolution: one for one in (TO_1080P, TO_4K)}

_Key: TypeAlias = tuple[Resolution, str]


@attrs.define(eq=False)
class _Order:
    """A conversion that is a paid task of its own, created once.

    Attributes:
        work: Creates it; none for one of an earlier process.
        task_id: Its id, as soon as that is known.
        made_at: Loop time of its creation, if that was now.
        waiting: How many wait for its id.
        has_left: Whether the paid request has left.
    """

    work: "asyncio.Task[str] | None" = None
    task_id: str | None = None
    made_at: float = -math.inf
    waiting: int = 0
    has_left: bool = False

    async def leave(self) -> None:
        """Take note that the paid request leaves."""
        self.has_left = True


class Upgrader:
    """Asks for converted videos. The service charges once, however often it is asked."""

    def __init__(
        self,
        api: Api,
        *,
        poll: PollPolicy,
        policy: RetryPolicy,
        timeouts: Timeouts,
        gate: PaceGate,
        chance: Callable[[], float],
        owned: OwnedTasks,
        home: Home,
    ) -> None:
        self._api = api
        self._poll = poll
        self._policy = policy
        self._timeouts = timeouts
        self._gate = gate
        self._chance = chance
        self._owned = owned
        self._home = home
        self._orders: dict[_Key, _Order] = {}
        self._begun: set[_Key] = set()

    def may_be_paid(self, kind: Upgrade, task_id: str) -> bool:
        """Return whether the service may have begun, or finished, a conversion."""
        return (kind.resolution, task_id) in self._begun

    async def ready(self, kind: Upgrade, base: Video) -> Video:
        """Return the converted video once it is ready.

        Raises:
            TaskTimeoutError: It is not ready after `Timeouts.task` seconds.
            TaskFailedError: It failed, where it is a task of its own.
            SubmitUncertainError: The answer to its creation was lost, where it is such a task.
            NotFoundError: The service does not know the video, or has no such conversion.
            APIError: The service refuses to convert.
            ClientClosedError: The client was closed. Where the conversion is a task of its own that
                this client created, it bears the id of that.
        """
        try:
            if self._api.has_paid_upgrades(kind.resolution):
                return await self._paid(kind, base)
            return await self._until_ready(
                kind, base, lambda: self._api.upgrade(base, kind.resolution)
            )
        except NotFoundError as error:
            is_path = error.code == NO_SUCH_PATH and not self.may_be_paid(kind, base.task_id)
            if is_path and await self._is_known(base.task_id):
                raise no_such_call(error, f"{kind.name} upgrades", _OTHERWISE) from None
            raise

    async def renewed(self, kind: Upgrade, video: Video) -> Video:
        """Return a converted video with a fresh link. Nothing is paid for that.

        Raises:
            URLExpiredError: It cannot be had without paying again.
            VeoError: What `ready` raises.
        """
        key = (kind.resolution, video.task_id)
        is_paid = self._api.has_paid_upgrades(kind.resolution) and key not in self._orders
        if is_paid and self._known(kind, video) is None:
            raise URLExpiredError(
                f"the link to the {kind.name} video of task {video.task_id} is dead, and which task"
                " made it is not known; upgrade the video it was made from, which is paid again"
            )
        return await self.ready(kind, video)

    async def _is_known(self, task_id: str) -> bool:
        try:
            await self._api.repeated("record-info", task_id, lambda: self._api.record_info(task_id))
        except VeoError:
            return False
        return True

    async def _until_ready(
        self, kind: Upgrade, base: Video, ask: Callable[[], Awaitable[Video | None]]
    ) -> Video:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeouts.task
        key = (kind.resolution, base.task_id)
        failures = unknown = 0
        while True:
            wait = 0.0
            try:
                video = await ask()
                failures = unknown = 0
                self._begun.add(key)
            except VeoError as error:
                self._judge(key, error)
                unknown = unknown + 1 if isinstance(error, NotFoundError) else 0
                # Once it was begun, a single answer that it is unknown may be that of an edge.
                is_odd = key in self._begun and 0 < unknown < self._policy.attempts
                if not (is_odd or retry.is_transient(error)):
                    raise
                video = None
                failures += 1
                wait = self._api.wait_after(kind.resolution, base.task_id, failures, error)
            if video is not None:
                return video
            left = deadline - loop.time()
            if left <= 0:
                raise TaskTimeoutError(
                    f"the {kind.name} video of task {base.task_id} is not ready after"
                    f" {self._timeouts.task:g} s; ask for it again later, which is free",
                    task_id=base.task_id,
                )
            pause = polling.next_poll(kind.every(self._poll), wait, self._chance())
            await asyncio.sleep(min(pause, left))

    def _judge(self, key: _Key, error: VeoError) -> None:
        """Take note of what a failed question says of the money."""
        if isinstance(error, APIError) and remedies.is_refusal(error.code, error.message):
            self._begun.discard(key)  # what fails is not charged (live document 2.12)
        elif retry.taken(error) is retry.Taken.UNKNOWN:
            self._begun.add(key)

    # --- where a conversion is a paid task of its own

    async def _paid(self, kind: Upgrade, base: Video) -> Video:
        order = await self._ordered(kind, base)
        try:
            return await self._until_ready(kind, base, lambda: self._made_by(order, kind, base))
        except asyncio.CancelledError:
            if self._home.is_closed:
                raise _left(kind, base, order) from None
            raise

    async def _made_by(self, order: _Order, kind: Upgrade, base: Video) -> Video | None:
        task_id = order.task_id or ""
        try:
            record = await self._api.record_info(task_id)
            return codec.upgraded_by(record, base, kind.resolution)
        except NotFoundError:
            if asyncio.get_running_loop().time() - order.made_at >= UNKNOWN_ID_GRACE:
                raise
            return None
        except TaskFailedError:
            # A conversion that failed is not charged (live document 2.12), so that asking again may
            # create it again.
            self._forget(kind, base, order)
            raise

    async def _ordered(self, kind: Upgrade, base: Video) -> _Order:
        """Return the task that makes a conversion, created if there is none.

        All who wait for it share one. It is withdrawn with the last of them until it is paid.
        """
        key = (kind.resolution, base.task_id)
        order = self._orders.get(key)
        if order is None:
            order = self._orders[key] = self._known(kind, base) or self._started(kind, base)
        if order.work is None or order.task_id is not None:
            return order
        order.waiting += 1
        try:
            await asyncio.wait({order.work})
        except asyncio.CancelledError:
            if not (self._home.is_closed and order.has_left):
                raise
            # A client that closes waits for the answer, and whoever asks has to hear of it.
            with suppress(asyncio.CancelledError, VeoError):
                await finished(order.work)
        finally:
            order.waiting -= 1
            if not (order.waiting or order.has_left or order.work.done()):
                order.work.cancel()
                self._forget(kind, base, order)
        is_over = order.work.done() and not order.work.cancelled()
        failure = order.work.exception() if is_over else None
        if failure is not None:
            raise copy(failure)
        if not is_over or self._home.is_closed:
            raise _left(kind, base, order)
        return order

    def _known(self, kind: Upgrade, video: Video) -> _Order | None:
        """Return the task that made a converted video, in another process perhaps."""
        task_id = codec.upgrade_task(video) if video.origin == kind.resolution else None
        if task_id is None:
            return None
        self._begun.add((kind.resolution, video.task_id))
        return _Order(task_id=task_id)

    def _started(self, kind: Upgrade, base: Video) -> _Order:
        order = _Order()
        order.work = self._owned.spawn(
            self._create(order, kind, base), may_be_withdrawn=lambda: not order.has_left
        )
        return order

    def _forget(self, kind: Upgrade, base: Video, order: _Order) -> None:
        key = (kind.resolution, base.task_id)
        if self._orders.get(key) is order:  # or there is a new one already
            del self._orders[key]
            self._begun.discard(key)

    async def _create(self, order: _Order, kind: Upgrade, base: Video) -> str:
        key = (kind.resolution, base.task_id)
        try:
            task_id = await self._sent_once(order, kind, base)
        except SubmitUncertainError as error:
            # Kept, so that asking again does not pay again.
            _log.warning("%s", error, extra={"task_id": base.task_id})
            self._begun.add(key)
            raise
        except asyncio.CancelledError:
            if order.has_left:
                lost = _uncertain(kind, base, "the client was closed while it was awaited")
                _log.warning("%s", lost, extra={"task_id": base.task_id})
            raise
        except VeoError:
            self._forget(kind, base, order)
            raise
        order.task_id = task_id
        order.made_at = asyncio.get_running_loop().time()
        self._begun.add(key)
        _log.log(
            logging.INFO if order.waiting and not self._home.is_closed else logging.WARNING,
            "task %s makes the %s video of task %s",
            task_id,
            kind.name,
            base.task_id,
            extra={"task_id": task_id},
        )
        return task_id

    async def _sent_once(self, order: _Order, kind: Upgrade, base: Video) -> str:
        loop = asyncio.get_running_loop()
        started = loop.time()
        failures = 0
        while True:
            await self._gate.wait()
            try:
                return await self._api.create_upgrade(base, kind.resolution, order.leave)
            except VeoError as error:
                failures += 1
                match retry.taken(error):
                    case retry.Taken.UNKNOWN:
                        raise _uncertain(kind, base, str(error)) from error
                    case retry.Taken.NOT_SENT if failures < self._policy.attempts:
                        pass
                    case retry.Taken.TURNED_AWAY if (
                        loop.time() - started < self._policy.refused_for
                    ):
                        pass
                    case _:
                        raise
                order.has_left = False
                wait = self._api.wait_after(kind.resolution, base.task_id, failures, error)
            await asyncio.sleep(wait)


def _left(kind: Upgrade, base: Video, order: _Order) -> VeoError:
    """Return the error of a conversion that a closed client left behind."""
    if order.task_id is not None:
        return ClientClosedError(
            f"the client was closed, and the {kind.name} upgrade of task {base.task_id} goes on at"
            f" the service as task {order.task_id}, which is paid; attach to that one with"
            " veo.task(id) of an open client",
            task_id=order.task_id,
        )
    if order.has_left:
        return _uncertain(kind, base, "the client was closed while it was awaited")
    return ClientClosedError(
        "the client was closed while this was under way; use a client that is open",
        task_id=base.task_id,
    )


def _uncertain(kind: Upgrade, base: Video, reason: str) -> SubmitUncertainError:
    return SubmitUncertainError(
        f"the answer to the paid {kind.name} upgrade of task {base.task_id} was lost"
        f" ({reason.partition('; ')[0]}). It may have begun and be charged; this client does not"
        " send it again. Look for it in the account's log at https://kie.ai/logs, and attach to its"
        " id with veo.task(id), or upgrade with a new client if it is not there"
    )
