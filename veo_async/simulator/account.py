"""Money, the rate of creates and the running tasks of one account."""

from collections import deque
from decimal import Decimal

import attrs

from veo_async.simulator.records import Charge, Kind
from veo_async.simulator.settings import Settings


class Account:
    """What the account has, owes and keeps busy.

    Attributes:
        balance: Credits left.
        running: Tasks being generated, as of the last call.
        peak_running: The most there ever were at once.
        idle_slot_seconds: Unused slot time between the first and the last accepted create.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._charges: list[Charge] = []
        self._creates: deque[float] = deque()
        self._settled = 0.0
        self._idle_since_create: float | None = None
        self.balance: Decimal = Decimal(str(settings.credits))
        self.running: int = 0
        self.peak_running: int = 0
        self.idle_slot_seconds: float = 0.0

    @property
    def charges(self) -> tuple[Charge, ...]:
        """Every payment so far."""
        return tuple(self._charges)

    @property
    def is_busy(self) -> bool:
        """True while no further task may start."""
        return self.running >= self._settings.max_tasks

    def within_rate(self, now: float) -> bool:
        """Count a create, unless it is one too many: such a one is dropped and does not count."""
        if self._settings.create_rate is None:
            return True
        count, window = self._settings.create_rate
        while self._creates and self._creates[0] <= now - window:
            self._creates.popleft()
        if len(self._creates) >= count:
            return False
        self._creates.append(now)
        return True

    def pay(
        self, task_id: str, kind: Kind, price: int, *, prompt: str, model: str, now: float
    ) -> int:
        """Book a payment; return its number."""
        self.balance -= price
        self._charges.append(
            Charge(
                task_id=task_id,
                kind=kind.value,
                credits=price,
                prompt=prompt,
                model=model,
                at=now,
            )
        )
        return len(self._charges) - 1

    def charge(self, number: int) -> Charge:
        """Return a payment."""
        return self._charges[number]

    def refund(self, number: int) -> None:
        """Give a payment back."""
        charge = self._charges[number]
        self._charges[number] = attrs.evolve(charge, refunded=True)
        self.balance += charge.credits

    def occupy(self) -> None:
        """Start a task; the time up to now is settled."""
        if self._idle_since_create is not None:
            self.idle_slot_seconds += self._idle_since_create
        self._idle_since_create = 0.0
        self.running += 1
        self.peak_running = max(self.peak_running, self.running)

    def free(self) -> None:
        """End a task; the time up to its end is settled."""
        self.running -= 1

    def settle(self, now: float) -> None:
        """Add up unused slot time; it counts once a later create proves there was work."""
        if self._idle_since_create is not None and now > self._settled:
            free = self._settings.max_tasks - self.running
            self._idle_since_create += free * (now - self._settled)
        self._settled = max(self._settled, now)
