"""The API, one coroutine per endpoint: encode, send, read. Calls that cost nothing are repeated."""

import asyncio
import itertools
import logging
import secrets
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from veo_async.errors import APIError, NotFoundError, VeoError
from veo_async.events import Emitter, RequestFinished, RetryScheduled
from veo_async.models import TaskRecord, Video
from veo_async.protocol import codec, dialect, retry
from veo_async.protocol.http import HttpRequest, HttpResponse
from veo_async.request import PaidRequest
from veo_async.settings import SHOWN_OF_KEYS, RetryPolicy

if TYPE_CHECKING:
    from veo_async.transport import Leaving, Transport

__all__: list[str] = []

NO_SUCH_PATH = 404  # in the envelope or as the HTTP status: the live document leaves it open

_T = TypeVar("_T")
_log = logging.getLogger(__name__)


class Api:
    """The endpoints of the service, through one transport."""

    def __init__(
        self,
        transport: "Transport",
        *,
        base_url: str,
        policy: RetryPolicy,
        chance: Callable[[], float],
        emitter: Emitter,
    ) -> None:
        self.retries: int = 0
        self._transport = transport
        self._base_url = base_url
        self._policy = policy
        self._chance = chance
        self._emitter = emitter
        self._name = secrets.token_hex(4)
        self._serials = itertools.count(1)
        self._upgrade_path: str | None = None

    async def generate(
        self, request: PaidRequest, leaving: "Leaving", *, key: str | None = None
    ) -> str:
        """Create a paid task with one single request, and return its id.

        Args:
            request: What to make.
            leaving: Awaited just before the first byte leaves.
            key: What names the submit.

        Raises:
            VeoError: `retry.taken` says what it means for the task.
        """
        call = codec.encode_create(request)
        return await self._asked(call, codec.read_generate, key=key, leaving=leaving)

    async def record_info(self, task_id: str) -> TaskRecord:
        """Ask for a task, once.

        Raises:
            APIError: The service does not know it, or did not answer the question.
            TransportError: No answer came.
        """
        call = codec.encode_record_info(task_id)
        return await self._asked(
            call, lambda response: codec.read_record_info(response, task_id), task_id=task_id
        )

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
        call = codec.encode_upgrade_1080p(base.task_id, path)
        return await self._asked(
            call, lambda response: codec.read_upgrade(response, base, "1080p"), task_id=base.task_id
        )

    async def _asked(
        self,
        call: HttpRequest,
        read: Callable[[HttpResponse], _T],
        *,
        task_id: str | None = None,
        key: str | None = None,
        leaving: "Leaving | None" = None,
    ) -> _T:
        """Send a request, read its answer, and tell of both under one name.

        Raises:
            VeoError: No answer came, or it was a refusal. It bears the request's name.
        """
        request_id = f"{self._name}-{next(self._serials)}"
        began = asyncio.get_running_loop().time()
        response: HttpResponse | None = None
        error_type: str | None = None
        try:
            if leaving is None:
                response = await self._transport.call(call)
            else:
                response = await self._transport.call_once(call, leaving)
            return read(response)
        except BaseException as error:
            error_type = type(error).__name__
            if isinstance(error, VeoError):
                error.request_id = request_id
            raise
        finally:
            if self._emitter.is_heard or _log.isEnabledFor(logging.DEBUG):
                self._tell(
                    RequestFinished(
                        request_id=request_id,
                        base_url=self._base_url,
                        method=call.method,
                        path=call.path,
                        task_id=task_id,
                        key=key,
                        status=None if response is None else response.status,
                        seconds=asyncio.get_running_loop().time() - began,
                        error_type=error_type,
                        service_id=None if response is None else response.service_id,
                    )
                )

    def _tell(self, event: RequestFinished) -> None:
        if _log.isEnabledFor(logging.DEBUG):
            outcome = [str(event.status)] if event.status is not None else []
            outcome += [event.error_type] if event.error_type is not None else []
            theirs = "" if event.service_id is None else f", there {event.service_id}"
            _log.debug(
                "request %s%s: %s %s of %s: %s in %.3f s",
                event.request_id,
                theirs,
                event.method,
                event.path,
                "a new task" if event.task_id is None else f"task {event.task_id}",
                " ".join(outcome),
                event.seconds,
                extra={
                    "request_id": event.request_id,
                    "task_id": event.task_id,
                    "key": shown(event.key),
                },
            )
        self._emitter.emit(event)

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
        _log.info(
            "%s of %s failed%s (%s); again in %.1f s",
            name,
            about,
            "" if error.request_id is None else f" in request {error.request_id}",
            error,
            wait,
            extra={"request_id": error.request_id, "task_id": task_id},
        )
        self._emitter.emit(
            RetryScheduled(
                call=name,
                task_id=task_id,
                attempt=failures,
                delay=wait,
                error=str(error),
                error_type=type(error).__name__,
            )
        )
        return wait


def shown(key: str | None) -> str | None:
    """Return as much of a submit's key as may be logged: it may be the token in a callback URL."""
    return None if key is None else key[:SHOWN_OF_KEYS]
