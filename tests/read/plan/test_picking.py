"""Counts, tables and samples by chance: from parquet alone, a function of the seed and the dataset."""

import shutil
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest

import tarloom
from tarloom.errors import ShardError, UsageError
from tests.format.raw import packed_dataset, write_parquet, write_tar
from tests.read.sample_sets import packed_samples

KEYS = [key for key, _ in packed_samples(2)]


@pytest.fixture(scope="module")
def tarless(packed, tmp_path_factory):
    """The packed dataset, all bytes of its tars zero: whoever reads one is found out."""
    folder = shutil.copytree(packed, tmp_path_factory.mktemp("tarless") / "set")
    for tar in folder.glob("0000[01].tar"):
        tar.write_bytes(bytes(tar.stat().st_size))
    return folder


def test_samples_are_counted_without_a_tar(tarless):
    dataset = tarloom.open(tarless)
    assert dataset.count() == len(dataset) == len(KEYS)
    assert dataset.count("__key__ LIKE '%5'") == sum(key.endswith("5") for key in KEYS)
    assert dataset.where("width = 256").count("__key__ > '000000039'") == len(KEYS) // 2
    assert not dataset.where("width < 0")


def test_a_table_holds_keys_and_columns_without_a_tar(tarless):
    table = tarloom.open(tarless).table("width", "clip.embedding")
    assert table.schema.names == ["__key__", "width", "clip.embedding"]
    assert table.schema.field("clip.embedding").type == pa.list_(pa.float16(), 4)
    assert table["__key__"].to_pylist() == KEYS
    some = tarloom.open(tarless).where("__key__ < '000000005'").table("caption.text")
    assert some.to_pylist() == [{"__key__": key, "caption.text": "hello"} for key in KEYS[:4]]


def test_a_table_has_all_columns_by_default_and_no_members(tarless):
    dataset = tarloom.open(tarless)
    assert dataset.table().schema.names == ["__key__", *dataset.columns[3:]]
    with pytest.raises(UsageError, match="txt, jpg: a table holds columns; read members by batches"):
        dataset.table("width", "txt", "jpg")


def test_a_table_of_no_samples_has_its_schema(tarless):
    dataset = tarloom.open(tarless).where("width < 0")
    assert dataset.table("width").schema == dataset.select("width").schema
    assert dataset.table("width").num_rows == 0


@pytest.mark.parametrize("condition", [None, "__key__ LIKE '%1' OR __key__ LIKE '%2'", "__key__ = '000000017'"])
@pytest.mark.parametrize("count", [0, 1, 10, 1000])
def test_a_sample_has_so_many_different_samples_of_those_that_pass_in_order(packed, condition, count):
    dataset = tarloom.open(packed).select("txt")
    dataset = dataset.where(condition) if condition else dataset
    passing = [sample["__key__"] for sample in dataset]
    found = [sample["__key__"] for sample in dataset.sample(count, seed=3)]
    assert found == sorted(set(found))
    assert set(found) <= set(passing)
    assert len(found) == min(count, len(passing))
    assert found == [sample["__key__"] for sample in dataset.sample(count, seed=3)]


def test_numpys_numbers_say_how_many_and_which_as_pythons_do(packed):
    dataset = tarloom.open(packed).select()
    assert list(dataset.sample(np.int64(3), np.int32(7))) == list(dataset.sample(3, 7))


def test_a_negative_count_is_refused(packed):
    with pytest.raises(UsageError, match="cannot have -1 samples"):
        list(tarloom.open(packed).sample(-1))


@pytest.mark.parametrize("condition", ["true", "__key__ LIKE '%1'"])
def test_every_sample_is_as_likely_as_any_other(packed, condition):
    dataset = tarloom.open(packed).select().where(condition)
    seen = Counter(sample["__key__"] for seed in range(200) for sample in dataset.sample(2, seed))
    expected = 400 / len(dataset)
    # chi-square: so far from even comes about once in a million
    distance = sum((seen[sample["__key__"]] - expected) ** 2 / expected for sample in dataset)
    degrees = len(dataset) - 1
    assert distance < degrees + 6 * (2 * degrees) ** 0.5


def test_few_samples_touch_few_shards(tmp_path):
    packed_dataset(tmp_path, shards=20, rows=10, failed=())
    dataset = tarloom.open(tmp_path).select("txt", "caption.text")
    wanted = list(dataset.sample(2, seed=11))
    touched = {sample["__url__"] for sample in wanted}
    for tar in tmp_path.glob("*.tar"):
        if str(tar) not in touched:
            tar.write_bytes(bytes(tar.stat().st_size))
            tar.with_suffix(".caption.parquet").write_bytes(b"no parquet")
    assert list(dataset.sample(2, seed=11)) == wanted
    with pytest.raises(ShardError):
        list(dataset)


def test_one_sample_by_key_obeys_the_condition(packed):
    dataset = tarloom.open(packed).where("__key__ < '000000010'").select("txt", "width")
    assert dataset["000000001"] == {
        "__key__": "000000001",
        "__url__": str(packed / "00000.tar"),
        "txt": b"a caption",
        "width": 256,
    }
    assert "000000001" in dataset
    assert "000000011" not in dataset
    with pytest.raises(KeyError, match="000000011"):
        dataset["000000011"]


def test_of_samples_with_one_key_the_first_is_found_that_iterating_yields(tmp_path):
    for shard in ("a", "b"):
        members = {"txt": shard.encode(), "json": b"{}" if shard == "b" else b"oops"}
        write_tar(tmp_path / f"{shard}.tar", [("0", members), ("1", members)])
        write_parquet(
            tmp_path / f"{shard}.parquet", {"key": ["0", "1"], "status": ["success"] * 2, "split": [shard] * 2}
        )
    dataset = tarloom.open(tmp_path)
    second = dataset.where("split = 'b'")
    assert (dataset["1"]["txt"], second["1"]["txt"]) == (b"a", b"b")
    assert [sample["__key__"] in second for sample in second] == [True, True]
    assert "1" not in second.where("split = 'a'")
    assert dataset.decoding(json="json").on_error("skip")["1"]["txt"] == b"b"
