"""Buckets: samples of a dataset that are alike in something, such as their class or the shape of their picture.

Which samples are in which is found out once, from parquet alone, and kept as two bytes a sample. A bucket is then a
source as any other, and to draw from buckets is to mix datasets.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, Final

import numpy as np
import pyarrow as pa

from tarloom.errors import ShardError, UsageError
from tarloom.format.ahead import ahead_where_it_waits
from tarloom.format.index import ShardIndex
from tarloom.read.columns.join import numbers_to_read, rows_to_read
from tarloom.read.dataset import Dataset
from tarloom.read.feed.fetching.passing import Passing
from tarloom.read.feed.fetching.sources import Cache, Source
from tarloom.read.feed.order.chance import Numbers
from tarloom.read.feed.state import digest
from tarloom.read.plan.indexes import cached_index
from tarloom.read.plan.piece_plan import piece_of_rows
from tarloom.read.plan.pieces import Piece

By = str | Mapping[str, str]
"""A column whose values are the buckets; or names of buckets, and what is true of their samples, in SQL."""
MOST: Final = 1 << 14
"""Buckets. More are hardly meant."""
MOST_COUNTS: Final = 1 << 25
"""Buckets times shards: a count is kept for each of them."""
_NONE: Final = 0xFFFF


class Buckets:
    """The buckets of a dataset's samples. Picklable.

    A sample is in the first bucket whose condition is true of it; in none where no condition is, or where the column is
    null. Raises UsageError for what cannot be, ShardError or StorageError where tables cannot be read.
    """

    def __init__(self, dataset: Dataset, by: By, cache: Cache | None = None) -> None:
        self.dataset, self.cache, self.whole = dataset, cache, Source(dataset, cache)
        self._numbers: dict[Any, int] = {}
        look = _by_column(dataset, by) if isinstance(by, str) else _by_conditions(dataset, by)
        self._labels = [self._labelled(*found) for found in _looks(dataset, look)]
        if len(self._numbers) * len(self._labels) > MOST_COUNTS:
            raise UsageError(f"{dataset.path}: {len(self._numbers)} buckets in {len(self._labels)} shards are too many")

    @property
    def names(self) -> tuple[str, ...]:
        """Values of the column as text, or names of conditions. A bucket's number is its place here."""
        return tuple(map(str, self._numbers))

    @cached_property
    def counts(self) -> Numbers:
        """Of the samples of each bucket in each shard: int64 of shape (buckets, shards)."""
        counts = np.zeros((len(self._numbers), len(self._labels)), np.int64)
        for shard in range(len(self._labels)):
            labels = self._of(shard)
            counts[:, shard] = np.bincount(labels[labels != _NONE], minlength=len(counts))
        return counts

    @cached_property
    def digest(self) -> str:
        """Of the samples, their order, and their buckets."""
        found = hashlib.sha256(digest(self.whole.fingerprint, *self.names).encode())
        for labels in self._labels:
            found.update(labels)
        return found.hexdigest()[:16]

    def rows(self, number: int, shard: int) -> Numbers:
        """The rows of a shard that are in a bucket, by their numbers among all rows of the shard."""
        return np.flatnonzero(self._of(shard) == number)

    def _of(self, shard: int) -> np.ndarray:
        return np.frombuffer(self._labels[shard], np.uint16)

    def _labelled(self, values: list[Any], codes: Numbers) -> bytes:
        numbers = [self._numbers.setdefault(value, len(self._numbers)) for value in values]
        if len(self._numbers) > MOST:
            raise UsageError(f"{self.dataset.path}: there are more than {MOST} buckets; use a column of fewer values")
        return np.array([*numbers, _NONE], np.uint16)[codes].tobytes()


class Bucket(Source):
    """The samples of a bucket."""

    def __init__(self, buckets: Buckets, number: int) -> None:
        super().__init__(buckets.dataset, buckets.cache)
        self._buckets, self._number = buckets, number
        self._passing = _InBucket(buckets, number)

    @property
    def sample_bytes(self) -> int:
        """See Source."""
        return self._buckets.whole.sample_bytes

    @property
    def tar_bytes(self) -> int:
        """See Source."""
        return self._buckets.whole.tar_bytes

    @property
    def fingerprint(self) -> str:
        """See Source."""
        return f"{self._buckets.digest} {self._number}"


class _InBucket(Passing):
    """The rows of a bucket."""

    def __init__(self, buckets: Buckets, number: int) -> None:
        self._buckets, self._number = buckets, number

    @property
    def counts(self) -> Numbers:
        """See Passing."""
        counts: Numbers = self._buckets.counts[self._number]
        return counts

    def of(self, shard: int, rows: Numbers) -> Numbers:
        """See Passing."""
        return self._buckets.rows(self._number, shard)[rows]


_Look = Callable[[Piece], tuple[list[Any], Numbers]]
"""Of all rows of a shard: the buckets there are, and which of them each is in, -1 for none."""


def _looks(dataset: Dataset, look: _Look) -> Iterator[tuple[list[Any], Numbers]]:
    facts = dataset.catalog.facts(tolerant=dataset.errors != "raise")

    def found(shard: int) -> tuple[list[Any], Numbers]:
        rows = int(facts.rows[shard])
        view = replace(dataset.on_error("raise").view, members=(), decode=())
        if not rows:
            return [], np.zeros(0, np.int64)
        return look(piece_of_rows(dataset.catalog, facts, view, shard=shard, rows=range(rows)))

    return ahead_where_it_waits(found, range(len(facts)), dataset.catalog.storage)


def _by_column(dataset: Dataset, name: str) -> _Look:
    column = next(iter(dataset.select(name).joined), None)
    kinds = (pa.types.is_string, pa.types.is_large_string, pa.types.is_integer, pa.types.is_boolean)
    if column is None or not any(of_kind(column.type) for of_kind in kinds):
        kind = "a member" if column is None else str(column.type)
        raise UsageError(f"{dataset.path}: {name} is {kind}; buckets are values of a column of texts or whole numbers")

    def look(piece: Piece) -> tuple[list[Any], Numbers]:
        columns = (*piece.view.columns, column) if piece.view.join == "skip" else (column,)
        found = rows_to_read(replace(piece, view=replace(piece.view, columns=columns)), _index(piece))
        values = found.columns[name].dictionary_encode()
        codes = np.full(piece.rows, -1)
        codes[found.numbers] = values.indices.fill_null(-1).to_numpy()
        try:
            return values.dictionary.to_pylist(), codes
        except UnicodeDecodeError as error:
            what = "holds texts that are not UTF-8; choose another column"
            raise ShardError(f"{piece.url}: {name} {what}") from error

    return look


def _by_conditions(dataset: Dataset, conditions: Mapping[str, str]) -> _Look:
    if not conditions:
        raise UsageError("buckets: name a column, or give conditions, such as: {'wide': 'width > height'}")
    wheres = [dataset.where(sql).condition for sql in conditions.values()]

    def look(piece: Piece) -> tuple[list[Any], Numbers]:
        codes = np.full(piece.rows, -1)
        for number, where in reversed(list(enumerate(wheres))):
            codes[numbers_to_read(replace(piece, view=replace(piece.view, where=where)), _index(piece))] = number
        return list(conditions), codes

    return look


def _index(piece: Piece) -> ShardIndex:
    return cached_index(piece.storage, piece.shard, piece.tar, piece.identity)
