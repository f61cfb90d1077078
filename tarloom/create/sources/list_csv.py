"""CSV and TSV lists: columns by their names in the first line, additional ones of the types in csv_types.py.

Quoted values may hold separators and line ends. A line with too few or too many values is one row that fails
(bad_row), and so is one with a value of more than 128 KiB or with more than 4096 lines, and what is longer than 16 MiB
without a line end is taken for several; where a quote that is never closed, or first by another one that begins a
value, has swallowed further lines, reading goes on at the second of them. No list is refused for one of its rows.
"""

import csv
import io
from collections import deque
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice

import pyarrow as pa

from tarloom.create.config import ListOptions
from tarloom.create.sources.boxes import BOXES
from tarloom.create.sources.csv_types import TEXT, ColumnTypes, converted
from tarloom.create.sources.inputs import LONGEST_LINE, InputFile, not_utf_8
from tarloom.create.sources.list_reader import BATCH_ROWS, ListReader, sound
from tarloom.errors import UsageError
from tarloom.format.arrow_types import Array

MOST_LINES = 4096
"""Of a row: each line of a file that is made for it could swallow all behind it, and all would be read again."""
Record = list[str] | None
"""The values of a row; None where a line is none."""


class CsvReader(ListReader):
    """Text that is not UTF-8 is mended, not refused. Blank lines do not count."""

    def __init__(self, options: ListOptions, separator: str = ",") -> None:
        super().__init__(options)
        self.separator = separator

    def columns(self, file: InputFile) -> list[str]:
        return next(self._records(file)) or []

    def scan(self, files: Sequence[InputFile]) -> tuple[int, pa.Schema]:
        typed = [name for name in self.additional if name not in (self.bbox, *self.texts.values())]
        types, rows = ColumnTypes(typed), 0
        for file in files:
            for columns, batch in self._batches(file, typed):
                rows += len(batch)
                types.see(columns)
        found = types.found()
        return rows, pa.schema(
            [(name, BOXES if name == self.bbox else found.get(name, TEXT)) for name in self.additional]
        )

    def _file_tables(self, file: InputFile, additional: pa.Schema) -> Iterator[pa.Table]:
        types = {field.name: field.type for field in additional if field.name != self.bbox}
        for columns, batch in self._batches(file, self.names):
            table = pa.table({name: converted(texts, types.get(name, TEXT)) for name, texts in columns.items()})
            yield self._finished(table, [place for place, record in enumerate(batch) if record is None])

    def _batches(self, file: InputFile, names: Sequence[str]) -> Iterator[tuple[dict[str, Array], list[Record]]]:
        """Columns as texts, and the rows that they are of."""
        records = self._records(file)
        header = next(records) or []
        places = {name: header.index(name) for name in names}
        while batch := list(islice(records, BATCH_ROWS)):
            yield {name: _texts(batch, place) for name, place in places.items()}, batch

    def _records(self, file: InputFile) -> Iterator[Record]:
        """The first line, which has the wanted columns, and then the rows."""
        with sound(file, "table"), file.open() as stream:
            text = io.TextIOWrapper(stream, "utf-8-sig", "replace", newline="")  # type: ignore[type-var]  # a file object
            lines = iter(partial(text.readline, LONGEST_LINE), "")
            header = self._header(lines, file)
            if header is None:
                raise UsageError(f"{file.where}: it is empty; the first line must name the columns")
            if "\0" in "".join(header):
                raise not_utf_8(file)
            self._check_columns(file, header)
            yield header
            yield from records(lines, len(header), self.separator)

    def _header(self, lines: Iterator[str], file: InputFile) -> list[str] | None:
        try:
            return next((row for row in csv.reader(lines, delimiter=self.separator) if row), None)
        except csv.Error as error:
            raise UsageError(f"{file.where}: its first line does not name columns ({error})") from error


def _texts(batch: Sequence[Record], place: int) -> Array:
    return pa.array([None if row is None else row[place] for row in batch], TEXT)


def records(lines: Iterator[str], width: int, separator: str) -> Iterator[Record]:
    """The rows of `width` values that the lines hold, None for each line that is none."""
    used: list[str] = []
    """Lines of the row that is being read."""
    again: deque[str] = deque()
    ended = False
    """A row that comes after that is one whose quote was never closed, or not within the lines that a row may have."""

    def next_lines() -> Iterator[str]:
        nonlocal ended
        while len(used) < MOST_LINES and (line := again.popleft() if again else next(lines, None)) is not None:
            used.append(line)
            yield line
        ended = True

    while True:
        ended = False
        try:
            for row in csv.reader(next_lines(), delimiter=separator):
                if ended or (row and len(row) != width) or (len(used) > 1 and not _is_strict(used, separator)):
                    break
                if row:
                    yield row
                used.clear()
            else:
                return
        except csv.Error:
            if not used:
                raise
        again.extendleft(reversed(used[1:]))
        used.clear()
        yield None


def _is_strict(row: Sequence[str], separator: str) -> bool:
    """Whether what closes the quotes of these lines is no other quote: one that more text than a separator follows."""
    try:
        return any(csv.reader(row, delimiter=separator, strict=True))
    except csv.Error:
        return False
