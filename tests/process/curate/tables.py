"""Small datasets whose tables are known in full, written by tarfile and pyarrow alone."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from tests.format.raw import write_index, write_parquet, write_sidecar, write_stats, write_tar

Row = tuple[int | None, str | None, float | None]
"""Width, class, score."""


def write_tables(folder: Path, rows: Sequence[Row], *, shards: int = 2) -> Path:
    """Shards with these rows: width and class in the metadata, in another order than the tar; scores in a sidecar."""
    folder.mkdir(parents=True, exist_ok=True)
    for shard in range(shards):
        name, numbers = f"{shard:05d}", range(shard, len(rows), shards)
        keys = [f"{number:06d}" for number in numbers]
        places = write_tar(folder / f"{name}.tar", [(key, {"txt": b"text"}) for key in keys])
        identity = f"sha256:{hashlib.sha256((folder / f'{name}.tar').read_bytes()).hexdigest()}"
        write_index(folder, name, places, identity)
        write_metadata(folder, name, keys, [rows[number] for number in numbers])
        write_stats(folder, name, len(keys) + 1, 1, identity)
        scores = pa.array([rows[number][2] for number in numbers], pa.float32())
        write_sidecar(folder, name, "clip", keys, {"score": scores}, identity)
    (folder / "_tarloom" / "plan.json").write_text("{}")
    return folder


def write_metadata(folder: Path, shard: str, keys: Sequence[str], rows: Sequence[Row]) -> None:
    """A row for each key, the last one first, behind one that failed."""
    columns = {
        "key": ["failed", *reversed(keys)],
        "status": ["failed_to_download", *(["success"] * len(keys))],
        "width": pa.array([None, *(row[0] for row in reversed(rows))], pa.int32()),
        "class": pa.array([None, *(row[1] for row in reversed(rows))], pa.string()),
        "unused": pa.array(["x" * 100] * (len(keys) + 1), pa.string()),
    }
    write_parquet(folder / f"{shard}.parquet", columns)
