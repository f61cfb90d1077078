"""Datasets of a few tiny samples with what a model said about each, to choose from."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from tarloom.format.index_load import load_index
from tarloom.format.sidecar import SidecarInfo, write_sidecar
from tarloom.format.storage import LocalStorage
from tests.format.raw import write_parquet, write_tar

KINDS = ("circle", "square", "star")


@dataclass(frozen=True, kw_only=True)
class Said:
    """A row: its own caption, what a model made of it (None: nothing), and a score; without picture if it failed."""

    key: str
    caption: str
    text: str | None
    score: float = 0.5
    failed: bool = False


def some_rows(count: int) -> list[Said]:
    """Every third caption is another one, every seventh row has failed, every eleventh has no caption."""
    return [
        Said(
            key=f"{number:09d}",
            caption=f"a {KINDS[number % 3]} {number}",
            text=None if number % 11 == 10 else f"a {KINDS[number % 3]} {number + (number % 3 == 2)}",
            score=number / count,
            failed=number % 7 == 6,
        )
        for number in range(count)
    ]


def write_dataset(folder: Path, shards: Sequence[Sequence[Said]], *, captioned: bool = True) -> Path:
    """Shards with the metadata of all their rows; and, of those in the tars, sidecars of two stages."""
    for number, rows in enumerate(shards):
        name = f"{number:05d}"
        kept = [row for row in rows if not row.failed]
        write_tar(folder / f"{name}.tar", [(row.key, _members(row)) for row in kept])
        write_parquet(folder / f"{name}.parquet", _metadata(rows))
        texts = {"text": pa.array([row.text for row in kept], pa.string())}
        if captioned:
            _write_sidecar(folder, name, "caption", texts, [row.text is not None for row in kept])
        scores = pa.array([[row.score, 1 - row.score] for row in kept], pa.list_(pa.float32(), 2))
        columns = {"score": pa.array([row.score for row in kept], pa.float64()), "pair": scores}
        _write_sidecar(folder, name, "clip_score", columns, [True] * len(kept))
    return folder


def _members(row: Said) -> dict[str, bytes]:
    return {"png": row.key.encode() * 9, "txt": row.caption.encode(), "json": b'{"key": "%s"}' % row.key.encode()}


def _metadata(rows: Sequence[Said]) -> dict[str, pa.Array]:
    """As generation leaves it: with columns of its own, and none of those about downloads."""
    texts = {
        "animal": [row.caption.split()[-2:][0] for row in rows],
        "caption": [row.caption for row in rows],
        "key": [row.key for row in rows],
        "status": ["failed_to_generate" if row.failed else "success" for row in rows],
        "error_message": ["no_match: there is none" if row.failed else None for row in rows],
        "error": ["no_match" if row.failed else None for row in rows],
    }
    sizes = pa.array([None if row.failed else 32 for row in rows], pa.int32())
    return {name: pa.array(values, pa.string()) for name, values in texts.items()} | {"width": sizes}


def _write_sidecar(folder: Path, shard: str, stage: str, columns: dict[str, pa.Array], good: list[bool]) -> None:
    storage = LocalStorage(str(folder))
    index = load_index(storage, shard, storage.head(f"{shard}.tar"))
    endings = {
        "status": pa.array(["success" if fine else "failed" for fine in good], pa.string()),
        "error": pa.array([None if fine else "empty" for fine in good], pa.string()),
    }
    info = SidecarInfo(stage=stage, fingerprint={"model": "m"}, identity=index.identity, rows=index.rows)
    write_sidecar(storage, shard, pa.table({"__key__": index.keys, **columns, **endings}), info)
