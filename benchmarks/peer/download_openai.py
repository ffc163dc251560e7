"""openai's SDK: its streaming helper, or the video's whole body, as its guide has it."""

import warnings
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import download_measured
from openai import AsyncOpenAI, DefaultAsyncHttpxClient

warnings.simplefilter("ignore")  # it says that the service behind this call will end


@asynccontextmanager
async def client(task: download_measured.Task) -> AsyncGenerator[download_measured.Fetch]:
    """Give what fetches."""
    verify = task.context or True
    async with AsyncOpenAI(
        api_key="key", base_url=task.base, http_client=DefaultAsyncHttpxClient(verify=verify)
    ) as service:
        videos = service.videos

        async def stream(size: int, target: Path) -> None:
            async with videos.with_streaming_response.download_content(str(size)) as response:
                await response.stream_to_file(target)

        async def whole(size: int, target: Path) -> None:
            content = await videos.download_content(str(size))
            content.write_to_file(target)

        yield whole if task.way == "whole" else stream


if __name__ == "__main__":
    download_measured.main(client)
