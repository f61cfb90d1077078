"""Spellings of addresses that are not public, ten thousand of them, and the error that each row must get.

Every spelling is a way to write an IPv4 or IPv6 address, or a URL around it, that some parser somewhere takes for that
address. Names that end in .test are answered by HostileNames, as a hostile name server would.
"""

import random
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_network
from itertools import cycle, islice
from urllib.parse import quote

from aiohttp.abc import ResolveResult

from tarloom.create.web.lookups import Resolver

PERMITTED = "127.9.9.9"
"""The one address that may be connected to: it stands for the public web."""
SPECIAL_V4 = (
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "168.63.129.16/32", "169.254.0.0/16"),
    *("172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24"),
    *("192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24"),
    *("224.0.0.0/4", "240.0.0.0/4", "255.255.255.255/32"),
)
SPECIAL_V6 = (
    *("::/128", "::1/128", "::/96", "64:ff9b:1::/48", "100::/64", "100:0:0:1::/64", "2001::/32", "2001:1::1/128"),
    *("2001:1::2/128", "2001:1::3/128", "2001:2::/48", "2001:3::/32", "2001:4:112::/48", "2001:10::/28"),
    *("2001:20::/28", "2001:30::/28", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20", "5f00::/16"),
    *("fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8"),
)
"""IANA's special-purpose registries, multicast and what is reserved: a list apart from the library's own."""
WELL_KNOWN = ("127.0.0.1", "0.0.0.0", "169.254.169.254", "100.100.100.200", "192.168.0.1", "10.0.0.1", "127.0.0.53")
REFUSED, BAD, DNS = "refused_private_address", "bad_url", "dns"


@dataclass(frozen=True)
class Hostile:
    """One URL, the error that its row must get, and the error where a public server redirects to it."""

    spelling: str
    url: str
    expected: str
    redirected: str | None
    """None: no header can hold it."""


def hostile_urls(count: int, port: int, own: tuple[str, ...] = ()) -> list[Hostile]:
    """Always the same ones, each spelling about as often as the others. own: addresses of this machine."""
    v4 = _addresses(4, [*WELL_KNOWN, *(each for each in own if ":" not in each)])
    v6 = _addresses(6, ["::1", "::", *(each for each in own if ":" in each)])
    found: Iterator[Hostile] = (
        hostile
        for fourth, sixth in zip(v4, v6, strict=False)
        for hostile in (*_of_v4(IPv4Address(fourth), port), *_of_v6(IPv6Address(sixth), port))
    )
    distinct = ({hostile.url: hostile for hostile in islice(found, 2 * count)}).values()
    return list(islice(distinct, count))


def _addresses(version: int, first: list[str]) -> Iterator[str]:
    yield from first
    dice = random.Random(version)
    for text in cycle(SPECIAL_V4 if version == 4 else SPECIAL_V6):
        network = ip_network(text)
        yield str(network[dice.randrange(network.num_addresses)])


def _of_v4(address: IPv4Address, port: int) -> Iterator[Hostile]:
    for kind, host, expected in (*_numbers(address), *_digits(str(address)), *_carriers(address)):
        yield Hostile(kind, f"http://{host}:{port}/x.jpg", expected, expected)
    for kind, url, direct, redirected in _around(str(address), port):
        yield Hostile(kind, url, direct, redirected)
    for kind, name, expected in _names(str(int(address))):
        yield Hostile(kind, f"http://{name}:{port}/{'again' if 'rebinds' in name else 'x.jpg'}", expected, expected)


def _numbers(address: IPv4Address) -> Iterator[tuple[str, str, str]]:
    """What a C library takes for an address. Where it is of digits and dots alone, it is no URL to begin with."""
    whole, (a, b, c, d) = int(address), address.packed
    yield "dotted", str(address), REFUSED
    yield "decimal", str(whole), BAD
    yield "hexadecimal", hex(whole), REFUSED
    yield "upper hexadecimal", f"0X{whole:08X}", REFUSED
    yield "octal", f"0{whole:o}", BAD
    yield "dotted octal", f"0{a:o}.0{b:o}.0{c:o}.0{d:o}", BAD
    yield "padded octal", f"{a:012o}.{b:07o}.0{c:o}.0{d:o}", BAD
    yield "dotted hexadecimal", f"{a:#x}.{b:#x}.{c:#x}.{d:#x}", REFUSED
    yield "padded hexadecimal", f"0x{a:08x}.0x{b:04x}.{c:#x}.{d:#x}", REFUSED
    yield "two parts", f"{a}.{whole % 2**24}", BAD
    yield "two parts, hexadecimal", f"{a:#x}.{whole % 2**24:#x}", REFUSED
    yield "three parts", f"{a}.{b}.{whole % 2**16}", BAD
    yield "mixed", f"0{a:o}.{b:#x}.{whole % 2**16}", REFUSED
    yield "beyond 32 bits", str(whole + 2**32), BAD
    yield "beyond 8 bits", f"{a + 256}.{b}.{c}.{d}", BAD
    yield "negative", str(whole - 2**32), DNS
    yield "five parts", f"{address}.0", BAD
    yield "trailing dot", f"{address}.", BAD
    yield "two dots", f"{a}..{b}.{c}.{d}", BAD


def _digits(text: str) -> Iterator[tuple[str, str, str]]:
    """Characters that Unicode's and IDNA's mappings take for digits and dots."""
    for kind, digits in (
        ("full-width", "０１２３４５６７８９"),
        ("circled", "⓪①②③④⑤⑥⑦⑧⑨"),
        ("superscript", "⁰¹²³⁴⁵⁶⁷⁸⁹"),
        ("bold", "".join(chr(0x1D7CE + digit) for digit in range(10))),
    ):
        yield kind, text.translate({ord("0") + digit: digits[digit] for digit in range(10)}), REFUSED
    arabic = {ord("0") + digit: chr(0x660 + digit) for digit in range(10)}
    yield "Arabic digits", text.translate(arabic), DNS
    for kind, dot in (("ideographic dots", "\u3002"), ("full-width dots", "\uff0e"), ("half-width dots", "\uff61")):
        yield kind, text.replace(".", dot), REFUSED
    yield "soft hyphen", f"{text[0]}\u00ad{text[1:]}", BAD
    yield "zero-width space", f"{text[0]}\u200b{text[1:]}", BAD
    yield "percent-encoded", "".join(f"%{ord(letter):02x}" for letter in text), BAD
    yield "percent-encoded dots", text.replace(".", "%2e"), BAD
    yield "percent-encoded end", f"{text}%00.example.test", BAD


def _carriers(address: IPv4Address) -> Iterator[tuple[str, str, str]]:
    """IPv6 addresses that hold an IPv4 one."""
    whole = int(address)
    for kind, value in (
        ("mapped", 0xFFFF << 32 | whole),
        ("compatible", whole),
        ("translated", 0xFFFF << 48 | whole),
        ("NAT64", 0x64FF9B << 96 | whole),
        ("local NAT64", 0x64FF9B0001 << 80 | whole),
        ("6to4", 0x2002 << 112 | whole << 80 | 1),
        ("Teredo", 0x20010000_4136E378 << 64 | whole ^ 0xFFFFFFFF),
        ("ISATAP", 0x20014860 << 96 | 0x5EFE << 32 | whole),
        ("global ISATAP", 0x20014860 << 96 | 0x2005EFE << 32 | whole),
    ):
        yield kind, f"[{IPv6Address(value)}]", REFUSED
    yield "mapped, dotted", f"[::ffff:{address}]", REFUSED
    yield "mapped, upper", f"[::FFFF:{address}]", REFUSED
    yield "mapped, in full", f"[0000:0000:0000:0000:0000:ffff:{address}]", REFUSED
    yield "mapped with zone", f"[::ffff:{address}%25lo]", REFUSED
    yield "NAT64, dotted", f"[64:ff9b::{address}]", REFUSED
    yield "bracketed", f"[{address}]", BAD


def _around(host: str, port: int) -> Iterator[tuple[str, str, str, str | None]]:
    """URLs that a reader may take for another host's: what a list says, then what a redirect may lead to."""
    place = f"{host}:{port}"
    for kind, url in (
        ("user", f"http://example.test@{place}/"),
        ("user and password", f"http://example.test:80@{place}/"),
        ("two users", f"http://a@example.test@{place}/"),
        ("encoded user", f"http://example.test%2f@{place}/"),
        ("no user", f"http://@{place}/"),
        ("host in fragment", f"http://{place}#@example.test/"),
        ("host in query", f"http://{place}?@example.test/"),
        ("upper scheme", f"HTTP://{place}/"),
        ("padded port", f"http://{host}:0{port}/"),
        ("spaces around", f"  http://{place}/  "),
    ):
        yield kind, url, REFUSED, REFUSED
    yield "tab in host", f"http://{host[:3]}\t{host[3:]}:{port}/", REFUSED, REFUSED
    yield "newline in host", f"http://{host[:3]}\n{host[3:]}:{port}/", REFUSED, None
    yield "nul in host", f"http://{host}\0:{port}/", BAD, None
    yield "backslash", f"http://example.test\\@{place}/", BAD, BAD
    yield "backslash behind", f"http://{place}\\@example.test/", BAD, BAD
    yield "space in host", f"http://{host[:3]} {host[3:]}:{port}/", BAD, BAD
    yield "two ports", f"http://{place}:80/", BAD, BAD
    yield "port with a sign", f"http://{host}:+{port}/", BAD, BAD
    yield "other scheme", f"gopher://{place}/_x", "scheme_refused", "scheme_refused"
    yield "file", f"file://{host}/etc/passwd", "scheme_refused", "scheme_refused"
    yield "no scheme", f"//{place}/", BAD, REFUSED
    yield "one slash", f"http:/{place}/", BAD, BAD
    yield "no slash", f"http:{place}/", BAD, BAD
    yield "backslashes", f"http:\\\\{place}/", BAD, BAD
    yield "comma", f"http://{host},example.test:{port}/", BAD, BAD
    yield "semicolon", f"http://{host};example.test:{port}/", BAD, BAD


def _of_v6(address: IPv6Address, port: int) -> Iterator[Hostile]:
    text = str(address)
    for kind, host, expected in (
        ("compressed", f"[{text}]", REFUSED),
        ("in full", f"[{address.exploded}]", REFUSED),
        ("upper case", f"[{text.upper()}]", REFUSED),
        ("dotted end", f"[{_dotted_end(address)}]", REFUSED),
        ("zone", f"[{text}%25lo]", REFUSED),
        ("bare zone", f"[{text}%lo]", REFUSED),
        ("numbered zone", f"[{text}%251]", REFUSED),
        ("user before brackets", f"example.test@[{text}]", REFUSED),
        ("dot behind brackets", f"[{text}].", BAD),
        ("no brackets", text, BAD),
        ("encoded colons", f"[{quote(text)}]", BAD),
        ("empty zone", f"[{text}%25]", BAD),
    ):
        yield Hostile(f"IPv6 {kind}", f"http://{host}:{port}/x.jpg", expected, expected)
    yield Hostile("name of an IPv6 address", f"http://{int(address)}.six.test:{port}/x.jpg", REFUSED, REFUSED)


def _dotted_end(address: IPv6Address) -> str:
    return f"{address.exploded[:30]}{IPv4Address(int(address) & 0xFFFFFFFF)}"


def _names(number: str) -> Iterator[tuple[str, str, str]]:
    yield "name of an address", f"{number}.four.test", REFUSED
    yield "name of a mapped address", f"{number}.mapped.test", REFUSED
    yield "name of many addresses", f"{number}.many.test", REFUSED
    yield "name of a public and a private address", f"{number}.public.test", "http_404"
    yield "name of a private and a public address", f"{number}.private.test", "http_404"
    yield "name that rebinds", f"{number}.rebinds.test", REFUSED
    yield "name without an answer", f"{number}.none.test", DNS
    yield "localhost", "localhost", REFUSED
    yield "localhost, circled", "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ", REFUSED


class HostileNames(Resolver):
    """Answers for NUMBER.KIND.test; numbers in place of names and localhost are left to this machine's resolver."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: set[str] = set()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        if host == "localhost":
            return await super().resolve(host, port, family)
        if known := re.fullmatch(r"(\d+)\.(\w+)\.test", host):
            answers = self._answers(host, int(known[1]), known[2])
        else:
            infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
            answers = [str(info[4][0]) for info in infos]
        return [_answer(host, port, address) for address in answers]

    def _answers(self, host: str, number: int, kind: str) -> list[str]:
        again = host in self.asked
        self.asked.add(host)
        if kind == "none":
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        if kind == "six":
            return [str(IPv6Address(number))]
        private = str(IPv4Address(number))
        return {
            "four": [private],
            "mapped": [f"::ffff:{private}"],
            "many": [private, f"::ffff:{private}", "::1", "0.0.0.0", "fe80::1"],
            "public": [PERMITTED, private],
            "private": [private, PERMITTED],
            "rebinds": [private if again else PERMITTED],
        }[kind]


def _answer(host: str, port: int, address: str) -> ResolveResult:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=socket.AI_NUMERICHOST)
