"""A web server of a few lines, in threads: what it answers is a function of the path, and it remembers who asked."""

import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

Headers = list[tuple[str, str]]


@dataclass(frozen=True)
class Reply:
    """What is answered."""

    body: bytes = b""
    headers: Headers = field(default_factory=list)
    status: int = 200


class SmallServer:
    """The server, for as long as a `with` block lasts."""

    def __init__(self, reply: Callable[[str], Reply], *, tls: ssl.SSLContext | None = None) -> None:
        self.requests: Counter[str] = Counter()
        """How often each path was asked for."""
        self.times: list[float] = []
        """When, on the monotonic clock."""
        self.headers: list[dict[str, str]] = []
        self.connections = 0
        self._reply = reply
        self._tls = tls

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def __enter__(self) -> Self:
        self._server = _Server(("127.0.0.1", 0), self._handler())
        if self._tls is not None:
            self._server.socket = self._tls.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self) -> None:
                outer.connections += 1
                super().setup()

            def do_GET(self) -> None:
                outer.requests[self.path] += 1
                outer.times.append(time.monotonic())
                outer.headers.append(dict(self.headers))
                reply = outer._reply(self.path)
                self.send_response(reply.status)
                for name, value in reply.headers:
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(reply.body)))
                self.end_headers()
                self.wfile.write(reply.body)

            def log_message(self, *args: object) -> None:
                pass

        return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024

    def handle_error(self, *args: object) -> None:
        """A client that hangs up is none of ours."""
