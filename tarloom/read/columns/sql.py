"""SQL as duckdb parses it, with every column of a dataset written as one quoted name.

Columns have dots in their names ("clip.score"), which SQL would take for a column of a table. What is written with
dots is looked up as a whole name first, then by ever fewer of its parts; what is left over names fields of a struct. As
everywhere in SQL, the case of letters does not matter where only one column can be meant.
"""

import functools
import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import duckdb
import numpy as np
import pyarrow as pa

from tarloom.errors import CorruptShard, UsageError
from tarloom.format.arrow_types import Array, ChunkedArray
from tarloom.format.index import KEY
from tarloom.read.plan.catalog import Catalog
from tarloom.read.view import Column

TABLE = "samples"
TEXT, CAPTION = "txt", "caption"
"""The member with a sample's own caption, and the column of the metadata that holds the same: creation writes both."""
Node = dict[str, Any]
"""A node of the tree that duckdb makes of SQL."""
_SETTINGS = (
    "enable_external_access = false",  # no files, no network, no extensions
    "python_enable_replacements = false",  # no variables of the program that calls us
    "GLOBAL TimeZone = 'UTC'",  # not the machine's: what is asked elsewhere is to say the same; global, for cursors
    "lock_configuration = true",
)


def connect(**settings: str | int) -> duckdb.DuckDBPyConnection:
    """A new empty database that reaches nothing but what is registered with it."""
    connection = duckdb.connect(":memory:", config=dict(settings))
    for setting in _SETTINGS:
        connection.execute(f"SET {setting}")
    return connection


def cursor() -> duckdb.DuckDBPyConnection:
    """A connection to this process's own empty database, for one thread, which does all the work; to be closed."""
    return _database(os.getpid()).cursor()


@functools.cache  # of a forked process its parent's as well: to close that where its threads are not would hang
def _database(process: int) -> duckdb.DuckDBPyConnection:
    return connect(threads=1)


def parse(sql: str, *, what: str) -> Node:
    """The tree of one SELECT. what: how messages begin. Raises UsageError for anything else."""
    if "\0" in sql:
        raise UsageError(f"{what}: a NUL character cannot stand in SQL; leave it out")
    tree: Node = json.loads(_scalar("SELECT json_serialize_sql(?)", sql))
    if tree.get("error_type") == "not implemented":
        raise UsageError(f"{what}: only a SELECT can be asked")
    if tree["error"]:
        raise UsageError(f"{what}: {tree['error_message'].splitlines()[0]}; write it in duckdb's SQL")
    if len(tree["statements"]) != 1 or tree["statements"][0]["named_param_map"]:
        raise UsageError(f"{what}: give one SELECT, without parameters")
    return tree


def unparse(tree: Node) -> str:
    """The SQL of a tree."""
    return _scalar("SELECT json_deserialize_sql(?)", json.dumps(tree))


def _scalar(sql: str, value: str) -> str:
    with cursor() as database:
        (found,) = database.execute(sql, [value]).fetchone() or ("",)
    return str(found)


def nodes(tree: object) -> Iterator[Node]:
    """All nodes of a tree."""
    if isinstance(tree, list):
        for part in tree:
            yield from nodes(part)
    elif isinstance(tree, dict):
        yield tree
        for part in tree.values():
            yield from nodes(part)


def column_refs(tree: object, parameters: frozenset[str] = frozenset()) -> Iterator[Node]:
    """What names a column, and not a parameter of a lambda around it."""
    if isinstance(tree, list):
        for part in tree:
            yield from column_refs(part, parameters)
    elif isinstance(tree, dict):
        if tree.get("class") == "COLUMN_REF":
            if tree["column_names"][0].lower() not in parameters:
                yield tree
        elif own := _parameters(tree):
            yield from column_refs(tree["expr"], parameters | own)
        else:
            for part in tree.values():
                yield from column_refs(part, parameters)


def _parameters(node: Node) -> frozenset[str]:
    """A lambda's, in lower case. An arrow looks like one to the parser, but takes a field out of JSON."""
    if node.get("class") != "LAMBDA" or node["syntax_type"] == "SINGLE_ARROW":
        return frozenset()
    return frozenset(ref["column_names"][0].lower() for ref in column_refs(node["lhs"]))


@dataclass(frozen=True, kw_only=True)
class Names:
    """What can be named in SQL over a dataset."""

    what: str
    """How messages begin."""
    columns: Mapping[str, Column]
    """By name, as in ds.columns."""
    members: Collection[str]
    """They lie in the tars, and cannot be named; each hides a column of the same name."""
    stand_ins: Mapping[str, str] = field(default_factory=dict)
    """Columns that hold the same as a member, by its name: to name the member is to name the column. Some samples, or
    all, may lack the member."""
    tables: Collection[str] = (TABLE,)
    """What the table is called, in lower case. To name it is to name its rows."""
    unreadable: Sequence[CorruptShard] = ()
    """Tables in which further columns may be."""

    def refer(self, node: Node) -> str | None:
        """The column that is named here, which is then named by one quoted name; None where there is none of that name.

        A first part may be the table's name. Raises UsageError for a member, and for a name that may be one of several.
        """
        parts: list[str] = node["column_names"]
        for table in (0, 1) if parts[0].lower() in self.tables else (0,):
            for count in range(len(parts), table, -1):
                name = self._find(".".join(parts[table:count]))
                if name is not None:
                    node["column_names"] = [*parts[:table], name, *parts[count:]]
                    return name
        return None

    def unknown(self, node: Node) -> Exception:
        """The error to raise where a name is that of nothing."""
        if self.unreadable:  # it may be in there
            return self.unreadable[0]
        name = ".".join(node["column_names"])
        return UsageError(f"{self.what}: there is no column {name!r}; use {', '.join([KEY, *self.columns])}")

    def _find(self, name: str) -> str | None:
        known = {KEY, *self.columns, *self.members, *self.stand_ins}
        found = [name] if name in known else [each for each in known if each.lower() == name.lower()]
        if len(found) > 1:
            raise UsageError(f"{self.what}: {name!r} may be {' or '.join(sorted(found))}; write it in their letters")
        if found and found[0] in self.stand_ins:
            return self.stand_ins[found[0]]
        if found and found[0] in self.members:
            columns = ", ".join([KEY, *self.columns])
            raise UsageError(f"{self.what}: {found[0]!r} is a member of the tars, and SQL sees columns only: {columns}")
        return found[0] if found else None


def names_of(catalog: Catalog, what: str) -> Names:
    """What can be named over a dataset. what: how messages begin."""
    members = catalog.members()
    columns = {name: column for name, column in catalog.columns().items() if name not in members and name != KEY}
    captions = {TEXT: CAPTION} if CAPTION in columns and TEXT not in columns else {}
    return Names(what=what, columns=columns, members=members, stand_ins=captions, unreadable=catalog.unreadable)


def check_cases(names: Collection[str], *, what: str) -> None:
    """Raises UsageError where columns that are used differ in the case of letters alone: SQL cannot tell them apart."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(name.lower(), name)
        if other != name:
            raise UsageError(
                f"{what}: SQL cannot tell {other!r} from {name!r}; name the columns to use, one of these at a time "
                "(* is both)"
            )


def for_duckdb(table: pa.Table) -> pa.Table:
    """The table in types that duckdb can read: half floats become floats, fixed-size vectors become lists, and null
    vectors become null rather than vectors of nulls."""
    columns = [_list_of(column) if _is_vector(column.type) else column for column in table.columns]
    return pa.table([column.cast(duckdb_type(column.type)) for column in columns], names=table.column_names)


def duckdb_type(kind: Any) -> pa.DataType:
    """What becomes of a column's type in that."""
    if pa.types.is_float16(kind):
        return pa.float32()
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or _is_vector(kind):
        return pa.list_(duckdb_type(kind.value_type))
    return cast(pa.DataType, kind)


def _is_vector(kind: Any) -> bool:
    return bool(pa.types.is_fixed_size_list(kind))


def _list_of(column: ChunkedArray) -> Array:
    vectors: Any = column.combine_chunks()
    valid = vectors.is_valid().to_numpy(zero_copy_only=False)
    ends = np.concatenate([[0], np.cumsum(valid * vectors.type.list_size)])
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), vectors.flatten(), mask=pa.array(~valid))
