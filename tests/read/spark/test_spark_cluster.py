"""The contract of readers on a cluster of Spark: two executors, each a JVM, that get the library as a zip."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tarloom import errors
from tarloom.read.readers import ScanSummary
from tests.read.reader_contract import ReaderContract
from tests.source_tree import ROOT

pyspark = pytest.importorskip("pyspark")
SECONDS = 240
"""The longest that anything here may take on a machine that has much else to do."""


class Submitted:
    """A running spark_scans.py."""

    def __init__(self, lines: Any) -> None:
        self._lines = lines
        self.application, self.places = json.loads(lines.readline())

    def scan(self, *, cut: Path | None = None, kill: bool = False, **config: Any) -> dict[str, Any]:
        print(json.dumps({"config": config, "cut": cut and str(cut), "kill": kill}), file=self._lines, flush=True)
        answer: dict[str, Any] = json.loads(self._lines.readline())
        if "error" in answer:
            raise getattr(errors, answer["error"])(answer["message"])
        return answer


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[Submitted]:
    folder = tmp_path_factory.mktemp("submitted")
    package = zipped_library(folder / "tarloom.zip")
    with tempfile.TemporaryDirectory(prefix="spark-") as short, socket.socket(socket.AF_UNIX) as door:
        door.settimeout(SECONDS)
        door.bind(f"{short}/door")
        door.listen(1)
        log = folder / "log"
        with open(log, "w") as out, submitted(package, f"{short}/door", out) as program:
            try:
                with door.accept()[0] as connection:
                    connection.settimeout(SECONDS)
                    with connection.makefile("rw") as lines:
                        running = Submitted(lines)
                        yield running
                program.wait(SECONDS)
                # Where local-cluster lets its executors work.
                shutil.rmtree(Path(pyspark.__file__).with_name("work") / running.application, ignore_errors=True)
            except (OSError, ValueError) as error:
                raise AssertionError(log.read_text()) from error
            finally:
                program.kill()


def submitted(package: Path, door: str, out: Any) -> "subprocess.Popen[bytes]":
    command = [
        *(Path(sys.executable).with_name("spark-submit"), "--master", "local-cluster[2,1,1024]"),
        *("--conf", "spark.task.maxFailures=2"),
        # Both executors are to be there before there is work: the first could do all of it.
        *("--conf", "spark.cores.max=2"),
        *("--conf", "spark.scheduler.minRegisteredResourcesRatio=1.0"),
        *("--conf", f"spark.scheduler.maxRegisteredResourcesWaitingTime={SECONDS}s"),
        *("--py-files", package, Path(__file__).with_name("spark_scans.py"), door),
    ]
    environment = {**os.environ, "SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": sys.executable}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment.pop("PYTHONPATH", None)
    return subprocess.Popen(
        list(map(str, command)), cwd=package.parent, env=environment, stdout=out, stderr=subprocess.STDOUT
    )


def zipped_library(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as package:
        for file in sorted((ROOT / "tarloom").rglob("*.py")):
            package.write(file, file.relative_to(ROOT))
    return path


@pytest.mark.slow
class TestSparkCluster(ReaderContract):
    reader = "spark"

    @pytest.fixture(autouse=True)
    def _use(self, cluster: Submitted) -> None:
        self.cluster = cluster

    def read(self, path: Path, **options) -> ScanSummary:
        answer = self.cluster.scan(path=str(path), digest=True, **options)
        summary = ScanSummary(**answer["summary"])
        assert summary.rows == answer["seen"]
        assert summary.rows == answer["total"] or not options.keys().isdisjoint({"where", "join", "on_error"})
        return summary

    def test_tasks_run_on_two_executors_with_the_library_that_was_submitted(self):
        folders, libraries = zip(*self.cluster.places, strict=True)
        assert len(set(folders)) == 2
        assert all("tarloom.zip" in library for library in libraries)

    def test_a_tar_that_is_damaged_while_it_is_read_ends_the_scan_with_an_error_that_names_it(self, packed, tmp_path):
        (tmp_path / "cut.tar").write_bytes((packed / "00000.tar").read_bytes())
        with pytest.raises((errors.ShardError, errors.StorageError), match=self.names_damage):
            self.cluster.scan(path=str(tmp_path), cut=tmp_path / "cut.tar")

    def test_executors_that_die_at_every_try_end_the_scan_with_one_clear_error(self, packed):
        with pytest.raises(errors.EngineError, match=r"Spark failed while reading: .*failed 2 times.*"):
            self.cluster.scan(kill=True, path=str(packed / "00000.tar"))
        assert self.read(packed / "00000.tar").rows > 0
