"""The API origin: aiohttp around `Service`."""

import json
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Final

import attrs
from aiohttp import web

from veo_async.simulator import wire
from veo_async.simulator.faults import Fault, Hits
from veo_async.simulator.orders import NotAnObjectError, read_object
from veo_async.simulator.records import Dialect, Endpoint, Post, Reply
from veo_async.simulator.settings import BODY_LIMIT
from veo_async.simulator.shapes import Problem
from veo_async.simulator.world import World

_ROUTES: Final[Mapping[Dialect, Mapping[str, tuple[Endpoint, str]]]] = {
    # Spec: Endpoint.
    Dialect.SPEC: {
        "/api/v1/veo/generate": (Endpoint.GENERATE, "POST"),
        "/api/v1/veo/record-info": (Endpoint.RECORD_INFO, "GET"),
        "/api/v1/veo/get-veo-3-1080-p-video": (Endpoint.UPGRADE, "GET"),
    },
    # Live document 2.2, 2.4, 2.5, 2.10.
    Dialect.LIVE: {
        "/api/v1/veo/generate": (Endpoint.GENERATE, "POST"),
        "/api/v1/veo/record-info": (Endpoint.RECORD_INFO, "GET"),
        "/api/v1/veo/get-1080p-video": (Endpoint.UPGRADE, "GET"),
        "/api/v1/chat/credit": (Endpoint.CREDIT, "GET"),
        "/api/v1/common/download-url": (Endpoint.DOWNLOAD_URL, "POST"),
    },
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
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._routes = _ROUTES[world.settings.dialect]
        live = world.settings.dialect is Dialect.LIVE
        self._content_type = "application/json;charset=UTF-8" if live else "application/json"
        self._spoilers: Mapping[
            str, Callable[[web.Request, Fault, Reply], Awaitable[web.StreamResponse]]
        ] = {
            "status": self._status,
            "unknown": self._unknown,
            "empty": self._empty,
            "garbage": self._garbage,
            "truncated_json": self._truncated,
            "huge": self._huge,
            "bomb": self._bomb,
            "deep": self._deep,
        }

    def app(self) -> web.Application:
        """Return the application to serve."""
        app = web.Application(client_max_size=BODY_LIMIT)
        app.router.add_route("*", "/{path:.*}", self.answer)
        return app

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        world = self._world
        endpoint, method = self._routes.get(request.path, (Endpoint.OTHER, ""))
        world.count(endpoint)
        if world.settings.dialect is Dialect.LIVE and "User-Agent" not in request.headers:
            return web.Response(status=403, text="error code: 1010")  # live document 2.1
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            return self._send(world.service.problem(Problem.TOO_LARGE))
        if endpoint is Endpoint.OTHER:
            return self._send(self._refuse(request, Problem.NO_ENDPOINT))
        if request.method != method:
            return self._send(self._refuse(request, Problem.NO_METHOD))
        return await self._call(request, _Call(endpoint, body, request.query))

    async def _call(self, request: web.Request, call: "_Call") -> web.StreamResponse:
        world, prompt = self._world, None
        if call.endpoint is Endpoint.GENERATE:
            prompt = _prompt_in(call.body)
        with world.lock:
            known = world.service.prompt_of(call.query.get("taskId", ""))
            subject = f"{prompt or known or ''} {request.path_qs}"
            hits = world.faults.draw(call.endpoint, subject)
            reply: Reply | None = None
            if hits.replacing is None or hits.replacing.takes_effect:
                reply = self._act(request, call, world.clock.now())
            if call.endpoint is Endpoint.GENERATE:
                self._note(reply, prompt, hits)
        world.clock.poke()
        if hits.delay:
            await world.clock.sleep(hits.delay)
        fault = hits.replacing
        if fault is None:
            return self._send(reply or world.service.problem(Problem.NO_ENDPOINT))
        return await self._spoil(request, fault, reply or Reply({"code": 200}))

    def _act(self, request: web.Request, call: "_Call", now: float) -> Reply:
        service = self._world.service
        refused = service.authorize(request.headers.get("Authorization"))
        if refused is not None:
            return refused
        match call.endpoint:
            case Endpoint.GENERATE:
                return service.generate(call.body, now)
            case Endpoint.RECORD_INFO:
                return service.record_info(call.query, now)
            case Endpoint.UPGRADE:
                return service.upgrade(call.query, now)
            case Endpoint.CREDIT:
                return service.credit(now)
            case _:
                return service.download_url(call.body, now)

    def _note(self, reply: Reply | None, prompt: str | None, hits: Hits) -> None:
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
            )
        )

    def _refuse(self, request: web.Request, problem: Problem) -> Reply:
        service = self._world.service
        refused = service.authorize(request.headers.get("Authorization"))
        return refused or service.problem(problem)

    def _send(self, reply: Reply) -> web.Response:
        headers = {"Content-Type": self._content_type}
        if reply.retry_after is not None:
            headers["Retry-After"] = f"{reply.retry_after:g}"
        return web.Response(body=_dump(reply), status=reply.http, headers=headers)

    # -- spoiled answers ---------------------------------------------------------------------

    async def _spoil(self, request: web.Request, fault: Fault, reply: Reply) -> web.StreamResponse:
        match fault.kind:
            case "hang":
                return await wire.hang(request, self._world.clock)
            case "lose_answer" | "reset_before":
                return wire.reset(request)
            case "html":
                return wire.page(fault)
            case "redirect":
                return wire.elsewhere(fault, self._world.target(str(fault.value)))
            case kind:
                return await self._spoilers[kind](request, fault, reply)

    async def _status(self, _: web.Request, fault: Fault, __: Reply) -> web.StreamResponse:
        code = int(fault.number)
        reply = self._world.service.refusal(code, fault.text or _text_of(code))
        after = reply.retry_after if fault.retry_after is None else fault.retry_after
        return self._send(attrs.evolve(reply, http=fault.http or reply.http, retry_after=after))

    async def _unknown(self, _: web.Request, __: Fault, ___: Reply) -> web.StreamResponse:
        return self._send(self._world.service.problem(Problem.UNKNOWN_TASK))

    async def _empty(self, _: web.Request, fault: Fault, __: Reply) -> web.StreamResponse:
        return web.Response(status=fault.http or 200, headers={"Content-Type": self._content_type})

    async def _garbage(self, _: web.Request, fault: Fault, __: Reply) -> web.StreamResponse:
        text = (fault.text or "\x00\xff{not: json]").encode("latin-1", "replace")
        headers = {"Content-Type": self._content_type}
        return web.Response(status=fault.http or 200, body=text, headers=headers)

    async def _truncated(self, _: web.Request, fault: Fault, reply: Reply) -> web.StreamResponse:
        body = _dump(reply)
        headers = {"Content-Type": self._content_type}
        return web.Response(status=fault.http or 200, body=body[: len(body) // 2], headers=headers)

    async def _huge(self, request: web.Request, fault: Fault, reply: Reply) -> web.StreamResponse:
        pieces = wire.blanks(_dump(reply), int(fault.number))
        return await wire.stream(request, pieces, content_type="application/json")

    async def _bomb(self, request: web.Request, fault: Fault, reply: Reply) -> web.StreamResponse:
        pieces = wire.zipped(wire.blanks(_dump(reply), int(fault.number)))
        return await wire.stream(request, pieces, content_type="application/json", encoding="gzip")

    async def _deep(self, request: web.Request, fault: Fault, _: Reply) -> web.StreamResponse:
        pieces = wire.brackets(int(fault.number))
        return await wire.stream(request, pieces, content_type="application/json")


@attrs.frozen
class _Call:
    endpoint: Endpoint
    body: bytes
    query: Mapping[str, str]


def _dump(reply: Reply) -> bytes:
    return json.dumps(dict(reply.body)).encode()


def _text_of(code: int) -> str:
    try:
        return _TEXTS.get(code) or HTTPStatus(code).phrase
    except ValueError:
        return f"Error {code}"


def _prompt_in(body: bytes) -> str | None:
    try:
        prompt = read_object(body).get("prompt")
    except NotAnObjectError:
        return None
    return prompt if isinstance(prompt, str) else None
