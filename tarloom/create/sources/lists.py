"""URL lists, read as streams: txt, csv, tsv, json, jsonl and parquet, each as tables of the same columns.

A list's table has the columns `url`, `caption` where one is named, the additional ones under their own names, and those
of `tarloom.create.sources.columns` that the options ask for; url and caption are text.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property

import pyarrow as pa

from tarloom.create.config import ListOptions
from tarloom.create.sources.inputs import InputFile, digest, lines
from tarloom.create.sources.list_csv import CsvReader
from tarloom.create.sources.list_json import JsonReader
from tarloom.create.sources.list_parquet import ParquetReader
from tarloom.create.sources.list_reader import ListReader
from tarloom.create.texts import as_text
from tarloom.errors import UsageError


class TextReader(ListReader):
    """One URL a line; blank lines do not count. Commas and quotes are part of the URL."""

    def columns(self, file: InputFile) -> list[str]:
        return []

    def scan(self, files: Sequence[InputFile]) -> tuple[int, pa.Schema]:
        if len(self.names) > 1:
            others = [name for name in self.names if name != self.texts["url"]]
            raise UsageError(f"{files[0].where}: a txt list has no columns; leave out {', '.join(others)}")
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
        self.url_col = options.url_col

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

    def urls(self) -> Iterator[pa.Table]:
        """The rows' URLs alone: no other column is read."""
        reader = open_reader(self._format, ListOptions(url_col=self.url_col))
        return reader.tables(self._files, pa.schema([]), 0)
