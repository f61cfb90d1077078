"""Repacking shards, beside webdataset's own reader and ShardWriter, and beside cp: python -m benchmarks.repack

Makes shards of random bytes in a temporary folder, three members a sample, then cuts them anew: with
create/create_webdataset.py, which also checks, hashes, indexes and syncs what it writes, and with the loop that one
would write around webdataset, which does not. Both start as fresh processes, in turn, several times. Medians.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tarloom.format.tar.writer import TarWriter

ROOT = Path(__file__).resolve().parents[1]
LOOP = """
import sys
import webdataset as wds
source, output, count = sys.argv[1:]
from pathlib import Path
shards = sorted(str(path) for path in Path(source).glob("*.tar"))
with wds.ShardWriter(f"{output}/%05d.tar", maxcount=int(count), maxsize=1e15, verbose=0) as writer:
    for sample in wds.WebDataset(shards, shardshuffle=False):
        writer.write(sample)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--samples", type=int, default=1000, help="in each shard")
    parser.add_argument("--kilobytes", type=int, default=100, help="of each picture")
    parser.add_argument("--new-samples", type=int, default=1500, help="in each new shard")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tarloom-benchmark-") as folder:
        source, output = Path(folder, "source"), Path(folder, "output")
        write_shards(source, options)
        megabytes = sum(path.stat().st_size for path in source.iterdir()) / 1e6
        sides: dict[str, Callable[[], list[str]]] = {
            "tarloom": lambda: tarloom_command(source, output, options.new_samples),
            "webdataset": lambda: [sys.executable, "-c", LOOP, str(source), str(output), str(options.new_samples)],
            "cp and sync": lambda: ["sh", "-c", f"cp -r {source}/. {output} && sync -f {output}"],
        }
        times: dict[str, list[tuple[float, float]]] = {side: [] for side in sides}
        for _ in range(options.rounds):
            for side, command in sides.items():
                shutil.rmtree(output, ignore_errors=True)
                output.mkdir()
                times[side].append(timed(command()))
    samples = options.shards * options.samples
    print(f"{samples:,} samples, {megabytes:,.0f} MB, {options.shards} shards; medians of {options.rounds} rounds")
    for side, found in times.items():
        wall, cpu = (statistics.median(column) for column in zip(*found, strict=True))
        speed = f"{megabytes / wall:8,.0f} MB/s {samples / wall:10,.0f} samples/s"
        print(f"{side:12} {wall:7.2f} s wall {cpu:7.2f} s CPU {speed} {1e6 * cpu / samples:8,.0f} us of CPU a sample")


def tarloom_command(source: Path, output: Path, count: int) -> list[str]:
    program = str(ROOT / "create" / "create_webdataset.py")
    return [
        *(sys.executable, program, "--source", str(source), "--output", str(output)),
        *("--number-sample-per-shard", str(count), "--disable-all-reencoding", "--compute-hash", "none"),
    ]


def write_shards(folder: Path, options: argparse.Namespace) -> None:
    """Tars without an index or metadata."""
    folder.mkdir()
    for shard in range(options.shards):
        with open(folder / f"{shard:05d}.tar", "wb") as file:
            tar = TarWriter(file)
            for row in range(options.samples):
                key = f"{shard * options.samples + row:09d}"
                tar.add(f"{key}.jpg", os.urandom(options.kilobytes * 1000))
                tar.add(f"{key}.json", json.dumps({"key": key, "caption": 40 * "word "}).encode())
                tar.add(f"{key}.txt", 40 * b"word ")
            tar.close()


def timed(command: list[str]) -> tuple[float, float]:
    """Seconds, and seconds of CPU of the command and all its processes."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if ended.returncode:
        sys.exit(f"{command[:3]} failed: {ended.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.monotonic() - started, cpu


if __name__ == "__main__":
    main()
