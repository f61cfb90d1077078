"""Where the rows come from: pictures in a folder, URL lists or shards, as one stream of tables cut where shards are.

The process that plans reads the source once, front to back, and sends every shard's rows to the worker that makes it:
compressed lists need no seeking, and workers need no access to the list.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import pyarrow as pa

from tarloom.create.config import CreateConfig
from tarloom.create.repack.source import TarShards
from tarloom.create.sources.dedup import DedupedLists
from tarloom.create.sources.folder import PICTURES, PictureFolder
from tarloom.create.sources.inputs import InputFile, find_files, of_kinds, outside
from tarloom.create.sources.keys import BUILT_IN
from tarloom.create.sources.lists import UrlLists
from tarloom.errors import UsageError
from tarloom.format.layout import is_shard_file
from tarloom.format.storage import open_storage

LIST_FORMATS = ("txt", "csv", "tsv", "json", "jsonl", "parquet")


class Source(Protocol):
    """Rows in a fixed order. A table has the columns `url`, `caption` where there are captions, and additional ones;
    those of `columns` where they apply, and the names of the files beside the pictures. (Those of shards have columns
    of their own: their rows are named, not given.)"""

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


def open_source(config: CreateConfig) -> Source:
    """The source that the options name. Raises UsageError where there is none, or it is of no known kind."""
    files, is_folder = source_files(config)
    wanted = config.lists.input_format
    pictures = any(file.extension in PICTURES for file in files)
    shards = any(is_shard_file(file.entry.name) for file in files)
    if is_folder and wanted == "auto" and pictures and shards:
        raise UsageError(f"source {config.source}: pictures and tars in it; choose with input_format (images or tars)")
    if is_folder and (wanted == "images" or (wanted == "auto" and pictures)):
        _check_folder_options(config)
        return PictureFolder(files)
    if wanted == "images":
        raise UsageError(f"source {config.source}: input_format images needs a folder")
    if wanted == "tars" or (wanted == "auto" and shards):
        if config.resume.incremental_mode == "extend":
            _check_elsewhere(files, config.output)
        return TarShards(files, config, is_folder=is_folder)
    if wanted != "auto" and not is_folder:
        return _lists(files, wanted, config)
    extensions = LIST_FORMATS if wanted == "auto" else (wanted,)
    lists = of_kinds(files, extensions, is_folder=is_folder)
    if not lists:
        raise UsageError(f"source {config.source}: {_no_source(wanted, pictures)}")
    return _lists(lists, _format_of(lists, config.source), config)


def _lists(files: Sequence[InputFile], input_format: str, config: CreateConfig) -> Source:
    lists = UrlLists(files, input_format, config.lists)
    return DedupedLists(lists, open_storage(config.output)) if config.lists.dedup_urls else lists


def _check_elsewhere(tars: Sequence[InputFile], output: str) -> None:
    """An output extended by its own shards would hold their keys twice."""
    made = open_storage(output).place
    for tar in tars:
        if tar.storage.place == made:
            raise UsageError(f"source {tar.where}: is a shard of the output; choose another output")


def _check_folder_options(config: CreateConfig) -> None:
    """Raise UsageError for options that only the rows of a list can heed."""
    lists = config.lists
    wanted = {
        "bbox_col": lists.bbox_col is not None,
        "verify_hash": lists.verify_hash is not None,
        "dedup_urls": lists.dedup_urls,
        f"key_from {lists.key_from}": lists.key_from not in BUILT_IN,
    }
    for name, is_wanted in wanted.items():
        if is_wanted:
            raise UsageError(f"source {config.source}: {name} needs a URL list, and this is a folder of pictures")


def source_files(config: CreateConfig) -> tuple[list[InputFile], bool]:
    """The files of the source, and whether it is a folder. Raises UsageError where there are none."""
    files, is_folder = find_files(config.source)
    return (outside(files, config.output) if is_folder else files), is_folder


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
        whole = pa.concat_tables(held, promote_options="default")  # not all tables have rows that failed
        yield _alone(whole.slice(first - position, last - first))
        held, position = [whole.slice(last - position)], last


def _alone(rows: pa.Table) -> pa.Table:
    """A copy of a slice: the slice itself would take all that it is cut from along, to wherever it is sent."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as stream:
        stream.write_table(rows)
    return pa.ipc.open_stream(sink.getvalue()).read_all()


def _no_source(wanted: str, pictures: bool) -> str:
    """Why files are no source, and what to do. pictures: there are some among them, but they are no folder's."""
    if wanted != "auto":
        return f"no list (.{wanted}) in it"
    if pictures:
        return "pictures are taken by the folder; name the one they lie in"
    kinds = ", ".join(LIST_FORMATS)
    return f"neither pictures nor URL lists ({kinds}) by name; of a list by another name say the kind by input_format"


def _format_of(files: Sequence[InputFile], source: str) -> str:
    formats = sorted({file.extension for file in files})
    if len(formats) > 1:
        raise UsageError(f"source {source}: lists of several formats ({', '.join(formats)}); choose with input_format")
    return formats[0]
