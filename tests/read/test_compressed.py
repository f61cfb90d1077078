"""Compressed tars in a dataset: one piece each, read forwards, never believed blindly."""

import gzip
import os

import pytest

import tarloom
from tarloom.errors import StaleIndex, TruncatedShard, UsageError
from tests.format.raw import some_samples, write_tar
from tests.read.sample_sets import packed_samples


def write_gzipped(folder, samples) -> None:
    """Of a size that only the tar's decides."""
    write_tar(folder / "plain" / "a.tar", samples)
    (folder / "data").mkdir(exist_ok=True)
    (folder / "data" / "a.tar.gz").write_bytes(gzip.compress((folder / "plain" / "a.tar").read_bytes(), 0, mtime=0))


def test_a_shard_is_one_piece_and_its_rows_can_be_chosen(compressed):
    dataset = tarloom.open(compressed)
    samples = packed_samples(2)
    assert [piece.rows for piece in dataset.pieces(1000)] == [len(samples) // 2] * 2
    assert [sample["jpg"] for sample in dataset.select("jpg")] == [members["jpg"] for _, members in samples]
    key, members = samples[-1]
    assert dataset[key]["json"] == members["json"]
    chosen = dataset.where(f"__key__ LIKE '%{key[-1]}'")
    assert [sample["__key__"] for sample in chosen] == [key for key, _ in samples if key[-1] == samples[-1][0][-1]]


def test_a_compressed_tar_replaced_by_another_of_its_size_and_time_gives_no_bytes_of_it(tmp_path):
    write_gzipped(tmp_path, some_samples(10))
    path = tmp_path / "data" / "a.tar.gz"
    os.utime(path, ns=(0, 0))
    before = path.stat().st_size
    assert len([*tarloom.open(path)]) == 10
    write_gzipped(tmp_path, some_samples(10, first=500))
    os.utime(path, ns=(0, 0))
    assert path.stat().st_size == before
    with pytest.raises(StaleIndex, match=r"a\.tar\.gz: was changed after its index was made"):
        list(tarloom.open(path))


def test_a_compressed_tar_that_is_cut_after_opening_is_named(tmp_path):
    write_gzipped(tmp_path, some_samples(30))
    dataset = tarloom.open(tmp_path / "data")
    pieces = list(dataset.pieces())
    path = tmp_path / "data" / "a.tar.gz"
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises((StaleIndex, TruncatedShard), match=r"a\.tar\.gz: "):
        list(tarloom.read.samples.batches.read_piece(pieces[0]))


def test_a_tar_beside_its_compressed_self_is_refused(tmp_path):
    write_gzipped(tmp_path, some_samples(3))
    write_tar(tmp_path / "data" / "a.tar", some_samples(3))
    with pytest.raises(UsageError, match=r"a\.tar and a\.tar\.gz would both be shard a"):
        tarloom.open(tmp_path / "data")
