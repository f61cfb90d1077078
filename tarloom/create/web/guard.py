"""Which addresses may be connected to. The check is made on the very address that a socket is about to be opened to.

Names are resolved once and the connection goes to the checked answer, so a name server that answers differently the
second time (DNS rebinding) gains nothing; and every hop of a redirect opens its socket here too.
"""

import errno
import socket
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from tarloom.errors import UsageError

Network = IPv4Network | IPv6Network
NAMED_NETWORKS = {"all": ("0.0.0.0/0", "::/0"), "localhost": ("127.0.0.0/8", "::1")}
_NOT_PUBLIC = """
0.0.0.0/8  10.0.0.0/8  100.64.0.0/10  127.0.0.0/8  169.254.0.0/16  172.16.0.0/12  192.0.0.0/24  192.0.2.0/24
192.31.196.0/24  192.52.193.0/24  192.88.99.0/24  192.168.0.0/16  192.175.48.0/24  198.18.0.0/15  198.51.100.0/24
203.0.113.0/24  224.0.0.0/4  240.0.0.0/4  168.63.129.16/32
2001::/23  2001:db8::/32  2002::/16  2620:4f:8000::/48  3fff::/20
"""
NOT_PUBLIC: tuple[Network, ...] = tuple(map(ip_network, _NOT_PUBLIC.split()))
"""IANA's special-purpose registries, multicast and what is reserved, and Azure's metadata server. Written out because
what Python calls global differs between its versions, and some take 3fff::/20 or 64:ff9b:1::/48 for it."""
GLOBAL_UNICAST = IPv6Network("2000::/3")
CARRIERS = (IPv6Network("::ffff:0:0/96"), IPv6Network("64:ff9b::/96"))
"""IPv4-mapped and NAT64: the last 32 bits are the IPv4 address that is reached."""
ISATAP = (0x0000_5EFE, 0x0200_5EFE)
"""Bits 64 to 95 of an address that a router of the site sends on to the (private) IPv4 address in its last 32 bits."""


class RefusedAddress(OSError):
    """A socket was asked for to an address that is not public and not allowed. All have one text: aiohttp joins
    several errors of one name into one only if they read the same."""

    def __init__(self) -> None:
        super().__init__(errno.EACCES, "not a public address")


def parse_networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Networks from what a user writes: 10.0.0.0/8, 127.0.0.1, ::1, localhost, all. Raises UsageError."""
    networks: list[Network] = []
    for text in texts:
        for part in NAMED_NETWORKS.get(text, (text,)):
            try:
                networks.append(ip_network(part, strict=False))
            except ValueError as error:
                raise UsageError(f'allow_private: {error}; write a network such as 10.0.0.0/8, or "all"') from error
    return tuple(networks)


@lru_cache(maxsize=4096)
def is_allowed(address: str, allowed: tuple[Network, ...]) -> bool:
    """Whether a literal address is public, or lies in one of the allowed networks.

    An IPv6 address that stands for an IPv4 one (mapped, NAT64) is judged as that one. Other ways to carry an IPv4
    address (compatible, 6to4, Teredo, ISATAP) are no longer used by public servers: they are not public.
    """
    outer = ip_address(address)
    found = _carried(outer) or outer
    if any(each in network for network in allowed for each in (outer, found) if each.version == network.version):
        return True
    if isinstance(found, IPv6Address) and (found not in GLOBAL_UNICAST or int(found) >> 32 & 0xFFFF_FFFF in ISATAP):
        return False
    return not any(found in network for network in NOT_PUBLIC if found.version == network.version)


def guarded_socket(allowed: tuple[Network, ...]) -> Any:
    """A socket factory for aiohttp's connector that opens none to a refused address (raises RefusedAddress)."""

    def open_socket(info: Any) -> socket.socket:
        family, kind, protocol, _, address = info
        if not is_allowed(address[0], allowed):
            raise RefusedAddress
        return socket.socket(family=family, type=kind, proto=protocol)

    return open_socket


def _carried(address: IPv4Address | IPv6Address) -> IPv4Address | None:
    if any(address in network for network in CARRIERS if address.version == network.version):
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return None
