"""What became of every input row: the metadata parquet and the stats JSON, img2dataset's columns and names first."""

import dataclasses
import json
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from tarloom.errors import CorruptShard, UsageError
from tarloom.format.layout import stats_name
from tarloom.format.storage import Storage

SUCCESS = "success"
FAILED_TO_DOWNLOAD = "failed_to_download"
FAILED_TO_RESIZE = "failed_to_resize"
FAILED_TO_GENERATE = "failed_to_generate"
"""Ours: of rows of a table that pictures are made from."""
STATUSES = (SUCCESS, FAILED_TO_DOWNLOAD, FAILED_TO_RESIZE, FAILED_TO_GENERATE)

_SIZES = ("width", "height", "original_width", "original_height")


@dataclass(frozen=True, kw_only=True)
class ResultColumns:
    """The columns that say what became of a row, for the options that decide which there are."""

    exif: bool = True
    """`exif`, a JSON object."""
    digest: str | None = "sha256"
    """The kind of hash of the bytes as they came, and its column's name."""
    verified: bool = False
    """The list says what the hashes must be: then img2dataset has them before the URL."""
    picture: str | None = None
    """The column with the pictures' bytes, called by their format; None where they lie elsewhere."""

    @property
    def names(self) -> frozenset[str]:
        """What they are called."""
        return frozenset(self._before_url().names) | frozenset(self._behind_url().names)

    def around(self, url: "pa.Field[Any]") -> "list[pa.Field[Any]]":
        """These columns with the URL's, in img2dataset's order and types; then ours: `error`, the stable name of what
        went wrong, null on success."""
        return [*self._before_url(), url, *self._behind_url()]

    def _before_url(self) -> pa.Schema:
        return pa.schema([(self.digest, pa.string())] if self.digest and self.verified else [])

    def _behind_url(self) -> pa.Schema:
        columns: list[tuple[str, pa.DataType]] = [(name, pa.string()) for name in ("key", "status", "error_message")]
        columns += [(name, pa.int32()) for name in _SIZES]
        columns += [("exif", pa.string())] if self.exif else []
        columns += [(self.digest, pa.string())] if self.digest and not self.verified else []
        columns += [(self.picture, pa.binary())] if self.picture else []
        return pa.schema([*columns, ("error", pa.string())])


def metadata_schema(additional: pa.Schema, caption: bool, results: ResultColumns | None = None) -> pa.Schema:
    """The columns of a metadata parquet: additional columns, `caption` where there are captions, `url`, the rest.

    Raises UsageError for an additional column with one of these names.
    """
    own = [pa.field("caption", pa.string())] if caption else []
    own += (results or ResultColumns()).around(pa.field("url", pa.string()))
    taken = sorted({item.name for item in own} & set(additional.names))
    if taken:
        names = ", ".join(taken)
        raise UsageError(f"additional column {names}: the metadata has one of that name; leave it out, or rename it")
    return pa.schema([*additional, *own])


def successes(table: pa.Table) -> pa.Table:
    """The rows that are samples in the tar, in order."""
    import pyarrow.compute as pc  # a tenth of all that a worker loads, and it makes shards without

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
    failed_to_generate: int = 0
    """Ours: written only where there are any."""

    @property
    def by_status(self) -> dict[str, int]:
        """How many input rows ended in which way."""
        return {
            SUCCESS: self.successes,
            FAILED_TO_DOWNLOAD: self.failed_to_download,
            FAILED_TO_RESIZE: self.failed_to_resize,
            FAILED_TO_GENERATE: self.failed_to_generate,
        }

    @property
    def errors(self) -> dict[str, int]:
        """Failed rows by the name of their error, with which its message begins."""
        found: Counter[str] = Counter()
        for message, count in self.status_dict.items():
            if message != SUCCESS:
                found[message.partition(":")[0]] += count
        return dict(sorted(found.items()))


def stats_of(
    statuses: Mapping[str, int],
    messages: Mapping[str, int],
    *,
    started: float,
    identity: str | None,
    tar_size: int | None,
) -> Stats:
    """The stats of a shard that was begun at `started` and ends now.

    statuses, messages: rows by how they ended, and by "success" or what went wrong in words.
    """
    ended = time.time()
    return Stats(
        count=sum(statuses.values()),
        successes=statuses.get(SUCCESS, 0),
        failed_to_download=statuses.get(FAILED_TO_DOWNLOAD, 0),
        failed_to_resize=statuses.get(FAILED_TO_RESIZE, 0),
        failed_to_generate=statuses.get(FAILED_TO_GENERATE, 0),
        duration=ended - started,
        start_time=started,
        end_time=ended,
        status_dict=dict(sorted(messages.items())),
        identity=identity,
        tar_size=tar_size,
    )


def write_stats(storage: Storage, shard: str, stats: Stats) -> None:
    """Commit a shard's stats: the mark that it is done, hence written last."""
    found = dataclasses.asdict(stats)
    if not stats.failed_to_generate:
        del found["failed_to_generate"]
    storage.write(stats_name(shard), json.dumps(found, indent=4).encode())


def read_stats(storage: Storage, shard: str) -> Stats | None:
    """A shard's stats, None where there are none. Raises CorruptShard where they cannot be understood."""
    name = stats_name(shard)
    if storage.head(name) is None:
        return None
    try:
        found = json.loads(storage.read(name))
        stats = Stats(**{item.name: found[item.name] for item in dataclasses.fields(Stats) if item.name in found})
        if not all(isinstance(n, int) for n in (stats.count, *stats.by_status.values(), *stats.status_dict.values())):
            raise TypeError("counts are not whole numbers")
        if not all(isinstance(t, (int, float)) for t in (stats.duration, stats.start_time, stats.end_time)):
            raise TypeError("times are not numbers")
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise CorruptShard(f"{storage.describe(name)}: not a stats file ({error}); make the shard anew") from error
    return stats
