"""What stands between the callers of one process and the place where slots are counted for all.

One task does all the talking, in the loop of the callers: a caller that is cancelled cuts no
transaction and leaves nothing behind, thousands who wait are one who asks, and what could not be
told while the place was away is told when it is back.
"""

import asyncio
import logging
import os
import secrets
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import islice
from typing import Final, Protocol, TypeVar

import attrs

from veo_async.errors import LimiterError
from veo_async.limits import LimiterMember, LimiterStatistics, SlotLostError
from veo_async.ownership import uncut
from veo_async.protocol.slots import Adopted, Answer, Held, Report

__all__: list[str] = []

_T = TypeVar("_T")
_log = logging.getLogger("veo_async")

# As parts of the lease. A report every fifth keeps it alive through three that fail, and everybody
# has reported once more before silence ends.
_RENEWAL: Final = 0.2
_POLL: Final = 0.1  # of those who wait, where nobody tells them that their turn has come
_TICKET: Final = 0.3  # how long one who waits and has died holds up the others
_QUIET: Final = 0.3
_IN_TOUCH: Final = 0.7  # a lease is renewed when less than three quarters are left
_RETRY: Final = 1 / 30
_SHORTEST: Final = 0.005  # seconds between two reports that a lapse brings about
_CONFIRM_SECONDS: Final = 5.0  # an HTTP request is held up meanwhile


_KEPT: Final = True  # what becomes of a claim
_LOST: Final = False


class UnreachableError(Exception):
    """The place where slots are counted is away. It may come back."""


class Store(Protocol):
    """The place where slots are counted for all members, spoken to by one broker."""

    @property
    def name(self) -> str:
        """How people know it, without any password."""
        ...

    @property
    def glance_seconds(self) -> float | None:
        """How often to look for changes while somebody waits; None if it rings by itself."""
        ...

    @property
    def poll_seconds(self) -> float:
        """How long one who waits may do without a report, at most."""
        ...

    async def exchange(self, report: Report) -> Answer:
        """Hand in a report, all of it or nothing, and return the answer.

        Raises:
            UnreachableError: It is away; the report may have been taken all the same.
            LimiterError: It cannot be used.
        """
        ...

    async def glance(self) -> bool:
        """Return whether anything has changed since the last exchange."""
        ...

    async def aclose(self) -> None:
        """Let go of everything."""
        ...


@attrs.define(eq=False)
class _Claim:
    """A reservation that is to become an occupied slot, and who waits for that."""

    seconds: float
    done: asyncio.Future[bool]


@attrs.define(eq=False)
class _Holding:
    """A slot of this member: until when it is occupied, None while it is reserved."""

    until: float | None = None
    task: str = ""
    is_new: bool = False
    claim: _Claim | None = None


@attrs.define(eq=False)
class _Departure:
    """One who wants to leave."""

    pace: list[int]
    wait: asyncio.Future[float]


@attrs.define(eq=False)
class _Sent:
    """What was in a report, to tell it from what came up while it was under way."""

    began: float
    report: Report
    holdings: dict[str, _Holding]
    claims: dict[str, _Claim]
    told: list[asyncio.Future[None]]
    departure: _Departure | None


class Broker:
    """One member of a shared limiter, for its life in one event loop.

    Args:
        make_store: Makes the store, given this member's name and what to call when something may
            have changed.
        total: How many slots there are.
        lease: Seconds for which it is believed to live without a report.
    """

    def __init__(
        self, make_store: Callable[[str, Callable[[], None]], Store], *, total: int, lease: float
    ) -> None:
        self._member = f"{os.getpid()}-{secrets.token_hex(8)}"
        self._total = total
        self._lease = lease
        self._loop = asyncio.get_running_loop()
        self._bell = asyncio.Event()
        self._closing = asyncio.Event()
        self._store = make_store(self._member, self._bell.set)
        self._held: dict[str, _Holding] = {}
        self._lost: set[str] = set()  # reserved keys that have no slot any more
        self._wanting: dict[str, asyncio.Future[None]] = {}  # the first one came first
        self._asked: set[str] = set()  # wanted keys that the store may know
        self._released: dict[str, None] = {}
        self._orphaned: dict[str, None] = {}
        self._departing: deque[_Departure] = deque()
        self._telling: list[asyncio.Future[None]] = []
        self._in_touch_at = self._loop.time()
        self._is_away = False
        self._lost_at: float | None = None
        self._is_warned_of_total = False
        self._next_change = 0.0
        self._seen = LimiterStatistics(total=total, in_use=0, waiting=0)
        self.clients: list[LimiterMember] = []
        self._work = self._loop.create_task(self._run())
        self._work.add_done_callback(_look_at)

    # --- what callers ask for

    async def reserve(self, key: str) -> None:
        """Wait for a slot; before all others where one was lost, or could not be confirmed."""
        self._check_open()
        turn: asyncio.Future[None] = self._loop.create_future()
        self._released.pop(key, None)
        if self._is_reserved(key):
            del self._held[key]
            self._lost.add(key)
        if key in self._lost:
            self._wanting = {key: turn, **self._wanting}
        else:
            self._wanting[key] = turn
        self._bell.set()
        try:
            await turn
        except asyncio.CancelledError:
            if self._wanting.get(key) is turn:
                del self._wanting[key]
            if key in self._asked or key in self._held or key in self._lost:
                self.forget(key)  # it is, or may be, granted by now
            raise

    async def occupy(self, key: str, seconds: float, task: str = "") -> None:
        """Hold a slot; a reserved one only once it is certain that the reservation still holds.

        Raises:
            SlotLostError: It does not, or that cannot be told for now; the key holds nothing that
                may be used before it is reserved again.
            LimiterError: The slots cannot be counted.
        """
        self._check_open()
        if key in self._lost:
            raise _slot_lost()
        if self._is_reserved(key):
            await self._claim(key, seconds)
            return
        holding = self._held.get(key)
        task = task or ("" if holding is None else holding.task)
        self._released.pop(key, None)
        self._held[key] = _Holding(until=self._loop.time() + seconds, task=task, is_new=True)
        await self._told()

    def _is_reserved(self, key: str) -> bool:
        holding = self._held.get(key)
        return holding is not None and holding.until is None

    async def _claim(self, key: str, seconds: float) -> None:
        """Turn a reservation into an occupied slot.

        Raises:
            SlotLostError: That is not certain.
        """
        claim = _Claim(seconds, self._loop.create_future())
        holding = self._held[key] = _Holding(claim=claim)
        self._bell.set()
        is_kept = _LOST
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(_CONFIRM_SECONDS):
                    is_kept = await claim.done
        finally:
            if self._held.get(key) is holding:
                self._held[key] = _Holding()  # whether it is more than reserved is unknown
        if not is_kept:
            raise _slot_lost()

    async def release(self, key: str) -> None:
        """Give a slot back, now or as soon as that can be told."""
        self._check_open()
        self.forget(key)
        await self._told()

    def forget(self, key: str) -> None:
        """Give a slot back soon."""
        self._held.pop(key, None)
        self._lost.discard(key)
        self._asked.discard(key)
        self._released[key] = None
        self._bell.set()

    async def depart(self, count: int, seconds: float) -> float:
        """Leave, or return the seconds after which to ask again."""
        self._check_open()
        wait: asyncio.Future[float] = self._loop.create_future()
        self._departing.append(_Departure([count, max(1, round(seconds * 1000))], wait))
        self._bell.set()
        return await wait

    def orphan(self, keys: Iterable[str]) -> None:
        """Leave slots to whoever takes them over."""
        for key in keys:
            if self._held.pop(key, None) is not None:
                self._orphaned[key] = None
                self._bell.set()

    def statistics(self) -> LimiterStatistics:
        """Return what was last seen."""
        return attrs.evolve(self._seen, waiting=len(self._wanting))

    async def aclose(self) -> None:
        """Tell the others that this member leaves, and let go of everything."""
        self._closing.set()
        self._bell.set()
        await uncut(asyncio.wait({self._work}))

    @property
    def is_closed(self) -> bool:
        """Whether it has been closed, or its loop has ended."""
        return self._closing.is_set()

    def _check_open(self) -> None:
        if self._closing.is_set():
            raise _closed()

    async def _told(self) -> None:
        """Wait for the next report; not while it is known that it cannot be handed in."""
        self._bell.set()
        if not self._is_away:
            told: asyncio.Future[None] = self._loop.create_future()
            self._telling.append(told)
            await told

    # --- the one who talks

    async def _run(self) -> None:
        try:
            while not self._closing.is_set():
                await self._exchange()
                if self._is_away:
                    await self._pause(self._lease * _RETRY)
                else:
                    await self._rest()
            self._fail(_closed())
            if not self._is_away:
                await self._exchange(is_leaving=True)
        finally:
            self._closing.set()
            self._fail(_closed())
            await self._store.aclose()

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._closing.wait()
        except TimeoutError:
            pass

    async def _rest(self) -> None:
        """Wait until there is something to tell, something has changed, or it is time to report."""
        seconds = self._lease * _RENEWAL
        if self._wanting:
            poll = min(self._lease * _POLL, self._store.poll_seconds)
            seconds = min(poll, max(self._next_change, _SHORTEST))
        deadline = self._loop.time() + seconds
        while (left := deadline - self._loop.time()) > 0:
            glances = self._store.glance_seconds
            if glances is not None and not self._wanting:  # somebody may leave a task behind
                glances = self._store.poll_seconds if self.clients else None
            try:
                async with asyncio.timeout(left if glances is None else min(left, glances)):
                    await self._bell.wait()
                    return
            except TimeoutError:
                if glances is not None and await self._store.glance():
                    return

    async def _exchange(self, *, is_leaving: bool = False) -> None:
        self._bell.clear()
        sent = self._report(is_leaving=is_leaving)
        try:
            self._take(sent, await self._store.exchange(sent.report))
        except UnreachableError as error:
            self._take_outage(error)
        except LimiterError as error:
            self._is_away = True  # so that it is tried again, though not at once
            self._fail(error)
        except Exception as error:  # noqa: BLE001  # whatever it is, nobody may wait for ever
            self._is_away = True
            self._fail(LimiterError(f"the limiter failed ({error!r}); mend it and submit again"))
        finally:
            for told in sent.told:
                _settle(told, None)

    def _report(self, *, is_leaving: bool) -> _Sent:
        now = self._loop.time()
        for key, holding in [*self._held.items()]:
            if holding.until is not None and holding.until <= now:
                del self._held[key]  # it has lapsed there, too
        while self._departing and self._departing[0].wait.done():
            self._departing.popleft()
        departure = self._departing[0] if self._departing else None
        told, self._telling = self._telling, []
        report = Report(
            member=self._member,
            total=self._total,
            lease_ms=_ms(self._lease),
            ticket_ms=_ms(self._lease * _TICKET),
            quiet_ms=_ms(self._lease * _QUIET),
            is_leaving=is_leaving,
            is_in_touch=now - self._in_touch_at < self._lease * _IN_TOUCH,
            adopts=bool(self.clients),
            held=[_held(key, holding, now) for key, holding in self._held.items()],
            released=[*self._released],
            orphaned=[*self._orphaned],
            wanted=[*islice(self._wanting, self._total)],
            pace=[] if departure is None else departure.pace,
        )
        self._asked.update(report["wanted"])
        claims = {key: one.claim for key, one in self._held.items() if one.claim is not None}
        return _Sent(now, report, {**self._held}, claims, told, departure)

    def _take_outage(self, error: UnreachableError) -> None:
        if not self._is_away:
            _log.warning(
                "%s cannot be reached (%s): nothing is submitted until it is back; tasks and"
                " downloads go on",
                self._store.name,
                error,
            )
            self._lost_at = self._loop.time()
            for client in self.clients:
                client.lost(f"{self._store.name} cannot be reached ({error})")
        self._is_away = True
        for told in self._telling:  # it is remembered, which is all that can be done
            _settle(told, None)
        for holding in self._held.values():
            if holding.claim is not None:
                _settle(holding.claim.done, _LOST)
        self._telling.clear()

    def _end_outage(self) -> None:
        if self._is_away:
            _log.warning("%s can be used again", self._store.name)
        self._is_away = False
        if self._lost_at is not None:
            seconds, self._lost_at = self._loop.time() - self._lost_at, None
            for client in self.clients:
                client.restored(seconds)

    def _take(self, sent: _Sent, answer: Answer) -> None:
        self._end_outage()
        self._in_touch_at = sent.began
        self._next_change = answer["next"] / 1000
        self._seen = LimiterStatistics(total=answer["total"], in_use=answer["in_use"], waiting=0)
        self._warn_of_total(answer["total"])
        for key in sent.report["released"]:
            self._released.pop(key, None)
        for key in sent.report["orphaned"]:
            self._orphaned.pop(key, None)
        self._take_losses(sent, {*answer["lost"]})
        for key in answer["granted"]:
            turn = self._wanting.pop(key, None)
            if turn is None:
                self._released[key] = None  # who wanted it has left
            else:
                self._asked.discard(key)
                self._lost.discard(key)
                self._held[key] = _Holding()
                _settle(turn, None)
        for adopted in answer["adopted"]:
            self._adopt(adopted)
        if sent.departure is not None and answer["wait"] >= 0:
            _settle(sent.departure.wait, answer["wait"] / 1000)
        more_wanted = answer["granted"] and self._wanting
        if more_wanted or self._released or self._orphaned or len(self._departing) > 1:
            self._bell.set()

    def _take_losses(self, sent: _Sent, lost: set[str]) -> None:
        for key, holding in sent.holdings.items():
            if self._held.get(key) is not holding:
                continue  # it is another matter by now
            claim = sent.claims.get(key)
            if key in lost:
                del self._held[key]
                self._lost.add(key)
                if claim is not None:
                    _settle(claim.done, _LOST)
            elif claim is not None:
                self._held[key] = _Holding(until=sent.began + claim.seconds)
                _settle(claim.done, _KEPT)
            else:
                holding.is_new = False

    def _adopt(self, adopted: Adopted) -> None:
        key, task = adopted["key"], adopted["task"]
        self._held[key] = _Holding(until=self._loop.time() + adopted["left"] / 1000, task=task)
        if not self.clients:
            self.orphan([key])
            return
        _log.info("task %s lost its holder, and is watched here from now on", task)
        try:
            self.clients[0].adopt(task, key, adopted["age"] / 1000)
        except Exception:  # noqa: BLE001  # the next task is another matter
            _log.exception("task %s could not be taken over; its slot lapses by itself", task)

    def _warn_of_total(self, total: int) -> None:
        if total < self._total and not self._is_warned_of_total:
            _log.warning(
                "%s: another member counts on %d slots, this one on %d; the lower number holds"
                " while it lives, so give all of them the same total=",
                self._store.name,
                total,
                self._total,
            )
        self._is_warned_of_total = total < self._total

    def _fail(self, error: LimiterError) -> None:
        """Tell everyone who waits that it is in vain."""
        waiting: list[asyncio.Future[None]] = [*self._wanting.values(), *self._telling]
        for turn in waiting:
            if not turn.done():
                turn.set_exception(LimiterError(*error.args))
        self._wanting.clear()
        self._telling.clear()
        for departure in self._departing:
            if not departure.wait.done():
                departure.wait.set_exception(LimiterError(*error.args))
        self._departing.clear()
        for holding in self._held.values():
            if holding.claim is not None and not holding.claim.done.done():
                holding.claim.done.set_exception(LimiterError(*error.args))
                holding.claim = None


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def _held(key: str, holding: _Holding, now: float) -> Held:
    claim = holding.claim
    ms = 0 if holding.until is None else _ms(holding.until - now)
    return Held(
        key=key,
        ms=ms if claim is None else _ms(claim.seconds),
        task=holding.task,
        # An earlier claim of the key may have been taken without an answer.
        is_new=holding.is_new or claim is not None,
        is_claim=claim is not None,
    )


def _settle(future: asyncio.Future[_T], value: _T) -> None:
    if not future.done():
        future.set_result(value)


def _look_at(work: asyncio.Task[None]) -> None:
    if not work.cancelled() and (error := work.exception()) is not None:
        _log.error("a shared limiter could not be closed: %r", error)


def _slot_lost() -> SlotLostError:
    return SlotLostError("the reserved slot is no longer certain; reserve it again, then occupy it")


def _closed() -> LimiterError:
    return LimiterError("the limiter was closed; use it with a client that is open")
