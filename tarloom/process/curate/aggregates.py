"""Aggregates in two halves: what each portion of the rows says, and what becomes of all that the portions say.

    avg(x)  ->  sum(x) AS p0, count(x) AS p1  ->  CAST(sum(p0) AS DOUBLE) / sum(p1)

So rows stay where they are read, and little travels. An expression may hold several aggregates; what is around them is
evaluated when they are known.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tarloom.errors import UsageError
from tarloom.read.columns.sql import Node, parse, unparse

_KNOWN = {name: name for name in ("count", "sum", "min", "max", "avg")} | {"count_star": "count", "mean": "avg"}
"""What the parser calls them, and what they are."""
_SELECT = "SELECT "


@dataclass(frozen=True, kw_only=True)
class Aggregate:
    """An expression over aggregates, as SQL for each of its halves."""

    parts: Mapping[str, str]
    """What each portion says of its rows: aggregates by name."""
    wholes: Mapping[str, str]
    """What is made of them: aggregates of the parts by name."""
    value: str
    """The expression, over the wholes."""


def in_halves(sql: str, *, prefix: str, what: str) -> Aggregate:
    """The halves of an expression whose names are resolved. prefix: of the names in between. Raises UsageError."""
    tree = parse(f"{_SELECT}{sql}", what=what)
    parts: dict[str, str] = {}
    wholes: dict[str, str] = {}
    for node in list(_aggregates(tree["statements"][0]["node"]["select_list"])):
        name = f"{prefix}{len(wholes)}"
        found, wholes[name] = _halves(node, name, what)
        parts |= found
        node.clear()
        node |= parse(f'{_SELECT}"{name}"', what=what)["statements"][0]["node"]["select_list"][0]
    if not wholes:
        raise UsageError(f"{what}: it aggregates nothing; use {', '.join(sorted(set(_KNOWN.values())))}")
    return Aggregate(parts=parts, wholes=wholes, value=unparse(tree).removeprefix(_SELECT))


def _aggregates(tree: object) -> Iterator[Node]:
    """The outermost of a tree."""
    if isinstance(tree, dict) and tree.get("class") == "FUNCTION" and tree["function_name"].lower() in _KNOWN:
        yield tree
        return
    for part in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from _aggregates(part)


def _halves(node: Node, name: str, what: str) -> tuple[dict[str, str], str]:
    """What a portion says for one aggregate, and what is made of that."""
    kind = _KNOWN[node["function_name"].lower()]
    arguments = [text_of(argument["expression"]) for argument in node["arguments"]]
    if len(arguments) > 1 or node["order_bys"]["orders"] or (node["distinct"] and kind in ("sum", "avg")):
        allowed = "count, sum, min, max and avg of one value, DISTINCT for count alone"
        raise UsageError(f"{what}: {text_of(node)} is not known; there are {allowed}")
    value = arguments[0] if arguments else "*"
    only = f" FILTER (WHERE {text_of(node['filter'])})" if node["filter"] else ""
    if kind == "count" and node["distinct"]:
        values = {name: f"list(DISTINCT {value}){only}"}
        return values, f'coalesce(len(list_distinct(flatten(list("{name}")))), 0)'
    if kind == "count":
        return {name: f"count({value}){only}"}, f'coalesce(sum("{name}"), 0)'
    if kind == "avg":
        sums = {f"{name}_sum": f"sum({value}){only}", f"{name}_count": f"count({value}){only}"}
        return sums, f'CAST(sum("{name}_sum") AS DOUBLE) / nullif(sum("{name}_count"), 0)'
    return {name: f"{kind}({value}){only}"}, f'{kind}("{name}")'


def text_of(node: Node) -> str:
    """The SQL of a part of a tree."""
    tree = parse(f"{_SELECT}1", what="")
    tree["statements"][0]["node"]["select_list"] = [json.loads(json.dumps(node)) | {"alias": ""}]
    return unparse(tree).removeprefix(_SELECT)
