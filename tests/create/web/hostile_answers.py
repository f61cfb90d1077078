"""Every way to misbehave that the hostile server knows: its path, what it sends, and the ONE error its row must get.

Most are bytes and how the connection ends after them; the rest are small coroutines. `expected` is None where a sound
picture comes in spite of it all.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Literal

import pyarrow as pa

from tests.create.web.hostile_bytes import (
    answer,
    bomb,
    encoded,
    gzipped,
    jpeg_of_many_scans,
    jpeg_of_size,
    picture,
    png_of_size,
)

End = Literal["keep", "close", "reset", "hang"]
"""What becomes of the connection once all bytes are sent."""
Content = bytes | Callable[["Asked"], bytes | Iterator[bytes] | AsyncIterator[bytes]]
MANY = 10**9


@dataclass(frozen=True)
class Asked:
    """What was asked for."""

    path: str
    number: int
    """From the end of the path: /chain/3 is 3."""


@dataclass(frozen=True)
class Misbehaviour:
    """What the server does where /NAME or /NAME/NUMBER is asked for."""

    name: str
    expected: str | None
    content: Content
    end: End = "keep"


def _status(status: str, *headers: str) -> Misbehaviour:
    return Misbehaviour(f"status-{status[:3]}", f"http_{status[:3]}", answer(b"", *headers, status=status))


def _statuses() -> Iterator[Misbehaviour]:
    for status in (
        "300 Choose",
        "302 Moved nowhere",
        "401 Who",
        "403 No",
        "404 Gone",
        "410 Gone",
        "418 Tea",
        "451 Law",
    ):
        yield _status(status)
    for status in ("500 Broken", "502 Bad", "504 Late", "999 Denied", "600 Six"):
        yield _status(status)
    yield _status("503 Busy", "Retry-After: 31536000")
    yield _status("429 Throttled", "Retry-After: Fri, 31 Dec 2126 23:59:59 GMT")
    for status in ("204 Nothing", "304 Same", "101 Switching"):
        yield Misbehaviour(f"status-{status[:3]}", f"http_{status[:3]}", answer(status=status, length=""), "close")
    yield Misbehaviour("status-206", "http_206", answer(picture()[:99], status="206 Part"))


def _not_http() -> Iterator[Misbehaviour]:
    for name, sent in {
        "ssh": b"SSH-2.0-OpenSSH_9.6\r\n",
        "http-0.9": b"<html>Hello",
        "icy": b"ICY 200 OK\r\n\r\n",
        "ftp": b"220 Welcome\r\n",
        "http2": b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" + bytes(18),
        "tls-alert": b"\x15\x03\x01\x00\x02\x02\x46",
        "nuls": bytes(1000),
        "four-digits": b"HTTP/1.1 9999 No\r\nContent-Length: 0\r\n\r\n",
        "no-digits": b"HTTP/1.1 abc No\r\nContent-Length: 0\r\n\r\n",
        "bare-picture": picture(),
    }.items():
        yield Misbehaviour(name, "bad_response", sent, "close")
    for name, header in {
        "length-negative": "Content-Length: -1",
        "length-text": "Content-Length: ten",
        "length-huge": "Content-Length: 1" + "0" * 40,
        "length-twice": "Content-Length: 5\r\nContent-Length: 6",
        "length-and-chunked": "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "no-colon": "Content-Type image/jpeg",
        "nul-header": "X-Nul: a\0b",
        "bare-header": ": value",
        "long-header": "X-Long: " + "a" * 70_000,
        "many-headers": "\r\n".join(f"X-{number}: a" for number in range(2000)),
    }.items():
        yield Misbehaviour(name, "bad_response", answer(b"\xff" * 5, header, length=""), "close")


def _floods() -> Iterator[Misbehaviour]:
    head = b"HTTP/1.1 200 OK\r\n"
    chunked = answer(b"", "Transfer-Encoding: chunked", length="")
    yield Misbehaviour("flood-headers", "bad_response", lambda _: _forever(head, b"X-Flood: aaaaaaaa\r\n" * 4000))
    yield Misbehaviour("flood-header", "bad_response", lambda _: _forever(head + b"X-Flood: ", b"a" * 65536))
    yield Misbehaviour("flood-status", "bad_response", lambda _: _forever(head[:-2], b"a" * 65536))
    for name, line in (("newlines", b"\r\n"), ("line-feeds", b"\n"), ("returns", b"\r"), ("spaces", b" ")):
        yield Misbehaviour(f"flood-{name}", "bad_response", lambda _, line=line: _forever(line * 65536))
    yield Misbehaviour("flood-100", "bad_response", lambda _: _forever(b"HTTP/1.1 100 Continue\r\n\r\n" * 100))
    yield Misbehaviour(
        "flood-hints", "bad_response", lambda _: _forever(b"HTTP/1.1 103 Hints\r\nLink: a\r\n\r\n" * 100)
    )
    yield Misbehaviour("flood-body", "too_large", lambda _: _forever(answer(length=""), bytes(65536)))
    yield Misbehaviour("flood-chunks", "too_large", lambda _: _forever(chunked, b"10000\r\n" + bytes(65536) + b"\r\n"))
    yield Misbehaviour("flood-error", "http_404", lambda _: _forever(answer(status="404 No", length=""), bytes(65536)))
    ended = chunked + b"%x\r\n%b\r\n0\r\n" % (len(picture()), picture())
    yield Misbehaviour("flood-trailers", "body_cut_short", lambda _: _forever(ended, b"X-Flood: aaaaaaaa\r\n" * 4000))
    yield Misbehaviour("announced-10-gb", "too_large", answer(b"\xff" * 99, length=10**10), "hang")


def _bodies() -> Iterator[Misbehaviour]:
    whole, chunked = picture(), answer(b"", "Transfer-Encoding: chunked", length="")
    half = len(whole) // 2
    yield Misbehaviour("empty", "empty_body", answer())
    yield Misbehaviour("empty-close", "empty_body", answer(length=""), "close")
    yield Misbehaviour("length-short", "truncated", answer(whole, length=half), "close")
    yield Misbehaviour("length-long", "body_cut_short", answer(whole, length=len(whole) + 1), "close")
    yield Misbehaviour("reset-in-body", "body_cut_short", answer(whole[:half], length=len(whole)), "reset")
    for name, head in {
        "http-1.0": b"HTTP/1.0 200 OK\r\n\r\n",
        "no-length": answer(b"", "Connection: close", length=""),
        "transfer-gzip": answer(b"", "Transfer-Encoding: gzip", length=""),
    }.items():
        yield Misbehaviour(f"reset-in-{name}", "body_cut_short", head + whole[:half], "reset")
    yield Misbehaviour("cut-in-body", "body_cut_short", answer(whole[:half], length=len(whole)), "close")
    yield Misbehaviour("cut-in-chunk", "body_cut_short", chunked + b"ffff\r\n" + whole[:100], "close")
    yield Misbehaviour("no-last-chunk", "body_cut_short", chunked + b"%x\r\n%b\r\n" % (len(whole), whole), "close")
    yield Misbehaviour("bad-chunk-size", "body_cut_short", chunked + b"zz\r\n" + whole, "close")
    yield Misbehaviour("huge-chunk-size", "body_cut_short", chunked + b"f" * 30 + b"\r\n" + whole, "close")
    yield Misbehaviour("gzip-in-name-only", None, answer(whole, "Content-Encoding: gzip"))
    yield Misbehaviour("gzip-cut", "body_cut_short", answer(gzipped(whole)[:-50], "Content-Encoding: gzip"))
    yield Misbehaviour(
        "gzip-twice", "unknown_encoding", answer(gzipped(gzipped(whole)), "Content-Encoding: gzip, gzip")
    )
    yield Misbehaviour(
        "gzip-and-br",
        "unknown_encoding",
        answer(whole, "Content-Encoding: gzip", "Content-Encoding: br"),
    )
    yield Misbehaviour(
        "identity-and-gzip", None, answer(gzipped(whole), "Content-Encoding: identity", "Content-Encoding: gzip")
    )
    yield Misbehaviour("encoding-unknown", None, answer(whole, "Content-Encoding: magic"))
    yield Misbehaviour("gzip-sound", None, answer(gzipped(whole), "Content-Encoding: gzip"))
    yield Misbehaviour("http-1.0", None, b"HTTP/1.0 200 OK\r\n\r\n" + whole, "close")
    yield Misbehaviour("sound", None, answer(whole))
    yield Misbehaviour("sound-chunked", None, chunked + b"%x\r\n%b\r\n0\r\n\r\n" % (len(whole), whole))
    yield Misbehaviour("sound-more-than-asked", None, answer(whole) + answer(whole), "close")


def _late() -> Iterator[Misbehaviour]:
    """What is wrong comes some time after the headers and a part of the body, so that they are known by then."""
    whole, chunked = picture(), answer(b"", "Transfer-Encoding: chunked", length="")
    half = len(whole) // 2
    start = chunked + b"%x\r\n%b\r\n" % (half, whole[:half])
    yield Misbehaviour(
        "late-bad-chunk-size", "body_cut_short", lambda _: _late_part(start, [b"zz\r\n" + whole]), "close"
    )
    yield Misbehaviour(
        "late-bad-chunk-hang", "body_cut_short", lambda _: _late_part(start, [b"zz\r\n" + whole]), "hang"
    )
    yield Misbehaviour("late-no-chunk-end", "body_cut_short", lambda _: _late_part(start[:-2], [b"zz" + whole]), "hang")
    yield Misbehaviour("late-more", "truncated", lambda _: _late_part(answer(whole[:half]), [whole[half:]]), "close")
    gzip = answer(gzipped(whole)[:half], "Content-Encoding: gzip", length=2 * half)
    yield Misbehaviour("late-gzip-garbage", "body_cut_short", lambda _: _late_part(gzip, [whole[:half]]))
    lines = b"X-Flood: aaaaaaaa\r\n" * 4000
    ended = chunked + b"%x\r\n%b\r\n0\r\n" % (len(whole), whole)
    yield Misbehaviour("late-flood-trailers", "body_cut_short", lambda _: _late_part(ended, itertools.repeat(lines)))
    yield Misbehaviour(
        "flood-chunk-extension", "too_large", lambda _: _late_part(start + b"5;", itertools.repeat(b"a" * 65536))
    )


def _bombs() -> Iterator[Misbehaviour]:
    """10 GB each once they are expanded, and a few kilobytes to a few megabytes on the way."""
    yield Misbehaviour("bomb-gzip", "too_large", lambda _: bomb("gzip", 31))
    yield Misbehaviour("bomb-deflate", "too_large", lambda _: bomb("deflate", 15))
    yield Misbehaviour("bomb-raw-deflate", "too_large", lambda _: bomb("deflate", -15))
    for name, codec in (("br", "brotli"), ("zstd", "zstd")):
        body = pa.Codec(codec).compress(bytes(10**8), asbytes=True)
        yield Misbehaviour(f"bomb-{name}", "unknown_encoding", answer(body, f"Content-Encoding: {name}"))
    nested = gzipped(gzipped(bytes(10**8)))
    yield Misbehaviour("bomb-nested", "unknown_encoding", answer(nested, "Content-Encoding: gzip, gzip"))


def _pictures() -> Iterator[Misbehaviour]:
    svg = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="http://10.0.0.1/"/></svg>'
    png = encoded("PNG")
    for name, expected, body in (
        ("page", "not_an_image", b"<!DOCTYPE html><title>Sign in</title>" * 10),
        ("svg", "not_an_image", svg),
        ("json", "not_an_image", b'{"error": "no such picture"}'),
        ("zeros", "not_an_image", bytes(5000)),
        ("truncated-jpeg", "truncated", picture()[: len(picture()) // 2]),
        ("truncated-png", "truncated", png[: len(png) // 2]),
        ("bomb-png", "too_many_pixels", png_of_size(50_000, 50_000)),
        ("bomb-scans", "too_many_scans", jpeg_of_many_scans(1000)),
        ("bomb-jpeg", "too_many_pixels", jpeg_of_size(65_500, 65_500)),
        (
            "bomb-gif",
            "too_many_pixels",
            b"GIF89a\xff\xff\xff\xff\x00\x00\x00" + b",\0\0\0\0\xff\xff\xff\xff\0" + b"\x08\0;",
        ),
    ):
        yield Misbehaviour(name, expected, answer(body, "Content-Type: image/jpeg"))


def _slow() -> Iterator[Misbehaviour]:
    whole = answer(picture())
    yield Misbehaviour("silent", "timeout", b"", "hang")
    yield Misbehaviour("stalls-in-headers", "timeout", whole[:20], "hang")
    yield Misbehaviour("stalls-in-body", "timeout", whole[:-100], "hang")
    yield Misbehaviour("drips-headers", "timeout", lambda _: _drip(b"HTTP/1.1 200 OK\r\nX-Slow: ", b"a"))
    yield Misbehaviour("drips-header-lines", "timeout", lambda _: _drip(b"HTTP/1.1 200 OK\r\n", b"X-Slow: a\r\n"))
    yield Misbehaviour("drips-body", "timeout", lambda _: _drip(answer(length=""), b"\xff"))
    yield Misbehaviour("drips-100", "timeout", lambda _: _drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n", pause=1))


def _ends() -> Iterator[Misbehaviour]:
    yield Misbehaviour("hangs-up", "connect", b"", "close")
    yield Misbehaviour("resets", "connect", b"", "reset")
    yield Misbehaviour("cut-in-status", "connect", b"HTTP/1", "close")
    yield Misbehaviour("cut-in-headers", "connect", answer(picture())[:20], "close")
    yield Misbehaviour("reset-in-headers", "connect", answer(picture())[:20], "reset")
    yield Misbehaviour("only-100", "connect", b"HTTP/1.1 100 Continue\r\n\r\n", "close")


def _redirects() -> Iterator[Misbehaviour]:
    yield Misbehaviour("loop", "too_many_redirects", lambda asked: _to(asked.path))
    yield Misbehaviour("ping", "too_many_redirects", lambda asked: _to(f"/pong/{asked.number}"))
    yield Misbehaviour("pong", "too_many_redirects", lambda asked: _to(f"/ping/{asked.number}"))
    yield Misbehaviour("chain", "too_many_redirects", lambda asked: _to(f"/chain/{asked.number + 1}"))
    yield Misbehaviour("grows", "too_many_redirects", lambda asked: _to(f"{asked.path[:3000]}?{'a' * 3000}"))
    yield Misbehaviour("to-sound", None, lambda asked: _to(f"/sound/{asked.number}"))
    yield Misbehaviour("to-closed-port", "connect", lambda _: _to("http://127.0.0.1:1/"))
    for name, expected, place in (
        ("file", "scheme_refused", "file:///etc/hostname"),
        ("ftp", "scheme_refused", "ftp://127.0.0.1/x.jpg"),
        ("data", "scheme_refused", "data:image/png;base64,AAAA"),
        ("gopher", "scheme_refused", "gopher://127.0.0.1:6379/_FLUSHALL"),
        ("private", "refused_private_address", "http://10.0.0.1/inside.jpg"),
        ("no-scheme", "refused_private_address", "//10.0.0.1/inside.jpg"),
        ("metadata", "refused_private_address", "http://169.254.169.254/latest/meta-data/"),
        ("mapped", "refused_private_address", "http://[::ffff:10.0.0.1]/"),
        ("link-local", "refused_private_address", "http://[fe80::1]/"),
        ("no-host", "bad_url", "http:///x.jpg"),
        ("bad-port", "bad_url", "http://127.0.0.1:99999/"),
        ("bad-user", "bad_url", "http://a%3Ab:c@127.0.0.1/"),
        ("open-bracket", "bad_url", "http://[::1/"),
    ):
        yield Misbehaviour(f"to-{name}", expected, lambda _, place=place: _to(place))


@cache
def misbehaviours() -> dict[str, Misbehaviour]:
    """All of them by name."""
    kinds = (_statuses, _not_http, _floods, _bodies, _late, _bombs, _pictures, _slow, _ends, _redirects)
    return {each.name: each for kind in kinds for each in kind()}


def _to(place: str) -> bytes:
    return answer(b"", f"Location: {place}", status="302 Found")


def _forever(first: bytes, more: bytes | None = None) -> Iterator[bytes]:
    return itertools.chain([first], itertools.repeat(more or first, MANY))


async def _late_part(first: bytes, more: Iterable[bytes]) -> AsyncIterator[bytes]:
    yield first
    await asyncio.sleep(0.05)
    for part in more:
        yield part


async def _drip(first: bytes, more: bytes, *, pause: float = 0.1) -> AsyncIterator[bytes]:
    yield first
    while True:
        await asyncio.sleep(pause)
        yield more
