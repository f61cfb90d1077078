"""The dataset of the reading benchmarks: shards of photo-like JPEGs of 256 x 256 pixels and about 30 KB, with captions,
JSON (its row of the metadata), a metadata parquet and a sidecar `clip` (score: uniform from 0 to 1; embedding: 64
numbers).

The pictures of all shards are the same 1000 in another order; nothing that is measured can tell.
"""

import functools
import json
import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import simplejpeg

from benchmarks.photos import photo
from tarloom.format.index_load import load_index
from tarloom.format.layout import metadata_name, numbered_shard, tar_name
from tarloom.format.parquet import write_table
from tarloom.format.sidecar import SidecarInfo, write_sidecar
from tarloom.format.storage import Storage, open_storage
from tarloom.format.tar.writer import TarWriter

SIDE = 256
PICTURES = 1000
DIMENSIONS = 64


def make_dataset(folder: Path, *, shards: int, samples: int) -> None:
    """Write the shards that are not there yet, each with its index."""
    storage = open_storage(folder)
    wanted = [number for number in range(shards) if storage.head(f"{numbered_shard(number)}.clip.parquet") is None]
    if not wanted:
        return
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        pictures = list(pool.map(picture, range(min(PICTURES, samples)), chunksize=16))
    for number in wanted:
        _write_shard(storage, number, samples, pictures)


def picture(number: int) -> bytes:
    """One JPEG of quality 95, as img2dataset's defaults give; every second one with full chroma."""
    cv2.setNumThreads(1)
    pixels, _ = photo(0, number)
    height, width, _ = pixels.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    small = cv2.resize(pixels[top : top + side, left : left + side], (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    sampling = "444" if number % 2 else "420"
    return bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(small), quality=95, colorsubsampling=sampling))


def _write_shard(storage: Storage, number: int, samples: int, pictures: list[bytes]) -> None:
    shard, chance = numbered_shard(number), np.random.default_rng(number)
    keys = [f"{number * samples + row:09d}" for row in range(samples)]
    captions = [f"picture {key} of a benchmark, with {chance.integers(1 << 30)} words that nobody said" for key in keys]
    order = chance.permutation(samples) % len(pictures)
    metadata = _metadata(keys, captions, chance)
    with storage.create(tar_name(shard)) as file:
        tar = TarWriter(file)
        for key, caption, row, place in zip(keys, captions, metadata.to_pylist(), order.tolist(), strict=True):
            tar.add(f"{key}.jpg", pictures[place])
            tar.add(f"{key}.json", json.dumps(row).encode())
            tar.add(f"{key}.txt", caption.encode())
        tar.close()
    write_table(storage, metadata_name(shard), metadata)
    _write_clip(storage, shard, keys, chance)


def _metadata(keys: list[str], captions: list[str], chance: np.random.Generator) -> pa.Table:
    sizes = pa.array(np.full(len(keys), SIDE, np.int32))
    return pa.table(
        {
            "caption": captions,
            "url": [f"http://127.0.0.1/{key}.jpg" for key in keys],
            "key": keys,
            "status": ["success"] * len(keys),
            "width": sizes,
            "height": sizes,
            "original_width": pa.array(chance.integers(256, 4096, len(keys)).astype(np.int32)),
            "original_height": pa.array(chance.integers(256, 4096, len(keys)).astype(np.int32)),
        }
    )


def _write_clip(storage: Storage, shard: str, keys: list[str], chance: np.random.Generator) -> None:
    tar = storage.head(tar_name(shard))
    assert tar is not None
    index = load_index(storage, shard, tar)
    vectors = pa.array(chance.standard_normal(len(keys) * DIMENSIONS).astype(np.float32))
    columns = {
        "__key__": pa.array(keys),
        "score": pa.array(chance.random(len(keys))),
        "embedding": pa.FixedSizeListArray.from_arrays(vectors, DIMENSIONS),
        "status": pa.array(["success"] * len(keys)),
        "error": pa.nulls(len(keys), pa.string()),
    }
    info = SidecarInfo(stage="clip", fingerprint={"model": "random"}, identity=index.identity, rows=len(keys))
    write_sidecar(storage, shard, pa.table(columns), info)


@functools.cache
def tars(folder: str) -> list[str]:
    """The shards' paths, as readers without an index want them."""
    return sorted(str(path) for path in Path(folder).glob("*.tar"))
