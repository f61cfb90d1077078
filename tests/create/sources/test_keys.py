"""Keys: what each choice gives, and that no shard ever has one twice or one that readers split elsewhere."""

import hashlib
import io
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset
from hypothesis import given, settings
from hypothesis import strategies as st

from tarloom.create.sources.columns import ERROR, KEY
from tarloom.create.sources.keys import LONGEST_KEY, ShardKeys, cleaned_key
from tarloom.errors import UsageError
from tarloom.format.tar.walk import split_name
from tests.create.helpers import create, rows, table

TEXTS = st.one_of(st.text(max_size=12), st.sampled_from(["a", "a.b", "a_b", "a/b", "", "000000201", "x" * 201]))


def keys_of(texts: list[str | None], key_from: str) -> list[tuple[str, str | None]]:
    """Keys and errors of a shard of these texts, the third of its run."""
    keys = ShardKeys(key_from=key_from, first_row=200, shard=2, shard_digits=5, row_digits=2)
    found = keys.given(pa.table({"url": pa.array(texts, pa.string()), KEY: pa.array(texts, pa.string())}))
    errors = found[ERROR].to_pylist() if ERROR in found.column_names else [None] * len(texts)
    return list(zip(found[KEY].to_pylist(), [error and error.partition(":")[0] for error in errors], strict=True))


@settings(deadline=None, max_examples=50)
@given(texts=st.lists(st.none() | TEXTS, max_size=20), key_from=st.sampled_from(["url", "column"]))
def test_a_shard_has_no_key_twice_and_the_first_row_keeps_it(texts, key_from):
    found = keys_of(texts, key_from)
    assert len(dict(found)) == len(found), "a row that has failed takes no key from another either"
    alone = [keys_of([text], key_from)[0][0] for text in texts]
    for place, (text, (key, error)) in enumerate(zip(texts, found, strict=True)):
        assert (key.rstrip("_") == f"{200 + place:09d}" if error else key == alone[place]) or not text
        assert error != "duplicate_key" or alone[place] in alone[:place]


@settings(deadline=None)
@given(text=TEXTS)
def test_every_reader_splits_a_column_s_key_from_the_extension(text):
    key = cleaned_key(text)
    if key is None:
        assert not text.strip() or len(text.strip().encode()) > LONGEST_KEY
        return
    assert split_name(f"{key}.jpg") == (key, "jpg")
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as tar:
        tar.addfile(tarfile.TarInfo(f"{key}.jpg"))
    sink.seek(0)
    with tarfile.open(fileobj=sink) as tar:
        assert tar.getnames() == [f"{key}.jpg"]
    assert webdataset.tariterators.base_plus_ext(f"{key}.jpg") == (key, "jpg")


@pytest.mark.parametrize("per_shard", [1, 7, 10, 11, 1000])
def test_keys_by_shard_are_img2dataset_s(tmp_path, pictures, per_shard):
    create(pictures, tmp_path / "out", key_from="shard", number_sample_per_shard=per_shard, oom_shard_count=3)
    digits = {1: 0, 7: 1, 10: 1, 11: 2, 1000: 3}[per_shard]
    expected = [
        f"{row // per_shard * 10**digits + row % per_shard:0{3 + digits}d}"
        for row in range(table(tmp_path / "out").num_rows)
    ]
    assert table(tmp_path / "out")["key"].to_pylist() == expected


def listed(folder, server, **columns):
    """A list of five pictures, one of which is there twice, and one that is absent."""
    names = ["0001.jpg", "0002.jpg", "0001.jpg", "0003.jpg", "absent.jpg", "0004.jpg"]
    path = folder / "list.parquet"
    pq.write_table(pa.table({"url": [f"{server.url}/pictures/{name}" for name in names], **columns}), path)
    return path


def members(output) -> list[str]:
    with tarfile.open(output / "00000.tar") as tar:
        return [name for name in tar.getnames() if name.endswith(".jpg")]


def test_keys_from_urls_are_their_hash(photo_server, tmp_path):
    source = listed(tmp_path, photo_server)
    create(source, tmp_path / "out", key_from="url")
    found = rows(tmp_path / "out")
    hashes = [hashlib.sha256(row["url"].encode()).hexdigest()[:32] for row in found]
    assert [row["error"] for row in found] == [None, None, "duplicate_key", None, "http_404", None]
    assert [row["key"] for row in found] == [*hashes[:2], "000000002", *hashes[3:]]
    assert members(tmp_path / "out") == [f"{hashes[place]}.jpg" for place in (0, 1, 3, 5)]


def test_keys_from_content_are_the_hash_of_the_bytes(photo_server, tmp_path):
    source = listed(tmp_path, photo_server)
    create(source, tmp_path / "out", key_from="content")
    found = rows(tmp_path / "out")
    assert [row["error"] for row in found] == [None, None, "duplicate_key", None, "http_404", None]
    good = [row for row in found if row["error"] is None]
    assert [row["key"] for row in good] == [row["sha256"][:32] for row in good]
    assert [row["key"] for row in found if row["error"]] == ["000000002", "000000004"]
    assert members(tmp_path / "out") == [f"{row['key']}.jpg" for row in good]


def test_keys_from_a_column_are_its_text(photo_server, tmp_path):
    ids = ["a.b", "a b", None, "2024/x.jpg", "n", "a.b"]
    source = listed(tmp_path, photo_server, id=ids)
    create(source, tmp_path / "out", key_from="id")
    found = rows(tmp_path / "out")
    assert [row["key"] for row in found] == ["a_b", "000000001", "000000002", "2024_x_jpg", "n", "000000005"]
    assert [row["error"] for row in found] == [None, "duplicate_key", "bad_key", None, "http_404", "duplicate_key"]
    assert "id" not in found[0], "a column that only keys are made from is not kept"


def test_a_row_that_the_list_fails_takes_no_key_from_another(photo_server, tmp_path):
    source = listed(tmp_path, photo_server, id=["a", "b", "a", "c", "d", "e"], hash=["", *["x"] * 5])
    create(source, tmp_path / "out", key_from="id", verify_hash=("hash", "sha256"))
    assert [row["key"] for row in rows(tmp_path / "out")] == ["000000000", "b", "a", "c", "d", "e"]


@pytest.mark.parametrize("key_from", ["url", "content", "id"])
def test_such_keys_survive_another_cut(photo_server, tmp_path, key_from):
    source = listed(tmp_path, photo_server, id=list(range(6)))
    for size in (2, 6):
        create(source, tmp_path / f"{size}", key_from=key_from, number_sample_per_shard=size)
    found = [table(tmp_path / f"{size}").to_pylist() for size in (2, 6)]
    pairs = [{(row["url"], row["key"]) for row in each if row["error"] is None} for each in found]
    assert pairs[0] == pairs[1]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("list.parquet", {"key_from": "nothing"}, "no column 'nothing'"),
        ("list.txt", {"key_from": "id"}, "a txt list has no columns; leave out the options that name id"),
        (".", {"key_from": "id"}, "key_from id needs a URL list"),
        (".", {"dedup_urls": True}, "dedup_urls needs a URL list"),
    ],
)
def test_a_column_that_is_not_there_is_refused_before_anything_is_done(pictures, name, options, message):
    (pictures / "list.txt").write_text("http://a\n")
    pq.write_table(pa.table({"url": ["http://a"]}), pictures / "list.parquet")
    with pytest.raises(UsageError, match=message):
        create(pictures / name, pictures.parent / "out", **options)
    assert not (pictures.parent / "out").exists()
