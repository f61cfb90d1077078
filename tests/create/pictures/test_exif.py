"""EXIF tags come as texts that can be read without EXIF's types."""

import io
import json

import pytest
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from tarloom.create.pictures.exif import LONGEST_VALUE, exif_json


def texts(tag: int, value: object, *, folder: int | None = None) -> dict[str, str]:
    """What a JPEG with this one tag says."""
    exif = Image.Exif()
    (exif if folder is None else exif.get_ifd(folder))[tag] = value
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG", exif=exif)
    return json.loads(exif_json(Image.open(file).getexif()))


@pytest.mark.parametrize(
    ("ratio", "text"), [((1, 125), "1/125"), ((28, 10), "14/5"), ((50, 1), "50"), ((0, 5), "0"), ((5, 0), "5/0")]
)
def test_ratios_are_written_as_ratios_in_lowest_terms(ratio, text):
    assert texts(0x829A, IFDRational(*ratio), folder=0x8769)["EXIF ExposureTime"] == text


def test_several_values_stand_in_brackets():
    place = texts(2, (52.0, 30.0, 1.5), folder=0x8825)
    assert place["GPS GPSLatitude"] == "[52, 30, 3/2]"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\2\3\0\0", "[2, 3, 0, 0]"),
        (b"\0", "0"),
        (b"\1", "1"),
        (b"0230", "0230"),
        (b"W\0", "W"),
        (b"t\0i", "[116, 0, 105]"),
    ],
)
def test_bytes_are_numbers_unless_they_are_text(data, text):
    assert texts(0, data, folder=0x8825)["GPS GPSVersionID"] == text


@pytest.mark.parametrize(("tag", "folder"), [(0x927C, 0x8769), (0x9286, 0x8769), (0x02BC, None)])
def test_what_only_programs_read_is_left_out(tag, folder):
    assert set(texts(tag, b"any bytes", folder=folder)) <= {"Image ExifOffset"}


def test_names_are_those_that_img2dataset_writes():
    assert texts(0xA003, 200, folder=0x8769)["EXIF ExifImageLength"] == "200"
    assert texts(0x1D, "2020:01:02", folder=0x8825)["GPS GPSDate"] == "2020:01:02"


def test_long_texts_are_cut():
    assert texts(0x010E, "a" * 1000)["Image ImageDescription"] == "a" * LONGEST_VALUE


def test_no_tags_are_an_empty_object():
    assert exif_json(Image.Exif()) == "{}"
