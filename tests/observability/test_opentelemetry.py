"""Spans and metrics, as the SDK exports them, of a client at work with the simulator."""

import asyncio
import contextvars
import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import attrs
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes, url_attributes
from opentelemetry.semconv._incubating.metrics import gen_ai_metrics
from opentelemetry.semconv.attributes import error_attributes, http_attributes, server_attributes
from opentelemetry.semconv.attributes import url_attributes as stable_url
from opentelemetry.semconv.metrics import http_metrics
from opentelemetry.trace import SpanKind, StatusCode

from veo_async import (
    OpenTelemetryObserver,
    SubmitUncertainError,
    TaskFailedError,
    ValidationError,
    VeoClient,
)

pytestmark = pytest.mark.anyio

SLOW = {"generation_seconds": 10_000}


@attrs.define
class Watch:
    """What the SDK has of a client."""

    observer: OpenTelemetryObserver
    tracers: TracerProvider
    spans_out: InMemorySpanExporter
    reader: InMemoryMetricReader

    @property
    def app(self) -> Any:
        return self.tracers.get_tracer("the application")

    def spans(self, start: str = "") -> list[ReadableSpan]:
        return [s for s in self.spans_out.get_finished_spans() if s.name.startswith(start)]

    def points(self) -> dict[str, list[Any]]:
        data = self.reader.get_metrics_data()
        found: dict[str, list[Any]] = {}
        for resource in data.resource_metrics if data else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    found[metric.name] = [*metric.data.data_points]
        return found

    def units(self) -> Mapping[str, str]:
        data = self.reader.get_metrics_data()
        return {
            metric.name: metric.unit
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def sum_of(self, name: str) -> float:
        return sum(point.value for point in self.points().get(name, ()))


def make(**options: Any) -> Watch:
    spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    meters = MeterProvider([reader], shutdown_on_exit=False)
    observer = OpenTelemetryObserver(tracer_provider=tracers, meter_provider=meters, **options)
    return Watch(observer, tracers, spans, reader)


@pytest.fixture
def watch() -> Watch:
    return make()


def parent(span: ReadableSpan) -> int | None:
    return None if span.parent is None else span.parent.span_id


def id_of(span: ReadableSpan) -> int:
    return span.get_span_context().span_id


async def test_a_generation_is_a_span_of_the_callers_and_has_children(world, watch, tmp_path):
    async with world(on_event=watch.observer) as w:
        with watch.app.start_as_current_span("the caller"):
            video = await w.veo.generate("a prompt", seed=12345, aspect_ratio="9:16")
            await w.veo.download(video, tmp_path / "x.mp4")
    (caller,), (generation,) = watch.spans("the caller"), watch.spans("generate_content")
    (post,), (download,) = watch.spans("POST"), watch.spans("veo.download")
    assert parent(generation) == id_of(caller)
    assert parent(post) == parent(download) == id_of(generation)
    assert len({span.get_span_context().trace_id for span in watch.spans()}) == 1
    assert generation.name == "generate_content veo3_fast"
    assert generation.kind is post.kind is SpanKind.CLIENT
    attributes = generation.attributes
    assert attributes["gen_ai.operation.name"] == "generate_content"
    assert attributes["gen_ai.provider.name"] == "kie.ai"
    assert attributes["gen_ai.request.model"] == "veo3_fast"
    assert attributes["gen_ai.request.seed"] == 12345
    assert attributes["gen_ai.response.id"] == video.task_id
    assert generation.status.status_code is StatusCode.UNSET
    assert generation.start_time <= post.start_time <= post.end_time <= generation.end_time
    assert post.attributes["http.response.status_code"] == 200
    assert download.attributes["veo.download.size"] == (tmp_path / "x.mp4").stat().st_size


async def test_the_callers_span_is_found_from_a_task_of_the_application(world, watch):
    """Two at once, each with a span of its own, in one client that owns the work."""
    async with world(on_event=watch.observer) as w:

        async def one(name: str) -> None:
            with watch.app.start_as_current_span(name):
                await w.veo.generate(name)

        async with asyncio.TaskGroup() as group:
            for name in ("app one", "app two"):
                group.create_task(one(name), context=contextvars.copy_context())
    callers = {id_of(span) for span in watch.spans("app ")}
    assert {parent(span) for span in watch.spans("generate_content")} == callers


async def test_a_download_in_another_trace_is_linked_to_its_generation(world, watch, tmp_path):
    async with world(on_event=watch.observer) as w:
        with watch.app.start_as_current_span("first"):
            video = await w.veo.generate("a prompt")
        with watch.app.start_as_current_span("second"):
            await w.veo.download(video, tmp_path / "x.mp4")
    (second,), (download,) = watch.spans("second"), watch.spans("veo.download")
    (generation,) = watch.spans("generate_content")
    assert parent(download) == id_of(second)
    assert [link.context.span_id for link in download.links] == [id_of(generation)]


async def test_failures_have_a_type_and_a_status(world, watch):
    faults = ["generate:lose_answer:match=lost", "generate:status=422:match=refused"]
    async with world(on_event=watch.observer, sim={"faults": faults}) as w:
        for prompt, error in (
            ("lost", SubmitUncertainError),
            ("refused", ValidationError),
            ("[fail]", TaskFailedError),
        ):
            with pytest.raises(error):
                await w.veo.generate(prompt)
    spans = watch.spans("generate_content")
    types = ["SubmitUncertainError", "ValidationError", "TaskFailedError"]
    assert [span.attributes["error.type"] for span in spans] == types
    assert {span.status.status_code for span in spans} == {StatusCode.ERROR}
    assert [span.attributes.get("veo.is_uncertain") for span in spans] == [True, False, None]
    recorded = watch.points()["gen_ai.client.operation.duration"]
    assert {point.attributes["error.type"] for point in recorded} == {*types}


async def test_a_withdrawn_submit_and_a_closed_client_leave_no_span_open(world, watch, until):
    async with world(on_event=watch.observer, max_tasks=1, sim=SLOW) as w:
        await w.veo.submit("goes on")
        waiting = asyncio.create_task(w.veo.submit("waits"))
        await until(lambda: w.veo.statistics().slots_waiting == 1)
        waiting.cancel()
        await asyncio.wait({waiting})
    withdrawn, closed = watch.spans("generate_content")
    assert withdrawn.attributes["veo.is_withdrawn"] is True
    assert closed.attributes["error.type"] == "ClientClosedError"


async def test_a_batch_is_traced_like_single_videos(world, watch, tmp_path):
    async with world(on_event=watch.observer) as w:
        with watch.app.start_as_current_span("the batch"):
            async with w.veo.batch(["one", "two", "three"], directory=tmp_path) as batch:
                assert [item.outcome async for item in batch] == ["downloaded"] * 3
    (caller,) = watch.spans("the batch")
    generations = watch.spans("generate_content")
    assert [parent(span) for span in generations] == [id_of(caller)] * 3
    downloads = watch.spans("veo.download")
    assert {parent(span) for span in downloads} == {id_of(span) for span in generations}


async def test_requests_are_measured_by_the_conventions_for_http(world, watch):
    faults = ["record-info:status=503:times=1", "record-info:reset_before:times=2:after=1"]
    async with world(on_event=watch.observer, sim={"faults": faults}) as w:
        await w.veo.generate("a prompt")
        statistics = w.veo.statistics()
        points = watch.points()["http.client.request.duration"]
        retries = watch.sum_of("veo.client.retries")
    assert sum(point.count for point in points) == statistics.requests
    assert retries == statistics.retries > 0
    errors = {
        (point.attributes.get("http.response.status_code"), point.attributes.get("error.type"))
        for point in points
    }
    assert errors == {(200, None), (503, "503"), (None, "TransportError")}
    for point in points:
        assert point.attributes["http.request.method"] in {"GET", "POST"}
        assert point.attributes["server.address"] == "127.0.0.1"
        assert point.attributes["url.template"].startswith("/api/v1/veo/")
        assert "?" not in point.attributes["url.template"]
        assert [*point.explicit_bounds][:3] == [0.005, 0.01, 0.025]
        assert [*point.explicit_bounds][-1] == 10


async def test_a_request_that_is_sent_again_says_for_which_time(world, watch):
    faults = ["generate:status=429:times=2"]
    async with world(on_event=watch.observer, sim={"faults": faults}) as w:
        await w.veo.submit("a prompt")
    posts = watch.spans("POST")
    assert [post.attributes.get("http.request.resend_count") for post in posts] == [None, 1, 2]
    assert [post.attributes.get("error.type") for post in posts] == ["429", "429", None]


async def test_slots_bytes_and_credits_are_those_of_the_client(world, watch, until, tmp_path):
    async with world(on_event=watch.observer, max_tasks=2) as w:
        videos = [await w.veo.generate(f"prompt {n}") for n in range(2)]
        sizes = [(await w.veo.download(v, tmp_path / f"{v.task_id}.mp4")).size for v in videos]
        assert watch.sum_of("veo.client.download.bytes") == sum(sizes)
        w.sim.add_fault("record-info:hang")
        for n in range(2):
            await w.veo.submit(f"busy {n}")
        waiting = asyncio.create_task(w.veo.submit("waits"))
        await until(lambda: w.veo.statistics().slots_waiting == 1)
        now = {name: watch.sum_of(f"veo.client.slots.{name}") for name in ("in_use", "waiting")}
        assert now == {"in_use": 2, "waiting": 1}
        waiting.cancel()
        await asyncio.wait({waiting})
    assert watch.sum_of("veo.client.download.bytes") == sum(sizes), "also when it is closed"
    (credits_,) = [
        point.value
        for point in watch.points()["veo.client.credits"]
        if point.attributes["veo.credits.source"] == "price list"
    ]
    assert credits_ == 4 * 70


async def test_one_observer_serves_clients_one_after_the_other(world, watch):
    for _ in range(3):
        async with world(on_event=watch.observer) as w:
            video = await w.veo.generate("a prompt")
            async with w.veo.stream(video) as body:
                async for _piece in body:
                    pass
    assert len(watch.spans("generate_content")) == 3
    assert len(watch.points()["veo.client.download.bytes"]) == 3, "a simulator, and a port, each"
    assert "veo.client.slots.in_use" not in watch.points()


@pytest.mark.parametrize("shows", [False, True])
async def test_prompts_are_told_only_where_that_was_asked_for(world, shows):
    watch = make(capture_content=shows)
    faults = ["generate:status=422:match=secret:text=the prompt about a secret boat is refused"]
    async with world(on_event=watch.observer, sim={"faults": faults}) as w:
        with pytest.raises(ValidationError):
            await w.veo.generate("a secret boat")
        await w.veo.generate("another boat")
    told = json.dumps([json.loads(span.to_json()) for span in watch.spans()])
    assert ("boat" in told) == shows
    if shows:
        messages = json.loads(watch.spans("generate")[-1].attributes["gen_ai.input.messages"])
        assert messages == [
            {"role": "user", "parts": [{"type": "text", "content": "another boat"}]}
        ]


async def test_nothing_secret_is_ever_told(world, tmp_path):
    watch = make(capture_content=True)
    faults = ["generate:lose_answer:match=lost", "video:cut_at=1000:times=1"]
    events: list[Any] = []
    async with world(
        on_event=[watch.observer, events.append],
        callback_url="http://127.0.0.1:9/hooks",
        sim={"faults": faults},
    ) as w:
        with pytest.raises(SubmitUncertainError):
            await w.veo.submit("lost")
        await w.veo.download(await w.veo.generate("good"), tmp_path / "x.mp4")
        key = w.sim.api_key
    told = json.dumps([json.loads(span.to_json()) for span in watch.spans()])
    told += watch.reader.get_metrics_data().to_json()
    tokens = {event.key for event in events if hasattr(event, "key") and event.key}
    for secret in (key, "signature=", "expires=", *tokens):
        assert secret not in told


async def test_names_are_those_of_the_conventions(world, watch, tmp_path):
    faults = ["record-info:status=503:times=1"]
    async with world(on_event=watch.observer, sim={"faults": faults}) as w:
        video = await w.veo.generate("a prompt", seed=12345)
        await w.veo.download(video, tmp_path / "x.mp4")
    known = {
        value
        for module in (
            gen_ai_attributes,
            http_attributes,
            server_attributes,
            error_attributes,
            stable_url,
            url_attributes,
        )
        for name, value in vars(module).items()
        if name.isupper() and isinstance(value, str)
    }
    used = {name for span in watch.spans() for name in span.attributes}
    for points in watch.points().values():
        used |= {name for point in points for name in point.attributes}
    assert {name for name in used if not name.startswith("veo.")} <= known
    metrics = watch.units()
    foreign = {name for name in metrics if not name.startswith("veo.client.")}
    assert foreign == {
        http_metrics.HTTP_CLIENT_REQUEST_DURATION,
        gen_ai_metrics.GEN_AI_CLIENT_OPERATION_DURATION,
    }
    assert {metrics[name] for name in foreign} == {"s"}
    assert metrics["veo.client.download.bytes"] == "By"


async def test_many_clients_leave_nothing_in_the_observer(world):
    watch = make()
    for n in range(50):
        veo = VeoClient("key", base_url=f"http://127.0.0.1:{9000 + n % 3}", on_event=watch.observer)
        async with veo:
            pass
    metrics = watch.observer._metrics
    assert metrics._clients == []
    assert len(metrics._bytes_of_closed) == 3
    assert not metrics._generations


def test_without_the_api_it_says_what_to_install():
    program = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "import veo_async\n"
        "try: veo_async.OpenTelemetryObserver()\n"
        "except veo_async.ConfigurationError as error: print(error)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert 'pip install "veo-async[otel]"' in ran.stdout, ran.stderr


def test_the_package_does_not_load_it_by_itself():
    program = "import sys, veo_async; veo_async.VeoClient; print('opentelemetry' in sys.modules)"
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert ran.stdout == "False\n", ran.stderr
