"""A real browser, told what to do over its own protocol."""

# ruff: noqa: ASYNC220, ASYNC240  # tests may start processes and look at the disk

import asyncio
import base64
import contextlib
import itertools
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp

PATIENCE: Final = 60  # seconds for anything that would hang otherwise


class Page:
    """The browser's one page."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        async with asyncio.timeout(PATIENCE):
            while (answer := await self._socket.receive_json()).get("id") != number:
                pass  # an event of the browser's
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    async def go(self, url: str) -> None:
        """Open an address, and wait until it is there."""
        async with asyncio.timeout(PATIENCE):
            await self.call("Page.navigate", url=url)
            there = f"return location.href === '{url}' && document.readyState === 'complete';"
            while True:
                with contextlib.suppress(AssertionError):  # the page that is being left
                    if await self.run(there):
                        return
                await asyncio.sleep(0.02)

    async def run(self, script: str) -> Any:
        """Return what an async function's body returns in the page."""
        answer = await self.call(
            "Runtime.evaluate",
            expression=f"(async () => {{ {script} }})()",
            awaitPromise=True,
            returnByValue=True,
            userGesture=True,
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def screenshot(self) -> bytes:
        return base64.b64decode((await self.call("Page.captureScreenshot"))["data"])


@asynccontextmanager
async def browsing(program: str, folder: Path, url: str) -> AsyncIterator[Page]:
    """Open a page in a browser of its own."""
    child = subprocess.Popen(
        [
            *(program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"),
            *("--no-first-run", "--disable-background-networking", "--disable-sync"),
            *("--disable-component-update", f"--user-data-dir={folder}", "--window-size=1280,800"),
            *("--remote-debugging-port=0", "--remote-allow-origins=*"),
            "about:blank",
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        async with aiohttp.ClientSession() as session:
            async with asyncio.timeout(PATIENCE):
                address = await _page_of(folder / "DevToolsActivePort", session)
            async with session.ws_connect(address, max_msg_size=0) as socket:
                page = Page(socket)
                await page.go(url)
                yield page
    finally:
        child.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(timeout=10)
        child.kill()
        child.wait()


async def _page_of(note: Path, session: aiohttp.ClientSession) -> str:
    while True:
        with contextlib.suppress(OSError, IndexError, aiohttp.ClientError):
            port = note.read_text().splitlines()[0]
            async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                for target in await answer.json():
                    if target["type"] == "page":
                        return str(target["webSocketDebuggerUrl"])
        await asyncio.sleep(0.05)
