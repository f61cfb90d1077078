"""`python -m tarloom` is the `tarloom` command."""

import subprocess
import sys

from tarloom import __version__


def test_the_package_runs_as_the_command():
    for module in ("tarloom", "tarloom.cli"):
        shown = subprocess.run([sys.executable, "-m", module, "--version"], capture_output=True, text=True)
        assert (shown.returncode, shown.stdout, shown.stderr) == (0, f"tarloom {__version__}\n", "")
        refused = subprocess.run([sys.executable, "-m", module, "info"], capture_output=True, text=True)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert refused.stderr.startswith("tarloom info: error: ")
