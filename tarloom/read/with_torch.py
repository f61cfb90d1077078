"""Reading everything once with torch's DataLoader, each of whose workers reads its share of the pieces.

To train, take the feed (ds.to_torch): it shuffles, resumes, and replaces what cannot be read, where a reader says so.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import chain, islice
from typing import Any

from tarloom.engines.local import interrupts_end_here
from tarloom.errors import missing_extra
from tarloom.format.cpus import take_part_of_share
from tarloom.read.dataset import Dataset
from tarloom.read.plan.pieces import share
from tarloom.read.samples.batches import read_samples
from tarloom.read.scan import ScanConfig, Tallier, Tally
from tarloom.read.torch_workers import stopped_after, with_plain_errors

try:
    from torch.utils.data import DataLoader, IterableDataset, get_worker_info
except ImportError as error:
    raise missing_extra("torch", error) from error

PIECE_BYTES = 16 << 20
"""Small, so that shares are even."""

Samples = list[dict[str, Any]]


class Shares(IterableDataset[Samples]):  # type: ignore[misc]
    """Lists of at most so many samples."""

    def __init__(self, dataset: Dataset, size: int) -> None:
        super().__init__()
        self._plan, self._names, self._size = dataset.plan(PIECE_BYTES), dataset.schema.names, size

    def __iter__(self) -> Iterator[Samples]:
        worker = get_worker_info()
        number, workers = (0, 1) if worker is None else (worker.id, worker.num_workers)
        if worker is not None:
            take_part_of_share(workers)  # so many threads for it to decode in
        mine = share(range(len(self._plan)), part=number, parts=workers)
        samples = chain.from_iterable(read_samples(self._plan[piece]) for piece in mine)
        while found := list(islice(samples, self._size)):
            yield [{name: sample.get(name) for name in self._names} for sample in found]


def session(config: ScanConfig) -> AbstractContextManager[None]:
    """Nothing to start."""
    return nullcontext()


def scan(dataset: Dataset, config: ScanConfig, tallier: Tallier) -> Iterator[Tally]:
    """Tallies of what comes from a DataLoader: in this process with one worker, from worker processes with more."""
    workers = config.num_workers if config.num_workers > 1 else 0
    # Spawned: a fork would copy the locks of threads that storage and Arrow run here, but not the threads.
    context = "spawn" if workers else None
    with interrupts_end_here():
        loader = DataLoader(
            Shares(dataset, config.batch_size),
            batch_size=None,
            collate_fn=_unchanged,
            num_workers=workers,
            multiprocessing_context=context,
        )
        found = iter(loader)
    with stopped_after(found):
        for samples in with_plain_errors(found):
            yield from tallier.of_samples(samples, every=config.batch_size)


def _unchanged(samples: Samples) -> Samples:
    """Without a function of one's own, a DataLoader makes tensors of arrays."""
    return samples
