"""Links that have died: asked for again, in each of the ways that the service may have."""

from typing import Final

import attrs

from veo_async.api import NO_SUCH_PATH, Api
from veo_async.errors import APIError
from veo_async.models import Video
from veo_async.protocol import codec
from veo_async.upgrade import UPGRADES, Upgrader

__all__: list[str] = []

_REMEMBERED: Final = 1000  # links that are known to be dead, 1 KB each


class Renewer:
    """Renews the links of one client's videos.

    The task is asked for again, as the spec has it. The live service's links last, so that it gives
    the same one again; where that is dead, a temporary one is asked for (live document 2.10).
    """

    def __init__(self, api: Api, upgrader: Upgrader) -> None:
        self._api = api
        self._upgrader = upgrader
        self._gives_temporary = True
        self._dead: dict[str, bool] = {}  # to whether a temporary one may be had for it

    async def renewed(self, video: Video, *, is_dead: bool = False) -> Video:
        """Return a video with a fresh link.

        Args:
            video: The video.
            is_dead: Whether its link was seen not to work, rather than to be old.

        Raises:
            APIError: The service has none.
            TransportError: No answer came.
        """
        fresh = await self._asked_again(video)
        if is_dead and fresh.url == video.url:
            self._dead.setdefault(fresh.url, True)
            while len(self._dead) > _REMEMBERED:
                del self._dead[next(iter(self._dead))]
        if not (self._gives_temporary and self._dead.get(fresh.url, False)):
            return fresh
        link = await self._temporary(fresh)
        return fresh if link is None else attrs.evolve(fresh, url=link, urls=(link, *fresh.urls))

    async def _asked_again(self, video: Video) -> Video:
        kind = UPGRADES.get(video.origin)
        if kind is not None:
            return await self._upgrader.renewed(kind, video)

        async def ask() -> Video:
            # An answer without a link is one of those that may pass: the video was there before.
            return codec.video_of(await self._api.record_info(video.task_id))

        fresh = await self._api.repeated("record-info", video.task_id, ask)
        return attrs.evolve(video, url=fresh.url, urls=fresh.urls)

    async def _temporary(self, video: Video) -> str | None:
        try:
            link = await self._api.repeated(
                "download-url",
                video.task_id,
                lambda: self._api.download_url(video.url, video.task_id),
            )
        except APIError as error:
            # The live service says it of one file as well, under HTTP 200 (live document 2.10).
            if error.http_status == NO_SUCH_PATH:
                self._gives_temporary = False
            self._dead[video.url] = False
            return None
        if link == video.url:
            self._dead[video.url] = False
        return link
