"""Shards as a source: nothing of a sample is lost on its way to another shard; what cannot be kept is refused."""

import gzip
import hashlib
import io
import json
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from PIL import Image

import tarloom
from tarloom.create.job import CreateJob
from tarloom.engines.local import LocalEngine
from tarloom.errors import CorruptShard, PlanMismatch, StaleSidecar, TruncatedShard, UsageError
from tarloom.format.index_load import load_index
from tarloom.format.sidecar import SidecarInfo, sidecar_info, write_sidecar
from tarloom.format.storage import LocalStorage, open_storage
from tarloom.format.verify.dataset import verify
from tests.create.helpers import configuration, contents, create, encoded, photo, rows
from tests.format.raw import Sample, packed_dataset, some_samples, write_parquet, write_tar
from tests.source_tree import ROOT

FINGERPRINT = {"model": "a-model", "prompt": "what is this?"}


def repack(source, out: Path, count: int = 10, **options):
    """As it is, unless options say otherwise."""
    return create(source, out, **{"number_sample_per_shard": count, "disable_all_reencoding": True} | options)


def samples_of(folder: Path) -> dict[str, dict[str, bytes]]:
    """All members by key and extension, as tarfile reads them."""
    found: dict[str, dict[str, bytes]] = {}
    for path in sorted(folder.rglob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                place, _, base = member.name.rpartition("/")
                stem, _, extension = base.partition(".")
                sample = found.setdefault(f"{place}/{stem}" if place else stem, {})
                assert extension not in sample
                sample[extension] = tar.extractfile(member).read()
    return found


def table(folder: Path) -> pa.Table:
    """The metadata of all shards."""
    paths = (path for path in sorted(folder.glob("*.parquet")) if path.name.count(".") == 1)
    return pa.concat_tables((pq.read_table(path) for path in paths), promote_options="default")


def sizes_of(folder: Path) -> list[int]:
    """Samples in each shard."""
    return [json.loads(path.read_bytes())["successes"] for path in sorted(folder.glob("*_stats.json"))]


def add_sidecar(folder: Path, shard: str, stage: str = "caption", fingerprint: Mapping[str, str] = FINGERPRINT) -> None:
    """A sidecar as a stage would leave it, whose texts name their keys."""
    storage = LocalStorage(str(folder))
    index = load_index(storage, shard, storage.head(f"{shard}.tar"))
    keys = index.keys.to_pylist()
    columns = {
        "__key__": pa.array(keys, pa.string()),
        "text": pa.array([f"about {key}" for key in keys], pa.string()),
        "embedding": pa.FixedSizeListArray.from_arrays(np.arange(2 * len(keys), dtype=np.float16), 2),
        "status": pa.array(["success"] * len(keys), pa.string()),
        "error": pa.nulls(len(keys), pa.string()),
    }
    info = SidecarInfo(stage=stage, fingerprint=fingerprint, identity=index.identity, rows=index.rows)
    write_sidecar(storage, shard, pa.table(columns), info)


def never_null(sidecar: Path) -> None:
    """Make it say that no key is null, as those of stages say."""
    made = pq.read_table(sidecar)
    field = made.schema.field("__key__").with_nullable(False)
    pq.write_table(made.set_column(0, field, made.column("__key__")), sidecar)


def sidecar_rows(folder: Path, stage: str = "caption") -> dict[str, tuple]:
    tables = [pq.read_table(path) for path in sorted(folder.rglob(f"*.{stage}.parquet"))]
    found = [row for each in tables for row in each.to_pylist()]
    keyed = {row["__key__"]: tuple(map(str, row.values())) for row in found}
    assert len(keyed) == len(found)
    return keyed


def assert_sound(folder: Path) -> None:
    assert [finding for report in verify(folder) for finding in report.findings] == []


def some_pictures(count: int, *, side: int = 40) -> list[Sample]:
    data = encoded(photo(side, 2 * side))
    return [(f"{i:09d}", {"jpg": data, "txt": b"a caption", "npy": bytes([i])}) for i in range(count)]


# Nothing is lost

extensions = st.sampled_from(["jpg", "txt", "npy", "cls", "seg.png", "jpg.2", "7z"])
members = st.dictionaries(extensions, st.binary(max_size=700), min_size=1, max_size=4)
key_parts = st.text(st.characters(exclude_characters="./\0", exclude_categories=["Cs"]), min_size=1, max_size=9)
keys = st.lists(key_parts, min_size=1, max_size=3).map("/".join).filter(lambda key: not key.startswith(("__", "/")))
datasets = st.dictionaries(keys, members, min_size=1, max_size=30)


@given(dataset=datasets, cuts=st.lists(st.integers(0, 30), max_size=4), count=st.integers(1, 31), data=st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_samples_in_any_shards_are_the_same_in_any_others(tmp_path_factory, dataset, cuts, count, data):
    folder = tmp_path_factory.mktemp("any")
    whole = list(dataset.items())
    ends = sorted({min(cut, len(whole)) for cut in cuts} | {len(whole)})
    for number, (first, last) in enumerate(zip([0, *ends], ends, strict=False)):
        write_tar(folder / "in" / f"{number}.tar", whole[first:last])
        if data.draw(st.booleans()):
            add_sidecar(folder / "in", str(number))
    before = sidecar_rows(folder / "in")
    repack(folder / "in", folder / "out", count)
    assert samples_of(folder / "out") == dataset
    assert table(folder / "out").column("key").to_pylist() == list(dataset)
    after = sidecar_rows(folder / "out")
    assert {key: row for key, row in after.items() if "not_in_source" not in row} == before
    assert_sound(folder / "out")


@st.composite
def shards_with_metadata(draw):
    """For each shard the samples of its tar, and (key, whether it succeeded) of its metadata in any order."""
    names = iter(draw(st.lists(key_parts, min_size=40, max_size=40, unique=True)))
    found = []
    for samples, failed in draw(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4)), min_size=1, max_size=5)):
        keys = [next(names) for _ in range(min(samples, 4))]
        told = [(key, True) for key in keys if draw(st.integers(0, 9))] + [(next(names), False) for _ in range(failed)]
        found.append((keys, draw(st.permutations(told)) if draw(st.booleans()) else told))
    return found


@given(shards=shards_with_metadata(), count=st.integers(1, 9))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_row_of_any_metadata_is_accounted_for_and_stays_with_its_sample(tmp_path_factory, shards, count):
    assume(any(keys for keys, _ in shards))
    folder = tmp_path_factory.mktemp("rows")
    for number, (in_tar, told) in enumerate(shards):
        write_tar(folder / "in" / f"{number}.tar", [(key, {"txt": key.encode()}) for key in in_tar])
        statuses = ["success" if succeeded else "failed_to_download" for _, succeeded in told]
        columns = {"key": [key for key, _ in told], "url": [f"url of {key}" for key, _ in told], "status": statuses}
        write_parquet(
            folder / "in" / f"{number}.parquet", {name: pa.array(v, pa.string()) for name, v in columns.items()}
        )
    repack(folder / "in", folder / "out", count)
    in_order = [key for in_tar, _ in shards for key in in_tar]
    assert [key for key, _ in samples_of(folder / "out").items()] == in_order
    assert sizes_of(folder / "out")[:-1] == [count] * ((len(in_order) - 1) // count)
    found = table(folder / "out").select(["key", "url", "status"]).to_pylist()
    assert [row["key"] for row in found if row["status"] == "success"] == in_order
    told = {key: f"url of {key}" for _, rows in shards for key, _ in rows}
    assert {row["key"]: row["url"] for row in found} == dict.fromkeys(in_order) | told
    assert len(found) == len({*in_order, *told})
    assert_sound(folder / "out")


@pytest.mark.parametrize("count", [1, 6, 13, 100])
def test_there_and_back_again_are_the_same_files(pictures, tmp_path, count):
    create(pictures, tmp_path / "first", number_sample_per_shard=7)
    repack(tmp_path / "first", tmp_path / "second", count)
    repack(tmp_path / "second", tmp_path / "third", 7)
    first, third = contents(tmp_path / "first"), contents(tmp_path / "third")
    assert first.pop("_tarloom/plan.json") != third.pop("_tarloom/plan.json")
    assert first == third
    assert_sound(tmp_path / "second")


def test_new_shards_are_even_although_rows_had_failed(photo_server, tmp_path):
    urls = [f"{photo_server.url}/{'pictures' if n % 3 else 'nowhere'}/{n:04d}.jpg" for n in range(1, 31)]
    (tmp_path / "urls.txt").write_text("\n".join(urls))
    create(tmp_path / "urls.txt", tmp_path / "in", number_sample_per_shard=7)
    summary = repack(tmp_path / "in", tmp_path / "out", 5)
    assert sizes_of(tmp_path / "out") == [5, 5, 5, 5]
    assert table(tmp_path / "out") == table(tmp_path / "in")
    assert samples_of(tmp_path / "out") == samples_of(tmp_path / "in")
    assert (summary.rows, summary.successes, summary.failed_by_error) == (30, 20, {"http_404": 10})
    assert repack(tmp_path / "in", tmp_path / "out", 5).failed_by_error == {"http_404": 10}
    assert_sound(tmp_path / "out")


def test_shards_in_which_all_rows_failed_are_accounted_for(tmp_path):
    for number in range(5):
        filled = number in (1, 3)
        write_tar(tmp_path / "in" / f"{number}.tar", some_samples(2, first=10 * number) if filled else [])
        keys = [f"{10 * number + i:09d}" for i in range(4)]
        statuses = ["success"] * 2 + ["failed_to_download"] * 2 if filled else ["failed_to_resize"] * 4
        write_parquet(tmp_path / "in" / f"{number}.parquet", {"key": keys, "status": statuses})
    repack(tmp_path / "in", tmp_path / "out", 3)
    assert table(tmp_path / "out").column("key").to_pylist() == table(tmp_path / "in").column("key").to_pylist()
    assert sizes_of(tmp_path / "out") == [3, 1]


def test_empty_tars_among_others_are_no_rows(tmp_path):
    for number, count in enumerate([0, 3, 0]):
        write_tar(tmp_path / "in" / f"{number}.tar", some_samples(count))
    assert repack(tmp_path / "in", tmp_path / "out").rows == 3
    assert samples_of(tmp_path / "out") == dict(some_samples(3))


def test_foreign_samples_keep_what_they_have(tmp_path):
    foreign = {
        "a/b/c": {"jpg": b"1", "json": b'{"key": "another"}'},
        "d": {"npy": b"", "seg.png": b"3"},
        "ünï cödé+%": {"json": b"no json"},
        "long" * 60: {"cls": b"7"},
    }
    write_tar(tmp_path / "in" / "train" / "x.tar", foreign.items(), mtime=5)
    repack(tmp_path / "in", tmp_path / "out", 3)
    assert samples_of(tmp_path / "out") == foreign
    assert rows(tmp_path / "out")[0]["sha256"] == hashlib.sha256(b"1").hexdigest()


def test_members_in_capitals_and_out_of_order_are_settled(tmp_path):
    write_tar(tmp_path / "in" / "0.tar", [("a", {"TXT": b"t", "JPG": b"j"})])
    repack(tmp_path / "in", tmp_path / "out")
    with tarfile.open(tmp_path / "out" / "00000.tar") as tar:
        assert tar.getnames() == ["a.jpg", "a.txt"]


@pytest.mark.parametrize("source", ["in", "in/0.tar", "in/*.tar"])
def test_tars_are_named_by_folder_file_or_glob(tmp_path, source):
    write_tar(tmp_path / "in" / "0.tar", some_samples(3))
    add_sidecar(tmp_path / "in", "0")
    repack(tmp_path / source, tmp_path / "out", 2)
    assert samples_of(tmp_path / "out") == dict(some_samples(3))
    assert sidecar_rows(tmp_path / "out") == sidecar_rows(tmp_path / "in")


# Metadata


def test_the_metadata_of_others_is_carried_over_with_its_columns(tmp_path):
    for number in range(2):
        samples = some_samples(2, first=2 * number)
        write_tar(tmp_path / "in" / f"{number}.tar", samples)
        given = {"key": [key for key, _ in samples], "status": ["success"] * 2, "width": pa.array([7, 8], pa.int64())}
        more = {"sha256": ["aa", None], "score": pa.array([number, None], pa.float32() if number else pa.int32())}
        write_parquet(tmp_path / "in" / f"{number}.parquet", {**given, **more, "caption": ["a", None]})
    repack(tmp_path / "in", tmp_path / "out")
    found = table(tmp_path / "out")
    assert found.select(["key", "width", "score", "caption"]).to_pylist()[2] == {
        "key": "000000002",
        "width": 7,
        "score": 1.0,
        "caption": "a",
    }
    own = hashlib.sha256(samples[1][1]["jpg"]).hexdigest()
    assert found.column("sha256").to_pylist()[2:] == ["aa", own]


def test_columns_called_as_what_readers_give_themselves_stay_behind(tmp_path):
    write_tar(tmp_path / "in" / "0.tar", some_samples(1))
    given = {"key": ["000000000"], "status": ["success"], "__key__": ["x"], "score": [1]}
    write_parquet(tmp_path / "in" / "0.parquet", given)
    repack(tmp_path / "in", tmp_path / "out")
    assert {"__key__", "score"} & set(table(tmp_path / "out").column_names) == {"score"}
    with pytest.raises(UsageError, match=r"key_from __key__: .*no such column"):
        repack(tmp_path / "in", tmp_path / "other", key_from="__key__")


def test_metadata_in_another_order_than_the_tar_follows_the_tar(tmp_path):
    write_tar(tmp_path / "in" / "0.tar", some_samples(4))
    names = ["000000002", "x", "000000000", "000000003", "y", "z"]
    statuses = ["success", "failed_to_download", "success", "success", "failed_to_resize", "success"]
    messages = [None, "HTTP Error 404: Not Found", None, None, None, None]
    columns = {"key": names, "status": statuses, "error_message": messages, "url": [f"u{n}" for n in names]}
    write_parquet(tmp_path / "in" / "0.parquet", columns)
    summary = repack(tmp_path / "in", tmp_path / "out")
    assert [(row["key"], row["status"], row["error"]) for row in rows(tmp_path / "out")] == [
        ("000000000", "success", None),
        ("000000001", "success", None),
        ("000000002", "success", None),
        ("x", "failed_to_download", "http_404"),
        ("000000003", "success", None),
        ("y", "failed_to_resize", "other"),
        ("z", "failed_to_download", "missing_sample"),
    ]
    assert [row["url"] for row in rows(tmp_path / "out")][:3] == ["u000000000", None, "u000000002"]
    assert summary.failed_by_error == {"http_404": 1, "other": 1, "missing_sample": 1}
    assert rows(tmp_path / "out")[3]["error_message"] == "http_404: HTTP Error 404: Not Found"
    assert_sound(tmp_path / "out")


@pytest.mark.parametrize("kinds", [["categories"] * 2, ["categories", "texts"]], ids="-".join)
def test_shards_with_categories_of_their_own_become_one(tmp_path, kinds):
    """img2dataset begins a shard with each file of its list; the 8 bits of each have no room for those of both."""
    for number, kind in enumerate(kinds):
        samples = some_samples(100, first=100 * number)
        write_tar(tmp_path / "in" / f"{number}.tar", samples)
        keys = [key for key, _ in samples]
        categories = pa.array(keys).dictionary_encode().cast(pa.dictionary(pa.int8(), pa.string()))
        column = categories if kind == "categories" else keys
        write_parquet(tmp_path / "in" / f"{number}.parquet", {"key": keys, "status": ["success"] * 100, "n": column})
    repack(tmp_path / "in", tmp_path / "out", number_sample_per_shard=200)
    found = table(tmp_path / "out")
    assert found["n"].to_pylist() == found["key"].to_pylist() == [f"{n:09d}" for n in range(200)]


def test_metadata_types_that_do_not_fit_are_refused(tmp_path):
    for number, value in enumerate([[1.5], ["text"]]):
        write_tar(tmp_path / "in" / f"{number}.tar", some_samples(1, first=number))
        write_parquet(tmp_path / "in" / f"{number}.parquet", {"key": ["a"], "status": ["success"], "score": value})
    with pytest.raises(UsageError, match="score"):
        repack(tmp_path / "in", tmp_path / "out")


# Keys


def test_a_key_in_two_tars_is_refused_and_a_new_one_helps(tmp_path):
    for name in ("one", "two"):
        write_tar(tmp_path / "in" / f"{name}.tar", some_samples(2))
    with pytest.raises(UsageError, match=r"one\.tar and two\.tar both have a sample '00000000[01]'.*key_from"):
        repack(tmp_path / "in", tmp_path / "out")
    repack(tmp_path / "in", tmp_path / "out", 3, key_from="shard")
    assert list(samples_of(tmp_path / "out")) == ["000000", "000001", "000002", "000010"]


def test_new_keys_are_everywhere_where_the_old_ones_were(pictures, tmp_path):
    create(pictures, tmp_path / "in", number_sample_per_shard=8)
    for shard in ("00000", "00001", "00002"):
        add_sidecar(tmp_path / "in", shard)
    repack(tmp_path / "in", tmp_path / "out", 12, key_from="content")
    before, after = samples_of(tmp_path / "in"), samples_of(tmp_path / "out")
    for (old, old_members), (new, new_members) in zip(before.items(), after.items(), strict=True):
        assert new == hashlib.sha256(old_members["jpg"]).hexdigest()[:32]
        assert json.loads(new_members.pop("json")) == json.loads(old_members.pop("json")) | {"key": new}
        assert new_members == old_members
        assert sidecar_rows(tmp_path / "out")[new][1] == f"about {old}"
    assert table(tmp_path / "out").column("key").to_pylist() == list(after)
    assert_sound(tmp_path / "out")


def test_keys_come_from_a_column_of_the_metadata(pictures, tmp_path):
    create(pictures, tmp_path / "in")
    summary = repack(tmp_path / "in", tmp_path / "out", 20, key_from="cls")
    classes = table(tmp_path / "in").column("cls").to_pylist()
    assert summary.failed_by_error == {"duplicate_key": len(classes) - len(set(classes))}
    assert set(samples_of(tmp_path / "out")) == set(classes)
    assert_sound(tmp_path / "out")
    with pytest.raises(UsageError, match="no such column; it has cls, caption"):
        repack(tmp_path / "in", tmp_path / "other", key_from="absent")


def test_a_column_of_lists_gives_no_keys(tmp_path):
    write_tar(tmp_path / "in" / "0.tar", some_samples(1))
    write_parquet(tmp_path / "in" / "0.parquet", {"key": ["000000000"], "status": ["success"], "tags": [["a"]]})
    with pytest.raises(UsageError, match="key_from tags: the column holds list"):
        repack(tmp_path / "in", tmp_path / "out", key_from="tags")


def test_same_pictures_have_one_key_by_content_and_others_none(tmp_path):
    write_tar(tmp_path / "in" / "0.tar", [("a", {"jpg": b"1"}), ("b", {"jpg": b"1"}), ("c", {"txt": b"no picture"})])
    assert repack(tmp_path / "in", tmp_path / "out", key_from="content").failed_by_error == {"duplicate_key": 1}
    assert list(samples_of(tmp_path / "out")) == [hashlib.sha256(b"1").hexdigest()[:32], "000000002"]


# Pictures


def test_pictures_are_resized_and_all_else_stays(tmp_path):
    create(write_pictures(tmp_path / "pictures"), tmp_path / "in", resize_mode="no", number_sample_per_shard=2)
    repack(tmp_path / "in", tmp_path / "out", 3, disable_all_reencoding=False, image_size=16, resize_mode="keep_ratio")
    for before, after in zip(rows(tmp_path / "in"), rows(tmp_path / "out"), strict=False):
        assert (after["width"], after["height"]) == (32, 16)
        same = ("caption", "original_width", "original_height", "sha256", "exif", "url")
        assert [after[name] for name in same] == [before[name] for name in same]
    for key, sample in samples_of(tmp_path / "out").items():
        assert Image.open(io.BytesIO(sample["jpg"])).size == (32, 16)
        old = samples_of(tmp_path / "in")[key]
        assert sample["txt"] == old["txt"]
        assert json.loads(sample["json"]) == json.loads(old["json"]) | {"width": 32, "height": 16}
    assert_sound(tmp_path / "out")


def write_pictures(folder: Path) -> Path:
    folder.mkdir()
    for number in range(3):
        photo(48 + number, 96 + 2 * number).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"picture {number}")
    return folder


def test_a_sample_whose_picture_cannot_be_decoded_fails_and_one_without_is_kept(tmp_path):
    good = encoded(photo(40, 80), "PNG")
    samples = [("a", {"png": good, "cls": b"1"}), ("b", {"jpg": b"no picture"}), ("c", {"txt": b"t"})]
    write_tar(tmp_path / "in" / "0.tar", samples)
    add_sidecar(tmp_path / "in", "0")
    summary = repack(tmp_path / "in", tmp_path / "out", disable_all_reencoding=False, image_size=32)
    assert summary.failed_by_error == {"not_an_image": 1}
    assert {key: sorted(sample) for key, sample in samples_of(tmp_path / "out").items()} == {
        "a": ["cls", "jpg"],
        "c": ["txt"],
    }
    first = rows(tmp_path / "out")[0]
    assert (first["width"], first["original_width"]) == (32, 80)
    assert first["sha256"] == hashlib.sha256(good).hexdigest()
    assert list(sidecar_rows(tmp_path / "out")) == ["a", "c"]
    assert sidecar_info(open_storage(tmp_path / "out"), "00000", "caption").carried == "changed"
    assert_sound(tmp_path / "out")


def test_a_new_picture_takes_no_other_members_name(tmp_path):
    write_tar(tmp_path / "in" / "0.tar", [("a", {"jpg": b"1"}), ("b", {"jpg": b"1", "png": b"a mask"})])
    with pytest.raises(UsageError, match=r"0\.tar: sample b has jpg and png"):
        repack(tmp_path / "in", tmp_path / "out", disable_all_reencoding=False, encode_format="png", encode_quality=6)


def test_who_says_nothing_about_pictures_is_told_that_they_are_resized(tmp_path, caplog):
    write_tar(tmp_path / "in" / "0.tar", some_pictures(1))
    repack(tmp_path / "in", tmp_path / "kept")
    assert caplog.messages == []
    repack(tmp_path / "in", tmp_path / "resized", disable_all_reencoding=False, image_size=256)
    assert "--disable-all-reencoding" in caplog.text


# Sidecars


def test_sidecars_follow_their_samples(tmp_path):
    for number in range(3):
        write_tar(tmp_path / "in" / f"{number}.tar", some_samples(4, first=4 * number))
        add_sidecar(tmp_path / "in", str(number))
        add_sidecar(tmp_path / "in", str(number), "clip")
    repack(tmp_path / "in", tmp_path / "out", 5)
    for stage in ("caption", "clip"):
        assert sidecar_rows(tmp_path / "out", stage) == sidecar_rows(tmp_path / "in", stage)
    info = sidecar_info(open_storage(tmp_path / "out"), "00001", "clip")
    assert (info.fingerprint, info.rows, info.carried) == (FINGERPRINT, 5, "unchanged")
    found = {
        sample["__key__"]: sample["caption.text"] for sample in tarloom.open(tmp_path / "out").select("caption.text")
    }
    assert found == {key: f"about {key}" for key in samples_of(tmp_path / "in")}
    assert_sound(tmp_path / "out")


def test_sidecars_that_were_carried_over_can_be_joined_with_those_of_stages(tmp_path):
    for number in range(2):
        write_tar(tmp_path / "in" / f"{number}.tar", some_samples(2, first=2 * number))
        add_sidecar(tmp_path / "in", str(number))
        never_null(tmp_path / "in" / f"{number}.caption.parquet")
    repack(tmp_path / "in", tmp_path / "both", 2)
    add_sidecar(tmp_path / "both", "00001")
    never_null(tmp_path / "both" / "00001.caption.parquet")
    repack(tmp_path / "both", tmp_path / "out", 4)
    assert sidecar_rows(tmp_path / "out") == sidecar_rows(tmp_path / "in")
    assert_sound(tmp_path / "out")


def test_samples_that_a_stage_has_not_seen_are_skipped(tmp_path):
    for number in range(4):
        write_tar(tmp_path / "in" / f"{number}.tar", some_samples(2, first=2 * number))
    add_sidecar(tmp_path / "in", "0")
    repack(tmp_path / "in", tmp_path / "out", 4)
    found = pq.read_table(tmp_path / "out" / "00000.caption.parquet").to_pylist()
    assert [(row["text"] is None, row["status"], row["error"]) for row in found] == [
        *2 * [(False, "success", None)],
        *2 * [(True, "skipped", "not_in_source")],
    ]
    assert not (tmp_path / "out" / "00001.caption.parquet").exists()
    assert_sound(tmp_path / "out")


def test_a_stale_sidecar_is_refused(tmp_path):
    write_tar(tmp_path / "in" / "0.tar", some_samples(3))
    add_sidecar(tmp_path / "in", "0")
    write_tar(tmp_path / "in" / "0.tar", some_samples(2))
    with pytest.raises(StaleSidecar, match=r"0\.caption\.parquet.*run the stage again"):
        repack(tmp_path / "in", tmp_path / "out")


def test_sidecars_of_two_models_are_not_mixed(tmp_path):
    for number in range(2):
        write_tar(tmp_path / "in" / f"{number}.tar", some_samples(1, first=number))
        add_sidecar(tmp_path / "in", str(number), fingerprint={"model": str(number)})
    with pytest.raises(UsageError, match=r"0\.caption\.parquet and .*1\.caption\.parquet were made differently"):
        repack(tmp_path / "in", tmp_path / "out")


# What cannot be repacked


def test_a_truncated_tar_is_refused_before_anything_is_written(tmp_path):
    write_tar(tmp_path / "in" / "0.tar", some_samples(3))
    write_tar(tmp_path / "in" / "1.tar", some_samples(3, first=3))
    whole = (tmp_path / "in" / "1.tar").read_bytes()
    (tmp_path / "in" / "1.tar").write_bytes(whole[:1700])
    with pytest.raises(TruncatedShard, match=r"1\.tar"):
        repack(tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "options",
    [
        {"caption_col": "c"},
        {"save_additional_columns": ("c",)},
        {"dedup_urls": True},
        {"output_format": "files"},
        {"verify_hash": ("h", "sha256")},
    ],
    ids=lambda options: next(iter(options)),
)
def test_options_that_mean_nothing_for_shards_are_refused(tmp_path, options):
    write_tar(tmp_path / "in" / "0.tar", some_samples(1))
    with pytest.raises(UsageError, match=next(iter(options))):
        repack(tmp_path / "in", tmp_path / "out", **options)


def test_unfinished_shards_of_a_creation_are_no_source_and_that_is_told(tmp_path, pictures, caplog):
    create(pictures, tmp_path / "in")
    repack(tmp_path / "in", tmp_path / "whole")
    assert caplog.messages == []
    (tmp_path / "in" / "00001_stats.json").unlink()
    assert repack(tmp_path / "in", tmp_path / "out").rows == 10
    assert "1 of 2 planned shards are not finished" in caplog.text
    plan = tmp_path / "in" / "_tarloom" / "plan.json"
    plan.write_text(json.dumps(json.loads(plan.read_text()) | {"rows": 10**30, "rows_per_shard": 1}))
    repack(tmp_path / "in", tmp_path / "beyond")
    assert f"{10**30 - 1} of {10**30} planned shards are not finished" in caplog.text
    (tmp_path / "in" / "00000_stats.json").unlink()
    with pytest.raises(UsageError, match="no finished shard"):
        repack(tmp_path / "in", tmp_path / "other")


def test_a_folder_of_pictures_and_tars_is_for_the_user_to_name(pictures, tmp_path):
    write_tar(pictures / "0.tar", some_samples(2))
    with pytest.raises(UsageError, match=r"pictures and tars.*input_format"):
        repack(pictures, tmp_path / "out")
    assert repack(pictures, tmp_path / "tars", input_format="tars").rows == 2
    assert repack(pictures, tmp_path / "pictures_only", input_format="images").rows == 20
    (pictures / "0.tar").unlink()
    with pytest.raises(UsageError, match=r"no shard \(\.tar\) in it"):
        repack(pictures, tmp_path / "other", input_format="tars")


@pytest.mark.parametrize(
    "names",
    [["a.jpg", "b.jpg", "a.txt"], ["a.jpg", "a.JPG"], ["\udcff.jpg"]],
    ids=["a sample in two places", "a member twice", "a name that is no text"],
)
def test_tars_whose_samples_cannot_be_told_are_refused_with_their_name(tmp_path, names):
    (tmp_path / "in").mkdir()
    with tarfile.open(tmp_path / "in" / "bad.tar", "w") as tar:
        for name in names:
            tar.addfile(tarfile.TarInfo(name))
    with pytest.raises(CorruptShard, match=r"bad\.tar"):
        repack(tmp_path / "in", tmp_path / "out")


def test_a_tar_that_changes_after_planning_ends_the_run(tmp_path):
    write_tar(tmp_path / "in" / "0.tar", some_samples(3))
    job = CreateJob(configuration(tmp_path / "in", tmp_path / "out", disable_all_reencoding=True), LocalEngine(1))
    job.prepare()
    write_tar(tmp_path / "in" / "0.tar", some_samples(3, first=5))
    with pytest.raises(UsageError, match=r"0\.tar: has changed since the run was planned"):
        list(job)


def test_a_run_goes_on_where_it_stopped_and_only_with_the_same_source(tmp_path):
    for number in range(2):
        write_tar(tmp_path / "in" / f"{number}.tar", some_samples(7, first=7 * number))
        add_sidecar(tmp_path / "in", str(number))
    repack(tmp_path / "in", tmp_path / "whole", 4)
    repack(tmp_path / "in", tmp_path / "out", 4, workers=2)
    whole = contents(tmp_path / "whole")
    assert contents(tmp_path / "out") == whole
    for name in ("00001_stats.json", "00002.parquet", "00002.caption.parquet", "00003.tar"):
        (tmp_path / "out" / name).unlink()
    assert repack(tmp_path / "in", tmp_path / "out", 4).skipped == 1
    assert contents(tmp_path / "out") == whole
    shutil.rmtree(tmp_path / "in" / "_tarloom")
    add_sidecar(tmp_path / "in", "1", "another")
    with pytest.raises(PlanMismatch, match="contents have changed"):
        repack(tmp_path / "in", tmp_path / "out", 4)


def test_a_killed_run_continues_to_the_same_bytes(tmp_path):
    for number in range(3):
        write_tar(tmp_path / "in" / f"{number}.tar", some_samples(400, first=400 * number))
        add_sidecar(tmp_path / "in", str(number))
    repack(tmp_path / "in", tmp_path / "whole", 5)  # 240 shards: much is left, however late the kill comes
    whole, out = contents(tmp_path / "whole"), tmp_path / "out"
    words = ["--source", tmp_path / "in", "--output", out, "--number-sample-per-shard", 5, "--disable-all-reencoding"]
    words += ["--image-size", 64]
    process = subprocess.Popen([sys.executable, ROOT / "create" / "create_webdataset.py", *map(str, words)], cwd=ROOT)
    while len(list(out.glob("*_stats.json"))) < 3 and process.poll() is None:
        time.sleep(0.001)
    process.kill()
    process.wait()
    left = {name: data for name, data in contents(out).items() if ".tmp-" not in name}
    assert 3 <= len(left) < len(whole)
    assert {name: data for name, data in left.items() if whole[name] != data} == {}
    repack(tmp_path / "in", out, 5)
    assert contents(out) == whole


def test_object_stores_hold_sources_too(s3, tmp_path):
    for number in range(2):
        write_tar(tmp_path / "in" / f"{number}.tar", some_pictures(20))
        add_sidecar(tmp_path / "in", str(number))
    source = s3.folder("repack/in")
    for path in (tmp_path / "in").rglob("*.*"):
        open_storage(source).write(str(path.relative_to(tmp_path / "in")), path.read_bytes())
    repack(tmp_path / "in", tmp_path / "out", 15, key_from="shard")
    create(source, s3.folder("repack/out"), number_sample_per_shard=15, disable_all_reencoding=True, key_from="shard")
    made = open_storage(s3.folder("repack/out"))
    expected = {
        name: data for name, data in contents(tmp_path / "out").items() if "stats" not in name and "plan" not in name
    }
    assert {name: made.read(name) for name in expected} == expected


def test_an_output_is_not_extended_by_a_shard_of_its_own(tmp_path):
    write_tar(tmp_path / "set" / "00000.tar", some_samples(3))
    (tmp_path / "link").symlink_to(tmp_path / "set")
    for output in ("set", "link"):
        with pytest.raises(UsageError, match="is a shard of the output"):
            repack(tmp_path / "set" / "00000.tar", tmp_path / output, incremental_mode="extend")


def test_compressed_shards_are_refused_with_what_makes_plain_ones_of_them(tmp_path):
    write_tar(tmp_path / "source" / "a.tar", some_samples(3))
    (tmp_path / "source" / "b.tar.gz").write_bytes(gzip.compress((tmp_path / "source" / "a.tar").read_bytes()))
    with pytest.raises(UsageError, match=r"b\.tar\.gz is compressed; .*tarloom repair"):
        repack(tmp_path / "source", tmp_path / "out")


@pytest.mark.parametrize("how", ["a finished shard", "a link to nothing"])
def test_a_source_one_of_whose_tars_is_gone_is_refused_and_the_others_can_be_given(tmp_path, how):
    source = tmp_path / "source"
    if how == "a finished shard":
        packed_dataset(source)
        (source / "00001.tar").unlink()
    else:
        write_tar(source / "00000.tar", some_samples(8))
        (source / "00001.tar").symlink_to("nowhere")
    with pytest.raises(UsageError, match=r"source: 00001\.tar is gone; run its creation again, .* as 'FOLDER/\*\.tar'"):
        repack(source, tmp_path / "out")
    repack(f"{source}/*.tar", tmp_path / "out")
    assert len(tarloom.open(tmp_path / "out")) == 8
