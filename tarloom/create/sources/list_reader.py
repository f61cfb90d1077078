"""What the readers of all kinds of URL lists have in common: which columns they read, and what they make of them."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tarloom.create.config import ListOptions
from tarloom.create.sources.boxes import BOXES, boxes_of
from tarloom.create.sources.columns import HASH, KEY, failed, with_column
from tarloom.create.sources.inputs import InputFile
from tarloom.create.sources.keys import BUILT_IN
from tarloom.create.texts import as_text, is_text, mended
from tarloom.errors import FetchError, UsageError, first_line

BATCH_ROWS = 8192


class ListReader(ABC):
    """Reads files of one format. `additional` are the columns kept beside url and caption, in the user's order."""

    def __init__(self, options: ListOptions) -> None:
        if options.caption_col == options.url_col:
            raise UsageError(f"caption_col and url_col are both {options.url_col!r}; name two columns")
        boxes = [] if options.bbox_col is None else [options.bbox_col]
        self.additional = tuple(dict.fromkeys([*options.save_additional_columns, *boxes]))
        self.bbox = options.bbox_col
        self.texts = {} if options.caption_col is None else {"caption": options.caption_col}
        self.texts["url"] = options.url_col
        if options.verify_hash is not None:
            self.texts[HASH] = options.verify_hash[0]
        if options.key_from not in BUILT_IN:
            self.texts[KEY] = options.key_from
        """Columns that are read as text: ours, and what the list calls them."""
        self.names = list(dict.fromkeys([*self.additional, *self.texts.values()]))
        """Columns to read, by the list's names: additional ones first, as the metadata has them."""

    def take_all(self, columns: Sequence[str]) -> None:
        """Read these columns as they are, none of them as the URL: of a table that is no list."""
        self.additional, self.texts, self.names = tuple(columns), {}, list(columns)

    @abstractmethod
    def columns(self, file: InputFile) -> list[str]:
        """All columns that a file has."""

    @abstractmethod
    def scan(self, files: Sequence[InputFile]) -> tuple[int, pa.Schema]:
        """One pass over the files: how many rows there are, and the additional columns with their types.

        Raises UsageError for what cannot be read, and for columns that are not there.
        """

    def tables(self, files: Sequence[InputFile], additional: pa.Schema, start: int) -> Iterator[pa.Table]:
        """The rows of all files from row `start`, as tables of at most some ten thousand rows."""
        return skipped((table for file in files for table in self._file_tables(file, additional)), start)

    @abstractmethod
    def _file_tables(self, file: InputFile, additional: pa.Schema) -> Iterator[pa.Table]:
        """The rows of one file."""

    def _check_columns(self, file: InputFile, present: Sequence[str]) -> None:
        """Every wanted column must be there, once."""
        for name in self.names:
            if name not in present:
                raise UsageError(f"{file.where}: no column {name!r}; it has {', '.join(present) or 'none'}")
            if present.count(name) > 1:
                raise UsageError(f"{file.where}: {present.count(name)} columns are called {name!r}; rename all but one")

    def _finished(self, table: pa.Table, bad_rows: Iterable[int] = ()) -> pa.Table:
        """A table of the list's columns as the source gives it: in the metadata's order and under its names, boxes and
        hashes made uniform, and the rows marked that cannot be used.

        bad_rows: places of what the file has instead of rows; all their values are null.
        """
        columns = {name: mended(table.column(name)) for name in self.additional}
        columns |= {ours: as_text(table.column(name)) for ours, name in self.texts.items()}
        found = failed(pa.table(columns), dict.fromkeys(bad_rows, _bad_row()))
        if HASH in self.texts:
            found = _with_hashes(found)
        return found if self.bbox is None else _with_boxes(found, self.bbox)


def _with_hashes(table: pa.Table) -> pa.Table:
    """Hashes in lower case; rows without one fail, as nothing can be verified."""
    hashes = pc.utf8_lower(pc.utf8_trim_whitespace(table.column(HASH)))
    error = FetchError("hash_mismatch", "the list has no hash for the row")
    lacking = {place: error for place, digest in enumerate(hashes.to_pylist()) if not digest}
    return failed(with_column(table, HASH, hashes), lacking)


def _with_boxes(table: pa.Table, name: str) -> pa.Table:
    """Boxes as lists of lists of four numbers; where the value is none, it is null and the row fails."""
    column = table.column(name)
    boxes, errors = boxes_of(column.to_pylist())
    kind = BOXES if is_text(column.type) else column.type
    return failed(with_column(table, name, pa.array(boxes, kind)), errors)


def can_be_text(kind: Any) -> bool:
    """Whether the values of a column of this Arrow type can be written as texts."""
    try:
        pc.cast(pa.nulls(0, kind), pa.string())
    except pa.ArrowException:
        return False
    return True


def _bad_row() -> FetchError:
    return FetchError("bad_row", "the list has no sound row here")


def skipped(batches: Iterable[Any], start: int) -> Iterator[Any]:
    """Lists or tables without the first `start` rows of them all."""
    for batch in batches:
        size = len(batch)
        if start < size:
            yield batch[start:]
        start = max(0, start - size)


@contextmanager
def sound(file: InputFile, kind: str) -> Iterator[None]:
    """What Arrow says of a file that it cannot read, however far it has come, as UsageError."""
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file.where}: not a sound {kind} ({first_line(error)})") from error
