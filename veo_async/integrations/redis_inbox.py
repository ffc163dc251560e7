"""An inbox of callbacks in Redis, for the workers of several hosts (extra `redis`)."""

import asyncio
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from importlib import import_module
from typing import Final, Protocol, TypeVar, cast
from urllib.parse import urlsplit

from veo_async.errors import ConfigurationError, WebhookError
from veo_async.protocol.callbacks import Callback, is_token
from veo_async.settings import RETENTION

__all__ = ["RedisInbox"]

_T = TypeVar("_T")
_log = logging.getLogger(__name__)
_SCHEMES: Final = frozenset({"redis", "rediss", "unix"})
_COMMAND_SECONDS: Final = 2.0  # for Redis to answer, which takes it 1 ms
_LISTEN_SECONDS: Final = 0.1  # between two looks whether to go on listening
_AWAY_SECONDS: Final = 1.0  # between two tries to reach a server that is away
_ADMISSION_SECONDS: Final = 24 * 3600.0  # between two notes that a key is in use
_REFRESH_SECONDS: Final = 1.0  # between two looks for new keys, should somebody guess tokens
_IDS_PER_TOKEN: Final = 8  # a submit has one task; whoever learned its token may invent others

_PUT: Final = """
local now = redis.call('TIME')
redis.call('ZADD', KEYS[1], now[1] * 1000000 + now[2], ARGV[1])
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[3])
redis.call('PUBLISH', ARGV[4], ARGV[5])
"""
_ADMIT: Final = """
local now = redis.call('TIME')
redis.call('ZADD', KEYS[1], now[1], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now[1] - ARGV[2])
"""


class _PubSub(Protocol):
    def subscribe(self, channel: str, /) -> object: ...

    def get_message(self, *, timeout: float) -> dict[str, object] | None: ...

    def close(self) -> None: ...


class _Client(Protocol):
    def execute_command(self, *words: object) -> object: ...

    def pubsub(self, *, ignore_subscribe_messages: bool) -> _PubSub: ...

    def close(self) -> None: ...


class RedisInbox:
    """An inbox in Redis, for the workers of several hosts.

    What it keeps is as durable as the server: with `appendonly yes` a callback survives its crash.

    Args:
        url: The server, such as `redis://localhost:6379/0`. It is never shown.
        account: What names the account; workers of the same one share an inbox.

    Raises:
        ConfigurationError: The library is missing, or this is no URL of a server.
    """

    def __init__(self, url: str, *, account: str) -> None:
        try:
            import_module("redis")
        except ImportError:
            raise ConfigurationError(
                'RedisInbox needs the library redis; pip install "veo-async[redis]"'
            ) from None
        self._make = _maker(url)
        del url
        if self._make is None:
            raise ConfigurationError(
                "url is no URL of a Redis server (it is not shown, since it may hold a password);"
                " give one such as redis://localhost:6379/0"
            )
        # In braces, so that a cluster keeps what belongs together on one node.
        self._key = f"veo_async:{{{account}}}:callbacks"
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._name = os.urandom(8).hex()
        self._lock = threading.Lock()
        self._members: list[tuple[bytes, Callable[[Callback], None]]] = []
        self._client: _Client | None = None
        self._executor: ThreadPoolExecutor | None = None
        self._stop: threading.Event | None = None
        self._ear: threading.Thread | None = None
        self._is_away = False
        self._verifiers: Collection[bytes] = ()
        self._refreshed_at = float("-inf")
        self._refreshing: Future[object] | None = None

    def join(self, verifier: bytes, hear: Callable[[Callback], None]) -> None:
        """Take part, for a client that makes tokens with `verifier`."""
        client = self._running()[1]
        with self._lock:
            self._members.append((verifier, hear))
            if self._ear is None:
                self._stop = threading.Event()
                self._ear = threading.Thread(
                    target=self._listen,
                    args=(client, self._stop),
                    name="veo_async_inbox",
                    daemon=True,
                )
                self._ear.start()

    async def leave(self, verifier: bytes, hear: Callable[[Callback], None]) -> None:
        """Take part no longer. The last one to leave lets go of the connections."""
        with self._lock, suppress(ValueError):
            self._members.remove((verifier, hear))
        if not self._members:
            await self.aclose()

    async def recognises(self, token: str) -> bool:
        """Return whether a client of any worker made a token.

        Raises:
            WebhookError: Redis does not answer (503).
        """
        if self._made(token):
            return True
        if time.monotonic() - self._refreshed_at >= _REFRESH_SECONDS:
            await self._answered(self._refresh)
        return self._made(token)

    def _refresh(self) -> "Future[object]":
        """Look for new keys, once for all who wait for them."""
        executor, client = self._running()

        def look() -> None:
            found = client.execute_command("ZRANGE", f"{self._key}:keys", 0, -1)
            self._verifiers = [bytes.fromhex(each) for each in cast("list[str]", found)]
            self._refreshed_at = time.monotonic()

        with self._lock:
            if self._refreshing is None or self._refreshing.done():
                self._refreshing = cast("Future[object]", executor.submit(look))
            return self._refreshing

    def _made(self, token: str) -> bool:
        return any(is_token(token, verifier) for verifier in self._verifiers)

    async def put(self, callback: Callback) -> None:
        """Keep a callback, and tell the other workers; return once Redis has it.

        Raises:
            WebhookError: Redis does not take it (503).
        """
        told = {"from": self._name, "token": callback.token, "task_id": callback.task_id}
        await self._do(
            lambda client: client.execute_command(
                "EVAL",
                _PUT,
                1,
                f"{self._key}:{callback.token}",
                callback.task_id,
                _IDS_PER_TOKEN,
                int(RETENTION),
                f"{self._key}:news",
                json.dumps(told),
            )
        )

    async def task_ids(self, token: str) -> Sequence[str]:
        """Return the ids that callbacks with a token named, the newest last.

        Raises:
            WebhookError: Redis does not answer (503).
        """
        found = await self._do(
            lambda client: client.execute_command("ZRANGE", f"{self._key}:{token}", 0, -1)
        )
        return cast("list[str]", found)

    async def aclose(self) -> None:
        """Let go of the connections. It may be used again."""
        if self._pid != os.getpid():
            self._begin()
        with self._lock:
            client, executor, ear, stop = self._client, self._executor, self._ear, self._stop
            self._client = self._executor = self._ear = self._stop = None
        if stop is not None:
            stop.set()

        def let_go() -> None:
            if executor is not None:
                executor.shutdown()
            if ear is not None:
                ear.join()
            if client is not None:
                client.close()

        await asyncio.get_running_loop().run_in_executor(None, let_go)

    # --- in threads: a connection of redis.asyncio belongs to one loop, and an inbox to all of them

    def _running(self) -> tuple[ThreadPoolExecutor, _Client]:
        if self._pid != os.getpid():
            self._begin()
        with self._lock:
            if self._client is None and self._make is not None:
                self._client = self._make()
            if self._executor is None:
                self._executor = ThreadPoolExecutor(2, thread_name_prefix="veo_async_inbox")
            if self._client is None:
                raise WebhookError("the inbox has no server; send it again", status=503)
            return self._executor, self._client

    async def _do(self, command: Callable[[_Client], _T]) -> _T:
        executor, client = self._running()
        return await self._answered(lambda: executor.submit(command, client))

    async def _answered(self, start: "Callable[[], Future[_T]]") -> _T:
        try:
            # Shielded, since others may wait for the same answer.
            return await asyncio.shield(asyncio.wrap_future(start()))
        except Exception as error:  # noqa: BLE001  # a library's own, whose classes are an extra
            kind = type(error).__name__
        raise WebhookError(
            f"the inbox in Redis does not answer ({kind}); see to the server, the callback is sent"
            " again",
            status=503,
        )

    def _admit(self, client: _Client, admitted: dict[bytes, float]) -> None:
        """Have the tokens of clients recognised for as long as they are here."""
        with self._lock:
            verifiers = {verifier for verifier, _ in self._members}
        for verifier in verifiers:
            if time.monotonic() - admitted.get(verifier, float("-inf")) >= _ADMISSION_SECONDS:
                client.execute_command(
                    "EVAL", _ADMIT, 1, f"{self._key}:keys", verifier.hex(), int(RETENTION)
                )
                admitted[verifier] = time.monotonic()

    def _listen(self, client: _Client, stop: threading.Event) -> None:
        """Pass on what other workers were sent. What is missed while Redis is away is polled."""
        while not stop.is_set():
            try:
                self._pass_on(client, stop)
            except Exception as error:  # noqa: BLE001  # a library's own
                if not self._is_away:
                    self._is_away = True
                    kind = type(error).__name__
                    _log.warning("the inbox in Redis does not answer (%s); it is tried again", kind)
                stop.wait(_AWAY_SECONDS)

    def _pass_on(self, client: _Client, stop: threading.Event) -> None:
        # Told anew after every failure: the server may have lost what it knew.
        admitted: dict[bytes, float] = {}
        news = client.pubsub(ignore_subscribe_messages=True)
        try:
            news.subscribe(f"{self._key}:news")
            while not stop.is_set():
                self._admit(client, admitted)
                self._is_away = False
                message = news.get_message(timeout=_LISTEN_SECONDS)
                if message is not None:
                    self._hear(json.loads(str(message["data"])))
        finally:
            with suppress(Exception):
                news.close()

    def _hear(self, told: dict[str, str]) -> None:
        if told["from"] == self._name:
            return
        with self._lock:
            hearers = {hear for _, hear in self._members}
        for hear in hearers:
            hear(Callback(told["task_id"], told["token"]))

    def __repr__(self) -> str:
        return f"RedisInbox({self._key!r})"


def _maker(url: str) -> Callable[[], _Client] | None:
    """Return what makes a client; None where the URL is none of a server. It shows neither."""
    from redis import Redis  # noqa: PLC0415  # an extra
    from redis.backoff import NoBackoff  # noqa: PLC0415
    from redis.retry import Retry  # noqa: PLC0415

    make = cast("Callable[..., _Client]", Redis.from_url)  # pyright: ignore[reportUnknownMemberType]

    def made() -> _Client:
        return make(
            url,
            socket_timeout=_COMMAND_SECONDS,
            socket_connect_timeout=_COMMAND_SECONDS,
            socket_keepalive=True,
            decode_responses=True,
            retry=Retry(NoBackoff(), 0),
        )

    try:
        if urlsplit(url).scheme in _SCHEMES:
            made().close()  # which opens nothing
            return made
    except (ValueError, TypeError):
        pass
    return None
