"""Small datasets to draw: one of ours with two sidecars, and a foreign one."""

import io
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from source_data.scenes import describe
from tarloom.create.config import CreateConfig, ImageOptions, ShardOptions
from tarloom.create.job import CreateJob
from tarloom.engines.local import LocalEngine
from tarloom.format.index_load import load_index
from tarloom.format.layout import tar_name
from tarloom.format.sidecar import SidecarInfo, write_sidecar
from tarloom.format.storage import Storage, open_storage

DIM = 8
HOSTILE = '<script>alert("caption")</script> " onload=\'x\' \u202e'


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shards of ten scenes, one unreadable picture among them; without sidecars."""
    folder = tmp_path_factory.mktemp("made")
    source = folder / "source"
    source.mkdir()
    for number in range(10):
        scene = describe(9_000_000 + number)
        scene.draw().save(source / f"{number:02d}.png")
        (source / f"{number:02d}.txt").write_text(scene.caption)
    (source / "04.txt").write_text(HOSTILE)
    (source / "07.png").write_bytes(b"<html>not a picture</html>")
    options = CreateConfig(
        source=str(source),
        output=str(folder / "shards"),
        images=ImageOptions(image_size=64),
        sharding=ShardOptions(number_sample_per_shard=6),
    )
    job = CreateJob(options, LocalEngine(1))
    job.prepare()
    assert len(list(job)) == 2
    return folder / "shards"


@pytest.fixture
def dataset(made: Path, tmp_path: Path) -> Path:
    """A copy of it, with captions (one wrong, one missing) and embeddings (one missing)."""
    folder = tmp_path / "shards"
    shutil.copytree(made, folder)
    storage = open_storage(folder)
    captions = [describe(9_000_000 + number).caption for number in (0, 1, 2, 3, 4, 5, 6, 8, 9)]
    captions[1] = captions[1].replace("white", "pink")
    captions[4] = HOSTILE.upper() + " MORE"
    rows = {"00000": captions[:6], "00001": [*captions[6:8], None]}
    for shard, texts in rows.items():
        add_sidecar(storage, shard, "caption", {"text": pa.array(texts, pa.string())}, failed=texts.count(None))
        vectors = vectors_of(shard, len(texts))
        add_sidecar(storage, shard, "clip", {"embedding": vectors}, failed=vectors.null_count)
    return folder


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A tar of WebDataset samples that someone else made: captions as members, no metadata, one broken picture."""
    folder = tmp_path / "foreign"
    folder.mkdir()
    with tarfile.open(folder / "train-0.tar", "w") as tar:
        for number in range(5):
            scene = describe(9_000_000 + number)
            file = io.BytesIO()
            scene.draw(32).save(file, "PNG")
            for extension, data in (("png", file.getvalue()), ("txt", scene.caption.encode())):
                broken = number == 2 and extension == "png"
                add_member(tar, f"scene{number}.{extension}", b"broken" if broken else data)
    return folder


def vectors_of(shard: str, rows: int) -> pa.Array:
    """Unit vectors, the last of the second shard missing."""
    matrix = np.random.default_rng(int(shard)).normal(size=(rows, DIM)).astype(np.float32)
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    listed = [row.tolist() for row in matrix.astype(np.float16).astype(np.float32)]
    if shard != "00000":
        listed[-1] = None
    return pa.array(listed, pa.list_(pa.float32(), DIM)).cast(pa.list_(pa.float16(), DIM))


def add_sidecar(storage: Storage, shard: str, stage: str, columns: dict[str, pa.Array], *, failed: int = 0) -> None:
    """A sidecar for the shard as it is; its last `failed` rows failed."""
    tar = storage.head(tar_name(shard))
    assert tar is not None
    index = load_index(storage, shard, tar)
    good = index.rows - failed
    status, error = ["success"] * good + ["failed"] * failed, [None] * good + ["not_decodable"] * failed
    columns = {"__key__": index.keys, **columns, "status": pa.array(status), "error": pa.array(error, pa.string())}
    info = SidecarInfo(stage=stage, fingerprint={"model": "m<b>"}, identity=index.identity, rows=index.rows)
    write_sidecar(storage, shard, pa.table(columns), info)


def add_member(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    header = tarfile.TarInfo(name)
    header.size = len(data)
    tar.addfile(header, io.BytesIO(data))
