"""A stage, or several, over shards: the loop that every engine runs, timed when models are loaded and warm."""

import os
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from threading import Event

import tarloom
from tarloom.engines.base import NOT_YET, Engine, NotYet, Outcome
from tarloom.engines.local import LocalEngine
from tarloom.process.config import ProcessConfig
from tarloom.process.loop.shard import ShardProcessor
from tarloom.process.plan import Planner
from tarloom.process.stage import Stage
from tarloom.process.task import ShardReport, ShardTask


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
    yield from on(LocalEngine(), folder, stages)


def on(engine: Engine, folder: str, stages: Mapping[str, Stage]) -> Iterator[int]:
    """The same with one worker of an engine, which is told of each next shard, as in every run."""
    with fresh_copy(folder) as place, closing(engine):
        first, *others = tasks(place, stages)
        warm = Event()

        def given() -> Iterator[ShardTask | NotYet]:
            yield first
            while not warm.is_set():  # nothing of the others is begun before the clock starts
                yield NOT_YET
            yield from others

        outcomes = iter(engine.map(ShardProcessor(stages=stages), given()))
        _rows(islice(outcomes, 1))
        warm.set()
        yield 0
        yield _rows(islice(outcomes, len(others))) // len(stages)
        _rows(outcomes)  # there are none: the worker ends


def _rows(outcomes: Iterable[Outcome[ShardTask, ShardReport]]) -> int:
    rows = 0
    for outcome in outcomes:
        if outcome.result is None:
            raise RuntimeError(f"{outcome.item.piece.shard}: {outcome.error}")
        rows += outcome.result.rows
    return rows


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
