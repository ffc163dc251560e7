"""openai's SDK: a video job, as its own helper for polling asks for it."""

import warnings
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import poll_measured
from openai import AsyncOpenAI

warnings.simplefilter("ignore")  # it says that the service behind this call will end


@asynccontextmanager
async def client(base: str, task: str) -> AsyncGenerator[poll_measured.Poll]:
    """Give what polls."""
    async with AsyncOpenAI(api_key=poll_measured.KEY, base_url=base) as service:

        async def poll() -> object:
            return await service.videos.retrieve(task)

        yield poll


if __name__ == "__main__":
    poll_measured.main(client)
