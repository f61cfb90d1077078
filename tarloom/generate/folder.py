"""A dataset as a plain folder: each sample's picture as a file, and one parquet with a row for every input row.

    folder/KEY.png                      the pictures, bytes as they lie in the tars
    folder/metadata.parquet             metadata, what stages said, and `file_name`; written last: the folder is whole
    folder/_tarloom/folder/00000        which version of the shard its pictures are from, and their names

Pictures of a shard are written once; of one that was made anew, the old ones are deleted first. A run that is killed
leaves a folder without its parquet, and goes on from there.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tarloom.errors import ShardError, UsageError
from tarloom.format.index import KEY
from tarloom.format.layout import IMAGE_MEMBERS, PRIVATE
from tarloom.format.metadata import SUCCESS
from tarloom.format.parquet import read_footer, row_group_writer
from tarloom.format.storage import Storage, open_storage
from tarloom.process.shard_tables import rows_with_stages, versions
from tarloom.read.dataset import open_dataset, open_shards

TABLE = "metadata.parquet"
FILE = "file_name"
"""The column with the name of a row's picture, null where it has none."""
MADE_FROM = "tarloom.made_from"
"""In the footer of the table."""
BEGUN = f"{PRIVATE}/begun"
"""Written first of all: from then on the folder is this one's own."""
MARKS = f"{PRIVATE}/folder"
WRITERS = 16
"""Files written at once: each is synced, or sent, alone."""


@dataclass(frozen=True, kw_only=True)
class FolderSummary:
    """What the folder holds."""

    folder: str
    pictures: int
    rows: int
    """Of the parquet."""
    written: int
    """Pictures that this run wrote; the others were there."""


def check_folder(folder: str, dataset: Storage, rows: pa.Schema) -> None:
    """Raises UsageError where a dataset's pictures, and these columns of its rows, cannot be put into the folder.

    That is known before the dataset is there.
    """
    target = open_storage(folder)
    _check_own(target)
    if dataset.lies_in(target):
        raise UsageError(f"folder {target.url}: the shards go there, too; choose another one")
    if FILE in rows.names:
        raise UsageError(f"folder {target.url}: its table has a column {FILE} of its own; rename the prompt table's")


def write_folder(path: str, folder: str, *, stages: Sequence[str] = ()) -> FolderSummary:
    """Put a dataset's pictures, and all that is known of its rows, into a folder that is its own.

    stages: whose columns the parquet has too, as "STAGE.column". Raises UsageError where there is no dataset, or the
    folder is not its own; ShardError, StorageError.
    """
    shards, target = [shard.shard for shard in open_dataset(path).shards], open_storage(folder)
    return _Writer(path, open_storage(path), shards, target, stages).run()


class _Writer:
    def __init__(
        self, path: str, dataset: Storage, shards: Sequence[str], target: Storage, stages: Sequence[str]
    ) -> None:
        self._path, self._dataset, self._shards, self._target, self._stages = path, dataset, shards, target, stages
        self._taken = np.zeros(0, np.uint64)
        """Digests of all pictures' names, ascending: 8 bytes each, as there may be many millions."""

    def run(self) -> FolderSummary:
        self._begin()
        wanted = {shard: _digest(versions(self._dataset, shard, ())) for shard in self._shards}
        done = self._kept(wanted)
        new = [shard for shard in self._shards if shard not in done]
        if new:
            self._delete([TABLE])  # where it is, the folder is whole
        written = sum(self._write_pictures(shard, wanted[shard]) for shard in new)
        pictures = sum(len(self._mark(shard)[1]) for shard in self._shards)
        return FolderSummary(folder=self._target.url, pictures=pictures, rows=self._write_table(), written=written)

    def _begin(self) -> None:
        self._target.sweep()
        _check_own(self._target)
        if self._target.head(BEGUN) is None:
            self._target.write(BEGUN, b"")

    def _kept(self, wanted: dict[str, str]) -> set[str]:
        """The shards whose pictures are there. Those of other versions, or of shards that are gone, are deleted."""
        prefix, kept = f"{MARKS}/", set[str]()
        for name in sorted(entry.name for entry in self._target.list(MARKS)):
            shard = name.removeprefix(prefix)
            made_from, files = self._mark(shard)
            if wanted.get(shard) == made_from:
                kept.add(shard)
                self._take(files)
                continue
            self._delete([TABLE])
            self._delete(files)
            self._target.delete(name)
        return kept

    def _mark(self, shard: str) -> tuple[str, list[str]]:
        """What a shard's pictures were made from, and their names."""
        made_from, *files = json.loads(self._target.read(f"{MARKS}/{shard}"))
        outside = next((name for name in files if not _can_be_file(name)), None)  # whoever made the folder wrote this
        if outside is not None:
            where = self._target.describe(f"{MARKS}/{shard}")
            raise UsageError(f"{where}: names {outside}, which is no picture of the folder; choose another folder")
        return made_from, files

    def _delete(self, names: Sequence[str]) -> None:
        with ThreadPoolExecutor(WRITERS) as pool:
            list(pool.map(self._target.delete, (name for name in names if self._target.head(name) is not None)))

    def _write_pictures(self, shard: str, made_from: str) -> int:
        """Put them there, then their mark; how many there are."""
        dataset, names = open_shards(self._path, [shard]), list[str]()
        members = [name for name in IMAGE_MEMBERS if name in dataset.members]
        with ThreadPoolExecutor(WRITERS, thread_name_prefix="folder") as pool:
            for batch in dataset.select(*members).batches(WRITERS * 4):
                files = dict(_pictures(batch, self._dataset.describe(shard)))
                self._check_free(shard, list(files))
                list(pool.map(self._target.write, files.keys(), files.values()))
                names += files
        self._target.write(f"{MARKS}/{shard}", json.dumps([made_from, *names]).encode())
        self._take(names)
        return len(names)

    def _take(self, names: Sequence[str]) -> None:
        new = np.sort(_digests(names))
        self._taken = np.insert(self._taken, np.searchsorted(self._taken, new), new)

    def _check_free(self, shard: str, names: Sequence[str]) -> None:
        """Raises ShardError where another shard has a picture of such a name: shards may share keys, files cannot."""
        digests = _digests(names)
        first, last = (np.searchsorted(self._taken, digests, side=side) for side in ("left", "right"))
        for number in np.flatnonzero(first < last).tolist():  # nearly always another's; digests may be equal by chance
            if other := self._owner(names[number]):
                raise ShardError(
                    f"{self._dataset.describe(shard)}: shard {other} has a picture {names[number]}, too; for a folder "
                    "give the rows of one of them other keys"
                )

    def _owner(self, name: str) -> str | None:
        """The shard whose picture it is."""
        marks = (entry.name.removeprefix(f"{MARKS}/") for entry in self._target.list(MARKS))
        return next((shard for shard in marks if name in self._mark(shard)[1]), None)

    def _write_table(self) -> int:
        """Unless it is there, made from these versions; how many rows it has."""
        every = (version for shard in self._shards for version in versions(self._dataset, shard, self._stages))
        made_from = _digest([repr(tuple(self._stages)), *every])
        if self._target.head(TABLE) is not None:
            footer, rows = read_footer(self._target, TABLE)
            if footer.get(MADE_FROM) == made_from:
                return rows
        rows, tables = 0, map(self._rows, self._shards)
        first = next(tables)
        schema = first.schema.with_metadata({MADE_FROM: made_from})
        with row_group_writer(self._target, TABLE, schema, unlike=["key", FILE]) as write:
            for table in (first, *tables):
                write(table.cast(schema))
                rows += table.num_rows
        return rows

    def _rows(self, shard: str) -> pa.Table:
        table = rows_with_stages(self._dataset, shard, self._stages)
        if FILE in table.column_names:
            raise UsageError(f"{self._dataset.url}: the column {FILE} is already there; rename it in the prompt table")
        files = {name.rpartition(".")[0]: name for name in self._mark(shard)[1]}
        told = zip(table.column("key").to_pylist(), table.column("status").to_pylist(), strict=True)
        names = [files.get(str(key)) if status == SUCCESS else None for key, status in told]
        return table.append_column(FILE, pa.array(names, pa.string()))


def _check_own(target: Storage) -> None:
    """Raises UsageError for a folder with other things in it."""
    if target.head(BEGUN) is None and any(True for _ in target.list()):
        raise UsageError(f"folder {target.url}: there is something else in it; choose an empty one")


def _pictures(batch: pa.RecordBatch, where: str) -> Iterator[tuple[str, bytes]]:
    """Of each sample that has one: its file's name, and its bytes."""
    for row in batch.to_pylist():
        key, name = row[KEY], next((name for name in batch.schema.names[1:] if row[name] is not None), None)
        if name is not None:
            if not _can_be_file(key):
                raise ShardError(f"{where}: the key {key!r} cannot be a file in the folder; give its row another one")
            yield f"{key}.{name}", row[name]


def _can_be_file(name: str) -> bool:
    """Whether a picture in the folder may be called so."""
    return all(part.strip(".") for part in name.split("/")) and name.partition("/")[0] != PRIVATE


def _digest(versions: Iterator[str] | Sequence[str]) -> str:
    return hashlib.sha256("".join(versions).encode()).hexdigest()


def _digests(names: Sequence[str]) -> npt.NDArray[np.uint64]:
    """8 bytes of each."""
    return np.frombuffer(b"".join(hashlib.sha256(name.encode()).digest()[:8] for name in names), np.uint64)
