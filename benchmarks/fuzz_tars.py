"""Randomly damaged tars: none may crash, hang, use much memory, or give bytes under a wrong key.

    python -m benchmarks.fuzz_tars --cases 100000 --workers 2        as before a release
    python -m benchmarks.fuzz_tars --case 4711                       one case alone, with its traceback

Every case is a function of (seed, number). tests/format/fuzz says how tars are damaged and what must hold; one of
--whole-every cases is also read through tarloom.open, verified and repaired. A worker that hangs in one case for
--deadline seconds is ended with the tracebacks of all its threads. Exit code 1 where a rule is broken.
"""

import argparse
import faulthandler
import functools
import multiprocessing
import os
import resource
import sys
import tempfile
import time
import traceback
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.format.fuzz.cases import Case, make_case
from tests.format.fuzz.check import check
from tests.format.fuzz.check_whole import check_whole

CASES_A_PART = 250


@dataclass(kw_only=True)
class Tally:
    """What came of some cases."""

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By kind of damage and outcome."""
    samples: int = 0
    broken: list[str] = field(default_factory=list)
    slowest: tuple[float, int] = (0.0, 0)
    """Seconds of the processor, and the case's number."""
    grown: int = 0
    """KiB of memory: how much more than after its first case a worker ever had."""

    def add(self, other: "Tally") -> None:
        """Take in the tally of other cases."""
        self.outcomes += other.outcomes
        self.samples += other.samples
        self.broken += other.broken
        self.slowest = max(self.slowest, other.slowest)
        self.grown = max(self.grown, other.grown)


def run_cases(first: int, last: int, options: argparse.Namespace) -> Tally:
    """The cases from `first` to `last` (exclusive)."""
    tally, base = Tally(), _base()
    for number in range(first, last):
        faulthandler.dump_traceback_later(options.deadline, exit=True)
        started = time.process_time()
        run_case(number, options, tally)
        tally.slowest = max(tally.slowest, (time.process_time() - started, number))
    faulthandler.cancel_dump_traceback_later()
    tally.grown = _peak() - base
    return tally


@functools.cache
def _base() -> int:
    """KiB of memory of this process once all that is used is loaded."""
    run_case(0, argparse.Namespace(seed="loading", whole_every=1), Tally())
    return _peak()


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def run_case(number: int, options: argparse.Namespace, tally: Tally) -> None:
    case = make_case(f"{options.seed} {number}")
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        place = Path(folder, "data")
        place.mkdir()
        os.environ["TARLOOM_CACHE"] = f"{folder}/cache"
        try:
            tally.outcomes[case.kind, _check(case, place, tally, whole=number % options.whole_every == 0)] += 1
        except Exception:  # whatever it is, it is what we look for
            tally.outcomes[case.kind, "BROKEN"] += 1
            tally.broken.append(f"case {number} ({case.kind}): {traceback.format_exc(limit=-4)}")


def _check(case: Case, place: Path, tally: Tally, *, whole: bool) -> str:
    outcome = check(case, place)
    tally.samples += outcome.samples
    if whole:
        check_whole(case, place, outcome)
    return outcome.error or ("samples" if outcome.samples else "no samples")


def _part(job: tuple[int, int, argparse.Namespace]) -> Tally:
    return run_cases(*job)


def main() -> int:
    options = _options()
    alone = options.case
    tally = _run_all(options) if alone is None else run_cases(alone, alone + 1, options)
    _show(tally, options)
    return 1 if tally.broken else 0


def _run_all(options: argparse.Namespace) -> Tally:
    tally = Tally()
    starts = range(0, options.cases, CASES_A_PART)
    jobs = [(start, min(start + CASES_A_PART, options.cases), options) for start in starts]
    with ProcessPoolExecutor(options.workers, multiprocessing.get_context("spawn")) as pool:
        for number, part in enumerate(pool.map(_part, jobs)):  # raises where a worker was ended
            tally.add(part)
            print("".join(f"{text}\n" for text in part.broken), end="", file=sys.stderr, flush=True)
            if number % 20 == 19:
                print(f"{(number + 1) * CASES_A_PART:,} cases, {len(tally.broken)} broken", file=sys.stderr, flush=True)
    return tally


def _show(tally: Tally, options: argparse.Namespace) -> None:
    names = sorted({name for _, name in tally.outcomes})
    kinds = sorted({kind for kind, _ in tally.outcomes})
    width = max(map(len, kinds))
    print(f"{'':{width}}  " + "  ".join(f"{name:>15}" for name in names))
    for kind in kinds:
        print(f"{kind:{width}}  " + "  ".join(f"{tally.outcomes[kind, name]:15,}" for name in names))
    total, (seconds, slowest) = tally.outcomes.total(), tally.slowest
    print(f"{total:,} cases of seed {options.seed}, {tally.samples:,} samples read, {len(tally.broken)} broken")
    print(f"slowest: case {slowest}, {seconds:.2f} s of the processor; memory grew by {tally.grown / 1024:.0f} MiB")
    for text in tally.broken[:20]:
        print(text)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--case", type=int, help="this one alone")
    parser.add_argument("--seed", default="0")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--whole-every", type=int, default=20)
    parser.add_argument("--deadline", type=float, default=120.0)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
