"""What travels between the halves of a question: small tables, opaque to the engine that carries them.

As Arrow's own stream of bytes they stay what they are, whatever types the engine has.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa


@dataclass(frozen=True, kw_only=True)
class Parcel:
    """What a portion says for a partition; or, in the end, what a partition has come to."""

    partition: int
    portion: int
    rows: int = 0
    """Of the dataset's samples that the portion has, those that were left out included."""
    table: pa.Table


_FIELDS: dict[str, pa.DataType] = {
    "partition": pa.int32(),
    "portion": pa.int32(),
    "rows": pa.int64(),
    "table": pa.binary(),
}
SCHEMA = pa.schema([pa.field(name, kind) for name, kind in _FIELDS.items()])


def packed(parcels: Iterable[Parcel]) -> pa.RecordBatch:
    """As rows of an engine."""
    rows = [{**vars(parcel), "table": _bytes(parcel.table)} for parcel in parcels]
    return pa.RecordBatch.from_pylist(rows, schema=SCHEMA)


def unpacked(rows: pa.Table | pa.RecordBatch) -> Iterator[Parcel]:
    """What these rows hold."""
    for row in rows.to_pylist():
        yield Parcel(**{**row, "table": pa.ipc.open_stream(row["table"]).read_all()})


def _bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()
