"""The web server that misbehaves."""

import gc
import http.client
import socket
import time
import urllib.error
import urllib.request
from email.message import Message
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from source_data import serve
from source_data.serve import TROUBLES, PhotoServer

SOURCE_DATA = Path(serve.__file__).parent
PICTURE = "pictures/0001.jpg"


@pytest.fixture
def server():
    with PhotoServer() as server:
        yield server


def test_a_picture_is_served_as_it_lies_in_the_folder(server):
    assert _get(f"{server.url}/{PICTURE}") == (200, (SOURCE_DATA / PICTURE).read_bytes())


def test_clients_that_go_away_leave_no_file_open(server):
    address = ("127.0.0.1", urlsplit(server.url).port or 0)
    for _ in range(20):
        connections = [socket.create_connection(address) for _ in range(20)]
        for connection in connections:
            connection.sendall(f"GET /{PICTURE} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        for connection in connections:
            connection.close()
    assert _get(f"{server.url}/{PICTURE}")[0] == 200
    gc.collect()  # a file that was left open is a warning here, and warnings are errors


def test_an_error_recovers_on_the_second_try_and_comes_again(server):
    statuses = [_get(f"{server.url}/error-once/{PICTURE}")[0] for _ in range(4)]
    assert statuses == [500, 200, 500, 200]


def test_a_busy_address_answers_once_its_second_has_passed(server):
    url = f"{server.url}/busy/{PICTURE}"
    assert _get(url)[0] == 429
    time.sleep(1)
    assert _get(url)[0] == 200


def test_a_busy_address_is_busy_for_everybody_until_then(server, monkeypatch):
    url = f"{server.url}/busy/{PICTURE}"
    monkeypatch.setattr(serve, "_BUSY_SECONDS", 300.0)
    assert [_get(url)[0], _get(url)[0]] == [429, 429]
    assert _headers(url)["Retry-After"] == "300"


def test_a_busy_address_asks_for_a_second(server):
    assert _headers(f"{server.url}/busy/{PICTURE}")["Retry-After"] == "1"


def test_a_moved_address_leads_to_the_picture(server):
    assert _get(f"{server.url}/moved/{PICTURE}") == (200, (SOURCE_DATA / PICTURE).read_bytes())


def test_what_a_server_remembers_ends_with_it():
    for _ in range(2):
        with PhotoServer() as server:
            assert _get(f"{server.url}/error-once/{PICTURE}")[0] == 500
            assert server.requests[f"/error-once/{PICTURE}"] == 1


def test_nothing_outside_the_folder_is_served(server):
    assert _raw(server, "/busy/../../../etc/passwd").status in (404, 429)
    assert _raw(server, "/error-once/%2e%2e/%2e%2e/etc/passwd").status == 500
    assert _raw(server, "/error-once/%2e%2e/%2e%2e/etc/passwd").status == 404


@pytest.mark.parametrize("trouble", [t for t in TROUBLES if t.url.startswith("trouble/")], ids=lambda t: t.url)
def test_every_trouble_is_one(server, trouble):
    started = time.monotonic()
    response = _raw(server, f"/{trouble.url}")
    if trouble.expected.startswith("http_"):
        assert response.status == int(trouble.expected.removeprefix("http_"))
    elif "redirect" in trouble.story:
        assert response.status == 302
    elif "now and then" in trouble.story:
        assert response.read(3) == b"\xff" * 3
        assert time.monotonic() - started > 0.3
    elif trouble.expected == "timeout":
        _connections[-1].sock.settimeout(0.6)
        with pytest.raises(TimeoutError):
            response.read()
    elif trouble.expected == "too_large":
        assert len(response.read(20_000_000)) == 20_000_000
    else:
        assert 0 < len(response.read()) < 100_000


def test_a_cut_connection_ends_before_the_promised_length(server):
    with pytest.raises(http.client.IncompleteRead):
        _raw(server, "/trouble/cut.jpg").read()


def test_a_server_stops_at_once_while_clients_wait():
    with PhotoServer() as server:
        _raw(server, "/trouble/stalls.jpg")
        _raw(server, "/trouble/drips.jpg")
        started = time.monotonic()
    assert time.monotonic() - started < 30


def test_a_taken_port_is_an_error_and_leaves_no_thread():
    with PhotoServer() as server, pytest.raises(OSError, match="address already in use"):
        PhotoServer(port=urlsplit(server.url).port or 0).__enter__()


def _get(url: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(url, timeout=30) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def _headers(url: str) -> Message:
    with pytest.raises(urllib.error.HTTPError) as caught, urllib.request.urlopen(url, timeout=30):
        pass
    with caught.value as error:
        return error.headers


_connections: list[http.client.HTTPConnection] = []


@pytest.fixture(autouse=True)
def _closed_connections():
    yield
    while _connections:
        _connections.pop().close()


def _raw(server: PhotoServer, path: str) -> http.client.HTTPResponse:
    """One answer, no redirect followed."""
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=30)
    _connections.append(connection)
    connection.request("GET", path)
    return connection.getresponse()
