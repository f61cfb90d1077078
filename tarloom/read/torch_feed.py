"""Batches for a torch training loop: the simplest correct feed.

Pieces are divided among ranks and DataLoader workers: disjoint, and together complete. A batch is a dict of lists:
`__key__`, members as bytes or as they are decoded (of arrays a DataLoader makes tensors), columns as Python values;
`transform` makes tensors of it in the worker that read it.

    loader = DataLoader(ds.to_torch(batch_size=256, transform=collate), batch_size=None, num_workers=4)
"""

import os
import random
from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from tarloom.engines.local import interrupts_end_here
from tarloom.errors import UsageError, missing_extra
from tarloom.format.cpus import cpu_share
from tarloom.read.dataset import Dataset
from tarloom.read.plan.pieces import MIB, Piece, share
from tarloom.read.samples.batches import read_samples
from tarloom.read.scan import ScanConfig, Tallier, Tally

try:
    import torch.distributed
    from torch.utils.data import DataLoader, IterableDataset, get_worker_info
except ImportError as error:
    raise missing_extra("torch", error) from error

FEED_PIECE_BYTES = 16 * MIB
"""Small, so that shares are even; with a seed, samples are shuffled within a piece and pieces among each other."""

Batch = dict[str, list[Any]]


class TorchFeed(IterableDataset[Any]):  # type: ignore[misc]
    """An iterable of batches; each sample once an epoch over all ranks and workers.

    seed: order of pieces and of the samples in them, a function of (seed, epoch); None for the dataset's order.
    transform: from a batch to what is yielded. rank, world_size: from torch.distributed where it is initialised, else
    one rank. The last batch of each worker may be smaller. Raises UsageError for values that cannot be.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        *,
        seed: int | None = None,
        transform: Callable[[Batch], Any] | None = None,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise UsageError(f"batch_size must be at least 1, not {batch_size}")
        self.rank, self.world_size = _place(rank, world_size)
        self.epoch = 0
        self._plan = dataset.plan(FEED_PIECE_BYTES)
        self._names = dataset.schema.names
        self._batch_size = batch_size
        self._seed = seed
        self._transform = transform

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next pass. DataLoaders with persistent workers do not see it."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        workers, number = (1, 0) if worker is None else (worker.num_workers, worker.id)
        if worker is not None:  # this process is one of several: so many threads for it to decode in
            os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cpu_share() // workers)))
        order = random.Random(f"{self._seed} {self.epoch}")
        numbers = array("q", range(len(self._plan)))  # of pieces: there may be millions
        if self._seed is not None:
            order.shuffle(numbers)
        mine = share(numbers, part=self.rank * workers + number, parts=self.world_size * workers)
        for batch in _batches(self._samples(map(self._plan.__getitem__, mine)), self._names, self._batch_size):
            yield batch if self._transform is None else self._transform(batch)

    def _samples(self, pieces: Iterable[Piece]) -> Iterator[dict[str, Any]]:
        for piece in pieces:
            if self._seed is None:
                yield from read_samples(piece)
            else:
                samples = list(read_samples(piece))
                random.Random(f"{self._seed} {self.epoch} {piece.shard} {piece.first}").shuffle(samples)
                yield from samples


def session(config: ScanConfig) -> AbstractContextManager[None]:
    """Nothing to start."""
    return nullcontext()


def scan(dataset: Dataset, config: ScanConfig, tallier: Tallier) -> Iterator[Tally]:
    """Tallies of batches from a DataLoader: in this process with one worker, from worker processes with more."""
    feed = TorchFeed(dataset, config.batch_size)
    workers = config.num_workers if config.num_workers > 1 else 0
    # Spawned: a fork would copy the locks of threads that storage and Arrow run here, but not the threads.
    context = "spawn" if workers else None
    with interrupts_end_here():
        loader = DataLoader(
            feed, batch_size=None, collate_fn=_unchanged, num_workers=workers, multiprocessing_context=context
        )
        batches = iter(loader)
    for batch in batches:
        samples = [dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True)]
        yield from tallier.of_samples(samples, every=config.batch_size)


def _unchanged(batch: Batch) -> Batch:
    """Without a function of one's own, a DataLoader makes tensors of arrays."""
    return batch


def _batches(samples: Iterable[dict[str, Any]], names: list[str], size: int) -> Iterator[Batch]:
    batch: Batch = {name: [] for name in names}
    for sample in samples:
        for name, values in batch.items():
            values.append(sample.get(name))
        if len(batch["__key__"]) == size:
            yield batch
            batch = {name: [] for name in names}
    if batch["__key__"]:
        yield batch


def _place(rank: int | None, world_size: int | None) -> tuple[int, int]:
    """Given, or torch.distributed's, or the only one."""
    if (rank is None) != (world_size is None):
        raise UsageError("give both rank and world_size, or none of them")
    if rank is None or world_size is None:
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        return (torch.distributed.get_rank(), torch.distributed.get_world_size()) if distributed else (0, 1)
    if not 0 <= rank < world_size:
        raise UsageError(f"rank must be at least 0 and less than world_size, not {rank} of {world_size}")
    return rank, world_size
