"""What a command costs with every process it starts: CPU time, wall time, and how it ended.

The command runs under a small process of its own that adopts every orphan below it and waits for them all, so nothing
that was started is forgotten, whoever started it and however it was left.
"""

import ctypes
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of one command and all its descendants, start-up included."""

    user: float
    system: float
    wall: float
    exit_code: int
    output: str
    """The end of what it wrote."""

    @property
    def cpu(self) -> float:
        """Seconds of CPU, user and system."""
        return self.user + self.system


def run_tree(command: Sequence[str], *, folder: Path) -> Cost:
    """Run a command in a folder, and wait until everything that it started has ended."""
    report, told = os.pipe()
    wrapped = [sys.executable, "-S", __file__, str(told), *command]
    with open(report) as answer:
        process = subprocess.Popen(
            wrapped, cwd=folder, pass_fds=[told], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        os.close(told)
        output = process.communicate()[0]
        return Cost(**json.loads(answer.read()), output=output[-4000:])


def _wait_for_all(told: int, command: Sequence[str]) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    os.set_inheritable(told, False)
    started = time.monotonic()
    first = os.posix_spawnp(command[0], command, os.environ)
    exit_code = -1
    wall = 0.0
    while True:
        try:
            ended, status = os.wait()
        except ChildProcessError:
            break
        wall = time.monotonic() - started
        if ended == first:
            exit_code = os.waitstatus_to_exitcode(status)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cost = {"user": used.ru_utime, "system": used.ru_stime, "wall": wall, "exit_code": exit_code}
    os.write(told, json.dumps(cost).encode())


if __name__ == "__main__":
    _wait_for_all(int(sys.argv[1]), sys.argv[2:])
