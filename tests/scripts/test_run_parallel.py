"""scripts/run_parallel.sh: how it ends, and what it then says. tests/create/test_interrupted.py has its runs."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import wait_for
from tests.source_tree import ROOT

RUN = str(ROOT / "scripts/run_parallel.sh")


FAILING = """#!/bin/bash
case "$1" in -*) exec {python} "$@" ;; esac
case " $* " in
*" --plan-only "*) echo '{{"rows": 40, "shards": 4}}' ;;
*max_failed*) exit 1 ;;
*)
    words="$*"
    lost="${{words##* --shards }}"
    echo '{{"rows": 20, "successes": 10, "bytes": 9, "shards": 2, "skipped": 0, "failed_by_error": {{}},' \\
        '"failed_shards": {{"shard '"${{lost%%:*}}"'": "why"}}}}'
    exit 3
    ;;
esac
"""
"""Stands for Python, and where that makes shards, says that the first one of each worker's failed."""


STOPPED = """#!/bin/bash
case "$1" in -*) exec {python} "$@" ;; esac
case " $* " in
*" --plan-only "*) echo '{{"rows": 40, "shards": 4}}' ;;
*)
    echo "error: the process died; run the same command again to go on" >&2
    echo "interrupted; nothing is left half-done: run the same command again" >&2
    exit 130
    ;;
esac
"""
"""Stands for Python, and where that makes shards, says what one does that is stopped."""


def start(*words: object, python: object = sys.executable) -> "subprocess.Popen[str]":
    """In a process group of its own, as a terminal has it."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    environment = os.environ | {"PYTHON": str(python)}
    return subprocess.Popen([RUN, *map(str, words)], env=environment, start_new_session=True, **pipes)


def program(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(("most", "code"), [("--max-failed=1", 3), ("--max_failed=2", 0)])
def test_failed_shards_of_all_workers_are_counted_together(tmp_path, most, code):
    python = program(tmp_path / "python", FAILING.format(python=sys.executable))
    process = start("source", "out", "2", "--json", most, python=python)
    printed, complaint = process.communicate(timeout=120)
    found = json.loads(printed.splitlines()[-1])
    assert (process.returncode, found["exit_code"]) == (code, code), complaint
    assert found["failed_shards"] == {"shard 0": "why", "shard 2": "why"}


@pytest.mark.parametrize(
    ("words", "advice"),
    [([], "to go on"), (["--incremental-mode", "overwrite"], "to go on, but without --incremental-mode overwrite")],
)
def test_workers_that_are_stopped_advise_nothing_that_would_throw_away_what_is_done(tmp_path, words, advice):
    python = program(tmp_path / "python", STOPPED.format(python=sys.executable))
    process = start("source", "out", "2", *words, python=python)
    _, complaint = process.communicate(timeout=120)
    assert process.returncode == 130
    told = [line.partition("run the same command again ")[2] for line in complaint.splitlines() if "again" in line]
    assert told == [advice] * 6, complaint


@pytest.mark.parametrize(
    ("words", "named"),
    [(["absent", "out", "2"], "absent"), (["a", "b", "0"], "at least 1"), (["a", "b", "--shards=1:2"], "--shards is")],
)
def test_machines_are_told_what_is_wrong_before_work_starts(tmp_path, words, named):
    process = start(tmp_path / words[0], tmp_path / words[1], *words[2:], "--json")
    printed, _ = process.communicate(timeout=120)
    said = json.loads(printed.splitlines()[-1])
    assert (process.returncode, said["exit_code"]) == (2, 2)
    assert named in said["error"]


def test_a_python_that_is_not_there_is_named_and_machines_are_told(tmp_path):
    process = start("source", "out", "2", "--json", python=tmp_path / "python")
    printed, complaint = process.communicate(timeout=60)
    said = json.loads(printed)
    assert process.returncode == said["exit_code"] == 2
    assert said["error"].startswith(f"there is no {tmp_path}/python: activate")
    assert complaint == f"[run_parallel] {said['error']}\n"


@pytest.mark.parametrize(
    ("redirections", "code", "lines"),
    [
        ("<&- >&- 2>&-", 3, 0),
        ("2> /dev/full", 3, 0),
        ("2>&1 | true", 3, 0),
        ("> /dev/full", 1, 4),
    ],
)
def test_the_work_is_done_wherever_its_streams_lead(tmp_path, redirections, code, lines):
    python = program(tmp_path / "python", FAILING.format(python=sys.executable))
    command = f"{RUN} source out 2 {redirections}; exit ${{PIPESTATUS[0]}}"
    environment = os.environ | {"PYTHON": str(python)}
    ended = subprocess.run(["bash", "-c", command], env=environment, capture_output=True, text=True, timeout=120)
    assert (ended.returncode, len(ended.stderr.splitlines())) == (code, lines), ended.stderr


def test_a_temporary_folder_that_cannot_be_made_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "absent"))
    process = start("source", "out", "2", "--json")
    printed, complaint = process.communicate(timeout=60)
    said = json.loads(printed)
    assert process.returncode == said["exit_code"] == 1
    assert "TMPDIR" in said["error"]
    assert complaint == f"[run_parallel] {said['error']}\n"


@pytest.mark.parametrize(
    ("words", "advice"), [(["extend"], "go on"), (["overwrite"], "but without --incremental-mode")]
)
def test_machines_are_told_of_an_interruption_and_how_to_go_on(tmp_path, words, advice):
    python = program(tmp_path / "python", f"#!/bin/sh\n: >{tmp_path}/planning\nexec sleep 100\n")
    process = start("source", "out", "2", "--json", "--incremental-mode", *words, python=python)
    wait_for((tmp_path / "planning").exists, seconds=60)
    os.killpg(process.pid, signal.SIGINT)
    printed, complaint = process.communicate(timeout=60)
    said = json.loads(printed)
    assert process.returncode == said["exit_code"] == 130
    assert advice in said["error"]
    assert said["error"] in complaint
