"""A thousand videos as a plain loop makes them: submit, poll, download, ten at once.

Reads a job from stdin, and prints when each end was seen and each file was whole, as JSON.
"""

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp

CREATE = "/api/v1/veo/generate"
RECORD = "/api/v1/veo/record-info"


async def make(
    session: aiohttp.ClientSession, slots: asyncio.Semaphore, job: dict[str, Any], prompt: str
) -> tuple[str, float, float, int]:
    """Make one video; return its task, when its end was seen and its file whole, and the polls."""
    polls = 0
    async with slots:
        order = {"prompt": prompt, "model": "veo3_fast"}
        async with session.post(job["url"] + CREATE, json=order) as answer:
            task = (await answer.json())["data"]["taskId"]
        while True:
            await asyncio.sleep(job["interval"])
            polls += 1
            async with session.get(job["url"] + RECORD, params={"taskId": task}) as answer:
                record = (await answer.json())["data"]
            if record["status"]:
                break
        seen = time.monotonic()
        # The key is of no concern to the file host.
        async with aiohttp.request("GET", record["videoUrl"]) as answer:
            body = await answer.read()
        Path(job["folder"], f"{task}.mp4").write_bytes(body)  # noqa: ASYNC240  # a plain one
        return task, seen, time.monotonic(), polls


async def main() -> None:
    """Make all."""
    job = json.loads(sys.stdin.readline())
    slots = asyncio.Semaphore(10)
    headers = {"Authorization": f"Bearer {job['key']}"}
    async with aiohttp.ClientSession(headers=headers) as session, asyncio.TaskGroup() as group:
        making = [group.create_task(make(session, slots, job, prompt)) for prompt in job["prompts"]]
    made = [one.result() for one in making]
    told = {
        "seen": {task: seen for task, seen, _, _ in made},
        "whole": {task: whole for task, _, whole, _ in made},
    }
    print(json.dumps(told))


if __name__ == "__main__":
    asyncio.run(main())
