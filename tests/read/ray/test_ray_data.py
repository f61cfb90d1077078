"""Ray Data over a dataset: what is known without reading, what Ray's plan pushes down, and what blocks look like."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import ray.data
from ray.data._internal.logical.optimizers import LogicalOptimizer
from ray.data.expressions import col

import tarloom
from tarloom.errors import ShardError, StorageError, UsageError
from tarloom.read.ray.data import Blocks, PieceSource
from tests.format.raw import write_tar
from tests.read.sample_sets import BROKEN, packed_samples, pixels_of

pytestmark = [
    pytest.mark.usefixtures("ray_session"),
    pytest.mark.filterwarnings(r"ignore::DeprecationWarning:ray\.data\.context"),
]


@pytest.fixture(autouse=True)
def _quiet():
    ray.data.DataContext.get_current().enable_progress_bars = False


def plan_of(rows: ray.data.Dataset) -> str:
    """What Ray is going to run, from the last step to the first."""
    operator = LogicalOptimizer().optimize(rows._logical_plan).dag
    names = []
    while True:
        names.append(operator.name)
        if not operator.input_dependencies:
            return " <- ".join(names)
        operator = operator.input_dependencies[0]


def test_count_and_schema_are_known_without_a_task(packed, monkeypatch):
    rows = tarloom.open(packed).select("jpg", "width", "clip.embedding").to_ray()
    monkeypatch.setattr("ray.data.Dataset._execute_to_iterator", None)  # whoever executes fails
    monkeypatch.setattr("ray.data.Dataset.materialize", None)
    assert rows.count() == len(packed_samples(2))
    assert rows.schema().names == ["__key__", "jpg", "width", "clip.embedding"]
    assert rows.size_bytes() > 0


@pytest.mark.slow
def test_ray_is_started_where_it_does_not_run_yet_as_ray_data_does_itself(packed):
    program = "import sys, tarloom; print(tarloom.open(sys.argv[1]).to_ray().count())"
    alone = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    counted = subprocess.check_output([sys.executable, "-c", program, str(packed)], env=alone, text=True)
    assert int(counted) == len(tarloom.open(packed))


def test_columns_that_ray_selects_are_the_only_ones_that_are_read_in_its_order(packed):
    rows = tarloom.open(packed).select("jpg", "txt", "width", "caption.text").to_ray()
    chosen = rows.select_columns(["caption.text", "txt"])
    assert plan_of(chosen) == "ReadTarloom"
    first = chosen.take(1)[0]
    assert list(first) == ["caption.text", "txt"]
    assert first == {"caption.text": "hello", "txt": b"a caption"}


def test_what_is_not_selected_is_not_read_and_the_tars_may_hold_nothing(packed, tmp_path):
    shutil.copytree(packed, tmp_path / "empty")
    rows = tarloom.open(tmp_path / "empty").select("jpg", "txt", "url").to_ray(url=True)
    assert rows.count() == len(packed_samples(2))
    for tar in (tmp_path / "empty").glob("*.tar"):
        before = tar.stat()
        tar.write_bytes(bytes(before.st_size))
        os.utime(tar, ns=(before.st_atime_ns, before.st_mtime_ns))
    chosen = rows.select_columns(["__url__", "url"]).take_all()
    assert {row["__url__"] for row in chosen} == {f"{tmp_path}/empty/00000.tar", f"{tmp_path}/empty/00001.tar"}
    assert sorted(row["url"] for row in chosen) == [f"http://127.0.0.1/{key}.jpg" for key, _ in packed_samples(2)]


def test_samples_that_a_table_leaves_out_stay_out_where_its_columns_are_not_selected(pictured):
    ours = tarloom.open(pictured).joining("skip").select("width", "score.value")
    rows = ours.to_ray()
    assert rows.count() == len(rows.select_columns(["width"]).take_all()) == len(ours) == 39
    assert sum(row["count()"] for row in rows.groupby("width").count().take_all()) == 39


def test_samples_that_cannot_be_read_are_the_same_whatever_is_selected(pictured):
    ours = tarloom.open(pictured).select("png", "json").decoding("rgb")
    rows = ours.on_error("skip").to_ray()
    assert rows.count() == len(rows.select_columns(["json"]).take_all()) == len(rows.take_all()) == 39
    told = ours.on_error("row").to_ray().select_columns(["__key__", "json", "__error__"])
    assert [int(row["__key__"]) for row in told.take_all() if row["__error__"]] == [BROKEN]
    lacking = ours.on_error("row").to_ray().select_columns(["__key__", "json"]).take_all()
    assert [int(row["__key__"]) for row in lacking if row["json"] is None] == [BROKEN]


def test_an_expression_on_columns_is_evaluated_before_members_are_read(packed):
    rows = tarloom.open(packed).select("jpg", "url", "caption.text").to_ray()
    key = packed_samples(1)[4][0]
    filtered = rows.filter(expr=(col("url") == f"http://127.0.0.1/{key}.jpg") & (col("caption.text") == "hello"))
    assert plan_of(filtered) == "ReadTarloom"
    assert [row["__key__"] for row in filtered.take_all()] == [key]
    assert filtered.count() == 1
    assert filtered.select_columns(["jpg"]).count() == 1


def test_an_expression_that_is_not_translated_is_left_to_ray(packed):
    rows = tarloom.open(packed).select("txt", "url").to_ray()
    upper = rows.filter(expr=col("url").str.upper() == "HTTP://127.0.0.1/000000004.JPG")
    assert plan_of(upper).startswith("Filter")
    assert [row["__key__"] for row in upper.take_all()] == ["000000004"]


@pytest.mark.parametrize("handling", ["raise", "row"])
@pytest.mark.parametrize("expression", [col("nope") > 1, col("url").is_not_null() & (col("nope").str.upper() == "A")])
def test_a_filter_on_a_column_that_is_none_names_those_that_there_are(packed, expression, handling):
    rows = tarloom.open(packed).select("txt", "url").on_error(handling).to_ray()
    with pytest.raises(UsageError, match=r"filter: there is no column 'nope'; use __key__, txt, url"):
        rows.filter(expr=expression).take_all()


def test_an_expression_is_left_to_ray_where_failures_are_rows_whose_columns_are_empty(packed, tmp_path):
    shutil.copytree(packed, tmp_path / "lost")
    rows = tarloom.open(tmp_path / "lost").select("jpg", "url").on_error("row").to_ray()
    lost, before = tmp_path / "lost" / "00001.tar", (tmp_path / "lost" / "00001.tar").stat()
    lost.write_bytes(bytes(before.st_size))
    os.utime(lost, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert sum(row["url"] is None for row in rows.take_all()) == 38
    filtered = rows.filter(expr=col("url").is_not_null())
    assert filtered.count() == len(filtered.take_all()) == 38


def test_a_filter_behind_a_filter_and_a_condition_of_ours_all_hold(packed):
    ours = tarloom.open(packed).select("url").where("__key__ > '000000004'")
    rows = ours.to_ray().filter(expr=col("__key__") < "000000009").filter(expr=col("__key__") != "000000006")
    assert plan_of(rows) == "ReadTarloom"
    assert sorted(row["__key__"] for row in rows.take_all()) == ["000000005", "000000008"]


def test_a_filtered_view_is_counted_by_its_tables(packed):
    ours = tarloom.open(packed).where("__key__ >= '000000040'")
    assert ours.to_ray().count() == ours.count() == sum(key >= "000000040" for key, _ in packed_samples(2))


def test_a_dataset_without_samples_still_has_its_schema(tmp_path):
    write_tar(tmp_path / "none.tar", [])
    rows = tarloom.open(tmp_path).to_ray()
    assert (rows.count(), rows.schema().names, rows.take_all()) == (0, ["__key__"], [])


def test_limits_stop_reading_early(packed):
    assert [row["__key__"] for row in tarloom.open(packed).to_ray().limit(3).take_all()] == [
        key for key, _ in packed_samples(1)[:3]
    ]


def test_pictures_are_arrays_of_height_width_and_three(pictured):
    rows = tarloom.open(pictured).select("png").decoding("rgb").on_error("row").to_ray()
    assert str(rows.schema().base_schema.field("png").type) == "ArrowVariableShapedTensorType(ndim=3, dtype=uint8)"
    seen = 0
    for batch in rows.iter_batches(batch_size=7):
        for key, pixels, error in zip(batch["__key__"], batch["png"], batch["__error__"], strict=True):
            wanted = np.zeros((0, 0, 3)) if int(key) == BROKEN else pixels_of(int(key))
            assert pixels.dtype == np.uint8
            assert np.array_equal(pixels, wanted)
            assert (error is None) == (int(key) != BROKEN)
            seen += 1
    assert seen == tarloom.open(pictured).count()


def test_pillow_images_are_refused(pictured):
    with pytest.raises(UsageError, match="png: Pillow images exist in samples only"):
        tarloom.open(pictured).decoding("pil").to_ray()


def test_a_damaged_tar_is_named_by_an_error_of_ours(packed, tmp_path):
    data = (packed / "00000.tar").read_bytes()
    (tmp_path / "cut.tar").write_bytes(data)
    rows = tarloom.open(tmp_path).to_ray()
    (tmp_path / "cut.tar").write_bytes(data[:20_000])
    with pytest.raises((ShardError, StorageError), match=r"cut\.tar"):
        rows.take_all()


def test_many_small_shards_share_a_task_and_a_large_one_is_split(tmp_path):
    for number in range(20):
        write_tar(tmp_path / f"{number:02d}.tar", [(f"{number}", {"bin": bytes(1000)})])
    write_tar(tmp_path / "big.tar", [(f"big{i}", {"bin": bytes(100_000)}) for i in range(30)])
    tasks = PieceSource(tarloom.open(tmp_path), Blocks(), cpus=1, task_bytes=1 << 20).tasks()
    assert [len({piece.shard for piece in task}) for task in tasks] == [21, 1, 1]


def test_there_is_a_task_for_each_cpu_also_of_what_is_left_when_columns_are_selected(packed, monkeypatch):
    monkeypatch.setattr("tarloom.read.ray.data.LEAST_TASK_BYTES", 1)
    whole = PieceSource(tarloom.open(packed).select("jpg", "width"), Blocks(), cpus=8)
    assert len(whole.tasks()) >= 8
    assert len(whole.apply_projection({"width": "width"}).tasks()) >= 8


def test_a_task_has_no_more_pieces_than_ray_sends_without_a_warning(tmp_path, monkeypatch):
    monkeypatch.setattr("tarloom.read.ray.data.BLOCK_BYTES", 1)
    write_tar(tmp_path / "many.tar", [(f"{i:05d}", {"bin": b""}) for i in range(4001)])
    source = PieceSource(tarloom.open(tmp_path), Blocks(), cpus=1, task_bytes=1 << 30)
    assert [len(task) for task in source.tasks()] == [2000, 2000, 1]


@pytest.mark.filterwarnings("ignore:The serialized size of your read function named 'read' is")
def test_a_task_that_is_large_to_send_is_run_all_the_same(packed):
    ours = tarloom.open(packed).where(f"__key__ <> '{'x' * (2 << 20)}'")
    assert len(ours.to_ray().take_all()) == len(packed_samples(2))


def test_a_piece_is_a_block_that_ray_neither_joins_to_the_next_nor_cuts(tmp_path):
    for shard, rows in enumerate((5, 4, 5)):
        write_tar(tmp_path / f"{shard}.tar", [(f"{shard}{row}", {"bin": bytes(4 << 20)}) for row in range(rows)])
    dataset = tarloom.open(tmp_path)
    blocks = dataset.to_ray(task_bytes=1 << 30).iter_batches(batch_size=None, batch_format="pyarrow")
    assert [(len(block), block["bin"].num_chunks) for block in blocks] == [(5, 1), (4, 1), (5, 1)]
