"""Engines give the same bytes; workers and drivers that are killed, and disks that are full, cost nothing but time."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tarloom.create.job import CreateJob
from tarloom.engines.choose import EngineConfig, open_engine
from tests.create.helpers import configuration, contents, create, write_list
from tests.create.sources.flaky import FlakyServer
from tests.processes import are_gone, descendants, wait_for
from tests.source_tree import ROOT

OPTIONS = {"number_sample_per_shard": 8, "retries": 0, "image_size": 128, "timeout": 200.0, "thread_count": 2}
WORDS = [f"--{name.replace('_', '-')}={value}" for name, value in OPTIONS.items()] + ["--allow-private=127.0.0.0/8"]
ROWS = 60
SHARDS = 8
SECONDS = 200
"""For what takes a few on a machine that is idle."""
WORKERS = {"ray": "ray::_Actor", "spark": "pyspark.daemon"}
"""What the processes of workers are called."""


@pytest.fixture(scope="module")
def server():
    with FlakyServer() as server:
        yield server


@pytest.fixture(scope="module")
def source(server, tmp_path_factory):
    return write_list(tmp_path_factory.mktemp("source") / "urls.txt", server.urls(ROWS))


@pytest.fixture(scope="module")
def whole(source, tmp_path_factory):
    """What a run makes to which nothing happens."""
    folder = tmp_path_factory.mktemp("whole") / "out"
    create(source, folder, **OPTIONS)
    return contents(folder)


@pytest.fixture
def gate(server):
    """Answers take a while, and the last two shards' have none before this is set: there is time to kill."""
    server.seconds = 0.1
    server.held = {f"/{url.rpartition('/')[2]}" for url in server.urls(ROWS)[-10:]}
    server.gate.clear()
    yield server.gate
    server.gate.set()
    server.seconds, server.held = 0.0, set()


def finished(out: Path) -> int:
    return len(list(out.glob("*_stats.json")))


def committed(out: Path) -> dict[str, bytes]:
    """All files but temporaries of the killed: the next run removes them."""
    return {name: data for name, data in contents(out).items() if "/.tmp-" not in f"/{name}"}


def create_on(engine: str, source: Path, out: Path) -> CreateJob:
    with closing(open_engine(EngineConfig(engine=engine, num_workers=2))) as opened:
        job = CreateJob(configuration(source, out, **OPTIONS), opened)
        job.prepare()
        for _ in job:
            pass
    return job


@pytest.mark.parametrize("engine", ["local", "ray", "spark"])
def test_every_engine_makes_the_same_bytes(request, source, whole, tmp_path, engine):
    if engine != "local":
        request.getfixturevalue(f"{engine}_session")
    summary = create_on(engine, source, tmp_path / "out").summary()
    assert contents(tmp_path / "out") == whole
    assert (summary.rows, summary.shards, summary.failed_shards) == (ROWS, SHARDS, {})


@pytest.mark.timeout(600)
@pytest.mark.parametrize("engine", ["ray", pytest.param("spark", marks=pytest.mark.slow)])
def test_workers_that_are_killed_cost_no_row(request, gate, source, whole, tmp_path, engine):
    request.getfixturevalue(f"{engine}_session")
    killed: list[int] = []

    def kill_two() -> None:
        try:
            for shards in (1, 3):
                wait_for(lambda shards=shards: finished(tmp_path / "out") >= shards, seconds=SECONDS)
                living = set(descendants(WORKERS[engine])) - set(killed)
                killed.append(max(living))  # of Spark's, a worker: they are children of the daemon
                os.kill(killed[-1], signal.SIGKILL)
                wait_for(lambda: are_gone(killed), seconds=SECONDS)
        finally:
            gate.set()

    killing = threading.Thread(target=kill_two)
    killing.start()
    summary = create_on(engine, source, tmp_path / "out").summary()
    killing.join()
    assert len(set(killed)) == 2
    assert summary.failed_shards == {}
    assert committed(tmp_path / "out") == whole


@contextmanager
def started(program: list[object], source: Path, out: Path, *more: object) -> "Iterator[subprocess.Popen[str]]":
    """The program; it is killed in the end if it is still there."""
    process = start(program, source, out, *more)
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=SECONDS)


def start(program: list[object], source: Path, out: Path, *more: object) -> subprocess.Popen[str]:
    words = [*program, "--source", source, "--output", out, *WORDS, *more]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(list(map(str, words)), cwd=ROOT, env=environment, **pipes)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("engine", ["ray", "spark"])
def test_a_run_whose_driver_is_killed_goes_on_to_the_same_bytes(gate, source, whole, tmp_path, engine):
    out = tmp_path / "out"
    with started([sys.executable, f"create/create_with_{engine}.py"], source, out) as driver:
        wait_for(lambda: finished(out) >= 2 or driver.poll() is not None, seconds=SECONDS)
        workers = descendants(WORKERS[engine], driver.pid)
    assert workers
    wait_for(lambda: are_gone(workers), seconds=SECONDS)  # Ray's go on for a second or two
    found = committed(out)
    assert found == {name: whole[name] for name in found}
    assert 2 <= finished(out) < SHARDS
    gate.set()
    create(source, out, **OPTIONS)
    assert contents(out) == whole


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_spark_executor_that_is_killed_costs_no_row(gate, source, whole, tmp_path):
    out = tmp_path / "out"
    submit = ["spark-submit", "--master", "local-cluster[2,1,1024]", "create/create_with_spark.py"]
    with started(submit, source, out) as driver:
        wait_for(lambda: finished(out) >= 1 or driver.poll() is not None, seconds=SECONDS)
        victim = descendants("CoarseGrainedExecutorBackend", driver.pid)[0]
        os.kill(victim, signal.SIGKILL)
        wait_for(lambda: are_gone([victim]), seconds=SECONDS)
        gate.set()
        _, said = driver.communicate(timeout=400)
        assert driver.returncode == 0, said
    assert committed(out) == whole


def disk_size(files: dict[str, bytes]) -> int:
    """KiB that files take where they are kept in pages."""
    return sum(4 * -(-len(data) // 4096) for data in files.values())


MOUNTED = 'mount -t tmpfs -o size="$1" none "$2" || exit 77; cp -a "$3/." "$2"; shift 3; "$@"; code=$?'


def create_on_a_disk_of(kib: int, source: Path, out: Path, *more: str) -> tuple[int, str]:
    """Run the program with an output on a file system of this size; what it leaves is in `out` afterwards."""
    disk = out.with_name("disk")
    disk.mkdir(exist_ok=True)
    out.mkdir(exist_ok=True)
    script = f'{MOUNTED}; rm -rf "{out}"; cp -a "{disk}" "{out}"; exit $code'
    inside = ["unshare", "--user", "--map-root-user", "--mount", "bash", "-c", script, "full", f"{kib}k", disk, out]
    run = start([*inside, sys.executable, "create/create_webdataset.py"], source, disk, *more)
    said = "\n".join(run.communicate(timeout=SECONDS))
    if run.returncode in (1, 77) and ("unshare" in said or run.returncode == 77):
        pytest.skip(f"no small file system can be had here: {said.strip().splitlines()[-1]}")
    return run.returncode, said


@pytest.mark.skipif(not shutil.which("unshare"), reason="no unshare here")
@pytest.mark.parametrize(("share", "workers"), [(0.2, 1), (0.6, 1), (0.9, 1), (0.7, 2)])
def test_a_full_disk_is_named_and_costs_nothing_once_there_is_room(source, whole, tmp_path, share, workers):
    out = tmp_path / "out"
    code, said = create_on_a_disk_of(int(share * disk_size(whole)), source, out, "--num-workers", str(workers))
    assert code in (1, 3)
    assert "No space left on device" in said
    assert "Traceback" not in said
    found = contents(out) if workers == 1 else committed(out)  # two of them: who fails last may be killed as it is
    assert found == {name: whole[name] for name in found}
    create(source, out, **OPTIONS)
    assert contents(out) == whole


@pytest.mark.skipif(not shutil.which("unshare"), reason="no unshare here")
@pytest.mark.parametrize("free", [12, 44, 60])
def test_a_disk_that_fills_while_failed_rows_are_tried_again_costs_no_sample(server, source, whole, tmp_path, free):
    out = tmp_path / "out"
    create(source, out, **OPTIONS)
    server.recover("503")
    try:
        create(source, tmp_path / "new", **OPTIONS)
        code, said = create_on_a_disk_of(disk_size(whole) + free, source, out, "--retry-failed=transient")
        assert code in (1, 3)
        assert "No space left on device" in said
        new, left = contents(tmp_path / "new"), contents(out)
        assert {name for name in left if name.endswith(".tar")} == {name for name in new if name.endswith(".tar")}
        assert {name: data for name, data in left.items() if data not in (whole[name], new[name])} == {}
        server.requests.clear()
        create(source, out, retry_failed="transient", **OPTIONS)
        assert contents(out) == new
        assert {path for path in server.requests if path.count("/") == 1} == set(), "samples that were there"
    finally:
        server.troubles.add("503")


@pytest.mark.parametrize("tries", [1, 3])
def test_a_shard_that_cannot_be_made_is_tried_again_then_named(server, source, whole, tmp_path, tries):
    out = tmp_path / "out"
    (out / "00001.tar").mkdir(parents=True)  # no file can be put there
    server.requests.clear()
    run = start([sys.executable, "create/create_webdataset.py"], source, out, f"--max-shard-retry={tries - 1}")
    told, said = run.communicate(timeout=120)
    assert run.returncode == 3, said
    assert f"00001: {out}/00001.tar: Is a directory" in told
    asked = [server.requests[url.removeprefix(server.url(""))] for url in server.urls(ROWS)]
    assert asked[:20] == [1] * 8 + [tries] * 8 + [1] * 4
    (out / "00001.tar").rmdir()
    create(source, out, **OPTIONS)
    assert contents(out) == whole
