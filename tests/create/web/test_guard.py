"""Which addresses may be connected to."""

import asyncio
import socket
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tarloom.create.config import WebOptions
from tarloom.create.rows import Row
from tarloom.create.web.fetch import WebFetcher
from tarloom.create.web.guard import RefusedAddress, guarded_socket, is_allowed, parse_networks
from tarloom.create.web.lookups import Resolver
from tarloom.errors import FetchError, UsageError

PRIVATE = [
    "0.0.0.0",
    "10.0.0.1",
    "100.64.0.1",
    "127.0.0.1",
    "169.254.169.254",
    "172.16.0.1",
    "192.168.1.1",
    "198.18.0.1",
    "224.0.0.1",
    "239.255.255.255",
    "255.255.255.255",
    "::",
    "::1",
    "fe80::1",
    "fe80::1%1",
    "fc00::1",
    "fec0::1",
    "ff02::1",
    "2001:db8::1",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_addresses_that_are_not_public_are_refused(address):
    assert not is_allowed(address, ())


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700::1111"])
def test_public_addresses_are_allowed(address):
    assert is_allowed(address, ())


@given(inner=st.ip_addresses(v=4))
def test_an_address_that_stands_for_another_is_judged_as_that_one(inner):
    for outer in (IPv6Address(0xFFFF << 32 | int(inner)), IPv6Address((0x64FF9B << 96) | int(inner))):
        assert is_allowed(str(outer), ()) == is_allowed(str(inner), ())


@given(address=st.ip_addresses())
def test_all_allows_every_address(address):
    assert is_allowed(str(address), parse_networks(["all"]))


def test_an_allowed_network_allows_no_other():
    allowed = parse_networks(["127.0.0.0/8", "10.1.2.3"])
    assert is_allowed("127.3.4.5", allowed)
    assert is_allowed("::ffff:127.0.0.1", allowed)
    assert is_allowed("10.1.2.3", allowed)
    assert not is_allowed("10.1.2.4", allowed)
    assert is_allowed("::1", parse_networks(["localhost"]))


def test_what_is_no_network_is_a_usage_error():
    with pytest.raises(UsageError, match="allow_private"):
        parse_networks(["example.org"])


def test_no_socket_is_opened_to_a_refused_address():
    opened = guarded_socket(())
    with pytest.raises(RefusedAddress):
        opened((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("10.0.0.1", 80)))


class Rebinding(Resolver):
    """A name server that gives the next of its answers at each look-up."""

    def __init__(self, answers: list[str]) -> None:
        super().__init__()
        self.answers = answers

    async def resolve(self, host, port=0, family=socket.AF_INET):
        address = self.answers.pop(0)
        return [{"hostname": host, "host": address, "port": port, "family": socket.AF_INET, "proto": 0, "flags": 0}]


def test_a_name_that_changes_its_address_gains_nothing(photo_server):
    """Every connection is made to the very address that was checked, however the name is resolved later."""

    name_server = Rebinding(["127.0.0.1", "10.0.0.1"])
    port = photo_server.url.rpartition(":")[2]
    row = Row(key="0", url=f"http://rebinding.test:{port}/pictures/0001.jpg", columns={}, beside={})
    options = WebOptions(allow_private=("127.0.0.1/32",), retries=0, timeout=20)

    async def fetch() -> bytes:
        async with WebFetcher(options, lookups=name_server) as fetcher:
            return (await fetcher.fetch(row)).data

    assert asyncio.run(fetch())
    with pytest.raises(FetchError) as failure:
        asyncio.run(fetch())
    assert failure.value.name == "refused_private_address"


@given(address=st.ip_addresses(v=4))
def test_numbers_in_place_of_addresses_never_reach_a_private_one(address: IPv4Address):
    """Decimal, hexadecimal and shortened forms that a C library would take for an address."""

    async def fetch(host: str) -> str:
        async with WebFetcher(WebOptions(retries=0, timeout=20)) as fetcher:
            with pytest.raises(FetchError) as failure:
                await fetcher.fetch(Row(key="0", url=f"http://{host}:1/x", columns={}, beside={}))
            return failure.value.name

    private = IPv4Address(int(address) % 2**24 | 10 << 24)
    for host in (str(int(private)), hex(int(private)), f"10.{int(private) % 2**24}", f"[::ffff:{private}]"):
        assert asyncio.run(fetch(host)) in ("bad_url", "refused_private_address", "dns")
