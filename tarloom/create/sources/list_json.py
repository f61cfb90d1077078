"""JSON lists: one object a line, or one array of objects. Columns are what all their values are: truth values, whole
numbers, numbers, else text."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from tarloom.create.sources.boxes import BOXES
from tarloom.create.sources.inputs import InputFile, first_byte, lines
from tarloom.create.sources.json_array import elements
from tarloom.create.sources.list_reader import ListReader
from tarloom.errors import UsageError
from tarloom.format.arrow_types import Array

Object = dict[str, Any] | None
"""None for what is no object: a row that fails (bad_row), not the run."""


REMEDY = "write one object a line, or one array of objects (pandas: orient='records')"


class JsonReader(ListReader):
    """Both are read as streams. What is no object is one row of nulls."""

    def columns(self, file: InputFile) -> list[str]:
        return list(
            dict.fromkeys(name for batch in self._objects(file) for found in filter(None, batch) for name in found)
        )

    def scan(self, files: Sequence[InputFile]) -> tuple[int, pa.Schema]:
        rows, kinds = 0, {name: _Kinds() for name in self.additional if name != self.bbox}
        present: set[str] = set()
        any_object = False
        for file in files:
            before = rows
            for batch in self._objects(file):
                rows += len(batch)
                any_object = any_object or any(found is not None for found in batch)
                for found in filter(None, batch):
                    present |= found.keys()
                    for name, kind in kinds.items():
                        kind.add(found.get(name))
            if rows == before + 1:
                self._check_no_table(file, batch[0])
        if rows and not any_object:
            raise UsageError(f"{files[0].where}: no line of it is an object; {REMEDY}")
        if rows:
            self._check_columns(files[0], sorted(present))
        types = {name: kind.type for name, kind in kinds.items()}
        return rows, pa.schema([(name, types.get(name, BOXES)) for name in self.additional])

    def _file_tables(self, file: InputFile, additional: pa.Schema) -> Iterator[pa.Table]:
        kinds = {name: additional.field(name).type if name in additional.names else pa.string() for name in self.names}
        for batch in self._objects(file):
            rows = [found or {} for found in batch]
            columns = {name: self._column([row.get(name) for row in rows], name, kind) for name, kind in kinds.items()}
            yield self._finished(pa.table(columns), [place for place, found in enumerate(batch) if found is None])

    def _check_no_table(self, file: InputFile, found: Object) -> None:
        """Raises UsageError where a file's one object holds whole columns, as pandas writes a table by default."""
        if found is not None and isinstance(found.get(self.texts.get("url", "")), (dict, list)):
            raise UsageError(f"{file.where}: holds columns, not rows; {REMEDY}")

    def _objects(self, file: InputFile) -> Iterator[list[Object]]:
        if first_byte(file) == b"[":
            for batch in elements(file):
                yield [_object(found) for found in batch]
        else:
            for batch in lines(file):
                yield [_object(_parsed(line)) for line in batch]

    def _column(self, values: list[Any], name: str, kind: pa.DataType) -> Array:
        """Boxes as JSON texts still: they may be anything."""
        kind = pa.string() if name == self.bbox else kind
        return pa.array([_value(value, kind) for value in values], kind)


@dataclass
class _Kinds:
    """The kinds of values that a JSON column holds, and the type that fits them all."""

    seen: set[type] = field(default_factory=set)

    def add(self, value: object) -> None:
        if value is None:
            return
        fits = not isinstance(value, int) or -(2**63) <= value < 2**63
        self.seen.add(type(value) if fits else str)

    @property
    def type(self) -> pa.DataType:
        if self.seen == {bool}:
            return pa.bool_()
        if self.seen == {int}:
            return pa.int64()
        return pa.float64() if self.seen and self.seen <= {int, float} else pa.string()


def _value(value: Any, kind: pa.DataType) -> Any:
    if value is None or kind != pa.string():
        return float(value) if isinstance(value, int) and kind == pa.float64() else value
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text.encode("utf-8", "replace").decode()


def _object(found: Any) -> Object:
    return found if isinstance(found, dict) else None


def _parsed(text: bytes) -> Any:
    try:
        return json.loads(text.decode("utf-8-sig", "replace"))
    except (ValueError, RecursionError):
        return None
