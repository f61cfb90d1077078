"""Rows whose URL a row before them has: found over the whole source, in little memory, and marked as failed.

Which rows these are is found in one pass over the URLs, when the run is planned, and kept in the output's
`_tarloom/duplicates.parquet` (column `row`, ascending), so that slices and resumed runs agree and need not search. Two
URLs are one where their texts are equal, blanks around them left out; rows without a URL are no duplicates, nor are
those that fail before they are fetched, since the next row of their URL may be sound.

The pass writes a 128-bit hash and the number of every row into temporary files, by the hash's first byte. Each file is
then sorted alone. 100 million rows take 2.4 GB of temporary disk and some 100 MB of memory.
"""

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tarloom.create.sources.columns import failed
from tarloom.create.sources.inputs import InputFile
from tarloom.create.sources.lists import UrlLists
from tarloom.errors import FetchError, StorageError
from tarloom.format.arrow_types import ChunkedArray
from tarloom.format.layout import DUPLICATES, DUPLICATES_SOURCE
from tarloom.format.storage import Storage

BUCKETS = 256
RECORD = np.dtype([("high", "<u8"), ("low", "<u8"), ("row", "<u8")])
HELD_ROWS = 1 << 20
"""Rows whose hashes are in memory before they are written."""
GROUP_ROWS = 1 << 20

Numbers = np.ndarray[Any, np.dtype[np.int64]]
Records = np.ndarray[Any, np.dtype[np.void]]


class DedupedLists:
    """A source that gives each URL once: later rows that have it are marked as duplicate_url."""

    def __init__(self, lists: UrlLists, output: Storage) -> None:
        self._lists = lists
        self._output = output

    @property
    def has_captions(self) -> bool:
        return self._lists.has_captions

    def fingerprint(self) -> str:
        return self._lists.fingerprint()

    def scan(self) -> tuple[int, pa.Schema]:
        rows, additional = self._lists.scan()
        self._duplicates()
        return rows, additional

    def tables(self, additional: pa.Schema, start: int) -> Iterator[pa.Table]:
        return marked(self._lists.tables(additional, start), start, _numbers_from(self._duplicates(), start))

    def _duplicates(self) -> InputFile:
        return self._known() or self._found()

    def _known(self) -> InputFile | None:
        """The file of an earlier run over these lists, if there is one."""
        entry = self._output.head(DUPLICATES)
        if entry is None:
            return None
        file = InputFile(storage=self._output, entry=entry)
        try:
            with pq.ParquetFile(file.open_raw()) as table:
                made_for = (table.metadata.metadata or {}).get(DUPLICATES_SOURCE.encode())
        except (pa.ArrowException, OSError):  # damaged: it is made anew
            return None
        return file if made_for == self._identity().encode() else None

    def _found(self) -> InputFile:
        """Search, and keep what was found."""
        try:
            with tempfile.TemporaryDirectory(prefix="tarloom-") as folder:
                spool = _Spool(Path(folder))
                rows = spool.take(self._lists.urls())
                later = spool.later_rows(rows)
        except OSError as error:
            where = tempfile.gettempdir()
            raise StorageError(f"{where}: {error.strerror or error}; free space there, or set TMPDIR") from error
        schema = pa.schema([("row", pa.int64())], metadata={DUPLICATES_SOURCE: self._identity()})
        options: Any = {"row": "DELTA_BINARY_PACKED"}
        with (
            self._output.create(DUPLICATES) as file,
            pq.ParquetWriter(file, schema, compression="zstd", use_dictionary=False, column_encoding=options) as writer,
        ):
            for numbers in later:
                writer.write_table(pa.table({"row": numbers}, schema=schema))
        entry = self._output.head(DUPLICATES)
        assert entry is not None, "it was written above"
        return InputFile(storage=self._output, entry=entry)

    def _identity(self) -> str:
        return f"{self.fingerprint()} {self._lists.url_columns}"


def marked(tables: Iterator[pa.Table], start: int, numbers: Iterator[Numbers]) -> Iterator[pa.Table]:
    """The tables, the first of which begins with row `start`, with the rows of these numbers marked as failed.

    numbers: ascending, from `start`.
    """
    error = FetchError("duplicate_url", "a row before it in the source has its URL")
    held = np.empty(0, np.int64)
    for table in tables:
        end = start + table.num_rows
        while (not held.size or held[-1] < end) and (more := next(numbers, None)) is not None:
            held = np.concatenate([held, more])
        here = int(np.searchsorted(held, end))
        yield failed(table, {int(number) - start: error for number in held[:here]})
        held, start = held[here:], end


def _numbers_from(file: InputFile, start: int) -> Iterator[Numbers]:
    """The duplicates' numbers from `start`, in pieces; row groups in front of it are not read."""
    with pq.ParquetFile(file.open_raw(), pre_buffer=False) as table:
        for group in range(table.num_row_groups):
            statistics = table.metadata.row_group(group).column(0).statistics
            if statistics is None or statistics.max is None or statistics.max >= start:
                numbers = table.read_row_group(group, use_threads=False).column("row").to_numpy()
                yield numbers[np.searchsorted(numbers, start) :]


class _Spool:
    """Hashes and numbers of rows: in memory as long as they are few, else in files by the first byte of the hash."""

    def __init__(self, folder: Path) -> None:
        self._paths = [folder / f"{bucket:02x}" for bucket in range(BUCKETS)]
        self._files: list[IO[bytes]] = []
        self._held: list[Records] = []

    def take(self, columns: Iterator[ChunkedArray]) -> int:
        """Take the hashes of all URLs. Returns the number of rows."""
        rows = 0
        with ExitStack() as opened:
            for column in columns:
                self._held.append(_records(column.to_pylist(), rows))
                rows += len(column)
                if sum(map(len, self._held)) >= HELD_ROWS:
                    self._files = self._files or [opened.enter_context(path.open("wb")) for path in self._paths]
                    self._spill()
            if self._files:
                self._spill()
        return rows

    def _spill(self) -> None:
        """Write what is held to the files."""
        records = self._take_held()
        buckets = (records["high"] % BUCKETS).astype(np.uint8)
        order = np.argsort(buckets, kind="stable")
        ends = np.searchsorted(buckets[order], np.arange(1, BUCKETS))
        for file, part in zip(self._files, np.split(records[order], ends), strict=True):
            file.write(part.tobytes())

    def later_rows(self, rows: int) -> Iterator[Numbers]:
        """The numbers of all rows whose hash a row before them has, ascending, in pieces."""
        bits = np.zeros(-(-rows // 8), np.uint8)
        spilled = (np.fromfile(path, RECORD) for path in self._paths)
        for records in spilled if self._files else [self._take_held()]:
            later = _later(records)
            np.bitwise_or.at(bits, later >> 3, (1 << (later & 7)).astype(np.uint8))
        return _set_bits(bits)

    def _take_held(self) -> Records:
        held, self._held = self._held, []
        return np.concatenate([np.empty(0, RECORD), *held])


def _set_bits(bits: "np.ndarray[Any, np.dtype[np.uint8]]") -> Iterator[Numbers]:
    for first in range(0, len(bits), GROUP_ROWS // 8):
        numbers = np.flatnonzero(np.unpackbits(bits[first : first + GROUP_ROWS // 8], bitorder="little"))
        if numbers.size:
            yield numbers + first * 8


def _records(urls: list[str | None], first: int) -> Records:
    """One record for each row that has a URL."""
    texts = [(url or "").strip().encode() for url in urls]
    hashes = b"".join([hashlib.sha256(text).digest()[:16] for text in texts if text])
    pairs = np.frombuffer(hashes, "<u8").reshape(-1, 2)
    records = np.empty(len(pairs), RECORD)
    records["high"], records["low"] = pairs[:, 0], pairs[:, 1]
    records["row"] = [number for number, text in enumerate(texts, first) if text]
    return records


def _later(records: Records) -> Numbers:
    """The numbers of the records whose hash one with a lower number has."""
    records = records[np.lexsort((records["row"], records["low"], records["high"]))]
    high, low = records["high"], records["low"]
    same = (high[1:] == high[:-1]) & (low[1:] == low[:-1])
    numbers: Numbers = records["row"][1:][same].astype(np.int64)
    return numbers
