"""What became of a shard's rows: their metadata, the members of their samples, and how many ended in which way."""

import json
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from tarloom.create.rows import EncodedPicture, FetchedBytes, Row
from tarloom.engines.base import Report
from tarloom.errors import CorruptShard, FetchError, GenerateError, RowError
from tarloom.format.metadata import (
    FAILED_TO_DOWNLOAD,
    FAILED_TO_GENERATE,
    FAILED_TO_RESIZE,
    SUCCESS,
    ResultColumns,
    Stats,
    read_stats,
    stats_of,
)
from tarloom.format.storage import Storage


@dataclass(frozen=True, kw_only=True)
class RowResult:
    """What became of a row: a picture, or the error that it failed with."""

    row: Row
    fetched: FetchedBytes | None = None
    """Without its data: only what lay beside the picture."""
    picture: EncodedPicture | None = None
    digest: str | None = None
    """The hash of the bytes as they were fetched, of the kind that was asked for."""
    error: RowError | None = None

    @property
    def status(self) -> str:
        """img2dataset's word for it."""
        return SUCCESS if self.error is None else failure_status(self.error)


def failure_status(error: RowError) -> str:
    """The metadata's word for a row that failed with this error: img2dataset's, where it has one."""
    kinds = {FetchError: FAILED_TO_DOWNLOAD, GenerateError: FAILED_TO_GENERATE}
    return next((status for kind, status in kinds.items() if isinstance(error, kind)), FAILED_TO_RESIZE)


def report_of(shard: str, stats: Stats, *, bytes: int = 0, skipped: bool = False) -> Report:
    """The counts of a shard as the run has them. skipped: an earlier run made it."""
    return Report(
        shard=shard,
        rows=stats.count,
        successes=stats.successes,
        errors=stats.errors,
        bytes=bytes,
        seconds=0.0 if skipped else stats.duration,
        skipped=skipped,
    )


def earlier_report(storage: Storage, shard: str) -> Report | None:
    """Of a shard that an earlier run made, by its stats; None where these are not there, or not sound."""
    try:
        stats = read_stats(storage, shard)
    except CorruptShard:
        return None
    return None if stats is None else report_of(shard, stats, skipped=True)


class MetadataRows:
    """Takes results in input order, one for each of `rows`. What the source says of its rows goes into the metadata as
    it is, whatever its type."""

    def __init__(self, rows: pa.Table, schema: pa.Schema, results: ResultColumns) -> None:
        self._rows = rows
        self._schema = schema
        self._results = results
        self._found = results.names
        self._columns: dict[str, list[Any]] = {
            name: [] for name in schema.names if name in self._found or name not in rows.column_names
        }
        self._taken = 0
        self._statuses: Counter[str] = Counter()
        self._messages: Counter[str] = Counter()
        self._started = time.time()

    def add(self, result: RowResult) -> dict[str, Any]:
        """Note a result. Returns its row of the metadata, in the order of the columns."""
        values = self._values(result)
        for name, column in self._columns.items():
            column.append(values[name])
        self._statuses[result.status] += 1
        self._messages[SUCCESS if result.error is None else str(result.error)] += 1
        return values

    def take(self) -> pa.Table:
        """The metadata of the results since the last call."""
        count = self._statuses.total() - self._taken
        given = {name: self._rows.column(name) for name in self._schema.names if name not in self._columns}
        given = {name: column.slice(self._taken, count) for name, column in given.items()}
        table = pa.table({**given, **self._columns}, schema=self._schema)
        self._columns = {name: [] for name in self._columns}
        self._taken += count
        return table

    def stats(self, *, identity: str | None, tar_size: int | None) -> Stats:
        """The counts, as the stats file has them; of a tar, its identity and size."""
        return stats_of(self._statuses, self._messages, started=self._started, identity=identity, tar_size=tar_size)

    def _values(self, result: RowResult) -> dict[str, Any]:
        fetched, error = result.fetched, result.error
        given = {**result.row.columns, **(fetched.columns if fetched else {})}
        found: dict[str, Any] = {
            "key": result.row.key,
            "status": result.status,
            "error_message": None if error is None else str(error),
            "error": None if error is None else error.name,
        }
        if self._results.digest:
            found[self._results.digest] = result.digest
        if result.picture is not None:
            found |= {name: getattr(result.picture, name) for name in PICTURE_COLUMNS}
            if self._results.picture:
                found[self._results.picture] = result.picture.data
        return {name: (found if name in self._found else given).get(name) for name in self._schema.names}


def members_of(result: RowResult, values: dict[str, Any], extension: str) -> dict[str, bytes]:
    """The files of a row's sample by their extension, `extension` being the picture's; none where the row failed.

    values: its metadata. Where the source has captions, there is a txt, empty where this row's caption is null.
    """
    if result.picture is None:
        return {}
    fetched = result.fetched or FetchedBytes(data=b"")
    members = dict(fetched.members)
    members["json"] = json.dumps({**fetched.fields, **values}, ensure_ascii=False, default=_plain).encode(
        "utf-8", "replace"
    )
    if "caption" in values and ("caption" in result.row.columns or "caption" in fetched.columns):
        members["txt"] = (values["caption"] or "").encode()
    return members | {extension: result.picture.data}


PICTURE_COLUMNS = ("width", "height", "original_width", "original_height", "exif")


def _plain(value: object) -> object:
    """A value of a parquet column that JSON has no form for, as text."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
