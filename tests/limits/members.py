"""Processes that share a limiter, held on strings."""

import asyncio
import itertools
import json
import signal
import sys
from asyncio.subprocess import PIPE, Process
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).parents[2]


class Member:
    """One process, while inside. It must not complain, and ends by itself when it is not killed.

    Args:
        kind: `file` or `redis`.
        where: The file, or the server.
        **options: Of the limiter.
    """

    def __init__(self, kind: str, where: str, **options: Any) -> None:
        self._told = {"kind": kind, "where": str(where), "options": options}
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[Any]] = {}

    async def __aenter__(self) -> Self:
        self._process: Process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-X", "dev", "-W", "error", "-m", "tests.limits.member"),
            json.dumps(self._told),
            cwd=ROOT,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
        )
        self._hearing = asyncio.create_task(self._hear())
        self._complaints = asyncio.create_task(self._process.stderr.read())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.stdin.close()
        with suppress(BrokenPipeError, ConnectionResetError):
            await self._process.stdin.wait_closed()
        if error is not None and self._process.returncode is None:
            self._process.kill()
        try:
            async with asyncio.timeout(30):
                code = await self._process.wait()
        except TimeoutError:
            self._process.kill()
            code = await self._process.wait()
            raise
        finally:
            await self._hearing
            said = (await self._complaints).decode()
        assert error is not None or (code in {0, -signal.SIGKILL} and not said), (code, said)

    async def _hear(self) -> None:
        while line := await self._process.stdout.readline():
            number, answer = json.loads(line)
            if not self._waiting[number].done():
                self._waiting[number].set_result(answer)

    def tell(self, name: str, *arguments: Any) -> "asyncio.Future[Any]":
        """Give an order, and return what becomes of it."""
        number = next(self._numbers)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        self._process.stdin.write((json.dumps([number, name, arguments]) + "\n").encode())
        return answer

    async def kill(self) -> None:
        self._process.kill()
        await self._process.wait()

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)
