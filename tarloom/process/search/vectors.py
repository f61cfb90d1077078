"""Where vectors come from: the sidecars of a dataset, or one parquet file; both as the same few columns.

key         of the sample
url         where it came from, if the source knows that
caption     likewise
embedding   FixedSizeList<float16>[dim]; rows without a vector are left out
"""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tarloom.errors import CorruptShard, StageMismatch, UsageError
from tarloom.format.ahead import ahead_where_it_waits
from tarloom.format.arrow_types import Array
from tarloom.format.index import KEY
from tarloom.format.layout import metadata_name, sidecar_name, tar_name
from tarloom.format.parquet import open_table
from tarloom.format.retyped import as_read
from tarloom.format.sidecar import ERROR, describe_difference, sidecar_info
from tarloom.format.storage import Entry, Storage
from tarloom.format.storage.streams import open_stream
from tarloom.process.embed.stage import TEXT_COLUMN
from tarloom.process.stage import INPUT
from tarloom.process.texts import texts_of
from tarloom.read.dataset import Dataset

EMBEDDING = "embedding"
TEXTS = ("url", "caption")
FINGERPRINT = "tarloom.fingerprint"
"""In the footer of a parquet file and of an index: what made the vectors, as JSON."""


class Vectors(ABC):
    """Rows with a vector, in a fixed order."""

    name: str
    """Tells them from other vectors of the same folder."""

    @property
    @abstractmethod
    def schema(self) -> pa.Schema:
        """Of the batches. Raises UsageError where there are no vectors."""

    @abstractmethod
    def batches(self) -> Iterator[pa.RecordBatch]:
        """All rows that have a vector, some thousands at a time."""

    @abstractmethod
    def fingerprint(self) -> Mapping[str, str]:
        """Of the stage that made them; empty where that is not known."""

    @abstractmethod
    def version(self) -> str:
        """Another one whenever the vectors may have changed, without reading them."""


@dataclass(frozen=True, kw_only=True)
class SidecarVectors(Vectors):
    """Of the sidecars of one name beside a dataset's shards."""

    dataset: Dataset
    name: str = "clip"

    @property
    def schema(self) -> pa.Schema:
        column = self.dataset.catalog.columns().get(self._column)
        if column is None or not pa.types.is_fixed_size_list(column.type):
            raise UsageError(
                f"{self.dataset.path}: no vectors in sidecars {self.name!r}; embed it first (tarloom embed)"
            )
        texts = [(name, pa.string()) for name in self._texts]
        return pa.schema([("key", pa.string()), *texts, (EMBEDDING, column.type)])

    def batches(self) -> Iterator[pa.RecordBatch]:
        return (_with_vectors(batch.drop_columns([ERROR])) for batch in self.all_rows())

    def all_rows(self) -> Iterator[pa.RecordBatch]:
        """The same, and rows without a vector; behind the columns stands why they have none."""
        schema = self.schema.append(pa.field(ERROR, pa.string()))
        names = (*self._texts, self._column, f"{self.name}.{ERROR}")
        for batch in self.dataset.select(*names).batches():
            columns = zip((KEY, *names), schema, strict=True)
            arrays = [_as(field.type, batch.column(name)) for name, field in columns]
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)

    def fingerprint(self) -> Mapping[str, str]:
        """Raises StageMismatch where shards were embedded in several ways: such vectors cannot be compared."""
        storage = self.dataset.catalog.storage
        shards = [files.shard for files in self.dataset.shards if self.name in files.sidecars]
        infos = ahead_where_it_waits(lambda shard: sidecar_info(storage, shard, self.name), shards, storage)
        told = [{} if info is None else dict(info.fingerprint) for info in infos]
        ways = [_way(made) for made in told]
        others = [shard for shard, way in zip(shards, ways, strict=True) if way != ways[0]]
        if others:
            where, first = storage.describe(sidecar_name(others[0], self.name)), ways[shards.index(others[0])]
            raise StageMismatch(
                f"{where}: its vectors, and those of {len(others)} of {len(shards)} shards up to {others[-1]}, cannot "
                f"be compared with the first's: {describe_difference(ways[0], first)}; embed them alike (--overwrite)"
            )
        return told[0] if told else {}

    def version(self) -> str:
        """Of the vectors, and of what they are of."""
        shards = [files.shard for files in self.dataset.shards]
        wanted = {name for shard in shards for name in (tar_name(shard), metadata_name(shard))}
        wanted |= {sidecar_name(shard, self.name) for shard in shards}
        return _version(self.dataset.catalog.storage.survey(wanted.__contains__)[0])

    @property
    def _column(self) -> str:
        return f"{self.name}.{EMBEDDING}"

    @property
    def _texts(self) -> tuple[str, ...]:
        columns = self.dataset.catalog.columns()
        return tuple(name for name in TEXTS if name in columns and name not in self.dataset.catalog.members())


@dataclass(frozen=True, kw_only=True)
class ParquetVectors(Vectors):
    """Of one parquet file with a column `embedding`, such as the batch service's."""

    storage: Storage
    entry: Entry

    @property
    def name(self) -> str:  # type: ignore[override]
        return self.entry.name.rpartition("/")[2].removesuffix(".parquet")

    @property
    def schema(self) -> pa.Schema:
        found = open_table(self.storage, self.entry.name).schema
        if EMBEDDING not in found.names or not pa.types.is_fixed_size_list(found.field(EMBEDDING).type):
            raise UsageError(
                f"{self._where}: no column {EMBEDDING} of vectors of one length; it has {', '.join(found.names)}"
            )
        if "key" not in found.names:
            raise UsageError(f"{self._where}: no column key; it has {', '.join(found.names)}")
        texts = [pa.field(name, pa.string()) for name in ("key", *TEXTS) if name in found.names]
        return pa.schema([*texts, found.field(EMBEDDING)])

    def batches(self) -> Iterator[pa.RecordBatch]:
        schema = self.schema
        try:
            stream: Any = open_stream(self.storage, self.entry)
            with stream, pq.ParquetFile(stream, pre_buffer=False) as table:
                # Not in Arrow's threads: see tarloom.format.parquet.
                for batch in table.iter_batches(16_384, columns=schema.names, use_threads=False):
                    rows = as_read(pa.Table.from_batches([batch]))
                    arrays = [_as(field.type, rows.column(field.name).combine_chunks()) for field in schema]
                    yield _with_vectors(pa.RecordBatch.from_arrays(arrays, schema=schema))
        except (pa.ArrowException, OSError) as error:
            raise CorruptShard(f"{self._where}: not a sound parquet file ({error}); make it anew") from error

    def footer(self) -> Mapping[str, str]:
        """The file's text metadata."""
        return open_table(self.storage, self.entry.name).footer()

    def fingerprint(self) -> Mapping[str, str]:
        found: Mapping[str, str] = json.loads(self.footer().get(FINGERPRINT, "{}"))
        return found

    def version(self) -> str:
        return _version([self.entry])

    @property
    def _where(self) -> str:
        return self.storage.describe(self.entry.name)


def _way(made: Mapping[str, str]) -> dict[str, str]:
    """How vectors were made, without what they were made of: texts that came another way are compared all the same."""
    return {name: told for name, told in made.items() if name != TEXT_COLUMN and not name.startswith(INPUT)}


def _with_vectors(batch: pa.RecordBatch) -> pa.RecordBatch:
    vectors = batch.column(EMBEDDING)
    return batch.filter(vectors.is_valid()) if vectors.null_count else batch


def _as(kind: pa.DataType, column: Array) -> Array:
    """The column as it is wanted; texts of whatever it holds: foreign keys may be numbers, and texts no text."""
    try:
        return column.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return pa.array(texts_of(column), kind)


def _version(entries: Collection[Entry]) -> str:
    """A digest of names, sizes and what tells versions of files apart."""
    told = sorted(f"{entry.name}\0{entry.size}\0{entry.version}" for entry in entries)
    return hashlib.sha256("\n".join(told).encode()).hexdigest()
