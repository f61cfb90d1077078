"""Questions over metadata and sidecars, beside reading everything: python -m benchmarks.curate

The patterns of TPC-H: a filter and aggregates by class and segment; a join with another table, aggregates, and a
condition on groups; the top rows of a filter. Of 400,000 samples with embeddings of 512 numbers, each is asked

    local, ray, spark    by `tarloom curate` on these engines
    everything           of all columns of all tables, read by pyarrow and joined and asked by duckdb
    duckdb               by duckdb over the files: it reads what it needs, but proves nothing of how they fit

Prints seconds (sessions are up, files in the system's cache, each question has been asked once before), and the most
memory that a way's processes held (what they share counted once). Exits with 1 where two ways do not say the same.
"""

import argparse
import json
import math
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.curating.data import make_tables
from benchmarks.curating.run import OURS, QUESTIONS, THEIRS
from benchmarks.memory import Watched, watch

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    """Measure, print, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, default=20, help="(default: %(default)s)")
    parser.add_argument("--samples", type=int, default=20_000, help="a shard (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--only", nargs="*", choices=(*OURS, *THEIRS), default=[*OURS, *THEIRS])
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tarloom-benchmark-") as folder:
        make_tables(Path(folder), shards=options.shards, samples=options.samples)
        rounds = [{way: _run(way, folder) for way in options.only} for _ in range(options.rounds)]
    seconds = {way: {name: _median([run[way].summary[name]["seconds"] for run in rounds]) for name in QUESTIONS}
               for way in options.only}  # fmt: skip
    memory = {way: max(run[way].peak_of_all for run in rounds) for way in options.only}
    print(f"{'':12}" + "".join(f"{name:>12}" for name in QUESTIONS) + "    peak MB")
    for way in options.only:
        print(
            f"{way:12}" + "".join(f"{seconds[way][name]:10.3f} s" for name in QUESTIONS) + f"{memory[way] / 1e6:11.0f}"
        )
    if options.json:
        print(json.dumps({"seconds": seconds, "peak_bytes": memory}))
    answers = [[each["answer"] for each in run.summary.values()] for found in rounds for run in found.values()]
    return 0 if all(_same(answer, answers[0]) for answer in answers) else 1


def _run(way: str, folder: str) -> Watched:
    watched = watch([sys.executable, "-m", "benchmarks.curating.run", way, folder], folder=ROOT, shared_once=True)
    if watched.exit_code:
        sys.exit(f"{way} failed: {watched.errors[-3000:]}")
    return watched


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def _same(found: Any, wanted: Any) -> bool:
    """Whether answers are equal, but for the last bits of what was summed in another order."""
    if isinstance(found, float) and isinstance(wanted, float):
        return math.isclose(found, wanted, rel_tol=1e-12)
    if isinstance(found, list) and isinstance(wanted, list):
        return len(found) == len(wanted) and all(map(_same, found, wanted))
    if isinstance(found, dict) and isinstance(wanted, dict):
        return found.keys() == wanted.keys() and all(_same(found[name], wanted[name]) for name in wanted)
    return bool(found == wanted)


if __name__ == "__main__":
    sys.exit(main())
