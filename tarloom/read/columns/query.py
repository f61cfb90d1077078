"""SQL over a dataset's columns, streamed: SELECT caption.status, count(*) FROM samples GROUP BY 1

The table `samples` has `__key__` and the columns of metadata and sidecars, under the names of ds.columns. Those that
the SQL names are read, from parquet alone, each time that it scans the table; in memory is what duckdb keeps of them.
"""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

from tarloom.errors import EngineError, TarloomError, UsageError
from tarloom.format.index import KEY
from tarloom.read.columns.evaluate import first_line
from tarloom.read.columns.sql import (
    TABLE,
    Names,
    Node,
    check_cases,
    column_refs,
    connect,
    for_duckdb,
    names_of,
    nodes,
    parse,
    unparse,
)
from tarloom.read.plan.picking import column_batches

if TYPE_CHECKING:
    from tarloom.read.dataset import Dataset

MEMORY = "2GB"
"""What duckdb may take, for sorting and grouping."""
AGAIN_SECONDS = 0.05
"""How often this thread looks whether it was interrupted, and duckdb is told to stop until it does."""


class Query:
    """An answer that comes in batches. To make one reads footers only.

    Raises UsageError for SQL that cannot work, CorruptShard where a damaged table may have a column that is named.
    """

    def __init__(self, dataset: "Dataset", sql: str) -> None:
        self._what = f"{dataset.path}: query"
        tree, known_names = parse(sql, what=self._what), names_of(dataset.catalog, self._what)
        own = _tables(tree)
        names = replace(known_names, members=(), stand_ins={}, tables=own)  # it may call things of its own like members
        used = _used(tree, names)
        check_cases([KEY, *used], what=self._what)
        self._samples = _Samples(dataset.select(*used))
        self._database = connect(memory_limit=MEMORY)
        try:
            self._database.register(TABLE, self._samples)
            self._answer = self._database.sql(unparse(tree))
        except duckdb.Error as error:
            raise UsageError(f"{self._what}: {first_line(error)}{_hint(tree, known_names)}") from error
        self.schema: pa.Schema = pa.schema(self._answer.limit(0).to_arrow_table().schema)

    def batches(self, rows: int = 1024) -> Iterator[pa.RecordBatch]:
        """The answer, little by little; once. Raises as reading columns does, EngineError where it does not fit into
        memory, UsageError where a value is not what the SQL takes it for."""
        with closing(self._database), ThreadPoolExecutor(1, thread_name_prefix="tarloom-query") as pool:
            asked: Future[Any] = pool.submit(self._answer.to_arrow_reader, rows)
            try:  # and this thread can be interrupted meanwhile
                reader = _result(asked)
                while (batch := _result(asked := pool.submit(next, reader, None))) is not None:
                    yield batch
            except (duckdb.Error, pa.ArrowException, OSError) as error:
                raise self._samples.error or self._our_error(error) from error
            finally:
                while not asked.done():  # before it has begun it heeds no interruption
                    self._database.interrupt()
                    wait([asked], AGAIN_SECONDS)

    def _our_error(self, error: Exception) -> TarloomError:
        reason = first_line(error)
        if "Out of Memory" in reason:
            return EngineError(f"{self._what}: {reason}; select fewer rows or columns, or aggregate them")
        return UsageError(f"{self._what}: {reason}")


class _Samples:
    """The table, for duckdb: a stream that begins anew for every scan."""

    def __init__(self, dataset: "Dataset") -> None:
        self._dataset = dataset
        self.error: TarloomError | None = None
        """Which ended a scan; duckdb hands on its text only."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        schema = for_duckdb(self._dataset.schema.empty_table()).schema
        reader = pa.RecordBatchReader.from_batches(schema, self._batches(schema))
        stream: object = reader.__arrow_c_stream__()  # type: ignore[no-untyped-call]
        return stream

    def _batches(self, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        try:
            for batch in column_batches(self._dataset.plan(), self._dataset.catalog.storage):
                yield from for_duckdb(pa.Table.from_batches([batch])).cast(schema).to_batches()
        except TarloomError as error:
            self.error = error
            raise


def _result(asked: Future[Any]) -> Any:
    """A thread that waits without end sleeps through an interruption that another thread was told of."""
    while not wait([asked], AGAIN_SECONDS).done:
        pass
    return asked.result()


def _tables(tree: Node) -> set[str]:
    """What the table is called, in lower case: its own name, and those that the SQL gives it."""
    ours = (node for node in nodes(tree) if node.get("table_name", "").lower() == TABLE)
    return {TABLE, *(node["alias"].lower() for node in ours if node.get("alias"))}


def _used(tree: Node, names: Names) -> list[str]:
    """The columns that are named, which from here on have one quoted name each; all of them where a star is."""
    refs = list(column_refs(tree))
    found = {names.refer(node) for node in refs}
    whole_rows = any(node["column_names"][-1].lower() in names.tables for node in refs)
    for node in nodes(tree):
        whole_rows |= _is_of_whole_rows(node)
        found |= names.columns.keys() & set(node.get("using_columns") or ())
    return [name for name in names.columns if whole_rows or name in found]


def _is_of_whole_rows(node: Node) -> bool:
    """Whether it names all columns, or some by their places among all."""
    if node.get("class") in ("POSITIONAL_REFERENCE", "STAR") or node.get("column_name_alias"):
        return True
    return node.get("type") == "SHOW_REF" or node.get("ref_type") == "NATURAL"


def _hint(tree: Node, names: Names) -> str:
    """What to say of names that are members of the tars."""
    named = {part for node in column_refs(tree) for part in node["column_names"]}
    members = sorted(named & set(names.members))
    return f"; {', '.join(members)} lies in the tars, and SQL sees columns only" if members else ""
