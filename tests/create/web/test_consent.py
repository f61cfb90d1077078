"""What owners want is heeded: by header, by robots.txt and by TDM reservation, each from a real server."""

import asyncio
import json

import pytest
from aiohttp.abc import AbstractResolver
from hypothesis import given
from hypothesis import strategies as st

from tarloom.create.config import ConsentOptions, WebOptions
from tarloom.create.rows import Row
from tarloom.create.web.consent import directives_for, honest_user_agent, is_reserved, parse_reservations
from tarloom.create.web.fetch import WebFetcher
from tarloom.errors import FetchError
from tests.create.helpers import create, encoded, photo, rows, write_list
from tests.create.sources.small_server import Reply, SmallServer
from tests.create.web.test_shared import NameServer

PICTURE = b"\xff\xd8\xff\xe0 nearly"
WEB = WebOptions(allow_private=("127.0.0.0/8",), timeout=20, retries=1, max_wait=0.05)


def fetch_all(urls: list[str], web: WebOptions = WEB, lookups: AbstractResolver | None = None, **consent) -> list[str]:
    """What became of each URL: "ok", or its error."""

    async def one(fetcher: WebFetcher, url: str) -> str:
        try:
            found = await fetcher.fetch(Row(key="0", url=url, columns={}, beside={}))
        except FetchError as error:
            return str(error) if error.name == "opted_out" and not error.transient else error.name
        assert found.data == PICTURE
        return "ok"

    async def run() -> list[str]:
        async with WebFetcher(web, ConsentOptions(**consent), lookups=lookups) as fetcher:
            return await asyncio.gather(*(one(fetcher, url) for url in urls))

    return asyncio.run(run())


def fetch_with_header(*values: str, name: str = "X-Robots-Tag", **consent) -> str:
    with SmallServer(lambda path: Reply(PICTURE, [(name, value) for value in values])) as server:
        return fetch_all([server.url("/x.jpg")], **consent)[0]


@pytest.mark.parametrize(
    ("values", "token", "said"),
    [
        (["noindex"], None, "noindex"),
        (["NoAI"], None, "noai"),
        (["nofollow, noimageai"], None, "noimageai"),
        (["nofollow", "noarchive, noimageindex"], None, "noimageindex"),
        (["nofollow"], None, None),
        (["all"], None, None),
        ([""], None, None),
        (["otherbot: noindex"], None, None),
        (["otherbot: noindex"], "mybot", None),
        (["MyBot: noai"], "mybot", "noai"),
        (["mybot: noai"], "MyBot", "noai"),
        (["mybot: nofollow", "noai"], "mybot", "noai"),
        (["tarloom: noai"], None, "noai"),
        (["noindex, unavailable_after: 25 Jun 2010 15:00:00 PST"], None, "noindex"),
        (["unavailable_after: 25 Jun 2010 15:00:00 PST, noindex"], None, "noindex"),
        (["max-image-preview: none, noai"], None, "noai"),
        (["None"], None, "noindex"),
        (["tarloom: noarchive, none"], None, "noindex"),
        (["max-image-preview: none"], None, None),
    ],
)
def test_directives_of_the_robots_header_are_heeded(values, token, said):
    expected = "ok" if said is None else f"opted_out: X-Robots-Tag says {said}"
    assert fetch_with_header(*values, user_agent_token=token) == expected


def test_which_directives_forbid_is_the_users_choice():
    assert fetch_with_header("noindex, nofollow", disallowed_header_directives=()) == "ok"
    assert fetch_with_header("nofollow", disallowed_header_directives=("NoFollow",)).startswith("opted_out: ")
    assert fetch_with_header("noindex", disallowed_header_directives=("noai",)) == "ok"
    assert fetch_with_header("none", disallowed_header_directives=("noai",)) == "ok"
    assert fetch_with_header("none", disallowed_header_directives=("none",)) == "opted_out: X-Robots-Tag says none"


@given(value=st.text(), token=st.text(min_size=1))
def test_any_header_can_be_read(value, token):
    assert all(directive == directive.strip() for directive in directives_for(value, token))


def robots(text: bytes, **options):
    """A server whose robots.txt says this, and whose other paths are pictures, or as `options` say."""
    replies = {"/robots.txt": Reply(text), **{f"/{name}": reply for name, reply in options.items()}}
    return SmallServer(lambda path: replies.get(path, Reply(PICTURE)))


def test_robots_txt_is_asked_once_a_host_and_heeded():
    with robots(b"user-agent: *\ndisallow: /private/\n") as server:
        urls = [server.url(f"/{folder}/{n}.jpg") for folder in ("private", "public") for n in range(20)]
        found = fetch_all(urls, robots_txt=True)
        assert found == ["opted_out: robots.txt disallows it"] * 20 + ["ok"] * 20
        assert server.requests["/robots.txt"] == 1
        assert not any(path.startswith("/private") for path in server.requests)


def test_robots_txt_is_not_asked_for_unless_it_is_wanted():
    with robots(b"user-agent: *\ndisallow: /\n") as server:
        assert fetch_all([server.url("/x.jpg")]) == ["ok"]
        assert "/robots.txt" not in server.requests


@pytest.mark.parametrize(("token", "found"), [(None, "ok"), ("mybot", "opted_out: robots.txt disallows it")])
def test_robots_txt_may_address_the_run_by_its_name(token, found):
    with robots(b"user-agent: tarloom\nallow: /\nuser-agent: *\ndisallow: /\n") as server:
        assert fetch_all([server.url("/x.jpg")], robots_txt=True, user_agent_token=token) == [found]


@pytest.mark.parametrize(
    ("reply", "found"),
    [
        (Reply(status=404), "ok"),
        (Reply(status=403), "ok"),
        (Reply(status=429), "ok"),
        (Reply(status=204), "ok"),
        (Reply(status=500), "opted_out: robots.txt cannot be read"),
        (Reply(status=501), "opted_out: robots.txt cannot be read"),
        (Reply(b"user-agent: *", [("Content-Encoding", "br")]), "opted_out: robots.txt cannot be read"),
        (Reply(status=302, headers=[("Location", "/robots.txt")]), "ok"),
        (Reply(status=302, headers=[("Location", "/moved")]), "opted_out: robots.txt disallows it"),
        (Reply(status=302, headers=[("Location", "ftp://x/")]), "opted_out: robots.txt cannot be read"),
    ],
)
def test_a_robots_txt_that_cannot_be_had_allows_all_or_nothing(reply, found):
    replies = {"/robots.txt": reply, "/moved": Reply(b"user-agent: *\ndisallow: /x.jpg")}
    with SmallServer(lambda path: replies.get(path, Reply(PICTURE))) as server:
        assert fetch_all([server.url("/x.jpg")], robots_txt=True) == [found]


def test_rows_of_a_host_that_is_not_there_are_named_for_that():
    urls = ["http://127.0.0.1:1/x.jpg", "http://10.0.0.1/x.jpg", "http://no-such-host.invalid/x.jpg"]
    assert fetch_all(urls, lookups=NameServer(), robots_txt=True) == ["connect", "refused_private_address", "dns"]


def test_a_redirect_is_asked_about_where_it_leads():
    with robots(b"user-agent: *\ndisallow: /\n") as strict:
        away = Reply(status=302, headers=[("Location", strict.url("/x.jpg"))])
        with robots(b"", **{"away.jpg": away}) as server:
            found = fetch_all([server.url("/away.jpg"), server.url("/x.jpg")], robots_txt=True)
        assert found == ["opted_out: robots.txt disallows it", "ok"]
        assert list(strict.requests) == ["/robots.txt"]


RESERVED = "opted_out: text and data mining is reserved (TDMRep)"


@pytest.mark.parametrize(
    ("file", "header", "found"),
    [
        (None, None, "ok"),
        (None, "1", RESERVED),
        (None, "0", "ok"),
        ([{"location": "/", "tdm-reservation": 1}], None, RESERVED),
        ([{"location": "/", "tdm-reservation": 1}], "0", "ok"),
        ([{"location": "/other", "tdm-reservation": 1}], None, "ok"),
        ([{"location": "/other", "tdm-reservation": 1}], "1", RESERVED),
        ([{"location": "/a/", "tdm-reservation": 0}, {"location": "/", "tdm-reservation": 1}], None, "ok"),
        ([{"location": "/", "tdm-reservation": 1}, {"location": "/a/", "tdm-reservation": 0}], None, RESERVED),
        ([{"location": "/a/*.jpg$", "tdm-reservation": 1}], None, RESERVED),
        ("no json", "maybe", "ok"),
    ],
)
def test_tdm_reservation_is_heeded_where_it_is_wanted(file, header, found):
    headers = [("tdm-reservation", header)] if header is not None else []
    files = {} if file is None else {"/.well-known/tdmrep.json": Reply(json.dumps(file).encode())}
    with SmallServer(
        lambda path: files.get(path, Reply(status=404)) if "known" in path else Reply(PICTURE, headers)
    ) as server:
        assert fetch_all([server.url("/a/x.jpg")] * 3, tdm_reservation=True) == [found] * 3
        assert server.requests["/.well-known/tdmrep.json"] == 1
        assert fetch_all([server.url("/a/x.jpg")]) == ["ok"]


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda each: st.lists(each))
ENTRY = st.dictionaries(
    st.sampled_from(["location", "tdm-reservation", "tdm-policy"]), JSON | st.sampled_from([0, 1, "/"])
)


@given(data=st.binary() | st.lists(ENTRY | JSON).map(lambda found: json.dumps(found).encode()), path=st.text())
def test_any_tdmrep_file_says_something(data, path):
    path = path.encode("utf-8", "ignore").decode()
    assert is_reserved(parse_reservations(data), f"/{path}") in (True, False)


def test_a_deep_file_reserves_nothing():
    assert len(parse_reservations(b"[" * 100_000)) == 0


def test_of_a_long_file_the_whole_entries_of_its_beginning_are_read():
    entries = [{"location": f"/{number}/", "tdm-reservation": 1} for number in range(50_000)]
    rules = parse_reservations(json.dumps(entries).encode())
    assert 10_000 < len(rules) < 20_000
    assert is_reserved(rules, "/9999/x.jpg")
    assert not is_reserved(rules, "/49999/x.jpg")
    assert len(parse_reservations(json.dumps(entries[:9000]).encode())) == 9000


def test_a_long_file_is_parsed_beside_the_loop_and_heeded():
    file = json.dumps([{"location": f"/{number}/", "tdm-reservation": 1} for number in range(5000)]).encode()
    text = b"user-agent: *\n" + b"".join(b"disallow: /%d/\n" % number for number in range(10_000))
    replies = {"/.well-known/tdmrep.json": Reply(file), "/robots.txt": Reply(text)}
    with SmallServer(lambda path: replies.get(path, Reply(PICTURE))) as server:
        urls = [server.url(f"/{name}/x.jpg") for name in ("4999", "9999", "yes")]
        assert fetch_all(urls, tdm_reservation=True) == [RESERVED, "ok", "ok"]
        assert fetch_all(urls, robots_txt=True) == ["opted_out: robots.txt disallows it"] * 2 + ["ok"]


def test_the_run_says_who_it_is():
    with SmallServer(lambda path: Reply(PICTURE)) as server:
        web = WebOptions(allow_private=("127.0.0.0/8",), user_agent="tarloom/0.9")
        fetch_all([server.url("/x.jpg")], web)
        fetch_all([server.url("/x.jpg")], web, user_agent_token="mybot")
        first, second = (headers["User-Agent"] for headers in server.headers)
    assert first == "tarloom/0.9"
    assert second == honest_user_agent("tarloom/0.9", "mybot")
    assert second.startswith("tarloom/0.9 (compatible; mybot; +http")


def test_a_run_leaves_out_what_its_owners_do_not_want(tmp_path):
    """From the options of a run to its metadata."""
    page = Reply(encoded(photo(64, 64)))
    replies = {
        "/robots.txt": Reply(b"user-agent: mybot\ndisallow: /no"),
        "/tagged": Reply(headers=[("X-Robots-Tag", "noai")]),
    }
    with SmallServer(lambda path: replies.get(path, page)) as server:
        source = write_list(tmp_path / "urls.txt", [server.url(path) for path in ("/yes", "/no", "/tagged")])
        create(source, tmp_path / "out", robots_txt=True, user_agent_token="mybot")
    found = [(row["status"], row["error"], row["error_message"]) for row in rows(tmp_path / "out")]
    assert found == [
        ("success", None, None),
        ("failed_to_download", "opted_out", "opted_out: robots.txt disallows it"),
        ("failed_to_download", "opted_out", "opted_out: X-Robots-Tag says noai"),
    ]
