"""The S3 server of the tests says what it lacks, and leaves nothing behind."""

import os
import re
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.s3_server import LACKS_SOMETHING, SCRIPT


@pytest.fixture
def tools_without_apt(tmp_path) -> Path:
    """A folder for PATH with all of the system's tools but apt-get."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in {name: Path(place, name) for place in ("/usr/bin", "/bin") for name in os.listdir(place)}.values():
        if tool.name != "apt-get":
            (folder / tool.name).symlink_to(tool)
    return folder


def test_where_it_cannot_start_it_says_what_is_missing(tools_without_apt, tmp_path):
    environment = os.environ | {
        "PATH": str(tools_without_apt),
        "XDG_CACHE_HOME": str(tmp_path),
        "TMPDIR": str(tmp_path),
    }
    done = subprocess.run([SCRIPT, "run"], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == LACKS_SOMETHING
    assert done.stdout == ""
    assert "no apt-get" in done.stderr.splitlines()[-1]
    assert not list(tmp_path.glob("tarloom-s3-*"))


def test_it_ends_with_its_stdin_and_takes_all_its_processes_along(s3, tmp_path):
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [SCRIPT, "run"], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        port = next(urlsplit(line.partition("=")[2].strip()).port for line in process.stdout if "ENDPOINT" in line)
        state = next(tmp_path.iterdir())
        processes = [int(path.read_text()) for path in (state / "run").glob("*.pid")]
        assert len(processes) == 3
        assert not any(is_gone(pid) for pid in processes)
        process.communicate(timeout=240)
    assert process.returncode == 0
    assert all(is_gone(pid) for pid in processes)
    assert list(tmp_path.iterdir()) == []
    assert port != urlsplit(s3.environment["AWS_ENDPOINT_URL"]).port


def test_stopping_it_removes_its_own_state_alone(tmp_path):
    for folder in ("log", "run", "mon", "s3_server/log"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "file").touch()
    (tmp_path / "s3_server" / ".s3_server").touch()
    subprocess.run([SCRIPT, "stop", tmp_path], check=True)
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.glob("*/*")) == [
        "log/file",
        "mon/file",
        "run/file",
    ]
    assert not (tmp_path / "s3_server").exists()


@pytest.mark.parametrize(("mark", "reason"), [(".s3_server", "a server runs there"), ("notes", "is not a server's")])
def test_it_does_not_start_where_it_would_lose_sight_of_another_or_of_files(tmp_path, mark, reason):
    (tmp_path / "s3_server" / "run").mkdir(parents=True)
    (tmp_path / "s3_server" / mark).touch()
    (tmp_path / "s3_server" / "run" / "1-gateway.pid").write_text(str(os.getpid()))
    done = subprocess.run([SCRIPT, "start", tmp_path], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert reason in done.stderr
    assert (tmp_path / "s3_server" / "run" / "1-gateway.pid").exists()


def is_gone(pid: int) -> bool:
    """Ended, or ended and not yet waited for by whoever inherited it."""
    try:
        return re.search(r"\) Z", Path(f"/proc/{pid}/stat").read_text()) is not None
    except (FileNotFoundError, ProcessLookupError):
        return True
