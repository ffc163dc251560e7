"""The wire: aiohttp's sessions over one pool, with every foreign error mapped at this border.

Foreign exceptions are not chained, because aiohttp's hold the request's headers, and with them the
key, in their `repr` and in the locals of their frames. Their text goes into the message instead,
and what passes through aiohttp (a cancellation, a limiter's error) leaves its frames behind.
"""

import asyncio
import itertools
import logging
import os
import re
import ssl as ssl_module
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from socket import SOCK_STREAM, gaierror
from typing import Final, Protocol, TypeAlias
from urllib.parse import quote_plus

import aiohttp
import attrs
from aiohttp import hdrs
from aiohttp.client_reqrep import ConnectionKey
from multidict import istr
from yarl import URL

from veo_async import guard
from veo_async._version import __version__
from veo_async.errors import (
    ClientClosedError,
    ConnectError,
    DownloadError,
    TransportError,
    TransportTimeoutError,
    VeoError,
)
from veo_async.guard import Guard
from veo_async.inlet import Inlet, inlet_of
from veo_async.protocol.http import HttpRequest, HttpResponse
from veo_async.protocol.retry import retry_after
from veo_async.settings import (
    MAX_ANSWER_BYTES,
    MAX_REDIRECTS,
    READ_BYTES,
    USER_AGENT,
    ApiKey,
    Timeouts,
)

__all__: list[str] = []

Leaving: TypeAlias = Callable[[], Awaitable[None]]

_log = logging.getLogger(__name__)

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
# The live service has none of its own (live 2.1), but gateways and its edge do.
_ID_HEADERS: Final = tuple(map(istr, ("X-Request-Id", "X-Trace-Id", "X-Correlation-Id", "CF-Ray")))
_LONGEST_ID: Final = 128  # a longer one is no name but a message
_QUERY: Final = re.compile(r"(https?://[^\s?'\"<>]*)\?[^\s'\"<>]*")
_UNPACKED: Final = {"Accept-Encoding": "identity"}  # to unpack 1 KB costs more than to send it
_PLAIN: Final = re.compile(r"[\w-]+", re.ASCII)
_POOL_SIZE: Final = 100
_DNS_SECONDS: Final = 60
_SHORTEST_SECRET: Final = 16  # a shorter "key" is a word of some test, which may stand anywhere


class Body(Protocol):
    """A request's body that is not held in memory."""

    @property
    def headers(self) -> Mapping[str, str]:
        """What the request says of it: its type, and its length where that is known."""
        ...

    @property
    def is_repeatable(self) -> bool:
        """Whether it can be sent again."""
        ...

    async def read(self) -> bytes | memoryview:
        """Return the next piece, empty at the end.

        Raises:
            VeoError: There is none; the request is given up.
        """
        ...


@attrs.frozen
class _Pieces:
    """Gives a body to aiohttp, which has until the next deadline to take each piece."""

    body: Body
    patience: asyncio.Timeout
    timeouts: Timeouts
    refusals: list[Exception]

    def __aiter__(self) -> "_Pieces":
        return self

    async def __anext__(self) -> bytes | memoryview:
        self._wait_for(None)  # a slow source is no stalled connection
        try:
            piece = await self.body.read()
        except VeoError as error:
            self.refusals.append(error)
            raise
        if not piece:
            # What the system holds of it has to leave first.
            self._wait_for(self.timeouts.stall + self.timeouts.response)
            raise StopAsyncIteration
        self._wait_for(self.timeouts.stall)
        return piece

    def _wait_for(self, seconds: float | None) -> None:
        with suppress(RuntimeError):  # its request is over, and this about to be cancelled
            now = asyncio.get_running_loop().time()
            self.patience.reschedule(None if seconds is None else now + seconds)


@attrs.define
class Stream:
    """An answer whose body has not been read.

    Attributes:
        status: HTTP status.
        headers: Names compare without case.
    """

    status: int
    headers: Mapping[str, str]
    _body: Inlet
    _session: aiohttp.ClientSession
    _failure: TransportError | None = None

    async def read_into(self, buffer: memoryview) -> int:
        """Put what arrives next at the beginning of a buffer; return its size, 0 at the end.

        Raises:
            ClientClosedError: The client was closed.
            TransportError: The connection broke before the end.
        """
        if self._failure is None and not self._session.closed:
            try:
                return await self._body.read_into(buffer)
            except Exception as error:  # noqa: BLE001  # the border
                self._failure = _mapped(error, "the transfer")
        raise self._failure if self._failure and not self._session.closed else _closed()


@attrs.define
class _Sending:
    """What became of a request on its way: the trace's context, too.

    Attributes:
        leaving: Awaited just before the first byte leaves, if anything is.
        is_sent: Whether a byte may have left.
        refusals: What the application's own steps raised.
    """

    leaving: Leaving | None = None
    is_sent: bool = False
    refusals: list[Exception] = attrs.field(factory=list[Exception])

    async def leave(self) -> None:
        """Do what is done before the first byte leaves."""
        try:
            if self.leaving is not None:
                await self.leaving()
        except Exception as error:
            self.refusals.append(error)
            raise
        self.is_sent = True

    def theirs(self, error: Exception) -> Exception | None:
        """Return what the application raised, which aiohttp may have wrapped."""
        theirs = [one for one in self.refusals if one is error or isinstance(one, VeoError)]
        return theirs[0].with_traceback(None) if theirs else None


_FREE: Final = _Sending(is_sent=True)  # one for all polls, since nothing changes it


async def _on_headers(
    _session: aiohttp.ClientSession, context: object, _params: aiohttp.TraceRequestHeadersSentParams
) -> None:
    # aiohttp awaits this before it serialises the headers, so that a request for which it was not
    # called is a request of which nothing was sent.
    sending = getattr(context, "trace_request_ctx", None)
    if isinstance(sending, _Sending):
        await sending.leave()


_serials = itertools.count()


class _FreshRequest(aiohttp.ClientRequest):
    """A request that no connection in the pool fits, so that it opens one of its own.

    A paid request on a kept-alive connection that the server is about to close is a lost answer.
    This way it still takes the pool's limits, resolver, certificates and local address.
    """

    @property
    def connection_key(self) -> ConnectionKey:
        """What a connection must equal to be used again: nothing does."""
        return super().connection_key._replace(proxy_headers_hash=next(_serials))


class Transport:
    """The sessions of one client, in one event loop. Made inside the loop that uses it."""

    def __init__(
        self,
        *,
        base_url: str,
        key: ApiKey,
        timeouts: Timeouts,
        connector: aiohttp.BaseConnector | None = None,
        proxy: str | None = None,
        ssl: ssl_module.SSLContext | bool = True,
    ) -> None:
        self.requests: int = 0
        self._base_url = base_url.rstrip("/")
        self.api_host: str = URL(base_url).raw_host or ""
        self._key = key
        self._timeouts = timeouts
        self._proxy = proxy
        self._shares_pool = connector is not None
        self._reading: set[aiohttp.StreamReader | Inlet] = set()
        pool = _connector(ssl=ssl) if connector is None else connector
        self._own_pool = pool if connector is None else None
        trace = aiohttp.TraceConfig()
        trace.on_request_headers_sent.append(_on_headers)
        # Made once, which every poll would do otherwise.
        self._patience = aiohttp.ClientTimeout(
            total=timeouts.response, sock_connect=timeouts.connect
        )
        self._endless = aiohttp.ClientTimeout(total=None, sock_connect=timeouts.connect)
        self._api = _session(pool, headers=_UNPACKED)
        self._files = _session(pool, auto_decompress=False)
        self._submits = _session(
            pool,
            request_class=_FreshRequest,
            traces=[trace],
            headers={**_UNPACKED, "Connection": "close"},
        )

    async def call(self, request: HttpRequest) -> HttpResponse:
        """Send a request that may safely be sent twice.

        Raises:
            TransportError: No whole answer came.
        """
        return await self._sent(self._api, request, _FREE)

    async def call_once(self, request: HttpRequest, leaving: Leaving) -> HttpResponse:
        """Send a paid request, over a connection that was never used before.

        Args:
            request: What to send.
            leaving: Awaited when the connection stands and before the first byte leaves.

        Raises:
            TransportError: No whole answer came; `request_sent` says whether a byte may have left.
        """
        return await self._sent(self._submits, request, _Sending(leaving))

    async def upload(self, request: HttpRequest, body: Body) -> HttpResponse:
        """Send a body that costs nothing, piece by piece, for as long as it moves.

        The key goes along, to the request's host and never to where that redirects.

        Raises:
            VeoError: What reading the body raised.
            TransportError: No whole answer came.
        """
        # A kept-alive connection may turn out to be closed, which only a second try would mend.
        session = self._api if body.is_repeatable else self._submits
        return await self._sent(session, request, _Sending(is_sent=True), body)

    async def _sent(
        self,
        session: aiohttp.ClientSession,
        request: HttpRequest,
        sending: _Sending,
        body: Body | None = None,
    ) -> HttpResponse:
        self.requests += 1
        failure: BaseException
        try:
            if body is None:
                return await self._answer(session, request, sending)
            async with asyncio.timeout(self._timeouts.response) as patience:
                pieces = _Pieces(body, patience, self._timeouts, sending.refusals)
                return await self._answer(session, request, sending, pieces)
        except Exception as error:  # noqa: BLE001  # the border
            failure = sending.theirs(error) or self._foreign(error, session, request, sending)
        except asyncio.CancelledError as error:
            failure = asyncio.CancelledError(*error.args)
        raise failure

    def _foreign(
        self,
        error: Exception,
        session: aiohttp.ClientSession,
        request: HttpRequest,
        sending: _Sending,
    ) -> VeoError:
        if session.closed and isinstance(error, RuntimeError):
            return _closed()
        what = f"{request.method} {request.path}"
        return _mapped(error, what, sent=sending.is_sent, hide=self._hidden)

    async def _answer(
        self,
        session: aiohttp.ClientSession,
        request: HttpRequest,
        sending: _Sending,
        pieces: _Pieces | None = None,
    ) -> HttpResponse:
        # Not among the session's own headers, which aiohttp shows to a proxy as well.
        headers = {"Authorization": self._key.bearer()}
        if pieces is not None:
            headers |= pieces.body.headers
        async with session.request(
            request.method,
            (request.base_url or self._base_url) + request.path + _query(request.query),
            json=request.body,
            data=pieces,
            headers=headers,
            allow_redirects=False,
            proxy=self._proxy,
            timeout=self._patience if pieces is None else self._endless,
            trace_request_ctx=sending,
        ) as response:
            self._reading.add(response.content)
            try:
                answer = await _bounded(response)
            finally:
                self._reading.discard(response.content)
            secret = self._secret
            wait = response.headers.get(hdrs.RETRY_AFTER)
            return HttpResponse(
                status=response.status,
                body=answer.replace(secret.encode(), b"***") if secret else answer,
                retry_after=None if wait is None else retry_after(wait, datetime.now(UTC)),
                service_id=self._service_id(response.headers),
            )

    def _service_id(self, headers: Mapping[str, str]) -> str | None:
        for name in _ID_HEADERS:
            text = headers.get(name)
            if text and len(text) <= _LONGEST_ID and text.isascii() and text.isprintable():
                return self._hidden(text)
        return None

    def _hidden(self, text: str) -> str:
        """Return a text of the other side without the key, which some hosts repeat in errors."""
        secret = self._secret
        return text.replace(secret, "***") if secret else text

    @property
    def _secret(self) -> str:
        """The key, where it is long enough to be nothing else."""
        secret = self._key.bearer().removeprefix("Bearer ")
        return "" if len(secret) < _SHORTEST_SECRET else secret

    @asynccontextmanager
    async def fetch(self, url: str, headers: Mapping[str, str]) -> AsyncGenerator[Stream]:
        """Open a video's body, along at most five redirects. The key is never sent.

        Raises:
            DownloadError: The link or a redirect points to where no video may come from.
            TransportError: No answer came.
        """
        async with await self._follow(url, headers) as response:
            body = inlet_of(response)
            with self._woken(body):
                yield Stream(response.status, response.headers, body, self._files)

    @contextmanager
    def _woken(self, body: Inlet) -> Generator[None]:
        """Let `aclose` wake who waits for a body, which aiohttp does not."""
        self._reading.add(body)
        try:
            yield
        finally:
            self._reading.discard(body)

    async def _follow(self, link: str, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        url = _parsed(link)
        for _ in range(MAX_REDIRECTS + 1):
            response = await self._get(url, headers)
            _log.debug("GET of a video from %s: %d", url.raw_host, response.status)
            location = response.headers.get("Location")
            if response.status not in _REDIRECTS or location is None:
                return response
            response.close()
            url = _redirected(url, location)
        raise DownloadError(
            f"more than {MAX_REDIRECTS} redirects on the way to a video; ask for its link again"
        )

    async def _get(self, url: URL, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        self.requests += 1
        rule = self._guard_for(url)
        failure: VeoError
        token = guard.current.set(None if self._proxy else rule)
        try:
            async with asyncio.timeout(self._timeouts.response):
                return await self._files.get(
                    await self._checked(url, rule),
                    headers={**headers, "Host": url.host_port_subcomponent or ""},
                    allow_redirects=False,
                    proxy=self._proxy,
                    timeout=self._endless,
                    server_hostname=url.raw_host,
                    read_bufsize=READ_BYTES,
                )
        except Exception as error:  # noqa: BLE001  # the border
            failure = (
                _closed() if self._files.closed else _mapped(error, f"GET from {url.raw_host}")
            )
        finally:
            guard.current.reset(token)
        if rule is not None and rule.refused is not None:
            failure = DownloadError(
                f"a video's host {url.raw_host} is not asked: {rule.refused} is not a public"
                " address; only public hosts may serve videos"
            )
        raise failure

    def _guard_for(self, url: URL) -> Guard | None:
        if url.raw_host == self.api_host:
            return None
        return Guard(loopback_too=guard.is_loopback(self.api_host))

    async def _checked(self, url: URL, rule: Guard | None) -> URL:
        """Return the URL to connect to, as far as it can be checked before there is a socket.

        aiohttp asks no resolver for a literal. The application's own pool makes its own sockets, so
        there a name is looked up here, and an address that was checked stands in for it.

        Raises:
            OSError: It leads, or may lead, to where no video may come from.
        """
        host = url.raw_host or ""
        literal = guard.literal(host)
        if rule is None:
            return url
        if literal is not None:
            rule.check(literal)
        if literal is not None or not self._shares_pool or self._proxy:
            return url
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, url.port or 0, type=SOCK_STREAM)
        addresses = [str(info[4][0]) for info in found]
        for address in addresses:
            rule.check(address)
        return url.with_host(addresses[self.requests % len(addresses)])  # another one each time

    async def aclose(self) -> None:
        """Close the sessions, and the pool unless it is the application's own."""
        for session in (self._submits, self._files, self._api):
            await session.close()
        for body in self._reading:
            body.set_exception(aiohttp.ClientConnectionError("the client was closed"))
        if self._own_pool is not None:
            await self._own_pool.close()


def _parsed(link: str, base: URL | None = None) -> URL:
    """Return where a link or a redirect leads.

    Raises:
        DownloadError: Nowhere that a video may come from.
    """
    address = _web_address(link, base)
    if address is None:
        raise DownloadError(
            f"a video's link leads to {link.partition('?')[0][:100]!r}, which is no http(s) URL;"
            " ask for the link again"
        )
    return address


def _web_address(link: str, base: URL | None) -> URL | None:
    """Return an http(s) URL with its host as a resolver will see it; None for anything else."""
    try:
        url = URL(link, encoded=True)
        url = url if base is None else base.join(url)
        host = (url.raw_host or "").encode("idna").decode().lower()
        if url.scheme in {"http", "https"} and host and url.port:
            return url if host == url.raw_host else url.with_host(host)
    except ValueError:
        pass
    return None


def _redirected(url: URL, location: str) -> URL:
    target = _parsed(location, url)
    if url.scheme == "https" and target.scheme != "https":
        raise DownloadError(
            f"{url.raw_host} redirects a video from https to http, which is not followed; report it"
            " to the service"
        )
    return target


def _connector(*, ssl: ssl_module.SSLContext | bool) -> aiohttp.TCPConnector:
    return aiohttp.TCPConnector(
        limit=_POOL_SIZE,
        ttl_dns_cache=_DNS_SECONDS,
        ssl=ssl,
        socket_factory=guard.guarded_socket,
    )


def _session(
    connector: aiohttp.BaseConnector,
    *,
    auto_decompress: bool = True,
    request_class: type[aiohttp.ClientRequest] = aiohttp.ClientRequest,
    traces: list[aiohttp.TraceConfig] | None = None,
    headers: Mapping[str, str] | None = None,
) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=connector,
        connector_owner=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": f"{USER_AGENT}/{__version__}", **(headers or {})},
        auto_decompress=auto_decompress,
        request_class=request_class,
        trace_configs=traces,
    )


def _query(query: Mapping[str, str]) -> str:
    text = ""
    for name, value in query.items():
        quoted = value if _PLAIN.fullmatch(value) else quote_plus(value)
        text += f"{'&' if text else '?'}{name}={quoted}"
    return text


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    """Read a body up to the limit. The rest of a longer one is not an answer of this service."""
    content = response.content
    first = await content.readany()
    if content.at_eof():
        return first[: MAX_ANSWER_BYTES + 1]
    body = bytearray(first)
    while piece := await content.readany():
        body += piece
        if len(body) > MAX_ANSWER_BYTES:
            response.close()
            break
    return bytes(body[: MAX_ANSWER_BYTES + 1])


def _closed() -> ClientClosedError:
    return ClientClosedError(
        "the client was closed while this was under way; use a client that is open"
    )


def _reason(error: Exception) -> str:
    cause: object = getattr(error, "os_error", None)
    if isinstance(error, aiohttp.ClientConnectorError) and isinstance(cause, OSError):
        number = cause.errno or 0  # a resolver's are below 0
        why = os.strerror(number) if number > 0 else cause.strerror
        return f"no connection to {error.host}:{error.port} ({why or cause})"
    return f"{type(error).__name__}: {error}"


def _mapped(
    error: Exception, what: str, *, sent: bool = True, hide: Callable[[str], str] = str
) -> TransportError:
    # A link's query may be a signature with which anybody gets the video.
    text = _QUERY.sub(r"\1?…", hide(f"{what} failed: {_reason(error)}".rstrip(": ")))
    unreachable = aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError | gaierror
    if isinstance(error, unreachable):
        return ConnectError(f"{text}; check the network, the base URL and any proxy")
    if isinstance(error, TimeoutError):
        return TransportTimeoutError(
            f"{text}; try again, or allow more time in Timeouts", request_sent=sent
        )
    return TransportError(f"{text}; try again", request_sent=sent)
