"""What can be named in a question: columns of the dataset, of tables that are joined, and those that are made."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pyarrow as pa

from tarloom.errors import UsageError
from tarloom.format.index import KEY
from tarloom.process.curate.aggregates import text_of
from tarloom.read.columns.sql import TABLE, Names, Node, column_refs, nodes, parse
from tarloom.read.columns.where import resolved
from tarloom.read.view import Column

_CONDITION = f"SELECT 1 FROM {TABLE} WHERE "
UNKNOWN = pa.null()
"""The type of a column that is made: what duckdb says."""
MULTIPLYING = frozenset({"generate_subscripts", "regexp_split_to_table", "unlist", "unnest"})
"""Functions that make a row several, or none: duckdb itself refuses them in conditions alone."""


class Scope:
    """Names, more and more of them, and which of them have been used."""

    def __init__(self, names: Names) -> None:
        self.what = names.what
        self.used: dict[str, None] = {}
        self._own = self._names = names

    @property
    def names(self) -> list[str]:
        """All of them, the key first."""
        return [KEY, *self._names.columns]

    def column(self, given: str, option: str) -> str:
        """The full name of a column. Raises UsageError where there is none."""
        names, node = self._asked(option), {"column_names": given.split(".")}
        found = names.refer(node)
        if found is None or len(node["column_names"]) > 1:
            raise names.unknown(node)
        self.used[found] = None
        return found

    def type_of(self, name: str) -> pa.DataType:
        """Of a column."""
        return pa.string() if name == KEY else self._names.columns[name].type

    def expression(self, sql: str, option: str, *, example: str) -> str:
        """SQL on one row, or on aggregates of rows, with full names. Raises UsageError for what is none."""
        found, used = resolved(sql, self._asked(option), kind="expression", example=example)
        for node in nodes(parse(f"{_CONDITION}({found})", what=self.what)):
            if (name := node.get("function_name", "").lower()) in MULTIPLYING:
                raise UsageError(f"{self.what}: {option}: {name}() makes several rows of one; give one value a row")
        self.used |= dict.fromkeys(used)
        return found

    def conditions(self, sql: str, option: str) -> tuple[list[str], list[str]]:
        """What must all be true: of the dataset's own columns alone, and of others too. Only the latter are used."""
        found, _ = resolved(sql, self._asked(option), kind="condition", example="width >= 256")
        own: list[str] = []
        others: list[str] = []
        tree = parse(f"{_CONDITION}({found})", what=self.what)
        for node in _all_of(tree["statements"][0]["node"]["where_clause"]):
            refs = list(column_refs(node))
            mine = all(self._own.refer(ref) for ref in refs)
            if not mine:
                self.used |= dict.fromkeys(name for ref in refs if (name := self._names.refer(ref)) is not None)
            (own if mine else others).append(f"({text_of(node)})")
        return own, others

    def sorting(self, given: str) -> tuple[str, str]:
        """What is sorted by, and which way."""
        orders: list[Node] = []
        if given.strip():
            tree = parse(f"SELECT 1 ORDER BY {given}", what=f"{self.what}: order_by {given!r}")
            modifiers = tree["statements"][0]["node"]["modifiers"]
            orders = [order for modifier in modifiers for order in modifier.get("orders", ())]
        if len(orders) != 1:
            raise UsageError(f"{self.what}: order_by {given!r}: write EXPRESSION [ASC|DESC], one at a time")
        direction = "DESC" if orders[0]["type"] == "DESCENDING" else "ASC"
        nulls = "FIRST" if orders[0]["null_order"] == "NULLS FIRST" else "LAST"
        value = self.expression(text_of(orders[0]["expression"]), "order_by", example="width DESC")
        return value, f"{direction} NULLS {nulls}"

    def add(self, name: str, kind: Any, option: str) -> None:
        """One more column. Raises UsageError for a name that there is already."""
        if name.lower() in {known.lower() for known in (*self.names, *self._names.members)}:
            raise UsageError(f"{self.what}: {option}: there is a column {name!r} already; choose another name")
        columns = {**self._names.columns, name: Column(name=name, stage=None, field=name, type=kind)}
        self._names = replace(self._names, columns=columns)

    def _asked(self, option: str) -> Names:
        return replace(self._names, what=f"{self.what}: {option}")


def _all_of(node: Node) -> Iterator[Node]:
    """The conditions that a condition consists of."""
    if node["type"] == "CONJUNCTION_AND":
        for part in node["children"]:
            yield from _all_of(part)
    else:
        yield node
