"""Two ways to read the same samples, timed in turn, each in a fresh Python process.

A side is a function of the dataset's folder that reads it and returns how many samples that were, timed as a whole; or
a generator of it, where an engine has to be started first. That one yields once when it is ready, then the number of
samples, and may clean up behind that: only what lies between its two yields is timed. What a side's module imports is
imported before. Both sides must find the same number of samples.
"""

import contextlib
import importlib
import inspect
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

Side = Callable[[str], Any]


@contextlib.contextmanager
def as_it_lies(folder: str) -> Iterator[str]:
    """The dataset where it was made."""
    yield folder


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two sides, and how many times faster ours is wanted. Sides are functions of a module, not nested ones."""

    name: str
    wanted: float
    ours: Side
    theirs: Side
    place: Callable[[str], AbstractContextManager[str]] = as_it_lies
    """Takes the dataset where both sides shall read it (an object store), and gives that address; entered once. What it
    sets in os.environ reaches the sides."""


@dataclass(frozen=True, kw_only=True)
class Timing:
    """One run of one side."""

    seconds: float
    cpu: float
    """Seconds of CPU of the process itself, not of workers that an engine started."""
    samples: int


def timed(side: Side, folder: str) -> Timing:
    """Run one side in this process."""
    running = side(folder) if inspect.isgeneratorfunction(side) else None
    if running is not None:
        next(running)
    cpu, started = time.process_time(), time.perf_counter()
    samples = side(folder) if running is None else next(running)
    found = Timing(seconds=time.perf_counter() - started, cpu=time.process_time() - cpu, samples=samples)
    if running is not None:
        next(running, None)
    return found


def compare(comparison: Comparison, folder: str, *, rounds: int) -> bool:
    """Print a line of medians; whether the ratio is the wanted one. Exits where the sides disagree."""
    found: dict[str, list[Timing]] = {"ours": [], "theirs": []}
    with comparison.place(folder) as address:
        for _ in range(rounds):
            found["theirs"].append(_in_fresh_process(comparison.theirs, address))
            found["ours"].append(_in_fresh_process(comparison.ours, address))
    counts = {timing.samples for timings in found.values() for timing in timings}
    if len(counts) > 1:
        sys.exit(f"{comparison.name}: the sides read different numbers of samples: {found}")
    speeds = {side: statistics.median(timing.samples / timing.seconds for timing in found[side]) for side in found}
    cpu = {side: statistics.median(timing.cpu for timing in found[side]) for side in found}
    ratio = speeds["ours"] / speeds["theirs"]
    print(
        f"{comparison.name:32} {speeds['ours']:12,.0f} samples/s, theirs {speeds['theirs']:10,.0f}:"
        f" {ratio:7.2f} x (wanted {comparison.wanted:g})   CPU s {cpu['ours']:.2f}, theirs {cpu['theirs']:.2f}",
        flush=True,
    )
    return ratio >= comparison.wanted


def _in_fresh_process(side: Side, folder: str) -> Timing:
    command = [sys.executable, "-m", "benchmarks.reading.compare", side.__module__, side.__name__, folder]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if ended.returncode:
        sys.exit(f"{side.__module__}.{side.__name__} failed:\n{ended.stderr[-4000:]}")
    return Timing(**json.loads(ended.stdout.splitlines()[-1]))


def _main(module: str, name: str, folder: str) -> None:
    side: Side = getattr(importlib.import_module(module), name)
    print("\n" + json.dumps(vars(timed(side, folder))))


if __name__ == "__main__":
    _main(*sys.argv[1:])
