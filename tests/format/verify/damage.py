"""What tests of the check do to files, and what the check then finds."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tarloom.format.verify.dataset import verify


def findings(folder: Path | str) -> list:
    return [finding for report in verify(folder) for finding in report.findings]


def damaged_files(folder: Path) -> set[str]:
    return {finding.file for finding in findings(folder) if finding.kind == "damage"}


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x10
    path.write_bytes(data)


def edit(path: Path, change) -> None:
    """Rewrite a parquet file by a change to its table; the footer stays."""
    table = pq.read_table(path)
    pq.write_table(change(table).replace_schema_metadata(table.schema.metadata), path)


def with_value(column: str, row: int, value):
    def change(table):
        values = table.column(column).to_pylist()
        values[row] = value
        at = table.schema.get_field_index(column)
        return table.set_column(at, table.schema.field(column), pa.array(values, table.schema.field(column).type))

    return change


def drop_last(table):
    return table.slice(0, table.num_rows - 1)


def swap_first_two(table):
    return table.take([1, 0, *range(2, table.num_rows)])


def repeat_first(table):
    return table.take([0, *range(table.num_rows)])
