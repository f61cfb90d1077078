"""Shards are made one behind the other, and none waits for a slow row of the one before it."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tarloom.create.job import CreateJob
from tarloom.engines.local import LocalEngine
from tests.create.helpers import PICTURES, configuration, contents, create, rows, write_list


class SlowServer(ThreadingHTTPServer):
    """Serves a picture at any address; at /slow.jpg only when /late.jpg has been asked for."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.late = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: SlowServer

    def do_GET(self) -> None:
        if self.path == "/late.jpg":
            self.server.late.set()
        if self.path == "/slow.jpg":
            self.server.late.wait(120)  # for longer than a row has
        data = (PICTURES / "0001.jpg").read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *said: object) -> None:
        """Nothing."""


@pytest.fixture
def server() -> Iterator[SlowServer]:
    with SlowServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def urls(server: SlowServer, tmp_path: Path) -> Path:
    """Three shards of three rows; the first one's first row waits for the second one's last."""
    names = ["slow", "a", "b", "c", "d", "late", "e", "f", "g"]
    return write_list(tmp_path / "urls.txt", [f"{server.url}/{name}.jpg" for name in names])


@pytest.mark.parametrize("workers", [1, 2])
def test_a_shard_begins_while_a_row_of_the_one_before_it_is_slow(server, tmp_path, workers):
    options = {"number_sample_per_shard": 3, "timeout": 60.0, "retries": 0}
    summary = create(urls(server, tmp_path), tmp_path / "out", workers=workers, **options)
    assert (summary.successes, summary.shards) == (9, 3)
    assert [row["url"].rpartition("/")[2] for row in rows(tmp_path / "out")] == ["slow.jpg", "a.jpg", "b.jpg"]
    again = create(urls(server, tmp_path), tmp_path / "again", **options)  # nothing is slow any more
    assert again.successes == 9
    assert contents(tmp_path / "again") == contents(tmp_path / "out")


class Opening(LocalEngine):
    """Opens a worker, and asks nothing of it."""

    def map(self, opener, items, *, retries=2):
        self.worker, self.tasks = opener(), list(items)
        return iter(())


def test_of_a_shard_that_is_left_half_made_nothing_is_there(server, tmp_path):
    engine = Opening(1)
    options = {"number_sample_per_shard": 3, "timeout": 60}
    job = CreateJob(configuration(urls(server, tmp_path), tmp_path / "out", **options), engine)
    job.prepare()
    assert list(job) == []
    engine.worker.begin(engine.tasks[2])
    engine.worker.begin(engine.tasks[0])  # waits for a row of shard 1
    assert engine.worker(engine.tasks[2]).successes == 3
    engine.worker.close()
    names = set(contents(tmp_path / "out"))
    assert "00002_stats.json" in names
    assert not [name for name in names if "00000" in name]


def test_a_shard_that_failed_before_it_was_asked_for_is_made_all_the_same(server, tmp_path):
    server.late.set()
    job = CreateJob(configuration(urls(server, tmp_path), tmp_path / "out", number_sample_per_shard=3), LocalEngine(1))
    job.prepare()
    blocked = tmp_path / "out" / "00001.tar"
    blocked.mkdir()
    made = []
    for report in job:
        made.append(report.shard)
        if blocked.is_dir():
            blocked.rmdir()
    assert sorted(made) == ["00000", "00001", "00002"]
    assert job.summary().successes == 9
