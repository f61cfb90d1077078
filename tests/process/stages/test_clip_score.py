"""CLIP scores: the right text scores higher than a wrong one, and what is missing is named."""

from contextlib import nullcontext

import numpy as np
import pyarrow as pa
import pytest

from tarloom.engines.local import LocalEngine
from tarloom.errors import UsageError
from tarloom.format.index_load import load_index
from tarloom.format.sidecar import SidecarInfo, write_sidecar
from tarloom.format.storage import open_storage
from tarloom.process.batch import Batch, Decoder
from tarloom.process.config import ProcessConfig
from tarloom.process.embed.stage import EmbedStage
from tarloom.process.job import ProcessJob
from tarloom.process.stages.clip_score import ClipScoreStage
from tests.create.test_texts import unchecked
from tests.process.shards import CLIP, scene_sample, write_shard
from tests.process.stage_contract import rows_of

SCENES = 20


@pytest.fixture(scope="module")
def batch():
    """Scenes; of the fourth there is no text, and the fifth is no picture."""
    samples = [scene_sample(number) for number in range(SCENES)]
    texts = [members["txt"].decode() for _, members in samples]
    samples[4][1]["jpg"] = b"no picture"
    texts[3] = None
    wrong = texts[5:] + texts[:5]
    decoder = Decoder()
    rows = Batch(rows_of(samples), decoder)
    yield rows.joined({"caption": pa.array(texts), "wrong": pa.array(wrong)})
    decoder.close()


def scores(batch, **options):
    worker = ClipScoreStage(model=str(CLIP), **options).open()
    try:
        return worker(batch).to_pylist()
    finally:
        worker.close()


def test_a_picture_fits_its_own_text_better_than_anothers(batch):
    right, wrong = (
        [row["score"] for row in scores(batch, texts=column) if row["score"] is not None]
        for column in ("caption", "wrong")
    )
    assert np.mean(right) > np.mean(wrong) + 0.2
    assert all(-1 <= score <= 1 for score in (*right, *wrong))


def test_rows_without_a_text_or_a_picture_say_so(batch):
    rows = scores(batch, texts="caption")
    assert [(row["status"], row["error"]) for row in rows[3:6]] == [
        ("skipped", "no_text"),
        ("failed", "not_an_image"),
        ("success", None),
    ]
    assert [row["score"] is None for row in rows[3:6]] == [True, True, False]


@pytest.mark.parametrize("what", ["of_pictures", "of_texts"])
def test_a_vector_of_no_numbers_is_a_named_failure_of_its_row_alone(batch, monkeypatch, what):
    worker = ClipScoreStage(model=str(CLIP), texts="caption").open()
    see = getattr(worker._vectors, what)
    monkeypatch.setattr(worker._vectors, what, lambda seen: np.where(np.arange(len(seen)) == 1, np.nan, see(seen).T).T)
    rows = worker(batch).to_pylist()
    worker.close()
    assert [row["error"] for row in rows[:3]] == [None, "vector_not_finite", None]
    assert [row["score"] is None for row in rows[:3]] == [False, True, False]


@pytest.mark.parametrize("odd", ["bytes", "text", "list"])
def test_texts_are_read_as_those_that_are_embedded(batch, odd):
    texts = [b"a red star" for _ in range(SCENES - 1)] + [b"caf\xe9"]
    columns = {"bytes": pa.array(texts), "text": unchecked(texts), "list": pa.array([["a", "b"]] * SCENES)}
    plain = {"list": "['a', 'b']"}.get(odd, "caf\ufffd")
    both = batch.joined({"odd": columns[odd], "plain": pa.array([plain] * SCENES)})
    assert scores(both, texts="odd")[-1] == scores(both, texts="plain")[-1]


def test_vectors_of_a_sidecar_give_the_same_scores(batch):
    embed = EmbedStage(model=str(CLIP)).open()
    vectors = embed(batch).column("embedding").combine_chunks()
    embed.close()
    rows = scores(batch.joined({"clip.embedding": vectors}), texts="caption", pictures="clip.embedding")
    assert [row["score"] for row in rows] == [row["score"] for row in scores(batch, texts="caption")]
    assert rows[4]["error"] == "no_embedding"


def test_another_models_vectors_are_a_usage_error(batch):
    other = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(SCENES * 5, np.float16)), 5)
    with pytest.raises(UsageError, match=r"other\.embedding: vectors of 5 dimensions.*have 96"):
        scores(batch.joined({"other.embedding": other}), texts="caption", pictures="other.embedding")


@pytest.mark.parametrize(
    ("model", "fits"),
    [(f"other@{EmbedStage(model=str(CLIP)).fingerprint()['model'].partition('@')[2]}", True), ("b@sha256:0", False)],
)
def test_vectors_of_another_model_of_the_same_width_are_refused_before_any_work(tmp_path, model, fits):
    write_shard(tmp_path / "a.tar", [scene_sample(0)])
    storage = open_storage(str(tmp_path))
    index = load_index(storage, "a", storage.head("a.tar"))
    vectors = pa.array([[1.0] * 96], pa.list_(pa.float16(), 96))
    rows = {"__key__": index.keys, "embedding": vectors, "status": ["success"], "error": pa.nulls(1, pa.string())}
    info = SidecarInfo(stage="clip", fingerprint={"model": model}, identity=index.identity, rows=1)
    write_sidecar(storage, "a", pa.table(rows), info)
    stage = ClipScoreStage(model=str(CLIP), texts="txt", pictures="clip.embedding")
    job = ProcessJob(stage, ProcessConfig(path=str(tmp_path)), LocalEngine(1))
    with nullcontext() if fits else pytest.raises(UsageError, match=r"clip\.embedding: made with b@sha256:0, but"):
        job.prepare()
