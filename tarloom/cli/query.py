"""`tarloom query`: an answer in SQL, printed as it comes: a table for people, or a line of JSON for each row."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from tarloom.cli.console import Finished, json_text
from tarloom.read.view import JoinPolicy

if TYPE_CHECKING:
    import pyarrow as pa

MEASURED_ROWS = 100
"""From the first rows, widths of columns are taken; longer values of later rows stand out."""
CELL = 60
"""Characters of a value."""


@dataclass(frozen=True, kw_only=True)
class Query:
    """Ask a dataset's metadata and sidecars in SQL (duckdb's); the table is called samples. No tar is read."""

    path: str
    """The dataset's folder, local or remote."""
    sql: str
    """Such as: SELECT width, count(*) FROM samples WHERE clip.score > 0.3 GROUP BY width"""
    join: JoinPolicy = "error"
    """What to do with a sample that has no row, or a stale one, in a sidecar or metadata table that the SQL names.
    error: stop; skip: leave the sample out; null: fill its columns with nulls."""
    json: bool = False
    """Print a JSON object for each row, and nothing else."""

    def execute(self) -> Finished:
        import tarloom
        from tarloom.read.columns.query import Query as Answer  # loads duckdb

        answer = Answer(tarloom.open(self.path).joining(self.join), self.sql)
        return Finished(title="", lines=shown(answer.schema.names, answer.batches(), as_json=self.json))


def shown(names: Sequence[str], batches: "Iterable[pa.RecordBatch]", *, as_json: bool) -> Iterator[str]:
    """An answer, line by line: as a table, or as a JSON object for each row."""
    rows = (row for batch in batches for row in zip(*_columns(batch), strict=True))
    return (_objects if as_json else _table)(names, rows)


def _columns(batch: "pa.RecordBatch") -> list[list[Any]]:
    import pyarrow as pa

    from tarloom.create.texts import times_as_text

    try:
        return [column.to_pylist() for column in batch.columns]
    except (OverflowError, ValueError):  # times that Python cannot hold
        return [column.to_pylist() for column in times_as_text(pa.Table.from_batches([batch])).columns]


def _objects(names: Sequence[str], rows: Iterator[Sequence[Any]]) -> Iterator[str]:
    return (json_text(dict(zip(names, row, strict=True)), ensure_ascii=False) for row in rows)


def _table(names: Sequence[str], rows: Iterator[Sequence[Any]]) -> Iterator[str]:
    first = [[_cell(value) for value in row] for row in islice(rows, MEASURED_ROWS)]
    widths = [max(map(len, column)) for column in zip(names, *first, strict=True)]
    yield _line(names, widths)
    yield "  ".join("─" * width for width in widths)
    yield from (_line(row, widths) for row in first)
    yield from (_line([_cell(value) for value in row], widths) for row in rows)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def _cell(value: object) -> str:
    """A value on one line; long ones are cut, long lists are counted."""
    if isinstance(value, list) and len(value) > 8:
        return f"<{len(value):,} values>"
    shown = "" if value is None else f"{value:.6g}" if isinstance(value, float) else " ".join(str(value).split())
    return shown if len(shown) <= CELL else f"{shown[: CELL - 1]}…"
