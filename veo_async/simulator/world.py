"""What the shells share: the service, its clock, the script of faults, and the books."""

import threading
from collections import Counter
from collections.abc import Iterable
from types import MappingProxyType

from veo_async.simulator.clock import Clock
from veo_async.simulator.faults import Fault, Faults
from veo_async.simulator.records import Delivery, Endpoint, Leak, Ledger, Post
from veo_async.simulator.service import Service
from veo_async.simulator.settings import Settings


class World:
    """One simulated account.

    `lock` guards `service` and `faults`: programs under test read the ledger from threads of
    their own.
    """

    def __init__(self, settings: Settings, *, time_scale: float, faults: Iterable[Fault]) -> None:
        self.settings: Settings = settings
        self.clock: Clock = Clock(time_scale)
        self.service: Service = Service(settings)
        self.faults: Faults = Faults(faults, seed=settings.seed)
        self.lock: threading.RLock = threading.RLock()
        self.api_url: str = ""
        self.posts: list[Post] = []
        self.leaks: list[Leak] = []
        self.deliveries: list[Delivery] = []
        self._requests: Counter[Endpoint] = Counter()

    @property
    def files_url(self) -> str:
        """Origin of the file host."""
        return self.service.storage.base_url

    def count(self, endpoint: Endpoint) -> None:
        """Note a request."""
        with self.lock:
            self._requests[endpoint] += 1

    def target(self, url: str) -> str:
        """Fill the origins into the URL of a redirect fault."""
        return url.replace("{api}", self.api_url).replace("{files}", self.files_url)

    def ledger(self) -> Ledger:
        """Return the books as they are now."""
        with self.lock:
            self.service.settle(self.clock.now())
            return Ledger(
                charges=self.service.charges,
                balance=self.service.balance,
                posts=tuple(self.posts),
                requests=MappingProxyType(
                    {endpoint.value: self._requests[endpoint] for endpoint in Endpoint}
                ),
                running=self.service.running,
                peak_running=self.service.peak_running,
                idle_slot_seconds=self.service.idle_slot_seconds,
                leaks=tuple(self.leaks),
                deliveries=tuple(self.deliveries),
            )
