"""A question as SQL in two halves: what is said of each portion of the rows, and of all that was said.

    first   over `samples` and the tables that are joined: their top rows, or aggregates of each group
    last    over `parts`, which the portions have said: the answer

Portions are read and asked where there is room for them. So no engine has to understand SQL, and none can understand it
in a way of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from tarloom.format.index import KEY
from tarloom.process.curate.aggregates import in_halves
from tarloom.process.curate.config import CurateConfig, read_join, read_named, read_segments
from tarloom.process.curate.outside import Outside
from tarloom.process.curate.scope import UNKNOWN, Scope
from tarloom.read.columns.quoting import sql_name, sql_text
from tarloom.read.columns.sql import TABLE, Names, check_cases

PARTS = "parts"
ROW, PORTION, PARTITION = "__row__", "__portion__", "__partition__"
"""A row's number in its portion; the portion's in the dataset; the partition that a group belongs to."""
GROUPING = "grouping"
_GROUPS = {"each": "{}", "rollup": "ROLLUP ({})", "cube": "CUBE ({})"}


@dataclass(frozen=True, kw_only=True)
class Statement:
    """A question in SQL, and what it is asked of. It travels to where rows are."""

    what: str
    """How messages begin."""
    columns: tuple[str, ...]
    """Of the dataset, that are read."""
    pushed: tuple[str, ...]
    """Conditions on the dataset's own columns: they decide which rows are read."""
    outsides: tuple[Outside, ...]
    first: str
    last: str | None
    """None where what is said of each portion is a part of the answer."""


def compiled(config: CurateConfig, names: Names, outsides: Mapping[str, Outside], *, places: bool = False) -> Statement:
    """The statement. outsides: the tables that are joined, by what the option says. places: instead of its columns, the
    answer, one of rows, has where each lies: its portion, and its number there.

    Raises UsageError for names that are not there, and for what is no SQL of the kind that is wanted.
    """
    scope = Scope(names)
    joined, rows = _joined(config, scope, outsides)
    rows = _with_columns(config, scope, rows)
    pushed, kept = scope.conditions(config.where, "where") if config.where is not None else ([], [])
    if kept:
        rows = f"SELECT * FROM ({rows}) AS {TABLE} WHERE {' AND '.join(kept)}"
    first, last = _grouped(config, scope, rows) if config.grouped else _listed(config, scope, rows, joined, places)
    check_cases([KEY, *scope.used], what=names.what)
    return Statement(
        what=names.what,
        columns=tuple(name for name in scope.used if name in names.columns),
        pushed=tuple(pushed),
        outsides=tuple(joined),
        first=first,
        last=last,
    )


def _joined(config: CurateConfig, scope: Scope, outsides: Mapping[str, Outside]) -> tuple[list[Outside], str]:
    """The rows with the columns of other tables, null where nothing matches."""
    joined, rows = [], f"SELECT * FROM {TABLE}"
    for given in config.join:
        join, outside = read_join(given), outsides[given]
        ours = [scope.column(name, "join") for name in join.ours]
        for name, other in zip(ours, join.theirs, strict=True):
            outside.check_fits(other, scope.type_of(name), f"{scope.what}: join {given!r}: {name}")
        for field in outside.schema:
            scope.add(f"{join.name}.{field.name}", field.type, "join")
        columns = [f"other.{sql_name(name)} AS {sql_name(f'{join.name}.{name}')}" for name in outside.schema.names]
        place = f"other.{ROW} AS {outside.place}"
        equal = [f"{TABLE}.{sql_name(a)} = other.{sql_name(b)}" for a, b in zip(ours, join.theirs, strict=True)]
        other = f"LEFT JOIN {outside.table_name} AS other ON {' AND '.join(equal)}"
        rows = f"SELECT {TABLE}.*, {', '.join([*columns, place])} FROM ({rows}) AS {TABLE} {other}"
        joined.append(outside)
    return joined, rows


def _with_columns(config: CurateConfig, scope: Scope, rows: str) -> str:
    """The rows with columns that are made of others."""
    for given in config.derive:
        name, sql = read_named(given, option="derive", example="pixels=width*height")
        value = scope.expression(sql, f"derive {name}", example="width * height")
        scope.add(name, UNKNOWN, "derive")
        rows = f"SELECT *, {value} AS {sql_name(name)} FROM ({rows}) AS {TABLE}"
    for given in config.segment:
        segments = read_segments(given)
        column = sql_name(scope.column(segments.column, "segment"))
        below = zip(segments.bounds, segments.labels, strict=False)
        cases = " ".join(f"WHEN {column} < {bound!r}::DOUBLE THEN {sql_text(label)}" for bound, label in below)
        value = f"CASE WHEN {column} IS NULL THEN NULL {cases} ELSE {sql_text(segments.labels[-1])} END"
        scope.add(segments.name, pa.string(), "segment")
        rows = f"SELECT *, {value} AS {sql_name(segments.name)} FROM ({rows}) AS {TABLE}"
    return rows


def _listed(
    config: CurateConfig, scope: Scope, rows: str, joined: list[Outside], as_places: bool
) -> tuple[str, str | None]:
    """Both halves of a question for rows. as_places: these are said by their places."""
    columns = list(dict.fromkeys(scope.column(name, "select") for name in config.select or scope.names))
    wanted, by_place = ", ".join(map(sql_name, columns)), ", ".join([ROW, *(outside.place for outside in joined)])
    if not config.gathered:
        return f"SELECT {wanted} FROM ({rows}) AS {TABLE} ORDER BY {by_place}", None
    values, order = [], []
    for number, given in enumerate(config.order_by):
        value, direction = scope.sorting(given)
        values.append(f"{value} AS __order{number}")
        order.append(f"__order{number} {direction}")
    said = ", ".join([wanted, by_place, *values])
    return (
        f"SELECT {said} FROM ({rows}) AS {TABLE} ORDER BY {', '.join([*order, by_place])}{_limit(config)}",
        f"SELECT {f'{PORTION}, {ROW}' if as_places else wanted} FROM {PARTS} "
        f"ORDER BY {', '.join([*order, PORTION, by_place])}{_limit(config)}",
    )


def _grouped(config: CurateConfig, scope: Scope, rows: str) -> tuple[str, str]:
    """Both halves of a question for groups."""
    keys = list(dict.fromkeys(scope.column(name, "group_by") for name in config.group_by))
    group, groupings = ", ".join(map(sql_name, keys)), [GROUPING] if config.grouping != "each" else []
    answer = Scope(Names(what=scope.what, columns={}, members=()))
    for name in (*keys, *groupings):
        if name != KEY:
            answer.add(name, UNKNOWN, "group_by")
    ids = [sql_name(name) for name in (*keys, *groupings)]
    parts, wholes, values = [sql_name(name) for name in keys], [*ids], [*ids]
    parts += [f"GROUPING_ID({group}) AS {GROUPING}" for _ in groupings]
    for number, given in enumerate(config.aggregate or ("samples=count(*)",)):
        name, sql = read_named(given, option="aggregate", example="score=avg(clip.score)")
        full = scope.expression(sql, f"aggregate {name}", example="count(*)")
        halves = in_halves(full, prefix=f"__{number}_", what=f"{scope.what}: aggregate {name}")
        parts += [f"{part} AS {each}" for each, part in halves.parts.items()]
        wholes += [f"{whole} AS {each}" for each, whole in halves.wholes.items()]
        values.append(f"{halves.value} AS {sql_name(name)}")
        answer.add(name, UNKNOWN, "aggregate")
    said = f"SELECT {', '.join(parts)} FROM ({rows}) AS {TABLE}"
    made = f"SELECT {', '.join(wholes)} FROM {PARTS}"
    if keys:
        said, made = f"{said} GROUP BY {_GROUPS[config.grouping].format(group)}", f"{made} GROUP BY {', '.join(ids)}"
    if config.partitions > 1 and keys:
        said = f"SELECT *, CAST(hash({', '.join(ids)}) % {config.partitions} AS INTEGER) AS {PARTITION} FROM ({said})"
    order = [" ".join(answer.sorting(given)) for given in config.order_by] + [f"{name} NULLS LAST" for name in ids]
    having = (
        [] if config.having is None else [part for half in answer.conditions(config.having, "having") for part in half]
    )
    last = f"SELECT * FROM (SELECT {', '.join(values)} FROM ({made}) AS {TABLE}) AS {TABLE}"
    last += f" WHERE {' AND '.join(having)}" if having else ""
    last += f" ORDER BY {', '.join(order)}" if order else ""
    return said, f"{last}{_limit(config)}"


def _limit(config: CurateConfig) -> str:
    return "" if config.limit is None else f" LIMIT {config.limit}"
