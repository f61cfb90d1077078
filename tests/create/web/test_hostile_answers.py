"""Each misbehaviour of a server gets its one error, in whatever packets it comes, in bounded time and memory."""

import asyncio
import resource
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace

import pytest

from tarloom.create.config import ImageOptions, WebOptions
from tarloom.create.pictures.images import process_picture
from tarloom.create.rows import Row
from tarloom.create.web.fetch import WebFetcher
from tarloom.errors import RowError
from tests.create.helpers import create, table, write_list
from tests.create.web.hostile_answers import misbehaviours
from tests.create.web.hostile_server import PIECES, HostileServer, expected_errors

OPTIONS = WebOptions(allow_private=("127.0.0.0/8",), timeout=4, retries=0, max_bytes=4 << 20)
PATIENT = replace(OPTIONS, timeout=60)
BOMBS = 300
Outcomes = dict[str, str | None]


@pytest.fixture(scope="module")
def server() -> Iterator[HostileServer]:
    with HostileServer() as server:
        yield server


def outcomes(urls: dict[str, str], options: WebOptions = OPTIONS) -> Outcomes:
    """What became of each URL: the name of its error, None for a picture."""

    async def outcome(fetcher: WebFetcher, url: str) -> str | None:
        try:
            data = (await fetcher.fetch(Row(key="0", url=url, columns={}, beside={}))).data
            process_picture(data, ImageOptions())
        except RowError as error:
            return error.name
        return None

    async def run() -> list[str | None]:
        async with WebFetcher(options) as fetcher:
            return await asyncio.gather(*(outcome(fetcher, url) for url in urls.values()))

    return dict(zip(urls, asyncio.run(run()), strict=True))


def different(expected: Outcomes, found: Outcomes) -> dict[str, tuple[str | None, str | None]]:
    return {name: (expected[name], found[name]) for name in found if expected[name] != found[name]}


def test_every_misbehaviour_gets_its_error_and_none_outlives_the_deadline(server):
    """Those that would take for ever have a short one; the others' is long: they must end by themselves."""
    urls = {name: server.url(name, number) for number, name in enumerate(expected_errors())}
    endless = {name for name, error in expected_errors().items() if error == "timeout"}
    started = time.monotonic()
    found = outcomes({name: url for name, url in urls.items() if name in endless})
    assert time.monotonic() - started < 15 * OPTIONS.timeout
    found |= outcomes({name: url for name, url in urls.items() if name not in endless}, PATIENT)
    assert different(expected_errors(), found) == {}


def test_an_error_does_not_depend_on_the_packets_that_an_answer_comes_in(server):
    fixed = [name for name, each in misbehaviours().items() if isinstance(each.content, bytes) and each.end != "hang"]
    assert len(fixed) > 50
    found = outcomes({name: server.url(name, number) + PIECES for number, name in enumerate(fixed)})
    assert different(expected_errors(), found) == {}


def test_what_a_server_sends_unasked_is_no_answer_to_the_next_row(server):
    """One host, whose connections are used again after answers of every kind, many times over."""
    slow = {name for name, error in expected_errors().items() if error == "timeout"} | {"status-429", "status-503"}
    names = [name for name in misbehaviours() if name not in slow] * 10
    urls = {f"{number} {name}": server.url(name, number, host="127.0.0.1") for number, name in enumerate(names)}
    options = WebOptions(allow_private=OPTIONS.allow_private, timeout=20, retries=0, max_bytes=1 << 20)
    expected = {each: expected_errors()[each.split()[1]] for each in urls}
    assert different(expected, outcomes(urls, options)) == {}


def test_hundreds_of_bombs_at_once_are_refused_in_bounded_memory(server):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    kinds = [name for name in misbehaviours() if name.startswith("bomb-")]
    urls = {f"{number}": server.url(kinds[number % len(kinds)], number) for number in range(BOMBS)}
    options = WebOptions(
        allow_private=OPTIONS.allow_private, timeout=60, retries=0, max_bytes=1 << 30, thread_count=BOMBS
    )
    found = outcomes(urls, options)
    assert set(found.values()) == {"too_large", "too_many_pixels", "too_many_scans", "unknown_encoding"}
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 << 10


def test_a_run_over_bad_hosts_accounts_for_every_row(server, tmp_path):
    rows = list(server.rows(1000))
    source = write_list(tmp_path / "urls.txt", [url for url, _ in rows])
    settings = {"timeout": 4, "retries": 0, "max_wait": 0.2, "max_bytes": 1 << 20, "thread_count": 256}
    created = create(source, tmp_path / "out", workers=2, number_sample_per_shard=500, **settings)
    assert created.rows == 1000
    found = table(tmp_path / "out").select(["url", "error"]).to_pylist()
    assert [row["url"] for row in found] == [url for url, _ in rows]
    assert wrong(((url, expected) for url, expected in rows), (row["error"] for row in found)) == {}


def wrong(rows: Iterable[tuple[str, str | None]], found: Iterable[str | None]) -> Counter[tuple]:
    """How often a kind of row got another error than it must."""
    both = zip(rows, found, strict=True)
    return Counter((url.rpartition("/")[0][-30:], want, got) for (url, want), got in both if want != got)
