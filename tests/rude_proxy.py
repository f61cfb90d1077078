"""A relay in front of an S3 server that refuses, throttles and cuts most of its connections, in a fixed order."""

import contextlib
import itertools
import socket
import struct
import threading
from collections import Counter
from types import TracebackType

SLOW_DOWN = (
    b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
)
THROTTLED = (
    b"HTTP/1.1 503 Slow Down\r\nConnection: close\r\nContent-Type: application/xml\r\nContent-Length: %d\r\n\r\n%s"
)
STALLED_SECONDS = 60.0
MANNERS = ("passes", "refuses", "throttles", "cuts the upload", "passes", "cuts the answer")
"""What becomes of a connection, in turn."""
SLOW_MANNERS = ("throttles", "delays", "passes", "stalls", "refuses", "cuts the answer")
"""For readers: also an answer that comes late, and one that never ends. Who needs a single connection meets two."""
LET_THROUGH = 3000
"""Bytes of a connection that passes before it is cut: of uploads, enough for headers and the beginning of a body."""
PASSING = 60_000
"""Bytes that a connection which passes carries upwards before it is cut too: clients keep connections."""


class RudeProxy:
    """Relays connections from a free loopback port to a server, rudely. `met` counts what clients have met.

    When `lasts` bytes have gone up, the store is out: all connections are refused, until `lasts` is raised.
    """

    def __init__(
        self, host: str, port: int, *, lasts: float = float("inf"), manners: tuple[str, ...] = MANNERS
    ) -> None:
        self.lasts = lasts
        self._server = (host, port)
        self._manners = itertools.cycle(manners)
        self._closed = threading.Event()
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.met: Counter[str] = Counter()
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> "RudeProxy":
        self._run(self._accept)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._closed.set()
        _close(self._listener)
        self._threads[0].join(10)  # it accepts: from here on no thread begins
        for _ in range(2):  # again what a thread has opened in its end
            for sock in self._open:
                _close(sock)
            for thread in self._threads:
                thread.join(10)

    def _run(self, work, *arguments) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                manner = next(self._manners) if self.lasts > 0 else "refuses"
                self.met[manner] += 1
                self._open.append(client)
                self._run(self._treat, client, manner)

    def _treat(self, client: socket.socket, manner: str) -> None:
        if manner == "refuses":
            _reset(client)
        elif manner == "throttles":
            with contextlib.suppress(OSError):
                client.recv(65536)
                client.sendall(THROTTLED % (len(SLOW_DOWN), SLOW_DOWN))
                client.shutdown(socket.SHUT_WR)
                while client.recv(65536):
                    pass
            client.close()
        else:
            if manner == "delays":
                self._closed.wait(0.7)
            try:
                server = socket.create_connection(self._server)
            except OSError:  # this client's loss alone
                _reset(client)
                return
            self._open.append(server)
            up = LET_THROUGH if manner == "cuts the upload" else PASSING
            down = LET_THROUGH if manner in ("cuts the answer", "stalls") else 1 << 40
            self._run(self._relay, client, server, up, True)
            self._relay(server, client, down, stalls=manner == "stalls")

    def _relay(
        self, source: socket.socket, target: socket.socket, left: int, counted: bool = False, *, stalls: bool = False
    ) -> None:
        """Pass so many bytes on, then cut both ways; or first hold still for as long as anybody could wait."""
        with contextlib.suppress(OSError):
            while data := source.recv(min(65536, left)):
                target.sendall(data)
                left -= len(data)
                self.lasts -= len(data) if counted else 0
                if left <= 0 or self.lasts <= 0:
                    if stalls:
                        self._closed.wait(STALLED_SECONDS)
                    _reset(source)
                    _reset(target)
                    return
            target.shutdown(socket.SHUT_WR)


def _close(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    sock.close()


def _reset(sock: socket.socket) -> None:
    """Close without a word: the other side sees its connection reset."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.shutdown(socket.SHUT_RDWR)
    sock.close()
