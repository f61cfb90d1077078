"""Pictures to RGB arrays, whatever they are, and named errors for what is none."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tarloom.errors import ImageError
from tarloom.format.jpeg import MAX_SCANS
from tarloom.read.samples.decode import decode_rgb, plain_jpeg_size


def picture(width: int = 64, height: int = 48) -> Image.Image:
    """Red above, blue below: seen at once when it lies on its side."""
    image = Image.new("RGB", (width, height), (255, 0, 0))
    image.paste((0, 0, 255), (0, height // 2, width, height))
    return image


def encoded(image: Image.Image, kind: str = "JPEG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def colour_names(pixels: np.ndarray) -> tuple[str, str]:
    """Of the top and the bottom."""
    top, bottom = (pixels[row, pixels.shape[1] // 2].astype(int) for row in (2, -3))
    return tuple(
        "red" if c[0] > 200 > 80 > c[2] else "blue" if c[2] > 200 > 80 > c[0] else str(c) for c in (top, bottom)
    )


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_every_common_format_decodes_alike(kind):
    pixels = decode_rgb(encoded(picture(), kind))
    assert (pixels.shape, pixels.dtype) == ((48, 64, 3), np.uint8)
    assert colour_names(pixels) == ("red", "blue")


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGBA", "P", "1", "LA", "I;16"])
def test_every_mode_becomes_rgb(mode):
    deep = np.full((48, 64), 32896, np.uint16)
    image = Image.fromarray(deep) if mode == "I;16" else picture().convert(mode)
    kind = "JPEG" if mode in ("L", "CMYK") else "PNG"
    pixels = decode_rgb(encoded(image, kind))
    assert pixels.shape == (48, 64, 3)
    if mode == "I;16":
        assert set(pixels.ravel().tolist()) == {128}


def test_transparent_parts_lie_over_white():
    assert decode_rgb(encoded(Image.new("RGBA", (4, 4), (9, 9, 9, 0)), "PNG")).min() == 255


def test_a_picture_that_lies_on_its_side_is_turned_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    lying = picture().transpose(Image.Transpose.ROTATE_90)
    assert colour_names(decode_rgb(encoded(lying, exif=exif))) == ("red", "blue")


@pytest.mark.parametrize(
    ("at_least", "expected"), [(0, (480, 640)), (400, (480, 640)), (120, (120, 160)), (7, (60, 80))]
)
def test_a_jpeg_may_be_decoded_smaller_but_keeps_the_pixels_asked_for(at_least, expected):
    pixels = decode_rgb(encoded(picture(640, 480)), at_least=at_least)
    assert pixels.shape[:2] == expected
    assert colour_names(pixels) == ("red", "blue")


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"", "not_an_image"),
        (b"<html>not found</html>", "not_an_image"),
        (encoded(picture(200, 200), quality=95)[:-400], "truncated"),
        (encoded(picture(200, 200), "PNG")[:-40], "truncated"),
        (b"\xff\xd8\xff" + bytes(100), "not_an_image"),
        (encoded(picture()).replace(b"\xff\xdb", bytes(20) + b"\xff\xdb", 1), "corrupt_image"),
    ],
)
def test_what_is_no_whole_picture_has_a_named_error(data, name):
    with pytest.raises(ImageError) as caught:
        decode_rgb(data)
    assert caught.value.name == name


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_too_many_pixels_are_refused_before_decoding(kind):
    with pytest.raises(ImageError, match="too_many_pixels"):
        decode_rgb(encoded(picture(), kind), max_pixels=1000)


def turned(to: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = to
    return exif


def with_segment(data: bytes, kind: int, content: bytes) -> bytes:
    """A JPEG with one more segment in front."""
    return data[:2] + bytes([0xFF, kind]) + (len(content) + 2).to_bytes(2) + content + data[2:]


HEAD = encoded(picture(20, 10))[2:400]
"""What a thumbnail begins with, the mark of its scan included."""


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (encoded(picture()), (48, 64)),
        (encoded(picture().convert("L")), (48, 64)),
        (encoded(picture(), optimize=True), (48, 64)),
        (encoded(picture(), progressive=True), (48, 64)),
        (encoded(picture(), icc_profile=bytes(3000)), (48, 64)),
        (encoded(picture(), icc_profile=bytes(9000)), (48, 64)),
        (with_segment(encoded(picture()), 0xEB, HEAD), (48, 64)),
        (with_segment(encoded(picture()), 0xFE, b"\xff\xda"), (48, 64)),
        (with_segment(encoded(picture(), exif=turned(6)), 0xEB, encoded(picture(20, 10))), None),
        (with_segment(encoded(picture(), exif=turned(6)), 0xFE, b"\xff\xda\0\x02"), None),
        (encoded(picture(), exif=turned(6)), None),
        (encoded(picture().convert("CMYK")), None),
        (encoded(picture(), "PNG"), None),
        (b"\xff\xd8\xff\xda", None),
        (b"\xff\xd8\xff\xda\0", None),
        (b"", None),
    ],
)
def test_a_plain_jpeg_is_known_by_its_segments_whatever_they_hold(data, size):
    assert plain_jpeg_size(data) == plain_jpeg_size(memoryview(data)) == size


def test_scans_are_counted_in_pictures_that_begin_alike():
    whole = encoded(picture(), progressive=True)
    scan = whole[whole.index(b"\xff\xda") : whole.rindex(b"\xff\xda")]
    assert plain_jpeg_size(whole) == (48, 64)
    with pytest.raises(ImageError, match="too_many_scans"):
        plain_jpeg_size(whole[:-2] + MAX_SCANS * scan + whole[-2:])


@settings(deadline=None)
@given(st.data())
def test_damaged_bytes_decode_or_raise_a_named_error_and_nothing_else(data):
    whole = data.draw(st.sampled_from([encoded(picture(), kind) for kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF")]))
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(damaged[: data.draw(st.integers(0, len(damaged)))])
    assert name_of_the_error(cut) in {
        "not_an_image",
        "truncated",
        "corrupt_image",
        "too_many_pixels",
        "unsupported_image",
        "a picture",
    }


def name_of_the_error(data: bytes) -> str:
    """The name of the error, or that there is none."""
    try:
        assert decode_rgb(data, max_pixels=10_000_000).ndim == 3
    except ImageError as error:
        return error.name
    return "a picture"
