"""Every kind of picture that comes in, and what becomes of it: docs/pictures.md, line by line."""

import base64
import io
import struct
import zlib
from itertools import pairwise

import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import PHOTOMETRIC_INTERPRETATION, ImageFileDirectory_v2

from tarloom.create.config import ImageOptions
from tarloom.create.pictures.images import process_picture
from tarloom.errors import ImageError
from tarloom.format.jpeg import MAX_SCANS, jpeg_segments
from tarloom.format.pictures import LONGEST_EXIF
from tarloom.read.samples.decode import decode_rgb
from tests.create.helpers import encoded, photo
from tests.create.pictures import profiles

SWAPPED = profiles.display((profiles.SRGB[1], profiles.SRGB[0], profiles.SRGB[2]))
"""A profile in which red is green."""
ARITHMETIC = """
/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAMCAgMCAgMDAwMEAwMEBQgFBQQEBQoHBwYIDAoMDAsKCwsNDhIQDQ4RDgsLEBYQERMUFRUVDA8XGBYUGBIUFRT/
2wBDAQMEBAUEBQkFBQkUDQsNFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBT/yQARCAAYACADASIAAhEBAxEB/8wA
CgAQEAUBEBEF/9oADAMBAAIRAxEAPwD/AOd9aMbPBk+ZATyE9yGnTe7/AIqnBtiW0UlApYDUem+SE3HdjgaG3iJnI3NzJnYRRmuPxmnnqXmTQKL8Irl3CZM9
+AZRNZrwEKgpzR9JEGyG5x+KOZIoCMkTjSgoHJhi/wAivPaFQP/Z
"""
"""32 x 24: red from left to right, green from top to bottom."""


def process(data: bytes, **options):
    options = {"resize_mode": "no", "encode_format": "png", "encode_quality": 1} | options
    return process_picture(data, ImageOptions(**options))


def shown(data: bytes, **options) -> np.ndarray:
    with Image.open(io.BytesIO(process(data, **options).data)) as image:
        assert image.mode == "RGB"
        assert "icc_profile" not in image.info
        return np.asarray(image).astype(int)


def off(found: np.ndarray, wanted) -> float:
    return float(np.abs(found - np.asarray(wanted).astype(int)).mean())


def one_colour(*values: int, mode: str = "RGB", size: int = 32) -> Image.Image:
    return Image.new(mode, (size, size), values if len(values) > 1 else values[0])


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_colours_of_another_profile_become_srgb(kind):
    data = encoded(one_colour(200, 100, 50), kind, icc_profile=SWAPPED)
    assert off(shown(data), (100, 200, 50)) < 6


@pytest.mark.parametrize("profile", [profiles.display(), b"no profile at all", b"", SWAPPED[:200], profiles.ink()])
def test_srgb_in_other_words_and_broken_profiles_change_nothing(profile):
    image = photo(40, 40)
    data = encoded(image, "PNG", icc_profile=profile)
    assert (shown(data) == np.asarray(image)).all()


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_grey_has_profiles_too(kind):
    linear = encoded(one_colour(100, mode="L"), kind, icc_profile=profiles.grey(gamma=1))
    assert off(shown(linear), 168) <= 2


def test_profiles_of_several_segments_are_put_together():
    long = SWAPPED + bytes(70_000)
    assert off(shown(encoded(one_colour(200, 100, 50), icc_profile=long)), (100, 200, 50)) < 6


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_becomes_rgb_by_its_profile_or_else_plainly(kind):
    cyan = one_colour(255, 0, 0, 0, mode="CMYK")
    assert off(shown(encoded(cyan, kind)), (0, 255, 255)) < 3
    red, green, blue = shown(encoded(cyan, kind, icc_profile=profiles.ink()))[0, 0]
    assert green > 200 > red
    assert green > 200 > blue


def test_a_cmyk_jpeg_is_turned_and_scaled_as_any_other():
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = process(encoded(photo(64, 256).convert("CMYK"), exif=exif), image_size=32, resize_mode="keep_ratio")
    assert (picture.width, picture.height) == (32, 128)


@pytest.mark.parametrize("extension", ["png", "tiff"])
@pytest.mark.parametrize("channels", [1, 3])
def test_16_bits_are_scaled_to_8(extension, channels):
    image = np.asarray(photo(40, 40))[..., :channels]
    done, data = cv2.imencode(f".{extension}", image[..., ::-1].astype(np.uint16) * 257)
    assert done
    assert np.abs(shown(data.tobytes()) - image).max() <= 1


def test_16_bits_whose_white_is_zero_are_no_negative():
    tags = ImageFileDirectory_v2()
    tags[PHOTOMETRIC_INTERPRETATION] = 0
    image = np.linspace(0, 65535, 100).reshape(10, 10).astype(np.uint16)
    data = encoded(Image.fromarray(image), "TIFF", tiffinfo=tags)
    wanted = np.rint((65535.0 - image) / 257)
    assert np.abs(shown(data)[..., 0] - wanted).max() <= 1
    assert np.abs(decode_rgb(data)[..., 0] - wanted).max() <= 1


def test_16_bits_with_alpha_lie_over_white():
    clear = np.zeros((10, 10, 4), np.uint16)
    clear[5:] = 65535
    data = cv2.imencode(".png", clear)[1].tobytes()
    assert (shown(data) == 255).all()


@pytest.mark.parametrize("white", [1.0, 255.0, 65535.0])
def test_the_white_of_floats_is_the_least_that_holds_them(white):
    image = np.linspace(0, white, 100, dtype=np.float32).reshape(10, 10)
    found = shown(encoded(Image.fromarray(image), "TIFF"))
    assert np.abs(found[..., 0] - np.rint(image * (255 / white))).max() <= 1


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_half_transparent_is_mixed_with_white(mode):
    image = one_colour(0, 0, 0, 128, mode="RGBA").convert(mode)
    assert off(shown(palette() if mode == "P" else encoded(image, "PNG")), 127) <= 1


def palette() -> bytes:
    """A PNG of one black that is half transparent by its palette."""
    image = Image.new("P", (32, 32))
    image.putpalette([0, 0, 0])
    return encoded(image, "PNG", transparency=bytes([128]))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "AVIF"])
def test_of_several_frames_the_first_is_taken(kind):
    frames = [one_colour(255, 0, 0), one_colour(0, 255, 0), one_colour(0, 0, 255)]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    assert off(shown(data), (255, 0, 0)) < 4


def test_of_a_tiff_no_page_but_the_first_is_looked_at():
    """Looking for all of them takes long where there are many, and the next may be broken."""
    data = bytearray(encoded(one_colour(255, 0, 0), "TIFF"))
    (directory,) = struct.unpack_from("<I", data, 4)
    (tags,) = struct.unpack_from("<H", data, directory)
    struct.pack_into("<I", data, directory + 2 + 12 * tags, len(data) - 2)
    assert off(shown(bytes(data)), (255, 0, 0)) == 0


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_every_format_that_has_exif_is_turned_by_it(kind):
    image = photo(40, 80)
    exif = Image.Exif()
    exif[0x0112] = 8
    picture = process(encoded(image, kind, exif=exif))
    assert (picture.width, picture.height, picture.original_width) == (40, 80, 40)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_bitmaps_of_every_depth_are_read(mode):
    image = photo(33, 45).convert(mode)
    assert (shown(encoded(image, "BMP")) == np.asarray(image.convert("RGB"))).all()


def test_bitmaps_in_runs_are_read():
    runs = b"".join(bytes([4, row]) + b"\0\0" for row in range(4)) + b"\0\1"
    colours = b"".join(bytes([60 * level, 0, 0, 0]) for level in range(4))
    header = struct.pack("<IiiHHIIiiII", 40, 4, 4, 1, 8, 1, len(runs), 0, 0, 4, 4)
    data = b"BM" + struct.pack("<IHHI", 14 + 40 + 16 + len(runs), 0, 0, 70) + header + colours + runs
    assert (shown(data)[:, 0, 2] == [180, 120, 60, 0]).all()


@pytest.mark.parametrize("how", [{"progressive": True}, {"subsampling": 0}, {"subsampling": 1}, {"quality": 30}])
def test_jpegs_of_every_make_are_read(how):
    image = photo(64, 96)
    assert off(shown(encoded(image, **how)), image) < 12


def test_arithmetic_jpegs_are_read():
    found = shown(base64.b64decode(ARITHMETIC))
    assert found.shape == (24, 32, 3)
    assert found[12, 30, 0] > found[12, 2, 0] + 150


def test_rubbish_after_a_jpeg_is_no_harm():
    data = encoded(photo(40, 40))
    assert process(data + b"rubbish" * 100).data == process(data).data


def test_12_bit_jpegs_are_refused_by_name():
    data = bytearray(encoded(photo(16, 16)))
    frame = data.index(b"\xff\xc0")
    data[frame + 1], data[frame + 4] = 0xC1, 12
    with pytest.raises(ImageError) as caught:
        process(bytes(data))
    assert caught.value.name == "unsupported_image"


def scans_of(data: bytes) -> list[bytes]:
    """The scans of a JPEG, tables in front of them included, and what stands before and after."""
    marks = [at for at in range(len(data) - 1) if data[at : at + 2] == b"\xff\xda"]
    return [data[: marks[0]], *(data[a:b] for a, b in pairwise(marks)), data[marks[-1] : -2]]


@pytest.mark.parametrize("mode", ["RGB", "CMYK"])
@pytest.mark.parametrize("read", [process, decode_rgb])
def test_jpegs_of_very_many_scans_are_refused(read, mode):
    whole = scans_of(encoded(photo(640, 640).convert(mode), progressive=True, quality=5))
    bomb = b"".join(whole) + whole[-1] * MAX_SCANS + b"\xff\xd9"
    with pytest.raises(ImageError) as caught:
        read(bomb)
    assert caught.value.name == "too_many_scans"


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
@pytest.mark.parametrize("read", [lambda data: process(data).original_width, lambda data: decode_rgb(data).shape[1]])
def test_exif_that_is_too_long_to_be_one_is_none(kind, read):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    assert read(encoded(photo(16, 8), kind, exif=exif)) == 16
    exif[ExifTags.Base.ImageDescription] = "x" * LONGEST_EXIF
    assert read(encoded(photo(16, 8), kind, exif=exif)) == 8


@pytest.mark.timeout(60)
def test_a_profile_in_a_million_parts_keeps_no_decoder_busy():
    part = b"\xff\xe2" + struct.pack(">H", 17) + b"ICC_PROFILE\0\1\1x"
    assert jpeg_segments(b"\xff\xd8" + part * 1_500_000).profile == b"x" * 1_500_000


@pytest.mark.timeout(60)
def test_a_jpeg_of_bytes_that_only_fill_keeps_no_decoder_busy():
    data = encoded(photo(16, 8))
    filled = data[:2] + b"\xff" * 100_000_000 + data[2:]
    assert jpeg_segments(filled).first_scan == jpeg_segments(data).first_scan + 100_000_000
    assert process(data[:2] + b"\xff" * 7 + data[2:]).original_width == 8


def test_a_png_that_unfolds_beyond_its_size_stops_there():
    header = struct.pack(">IIBBBBB", 10, 10, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(50_000_000))), (b"IEND", b""))
    body = b"".join(struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks)
    assert process(b"\x89PNG\r\n\x1a\n" + body).width == 10
