"""The dataset on a real S3 server (Ceph's radosgw) on loopback, and what its readers ask of it and are sent."""

import contextlib
import os
import re
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import obstore

import tarloom
from tarloom.format.storage import open_storage
from tarloom.format.storage.client import object_store
from tests.s3_server import BUCKET, environment_set, running_s3_server

CHUNK = 1 << 18
IN_FLIGHT = 16
"""Objects of which ranges are asked at a time."""
_RANGE = re.compile(rb"GET /[^/]+/[^/]+/(\S+) HTTP/1\.1\r\n.*?\brange: bytes=(\d*)-(\d+)\r\n", re.DOTALL)


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
    the relay meanwhile. `answered` counts the bytes that came back, headers and all, `asked` the requests; `ranges` are
    those for a part of an object: its name, the first byte (-1: counted from the end) and the last."""

    def __enter__(self) -> "CountingRelay":
        server = urlsplit(os.environ["AWS_ENDPOINT_URL"])
        self._server = (str(server.hostname), int(server.port or 80))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock, self.answered, self.asked = threading.Lock(), 0, 0
        self.ranges: list[tuple[str, int, int]] = []
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
                    if not count:
                        self.asked += data.count(b" HTTP/1.1\r\n")
                        self.ranges += [(n.decode(), int(a or -1), int(b)) for n, a, b in _RANGE.findall(data)]


def bare_seconds(address: str, ranges: Sequence[tuple[str, int, int]]) -> float:
    """How long obstore alone takes for these requests, over open connections; the best of some tries."""
    store, ends, parts = object_store(address), [], defaultdict(list)
    for name, first, last in ranges:
        if first < 0:
            ends.append((name, last))
        else:
            parts[name].append((first, last + 1))

    def ask_end(asked: tuple[str, int]) -> int:
        return len(obstore.get(store, asked[0], options={"range": {"suffix": asked[1]}}).bytes())

    def ask_parts(name: str) -> int:
        starts, stops = zip(*parts[name], strict=True)
        return len(obstore.get_ranges(store, name, starts=starts, ends=stops, coalesce=0))

    def ask_all() -> float:
        began = time.perf_counter()
        list(pool.map(ask_end, ends))
        list(pool.map(ask_parts, parts))
        return time.perf_counter() - began

    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        return min(ask_all() for _ in range(7))
