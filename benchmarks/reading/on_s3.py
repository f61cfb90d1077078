"""The dataset on a real S3 server (Ceph's radosgw) on loopback, and the bytes that its readers are sent."""

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import tarloom
from tarloom.format.storage import open_storage
from tests.s3_server import BUCKET, environment_set, running_s3_server

CHUNK = 1 << 18


@contextlib.contextmanager
def uploaded(folder: str) -> Iterator[str]:
    """The address of a copy in a bucket of a server that runs meanwhile."""
    with running_s3_server():
        address = f"s3://{BUCKET}/where"
        storage, paths = open_storage(address), [path for path in Path(folder).rglob("*") if path.is_file()]
        with ThreadPoolExecutor(4) as pool:
            for path in paths:
                pool.submit(storage.write, str(path.relative_to(folder)), path.read_bytes()).result()
        len(tarloom.open(address))  # what was indexed were the files on disk: these are indexed once
        yield address


class CountingRelay:
    """Relays connections from a free loopback port to the server that AWS_ENDPOINT_URL names; AWS_ENDPOINT_URL names
    the relay meanwhile. `answered` counts the bytes that came back, headers and all, `asked` the requests."""

    def __enter__(self) -> "CountingRelay":
        server = urlsplit(os.environ["AWS_ENDPOINT_URL"])
        self._server = (str(server.hostname), int(server.port or 80))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock, self.answered, self.asked = threading.Lock(), 0, 0
        self._environment = environment_set({"AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._listener.getsockname()[1]}"})
        self._environment.__enter__()
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._environment.__exit__(None, None, None)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server)
                threading.Thread(target=self._relay, args=(client, server, False), daemon=True).start()
                threading.Thread(target=self._relay, args=(server, client, True), daemon=True).start()

    def _relay(self, source: socket.socket, sink: socket.socket, count: bool) -> None:
        with contextlib.suppress(OSError), source, sink:
            while data := source.recv(CHUNK):
                sink.sendall(data)
                with self._lock:
                    self.answered += len(data) if count else 0
                    self.asked += 0 if count else data.count(b" HTTP/1.1\r\n")
