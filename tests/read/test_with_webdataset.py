"""A pipeline of webdataset's that its users go on with: decode, map, shuffle, batched; and nothing is unpickled."""

import pickle
from pathlib import Path

import numpy as np
import pytest

import tarloom
from tarloom.errors import BadSample, UsageError
from tests.format.raw import write_tar
from tests.read.sample_sets import packed_samples
from tests.read.samples.test_decode import encoded, picture
from tests.read.samples.test_decoded import Trap

ROWS = 12


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    trap = pickle.dumps(Trap(folder / "unpickled"))
    members = {
        "png": encoded(picture(), "PNG"),
        "json": b'{"a": 1}',
        "cls": b"3",
        "pyd": trap,
        "pkl": trap,
        "pth": trap,
    }
    write_tar(folder / "0.tar", [(f"{row:03d}", members) for row in range(ROWS)])
    return folder


def test_a_pipeline_decodes_shuffles_maps_and_batches(pictures):
    samples = (
        tarloom.open(pictures)
        .select("png", "json", "cls")
        .to_webdataset()
        .shuffle(100)
        .decode("rgb8")
        .map(lambda sample: {**sample, "cls": sample["cls"] + 1})
        .to_tuple("__key__", "png", "json", "cls")
        .batched(5)
    )
    batches = list(samples)
    assert [len(keys) for keys, *_ in batches] == [5, 5, 2]
    assert sorted(key for keys, *_ in batches for key in keys) == [f"{row:03d}" for row in range(ROWS)]
    _, images, texts, classes = batches[0]
    assert (images[0].shape, texts[0], int(classes[0])) == ((48, 64, 3), {"a": 1}, 4)


@pytest.mark.parametrize("decode", [lambda p: p.decode("rgb8"), lambda p: p.decode(), lambda p: p.xdecode()])
def test_pickles_stay_bytes(pictures, decode):
    for sample in decode(tarloom.open(pictures).to_webdataset()):
        assert type(sample["pyd"]) is type(sample["pkl"]) is type(sample["pth"]) is bytes
    assert not (pictures / "unpickled").exists()


def test_whoever_trusts_the_shards_can_unpickle(tmp_path):
    from webdataset.autodecode import basichandlers

    write_tar(tmp_path / "0.tar", [("a", {"pyd": pickle.dumps([1, 2])})])
    (sample,) = tarloom.open(tmp_path).to_webdataset().decode(post=[basichandlers])
    assert sample["pyd"] == [1, 2]


def test_members_are_decoded_as_the_dataset_says(pictures):
    ds = tarloom.open(pictures).decoding("rgb", json="json")
    for ours, theirs in zip(ds, ds.to_webdataset(), strict=True):
        assert np.array_equal(ours["png"], theirs["png"])
        assert (ours["json"], ours["pyd"]) == (theirs["json"], theirs["pyd"])


def test_a_picture_that_is_none_ends_the_pipeline_with_its_key(tmp_path):
    write_tar(tmp_path / "0.tar", [("a", {"png": b"oops"})])
    with pytest.raises(BadSample, match=r"0\.tar: a: not_an_image: png"):
        list(tarloom.open(tmp_path).decoding("rgb").to_webdataset())


def test_what_needs_parquet_or_rows_of_errors_is_refused(packed):
    ds = tarloom.open(packed)
    for more, name in (
        (ds.select("width"), "columns"),
        (ds.where("width > 1"), "where"),
        (ds.on_error("row"), "on_error"),
    ):
        with pytest.raises(UsageError, match=f"members of whole tars, without {name}; use another reader"):
            more.to_webdataset()


def test_all_samples_come_in_the_order_of_the_shards(packed):
    keys = [sample["__key__"] for sample in tarloom.open(packed).to_webdataset()]
    assert keys == [key for key, _ in packed_samples(2)]
