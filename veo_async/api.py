"""The API, one coroutine per endpoint: encode, send, read. Calls that cost nothing are repeated."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from veo_async.errors import APIError, NotFoundError, VeoError
from veo_async.events import Emitter, RetryScheduled
from veo_async.models import TaskRecord, Video, VideoRequest
from veo_async.protocol import codec, dialect, retry
from veo_async.settings import RetryPolicy

if TYPE_CHECKING:
    from veo_async.transport import Leaving, Transport

__all__: list[str] = []

NO_SUCH_PATH = 404  # in the envelope or as the HTTP status: the live document leaves it open

_T = TypeVar("_T")
_log = logging.getLogger("veo_async")


class Api:
    """The endpoints of the service, through one transport."""

    def __init__(
        self,
        transport: "Transport",
        *,
        policy: RetryPolicy,
        chance: Callable[[], float],
        emitter: Emitter,
    ) -> None:
        self.retries: int = 0
        self._transport = transport
        self._policy = policy
        self._chance = chance
        self._emitter = emitter
        self._upgrade_path: str | None = None

    async def generate(self, request: VideoRequest, leaving: "Leaving") -> str:
        """Create a paid task with one single request, and return its id.

        Args:
            request: What to make.
            leaving: Awaited just before the first byte leaves.

        Raises:
            VeoError: `retry.taken` says what it means for the task.
        """
        call = codec.encode_generate(request)
        return codec.read_generate(await self._transport.call_once(call, leaving))

    async def record_info(self, task_id: str) -> TaskRecord:
        """Ask for a task, once.

        Raises:
            APIError: The service does not know it, or did not answer the question.
            TransportError: No answer came.
        """
        response = await self._transport.call(codec.encode_record_info(task_id))
        return codec.read_record_info(response, task_id)

    async def upgrade_1080p(self, base: Video) -> Video | None:
        """Ask for a task's 1080P video, once; None while it is not ready.

        The spec's path and the live one differ. The one that answered is remembered.

        Raises:
            APIError: The service refuses to convert, or did not answer the question.
            TransportError: No answer came.
        """
        if self._upgrade_path is not None:
            return await self._upgrade_at(self._upgrade_path, base)
        spec, live = dialect.UPGRADE_1080P_PATHS
        try:
            video = await self._upgrade_at(spec, base)
        except NotFoundError as error:
            if error.code != NO_SUCH_PATH:
                raise
            video = await self._upgrade_at(live, base)
            self._upgrade_path = live
        else:
            self._upgrade_path = spec
        return video

    async def _upgrade_at(self, path: str, base: Video) -> Video | None:
        response = await self._transport.call(codec.encode_upgrade_1080p(base.task_id, path))
        return codec.read_upgrade(response, base, "1080p")

    async def repeated(
        self, name: str, task_id: str | None, call: Callable[[], Awaitable[_T]]
    ) -> _T:
        """Return what a free call answers, repeated while its failures may pass.

        Raises:
            VeoError: What the last try raised.
        """
        failures = 0
        while True:
            try:
                return await call()
            except VeoError as error:
                failures += 1
                if failures >= self._policy.attempts or not retry.is_transient(error):
                    raise
                wait = self.wait_after(name, task_id, failures, error)
            await asyncio.sleep(wait)

    def wait_after(self, name: str, task_id: str | None, failures: int, error: VeoError) -> float:
        """Return the seconds to wait before the next try, and tell about it."""
        asked = error.retry_after if isinstance(error, APIError) else None
        wait = retry.delay(self._policy, failures, asked, self._chance())
        self.retries += 1
        about = "a new task" if task_id is None else f"task {task_id}"
        _log.info("%s of %s failed (%s); again in %.1f s", name, about, error, wait)
        self._emitter.emit(
            RetryScheduled(
                call=name, task_id=task_id, attempt=failures, delay=wait, error=str(error)
            )
        )
        return wait
