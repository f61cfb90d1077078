"""What travels to where shards are made: a description of the worker, then tasks. Light: the worker's own libraries
are loaded where it is opened, not where runs are planned."""

from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import parent_process
from typing import ClassVar, Literal

import pyarrow as pa

from tarloom.create.config import CreateConfig
from tarloom.create.lean import become_lean
from tarloom.engines.base import Report
from tarloom.format.cpus import cpu_share
from tarloom.format.storage import Storage

MOST_CODEC_THREADS = 4
"""More only wait for one another: the libraries let other threads run while they compute, and only then."""

Earlier = Literal["samples", "transient", "all"]
"""What an earlier run, or another try, may have left of a shard, and so what to fetch. samples: an unfinished shard;
keep the samples that are there, fetch the rest. transient, all: a finished shard; fetch its rows that failed for a
passing reason, or all failed rows."""


@dataclass(frozen=True, kw_only=True)
class PackTask:
    """A shard to make: its rows travel with it."""

    shard: str
    first_row: int
    """The number of its first row, for keys made from that."""
    rows: pa.Table
    earlier: Earlier = "samples"
    """What is taken over of it."""


@dataclass(frozen=True, kw_only=True)
class PackerDescription:
    """What a worker needs to make shards. Travels to where the work runs; calling it opens the worker there."""

    config: CreateConfig
    schema: pa.Schema
    """Of the metadata."""
    folder: Storage | None
    """Where the pictures lie; None for URLs."""
    absent: tuple[str, ...] = ()
    """Places of allow_storage whose files are unreadable, since they were never there."""
    modules: ClassVar = ("tarloom.create.shards.pack", "tarloom.create.pictures.images")
    """What the worker is made of: engines may load it once for all their workers."""

    def __call__(self) -> Callable[[PackTask], Report]:
        if self.config.downloader == "img2dataset":
            from tarloom.create.img2dataset.downloader import Img2datasetPacker

            return Img2datasetPacker(self)
        from tarloom.create.shards.pack import ShardPacker

        if parent_process() is not None:
            become_lean()
        return ShardPacker(self)


def codec_threads() -> int:
    """Threads of this worker that decode, resize and encode: no more than its share of the CPUs."""
    return min(MOST_CODEC_THREADS, cpu_share())
