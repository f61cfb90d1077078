"""Opening folders, and what a dataset yields."""

import os
import pickle
import re
import shutil
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tarloom
from tarloom.errors import CorruptShard, UsageError
from tarloom.format.verify.dataset import verify
from tarloom.read.plan import catalog
from tests.format.raw import some_samples, write_parquet, write_tar
from tests.read.sample_sets import FAILED, ROWS, odd_samples, packed_samples

SHARED_BY_THREADS = """
import sys, threading
import tarloom

dataset, taken = tarloom.open(sys.argv[1]), []

def take(samples):
    try:
        taken.extend(sample["__key__"] for sample in samples)
    except ValueError as error:
        assert "already executing" in str(error)

for _ in range(10):
    for samples in (iter(dataset), dataset.sample(len(dataset))):
        threads = [threading.Thread(target=take, args=(samples,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
print(len(taken) == 20 * len(dataset), len(set(taken)) == len(dataset))
"""


def test_columns_and_length_come_without_reading_a_tar(packed, tmp_path):
    folder = shutil.copytree(packed, tmp_path / "copy")
    for tar in folder.glob("*.tar"):
        tar.write_bytes(bytes(tar.stat().st_size))
    (folder / "00002.tar").write_bytes((packed / "00002.tar").read_bytes())
    dataset = tarloom.open(folder)
    assert len(dataset) == 2 * (ROWS - len(FAILED))
    assert dataset.columns == (
        *("jpg", "json", "txt"),
        *("url", "key", "status", "error_message", "width", "error"),
        *("caption.text", "caption.status", "caption.error"),
        *("clip.embedding", "clip.status", "clip.error"),
    )


def test_only_committed_shards_of_a_planned_folder_are_seen(packed):
    assert [shard.shard for shard in tarloom.open(packed).shards] == ["00000", "00001", "00002"]


def test_samples_come_in_order_with_all_members_and_nothing_joined(packed):
    samples = list(tarloom.open(packed))
    assert [(s.pop("__key__"), s) for s in samples if s.pop("__url__")] == packed_samples(2)
    assert next(iter(tarloom.open(packed)))["__url__"] == str(packed / "00000.tar")


def test_a_selection_yields_its_members_and_columns_in_its_order(packed):
    dataset = tarloom.open(packed).select("clip.embedding", "txt", "width", "caption.text")
    sample = next(iter(dataset))
    assert sample.pop("__url__")
    key = sample["__key__"]
    assert sample == {
        "__key__": key,
        "txt": b"a caption",
        "clip.embedding": [0.5] * 4,
        "width": 256,
        "caption.text": "hello",
    }
    (batch, *_) = dataset.batches()
    assert batch.schema == dataset.schema
    assert batch.schema.field("clip.embedding").type == pa.list_(pa.float16(), 4)


def test_an_empty_selection_yields_keys_alone(packed):
    assert [set(sample) for sample in tarloom.open(packed).select()] == [{"__key__", "__url__"}] * len(
        packed_samples(2)
    )


def test_a_name_that_is_not_there_is_refused_with_those_that_are(packed):
    with pytest.raises(UsageError, match=r"has no 'caption\.score'; select from jpg, json, txt, url"):
        tarloom.open(packed).select("jpg", "caption.score")


@pytest.mark.parametrize("names", [(["jpg", "txt"],), (None,), ("jpg", 5)])
def test_what_is_no_name_is_refused_with_how_names_are_given(packed, names):
    with pytest.raises(UsageError, match=r"give names one by one, such as: select\('jpg', 'caption'\); not "):
        tarloom.open(packed).select(*names)


def test_a_key_comes_without_being_selected_which_is_refused(packed):
    with pytest.raises(UsageError, match="__key__ comes by itself where there is one; select members and columns"):
        tarloom.open(packed).select("__key__", "jpg")


def test_batches_hold_at_most_so_many_rows_and_lose_none(packed):
    batches = list(tarloom.open(packed).batches(15))
    assert [batch.num_rows for batch in batches] == [15, 15, 8] * 2
    assert pa.Table.from_batches(batches)["__key__"].to_pylist() == [key for key, _ in packed_samples(2)]


def test_one_sample_is_found_by_its_key(packed):
    key, members = packed_samples(2)[50]
    assert tarloom.open(packed)[key] == {"__key__": key, "__url__": str(packed / "00001.tar"), **members}
    for other in ("nobody", "\udcff"):  # such as of a file whose name is not UTF-8
        assert other not in tarloom.open(packed)
        with pytest.raises(KeyError):
            tarloom.open(packed)[other]
    with pytest.raises(TypeError, match=r"keys, which are strings, not by 0; for a DataLoader give ds\.to_torch"):
        tarloom.open(packed)[0]


def test_a_dataset_contains_its_keys_and_nothing_else(packed):
    dataset = tarloom.open(packed)
    assert packed_samples(2)[50][0] in dataset
    assert "nobody" not in dataset
    assert 0 not in dataset


def test_one_tar_opens_alone_with_what_belongs_to_it(packed):
    dataset = tarloom.open(packed / "00001.tar").select("txt", "caption.text")
    assert [sample["__key__"] for sample in dataset] == [key for key, _ in packed_samples(2)[ROWS - len(FAILED) :]]


def test_members_that_a_sample_lacks_are_absent_from_it_and_null_in_batches(tmp_path):
    write_tar(tmp_path / "odd.tar", odd_samples())
    dataset = tarloom.open(tmp_path)
    assert dataset.members == ("jpg", "json", "seg.png", "txt")
    (batch,) = dataset.batches()
    rows = [{name: value for name, value in row.items() if value is not None} for row in batch.to_pylist()]
    assert rows == [{k: v for k, v in sample.items() if k != "__url__"} for sample in dataset]


def test_metadata_in_another_order_than_the_tar_is_joined_by_key(tmp_path):
    samples = some_samples(20)
    write_tar(tmp_path / "00000.tar", samples)
    keys = [key for key, _ in reversed(samples)]
    write_parquet(tmp_path / "00000.parquet", {"key": keys, "status": ["success"] * 20, "copy": keys})
    assert all(sample["copy"] == sample["__key__"] for sample in tarloom.open(tmp_path).select("copy"))


def test_a_column_that_is_empty_in_the_first_shard_has_the_type_of_the_next(tmp_path):
    for number, exif in enumerate(([None, None], [None, "{}"], [None, None])):
        samples = some_samples(2, first=2 * number)
        write_tar(tmp_path / f"{number}.tar", samples)
        columns = {"key": [key for key, _ in samples], "status": ["success"] * 2, "exif": exif}
        write_parquet(tmp_path / f"{number}.parquet", columns)
    dataset = tarloom.open(tmp_path).select("exif")
    assert dataset.schema.field("exif").type == pa.string()
    assert [sample["exif"] for sample in dataset] == [None, None, None, "{}", None, None]
    assert dataset.count("exif = '{}'") == 1


def test_an_error_is_text_though_the_first_shards_have_none_and_say_of_no_type(packed, tmp_path, monkeypatch):
    folder = shutil.copytree(packed, tmp_path / "copy")
    for shard, error in (("00000", None), ("00001", "oom")):
        table = pq.read_table(folder / f"{shard}.caption.parquet")
        errors = pa.array([error] * len(table))
        pq.write_table(
            table.set_column(table.schema.get_field_index("error"), "error", errors),
            folder / f"{shard}.caption.parquet",
        )
    monkeypatch.setattr(catalog, "TABLES_ASKED", 1)
    dataset = tarloom.open(folder)
    rows = len(dataset) // 2
    assert dataset.table("caption.error")["caption.error"].to_pylist() == [None] * rows + ["oom"] * rows
    assert (dataset.count("caption.error IS NULL"), dataset.count("caption.error = 'oom'")) == (rows, rows)


def test_a_parquet_that_is_not_metadata_adds_no_columns(tmp_path):
    write_tar(tmp_path / "00000.tar", some_samples(2))
    write_parquet(tmp_path / "00000.parquet", {"something": [1]})
    write_parquet(tmp_path / "00000.else.parquet", {"something": [1]})
    assert tarloom.open(tmp_path).columns == ("jpg", "json", "txt")


def test_a_dataset_travels_between_processes(packed):
    dataset = tarloom.open(packed).select("txt")
    assert len(pickle.loads(pickle.dumps(dataset))) == len(dataset)
    copy = pickle.loads(pickle.dumps(dataset))
    assert list(copy) == list(dataset)


def test_samples_shared_by_threads_come_once_and_a_thread_too_many_gets_an_error(packed):
    """In a process of its own: it was killed by a segmentation fault."""
    command = [sys.executable, "-c", SHARED_BY_THREADS, str(packed)]
    assert subprocess.check_output(command, stderr=subprocess.STDOUT, text=True) == "True True\n"


@pytest.mark.parametrize("name", ["nowhere", "nowhere/00000.tar"])
def test_a_path_that_does_not_exist_is_named(tmp_path, name):
    with pytest.raises(UsageError, match=r"nowhere.*: no such folder; check the path"):
        tarloom.open(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "do"),
    [("00009.tar", "check the path"), ("*.tar", "give the folder"), ("{00000..00001}.tar", "give the folder")],
)
def test_a_tar_that_is_not_there_and_a_pattern_are_named_beside_others_that_are(packed, name, do):
    for look in (tarloom.open, lambda path: list(verify(path))):
        with pytest.raises(UsageError, match=rf"{re.escape(name)}: no shard .* has this name; .*{do}"):
            look(packed / name)


@pytest.mark.parametrize("name", ["00000.parquet", "00000.tar.lz4"])
def test_a_file_that_is_no_tar_is_refused_with_what_would_be_one(tmp_path, name):
    (tmp_path / name).write_bytes(b"BZh9")
    with pytest.raises(UsageError, match=rf"{name}: is neither a folder nor a tar \(\.tar, \.tar\.gz, .*one of them"):
        tarloom.open(tmp_path / name)


def test_a_folder_without_a_finished_tar_is_named(tmp_path):
    write_tar(tmp_path / "_private" / "00000.tar", some_samples(1))
    with pytest.raises(UsageError, match="no shard"):
        tarloom.open(tmp_path)


def test_webdatasets_own_methods_go_on_from_its_pipeline(packed):
    samples = list(tarloom.open(packed).select("txt", "json").to_webdataset().decode().to_tuple("__key__", "txt"))
    assert samples == [(key, "a caption") for key, _ in packed_samples(2)]


def test_a_shard_whose_name_is_not_utf8_is_refused_by_its_name(packed, tmp_path):
    shutil.copy(packed / "00000.tar", os.fsencode(tmp_path) + b"/\xff.tar")
    with pytest.raises(UsageError, match=r"'\\udcff' is not UTF-8; rename"):
        tarloom.open(tmp_path)


def test_members_are_read_whatever_became_of_the_columns(packed, tmp_path):
    shutil.copy(packed / "00000.tar", tmp_path)
    (tmp_path / "00000.parquet").write_bytes(b"no parquet")
    assert len(list(tarloom.open(tmp_path).select("jpg", "txt"))) == ROWS - len(FAILED)


def test_a_damaged_table_hides_no_columns_but_its_own(packed, tmp_path):
    folder = shutil.copytree(packed, tmp_path / "copy")
    (folder / "00000.parquet").write_bytes(b"no parquet")
    for sidecar in folder.glob("*.clip.parquet"):
        sidecar.write_bytes(b"no parquet")
    dataset = tarloom.open(folder)
    assert {"width", "caption.text"} <= set(dataset.columns)
    assert len(list(dataset.select("jpg", "caption.text"))) == 2 * (ROWS - len(FAILED))
    with pytest.raises(CorruptShard, match=r"00000\.parquet: not a sound parquet file"):
        list(dataset.select("width"))
    with pytest.raises(CorruptShard, match="not a sound parquet file"):
        dataset.select("clip.embedding")
