"""The least that asyncio needs: a protocol with one buffer, written to a file on the loop."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import download_measured

BUFFER = 256 * 1024


class Receiver(asyncio.BufferedProtocol):
    """Receives into one buffer, also what TLS decrypts."""

    def __init__(self, target: Path) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._file = target.open("wb", buffering=0)
        self._buffer = bytearray(BUFFER)
        self._view = memoryview(self._buffer)
        self._head = b""
        self._left = -1

    def get_buffer(self, _hint: int) -> bytearray:
        """Say where the next bytes go."""
        return self._buffer

    def buffer_updated(self, count: int) -> None:
        """Write what arrived."""
        data = self._view[:count]
        if self._left < 0:
            self._head += data
            head, end, body = self._head.partition(b"\r\n\r\n")
            if not end:
                return
            self._left = int(head.lower().partition(b"content-length:")[2].split()[0])
            data = memoryview(body)
        self._left -= len(data)
        while data:
            data = data[self._file.write(data) :]
        if not self._left:
            self.done.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        """End, whole or not."""
        self._file.close()
        if not self.done.done():
            self.done.set_exception(error or EOFError())


@asynccontextmanager
async def client(task: download_measured.Task) -> AsyncGenerator[download_measured.Fetch]:
    """Give what fetches."""
    address = urlsplit(task.base)
    host, port = address.hostname or "", address.port or 0

    async def fetch(size: int, target: Path) -> None:
        transport, receiver = await asyncio.get_running_loop().create_connection(
            lambda: Receiver(target), host, port, ssl=task.context
        )
        transport.write(f"GET /{size}.mp4 HTTP/1.1\r\nHost: {address.netloc}\r\n\r\n".encode())
        try:
            await receiver.done
        finally:
            transport.abort()

    yield fetch


if __name__ == "__main__":
    download_measured.main(client)
