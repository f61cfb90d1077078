"""Ten thousand hostile addresses reach no server that is not public: nobody connects, and every row says why."""

import asyncio
import contextlib
import errno
import ipaddress
import socket
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_network

import psutil
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tarloom.create.config import WebOptions
from tarloom.create.rows import Row
from tarloom.create.web.fetch import WebFetcher
from tarloom.create.web.guard import is_allowed
from tarloom.errors import FetchError
from tests.create.helpers import create, table, write_list
from tests.create.web.hostile_addresses import (
    PERMITTED,
    SPECIAL_V4,
    SPECIAL_V6,
    Hostile,
    HostileNames,
    hostile_urls,
)

SPECIAL = tuple(map(ip_network, (*SPECIAL_V4, *SPECIAL_V6)))
ALLOWED = (f"{PERMITTED}/32",)
AT_ONCE = 100
PORTS_TRIED = 20
connections: Counter[str] = Counter()
"""Addresses that a socket of this process was about to be connected to. No other but PERMITTED is really tried."""


def _watch(event: str, arguments: tuple) -> None:
    """Only of the thread that fetches: those of a Ray that an earlier test began have peers of their own."""
    if event == "socket.connect" and threading.get_ident() == watching and arguments[0].family != socket.AF_UNIX:
        connections[arguments[1][0]] += 1
        if arguments[1][0] != PERMITTED:
            raise PermissionError("a test was about to connect to a private server")


watching: int | None = None
"""The thread whose connections are counted."""
sys.addaudithook(_watch)


@pytest.fixture
def canary() -> Iterator["Canary"]:
    with Canary() as canary:
        yield canary


class Canary:
    """Listens on every address of this machine but PERMITTED, and counts who comes."""

    def __enter__(self) -> "Canary":
        for left in reversed(range(PORTS_TRIED)):
            try:
                self._listen()
                return self
            except OSError as error:  # a port that is free on one address need not be free on all
                self.__exit__()
                if error.errno != errno.EADDRINUSE or not left:
                    raise
        raise AssertionError

    def _listen(self) -> None:
        self._listeners: list[socket.socket] = []
        self.permitted = _listener(PERMITTED, 0)
        self.port = self.permitted.getsockname()[1]
        for host in ("0.0.0.0", "::", *own_addresses()):
            self._listeners.append(_listener(host, self.port))

    def __exit__(self, *failure: object) -> None:
        for listener in (*self._listeners, self.permitted):
            listener.close()

    def hits(self) -> int:
        """Connections since the last time this was asked."""
        found = 0
        for listener in self._listeners:
            with contextlib.suppress(BlockingIOError):
                while True:
                    listener.accept()[0].close()
                    found += 1
        return found


def _listener(host: str, port: int) -> socket.socket:
    """On one address, or over the loopback device on all."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if host in ("0.0.0.0", "::"):
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
    if ":" in host:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    try:
        listener.bind(socket.getaddrinfo(host, port, flags=socket.AI_NUMERICHOST)[0][4])
        listener.listen(1024)
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener


def own_addresses() -> tuple[str, ...]:
    """Those of this machine's network interfaces, loopback apart; link-local ones with their interface."""
    kinds = (socket.AF_INET, socket.AF_INET6)
    found = (each for interface in psutil.net_if_addrs().values() for each in interface if each.family in kinds)
    return tuple(sorted({each.address for each in found} - {"127.0.0.1", "::1"}))


def test_a_canary_hears_every_address_of_this_machine_but_one(canary):
    for host in ("127.0.0.1", "127.1.2.3", "::1", *own_addresses()):
        socket.create_connection((host, canary.port), timeout=5).close()
        assert canary.hits() == 1
    socket.create_connection((PERMITTED, canary.port), timeout=5).close()
    assert canary.hits() == 0


async def _redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The public server: leads from /to?HEX to the address that HEX holds, and from /again to itself, anew."""
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            path = head.split(b" ", 2)[1]
            if path.startswith(b"/to?"):
                answer, place = b"302 Found", bytes.fromhex(path[4:].decode())
            elif path.startswith(b"/again"):
                answer, place = b"302 Found\r\nConnection: close", path + b"n"
            else:
                answer, place = b"404 Not Found", b""
            writer.write(b"HTTP/1.1 %b\r\nContent-Length: 0\r\nLocation: %b\r\n\r\n" % (answer, place))
            if b"close" in answer:
                break
    writer.close()


def fetch_all(urls: list[str], canary: Canary) -> list[str | None]:
    """The name of each row's error, None for a row that was fetched."""

    async def name(fetcher: WebFetcher, url: str, slots: asyncio.Semaphore) -> str | None:
        async with slots:
            try:
                await fetcher.fetch(Row(key="0", url=url, columns={}, beside={}))
            except FetchError as error:
                return error.name
            return None

    async def run() -> list[str | None]:
        slots = asyncio.Semaphore(AT_ONCE)
        options = WebOptions(allow_private=ALLOWED, retries=0, timeout=20, host_connections=AT_ONCE)
        async with (
            await asyncio.start_server(_redirect, sock=canary.permitted.dup()),
            WebFetcher(options, lookups=HostileNames()) as fetcher,
        ):
            return await asyncio.gather(*(name(fetcher, url, slots) for url in urls))

    global watching
    connections.clear()
    watching = threading.get_ident()
    try:
        return asyncio.run(run())
    finally:
        watching = None


def hostiles(count: int, port: int) -> list[Hostile]:
    return hostile_urls(count, port, tuple(host.partition("%")[0] for host in own_addresses()))


def wrong(hostile: list[Hostile], expected: list[str | None], found: list[str | None]) -> Counter[tuple]:
    """How often a spelling got another error than it must."""
    triples = zip(hostile, expected, found, strict=True)
    return Counter((each.spelling, wanted, got) for each, wanted, got in triples if wanted != got)


def test_ten_thousand_hostile_addresses_reach_no_private_server(canary):
    hostile = hostiles(10_000, canary.port)
    found = fetch_all([each.url for each in hostile], canary)
    assert len(found) == 10_000
    assert wrong(hostile, [each.expected for each in hostile], found) == {}
    assert canary.hits() == 0
    assert set(connections) <= {PERMITTED}


def test_ten_thousand_redirects_reach_no_private_server(canary):
    hostile = [each for each in hostiles(10_300, canary.port) if each.redirected is not None]
    base = f"http://{PERMITTED}:{canary.port}/to?"
    found = fetch_all([base + each.url.encode().hex() for each in hostile], canary)
    assert len(found) >= 10_000
    assert wrong(hostile, [each.redirected for each in hostile], found) == {}
    assert canary.hits() == 0
    assert set(connections) <= {PERMITTED}


def test_a_whole_run_over_hostile_addresses_reaches_no_private_server(canary, tmp_path):
    hostile = hostiles(600, canary.port)
    without_names = [each for each in hostile if each.expected != "dns" and ".test" not in each.url]
    urls = [each.url for each in without_names if each.url.isprintable() and " " not in each.url]
    created = create(write_list(tmp_path / "urls.txt", urls), tmp_path / "out", allow_private=ALLOWED, retries=0)
    assert (created.rows, created.successes) == (len(urls), 0)
    assert set(created.failed_by_error) <= {"refused_private_address", "bad_url", "scheme_refused"}
    assert table(tmp_path / "out")["url"].to_pylist() == urls
    assert canary.hits() == 0


addresses = st.one_of(
    st.ip_addresses(),
    *(st.ip_addresses(network=network) for network in SPECIAL),
    st.ip_addresses(v=4).map(lambda inner: IPv6Address(0xFFFF << 32 | int(inner))),
    st.ip_addresses(v=4).map(lambda inner: IPv6Address(0x64FF9B << 96 | int(inner))),
)


@given(address=addresses)
@example(address=IPv6Address("3fff::1"))
@example(address=IPv6Address("64:ff9b:1::1"))
@example(address=IPv4Address("192.88.99.1"))
def test_nothing_that_has_a_special_purpose_is_public(address):
    carried = _carried(address)
    special = any(carried in network for network in SPECIAL if network.version == carried.version)
    if special or carried.is_private or carried.is_multicast or carried.is_unspecified or carried.is_loopback:
        assert not is_allowed(str(address), ())
    elif carried.version == 4:
        assert is_allowed(str(address), ())


@given(address=st.ip_addresses(network="2600::/12"))
def test_what_is_given_out_to_the_public_is_public(address):
    isatap = (int(address) >> 32) & 0xFDFFFFFF == 0x5EFE
    assert is_allowed(str(address), ()) != (isatap or address in IPv6Network("2620:4f:8000::/48"))


def _carried(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    for network in ("::ffff:0:0/96", "64:ff9b::/96"):
        if address.version == 6 and address in ipaddress.ip_network(network):
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address
