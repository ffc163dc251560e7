"""google-genai: the operation of a video."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import poll_measured
from google import genai
from google.genai import types


@asynccontextmanager
async def client(base: str, task: str) -> AsyncGenerator[poll_measured.Poll]:
    """Give what polls."""
    name = f"models/veo-3.1-generate-preview/operations/{task}"
    operation = types.GenerateVideosOperation(name=name)
    options = types.HttpOptions(base_url=base)
    async with genai.Client(api_key=poll_measured.KEY, http_options=options).aio as service:

        async def poll() -> object:
            return await service.operations.get(operation)

        yield poll


if __name__ == "__main__":
    poll_measured.main(client)
