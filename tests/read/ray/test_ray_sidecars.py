"""Ray Data writes sidecars: complete, in the tar's order, and only where every key of a shard has one row."""

import contextlib
import shutil
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.compute as pc
import pytest
import ray.data
from ray.data.expressions import col

import tarloom
from tarloom.errors import ShardError, StageMismatch, UsageError
from tarloom.format.sidecar import SidecarInfo, read_sidecar, sidecar_info
from tarloom.format.verify.dataset import verify
from tarloom.read.ray.sidecars import SidecarSink
from tarloom.read.ray.sink import TarSink
from tests.read.sample_sets import packed_samples

pytestmark = [
    pytest.mark.usefixtures("ray_session"),
    pytest.mark.filterwarnings(r"ignore::DeprecationWarning:ray\.data\.context"),
]
MADE_WITH = {"model": "lengths"}


@pytest.fixture(autouse=True)
def _quiet():
    ray.data.DataContext.get_current().enable_progress_bars = False


@pytest.fixture
def folder(packed, tmp_path):
    """To be written into."""
    shutil.copytree(packed, tmp_path / "dataset")
    (tmp_path / "dataset" / "00003.tar").unlink()  # it was never committed
    return tmp_path / "dataset"


def lengths(batch: pa.Table) -> pa.Table:
    """A stage: how long each picture is, and a vector."""
    sizes = pc.binary_length(batch["jpg"])
    vectors = pa.FixedSizeListArray.from_arrays(pa.array([0.5] * (2 * len(batch)), pa.float32()), 2)
    return batch.drop(["jpg"]).append_column("bytes", sizes).append_column("vector", vectors)


def measured(path, **options) -> ray.data.Dataset:
    rows = tarloom.open(path).select("jpg").to_ray(url=True, **options)
    return rows.map_batches(lengths, batch_format="pyarrow", batch_size=None)


def sink(path, **options) -> SidecarSink:
    return SidecarSink(tarloom.open(path), "size", columns=["bytes", "vector"], fingerprint=MADE_WITH, **options)


def left_over(path) -> list[str]:
    return [str(p.relative_to(path)) for p in path.rglob("*") if "parts" in str(p) or p.name.startswith(".tmp-")]


@pytest.mark.parametrize("shuffled", [False, True], ids=["in order", "in another order"])
def test_rows_of_many_tasks_become_one_sidecar_a_shard_in_the_tars_order(folder, shuffled):
    rows = measured(folder, task_bytes=1 << 14)
    rows = rows.random_shuffle(seed=1).repartition(7) if shuffled else rows
    rows.write_datasink(sink(folder))
    made = tarloom.open(folder).select("size.bytes", "size.vector")
    assert [(s["__key__"], s["size.bytes"], s["size.vector"]) for s in made] == [
        (key, len(members["jpg"]), [0.5, 0.5]) for key, members in packed_samples(2)
    ]
    storage = made.catalog.storage
    assert [sidecar_info(storage, f"0000{n}", "size").rows for n in range(3)] == [38, 38, 0]
    assert sidecar_info(storage, "00000", "size") == SidecarInfo(
        stage="size", fingerprint=MADE_WITH, identity=made.catalog.facts().identity(0), rows=38
    )
    assert set(read_sidecar(storage, "00000", "size")["status"].to_pylist()) == {"success"}
    assert [f for report in verify(folder) for f in report.findings if "size" in f.file] == []
    assert left_over(folder) == []


def test_a_shard_of_which_a_row_is_missing_has_no_sidecar_and_is_named(folder):
    last = packed_samples(2)[-1][0]
    with pytest.raises(ShardError, match=r"1 shards have no size now \(00001\): samples of them were not there"):
        measured(folder).filter(expr=col("__key__") != last).write_datasink(sink(folder))
    assert sorted(p.name for p in folder.glob("*.size.parquet")) == ["00000.size.parquet"]
    assert left_over(folder) == []


def test_a_row_that_comes_twice_is_no_proof_that_all_are_there(folder):
    rows = measured(folder)
    doubled = rows.filter(expr=col("__key__") != "000000000").union(rows.filter(expr=col("__key__") == "000000001"))
    with pytest.raises(ShardError, match=r"00000\.tar: no row for key 000000000; write one row for every sample"):
        doubled.write_datasink(sink(folder))
    assert not (folder / "00000.size.parquet").exists()
    assert left_over(folder) == []


def test_rows_may_say_how_they_ended(folder):
    def ended(batch: pa.Table) -> pa.Table:
        status = pc.if_else(pc.greater(batch["bytes"], 0), "failed", "success")
        return batch.append_column("status", status).append_column("error", pa.array(["too_long"] * len(batch)))

    measured(folder).map_batches(ended, batch_format="pyarrow").write_datasink(sink(folder))
    table = read_sidecar(tarloom.open(folder).catalog.storage, "00000", "size")
    assert set(table["status"].to_pylist()) == {"failed"}
    assert set(table["error"].to_pylist()) == {"too_long"}


def test_an_error_is_text_where_no_row_has_one(folder):
    def ended(batch: pa.Table) -> pa.Table:
        rows = len(batch)
        return batch.append_column("status", pa.array(["success"] * rows)).append_column("error", pa.nulls(rows))

    measured(folder).map_batches(ended, batch_format="pyarrow").write_datasink(sink(folder))
    made = tarloom.open(folder)
    assert set(read_sidecar(made.catalog.storage, "00000", "size")["error"].to_pylist()) == {None}
    assert made.table()["size.error"].type == pa.string()
    assert made.count("size.error IS NULL") == len(packed_samples(2))


def blocks_of_one_shard(path) -> list[pa.Table]:
    """Its rows in two blocks, in which different columns are empty."""
    dataset = tarloom.open(path)
    keys, url = [key for key, _ in packed_samples(1)], dataset.catalog.storage.describe("00000.tar")
    rows = pa.table({"__key__": keys, "__url__": [url] * len(keys), "bytes": range(len(keys))})
    vectors = pa.FixedSizeListArray.from_arrays(pa.array([0.5] * 40, pa.float32()), 2)
    first = rows.slice(0, 20).append_column("vector", vectors).append_column("error", pa.nulls(20))
    others = rows.slice(20).append_column("vector", pa.nulls(len(keys) - 20))
    return [first, others.append_column("error", pa.array(["too_long"] * len(others)))]


@pytest.mark.parametrize("tasks", [[[0, 1]], [[1, 0]], [[0], [1]], [[1], [0]]], ids=str)
def test_a_column_that_is_empty_in_a_block_has_the_type_that_it_has_in_others(folder, tasks):
    blocks, made = blocks_of_one_shard(folder), sink(folder)
    for number, task in enumerate(tasks):
        written = made.write([blocks[block] for block in task], SimpleNamespace(task_idx=number))
    assert [each.committed for each in written] == [True]
    found = list(tarloom.open(folder / "00000.tar").select("size.bytes", "size.vector", "size.error"))
    assert [sample["size.bytes"] for sample in found] == list(range(38))
    assert [sample["size.vector"] for sample in found] == [[0.5, 0.5]] * 20 + [None] * 18
    assert [sample["size.error"] for sample in found] == [None] * 20 + ["too_long"] * 18


@pytest.mark.parametrize(
    ("first", "others", "fits"),
    [
        (pa.array([1] * 20), pa.array([True] * 18), True),
        (pa.array(["a"] * 20), pa.array(["b"] * 18).dictionary_encode(), True),
        (pa.array([1] * 20), pa.array(["b"] * 18), False),
    ],
)
def test_types_that_differ_become_those_of_the_first_block_or_are_named(folder, first, others, fits):
    blocks = [block.select(["__key__", "__url__", "bytes"]) for block in blocks_of_one_shard(folder)]
    given = [block.set_column(2, "bytes", values) for block, values in zip(blocks, (first, others), strict=True)]
    raised = (
        contextlib.nullcontext() if fits else pytest.raises(ShardError, match=r"00000\.tar: rows differ in .*types")
    )
    with raised:
        made = SidecarSink(tarloom.open(folder), "size", columns=["bytes"], fingerprint=MADE_WITH)
        made.write(given, SimpleNamespace(task_idx=0))
        assert tarloom.open(folder / "00000.tar").table()["size.bytes"].type == first.type


def test_rows_of_another_dataset_are_refused(folder, packed):
    with pytest.raises(UsageError, match=r"00000\.tar: no shard of .*dataset; write rows that were read from there"):
        measured(packed).write_datasink(sink(folder))


def test_rows_without_their_address_are_refused(folder):
    rows = tarloom.open(folder).select("jpg").to_ray()
    with pytest.raises(UsageError, match="rows have no column __url__, bytes, vector; they have __key__, jpg"):
        rows.write_datasink(sink(folder))


def test_one_name_that_is_not_in_a_list_is_refused_at_once(folder, tmp_path):
    with pytest.raises(UsageError, match=r"columns are names, also where there is one: columns=\('text',\)"):
        SidecarSink(tarloom.open(folder), "size", columns="text", fingerprint=MADE_WITH)
    with pytest.raises(UsageError, match=r"members are names, also where there is one: members=\('jpg',\)"):
        TarSink(tmp_path / "made", members="jpg")


def test_a_sidecar_that_was_made_otherwise_is_replaced_only_when_told_so(folder):
    opened_before = tarloom.open(folder)
    measured(folder).write_datasink(sink(folder))
    ours = tarloom.open(folder)
    options = {"columns": ["bytes"], "fingerprint": {"model": "other"}}
    for dataset in (ours, opened_before):
        with pytest.raises(StageMismatch, match=r"size was made with model 'lengths' \(now 'other'\); choose another"):
            SidecarSink(dataset, "size", **options)
    measured(folder).write_datasink(SidecarSink(ours, "size", overwrite=True, **options))
    assert sidecar_info(ours.catalog.storage, "00001", "size").fingerprint == {"model": "other"}
    with pytest.raises(UsageError, match=r"stage name 'a\.b'"):
        SidecarSink(ours, "a.b", **options)
