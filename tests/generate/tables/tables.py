"""Tables for tests, and what pandas makes of them."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from tarloom.format.storage import open_storage
from tarloom.generate.tables.config import TableConfig
from tarloom.generate.tables.prompts import PromptTables

KEYS = (
    (pa.int64(), st.integers(0, 4)),
    (pa.float64(), st.sampled_from([0.0, -0.0, 1.0, 2.5, 3.0, float("nan")])),
    (pa.string(), st.sampled_from(["0", "1", "2.5", "3", "", "ü", "true", "a b"])),
    (pa.bool_(), st.booleans()),
)
"""Types of columns to join by, whose values are sometimes equal as texts."""


@st.composite
def columns(draw: st.DrawFn, names: tuple[str, ...], *, least: int) -> dict[str, Any]:
    """Columns of keys and nulls."""
    size = draw(st.integers(least, 12))
    found = {}
    for name in names:
        kind, values = draw(st.sampled_from(KEYS))
        found[name] = pa.array(
            draw(st.lists(st.none() | values, min_size=size, max_size=size)), kind, from_pandas=False
        )
    return found


@st.composite
def three_tables(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Prompts, and two tables of details of which one is joined by what the other one brings."""
    prompts = draw(columns(("a", "b"), least=1))
    first, second = draw(columns(("a", "kind"), least=0)), draw(columns(("b_there", "kind"), least=0))
    prompts["n"] = pa.array(range(len(prompts["a"])))
    first["x"] = pa.array([f"x{n}" for n in range(len(first["a"]))], pa.string())
    second["y"] = pa.array([[n, None] for n in range(len(second["kind"]))], pa.list_(pa.int64()))
    return [prompts, first, second]


def put_three(folder: Path, tables: Sequence[Mapping[str, Any]]) -> TableConfig:
    """Such tables as files, and how they are joined."""
    names = [
        put(folder / f"{name}.parquet", table) for name, table in zip(("p", "first", "second"), tables, strict=True)
    ]
    details = (f"{names[1]}:a", f"{names[2]}:b=b_there,kind")
    return TableConfig(prompts=names[0], details=details, expand=True, template="{n} {x} {y}")


def in_pandas(tables: Sequence[Mapping[str, Any]]) -> tuple[Any, Any]:
    """What `pandas_rows` takes, of such tables."""
    values = [{name: column.to_pylist() for name, column in table.items()} for table in tables]
    first = ("first.parquet", values[1], [("a", "a")])
    return values[0], [first, ("second.parquet", values[2], [("b", "b_there"), ("kind", "kind")])]


def put(path: Path, columns: Mapping[str, Any]) -> str:
    """A parquet table at this place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(dict(columns)), path)
    return str(path)


def files_of(folder: Path) -> dict[str, bytes]:
    """The files of rows, by name."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob("_tarloom/rows/*"))}


def made(config: TableConfig, folder: Path, *, rows_per_shard: int = 100, **options: int) -> list[dict[str, Any]]:
    """All rows of a run, from its files."""
    rows, schema = PromptTables(config, **options).write(open_storage(folder), rows_per_shard, 5)
    tables = [pq.read_table(pa.BufferReader(data)) for data in files_of(folder).values()]
    assert all(table.schema == schema for table in tables)
    assert all(table.num_rows == rows_per_shard for table in tables[:-1])
    found = [row for table in tables for row in table.to_pylist()]
    assert len(found) == rows
    return found


def as_key(value: object) -> str | None:
    """What a value is found by, told another way."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**63:
        return str(int(value))
    return str(value)


def left_joined(left: pd.DataFrame, right: pd.DataFrame, by: Sequence[tuple[str, str]], name: str) -> pd.DataFrame:
    """What pandas joins, in the order of the left table, then of the right one; `name` says whether a row was found."""
    ours, theirs = left.copy(), right.copy()
    for number, (of_left, of_right) in enumerate(by):
        ours[f"key{number}"] = ours[of_left].map(as_key)
        theirs[f"key{number}"] = theirs[of_right].map(as_key)
    on = [f"key{number}" for number in range(len(by))]
    theirs = theirs.dropna(subset=on).drop(columns=[of_right for _, of_right in by])
    return ours.merge(theirs, how="left", on=on, indicator=name).drop(columns=on)


def pandas_rows(
    prompts: Mapping[str, Sequence[Any]],
    details: Sequence[tuple[str, Mapping[str, Sequence[Any]], Sequence[tuple[str, str]]]],
) -> list[dict[str, Any]]:
    """Joined by pandas; `__error__` has the name of the first table in which a row finds nothing."""
    rows = frame(prompts)
    rows["__error__"] = None
    for name, columns, by in details:
        rows = left_joined(rows, frame(columns), by, "found")
        lost = (rows["found"] == "left_only") & rows["__error__"].isna()
        rows.loc[lost, "__error__"] = name
        rows = rows.drop(columns="found")
    return [{name: plain(value) for name, value in row.items()} for row in rows.to_dict("records")]


def frame(columns: Mapping[str, Sequence[Any]]) -> pd.DataFrame:
    """Values as they are."""
    return pd.DataFrame({name: pd.Series(list(values), dtype=object) for name, values in columns.items()})


def plain(value: Any) -> Any:
    """None for what pandas calls missing."""
    return None if isinstance(value, float) and math.isnan(value) else value


def told(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Our rows as `pandas_rows` has them."""
    own = ("__key__", "prompt")
    found = [{name: plain(value) for name, value in row.items() if name not in own} for row in rows]
    for row in found:
        error = row["__error__"]
        row["__error__"] = error and error.removeprefix("no_match: ").partition(" has no row with ")[0]
    return found
