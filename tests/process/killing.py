"""Processing runs that are killed at random moments, and what must be true of them when they are through."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tarloom.format.storage import open_storage
from tests.process.shards import ROOT
from tests.process.written_down import BATCH, KINDS, living_workers, written

Victim = Literal["driver", "worker"]
SECONDS = 600
"""For one start to come through."""


@dataclass(frozen=True, kw_only=True)
class KillRun:
    """A run over a dataset that is killed so many times."""

    folder: str
    kind: str
    engine: str
    workers: int
    rows: int
    """Of the dataset."""
    log: Path

    @contextmanager
    def started(self) -> "Iterator[subprocess.Popen[bytes]]":
        """The program; what is left of it is killed in the end."""
        command = [sys.executable, "-m", "tests.process.written_down", self.folder, self.kind, self.engine]
        with (self.log / "said").open("ab") as said:
            process = subprocess.Popen(
                [*command, str(self.workers), str(self.log)],
                stdout=said,
                stderr=said,
                cwd=ROOT,
                start_new_session=True,
                env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "RAY_DEDUP_LOGS": "0"},
            )
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def killed(self, victim: Victim, dice: random.Random) -> Victim | None:
        """Start it, and kill a worker or all of it at a random moment of its work; which it was, None if it was over.

        Where it is a worker, the run goes on and must come through.
        """
        before = written(self.log).total()
        target = before + dice.randrange(1, max(2, self._rows_left()))
        with self.started() as process:
            while written(self.log).total() < target and process.poll() is None:
                time.sleep(0.002)
            time.sleep(dice.uniform(0, 0.1))
            if process.poll() is not None:
                assert process.returncode == 0, self.said()
                return None
            alive = living_workers(self.log)
            if victim == "driver" or process.pid in alive:  # where there is one worker, it may be the driver
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
                self._wait_for_workers()
                return "driver"
            with contextlib.suppress(ProcessLookupError, IndexError):
                os.kill(dice.choice(alive), signal.SIGKILL)
            assert process.wait(SECONDS) == 0, self.said()
            return "worker" if alive else None

    def finish(self) -> None:
        with self.started() as process:
            assert process.wait(SECONDS) == 0, self.said()

    def repeated(self) -> dict[str, int]:
        """Rows that a stage was asked about once more, by stage."""
        counts = written(self.log)
        return {
            stage: sum(times - 1 for line, times in counts.items() if line.split()[0] == stage)
            for stage in KINDS[self.kind]
        }

    def said(self) -> str:
        return (self.log / "said").read_text(errors="replace")[-4000:]

    def _rows_left(self) -> int:
        return self.rows * len(KINDS[self.kind]) - len(written(self.log))

    def _wait_for_workers(self) -> None:
        """They end with the driver, by themselves."""
        deadline = time.monotonic() + 60
        while living_workers(self.log):
            assert time.monotonic() < deadline, "workers outlive their driver"
            time.sleep(0.01)


def outcome(folder: str, kind: str) -> Mapping[str, bytes]:
    """All that a run leaves: sidecars, and whatever it should have removed."""
    storage = open_storage(folder)
    ours = tuple(f".{stage}.parquet" for stage in KINDS[kind])
    names = [entry.name for entry in storage.list()]
    kept = [name for name in names if name.endswith(ours) or ".tmp-" in name or "/parts/" in name]
    return {name: storage.read(name) for name in sorted(kept)}


def allowed(run: KillRun, kills: list[Victim]) -> int:
    """Rows of each stage that these kills may have cost: a batch a worker."""
    return sum(BATCH * (run.workers if victim == "driver" else 1) for victim in kills)
