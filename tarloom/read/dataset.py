"""A dataset: a table whose rows are samples. Tars hold the bytes, parquet holds the columns, the key joins them.

    ds = tarloom.open("s3://bucket/laion")      # ours, img2dataset's, or any folder of WebDataset tars
    ds.columns, len(ds)                         # from indexes and footers: no image is read
    for sample in ds.select("jpg", "caption.text"): ...

A dataset without a selection yields all members and joins nothing. It is small and picklable; indexes are loaded when
they are first needed.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa

from tarloom.errors import UsageError
from tarloom.format.ahead import COPY_THREADS, ahead, ahead_where_it_waits, first_part
from tarloom.format.layout import is_utf8
from tarloom.read.feed.feedable import Feedable
from tarloom.read.ledger import Ledger, Skipped
from tarloom.read.plan.catalog import catalog_of, open_catalog
from tarloom.read.plan.facts import Facts
from tarloom.read.plan.picking import Picker, column_batches, numbers_of
from tarloom.read.plan.piece_plan import PiecePlan, piece_of_rows, viewed_bytes
from tarloom.read.plan.pieces import Piece
from tarloom.read.samples.batches import READ_BYTES, read_piece, read_samples
from tarloom.read.samples.to_arrow import check_batches
from tarloom.read.selection import Selection

if TYPE_CHECKING:
    import ray.data
    import webdataset
    from pyspark.sql import DataFrame, SparkSession

PIECE_BYTES = 64 << 20
Read = TypeVar("Read")


def open_dataset(path: str | Path) -> "Dataset":
    """Open a folder of shards (or one .tar), local or in an object store.

    Raises UsageError where there is no shard, StorageError where the place cannot be listed.
    """
    return Dataset(path=str(path), catalog=open_catalog(path))


def open_shards(path: str | Path, shards: Iterable[str]) -> "Dataset":
    """Open these shards of a folder, which are known to be whole, whatever else is there: nothing is listed.

    Raises ShardError for one that is not there.
    """
    return Dataset(path=str(path), catalog=catalog_of(path, shards))


@dataclass(frozen=True, kw_only=True)
class Dataset(Selection, Feedable):
    """Samples of all shards in order, or of those that are chosen."""

    def __len__(self) -> int:
        return self.count()

    def count(self, where: str | None = None) -> int:
        """How many samples there are, for which this is true too. No tar is read, and parquet only where that decides.

        Samples whose members cannot be read are counted.
        """
        return self._picker.count() if where is None else self.where(where).count()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Samples in order: `__key__`, `__url__`, the members a sample has as bytes, columns as Python values."""
        return self._read(partial(read_samples, ledger=self._counting()), self._piece_bytes())

    def batches(self, rows: int | None = None, *, memory_map: bool = False) -> Iterator[pa.RecordBatch]:
        """Samples in order, as Arrow batches of `schema` with at most `rows` rows and about 64 MiB.

        By default a batch has as many rows as are best read at a time: at most 1024, from this machine about 16 MiB.
        memory_map: members are binary_view, unless they are decoded, and no byte of them is copied out of local tars.
        It is for tars that nobody changes in place: a batch whose tar is cut short ends the process (SIGBUS).
        """
        check_batches(self.view)
        # Where batches have so many rows, a piece cuts the last one short; to map a file again takes its time.
        piece_bytes = PIECE_BYTES if rows or memory_map else self._piece_bytes()
        read = partial(read_piece, batch_rows=rows, ledger=self._counting(), memory_map=memory_map)
        return self._read(read, piece_bytes)

    def table(self, *names: str) -> pa.Table:
        """Keys and these columns, by default all that are not members, from parquet alone. Batches of a selection give
        the same little by little. Raises UsageError for a member."""
        members = self.catalog.members()
        chosen = self.select(*(names or (name for name in self.columns if name not in members)))
        if chosen.members:
            raise UsageError(f"{', '.join(chosen.members)}: a table holds columns; read members by batches")
        return pa.Table.from_batches(column_batches(chosen.plan(), self.catalog.storage), chosen.schema)

    def sample(self, count: int, seed: int = 0) -> Iterator[dict[str, Any]]:
        """So many different samples by chance, in the dataset's order; all where there are no more.

        Which ones depends on the seed and the dataset alone. Few shards are read where that is possible.
        """
        picked = self._picker.pick(count, seed)
        return _one_by_one(ahead_where_it_waits(first_part(read_samples), picked, self.catalog.storage))

    def __getitem__(self, key: str) -> dict[str, Any]:
        """The first sample of this key. Raises KeyError where there is none, TypeError for what is no key."""
        sample = next(_one_by_one(map(read_samples, self._pieces_of(key))), None)
        if sample is None:
            raise KeyError(key)
        return sample

    def __contains__(self, key: object) -> bool:
        """Whether there is a sample of this key."""
        return isinstance(key, str) and any(len(numbers_of(piece)) for piece in self._pieces_of(key))

    def pieces(self, target_bytes: int = PIECE_BYTES) -> list[Piece]:
        """All rows, in order, as pieces of about this many bytes of what is selected."""
        return list(self.plan(target_bytes))

    def plan(self, target_bytes: int = PIECE_BYTES) -> PiecePlan:
        """The pieces, each made when it is asked for: of a hundred thousand shards there may be millions."""
        return PiecePlan(catalog=self.catalog, facts=self._facts, view=self.view, target_bytes=target_bytes)

    @property
    def nbytes(self) -> int:
        """About how many all pieces have, without making them."""
        return int(viewed_bytes(self._facts, self.view).sum())

    def to_webdataset(self) -> "webdataset.DataPipeline":
        """A pipeline of webdataset over these shards; its own tar reading, its own methods (decode, shuffle, ...)."""
        from tarloom.read.with_webdataset import pipeline

        return pipeline(self)

    def to_ray(self, *, url: bool = False, task_bytes: int | None = None) -> "ray.data.Dataset":
        """A Ray dataset: row counts and schema without reading, tasks that split inside tars.

        Ray's select_columns and, on columns, filter(expr=...) reach what is read. url: also `__url__`, the address of a
        sample's tar. task_bytes: of a read task; by default up to 512 MiB, and at least one task a CPU.
        """
        from tarloom.read.ray.data import Blocks, to_ray

        return to_ray(self, Blocks(url=url), task_bytes=task_bytes)

    def to_spark(self, spark: "SparkSession", *, rows: "DataFrame | None" = None) -> "DataFrame":
        """A Spark data frame whose executors read the shards; nothing passes through the driver.

        rows: a data frame with the columns `__shard__` and `__key__` of a to_spark_table: only these samples are read,
        and its columns are kept beside theirs.
        """
        from tarloom.read.spark.frames import to_spark
        from tarloom.read.spark.table import fetch

        return to_spark(self, spark) if rows is None else fetch(self, rows)

    def to_spark_table(self, spark: "SparkSession") -> "DataFrame":
        """A Spark data frame of `__shard__`, `__key__` and columns, without members, for SQL before bytes are read.

        Columns as selected; without a selection all that Spark's own parquet reader reads.
        """
        from tarloom.read.spark.table import to_spark_table

        return to_spark_table(self, spark)

    @property
    def _facts(self) -> Facts:
        """Raises what keeps a shard from being opened, unless errors are not the end; then it has no rows."""
        return self.catalog.facts(tolerant=self.errors != "raise")

    def _counting(self) -> Ledger | None:
        """The ledger, in which the shards that cannot be opened are counted."""
        if self.ledger is not None and self._facts:
            for error in self.catalog.broken.values():
                self.ledger.skip(Skipped.of_file(error, rows=0))
        return self.ledger

    @cached_property
    def _picker(self) -> Picker:
        return Picker(catalog=self.catalog, facts=self._facts, view=self.view)

    def _piece_bytes(self) -> int:
        """What is read at a time is a piece, so that all of it is read ahead; not where each would open tables anew, or
        have threads decode its pictures that wait for the last of them."""
        in_one = self.catalog.storage.is_local and not (self.view.columns or self.condition or self.view.decode)
        return READ_BYTES if in_one else PIECE_BYTES

    def _read(self, read: Callable[[Piece], Iterator[Read]], piece_bytes: int) -> Iterator[Read]:
        """What is read of all pieces. The next ones are begun meanwhile, more of them where little of each is wanted;
        none where failures are counted in order."""
        pieces = self.plan(piece_bytes)
        if self.ledger is not None:
            return _one_by_one(map(read, pieces))
        if self.condition is None:
            return _one_by_one(ahead(first_part(read), pieces, threads=COPY_THREADS))
        return _one_by_one(ahead_where_it_waits(first_part(read), pieces, self.catalog.storage))

    def _pieces_of(self, key: str) -> Iterator[Piece]:
        """Each row of this key, in the dataset's order."""
        if not isinstance(key, str):
            raise TypeError(
                f"samples are asked for by their keys, which are strings, not by {key!r}; for a DataLoader give "
                "ds.to_torch(batch_size)"
            )
        facts, view = self._facts, self.view
        for shard, row in self.catalog.find(key) if is_utf8(key) else ():
            yield piece_of_rows(self.catalog, facts, view, shard=shard, rows=[row])


def _one_by_one(parts: Iterable[Iterable[Read]]) -> Iterator[Read]:
    """All of each. Of threads that share it, one too many gets a ValueError. A chain of itertools would end the
    process: it throws away an iterator that raises, though another thread is in there."""
    for part in parts:
        yield from part
