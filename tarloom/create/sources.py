"""Where the rows come from: a folder of pictures or URL lists, as one stream of tables cut where the shards are.

The process that plans reads the source once, front to back, and sends every shard's rows to the worker that makes it:
compressed lists need no seeking, and workers need no access to the list.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import pyarrow as pa

from tarloom.create.config import CreateConfig
from tarloom.create.folder import PICTURES, PictureFolder
from tarloom.create.inputs import InputFile, digest, find_files, outside
from tarloom.create.list_reader import ListReader
from tarloom.create.lists import open_reader
from tarloom.errors import UsageError

LIST_FORMATS = ("txt", "csv", "tsv", "json", "jsonl", "parquet")


class Source(Protocol):
    """Rows in a fixed order. A table has the columns `url`, `caption` where there are captions, and additional ones;
    those of `tarloom.create.columns` where they apply, and the names of the files beside the pictures."""

    @property
    def has_captions(self) -> bool: ...

    def fingerprint(self) -> str:
        """What the source holds, as "sha256:HEX": equal for equal rows, whatever the files are called."""
        ...

    def scan(self) -> tuple[int, pa.Schema]:
        """One pass over it all: the number of rows, and the additional columns. Raises UsageError."""
        ...

    def tables(self, additional: pa.Schema, start: int) -> Iterator[pa.Table]:
        """The rows from row `start`, in tables of at most some ten thousand."""
        ...


class UrlLists:
    """One or more URL lists of one format, one after the other."""

    def __init__(self, files: Sequence[InputFile], reader: ListReader) -> None:
        self._files = files
        self._reader = reader

    @property
    def has_captions(self) -> bool:
        return "caption" in self._reader.texts

    def fingerprint(self) -> str:
        return digest(self._files)

    def scan(self) -> tuple[int, pa.Schema]:
        return self._reader.scan(self._files)

    def tables(self, additional: pa.Schema, start: int) -> Iterator[pa.Table]:
        return self._reader.tables(self._files, additional, start)


def open_source(config: CreateConfig) -> Source:
    """The source that the options name. Raises UsageError where there is none, or it is of no known kind."""
    files, is_folder = find_files(config.source)
    if is_folder:
        files = outside(files, config.output)
    wanted = config.lists.input_format
    pictures = any(file.extension in PICTURES for file in files)
    if is_folder and (wanted == "images" or (wanted == "auto" and pictures)):
        return PictureFolder(files)
    if wanted == "images":
        raise UsageError(f"source {config.source}: input_format images needs a folder")
    if wanted != "auto" and not is_folder:
        return UrlLists(files, open_reader(wanted, config.lists))
    lists = [file for file in files if file.extension in (LIST_FORMATS if wanted == "auto" else (wanted,))]
    return UrlLists(lists, open_reader(_format_of(lists, config.source), config.lists))


def cut(tables: Iterable[pa.Table], position: int, ranges: Iterable[tuple[int, int]]) -> Iterator[pa.Table]:
    """The rows of each range (first row, row behind the last), one table a range.

    position: the row number that `tables` begin with. ranges: ascending, apart from each other.
    Raises UsageError where the rows end too early: the source has changed.
    """
    held: list[pa.Table] = []
    stream = iter(tables)
    end = position
    for first, last in ranges:
        while end < last:
            table = next(stream, None)
            if table is None:
                raise UsageError(f"the source ends at row {end}, but {last} were planned; it has changed meanwhile")
            held.append(table)
            end += table.num_rows
            if end <= first:
                held, position = [], end
        whole = pa.concat_tables(held)
        yield _alone(whole.slice(first - position, last - first))
        held, position = [whole.slice(last - position)], last


def _alone(rows: pa.Table) -> pa.Table:
    """A copy of a slice: the slice itself would take all that it is cut from along, to wherever it is sent."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as stream:
        stream.write_table(rows)
    return pa.ipc.open_stream(sink.getvalue()).read_all()


def _format_of(files: Sequence[InputFile], source: str) -> str:
    formats = sorted({file.extension for file in files})
    if not formats:
        raise UsageError(f"source {source}: neither pictures nor URL lists ({', '.join(LIST_FORMATS)}) in it")
    if len(formats) > 1:
        raise UsageError(f"source {source}: lists of several formats ({', '.join(formats)}); choose with input_format")
    return formats[0]
