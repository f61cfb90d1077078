"""Other projects' programs, in virtual environments of their own, made once by scripts/peer_venv.sh."""

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.source_tree import ROOT

CANNOT_BE_HAD = 3


@cache
def peer_python(name: str) -> Path:
    """The Python of a peer's environment; skips the test where its packages cannot be had."""
    script = [ROOT / "scripts" / "peer_venv.sh", name]
    made = subprocess.run(script, env=os.environ | {"PYTHON": sys.executable}, capture_output=True, text=True)
    if made.returncode == CANNOT_BE_HAD:
        pytest.skip(f"no {name} here: {made.stderr.strip().splitlines()[-1]}")
    assert made.returncode == 0, made.stderr
    return Path(made.stdout.strip())


def run_python(python: Path | str, *arguments: str | Path, **environment: str) -> str:
    """What a run of this Python prints; it must end well. Our own environment's settings do not reach a peer."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    command = [python, *arguments]
    done = subprocess.run(command, cwd=ROOT, env=clean | environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, (
        f"{command} ended with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    )
    return done.stdout
