"""Pixels of fits: exact where nothing is scaled, near to Pillow's where something is; for JPEGs and for all others."""

import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tarloom.errors import ImageError
from tarloom.read.feed.batches.fitting import fit_into, memory_for
from tarloom.read.feed.batches.pictures import DRAWS, CenterCrop, RandomCrop, RandomResizedCrop, Resize
from tarloom.read.samples.decode import decode_rgb

ORIENTATION = 0x112
END = b"\xff\xd9"
NOWHERE = [0.0] * DRAWS
"""Draws of the left upper corner."""


def scene(height: int, width: int) -> np.ndarray:
    """A picture of soft colours with an edge."""
    rows, columns = np.mgrid[0:height, 0:width]
    channels = [128 + 100 * np.sin(rows / 37), 128 + 100 * np.cos(columns / 29), 255 * (columns > rows)]
    return np.stack(channels, axis=2).astype(np.uint8)


def encoded(pixels: np.ndarray, form: str = "JPEG", **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, **({"quality": 95} if form == "JPEG" else {}) | options)
    return file.getvalue()


def fitted(fit, data: bytes, draws=(0.3, 0.6, 0.9, 0.5, 0.5)) -> np.ndarray:
    out = np.full((*fit.shape, 3), 77, np.uint8)
    fit_into(out, fit, memoryview(data), draws)
    return out


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_a_crop_has_the_pictures_own_pixels(form, mirrored):
    data = encoded(scene(256, 300), form)
    fit, draws = RandomCrop(224), [0.25, 0.75, 0.0 if mirrored else 0.9, 0.5, 0.5]
    top, left, height, width, _ = fit.part((256, 300), draws)
    part = decode_rgb(data)[top : top + height, left : left + width]
    assert np.array_equal(fitted(fit, data, draws), part[:, ::-1] if mirrored else part)


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
@pytest.mark.parametrize("size", [(256, 256), (300, 500), (1000, 700), (1047, 1501), (100, 90), (1, 1), (3, 900)])
@pytest.mark.parametrize("fit", [CenterCrop(224), Resize((120, 200)), RandomResizedCrop(64), RandomCrop(1000)])
def test_what_is_scaled_looks_as_pillow_scales_it(fit, size, form):
    pixels, draws = scene(*size), [0.3, 0.6, 0.9, 0.5, 0.5]
    data = encoded(pixels, form)
    top, left, height, width, _ = fit.part(size, draws)
    box = (left, top, left + width, top + height)
    wanted = Image.fromarray(decode_rgb(data)).resize(fit.shape[::-1], Image.Resampling.BILINEAR, box=box)
    difference = np.abs(fitted(fit, data, draws).astype(int) - np.asarray(wanted))
    assert difference.mean() < 4
    assert np.quantile(difference, 0.95) < 24  # an edge may lie a pixel further


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    share=st.floats(0.0001, 1),
    draws=st.lists(st.floats(0, 1, exclude_max=True), min_size=DRAWS, max_size=DRAWS),
)
def test_every_part_of_every_size_becomes_a_whole_picture(size, shape, share, draws):
    data = encoded(np.full((*size, 3), 200, np.uint8))
    fit = RandomResizedCrop(shape, scale=(share, share), ratio=(0.1, 10))
    assert np.abs(fitted(fit, data, draws).astype(int) - 200).max() <= 1


@pytest.mark.parametrize("kept_bytes", [0, 16 << 20])
@settings(max_examples=100, deadline=None)
@given(
    size=st.tuples(st.integers(20, 200), st.integers(1, 60)),
    share=st.floats(0.01, 1),
    draws=st.lists(st.floats(0, 1, exclude_max=True), min_size=DRAWS, max_size=DRAWS),
    sampling=st.sampled_from(["4:4:4", "4:2:2", "4:2:0", "grey"]),
    options=st.sampled_from([{}, {"progressive": True}, {"restart_marker_rows": 1}, {"restart_marker_blocks": 3}]),
)
def test_a_part_is_the_same_whether_what_lies_below_is_decoded_or_not(
    kept_bytes, size, share, draws, sampling, options
):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8))
    colours = {} if sampling == "grey" else {"subsampling": sampling}
    data = encoded(np.asarray(noise.convert("L") if sampling == "grey" else noise), quality=60, **colours, **options)
    fit = RandomCrop((max(1, round(size[0] * share)), size[1]), flip=0)
    top, left, height, width, _ = fit.part(size, draws)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tarloom.read.feed.batches.fitting._KEPT_BYTES", kept_bytes)
        found = fitted(fit, data, draws)
    assert np.array_equal(found, decode_rgb(data)[top : top + height, left : left + width])


def test_what_lies_below_a_part_is_not_decoded_but_a_picture_that_is_cut_is_found():
    data, top = encoded(scene(400, 100)), RandomCrop((50, 100), flip=0)

    def damaged_at(place: int) -> bytes:
        return data[:place] + END + data[place + len(END) :]

    assert np.array_equal(fitted(top, damaged_at(len(data) // 2), NOWHERE), decode_rgb(data)[:50])
    for broken in (data[: len(data) // 2], damaged_at(1000)):
        with pytest.raises(ImageError, match="the JPEG ends before its picture does"):
            fitted(top, broken, NOWHERE)
    for place in (len(data) // 2, 1000):
        with pytest.raises(ImageError, match="the JPEG ends before its picture does"):
            decode_rgb(damaged_at(place))


@pytest.mark.parametrize("turned", range(1, 9))
def test_a_turned_picture_is_upright_before_it_is_cut(turned):
    exif = Image.Exif()
    exif[ORIENTATION] = turned
    data = encoded(scene(80, 120), exif=exif.tobytes())
    upright = decode_rgb(data)
    fit, draws = RandomCrop(64), [0.2, 0.8, 0.9, 0.5, 0.5]
    top, left, height, width, _ = fit.part(upright.shape[:2], draws)
    assert np.array_equal(fitted(fit, data, draws), upright[top : top + height, left : left + width])


@pytest.mark.parametrize("cut", [0, 2, 100, 2000])
def test_a_broken_picture_is_an_error_with_a_name(cut):
    with pytest.raises(ImageError):
        fitted(RandomCrop(64), encoded(scene(200, 200))[:cut])


def test_threads_do_not_disturb_each_other():
    pictures = [encoded(np.full((60 + number, 90, 3), number, np.uint8), "JPEG") for number in range(100)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda data: fitted(Resize(16), data), pictures * 3))
    for number, pixels in enumerate(found):
        assert np.array_equal(pixels, fitted(Resize(16), pictures[number % 100])), number


@pytest.mark.parametrize("size", [(16, 16), (256, 256), (255, 301), (900, 1200)])
def test_pixels_are_decoded_to_where_libjpeg_turbo_leaves_them_in_the_cache(size):
    memory = memory_for(size)
    assert memory.ctypes.data % 32 == 16
    assert len(memory) >= size[0] * size[1] * 3
