"""A TCP relay that lets a part of an upload through and then holds still: to kill a client in its middle."""

import contextlib
import re
import socket
import threading
from types import TracebackType


class StallingProxy:
    """Relays connections on a free loopback port to a server until `limit` bytes went up in all; then nothing goes up.

    Or until a request begins with what the pattern `until` says: that one stays down. `stalled` is set from then on.
    """

    def __init__(self, host: str, port: int, *, limit: int = 1 << 62, until: bytes | None = None) -> None:
        self._server = (host, port)
        self._left = limit
        self._until = re.compile(until) if until else None
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.stalled = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> "StallingProxy":
        self._run(self._accept)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        _close(self._listener)
        self._threads[0].join(10)  # it accepts: from here on nothing is opened
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
                self._open.append(client)
                try:
                    server = socket.create_connection(self._server)
                except OSError:  # this client's loss alone
                    _close(client)
                    continue
                self._open.append(server)
                self._run(self._relay, client, server, self._grant)
                self._run(self._relay, server, client, len)

    def _relay(self, source: socket.socket, target: socket.socket, grant) -> None:
        """Pass bytes on for as long as all of them are granted; the connections stay open when they are not."""
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                granted = grant(data)
                target.sendall(data[:granted])
                if granted < len(data):
                    return
            target.shutdown(socket.SHUT_WR)

    def _grant(self, data: bytes) -> int:
        with self._lock:
            if self._until and self._until.match(data):
                self._left = 0
            granted = min(len(data), self._left)
            self._left -= granted
        if granted < len(data):
            self.stalled.set()
        return granted


def _close(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    sock.close()
