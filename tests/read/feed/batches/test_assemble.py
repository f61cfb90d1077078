"""Batches: every sample's own values, however many are assembled at a time and by whom."""

import threading

import numpy as np
import pytest

import tarloom
from tarloom.errors import UsageError
from tarloom.read.feed.batches.pictures import DRAWS, CenterCrop, RandomCrop, Resize
from tarloom.read.feed.order.chance import uniform
from tests.read.sample_sets import BROKEN, PICTURED_ROWS, UNSCORED, pixels_of

CROP = RandomCrop(4)


@pytest.fixture
def dataset(pictured) -> tarloom.Dataset:
    """Without the row that its sidecar lacks."""
    return tarloom.open(pictured).joining("skip").select("png", "json", "width", "score.value")


def crop_of(row: int, *, seed: int, number: int) -> np.ndarray:
    """What a sample becomes in a pass. All rows but one take part."""
    shard, within = divmod(row, PICTURED_ROWS)
    within -= shard == 1 and row > UNSCORED
    draws = uniform(seed, "picture", 0, number, shard, within, np.arange(DRAWS))
    pixels = pixels_of(row)
    top, left, _, _, mirrored = CROP.part(pixels.shape[:2], draws.tolist())
    part = pixels[top : top + 4, left : left + 4]
    return part[:, ::-1] if mirrored else part


@pytest.mark.parametrize("batch_size", [1, 7, 100])
def test_every_sample_has_its_own_values_whatever_the_batch(dataset, batch_size):
    feed, seen = dataset.to_numpy(batch_size, seed=3, decode={"png": CROP, "json": "json"}), 0
    for epoch in range(2):
        for batch in feed:
            size = len(batch["__key__"])
            assert batch["png"].shape == (size, 4, 4, 3)
            for number, key in enumerate(batch["__key__"]):
                assert np.array_equal(batch["png"][number], crop_of(int(key), seed=3, number=epoch))
                assert batch["json"][number] == {"row": int(key)}
                assert batch["width"][number] == 8 + int(key) % 5
                assert batch["score.value"][number] == int(key) / 10
            seen += size
    assert seen == 2 * (2 * PICTURED_ROWS - 1)


def test_batches_that_are_kept_stay_as_they_are(dataset):
    feed = dataset.to_numpy(4, seed=3, decode=CROP)
    kept = [(batch["png"], batch["png"].copy()) for batch in feed]
    assert all(np.array_equal(now, then) for now, then in kept)


def test_pictures_of_one_size_are_stacked_others_are_a_list(dataset):
    alike = next(iter(dataset.where("width = 9").to_numpy(3, shuffle=False, decode="rgb")))
    others = next(iter(dataset.to_numpy(3, shuffle=False, decode="rgb")))
    assert (alike["png"].shape, alike["png"].dtype) == ((3, 6, 9, 3), np.uint8)
    assert [picture.shape for picture in others["png"]] == [(6, 8, 3), (6, 9, 3), (6, 10, 3)]
    assert np.array_equal(others["png"][2], pixels_of(2))


def test_members_that_are_not_decoded_are_bytes(dataset):
    batch = next(iter(dataset.select("png", "json").to_numpy(2, shuffle=False)))
    assert all(isinstance(data, bytes) for data in batch["png"])
    assert batch["json"] == [b'{"row": 0}', b'{"row": 1}']


def test_pillow_and_text_are_lists(dataset):
    batch = next(iter(dataset.to_numpy(2, shuffle=False, decode={"png": "pil", "json": "text"})))
    assert [picture.size for picture in batch["png"]] == [(8, 6), (9, 6)]
    assert batch["json"] == ['{"row": 0}', '{"row": 1}']


def test_a_dataset_that_is_to_be_decoded_is_decoded_in_its_feed(dataset):
    batch = next(iter(dataset.decoding("rgb", json="json").to_numpy(2, shuffle=False)))
    assert batch["json"] == [{"row": 0}, {"row": 1}]
    assert np.array_equal(batch["png"][0], pixels_of(0))


def test_each_member_is_fitted_in_its_own_way(dataset):
    batch = next(iter(dataset.where("width = 8").to_numpy(2, shuffle=False, decode={"png": Resize((3, 4))})))
    middle = next(iter(dataset.to_numpy(2, shuffle=False, decode=CenterCrop(6))))
    assert batch["png"].shape == (2, 3, 4, 3)
    assert np.array_equal(middle["png"][0], pixels_of(0)[:, 1:7])


@pytest.mark.parametrize(
    ("decode", "said"),
    [({"jpgg": CROP}, "jpgg"), ({"png": "rbg"}, "rbg"), ("rbg", "rbg"), ({"width": "json"}, "width"), (4, "4")],
)
def test_what_cannot_be_decoded_so_is_refused_before_anything_is_read(dataset, decode, said):
    with pytest.raises(UsageError, match=said):
        dataset.to_numpy(2, decode=decode)


def test_a_fit_without_pictures_is_refused(dataset):
    with pytest.raises(UsageError, match="picture"):
        dataset.select("json").to_numpy(2, decode=CROP)


def test_a_feed_that_is_left_leaves_no_thread(dataset):
    before = set(threading.enumerate())
    batches = iter(dataset.to_numpy(2, decode=CROP))
    next(batches)
    batches.close()
    assert set(threading.enumerate()) <= before


def test_the_broken_picture_is_none_of_them(dataset):
    keys = [key for batch in dataset.to_numpy(5, decode=CROP) for key in batch["__key__"]]
    assert f"{BROKEN:09d}" not in keys
