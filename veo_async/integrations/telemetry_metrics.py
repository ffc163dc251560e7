"""Events as OpenTelemetry metrics, and clients' statistics as what is observed at each export."""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from threading import Lock
from typing import Final
from weakref import WeakMethod

import attrs
from opentelemetry.metrics import CallbackOptions, Meter, Observation

from veo_async.events import (
    CallbackReceived,
    ClientClosed,
    ClientStarted,
    DownloadFinished,
    Event,
    LimiterLost,
    RequestFinished,
    RetryScheduled,
    SubmitFailed,
    SubmitQueued,
    SubmitStarted,
    SubmitWithdrawn,
    TaskEnded,
)
from veo_async.integrations.telemetry_traces import (
    failure_of,
    generation_attributes,
    request_attributes,
    server_attributes,
)
from veo_async.models import TaskStatus
from veo_async.prices import DEARER
from veo_async.protocol import codec
from veo_async.request import PaidRequest
from veo_async.settings import Statistics

__all__: list[str] = []

# Semantic conventions, HTTP metrics: advice for http.client.request.duration.
_HTTP_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
# Semantic conventions, generative AI: the advice ends at 82 s, and a video takes minutes, so it
# goes on in the same steps up to the longest plausible age of a task.
_GENERATION_SECONDS: Final = tuple(0.01 * 2**step for step in range(19))
_TRANSFER_SECONDS: Final = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1200)


@attrs.define
class _Generation:
    """A generation under way."""

    request: PaidRequest
    queued_at: float


@attrs.frozen
class _Client:
    """A client that runs, which this does not keep alive."""

    base_url: str
    statistics: Callable[[], Callable[[], Statistics] | None]


class Metrics:
    """The instruments. One of them may serve clients in several threads."""

    def __init__(self, meter: Meter) -> None:
        self._lock = Lock()
        self._generations: dict[str, _Generation] = {}
        self._clients: list[_Client] = []
        self._bytes_of_closed: Counter[str] = Counter()
        self._http = meter.create_histogram(
            "http.client.request.duration",
            "s",
            "Duration of HTTP client requests.",
            explicit_bucket_boundaries_advisory=_HTTP_SECONDS,
        )
        self._operation = meter.create_histogram(
            "gen_ai.client.operation.duration",
            "s",
            "GenAI operation duration.",
            explicit_bucket_boundaries_advisory=_GENERATION_SECONDS,
        )
        self._slot_wait = meter.create_histogram(
            "veo.client.slots.wait.duration",
            "s",
            "Time that submits waited for a slot.",
            explicit_bucket_boundaries_advisory=_GENERATION_SECONDS,
        )
        self._transfer = meter.create_histogram(
            "veo.client.download.duration",
            "s",
            "Time from the call of a download to its whole file.",
            explicit_bucket_boundaries_advisory=_TRANSFER_SECONDS,
        )
        self._retries = meter.create_counter(
            "veo.client.retries", "{retry}", "Calls repeated after failures that may pass."
        )
        self._credits = meter.create_counter(
            "veo.client.credits", "{credit}", "Credits that ended tasks cost."
        )
        self._callbacks = meter.create_counter(
            "veo.client.callbacks", "{callback}", "Callbacks about known tasks."
        )
        self._outages = meter.create_counter(
            "veo.client.limiter.outages", "{outage}", "Times at which slots could not be counted."
        )
        self._observe(meter)

    def _observe(self, meter: Meter) -> None:
        gauges: list[tuple[str, str, str, Callable[[Statistics], int]]] = [
            (
                "slots.in_use",
                "{slot}",
                "Slots reserved or occupied, all users of a shared limiter together.",
                lambda now: now.slots_in_use,
            ),
            ("slots.waiting", "{submit}", "Submits that wait.", lambda now: now.slots_waiting),
            ("slots.total", "{slot}", "Tasks that may run at once.", lambda now: now.slots_total),
            ("tasks.watched", "{task}", "Tasks being polled.", lambda now: now.tasks_watched),
            (
                "downloads.active",
                "{file}",
                "Files being fetched.",
                lambda now: now.downloads_active,
            ),
            (
                "downloads.waiting",
                "{file}",
                "Files waiting for their turn.",
                lambda now: now.downloads_waiting,
            ),
        ]
        for name, unit, description, read in gauges:
            meter.create_observable_gauge(
                f"veo.client.{name}", [self._observing(read)], unit, description
            )
        meter.create_observable_counter(
            "veo.client.download.bytes",
            [self._observing(lambda now: now.bytes_downloaded, self._bytes_of_closed)],
            "By",
            "Bytes of videos that arrived.",
        )

    def _observing(
        self, read: Callable[[Statistics], int], base: Counter[str] | None = None
    ) -> Callable[[CallbackOptions], Iterable[Observation]]:
        """Return a callback, which runs in the exporter's thread."""

        def observe(_: CallbackOptions) -> Iterable[Observation]:
            with self._lock:
                sums = Counter({} if base is None else base)
                clients = [*self._clients]
            for client in clients:
                statistics = client.statistics()
                if statistics is not None:
                    sums[client.base_url] += read(statistics())
            return [Observation(value, server_attributes(url)) for url, value in sums.items()]

        return observe

    def take(self, event: Event) -> None:
        """Take an event of a client."""
        match event:
            case SubmitQueued() | SubmitStarted() | SubmitFailed() | SubmitWithdrawn():
                self._submit(event)
            case TaskEnded():
                self._ended(event)
            case RequestFinished():
                self._http.record(event.seconds, request_attributes(event))
            case RetryScheduled():
                self._retries.add(1, {"veo.call": event.call, "error.type": event.error_type})
            case DownloadFinished():
                self._transfer.record(event.download.seconds)
            case CallbackReceived():
                self._callbacks.add(1)
            case LimiterLost():
                self._outages.add(1)
            case ClientStarted() | ClientClosed():
                self._client(event)
            case _:
                pass

    def _client(self, event: ClientStarted | ClientClosed) -> None:
        with self._lock:
            if isinstance(event, ClientStarted):
                self._clients.append(_Client(event.base_url, WeakMethod(event.statistics)))
                return
            self._clients = [
                client
                for client in self._clients
                if client.statistics() not in {None, event.statistics}
            ]
            self._bytes_of_closed[event.base_url] += event.statistics().bytes_downloaded

    def _submit(self, event: SubmitQueued | SubmitStarted | SubmitFailed | SubmitWithdrawn) -> None:
        now = time.monotonic()
        match event:
            case SubmitQueued():
                self._generations[event.key] = _Generation(event.request, now)
            case SubmitStarted():
                generation = self._generations.get(event.key)
                if generation is not None:
                    self._slot_wait.record(now - generation.queued_at)
            case SubmitFailed():
                self._over(self._generations.pop(event.key, None), event.error_type)
            case SubmitWithdrawn():
                self._generations.pop(event.key, None)

    def _ended(self, event: TaskEnded) -> None:
        generation = self._generations.pop(event.key, None)
        if generation is None:
            return
        self._over(generation, failure_of(event))
        record = event.record
        told = None if record is None else codec.credits_of(record)
        if told is None and record is not None and record.status is TaskStatus.FAILED:
            told = 0  # live document 2.12, unless the service says what it took
        cost = DEARER.of(generation.request) if told is None else told
        self._credits.add(
            cost,
            {
                "gen_ai.request.model": str(generation.request.model),
                "veo.credits.source": "price list" if told is None else "service",
            },
        )

    def _over(self, generation: _Generation | None, error_type: str | None) -> None:
        if generation is None:
            return
        attributes = generation_attributes(generation.request)
        if error_type is not None:
            attributes["error.type"] = error_type
        self._operation.record(time.monotonic() - generation.queued_at, attributes)
