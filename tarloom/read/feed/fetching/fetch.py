"""Samples of a feed as they lie in memory, on their way from the shards to batches."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from threading import Event

import numpy as np
import pyarrow as pa

from tarloom.errors import StaleIndex
from tarloom.format.ahead import ahead_where_it_waits, threads_for
from tarloom.format.arena import Arena, Arenas
from tarloom.format.arrow_types import Array, ChunkedArray
from tarloom.read.feed.fetching.scattered import Scattered
from tarloom.read.feed.fetching.sources import Source
from tarloom.read.feed.order.chance import Numbers
from tarloom.read.feed.order.places import Places, groups
from tarloom.read.plan.indexes import keep_indexes
from tarloom.read.plan.pieces import Piece
from tarloom.read.samples.batches import read_chunks
from tarloom.read.samples.binary import Binary
from tarloom.read.samples.chunk import Chunk

INDEXES = 1024
"""Of shards: two windows' worth."""
KEPT = 2
"""Regions of memory that wait for the next fetch."""
MARGIN = 1.25
"""Samples of a fetch may be larger than those of the dataset are on average."""
SHOWN = 3
"""Addresses in a message."""


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """Samples, members as bytes, in the order in which they were asked for."""

    places: Places
    names: Array
    """Their keys, as Arrow strings."""
    members: Mapping[str, Scattered]
    columns: Mapping[str, ChunkedArray]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def keys(self) -> list[str]:
        """One of each."""
        keys: list[str] = self.names.to_pylist()  # type: ignore[assignment]
        return keys

    @property
    def sample_bytes(self) -> int:
        """How many bytes a sample has on average."""
        members = sum(int(np.maximum(values.sizes, 0).sum()) for values in self.members.values())
        return (members + sum(column.nbytes for column in self.columns.values())) // max(len(self), 1)

    def take(self, numbers: Numbers) -> "Fetched":
        """These alone."""
        return Fetched(
            places=self.places.take(numbers),
            names=self.names.take(numbers),
            members={name: values.take(numbers) for name, values in self.members.items()},
            columns={name: values.take(numbers) for name, values in self.columns.items()},
        )

    @staticmethod
    def joined(parts: "Sequence[Fetched]") -> "Fetched":
        """All of them, in their order; at least one part, all of the same members and columns."""
        return Fetched(
            places=Places.joined([part.places for part in parts]),
            names=pa.concat_arrays([part.names for part in parts]),
            members={name: Scattered.joined([part.members[name] for part in parts]) for name in parts[0].members},
            columns={
                name: pa.chunked_array([chunk for part in parts for chunk in part.columns[name].chunks])
                for name in parts[0].columns
            },
        )


class Closed(Exception):
    """Nobody wants what is fetched any more."""


class Fetcher:
    """Reads samples of these sources. mapped: members stay where they lie in local tars that can be mapped."""

    def __init__(self, sources: Sequence[Source], *, mapped: bool = False) -> None:
        self._sources, self._mapped = tuple(sources), mapped
        reads = [source.reads for source in sources]
        self._first_alike = np.array([reads.index(what) for what in reads])
        self._storage = max((source.storage for source in sources), key=threads_for)
        self._closed, self._arenas = Event(), Arenas(kept=KEPT)
        keep_indexes(INDEXES)
        self._begun: dict[str, None] = {}
        """Addresses of the tars that are being read at this moment, in the order in which that began."""

    def close(self) -> None:
        """Begin nothing more: fetch ends with Closed, in whatever thread."""
        self._closed.set()

    def fetch(self, places: Places) -> Fetched:
        """The samples at these places. Raises ShardError or StorageError where they cannot be had."""
        found = self._in_files(places)
        order = np.lexsort((found.rows, found.shards, found.sources))
        ordered = found.take(order)
        changes = (np.diff(ordered.sources) != 0) | (np.diff(ordered.shards) != 0) | (np.diff(ordered.rows) != 0)
        # The same sample may be wanted twice: of a small dataset that is mixed in.
        first = np.append(len(places) > 0, changes)[: len(places)]
        unique = ordered.take(np.flatnonzero(first))
        read = partial(self._chunks, self._arenas.arena(self._size(unique)))
        chunks = [chunk for made in ahead_where_it_waits(read, self._pieces(unique), self._storage) for chunk in made]
        back = np.empty(len(places), np.int64)
        back[order] = np.cumsum(first) - 1
        read_once = self._joined(chunks, unique)
        return replace(read_once.take(back), places=places)  # in another pass, a sample is cut out otherwise

    def missing(self) -> str:
        """What is being read at this moment, in words."""
        begun = list(self._begun)
        return ", ".join(begun[:SHOWN]) + (f" and {len(begun) - SHOWN} more" if len(begun) > SHOWN else "")

    def _in_files(self, places: Places) -> Places:
        """The same samples by the numbers of their rows in the shards, and by the first of the sources that read the
        same of the same files: so that what several buckets want of a shard is read at once."""
        rows = places.rows.copy()
        for mine in groups(places.sources, places.shards):
            source = self._sources[int(places.sources[mine[0]])]
            rows[mine] = source.numbers(int(places.shards[mine[0]]), rows[mine])
        return replace(places, sources=self._first_alike[places.sources], rows=rows)

    def _pieces(self, places: Places) -> Iterator[Piece]:
        """One for each shard. places: in their order, each once."""
        for mine in groups(places.sources, places.shards):
            source = self._sources[int(places.sources[mine[0]])]
            yield source.piece(int(places.shards[mine[0]]), places.rows[mine])

    def _size(self, places: Places) -> int:
        """About how many bytes they have, with the tar's headers and some to spare."""
        counts = np.bincount(places.sources, minlength=len(self._sources)).tolist()
        sizes = (count * source.sample_bytes for count, source in zip(counts, self._sources, strict=True))
        return int(sum(sizes) * MARGIN)

    def _chunks(self, arena: Arena, piece: Piece) -> list[Chunk]:
        if self._closed.is_set():
            raise Closed
        self._begun[piece.url] = None
        try:
            with arena.here():
                found = list(read_chunks(piece, "sample", mapped=self._mapped))
        finally:
            self._begun.pop(piece.url, None)
        if sum(map(len, found)) != (piece.rows if piece.only is None else len(piece.only)):
            raise StaleIndex(f"{piece.url}: its tables have changed since the feed was made; open the dataset again")
        return found

    def _joined(self, chunks: Sequence[Chunk], places: Places) -> Fetched:
        views = [source.view for source in self._sources]
        members = dict.fromkeys(name for view in views for name in view.members)
        types = {column.name: column.type for view in views for column in view.columns}
        return Fetched(
            places=places,
            names=pa.concat_arrays([pa.array([], pa.string()), *(chunk.keys for chunk in chunks)]),
            members={name: Scattered.joined([_member(chunk, name) for chunk in chunks]) for name in members},
            columns={name: _column(chunks, name, kind) for name, kind in types.items()},
        )


def _member(chunk: Chunk, name: str) -> Scattered:
    values = chunk.members.get(name)  # a dataset that is mixed in may have no such member
    if values is None:
        return Scattered.nothing(len(chunk))
    assert isinstance(values, Binary)
    return Scattered.of(values.array)


def _column(chunks: Sequence[Chunk], name: str, kind: pa.DataType) -> ChunkedArray:
    arrays = [chunk.columns.get(name) for chunk in chunks]
    filled = [pa.array([None] * len(c), kind) if a is None else a for c, a in zip(chunks, arrays, strict=True)]
    column: ChunkedArray = pa.chunked_array([pa.array([], kind), *filled])
    return column
