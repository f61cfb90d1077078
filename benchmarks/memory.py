"""The memory of a command's processes, watched while it runs, and its CPU time."""

import contextlib
import json
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

INTERVAL = 0.1
INTERVAL_OF_SHARED = 0.5
"""The system looks at every page to tell what is shared."""


@dataclass
class Watched:
    """What a command printed and used."""

    exit_code: int
    summary: dict[str, Any]
    """Its last line, as JSON."""
    errors: str
    seconds: float
    cpu_of: dict[int, float] = field(default_factory=dict)
    """Seconds of CPU that each process used, by its number, as far as was seen."""
    peaks: dict[int, int] = field(default_factory=dict)
    """The most bytes that each process held, by its number."""
    over_time: list[tuple[float, int]] = field(default_factory=list)
    """Seconds since the start, and the bytes that the largest process held then."""
    peak_of_all: int = 0
    """The most that all processes held at one time."""

    @property
    def cpu(self) -> float:
        """Seconds of CPU of all processes."""
        return sum(self.cpu_of.values())


def watch(command: Sequence[str], *, folder: Path, shared_once: bool = False) -> Watched:
    """Run a command that ends its output with a line of JSON, and measure it and what it starts.

    shared_once: what several processes have in memory together (PSS) is parted among them, not counted for each.
    """
    started = time.monotonic()
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    watched = Watched(exit_code=-1, summary={}, errors="", seconds=0)
    ended = threading.Event()
    watcher = threading.Thread(target=_watch, args=(process.pid, watched, ended, started, shared_once))
    watcher.start()
    output, watched.errors = process.communicate()
    ended.set()
    watcher.join()
    watched.exit_code, watched.seconds = process.returncode, time.monotonic() - started
    lines = output.splitlines()
    watched.summary = json.loads(lines[-1]) if lines and lines[-1].startswith("{") else {}
    return watched


def _watch(number: int, watched: Watched, ended: threading.Event, started: float, shared_once: bool) -> None:
    while not ended.wait(INTERVAL_OF_SHARED if shared_once else INTERVAL):
        used = used_by_tree(number, shared_once=shared_once)
        held = {process: size for process, (size, _) in used.items()}
        for process, (size, cpu) in used.items():
            watched.peaks[process] = max(size, watched.peaks.get(process, 0))
            watched.cpu_of[process] = cpu
        watched.over_time.append((time.monotonic() - started, max(held.values(), default=0)))
        watched.peak_of_all = max(watched.peak_of_all, sum(held.values()))


def used_by_tree(number: int, *, shared_once: bool = False) -> dict[int, tuple[int, float]]:
    """Bytes in memory and seconds of CPU of a process and of all that it started."""
    found = {}
    with contextlib.suppress(psutil.Error):
        root = psutil.Process(number)
        for process in (root, *root.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                held = process.memory_full_info().pss if shared_once else process.memory_info().rss
                times = process.cpu_times()
                found[process.pid] = held, times.user + times.system
    return found
