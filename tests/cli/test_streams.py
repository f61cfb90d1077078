"""Where what a program prints may go."""

import os
import subprocess
import sys

import pytest

from tests.source_tree import ROOT

PROGRAM = f"{sys.executable} {ROOT}/create/create_webdataset.py --source {ROOT}/source_data/pictures --plan-only"


def run(output: bytes, redirections: str) -> subprocess.CompletedProcess[bytes]:
    command = f"{PROGRAM} --output ".encode() + output + f" {redirections}".encode()
    return subprocess.run([b"bash", b"-c", command], capture_output=True)


@pytest.mark.parametrize("redirections", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_program_needs_no_open_streams(tmp_path, redirections):
    ended = run(os.fsencode(tmp_path / "out"), redirections)
    assert (ended.returncode, ended.stderr) == (0, b"")


def test_a_full_disk_behind_stdout_is_one_clear_line(tmp_path):
    ended = run(os.fsencode(tmp_path / "out"), "> /dev/full")
    assert ended.returncode == 1
    assert ended.stderr == b"create_webdataset.py: error: stdout cannot be written: No space left on device\n"


def test_any_file_name_can_be_shown(tmp_path):
    command = f"{sys.executable} {ROOT}/create/create_webdataset.py --source {ROOT}/absent".encode() + b"\xe9"
    ended = subprocess.run([b"bash", b"-c", command + b" --output x"], capture_output=True)
    assert ended.returncode == 2
    assert b"absent\\udce9: nothing there" in ended.stderr
