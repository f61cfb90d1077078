"""How a whole run treats its hosts: none is asked more than it likes, and none holds up the rows of the others."""

import asyncio
import contextlib
import socket
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from aiohttp.abc import AbstractResolver

from tarloom.create.config import ConsentOptions, WebOptions
from tarloom.create.rows import Row
from tarloom.create.web.fetch import WebFetcher
from tarloom.create.web.hosts import FAILURES
from tarloom.create.web.lookups import SharedLookups
from tarloom.errors import FetchError
from tests.create.sources.small_server import Reply, SmallServer

BODY = b"\xff\xd8\xff\xe0 nearly"


class Loopback(AbstractResolver):
    """Every name is this machine; counts how often each is asked for."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()

    async def resolve(self, host, port=0, family=0):
        self.asked[host] += 1
        if host.startswith("unknown"):
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return [{"hostname": host, "host": "127.0.0.1", "port": port, "family": 2, "proto": 6, "flags": 0}]

    async def close(self):
        pass


def fetch_all(urls: list[str], lookups: AbstractResolver | None = None, **options) -> list[str]:
    """What became of each URL: "ok", or its error, each as soon as it can be."""
    web = WebOptions(**{"allow_private": ("127.0.0.0/8",), "timeout": 20, "retries": 0, "max_wait": 0.5} | options)

    async def one(fetcher: WebFetcher, url: str) -> str:
        try:
            found = await fetcher.fetch(Row(key="0", url=url, columns={}, beside={}))
        except FetchError as error:
            return str(error)
        assert found.data == BODY
        return "ok"

    async def run() -> list[str]:
        async with WebFetcher(web, ConsentOptions(), lookups=lookups) as fetcher:
            return await asyncio.gather(*(one(fetcher, url) for url in urls))

    return asyncio.run(run())


class Counting:
    """A reply that takes a while, and knows how many are asked for at once: the first wait until so many are."""

    def __init__(self, seconds: float, *, at_once: int = 1, patience: float = 15) -> None:
        self.most = self.now = 0
        self._seconds, self._at_once, self._patience = seconds, at_once, patience
        self._changed = threading.Condition()

    def __call__(self, path: str) -> Reply:
        with self._changed:
            self.now += 1
            self.most = max(self.most, self.now)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self.most >= self._at_once, self._patience)
        time.sleep(self._seconds)
        with self._changed:
            self.now -= 1
        return Reply(BODY)


@pytest.mark.parametrize(("options", "most"), [({"host_connections": 3}, 3), ({"thread_count": 2}, 2)])
def test_no_more_is_asked_for_at_once_than_allowed(options, most):
    reply = Counting(0.02, at_once=most)
    with SmallServer(reply) as server:
        assert fetch_all([server.url(f"/{n}") for n in range(20)], **options) == ["ok"] * 20
    assert reply.most == most


def test_a_host_is_asked_no_faster_than_allowed():
    with SmallServer(lambda path: Reply(BODY)) as server:
        started = time.monotonic()  # and not when the server heard of the first: on a busy machine that is late
        assert fetch_all([server.url(f"/{n}") for n in range(12)], host_rate=20) == ["ok"] * 12
    assert max(server.times) - started > 11 / 20, [moment - started for moment in server.times]


def in_an_hour() -> str:
    return format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)


@pytest.mark.parametrize("when", [lambda: "3600", in_an_hour], ids=["seconds", "date"])
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_pauses_the_host_and_not_only_the_row(when, status):
    """The first answer asks to wait; nothing else is asked for meanwhile, and then everything comes."""
    first = threading.Event()

    def reply(path: str) -> Reply:
        if first.is_set():
            return Reply(BODY)
        first.set()
        return Reply(status=status, headers=[("Retry-After", when())])

    with SmallServer(reply) as server:
        urls = [server.url(f"/{n}") for n in range(8)]
        assert fetch_all(urls, host_connections=1, retries=1, max_wait=0.4) == ["ok"] * 8
        pause = server.times[1] - server.times[0]
    assert pause > 0.35, "max_wait, and not the hour that was asked for"
    assert sum(server.requests.values()) == 9


def test_a_host_that_is_not_there_is_given_up_and_its_rows_keep_their_name():
    class Later(Loopback):
        async def resolve(self, host, port=0, family=0):
            """gone.test's when two tries of there.test's have been answered: where nobody answers, none is given up."""
            while host == "gone.test" and len(server.times) < 4:
                await asyncio.sleep(0.01)
            return await super().resolve(host, port, family)

    lookups = Later()
    urls = [f"http://gone.test:1/{n}" for n in range(300)] + [f"http://unknown.test/{n}" for n in range(100)]
    with SmallServer(Counting(0.1)) as server:
        urls += [f"http://there.test:{server.port}/{n}" for n in range(40)]
        found = fetch_all(urls, lookups, retries=4, max_wait=0.5, host_connections=2)
    assert Counter(found) == {
        "ok": 40,
        "connect: no connection, or it was lost": 300,
        "dns: the host has no address": 100,
    }
    assert FAILURES <= lookups.asked["gone.test"] < 60, "instead of 1500"


def test_a_host_that_answers_is_never_given_up_whatever_it_answers():
    with SmallServer(lambda path: Reply(status=500)) as server:
        found = fetch_all([server.url(f"/{n}") for n in range(30)], retries=1, max_wait=0.01)
        assert Counter(found) == {"http_500: Internal Server Error": 30}
        assert sum(server.requests.values()) == 60


def test_rows_of_a_slow_host_hold_up_no_others():
    """Ten times as many rows of a slow host as there are places, and all before the fast host's."""
    served = threading.Event()

    def slowly(path: str) -> Reply:
        served.wait(15)
        return Reply(BODY)

    def quickly(path: str) -> Reply:
        if len(fast.times) == 30:
            served.set()
        return Reply(BODY)

    with SmallServer(slowly) as slow, SmallServer(quickly) as fast:
        urls = [slow.url(f"/{n}") for n in range(30)] + [fast.url(f"/{n}") for n in range(30)]
        assert fetch_all(urls, thread_count=4, host_connections=2, timeout=60) == ["ok"] * 60
        assert max(fast.times) < slow.times[2]


def test_long_bodies_that_hardly_come_hold_up_no_rows_of_other_hosts():
    """Together they announce fifteen times the memory for bodies, and all are under way before the others begin."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answering.append(asyncio.current_task())
        path = (await reader.readuntil(b"\r\n\r\n")).split()[1]
        length = 100_000 if path == b"/good" else 64 << 20
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length + bytes(min(length, 100_000)))
        with contextlib.suppress(OSError):
            while path == b"/slow":
                writer.write(b"a")
                await writer.drain()
                await asyncio.sleep(0.05)
            await reader.read()
        writer.close()

    async def fetch(fetcher: WebFetcher, host: str, path: str) -> None:
        url = f"http://{host}:{server.sockets[0].getsockname()[1]}/{path}"
        with contextlib.suppress(FetchError):
            await fetcher.fetch(Row(key="0", url=url, columns={}, beside={}))
        ended.append(path)

    async def run() -> None:
        nonlocal server
        web = WebOptions(allow_private=("127.0.0.0/8",), timeout=8, retries=0)
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with server:
            async with WebFetcher(web, lookups=Loopback()) as fetcher, asyncio.TaskGroup() as group:
                for _ in range(31):
                    group.create_task(fetch(fetcher, "slow.test", "slow"))
                await asyncio.sleep(0.5)
                for _ in range(20):
                    group.create_task(fetch(fetcher, "good.test", "good"))
            await asyncio.gather(*answering)

    server, ended, answering = None, [], []
    asyncio.run(run())
    assert ended == ["good"] * 20 + ["slow"] * 31


def test_a_redirect_counts_for_the_host_that_it_leads_to():
    reply = Counting(0.02, at_once=2)
    with SmallServer(reply) as there:
        away = SmallServer(lambda path: Reply(status=302, headers=[("Location", there.url(path))]))
        with away as here:
            assert fetch_all([here.url(f"/{n}") for n in range(12)], host_connections=2) == ["ok"] * 12
    assert reply.most == 2


def test_names_are_looked_up_once_and_connections_used_again():
    with SmallServer(lambda path: Reply(BODY)) as server:
        port = server.port
        urls = [f"http://localhost:{port}/{n}" for n in range(50)]
        assert fetch_all(urls, host_connections=4, allow_private=("localhost",)) == ["ok"] * 50
        assert server.connections <= 4


def test_a_name_that_cannot_be_looked_up_for_a_moment_is_looked_up_again_by_the_next_try():
    class Stumbling(Loopback):
        async def resolve(self, host, port=0, family=0):
            if self.asked[host] == 0:
                self.asked[host] += 1
                raise socket.gaierror(socket.EAI_AGAIN, "try again")
            return await super().resolve(host, port, family)

    with SmallServer(lambda path: Reply(BODY)) as server:
        lookups = SharedLookups(Stumbling())
        assert fetch_all([f"http://there.test:{server.port}/x"], lookups, retries=1, max_wait=5) == ["ok"]


def test_idle_connections_are_bounded(monkeypatch):
    """As many hosts as you like: those that were used last stay open."""
    monkeypatch.setattr("tarloom.create.web.connections.LOOK_EVERY", 1)
    monkeypatch.setattr("tarloom.create.web.connections.IDLE_CONNECTIONS", 5)
    seen = []

    async def run() -> None:
        web = WebOptions(allow_private=("127.0.0.0/8",))
        async with WebFetcher(web, lookups=Loopback()) as fetcher:
            for number in range(20):
                url = f"http://host-{number}.test:{server.port}/"
                await fetcher.fetch(Row(key="0", url=url, columns={}, beside={}))
                seen.append([key.host for key in fetcher._transport._direct.connector._conns])

    with SmallServer(lambda path: Reply(BODY)) as server:
        asyncio.run(run())
    assert max(map(len, seen)) == 5
    assert seen[-1] == [f"host-{number}.test" for number in range(15, 20)]


def test_a_thousand_connections_at_once_are_made():
    with SmallServer(Counting(0, at_once=501, patience=60)) as server:
        urls = [f"http://host-{n % 40}.test:{server.port}/{n}" for n in range(1000)]
        assert fetch_all(urls, Loopback(), thread_count=1000, timeout=100) == ["ok"] * 1000
        assert server._reply.most > 500
