"""A file server in a process of its own, so that its CPU is not counted. Prints its address."""

import asyncio
import sys
from pathlib import Path

CHUNK = 1024 * 1024


async def answer(path: Path, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer every request with the whole file, over one connection."""
    size = path.stat().st_size  # noqa: ASYNC240  # nothing else runs in this process
    head = (
        'HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\nETag: "bench"\r\n'
        f"Content-Length: {size}\r\n\r\n"
    )
    while await reader.readuntil(b"\r\n\r\n"):
        writer.write(head.encode())
        await writer.drain()
        with path.open("rb") as file:
            await asyncio.get_running_loop().sendfile(writer.transport, file)


async def main(path: Path) -> None:
    """Serve one file until the parent ends this process."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await answer(path, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    print(f"http://{host}:{port}/video.mp4", flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
