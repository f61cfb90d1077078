"""What passes between the operators of Ray Data: rows that each hold one portion of an item, or say how it ended."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from tarloom.engines.crew import Reply
from tarloom.errors import missing_extra

try:
    import ray
except ImportError as error:
    raise missing_extra("ray", error) from error

_FIELDS: "list[pa.Field[Any]]" = [
    pa.field("number", pa.int64()),  # the item's
    pa.field("item", pa.binary()),  # what the pipeline begins with
    pa.field("portion", pa.large_binary()),
    pa.field("portions", pa.int64()),  # in an item's last row: how many it has
    pa.field("reply", pa.binary()),  # how it ended, for better or worse
]
ROW = pa.schema(_FIELDS)


def one_row(
    *,
    number: int,
    item: bytes | None = None,
    portion: Any = None,
    portions: int | None = None,
    reply: Reply | bytes | None = None,
) -> pa.Table:
    """A table of one row. The portion, which may be large, is not copied."""
    replied = ray.cloudpickle.dumps(reply) if isinstance(reply, Reply) else reply
    bounds = pa.py_buffer(b"\0" * 8 + (0 if portion is None else len(portion)).to_bytes(8, "little"))
    buffers = [None, bounds, pa.py_buffer(b"" if portion is None else portion)]
    body = pa.nulls(1, pa.large_binary()) if portion is None else pa.Array.from_buffers(pa.large_binary(), 1, buffers)
    values = {"number": number, "item": item, "portions": portions, "reply": replied}
    columns = [body if f.name == "portion" else pa.array([values[f.name]], f.type) for f in ROW]
    return pa.Table.from_arrays(columns, schema=ROW)


def rows_of(rows: pa.Table) -> Iterator[dict[str, Any]]:
    """Each row's values; its portion is a view of the table's memory."""
    for at in range(rows.num_rows):
        row = {name: rows.column(name)[at].as_py() for name in ROW.names if name != "portion"}
        yield row | {"portion": rows.column("portion")[at].as_buffer()}
