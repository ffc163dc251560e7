"""google-genai's download of a file, to a path."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import download_measured
from google import genai
from google.genai import types


@asynccontextmanager
async def client(task: download_measured.Task) -> AsyncGenerator[download_measured.Fetch]:
    """Give what fetches."""
    trust = {} if task.context is None else {"ssl": task.context}
    options = types.HttpOptions(base_url=task.base, async_client_args=trust)
    async with genai.Client(api_key="key", http_options=options).aio as service:

        async def fetch(size: int, target: Path) -> None:
            await service.files.download(file=f"files/{size}", destination=target)

        yield fetch


if __name__ == "__main__":
    download_measured.main(client)
