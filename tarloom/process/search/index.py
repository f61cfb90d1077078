"""An index for similarity search: all vectors, with what they are of, in one file that is mapped into memory.

    _tarloom/search/clip.arrow    Arrow IPC: blocks of rows (key, url, caption, embedding), uncompressed

The search is exact: every vector is compared, block by block, in threads, where it lies: of unit length, and as
float32, since to make that of float16 takes ten times as long as to compare it. The file is a cache: it lies beside the
vectors, or in the user's cache directory (TARLOOM_CACHE) where they are remote or cannot be written, and is made anew
when they have changed.
"""

import contextlib
import heapq
import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tarloom.errors import StorageError, UsageError
from tarloom.format.cpus import cpu_share
from tarloom.format.index_load import cache_storage
from tarloom.format.layout import PRIVATE
from tarloom.format.regroup import regrouped
from tarloom.format.storage import LocalStorage, Storage
from tarloom.process.search.vectors import EMBEDDING, FINGERPRINT, Vectors
from tarloom.process.texts import text_at

BLOCK_ROWS = 16_384
VERSION = "tarloom.search_version"
"""In the file: what is in it (FORMAT), and the version of the vectors that it was made from."""
FORMAT = "2"


@dataclass(frozen=True, kw_only=True)
class Match:
    """A row, and how near it is."""

    score: float
    """Cosine similarity, from -1 to 1; 0 where all numbers of a vector are."""
    row: int
    """Its number among the rows that have a vector."""
    values: Mapping[str, str | None]
    """Its key, and url and caption where they are known."""


def open_index(vectors: Vectors, storage: Storage) -> "SearchIndex":
    """The index of these vectors, made if it is not there or not of this version. storage: where the vectors lie.

    Raises UsageError where there are no vectors, or not all by one model, StaleSidecar where they are of another
    version of a shard, StorageError where the index has no place.
    """
    version, name = f"{FORMAT}:{vectors.version()}", f"{PRIVATE}/search/{vectors.name}.arrow"
    places = list(_places(storage))
    for place in places:
        with contextlib.suppress(StorageError, pa.ArrowInvalid):  # a cache that cannot be read is made anew
            index = SearchIndex(Path(place.url, name))
            if index.version == version:
                return index
    for place in places[:-1]:
        with contextlib.suppress(StorageError):  # not to be written: the user's cache is
            return _made(vectors, version, place, name)
    return _made(vectors, version, places[-1], name)


class SearchIndex:
    """Vectors and what they are of. Raises StorageError where no such file can be read."""

    def __init__(self, path: Path) -> None:
        try:
            self._file = pa.ipc.open_file(pa.memory_map(str(path)))
            _check_sound(self._file)
        except (OSError, pa.ArrowInvalid) as error:
            raise StorageError(f"{path}: no index that can be read ({error}); it is made anew") from error
        told = self._file.schema.metadata or {}
        self.version = told.get(VERSION.encode(), b"").decode()
        self.fingerprint: Mapping[str, str] = json.loads(told.get(FINGERPRINT.encode(), b"{}"))
        """Of the stage that made the vectors; empty where that is not known."""
        self.dim: int = self._file.schema.field(EMBEDDING).type.list_size
        blocks = [len(self._file.get_batch(number)) for number in range(self._file.num_record_batches)]
        self._starts = np.cumsum([0, *blocks])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def nearest(self, queries: npt.NDArray[np.float32], k: int) -> list[list[Match]]:
        """For each query (unit vectors, float32 of shape (queries, dim)) the k nearest rows, best first.

        Of rows that are equally near the earlier ones come first. Raises UsageError for vectors of another length.
        """
        if queries.shape[1] != self.dim:
            raise UsageError(f"the query has {queries.shape[1]} numbers, the vectors have {self.dim}: another model's")
        if k < 1:
            raise UsageError(f"k must be at least 1, not {k}")
        with ThreadPoolExecutor(cpu_share(), thread_name_prefix="tarloom-search") as threads:
            found = list(threads.map(lambda block: self._best(block, queries, k), range(len(self._starts) - 1)))
        ranked = (heapq.merge(*(block[query] for block in found)) for query in range(len(queries)))
        return [[self._match(-score, row) for (score, row), _ in zip(best, range(k), strict=False)] for best in ranked]

    def vector(self, key: str) -> npt.NDArray[np.float32]:
        """Of the first sample with this key, of shape (1, dim). Raises UsageError where there is none."""
        for block in range(len(self._starts) - 1):
            row = self._file.get_batch(block).column("key").index(key).as_py()
            if row >= 0:
                return self._vectors(block)[row : row + 1]
        raise UsageError(f"key {key!r}: no sample with a vector has it")

    def _best(self, block: int, queries: npt.NDArray[np.float32], k: int) -> list[list[tuple[float, int]]]:
        """For each query the block's best: scores times -1, and rows, ascending."""
        distances = np.nan_to_num(-(self._vectors(block) @ queries.T), copy=False, nan=np.inf)
        best = []
        for column in distances.T:
            last = np.partition(column, k - 1)[k - 1] if len(column) > k else np.inf
            rows = np.flatnonzero(column <= last)
            rows = rows[np.argsort(column[rows], kind="stable")[:k]]
            best.append([(float(column[row]), int(self._starts[block] + row)) for row in rows])
        return best

    def _vectors(self, block: int) -> npt.NDArray[np.float32]:
        """Of shape (rows, dim), not copied."""
        column: Any = self._file.get_batch(block).column(EMBEDDING)
        flat: npt.NDArray[np.float32] = column.flatten().to_numpy()
        return flat.reshape(-1, self.dim)

    def _match(self, score: float, row: int) -> Match:
        block = int(np.searchsorted(self._starts, row, side="right")) - 1
        columns, place = self._file.get_batch(block).drop_columns([EMBEDDING]), row - int(self._starts[block])
        values = {name: text_at(columns.column(name), place) for name in columns.schema.names}
        return Match(score=max(-1.0, min(1.0, score)), row=row, values=values)


def _check_sound(file: pa.RecordBatchFileReader) -> None:
    """Raises pa.ArrowInvalid for what is no index, or would be read beyond its end: it may have come with a dataset."""
    for field in file.schema:
        is_vector = pa.types.is_fixed_size_list(field.type) and field.type.value_type == pa.float32()
        if not (is_vector if field.name == EMBEDDING else field.type == pa.string()):
            raise pa.ArrowInvalid(f"column {field.name} is {field.type}")
    for number in range(file.num_record_batches):
        for column in file.get_batch(number).itercolumns():
            foreign = column.type == pa.string()  # which need not be UTF-8
            (column.cast(pa.binary()) if foreign else column).validate(full=True)


def _places(storage: Storage) -> Iterator[LocalStorage]:
    """Where an index may lie: mostly in the first."""
    if isinstance(storage, LocalStorage):
        yield storage
    yield cache_storage(storage)


def _made(vectors: Vectors, version: str, place: LocalStorage, name: str) -> SearchIndex:
    footer = {VERSION: version, FINGERPRINT: json.dumps(dict(vectors.fingerprint()), sort_keys=True)}
    column = pa.list_(pa.float32(), vectors.schema.field(EMBEDDING).type.list_size)
    schema = vectors.schema.set(len(vectors.schema) - 1, pa.field(EMBEDDING, column)).with_metadata(footer)
    LocalStorage(str(Path(place.url, name).parent)).sweep()  # an index is large: one that was never whole goes
    with place.create(name) as file:
        sink: Any = file
        with pa.ipc.new_file(sink, schema) as blocks:
            tables = (pa.Table.from_batches([batch], vectors.schema) for batch in vectors.batches())
            for block in regrouped(tables, BLOCK_ROWS):
                blocks.write_table(_of_unit_length(block).cast(schema))
    return SearchIndex(Path(place.url, name))


def _of_unit_length(block: pa.Table) -> pa.Table:
    """As cosines want vectors: those of foreign tables may be of any length. Those of zeros alone stay so."""
    vectors: Any = block.column(EMBEDDING).combine_chunks()
    dim = vectors.type.list_size
    flat = vectors.flatten().cast(pa.float32()).to_numpy(zero_copy_only=False).reshape(-1, dim)
    lengths = np.sqrt(np.einsum("ij,ij->i", flat, flat, dtype=np.float64)).astype(np.float32)
    flat = flat / np.where(lengths == 0, np.float32(1), lengths)[:, None]
    column = pa.FixedSizeListArray.from_arrays(pa.array(flat.ravel()), dim)
    return block.set_column(block.column_names.index(EMBEDDING), EMBEDDING, column)
