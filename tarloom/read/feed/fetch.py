"""Samples of a feed as they lie in memory, on their way from the shards to batches."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from tarloom.errors import StaleIndex
from tarloom.read.feed.order import Numbers, Places
from tarloom.read.feed.sources import Source
from tarloom.read.ledger import Skipped
from tarloom.read.plan.pieces import ChunkedArray, Piece
from tarloom.read.samples.ahead import LOCAL_THREADS, ahead
from tarloom.read.samples.batches import read_chunks
from tarloom.read.samples.chunk import Chunk


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """Samples, members as bytes, in the order in which they were asked for."""

    places: Places
    keys: Sequence[str]
    members: Mapping[str, Sequence[memoryview | None]]
    columns: Mapping[str, ChunkedArray]
    errors: Mapping[int, Skipped]
    """What happened to those that could not be read, by their numbers here."""

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, numbers: Numbers) -> "Fetched":
        """These alone."""
        wanted = numbers.tolist()
        return Fetched(
            places=self.places.take(numbers),
            keys=[self.keys[number] for number in wanted],
            members={name: [values[number] for number in wanted] for name, values in self.members.items()},
            columns={name: values.take(numbers) for name, values in self.columns.items()},
            errors={row: self.errors[number] for row, number in enumerate(wanted) if number in self.errors},
        )


def fetch(sources: Sequence[Source], places: Places) -> Fetched:
    """Read the samples at these places, at least one. Raises ShardError or StorageError for more than bad samples."""
    order = np.lexsort((places.rows, places.shards, places.sources))
    ordered = places.take(order)
    changes = (np.diff(ordered.sources) != 0) | (np.diff(ordered.shards) != 0) | (np.diff(ordered.rows) != 0)
    first = np.append(True, changes)  # the same sample may be wanted twice: of a small dataset that is mixed in
    chunks = list(ahead(_chunks, _pieces(sources, ordered.take(np.flatnonzero(first))), threads=LOCAL_THREADS))
    read = _joined([chunk for found in chunks for chunk in found], ordered.take(np.flatnonzero(first)))
    back = np.empty(len(places), np.int64)
    back[order] = np.cumsum(first) - 1
    return read.take(back)


def _pieces(sources: Sequence[Source], places: Places) -> Iterator[Piece]:
    """One for each shard. places: in their order, each once."""
    changes = (np.diff(places.sources) != 0) | (np.diff(places.shards) != 0)
    bounds = [0, *(np.flatnonzero(changes) + 1).tolist(), len(places)]
    for first, last in pairwise(bounds):
        source = sources[int(places.sources[first])]
        yield source.piece(int(places.shards[first]), places.rows[first:last])


def _chunks(piece: Piece) -> list[Chunk]:
    found = list(read_chunks(piece, "sample"))
    if sum(map(len, found)) != (piece.rows if piece.only is None else len(piece.only)):
        raise StaleIndex(f"{piece.url}: its tables have changed while it was read; open the dataset again")
    return found


def _joined(chunks: Sequence[Chunk], places: Places) -> Fetched:
    names, columns = list(chunks[0].members), list(chunks[0].columns)
    errors: dict[int, Skipped] = {}
    reached = 0
    for chunk in chunks:
        errors.update({reached + row: error for row, error in chunk.errors.items()})
        reached += len(chunk)
    members: dict[str, Any] = {name: [value for chunk in chunks for value in chunk.members[name]] for name in names}
    return Fetched(
        places=places,
        keys=[str(key) for chunk in chunks for key in chunk.keys.to_pylist()],
        members=members,
        columns={name: pa.chunked_array([chunk.columns[name] for chunk in chunks]) for name in columns},
        errors=errors,
    )
