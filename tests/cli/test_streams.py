"""Where what a program prints may go."""

import json
import os
import subprocess
import sys
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tarloom import cli
from tarloom.cli import main, progress
from tests.source_tree import ROOT

PROGRAM = f"{sys.executable} {ROOT}/create/create_webdataset.py --source {ROOT}/source_data/pictures --plan-only"


def run(output: bytes, redirections: str, program: str = PROGRAM) -> subprocess.CompletedProcess[bytes]:
    command = f"{program} --output ".encode() + output + f" {redirections}".encode()
    return subprocess.run([b"bash", b"-c", command], capture_output=True)


@pytest.mark.parametrize("redirections", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_program_needs_no_open_streams(tmp_path, redirections):
    ended = run(os.fsencode(tmp_path / "out"), redirections, PROGRAM.replace("--plan-only", ""))
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert (tmp_path / "out/00000_stats.json").exists()


def test_a_full_disk_behind_stdout_is_one_clear_line(tmp_path):
    ended = run(os.fsencode(tmp_path / "out"), "> /dev/full")
    assert ended.returncode == 1
    assert ended.stderr == b"create_webdataset.py: error: stdout cannot be written: No space left on device\n"


def test_any_file_name_can_be_shown(tmp_path):
    command = f"{sys.executable} {ROOT}/create/create_webdataset.py --source {ROOT}/absent".encode() + b"\xe9"
    ended = subprocess.run([b"bash", b"-c", command + b" --output x"], capture_output=True)
    assert ended.returncode == 2
    assert b"absent\\udce9: nothing there" in ended.stderr


def test_nothing_that_a_stranger_wrote_steers_a_terminal(tmp_path):
    key = "a\x1b]0;b\x07\x9b31m\u202ec\u2066"
    pq.write_table(pa.table({"key": [key], "status": ["success"], "na\x1bme": [key]}), tmp_path / "00000.parquet")
    with tarfile.open(tmp_path / "00000.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo(f"{key}.txt"))
    for words in ("read", "query", "query --json", "query --sql wrong"):
        options = ["--sql", "SELECT * FROM samples"] if words.startswith("query") and "--sql" not in words else []
        command = [sys.executable, "-m", "tarloom", *words.split(), "--path", str(tmp_path), *options]
        ended = subprocess.run(command, capture_output=True, text=True)
        assert not set(key) & set(ended.stdout + ended.stderr) & set("\x1b\x07\x9b\u202e\u2066")
        if words == "query --json":
            assert json.loads(ended.stdout) == {"__key__": key, "key": key, "status": "success", "na\x1bme": key}


@pytest.mark.parametrize(
    ("words", "code", "named"),
    [
        ("create --source absent --output out --json", 2, "absent: nothing there"),
        ("create --sauce absent --output out --json", 2, "--sauce"),
        ("read --path {cut} --json", 1, "cut.tar"),
    ],
)
def test_machines_are_told_what_stopped_a_program_in_the_line_where_the_summary_would_be(tmp_path, words, code, named):
    cut = tmp_path / "cut.tar"
    cut.write_bytes(b"no tar" * 1000)
    command = [sys.executable, "-m", "tarloom.cli", *words.format(cut=cut.parent).split()]
    ended = subprocess.run(command, capture_output=True, text=True)
    said = json.loads(ended.stdout)
    assert (ended.returncode, said["exit_code"]) == (code, code)
    assert named in said["error"]
    assert ended.stderr.endswith(f"error: {said['error']}\n")


def test_a_command_that_answers_in_rows_prints_nothing_but_rows(tmp_path):
    command = [sys.executable, "-m", "tarloom.cli", "query", str(tmp_path / "absent"), "SELECT 1", "--json"]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (2, "")


@pytest.mark.usefixtures("program_here")
@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("curate absent --output out --json", "absent"),
        ("curate absent --to_shards --json", "add --output"),
        ("craete --json", "unknown command 'craete'"),
        ("create --url_list None --output_folder out --json", "url_list: names nothing"),
    ],
)
def test_machines_are_told_whatever_is_wrong(monkeypatch, capsys, words, named):
    monkeypatch.setattr(sys, "argv", ["tarloom", *words.split()])
    assert main() == 2
    said = json.loads(capsys.readouterr().out)
    assert said["exit_code"] == 2
    assert named in said["error"]


@pytest.mark.usefixtures("program_here")
@pytest.mark.parametrize(("words", "answers_in_rows"), [("info d", False), ("query d SELECT", True)])
def test_machines_are_told_of_a_mistake_of_ours_and_its_traceback_follows(monkeypatch, capsys, words, answers_in_rows):
    def mistaken(_):
        raise ZeroDivisionError("by\nzero")

    monkeypatch.setattr(cli, "_execute", mistaken)
    with pytest.raises(ZeroDivisionError):
        cli.run(*words.split(), "--json")
    told = '{"exit_code": 1, "error": "ZeroDivisionError: by zero"}\n'
    assert capsys.readouterr().out == ("" if answers_in_rows else told)


@pytest.mark.usefixtures("program_here")
def test_memory_that_is_not_given_is_no_mistake_of_ours(monkeypatch, capsys):
    def greedy(_):
        raise MemoryError("Unable to allocate 9 GiB")

    monkeypatch.setattr(cli, "_execute", greedy)
    assert cli.run("info", "d", "--json") == 1
    told = capsys.readouterr()
    assert told.err == f"tarloom info: error: {json.loads(told.out)['error']}\n"
    assert "not enough memory (Unable to allocate 9 GiB)" in told.err


@pytest.mark.usefixtures("program_here")
def test_stdout_is_not_blamed_for_files_that_options_name(monkeypatch):
    def gone(*_):
        raise FileNotFoundError("the working folder")

    monkeypatch.setattr("tarloom.cli.process.with_stages", gone)
    with pytest.raises(FileNotFoundError):
        cli.run("process", "d", "--stages", "hash")


def test_whoever_reads_the_summary_of_a_program_that_stops_may_leave():
    command = (
        f"{sys.executable} -m tarloom.cli create --source absent --output out --json | true; exit ${{PIPESTATUS[0]}}"
    )
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (ended.returncode, len(ended.stderr.splitlines())) == (2, 1)


@pytest.mark.parametrize(
    ("command", "code", "lines"),
    [
        ("--help | true", 0, 0),
        ("--help >&-", 0, 0),
        ("--version > /dev/full", 1, 1),
        ("craete 2>&-", 2, 0),
        ("craete 2> /dev/full", 2, 0),
        ("create --source absent --output out 2>&1 | true", 2, 0),
    ],
)
def test_the_exit_code_is_the_same_wherever_the_streams_lead(tmp_path, command, code, lines):
    shell = f"{sys.executable} -m tarloom.cli {command}; exit ${{PIPESTATUS[0]}}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(["bash", "-c", shell], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (ended.returncode, len(ended.stderr.splitlines())) == (code, lines), ended.stderr


def test_a_job_goes_on_where_its_progress_cannot_be_written(monkeypatch):
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stderr", full)
        monkeypatch.setattr(progress, "PLAIN_SECONDS", -1.0)
        assert list(progress.watch(range(3), title="counting", total=3, done=int)) == [0, 1, 2]
