"""A list of all kinds of rows: pictures of many formats, damaged ones, addresses that fail; columns of many types."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from tests.source_tree import ROOT

TROUBLES = ("missing", "page", "truncated", "loop", "broken", "stalls")
ELSEWHERE = ("http://127.0.0.1:1/refused.jpg", "http://nowhere.invalid/a.jpg", "not a url", "", None)
TURNED = "turned.jpg"
EMPTY = "empty.jpg"


def write_pictures(folder: Path) -> list[str]:
    """Fill a folder for the server; the names, in the order of the list."""
    folder.mkdir(parents=True)
    for number in range(1, 5):
        shutil.copy(ROOT / "source_data" / "pictures" / f"{number:04d}.jpg", folder)
    photo = Image.open(folder / "0001.jpg").convert("RGB").resize((300, 200))
    for name in ("rgb.png", "x.webp", "x.bmp", "x.gif", "x.tiff"):
        photo.save(folder / name)
    for mode in ("RGBA", "L", "P"):
        photo.convert(mode).save(folder / f"{mode.lower()}.png")
    for mode in ("CMYK", "L"):
        photo.convert(mode).save(folder / f"{mode.lower()}.jpg")
    photo.save(folder / "progressive.jpg", progressive=True)
    photo.save(folder / TURNED, exif=exif(orientation=6))
    photo.save(folder / "upright.jpg", exif=exif(orientation=1))
    Image.fromarray(np.linspace(0, 65535, 60_000).reshape(200, 300).astype(np.uint16)).save(folder / "deep.png")
    (folder / EMPTY).write_bytes(b"")
    (folder / "text.jpg").write_text("no picture")
    (folder / "cut.png").write_bytes((folder / "rgb.png").read_bytes()[:3000])
    return sorted(path.name for path in folder.iterdir())


def exif(orientation: int) -> Image.Exif:
    """As a camera writes it."""
    made = Image.Exif()
    made[0x010F], made[0x0110], made[0x0112] = "Maker", "Model 1", orientation
    made[0x011A], made[0x0128], made[0x0132] = 72.0, 2, "2020:01:02 03:04:05"
    camera = made.get_ifd(0x8769)
    camera[0x829A], camera[0x829D] = IFDRational(1, 125), IFDRational(28, 10)
    camera[0x8827], camera[0x9003], camera[0x9291] = 200, "2020:01:02 03:04:05", "25"
    camera[0x8822], camera[0x9207], camera[0x9209], camera[0x920A] = 2, 5, 16, IFDRational(50, 1)
    camera[0xA002], camera[0xA003] = 300, 200
    place = made.get_ifd(0x8825)
    place[1], place[2], place[3], place[4] = "N", (52.0, 30.0, 1.5), "E", (13.0, 24.0, 0.0)
    return made


def write_list(path: Path, server: str, names: list[str]) -> None:
    """A list as csv (link, text, score, n) and as parquet (also tags, and sums and boxes of the pictures)."""
    urls = [f"{server}/pictures/{name}" for name in names] + [f"{server}/trouble/{name}.jpg" for name in TROUBLES]
    urls += [f"{server}/moved/pictures/0001.jpg", *ELSEWHERE]
    rows = range(len(urls))
    columns = {
        "link": urls,
        "text": [None if row % 5 == 0 else f'caption "ü" {row}' for row in rows],
        "score": pa.array([row / 3 if row % 4 else None for row in rows]),
        "n": pa.array(rows, pa.int32()),
        "tags": [["a", "b"] if row % 2 else None for row in rows],
        "sum": [hashlib.md5(str(row).encode()).hexdigest() for row in rows],
        "boxes": [[[0.1, 0.1, 0.5, 0.5]] if row % 2 else [] for row in rows],
    }
    first = hashlib.md5((ROOT / "source_data" / "pictures" / "0001.jpg").read_bytes()).hexdigest()
    columns["sum"][names.index("0001.jpg")] = first
    table = pa.table(columns)
    pq.write_table(table, path.with_suffix(".parquet"))
    table.select(["link", "text", "score", "n"]).to_pandas().to_csv(path.with_suffix(".csv"), index=False)
