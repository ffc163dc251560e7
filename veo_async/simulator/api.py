"""The API origin: aiohttp around `Service`."""

import json
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Final, cast

import attrs
from aiohttp import web

from veo_async.simulator import intake, wire
from veo_async.simulator.faults import Fault, Hits
from veo_async.simulator.intake import Intake
from veo_async.simulator.orders import NotAnObjectError, read_job, read_object
from veo_async.simulator.problems import Problem, Refused
from veo_async.simulator.records import Dialect, Endpoint, Kind, Post, Reply
from veo_async.simulator.service import Service
from veo_async.simulator.settings import BODY_LIMIT
from veo_async.simulator.world import World

_CREATE_TASK: Final = "/api/v1/jobs/createTask"


@attrs.frozen
class _Route:
    """A call: its method, what it counts as, what it does, what it says of an unknown task."""

    method: str
    endpoint: Endpoint
    act: Callable[[Service, "_Call", float], Reply]
    unknown: Problem = Problem.UNKNOWN_TASK


@attrs.frozen
class _Call:
    """A request for a route."""

    path: str
    route: _Route
    endpoint: Endpoint
    body: bytes
    query: Mapping[str, str]
    key: str | None


# Spec: Endpoint.
_GENERATE: Final = _Route("POST", Endpoint.GENERATE, lambda to, it, now: to.generate(it.body, now))
_RECORD_INFO: Final = _Route(
    "GET",
    Endpoint.RECORD_INFO,
    lambda to, it, now: to.record_info(it.query, now),
    Problem.UNKNOWN_RECORD,
)
_UPGRADE: Final = _Route("GET", Endpoint.UPGRADE, lambda to, it, now: to.upgrade(it.query, now))

# Live document 2.10, 2.11: hosts and calls beside the video API, which answer in every dialect.
_COMMON: Final[Mapping[str, _Route]] = {
    "/api/v1/chat/credit": _Route("GET", Endpoint.CREDIT, lambda to, _, now: to.credit(now)),
}
_UPLOADS: Final = ("/api/file-stream-upload", "/api/file-base64-upload", "/api/file-url-upload")

# Live document 2.10, 2.13.
_JOBS: Final[Mapping[str, _Route]] = {
    **_COMMON,
    _CREATE_TASK: _Route("POST", Endpoint.GENERATE, lambda to, it, now: to.create(it.body, now)),
    "/api/v1/jobs/recordInfo": _Route(
        "GET",
        Endpoint.RECORD_INFO,
        lambda to, it, now: to.job_record(it.query, now),
        Problem.UNKNOWN_JOB,
    ),
    "/api/v1/common/download-url": _Route(
        "POST", Endpoint.DOWNLOAD_URL, lambda to, it, now: to.download_url(it.body, now)
    ),
}

_ROUTES: Final[Mapping[Dialect, Mapping[str, _Route]]] = {
    Dialect.SPEC: {
        **_COMMON,
        "/api/v1/veo/generate": _GENERATE,
        "/api/v1/veo/record-info": _RECORD_INFO,
        "/api/v1/veo/get-veo-3-1080-p-video": _UPGRADE,
    },
    # Live document 2.2, 2.4 to 2.7.
    Dialect.LIVE: {
        **_JOBS,
        "/api/v1/veo/generate": _GENERATE,
        "/api/v1/veo/record-info": _RECORD_INFO,
        "/api/v1/veo/get-1080p-video": _UPGRADE,
        "/api/v1/veo/get-4k-video": _Route(
            "POST", Endpoint.UPGRADE_4K, lambda to, it, now: to.upgrade_4k(it.body, now)
        ),
        "/api/v1/veo/extend": _Route(
            "POST",
            Endpoint.EXTEND,
            lambda to, it, now: to.extend(it.body, now),
            Problem.NO_ORIGINAL,
        ),
    },
    Dialect.JOBS: _JOBS,
}

_ENDPOINT_OF: Final[Mapping[Kind, Endpoint]] = {
    Kind.GENERATE: Endpoint.GENERATE,
    Kind.EXTEND: Endpoint.EXTEND,
    Kind.UPGRADE: Endpoint.UPGRADE,
    Kind.UPGRADE_4K: Endpoint.UPGRADE_4K,
}

# Live document, section 4, where it has a text for a bare code.
_TEXTS: Final[Mapping[int, str]] = {
    401: "You do not have access permissions",
    402: "The current credits are insufficient. Please top up.",
    429: "Rate limit exceeded",
    433: "The current number of points used by apiKey has exceeded the daily limit",
    455: "Service is under maintenance",
    500: "Server Error",
}


class ApiHost:
    """Answers requests to the API.

    Args:
        world: The account behind it.
        time_scale: Service seconds per real second.
    """

    def __init__(self, world: World, *, time_scale: float) -> None:
        self._world = world
        self._intake = Intake(world, time_scale=time_scale)
        self._routes = _ROUTES[world.settings.dialect]
        settings = world.settings
        self._wants_user_agent = settings.is_live and settings.requires_user_agent
        self._content_type = "application/json;charset=UTF-8" if settings.is_live else _PLAIN_JSON

    def app(self) -> web.Application:
        """Return the application to serve."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.answer)
        return app

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer one request, unless who sends it is gone before its end."""
        try:
            return await self._answer(request)
        except ConnectionError:
            return wire.reset(request)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        service, route = self._world.service, self._routes.get(request.path)
        if self._wants_user_agent and "User-Agent" not in request.headers:
            self._world.count(Endpoint.UPLOAD if request.path in _UPLOADS else _endpoint(route))
            return web.Response(status=403, text="error code: 1010")  # live document 2.1
        if request.path in _UPLOADS:
            return await self._upload(request)
        body = await wire.body(request, BODY_LIMIT)
        endpoint = _endpoint(route, body or b"")
        self._world.count(endpoint)
        if body is None:
            return self._send(service.problem(Problem.TOO_LARGE))
        key = request.headers.get("Authorization")
        if route is None:
            return self._send(service.authorize(key) or service.problem(Problem.NO_ENDPOINT))
        if request.method != route.method:
            return self._send(service.authorize(key) or service.problem(Problem.NO_METHOD))
        call = _Call(request.path, route, endpoint, body, request.query, key)
        return await self._call(request, call)

    async def _call(self, request: web.Request, call: _Call) -> web.StreamResponse:
        world = self._world
        prompt, task_id = _mentioned(call)
        with world.lock:
            known = world.service.prompt_of(task_id)
            subject = f"{prompt or known or ''} {request.path_qs}"
            hits = world.faults.draw(call.endpoint, subject)
            reply: Reply | None = None
            if hits.replacing is None or hits.replacing.takes_effect:
                reply = world.service.authorize(call.key) or call.route.act(
                    world.service, call, world.clock.now()
                )
            if call.path == _CREATE_TASK or call.endpoint in {Endpoint.GENERATE, Endpoint.EXTEND}:
                self._note(call, reply, prompt, hits)
        world.clock.poke()
        return await self._finish(
            request,
            hits,
            reply,
            _Words(
                world.service.refusal,
                world.service.problem(call.route.unknown, task_id=task_id),
                self._content_type,
            ),
        )

    async def _upload(self, request: web.Request) -> web.StreamResponse:
        """An upload; it is read before it is judged, as a sender first sends all of it."""
        world = self._world
        world.count(Endpoint.UPLOAD)
        if request.method != "POST":
            return self._send(intake.refusal(405, "Method not allowed"), _PLAIN_JSON)
        parcel = await self._intake.read(request)
        with world.lock:
            hits = world.faults.draw(Endpoint.UPLOAD, f"{parcel.name} {request.path_qs}")
        reply: Reply | None = None
        if hits.replacing is not None and not hits.replacing.takes_effect:
            self._intake.drop(parcel)
        elif world.service.is_key(request.headers.get("Authorization")):
            reply = await self._intake.keep(parcel)
        else:
            self._intake.drop(parcel)
            reply = intake.refusal(401, "Authentication failed: Invalid API Key")
        words = _Words(intake.refusal, intake.refusal(404, "Not found"), _PLAIN_JSON)
        return await self._finish(request, hits, reply, words)

    def _note(self, call: _Call, reply: Reply | None, prompt: str | None, hits: Hits) -> None:
        task_id = None if reply is None else reply.task_id
        outcome = "accepted" if task_id else "refused"
        self._world.posts.append(
            Post(
                at=self._world.clock.now(),
                outcome="unread" if reply is None else outcome,
                code=None if reply is None else reply.code,
                task_id=task_id,
                prompt=prompt,
                fault=hits.names,
                kind=call.endpoint.value,
            )
        )

    def _send(self, reply: Reply, content_type: str | None = None) -> web.Response:
        headers = {"Content-Type": content_type or self._content_type}
        if reply.retry_after is not None:
            headers["Retry-After"] = f"{reply.retry_after:g}"
        return web.Response(body=_dump(reply), status=reply.http, headers=headers)

    # -- spoiled answers ---------------------------------------------------------------------

    async def _finish(
        self, request: web.Request, hits: Hits, reply: Reply | None, words: "_Words"
    ) -> web.StreamResponse:
        """Send the answer, late or spoiled if a fault has it so."""
        if hits.delay:
            await self._world.clock.sleep(hits.delay)
        fault = hits.replacing
        if fault is None:
            return self._send(reply or words.unknown, words.content_type)
        return await self._spoil(request, fault, reply or Reply({"code": 200}), words)

    async def _spoil(
        self, request: web.Request, fault: Fault, reply: Reply, words: "_Words"
    ) -> web.StreamResponse:
        flood = _FLOODS.get(fault.kind)
        if flood is not None:
            return await flood(request, int(fault.number), _dump(reply))
        match fault.kind:
            case "hang":
                return await wire.hang(request, self._world.clock)
            case "lose_answer" | "reset_before":
                return wire.reset(request)
            case "html":
                return wire.page(fault)
            case "redirect":
                return wire.elsewhere(fault, self._world.target(str(fault.value)))
            case _:
                return self._misleading(fault, reply, words)

    def _misleading(self, fault: Fault, reply: Reply, words: "_Words") -> web.Response:
        match fault.kind:
            case "unknown":
                return self._send(words.unknown, words.content_type)
            case "status":
                return self._status(fault, words)
            case _:
                return _broken(fault, reply, words)

    def _status(self, fault: Fault, words: "_Words") -> web.Response:
        code = int(fault.number)
        reply = words.refusal(code, fault.text or _text_of(code))
        # What fails before the service looks at a request has the HTTP status for it.
        http = code if code in _AT_THE_DOOR else reply.http
        after = reply.retry_after if fault.retry_after is None else fault.retry_after
        reply = attrs.evolve(reply, http=fault.http or http, retry_after=after)
        return self._send(reply, words.content_type)


@attrs.frozen
class _Words:
    """How the called host says no."""

    refusal: Callable[[int, str], Reply]
    unknown: Reply
    content_type: str


def _broken(fault: Fault, reply: Reply, words: _Words) -> web.Response:
    whole = _dump(reply)
    bodies = {
        "empty": b"",
        "garbage": (fault.text or "\x00\xff{not: json]").encode("latin-1", "replace"),
        "truncated_json": whole[: len(whole) // 2],
    }
    headers = {"Content-Type": words.content_type}
    return web.Response(status=fault.http or 200, body=bodies[fault.kind], headers=headers)


_PLAIN_JSON: Final = "application/json"
_AT_THE_DOOR: Final = frozenset({404, 405, 413})


async def _huge(request: web.Request, size: int, body: bytes) -> web.StreamResponse:
    return await wire.stream(request, wire.blanks(body, size), content_type=_PLAIN_JSON)


async def _bomb(request: web.Request, size: int, body: bytes) -> web.StreamResponse:
    pieces = wire.zipped(wire.blanks(body, size))
    return await wire.stream(request, pieces, content_type=_PLAIN_JSON, encoding="gzip")


async def _deep(request: web.Request, levels: int, _: bytes) -> web.StreamResponse:
    return await wire.stream(request, wire.brackets(levels), content_type=_PLAIN_JSON)


_FLOODS: Final[Mapping[str, Callable[[web.Request, int, bytes], Awaitable[web.StreamResponse]]]] = {
    "huge": _huge,
    "bomb": _bomb,
    "deep": _deep,
}


def _dump(reply: Reply) -> bytes:
    return json.dumps(dict(reply.body)).encode()


def _text_of(code: int) -> str:
    try:
        return _TEXTS.get(code) or HTTPStatus(code).phrase
    except ValueError:
        return f"Error {code}"


def _endpoint(route: _Route | None, body: bytes = b"") -> Endpoint:
    """Return what a request counts as: a job as the call of `/api/v1/veo` that does the same."""
    if route is None:
        return Endpoint.OTHER
    if route is not _JOBS[_CREATE_TASK]:
        return route.endpoint
    try:
        return _ENDPOINT_OF[read_job(body).kind]
    except Refused:
        return route.endpoint


def _mentioned(call: _Call) -> tuple[str | None, str]:
    """Return the prompt in a request, and the id of the task it is about."""
    try:
        fields: Mapping[str, object] = read_object(call.body) if call.body else call.query
    except NotAnObjectError:
        return None, ""
    inner = fields.get("input")
    if call.path == _CREATE_TASK and isinstance(inner, dict):
        fields = cast("Mapping[str, object]", inner)
    prompt, task_id = fields.get("prompt"), fields.get("taskId") or fields.get("task_id")
    return (
        prompt if isinstance(prompt, str) else None,
        task_id if isinstance(task_id, str) else "",
    )
