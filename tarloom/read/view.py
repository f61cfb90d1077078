"""What to read of each row: members, joined columns, which rows, in which form. It travels inside every piece."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal

import pyarrow as pa

JoinPolicy = Literal["error", "skip", "null"]
"""What becomes of a sample without exactly one fresh row in a table that is joined: an error, left out, or nulls."""
OnError = Literal["raise", "skip", "row"]
"""What becomes of a sample that cannot be read: the end, left out and counted, or a row with `__error__`."""
DecodeAs = Literal["rgb", "pil", "json", "text"]

ERROR: Final = "__error__"
RGB: Final = pa.struct(
    [
        pa.field("height", pa.int32(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("data", pa.binary(), nullable=False),
    ]
)
"""A decoded picture in a batch: `data` is uint8 of shape (height, width, 3), row by row."""
_DECODED_TYPES: dict[DecodeAs, pa.DataType] = {"rgb": RGB, "json": pa.string(), "text": pa.string()}


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column joined to the members by key: of the metadata (`stage` is None) or of a sidecar."""

    name: str
    """As users call it: "width", or "caption.text" for field "text" of the sidecar "caption"."""
    stage: str | None
    field: str
    type: pa.DataType


def by_stage(columns: Iterable[Column]) -> dict[str | None, list[Column]]:
    """The columns of each table: of the metadata (None), and of each sidecar."""
    found: dict[str | None, list[Column]] = {}
    for column in columns:
        found.setdefault(column.stage, []).append(column)
    return found


@dataclass(frozen=True, kw_only=True)
class Where:
    """A condition on columns. Rows for which it is not true (false, or NULL) are not read."""

    sql: str
    """In which every column is one quoted name."""
    columns: tuple[Column, ...]
    """All that it uses beside `__key__`."""


@dataclass(frozen=True, kw_only=True)
class View:
    """What is read of a dataset. Small and picklable."""

    members: tuple[str, ...]
    columns: tuple[Column, ...] = ()
    where: Where | None = None
    join: JoinPolicy = "error"
    decode: tuple[tuple[str, DecodeAs], ...] = ()
    """Which members are decoded, and to what; all others stay bytes."""
    on_error: OnError = "raise"

    @property
    def filters(self) -> bool:
        """Whether fewer rows may come than a piece has."""
        return self.where is not None or self.join == "skip" or self.on_error == "skip"

    @property
    def chooses(self) -> bool:
        """Whether columns decide which rows come."""
        return self.where is not None or (self.join == "skip" and bool(self.columns))

    @property
    def decoded(self) -> dict[str, DecodeAs]:
        """Members by name, and what they are decoded to."""
        return dict(self.decode)

    @cached_property
    def schema(self) -> pa.Schema:
        """Of batches: `__key__`, members, joined columns, and `__error__` where failed samples are rows.

        There a key may be null: of a sample of a shard that can no longer be opened.
        Members decoded to "pil" have no form in a batch; they stand as binary here.
        """
        fields: list[pa.Field[Any]] = [pa.field("__key__", pa.string(), nullable=self.on_error == "row")]
        fields += [pa.field(member, self._member_type(member)) for member in self.members]
        fields += [pa.field(column.name, column.type) for column in self.columns]
        if self.on_error == "row":
            fields.append(pa.field(ERROR, pa.string()))
        return pa.schema(fields)

    def _member_type(self, member: str) -> pa.DataType:
        decode_as = self.decoded.get(member)
        return _DECODED_TYPES.get(decode_as, pa.binary()) if decode_as else pa.binary()
