"""A web server, in a process of its own, that does to its clients whatever a bad host may do: see hostile_answers.

    with HostileServer() as server:
        server.url("bomb-gzip", 7)         http://127.0.0.8:PORT/bomb-gzip/7

It listens on every address of 127.0.0.0/8, so there are as many hosts as one likes. Besides its main port, where the
path decides what happens, it has ports that misbehave before any path is known: PORTS.
"""

import asyncio
import contextlib
import json
import random
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Final, Self

from tests.create.web.hostile_answers import Asked, Content, End, Misbehaviour, misbehaviours
from tests.source_tree import ROOT

PORTS: Final = {"refused": "connect", "backlog": "timeout", "mute": "timeout", "slams": "connect", "tls": "tls"}
"""Ports besides the main one, and the error that rows get there: refused (nobody listens), backlog (listens, but never
accepts), mute (accepts, but never says a word), slams (resets what it accepts), tls (a certificate nobody trusts)."""
ELSEWHERE: Final = {
    "http://10.0.0.1/inside-{}.jpg": "refused_private_address",
    "http://169.254.169.254/latest/{}": "refused_private_address",
    "http://[fd00::1]/{}.jpg": "refused_private_address",
    "file:///etc/passwd?{}": "scheme_refused",
    "ftp://127.0.0.1/{}.jpg": "scheme_refused",
    "http://127.0.0.1:99999/{}.jpg": "bad_url",
    "http:///{}.jpg": "bad_url",
    "http://a%3Ab:c@127.0.0.1/{}.jpg": "bad_url",
    "{}.jpg": "bad_url",
}
"""Addresses that lead to no server at all."""
SHARED_HOSTS: Final = 20
"""Every second row is on one of these; the others are on hosts of their own."""
PIECES: Final = "?pieces"
"""At the end of an address: what is sent comes in many packets."""
ANY: Final = "0.0.0.0"
SOON: Final = 0.02


class HostileServer:
    """The process, for as long as a `with` block lasts."""

    def __init__(self) -> None:
        self.ports: dict[str, int] = {}
        """By name: "main" and those of PORTS."""

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "tests.create.web.hostile_server"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert self._process.stdout is not None
        self.ports = json.loads(self._process.stdout.readline())
        return self

    def __exit__(self, *failure: object) -> None:
        self._process.communicate("")  # the end of its input is its end

    def url(self, name: str, number: int = 0, *, host: str | None = None) -> str:
        """Where row `number` meets the misbehaviour or port of this name; on a host of its own unless one is given."""
        scheme = "https" if name == "tls" else "http"
        port = self.ports.get(name, self.ports["main"])
        return f"{scheme}://{host or host_of(number)}:{port}/{name}/{number}"

    def rows(self, count: int) -> Iterator[tuple[str, str | None]]:
        """So many URLs and the errors that their rows must get: all there are in equal parts, well mixed."""
        dice = random.Random(0)
        kinds = [*expected_errors().items(), *ELSEWHERE.items()]
        for number in range(count):
            if number % len(kinds) == 0:
                dice.shuffle(kinds)
            name, expected = kinds[number % len(kinds)]
            if name in ELSEWHERE:
                yield name.format(number), expected
            else:
                host = host_of(number % SHARED_HOSTS) if number % 2 else host_of(number)
                yield self.url(name, number, host=host), expected


def host_of(number: int) -> str:
    """One of a million loopback addresses."""
    return f"127.{1 + number % 100}.{number // 100 % 100}.{1 + number // 10_000 % 100}"


def expected_errors() -> dict[str, str | None]:
    """The error of every misbehaviour and port by name."""
    return {name: each.expected for name, each in misbehaviours().items()} | PORTS


async def serve() -> None:
    """Listen until standard input ends."""
    known = misbehaviours()
    listeners = {name: _loopback_socket() for name in ("main", *PORTS)}
    ports = {name: listener.getsockname()[1] for name, listener in listeners.items()}
    filling = _fill_backlog(listeners["backlog"])
    with contextlib.ExitStack() as stack:
        for listener in (*listeners.values(), *filling):
            stack.enter_context(listener)
        await asyncio.start_server(partial(_converse, known), sock=listeners["main"], backlog=4096)
        await asyncio.start_server(_mute, sock=listeners["mute"], backlog=4096)
        await asyncio.start_server(_slam, sock=listeners["slams"], backlog=4096)
        await asyncio.start_server(_mute, sock=listeners["tls"], backlog=4096, ssl=_certificate())
        print(json.dumps(ports), flush=True)
        await asyncio.to_thread(sys.stdin.read)


def _loopback_socket() -> socket.socket:
    """Bound to a free port of every loopback address, and of no other: it hears the loopback device alone."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
    listener.bind((ANY, 0))
    return listener


def _fill_backlog(listener: socket.socket) -> list[socket.socket]:
    """Connections that nobody accepts, until a further one is not answered any more."""
    listener.listen(0)
    clients = []
    for _ in range(4):
        client = socket.socket()
        client.setblocking(False)
        client.connect_ex(("127.0.0.1", listener.getsockname()[1]))
        clients.append(client)
    return clients


def _certificate() -> ssl.SSLContext:
    """Signed by itself."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        key, certificate = Path(folder, "key.pem"), Path(folder, "certificate.pem")
        names = (
            "-subj",
            "/CN=localhost",
            "-days",
            "2",
            "-nodes",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
        )
        command = ["openssl", "req", "-x509", *names, "-keyout", key, "-out", certificate]
        subprocess.run(command, check=True, capture_output=True)
        context.load_cert_chain(certificate, key)
    return context


async def _converse(known: dict[str, Misbehaviour], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Misbehave as often as one connection asks for it."""
    end: End = "keep"
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        while end == "keep":
            request = await reader.readuntil(b"\r\n\r\n")
            path = request.split(b" ", 2)[1].decode("latin-1")
            name, _, number = path[1:].partition("?")[0].partition("/")
            content = known[name].content
            if path.endswith(PIECES) and isinstance(content, bytes):
                content = partial(_in_pieces, content)
            await _send(content, Asked(path=path, number=int(number or 0)), writer)
            end = known[name].end
        if end == "hang":
            await reader.read()
        if end == "reset":
            await asyncio.sleep(SOON)  # until what was sent has arrived: a reset overtakes it
    _end(writer, reset=end == "reset")


async def _send(content: Content, asked: Asked, writer: asyncio.StreamWriter) -> None:
    parts = content if isinstance(content, bytes) else content(asked)
    if isinstance(parts, AsyncIterator):
        async for part in parts:
            writer.write(part)
            await writer.drain()
        return
    for part in [parts] if isinstance(parts, bytes) else parts:
        writer.write(part)
        await writer.drain()


async def _in_pieces(whole: bytes, _: Asked) -> AsyncIterator[bytes]:
    """A packet for each few bytes at the beginning, and one for the rest."""
    for place in range(0, len(whole), 7):
        if place > 350:
            yield whole[place:]
            return
        yield whole[place : place + 7]
        await asyncio.sleep(0.001)


async def _mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while await reader.read(65536):
            pass
    writer.close()


async def _slam(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    _end(writer, reset=True)


def _end(writer: asyncio.StreamWriter, *, reset: bool) -> None:
    if reset:
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
    else:
        writer.close()


if __name__ == "__main__":
    asyncio.run(serve())
