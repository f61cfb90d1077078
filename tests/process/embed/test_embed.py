"""Embeddings by the shipped CLIP model, and by a SigLIP made here: unit vectors that find pictures by their texts."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tarloom.engines.choose import EngineConfig, open_engine
from tarloom.errors import UsageError
from tarloom.process.config import ProcessConfig
from tarloom.process.embed.stage import EmbedStage, text_vectors
from tarloom.process.job import ProcessJob
from tests.process.embed import models
from tests.process.shards import CLIP, ROOT, encoded, scene_shards, sidecars, write_shard

SHARDS, ROWS = 3, 40
HALF_OF_THE_WEIGHTS = CLIP.joinpath("model.safetensors").read_bytes()[:100_000]


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Shards without sidecars; not to be written to."""
    return scene_shards(tmp_path_factory.mktemp("scenes") / "shards", shards=SHARDS, rows=ROWS)


@pytest.fixture(scope="module")
def embedded(shards, tmp_path_factory):
    """The same shards with sidecars, made in this process."""
    return embed(shutil.copytree(shards, tmp_path_factory.mktemp("embedded") / "shards"))


def embed(folder, model=CLIP, engine="local", workers=1, **options):
    runner = open_engine(EngineConfig(engine=engine, num_workers=workers))
    job = ProcessJob(EmbedStage(model=str(model), **options), ProcessConfig(path=str(folder)), runner)
    job.prepare()
    list(job)
    runner.close()
    assert job.summary().failed_shards == {}
    return folder


def rows_of(folder, name="clip"):
    return [row for path in sorted(folder.glob(f"*.{name}.parquet")) for row in pq.read_table(path).to_pylist()]


def embedded_pictures(folder, pictures):
    """The rows of a shard of pictures by (key, format), by key."""
    folder.mkdir()
    samples = [(key, {kind.lower(): encoded(picture, kind)}) for (key, kind), picture in pictures.items()]
    write_shard(folder / "0.tar", samples)
    return {row["__key__"]: row for row in rows_of(embed(folder))}


def vectors_of(rows):
    return np.array([row["embedding"] for row in rows if row["status"] == "success"], np.float32)


def test_every_row_has_a_unit_vector_or_a_named_error(embedded):
    rows = rows_of(embedded)
    assert [row["__key__"] for row in rows] == [f"{number:09d}" for number in range(SHARDS * ROWS)]
    named = {row["__key__"]: (row["status"], row["error"]) for row in rows if row["status"] != "success"}
    assert named["000000003"] == ("skipped", "no_picture")
    assert [named[f"00000000{i}"][0] for i in (1, 2)] == ["failed", "failed"]
    assert named["000000002"][1] == "truncated"
    assert len(named) == 3
    assert all((row["embedding"] is None) == (row["status"] != "success") for row in rows)
    assert np.allclose(np.linalg.norm(vectors_of(rows), axis=1), 1, atol=1e-3)
    assert str(pq.read_table(embedded / "00000.clip.parquet").schema.field("embedding").type) == (
        "fixed_size_list<element: halffloat>[96]"
    )


def test_texts_find_their_pictures(embedded):
    rows = [row for row in rows_of(embedded) if row["status"] == "success"]
    texts = [caption(row["__key__"]) for row in rows]
    queries = text_vectors(str(CLIP), texts)
    assert queries.dtype == np.float32
    assert np.allclose(np.linalg.norm(queries, axis=1), 1, atol=1e-5)
    found = (queries @ vectors_of(rows).T).argmax(axis=1)
    assert np.mean([texts[i] == text for i, text in zip(found, texts, strict=True)]) >= 0.9


def test_vectors_are_those_of_transformers_itself(embedded, shards):
    import io
    import tarfile

    import torch
    from PIL import Image
    from transformers import CLIPModel, CLIPProcessor

    with tarfile.open(shards / "00001.tar") as tar:
        data = [tar.extractfile(f"{number:09d}.jpg").read() for number in range(ROWS, 2 * ROWS)]
    pictures = [Image.open(io.BytesIO(one)).convert("RGB") for one in data]
    model = CLIPModel.from_pretrained(CLIP, dtype=torch.float32)
    pixels = CLIPProcessor.from_pretrained(CLIP)(images=pictures, return_tensors="pt")
    with torch.inference_mode():
        wanted = model.get_image_features(**pixels).pooler_output.numpy()
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    ours = vectors_of([row for row in rows_of(embedded) if ROWS <= int(row["__key__"]) < 2 * ROWS])
    assert np.abs(ours - wanted).max() < 0.01


@pytest.mark.parametrize(("engine", "workers"), [("local", 2), ("ray", 2)])
def test_neither_engine_nor_workers_change_a_byte(shards, embedded, tmp_path, engine, workers, request):
    if engine == "ray":
        request.getfixturevalue("ray_session")
    other = embed(shutil.copytree(shards, tmp_path / "other"), engine=engine, workers=workers)
    assert sidecars(other, "clip") == sidecars(embedded, "clip")


def test_the_program_does_the_same_with_any_number_of_threads_and_says_so(shards, embedded, tmp_path):
    other = shutil.copytree(shards, tmp_path / "other")
    run = subprocess.run(
        [
            sys.executable,
            str(ROOT / "process/embed_with_clip.py"),
            "--path",
            str(other),
            "--model",
            str(CLIP),
            "--json",
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "3"},
    )
    assert run.returncode == 0, run.stderr
    said = json.loads(run.stdout.splitlines()[-1])
    assert (said["rows"], said["successes"], said["shards"]) == (SHARDS * ROWS, SHARDS * ROWS - 3, SHARDS)
    assert sidecars(other, "clip") == sidecars(embedded, "clip")


def test_siglip_models_embed_too(shards, tmp_path):
    model = models.siglip(tmp_path / "siglip")
    folder = embed(shutil.copytree(shards, tmp_path / "shards"), model=model)
    vectors = vectors_of(rows_of(folder))
    assert vectors.shape == (SHARDS * ROWS - 3, 32)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3)
    assert text_vectors(str(model), ["a red star", "a blue cross"]).shape == (2, 32)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("/no/such/model", "no such folder"),
        ("no such model", "no such folder"),
        (str(ROOT / "tests"), "no config.json"),
        (str(ROOT / "source_data/models/captioner"), "takes CLIP and SigLIP models"),
    ],
)
def test_a_model_that_cannot_embed_is_a_usage_error(shards, model, message):
    with pytest.raises(UsageError, match=message):
        embed(shards, model=model)
    assert sidecars(shards, "clip") == {}


@pytest.mark.parametrize("weights", [None, b"", HALF_OF_THE_WEIGHTS], ids=["missing", "empty", "half"])
def test_weights_that_are_missing_or_half_copied_are_a_usage_error_that_names_the_model(shards, tmp_path, weights):
    broken = shutil.copytree(CLIP, tmp_path / "clip")
    (broken / "model.safetensors").unlink()
    if weights is not None:
        (broken / "model.safetensors").write_bytes(weights)
    with pytest.raises(UsageError, match=f"{broken}: the model cannot be used here"):
        embed(shards, model=broken)


def caption(key: str) -> str:
    from source_data.scenes import HELD_OUT_SEEDS, scene

    return scene(HELD_OUT_SEEDS + int(key))[1]


def test_a_picture_of_one_or_three_rows_is_not_taken_for_one_whose_channels_come_first(tmp_path):
    sizes = [(1, 1), (64, 1), (64, 3), (1, 64), (3, 64), (3, 3)]
    pictures = {(f"{w}x{h}", "PNG"): Image.new("RGB", (w, h), "red") for w, h in sizes}
    rows = embedded_pictures(tmp_path / "thin", pictures)
    assert {row["status"] for row in rows.values()} == {"success"}
    red = np.float32(rows["3x3"]["embedding"])
    assert all(np.dot(np.float32(row["embedding"]), red) > 0.999 for row in rows.values())


def test_a_line_of_pixels_fails_alone_before_it_fills_the_memory(tmp_path):
    pictures = {("line", "PNG"): Image.new("RGB", (20_000, 1)), ("ok", "PNG"): Image.new("RGB", (64, 64))}
    rows = embedded_pictures(tmp_path / "lines", pictures)
    assert {key: row["error"] for key, row in rows.items()} == {"line": "aspect_ratio_too_large", "ok": None}


def test_every_kind_of_member_that_may_hold_a_picture_is_opened(tmp_path):
    kinds = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM")
    rows = embedded_pictures(tmp_path / "kinds", {(kind, kind): Image.new("RGB", (64, 64), "blue") for kind in kinds})
    assert {key: row["status"] for key, row in rows.items()} == dict.fromkeys(kinds, "success")
