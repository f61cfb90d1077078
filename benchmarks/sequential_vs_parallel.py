"""One job spread in five ways: python -m benchmarks.sequential_vs_parallel

Every picture of some shards is read, decoded, and put through a network of 118 MB that is loaded from a file; what it
says comes back to the program:

    loop        one after the other, in one thread
    tasks       Ray tasks of 64 pictures; each loads the network
    actors      Ray actors, one a CPU, that have loaded it and are given 64 pictures at a time
    streaming   Ray Data: tasks read and decode, an actor for every two CPUs embeds, all at once
    bulk        the same operators, each of which begins when the one before it has ended (materialize)

Prints for each: pictures a second; seconds until the first answer; the memory of all its processes at its highest (what
they share counted once) and before it began; what Ray's object store wrote to disk; and of the CPUs' seconds, how many
went into loading the network, decoding, embedding and all else (reading, passing on, scheduling, starting), and in how
many nothing was done. Ray is up, and the workers of its tasks have imported what they need, before the time begins;
actors are processes of their own, which start within it. Rounds are run in turn, in fresh processes; of each way the
fastest is shown. Exits with 1 where two ways do not say the same of every picture. To be run where nothing else runs:
what others use is not told apart from waiting.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.memory import watch
from benchmarks.reading.data import make_dataset
from benchmarks.spreading.job import STEPS, make_network
from benchmarks.spreading.run import WAYS

ROOT = Path(__file__).resolve().parents[1]
MB = 1_000_000


def main() -> int:
    """Measure, print, and return the exit code."""
    options = _parse()
    with tempfile.TemporaryDirectory(prefix="tarloom-benchmark-") as folder:
        shards = Path(folder, "shards")
        make_dataset(shards, shards=options.shards, samples=options.samples)
        make_network(str(shards))
        rounds = [{way: _run(way, str(shards), options) for way in options.only} for _ in range(options.rounds)]
    found = {way: min((each[way] for each in rounds), key=lambda figures: figures["seconds"]) for way in options.only}
    _print(found)
    if options.json:
        print(json.dumps(found))
    return int(len({(figures["pictures"], figures["digest"]) for each in rounds for figures in each.values()}) > 1)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=WAYS, default=list(WAYS), help="ways (default: all)")
    parser.add_argument("--rounds", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--shards", type=int, default=8, help="(default: %(default)s)")
    parser.add_argument("--samples", type=int, default=1000, help="a shard (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="CPUs (default: %(default)s)")
    parser.add_argument("--store-mb", type=int, default=512, help="of Ray's object store (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    return parser.parse_args()


def _run(way: str, folder: str, options: argparse.Namespace) -> dict[str, Any]:
    os.environ["OMP_NUM_THREADS"] = "1"  # as Ray has it for a worker of one CPU
    words = [way, folder, str(options.workers), str(options.store_mb * MB)]
    watched = watch([sys.executable, "-m", "benchmarks.spreading.run", *words], folder=ROOT, shared_once=True)
    if watched.exit_code:
        sys.exit(f"{way} failed: {watched.errors[-3000:]}")
    return watched.summary | {"peak_bytes": watched.peak_of_all}


def _print(found: dict[str, dict[str, Any]]) -> None:
    steps = (*STEPS, "rest", "waited")
    print(
        f"{'':10} pictures/s  first answer  peak MB  before  spilled MB | CPU s: " + " ".join(f"{s:>7}" for s in steps)
    )
    for way, figures in found.items():
        speed = figures["pictures"] / figures["seconds"]
        memory = (
            f"{figures['peak_bytes'] / MB:8.0f} {figures['bytes_before'] / MB:7.0f} {figures['spilled'] / MB:11.0f}"
        )
        spent = " ".join(f"{figures[step]:7.1f}" for step in steps)
        print(f"{way:10} {speed:10.0f} {figures['first']:11.2f} s {memory} |        {spent}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
