"""A shard's batches: read, and decoded once for all stages."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from tarloom.errors import ShardError
from tarloom.process.asking import Numbered
from tarloom.process.batch import Batch, Decoder
from tarloom.process.stage import Stage
from tarloom.process.task import ShardTask
from tarloom.process.times import Clock
from tarloom.read.samples.batches import read_piece


class BatchReader:
    """Reads and decodes rows of one shard. stages: those that will see them."""

    def __init__(self, task: ShardTask, stages: Sequence[Stage], decoder: Decoder, clock: Clock) -> None:
        self._task, self._decoder, self._clock = task, decoder, clock
        self._sizes = {stage.at_least for stage in stages if stage.at_least is not None}
        self.bytes = 0
        """Of what was read so far."""

    def __call__(self, wanted: np.ndarray) -> Iterator[Numbered]:
        """These rows, batch by batch. wanted: int64 of shape (rows,), ascending.

        Raises ShardError where the shard cannot be read, or holds others than planned.
        """
        if not len(wanted):
            return
        piece = replace(self._task.piece, only=tuple(wanted.tolist()))
        found, first = read_piece(piece, batch_rows=self._task.batch_rows), 0
        while True:
            with self._clock("read"):
                rows = next(found, None)
            if rows is None:
                break
            numbers = wanted[first : first + rows.num_rows].tolist()
            first, self.bytes = first + rows.num_rows, self.bytes + rows.nbytes
            yield numbers, self._decoded(Batch(rows, self._decoder))
        if first != len(wanted):
            raise ShardError(f"{piece.url}: {len(wanted)} rows planned, {first} read; open the dataset again")

    def _decoded(self, batch: Batch) -> Batch:
        with self._clock("decode"):
            for at_least in self._sizes:
                batch.pictures(at_least)
        return batch
