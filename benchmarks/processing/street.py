"""A stage, or several, over shards: the loop that every engine runs, timed when models are loaded and warm."""

import os
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import tarloom
from tarloom.engines.base import Engine
from tarloom.process.config import ProcessConfig
from tarloom.process.plan import Planner
from tarloom.process.shard import ShardProcessor
from tarloom.process.stage import Stage
from tarloom.process.task import ShardTask


@contextmanager
def fresh_copy(folder: str) -> Iterator[str]:
    """The tars of a dataset in a folder of their own, without sidecars. Nothing is copied."""
    with tempfile.TemporaryDirectory(prefix="tarloom-benchmark-", dir=Path(folder).parent) as place:
        for tar in Path(folder).glob("*.tar"):
            os.link(tar, Path(place, tar.name))
        yield place


def tasks(folder: str, stages: Mapping[str, Stage]) -> list[ShardTask]:
    """One a shard."""
    dataset = tarloom.open(folder)
    return [task for task, _ in Planner(dataset, stages, ProcessConfig(path=folder)).found() if task is not None]


def in_this_process(folder: str, stages: Mapping[str, Stage]) -> Iterator[int]:
    """Open the stages and do the first shard; then all others are timed."""
    with fresh_copy(folder) as place:
        processor = ShardProcessor(stages=stages)()
        first, *others = tasks(place, stages)
        processor(first)
        yield 0
        yield sum(processor(task).rows for task in others) // len(stages)
        processor.close()


def on(engine: Engine, folder: str, stages: Mapping[str, Stage]) -> Iterator[int]:
    """The same with one worker of an engine."""
    with fresh_copy(folder) as place:
        outcomes = engine.map(ShardProcessor(stages=stages), tasks(place, stages))
        next(outcomes)
        yield 0
        rows = 0
        for outcome in outcomes:
            if outcome.result is None:
                raise RuntimeError(f"{outcome.item.piece.shard}: {outcome.error}")
            rows += outcome.result.rows
        yield rows // len(stages)
        engine.close()


def pictures_of(folder: str) -> list[list[bytes]]:
    """Of each shard, its JPEGs as stored."""
    found = []
    for path in sorted(Path(folder).glob("*.tar")):
        with tarfile.open(path) as tar:
            members = [member for member in tar if member.name.endswith(".jpg")]
            found.append([_bytes(tar, member) for member in members])
    return found


def _bytes(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    assert file is not None
    return file.read()
