"""Writes datasets by tarfile, pyarrow and json alone, so that tests of the format do not trust what they test."""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

Sample = tuple[str, Mapping[str, bytes]]


def write_tar(
    path: Path, samples: Iterable[Sample], *, mtime: int = 0, format: int = tarfile.PAX_FORMAT
) -> list[tuple[str, str, int, int]]:
    """Write a tar; (key, extension, offset, size) of its members, as tarfile reads them back."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=format) as tar:
        for key, members in samples:
            for extension, data in members.items():
                info = tarfile.TarInfo(f"{key}.{extension}")
                info.size, info.mtime = len(data), mtime
                tar.addfile(info, io.BytesIO(data))
    with tarfile.open(path) as tar:
        return [(*split_at_first_dot(m.name), m.offset_data, m.size) for m in tar]


def split_at_first_dot(name: str) -> tuple[str, str]:
    folder, slash, base = name.rpartition("/")
    key, _, extension = base.partition(".")
    return folder + slash + key, extension


def some_samples(count: int, *, first: int = 0) -> list[Sample]:
    """Samples of a jpg (not really), a JSON that names the key, and a text."""
    return [(f"{i:09d}", sample_members(f"{i:09d}", i)) for i in range(first, first + count)]


def sample_members(key: str, seed: int) -> dict[str, bytes]:
    picture = hashlib.sha256(str(seed).encode()).digest() * (1 + seed % 30)
    return {"jpg": picture, "json": json.dumps({"key": key, "status": "success"}).encode(), "txt": b"a caption"}


def write_parquet(path: Path, columns: Mapping[str, object], footer: Mapping[str, str] | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(columns)
    pq.write_table(table.replace_schema_metadata(dict(footer)) if footer else table, path)


def packed_dataset(folder: Path, *, shards: int = 2, rows: int = 10, failed: tuple[int, ...] = (3, 7)) -> None:
    """A dataset as creation and two stages leave it: a plan, and for every shard all of its files."""
    for shard in range(shards):
        name = f"{shard:05d}"
        samples = some_samples(rows, first=shard * rows)
        kept = [sample for i, sample in enumerate(samples) if i not in failed]
        places = write_tar(folder / f"{name}.tar", kept)
        identity = f"sha256:{hashlib.sha256((folder / f'{name}.tar').read_bytes()).hexdigest()}"
        write_index(folder, name, places, identity)
        write_metadata(folder, name, [key for key, _ in samples], failed)
        write_stats(folder, name, rows, len(failed), identity)
        write_sidecar(folder, name, "caption", [key for key, _ in kept], {"text": ["hello"] * len(kept)}, identity)
        vectors = pa.FixedSizeListArray.from_arrays(pa.array([0.5] * 4 * len(kept), pa.float16()), 4)
        write_sidecar(folder, name, "clip", [key for key, _ in kept], {"embedding": vectors}, identity)
    (folder / "_tarloom" / "plan.json").write_text(json.dumps({"rows": shards * rows}))


def write_index(folder: Path, shard: str, places: list[tuple[str, str, int, int]], identity: str) -> None:
    keys = list(dict.fromkeys(key for key, *_ in places))
    columns: dict[str, object] = {"__key__": pa.array(keys, pa.string())}
    for extension in sorted({extension for _, extension, *_ in places}):
        found = {key: (offset, size) for key, e, offset, size in places if e == extension}
        columns[f"{extension}:offset"] = pa.array([found.get(key, (None,))[0] for key in keys], pa.int64())
        columns[f"{extension}:size"] = pa.array([found.get(key, (None, None))[1] for key in keys], pa.int64())
    footer = {
        "tarloom.format_version": "1",
        "tarloom.shard": shard,
        "tarloom.tar_size": str((folder / f"{shard}.tar").stat().st_size),
        "tarloom.identity": identity,
        "tarloom.etag": "",
        "tarloom.rows": str(len(keys)),
    }
    write_parquet(folder / "_tarloom" / "index" / f"{shard}.parquet", columns, footer)


def write_metadata(folder: Path, shard: str, keys: list[str], failed: tuple[int, ...]) -> None:
    good = [i not in failed for i in range(len(keys))]
    columns = {
        "url": [f"http://127.0.0.1/{key}.jpg" for key in keys],
        "key": keys,
        "status": ["success" if ok else "failed_to_download" for ok in good],
        "error_message": pa.array([None if ok else "http_404: Not Found" for ok in good], pa.string()),
        "width": pa.array([256 if ok else None for ok in good], pa.int32()),
        "error": pa.array([None if ok else "http_404" for ok in good], pa.string()),
    }
    write_parquet(folder / f"{shard}.parquet", columns)


def write_stats(folder: Path, shard: str, rows: int, failed: int, identity: str | None) -> None:
    stats = {
        "count": rows,
        "successes": rows - failed,
        "failed_to_download": failed,
        "failed_to_resize": 0,
        "duration": 1.5,
        "start_time": 1000.0,
        "end_time": 1001.5,
        "status_dict": {"success": rows - failed, "http_404: Not Found": failed},
    }
    if identity is not None:
        stats |= {"identity": identity, "tar_size": (folder / f"{shard}.tar").stat().st_size}
    (folder / f"{shard}_stats.json").write_text(json.dumps(stats, indent=4))


def write_sidecar(
    folder: Path, shard: str, stage: str, keys: list[str], columns: Mapping[str, object], identity: str
) -> None:
    footer = {
        "tarloom.format_version": "1",
        "tarloom.stage": stage,
        "tarloom.fingerprint": json.dumps({"model": "tiny"}),
        "tarloom.identity": identity,
        "tarloom.rows": str(len(keys)),
    }
    ends = {"status": ["success"] * len(keys), "error": pa.nulls(len(keys), pa.string())}
    write_parquet(folder / f"{shard}.{stage}.parquet", {"__key__": keys, **columns, **ends}, footer)
