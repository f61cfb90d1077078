"""How well batches are mixed, and what it takes: python -m benchmarks.shuffle_quality

Writes shards of 1,000 tiny samples that are numbered, and Streaming's format of the same (in its own environment, see
scripts/peer_venv.sh), reads the first samples of an epoch through tarloom's feed, webdataset's buffer and Streaming's
shuffle, and prints the quality of batches of several sizes (tarloom/read/feed/order/quality.py): how much they tell
beside batches by chance, if all samples of a shard are alike. 1.00 is as good as chance.

Beside it, what is held to shuffle from: samples in memory, or on the local disk for Streaming, which fetches whole
shards of its own there. tarloom's window and block are those it chooses for samples of --sample-bytes. Exits with 1
where tarloom's default is worse than webdataset's buffer of as many samples.
"""

import argparse
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import webdataset as wds

import tarloom
from tarloom.format.tar.writer import TarWriter
from tarloom.read.feed.order.places import Shuffle
from tarloom.read.feed.order.quality import NEIGHBOURS, default_shuffle, neighbour_share, told

ROOT = Path(__file__).resolve().parents[1]
PEER = "mosaicml-streaming-0.13.0"
READ = 1 << 16
BATCHES = (256, 1024, 4096)
STREAMING_BLOCK = 1 << 18
"""Samples of its shuffle block at least, by its documentation of py1e."""


def main() -> int:
    """Write, read, print, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, default=300)
    parser.add_argument("--sample-bytes", type=int, default=30_000)
    options = parser.parse_args()
    chosen = default_shuffle(1, options.sample_bytes)
    with tempfile.TemporaryDirectory(prefix="tarloom-benchmark-") as folder:
        tars = Path(folder, "tars")
        write(tars, options.shards)
        print(f"{'':42}{'held':>10}   quality of batches of {', '.join(map(str, BATCHES))}")
        report("by chance", 0, np.random.default_rng(1).permutation(options.shards * NEIGHBOURS), options.shards)
        report("as they lie", 0, np.arange(READ), options.shards)
        default = report(
            f"tarloom, {chosen.window // chosen.block} blocks of {chosen.block}: the default",
            chosen.window,
            by_tarloom(tars, chosen),
            options.shards,
        )
        for block in (4 * chosen.block, 1):
            shuffle = Shuffle(seed=1, window=chosen.window, block=block)
            name = f"tarloom, {chosen.window // block} blocks of {block}"
            report(name, chosen.window, by_tarloom(tars, shuffle), options.shards)
        buffers = [
            report(f"webdataset, shuffle({buffer})", buffer, by_webdataset(tars, buffer), options.shards)
            for buffer in (1000, 5000, chosen.window)
        ]
        report("Streaming, py1e: its default", STREAMING_BLOCK, by_streaming(folder, options.shards), options.shards)
    return int(any(worse < better for worse, better in zip(default, buffers[-1], strict=True)))


def report(name: str, held: int, rows: np.ndarray, shards: int) -> list[float]:
    """Print and return the quality of batches of each size."""
    by_chance = (NEIGHBOURS - 1) / (shards * NEIGHBOURS - 1)
    shards_of = rows[:READ] // NEIGHBOURS
    found = [told(neighbour_share(shards_of, batch), batch) / told(by_chance, batch) for batch in BATCHES]
    print(f"{name:42}{held:10,}   {'  '.join(f'{quality:.3f}' for quality in found)}", flush=True)
    return found


def write(folder: Path, shards: int) -> None:
    folder.mkdir()
    for shard in range(shards):
        with open(folder / f"{shard:05d}.tar", "wb") as file:
            tar = TarWriter(file)
            for row in range(shard * NEIGHBOURS, (shard + 1) * NEIGHBOURS):
                tar.add(f"{row:09d}.txt", b"")
            tar.close()


def by_tarloom(folder: Path, shuffle: Shuffle) -> np.ndarray:
    feed = tarloom.open(folder).to_numpy(256, seed=shuffle.seed, window=shuffle.window, block=shuffle.block)
    return first(key for batch in feed for key in batch["__key__"])


def by_webdataset(folder: Path, buffer: int) -> np.ndarray:
    tars = sorted(map(str, folder.glob("*.tar")))
    random.seed(1)
    samples = wds.WebDataset(tars, shardshuffle=len(tars), seed=1).shuffle(buffer, initial=buffer)
    return first(sample["__key__"] for sample in samples)


def by_streaming(folder: str, shards: int) -> np.ndarray:
    made = subprocess.run(["scripts/peer_venv.sh", PEER], cwd=ROOT, capture_output=True, text=True)
    if made.returncode:
        sys.exit(made.stderr)
    command = [made.stdout.strip(), "-m", "benchmarks.feeding.rows_of_streaming", folder, str(shards * NEIGHBOURS)]
    done = subprocess.run([*command, str(READ)], cwd=ROOT, stdout=subprocess.PIPE, check=True)
    return np.frombuffer(done.stdout, np.int64)


def first(keys: Iterator[str]) -> np.ndarray:
    return np.fromiter(map(int, keys), np.int64, count=READ)


if __name__ == "__main__":
    sys.exit(main())
