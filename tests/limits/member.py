"""A process that shares a limiter with others, does what it is told, and may be killed.

Used by `members.Member`: a line of JSON per order on stdin, a line per answer on stdout.
"""

import asyncio
import json
import logging
import os
import secrets
import sys
from typing import Any

from veo_async import FileLimiter, PollPolicy, RedisLimiter, RetryPolicy, Timeouts, VeoClient
from veo_async.limits import SlotLostError


class Puppet:
    def __init__(self, kind: str, where: str, options: dict[str, Any]) -> None:
        if kind == "file":
            self.limiter: Any = FileLimiter(where, **options)
        else:
            self.limiter = RedisLimiter(where, account="test", **options)
        self.veo: VeoClient | None = None
        self.done: int = 0
        self.errors: list[str] = []
        self.churning: set[asyncio.Task[None]] = set()

    async def reserve(self, key: str) -> None:
        await self.limiter.reserve(key)

    async def occupy(self, key: str, seconds: float, task: str = "") -> None:
        while True:
            try:
                if task:
                    await self.limiter.occupy_task(key, seconds, task)
                else:
                    await self.limiter.occupy(key, seconds)
            except SlotLostError:  # as a submit does
                await self.limiter.reserve(key)
            else:
                return

    async def release(self, key: str) -> None:
        await self.limiter.release(key)

    async def statistics(self) -> list[int]:
        seen = self.limiter.statistics()
        return [seen.total, seen.in_use, seen.waiting]

    async def open(self, base_url: str, api_key: str, first: float = 0.1) -> None:
        self.veo = VeoClient(
            api_key,
            base_url=base_url,
            limiter=self.limiter,
            pace=None,
            poll=PollPolicy(interval=0.03, first=first),
            retry=RetryPolicy(base=0.005, cap=0.05),
            timeouts=Timeouts(response=5.0, stall=2.0, close=2.0),
        )
        await self.veo.__aenter__()

    async def submit(self, prompt: str) -> str:
        assert self.veo is not None
        return (await self.veo.submit(prompt)).id

    async def watched(self) -> int:
        assert self.veo is not None
        return self.veo.statistics().tasks_watched

    async def churn(self, workers: int) -> None:
        """Make videos without an end."""

        async def work() -> None:
            assert self.veo is not None
            while True:
                try:
                    await self.veo.generate(secrets.token_hex(4))
                    self.done += 1
                except Exception as error:  # noqa: BLE001  # it is counted
                    self.errors.append(repr(error))
                    await asyncio.sleep(0.1)

        for _ in range(workers):
            self.churning.add(asyncio.get_running_loop().create_task(work()))

    async def count(self) -> list[Any]:
        return [self.done, self.errors]

    async def close(self) -> None:
        for task in self.churning:
            task.cancel()
        if self.churning:
            await asyncio.wait(self.churning)
        if self.veo is not None:
            await self.veo.aclose()
        await self.limiter.aclose()


async def main() -> None:
    puppet = Puppet(**json.loads(sys.argv[1]))
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    pipe, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with asyncio.TaskGroup() as group:

        async def obey(number: int, name: str, arguments: list[Any]) -> None:
            answer = await getattr(puppet, name)(*arguments)
            os.write(1, (json.dumps([number, answer]) + "\n").encode())

        while line := await reader.readline():
            number, name, arguments = json.loads(line)
            group.create_task(obey(number, name, arguments))
    pipe.close()


if __name__ == "__main__":
    logging.getLogger("veo_async").setLevel(logging.ERROR)
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # it may be slow
    asyncio.run(main())
