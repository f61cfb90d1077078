"""The memory of a process that feeds a training loop, epoch after epoch: python -m benchmarks.feed_memory

Reads shards of pictures of 30 KB (made once, below --data), cut to 224 x 224 by chance, in batches of 256. Prints what
the process holds at the end of each epoch and the most it held in it, and the time to its first batch. Exits with 1
where any epoch but the first held over a tenth more at the most than the second did.
"""

import argparse
import gc
import sys
import threading
import time
from pathlib import Path

import psutil

import tarloom
from benchmarks.reading.data import make_dataset
from tarloom.read.feed.batches.pictures import RandomCrop
from tarloom.read.feed.feed import Feed

MIB = 1 << 20
INTERVAL = 0.02
GROWTH = 1.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("/tmp/tarloom-benchmark-data"))
    parser.add_argument("--shards", type=int, default=30, help="of 1000 samples")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--memory-mib", type=int, default=1024, help="that the feed may use to read ahead")
    options = parser.parse_args()
    make_dataset(options.data, shards=options.shards, samples=1000)
    dataset = tarloom.open(options.data).select("jpg", "caption")
    feed = dataset.to_numpy(256, seed=1, decode=RandomCrop(224), memory_bytes=options.memory_mib * MIB)
    peaks = [_epoch(feed, number) for number in range(options.epochs)]
    sys.exit(max(peaks[2:], default=0) > GROWTH * peaks[min(1, len(peaks) - 1)])


def _epoch(feed: Feed, number: int) -> int:
    """The most bytes that the process held meanwhile."""
    process, begun = psutil.Process(), time.perf_counter()
    cpu, peak, samples, first = time.process_time(), _Peak(), 0, 0.0
    with peak:
        for batch in feed:
            first = first or time.perf_counter() - begun
            samples += len(batch["__key__"])
    del batch
    gc.collect()
    seconds = time.perf_counter() - begun
    print(
        f"epoch {number}: {process.memory_info().rss / MIB:.0f} MiB at its end, {peak.bytes / MIB:.0f} at the most; "
        f"first batch after {first * 1000:.0f} ms, {samples / seconds:.0f} samples/s, "
        f"{(time.process_time() - cpu) / samples * 1e6:.0f} us of CPU a sample",
        flush=True,
    )
    return peak.bytes


class _Peak:
    """The most that this process holds while the block runs: asked for again and again."""

    def __init__(self) -> None:
        self.bytes = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        process = psutil.Process()
        while not self._ended.wait(INTERVAL):
            self.bytes = max(self.bytes, process.memory_info().rss)


if __name__ == "__main__":
    main()
