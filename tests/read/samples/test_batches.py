"""The one read path: what a piece yields, and what it refuses to believe."""

import dataclasses
import os
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tarloom
from tarloom.errors import ShardError, StaleIndex, StaleSidecar
from tarloom.format.index import write_index
from tarloom.format.index_load import scan_index
from tarloom.format.storage import open_storage
from tarloom.read.samples import batches, binary
from tarloom.read.samples.batches import read_piece
from tests.format.raw import some_samples, write_parquet, write_sidecar, write_tar
from tests.read.sample_sets import packed_samples


@settings(deadline=None)
@given(st.integers(1, 20_000), st.integers(1, 50))
def test_however_a_dataset_is_cut_its_rows_are_the_same(packed, target_bytes, rows):
    dataset = tarloom.open(packed)
    pieces = dataset.pieces(target_bytes)
    table = pa.Table.from_batches([batch for piece in pieces for batch in read_piece(piece, batch_rows=rows)])
    assert table.equals(pa.Table.from_batches(list(dataset.batches())).cast(table.schema))
    assert sum(piece.rows for piece in pieces) == table.num_rows


def test_a_batch_ends_where_it_would_grow_too_large(packed, monkeypatch):
    for limit, rows in (("BATCH_BYTES", 1024), ("READ_BYTES", None)):
        with monkeypatch.context() as patch:
            patch.setattr(batches, "READ_BYTES", 100)
            patch.setattr(batches, limit, 1000)
            found = list(tarloom.open(packed).select("jpg").batches(rows))
        assert all(b.num_rows == 1 or sum(map(len, b["jpg"].to_pylist())) <= 1000 for b in found)
        assert sum(b.num_rows for b in found) == len(packed_samples(2))
        assert max(b.num_rows for b in found) > 1


@given(
    st.lists(st.integers(0, 300), max_size=60),
    st.none() | st.integers(1, 50),
    st.integers(0, 1000),
    st.integers(1000, 4000),
)
def test_reads_are_whole_batches_and_all_rows(sizes, batch_rows, read_bytes, batch_bytes):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches, "BATCH_BYTES", batch_bytes)
        bounds = list(batches._bounds(np.array(sizes, np.int64), batch_rows, read_bytes))
    assert [row for first, last in bounds for row in range(first, last)] == list(range(len(sizes)))
    for first, last in bounds:
        size, rows = sum(sizes[first:last]), last - first
        assert size <= read_bytes or rows == 1 or (rows <= (batch_rows or 0) and size <= batch_bytes)
        assert last == len(sizes) or rows % (batch_rows or 1) == 0 or size + sizes[last] > batch_bytes


def test_arrays_beyond_32_bit_offsets_become_large(packed, monkeypatch):
    monkeypatch.setattr(binary, "LARGEST_BINARY", 10)
    (batch, *_) = tarloom.open(packed).select("jpg").batches()
    assert batch.schema.field("jpg").type == pa.large_binary()
    assert batch["jpg"].to_pylist() == [members["jpg"] for _, members in packed_samples(1)]


def test_mapped_members_lie_in_the_tar_wherever_they_are_read_and_others_are_views_too(packed, compressed, s3):
    url = s3.folder("mapped")
    for name in ("00000.tar", "00001.tar"):
        open_storage(url).write(name, (packed / name).read_bytes())
    copied = pa.Table.from_batches(tarloom.open(packed).batches())
    for place in (packed, compressed, url):
        views = pa.Table.from_batches(tarloom.open(place).batches(memory_map=True))
        assert views.schema.field("jpg").type == pa.binary_view()
        assert views.cast(copied.schema).equals(copied)
    (batch, *_) = tarloom.open(packed).select("txt", "jpg").batches(memory_map=True)
    *_, column = batch["jpg"].buffers()
    lies_there = column.to_pybytes() in (packed / "00000.tar").read_bytes()
    assert lies_there


@pytest.mark.parametrize("policy", ["skip", "row"])
def test_of_mapped_members_those_that_are_decoded_are_as_ever(pictured, policy):
    dataset = tarloom.open(pictured).select("png", "json").decoding("rgb").on_error(policy)
    copied, mapped = (pa.Table.from_batches(dataset.batches(memory_map=memory_map)) for memory_map in (False, True))
    assert mapped.schema.field("json").type == pa.binary_view()
    assert mapped["json"].to_pylist() == copied["json"].to_pylist()
    assert mapped.drop_columns("json").equals(copied.drop_columns("json"))


def test_a_member_that_no_view_can_hold_comes_as_a_copy(packed, monkeypatch):
    monkeypatch.setattr("tarloom.read.samples.members.WINDOW_BYTES", 10)
    mapped = pa.Table.from_batches(tarloom.open(packed).select("jpg").batches(memory_map=True))
    assert mapped["jpg"].to_pylist() == [members["jpg"] for _, members in packed_samples(2)]


def test_a_tar_replaced_by_another_of_the_same_size_is_read_as_it_is_now(tmp_path):
    write_tar(tmp_path / "00000.tar", some_samples(10))
    assert len(list(tarloom.open(tmp_path))) == 10
    write_tar(tmp_path / "00000.tar", some_samples(10, first=500))
    os.utime(tmp_path / "00000.tar", ns=(0, 0))
    assert [sample["__key__"] for sample in tarloom.open(tmp_path)] == [key for key, _ in some_samples(10, first=500)]


def test_an_index_from_packing_is_not_believed_of_another_tar_of_the_same_size(tmp_path):
    storage = open_storage(tmp_path)
    write_tar(tmp_path / "00000.tar", some_samples(10))
    write_index(storage, scan_index(storage, "00000"))  # like one made while packing, it knows no time
    write_tar(tmp_path / "00000.tar", some_samples(10, first=500))
    with pytest.raises(StaleIndex, match=r"00000\.tar: was changed after its index was made; remove .*00000\.parquet"):
        list(tarloom.open(tmp_path))


def test_plain_headers_that_carry_other_names_than_their_pax_headers_are_believed(tmp_path):
    write_tar(tmp_path / "00000.tar", [("x" * 120, {"jpg": b"1"}), ("größe", {"jpg": b"2"})])
    data = bytearray((tmp_path / "00000.tar").read_bytes())
    assert [sample["jpg"] for sample in tarloom.open(tmp_path)] == [b"1", b"2"]
    assert data.count(b"path=") == 2


def test_a_tar_that_was_cut_after_opening_is_named(packed, tmp_path):
    shutil.copy(packed / "00000.tar", tmp_path)
    pieces = tarloom.open(tmp_path).pieces()
    (tmp_path / "00000.tar").write_bytes((packed / "00000.tar").read_bytes()[:9000])
    with pytest.raises(StaleIndex, match=r"00000\.tar: is 9000 bytes long now, was \d+ when it was listed"):
        list(read_piece(pieces[0]))


def test_a_piece_of_a_shard_that_is_another_now_is_refused(packed):
    piece = dataclasses.replace(tarloom.open(packed).pieces()[0], identity="sha256:other")
    with pytest.raises(StaleIndex, match="changed while it was being read"):
        list(read_piece(piece))


def test_a_sidecar_of_another_version_of_its_shard_is_reported_never_joined(tmp_path):
    keys = [key for key, _ in some_samples(5)]
    write_tar(tmp_path / "00000.tar", some_samples(5))
    write_sidecar(tmp_path, "00000", "caption", keys, {"text": ["old"] * 5}, "sha256:old")
    with pytest.raises(StaleSidecar, match=r"00000\.caption\.parquet"):
        list(tarloom.open(tmp_path).select("caption.text"))
    assert len(list(tarloom.open(tmp_path))) == 5


def test_a_sidecar_that_some_shards_lack_is_reported(packed, tmp_path):
    folder = shutil.copytree(packed, tmp_path / "copy")
    (folder / "00001.caption.parquet").unlink()
    with pytest.raises(ShardError, match=r"00001\.caption\.parquet: there is no such sidecar"):
        list(tarloom.open(folder).select("caption.text"))


def test_metadata_without_a_row_for_a_sample_or_with_two_is_reported(tmp_path):
    keys = [key for key, _ in some_samples(3)]
    write_tar(tmp_path / "00000.tar", some_samples(3))
    for rows, message in (
        (keys[:2], f"no row for key {keys[2]}"),
        ([*keys, keys[0]], f"more than one row for key {keys[0]}"),
    ):
        write_parquet(tmp_path / "00000.parquet", {"key": rows, "status": ["success"] * len(rows), "n": rows})
        with pytest.raises(ShardError, match=message):
            list(tarloom.open(tmp_path).select("n"))


def test_a_column_of_another_type_in_one_shard_takes_the_first_ones_or_is_reported(packed, tmp_path):
    folder = shutil.copytree(packed, tmp_path / "copy")
    metadata = folder / "00001.parquet"
    for name, width, works in (("int64", pa.int64(), True), ("text", pa.string(), False)):
        table = pq.read_table(packed / "00001.parquet")
        column = table["width"].cast(width) if works else pa.array(["wide"] * len(table))
        pq.write_table(table.set_column(table.schema.get_field_index("width"), "width", column), metadata)
        dataset = tarloom.open(folder).select("width")
        if works:
            assert {batch.schema.field("width").type for batch in dataset.batches()} == {pa.int32()}, name
        else:
            with pytest.raises(ShardError, match=r"00001\.parquet: width"):
                list(dataset.batches())


def test_batch_rows_less_than_one_are_refused(packed):
    with pytest.raises(ValueError, match="batch_rows must be at least 1"):
        list(tarloom.open(packed).batches(0))
