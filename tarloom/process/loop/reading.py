"""A shard's batches: read, and decoded once for all stages, ahead of whoever takes them."""

from collections.abc import Generator, Iterator, Sequence

import numpy as np
import pyarrow as pa

from tarloom.format.ahead import ahead
from tarloom.process.batch import Batch, Decoder
from tarloom.process.loop.asking import Numbered
from tarloom.process.loop.times import Clock
from tarloom.process.stage import Stage
from tarloom.process.task import RowsTask

DECODED_AHEAD = 2
"""Batches: while the last pictures of one are decoded, no thread is idle."""


class BatchReader:
    """Reads and decodes rows of one shard. stages: those that will see them."""

    def __init__(self, task: RowsTask, stages: Sequence[Stage], decoder: Decoder, clock: Clock) -> None:
        self._task, self._decoder, self._clock = task, decoder, clock
        self._sizes = sorted({stage.at_least for stage in stages if stage.at_least is not None})
        self.bytes = 0
        """Of what was read so far."""

    def __call__(self, wanted: np.ndarray) -> Generator[Numbered, None, None]:
        """These rows, by the batches that they are in. wanted: int64 of shape (rows,), ascending.

        To be closed by whoever stops taking. Raises ShardError where the shard cannot be read, or holds others than
        planned.
        """
        yield from ahead(self._decoded, self._read(wanted), threads=DECODED_AHEAD)

    def _read(self, wanted: np.ndarray) -> Iterator[tuple[np.ndarray, pa.RecordBatch]]:
        if not len(wanted):
            return
        batches = self._task.read(wanted)
        while (batch := self._clock.next("read", batches)) is not None:
            self.bytes += batch[1].nbytes
            yield batch

    def _decoded(self, numbered: tuple[np.ndarray, pa.RecordBatch]) -> Numbered:
        numbers, rows = numbered
        batch = Batch(rows, self._decoder)
        with self._clock("decode"):
            for at_least in self._sizes:
                batch.pictures(at_least)
        return numbers.tolist(), batch
