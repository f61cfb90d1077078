"""Sidecars say what made them and for which version of their shard, and are never joined to another."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tarloom.errors import CorruptShard, StaleSidecar, UsageError
from tarloom.format.index import IndexBuilder
from tarloom.format.sidecar import (
    SidecarInfo,
    check_fresh,
    find_sidecars,
    read_sidecar,
    sidecar_info,
    write_sidecar,
)
from tarloom.format.storage import open_storage

INFO = SidecarInfo(stage="caption", fingerprint={"model": "tiny", "prompt": "é"}, identity="sha256:1", rows=2)


@pytest.fixture
def storage(tmp_path):
    return open_storage(tmp_path)


@pytest.fixture
def table() -> pa.Table:
    ends = {"status": ["success", "failed"], "error": [None, "truncated"]}
    return pa.table({"__key__": ["a", "b"], "text": ["a cat", None], **ends})


def test_a_sidecar_comes_back_with_what_made_it(storage, table):
    write_sidecar(storage, "00000", table, INFO)
    assert sidecar_info(storage, "00000", "caption") == INFO
    assert read_sidecar(storage, "00000", "caption").equals(table)
    assert read_sidecar(storage, "00000", "caption", ["text"]).column_names == ["text"]
    assert pq.read_table(storage.local_path("00000.caption.parquet")).equals(table)


def test_the_same_sidecar_gives_the_same_bytes(storage, table):
    write_sidecar(storage, "a", table, INFO)
    turned = SidecarInfo(stage="caption", fingerprint={"prompt": "é", "model": "tiny"}, identity="sha256:1", rows=2)
    write_sidecar(storage, "b", table, turned)
    assert storage.read("a.caption.parquet") == storage.read("b.caption.parquet")


def test_no_sidecar_is_none(storage):
    assert sidecar_info(storage, "00000", "caption") is None


def test_a_table_that_is_no_sidecar_is_corrupt(storage, table):
    pq.write_table(table, storage.local_path("00000.caption.parquet"))
    with pytest.raises(CorruptShard, match=r"00000\.caption\.parquet: not a sidecar; .*your own, rename it"):
        sidecar_info(storage, "00000", "caption")


def test_a_sidecar_whose_fingerprint_is_nested_beyond_reading_is_corrupt(storage, table):
    footer = {"tarloom.stage": "caption", "tarloom.fingerprint": "[" * 100_000}
    pq.write_table(table.replace_schema_metadata(footer), storage.local_path("00000.caption.parquet"))
    with pytest.raises(CorruptShard, match=r"00000\.caption\.parquet: not a sidecar"):
        sidecar_info(storage, "00000", "caption")


def test_a_sidecar_under_the_name_of_another_stage_is_corrupt(storage, table):
    write_sidecar(storage, "00000", table, INFO)
    storage.local_path("00000.caption.parquet").rename(storage.local_path("00000.clip.parquet"))
    with pytest.raises(CorruptShard, match="footer does not fit"):
        sidecar_info(storage, "00000", "clip")


@pytest.mark.parametrize("columns", [["__key__", "text"], ["text", "status", "error"], ["__key__", "error", "status"]])
def test_a_table_without_the_columns_of_a_sidecar_is_not_written(storage, table, columns):
    with pytest.raises(ValueError, match="columns must be"):
        write_sidecar(storage, "00000", table.select(columns), INFO)


@pytest.mark.parametrize("stage", ["", "a.b", "a/b", "-x", "é", "a b"])
def test_a_stage_name_that_cannot_stand_in_a_file_name_is_refused(storage, table, stage):
    with pytest.raises(UsageError, match="stage name"):
        write_sidecar(storage, "0", table, SidecarInfo(stage=stage, fingerprint={}, identity="", rows=2))


def test_sidecars_are_told_from_metadata_and_from_other_shards_files():
    names = ["a.tar", "a.parquet", "a.clip.parquet", "a.caption.parquet", "a_stats.json", "ab.clip.parquet"]
    names += ["a.b.tar", "a.b.parquet", "a.b.clip.parquet", "x/a.tar", "x/a.clip.parquet", "_tarloom/index/a.parquet"]
    assert find_sidecars(iter(names)) == {"a": ("caption", "clip"), "a.b": ("clip",), "x/a": ("clip",)}


def test_a_sidecar_of_another_version_of_its_shard_is_stale():
    builder = IndexBuilder()
    builder.add("a", "jpg", 512, 1)
    builder.add("b", "jpg", 1536, 1)
    check_fresh(INFO, builder.finish("00000", 10240, "sha256:1"), "x")
    for index in (builder.finish("00000", 10240, "sha256:2"), IndexBuilder().finish("00000", 10240, "sha256:1")):
        with pytest.raises(StaleSidecar, match=r"^x: made for sha256:1 with 2 rows.*run the stage again"):
            check_fresh(INFO, index, "x")
