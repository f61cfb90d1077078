"""What the workers answer where rows have no text, or the model no numbers."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tarloom.engines.local import LocalEngine
from tarloom.errors import UsageError
from tarloom.process.batch import Batch, Decoder
from tarloom.process.config import ProcessConfig
from tarloom.process.embed.stage import EmbedStage, EmbedTextStage, text_vectors
from tarloom.process.job import ProcessJob
from tests.create.test_texts import unchecked
from tests.process.shards import CLIP, encoded, scene_sample, write_shard


@pytest.fixture
def decoder():
    opened = Decoder()
    yield opened
    opened.close()


def answered(stage, columns, decoder):
    keys = [str(row) for row in range(len(next(iter(columns.values()))))]
    worker = stage.open()
    answer = worker(Batch(pa.RecordBatch.from_pydict({"__key__": keys, **columns}), decoder)).to_pylist()
    worker.close()
    return answer


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())], ids=str)
def test_rows_with_a_text_have_its_vector_and_others_say_that_there_is_none(decoder, kind):
    texts = ["a red star", None, "", "a blue cross", None]
    stage = EmbedTextStage(model=str(CLIP), text_column="caption")
    rows = answered(stage, {"caption": pa.array(texts, pa.string()).cast(kind)}, decoder)
    assert [row["error"] for row in rows] == [None, "no_text", None, None, "no_text"]
    found = np.array([row["embedding"] for row in rows if row["status"] == "success"], np.float32)
    assert np.abs(found - text_vectors(str(CLIP), [text for text in texts if text is not None])).max() < 1e-3


def test_texts_that_are_not_utf8_have_a_vector_too(decoder):
    stage = EmbedTextStage(model=str(CLIP), text_column="caption")
    rows = answered(stage, {"caption": unchecked([b"a red star", b"caf\xe9"])}, decoder)
    found = np.array([row["embedding"] for row in rows], np.float32)
    assert np.abs(found - text_vectors(str(CLIP), ["a red star", "caf\ufffd"])).max() < 1e-3


def test_numbers_are_read_as_texts(decoder):
    rows = answered(EmbedTextStage(model=str(CLIP), text_column="year"), {"year": pa.array([1999])}, decoder)
    assert np.abs(np.float32(rows[0]["embedding"]) - text_vectors(str(CLIP), ["1999"])[0]).max() < 1e-3


def test_members_that_hold_texts_are_embedded_too(tmp_path):
    write_shard(tmp_path / "0.tar", [("a", {"txt": b"a red star"}), ("b", {"jpg": b"?"}), ("c", {"txt": b"caf\xe9"})])
    job = ProcessJob(
        EmbedTextStage(model=str(CLIP), text_column="txt"), ProcessConfig(path=str(tmp_path)), LocalEngine()
    )
    job.prepare()
    list(job)
    rows = pq.read_table(tmp_path / "0.clip_text.parquet").to_pylist()
    assert [row["error"] for row in rows] == [None, "no_text", None]
    found = np.array([rows[0]["embedding"], rows[2]["embedding"]], np.float32)
    assert np.abs(found - text_vectors(str(CLIP), ["a red star", "caf\ufffd"])).max() < 1e-3


def test_a_vector_of_no_numbers_is_a_named_failure_of_its_row_alone(decoder, monkeypatch):
    worker = EmbedStage(model=str(CLIP)).open()
    see = worker._vectors.of_pictures

    def overflowing(pictures):
        vectors = see(pictures)
        vectors[1:2] = np.inf
        return vectors

    monkeypatch.setattr(worker._vectors, "of_pictures", overflowing)
    pictures = [scene_sample(number)[1]["jpg"] for number in range(3)]
    rows = worker(Batch(pa.RecordBatch.from_pydict({"__key__": ["a", "b", "c"], "jpg": pictures}), decoder)).to_pylist()
    worker.close()
    assert [row["error"] for row in rows] == [None, "vector_not_finite", None]
    assert [row["embedding"] is None for row in rows] == [False, True, False]


def test_pictures_that_the_gpu_does_not_take_are_seen_all_the_same(decoder):
    picture = scene_sample(5)[1]["jpg"]
    png = encoded(Image.open(io.BytesIO(picture)), "PNG")
    rows = answered(EmbedStage(model=str(CLIP), decode="gpu"), {"jpg": [picture, png, picture[:-2], None]}, decoder)
    assert [row["status"] for row in rows][:2] == ["success", "success"]
    assert [row["error"] for row in rows][2:] != [None, None]
    assert np.dot(*(np.float32(row["embedding"]) for row in rows[:2])) > 0.99


def test_one_text_that_is_not_in_a_list_is_refused_as_its_letters_would_be_texts():
    with pytest.raises(UsageError, match=r"texts come in a list, also where there is one: \['a red star'\]"):
        text_vectors(str(CLIP), "a red star")
