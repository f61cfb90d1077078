"""The feed for torch: tensors where the feed has numpy arrays, alone or in a DataLoader.

feed = ds.to_torch(batch_size=256, seed=1, decode=RandomCrop(224))
loader = DataLoader(feed, batch_size=None, num_workers=4)        # or iterate over the feed: threads decode then
"""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from tarloom.engines.local import interrupts_end_here
from tarloom.errors import UsageError, missing_extra
from tarloom.format.cpus import cpu_share
from tarloom.read.dataset import Dataset
from tarloom.read.feed.assemble import Batch
from tarloom.read.feed.feed import Feed, Turn
from tarloom.read.scan import ScanConfig, Tallier, Tally

try:
    import torch
    import torch.distributed
    from torch.utils.data import DataLoader, IterableDataset, get_worker_info
except ImportError as error:
    raise missing_extra("torch", error) from error


class TorchFeed(IterableDataset[Any]):  # type: ignore[misc]
    """A feed whose batches hold tensors. transform: from a batch to what is yielded, in the process that read it."""

    def __init__(self, feed: Feed, *, transform: Callable[[Batch], Any] | None = None) -> None:
        super().__init__()
        self.feed = feed
        self._transform = transform

    def __len__(self) -> int:
        return len(self.feed)

    def set_epoch(self, epoch: int) -> None:
        """See Feed. DataLoaders with persistent workers do not see it."""
        self.feed.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """See Feed."""
        return self.feed.state_dict()

    def load_state_dict(self, facts: dict[str, Any]) -> None:
        """See Feed."""
        self.feed.load_state_dict(facts)

    def __iter__(self) -> Iterator[Any]:
        info = get_worker_info()
        if info is not None:  # this process is one of several: so many threads for it to decode in
            os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cpu_share() // info.num_workers)))
        steps = self.feed.steps(Turn() if info is None else Turn(first=info.id, every=info.num_workers))
        return self.feed.counting(steps, map(self._made, self.feed.batches(steps)), all_steps=info is None)

    def _made(self, batch: Batch) -> Any:
        tensors = {name: _tensor(value) for name, value in batch.items()}
        return tensors if self._transform is None else self._transform(tensors)


def session(config: ScanConfig) -> AbstractContextManager[None]:
    """Nothing to start."""
    return nullcontext()


def scan(dataset: Dataset, config: ScanConfig, tallier: Tallier) -> Iterator[Tally]:
    """Tallies of batches from a DataLoader: in this process with one worker, from worker processes with more."""
    feed = dataset.to_torch(config.batch_size, shuffle=False, rank=0, world_size=1)
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


def place(rank: int | None, world_size: int | None) -> tuple[int, int]:
    """Given, or torch.distributed's, or the only one. Raises UsageError for half a place."""
    if (rank is None) != (world_size is None):
        raise UsageError("give both rank and world_size, or none of them")
    if rank is None or world_size is None:
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        return (torch.distributed.get_rank(), torch.distributed.get_world_size()) if distributed else (0, 1)
    return rank, world_size


def _tensor(value: Any) -> Any:
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else value


def _unchanged(batch: Batch) -> Batch:
    """Without a function of one's own, a DataLoader makes tensors of arrays."""
    return batch
