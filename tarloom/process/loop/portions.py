"""What passes between machines where a shard's batches are read on one and answered on another: Arrow's streams.

A portion is one batch: its rows, its decoded pictures, which rows each stage is asked about, and what stages said
earlier of the others, where later ones want to see it. An answered portion is what each stage said.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from tarloom.format.arrow_types import Array
from tarloom.process.batch import Batch, Decoder, Picture, stored_pictures
from tarloom.process.loop.asking import Numbered
from tarloom.process.loop.parts import ROW

Columns = dict[str, Array]
_ASKED, _SAID, _PICTURE = "__asked__.", "__said__.", "__picture__."
_FACTS = b"tarloom"


class Said:
    """What a stage has said about the rows of one batch, by their places in it."""

    def __init__(self, asked: np.ndarray, earlier: pa.Table) -> None:
        self.asked = asked
        """Bool of shape (rows,): the others were answered by earlier runs."""
        self.earlier = earlier
        """One row for each of the batch, only the columns that later stages want to see."""
        self.places: Sequence[int] = ()
        self.answer: pa.Table | None = None
        """To the rows at these places."""

    @property
    def done(self) -> np.ndarray:
        return ~self.asked

    def add(self, numbers: Sequence[int], answer: pa.Table) -> None:
        self.places, self.answer = numbers, answer

    def of(self, numbers: Sequence[int]) -> pa.Table:
        """Those columns alone. numbers: those of the whole batch, in order."""
        if self.answer is None:
            return self.earlier
        if self.asked.all():
            return self.answer
        old = np.flatnonzero(self.done)
        both = [self.earlier.take(old), self.answer.select(self.earlier.column_names)]
        return pa.concat_tables(both).take(np.argsort(np.concatenate([old, self.places])))


@dataclass(frozen=True, kw_only=True)
class Portion:
    """A batch on its way to the stages."""

    numbered: Numbered
    said: Mapping[str, Said]
    """By the names of the stages that are still to be asked."""
    answers: Sequence["Answer"] = ()
    """Of those that were."""
    bytes: int = 0
    """Of what was read."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """That reading took, by kind of work."""


def pack_portion(portion: Portion, sizes: Sequence[int]) -> pa.Buffer:
    """sizes: for which the batch's pictures are decoded."""
    numbers, batch = portion.numbered
    columns: Columns = {name: batch.column(name) for name in batch.rows.schema.names}
    columns[ROW] = pa.array(numbers, pa.int64())
    for size in sizes:
        columns |= _packed(f"{_PICTURE}{size}.", batch.pictures(size))
    for name, said in portion.said.items():
        columns[f"{_ASKED}{name}"] = pa.array(said.asked)
        columns |= {f"{_SAID}{name}.{c}": said.earlier.column(c).combine_chunks() for c in said.earlier.column_names}
    facts = {"seconds": portion.seconds, "bytes": portion.bytes, "sizes": list(sizes), "stages": list(portion.said)}
    return _stream([_with_facts(pa.table(columns), facts), *map(_as_table, portion.answers)])


def unpack_portion(data: Any, decoder: Decoder) -> Portion:
    """decoder: for pictures of other sizes, should a stage ask for them after all."""
    table, *answers = _tables(data)
    facts, own = _facts(table), [name for name in table.column_names if not name.startswith((_ASKED, _SAID, _PICTURE))]
    rows = pa.RecordBatch.from_arrays(
        [_whole(table, name) for name in own if name != ROW], names=[n for n in own if n != ROW]
    )
    pictures = {size: _unpacked(f"{_PICTURE}{size}.", table, rows) for size in facts["sizes"]}
    return Portion(
        numbered=(table.column(ROW).to_numpy().tolist(), Batch(rows, decoder, pictures)),
        said={name: _said(name, table) for name in facts["stages"]},
        answers=[_answer(each) for each in answers],
        bytes=facts["bytes"],
        seconds=facts["seconds"],
    )


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a stage said about a batch, on its way to where it is kept."""

    stage: str
    table: pa.Table
    """With the column `__row__`: the rows' numbers."""
    bytes: int = 0
    """Of what was read."""
    seconds: Mapping[str, float]
    """That it took, by kind of work."""


def pack_answers(answers: Iterable[Answer]) -> pa.Buffer:
    return _stream([_as_table(answer) for answer in answers])


def unpack_answers(data: Any) -> Iterator[Answer]:
    return map(_answer, _tables(data))


def _as_table(answer: Answer) -> pa.Table:
    facts = {"stage": answer.stage, "bytes": answer.bytes, "seconds": answer.seconds}
    return _with_facts(answer.table, facts)


def _answer(table: pa.Table) -> Answer:
    return Answer(table=table.replace_schema_metadata(None), **_facts(table))


def _said(name: str, table: pa.Table) -> Said:
    prefix = f"{_SAID}{name}."
    earlier = {n.removeprefix(prefix): table.column(n) for n in table.column_names if n.startswith(prefix)}
    asked = table.column(f"{_ASKED}{name}").to_numpy()
    return Said(asked, pa.table(earlier) if earlier else pa.table({}))


def _packed(prefix: str, pictures: Sequence[Picture]) -> Columns:
    """All pixels in one buffer, copied once."""
    pixels = [np.zeros(0, np.uint8) if p.rgb is None else np.ascontiguousarray(p.rgb).reshape(-1) for p in pictures]
    ends = np.cumsum([0, *(len(each) for each in pixels)], dtype=np.int64)
    body = np.concatenate(pixels) if pixels else np.zeros(0, np.uint8)
    shapes = [(0, 0) if picture.rgb is None else picture.rgb.shape[:2] for picture in pictures]
    return {
        f"{prefix}rgb": pa.Array.from_buffers(
            pa.large_binary(), len(pictures), [None, pa.py_buffer(ends.data), pa.py_buffer(body.data)]
        ),
        f"{prefix}height": pa.array([height for height, _ in shapes], pa.int32()),
        f"{prefix}width": pa.array([width for _, width in shapes], pa.int32()),
        f"{prefix}status": pa.array([picture.ending[0] for picture in pictures], pa.string()),
        f"{prefix}error": pa.array([picture.ending[1] for picture in pictures], pa.string()),
    }


def _unpacked(prefix: str, table: pa.Table, rows: pa.RecordBatch) -> list[Picture]:
    """The pixels are copied out of memory that is shared and cannot be written to, which torch does not like."""
    pixels = _whole(table, f"{prefix}rgb")
    names = ("height", "width", "status", "error")
    facts = zip(*(table.column(f"{prefix}{name}").to_pylist() for name in names), strict=True)
    return [
        Picture(
            data=data or b"",
            rgb=np.frombuffer(pixels[row].as_buffer(), np.uint8).reshape(height, width, 3).copy() if height else None,
            ending=(status, error),
        )
        for row, (data, (height, width, status, error)) in enumerate(zip(stored_pictures(rows), facts, strict=True))
    ]


def _whole(table: pa.Table, name: str) -> Array:
    return table.column(name).combine_chunks()


def _with_facts(table: pa.Table, facts: Mapping[str, Any]) -> pa.Table:
    return table.replace_schema_metadata({_FACTS: json.dumps(facts).encode()})


def _facts(table: pa.Table) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((table.schema.metadata or {})[_FACTS])
    return found


def _stream(tables: Sequence[pa.Table]) -> pa.Buffer:
    """One stream behind the other."""
    sink = pa.BufferOutputStream()
    for table in tables:
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
    return sink.getvalue()


def _tables(data: Any) -> Iterator[pa.Table]:
    source = pa.BufferReader(data)
    while source.tell() < source.size():
        yield pa.ipc.open_stream(source).read_all()
