"""All that can be wrong with tables and options is found before any work: one line says what, where, and what to do."""

import importlib
import io
import signal
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from tarloom.create.sources.list_reader import can_be_text
from tarloom.create.sources.tables import ROW, Table, find_table
from tarloom.errors import UsageError, missing_extra
from tarloom.format.arrow_types import Array
from tarloom.format.index import KEY
from tarloom.format.metadata import metadata_schema
from tarloom.generate.tables.config import Detail, TableConfig, read_derivation, read_detail
from tarloom.generate.tables.matching import Join, Lookup, doubled, key_texts, named, values_of
from tarloom.generate.tables.rows import PROMPT, RowRecipe
from tarloom.process.caption.prompts import Prompt
from tarloom.read.view import Column

if TYPE_CHECKING:  # loads duckdb
    from tarloom.read.columns.values import Value

RESERVED = frozenset([*metadata_schema(pa.schema([]), caption=True).names, "seed", "made_by"])
"""What the metadata and the json of generated samples have beside the tables' columns."""
OWN = "__"
"""What our own columns begin with."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """Tables that fit together."""

    prompts: Table
    details: tuple[Table | Lookup, ...]
    """Those that are small are here already."""
    recipe: RowRecipe
    nbytes: int
    """Of all of them, about."""


def find_tables(config: TableConfig) -> tuple[Table, list[tuple[Detail, Table]]]:
    """The prompt table, and those of details. Raises UsageError."""
    details = [read_detail(given) for given in config.details]
    if not Prompt(template=config.template).columns:
        raise UsageError(f"template {config.template!r}: names no column; write one between braces, such as {{prompt}}")
    prompts = find_table(config.prompts)
    if prompts.rows == 0:
        raise UsageError(f"prompts {config.prompts}: the table has no rows; there is nothing to make")
    return prompts, [(detail, find_table(detail.source)) for detail in details]


def fitted(config: TableConfig, prompts: Table, details: Sequence[tuple[Detail, Table]], *, small_bytes: int) -> Found:
    """How the tables fit together. Raises UsageError where they do not."""
    recipe = _recipe(config, prompts, details)
    _check_keys(config, prompts, recipe)
    nbytes = _bytes(prompts)
    ready: list[Table | Lookup] = []
    for join, (_, table) in zip(recipe.joins, details, strict=True):
        found, size = _ready(join, table, small_bytes, expand=config.expand)
        ready.append(found)
        nbytes += size
    return Found(prompts=prompts, details=tuple(ready), recipe=recipe, nbytes=nbytes)


def _recipe(config: TableConfig, prompts: Table, details: Sequence[tuple[Detail, Table]]) -> RowRecipe:
    whole = config.template.strip() == f"{{{PROMPT}}}"
    taken = RESERVED if whole else RESERVED | {PROMPT}
    columns = _extended(pa.schema([]), prompts.schema, f"prompts {config.prompts}", taken)
    if config.key_col is not None:
        _check_texts([config.key_col], columns, "key_col")
    joins: list[Join] = []
    for number, (detail, table) in enumerate(details):
        what = f"details {detail.source}"
        _check_texts(detail.left, columns, what)
        _check_texts(detail.right, table.schema, what)
        added = pa.schema([field for field in table.schema if field.name not in detail.right])
        columns = _extended(columns, added, what, taken)
        joins.append(Join(detail=detail, columns=added, place=f"__place{number}__"))
    values: list[Value] = []
    for name, sql in map(read_derivation, config.derive):
        what = f"derive {name}"
        values.append(_value(name, sql, columns, what))
        columns = _extended(columns, pa.schema([(name, values[-1].type)]), what, taken | {PROMPT})
    prompt = Prompt(template=config.template)
    _check_known(prompt.columns, columns, "template")
    return RowRecipe(
        key_col=config.key_col, columns=prompts.schema, joins=tuple(joins), values=tuple(values), prompt=prompt
    )


def _value(name: str, sql: str, columns: pa.Schema, what: str) -> "Value":
    from tarloom.read.columns.sql import Names  # Loads duckdb.
    from tarloom.read.columns.values import compile_value

    known = {field.name: Column(name=field.name, stage=None, field=field.name, type=field.type) for field in columns}
    names = Names(what=what, columns=known, members=())
    value = compile_value(name, sql, names, pa.schema([(KEY, pa.string()), *columns]))
    try:
        pq.write_table(pa.schema([(name, value.type)]).empty_table(), io.BytesIO())
    except pa.ArrowException as error:
        raise UsageError(f"{what}: parquet has no column of {value.type}; CAST it to a text or a number") from error
    return value


def _extended(columns: pa.Schema, added: pa.Schema, what: str, taken: Iterable[str]) -> pa.Schema:
    """Both together. Raises UsageError where a name is taken."""
    for name in added.names:
        if name in columns.names:
            raise UsageError(f"{what}: a table before it has a column {name!r}, too; rename one of them")
        if name in taken or name.startswith(OWN) or not name:
            raise UsageError(f"{what}: the column {name!r} has a name that the shards' own columns have; rename it")
    return pa.schema([*columns, *added])


def _check_known(names: Iterable[str], columns: pa.Schema, what: str) -> None:
    for name in names:
        if name not in columns.names:
            raise UsageError(f"{what}: there is no column {name!r}; use {', '.join(columns.names) or 'another table'}")


def _check_texts(names: Iterable[str], columns: pa.Schema, what: str) -> None:
    _check_known(names, columns, what)
    for name in names:
        if not can_be_text(columns.field(name).type):
            raise UsageError(
                f"{what}: the column {name!r} holds {columns.field(name).type}, not one text or number a row"
            )


def _check_keys(config: TableConfig, prompts: Table, recipe: RowRecipe) -> None:
    """Every row must have a key of its own."""
    if config.key_col is None:
        return
    keys: list[Array] = []
    for table in prompts.tables():
        keys.append(recipe.keys(table))
        if keys[-1].null_count:
            place = keys[-1].is_valid().to_pylist().index(False)
            row, column = table.column(ROW)[place].as_py() + 1, table.column(config.key_col)[place].as_py()
            raise UsageError(
                f"prompts {config.prompts}: row {row} has no key: {config.key_col} is {column!r}; "
                "give every row one, of at most 200 bytes, or leave key_col out"
            )
    twice = doubled(pa.chunked_array(keys, pa.string()))
    if twice is not None:
        raise UsageError(
            f"prompts {config.prompts}: several rows have the key {twice!r} ({config.key_col}); make them unique, or "
            "leave key_col out"
        )


def _bytes(table: Table) -> int:
    """Of all rows in memory, by those of the first few."""
    first = next(table.tables(), None)
    return 0 if first is None else first.nbytes * table.rows // first.num_rows


def _ready(join: Join, table: Table, small_bytes: int, *, expand: bool) -> tuple[Table | Lookup, int]:
    """A table of details, read whole if it is small, and its bytes. Raises UsageError for keys that are there twice."""
    nbytes, keys, rows = 0, [], []
    for part in table.tables():
        nbytes += part.nbytes
        rows.append(part)
        keys.append(key_texts(part, join.detail.right).combine_chunks())
        if nbytes > small_bytes:
            rows.clear()
    twice = None if expand else doubled(pa.chunked_array(keys, pa.string()))
    if twice is not None:
        by = named(join.detail.right, values_of(twice, len(join.detail.right)))
        raise UsageError(
            f"details {join.detail.source}: several rows have {by}; make them unique, or take each of them with expand"
        )
    if nbytes <= small_bytes:
        empty = table.parts[0].table_schema.empty_table()
        return Lookup(join, pa.concat_tables([empty, *rows])), nbytes
    _check_polars()
    return table, nbytes


def _check_polars() -> None:
    """Ray Data's join stands on it, and does not bring it along."""
    try:
        importlib.import_module("polars")
    except ImportError as error:
        raise missing_extra("ray", error) from error
    signal.siginterrupt(signal.SIGINT, True)  # polars, once imported, has Ctrl-C end no wait for a lock
