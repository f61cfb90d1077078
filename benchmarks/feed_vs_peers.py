"""tarloom's feed beside webdataset, MosaicML Streaming and LitData: python -m benchmarks.feed_vs_peers

All feed the same JPEGs (see reading/data.py) in an order by chance as uint8 batches of 256 x 224 x 224 x 3, cut out by
chance. tarloom and webdataset read plain tars; Streaming and LitData read their own formats, written here first, in
environments of their own (scripts/peer_venv.sh). "tarloom, loader" is the feed's DataLoader with 1 and 2 workers;
"mapped" decodes pictures where they lie in mapped tars. The fastest of tarloom's ways is compared. "decoding and
cutting alone" feeds nothing: a thread for each CPU decodes pictures that are in memory, whole, and cuts them.
Peers feed through their DataLoaders with 0, 1 and 2 workers, decoding as their users do, and once more with tarloom's
decoder ("same decoder"). Every run is a fresh process that is limited to --cpus CPUs; rounds go through all of them in
turn.

Prints of each the fastest worker count: images a second (the best round), CPU time of all its processes an image (the
least), time to the first batch, and the most memory that its processes held (each page counted once) while they fed a
quarter as many batches again: to look takes time, the more the more memory there is. Exits with 1 where tarloom is less
than 2.4 times as fast as webdataset, or slower than Streaming or LitData, in any way they decode but one: webdataset
with tarloom's decoder is printed for comparison.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.reading.data import make_dataset, tars

ROOT = Path(__file__).resolve().parents[1]
INTERVAL = 0.2


@dataclass(frozen=True, kw_only=True)
class Side:
    """A way to feed images."""

    name: str
    program: str
    """In benchmarks/feeding."""
    peer: str | None = None
    """Whose environment; None for this one."""
    converts: bool = False
    """Into a format of its own."""
    same: bool = False
    """With tarloom's decoder."""
    mapped: bool = False
    """From mapped tars."""
    workers: tuple[int, ...] = (0, 1, 2)
    wanted: float | None = None
    """How many times faster tarloom shall be."""


OURS = "with_tarloom"
STREAMING, LITDATA = "mosaicml-streaming-0.13.0", "litdata-0.2.76"
SIDES = (
    Side(name="tarloom", program=OURS, workers=(0,)),
    Side(name="tarloom, loader", program=OURS, workers=(1, 2)),
    Side(name="tarloom, mapped", program=OURS, mapped=True, workers=(0,)),
    Side(name="tarloom, loader, mapped", program=OURS, mapped=True, workers=(1, 2)),
    Side(name="decoding and cutting alone", program="decoding_alone", workers=(0,)),
    Side(name="webdataset", program="with_webdataset", wanted=2.4),
    Side(name="Streaming", program="with_streaming", peer=STREAMING, converts=True, wanted=1),
    Side(name="LitData", program="with_litdata", peer=LITDATA, converts=True, wanted=1),
    Side(name="webdataset, same decoder", program="with_webdataset", same=True),
    Side(name="Streaming, same decoder", program="with_streaming", peer=STREAMING, converts=True, same=True, wanted=1),
    Side(name="LitData, same decoder", program="with_litdata", peer=LITDATA, converts=True, same=True, wanted=1),
)
ALWAYS = (OURS, "decoding_alone")
"""Programs of the sides that run whatever is compared."""


@dataclass(frozen=True, kw_only=True)
class Fed:
    """One run."""

    speed: float
    """Images a second behind the first batch."""
    cpu: float
    """Seconds an image, meanwhile, of all processes."""
    first: float
    """Seconds to the first batch, imports not counted."""
    memory: int
    """The most bytes that all processes held."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="tarloom, what decodes alone, and the sides with this in their name")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batches", type=int, default=80, help="that are timed, behind the first one")
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--shards", type=int, default=30, help="of 1000 samples each")
    parser.add_argument("--data", type=Path, help="keep datasets here, for the next time; default: a temporary folder")
    options = parser.parse_args()
    sides = [side for side in SIDES if side.program in ALWAYS or options.only in side.name]
    with contextlib.ExitStack() as stack:
        folder = options.data or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tarloom-benchmark-")))
        make_dataset(folder, shards=options.shards, samples=1000)
        runs = [(side, workers, _command(side, folder, workers)) for side in sides for workers in side.workers]
        found: dict[tuple[Side, int], list[Fed]] = {}
        for _ in range(options.rounds):
            for side, workers, command in runs:
                fed = run([*command, "--batches", str(options.batches)], cpus=options.cpus)
                print(f"  {side.name}, {workers} workers: {_told(fed)}", file=sys.stderr, flush=True)
                found.setdefault((side, workers), []).append(fed)
    sys.exit(not report({key: _best(rounds) for key, rounds in found.items()}))


def report(found: dict[tuple[Side, int], Fed]) -> bool:
    """Print the fastest worker count of each side; whether all that is wanted is met."""
    fastest: dict[Side, tuple[int, Fed]] = {}
    for (side, workers), fed in found.items():
        if side not in fastest or fed.speed > fastest[side][1].speed:
            fastest[side] = workers, fed
    ours = max((fed for side, (_, fed) in fastest.items() if side.program == OURS), key=lambda fed: fed.speed)
    met = True
    for side, (workers, fed) in fastest.items():
        ratio = ours.speed / fed.speed
        met &= side.wanted is None or ratio >= side.wanted
        wanted = "" if side.wanted is None else f" (wanted {side.wanted:g})"
        print(f"{side.name:26} {workers} workers  {_told(fed)}   tarloom is {ratio:.2f} x as fast{wanted}")
    return met


def run(command: Sequence[str], *, cpus: int) -> Fed:
    """Run a side, measure it and what it starts. Exits where it fails."""
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cpus]),
    )
    with _errors_of(process) as errors:
        (first, before), (fed, after) = _heard(process), _heard(process)
        with _memory_of(process.pid) as most:
            _heard(process)
        process.wait()
    if not fed:
        sys.exit(f"{' '.join(command)} failed:\n{''.join(errors)[-4000:]}")
    return Fed(
        speed=fed["images"] / fed["seconds"],
        cpu=(after - before) / fed["images"],
        first=first["first"],
        memory=max(most, default=0),
    )


def _command(side: Side, folder: Path, workers: int) -> list[str]:
    python = sys.executable if side.peer is None else _python_of(side.peer)
    program, data = [python, "-m", f"benchmarks.feeding.{side.program}"], folder
    if side.converts:
        data = folder / side.program
        if not data.exists():
            subprocess.run([*program, str(data), "--make-of", *tars(str(folder))], cwd=ROOT, check=True, stdout=2)
    ways = [f"--{way}" for way, wanted in (("same", side.same), ("mapped", side.mapped)) if wanted]
    return [*program, str(data), "--workers", str(workers), *ways]


def _python_of(peer: str) -> str:
    environment = {**os.environ, "PYTHON": sys.executable}
    made = subprocess.run([ROOT / "scripts/peer_venv.sh", peer], stdout=subprocess.PIPE, text=True, env=environment)
    if made.returncode:
        sys.exit(f"{peer}: cannot be installed here")
    return made.stdout.split()[-1]


def _heard(process: "subprocess.Popen[str]") -> tuple[dict[str, float], float]:
    """What the side says next, nothing where it ended; and the CPU time used by then. It waits meanwhile."""
    assert process.stdout is not None
    assert process.stdin is not None
    for line in process.stdout:
        if line.startswith("{"):
            cpu = _cpu_of(process.pid)
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write("\n")
                process.stdin.flush()
            facts: dict[str, float] = json.loads(line)
            return facts, cpu
    return {}, 0


def _processes(number: int) -> Iterator[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        root = psutil.Process(number)
        yield from (root, *root.children(recursive=True))


def _cpu_of(number: int) -> float:
    total = 0.0
    for process in _processes(number):
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system
    return total


@contextlib.contextmanager
def _memory_of(number: int) -> Iterator[list[int]]:
    """What its processes hold, again and again."""
    held: list[int] = []
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(INTERVAL):
            total = 0
            for process in _processes(number):
                with contextlib.suppress(psutil.Error):
                    total += process.memory_full_info().pss
            held.append(total)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield held
    finally:
        ended.set()
        watcher.join()


@contextlib.contextmanager
def _errors_of(process: "subprocess.Popen[str]") -> Iterator[list[str]]:
    """What it writes to stderr."""
    assert process.stderr is not None
    lines: list[str] = []
    reader = threading.Thread(target=lines.extend, args=(process.stderr,))
    reader.start()
    yield lines
    process.wait()
    reader.join()


def _best(rounds: Sequence[Fed]) -> Fed:
    """Of each number the best; memory is what it took at least."""
    return Fed(
        speed=max(fed.speed for fed in rounds),
        cpu=min(fed.cpu for fed in rounds),
        first=min(fed.first for fed in rounds),
        memory=min(fed.memory for fed in rounds),
    )


def _told(fed: Fed) -> str:
    return (
        f"{fed.speed:7,.0f} images/s   CPU {fed.cpu * 1e6:5.0f} us/image"
        f"   first batch {fed.first:5.2f} s   memory {fed.memory / (1 << 20):6,.0f} MiB"
    )


if __name__ == "__main__":
    main()
