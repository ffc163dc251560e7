"""Receivers of callbacks on real servers, and what is sent to them."""

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import uvicorn
from aiohttp import web

from veo_async import WebhookReceiver


@asynccontextmanager
async def on_aiohttp(receiver: WebhookReceiver) -> AsyncGenerator[str]:
    """Serve a receiver with aiohttp.web in the running loop; the prefix of its URLs."""
    app = web.Application()
    app.router.add_route("*", "/hooks/{token}", receiver.handle)
    app.router.add_route("*", "/hooks", receiver.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/hooks"
    finally:
        await runner.cleanup()


@contextmanager
def on_uvicorn(receiver: Any) -> Generator[str]:
    """Serve a receiver, or an application that holds one, with uvicorn in a thread of its own."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    config = uvicorn.Config(
        receiver, log_config=None, access_log=False, timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    started = threading.Event()

    async def serve() -> None:
        await server.serve(sockets=[listener])

    def run() -> None:
        loop = asyncio.new_event_loop()
        loop.call_soon(started.set)
        with contextlib.closing(loop):
            loop.run_until_complete(serve())

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert started.wait(20)
        while not server.started:
            threading.Event().wait(0.005)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/hooks"
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()


def flat(task_id: str) -> bytes:
    """Return a callback as the spec has it."""
    return json.dumps(
        {"taskId": task_id, "status": 1, "videoUrl": "https://evil.example/x"}
    ).encode()


def enveloped(task_id: str) -> bytes:
    """Return a callback as the live document has it."""
    data = {"taskId": task_id, "info": {"resultUrls": ["https://evil.example/x"]}}
    return json.dumps({"code": 200, "msg": "success", "data": data}).encode()


async def post(
    session: Any, url: str, body: bytes, headers: Mapping[str, str] | None = None
) -> int:
    """Send a callback; return the status of the answer."""
    told = {"Content-Type": "application/json", **(headers or {})}
    async with session.post(url, data=body, headers=told) as answer:
        await answer.read()
        status: int = answer.status
        return status
