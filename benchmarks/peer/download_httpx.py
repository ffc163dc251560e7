"""httpx's stream, written to a file on the loop."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import download_measured
import httpx


@asynccontextmanager
async def client(task: download_measured.Task) -> AsyncGenerator[download_measured.Fetch]:
    """Give what fetches."""
    async with httpx.AsyncClient(verify=task.context or True) as session:

        async def fetch(size: int, target: Path) -> None:
            async with session.stream("GET", task.url(size)) as response:
                with target.open("wb") as file:
                    async for piece in response.aiter_bytes():
                        file.write(piece)

        yield fetch


if __name__ == "__main__":
    download_measured.main(client)
