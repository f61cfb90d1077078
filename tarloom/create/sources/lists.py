"""URL lists, read as streams: txt, csv, tsv, json, jsonl and parquet, each as tables of the same columns.

A list's table has the columns `url`, `caption` where one is named, the additional ones under their own names, and those
of `tarloom.create.sources.columns` that the options ask for; url and caption are text.
"""

import json
from collections.abc import Iterator, Sequence
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc

from tarloom.create.config import ListOptions
from tarloom.create.sources.columns import ERROR
from tarloom.create.sources.inputs import InputFile, digest, lines
from tarloom.create.sources.list_csv import CsvReader
from tarloom.create.sources.list_json import JsonReader
from tarloom.create.sources.list_parquet import ParquetReader
from tarloom.create.sources.list_reader import ListReader
from tarloom.create.texts import as_text
from tarloom.errors import UsageError
from tarloom.format.arrow_types import ChunkedArray


class TextReader(ListReader):
    """One URL a line; blank lines do not count. Commas and quotes are part of the URL."""

    def columns(self, file: InputFile) -> list[str]:
        return []

    def scan(self, files: Sequence[InputFile]) -> tuple[int, pa.Schema]:
        if len(self.names) > 1:
            others = [name for name in self.names if name != self.texts["url"]]
            raise UsageError(
                f"{files[0].where}: a txt list has no columns; leave out the options that name {', '.join(others)}"
            )
        return sum(len(batch) for file in files for batch in lines(file)), pa.schema([])

    def _file_tables(self, file: InputFile, additional: pa.Schema) -> Iterator[pa.Table]:
        for batch in lines(file):
            yield pa.table({"url": as_text(pa.chunked_array([pa.array(batch, pa.binary())]))})


def open_reader(input_format: str, options: ListOptions) -> ListReader:
    """The reader of a format."""
    if input_format == "csv":
        return CsvReader(options)
    if input_format == "tsv":
        return CsvReader(options, separator="\t")
    if input_format == "txt":
        return TextReader(options)
    return ParquetReader(options) if input_format == "parquet" else JsonReader(options)


class UrlLists:
    """One or more URL lists of one format, one after the other."""

    def __init__(self, files: Sequence[InputFile], input_format: str, options: ListOptions) -> None:
        self._files = files
        self._format = input_format
        self._reader = open_reader(input_format, options)
        self._for_urls = ListOptions(
            url_col=options.url_col, bbox_col=options.bbox_col, verify_hash=options.verify_hash
        )
        """Columns by which a row may fail before it is fetched, and no others."""

    @property
    def has_captions(self) -> bool:
        return "caption" in self._reader.texts

    @cached_property
    def _digest(self) -> str:
        return digest(self._files)

    def fingerprint(self) -> str:
        return self._digest

    def scan(self) -> tuple[int, pa.Schema]:
        return self._reader.scan(self._files)

    def tables(self, additional: pa.Schema, start: int) -> Iterator[pa.Table]:
        return self._reader.tables(self._files, additional, start)

    @property
    def url_columns(self) -> str:
        """What `urls` depends on beside the files."""
        boxes, (hashes, _) = self._for_urls.bbox_col, self._for_urls.verify_hash or (None, None)
        others = [] if boxes is None and hashes is None else [json.dumps([boxes, hashes])]
        return " ".join([self._for_urls.url_col, *others])

    def urls(self) -> Iterator[ChunkedArray]:
        """The rows' URLs, null for rows that have failed already."""
        reader = open_reader(self._format, self._for_urls)
        for table in reader.tables(self._files, pa.schema([]), 0):
            urls = table.column("url")
            failed = ERROR in table.column_names
            yield pc.if_else(pc.is_null(table.column(ERROR)), urls, pa.scalar(None, urls.type)) if failed else urls
