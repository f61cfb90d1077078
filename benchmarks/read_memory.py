"""The memory of workers that read one tar in pieces, side by side: python -m benchmarks.read_memory

Writes two tars of pictures of 30 KB, one of a tenth of --gigabytes and one of all of them, and lets several processes
read each (tarloom read --num-workers). What a worker holds must depend on its piece of 64 MiB, not on the tar. Prints
the most that each worker held beside what one holds that reads a tar of one sample. Exits with 1 where a worker held
more than four pieces more, or more of the large tar than of the small one by over one piece.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

from benchmarks.memory import watch
from tarloom.format.tar.writer import TarWriter
from tarloom.read.dataset import PIECE_BYTES, open_dataset

ROOT = Path(__file__).resolve().parents[1]
PICTURE_BYTES = 30_000
MIB = 1 << 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=3)
    parser.add_argument("--num-workers", type=int, default=4)
    parser.add_argument(
        "--data", type=Path, help="where the tars lie meanwhile; default: the system's temporary folder"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tarloom-benchmark-", dir=options.data) as folder:
        idle = max(held_by_workers(folder, 1, options.num_workers))
        samples = int(options.gigabytes * 1e9 / PICTURE_BYTES)
        small, large = (held_by_workers(folder, count, options.num_workers) for count in (samples // 10, samples))
    print(f"a worker with nothing to read: {idle / MIB:.0f} MiB")
    for count, held in ((samples // 10, small), (samples, large)):
        more = ", ".join(f"{(size - idle) / MIB:.0f}" for size in held)
        print(f"{count * PICTURE_BYTES / 1e9:.1f} GB in one tar, {len(held)} workers: MiB more, each: {more}")
    sys.exit(max(large) - idle > 4 * PIECE_BYTES or max(large) - max(small) > PIECE_BYTES)


def held_by_workers(folder: str, samples: int, workers: int) -> list[int]:
    """The most bytes that each worker held at a time (RSS: nothing is mapped), the largest first."""
    tar = Path(folder, f"{samples}.tar")
    write(tar, samples)
    open_dataset(tar).pieces()  # makes its index
    command = [
        str(Path(sys.executable).with_name("tarloom")),
        "read",
        "--path",
        str(tar),
        "--num-workers",
        str(workers),
        "--json",
    ]
    watched = watch(command, folder=ROOT)
    tar.unlink()
    if watched.exit_code or watched.summary["rows"] != samples:
        sys.exit(f"{' '.join(command)} failed: {watched.errors}")
    main_process = min(watched.peaks)
    return sorted((size for number, size in watched.peaks.items() if number != main_process), reverse=True)[:workers]


def write(path: Path, samples: int) -> None:
    picture = os.urandom(PICTURE_BYTES)
    with open(path, "wb") as file:
        tar = TarWriter(file)
        for row in range(samples):
            tar.add(f"{row:09d}.jpg", picture)
            tar.add(f"{row:09d}.txt", b"a caption")
        tar.close()


if __name__ == "__main__":
    main()
