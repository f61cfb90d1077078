"""What is asked of a dataset's tables, declared once: the command line, its help and the results' footers come from
here. How the options are written is read here too."""

import itertools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from tarloom.errors import UsageError
from tarloom.format.index import KEY
from tarloom.read.view import JoinPolicy

Grouping = Literal["each", "rollup", "cube"]
_SQL = ("derive", "segment", "where", "group_by", "aggregate", "having", "order_by")
_TABLE = re.compile(r"([A-Za-z0-9][A-Za-z0-9_-]*)=(.*)", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class CurateConfig:
    """A question over a dataset's metadata and sidecars; no tar is read. Options that hold SQL are duckdb's, over
    columns as in `tarloom query`."""

    path: str
    """The dataset's folder, local or remote."""
    output: str | None = None
    """The folder for the answer's parquet files, local or remote; without it the answer is shown."""
    where: str | None = None
    """A condition on one row. What it says of the dataset's own columns decides what is read at all."""
    join: tuple[str, ...] = ()
    """Outside tables (csv, tsv, json, jsonl, parquet): [NAME=]PATH:COLUMN[,COLUMN], or PATH:OURS=THEIRS. Their columns
    are called NAME.COLUMN, by default by the file's name, and are null where nothing matches."""
    expand: bool = False
    """A row that matches several rows of an outside table becomes several; else that is refused."""
    derive: tuple[str, ...] = ()
    """Further columns, NAME=EXPRESSION, each over those before it."""
    segment: tuple[str, ...] = ()
    """Further columns that say where a number lies: NAME=COLUMN:BOUND,BOUND[:LABEL,LABEL,LABEL]. A row is in the first
    segment whose bound is greater; null stays null."""
    select: tuple[str, ...] = ()
    """The columns of the answer, where it is not grouped; default: all."""
    group_by: tuple[str, ...] = ()
    """Columns, one row of the answer for each combination of their values."""
    grouping: Grouping = "each"
    """rollup: also a row for each combination of the first columns, and one for all; cube: of any of them. Then the
    column `grouping` tells the rows apart: a bit is set for each column that was summed over, the last one
    being 1."""
    aggregate: tuple[str, ...] = ()
    """What is said of each group, or without groups of all: NAME=EXPRESSION over count, sum, min, max and avg, with
    DISTINCT (count) and FILTER where wanted. Default, where there are groups: samples=count(*)."""
    having: str | None = None
    """A condition on the rows of a grouped answer."""
    order_by: tuple[str, ...] = ()
    """What the answer is sorted by: EXPRESSION [ASC|DESC], nulls last; equal rows by their groups, or as they lie in
    the dataset."""
    limit: int | None = None
    """Only the first so many rows."""
    partition_by: tuple[str, ...] = ()
    """Columns whose values become folders of the output, COLUMN=VALUE/, as Hive, Spark, Ray and duckdb read them."""
    partitions: int = 1
    """Files of a grouped answer, each with its share of the groups: more where one does not fit into memory."""
    missing: JoinPolicy = "error"
    """What to do with a sample that has no row, or a stale one, in a sidecar or metadata table that is asked about.
    error: stop; skip: leave the sample out; null: fill its columns with nulls."""

    @property
    def grouped(self) -> bool:
        """Whether the answer has rows for groups, or for all, rather than for samples."""
        return bool(self.group_by or self.aggregate)

    @property
    def gathered(self) -> bool:
        """Whether the answer needs all of the samples at one place, or shares of them by group."""
        return self.grouped or self.sorted or self.output is None

    @property
    def sorted(self) -> bool:
        """Whether the answer is in an order of its own, or cut."""
        return bool(self.order_by) or self.limit is not None

    def growing(self) -> Iterator[tuple[str, "CurateConfig"]]:
        """The question put together again: one more text in SQL at a time, in the order of _SQL, and what came last."""
        part = CurateConfig(path=self.path, join=self.join, expand=self.expand, select=(KEY,), grouping=self.grouping)
        for option in _SQL:
            given = getattr(self, option)
            several = isinstance(given, tuple)
            for said in [given[: last + 1] for last in range(len(given))] if several else [given]:
                part = replace(part, **{option: said})
                made = (each.partition("=")[0].strip() for each in (*part.derive, *part.segment))
                part = replace(part, select=(KEY, *made))  # else duckdb leaves them out
                yield f"{option} {said[-1]!r}" if several else option, part

    def check(self) -> None:
        """Raises UsageError for options that cannot be together."""
        if self.limit is not None and self.limit < 1:
            raise UsageError(f"limit must be at least 1, not {self.limit}")
        if self.partitions < 1:
            raise UsageError(f"partitions must be at least 1, not {self.partitions}")
        if self.partitions > 1 and (not self.grouped or self.sorted or self.output is None):
            raise UsageError(
                "partitions: for a grouped answer with --output and in no order; else it has its own files"
            )
        if self.grouped and self.select:
            raise UsageError("select: a grouped answer has the columns of group_by and aggregate; leave select out")
        for name, grouped in (("having", self.grouped), ("grouping", self.group_by)):
            if getattr(self, name) != getattr(CurateConfig(path=""), name) and not grouped:
                raise UsageError(f"{name}: for groups; add --group-by, or leave it out")
        if self.partition_by and self.output is None:
            raise UsageError("partition_by: for files; add --output")
        if len(set(self.partition_by)) < len(self.partition_by):
            raise UsageError("partition_by: names a column twice; name each once")


@dataclass(frozen=True, kw_only=True)
class Join:
    """An outside table, and the columns that it is joined by."""

    name: str
    source: str
    ours: tuple[str, ...]
    theirs: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Segments:
    """Where a number lies among bounds, as a column of labels: one more label than bounds."""

    name: str
    column: str
    bounds: tuple[float, ...]
    labels: tuple[str, ...]


def read_named(given: str, *, option: str, example: str) -> tuple[str, str]:
    """NAME=EXPRESSION as two texts. Raises UsageError."""
    name, equals, sql = (part.strip() for part in given.partition("="))
    if not equals or not name or not sql or name.startswith("__"):
        raise UsageError(f"{option} {given!r}: write NAME=EXPRESSION, such as {example}")
    return name, sql


def read_join(given: str) -> Join:
    """[NAME=]PATH:COLUMN[,COLUMN], each OURS=THEIRS if the two differ. Raises UsageError."""
    place, _, columns = given.rpartition(":")
    named = _TABLE.fullmatch(place)
    name, source = (named[1], named[2]) if named else (place.rstrip("/").rpartition("/")[2].partition(".")[0], place)
    pairs = [[part.strip() for part in column.partition("=")] for column in columns.split(",")]
    ours, theirs = tuple(pair[0] for pair in pairs), tuple(pair[2] if pair[1] else pair[0] for pair in pairs)
    if not source or not all((name, *ours, *theirs)) or columns.startswith("//"):
        raise UsageError(f"join {given!r}: name the columns to join by: PATH:COLUMN[,COLUMN] or PATH:OURS=THEIRS")
    return Join(name=name, source=source, ours=ours, theirs=theirs)


def read_segments(given: str) -> Segments:
    """NAME=COLUMN:BOUNDS[:LABELS]. Raises UsageError."""
    name, rest = read_named(given, option="segment", example="size=width:128,512")
    column, _, rest = rest.partition(":")
    words, _, labelled = rest.partition(":")
    bounds = tuple(map(_bound, (word.strip() for word in words.split(","))))
    if not column.strip() or None in bounds or list(bounds) != sorted(set(bounds), key=lambda bound: bound or 0):
        raise UsageError(
            f"segment {given!r}: write NAME=COLUMN:BOUND,BOUND with numbers that grow, such as size=width:128,512"
        )
    numbers = tuple(bound for bound in bounds if bound is not None)
    labels = tuple(label.strip() for label in labelled.split(",")) if labelled else _labels(numbers)
    if len(labels) != len(bounds) + 1 or len(set(labels)) < len(labels):
        raise UsageError(f"segment {given!r}: {len(bounds)} bounds make {len(bounds) + 1} segments; name each once")
    return Segments(name=name, column=column.strip(), bounds=numbers, labels=labels)


def _bound(word: str) -> float | None:
    try:
        number = float(word)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _labels(bounds: tuple[float, ...]) -> tuple[str, ...]:
    """Such as: below 128, 128 to 512, from 512."""
    between = (f"{low:.12g} to {high:.12g}" for low, high in itertools.pairwise(bounds))
    return f"below {bounds[0]:.12g}", *between, f"from {bounds[-1]:.12g}"
