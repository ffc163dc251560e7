"""The slots of an account, shared between hosts through Redis.

All that is known of an account is one value of the server, changed by one script: the rule of
`protocol.slots`, in the server's language, since a report has to be one round trip and one step.
"""

import asyncio
import json
import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Final, Protocol, cast
from urllib.parse import urlsplit

from veo_async.broker import UnreachableError
from veo_async.errors import ConfigurationError, LimiterError
from veo_async.integrations.redis_script import SCRIPT
from veo_async.membership import LEASE, SharedLimiter
from veo_async.protocol.slots import Answer, Report
from veo_async.settings import MAX_TASKS

if TYPE_CHECKING:
    from redis.asyncio import Redis

__all__ = ["RedisLimiter"]

_log = logging.getLogger("veo_async")

_COMMAND_SECONDS: Final = 2.0  # for a command that takes a millisecond
# For a client with other time-outs. Longer, since the library can lose a connection that is being
# opened or closed when its task is cancelled.
_LAST_RESORT_SECONDS: Final = 5.0
_CANCEL_SECONDS: Final = 0.5
_LISTEN_SECONDS: Final = 30.0  # for one look at the channel; a call ends it at once
_POLL_SECONDS: Final = 5.0  # where a call got lost
_LISTEN_AGAIN_SECONDS: Final = 1.0
_LONGEST_ACCOUNT: Final = 200
_SCHEMES: Final = frozenset({"redis", "rediss", "unix"})


class _Channel(Protocol):
    """What is needed of a subscription."""

    async def subscribe(self, channel: str) -> object: ...
    async def get_message(
        self,
        ignore_subscribe_messages: bool = ...,  # noqa: FBT001  # the library's
        timeout: float | None = ...,  # noqa: ASYNC109
    ) -> Mapping[str, object] | None: ...
    async def aclose(self) -> None: ...


class _Client(Protocol):
    """What is needed of a client of the server; its own types leave much open."""

    def eval(self, script: str, numkeys: int, *keys_and_args: str) -> Awaitable[str | bytes]: ...
    def pubsub(self) -> _Channel: ...
    async def aclose(self) -> None: ...


class _Server:
    """Where the server is, shown to nobody, or the application's own client of it."""

    def __init__(self, url_or_client: "str | Redis") -> None:
        self._url = url_or_client if isinstance(url_or_client, str) else None
        self._client = None if isinstance(url_or_client, str) else url_or_client

    def check(self) -> None:
        """Make sure that there can be a client.

        Raises:
            ConfigurationError: The library is missing, or this is no URL of a server.
        """
        try:
            import_module("redis.asyncio")
        except ImportError:
            raise ConfigurationError(
                'RedisLimiter needs the library redis; pip install "veo-async[redis]"'
            ) from None
        is_usable = self._client is not None
        with suppress(ValueError, TypeError, ssl.SSLError):
            if self._url is not None and urlsplit(self._url).scheme in _SCHEMES:
                self.client()  # which opens nothing
                is_usable = True
        if not is_usable:
            raise ConfigurationError(
                "url_or_client is no URL of a Redis server (it is not shown, since it may hold a"
                " password); give one such as redis://localhost:6379/0"
            )

    def client(self) -> _Client:
        """Return a client for the running loop."""
        from redis.asyncio import Redis  # noqa: PLC0415  # an extra
        from redis.asyncio.retry import Retry  # noqa: PLC0415
        from redis.backoff import NoBackoff  # noqa: PLC0415

        if self._url is None:
            return cast("_Client", self._client)
        make = cast("Callable[..., _Client]", Redis.from_url)  # pyright: ignore[reportUnknownMemberType]
        return make(
            self._url,
            socket_timeout=_COMMAND_SECONDS,
            socket_connect_timeout=_COMMAND_SECONDS,
            socket_keepalive=True,
            # Its own retries make a server that hangs hang for long; the broker repeats.
            retry=Retry(NoBackoff(), 0),
        )

    async def let_go(self, client: _Client) -> None:
        """Close a client, unless it is the application's."""
        if self._url is not None:
            with suppress(Exception):
                await client.aclose()

    def __repr__(self) -> str:
        return "_Server(…)"


class RedisStore:
    """One member's way to the server.

    Args:
        server: Where the server is.
        account: What names the account.
        member: The member's name.
        ring: What to call when its turn may have come.
    """

    glance_seconds: float | None = None
    poll_seconds: float = _POLL_SECONDS

    def __init__(
        self,
        server: _Server,
        *,
        account: str,
        member: str,
        ring: Callable[[], None],
    ) -> None:
        self.name: str = f"Redis, which counts the slots of account {account!r},"
        self._server = server
        # In braces, so that a cluster keeps what belongs together on one node.
        self._key = f"veo_async:{{{account}}}:slots"
        self._channel = f"veo_async:{{{account}}}:turns"
        self._member = member
        self._ring = ring
        self._number = 0
        self._client: _Client | None = None
        self._listening: asyncio.Task[None] | None = None
        self._stuck: set[asyncio.Task[str | bytes]] = set()
        self._is_closing = False

    async def exchange(self, report: Report) -> Answer:
        """Hand in a report in one command."""
        if self._client is None:
            self._client = self._server.client()
        self._number += 1
        text = json.dumps({**report, "seq": self._number})
        try:
            told = await self._asked(self._client, text)
        except OSError as error:  # also time-outs
            raise UnreachableError(error.strerror or type(error).__name__) from error
        except Exception as error:  # noqa: BLE001  # a library's own, whose classes are an extra
            raise _mapped(error) from None  # a cause may show the address, and a password in it
        if self._listening is None and not report["is_leaving"]:
            self._listening = asyncio.get_running_loop().create_task(self._listen())
        answer: Answer = json.loads(told)
        # An empty list of the script is an object.
        answer["granted"] = answer["granted"] or []
        answer["lost"] = answer["lost"] or []
        answer["adopted"] = answer["adopted"] or []
        return answer

    async def _asked(self, client: _Client, text: str) -> str | bytes:
        """Return the script's answer, in a time that nothing can prolong.

        Raises:
            OSError: There was none.
            Exception: The library's.
        """

        async def ask() -> str | bytes:
            return await client.eval(SCRIPT, 1, self._key, self._channel, text)

        asking = asyncio.get_running_loop().create_task(ask())
        try:
            await asyncio.wait({asking}, timeout=_LAST_RESORT_SECONDS)
            if asking.done():
                return asking.result()
        finally:
            if not asking.done():
                asking.cancel()
                self._stuck.add(asking)
                asking.add_done_callback(self._forget)
        # The library may have lost the cancellation, with a connection that answers to nobody.
        self._client = None
        await self._server.let_go(client)
        raise OSError(0, f"no answer in {_LAST_RESORT_SECONDS:g} s")

    def _forget(self, asking: "asyncio.Task[str | bytes]") -> None:
        self._stuck.discard(asking)
        if not asking.cancelled():
            asking.exception()  # looked at, or it is reported as never retrieved

    async def glance(self) -> bool:
        """Return False: the channel tells."""
        return False

    async def aclose(self) -> None:
        """Close the connections."""
        self._is_closing = True
        listening = () if self._listening is None else (self._listening,)
        while left := {task for task in (*self._stuck, *listening) if not task.done()}:
            # Again and again, since the library can swallow one when it times out at that moment.
            for task in left:
                task.cancel()
            await asyncio.wait(left, timeout=_CANCEL_SECONDS)
        client, self._client = self._client, None
        if client is not None:
            await self._server.let_go(client)

    async def _listen(self) -> None:
        """Ring when it is this member's turn, until it is closed: a poll helps out meanwhile."""
        while not self._is_closing:
            if self._client is not None:
                await self._subscribed(self._client.pubsub())
            await asyncio.sleep(_LISTEN_AGAIN_SECONDS)

    async def _subscribed(self, channel: _Channel) -> None:
        """Listen until the connection is lost."""
        try:
            async with asyncio.timeout(_LAST_RESORT_SECONDS):
                await channel.subscribe(self._channel)
            self._ring()  # a call may have been missed
            await self._hear(channel)
        except Exception as error:  # noqa: BLE001  # a library's own; the exchange tells people
            _log.debug("the channel of turns was lost: %s", type(error).__name__)
        finally:
            with suppress(Exception):
                await channel.aclose()

    async def _hear(self, channel: _Channel) -> None:
        while True:
            message = await channel.get_message(
                ignore_subscribe_messages=True, timeout=_LISTEN_SECONDS
            )
            data = None if message is None else message["data"]
            name = data.decode() if isinstance(data, bytes) else data
            if name in {self._member, "*"}:
                self._ring()


def _mapped(error: Exception) -> Exception:
    """Return what the broker knows for an exception of the library."""
    from redis import exceptions  # noqa: PLC0415  # an extra

    kind = type(error).__name__
    passing = (exceptions.BusyLoadingError, exceptions.ReadOnlyError, exceptions.TryAgainError)
    if isinstance(error, exceptions.AuthenticationError | exceptions.AuthorizationError):
        return LimiterError(
            "Redis does not accept the user or password of the limiter's URL; correct the URL"
        )
    if isinstance(error, (*passing, exceptions.ConnectionError, exceptions.TimeoutError)):
        return UnreachableError(kind)
    if isinstance(error, exceptions.ResponseError) and "VEO overtaken" in str(error):
        return UnreachableError("a later report came first")
    if isinstance(error, exceptions.ResponseError):
        # The server's words, which hold no password.
        return LimiterError(f"Redis refused to count slots ({error}); correct that, then try again")
    return LimiterError(f"Redis cannot be used ({kind}); look at the limiter's URL and at Redis")


class RedisLimiter(SharedLimiter):
    """Shares the account's slots between processes on any number of hosts, through Redis.

    A killed process frees what it had reserved after `lease` seconds at most, and its running tasks
    are watched by another member. While the server is away, nothing is submitted; polls and
    downloads go on. After it was started again, or at the very first use, nothing is granted for
    0.3 times `lease`, in which all members tell what they hold; so that it may lose its data.

    Redis 6.2 or later. Give the same instance to several clients of one loop, and an instance of
    its own to each other loop. Fork before its first use, not after.

    Args:
        url_or_client: A URL such as `redis://host:6379/0` (`rediss://` with TLS, `unix://`), or the
            application's own `redis.asyncio.Redis`, which is used and never closed. Its
            connections are its own business; a command that takes 5 s has failed.
        account: What names the account among others that use the same server; not the API key.
        total: Tasks that may run at once (spec: 10 per account). The lowest number that a living
            member gives holds for all.
        lease: Seconds after which a member that was not heard of counts as dead. All give the same.

    Raises:
        ConfigurationError: A setting is impossible, or the extra `redis` is not installed.
    """

    def __init__(
        self,
        url_or_client: "str | Redis",
        *,
        account: str,
        total: int = MAX_TASKS,
        lease: float = LEASE,
    ) -> None:
        server = _Server(url_or_client)
        del url_or_client  # or a password would stand in the traceback of whatever is wrong
        super().__init__(total=total, lease=lease)
        if not (0 < len(account) <= _LONGEST_ACCOUNT and {"{", "}"}.isdisjoint(account)):
            raise ConfigurationError(
                "account is empty, too long or holds a brace; give a short name for the account,"
                " the same in all processes"
            )
        server.check()
        self._account = account
        self._server = server

    def _store(self, member: str, ring: Callable[[], None]) -> RedisStore:
        return RedisStore(self._server, account=self._account, member=member, ring=ring)

    def __repr__(self) -> str:
        # It is also asked of one whose settings were refused, by what shows a traceback.
        account, total = getattr(self, "_account", None), getattr(self, "_total", None)
        return f"<RedisLimiter account={account!r} total={total}>"
