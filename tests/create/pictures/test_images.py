"""Pictures: sizes as img2dataset's, orientation, odd formats, and names for what cannot be decoded."""

import contextlib
import io
import json
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from tarloom.create.config import ImageOptions
from tarloom.create.pictures import for_jpeg, images, scale
from tarloom.create.pictures.images import process_picture
from tarloom.errors import ImageError
from tests.create.helpers import encoded, photo

MODES = ("border", "no", "keep_ratio", "keep_ratio_largest", "center_crop")
KINDS = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}


def process(data: bytes, **options):
    return process_picture(data, ImageOptions(**options))


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


def img2datasets_size(width: int, height: int, mode: str, size: int, only_if_bigger: bool) -> tuple[int, int]:
    """What img2dataset 1.47 makes of a picture, in its words."""
    if mode in ("keep_ratio", "center_crop"):
        downscale = min(height, width) > size
        if not only_if_bigger or downscale:
            scale = size / min(height, width)
            width, height = max(1, round(width * scale)), max(1, round(height * scale))
            if mode == "center_crop":
                return size, size
    elif mode in ("border", "keep_ratio_largest"):
        downscale = max(height, width) > size
        if not only_if_bigger or downscale:
            scale = size / max(height, width)
            width, height = max(1, round(width * scale)), max(1, round(height * scale))
            if mode == "border":
                return size, size
    return width, height


@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(1, 300),
    height=st.integers(1, 300),
    mode=st.sampled_from(MODES),
    size=st.sampled_from([1, 17, 64, 100]),
    only_if_bigger=st.booleans(),
    kind=st.sampled_from(["JPEG", "PNG"]),
)
def test_every_resize_mode_gives_the_sizes_of_img2dataset(width, height, mode, size, only_if_bigger, kind):
    data = encoded(photo(height, width), kind)
    picture = process(data, image_size=size, resize_mode=mode, resize_only_if_bigger=only_if_bigger)
    wanted = img2datasets_size(width, height, mode, size, only_if_bigger)
    assert (picture.width, picture.height) == wanted
    assert (picture.original_width, picture.original_height) == (width, height)
    assert Image.open(io.BytesIO(picture.data)).size == wanted


@pytest.mark.parametrize("extension", KINDS)
def test_pictures_are_encoded_as_asked(extension):
    picture = process(encoded(photo(80, 120)), encode_format=extension, encode_quality=9, image_size=32)
    assert Image.open(io.BytesIO(picture.data)).format == KINDS[extension]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_as_their_camera_was_held(kind, orientation):
    image = photo(96, 160)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"exif": exif} | ({"quality": 95} if kind in ("JPEG", "WEBP") else {})
    data = encoded(image, kind, **options)
    with Image.open(io.BytesIO(data)) as stored:
        upright = ImageOps.exif_transpose(stored).convert("RGB")
    picture = process(data, resize_mode="no", encode_format="png", encode_quality=1)
    assert (picture.original_width, picture.original_height) == upright.size
    assert np.abs(pixels(picture.data) - np.asarray(upright).astype(int)).mean() < 2


def test_a_turned_jpeg_is_scaled_by_what_one_sees():
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = process(encoded(photo(200, 800), exif=exif), image_size=50, resize_mode="keep_ratio")
    assert (picture.width, picture.height) == (50, 200)


def test_a_scaled_decode_looks_like_a_full_one():
    image = photo(800, 1200, detail=80)
    picture = process(encoded(image, quality=95), resize_mode="keep_ratio", image_size=128)
    reference = np.asarray(image.resize((192, 128), Image.Resampling.BOX)).astype(int)
    assert np.abs(pixels(picture.data) - reference).mean() < 3


def test_exif_is_kept_as_json():
    exif = Image.Exif()
    exif[0x010F] = "Kamera & Söhne"
    exif.get_ifd(0x8769)[0x829A] = (1, 250)
    kept = json.loads(process(encoded(photo(20, 20), exif=exif)).exif)
    assert kept["Image Make"].startswith("Kamera")
    assert "EXIF ExposureTime" in kept
    assert process(encoded(photo(20, 20))).exif == "{}"


def test_oddities_that_pillow_warns_of_are_not_shown():
    not_a_number = Image.fromarray(np.full((20, 20), np.nan, np.float32))
    block = b"Exif\0\0MM\0*\0\0\0\x08\0\x05\x01\x0f\0\x02\0\0\xff\xff\0\0\xff\xff"
    data = [encoded(not_a_number, "TIFF"), encoded(photo(20, 20), "PNG", exif=block)]
    program = f"from tarloom.create.pictures.images import *\nfor data in {data}: process_picture(data, ImageOptions())"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_broken_exif_is_no_reason_to_fail():
    data = encoded(photo(20, 20))
    broken = (
        data[:2] + b"\xff\xe1" + struct.pack(">H", 30) + b"Exif\0\0" + b"II*\0\xff\xff\xff\x7f" + bytes(14) + data[2:]
    )
    assert process(broken).exif == "{}"


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "I;16", "1"])
def test_every_kind_of_pixel_becomes_rgb(mode):
    kind = "TIFF" if mode == "CMYK" else "PNG"
    grey = photo(40, 40).convert("L")
    if mode == "I;16":
        image = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    else:
        image = photo(40, 40).convert("RGBA" if mode in ("LA", "RGBA") else "RGB").convert(mode)
    picture = process(encoded(image, kind), encode_format="png", encode_quality=1, resize_mode="no")
    assert pixels(picture.data).shape == (40, 40, 3)
    if mode in ("L", "I;16"):
        assert np.abs(pixels(picture.data)[..., 0] - np.asarray(grey).astype(int)).max() <= 1


def test_cmyk_jpegs_are_read():
    picture = process(encoded(photo(40, 60).convert("CMYK")), resize_mode="no")
    assert np.abs(pixels(picture.data) - np.asarray(photo(40, 60)).astype(int)).mean() < 12


def test_transparent_parts_become_white():
    image = Image.new("RGBA", (20, 20), (255, 0, 0, 0))
    picture = process(encoded(image, "PNG"), encode_format="png", encode_quality=1, resize_mode="no")
    assert (pixels(picture.data) == 255).all()


def test_the_border_is_white_and_the_picture_in_the_middle():
    picture = process(
        encoded(Image.new("RGB", (100, 50)), "PNG"), image_size=100, encode_format="png", encode_quality=1
    )
    found = pixels(picture.data)
    assert (found[:25] == 255).all()
    assert (found[25:75] == 0).all()
    assert (found[75:] == 255).all()


@pytest.mark.parametrize(("height", "width"), [(1, 101), (100, 1)])
@pytest.mark.parametrize("orientation", [1, 6])
def test_of_a_line_that_is_cropped_only_the_middle_is_scaled(monkeypatch, height, width, orientation):
    made: list[int] = []

    def resized(*arguments):
        found = scale.resized(*arguments)
        made.append(found.size)
        return found

    monkeypatch.setattr(images, "resized", resized)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(photo(height, width, detail=50), "PNG", exif=exif)
    options = ImageOptions(resize_mode="center_crop", image_size=128, encode_format="png", encode_quality=1)
    middle = process_picture(data, options).data
    whole = process_picture(data, options, [[1.5, 0.0, 1.9, 1.0]]).data  # a box that is not in the picture
    assert (pixels(middle) == pixels(whole)).all()
    assert made[0] * 5 < made[1]


def test_what_becomes_far_smaller_on_one_side_alone_is_not_made_larger_in_between(monkeypatch):
    monkeypatch.setattr(for_jpeg, "read_and_halved", lambda *_: pytest.fail("32 times as wide as it was"))
    picture = np.asarray(photo(600, 600))
    assert for_jpeg.resized_for_jpeg(picture, (6, 600), "area", (600, 600)).shape == (6, 600, 3)


def test_the_colours_that_a_palette_mixes_are_kept_in_jpegs():
    """Some way of dithering, by which a few colours stand for others."""
    order = np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]]) * 16
    mixed = ((np.array([96, 159, 64]) > np.tile(order, (128, 128))[..., None]) * 255).astype(np.uint8)
    data = encoded(Image.fromarray(mixed).quantize(8), "PNG")
    found = pixels(process(data, image_size=128, encode_format="jpg").data)
    assert np.abs(found.mean((0, 1)) - mixed.mean((0, 1))).max() < 5


def bomb(width: int, height: int) -> bytes:
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"")),
        (b"IEND", b""),
    )
    body = b"".join(struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + body


def huge_jpeg() -> bytes:
    data = bytearray(encoded(photo(64, 64)))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", 60000, 60000)
    return bytes(data)


WHOLE = encoded(photo(120, 200))
WHOLE_PNG = encoded(photo(120, 200), "PNG")
LINE = encoded(Image.new("RGB", (70_000, 2)), "PNG")
BROKEN = {
    "html": (b"<!DOCTYPE html><p>Please sign in", {}, "not_an_image"),
    "nothing": (b"\0" * 100, {}, "not_an_image"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", {}, "not_an_image"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", {}, "not_an_image"),
    "half a jpeg": (WHOLE[: len(WHOLE) // 2], {}, "truncated"),
    "a jpeg without its last bytes": (WHOLE[:-200], {}, "truncated"),
    "half a png": (WHOLE_PNG[: len(WHOLE_PNG) // 2], {}, "truncated"),
    "a bomb": (bomb(50_000, 50_000), {}, "too_many_pixels"),
    "a jpeg bomb": (huge_jpeg(), {}, "too_many_pixels"),
    "a lowered limit": (WHOLE, {"max_pixels": 1000}, "too_many_pixels"),
    "a line that would become a bomb": (LINE, {"image_size": 256, "resize_mode": "keep_ratio"}, "too_many_pixels"),
    "a line longer than a jpeg": (LINE, {"resize_mode": "no"}, "encode_failed"),
    "a line longer than a webp": (LINE, {"resize_mode": "no", "encode_format": "webp"}, "encode_failed"),
    "a small one": (WHOLE, {"min_image_size": 121}, "too_small"),
    "a large one": (WHOLE, {"max_image_area": 23999}, "area_too_large"),
    "a long one": (WHOLE, {"max_aspect_ratio": 1.5}, "aspect_ratio_too_large"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_cannot_be_used_has_a_name(case):
    data, options, name = BROKEN[case]
    with pytest.raises(ImageError) as caught:
        process(data, **options)
    assert caught.value.name == name
    assert str(caught.value).startswith(f"{name}: ")


@settings(max_examples=150, deadline=None)
@given(
    data=st.data(),
    source=st.sampled_from([WHOLE, WHOLE_PNG, encoded(photo(30, 30), "WEBP"), encoded(photo(30, 30), "TIFF")]),
)
def test_damaged_pictures_are_named_failures_and_nothing_else(data, source):
    damaged = bytearray(source)
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(1, len(damaged)))
    with contextlib.suppress(ImageError):
        process(bytes(damaged[:cut]), max_pixels=1_000_000)


def test_the_same_bytes_give_the_same_bytes():
    assert process(WHOLE).data == process(WHOLE).data
