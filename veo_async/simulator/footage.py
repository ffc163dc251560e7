"""Rendered files: made off the loop, once, and kept while there is room."""

import asyncio
import hashlib
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

import attrs

from veo_async.simulator._jpeg import render_jpeg
from veo_async.simulator.media import render_mp4
from veo_async.simulator.records import Footage

_CACHE_BYTES = 256 << 20
"""Enough for 80 clips of 3 MB."""


@attrs.frozen
class Clip:
    """The bytes of a file and their strong entity tag."""

    body: bytes
    etag: str


class Projector:
    """Renders footage in a thread of its own and remembers it.

    Used from the serving loop only.

    Args:
        room: Bytes to keep; what falls out is rendered again, byte for byte.
    """

    def __init__(self, *, room: int = _CACHE_BYTES) -> None:
        self._room = room
        self._clips: OrderedDict[Footage, Clip] = OrderedDict()
        self._bytes = 0
        self._rendering: dict[Footage, asyncio.Future[Clip]] = {}
        self._thread: ThreadPoolExecutor | None = None

    def open(self) -> None:
        """Start the rendering thread."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="veo-simulator-render")

    def close(self) -> None:
        """End the thread, after the clip it is at."""
        if self._thread is not None:
            self._thread.shutdown(wait=True, cancel_futures=True)
            self._thread = None

    async def clip(self, footage: Footage) -> Clip:
        """Return the clip of `footage`; equal footage has equal bytes."""
        known = self._clips.get(footage)
        if known is not None:
            self._clips.move_to_end(footage)
            return known
        rendering = self._rendering.get(footage)
        if rendering is None:
            loop = asyncio.get_running_loop()
            rendering = loop.run_in_executor(self._thread, _render, footage)
            self._rendering[footage] = rendering
            rendering.add_done_callback(lambda done: self._keep(footage, done))
        return await asyncio.shield(rendering)

    def _keep(self, footage: Footage, done: "asyncio.Future[Clip]") -> None:
        del self._rendering[footage]
        if done.cancelled() or done.exception() is not None:
            return
        clip = done.result()
        self._clips[footage] = clip
        self._bytes += len(clip.body)
        while self._bytes > self._room and len(self._clips) > 1:
            _, oldest = self._clips.popitem(last=False)
            self._bytes -= len(oldest.body)


def _render(footage: Footage) -> Clip:
    if footage.seconds:
        body = render_mp4(
            width=footage.width,
            height=footage.height,
            seconds=footage.seconds,
            seed=footage.seed,
            size=footage.size,
        )
    else:
        body = render_jpeg(width=footage.width, height=footage.height, seed=footage.seed)
    return Clip(body, f'"{hashlib.sha256(body).hexdigest()}"')
