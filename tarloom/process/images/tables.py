"""Tables of a run: its shards with all that stages said about them, joined, as parquet files of many rows.

Every input row is there, in input order, whatever became of it. A file is written when the last of its shards is
processed, and again where one of them has changed since: what it was made from is noted beside the shards.
"""

import hashlib
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event
from typing import Self

import pyarrow as pa

from tarloom.errors import EngineError
from tarloom.format.index import KEY
from tarloom.format.layout import PRIVATE
from tarloom.format.parquet import row_group_writer
from tarloom.format.storage import Storage
from tarloom.process.shard_tables import beside, rows_with_stages, versions
from tarloom.read.dataset import open_shards

NOTES = f"{PRIVATE}/tables"
"""Where it is noted, beside the shards, what files are made from."""
_FILE = re.compile(r"part-(\d{5,})\.parquet")


@dataclass(frozen=True, kw_only=True)
class Tables:
    """What the files of a run hold, and where they lie."""

    shards: Storage
    """The dataset that they are made from."""
    storage: Storage
    stages: tuple[str, ...]
    member: str | None
    """The pictures' extension; None to leave them out."""

    def begin(self, files: "Files") -> None:
        """Remove what an earlier run wrote beyond the last file, and all it wrote where it cut shards into others.

        That is done before a file is written: rows would be in two of them, or stay there twice.
        """
        cut, note = str(files.shards_per_file).encode(), f"{NOTES}/shards_per_file"
        is_same = self.shards.head(note) is not None and self.shards.read(note) == cut
        written = [int(found[1]) for entry in self.storage.list() if (found := _FILE.fullmatch(entry.name))]
        for number in written:
            if number >= len(files) or not is_same:
                self.storage.delete(table_name(number))
                self.shards.delete(f"{NOTES}/{number:05d}")
        self.shards.write(note, cut)

    def write(self, number: int, shards: Sequence[str], stopped: Event) -> None:
        """Commit file `number`, of these shards, unless it is there already. Raises EngineError when it is stopped."""
        name, note, made_from = table_name(number), f"{NOTES}/{number:05d}", self._made_from(shards)
        if self.storage.head(name) and self.shards.head(note) and self.shards.read(note) == made_from:
            return
        tables = map(self._joined, shards)
        first = next(tables)
        with row_group_writer(self.storage, name, first.schema, unlike=[self.member or ""]) as write:
            for table in itertools.chain([first], tables):
                if stopped.is_set():
                    raise EngineError(f"{self.storage.describe(name)}: stopped; run the same command again")
                write(table)
        self.shards.write(note, made_from)

    def _joined(self, shard: str) -> pa.Table:
        """A shard's rows, their pictures too if these are wanted."""
        table = rows_with_stages(self.shards, shard, self.stages)
        return table if self.member is None else beside(table, self._pictures(shard, self.member))

    def _pictures(self, shard: str, member: str) -> pa.Table:
        dataset = open_shards(self.shards.url, [shard])
        types: dict[str, pa.DataType] = {KEY: pa.string(), member: pa.binary()}
        schema = pa.schema(types)
        if member not in dataset.catalog.members():
            return schema.empty_table()
        batches = dataset.select(member).batches()
        return pa.Table.from_batches([batch.select(schema.names).cast(schema) for batch in batches], schema)

    def _made_from(self, shards: Sequence[str]) -> bytes:
        """A digest of the versions of all files that a table is made from."""
        digest = hashlib.sha256(repr((self.stages, self.member)).encode())
        for shard in shards:
            for version in versions(self.shards, shard, self.stages):
                digest.update(version.encode())
        return digest.hexdigest().encode()


class Files:
    """Which shards make which file, and which files can be written now: those all of whose shards are processed."""

    def __init__(self, shards: Sequence[str], *, rows_per_shard: int, rows_per_file: int) -> None:
        self.shards_per_file = many = max(1, rows_per_file // rows_per_shard)
        self._files = [tuple(shards[first : first + many]) for first in range(0, len(shards), many)]
        self._place = {shard: number for number, file in enumerate(self._files) for shard in file}
        self._missing = [len(file) for file in self._files]

    def __len__(self) -> int:
        return len(self._files)

    def with_shard(self, shard: str) -> Iterator[tuple[int, tuple[str, ...]]]:
        """The file that can be written now that this shard is processed, if there is one: its number and its shards."""
        number = self._place[shard]
        self._missing[number] -= 1
        if not self._missing[number]:
            yield number, self._files[number]


class TableWriter:
    """Writes files in a thread of its own, one after the other, as their last shards are processed.

    Use it in a `with` block: where that ends early, the file under way is left out.
    """

    def __init__(self, tables: Tables, files: Files) -> None:
        self._tables, self._files = tables, files
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tarloom-tables")
        self._stopped = Event()
        self._stages_left: dict[str, frozenset[str]] = {}
        self._writing: list[Future[None]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self._stopped.set()
        self._thread.shutdown(cancel_futures=True)

    def add(self, shard: str, stages: Iterable[str]) -> None:
        """These stages are through with a shard. Raises what kept an earlier file from being written."""
        before = self._stages_left.get(shard, frozenset(self._tables.stages))
        left = self._stages_left[shard] = before.difference(stages)
        if before and not left:
            for number, shards in self._files.with_shard(shard):
                self._writing.append(self._thread.submit(self._tables.write, number, shards, self._stopped))
        for future in self._writing:
            if future.done():
                future.result()

    def finish(self) -> int:
        """Wait for the last file; how many there are. Raises what kept one from being written."""
        for future in self._writing:
            future.result()
        return len(self._writing)


def table_name(number: int) -> str:
    return f"part-{number:05d}.parquet"
