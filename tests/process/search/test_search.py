"""Similarity search: exact, whatever the blocks; by texts, pictures and keys; an index follows what it is made from."""

import itertools
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from source_data.scenes import HELD_OUT_SEEDS, scene
from tarloom.cli.parse import parse
from tarloom.cli.search import Search
from tarloom.engines.local import LocalEngine
from tarloom.errors import StageMismatch, StaleSidecar, UsageError
from tarloom.format.storage import open_storage
from tarloom.process.search import index as index_module
from tarloom.process.search.index import open_index
from tarloom.process.search.query import Searcher, find_vectors
from tarloom.process.service import BatchInferenceOrchestrator, UnifiedDataLoader, UnifiedOutputWriter
from tests.process.shards import CLIP, ROOT, encoded, scene_shards

SHARDS, ROWS = 2, 40
TEXTS = [scene(HELD_OUT_SEEDS + number)[1] for number in range(SHARDS * ROWS)]


@pytest.fixture(scope="module")
def embedded(tmp_path_factory) -> Path:
    """Shards with sidecars, and what the batch service makes of them, in `out`."""
    folder = tmp_path_factory.mktemp("scenes") / "shards"
    scene_shards(folder, shards=SHARDS, rows=ROWS)
    embed(folder, folder / "out")
    return folder


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("TARLOOM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def embed(source, output):
    job = BatchInferenceOrchestrator(str(CLIP), engine=LocalEngine(1))
    job.process_dataset(UnifiedDataLoader(str(source)), UnifiedOutputWriter(str(output)))


def vectors_file(path: Path, vectors: np.ndarray) -> Path:
    """A parquet file of vectors, float16 of shape (rows, dim), whose keys are their numbers."""
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    pq.write_table(pa.table({"key": [str(row) for row in range(len(vectors))], "embedding": column}), path)
    return path


def nearest(vectors: np.ndarray, queries: np.ndarray, k: int) -> list[list[int]]:
    """By the definition: rows by their scores, the earlier of two that are equal first."""
    scores = vectors.astype(np.float32) @ queries.T / np.maximum(np.linalg.norm(vectors, axis=1), 1)[:, None]
    return [
        sorted(range(len(vectors)), key=lambda row: (-scores[row, query], row))[:k] for query in range(len(queries))
    ]


EXACT = [row for row in itertools.product(range(-2, 3), repeat=4) if math.hypot(*row) in (0, 1, 2, 4)]
"""Vectors whose cosines with whole numbers are exact."""


@settings(max_examples=40)
@given(
    rows=st.integers(1, 50),
    queries=st.integers(1, 4),
    k=st.integers(1, 60),
    block=st.integers(1, 20),
    seed=st.integers(0, 1000),
)
def test_the_nearest_are_those_of_the_definition(tmp_path_factory, rows, queries, k, block, seed):
    """Of few small whole numbers, so that many rows are equally near; and whatever the length of the vectors."""
    chance, folder = np.random.default_rng(seed), tmp_path_factory.mktemp("vectors")
    vectors = chance.choice(EXACT, rows).astype(np.float16)
    asked = chance.integers(-2, 3, (queries, 4)).astype(np.float32)
    path = vectors_file(folder / "v.parquet", vectors)
    found, storage = find_vectors(str(path), "clip")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index_module, "BLOCK_ROWS", block)
        matches = open_index(found, storage).nearest(asked, k)
    assert [[match.row for match in row] for row in matches] == nearest(vectors, asked, k)
    assert all(match.values == {"key": str(match.row)} for row in matches for match in row)
    shutil.rmtree(folder)


def test_texts_find_their_pictures(embedded):
    searcher = Searcher(embedded, model=str(CLIP))
    assert len(searcher.index) == SHARDS * ROWS - 3
    wanted = [text for number, text in enumerate(TEXTS) if number not in (1, 2, 3)]
    first = [matches[0].values["key"] for matches in searcher.by_texts(wanted, k=1)]
    assert np.mean([TEXTS[int(key)] == text for key, text in zip(first, wanted, strict=True)]) >= 0.9


def test_a_picture_and_a_key_find_themselves_first(embedded):
    searcher = Searcher(embedded, model=str(CLIP))
    data = encoded(scene(HELD_OUT_SEEDS + 47)[0])
    for matches in (searcher.by_picture(data, k=3), searcher.by_key("000000047", k=3)):
        assert matches[0].values["key"] == "000000047"
        assert matches[0].score > 0.999
        assert matches[0].score >= matches[1].score >= matches[2].score


def test_sidecars_and_the_table_of_a_batch_job_answer_alike(embedded):
    """The table says where its model was."""
    of_sidecars = Searcher(embedded, model=str(CLIP)).by_texts(TEXTS[:5], k=7)
    of_the_table = Searcher(embedded / "out").by_texts(TEXTS[:5], k=7)
    assert of_the_table == of_sidecars == Searcher(embedded / "out/embeddings.parquet").by_texts(TEXTS[:5], k=7)


def test_an_index_is_made_once_and_again_when_the_vectors_change(tmp_path):
    chance = np.random.default_rng(0)
    path = vectors_file(tmp_path / "v.parquet", chance.normal(size=(10, 4)).astype(np.float16))
    made = tmp_path / "_tarloom/search/v.arrow"
    assert len(Searcher(path).index) == 10
    before = made.stat().st_mtime_ns
    assert len(Searcher(path).index) == 10
    assert made.stat().st_mtime_ns == before
    vectors_file(path, chance.normal(size=(11, 4)).astype(np.float16))
    assert len(Searcher(path).index) == 11
    made.write_bytes(made.read_bytes()[:100])
    assert len(Searcher(path).index) == 11
    made.write_bytes(b"")
    (made.parent / ".tmp-v.arrow-1").write_bytes(b"of a run that was killed")
    assert len(Searcher(path).index) == 11
    assert list(made.parent.iterdir()) == [made]


def test_an_index_that_came_with_the_vectors_is_not_believed_to_be_one(tmp_path):
    path = vectors_file(tmp_path / "v.parquet", np.eye(4, dtype=np.float16))
    made, matches = tmp_path / "_tarloom/search/v.arrow", Searcher(path).by_key("0", k=4)
    data, ends = made.read_bytes(), np.array([0, 1, 2, 3, 4], np.int32).tobytes()
    made.write_bytes(data.replace(ends, np.array([0, 1, 2, 3, 1 << 30], np.int32).tobytes()))
    assert made.read_bytes() != data
    assert Searcher(path).by_key("0", k=4) == matches
    assert made.read_bytes() == data
    with pa.ipc.open_file(data) as index:
        table = index.read_all()
    table = table.set_column(0, "key", table["key"].cast(pa.binary()))
    with pa.ipc.new_file(str(made), table.schema) as index:
        index.write_table(table)
    assert Searcher(path).by_key("0", k=4) == matches
    assert made.read_bytes() == data


def test_vectors_in_an_object_store_are_indexed_in_the_users_cache(embedded, s3_folder, cache):
    for path in embedded.glob("0*"):
        open_storage(s3_folder).write(path.name, path.read_bytes())
    open_storage(f"{s3_folder}/out").write("embeddings.parquet", (embedded / "out/embeddings.parquet").read_bytes())
    here = Searcher(embedded, model=str(CLIP)).by_key("000000047")
    assert Searcher(s3_folder, model=str(CLIP)).by_key("000000047") == here
    assert Searcher(f"{s3_folder}/out").by_key("000000047") == here
    assert sorted(path.name for path in cache.rglob("*.arrow")) == ["clip.arrow", "embeddings.arrow"]
    assert not [entry.name for entry in open_storage(s3_folder).list() if "search" in entry.name]


def test_foreign_vectors_of_any_length_are_compared_by_their_cosines(tmp_path):
    vectors = np.array([[1, 0], [10, 10], [0, 1], [-3, 0], [0, 0], [np.nan, 1]], np.float64)
    matches = Searcher(vectors_file(tmp_path / "v.parquet", vectors)).by_key("0")
    assert [match.values["key"] for match in matches] == ["0", "1", "2", "4", "3", "5"]
    assert [match.score for match in matches] == pytest.approx([1, 0.5**0.5, 0, 0, -1, -1])


def test_foreign_keys_may_be_numbers_and_texts_no_text(tmp_path):
    embedding = pa.array([[1, 0], [0, 1]], pa.list_(pa.float32(), 2))
    captions = pa.array([b"a\xff", b"b"]).view(pa.string())
    table = {"key": pa.array([7, 8]), "url": pa.array([["x"], None]), "caption": captions, "embedding": embedding}
    pq.write_table(pa.table(table), tmp_path / "v.parquet")
    first, second = Searcher(tmp_path / "v.parquet").by_key("7")
    assert first.values == {"key": "7", "url": "['x']", "caption": "a\N{REPLACEMENT CHARACTER}"}
    assert second.values == {"key": "8", "url": None, "caption": "b"}


@pytest.fixture
def own(embedded, tmp_path) -> Path:
    """Shards with sidecars, to be changed."""
    shutil.copytree(embedded, tmp_path / "own", ignore=shutil.ignore_patterns("search", "out"))
    return tmp_path / "own"


def told_model(folder: Path, shard: str, model: str) -> None:
    """Have a sidecar say that this model made it."""
    told_fingerprint(folder, shard, {"model": model})


def told_fingerprint(folder: Path, shard: str, told: dict[str, str]) -> None:
    """Have a sidecar say that this made it."""
    table = pq.read_table(folder / f"{shard}.clip.parquet")
    made = json.loads(table.schema.metadata[b"tarloom.fingerprint"]) | told
    changed = table.replace_schema_metadata({**table.schema.metadata, b"tarloom.fingerprint": json.dumps(made)})
    pq.write_table(changed, folder / f"{shard}.clip.parquet")


def test_vectors_of_two_models_are_not_compared(own):
    told_model(own, "00001", "other@sha256:1")
    with pytest.raises(StageMismatch, match=r"00001\.clip\.parquet: .* 1 of 2 shards .*now 'other@sha256:1'"):
        Searcher(own)


def test_vectors_of_texts_that_came_in_several_ways_are_compared(own):
    told_fingerprint(own, "00000", {"input caption.text": "0123", "text_column": "caption.text"})
    told_fingerprint(own, "00001", {"input caption.text": "4567", "text_column": "alt.text"})
    assert len(Searcher(own).index) == SHARDS * ROWS - 3


def test_texts_and_pictures_go_through_the_revision_that_made_the_vectors(own, monkeypatch):
    for shard in ("00000", "00001"):
        told_model(own, shard, "org/model@abc123")
    asked = []

    def vectors_of(model, things, *, revision):
        asked.append((model, revision))
        return np.ones((len(things), 96), np.float32)

    monkeypatch.setattr("tarloom.process.search.query.text_vectors", vectors_of)
    monkeypatch.setattr("tarloom.process.search.query.picture_vectors", vectors_of)
    for searcher in (Searcher(own), Searcher(own, model="org/model")):
        searcher.by_texts(["red"])
        searcher.by_picture(b"")
    assert asked == [("org/model", "abc123")] * 4
    with pytest.raises(UsageError, match="is org/other@abc123, but the vectors were made with org/model@abc123"):
        Searcher(own, model="org/other").by_texts(["red"])


def test_a_shard_that_was_made_anew_beside_its_old_vectors_is_refused(own, tmp_path):
    assert len(Searcher(own).index) == SHARDS * ROWS - 3
    scene_shards(tmp_path / "new", shards=1, rows=ROWS - 1)
    for path in (tmp_path / "new").glob("00000*"):
        shutil.copy(path, own)
    with pytest.raises(StaleSidecar, match="run the stage again"):
        Searcher(own)


def test_what_has_no_room_for_an_index_is_indexed_in_the_users_cache(tmp_path, cache):
    path = vectors_file(tmp_path / "v.parquet", np.eye(3, dtype=np.float16))
    (tmp_path / "_tarloom").touch()  # nothing can be written below it, not even by root
    assert len(Searcher(path).index) == 3
    assert list(cache.rglob("v.arrow"))


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda folder: Searcher(folder).by_texts(["red"]), "give the one that made the vectors, clip@sha256"),
        (
            lambda folder: Searcher(folder, model=str(ROOT / "source_data/models/captioner")).by_texts(["red"]),
            "give that one",
        ),
        (lambda folder: Searcher(folder).by_key("nobody"), "no sample with a vector has it"),
        (lambda folder: Searcher(folder).by_key("000000001"), "no sample with a vector has it"),
        (lambda folder: Searcher(folder, name="other"), "no vectors in sidecars 'other'"),
        (lambda folder: Searcher(folder / "none.parquet"), "no such file"),
        (lambda folder: Searcher(folder / "00000.clip.parquet"), "no column key"),
        (lambda folder: Searcher(folder, model=str(CLIP)).by_picture(b"<html>"), "cannot be embedded .not_an_image"),
        (lambda folder: Searcher(folder).by_key("000000047", k=0), "k must be at least 1"),
        (lambda folder: Searcher(folder).index.nearest(np.zeros((1, 7), np.float32), 3), "another model's"),
    ],
)
def test_what_cannot_be_answered_is_said(embedded, ask, message):
    with pytest.raises(UsageError, match=message):
        ask(embedded)


def test_the_command_prints_matches_and_json(embedded):
    command = [sys.executable, "-m", "tarloom.cli", "search", str(embedded), "--key", "000000047", "--k", "2"]
    said = [subprocess.run([*command, *more], cwd=ROOT, capture_output=True, text=True) for more in ([], ["--json"])]
    assert [done.returncode for done in said] == [0, 0], said
    lines = said[0].stdout.splitlines()
    assert len(lines) == 2
    assert lines[0].split() == ["1.0000", "000000047"]
    found = json.loads(said[1].stdout.splitlines()[-1])
    assert found["vectors"] == SHARDS * ROWS - 3
    assert [match["key"] for match in found["matches"]] == [line.split()[1] for line in lines]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--text", " "], "what is searched for is empty; say a text, a picture or a key"),
        (["--image", ""], "what is searched for is empty"),
        (["--image", "no/such.jpg"], r"image no/such\.jpg: no such file; give a picture"),
    ],
)
def test_the_command_refuses_a_query_that_is_none(embedded, words, message):
    with pytest.raises(UsageError, match=message):
        parse(Search, [str(embedded), *words], prog="search", defaults={}).execute()
