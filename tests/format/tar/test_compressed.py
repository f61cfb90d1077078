"""Tars that are compressed: the same members, in one pass forwards, within bounds; damage is named."""

import bz2
import gzip
import lzma
import tarfile
import tracemalloc

import pytest
import zstandard

from tarloom.errors import CorruptShard, TruncatedShard, UsageError
from tarloom.format.index_load import load_index, scan_index
from tarloom.format.layout import find_tars, is_shard_file, shard_of
from tarloom.format.storage import open_dataset_storage, open_storage
from tarloom.format.tar.compressed import FREE_BYTES, Unpacked, open_tar, tar_ranges
from tests.format.raw import some_samples, write_tar


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True).compress(data)


PACKERS = {
    ".tar.gz": gzip.compress,
    ".tgz": gzip.compress,
    ".tar.zst": zstd,
    ".tar.bz2": bz2.compress,
    ".tbz2": bz2.compress,
    ".tar.xz": lzma.compress,
    ".txz": lzma.compress,
}
each_kind = pytest.mark.parametrize("suffix", PACKERS)


def packed_beside(folder, suffix, *, parts: int = 1, samples: int = 50) -> bytes:
    """A tar, and the same compressed, as `parts` streams one behind the other; the tar's bytes."""
    write_tar(folder / "plain" / "a.tar", some_samples(samples))
    raw = (folder / "plain" / "a.tar").read_bytes()
    step = -(-len(raw) // parts)
    (folder / f"a{suffix}").write_bytes(b"".join(PACKERS[suffix](raw[i : i + step]) for i in range(0, len(raw), step)))
    return raw


def unpacked(folder, name) -> Unpacked:
    storage = open_storage(folder)
    ranges = tar_ranges(storage, storage.head(name))
    assert isinstance(ranges, Unpacked)
    return ranges


@each_kind
@pytest.mark.parametrize("parts", [1, 3])
def test_the_index_of_a_compressed_tar_is_that_of_the_tar(tmp_path, suffix, parts):
    packed_beside(tmp_path, suffix, parts=parts)
    storage, tar = open_dataset_storage(tmp_path / f"a{suffix}")
    index = load_index(storage, "a", storage.head(tar))
    plain = scan_index(open_storage(tmp_path / "plain"), "a")
    assert index.table.equals(plain.table)
    assert index.identity == plain.identity
    assert index.size == (tmp_path / f"a{suffix}").stat().st_size
    assert load_index(storage, "a", storage.head(tar)).table.equals(index.table), "the kept one"


@each_kind
def test_ranges_come_in_any_order_and_from_anywhere(tmp_path, suffix):
    raw = packed_beside(tmp_path, suffix)
    ranges = unpacked(tmp_path, f"a{suffix}")
    wanted = [(5000, 700), (0, 512), (20_000, 0), (5100, 3000), (len(raw) - 10, 10)]
    for _ in range(2):
        found = ranges.read_ranges("a", [o for o, _ in wanted], [s for _, s in wanted])
        assert [bytes(view) for view in found] == [raw[o : o + s] for o, s in wanted]
    with pytest.raises(TruncatedShard, match=f"a{suffix}: its tar ends at byte {len(raw)}"):
        ranges.read_ranges("a", [len(raw) - 5], [10])


@each_kind
def test_the_stream_for_other_readers_is_the_tar(tmp_path, suffix):
    raw = packed_beside(tmp_path, suffix, parts=2)
    storage = open_storage(tmp_path)
    with open_tar(storage, storage.head(f"a{suffix}")) as stream:
        assert stream.read() == raw


def read_to_its_end(storage, name) -> None:
    scan_index(storage, "a", storage.head(name))
    with open_tar(storage, storage.head(name)) as stream:
        stream.read()


@each_kind
def test_what_is_cut_or_changed_is_named(tmp_path, suffix):
    packed_beside(tmp_path, suffix)
    path = tmp_path / f"a{suffix}"
    whole = path.read_bytes()
    storage = open_storage(tmp_path)
    for cut in (0, 5, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(TruncatedShard, match=f"a{suffix}: "):
            read_to_its_end(storage, path.name)
    changed = bytearray(whole)
    changed[len(whole) // 2] ^= 1
    path.write_bytes(changed)
    with pytest.raises(CorruptShard, match=f"a{suffix}: "):
        read_to_its_end(storage, path.name)


@each_kind
def test_a_second_stream_whose_beginning_is_changed_is_named(tmp_path, suffix):
    raw = packed_beside(tmp_path, suffix, parts=2)
    path = tmp_path / f"a{suffix}"
    changed = bytearray(path.read_bytes())
    changed[len(PACKERS[suffix](raw[: len(raw) // 2]))] ^= 1
    path.write_bytes(changed)
    with pytest.raises(CorruptShard, match=f"a{suffix}: cannot be decompressed"):
        read_to_its_end(open_storage(tmp_path), path.name)


def test_zeros_between_and_behind_xz_streams_are_no_damage(tmp_path):
    raw = packed_beside(tmp_path, ".tar.xz")
    padded = [lzma.compress(part) + bytes(4 << 20) for part in (raw[:2048], raw[2048:])]
    (tmp_path / "a.tar.xz").write_bytes(b"".join(padded))
    with open_tar(open_storage(tmp_path), open_storage(tmp_path).head("a.tar.xz")) as stream:
        assert stream.read() == raw


def test_a_tar_that_ends_inside_a_member_is_named_though_its_compression_is_whole(tmp_path):
    raw = packed_beside(tmp_path, ".tar.gz")
    storage = open_storage(tmp_path)
    for cut in (100, 512, 600, 10_000, 10_300):
        (tmp_path / "a.tar.gz").write_bytes(gzip.compress(raw[:cut]))
        with pytest.raises(TruncatedShard, match=r"a\.tar\.gz: "):
            scan_index(storage, "a", storage.head("a.tar.gz"))


def test_a_bomb_is_refused_within_bounded_memory(tmp_path):
    info = tarfile.TarInfo("bomb.jpg")
    info.size = 1 << 40
    (tmp_path / "a.tar.zst").write_bytes(zstd(info.tobuf(tarfile.GNU_FORMAT)) + zstd(bytes(8 << 20)) * 16)
    storage = open_storage(tmp_path)
    tracemalloc.start()
    with pytest.raises(CorruptShard, match=r"a\.tar\.zst: expands to more than 1000 times"):
        scan_index(storage, "a", storage.head("a.tar.zst"))
    assert tracemalloc.get_traced_memory()[1] < FREE_BYTES // 2
    tracemalloc.stop()


@pytest.mark.parametrize("suffix", [".tar.gz", ".tar.zst", ".tar.bz2", ".tar.xz"])
def test_a_compressed_file_that_is_called_tar_is_told_its_name(tmp_path, suffix):
    packed_beside(tmp_path, suffix)
    (tmp_path / f"a{suffix}").rename(tmp_path / "a.tar")
    with pytest.raises(CorruptShard, match=rf"call it \{suffix}\)"):
        scan_index(open_storage(tmp_path), "a")


def test_shards_are_called_without_what_says_how_they_are_compressed(tmp_path):
    names = ["a.tar", "train/b.c.tar.gz", "d.tgz", "e.tar.zst", "f.gz", "_g.tar.gz", ".h.tgz", "i.tar.xz", "j.xz"]
    assert [shard_of(name) for name in names if is_shard_file(name)] == ["a", "train/b.c", "d", "e", "i"]
    with pytest.raises(UsageError, match=r"x\.tar and x\.tar\.gz would both be shard x"):
        find_tars(["x.tar.gz", "y.tar", "x.tar"], "/data")
