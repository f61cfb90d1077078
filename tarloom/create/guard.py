"""Which addresses may be connected to. The check is made on the very address that a socket is about to be opened to.

Names are resolved once and the connection goes to the checked answer, so a name server that answers differently the
second time (DNS rebinding) gains nothing; and every hop of a redirect opens its socket here too.
"""

import asyncio
import errno
import socket
import threading
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

from tarloom.errors import UsageError

Network = IPv4Network | IPv6Network
NAMED_NETWORKS = {"all": ("0.0.0.0/0", "::/0"), "localhost": ("127.0.0.0/8", "::1")}
CARRIERS = (IPv6Network("64:ff9b::/96"), IPv6Network("::/96"))
"""NAT64 and IPv4-compatible addresses: the last 32 bits are an IPv4 address."""
LOOKUPS_AT_ONCE = 64
_NUMERIC = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV


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


def is_allowed(address: str, allowed: tuple[Network, ...]) -> bool:
    """Whether a literal address is public, or lies in one of the allowed networks.

    An IPv6 address that only carries an IPv4 one (mapped, 6to4, Teredo, NAT64) is judged by what it carries.
    """
    outer = ip_address(address)
    found = _carried(outer) or outer
    if any(each in network for network in allowed for each in (outer, found) if each.version == network.version):
        return True
    local = isinstance(found, IPv6Address) and (found.is_site_local or found.is_reserved)
    return found.is_global and not found.is_multicast and not local


def guarded_socket(allowed: tuple[Network, ...]) -> Any:
    """A socket factory for aiohttp's connector that opens none to a refused address (raises RefusedAddress)."""

    def open_socket(info: Any) -> socket.socket:
        family, kind, protocol, _, address = info
        if not is_allowed(address[0], allowed):
            raise RefusedAddress
        return socket.socket(family=family, type=kind, proto=protocol)

    return open_socket


class Resolver(AbstractResolver):
    """Looks names up in daemon threads: a name server that hangs holds up neither other rows nor the end of a run."""

    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(LOOKUPS_AT_ONCE)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """All addresses of a name. Raises socket.gaierror."""
        async with self._slots:
            infos = await _in_daemon_thread(host, port, family)
        return [
            ResolveResult(hostname=host, host=str(info[4][0]), port=port, family=info[0], proto=info[2], flags=_NUMERIC)
            for info in infos
        ]

    async def close(self) -> None:
        """Nothing is held."""


def _carried(address: IPv4Address | IPv6Address) -> IPv4Address | None:
    if isinstance(address, IPv4Address):
        return None
    if any(address in network for network in CARRIERS):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    if address.teredo is not None:
        return address.teredo[1]
    return address.ipv4_mapped or address.sixtofour


async def _in_daemon_thread(host: str, port: int, family: int) -> list[Any]:
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[Any]] = loop.create_future()

    def deliver(infos: list[Any] | None, error: Exception | None) -> None:
        if answer.cancelled():
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(infos or [])

    def look_up() -> None:
        infos, failure = None, None
        try:
            infos = socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            failure = error
        if not loop.is_closed():
            loop.call_soon_threadsafe(deliver, infos, failure)

    threading.Thread(target=look_up, name=f"look-up {host}", daemon=True).start()
    return await answer
