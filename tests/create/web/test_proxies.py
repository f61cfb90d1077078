"""Proxies of the environment are used, and are no way around the guard: a real proxy on loopback stands between."""

import asyncio
import contextlib
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Self

import pytest
from yarl import URL

from tarloom.create.config import WebOptions
from tarloom.create.rows import Row
from tarloom.create.web.fetch import WebFetcher
from tarloom.create.web.proxies import Proxies
from tarloom.errors import FetchError, UsageError
from tests.create.sources.small_server import Reply, SmallServer
from tests.create.web.test_shared import NameServer
from tests.source_tree import ROOT

PICTURE = b"\xff\xd8\xff\xe0 nearly"
VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


class Proxy:
    """An HTTP proxy that sends whatever it is asked for to one web server, whose name it alone knows."""

    def __init__(self, server: SmallServer) -> None:
        self.asked: list[str] = []
        """Request lines."""
        self.credentials: list[str] = []
        self.tunnels = False
        """Whether it lets TLS through."""
        self._server = server
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        listening = asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._listener = asyncio.run_coroutine_threadsafe(listening, self._loop).result()
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *failure: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        self._listener.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                line, *headers = head.split("\r\n")
                self.asked.append(line)
                self.credentials += [header for header in headers if header.startswith("Proxy-Authorization")]
                if line.startswith("CONNECT"):
                    await self._tunnel(reader, writer)
                    break
                path = "/" + line.split()[1].split("/", 3)[3]
                up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._server.port)
                try:
                    up_writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
                    writer.write(await up_reader.read())
                finally:
                    up_writer.close()
                break
        writer.close()

    async def _tunnel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.tunnels:
            writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._server.port)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        try:
            await asyncio.gather(_pass_on(reader, up_writer), _pass_on(up_reader, writer))
        finally:
            up_writer.close()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


@pytest.fixture
def server() -> Iterator[SmallServer]:
    away = Reply(status=302, headers=[("Location", "http://10.0.0.1/inside.jpg")])
    with SmallServer(lambda path: away if path == "/away" else Reply(PICTURE)) as server:
        yield server


@pytest.fixture
def proxy(server, monkeypatch) -> Iterator[Proxy]:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with Proxy(server) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        yield proxy


def fetch(url: str, **options) -> bytes | str:
    """The body, or the error's name. Only public.test has an address here; nothing private is allowed."""

    async def run() -> bytes | str:
        web = WebOptions(**{"timeout": 20, "retries": 0} | options)
        async with WebFetcher(web, lookups=Names()) as fetcher:
            try:
                return (await fetcher.fetch(Row(key="0", url=url, columns={}, beside={}))).data
            except FetchError as error:
                return error.name

    return asyncio.run(run())


ADDRESSES = {"public.test": "93.184.216.34", "private.test": "192.168.0.1", "proxy.test": "127.0.0.1"}


class Names(NameServer):
    """A name server that knows a few names, and what this machine takes for numbers."""

    async def resolve(self, host, port=0, family=0):
        address = ADDRESSES.get(host) or numeric(host)
        if address is None:
            return await super().resolve(host, port, family)
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        return [{"hostname": host, "host": address, "port": port, "family": family, "proto": 6, "flags": 0}]


def numeric(host: str) -> str | None:
    try:
        return str(socket.getaddrinfo(host, 0, flags=socket.AI_NUMERICHOST)[0][4][0])
    except OSError:
        return None


@pytest.mark.parametrize(
    "url", ["http://public.test/x.jpg", "http://1.1.1.1/x.jpg", "http://known-to-the-proxy.test/x.jpg"]
)
def test_the_proxy_is_asked_wherever_it_stands(proxy, url):
    assert fetch(url) == PICTURE
    assert proxy.asked == [f"GET {url} HTTP/1.1"]


def test_what_is_sent_to_the_proxy_is_what_was_given(proxy):
    assert fetch("http://public.test/a%2Bb/%7E?c=%2F+d;e") == PICTURE
    assert proxy.asked == ["GET http://public.test/a%2Bb/%7E?c=%2F+d;e HTTP/1.1"]


@pytest.mark.parametrize(
    "host",
    [
        *(
            "10.0.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "[::1]",
            "[::ffff:10.0.0.1]",
            "private.test",
            "①②⑦.⓪.⓪.①",
            "0x7f.1",
        ),
        *(
            "2130706433",
            "127.1",
            "0177.0.0.1",
            "[64:ff9b::a00:1]",
            "[fe80::1%25lo]",
            "[fe80::1%25x]",
            "10.0.0.1.",
            "0x7f.1.",
        ),
        *("0300.0250.1", "4294967297", "0xfffffffff", "09.1", "1.2.3.4.5"),
    ],
)
def test_nothing_private_is_asked_for_through_the_proxy(proxy, server, host):
    assert fetch(f"http://{host}/x.jpg") in ("refused_private_address", "bad_url")
    assert fetch(f"https://{host}/x.jpg") in ("refused_private_address", "bad_url")
    assert proxy.asked == []


def test_a_redirect_to_a_private_address_is_not_followed_through_the_proxy(proxy):
    assert fetch("http://public.test/away") == "refused_private_address"
    assert proxy.asked == ["GET http://public.test/away HTTP/1.1"]


def test_what_is_allowed_is_asked_for_through_the_proxy(proxy):
    assert fetch("http://10.0.0.1/x.jpg", allow_private=("10.0.0.0/8",)) == PICTURE


def test_no_proxy_is_kept_to(proxy, server, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert fetch(server.url("/x.jpg"), allow_private=("127.0.0.0/8",)) == PICTURE
    assert fetch(server.url("/x.jpg")) == "refused_private_address"
    assert proxy.asked == []


def test_a_password_is_given_to_the_proxy_alone(proxy, server, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://me:secret@proxy.test:{proxy.port}")
    assert fetch("http://public.test/x.jpg") == PICTURE
    assert proxy.credentials == ["Proxy-Authorization: Basic bWU6c2VjcmV0"]
    assert "Authorization" not in server.headers[0]


def test_a_proxy_that_refuses_or_is_not_there_has_a_name(proxy, monkeypatch):
    assert fetch("https://public.test/x.jpg") == "proxy"
    assert proxy.asked == ["CONNECT public.test:443 HTTP/1.1"]
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert fetch("http://public.test/x.jpg") == "proxy"
    monkeypatch.setenv("http_proxy", "http://no-such-proxy.invalid")
    assert fetch("http://public.test/x.jpg") == "proxy"


PROGRAM = """
import sys
from tests.create.web.test_proxies import fetch
print([fetch(url, allow_private=("127.0.0.0/8",)) for url in sys.argv[1:]])
"""


def test_tls_is_checked_end_to_end_directly_and_through_the_proxy(proxy, tmp_path):
    """In a process of its own, which trusts a certificate of public.test."""
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    names = ("-subj", "/CN=public.test", "-addext", "subjectAltName=DNS:public.test,IP:127.0.0.1")
    kind = ("-x509", "-days", "2", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
    command = ["openssl", "req", *kind, *names, "-keyout", key, "-out", certificate]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with SmallServer(lambda path: Reply(PICTURE), tls=context) as secure:
        proxy._server, proxy.tunnels = secure, True
        direct = f"https://127.0.0.1:{secure.port}/x.jpg"
        program = [sys.executable, "-c", PROGRAM, "https://public.test/x.jpg", "https://other.test/x.jpg", direct]
        environment = os.environ | {"SSL_CERT_FILE": str(certificate), "no_proxy": "127.0.0.1"}
        ended = subprocess.run(program, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert ended.stdout == f"{[PICTURE, 'tls', PICTURE]}\n", ended.stderr
    assert proxy.asked == ["CONNECT public.test:443 HTTP/1.1", "CONNECT other.test:443 HTTP/1.1"]


@pytest.mark.parametrize("text", ["socks5://h:1", "http://", "http://[", "ftp://h", "http://a%3Ab:c@h:1"])
def test_an_address_of_no_http_proxy_is_refused_before_anything_starts(text):
    with pytest.raises(UsageError, match="http_proxy is not the address of an HTTP proxy"):
        Proxies({"http": text}).check()


@pytest.mark.parametrize(
    ("no_proxy", "url", "direct"),
    [
        ("", "http://h.example/", False),
        ("*", "http://h.example/", True),
        ("h.example", "http://h.example/", True),
        ("H.Example", "http://h.example/", True),
        ("example", "http://h.example/", True),
        (".example, other", "http://h.example/", True),
        ("*.example", "http://h.example/", True),
        ("ample", "http://h.example/", False),
        ("h.example:8080", "http://h.example/", False),
        ("h.example:80", "http://h.example/", True),
        ("10.0.0.0/8", "http://10.1.2.3/", True),
        ("10.0.0.0/8", "http://11.1.2.3/", False),
        ("10.1.2.3", "http://10.1.2.3:81/", True),
        ("::1", "http://[::1]/", True),
        ("[::1]", "http://[::1]/", True),
        ("[::1]:80", "http://[::1]/", True),
        ("[::1]:81", "http://[::1]/", False),
        ("fd00::/8", "http://[fd00::1]/", True),
        ("localhost,127.0.0.1", "http://h.example/", False),
    ],
)
def test_which_hosts_need_no_proxy(no_proxy, url, direct):
    proxies = Proxies({"http": "proxy.test:3128", "no": no_proxy})
    assert proxies.of(URL(url)) == (None if direct else URL("http://proxy.test:3128"))


def test_who_asks_for_one_url_needs_no_other_proxy_to_be_sound():
    proxies = Proxies({"http": "http://a.test", "all": "socks5://b.test", "no": "localhost"})
    assert proxies.of(URL("https://localhost/")) is None
    assert str(proxies.of(URL("http://h/"))) == "http://a.test"
    with pytest.raises(UsageError, match="https_proxy is not the address"):
        proxies.of(URL("https://h/"))


def test_each_scheme_has_its_proxy_and_all_is_for_those_without():
    proxies = Proxies({"http": "http://a.test", "all": "http://b.test"})
    assert [str(proxies.of(URL(url))) for url in ("http://h/", "https://h/")] == ["http://a.test", "http://b.test"]
    assert Proxies({}).of(URL("http://h/")) is None
    assert not Proxies({"no": "*"})
