"""Traces and metrics of a client through the OpenTelemetry API (the extra `otel`)."""

from typing import TYPE_CHECKING

from veo_async._version import __version__
from veo_async.errors import ConfigurationError
from veo_async.events import Event

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

__all__ = ["OpenTelemetryObserver"]


class OpenTelemetryObserver:
    """Turns the events of clients into spans and metrics; give it as `on_event`.

    One of them may serve many clients, and stand beside other observers:
    `VeoClient(on_event=[mine, OpenTelemetryObserver()])`.

    A generation is a span from its submit to its end, a child of the span that is current where it
    is submitted; the paid request and the download are its children. Requests to the API are
    measured by the conventions for HTTP clients, generations by those for generative AI. The key,
    the tokens in callback URLs, links and their queries are never part of it.

    Args:
        tracer_provider: Where spans go; the global one when not given.
        meter_provider: Where metrics go; the global one when not given.
        capture_content: Whether prompts, and the service's words about failures, which may quote
            them, are told as well.

    Raises:
        ConfigurationError: The OpenTelemetry API is not installed.
    """

    def __init__(
        self,
        *,
        tracer_provider: "TracerProvider | None" = None,
        meter_provider: "MeterProvider | None" = None,
        capture_content: bool = False,
    ) -> None:
        try:
            from opentelemetry import metrics, trace  # noqa: PLC0415  # of an extra

            from veo_async.integrations.telemetry_metrics import Metrics  # noqa: PLC0415
            from veo_async.integrations.telemetry_traces import Traces  # noqa: PLC0415
        except ImportError as error:
            raise ConfigurationError(
                "OpenTelemetryObserver needs the OpenTelemetry API; install it with"
                ' pip install "veo-async[otel]"'
            ) from error

        tracer = trace.get_tracer("veo_async", __version__, tracer_provider)
        meter = metrics.get_meter("veo_async", __version__, meter_provider)
        self._traces = Traces(tracer, shows_content=capture_content)
        self._metrics = Metrics(meter)

    def __call__(self, event: Event, /) -> None:
        """Take an event of a client."""
        # First the metrics, which read the current span, then the spans, which may end it.
        self._metrics.take(event)
        self._traces.take(event)
