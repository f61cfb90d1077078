"""The reader without a framework: this process, or a few of its own."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial

from tarloom.engines.base import Worker
from tarloom.engines.local import LocalEngine
from tarloom.errors import ShardError
from tarloom.read.dataset import Dataset
from tarloom.read.plan.pieces import Piece
from tarloom.read.samples.batches import read_piece
from tarloom.read.scan import ScanConfig, Tallier, Tally


def session(config: ScanConfig) -> AbstractContextManager[None]:
    """Nothing to start."""
    return nullcontext()


def scan(dataset: Dataset, config: ScanConfig, tallier: Tallier) -> Iterator[Tally]:
    """Tallies of pieces, read in this process or in `num_workers` of its own."""
    if config.num_workers == 1:
        for batch in dataset.batches(config.batch_size):
            yield tallier.of_batch(batch)
        return
    opener = partial(_open_worker, tallier, config.batch_size)
    for outcome in LocalEngine(config.num_workers).map(opener, dataset.plan()):
        if outcome.result is None:
            raise ShardError(outcome.error or f"{outcome.item.url}: could not be read")
        yield outcome.result


def _open_worker(tallier: Tallier, batch_size: int) -> Worker[Piece, Tally]:
    return partial(_tally_piece, tallier, batch_size)


def _tally_piece(tallier: Tallier, batch_size: int, piece: Piece) -> Tally:
    return tallier.merged(map(tallier.of_batch, read_piece(piece, batch_rows=batch_size)))
