"""A web application that embeds a client, in a process of its own, for whoever sends it a SIGTERM.

Run as a program: `app_child aiohttp|uvicorn BASE_URL KEY FOLDER SECONDS_TO_CLOSE`. It makes ten
videos, says `ready`, and on a line of stdin begins ten downloads and ten submits at once.
"""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvicorn
from aiohttp import web

from veo_async import PollPolicy, RetryPolicy, Timeouts, VeoClient

COUNT = 10


@asynccontextmanager
async def embedded() -> AsyncIterator[None]:
    """Open the client as a lifespan does, begin the work, and close it in the end."""
    _, _, base_url, key, folder, close = sys.argv
    veo = VeoClient(
        key,
        base_url=base_url,
        poll=PollPolicy(interval=0.05),
        retry=RetryPolicy(base=0.01, cap=0.1),
        timeouts=Timeouts(close=float(close)),
        pace=None,
        max_downloads=COUNT,
    )
    work = asyncio.create_task(_work(veo, Path(folder)))
    try:
        yield
    finally:
        await veo.aclose()
        await asyncio.wait({work})
        logging.getLogger("app").warning("the application is closed")


async def _work(veo: VeoClient, folder: Path) -> None:
    async with asyncio.TaskGroup() as group:
        made = [group.create_task(veo.generate(f"old {n}")) for n in range(COUNT)]
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.readline)
    work: list[asyncio.Task[object]] = []
    for n, task in enumerate(made):
        work.append(asyncio.create_task(veo.download(task.result(), folder / f"{n}.mp4")))
        work.append(asyncio.create_task(_submitted(veo, f"new {n}")))
    await asyncio.wait(work)
    for task in work:
        logging.getLogger("app").warning("ended with %s", type(task.exception()).__name__)


async def _submitted(veo: VeoClient, prompt: str) -> None:
    task = await veo.submit(prompt)
    await task


def aiohttp_app() -> None:
    async def context(app: web.Application) -> AsyncIterator[None]:
        async with embedded():
            yield

    app = web.Application()
    app.cleanup_ctx.append(context)
    web.run_app(app, host="127.0.0.1", port=0, print=None)


def uvicorn_app() -> None:
    async def app(
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[dict[str, Any]]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        assert scope["type"] == "lifespan"
        await receive()
        async with embedded():
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    uvicorn.run(app, host="127.0.0.1", port=0, log_level="warning")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    {"aiohttp": aiohttp_app, "uvicorn": uvicorn_app}[sys.argv[1]]()
