"""Downloads: each misbehaviour has its name, and none takes longer than its deadline allows."""

import asyncio
import subprocess
import sys
import time

import pytest

from source_data.serve import TROUBLES, PhotoServer
from tarloom.create.config import WebOptions
from tarloom.create.rows import Row
from tarloom.create.web.fetch import WebFetcher, pause_before_retry, seconds_asked_for
from tarloom.errors import FetchError

DECODING = ("not_an_image", "truncated", "too_many_pixels")


def fetch(url: str | None, **options) -> bytes:
    settings = {"allow_private": ("127.0.0.0/8",), "timeout": 20, "retries": 2, "max_wait": 0.1, "max_bytes": 4 << 20}

    async def run() -> bytes:
        async with WebFetcher(WebOptions(**settings | options)) as fetcher:
            return (await fetcher.fetch(Row(key="0", url=url, columns={}, beside={}))).data

    return asyncio.run(run())


def failure(url: str | None, **options) -> FetchError:
    with pytest.raises(FetchError) as caught:
        fetch(url, **options)
    assert str(caught.value).startswith(f"{caught.value.name}: ")
    return caught.value


def absolute(server: PhotoServer, url: str) -> str:
    return url if "://" in url else f"{server.url}/{url}"


@pytest.mark.parametrize("trouble", [t for t in TROUBLES if t.expected not in DECODING], ids=lambda t: t.story)
def test_each_misbehaviour_has_its_name_and_ends_in_time(photo_server, trouble):
    deadline = 0.5 if trouble.expected == "timeout" else 20
    started = time.monotonic()
    assert failure(absolute(photo_server, trouble.url), timeout=deadline).name == trouble.expected
    assert time.monotonic() - started < 30, "and not the minutes or the eternity that some would take"


@pytest.mark.parametrize(
    ("url", "name"),
    [
        (None, "bad_url"),
        ("", "bad_url"),
        ("nonsense", "bad_url"),
        ("http://", "bad_url"),
        ("http://[::1", "bad_url"),
        ("http://127.0.0.1:99999/", "bad_url"),
        (f"http://{'a' * 80}.test/", "bad_url"),
        ("http://xn--a.invalid/", "bad_url"),
        ("ftp://127.0.0.1/x.jpg", "scheme_refused"),
        ("data:image/png;base64,AAAA", "scheme_refused"),
        ("http://127.0.0.1:1/closed.jpg", "connect"),
        ("http://169.254.169.254/latest/meta-data", "refused_private_address"),
        ("http://[::ffff:192.168.0.1]/", "refused_private_address"),
    ],
)
def test_an_address_that_leads_nowhere_has_a_name(url, name):
    assert failure(url).name == name


def test_an_unknown_host_is_named_dns():
    assert failure("http://no-such-host.invalid/x.jpg", timeout=100).name == "dns"


def test_nothing_private_is_fetched_unless_allowed(photo_server):
    photo_server.requests.clear()
    assert failure(f"{photo_server.url}/pictures/0001.jpg", allow_private=()).name == "refused_private_address"
    assert not photo_server.requests


def test_a_body_cut_short_is_transient(photo_server):
    error = failure(f"{photo_server.url}/trouble/cut.jpg")
    assert (error.name, error.transient) == ("body_cut_short", True)


def test_failures_that_pass_are_tried_again(photo_server):
    assert fetch(f"{photo_server.url}/error-once/pictures/0003.jpg").startswith(b"\xff\xd8")


def test_a_pause_that_the_server_asks_for_is_kept(photo_server):
    url = f"{photo_server.url}/busy/pictures/0005.jpg"
    started = time.monotonic()
    assert fetch(url, max_wait=200).startswith(b"\xff\xd8")
    assert 0.9 < time.monotonic() - started < 60, "a second was asked for"


def test_more_downloads_than_open_files_are_refused_and_no_row_fails_for_it():
    program = (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (20, 600))\n"
        "from tarloom.create.web.connections import allow_open_files\n"
        "allow_open_files(64); assert resource.getrlimit(resource.RLIMIT_NOFILE) == (600, 600)\n"
        "allow_open_files(1000)"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "UsageError: 1000 downloads at once need 1320 open files, but 600 are allowed" in ended.stderr


def test_final_failures_are_asked_for_once(photo_server):
    photo_server.requests.clear()
    failure(f"{photo_server.url}/trouble/missing.jpg", retries=5)
    assert photo_server.requests["/trouble/missing.jpg"] == 1


def test_passing_failures_are_asked_for_as_often_as_allowed(photo_server):
    photo_server.requests.clear()
    failure(f"{photo_server.url}/trouble/broken.jpg", retries=3)
    assert photo_server.requests["/trouble/broken.jpg"] == 4


def test_pauses_grow_and_are_capped():
    pauses = [pause_before_retry(attempt, 60) for attempt in range(4)]
    assert all(0.25 * 2**attempt <= pause <= 0.5 * 2**attempt for attempt, pause in enumerate(pauses))
    assert pause_before_retry(20, 10) == 10


def test_retry_after_may_be_seconds_or_a_date():
    assert seconds_asked_for("120") == 120
    assert seconds_asked_for("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert seconds_asked_for("Fri, 31 Dec 2099 23:59:59 GMT") > 10**9
    assert seconds_asked_for("soon") == seconds_asked_for(None) == 0


def test_a_date_without_a_zone_is_universal_time(monkeypatch):
    monkeypatch.setenv("TZ", "UTC-12")
    time.tzset()
    try:
        asked = seconds_asked_for(time.asctime(time.gmtime(time.time() + 3600)))
    finally:
        monkeypatch.undo()
        time.tzset()
    assert 3500 < asked <= 3600


@pytest.mark.parametrize("asked", ["\u00b2", "-5", "Mon, 01 Jan 99999999999999999999 00:00:00 GMT"])
def test_a_retry_after_that_makes_no_sense_is_none(asked):
    assert seconds_asked_for(asked) == 0


def test_a_retry_after_beyond_all_measure_can_be_read():
    assert seconds_asked_for("9" * 5000) == float("inf")
