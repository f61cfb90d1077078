"""Samples a second of every reader over the same shards, beside webdataset's own: python -m benchmarks.readers

Makes shards of random bytes in a temporary folder, then lets every reader read them all, in turn, several times. Each
runs as its program does; what is compared is the time from the first request to the last row, the start of Ray, Spark
or torch left out (the program's `seconds`). Medians; the ratio is to read_webdataset.py in the same run.
"""

import argparse
import io
import json
import os
import random
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BASE = "read_webdataset.py"
PROGRAMS = (
    BASE,
    "read_with_torch.py",
    "read_with_ray_actor.py",
    "read_with_ray_data.py",
    "read_with_ray_data_webdataset.py",
    "read_with_spark.py",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, default=12)
    parser.add_argument("--samples", type=int, default=1000, help="in each shard")
    parser.add_argument("--kilobytes", type=int, default=30, help="of each picture")
    parser.add_argument("--num-workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tarloom-benchmark-") as folder:
        for shard in range(options.shards):
            write_shard(Path(folder, f"{shard:05d}.tar"), options, seed=shard)
        speeds: dict[str, list[float]] = {program: [] for program in PROGRAMS}
        for number in range(options.rounds):
            for program, speed in each_speed(folder, options.num_workers):
                speeds[program].append(speed)
                print(f"round {number + 1}: {program:35} {speed:10,.0f} samples/s", file=sys.stderr)
    base = statistics.median(speeds[BASE])
    print(f"{options.shards * options.samples:,} samples of {options.kilobytes} KB, {options.num_workers} workers")
    for program, found in speeds.items():
        median = statistics.median(found)
        print(f"{program:35} {median:10,.0f} samples/s   {median / base:6.2f} x webdataset")


def write_shard(path: Path, options: argparse.Namespace, *, seed: int) -> None:
    """A tar as anybody would write it: a picture's worth of random bytes and a caption per sample."""
    dice = random.Random(seed)
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for row in range(options.samples):
            key = f"{seed * options.samples + row:09d}"
            for extension, data in (("jpg", dice.randbytes(options.kilobytes * 1000)), ("txt", key.encode())):
                info = tarfile.TarInfo(f"{key}.{extension}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))


def each_speed(folder: str, workers: int) -> Iterator[tuple[str, float]]:
    """Run every reader once."""
    for program in PROGRAMS:
        command = [sys.executable, str(ROOT / "read" / program), "--path", folder, "--num-workers", str(workers)]
        ended = subprocess.run([*command, "--json"], capture_output=True, text=True)
        if ended.returncode:
            sys.exit(f"{program} failed: {ended.stderr}")
        yield program, json.loads(ended.stdout.splitlines()[-1])["samples_per_second"]


if __name__ == "__main__":
    main()
