"""replicate: a prediction, over httpx."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import poll_measured
from replicate.client import Client


@asynccontextmanager
async def client(base: str, task: str) -> AsyncGenerator[poll_measured.Poll]:
    """Give what polls."""
    service = Client(api_token=poll_measured.KEY, base_url=base)

    async def poll() -> object:
        return await service.predictions.async_get(task)

    yield poll


if __name__ == "__main__":
    poll_measured.main(client)
