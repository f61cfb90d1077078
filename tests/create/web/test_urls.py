"""URLs are sent as the list gives them, or refused by name."""

import socket
import threading
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tarloom.create.web.urls import Origin, origin_of, parse_url, path_of, redirected
from tarloom.errors import FetchError
from tests.create.web.test_fetch import fetch

SIGNED = "/a%2Bb/c%20d;v=1/~e/%7Ef/./g/../h?X-Sig=a%2Fb%3D%3D+c&d=%2B;%41&e=x|y&f"


class Listener:
    """A web server that keeps the first line and headers of every request."""

    def __init__(self) -> None:
        self.requests: list[list[str]] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            with connection:
                request = b""
                while not request.endswith(b"\r\n\r\n") and (data := connection.recv(65536)):
                    request += data
                if not request:
                    return
                self.requests.append(request.decode("latin-1").split("\r\n")[:-2])
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")

    def close(self) -> None:
        socket.create_connection(("127.0.0.1", self.port)).close()  # it ends when nothing is asked
        self._thread.join()
        self._socket.close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    listener = Listener()
    yield listener
    listener.close()


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        (SIGNED, SIGNED),
        ("/a b\tc", "/a%20bc"),
        ("/über/%c3%BC?q=ä", "/%C3%BCber/%c3%BC?q=%C3%A4"),
        ("/x#part", "/x"),
        ("?q=1", "/?q=1"),
        ("", "/"),
        ("/x  ", "/x"),
        ("/%", "/%"),
        ('/"<x>"', '/"<x>"'),
        ("//x//y", "//x//y"),
    ],
)
def test_what_is_sent_is_what_was_given(listener, given, sent):
    assert fetch(f"http://127.0.0.1:{listener.port}{given}") == b"ok"
    assert listener.requests[0][0] == f"GET {sent} HTTP/1.1"


def test_the_request_is_a_plain_one(listener):
    fetch(f"http://127.0.0.1:{listener.port}/x", user_agent="tarloom/9")
    assert sorted(listener.requests[0][1:]) == [
        "Accept-Encoding: identity",
        "Accept: image/*,*/*;q=0.5",
        f"Host: 127.0.0.1:{listener.port}",
        "User-Agent: tarloom/9",
    ]


def test_a_user_before_the_host_is_sent_to_that_host(listener):
    fetch(f"http://me:a%40b@127.0.0.1:{listener.port}/x")
    assert "Authorization: Basic bWU6YUBi" in listener.requests[0]


@pytest.mark.parametrize(
    ("given", "origin"),
    [
        ("http://h", ("http", "h", 80)),
        ("HTTPS://Example.COM/x", ("https", "example.com", 443)),
        ("http://h:80/x", ("http", "h", 80)),
        ("http://münchen.example/", ("http", "xn--mnchen-3ya.example", 80)),
        ("http://xn--mnchen-3ya.example/", ("http", "xn--mnchen-3ya.example", 80)),
        ("http://[2001:DB8::1]:81/", ("http", "2001:db8::1", 81)),
        ("http://[::ffff:192.0.2.1]/", ("http", "::ffff:c000:201", 80)),
        ("http://①②⑦.⓪.⓪.①/", ("http", "127.0.0.1", 80)),
        ("http://me@h/", ("http", "h", 80)),
        (" http://a_b.c/ ", ("http", "a_b.c", 80)),
    ],
)
def test_what_counts_as_one_host(given, origin):
    assert origin_of(parse_url(given)) == Origin(*origin)


@pytest.mark.parametrize(
    "url",
    [
        *(
            None,
            "",
            "   ",
            "nonsense",
            "//h/x",
            "http:",
            "http://",
            "http:///x",
            "http:x",
            "http://[::1",
            "http://h:99999/",
        ),
        *("http://h:x/", "http://a b/", "http://h\\x/", "http://xn--a.invalid/", "http://h/\ud800", "http://[x]/"),
        *(
            "http://:80/",
            "http://@/",
            "http://a\x00b/",
            "http://h%/",
            "http://10%2e0.0.1/",
            "http://a!b/",
            "http://..\uff0e/",
        ),
        *("http://a%3Ab:c@h/", "http://a%3a@h/"),
    ],
)
def test_what_is_no_url_is_named_so(url):
    with pytest.raises(FetchError, match=r"^bad_url: "):
        parse_url(url)


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://h/x", "data:image/png;base64,AA", "gopher://h", "s3://b/k"]
)
def test_other_schemes_are_refused(url):
    with pytest.raises(FetchError, match=r"^scheme_refused: "):
        parse_url(url)
    with pytest.raises(FetchError, match=r"^scheme_refused: "):
        redirected(parse_url("http://h/"), url)


@pytest.mark.parametrize(
    ("location", "leads_to"),
    [
        ("/x", "http://me:pw@h:81/x"),
        ("x?y#z", "http://me:pw@h:81/a/x?y"),
        ("?y", "http://me:pw@h:81/a/b%2Fc?y"),
        ("../x", "http://me:pw@h:81/x"),
        ("//other/x", "http://other/x"),
        ("https://h:81/x", "https://h:81/x"),
        ("http://h/x", "http://h/x"),
        ("http://h:81/x%2F://y", "http://me:pw@h:81/x%2F://y"),
        ("HTTP://H:81", "http://me:pw@h:81"),
        ("//h:81/x", "http://me:pw@h:81/x"),
        ("http://you@h:81/x", "http://you@h:81/x"),
        (" /a b/\udcff/é ", "http://me:pw@h:81/a%20b/%FF/%C3%A9"),
    ],
)
def test_where_a_redirect_leads_and_who_gets_the_password(location, leads_to):
    assert str(redirected(parse_url("http://me:pw@h:81/a/b%2Fc?q"), location)) == leads_to


@pytest.mark.parametrize("location", ["http://[::1", "http:///x", "http:x", "http://h:x/"])
def test_a_redirect_to_nowhere_is_a_bad_url(location):
    with pytest.raises(FetchError, match=r"^bad_url: "):
        redirected(parse_url("http://h/"), location)


@given(st.text(max_size=60).map("http://h/{}".format) | st.text(max_size=60).map("http://{}/".format) | st.text())
@example("http://[::1%25eth0]/x")
def test_any_text_is_a_url_that_can_be_sent_or_is_refused_by_name(text):
    try:
        url = parse_url(text)
    except FetchError as error:
        assert error.name in ("bad_url", "scheme_refused")  # noqa: PT017
    else:
        assert all("!" <= character <= "~" for character in path_of(url) + origin_of(url).host)
        assert path_of(parse_url(str(url))) == path_of(url)
