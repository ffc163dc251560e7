"""What a download may connect to: public addresses, and this machine only where the API is on it.

A link comes from outside, so it could point into the network that this program runs in. Names are
checked where the sockets are made, since what a name means may change between two look-ups.
"""

import ipaddress
from contextvars import ContextVar
from socket import SOCK_STREAM, inet_aton, socket
from typing import Final, TypeAlias

import attrs

__all__: list[str] = []

_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")


def is_public(address: str) -> bool:
    """Return whether an IP address lies in the public internet, embedded IPv4 ones included."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address):
        inner = parsed.ipv4_mapped or parsed.sixtofour
        if parsed in _NAT64:
            inner = ipaddress.IPv4Address(int(parsed) & 0xFFFF_FFFF)
        if inner is not None:
            return is_public(str(inner))
        if parsed.is_site_local:  # deprecated, and still routed inside some sites
            return False
    return parsed.is_global and not parsed.is_multicast and not parsed.is_reserved


def literal(host: str) -> str | None:
    """Return the address that a host is in itself, in any spelling that a resolver takes."""
    try:
        return "127.0.0.1" if is_loopback(host) else str(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return str(ipaddress.IPv4Address(inet_aton(host)))  # 127.1, 0x7f000001, 2130706433
    except (OSError, ValueError):
        return None


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine, by name or by address."""
    if f".{host.rstrip('.')}".endswith(".localhost"):
        return True
    try:
        parsed = ipaddress.ip_address(host)
    except ValueError:
        return False
    # Python 3.13 counts ::ffff:127.0.0.1 too; no local service is called so.
    return parsed.is_loopback and getattr(parsed, "ipv4_mapped", None) is None


@attrs.define
class Guard:
    """What one download may connect to. It remembers a refusal, which aiohttp's errors blur."""

    loopback_too: bool
    refused: str | None = None

    def check(self, address: str) -> None:
        """Let a public address pass.

        Raises:
            OSError: It is another one, which is remembered.
        """
        if is_public(address) or (self.loopback_too and is_loopback(address)):
            return
        self.refused = address
        raise OSError(f"{address} is not a public address")


current: ContextVar[Guard | None] = ContextVar("veo_async_guard", default=None)

_AddressInfo: TypeAlias = tuple[
    int, int, int, str, tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]
]


def guarded_socket(info: _AddressInfo) -> socket:
    """Make a connection's socket. Every address passes here, literal and rebound ones too."""
    family, kind, protocol, _name, address = info
    guard = current.get()
    if guard is not None:
        guard.check(str(address[0]))
    made = socket(family=family, type=kind or SOCK_STREAM, proto=protocol)
    made.setblocking(False)  # noqa: FBT003  # the socket module's own signature
    return made
