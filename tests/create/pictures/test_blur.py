"""Boxes are blurred wherever they end up: after turning and resizing, before cropping and padding."""

import io
import json
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tarloom.create.config import ImageOptions
from tarloom.create.pictures.blur import blurred, turned_boxes
from tarloom.create.pictures.images import process_picture
from tests.create.helpers import create, encoded, photo


def stripes(height: int, width: int) -> np.ndarray:
    return np.repeat((np.indices((height, width)).sum(0) // 2 % 2 * 255)[..., None], 3, axis=2).astype(np.uint8)


def contrast(pixels: np.ndarray) -> float:
    return float(pixels.astype(float).std())


def process(data: bytes, boxes, **options) -> np.ndarray:
    options = {"encode_format": "png", "encode_quality": 1, "resize_mode": "no"} | options
    return np.asarray(Image.open(io.BytesIO(process_picture(data, ImageOptions(**options), boxes).data)))


def test_a_box_loses_its_detail_and_the_rest_keeps_it():
    picture = stripes(200, 200)
    found = blurred(picture, [[0.25, 0.25, 0.75, 0.75]])
    assert contrast(found[75:125, 75:125]) < 3
    assert (found[:10] == picture[:10]).all()
    assert (found[-10:] == picture[-10:]).all()


@pytest.mark.parametrize("boxes", [[], [[0.5, 0.5, 0.5, 0.9]], [[1.2, 0, 1.9, 1]], [[-0.5, -0.5, 0.0, 0.0]]])
def test_no_box_in_the_picture_is_nothing_to_do(boxes):
    picture = stripes(50, 50)
    assert blurred(picture, boxes) is picture


@settings(max_examples=50, deadline=None)
@given(
    height=st.integers(1, 80),
    width=st.integers(1, 80),
    boxes=st.lists(
        st.tuples(*4 * [st.floats(-1, 2)]).map(lambda b: [*map(min, b[:2], b[2:]), *map(max, b[:2], b[2:])])
    ),
)
def test_any_boxes_of_any_picture_give_a_picture(height, width, boxes):
    assert blurred(stripes(height, width), boxes).shape == (height, width, 3)


def test_large_boxes_are_blurred_as_small_ones_on_a_smaller_picture():
    picture = np.asarray(photo(600, 800, detail=40))
    box = [[0.2, 0.2, 0.8, 0.8]]
    small = np.asarray(Image.fromarray(picture).resize((80, 60), Image.Resampling.BOX))
    reduced = np.asarray(Image.fromarray(blurred(picture, box)).resize((80, 60), Image.Resampling.BOX))
    assert np.abs(reduced.astype(int) - blurred(small, box)).mean() < 2


BOX = (0.0, 0.0, 0.4, 0.5)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_are_turned_with_their_picture(kind, orientation):
    assert_blurred_alone(kind, orientation, box=turned_boxes([BOX], orientation)[0])


@pytest.mark.parametrize("orientation", [1, 6])
def test_boxes_of_a_tiff_which_every_reader_turns_are_of_the_upright_picture(orientation):
    assert_blurred_alone("TIFF", orientation, box=BOX)


def assert_blurred_alone(kind: str, orientation: int, box: Sequence[float]) -> None:
    """Of a picture with BOX this part is blurred, and what lies opposite is not."""
    stored = stripes(60, 100)
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = process(encoded(Image.fromarray(stored), kind, exif=exif), [BOX])
    (left, top, right, bottom), (height, width) = box, found.shape[:2]
    inside = found[round(top * height) : round(bottom * height), round(left * width) : round(right * width)]
    assert contrast(inside[5:-5, 5:-5]) < contrast(stored) / 2
    opposite = found[:10, :10] if left > 0.3 or top > 0.3 else found[-10:, -10:]
    assert contrast(opposite) > contrast(stored) * 0.9


@pytest.mark.parametrize("mode", ["border", "center_crop", "keep_ratio"])
def test_boxes_are_parts_of_the_picture_not_of_its_canvas(mode):
    data = encoded(Image.fromarray(stripes(200, 400)), "PNG")
    found = process(data, [[0.0, 0.0, 1.0, 1.0]], image_size=100, resize_mode=mode)
    rows = found[25:75] if mode == "border" else found
    assert contrast(rows[5:-5, 5:-5]) < 3
    assert mode != "border" or (found[:20] == 255).all()


def test_what_is_to_be_blurred_is_never_kept_as_it_is():
    data = encoded(Image.fromarray(stripes(64, 64)), "PNG")
    kept = process_picture(
        data, ImageOptions(encode_format="png", encode_quality=1, resize_mode="no", skip_reencode=True)
    )
    assert kept.data == data
    assert contrast(process(data, [[0.0, 0.0, 1.0, 1.0]], skip_reencode=True)) < 10


def test_boxes_of_a_list_are_blurred_row_by_row(photo_server, tmp_path):
    url = f"{photo_server.url}/pictures/0001.jpg"
    rows = [{"url": url, "faces": [[0.0, 0.0, 1.0, 1.0]]}, {"url": url, "faces": None}, {"url": url, "faces": []}]
    (tmp_path / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lossless = {"encode_format": "png", "encode_quality": 1, "output_format": "files"}
    summary = create(tmp_path / "list.jsonl", tmp_path / "out", bbox_col="faces", **lossless)
    assert summary.successes == 3
    data = [path.read_bytes() for path in sorted((tmp_path / "out").rglob("*.png"))]
    found = [np.asarray(Image.open(io.BytesIO(each))).astype(int) for each in data]
    assert contrast(np.diff(found[0][16:-16], axis=0)) < contrast(np.diff(found[1][16:-16], axis=0)) / 2
    assert (found[1] == found[2]).all()
