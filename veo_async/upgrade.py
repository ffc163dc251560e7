"""A conversion to another resolution: asked for, and asked about until it is ready."""

import asyncio
from collections.abc import Callable

from veo_async.api import Api
from veo_async.errors import TaskTimeoutError, VeoError
from veo_async.models import Video
from veo_async.protocol import polling, retry
from veo_async.settings import PollPolicy, Timeouts

__all__: list[str] = []


class Upgrader:
    """Asks for converted videos. The service charges once, however often it is asked."""

    def __init__(
        self, api: Api, *, poll: PollPolicy, timeouts: Timeouts, chance: Callable[[], float]
    ) -> None:
        self._api = api
        self._poll = poll
        self._timeouts = timeouts
        self._chance = chance

    async def ready(self, base: Video) -> Video:
        """Return the converted video once it is ready.

        Raises:
            TaskTimeoutError: It is not ready after `Timeouts.task` seconds.
            APIError: The service refuses to convert.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeouts.task
        failures = 0
        while True:
            wait = 0.0
            try:
                video = await self._api.upgrade_1080p(base)
                failures = 0
            except VeoError as error:
                if not retry.is_transient(error):
                    raise
                video = None
                failures += 1
                wait = self._api.wait_after("1080p", base.task_id, failures, error)
            if video is not None:
                return video
            left = deadline - loop.time()
            if left <= 0:
                raise TaskTimeoutError(
                    f"the 1080P video of task {base.task_id} is not ready after"
                    f" {self._timeouts.task:g} s; ask for it again later, which is free",
                    task_id=base.task_id,
                )
            pause = polling.next_poll(self._poll.upgrade_every, wait, self._chance())
            await asyncio.sleep(min(pause, left))
