"""The catalogue: what the indexes of a dataset say in brief, one row a shard, so that none need be looked at again.

It is a cache beside the truth. A row is believed only for a tar of the name, the size and the version (ETag, or time of
last change) that it names. Openings write it, never those who make shards: it tells times, and the same input must give
the same files. It lies in the dataset's folder or, where that cannot be written, where its indexes are kept too.
"""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any, Final, cast

import pyarrow as pa
import pyarrow.compute as pc

from tarloom.errors import CorruptShard, StorageError
from tarloom.format.arrow_types import Array
from tarloom.format.index import ShardIndex
from tarloom.format.index_load import places
from tarloom.format.layout import CATALOG
from tarloom.format.parquet import FORMAT_VERSION, read_table, write_table
from tarloom.format.storage import Entry, Storage

_FIELDS: "list[pa.Field[Any]]" = [
    pa.field("tar", pa.string(), nullable=False),
    pa.field("size", pa.int64(), nullable=False),
    pa.field("version", pa.string()),
    pa.field("identity", pa.string(), nullable=False),
    pa.field("rows", pa.int64(), nullable=False),
    pa.field("members", pa.map_(pa.string(), pa.int64()), nullable=False),
    pa.field("least_key", pa.string()),
    pa.field("greatest_key", pa.string()),
]
SCHEMA: Final = pa.schema(_FIELDS)
"""`members`: bytes of all members of each extension. The least and the greatest key, by their UTF-8, are null where
there is no sample."""
_FOOTER: Final = {"tarloom.format_version": FORMAT_VERSION, "tarloom.kind": "catalog"}


def catalog_row(tar: Entry, index: ShardIndex | None) -> dict[str, Any]:
    """The row of a shard; where it has no index that can be made, one without samples."""
    row: dict[str, Any] = {"tar": tar.name, "size": tar.size, "version": tar.version}
    if index is None:
        return row | {"identity": "", "rows": 0, "members": []}
    keys: dict[str, str | None] = cast(Any, pc.min_max(index.keys)).as_py()
    members = [(extension, pc.sum(index.sizes(extension)).as_py() or 0) for extension in index.extensions]
    row |= {"identity": index.identity, "rows": index.rows, "members": members}
    return row | {"least_key": keys["min"], "greatest_key": keys["max"]}


def current_rows(stored: pa.Table, tars: Iterable[Entry]) -> Array:
    """Which row of a catalogue is each of these tars', null where none is of its present size and version."""
    fields = ("tar", "size", "version")
    listed = [(tar.name, tar.size, tar.version) for tar in tars]
    now = pa.table(dict(zip(fields, zip(*listed, strict=True), strict=True)), pa.schema(map(SCHEMA.field, fields)))
    places: Array = pc.index_in(_stamps(now), value_set=_stamps(stored)).cast(pa.int64())
    return places


def read_catalog(storage: Storage) -> pa.Table:
    """All rows that are kept, of whatever age. What cannot be read is as good as absent: nothing is raised for it."""
    return pa.concat_tables([SCHEMA.empty_table(), *_kept(storage)])


def known_tars(storage: Storage) -> list[str]:
    """The names of all tars that were there when the catalogue was written, sorted."""
    for place in places(storage):
        with contextlib.suppress(CorruptShard, StorageError):
            names: list[Any] = read_table(place, CATALOG, ["tar"], texts=["tar"])["tar"].to_pylist()
            return sorted(filter(None, names))
    return []


def write_catalog(storage: Storage, table: pa.Table) -> None:
    """Keep it where there is a place to; the last writer wins."""
    for place in places(storage):
        with contextlib.suppress(StorageError):
            write_table(place, CATALOG, table, _FOOTER)
            break


def forget_catalog(storage: Storage) -> None:
    """Remove it where it turned out to be wrong."""
    for place in places(storage):
        with contextlib.suppress(StorageError):
            place.delete(CATALOG)


def has_sound_catalog(storage: Storage) -> bool:
    """Whether the dataset's own one can be used; it may be behind the shards all the same."""
    try:
        _read(storage)
    except CorruptShard:
        return False
    return True


def _kept(storage: Storage) -> Iterator[pa.Table]:
    for place in places(storage):
        with contextlib.suppress(CorruptShard, StorageError):
            yield _read(place)


def _read(place: Storage) -> pa.Table:
    table = read_table(place, CATALOG)
    footer = table.schema.metadata or {}
    table = table.replace_schema_metadata(None)
    is_ours = all(footer.get(name.encode()) == value.encode() for name, value in _FOOTER.items())
    if is_ours and table.schema.equals(SCHEMA) and _is_sound(table):
        return table
    raise CorruptShard(f"{place.describe(CATALOG)}: not a catalogue of this version; delete it: it is made anew")


def _is_sound(table: pa.Table) -> bool:
    """Whether all that is counted is there, and can be a count."""
    members: Any = cast(Any, table["members"].combine_chunks()).items
    counts: list[Any] = [table["size"], table["rows"], members]
    return members.null_count == 0 and all((pc.min(count).as_py() or 0) >= 0 for count in counts)


def _stamps(table: pa.Table) -> Any:
    """What a row is found by: a tar's name, size and version in one text."""
    columns: list[Any] = [table["tar"], table["size"].cast(pa.string()), cast(Any, table["version"]).fill_null("")]
    stamps: Any = pc.binary_join_element_wise(*columns, "\n")
    return stamps.combine_chunks()
