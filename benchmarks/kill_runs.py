"""Processing runs that are killed at random moments: do they end up with the bytes of an uninterrupted run?

    python benchmarks/kill_runs.py [--runs 50] [--seed 1]

Each run is started, killed once or twice with SIGKILL at a random row of its work (the whole program, or one of its
workers: local processes, Ray actors), and then left to come through. Printed for each: what was killed, how many rows
its stages were asked about once more, how many that may be (a batch for each worker that was killed), and whether all
sidecars have the bytes of a run that nobody disturbed, with no part and no temporary left. Exit code 1 if one has not.
"""

import argparse
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tarloom.format.storage import open_storage
from tests.process.killing import KillRun, Victim, allowed, outcome
from tests.process.shards import scene_shards
from tests.s3_server import running_s3_server

SHARDS, ROWS = 4, 60
MIXTURE = (
    ("hash", "local", "disk", 20),
    ("hash", "ray", "disk", 4),
    ("hash", "local", "S3", 8),
    ("hash", "ray", "S3", 2),
    ("embed and hash", "local", "disk", 7),
    ("embed and hash", "ray", "disk", 2),
    ("embed and hash", "local", "S3", 2),
    ("caption", "local", "disk", 3),
    ("caption", "ray", "disk", 1),
    ("caption, embed and hash", "local", "disk", 1),
)
"""Stages, engine, place, and how many of 50 runs: fewer of those that take long to start."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """Of one run."""

    kills: list[Victim]
    repeated: Mapping[str, int]
    allowed: int
    same: bool

    @property
    def sound(self) -> bool:
        return self.same and all(rows <= self.allowed for rows in self.repeated.values())


def kill_and_resume(run: KillRun, expected: Mapping[str, bytes], dice: random.Random) -> Result:
    """Kill it once or twice, and let it come through."""
    kills = [
        killed
        for victim in dice.choice((["driver"], ["worker"], ["driver", "driver"], ["driver", "worker"]))
        if (killed := run.killed(victim, dice)) is not None
    ]
    run.finish()
    same = dict(outcome(run.folder, run.kind)) == dict(expected)
    return Result(kills=kills, repeated=run.repeated(), allowed=allowed(run, kills), same=same)


def chosen(runs: int) -> Iterator[tuple[str, str, str]]:
    """The first of each kind first, so that few runs are a mixture too."""
    left = {case: count for *case_parts, count in MIXTURE for case in [tuple(case_parts)]}
    while left and runs:
        for case in list(left)[:runs]:
            yield case  # type: ignore[misc]
            runs -= 1
            left[case] -= 1
            if not left[case]:
                del left[case]


class Bench:
    """The dataset, and what uninterrupted runs over it leave."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._source = scene_shards(scratch / "source", shards=SHARDS, rows=ROWS)
        self._expected: dict[str, Mapping[str, bytes]] = {}

    def expected(self, kind: str) -> Mapping[str, bytes]:
        if kind not in self._expected:
            run = self._run(f"whole {kind}", kind=kind, engine="local", place="disk", workers=1)
            run.finish()
            self._expected[kind] = outcome(run.folder, kind)
        return self._expected[kind]

    def run(self, number: int, kind: str, engine: str, place: str, dice: random.Random) -> Result:
        workers = 1 if kind.startswith("caption") else dice.choice((1, 2, 2))
        run = self._run(f"run {number}", kind=kind, engine=engine, place=place, workers=workers)
        result = kill_and_resume(run, self.expected(kind), dice)
        shutil.rmtree(run.log)
        return result

    def _run(self, name: str, *, kind: str, engine: str, place: str, workers: int) -> KillRun:
        log = self._scratch / f"{name} log"
        log.mkdir()
        if place == "disk":
            folder = str(shutil.copytree(self._source, self._scratch / name))
        else:
            folder = f"s3://tarloom-tests/{name.replace(' ', '-')}"
            for tar in self._source.glob("*.tar"):
                open_storage(folder).write(tar.name, tar.read_bytes())
        return KillRun(folder=folder, kind=kind, engine=engine, workers=workers, rows=SHARDS * ROWS, log=log)


def main(runs: int, seed: int) -> int:
    unsound = 0
    with ExitStack() as stack:
        bench = Bench(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kill-runs-"))))
        stack.enter_context(running_s3_server())
        for number, (kind, engine, place) in enumerate(chosen(runs)):
            result = bench.run(number, kind, engine, place, random.Random(f"{seed} {number}"))
            unsound += not result.sound
            repeated = ", ".join(f"{stage} {rows}" for stage, rows in result.repeated.items())
            print(
                f"{number:2}  {kind:24} {engine:6} {place:5} killed: {' and '.join(result.kills) or 'too late':18} "
                f"asked again: {repeated} (of {result.allowed} allowed)  {'same bytes' if result.same else 'DIFFERENT'}"
                f"{'' if result.sound else '  NOT SOUND'}",
                flush=True,
            )
    print(f"{runs} runs, {unsound} not sound")
    return 1 if unsound else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    sys.exit(main(given.runs, given.seed))
