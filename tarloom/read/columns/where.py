"""Conditions on samples: one SQL expression over columns of metadata and sidecars, as in duckdb.

    width >= 256 AND clip.score > 0.3 AND caption.text ILIKE '%dog%'

A condition is compiled once, where the dataset is: names are resolved, types are proven against an empty table, and
what cannot work is refused. It travels as text, and is evaluated where shards are read, on Arrow tables of exactly the
columns that it uses. It must say the same of a row whenever it is asked: there is no random() and no now().
"""

import duckdb
import pyarrow as pa

from tarloom.errors import UsageError
from tarloom.format.index import KEY
from tarloom.read.columns.evaluate import first_line, no_rows
from tarloom.read.columns.sql import (
    TABLE,
    Names,
    Node,
    check_cases,
    column_refs,
    cursor,
    for_duckdb,
    nodes,
    parse,
    unparse,
)
from tarloom.read.view import Where

_SELECT = f"SELECT 1 FROM {TABLE} WHERE "
_EXPRESSIONS = {"CONSTANT", "COLUMN_REF", "COMPARISON", "CONJUNCTION", "FUNCTION", "OPERATOR", "CAST", "TYPE"} | {
    *("CASE", "BETWEEN", "COLLATE", "LAMBDA")
}
"""What a condition may be made of. A subquery, window, star or parameter is none of it."""
UNSTEADY = {
    *("current_connection_id", "current_database", "current_date", "current_query", "current_query_id"),
    *("current_schema", "current_schemas", "current_setting", "current_transaction_id", "currval", "error"),
    *("gen_random_uuid", "get_current_time", "get_current_timestamp", "getvariable", "in_search_path", "nextval"),
    *("now", "random", "setseed", "setval", "sleep_ms", "stats", "today", "transaction_timestamp", "txid_current"),
    *("uuid", "uuidv4", "uuidv7", "vector_type", "write_log"),
    *("current_catalog", "current_localtime", "current_localtimestamp", "pg_sleep"),
}
"""Functions that do not always say the same, or do something: all that duckdb_functions() calls so, and in the last
line those that it does not."""


def compile_where(sql: str, names: Names) -> Where:
    """Prove a condition and write it with resolved names. Raises UsageError that names what is wrong."""
    condition, used = resolved(sql, names, kind="condition", example="width >= 256")
    columns = [name for name in used if name != KEY]
    check_cases([KEY, *columns], what=names.what)
    where = Where(sql=condition, columns=tuple(names.columns[name] for name in columns))
    _prove(where, names.what)
    return where


def resolved(sql: str, names: Names, *, kind: str, example: str) -> tuple[str, list[str]]:
    """An expression on one row with resolved names, and the columns that it uses, `__key__` perhaps among them.

    kind, example: for messages. Raises UsageError for what is none.
    """
    if not isinstance(sql, str):
        raise UsageError(f"{names.what}: a {kind} is a text, such as {example!r}, not {sql!r}")
    if not sql.strip():
        raise UsageError(f"{names.what}: the {kind} is empty; give one, such as: {example}")
    tree = parse(f"{_SELECT}(\n{sql}\n)", what=names.what)
    found = [_named(node, names) for node in column_refs(_expression(tree, names.what, kind, example))]
    return unparse(tree).removeprefix(_SELECT), list(dict.fromkeys(found))


def both(first: Where, second: Where) -> Where:
    """The condition that both are true."""
    columns = tuple(dict.fromkeys([*first.columns, *second.columns]))
    check_cases([KEY, *(column.name for column in columns)], what="where")
    return Where(sql=f"({first.sql} AND {second.sql})", columns=columns)


def _expression(tree: Node, what: str, kind: str, example: str) -> Node:
    """The WHERE of the tree. Raises UsageError unless that is all there is in it."""
    node = tree["statements"][0]["node"]
    more = ("modifiers", "group_expressions", "having", "qualify", "sample")
    if node["type"] != "SELECT_NODE" or any(node[part] for part in more) or node["cte_map"]["map"]:
        raise UsageError(f"{what}: give one {kind}, such as: {example}")
    expression: Node = node["where_clause"]
    for part in nodes(expression):
        form = part.get("class", "CONSTANT")
        if form not in _EXPRESSIONS:
            words = form.lower().replace("_", " ")
            raise UsageError(f"{what}: a {kind} on one row holds no {words}; tarloom query can do more")
        if _is_unsteady(part):
            name = part["function_name"]
            raise UsageError(f"{what}: {name}() does not always say the same; write the value, or use ds.sample")
    return expression


def _is_unsteady(node: Node) -> bool:
    """Whether it calls a function that does not always say the same. The age of one time is that until now."""
    name = node.get("function_name", "").lower()
    return name in UNSTEADY or (name == "age" and len(node.get("arguments") or node.get("children") or ()) == 1)


def _named(node: Node, names: Names) -> str:
    name = names.refer(node)
    if name is None:
        raise names.unknown(node)
    return name


def _prove(where: Where, what: str) -> None:
    """Raises UsageError where types do not fit, a function is not there, or the answer is not true or false."""
    schema = no_rows(where).schema
    nulls = for_duckdb(pa.table([pa.array([None], field.type) for field in schema], schema=schema))
    try:
        with cursor() as database:
            database.register(TABLE, nulls)
            database.execute(f"{_SELECT}{where.sql}")  # where neither aggregates nor unnest can stand
            kind = database.execute(f"SELECT {where.sql} FROM {TABLE}").description[0][1]
    except duckdb.Error as error:
        raise UsageError(f"{what}: {first_line(error)}") from error
    if kind != "BOOLEAN":
        raise UsageError(f"{what}: {where.sql} is neither true nor false, but {kind}; compare it with something")
