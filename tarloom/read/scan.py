"""Reading a whole dataset for the sake of reading it: rows, bytes, a few samples, and one digest to compare readers.

Every reader yields *tallies* of parts of the dataset, in any order; they add up. Tallies are small, so that engines
send them where they would otherwise send the bytes.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tarloom.errors import UsageError
from tarloom.read.digest import Digest
from tarloom.read.pieces import Array, ChunkedArray

PREVIEW_CHARACTERS = 80

_BESIDE = ("__key__", "__url__", "__local_path__")
"""What a sample holds beside members and columns."""

_TALLY_TYPES: dict[str, pa.DataType] = {
    "rows": pa.int64(),
    "bytes": pa.int64(),
    "digest": pa.string(),
    "samples": pa.string(),
}
TALLY_SCHEMA = pa.schema(_TALLY_TYPES)


@dataclass(frozen=True, kw_only=True)
class ScanConfig:
    """What to read, and what to say about it."""

    path: str
    """Folder of shards, or one .tar: local or remote; ours, img2dataset's or any WebDataset."""
    num_workers: int = 1
    """Processes, actors or task slots that read side by side."""
    batch_size: int = 1024
    """Rows of a batch, where the reader makes batches."""
    select: tuple[str, ...] = ()
    """Members and columns to read, such as jpg width caption.text; all members if none is given."""
    digest: bool = False
    """Also compute one digest of all keys, members and columns read, whatever their order, to compare readers by."""
    show: int = 3
    """How many samples to show."""
    ray_address: str | None = None
    """Ray: address of a running cluster, as RAY_ADDRESS; without either, one is started on this machine."""

    def check(self) -> None:
        """Raise UsageError for a value that cannot be."""
        for name, least in (("num_workers", 1), ("batch_size", 1), ("show", 0)):
            if getattr(self, name) < least:
                raise UsageError(f"{name} must be at least {least}, not {getattr(self, name)}")


@dataclass(kw_only=True)
class Tally:
    """What was read: a part, or by merging parts the whole."""

    rows: int = 0
    bytes: int = 0
    """Of members; joined columns are not counted."""
    digest: Digest | None = None
    samples: list[dict[str, str]] = field(default_factory=list)
    """Previews of the samples with the smallest keys."""

    def merge(self, other: "Tally", *, show: int) -> None:
        """Add what the other counted; keep `show` previews."""
        self.rows += other.rows
        self.bytes += other.bytes
        if self.digest is not None and other.digest is not None:
            self.digest.merge(other.digest)
        self.samples = sorted(self.samples + other.samples, key=lambda sample: sample["__key__"])[:show]

    def to_batch(self) -> pa.RecordBatch:
        """One row of TALLY_SCHEMA, for engines whose results are tables."""
        digest = None if self.digest is None else self.digest.hex
        row = {"rows": self.rows, "bytes": self.bytes, "digest": digest, "samples": json.dumps(self.samples)}
        return pa.RecordBatch.from_pylist([row], schema=TALLY_SCHEMA)

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "Tally":
        """The tally that became a row of TALLY_SCHEMA."""
        digest = None if row["digest"] is None else Digest.from_hex(row["digest"])
        return cls(rows=row["rows"], bytes=row["bytes"], digest=digest, samples=json.loads(row["samples"]))


@dataclass(frozen=True, kw_only=True)
class Tallier:
    """Makes tallies. Small and picklable: it travels to where the samples are."""

    members: tuple[str, ...]
    """Which of the columns are members, whose bytes count."""
    digest: bool
    show: int

    def of_batch(self, batch: pa.RecordBatch | pa.Table) -> Tally:
        """The tally of an Arrow batch with `__key__`, members as (large_)binary, and any other columns."""
        tally = Tally(rows=batch.num_rows, digest=Digest() if self.digest else None)
        for name in batch.schema.names:
            column = batch[name]
            if name in self.members and _is_bytes(column.type):
                tally.bytes += pc.sum(pc.binary_length(cast(pa.BinaryArray, column))).as_py() or 0
            if tally.digest is not None and name != "__key__":
                _digest_column(tally.digest, batch["__key__"], name, column)
        tally.samples = [_preview(row) for row in batch.slice(0, self.show).to_pylist()]
        return tally

    def of_samples(self, samples: Iterable[Mapping[str, Any]], *, every: int) -> Iterator[Tally]:
        """Tallies of at most `every` samples each, from samples as dicts of `__key__`, members and columns."""
        tally = self.empty()
        for sample in samples:
            tally.rows += 1
            for name, value in sample.items():
                if name in self.members and isinstance(value, bytes):
                    tally.bytes += len(value)
                if tally.digest is not None and name not in _BESIDE:
                    tally.digest.add_value(sample["__key__"], name, value)
            if len(tally.samples) < self.show:
                tally.samples.append(_preview(sample))
            if tally.rows == every:
                yield tally
                tally = self.empty()
        if tally.rows:
            yield tally

    def empty(self) -> Tally:
        """Of no sample."""
        return Tally(digest=Digest() if self.digest else None)


def _is_bytes(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _digest_column(digest: Digest, keys: Array | ChunkedArray, member: str, column: Any) -> None:
    """Add a member or column of every sample; bytes are hashed where they lie in Arrow's buffer."""
    names = cast(list[str], keys.to_pylist())
    if not _is_bytes(column.type):
        for key, value in zip(names, column.to_pylist(), strict=True):
            digest.add_value(key, member, value)
        return
    row = 0
    for chunk in column.chunks if isinstance(column, pa.ChunkedArray) else [column]:
        offsets, data = _binary_buffers(chunk)
        for i, valid in enumerate(chunk.is_valid().to_pylist()):
            if valid:
                digest.add(names[row + i], member, data[offsets[i] : offsets[i + 1]])
        row += len(chunk)


def _binary_buffers(array: Array) -> tuple[Sequence[int], memoryview]:
    """Offsets (one more than rows) and the bytes they point into."""
    _, offsets, data = array.buffers()
    width = np.int64 if pa.types.is_large_binary(array.type) else np.int32
    if not len(array) or offsets is None:
        return [0], memoryview(b"")
    ends = np.frombuffer(memoryview(offsets), width)[array.offset : array.offset + len(array) + 1]
    return ends.tolist(), memoryview(b"" if data is None else data)


def _preview(sample: Mapping[str, Any]) -> dict[str, str]:
    return {name: _short(value) for name, value in sample.items() if value is not None and name != "__local_path__"}


def _short(value: object) -> str:
    """A value as one line of at most PREVIEW_CHARACTERS; long bytes and vectors by their size."""
    if isinstance(value, (bytes, memoryview)):
        text = _as_text(bytes(value[: 4 * PREVIEW_CHARACTERS]))
        if text is None:
            return f"<{len(value):,} bytes>"
    elif isinstance(value, list):
        text = f"<{len(value):,} values>"
    else:
        text = str(value)
    return text if len(text) <= PREVIEW_CHARACTERS else f"{text[: PREVIEW_CHARACTERS - 1]}…"


def _as_text(data: bytes) -> str | None:
    """Readable text on one line, or None. The last character may have been cut in two."""
    text = data.decode(errors="ignore")
    if len(text.encode()) < len(data) - 3:
        return None
    line = " ".join(text.split())
    return line if line.isprintable() else None
