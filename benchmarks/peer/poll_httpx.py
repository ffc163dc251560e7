"""httpx: a GET, and its JSON."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx
import poll_measured

PATH = "/api/v1/veo/record-info"


@asynccontextmanager
async def client(base: str, task: str) -> AsyncGenerator[poll_measured.Poll]:
    """Give what polls."""
    headers = {"Authorization": f"Bearer {poll_measured.KEY}"}
    async with httpx.AsyncClient(base_url=base, headers=headers) as session:

        async def poll() -> object:
            response = await session.get(PATH, params={"taskId": task})
            return response.json()

        yield poll


if __name__ == "__main__":
    poll_measured.main(client)
