"""The files of one shard, written in input order and committed one after the other: tar, metadata, index, stats."""

import json
import time
from collections import Counter
from dataclasses import dataclass
from typing import IO, Any

import pyarrow as pa

from tarloom.create.rows import Fetched, Picture, Row
from tarloom.engines.base import Report
from tarloom.errors import FetchError, RowError
from tarloom.format.index import IndexBuilder, write_index
from tarloom.format.layout import metadata_name
from tarloom.format.metadata import FAILED_TO_DOWNLOAD, FAILED_TO_RESIZE, SUCCESS, Stats, write_stats
from tarloom.format.parquet import write_table
from tarloom.format.storage import Storage
from tarloom.format.tar_writer import TarWriter


@dataclass(frozen=True, kw_only=True)
class RowResult:
    """What became of a row: a picture, or the error that it failed with."""

    row: Row
    fetched: Fetched | None = None
    """Without its data: only what lay beside the picture."""
    picture: Picture | None = None
    sha256: str | None = None
    """Of the bytes as they were fetched."""
    error: RowError | None = None

    @property
    def status(self) -> str:
        """img2dataset's word for it."""
        if self.error is None:
            return SUCCESS
        return FAILED_TO_DOWNLOAD if isinstance(self.error, FetchError) else FAILED_TO_RESIZE


class ShardFiles:
    """Takes results in input order, one for each of `rows`. The tar is open while they come; `commit` writes what
    follows it. What the source says of its rows goes into the metadata as it is, whatever its type."""

    def __init__(self, file: IO[bytes], *, shard: str, rows: pa.Table, schema: pa.Schema, image_extension: str) -> None:
        self._tar = TarWriter(file)
        self._shard = shard
        self._rows = rows
        self._schema = schema
        self._image_extension = image_extension
        self._index = IndexBuilder(shard)
        self._columns: dict[str, list[Any]] = {name: [] for name in schema.names if name not in rows.column_names}
        self._statuses: Counter[str] = Counter()
        self._messages: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
        self._bytes = 0
        self._started = time.time()

    def add(self, result: RowResult) -> None:
        """Append a row to the metadata and, if it succeeded, a sample to the tar."""
        values = self._values(result)
        for name, column in self._columns.items():
            column.append(values[name])
        self._statuses[result.status] += 1
        self._messages[SUCCESS if result.error is None else str(result.error)] += 1
        if result.error is not None:
            self._errors[result.error.name] += 1
        for extension, data in sorted(self._members(result, values).items()):
            offset = self._tar.add(f"{result.row.key}.{extension}", data)
            self._index.add(result.row.key, extension, offset, len(data))
            self._bytes += len(data)

    def end_tar(self) -> None:
        """Write the archive's end; the tar can be committed."""
        self._tar.close()

    def commit(self, storage: Storage) -> Report:
        """Write metadata, index and, last, stats: with these the shard is done. The tar must be in its place."""
        identity = f"sha256:{self._tar.sha256}"
        write_table(storage, metadata_name(self._shard), self._metadata())
        write_index(storage, self._index.finish(self._shard, self._tar.size, identity))
        ended = time.time()
        stats = Stats(
            count=self._statuses.total(),
            successes=self._statuses[SUCCESS],
            failed_to_download=self._statuses[FAILED_TO_DOWNLOAD],
            failed_to_resize=self._statuses[FAILED_TO_RESIZE],
            duration=ended - self._started,
            start_time=self._started,
            end_time=ended,
            status_dict=dict(sorted(self._messages.items())),
            identity=identity,
            tar_size=self._tar.size,
        )
        write_stats(storage, self._shard, stats)
        return Report(
            shard=self._shard,
            rows=stats.count,
            successes=stats.successes,
            errors=dict(sorted(self._errors.items())),
            bytes=self._bytes,
            seconds=stats.duration,
        )

    def _metadata(self) -> pa.Table:
        given = {name: self._rows.column(name) for name in self._schema.names if name not in self._columns}
        return pa.table({**given, **self._columns}, schema=self._schema)

    def _values(self, result: RowResult) -> dict[str, Any]:
        """The metadata row, in the order of its columns."""
        picture, fetched = result.picture, result.fetched
        found: dict[str, Any] = {
            **result.row.columns,
            **(fetched.columns if fetched else {}),
            "key": result.row.key,
            "status": result.status,
            "error_message": None if result.error is None else str(result.error),
            "sha256": result.sha256,
            "error": None if result.error is None else result.error.name,
        }
        if picture is not None:
            found |= {name: getattr(picture, name) for name in _PICTURE_COLUMNS}
        return {name: found.get(name) for name in self._schema.names}

    def _members(self, result: RowResult, values: dict[str, Any]) -> dict[str, bytes]:
        """The sample's files by extension; none where the row failed."""
        if result.picture is None:
            return {}
        fetched = result.fetched
        members = dict(fetched.members) if fetched else {}
        fields = {**(fetched.fields if fetched else {}), **values}
        members["json"] = json.dumps(fields, ensure_ascii=False, default=_plain).encode("utf-8", "replace")
        if values.get("caption"):
            members["txt"] = values["caption"].encode()
        return members | {self._image_extension: result.picture.data}


_PICTURE_COLUMNS = ("width", "height", "original_width", "original_height", "exif")


def _plain(value: object) -> object:
    """A value of a parquet column that JSON has no form for, as text."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
