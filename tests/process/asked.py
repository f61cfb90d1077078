"""A stage that writes down which rows it was asked about, for the tests of several stages, of resuming and retrying."""

import os
import signal
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import pyarrow as pa

from tarloom.engines.local import LocalEngine
from tarloom.format.sidecar import FAILED, SKIPPED, SUCCESS
from tarloom.process.batch import Batch
from tarloom.process.config import ProcessConfig
from tarloom.process.job import ProcessJob
from tarloom.process.stage import Stage, result_table


@dataclass(frozen=True, kw_only=True)
class AskedStage(Stage):
    """What a row's text, or what another stage said of it, is behind a word; a bad text and one that waits fail."""

    log: str
    """A folder with a file of rows for each process, one line a row, written before they are answered."""
    word: str = "said"
    wants: tuple[str, ...] = ()
    """Columns; with none it takes the text itself. The first of them is what it repeats."""
    batch_size: int = 4
    calls: int = 1
    ends_at: str | None = None
    """The key at which it ends, once."""
    how: Literal["kill", "interrupt", "raise"] = "kill"
    """Its process, the run as Ctrl-C would, or only the try."""
    until: str | None = None
    """The file in its folder that it waits for, with every batch."""

    name: ClassVar[str] = "asked"
    members = ("txt",)
    transient = frozenset({"not_now"})
    counted = ("length",)
    at_least = None

    @property
    def inputs(self) -> tuple[str, ...]:
        return self.wants

    def fingerprint(self):
        return {"stage": "asked", "word": self.word}

    def open(self):
        return AskedWorker(self)


class AskedWorker:
    columns = pa.schema([("text", pa.string()), ("length", pa.int64()), ("beside", pa.int32())])
    """beside: how many rows there were in its batch."""

    def __init__(self, stage: AskedStage) -> None:
        self._stage = stage
        self._texts = stage.wants[0] if stage.wants else "txt"

    def __call__(self, batch: Batch) -> pa.Table:
        keys = batch.keys.to_pylist()
        self._write_down(keys)
        self._misfortune(keys)
        while self._stage.until and not Path(self._stage.log, self._stage.until).exists():
            time.sleep(0.01)
        texts = [text.decode() if isinstance(text, bytes) else text for text in batch.column(self._texts).to_pylist()]
        endings = [self._ending(text) for text in texts]
        said = [
            f"{self._stage.word} {text}" if end == (SUCCESS, None) else None
            for text, end in zip(texts, endings, strict=True)
        ]
        values = {
            "text": pa.array(said, pa.string()),
            "length": pa.array([None if text is None else len(text) for text in said], pa.int64()),
            "beside": pa.array([len(keys)] * len(keys), pa.int32()),
        }
        return result_table(self.columns, keys=batch.keys, values=values, endings=endings)

    def close(self) -> None:
        pass

    def _ending(self, text: str | None) -> tuple[str, str | None]:
        if text is None:
            return SKIPPED, "no_text"
        if text.startswith("bad"):
            return FAILED, "bad_text"
        if text.startswith("later") and not Path(self._stage.log, "now").exists():
            return FAILED, "not_now"
        return SUCCESS, None

    def _write_down(self, keys: Sequence[str]) -> None:
        path = Path(self._stage.log, f"{self._stage.word}-{os.getpid()}.rows")
        with path.open("a") as file:
            file.writelines(f"{key}\n" for key in keys)

    def _misfortune(self, keys: Sequence[str]) -> None:
        mark = Path(self._stage.log, "ended")
        if self._stage.ends_at in keys and not mark.exists():
            mark.touch()
            if self._stage.how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise KeyboardInterrupt if self._stage.how == "interrupt" else ValueError("ended")


def asked(log: Path, word: str = "said") -> Counter[str]:
    """How often the stage of this word was asked about each key."""
    return Counter(line for path in log.glob(f"{word}-*.rows") for line in path.read_text().split())


def forget(log: Path) -> None:
    for path in log.glob("*.rows"):
        path.unlink()


def run(path, *stages: Stage, workers: int = 1, named=None, **options) -> ProcessJob:
    """Run the stages and have all shards done."""
    job = ProcessJob(named or list(stages), ProcessConfig(path=str(path), **options), LocalEngine(workers))
    job.prepare()
    for _ in job:
        pass
    assert job.summary().failed_shards == {}
    return job
