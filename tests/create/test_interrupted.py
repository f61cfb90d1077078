"""Runs that are killed or interrupted leave nothing broken, and go on to the same bytes."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tarloom.format.verify.dataset import verify
from tests.create.helpers import contents, create, write_list
from tests.processes import descendants
from tests.source_tree import ROOT

OPTIONS = {"number_sample_per_shard": 8, "thread_count": 2, "image_size": 64, "timeout": 20.0}
WORDS = ["--number-sample-per-shard", "8", "--thread-count", "2", "--image-size", "64", "--timeout", "20"]
SLOWLY = ["--host-rate", "20"]
"""So that much is left to stop, however late this process is told of the first shard."""


@pytest.fixture(scope="module")
def source(photo_server, tmp_path_factory):
    """Rows that take a while: now and then the server asks to wait."""
    paths = [f"busy/pictures/{n:04d}.jpg" if n % 6 == 0 else f"pictures/{n:04d}.jpg" for n in range(1, 45) if n % 12]
    urls = [f"{photo_server.url}/{path}" for path in [*paths, "trouble/missing.jpg"]]
    return write_list(tmp_path_factory.mktemp("source") / "urls.txt", urls)


@pytest.fixture(scope="module")
def longer(photo_server, tmp_path_factory):
    """Thirty shards: workers of which one is done have much left to do, however busy the machine is."""
    urls = [f"{photo_server.url}/pictures/{n:04d}.jpg" for n in range(1, 241)]
    return write_list(tmp_path_factory.mktemp("longer") / "urls.txt", urls)


@pytest.fixture(scope="module")
def whole_of_longer(longer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole_of_longer") / "out"
    create(longer, folder, **OPTIONS)
    return contents(folder)


@pytest.fixture(scope="module")
def whole(source, tmp_path_factory):
    """What an uninterrupted run makes."""
    folder = tmp_path_factory.mktemp("whole") / "out"
    create(source, folder, **OPTIONS)
    return contents(folder)


@pytest.fixture(scope="module")
def stalling(photo_server, tmp_path_factory):
    """Four shards; a row of the second one's stalls."""
    paths = [f"pictures/{n:04d}.jpg" for n in range(1, 32)]
    paths[9:9] = ["trouble/stalls.jpg"]
    urls = [f"{photo_server.url}/{path}" for path in paths]
    return write_list(tmp_path_factory.mktemp("stalling") / "urls.txt", urls)


STALLING = OPTIONS | {"timeout": 4.0, "retries": 1}


@pytest.fixture(scope="module")
def whole_of_stalling(stalling, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole_of_stalling") / "out"
    create(stalling, folder, **STALLING)
    return contents(folder)


def start(source, out, program: str = "create/create_webdataset.py", *more: str) -> subprocess.Popen[str]:
    words = ["--source", str(source), "--output", str(out), *WORDS, "--allow-private", "127.0.0.0/8", *more]
    return subprocess.Popen(
        [sys.executable, str(ROOT / program), *words],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def finished_shards(out) -> int:
    return len(list(out.glob("*_stats.json")))


def wait_for_shards(out, count: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 200
    while finished_shards(out) < count and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def assert_nothing_is_broken(out, whole) -> None:
    found = {name: data for name, data in contents(out).items() if "/.tmp-" not in f"/{name}"}
    assert {name: data for name, data in found.items() if whole[name] != data} == {}


@pytest.mark.parametrize("moment", [(0, 0.0), (0, 0.5), (1, 0.0), (2, 0.2), (4, 0.1)], ids=str)
def test_a_killed_run_continues_to_the_same_bytes(source, whole, tmp_path, moment):
    out = tmp_path / "out"
    shards, seconds = moment
    process = start(source, out)
    if shards == 0:
        while not (out / "_tarloom" / "plan.json").exists() and process.poll() is None:
            time.sleep(0.005)
    wait_for_shards(out, shards, process)
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert_nothing_is_broken(out, whole)
    create(source, out, **OPTIONS)
    assert contents(out) == whole
    assert [finding for report in verify(out) for finding in report.findings] == []


@pytest.mark.parametrize("workers", ["1", "2"])
def test_ctrl_c_ends_promptly_and_the_run_can_go_on(stalling, whole_of_stalling, tmp_path, workers):
    """Whatever it waits for: a row would have ten minutes."""
    out = tmp_path / "out"
    options = ("--num-workers", workers, "--timeout", "600")
    process = start(stalling, out, "create/create_webdataset.py", *options)
    try:
        wait_for_shards(out, 1, process)
        process.send_signal(signal.SIGINT)
        _, complaint = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, complaint
    assert "Traceback" not in complaint
    assert list(out.rglob(".tmp-*")) == [], "what a worker was writing is removed with it"
    assert_nothing_is_broken(out, whole_of_stalling)
    create(stalling, out, **STALLING)
    assert contents(out) == whole_of_stalling


def run_parallel(source, out, workers: str, *more: str) -> subprocess.Popen[str]:
    words = [
        ROOT / "scripts" / "run_parallel.sh",
        source,
        out,
        workers,
        *WORDS,
        "--allow-private",
        "127.0.0.0/8",
        *more,
    ]
    environment = os.environ | {"PYTHON": sys.executable}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(list(map(str, words)), env=environment, **pipes)


def test_the_shells_way_makes_the_same_bytes(source, whole, tmp_path):
    process = run_parallel(source, tmp_path / "out", "3")
    printed, complaint = process.communicate(timeout=120)
    assert process.returncode == 0, complaint
    assert contents(tmp_path / "out") == whole
    assert "42 rows, 41 pictures, 6 shards" in printed
    assert "failed by error: http_404 1\n" in printed


def test_the_shells_way_ends_with_one_line_of_json_where_that_is_asked_for(source, tmp_path):
    printed, complaint = run_parallel(source, tmp_path / "out", "2", "--json").communicate(timeout=120)
    found, alone = json.loads(printed.splitlines()[-1]), create(source, tmp_path / "alone", **OPTIONS)
    assert complaint.count("Traceback") == 0
    assert (found["exit_code"], found["failed_by_error"], found["failed_shards"]) == (0, {"http_404": 1}, {})
    assert (found["rows"], found["successes"], found["bytes"], found["shards"]) == (42, 41, alone.bytes, 6)


def test_the_shells_way_names_the_shards_that_failed(source, tmp_path):
    (tmp_path / "out" / "00001.tar").mkdir(parents=True)
    printed, complaint = run_parallel(source, tmp_path / "out", "2").communicate(timeout=120)
    assert "34 rows, 33 pictures, 5 shards" in printed, complaint
    assert "failed shards:\n  00001: " in printed
    assert "00001.tar: Is a directory" in printed


def test_the_shells_way_passes_on_what_went_wrong(source, tmp_path):
    process = run_parallel(tmp_path / "absent.txt", tmp_path / "out", "2")
    _, complaint = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "absent.txt: nothing there" in complaint


def test_the_shells_way_tells_of_a_worker_that_stopped_by_an_error(longer, tmp_path):
    process = run_parallel(longer, tmp_path / "out", "2", "--json", *SLOWLY)
    wait_for_shards(tmp_path / "out", 1, process)
    finished = min((tmp_path / "out").glob("*_stats.json")).name
    theirs = "--shards 0:15" if finished < "00015" else "--shards 15:30"  # the other one may only just have begun
    os.kill(descendants(theirs, process.pid)[0], signal.SIGTERM)
    printed, complaint = process.communicate(timeout=120)
    found = json.loads(printed.splitlines()[-1])
    assert "Traceback" not in complaint
    assert process.returncode == found["exit_code"] == 130
    assert "run the same command again" in found["error"]
    assert 0 < found["rows"] < 240


@pytest.mark.parametrize("option", ["--shards=1:3", "--plan-only"])
def test_the_shells_way_refuses_options_that_it_gives_itself(source, tmp_path, option):
    process = run_parallel(source, tmp_path / "out", "2", option)
    _, complaint = process.communicate(timeout=120)
    assert process.returncode == 2
    assert option.partition("=")[0] in complaint
    assert not (tmp_path / "out").exists()


def test_the_shells_way_stops_its_workers_on_ctrl_c(longer, whole_of_longer, tmp_path):
    out = tmp_path / "out"
    process = run_parallel(longer, out, "2", *SLOWLY)
    wait_for_shards(out, 1, process)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    assert process.returncode == 130
    before = finished_shards(out)
    time.sleep(1.5)
    assert finished_shards(out) == before
    create(longer, out, **OPTIONS)
    assert contents(out) == whole_of_longer


def test_the_shells_way_leaves_no_worker_when_it_is_killed(longer, whole_of_longer, tmp_path):
    out = tmp_path / "out"
    process = run_parallel(longer, out, "2", *SLOWLY)
    wait_for_shards(out, 1, process)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=120)  # comes back when no process writes there any more
    before = finished_shards(out)
    assert before < 30
    create(longer, out, **OPTIONS)
    assert contents(out) == whole_of_longer


@pytest.mark.parametrize("mode", [["--incremental-mode", "extend"], ["--incremental_mode=overwrite"]], ids=str)
def test_the_shells_way_extends_and_overwrites(photo_server, pictures, tmp_path, mode):
    out = tmp_path / "out"
    further = write_list(tmp_path / "urls.txt", [f"{photo_server.url}/pictures/{n:04d}.jpg" for n in range(1, 10)])
    create(pictures, out, **OPTIONS)
    process = run_parallel(further, out, "2", *mode)
    _, complaint = process.communicate(timeout=120)
    assert process.returncode == 0, complaint
    if "extend" in mode:
        assert [path.name for path in sorted(out.glob("*.tar"))] == [f"{n:05d}.tar" for n in range(5)]
    else:
        create(further, tmp_path / "fresh", **OPTIONS)
        assert contents(out) == contents(tmp_path / "fresh")
