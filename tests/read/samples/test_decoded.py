"""Members decoded while they are read: the same in samples and batches, in order, in bounded parts, never unpickled."""

import json
import pickle
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tarloom
from tarloom.errors import BadSample, TextError, UsageError
from tarloom.read.samples import decoded as module
from tarloom.read.samples.decode import decode_rgb
from tarloom.read.samples.decoders import check_json, decode_text, parse_json
from tarloom.read.view import RGB
from tests.format.raw import write_tar
from tests.read.samples.test_decode import encoded, picture

ROWS = 40


class Trap:
    """Whoever unpickles it makes a folder."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self):
        return Path.mkdir, (self.place,)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """Pictures of many sizes and formats, every tenth missing, with JSON, text and what must not be opened."""
    folder = tmp_path_factory.mktemp("pictures")
    trap = pickle.dumps(Trap(folder / "unpickled"))
    samples = []
    for row in range(ROWS):
        members = {"jpg": encoded(picture(40 + row, 30 + 3 * (row % 7)))} if row % 10 else {}
        members |= {"seg.png": encoded(picture(20, 10), "PNG"), "json": b'{"row": %d}' % row, "txt": "größe".encode()}
        samples.append((f"{row:03d}", members | {"pkl": trap, "pyd": trap, "pth": trap}))
    write_tar(folder / "0.tar", samples[:25])
    write_tar(folder / "1.tar", samples[25:])
    return folder


@pytest.fixture(params=[1, 3], ids=["in the caller", "in threads"])
def threads(request, monkeypatch) -> int:
    monkeypatch.setenv("OMP_NUM_THREADS", str(request.param))
    return request.param


def test_samples_hold_arrays_objects_and_text_in_order(pictures, threads):
    raw, ds = list(tarloom.open(pictures)), tarloom.open(pictures).decoding("rgb", json="json", txt="text")
    for row, (sample, before) in enumerate(zip(ds, raw, strict=True)):
        assert (sample["json"], sample["txt"]) == ({"row": row}, "größe")
        assert ("jpg" in sample) == ("jpg" in before)
        if "jpg" in sample:
            assert sample["jpg"].dtype == np.uint8
            assert np.array_equal(sample["jpg"], decode_rgb(before["jpg"]))
        assert sample["seg.png"] == before["seg.png"]  # no picture by its whole extension, but it can be named


def test_batches_hold_the_same_in_arrow(pictures, threads):
    ds = tarloom.open(pictures).decoding("rgb", **{"seg.png": "rgb", "json": "json", "txt": "text"})
    assert [ds.schema.field(name).type for name in ("jpg", "seg.png", "json", "txt", "pkl")] == [
        RGB,
        RGB,
        pa.string(),
        pa.string(),
        pa.binary(),
    ]
    table = pa.Table.from_batches(ds.batches(7), schema=ds.schema)
    table.validate(full=True)
    for row, sample in zip(table.to_pylist(), ds, strict=True):
        assert row["__key__"] == sample["__key__"]
        assert (json.loads(row["json"]), row["txt"]) == (sample["json"], sample["txt"])
        for name in ("jpg", "seg.png"):
            assert (row[name] is None) == (name not in sample)
            if row[name] is not None:
                pixels = np.frombuffer(row[name]["data"], np.uint8).reshape(row[name]["height"], row[name]["width"], 3)
                assert np.array_equal(pixels, sample[name])


def test_a_json_that_says_null_is_not_a_member_that_the_sample_lacks(tmp_path):
    write_tar(tmp_path / "0.tar", [("a", {"json": b"null"}), ("b", {"txt": b"x"}), ("c", {"json": b"{"})])
    dataset = tarloom.open(tmp_path).decoding(json="json").on_error("row")
    members = [{name: sample[name] for name in ("json", "txt") if name in sample} for sample in dataset]
    assert members == [{"json": None}, {"txt": b"x"}, {}]
    (batch,) = dataset.batches()
    assert batch["json"].to_pylist() == ["null", None, None]
    assert next(iter(dataset.on_error("raise").to_webdataset()))["json"] is None


def test_pillow_images_have_the_same_pixels_and_are_refused_in_batches(pictures):
    ds = tarloom.open(pictures).select("jpg")
    for image, array in zip(ds.decoding("pil"), ds.decoding("rgb"), strict=True):
        assert ("jpg" in image) == ("jpg" in array)
        assert "jpg" not in image or np.array_equal(np.asarray(image["jpg"]), array["jpg"])
    with pytest.raises(UsageError, match="jpg: Pillow images exist in samples only"):
        ds.decoding("pil").batches()


def test_batches_end_where_decoded_pictures_fill_them(pictures, monkeypatch, threads):
    monkeypatch.setitem(module.DECODED_BYTES, "batch", 50_000)
    ds = tarloom.open(pictures).select("jpg").decoding("rgb")
    batches = list(ds.batches())
    assert max(batch.nbytes for batch in batches) < 52_000
    assert max(batch.num_rows for batch in batches) > 1
    assert [key for batch in batches for key in batch["__key__"].to_pylist()] == [f"{row:03d}" for row in range(ROWS)]


def test_a_picture_larger_than_a_batch_comes_alone(pictures, monkeypatch):
    monkeypatch.setitem(module.DECODED_BYTES, "batch", 10)
    batches = tarloom.open(pictures).select("jpg").decoding("rgb").batches()
    assert [batch.num_rows for batch in batches] == [1] * ROWS


def test_nothing_is_unpickled(pictures):
    for sample in tarloom.open(pictures).decoding("rgb", json="json", txt="text"):
        assert type(sample["pkl"]) is type(sample["pyd"]) is type(sample["pth"]) is bytes
    assert not (pictures / "unpickled").exists()


@pytest.mark.parametrize(
    ("images", "members", "message"),
    [
        (None, {"jpgs": "rgb"}, "has no member 'jpgs'; decode jpg, json, pkl"),
        (None, {"pkl": "pickle"}, "nothing is decoded to 'pickle'; use one of rgb, pil, json, text"),
        ("rbg", {}, "nothing is decoded to 'rbg'"),
    ],
)
def test_what_cannot_be_decoded_is_refused_before_anything_is_read(pictures, images, members, message):
    with pytest.raises(UsageError, match=message):
        tarloom.open(pictures).decoding(images, **members)


def test_forms_add_up_and_the_last_one_counts(pictures):
    ds = tarloom.open(pictures).decoding("pil").decoding(jpg="rgb", json="json").select("json", "txt")
    assert ds.decode == (("jpg", "rgb"), ("json", "json"))
    assert ds.view.decode == (("json", "json"),)


def test_the_first_picture_that_cannot_be_decoded_is_named(tmp_path):
    write_tar(tmp_path / "0.tar", [("a", {"jpg": encoded(picture())}), ("b", {"jpg": b"<html>"}), ("c", {"jpg": b""})])
    with pytest.raises(BadSample, match=r"0\.tar: b: not_an_image: jpg: the bytes are no picture .* on_error"):
        list(tarloom.open(tmp_path).decoding("rgb"))


def test_threads_end_with_the_reading_also_where_it_is_given_up(pictures, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    samples = iter(tarloom.open(pictures).select("jpg").decoding("rgb"))
    next(samples)
    assert any(thread.name.startswith("tarloom-ahead") for thread in threading.enumerate())
    del samples
    assert not any(thread.name.startswith("tarloom-ahead") for thread in threading.enumerate())


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3))


@given(JSON)
def test_json_is_read_as_it_was_written(value):
    data = json.dumps(value).encode()
    assert (parse_json(data), check_json(memoryview(data))) == (value, data.decode())


@given(st.binary(max_size=30))
def test_any_bytes_are_json_and_text_or_have_a_named_error(data):
    for decode, name in ((parse_json, "bad_json"), (check_json, "bad_json"), (decode_text, "bad_text")):
        assert name_of_the_error(decode, data) in (None, name)


@pytest.mark.parametrize("data", [b"[" * 100_000, b"1" * 5000, b'{"a": 1}{', b"\xff\xfe{\0}\0"])
def test_json_that_is_too_deep_too_long_or_of_another_encoding_has_a_named_error(data):
    with pytest.raises(TextError, match="bad_json"):
        check_json(data)


def test_a_byte_order_mark_is_no_error_in_json():
    assert parse_json(b"\xef\xbb\xbf{}") == {}


def name_of_the_error(decode, data: bytes) -> str | None:
    try:
        decode(data)
    except TextError as error:
        return error.name
    return None
