"""An index tells where members lie, is believed only for the tar that it was made for, and is made anew otherwise."""

import hashlib
import os
import pickle
import pwd
import shutil
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tarloom
from tarloom.errors import CorruptShard, StorageError, TruncatedShard
from tarloom.format import index_load
from tarloom.format.index import IndexBuilder, ShardIndex, read_index, write_index
from tarloom.format.index_load import cache_storage, load_index, scan_index
from tarloom.format.storage import Entry, LocalStorage, Storage, open_storage
from tests.format import raw

STORED = "_tarloom/index/00000.parquet"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("TARLOOM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def storage(tmp_path) -> Storage:
    raw.write_tar(tmp_path / "set" / "00000.tar", raw.some_samples(20))
    return open_storage(tmp_path / "set")


def tar_of(storage: Storage) -> Entry:
    entry = storage.head("00000.tar")
    assert entry is not None
    return entry


def places(index: ShardIndex) -> set[tuple[str, str, int, int]]:
    return {
        (key, extension, offset, size)
        for extension in index.extensions
        for key, offset, size in zip(
            index.keys.to_pylist(),
            index.offsets(extension).to_pylist(),
            index.sizes(extension).to_pylist(),
            strict=True,
        )
        if offset is not None
    }


keys = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0/._"), min_size=1, max_size=60)
extensions = st.sampled_from(["jpg", "json", "txt", "seg.png", "cls"])
tars = st.dictionaries(keys, st.dictionaries(extensions, st.binary(max_size=600), min_size=1), max_size=10)


@settings(deadline=None)
@given(tars)
def test_the_walk_over_a_tar_finds_every_member_where_tarfile_does(tmp_path_factory, samples):
    folder = tmp_path_factory.mktemp("set")
    expected = raw.write_tar(folder / "00000.tar", samples.items())
    index = scan_index(open_storage(folder), "00000")
    assert places(index) == set(expected)
    assert index.keys.to_pylist() == list(samples)
    assert (index.rows, index.size) == (len(samples), (folder / "00000.tar").stat().st_size)


def test_the_table_has_a_key_column_and_two_for_every_extension_sorted(storage):
    index = scan_index(storage, "00000")
    names = ["__key__", "jpg:offset", "jpg:size", "json:offset", "json:size", "txt:offset", "txt:size"]
    assert index.table.column_names == names
    assert index.table.schema.types == [pa.string()] + [pa.int64()] * 6
    assert index.extensions == ("jpg", "json", "txt")


def test_places_are_stored_as_differences(tmp_path):
    raw.write_tar(tmp_path / "00000.tar", [(f"{n}", {"jpg": b"x" * n, "seg.png": b"y"}) for n in range(300)])
    storage = open_storage(tmp_path)
    write_index(storage, scan_index(storage, "00000"))
    group = pq.read_metadata(tmp_path / STORED).row_group(0)
    encodings = {column.path_in_schema: column.encodings for column in map(group.column, range(group.num_columns))}
    assert set(encodings) == {"__key__", "jpg:offset", "jpg:size", "seg.png:offset", "seg.png:size"}
    assert all(("DELTA_BINARY_PACKED" in found) == (name != "__key__") for name, found in encodings.items())
    assert not any("DICTIONARY" in encoding for found in encodings.values() for encoding in found)


def test_a_sample_without_a_member_has_null_there(tmp_path):
    raw.write_tar(tmp_path / "a.tar", [("1", {"jpg": b"x"}), ("2", {"txt": b""}), ("3", {"jpg": b"y", "txt": b"z"})])
    index = scan_index(open_storage(tmp_path), "a")
    assert index.sizes("jpg").to_pylist() == [1, None, 1]
    assert index.sizes("txt").to_pylist() == [None, 0, 1]


def test_a_written_index_is_read_back(storage):
    index = scan_index(storage, "00000")
    write_index(storage, index)
    assert read_index(storage, "00000") == index
    footer = pq.read_schema(storage.local_path(STORED)).metadata
    assert footer[b"tarloom.shard"] == b"00000"
    assert footer[b"tarloom.tar_size"] == str(tar_of(storage).size).encode()
    assert footer[b"tarloom.rows"] == b"20"
    assert footer[b"tarloom.identity"].startswith(b"headers:")


def test_an_empty_shard_has_an_empty_index(tmp_path):
    raw.write_tar(tmp_path / "a.tar", [])
    storage = open_storage(tmp_path)
    index = scan_index(storage, "a")
    assert (index.rows, index.extensions, index.keys.to_pylist()) == (0, (), [])
    write_index(storage, index)
    assert read_index(storage, "a") == index


def test_an_index_travels_to_other_processes(storage):
    index = scan_index(storage, "00000")
    assert pickle.loads(pickle.dumps(index)) == index


def test_the_same_members_give_the_same_bytes(tmp_path):
    files = []
    for name in ("one", "two"):
        raw.write_tar(tmp_path / name / "00000.tar", raw.some_samples(20))
        storage = open_storage(tmp_path / name)
        write_index(storage, scan_index(storage, "00000"))
        files.append(storage.read(STORED))
    assert files[0] == files[1]


def test_loading_keeps_what_the_walk_found(storage):
    index = load_index(storage, "00000", tar_of(storage))
    assert read_index(storage, "00000") == index
    storage.delete("00000.tar")
    assert load_index(storage, "00000", Entry(name="00000.tar", size=index.size)) == index


def test_an_index_of_a_tar_of_another_size_is_made_anew(storage):
    load_index(storage, "00000", tar_of(storage))
    raw.write_tar(storage.local_path("00000.tar"), raw.some_samples(50))
    assert load_index(storage, "00000", tar_of(storage)).rows == 50
    assert read_index(storage, "00000").rows == 50


def test_an_index_of_another_etag_is_made_anew_where_both_are_known(storage):
    tar = tar_of(storage)
    write_index(storage, IndexBuilder().finish("00000", tar.size, "headers:x", etag='"one"'))
    assert load_index(storage, "00000", Entry(name=tar.name, size=tar.size, etag='"one"')).rows == 0
    assert load_index(storage, "00000", Entry(name=tar.name, size=tar.size, etag='"two"')).rows == 20
    write_index(storage, IndexBuilder().finish("00000", tar.size, "sha256:x"))
    assert load_index(storage, "00000", tar).rows == 0


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "other parquet", "other shard", "rows", "columns"])
def test_an_index_that_is_none_is_made_anew(storage, damage):
    index = load_index(storage, "00000", tar_of(storage))
    path = storage.local_path(STORED)
    table = pq.read_table(path)
    if damage in ("other parquet", "columns"):
        table = pa.table({"a": [1]}) if damage == "other parquet" else table.drop_columns(["jpg:size"])
        footer = None if damage == "other parquet" else pq.read_schema(path).metadata
        pq.write_table(table.replace_schema_metadata(footer), path)
    elif damage in ("other shard", "rows"):
        key, value = (b"tarloom.shard", b"1") if damage == "other shard" else (b"tarloom.rows", b"3")
        pq.write_table(table.replace_schema_metadata({**table.schema.metadata, key: value}), path)
    else:
        path.write_bytes({"cut": path.read_bytes()[:-9], "empty": b"", "text": b"hello"}[damage])
    with pytest.raises(CorruptShard, match=r"00000\.parquet: not a"):
        read_index(storage, "00000")
    assert load_index(storage, "00000", tar_of(storage)) == index
    assert read_index(storage, "00000") == index


@pytest.fixture
def read_only(storage) -> Storage:
    """A file is in the way of the folder for indexes (root may write where permissions forbid it)."""
    storage.write("_tarloom", b"in the way")
    return storage


def test_indexes_of_a_dataset_that_cannot_be_written_are_kept_in_the_cache_folder(read_only, cache):
    index = load_index(read_only, "00000", tar_of(read_only))
    assert read_index(read_only, "00000") is None
    assert read_index(cache_storage(read_only), "00000") == index
    assert list(cache.rglob("00000.parquet"))
    read_only.delete("00000.tar")
    assert load_index(read_only, "00000", Entry(name="00000.tar", size=index.size)) == index


def test_datasets_do_not_share_a_cache_folder(tmp_path):
    assert cache_storage(open_storage(tmp_path / "a")) != cache_storage(open_storage(tmp_path / "b"))


def test_an_index_is_used_even_if_it_can_be_kept_nowhere(read_only, cache):
    cache.write_bytes(b"a file in the way")
    assert load_index(read_only, "00000", tar_of(read_only)).rows == 20


def test_a_user_without_a_home_reads_what_cannot_be_written(read_only, monkeypatch):
    for name in ("HOME", "TARLOOM_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)
    assert load_index(read_only, "00000", tar_of(read_only)).rows == 20
    assert len(tarloom.open(read_only.url)) == 20


def test_a_packed_shards_index_made_anew_has_its_identity_again(tmp_path):
    raw.packed_dataset(tmp_path, shards=1)
    storage = open_storage(tmp_path)
    packed = read_index(storage, "00000")
    (tmp_path / STORED).unlink()
    made = load_index(storage, "00000", tar_of(storage))
    assert made.identity == packed.identity
    assert made.identity.startswith("sha256:")
    shutil.copy(tmp_path / "00000.tar", tmp_path / "other.tar")
    raw.write_tar(tmp_path / "00000.tar", raw.some_samples(50))
    assert load_index(storage, "00000", tar_of(storage)).identity.startswith("headers:")


def test_another_tar_of_the_size_that_was_packed_has_an_identity_of_its_own(tmp_path, s3_folder):
    raw.packed_dataset(tmp_path, shards=1)
    packed = (tmp_path / "00000.tar").read_bytes()
    other = packed.replace(b"a caption", b"A CAPTION")
    remote = open_storage(s3_folder)
    for data, kind in ((packed, "sha256:"), (other, "headers:")):
        for storage in (open_storage(tmp_path), remote):
            storage.write("00000.tar", data)
            storage.write("00000_stats.json", (tmp_path / "00000_stats.json").read_bytes())
            storage.delete(STORED)
            assert load_index(storage, "00000", tar_of(storage)).identity.startswith(kind)


def test_a_tar_is_read_to_be_proven_only_where_sidecars_need_it_and_once(read_only, cache, monkeypatch):
    cache.write_bytes(b"a file in the way")
    tar, read, read_ranges = tar_of(read_only), [], LocalStorage.read_ranges

    def counted(*args):
        read.append(args)
        return read_ranges(*args)

    packed = f"sha256:{hashlib.sha256(read_only.read('00000.tar')).hexdigest()}"
    stats = SimpleNamespace(identity=packed, tar_size=tar.size)
    monkeypatch.setattr(index_load, "read_stats", lambda storage, shard: stats)
    monkeypatch.setattr(LocalStorage, "read_ranges", counted)
    assert load_index(read_only, "00000", tar, has_sidecars=False).identity == packed
    assert load_index(read_only, "00000", tar, identity=packed).identity == packed
    assert read == []
    assert [load_index(read_only, "00000", tar).identity for _ in range(2)] == [packed] * 2
    assert len(read) == 1


def test_the_identity_of_a_foreign_tar_changes_with_names_sizes_order_and_times(tmp_path):
    samples = raw.some_samples(3)
    variants = [samples, samples[::-1], samples[:2], [*samples[:2], ("x", samples[2][1])]]
    variants.append([*samples[:2], (samples[2][0], samples[2][1] | {"txt": b"longer"})])
    identities = set()
    for i, content in enumerate(variants):
        raw.write_tar(tmp_path / f"{i}.tar", content)
        identities.add(scan_index(open_storage(tmp_path), str(i)).identity)
    raw.write_tar(tmp_path / "t.tar", samples, mtime=1)
    identities.add(scan_index(open_storage(tmp_path), "t").identity)
    assert len(identities) == len(variants) + 1


@pytest.mark.parametrize(
    ("names", "what"),
    [(["a.jpg", "b.jpg", "a.txt"], "'a' goes on"), (["a.jpg", "a.jpg"], "'a' has a second 'jpg'")],
)
def test_a_sample_in_two_places_or_with_a_member_twice_is_corrupt(tmp_path, names, what):
    raw.write_tar(tmp_path / "bad.tar", [(name[0], {name[2:]: b"x"}) for name in names])
    with pytest.raises(CorruptShard, match=rf"bad\.tar: sample {what}.* at byte \d+.*tarloom repair"):
        scan_index(open_storage(tmp_path), "bad")


@pytest.mark.parametrize("place", [0, 2], ids=["key", "extension"])
def test_a_name_that_is_not_utf8_is_corrupt(tmp_path, place):
    raw.write_tar(tmp_path / "bad.tar", [("a", {"jpg": b"x"})])
    data = bytearray((tmp_path / "bad.tar").read_bytes())
    data[place] = 0xE9
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    (tmp_path / "bad.tar").write_bytes(data)
    with pytest.raises(CorruptShard, match=r"bad\.tar.*not UTF-8"):
        scan_index(open_storage(tmp_path), "bad")


@pytest.mark.parametrize("extension", ["__key__", "__URL__", "__bad__", "__error__", "__local_path__"])
def test_an_extension_that_readers_use_themselves_is_corrupt(tmp_path, extension):
    raw.write_tar(tmp_path / "bad.tar", [("a", {"jpg": b"x", extension: b"y"})])
    with pytest.raises(CorruptShard, match=rf"bad\.tar: an extension '{extension.lower()}' at byte 1536"):
        scan_index(open_storage(tmp_path), "bad")


def test_members_of_no_sample_are_left_out(tmp_path):
    raw.write_tar(tmp_path / "a.tar", [("1", {"jpg": b"x"}), (".DS_Store", {"": b""}), ("__MACOSX/._1", {"jpg": b"y"})])
    assert scan_index(open_storage(tmp_path), "a").keys.to_pylist() == ["1"]


def test_a_cut_tar_has_no_index(storage):
    path = storage.local_path("00000.tar")
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(TruncatedShard, match=r"00000\.tar: ends at byte 5000"):
        load_index(storage, "00000", tar_of(storage))
    assert storage.head(STORED) is None


def test_an_absent_tar_is_said_to_be_absent(storage):
    with pytest.raises(StorageError, match=r"none\.tar: no such file"):
        scan_index(storage, "none")


def test_a_tar_in_an_object_store_has_the_same_index(tmp_path, s3_folder):
    samples = [(str(i), {"jpg": bytes(300_000 * (i % 5)), "txt": b"x"}) for i in range(40)]
    raw.write_tar(tmp_path / "00000.tar", samples)
    local, remote = open_storage(tmp_path), open_storage(s3_folder)
    remote.write("00000.tar", local.read("00000.tar"))
    tar = tar_of(remote)
    index = load_index(remote, "00000", tar)
    expected = scan_index(local, "00000")
    assert (index.table, index.identity, index.etag) == (expected.table, expected.identity, tar.etag)
    assert read_index(remote, "00000") == index


def test_a_local_tar_rewritten_at_the_same_size_is_walked_again(tmp_path):
    storage = open_storage(tmp_path)
    raw.write_tar(tmp_path / "a.tar", [("one", {"txt": b"1"})])
    before = load_index(storage, "a", storage.head("a.tar"))
    raw.write_tar(tmp_path / "a.tar", [("two", {"txt": b"2"})])
    os.utime(tmp_path / "a.tar", ns=(0, 0))
    after = load_index(storage, "a", storage.head("a.tar"))
    assert before.size == after.size
    assert after.keys.to_pylist() == ["two"]
    assert after.identity != before.identity
