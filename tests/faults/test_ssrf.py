"""A video's link, or a redirect of its host, reaches no host that is not public."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import aiohttp
import aiohttp.abc
import pytest

from tests.faults.fileserver import (
    KEY,
    OFTEN,
    QUICK,
    FileServer,
    Reply,
    client_of,
    movie,
    video,
)
from veo_async import ConnectError, DownloadError, Timeouts, VeoClient, VeoError
from veo_async.guard import is_public

pytestmark = pytest.mark.anyio

SOON = Timeouts(connect=0.5, response=1, stall=1, task=1, close=1)

# Every way to write this host, or its network, that some resolver or parser has fallen for.
HOSTS = [
    "127.0.0.1", "127.0.0.2", "127.1", "127.0.1", "0", "0.0.0.0", "1", "2130706433",
    "017700000001", "0177.0.0.1", "0x7f000001", "0x7F.1", "0x7f.0x0.0x0.0x1", "127.0.0.01",
    "localhost", "LOCALHOST", "localhost.", "a.localhost", "ip6-localhost",
    "[::1]", "[0:0:0:0:0:0:0:1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]",
    "[0:0:0:0:0:ffff:127.0.0.1]", "[::127.0.0.1]", "[::ffff:0:127.0.0.1]",
    "[64:ff9b::127.0.0.1]", "[64:ff9b::7f00:1]", "[64:ff9b:1::7f00:1]", "[2002:7f00:1::]",
    "[2002:0a00:1::1]", "[2001:0:7f00:1::]", "[fe80::1]", "[fe80::1%25lo]", "[::1%25lo]",
    "[fc00::1]", "[fd00:ec2::254]", "[fec0::1]", "[ff02::1]", "[2001:db8::1]",
    "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "192.0.0.1",
    "198.18.0.1", "192.0.2.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "2852039166",
    "\u2460\u2461\u2466.0.0.1", "\uff11\uff12\uff17.0.0.1", "127\u30020\u30020\u30021",
    "\u24db\u24de\u24d2\u24d0\u24db\u24d7\u24de\u24e2\u24e3", "loc\u00adalhost",
    "public.example@127.0.0.1", "127.0.0.1%23.example", "127.0.0.1%00.example",
]  # fmt: skip

ADDRESSES = {
    "rebound.example": ["127.0.0.1"],
    "rebound-v6.example": ["::ffff:127.0.0.1", "::1"],
    "mixed.example": ["127.0.0.1", "127.0.0.2"],
}


class Rebinding(aiohttp.abc.AbstractResolver):
    """A resolver of the application's own, that an attacker's name server has answered."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[aiohttp.abc.ResolveResult]:
        return [
            aiohttp.abc.ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in ADDRESSES.get(host, ["127.0.0.1"])
        ]

    async def close(self) -> None:
        """Nothing is held."""


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A host on every address of this machine, where nothing may arrive."""
    with contextlib.closing(socket.create_server(("::", 0), family=socket.AF_INET6,
                                                 dualstack_ipv6=True)) as made:  # fmt: skip
        made.setblocking(False)
        yield made


def arrivals(listener: socket.socket) -> int:
    count = 0
    while True:
        try:
            listener.accept()[0].close()
        except BlockingIOError:
            return count
        count += 1


def client(base_url: str = "https://8.8.8.8", **settings: object) -> VeoClient:
    """Return a client of a public API, where nothing is asked for in these tests."""
    given: dict[str, object] = {"retry": QUICK, "timeouts": SOON, "poll": OFTEN}
    return VeoClient(KEY, base_url=base_url, **(given | settings))  # type: ignore[arg-type]


async def refused(veo: VeoClient, link: str) -> VeoError:
    with pytest.raises(VeoError) as caught:
        async with veo.stream(video(link)):
            raise AssertionError(link)
    return caught.value


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_links_to_this_machine_reach_nothing(listener: socket.socket, scheme: str) -> None:
    port = listener.getsockname()[1]
    async with client() as veo:
        for host in HOSTS:
            await refused(veo, f"{scheme}://{host}:{port}/v.mp4")
    assert arrivals(listener) == 0


@pytest.mark.parametrize("resolver", [None, Rebinding])
async def test_the_applications_own_pool_reaches_nothing_either(
    listener: socket.socket, resolver: type[Rebinding] | None
) -> None:
    port = listener.getsockname()[1]
    pool = aiohttp.TCPConnector(resolver=resolver() if resolver else None)
    async with pool:
        async with client(connector=pool) as veo:
            for host in [*HOSTS, *(ADDRESSES if resolver else ())]:
                await refused(veo, f"http://{host}:{port}/v.mp4")
        assert not pool.closed
    assert arrivals(listener) == 0


async def test_a_proxy_is_not_asked_for_private_addresses(listener: socket.socket) -> None:
    proxy = FileServer(movie(1000))
    spelled = [host for host in HOSTS if ".example" not in host and host.isascii()]
    spelled = [host for host in spelled if not host.startswith(("ip6", "public"))]
    async with proxy.serving(), client(proxy=proxy.url) as veo:
        for host in spelled:
            await refused(veo, f"http://{host}/v.mp4")
    assert proxy.seen == []


async def test_redirects_to_this_machine_reach_nothing(listener: socket.socket) -> None:
    """The first host is public by its name; the proxy between stands for the internet."""
    port = listener.getsockname()[1]
    proxy = FileServer(movie(1000))
    locations: list[str] = []
    proxy.route = lambda _seen: Reply(status=302, headers={"Location": locations[-1]})
    hosts = [host for host in HOSTS if ".example" not in host and host.isascii()]
    hosts.remove("ip6-localhost")
    async with proxy.serving(), client(proxy=proxy.url) as veo:
        for host in hosts:
            for start in ("http:", ""):
                locations.append(f"{start}//{host}:{port}/x")
                await refused(veo, "http://videos.example.com/v.mp4")
    assert {seen.headers["host"] for seen in proxy.seen} == {"videos.example.com"}
    assert arrivals(listener) == 0


async def test_redirects_of_the_apis_own_host(listener: socket.socket) -> None:
    """Its host is trusted to be reached, not to send anybody elsewhere."""
    port = listener.getsockname()[1]
    host = FileServer(movie(1000))
    locations: list[str] = []
    host.route = lambda _seen: Reply(status=307, headers={"Location": locations[-1]})
    private = [one for one in HOSTS if not (one.startswith(("127.", "localhost", "LOCAL", "a.")))]
    private = [
        one for one in private if one not in {"1", "[::1]", "[0:0:0:0:0:0:0:1]", "ip6-localhost"}
    ]
    async with host.serving(), client_of(host, timeouts=SOON) as veo:
        for one in private:
            locations.append(f"http://{one}:{port}/x")
            if not (loops_back(one) or "@" in one):
                await refused(veo, host.link)
    assert arrivals(listener) == 0


def loops_back(host: str) -> bool:
    """Whether a host is loopback itself, where a local API may have its videos."""
    try:
        found = socket.getaddrinfo(host.strip("[]").partition("%")[0], 1, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False
    return any(str(info[4][0]).startswith("127.") or info[4][0] == "::1" for info in found)


def is_loopback_name(name: str) -> bool:
    try:
        return socket.gethostbyname(name) == "127.0.0.1"
    except OSError:
        return False


async def test_a_local_api_may_have_its_videos_at_another_port_and_name() -> None:
    film = movie(1000)
    api, host = FileServer(b"{}"), FileServer(film)
    async with api.serving(), host.serving(), client_of(api) as veo:
        for name in ("127.0.0.1", "localhost"):
            async with veo.stream(video(f"{host.at(name)}/v.mp4")) as body:
                assert b"".join([piece async for piece in body]) == film


async def test_the_pool_of_the_application_is_told_an_address_and_the_hosts_name() -> None:
    """The checked address is what is connected to; the name still goes into the request."""
    film = movie(1000)
    name = socket.gethostname()
    if not is_loopback_name(name):
        pytest.skip(f"this machine's name {name} does not mean 127.0.0.1")
    api, host = FileServer(b"{}"), FileServer(film)
    async with (
        api.serving(),
        host.serving(),
        aiohttp.TCPConnector(resolver=Rebinding()) as pool,
        client_of(api, connector=pool) as veo,
        veo.stream(video(f"{host.at(socket.gethostname())}/v.mp4")) as body,
    ):
        assert body.size == len(film)
    assert {seen.headers["host"].rpartition(":")[0] for seen in host.seen} == {socket.gethostname()}


@pytest.mark.parametrize(
    "link",
    [
        "", "v.mp4", "/v.mp4", "//", "http://", "http:///v", "ftp://8.8.8.8/v", "file:///etc/passwd",
        "http://[::1", "http://a..b/v", "http://" + "a" * 64 + ".example/v", "http://8.8.8.8:99999/v",
        "http://8.8.8.8:0/v", "http://8.8.8.8:x/v", "http://\ud800/v", "http://xn--\x80/v",
        "data:video/mp4,x", "http://%/v", "http://" + "a." * 200 + "example/v", "http://.../",
    ],
)  # fmt: skip
async def test_a_link_that_is_none_is_an_error_of_the_tree(link: str) -> None:
    async with client() as veo:
        error = await refused(veo, link)
        assert isinstance(error, DownloadError | ConnectError)
        assert "again" in str(error) or "check the network" in str(error)


async def test_a_link_cannot_put_a_header_into_the_request() -> None:
    host = FileServer(movie(1000))
    async with host.serving(), client_of(host) as veo:
        for evil in ("/v HTTP/1.1\r\nX-Evil: 1\r\n\r\n", "/\r\nX-Evil: 1", "/v\nX-Evil:1", "/ \0"):
            with contextlib.suppress(VeoError):
                async with veo.stream(video(host.url + evil)) as body:
                    assert body.size
    assert b"\nX-Evil" not in host.wire


@pytest.mark.parametrize(
    "address",
    [
        "8.8.8.8",
        "1.1.1.1",
        "2606:4700::1111",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
        "2002:808:808::",
    ],
)
def test_public_addresses(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("address", ["", "x", "1.2.3", "1.2.3.4.5", "::g", "8.8.8.8/8"])
def test_what_is_no_address_is_not_public(address: str) -> None:
    assert not is_public(address)


async def test_names_that_are_looked_up_do_not_stop_the_loop() -> None:
    async with client() as veo:
        work = asyncio.create_task(refused(veo, "http://no-such-host.invalid/v"))
        await asyncio.sleep(0)
        assert not work.done()
        await work
