"""Events as OpenTelemetry spans: generations from submit to end, and what belongs to them."""

import json
import time
from collections.abc import Mapping
from threading import Lock
from typing import Final
from urllib.parse import urlsplit

import attrs
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode

from veo_async.events import (
    DownloadFailed,
    DownloadFinished,
    DownloadStarted,
    Event,
    RequestFinished,
    RetryScheduled,
    SubmitFailed,
    SubmitQueued,
    SubmitStarted,
    SubmitWithdrawn,
    TaskEnded,
    TaskSubmitted,
)
from veo_async.models import TaskStatus
from veo_async.request import ExtendRequest, PaidRequest

__all__: list[str] = []

Attributes = Mapping[str, str | int | float | bool]

# Semantic conventions for generative AI. The name of the operation is the one for several kinds of
# content; neither the service nor videos have a well-known value of their own.
PROVIDER: Final = "kie.ai"
OPERATION: Final = "generate_content"
OUTPUT: Final = "video"
_REMEMBERED: Final = 1000  # generations that have ended, for the downloads that follow
_SECOND: Final = 1_000_000_000  # in nanoseconds


def generation_attributes(request: PaidRequest) -> dict[str, str | int | float | bool]:
    """Return what spans and metrics of a generation have in common."""
    return {
        "gen_ai.operation.name": OPERATION,
        "gen_ai.provider.name": PROVIDER,
        "gen_ai.request.model": str(request.model),
    }


def server_attributes(base_url: str) -> dict[str, str | int | float | bool]:
    """Return where the API is, by the conventions of the field."""
    parts = urlsplit(base_url)
    port = parts.port or {"https": 443, "http": 80}.get(parts.scheme, 0)
    return {"server.address": parts.hostname or "", "server.port": port}


def request_attributes(event: RequestFinished) -> dict[str, str | int | float | bool]:
    """Return what a request to the API is, by the conventions for HTTP clients.

    The paths hold no ids, so that a path is its own template; the query is left out.
    """
    found: dict[str, str | int | float | bool] = {
        "http.request.method": event.method,
        "url.scheme": urlsplit(event.base_url).scheme,
        "url.template": event.path,
        **server_attributes(event.base_url),
    }
    if event.status is not None:
        found["http.response.status_code"] = event.status
    is_error_status = event.status is not None and event.status >= 400  # noqa: PLR2004  # RFC 9110
    if is_error_status:
        found["error.type"] = str(event.status)
    elif event.error_type is not None:  # the service refuses inside HTTP 200 as well
        found["error.type"] = event.error_type
    return found


def failure_of(event: TaskEnded) -> str | None:
    """Return the low-cardinality name of why a task has no video, None if it has one."""
    if event.error_type is not None:
        return event.error_type
    is_failed = event.record is not None and event.record.status is TaskStatus.FAILED
    return "TaskFailedError" if is_failed else None


@attrs.define
class _Generation:
    """A generation under way."""

    span: Span
    context: Context
    sends: int = 0


class Traces:
    """The spans that are open, and the contexts of those that others may be children of.

    One of them may serve clients in several threads.
    """

    def __init__(self, tracer: trace.Tracer, *, shows_content: bool) -> None:
        self._tracer = tracer
        self._shows_content = shows_content
        self._lock = Lock()
        self._generations: dict[str, _Generation] = {}
        self._of_tasks: dict[str, SpanContext] = {}
        self._downloads: dict[tuple[str, str], Span] = {}

    def take(self, event: Event) -> None:
        """Take an event of a client."""
        match event:
            case SubmitQueued():
                self._queued(event)
            case DownloadStarted() | DownloadFinished() | DownloadFailed():
                self._download(event)
            case SubmitStarted() | TaskSubmitted() | SubmitFailed() | SubmitWithdrawn():
                self._submit(event)
            case RequestFinished() if event.key is not None:
                self._request(event, event.key)
            case TaskEnded():
                self._ended(event)
            case RetryScheduled():
                self._retry(event)
            case _:
                pass

    # --- generations

    def _queued(self, event: SubmitQueued) -> None:
        # The current span is the caller's, also here in a task of the client: tasks inherit it.
        request = event.request
        span = self._tracer.start_span(
            f"{OPERATION} {request.model}",
            kind=SpanKind.CLIENT,
            attributes={
                **generation_attributes(request),
                "gen_ai.output.type": OUTPUT,
                **_options(request),
                **(_content(request) if self._shows_content else {}),
            },
        )
        with self._lock:
            self._generations[event.key] = _Generation(span, trace.set_span_in_context(span))

    def _submit(
        self, event: SubmitStarted | TaskSubmitted | SubmitFailed | SubmitWithdrawn
    ) -> None:
        if isinstance(event, SubmitFailed | SubmitWithdrawn):
            generation = self._take_out(event.key)
        else:
            generation = self._generations.get(event.key)
        if generation is None:
            return
        span = generation.span
        match event:
            case SubmitStarted():
                span.add_event("veo.slot.granted")
            case TaskSubmitted():
                span.set_attribute("gen_ai.response.id", event.task_id)
                self._remember(event.task_id, span.get_span_context())
            case SubmitFailed():
                span.set_attribute("veo.is_uncertain", event.is_uncertain)
                _fail(span, event.error_type, event.error if self._shows_content else None)
                span.end()
            case SubmitWithdrawn():
                span.set_attribute("veo.is_withdrawn", value=True)
                span.end()

    def _ended(self, event: TaskEnded) -> None:
        generation = self._take_out(event.key)
        if generation is None:
            return
        span = generation.span
        error_type = failure_of(event)
        if error_type is not None:
            record = event.record
            if record is not None and record.error_code is not None:
                span.set_attribute("veo.error_code", record.error_code)
            _fail(span, error_type, event.error if self._shows_content else None)
        span.end()

    def _take_out(self, key: str) -> _Generation | None:
        with self._lock:
            return self._generations.pop(key, None)

    def _remember(self, task_id: str, context: SpanContext) -> None:
        with self._lock:
            self._of_tasks[task_id] = context
            while len(self._of_tasks) > _REMEMBERED:
                del self._of_tasks[next(iter(self._of_tasks))]

    # --- what belongs to them

    def _request(self, event: RequestFinished, key: str) -> None:
        generation = self._generations.get(key)
        if generation is None:
            return
        attributes = {**request_attributes(event), "veo.request_id": event.request_id}
        if generation.sends:
            attributes["http.request.resend_count"] = generation.sends
        generation.sends += 1
        generation.span.set_attributes(server_attributes(event.base_url))
        now = time.time_ns()
        span = self._tracer.start_span(
            f"{event.method} {event.path}",
            context=generation.context,
            kind=SpanKind.CLIENT,
            attributes=attributes,
            start_time=now - int(event.seconds * _SECOND),
        )
        if event.error_type is not None:
            _fail(span, str(attributes["error.type"]), None)
        span.end(now)

    def _retry(self, event: RetryScheduled) -> None:
        if event.call != "download":
            return
        with self._lock:
            spans = [
                span for (task_id, _), span in self._downloads.items() if task_id == event.task_id
            ]
        for span in spans:
            span.add_event(
                "veo.retry", {"error.type": event.error_type, "veo.retry.delay": event.delay}
            )

    def _download(self, event: DownloadStarted | DownloadFinished | DownloadFailed) -> None:
        match event:
            case DownloadStarted():
                context, links = self._parent_of(event.task_id)
                span = self._tracer.start_span(
                    "veo.download",
                    context=context,
                    kind=SpanKind.CLIENT,
                    links=links,
                    attributes={"gen_ai.provider.name": PROVIDER, "veo.task_id": event.task_id},
                )
                with self._lock:
                    self._downloads[event.task_id, str(event.path)] = span
            case DownloadFinished():
                done = event.download
                found = self._finished(event.task_id, str(done.path))
                if found is not None:
                    found.set_attribute("veo.download.size", done.size)
                    found.set_attribute("veo.download.attempts", done.attempts)
                    found.end()
            case DownloadFailed():
                found = self._finished(event.task_id, str(event.path))
                if found is not None:
                    _fail(found, event.error_type, event.error if self._shows_content else None)
                    found.end()

    def _finished(self, task_id: str, path: str) -> Span | None:
        with self._lock:
            return self._downloads.pop((task_id, path), None)

    def _parent_of(self, task_id: str) -> tuple[Context | None, list[Link]]:
        """Return the context of a download, None for the current one, and what it is linked to.

        It belongs to its generation, unless it is part of another trace: another day, another user.
        """
        generation = self._of_tasks.get(task_id)
        if generation is None:
            return None, []
        current = trace.get_current_span().get_span_context()
        if current.is_valid and current.trace_id != generation.trace_id:
            return None, [Link(generation)]
        return trace.set_span_in_context(trace.NonRecordingSpan(generation)), []


def _options(request: PaidRequest) -> Attributes:
    wanted: dict[str, str | int | float | bool | None] = {
        "gen_ai.request.seed": request.seed,
    }
    if isinstance(request, ExtendRequest):
        wanted["veo.extended_task.id"] = request.task_id
    else:
        wanted |= {
            "veo.generation_type": request.generation_type,
            "veo.aspect_ratio": request.aspect_ratio,
            "veo.resolution": request.resolution,
            "veo.images": len(request.image_urls) or None,
        }
    return {
        name: str(value) if isinstance(value, str) else value
        for name, value in wanted.items()
        if value is not None
    }


def _content(request: PaidRequest) -> Attributes:
    parts = [{"type": "text", "content": request.prompt}]
    return {"gen_ai.input.messages": json.dumps([{"role": "user", "parts": parts}])}


def _fail(span: Span, error_type: str, description: str | None) -> None:
    span.set_attribute("error.type", error_type)
    span.set_status(Status(StatusCode.ERROR, description))
