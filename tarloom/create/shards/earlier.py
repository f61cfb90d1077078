"""What earlier runs made of a shard: its samples are taken over, and failures that are to stand; the rest is fetched.

    a shard that was left before it was done: the samples of the tar, if that is in its place
    a finished shard whose failed rows are tried again: its samples, and the rows that failed in other ways

A sample is taken over whole. Its json says all that the metadata has about it, so that the shard that is made from it
has the same bytes as one of a run that fetched everything.
"""

import asyncio
import contextlib
import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from tarloom.create.config import CreateConfig
from tarloom.create.rows import EncodedPicture, FetchedBytes, Row
from tarloom.create.shards.results import PICTURE_COLUMNS, RowResult
from tarloom.create.shards.shard_files import result_columns
from tarloom.create.tasks import Earlier, PackTask
from tarloom.create.texts import times_as_text
from tarloom.create.web.transient import may_pass
from tarloom.errors import CorruptShard, FetchError, ImageError, RowError
from tarloom.format.index import ShardIndex
from tarloom.format.index_load import load_index, scan_index
from tarloom.format.layout import metadata_name, stats_name, tar_name
from tarloom.format.metadata import FAILED_TO_DOWNLOAD, SUCCESS, ResultColumns, successes
from tarloom.format.parquet import read_table
from tarloom.format.storage import Entry, Storage
from tarloom.format.storage.streams import open_stream

Known = Callable[[int, Row], int | RowResult | None]
"""What is known of the row in a place: the number of its sample in the tar, a failure that stands, or nothing."""


class EarlierShard:
    """Gives results of earlier runs; close it after use."""

    def __init__(self, storage: Storage, config: CreateConfig, index: ShardIndex, known: Known | None) -> None:
        self._config = config
        self._index = index
        self._known = known or self._next_of_url
        self._next = 0
        self._results = result_columns(config)
        self._tar = open_stream(storage, Entry(name=tar_name(index.shard), size=index.size))
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="earlier")
        """One thread: what is asked for in order is then read in order."""

    def close(self) -> None:
        self._reader.shutdown(cancel_futures=True)
        self._tar.close()

    async def result(self, place: int, row: Row) -> RowResult | None:
        """What became of the row in this place; None where it is to be fetched. To be asked in the order of the rows.

        Raises ShardError, StorageError.
        """
        return await asyncio.get_running_loop().run_in_executor(self._reader, self._result, place, row)

    def _result(self, place: int, row: Row) -> RowResult | None:
        found = self._known(place, row)
        return self._sample(row, found) if isinstance(found, int) else found

    def _next_of_url(self, place: int, row: Row) -> int | None:
        """Where keys come from content, a row's is not known before it is fetched; but samples are in their order."""
        if row.error or self._next == self._index.rows:
            return None
        fields = json.loads(self._read("json", self._next) or b"{}")
        if fields.get("url") != row.url:
            return None
        self._next += 1
        return self._next - 1

    def _sample(self, row: Row, number: int) -> RowResult:
        members = {extension: self._read(extension, number) for extension in self._index.extensions}
        found = {extension: data for extension, data in members.items() if data is not None}
        try:
            fields = json.loads(found.pop("json"))
            data = found.pop(self._config.images.encode_format)
        except (KeyError, ValueError) as error:
            raise _unsound(self._index.shard, f"sample {number} lacks its picture or json") from error
        found.pop("txt", None)
        kept = FetchedBytes(data=b"", columns=_other_columns(fields, row, self._results), members=found, fields=fields)
        picture = EncodedPicture(data=data, **{name: fields.get(name) for name in PICTURE_COLUMNS})
        if self._config.lists.key_from == "content":
            kept = replace(kept, key=fields["key"])
        return RowResult(row=row, fetched=kept, picture=picture, digest=fields.get(self._results.digest or ""))

    def _read(self, extension: str, number: int) -> bytes | None:
        offset, size = self._index.offsets(extension)[number].as_py(), self._index.sizes(extension)[number].as_py()
        if offset is None:
            return None
        self._tar.seek(offset)
        return self._tar.read(size)


Found = tuple[ShardIndex, Known | None]


@contextlib.contextmanager
def open_earlier(storage: Storage, config: CreateConfig, found: Found | None) -> Iterator[EarlierShard | None]:
    """What `find_earlier` has found, to be asked for results."""
    if found is None:
        yield None
        return
    with contextlib.closing(EarlierShard(storage, config, *found)) as earlier:
        yield earlier


def find_earlier(storage: Storage, config: CreateConfig, task: PackTask) -> Found | None:
    """What there is of a shard that is to be made; None where there is nothing that could be taken over. It is looked
    for whenever a shard is begun: another worker may have been at it, in this run too.

    Raises ShardError where a finished shard is not as it should be: it is left alone.
    """
    tar = storage.head(tar_name(task.shard)) if config.sharding.output_format == "webdataset" else None
    if tar is None:
        return None
    if task.earlier != "samples" and storage.head(stats_name(task.shard)) is not None:
        index = load_index(storage, task.shard, tar)
        return index, _of_finished(storage, config, index, task)
    # Not done, or not any more, since this run has been at it already: the index may be that of another tar.
    try:
        index = scan_index(storage, task.shard)
    except CorruptShard:  # is made anew
        return None
    return index, None if config.lists.key_from == "content" else _of_tar(index)


def _of_tar(index: ShardIndex) -> Known:
    """Of a shard without metadata: its samples, by their keys."""
    numbers = {key: number for number, key in enumerate(index.keys.to_pylist())}
    return lambda place, row: None if row.error else numbers.get(row.key)


def _of_finished(storage: Storage, config: CreateConfig, index: ShardIndex, task: PackTask) -> Known:
    """Of a finished shard: its samples, and the failures that stand."""
    table = times_as_text(read_table(storage, metadata_name(index.shard)))
    statuses, names = table.column("status").to_pylist(), table.column("error").to_pylist()
    keys = successes(table).column("key").to_pylist()
    if len(statuses) != task.rows.num_rows or keys != index.keys.to_pylist():
        raise _unsound(index.shard, "its metadata does not fit its tar, or the source")
    ends = list(itertools.accumulate(status == SUCCESS for status in statuses))
    results = result_columns(config)

    def known(place: int, row: Row) -> int | RowResult | None:
        name = names[place]
        if statuses[place] == SUCCESS:
            return ends[place] - 1
        if name is None or is_tried_again(name, task.earlier):
            return None
        (values,) = table.slice(place, 1).to_pylist()
        fetched = FetchedBytes(data=b"", columns=_other_columns(values, row, results))
        return RowResult(row=row, fetched=fetched, error=_error(values))

    return known


def is_tried_again(name: str, earlier: Earlier) -> bool:
    """Whether a row that failed with this error is fetched again."""
    return earlier == "all" or may_pass(name)


def _error(values: Mapping[str, Any]) -> RowError:
    kind = FetchError if values["status"] == FAILED_TO_DOWNLOAD else ImageError
    return kind(values["error"], values["error_message"].removeprefix(f"{values['error']}: "))


def _other_columns(values: Mapping[str, Any], row: Row, results: ResultColumns) -> dict[str, Any]:
    """What was found beside the picture: neither the source's columns nor those of results."""
    known = results.names | row.columns.keys()
    return {name: value for name, value in values.items() if name not in known and value is not None}


def _unsound(shard: str, problem: str) -> CorruptShard:
    return CorruptShard(f"shard {shard}: {problem}; its rows cannot be tried again: run tarloom verify")
