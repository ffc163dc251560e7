"""The API, one coroutine per endpoint: encode, send, read. Calls that cost nothing are repeated."""

import asyncio
import itertools
import logging
import secrets
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import TYPE_CHECKING, TypeVar

from veo_async.errors import APIError, NotFoundError, VeoError
from veo_async.events import Emitter, RequestFinished, RetryScheduled
from veo_async.models import Resolution, TaskRecord, Video
from veo_async.protocol import codec, dialect, retry, uploads
from veo_async.protocol.dialect import Call, Form
from veo_async.protocol.envelope import no_such_call
from veo_async.protocol.http import HttpRequest, HttpResponse
from veo_async.request import ExtendRequest, PaidRequest
from veo_async.settings import SHOWN_OF_KEYS, RetryPolicy

if TYPE_CHECKING:
    from veo_async.transport import Body, Leaving, Transport

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
        form: Form = dialect.AUTO,
    ) -> None:
        self.retries: int = 0
        self._form = form
        self._transport = transport
        self._base_url = base_url
        self._policy = policy
        self._chance = chance
        self._emitter = emitter
        self._name = secrets.token_hex(4)
        self._serials = itertools.count(1)
        self._answering: dict[Resolution, Call] = {}

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
        call = codec.encode_create(request, self._form)
        base_id = request.task_id if isinstance(request, ExtendRequest) else None
        try:
            return await self._asked(
                call,
                lambda response: codec.read_generate(response, base_id),
                key=key,
                leaving=leaving,
            )
        except NotFoundError as error:
            if error.code != NO_SUCH_PATH or isinstance(request, ExtendRequest):
                raise  # an extension's may be about the video
            raise no_such_call(
                error, "new videos", "check the base URL, and the dialect of the client"
            ) from None

    def record_info(self, task_id: str) -> Awaitable[TaskRecord]:
        """Ask for a task, once.

        Raises:
            APIError: The service does not know it, or did not answer the question.
            TransportError: No answer came.
        """
        call = codec.encode_record_info(task_id, self._form)
        # No coroutine of its own: nothing is asked as often.
        return self._asked(
            call, lambda response: codec.read_record_info(response, task_id), task_id=task_id
        )

    def has_paid_upgrades(self, resolution: Resolution) -> bool:
        """Return whether a conversion is a paid task of its own, which is created once."""
        return self._form.upgrades[resolution][0].is_paid_task

    async def upgrade(self, base: Video, resolution: Resolution) -> Video | None:
        """Ask for a task's converted video, once; None while it is not ready.

        Of several spellings, the one that answered is remembered.

        Raises:
            APIError: The service refuses to convert, or did not answer the question.
            TransportError: No answer came.
        """
        known = self._answering.get(resolution)
        *others, last = self._form.upgrades[resolution] if known is None else (known,)
        for call in others:
            try:
                return await self._upgrade_by(call, base, resolution)
            except NotFoundError as error:
                if error.code != NO_SUCH_PATH:
                    raise
        return await self._upgrade_by(last, base, resolution)

    async def _upgrade_by(self, call: Call, base: Video, resolution: Resolution) -> Video | None:
        video = await self._asked(
            codec.encode_upgrade(call, base.task_id),
            lambda response: codec.read_upgrade(response, base, resolution),
            task_id=base.task_id,
        )
        self._answering[resolution] = call
        return video

    async def create_upgrade(self, base: Video, resolution: Resolution, leaving: "Leaving") -> str:
        """Create the paid task that converts a video, with one single request; return its id.

        Args:
            base: The video.
            resolution: What it is converted to.
            leaving: Awaited just before the first byte leaves.

        Raises:
            VeoError: `retry.taken` says what it means for the task.
        """
        call = codec.encode_upgrade(self._form.upgrades[resolution][0], base.task_id)
        return await self._asked(
            call,
            lambda response: codec.read_generate(response, base.task_id),
            task_id=base.task_id,
            leaving=leaving,
        )

    async def credits(self) -> Decimal:
        """Ask for the account's balance, once.

        Raises:
            APIError: The service has no such call, or did not answer the question.
            TransportError: No answer came.
        """
        try:
            return await self._asked(codec.encode_credits(), codec.read_credits)
        except NotFoundError as error:
            raise no_such_call(error, "the balance", "look at it on the service's site") from None

    async def download_url(self, link: str, task_id: str) -> str:
        """Ask for a temporary link to a file of the service, once.

        Raises:
            APIError: The service has no such call, or gives none.
            TransportError: No answer came.
        """
        call = codec.encode_download_url(link)
        return await self._asked(call, codec.read_download_url, task_id=task_id)

    async def upload(self, call: HttpRequest, body: "Body | None" = None) -> str:
        """Upload a file, or have the service fetch one, once; return its public URL.

        Args:
            call: What is asked for.
            body: The file, for a call that sends one.

        Raises:
            VeoError: What reading the body raised.
            APIError: The service refused, or has no uploads.
            TransportError: No answer came.
        """
        return await self._asked(call, uploads.read_upload, body=body)

    async def _asked(
        self,
        call: HttpRequest,
        read: Callable[[HttpResponse], _T],
        *,
        task_id: str | None = None,
        key: str | None = None,
        leaving: "Leaving | None" = None,
        body: "Body | None" = None,
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
            if leaving is not None:
                response = await self._transport.call_once(call, leaving)
            elif body is not None:
                response = await self._transport.upload(call, body)
            else:
                response = await self._transport.call(call)
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
                        base_url=call.base_url or self._base_url,
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
                "request %s%s: %s %s%s: %s in %.3f s",
                event.request_id,
                theirs,
                event.method,
                event.path,
                _about(event.task_id, is_new=event.key is not None),
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
        about = _about(task_id, is_new=name == "generate")
        _log.info(
            "%s%s failed%s (%s); again in %.1f s",
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


def _about(task_id: str | None, *, is_new: bool) -> str:
    if task_id is not None:
        return f" of task {task_id}"
    return " of a new task" if is_new else ""


def shown(key: str | None) -> str | None:
    """Return as much of a submit's key as may be logged: it may be the token in a callback URL."""
    return None if key is None else key[:SHOWN_OF_KEYS]
