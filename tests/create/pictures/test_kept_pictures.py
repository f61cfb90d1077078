"""When pictures keep their bytes, and what else the options of encoding and resizing mean."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from tarloom.create.config import ImageOptions
from tarloom.create.pictures.images import process_picture
from tarloom.errors import ImageError
from tests.create.helpers import encoded, photo
from tests.create.pictures import profiles

BRIGHTNESS = np.array([0.299, 0.587, 0.114])
PHOTO = encoded(photo(100, 200))
SWAPPED = profiles.display((profiles.SRGB[1], profiles.SRGB[0], profiles.SRGB[2]))


def process(data: bytes, **options):
    return process_picture(data, ImageOptions(**options))


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(photo(100, 200), exif=exif)


KEPT = {
    "no resizing": (PHOTO, {"resize_mode": "no"}),
    "not bigger": (PHOTO, {"image_size": 256, "resize_only_if_bigger": True}),
    "just the size": (PHOTO, {"image_size": 100, "resize_mode": "keep_ratio"}),
    "a square for a square": (encoded(photo(64, 64)), {"image_size": 64, "resize_mode": "border"}),
    "upright by its exif": (turned(1), {"resize_mode": "no"}),
    "grey": (encoded(photo(64, 64).convert("L")), {"resize_mode": "no"}),
    "srgb in other words": (encoded(photo(64, 64), icc_profile=profiles.display()), {"resize_mode": "no"}),
    "a png": (encoded(photo(64, 64), "PNG"), {"resize_mode": "no", "encode_format": "png", "encode_quality": 9}),
    "a webp": (encoded(photo(64, 64), "WEBP"), {"resize_mode": "no", "encode_format": "webp"}),
}
MADE_ANEW = {
    "another size": (PHOTO, {"image_size": 50, "resize_mode": "keep_ratio"}),
    "to be padded": (PHOTO, {"image_size": 200, "resize_mode": "border"}),
    "another format": (encoded(photo(64, 64), "PNG"), {"resize_mode": "no"}),
    "lying on its side": (turned(6), {"resize_mode": "no"}),
    "transparent": (
        encoded(photo(64, 64).convert("RGBA"), "PNG"),
        {"resize_mode": "no", "encode_format": "png", "encode_quality": 1},
    ),
    "other colours": (encoded(photo(64, 64), icc_profile=SWAPPED), {"resize_mode": "no"}),
    "cmyk": (encoded(photo(64, 64).convert("CMYK")), {"resize_mode": "no"}),
    "animated": (
        encoded(photo(64, 64), "WEBP", save_all=True, append_images=[Image.new("RGB", (64, 64))]),
        {"resize_mode": "no", "encode_format": "webp"},
    ),
    "16 bits": (
        encoded(Image.fromarray(np.zeros((64, 64), np.uint16)), "PNG"),
        {"resize_mode": "no", "encode_format": "png", "encode_quality": 1},
    ),
}


@pytest.mark.parametrize("case", KEPT)
def test_what_is_as_wanted_keeps_its_bytes(case):
    data, options = KEPT[case]
    picture = process(data, skip_reencode=True, **options)
    assert picture.data == data
    assert (picture.width, picture.height) == Image.open(io.BytesIO(data)).size
    assert process(data, **options).data != data


@pytest.mark.parametrize("case", MADE_ANEW)
def test_what_is_not_as_wanted_is_made_anew(case):
    data, options = MADE_ANEW[case]
    assert process(data, skip_reencode=True, **options).data == process(data, **options).data


@pytest.mark.parametrize("data", [PHOTO[:-300], encoded(photo(64, 64), "PNG")[:-3000]])
def test_what_is_kept_is_checked(data):
    with pytest.raises(ImageError, match="truncated"):
        process(
            data,
            resize_mode="no",
            skip_reencode=True,
            encode_format="jpg" if data in PHOTO else "png",
            encode_quality=9,
        )


@pytest.mark.parametrize("data", [PHOTO, b"", b"<html>", PHOTO[:50], b"\xff\xd8\xff\xda"])
def test_without_any_reencoding_bytes_stay_whatever_they_are(data):
    picture = process(data, disable_all_reencoding=True, min_image_size=1000)
    assert picture.data == data
    assert (picture.width, picture.height, picture.original_width, picture.original_height) == (None,) * 4
    assert picture.exif == "{}"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("as_it_came", [False, True])
def test_exif_is_extracted_unless_it_is_not_wanted(kind, as_it_came):
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    data = encoded(photo(20, 20), kind, exif=exif)
    assert "Maker" in process(data, disable_all_reencoding=as_it_came).exif
    assert process(data, disable_all_reencoding=as_it_came, extract_exif=False).exif is None


def test_exif_behind_the_pixels_of_a_png_is_found_without_decoding_it():
    """The pixels could be a bomb: nothing that is not decoded is held against `max_pixels`."""
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    bomb = b"".join(
        struct.pack(">I4s", len(content), kind) + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in [
            (b"IHDR", struct.pack(">IIBBBBB", 50_000, 50_000, 8, 0, 0, 0, 0)),
            (b"IDAT", b"no pixels at all"),
            (b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")),
            (b"IEND", b""),
        ]
    )
    assert "Maker" in process(b"\x89PNG\r\n\x1a\n" + bomb, disable_all_reencoding=True).exif


@pytest.mark.parametrize("way", ["nearest", "linear", "bilinear", "cubic", "bicubic", "area", "lanczos", "lanczos4"])
def test_the_ways_to_scale_can_be_chosen_for_both_directions(way):
    smaller = process(PHOTO, image_size=40, resize_mode="keep_ratio", downscale_interpolation=way)
    assert (smaller.width, smaller.height) == (80, 40)
    larger = process(PHOTO, image_size=150, resize_mode="keep_ratio", upscale_interpolation=way)
    assert (larger.width, larger.height) == (300, 150)
    lossless = {"image_size": 150, "resize_mode": "keep_ratio", "encode_format": "png", "encode_quality": 1}
    colours = np.unique(
        np.asarray(Image.open(io.BytesIO(process(stairs(), upscale_interpolation=way, **lossless).data)))
    )
    assert (len(colours) == 2) == (way in ("nearest", "area"))


def stairs() -> bytes:
    return encoded(Image.fromarray(np.kron(np.eye(2, dtype=np.uint8), np.full((20, 20), 255, np.uint8))), "PNG")


@pytest.mark.parametrize("factor", [1.3, 1.9, 2, 2.2, 2.5, 3, 3.7, 4.4, 5, 7, 9.3])
def test_reducing_by_area_is_the_mean_of_the_area(factor):
    pixels = np.asarray(photo(370, 520, detail=5))
    lossless = {"encode_format": "png", "encode_quality": 1}
    made = process(
        encoded(Image.fromarray(pixels), "PNG"), image_size=round(370 / factor), resize_mode="keep_ratio", **lossless
    )
    exact = cv2.resize(pixels, (made.width, made.height), interpolation=cv2.INTER_AREA).astype(float)
    difference = np.asarray(Image.open(io.BytesIO(made.data))) - exact
    assert np.sqrt((difference**2).mean()) < 2
    assert abs(difference.mean()) < 0.5


@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize("factor", [1.3, 1.9, 2.5, 3.7, 4.1, 7.6, 15.3, 20])
def test_a_jpeg_becomes_the_mean_of_the_area_at_whichever_scale_it_is_decoded(factor, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(photo(1203, 905, detail=round(15 * factor)), quality=95, exif=exif)
    made = process(data, image_size=round(905 / factor), resize_mode="keep_ratio", encode_quality=100)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    exact = cv2.resize(upright, (made.width, made.height), interpolation=cv2.INTER_AREA).astype(float)
    difference = np.asarray(Image.open(io.BytesIO(made.data))) - exact
    assert np.sqrt(((difference @ BRIGHTNESS) ** 2).mean()) < 0.7
    assert np.sqrt((difference**2).mean()) < 2
    assert abs(difference.mean()) < 0.2


def test_what_is_grey_stays_grey_in_a_smaller_jpeg():
    grey = photo(300, 400).convert("L")
    made = process(encoded(grey.convert("RGB"), "PNG"), image_size=100, resize_mode="keep_ratio")
    assert np.ptp(np.asarray(Image.open(io.BytesIO(made.data))).astype(int), axis=2).max() == 0
