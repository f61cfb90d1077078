"""What became of every input row: the metadata parquet and the stats JSON, img2dataset's columns and names first."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tarloom.errors import CorruptShard, UsageError
from tarloom.format.layout import stats_name
from tarloom.format.storage import Storage

SUCCESS = "success"
FAILED_TO_DOWNLOAD = "failed_to_download"
FAILED_TO_RESIZE = "failed_to_resize"
STATUSES = (SUCCESS, FAILED_TO_DOWNLOAD, FAILED_TO_RESIZE)

RESULT_FIELDS: "tuple[pa.Field[Any], ...]" = (
    pa.field("key", pa.string()),
    pa.field("status", pa.string()),
    pa.field("error_message", pa.string()),
    pa.field("width", pa.int32()),
    pa.field("height", pa.int32()),
    pa.field("original_width", pa.int32()),
    pa.field("original_height", pa.int32()),
    pa.field("exif", pa.string()),
    pa.field("sha256", pa.string()),
    pa.field("error", pa.string()),
)
"""img2dataset's columns about a row, in its order and types (exif: JSON; sha256: of the bytes as they came), then
ours: `error`, the stable name of what went wrong, null on success."""


def metadata_schema(additional: pa.Schema, caption: bool) -> pa.Schema:
    """The columns of a metadata parquet: additional columns, `caption` where there are captions, `url`, the rest.

    Raises UsageError for an additional column with one of these names.
    """
    given = [pa.field("caption", pa.string())] if caption else []
    own: list[pa.Field[Any]] = [*given, pa.field("url", pa.string()), *RESULT_FIELDS]
    taken = sorted({item.name for item in own} & set(additional.names))
    if taken:
        raise UsageError(f"additional column {', '.join(taken)}: the metadata has one of that name; rename it")
    return pa.schema([*additional, *own])


def successes(table: pa.Table) -> pa.Table:
    """The rows that are samples in the tar, in order."""
    return table.filter(pc.equal(table.column("status"), pa.scalar(SUCCESS)))


@dataclass(frozen=True, kw_only=True)
class Stats:
    """A shard's counts, as its stats file holds them. Times are seconds since 1970."""

    count: int
    """Input rows."""
    successes: int
    failed_to_download: int
    failed_to_resize: int
    duration: float
    start_time: float
    end_time: float
    status_dict: Mapping[str, int] = field(default_factory=dict)
    """Rows by "success" or by error message."""
    identity: str | None = None
    """Ours: the tar's identity ("sha256:HEX"), so that an index made anew has the same."""
    tar_size: int | None = None
    """Ours: of the tar, in bytes."""

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """Input rows, and how many of them ended in which way."""
        return self.count, self.successes, self.failed_to_download, self.failed_to_resize


def write_stats(storage: Storage, shard: str, stats: Stats) -> None:
    """Commit a shard's stats: the mark that it is done, hence written last."""
    storage.write(stats_name(shard), json.dumps(dataclasses.asdict(stats), indent=4).encode())


def read_stats(storage: Storage, shard: str) -> Stats | None:
    """A shard's stats, None where there are none. Raises CorruptShard where they cannot be understood."""
    name = stats_name(shard)
    if storage.head(name) is None:
        return None
    try:
        found = json.loads(storage.read(name))
        stats = Stats(**{item.name: found[item.name] for item in dataclasses.fields(Stats) if item.name in found})
        if not all(isinstance(n, int) for n in (*stats.counts, *stats.status_dict.values())):
            raise TypeError("counts are not whole numbers")
        if not all(isinstance(t, (int, float)) for t in (stats.duration, stats.start_time, stats.end_time)):
            raise TypeError("times are not numbers")
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise CorruptShard(f"{storage.describe(name)}: not a stats file ({error}); make the shard anew") from error
    return stats
