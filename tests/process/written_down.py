"""A run to be killed: FOLDER KIND ENGINE WORKERS LOG. Its stages write down which rows they are asked about."""

import os
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from tarloom.engines.choose import EngineConfig, open_engine
from tarloom.process.caption.stage import CaptionStage
from tarloom.process.config import ProcessConfig
from tarloom.process.embed.stage import EmbedStage
from tarloom.process.job import ProcessJob
from tarloom.process.stage import Stage
from tarloom.process.stages.hash import HashStage
from tests.process.shards import CAPTIONER, CLIP

BATCH = 16
KINDS = {
    "hash": ("hash",),
    "embed": ("clip",),
    "embed and hash": ("clip", "hash"),
    "caption": ("caption",),
    "caption, embed and hash": ("caption", "clip", "hash"),
}


def stages(kind: str) -> dict[str, Stage]:
    """Real stages with small batches."""
    known: dict[str, Callable[[], Stage]] = {
        "hash": lambda: HashStage(batch_size=BATCH),
        "clip": lambda: EmbedStage(model=str(CLIP), batch_size=BATCH),
        "caption": lambda: CaptionStage(model=str(CAPTIONER), batch_size=BATCH),
    }
    return {name: known[name]() for name in KINDS[kind]}


@dataclass(frozen=True, kw_only=True)
class WrittenDown(Stage):
    """Another stage, and a file of the rows that each process was asked about: NAME KEY, before they are answered."""

    stage: Stage
    log: str

    def __post_init__(self) -> None:
        for name in ("name", "members", "calls", "batch_size", "transient", "counted"):
            object.__setattr__(self, name, getattr(self.stage, name))

    batch_size: int = 0

    @property
    def at_least(self):
        return self.stage.at_least

    @property
    def inputs(self):
        return self.stage.inputs

    def check(self):
        self.stage.check()

    def fingerprint(self):
        return self.stage.fingerprint()

    def open(self):
        return WrittenWorker(self)


class WrittenWorker:
    def __init__(self, stage: WrittenDown) -> None:
        self._name, self._file = stage.stage.name, Path(stage.log, f"{os.getpid()}-{started_at(os.getpid())}.rows")
        self._file.touch()  # who is to kill it, or to see it end, knows of it before it is asked
        self._worker = stage.stage.open()
        self.columns = self._worker.columns
        self.close = self._worker.close

    def __call__(self, batch):
        with self._file.open("a") as file:
            file.write("".join(f"{self._name} {key}\n" for key in batch.keys.to_pylist()))
        return self._worker(batch)


def written(log: Path) -> Counter[str]:
    """How often which stage was asked about which row; a line that a kill cut short is left out."""
    lines = [path.read_text() for path in log.glob("*.rows")]
    return Counter(line for text in lines for line in text[: text.rfind("\n") + 1].splitlines())


def living_workers(log: Path) -> list[int]:
    """The processes that hold a stage. A number that meanwhile is another process's, or a thread's, is none."""
    known = (path.stem.partition("-") for path in log.glob("*.rows"))
    return sorted(int(pid) for pid, _, start in known if started_at(int(pid)) == start)


def started_at(pid: int) -> str | None:
    """When a process began, in ticks since the machine did; None for one that is gone."""
    try:
        state, *facts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if state == "Z" else facts[18]


def main(folder: str, kind: str, engine: str, workers: str, log: str) -> int:
    wrapped = {name: WrittenDown(stage=stage, log=log) for name, stage in stages(kind).items()}
    with closing(open_engine(EngineConfig(engine=engine, num_workers=int(workers)))) as opened:  # type: ignore[arg-type]
        job = ProcessJob(wrapped, ProcessConfig(path=folder), opened)
        job.prepare()
        for _ in job:
            pass
    return len(job.summary().failed_shards)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
