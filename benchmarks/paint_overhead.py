"""What generating costs beside the pipeline alone: python -m benchmarks.paint_overhead

Rows of a table become committed shards, by the actor that every engine runs (the painter inside the shard loop), beside
bare loops over the same pipeline of diffusers with the same batch size, steps and guidance, whose pictures are thrown
away: a plain loop with torch's own threads, and as many loops side by side as there are cores, each with one thread.
Models are loaded and warm before the clock starts; sides run in turn, in fresh processes. On one core: taskset -c 0.

Prints pictures a second of both, and the ratio. Exits with 1 where the actor makes less than 90 % of the bare loop's.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks.processing.painting import SHARD, loops_side_by_side, make_prompts, plain_loop, street
from benchmarks.reading.compare import Comparison, compare

COMPARISONS = {
    "loop": Comparison(name="paint, beside a loop", wanted=0.9, ours=street, theirs=plain_loop),
    "loops": Comparison(name="paint, beside a loop a core", wanted=0.9, ours=street, theirs=loops_side_by_side),
}


def main() -> int:
    """Compare, print a line for each, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=COMPARISONS, action="append", help="what to measure (default: all)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each side (default: %(default)s)")
    parser.add_argument("--shards", type=int, default=4, help=f"of {SHARD} rows (default: %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tarloom-benchmark-") as folder:
        make_prompts(Path(folder, "prompts.csv"), options.shards * SHARD)
        reached = [compare(COMPARISONS[name], folder, rounds=options.rounds) for name in options.only or COMPARISONS]
    return 0 if all(reached) else 1


if __name__ == "__main__":
    sys.exit(main())
