"""Ray Data writes shards that every reader reads, whole or not at all, and the same again when a task is run again."""

import os
import tarfile

import numpy as np
import pyarrow as pa
import pytest
import ray.data
from ray.data.expressions import col
from ray.exceptions import RayError

import tarloom
from tarloom.errors import CorruptShard, ShardError, UsageError
from tarloom.format.verify.dataset import verify
from tarloom.read.ray.sink import TarSink
from tarloom.read.ray.tensors import plain_table
from tests.read.sample_sets import digest_of, packed_samples

pytestmark = [
    pytest.mark.usefixtures("ray_session"),
    pytest.mark.filterwarnings(r"ignore::DeprecationWarning:ray\.data\.context"),
]


@pytest.fixture(autouse=True)
def _quiet():
    ray.data.DataContext.get_current().enable_progress_bars = False


def rows_of(**columns) -> ray.data.Dataset:
    count = len(next(iter(columns.values())))
    return ray.data.from_arrow(pa.table({"__key__": [f"{i:03d}" for i in range(count)]} | columns))


def findings(path) -> list[str]:
    return [str(finding) for report in verify(path) for finding in report.findings]


def digest_read(path) -> str:
    return digest_of((s["__key__"], {m: s[m] for m in ("jpg", "txt", "json") if m in s}) for s in tarloom.open(path))


def test_what_ray_read_it_writes_with_its_columns_as_metadata(packed, tmp_path):
    rows = tarloom.open(packed).select("jpg", "txt", "json", "url", "caption.text", "clip.embedding").to_ray(url=True)
    rows.write_datasink(TarSink(tmp_path / "made"))
    made = tarloom.open(tmp_path / "made")
    assert len(made) == made.count() == len(packed_samples(2))
    assert digest_read(tmp_path / "made") == digest_of(packed_samples(2))
    assert made.columns == ("jpg", "json", "txt", "url", "caption.text", "clip.embedding", "key", "status")
    before = tarloom.open(packed).table("url", "caption.text", "clip.embedding").sort_by("__key__")
    assert made.table("url", "caption.text", "clip.embedding").sort_by("__key__").equals(before)
    assert findings(tmp_path / "made") == []


def test_members_have_whole_seconds_and_plain_headers(tmp_path):
    rows_of(jpg=[b"a", b"b"]).write_datasink(TarSink(tmp_path))
    with tarfile.open(tmp_path / "00000.tar") as tar:
        assert [(m.name, m.mtime, m.pax_headers) for m in tar] == [("000.jpg", 0, {}), ("001.jpg", 0, {})]


def test_tars_have_at_most_so_many_samples(tmp_path):
    rows_of(jpg=[bytes([i]) for i in range(25)], n=range(25)).write_datasink(TarSink(tmp_path, shard_rows=10))
    made = tarloom.open(tmp_path)
    assert [(files.shard, rows) for files, rows in zip(made.shards, made.catalog.facts().rows, strict=True)] == [
        ("00000-000", 10),
        ("00000-001", 10),
        ("00000-002", 5),
    ]
    assert [sample["n"] for sample in made.select("jpg", "n")] == list(range(25))


def test_text_of_the_names_that_texts_have_becomes_members_and_so_do_columns_that_are_named(tmp_path):
    rows = rows_of(jpg=[b"1", None], txt=["one", "two"], note=["x", "y"])
    rows.write_datasink(TarSink(tmp_path / "known"))
    assert list(tarloom.open(tmp_path / "known").select("jpg", "txt", "note")) == [
        {"__key__": "000", "__url__": f"{tmp_path}/known/00000.tar", "jpg": b"1", "txt": b"one", "note": "x"},
        {"__key__": "001", "__url__": f"{tmp_path}/known/00000.tar", "txt": b"two", "note": "y"},
    ]
    rows.write_datasink(TarSink(tmp_path / "named", members=["note"]))
    assert tarloom.open(tmp_path / "named").catalog.members() == ("note",)


def test_a_member_may_be_missing_from_all_samples_of_a_block(tmp_path):
    first = pa.table({"__key__": ["0"], "jpg": [b"1"], "mask": [b"2"], "txt": ["one"]})
    second = pa.table({"__key__": ["1"], "jpg": [b"3"], "mask": pa.nulls(1), "txt": pa.nulls(1)})
    rows = ray.data.from_arrow([first, second])
    rows.write_datasink(TarSink(tmp_path / "named", members=["jpg", "mask"]))
    found = [(sample["jpg"], sample.get("mask")) for sample in tarloom.open(tmp_path / "named")]
    assert sorted(found) == [(b"1", b"2"), (b"3", None)]
    rows.drop_columns(["mask"]).write_datasink(TarSink(tmp_path / "known"))
    made = tarloom.open(tmp_path / "known")
    assert sorted((sample["jpg"], sample.get("txt")) for sample in made) == [(b"1", b"one"), (b"3", None)]
    assert made.columns == ("jpg", "txt", "key", "status")


def test_a_column_of_a_members_name_that_holds_none_stays_metadata_where_it_is_empty(tmp_path):
    first = pa.table({"__key__": ["0"], "jpg": [b"1"], "json": [{"x": 1}]})
    second = pa.table({"__key__": ["1"], "jpg": [b"3"], "json": pa.nulls(1)})
    ray.data.from_arrow([first, second]).write_datasink(TarSink(tmp_path / "made"))
    made = tarloom.open(tmp_path / "made").select("json")
    assert sorted((sample["__key__"], sample["json"]) for sample in made) == [("0", {"x": 1}), ("1", None)]


def test_columns_have_in_all_shards_a_type_that_holds_the_values_of_all(tmp_path):
    values = [pa.array([7], pa.int64()), pa.array([float("nan")]), pa.nulls(1), None, pa.array([2], pa.int32())]
    columns = [{} if value is None else {"w": value} for value in values]
    tables = [pa.table({"__key__": [str(n)], "jpg": [b"1"], **found}) for n, found in enumerate(columns)]
    ray.data.from_arrow(tables).write_datasink(TarSink(tmp_path / "made"))
    made = tarloom.open(tmp_path / "made")
    assert len(made.shards) > 1
    found = made.table("w").sort_by("__key__")
    assert str(found["w"].to_pylist()) == "[7.0, nan, None, None, 2.0]"
    assert findings(tmp_path / "made") == []


def test_texts_that_are_dictionaries_in_some_blocks_are_written_as_texts(tmp_path):
    texts = [
        pa.array(["one"]),
        pa.array(["one"]).dictionary_encode(),
        pa.nulls(1, pa.dictionary(pa.int8(), pa.string())),
    ]
    tables = [pa.table({"__key__": [str(n)], "jpg": [b"1"], "w": found}) for n, found in enumerate(texts)]
    ray.data.from_arrow(tables).write_datasink(TarSink(tmp_path / "made"))
    assert tarloom.open(tmp_path / "made").table("w")["w"].to_pylist() == ["one", "one", None]


def test_views_are_written_as_what_they_show():  # Ray hands them on within a task only
    table = plain_table(pa.table({"w": pa.array(["one"], pa.string_view()), "jpg": pa.array([b"1"], pa.binary_view())}))
    assert table.equals(pa.table({"w": ["one"], "jpg": [b"1"]}))


@pytest.mark.parametrize("shards", [1, 2])
def test_columns_of_types_that_do_not_go_together_are_named_when_they_are_written(tmp_path, shards):
    first = pa.table({"__key__": ["0"], "jpg": [b"1"], "w": [1]})
    second = pa.table({"__key__": ["1"], "jpg": [b"1"], "w": ["one"]})
    rows = ray.data.from_arrow([first, second])
    where = tmp_path / "00000-000.tar" if shards == 1 else tmp_path
    with pytest.raises(ShardError, match=f"{where}: rows differ in the types .* w has incompatible types: .*cast them"):
        rows.write_datasink(TarSink(tmp_path, shard_rows=2 if shards == 1 else 1))


def test_a_sink_that_has_written_is_not_used_again(tmp_path):
    sink = TarSink(tmp_path)
    rows_of(jpg=[b"a", b"b"]).write_datasink(sink)
    with pytest.raises(UsageError, match="holds shards already; choose an empty folder"):
        rows_of(jpg=[b"c"]).write_datasink(sink)
    assert [sample["jpg"] for sample in tarloom.open(tmp_path)] == [b"a", b"b"]


def with_vectors(batch):
    return {**batch, "vector": np.ones((len(batch["__key__"]), 3), np.float32)}


def test_blocks_that_a_filter_empties_are_written_too(tmp_path):
    tables = [pa.table({"__key__": [str(n)], "jpg": [b"1"], "n": [n]}) for n in range(3)]
    rows = ray.data.from_arrow(tables).map_batches(with_vectors).materialize().filter(expr=col("n") == 1)
    rows.materialize().write_datasink(TarSink(tmp_path))
    assert [sample["vector"] for sample in tarloom.open(tmp_path).select("vector")] == [[1.0, 1.0, 1.0]]


class DiesOnce:
    """Its process ends in the middle of the first try."""

    def __init__(self, mark):
        self.mark = mark

    def __call__(self, batch):
        if not self.mark.exists():
            self.mark.touch()
            os._exit(1)
        return batch


def test_a_task_that_dies_is_done_again_under_the_same_names(packed, tmp_path):
    ours = tarloom.open(packed).select("jpg", "txt")
    ours.to_ray(task_bytes=1 << 16).write_datasink(TarSink(tmp_path / "whole"))
    dying = ours.to_ray(task_bytes=1 << 16).map_batches(DiesOnce(tmp_path / "mark").__call__, batch_size=16)
    dying.write_datasink(TarSink(tmp_path / "again"))
    assert sum(map(len, map(tarloom.open, [tmp_path / "again"]))) == len(packed_samples(2))
    assert findings(tmp_path / "again") == []
    names = sorted(p.name for p in (tmp_path / "again").iterdir())
    assert names == sorted(p.name for p in (tmp_path / "whole").iterdir())
    for tar in (tmp_path / "again").glob("*.tar"):
        assert tar.read_bytes() == (tmp_path / "whole" / tar.name).read_bytes()


def fails_late(batch):
    if "029" in batch["__key__"]:
        raise ValueError("no more")
    return batch


def test_a_write_that_fails_leaves_no_tar_that_looks_whole(tmp_path):
    rows = rows_of(jpg=[bytes([i]) for i in range(30)]).map_batches(fails_late, batch_size=5)
    with pytest.raises(RayError, match="no more"):
        rows.write_datasink(TarSink(tmp_path))
    assert list(tmp_path.rglob("*.tar")) == list(tmp_path.rglob(".tmp-*")) == []


WRONG = {
    "a key with a dot": ({"__key__": ["a.b"], "jpg": [b"x"]}, UsageError, "'a.b.jpg' would be read as another sample"),
    "an upper-case extension": ({"__key__": ["a"], "JPG": [b"x"]}, UsageError, "'a.JPG' would be read as another"),
    "no key": ({"__key__": pa.array([None], pa.string()), "jpg": [b"x"]}, UsageError, "a row has no __key__"),
    "no member": ({"__key__": ["a"], "jpg": pa.array([None], pa.binary())}, UsageError, "sample 'a' has no member"),
    "no members at all": ({"__key__": ["a"], "n": [1]}, UsageError, "no column of bytes to be members among"),
    "no keys at all": ({"jpg": [b"x"]}, UsageError, "rows have no column __key__"),
    "a key twice": ({"__key__": ["a", "a"], "jpg": [b"x", b"y"]}, CorruptShard, "'a' has a second 'jpg'"),
}


@pytest.mark.parametrize("what", WRONG)
def test_rows_that_would_not_be_read_back_are_refused_by_name(tmp_path, what):
    columns, kind, message = WRONG[what]
    with pytest.raises(kind, match=message):
        ray.data.from_arrow(pa.table(columns)).write_datasink(TarSink(tmp_path))
    assert list(tmp_path.rglob("*.tar")) == []


def test_decoded_pictures_are_not_written_as_members(pictured, tmp_path):
    rows = tarloom.open(pictured).select("png").decoding("rgb").on_error("skip").to_ray()
    with pytest.raises(UsageError, match=r"column png holds tensors .* encode pictures"):
        rows.write_datasink(TarSink(tmp_path))


def test_a_folder_with_shards_is_refused_before_anything_runs(packed):
    with pytest.raises(UsageError, match="holds shards already; choose an empty folder"):
        TarSink(packed)


def test_so_many_samples_must_be_one_at_least(tmp_path):
    with pytest.raises(UsageError, match="shard_rows must be at least 1, not 0"):
        TarSink(tmp_path, shard_rows=0)
