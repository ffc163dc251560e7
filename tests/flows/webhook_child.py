"""A process that receives callbacks, or one that runs a batch and may be killed.

`serve INBOX` serves a receiver without any client, as a web worker does. `batch JSON` runs a batch
with a receiver of its own. Both print the prefix of their URLs.
"""

import asyncio
import json
import sys
from typing import Any

from tests.flows.receivers import on_aiohttp
from veo_async import PollPolicy, Timeouts, VeoClient, WebhookReceiver


async def serve(inbox: str) -> None:
    receiver = WebhookReceiver(inbox=inbox)
    async with on_aiohttp(receiver) as prefix:
        print(prefix, flush=True)  # noqa: T201  # what its parent reads
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await receiver.aclose()


async def batch(job: dict[str, Any]) -> None:
    receiver = WebhookReceiver(inbox=job["inbox"])
    async with (
        on_aiohttp(receiver) as prefix,
        VeoClient(
            job["api_key"],
            base_url=job["base_url"],
            webhooks=receiver,
            callback_url=prefix,
            pace=None,
            poll=PollPolicy(interval=300.0, first=300.0),
            timeouts=Timeouts(response=300.0, close=2.0),
        ) as veo,
    ):
        print(prefix, flush=True)  # noqa: T201  # what its parent reads
        async with veo.batch(job["prompts"], directory=job["directory"]) as run:
            async for item in run:
                print(item.outcome, flush=True)  # noqa: T201  # what its parent reads


if __name__ == "__main__":
    work = serve(sys.argv[2]) if sys.argv[1] == "serve" else batch(json.loads(sys.argv[2]))
    asyncio.run(work)
