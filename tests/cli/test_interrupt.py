"""Ctrl-C, whenever it comes and however the program was started."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


PROGRAM = str(REPOSITORY / "create" / "create_webdataset.py")
OPTIONS = ["--source", str(REPOSITORY / "source_data" / "pictures"), "--image-size", "2048", "--output"]


def wait_until_it_loads(process: int) -> None:
    """Until the program is beyond Python's own start and has begun to load its libraries."""
    while "pyarrow" not in Path(f"/proc/{process}/maps").read_text():
        time.sleep(0.01)


@pytest.mark.parametrize("program", [[PROGRAM], ["-m", "tarloom.cli", "create"]], ids=["program", "command"])
@pytest.mark.parametrize(
    ("asked", "delay"), [(signal.SIGINT, 0.0), (signal.SIGINT, 0.2), (signal.SIGINT, 0.6), (signal.SIGTERM, 0.3)]
)
def test_a_program_that_is_asked_to_stop_while_it_loads_or_works_ends_with_one_line(tmp_path, program, asked, delay):
    words = [sys.executable, *program, *OPTIONS, str(tmp_path / "out"), "--json"]
    process = subprocess.Popen(words, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_until_it_loads(process.pid)
    time.sleep(delay)
    process.send_signal(asked)
    told, said = process.communicate(timeout=30)
    assert process.returncode == 130, said
    assert len(said.splitlines()) == 1
    assert "run the same command again" in said
    assert json.loads(told)["exit_code"] == 130


def test_the_exit_code_is_ours_wherever_the_interrupt_came(tmp_path):
    """Dataclasses are made by running text; an interrupt in there is remembered by Python until it ends."""
    (tmp_path / "interrupted.py").write_text(
        "import sys\n"
        "from tarloom import cli\n"
        "cli._options = lambda *_: exec('raise KeyboardInterrupt')\n"
        "sys.exit(cli.run('create'))\n"
    )
    command = [sys.executable, "-m", "interrupted"]
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{REPOSITORY}"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ended.returncode == 130, ended.stderr


def test_a_background_job_of_a_script_can_be_interrupted_too(tmp_path):
    command = f"{sys.executable} {PROGRAM} {' '.join(OPTIONS)} {tmp_path}/out"
    script = f"{command} & echo $!; wait $!"
    shell = subprocess.Popen(["bash", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process = int(shell.stdout.readline())
    wait_until_it_loads(process)
    os.kill(process, signal.SIGINT)
    shell.communicate(timeout=30)
    assert shell.returncode == 130
