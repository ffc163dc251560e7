"""aiohttp as its users write it: in chunks, with aiofiles or on the loop, and its defaults."""

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import aiofiles
import aiohttp
import download_measured

CHUNK = 1024 * 1024


async def on_the_loop(response: aiohttp.ClientResponse, target: Path) -> None:
    """Write on the loop, and make sure that it is on the disk."""
    with target.open("wb", buffering=0) as file:
        async for piece in response.content.iter_chunked(CHUNK):
            file.write(piece)
        os.fsync(file.fileno())


async def in_threads(response: aiohttp.ClientResponse, target: Path, chunk: int) -> None:
    """Write with aiofiles."""
    async with aiofiles.open(target, "wb") as file:
        async for piece in response.content.iter_chunked(chunk):
            await file.write(piece)


@asynccontextmanager
async def client(task: download_measured.Task) -> AsyncGenerator[download_measured.Fetch]:
    """Give what fetches."""
    connector = aiohttp.TCPConnector(ssl=task.context or True)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def fetch(size: int, target: Path) -> None:
            async with session.get(task.url(size)) as response:
                if task.way == "loop":
                    await on_the_loop(response, target)
                else:
                    await in_threads(response, target, int(task.way))

        yield fetch


if __name__ == "__main__":
    download_measured.main(client)
