"""Tables become the rows of shards to be: checked before any work, then written one file a shard.

Such a file, _tarloom/rows/00000.parquet, has `__key__`, all columns, the derived ones, `prompt`, and `__error__`: why a
row can have no picture ("no_match: details.csv has no row with animal = 7").
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from functools import cached_property

import pyarrow as pa

from tarloom.create.sources.tables import ROW, Table
from tarloom.format.index import KEY
from tarloom.format.layout import numbered_shard, rows_name
from tarloom.format.parquet import write_table
from tarloom.format.regroup import regrouped
from tarloom.format.storage import Storage
from tarloom.generate.tables.checks import Found, find_tables, fitted
from tarloom.generate.tables.config import Detail, TableConfig

SMALL_BYTES = 32 << 20
"""A table of details up to this size is sent to wherever prompts are; larger ones are shuffled."""


class PromptTables:
    """The tables that a configuration names. What is wrong with them is raised as UsageError, whatever is asked first.

    small_bytes: as SMALL_BYTES.
    """

    def __init__(self, config: TableConfig, *, small_bytes: int = SMALL_BYTES) -> None:
        self._config = config
        self._small_bytes = small_bytes

    def check(self) -> None:
        """Read all tables, and raise UsageError for what cannot become rows of shards."""
        self._found  # noqa: B018 - found now rather than later

    @property
    def schema(self) -> pa.Schema:
        """The columns of the rows."""
        return self._found.recipe.schema

    def fingerprint(self) -> str:
        """What the tables hold, as "sha256:HEX", wherever they lie."""
        prompts, details = self._tables
        digests = [prompts.digest(), *(table.digest() for _, table in details)]
        return f"sha256:{hashlib.sha256(json.dumps(digests).encode()).hexdigest()}"

    def write(self, storage: Storage, rows_per_shard: int, digits: int) -> tuple[int, pa.Schema]:
        """Commit the rows of all shards, the same bytes each time; how many rows there are, and their columns.

        digits: of a shard's number.
        """
        from tarloom.generate.tables.with_ray import made_rows  # Loads Ray.

        found, rows = self._found, 0
        tables = made_rows(found.prompts, found.recipe, found.details, nbytes=found.nbytes)
        tables = _unique(tables) if self._config.expand else tables
        for number, table in enumerate(regrouped(tables, rows_per_shard)):
            name = rows_name(numbered_shard(number, digits))
            write_table(storage, name, table.select(self.schema.names).cast(self.schema))
            rows += table.num_rows
        return rows, self.schema

    @cached_property
    def _tables(self) -> tuple[Table, list[tuple[Detail, Table]]]:
        return find_tables(self._config)

    @cached_property
    def _found(self) -> Found:
        return fitted(self._config, *self._tables, small_bytes=self._small_bytes)


def _unique(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Rows that were made of one have its key: "_0", "_1", ... behind it make them different."""
    row, copies = -1, 0
    for table in tables:
        keys = []
        for key, number in zip(table.column(KEY).to_pylist(), table.column(ROW).to_numpy(), strict=True):
            row, copies = number, copies + 1 if number == row else 0
            keys.append(f"{key}_{copies}")
        yield table.set_column(table.schema.names.index(KEY), KEY, pa.array(keys, pa.string()))
