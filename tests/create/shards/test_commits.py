"""A shard is done when its stats are there, and then all its files are of one version: whoever else was at it."""

import contextlib
import threading
from pathlib import Path

import pytest

from tarloom.create.job import CreateJob
from tarloom.create.repack import pack as repack
from tarloom.create.shards import shard_files
from tarloom.engines.local import LocalEngine
from tarloom.errors import StorageError
from tarloom.format.verify.dataset import verify
from tests.create.helpers import configuration, contents, create, write_list
from tests.create.sources.flaky import FlakyServer
from tests.processes import wait_for

OPTIONS = {"number_sample_per_shard": 20, "retries": 0, "image_size": 64, "timeout": 20.0, "thread_count": 4}
TRIES = 3


@pytest.fixture
def server():
    with FlakyServer() as server:
        yield server


@pytest.fixture
def source(server, tmp_path) -> Path:
    return write_list(tmp_path / "urls.txt", server.urls(20))


def findings(out: Path) -> list:
    return [finding for report in verify(out) for finding in report.findings if ".tmp-" not in finding.file]


def open_worker(source, out):
    """A worker, and the tasks of the run."""
    job = CreateJob(configuration(source, out, **OPTIONS), engine := _Opening(1))
    job.prepare()
    assert list(job) == []
    return engine.worker, engine.tasks


class _Opening(LocalEngine):
    def map(self, opener, items, *, retries=2):
        self.worker, self.tasks = opener(), list(items)
        return iter(())


def fail(*given) -> None:
    raise StorageError("metadata: no space left")


def test_another_try_takes_over_the_tar_that_the_last_one_left(server, source, tmp_path):
    out = tmp_path / "out"
    create(source, tmp_path / "whole", **OPTIONS)
    (out / "00000.parquet").mkdir(parents=True)  # no file can be put there
    server.requests.clear()
    assert "00000.parquet" in create(source, out, **OPTIONS, max_shard_retry=TRIES - 1).failed_shards["00000"]
    assert {count for path, count in server.requests.items() if path.count("/") == 1} == {1}
    assert {count for path, count in server.requests.items() if path.count("/") == 2} == {TRIES}
    (out / "00000.parquet").rmdir()
    create(source, out, **OPTIONS)
    assert contents(out) == contents(tmp_path / "whole")


def test_a_worker_that_is_given_a_shard_again_takes_over_its_samples(server, source, tmp_path):
    worker, tasks = open_worker(source, tmp_path / "out")
    assert worker(tasks[0]).rows == 20  # and its reply is lost
    before = contents(tmp_path / "out")
    server.requests.clear()
    assert worker(tasks[0]).rows == 20
    worker.close()
    assert not [path for path in server.requests if path.count("/") == 1]
    assert contents(tmp_path / "out") == before


def test_a_shard_that_is_made_anew_is_not_done_before_its_end(server, source, tmp_path, monkeypatch):
    out = tmp_path / "out"
    create(source, out, **OPTIONS)
    server.recover("503")
    create(source, tmp_path / "whole", **OPTIONS)
    (out / "00000.tar").unlink()
    with monkeypatch.context() as broken:
        broken.setattr(shard_files, "write_table", fail)
        create(source, out, **OPTIONS, max_shard_retry=0)
    assert (out / "00000.tar").exists()
    assert not (out / "00000_stats.json").exists()
    create(source, out, **OPTIONS)
    assert contents(out) == contents(tmp_path / "whole")
    assert findings(out) == []


def test_a_repacked_shard_that_is_made_anew_is_not_done_before_its_end(source, tmp_path, monkeypatch):
    create(source, tmp_path / "shards", **OPTIONS)
    out, options = tmp_path / "out", {"disable_all_reencoding": True, "number_sample_per_shard": 20}
    create(tmp_path / "shards", out, **options)
    before = contents(out)
    (out / "00000.tar").unlink()
    with monkeypatch.context() as broken:
        broken.setattr(repack, "write_table", fail)
        create(tmp_path / "shards", out, **options, max_shard_retry=0)
    assert (out / "00000.tar").exists()
    assert not (out / "00000_stats.json").exists()
    create(tmp_path / "shards", out, **options)
    assert contents(out) == before


def test_two_runs_at_one_shard_commit_it_one_after_the_other(server, source, tmp_path, monkeypatch):
    """The first one stops behind its tar until the second one is done, or for a moment. Their shards differ."""
    out, stopped, write_table = tmp_path / "out", threading.Event(), shard_files.write_table
    stats = out / "00000_stats.json"

    def stop_once(*given):
        if not stopped.is_set():
            stopped.set()
            with contextlib.suppress(AssertionError):
                wait_for(stats.exists, seconds=1.5)
        write_table(*given)

    monkeypatch.setattr(shard_files, "write_table", stop_once)
    first = threading.Thread(target=create, args=(source, out), kwargs=OPTIONS)
    first.start()
    assert stopped.wait(20)
    server.recover("503")
    create(source, out, **OPTIONS)
    first.join()
    assert findings(out) == []
