"""Reading a whole dataset for the sake of reading it: rows, bytes, a few samples, and one digest to compare readers.

Every reader yields *tallies* of parts of the dataset, in any order; they add up. Tallies are small, so that engines
send them where they would otherwise send the bytes.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tarloom.errors import UsageError
from tarloom.format.arrow_types import Array, ChunkedArray
from tarloom.read.digest import Digest
from tarloom.read.ledger import Ledger, Skipped
from tarloom.read.view import ERROR, RGB, JoinPolicy, OnError

PREVIEW_CHARACTERS = 80

_BESIDE = ("__key__", "__url__", "__local_path__", ERROR)
"""What a sample holds beside members and columns."""

_TALLY_TYPES: dict[str, pa.DataType] = {
    "rows": pa.int64(),
    "bytes": pa.int64(),
    "digest": pa.string(),
    "samples": pa.string(),
    "ledger": pa.string(),
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
    where: str | None = None
    """SQL over columns of metadata and sidecars: only samples for which it is true are read. "width >= 256"."""
    join: JoinPolicy = "error"
    """What to do with a sample that has no row, or a stale one, in a sidecar or metadata table that --select or --where
    names. error: stop; skip: leave the sample out; null: fill its columns with nulls."""
    decode: tuple[str, ...] = ()
    """What members are decoded to: rgb (all pictures), or each by its name: jpg=rgb json=json txt=text; else bytes."""
    on_error: OnError = "raise"
    """What to do with a sample that cannot be read or decoded. raise: stop; skip: leave it out and count it; row: keep
    it, with the reason in `__error__`."""
    max_skipped: int | None = None
    """Stop once more than this many samples could not be read. Unset: never stop, but exit with code 3 if any could not
    be read."""
    max_in_a_row: int | None = None
    """Stop after more failures in a row than this."""
    ledger: str | None = None
    """File for what could not be read and why: a line of JSON for each."""
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
        limited = (name for name in ("max_skipped", "max_in_a_row", "ledger") if getattr(self, name) is not None)
        if self.on_error == "raise" and (option := next(limited, None)):
            raise UsageError(f"{option} is of no use where on_error is raise: the first error is the end")


@dataclass(kw_only=True)
class Tally:
    """What was read: a part, or by merging parts the whole."""

    rows: int = 0
    bytes: int = 0
    """Of members; joined columns are not counted."""
    digest: Digest | None = None
    samples: list[dict[str, str]] = field(default_factory=list)
    """Previews of the samples with the smallest keys."""
    ledger: Ledger = field(default_factory=Ledger)
    """What could not be read. Of these, `rows` has those that are rows all the same."""

    def merge(self, other: "Tally", *, show: int) -> None:
        """Add what the other counted; keep `show` previews. Raises TooManyErrors beyond the limits of this ledger."""
        self.rows += other.rows
        self.bytes += other.bytes
        if self.digest is not None and other.digest is not None:
            self.digest.merge(other.digest)
        self.samples = sorted(self.samples + other.samples, key=lambda sample: sample.get("__key__", ""))[:show]
        self.ledger.merge(other.ledger)

    def to_batch(self) -> pa.RecordBatch:
        """One row of TALLY_SCHEMA, for engines whose results are tables."""
        digest = None if self.digest is None else self.digest.hex
        texts = {"samples": json.dumps(self.samples), "ledger": json.dumps(self.ledger.to_json())}
        row = {"rows": self.rows, "bytes": self.bytes, "digest": digest, **texts}
        return pa.RecordBatch.from_pylist([row], schema=TALLY_SCHEMA)

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "Tally":
        """The tally that became a row of TALLY_SCHEMA."""
        digest = None if row["digest"] is None else Digest.from_hex(row["digest"])
        samples, ledger = json.loads(row["samples"]), Ledger.from_json(json.loads(row["ledger"]))
        return cls(rows=row["rows"], bytes=row["bytes"], digest=digest, samples=samples, ledger=ledger)


@dataclass(frozen=True, kw_only=True)
class Tallier:
    """Makes tallies. Small and picklable: it travels to where the samples are."""

    members: tuple[str, ...]
    """Which of the columns are members, whose bytes count."""
    digest: bool
    show: int
    json: frozenset[str] = frozenset()
    """Members that batches hold as JSON text: what counts is what it says."""
    skip: bool = False
    """Whether rows with `__error__` are left out, counted in the ledger alone."""

    def of_batch(self, batch: pa.RecordBatch | pa.Table) -> Tally:
        """The tally of an Arrow batch with `__key__`, members as (large_)binary, and any other columns."""
        tally = self._empty()
        if ERROR in batch.schema.names:
            tally.ledger.count(batch.num_rows, _failures(batch))
            batch = batch.filter(pc.is_null(batch[ERROR])) if self.skip else batch
        tally.rows = batch.num_rows
        for name in batch.schema.names:
            column = pc.struct_field(batch[name], "data") if batch[name].type == RGB else batch[name]
            if name in self.members and _is_bytes(column.type):
                tally.bytes += pc.sum(pc.binary_length(cast(pa.BinaryArray, column))).as_py() or 0
            if tally.digest is not None and name not in _BESIDE:
                parse = json.loads if name in self.json else None
                _digest_column(tally.digest, batch["__key__"], name, batch[name], parse)
        tally.samples = [_preview(row) for row in batch.slice(0, self.show).to_pylist()]
        return tally

    def of_samples(self, samples: Iterable[Mapping[str, Any]], *, every: int) -> Iterator[Tally]:
        """Tallies of at most `every` samples each, from samples as dicts of `__key__`, members and columns."""
        tally = self._empty()
        for sample in samples:
            if ERROR in sample and self._is_left_out(sample, tally.ledger):
                continue
            tally.rows += 1
            for name, value in sample.items():
                if name in self.members:
                    tally.bytes += len(value) if isinstance(value, bytes) else getattr(value, "nbytes", 0)
                if tally.digest is not None and name not in _BESIDE:
                    tally.digest.add_value(sample["__key__"], name, value)
            if len(tally.samples) < self.show:
                tally.samples.append(_preview(sample))
            if tally.rows == every:
                yield tally
                tally = self._empty()
        if tally.rows or tally.ledger.entries:
            yield tally

    def merged(self, tallies: Iterable[Tally]) -> Tally:
        """One tally of all of them."""
        whole = self._empty()
        for tally in tallies:
            whole.merge(tally, show=self.show)
        return whole

    def _empty(self) -> Tally:
        """Of no sample."""
        return Tally(digest=Digest() if self.digest else None)

    def _is_left_out(self, sample: Mapping[str, Any], ledger: Ledger) -> bool:
        error = sample[ERROR]
        ledger.count(1, {} if error is None else {0: Skipped.from_text(error, sample.get("__key__"))})
        return self.skip and error is not None


def _failures(batch: pa.RecordBatch | pa.Table) -> dict[int, Skipped]:
    """Which rows have an error, and what it says."""
    rows = np.flatnonzero(batch[ERROR].is_valid().to_numpy(zero_copy_only=False))
    failed = batch.select(["__key__", ERROR]).take(pa.array(rows, pa.int64())).to_pylist()
    pairs = zip(rows.tolist(), failed, strict=True)
    return {row: Skipped.from_text(sample[ERROR], sample["__key__"]) for row, sample in pairs}


def _is_bytes(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _digest_column(
    digest: Digest, keys: Array | ChunkedArray, member: str, column: Any, parse: Callable[[str], Any] | None
) -> None:
    """Add a member or column of every sample; bytes are hashed where they lie in Arrow's buffer."""
    names = cast(list[str], keys.to_pylist())
    if not _is_bytes(column.type):
        for key, value in zip(names, column.to_pylist(), strict=True):
            digest.add_value(key, member, parse(value) if parse is not None and value is not None else value)
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
    elif (size := _picture_size(value)) is not None:
        text = f"<{size[1]} x {size[0]} picture>"
    else:
        text = str(value)
    return text if len(text) <= PREVIEW_CHARACTERS else f"{text[: PREVIEW_CHARACTERS - 1]}…"


def _picture_size(value: object) -> tuple[int, int] | None:
    """Height and width of a decoded picture in any of its forms."""
    if isinstance(value, np.ndarray) and value.ndim == 3:
        return value.shape[0], value.shape[1]
    if isinstance(value, dict) and value.keys() == {field.name for field in RGB}:
        return value["height"], value["width"]
    return None


def _as_text(data: bytes) -> str | None:
    """Readable text on one line, or None. The last character may have been cut in two."""
    text = data.decode(errors="ignore")
    if len(text.encode()) < len(data) - 3:
        return None
    line = " ".join(text.split())
    return line if line.isprintable() else None
