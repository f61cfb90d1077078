"""The README's commands run as typed, one after another, as a newcomer would run them; and so does the quickstart.

They serve pictures at one port, so they are in one file: tests of different files run side by side.
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
README = (REPOSITORY / "README.md").read_text()
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROGRAMS = ("create", "read", "process", "scripts", "source_data")


def section(title: str) -> str:
    """What the README says below a heading, up to the next of its rank."""
    return README.partition(f"## {title}\n")[2].partition("\n## ")[0]


def typed() -> str:
    """The commands of the README's section on use, as one shell script."""
    blocks = (
        f"python - <<'EOF'\n{text}EOF\n" if language == "python" else text
        for language, text in FENCE.findall(section("Use"))
        if language in ("", "python")
    )
    return "set -eux\n" + "\n".join(blocks)


def first_look(folder: Path) -> list[str]:
    """What the README's first lines of Python print there."""
    (text,) = [text for language, text in FENCE.findall(section("Install")) if language == "python"]
    ended = subprocess.run([sys.executable, "-c", text], cwd=folder, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()


@contextmanager
def alone(command: list[str], log: Path, **options) -> Iterator["subprocess.Popen[bytes]"]:
    """It, in a group of its own that is killed in the end: a server that is left would keep the port for itself."""
    with log.open("wb") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, start_new_session=True, **options)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_the_first_lines_of_python_run_as_they_stand(tmp_path):
    create = [sys.executable, str(REPOSITORY / "create" / "create_webdataset.py")]
    options = ["--source", str(REPOSITORY / "source_data" / "pictures"), "--output", "quickstart_output/shards"]
    subprocess.run([*create, *options], cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)
    shown = first_look(tmp_path)
    assert len(shown) > 50
    assert all("circle" in line and "(256, 256, 3)" in line for line in shown)


def test_the_figures_of_the_readme_are_among_all_figures():
    rows = [line for line in section("Measured").splitlines() if line.startswith("| ")]
    assert len(rows) == 6
    assert set(rows) <= set((REPOSITORY / "docs" / "measured.md").read_text().splitlines())


@pytest.mark.slow
@pytest.mark.timeout(2700)
def test_every_command_of_the_readme_runs_as_typed(tmp_path):
    for name in PROGRAMS:
        (tmp_path / name).symlink_to(REPOSITORY / name)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with alone(["bash", "-c", typed()], tmp_path / "log", cwd=tmp_path, env={**os.environ, "PATH": path}) as shell:
        code = shell.wait(2600)
    said = (tmp_path / "log").read_text()
    assert code == 0, said[-4000:]
    assert "Traceback" not in said
    digests = re.findall(r"^digest +(\w+)", said, re.MULTILINE)
    assert len(digests) == 6
    assert len(set(digests)) == 1


@pytest.mark.slow
@pytest.mark.timeout(2700)
@pytest.mark.parametrize("runs", [1, pytest.param(2, marks=pytest.mark.long)])
def test_the_quickstart_ends_well_and_can_be_repeated_to_the_same_bytes(tmp_path, runs):
    made = []
    for _ in range(runs):
        command = [sys.executable, str(REPOSITORY / "scripts" / "quickstart.py"), "--output", str(tmp_path / "out")]
        with alone(command, tmp_path / "log") as quickstart:
            code = quickstart.wait(1300)
        said = (tmp_path / "log").read_text()
        assert code == 0, said
        assert "Look here:" in said
        assert (tmp_path / "out" / "contact_sheet.png").stat().st_size > 100_000
        assert "Everything agrees." in (tmp_path / "out" / "report.html").read_text()
        shards = tmp_path / "out" / "shards"
        made.append({p.name: p.read_bytes() for p in shards.rglob("*") if p.suffix in (".tar", ".parquet")})
    assert all(files == made[0] != {} for files in made)
    (tmp_path / "quickstart_output").symlink_to(tmp_path / "out")
    assert all("circle" in line for line in first_look(tmp_path))
