"""Tables to be asked about: shards of one word a sample, with metadata as of web pictures, a sidecar of scores and
vectors, one of captions, and a table of hosts beside them."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tarloom.format.index_load import load_index
from tarloom.format.layout import metadata_name, numbered_shard, tar_name
from tarloom.format.parquet import write_table
from tarloom.format.sidecar import SidecarInfo, write_sidecar
from tarloom.format.storage import Storage, open_storage
from tarloom.format.tar.writer import TarWriter

DIMENSIONS = 512
HOSTS, COUNTRIES = 500, 20
CLASSES = ("animal", "person", "plant", "street", "thing")


def make_tables(folder: Path, *, shards: int, samples: int) -> None:
    """Write the dataset into folder/shards and the table of hosts beside it."""
    hosts = {"host": [f"host{n}" for n in range(HOSTS)], "country": [f"land {n % COUNTRIES}" for n in range(HOSTS)]}
    pq.write_table(pa.table(hosts), folder / "hosts.parquet")
    storage = open_storage(folder / "shards")
    for number in range(shards):
        _write_shard(storage, numbered_shard(number), np.arange(number * samples, (number + 1) * samples))


def _write_shard(storage: Storage, shard: str, numbers: np.ndarray) -> None:
    chance, keys = np.random.default_rng(int(numbers[0])), [f"{number:09d}" for number in numbers]
    with storage.create(tar_name(shard)) as file:
        tar = TarWriter(file)
        for key in keys:
            tar.add(f"{key}.txt", b"word")
        tar.close()
    write_table(storage, metadata_name(shard), _metadata(keys, chance))
    head = storage.head(tar_name(shard))
    assert head is not None
    identity = load_index(storage, shard, head).identity
    for stage, columns in (("clip", _clip(len(keys), chance)), ("caption", _captions(keys, chance))):
        said = {
            "__key__": keys,
            **columns,
            "status": ["success"] * len(keys),
            "error": pa.nulls(len(keys), pa.string()),
        }
        info = SidecarInfo(stage=stage, fingerprint={"model": "random"}, identity=identity, rows=len(keys))
        write_sidecar(storage, shard, pa.table(said), info)


def _metadata(keys: list[str], chance: np.random.Generator) -> pa.Table:
    rows = len(keys)
    hosts, classes = chance.integers(HOSTS, size=rows), chance.integers(len(CLASSES), size=rows)
    return pa.table(
        {
            "key": keys,
            "status": ["success"] * rows,
            "url": [f"https://host{host}/pictures/of/{key}.jpg" for host, key in zip(hosts, keys, strict=True)],
            "caption": [f"what a page says beside picture {key}, number {chance.integers(1 << 30)}" for key in keys],
            "host": [f"host{host}" for host in hosts],
            "class": [CLASSES[number] for number in classes],
            "width": pa.array(chance.integers(64, 2048, rows).astype(np.int32)),
            "height": pa.array(chance.integers(64, 2048, rows).astype(np.int32)),
        }
    )


def _clip(rows: int, chance: np.random.Generator) -> dict[str, pa.Array]:
    vectors = pa.array(chance.standard_normal(rows * DIMENSIONS, np.float32).astype(np.float16))
    scores = pa.array(chance.integers(1 << 20, size=rows) / (1 << 20))  # whose sums are exact in any order
    return {"score": scores, "embedding": pa.FixedSizeListArray.from_arrays(vectors, DIMENSIONS)}


def _captions(keys: list[str], chance: np.random.Generator) -> dict[str, pa.Array]:
    return {"text": pa.array([f"what a model says of picture {key}: {chance.integers(1 << 30)}" for key in keys])}
