"""The receiver of the service's callbacks, for ASGI servers, aiohttp.web and anything else.

A callback only wakes the poller of its task: `record-info` is the fact. Nothing but the task id is
read of it, an unknown one causes no call, and the same task is asked for at most every 5 seconds.
"""

import asyncio
import logging
import math
import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Protocol, cast

from veo_async.errors import ConfigurationError, WebhookError
from veo_async.hearing import Verdict
from veo_async.inbox import FileInbox, Inbox
from veo_async.protocol.callbacks import (
    MAX_BYTES,
    Callback,
    Headers,
    Secrets,
    check_signature,
    header,
    is_token,
    last_segment,
    read_task_id,
    too_large,
)
from veo_async.settings import CALLBACK_SECONDS, CALLBACK_TOLERANCE, REPLAYS

if TYPE_CHECKING:
    from aiohttp import web

__all__ = ["WebhookReceiver"]

_log = logging.getLogger(__name__)
_ALLOW: Final = {"Allow": "POST"}

Receive = Callable[[], Awaitable[Mapping[str, object]]]
Send = Callable[[dict[str, object]], Awaitable[None]]


class Listener(Protocol):
    """A client, as a receiver sees it."""

    @property
    def verifier(self) -> bytes:
        """What proves its tokens."""
        ...

    def judge(self, callback: Callback) -> Verdict:
        """Return what it knows of a callback, without asking anybody."""
        ...

    def hear(self, callback: Callback) -> None:
        """Take a callback that it knows."""
        ...


class WebhookReceiver:
    """Receives the service's callbacks and wakes those who wait for a task.

    It is an ASGI application, to be mounted under the path that the client's `callback_url` names,
    and has `handle` for aiohttp.web; `parse` and `accept` are for anything else. Give the same
    receiver to the clients: `VeoClient(webhooks=receiver, callback_url="https://host/prefix")`.
    Several clients, event loops and threads may share it.

    Args:
        secret: The account's `webhookHmacKey` (live document 2.9), or several while it is being
            replaced. None takes unsigned callbacks: the random token in the path is then the only
            proof that the service sent it.
        tolerance: Seconds that the time of a signature may differ from this host's clock.
        inbox: A file, or an `Inbox`, that keeps callbacks for the other workers and for the next
            run. One file serves all workers of a host. Without it, a callback reaches only the
            clients of the process that receives it, and what it missed is found by polling.

    Raises:
        ConfigurationError: A setting is impossible.
    """

    def __init__(
        self,
        secret: str | Iterable[str] | None = None,
        tolerance: float = CALLBACK_TOLERANCE,
        *,
        inbox: str | os.PathLike[str] | Inbox | None = None,
    ) -> None:
        # Wrapped first, or it would stand in the traceback of whatever is wrong.
        self._secrets = Secrets.of(secret)
        del secret
        self._secrets.check()
        if not (tolerance > 0 and math.isfinite(tolerance)):
            raise ConfigurationError(f"tolerance is {tolerance!r}; give seconds above 0")
        self._tolerance = tolerance
        self._inbox = FileInbox(inbox) if isinstance(inbox, str | os.PathLike) else inbox
        self._lock = threading.Lock()
        self._listeners: list[weakref.ref[Listener]] = []
        self._seen: OrderedDict[tuple[str, int], None] = OrderedDict()

    # --- callbacks

    def parse(self, headers: Headers, body: bytes | str, *, path: str | None = None) -> Callback:
        """Return what a callback says that may be believed, and pass it on to nobody.

        Args:
            headers: The request's headers: a mapping of texts or bytes, or pairs of bytes.
            body: The request's body.
            path: The request's path or URL, whose last segment is the token.

        Raises:
            SignatureError: It is not signed, wrongly signed, or too long ago.
            WebhookError: It is no callback. `status` is what to answer.
        """
        return self._read(headers, body, path)[0]

    def _read(
        self, headers: Headers, body: bytes | str, path: str | None
    ) -> tuple[Callback, int | None]:
        # As a list, since they are looked through more than once.
        kept = cast("Headers", headers if isinstance(headers, Mapping) else [*headers])
        task_id = read_task_id(
            body if isinstance(body, bytes) else body.encode(errors="surrogatepass")
        )
        stamp = None
        if self._secrets:
            stamp = check_signature(
                kept, task_id, self._secrets, now=_wall(), tolerance=self._tolerance
            )
        return Callback(task_id, None if path is None else last_segment(path)), stamp

    async def accept(self, callback: Callback) -> None:
        """Wake those who wait for a callback's task, in this process and through the inbox.

        Raises:
            WebhookError: Nobody knows its token or task (404), or the inbox could not keep it
                (503), so that the service should send it again.
        """
        listeners = self._present()
        verdicts = [listener.judge(callback) for listener in listeners]
        is_known = Verdict.KNOWN in verdicts and Verdict.CONTRADICTED not in verdicts
        is_new = Verdict.CONTRADICTED not in verdicts and not is_known
        inbox, token = self._inbox, callback.token
        is_proven = any(is_token(token, listener.verifier) for listener in listeners)
        if is_new and inbox is not None and token is not None:
            is_known = is_proven = await inbox.recognises(token)
        if not is_known:
            raise WebhookError("nobody waits for this callback; nothing was done", status=404)
        for listener, verdict in zip(listeners, verdicts, strict=True):
            if verdict is Verdict.KNOWN:
                listener.hear(callback)
        # For a task that was attached by its id any token is known; kept, they would fill the disk.
        if inbox is None or token is None:
            return
        if is_proven or await inbox.recognises(token):
            await inbox.put(callback)

    async def _status(self, headers: Headers, body: bytes, path: str) -> int:
        """Do what a request asks for; return the HTTP status of its answer. Never raises."""
        try:
            callback, stamp = self._read(headers, body, path)
            if stamp is None:
                await self.accept(callback)
            elif (callback.task_id, stamp) not in self._seen:
                await self.accept(callback)
                self._remember(callback.task_id, stamp)
        except WebhookError as error:
            _log.debug("a callback was answered with %d: %s", error.status, error)
            return error.status
        except Exception:  # noqa: BLE001  # the server is told nothing of it, the log is
            _log.exception("a callback could not be handled; it is answered with 500")
            return HTTPStatus.INTERNAL_SERVER_ERROR
        return HTTPStatus.OK

    def _remember(self, task_id: str, stamp: int) -> None:
        with self._lock:
            self._seen[task_id, stamp] = None
            while len(self._seen) > REPLAYS:
                self._seen.popitem(last=False)

    # --- ASGI

    async def __call__(self, scope: Mapping[str, object], receive: Receive, send: Send) -> None:
        """Answer an ASGI request (3.0); a lifespan is followed, a websocket refused."""
        match scope["type"]:
            case "http":
                await self._answer(scope, receive, send)
            case "lifespan":
                await self._live(receive, send)
            case "websocket":
                await send({"type": "websocket.close", "code": 1000})
            case _:
                pass

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            kind = str((await receive())["type"])
            if kind == "lifespan.shutdown":
                await self.aclose()
            await send({"type": f"{kind}.complete"})
            if kind == "lifespan.shutdown":
                return

    async def _answer(self, scope: Mapping[str, object], receive: Receive, send: Send) -> None:
        headers = [*cast("Iterable[tuple[bytes, bytes]]", scope["headers"])]
        is_over = False

        async def chunks() -> bytes | None:
            nonlocal is_over
            if is_over:
                return None
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ConnectionResetError
            is_over = not message.get("more_body", False)
            return cast("bytes", message.get("body", b""))

        try:
            status = await self._serve(str(scope["method"]), headers, str(scope["path"]), chunks)
        except ConnectionResetError:
            return
        extra = _ALLOW if status == HTTPStatus.METHOD_NOT_ALLOWED else {}
        # No body: a second small write may wait 40 ms for the acknowledgement of the first.
        told = {"Content-Length": "0", **extra}
        pairs = [(name.lower().encode(), value.encode()) for name, value in told.items()]
        try:
            await send({"type": "http.response.start", "status": status, "headers": pairs})
            await send({"type": "http.response.body", "body": b""})
        except OSError:  # whoever asked has left
            return

    # --- aiohttp.web

    async def handle(self, request: "web.Request") -> "web.Response":
        """Answer a request of aiohttp.web; route it with `add_route("*", "/prefix/{token}", …)`."""
        from aiohttp import web  # noqa: PLC0415  # loaded by whoever made the request

        async def chunks() -> bytes | None:
            return await request.content.readany() or None

        try:
            status = await self._serve(request.method, request.headers, request.path, chunks)
        except ConnectionResetError:
            status = HTTPStatus.BAD_REQUEST
        extra = _ALLOW if status == HTTPStatus.METHOD_NOT_ALLOWED else {}
        answer = web.Response(status=status, headers=extra)
        if not request.content.is_eof():
            answer.force_close()  # what was not read is not waited for
        return answer

    async def _serve(
        self,
        method: str,
        headers: Headers,
        path: str,
        chunks: Callable[[], Awaitable[bytes | None]],
    ) -> int:
        """Return the status to answer with.

        Raises:
            ConnectionResetError: Whoever asked has left.
        """
        if method != "POST":
            return HTTPStatus.METHOD_NOT_ALLOWED
        try:
            _check_kind(headers)
            async with asyncio.timeout(CALLBACK_SECONDS):
                body = await _whole(headers, chunks)
        except WebhookError as error:
            return error.status
        except TimeoutError:
            return HTTPStatus.REQUEST_TIMEOUT
        except ConnectionResetError:
            raise
        except Exception as error:  # noqa: BLE001  # a broken body, in the server's own words
            _log.debug("a callback could not be read: %r", error)
            return HTTPStatus.BAD_REQUEST
        return await self._status(headers, body, path)

    # --- clients

    def register(self, listener: Listener) -> None:
        """Pass callbacks on to a client, for as long as it is there."""
        with self._lock:
            self._listeners = [ref for ref in self._listeners if ref() is not None]
            self._listeners.append(weakref.ref(listener))
        if self._inbox is not None:
            self._inbox.join(listener.verifier, self._spread)

    async def forget(self, listener: Listener) -> None:
        """Pass nothing on to a client any more."""
        with self._lock:
            self._listeners = [ref for ref in self._listeners if ref() not in {None, listener}]
        if self._inbox is not None:
            await self._inbox.leave(listener.verifier, self._spread)

    async def task_ids(self, token: str) -> Sequence[str]:
        """Return the ids that callbacks with a token named, as far as an inbox kept them.

        Raises:
            WebhookError: The inbox cannot be read.
        """
        return () if self._inbox is None else await self._inbox.task_ids(token)

    async def aclose(self) -> None:
        """Let go of the inbox, where this process has no client that does it."""
        if self._inbox is not None and not self._present():
            await self._inbox.aclose()

    def _present(self) -> list[Listener]:
        with self._lock:
            found = [ref() for ref in self._listeners]
        return [listener for listener in found if listener is not None]

    def _spread(self, callback: Callback) -> None:
        """Pass on what another worker was sent, and found to be known."""
        for listener in self._present():
            if listener.judge(callback) is Verdict.KNOWN:
                listener.hear(callback)

    def __repr__(self) -> str:
        secrets: Secrets | None = getattr(self, "_secrets", None)
        return f"<WebhookReceiver {'signed' if secrets else 'unsigned'}>"


def _check_kind(headers: Headers) -> None:
    kind = header(headers, "content-type") or b""
    kind = kind.partition(b";")[0].strip().lower()
    if kind != b"application/json" and not kind.endswith(b"+json"):
        raise WebhookError("the callback is no JSON; nothing was done", status=415)


async def _whole(headers: Headers, chunks: Callable[[], Awaitable[bytes | None]]) -> bytes:
    """Return the whole body.

    Raises:
        WebhookError: It is too large.
    """
    declared = header(headers, "content-length") or b"0"
    if declared.isdigit() and (len(declared) > len(str(MAX_BYTES)) or int(declared) > MAX_BYTES):
        raise too_large()
    body = bytearray()
    while (chunk := await chunks()) is not None:
        body += chunk
        if len(body) > MAX_BYTES:
            raise too_large()
    return bytes(body)


def _wall() -> float:
    return datetime.now(UTC).timestamp()
