"""Tables that come as they come, in tables of one size."""

from collections.abc import Iterable, Iterator

import pyarrow as pa


def regrouped(tables: Iterable[pa.Table], rows: int) -> Iterator[pa.Table]:
    """The same rows in tables of so many, each in one chunk; the last one may have fewer, and none is empty."""
    held: list[pa.Table] = []
    missing = rows
    for table in tables:
        while table.num_rows >= missing:
            yield pa.concat_tables([*held, table.slice(0, missing)]).combine_chunks()
            table, held, missing = table.slice(missing), [], rows
        held.append(table)
        missing -= table.num_rows
    if missing < rows:
        yield pa.concat_tables(held).combine_chunks()
