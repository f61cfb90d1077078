"""One way in a process of its own: python -m benchmarks.spreading.run WAY FOLDER WORKERS STORE_BYTES

Ends with a line of JSON. What is up before the first answer is asked for (Python, Ray, its workers and what they
import) is measured apart.
"""

import importlib
import json
import os
import sys
import time
from collections import Counter

import psutil

from benchmarks.memory import used_by_tree
from benchmarks.spreading.job import STEPS, digest

WAYS = {
    "loop": "loop",
    "tasks": "with_ray",
    "actors": "with_ray",
    "streaming": "with_ray_data",
    "bulk": "with_ray_data",
}
"""And the module of each."""


def main(way: str, folder: str, workers: int, store_bytes: int) -> None:
    """Run it, and print what it took."""
    if way != "loop":
        from benchmarks.spreading.with_ray import start

        start(workers, store_bytes)
    module = importlib.import_module(f"benchmarks.spreading.{WAYS[way]}")
    running = getattr(module, way)(folder, workers)
    next(running)
    held = sum(size for size, _ in used_by_tree(os.getpid(), shared_once=True).values())
    before, started, first = _cpu(), time.perf_counter(), 0.0
    pictures, total, spent = 0, 0, Counter[str]()
    for answer in running:
        first = first or time.perf_counter() - started
        pictures, total = pictures + len(answer.keys), total + digest(answer)
        spent += answer.seconds
    seconds = time.perf_counter() - started
    cpu = _cpu() - before
    steps = {step: round(spent[step], 3) for step in STEPS}
    summary = {"pictures": pictures, "digest": total % (1 << 64), "seconds": seconds, "first": first, **steps}
    summary |= {"rest": round(cpu - sum(steps.values()), 3), "waited": round(workers * seconds - cpu, 3)}
    summary |= {"bytes_before": held, "spilled": _spilled(way)}
    print("\n" + json.dumps(summary), flush=True)


def _cpu() -> float:
    """Seconds that this process, all that it started, and those of them that have ended have used so far."""
    me = psutil.Process()
    return sum(sum(process.cpu_times()[:4]) for process in (me, *me.children(recursive=True)))


def _spilled(way: str) -> int:
    if way == "loop":
        return 0
    from benchmarks.spreading.with_ray import spilled_bytes

    return spilled_bytes()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
