"""The samples that tests of reading use, and the digest they must have."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

from tarloom.format.index_load import scan_index
from tarloom.format.storage import LocalStorage
from tarloom.read.digest import Digest
from tests.format.raw import some_samples, write_parquet, write_sidecar, write_stats, write_tar

ROWS = 40
FAILED = (3, 7)
LONG = "deep/" + "folder-with-a-long-name/" * 6 + "sample"


def odd_samples():
    """What tars in the wild hold: members missing, several dots, upper case, other scripts, long names, no bytes."""
    return [
        ("plain", {"jpg": b"j" * 600, "txt": b"text"}),
        ("only-text", {"txt": b"nothing but text"}),
        ("nested/key", {"jpg": b"k" * 513, "seg.png": b"two dots"}),
        ("nested/upper", {"JPG": b"upper case", "Txt": b"mixed"}),
        ("größe-图", {"jpg": b"not ASCII", "json": b"{}"}),
        (LONG, {"jpg": b"l" * 100, "txt": b""}),
    ]


def digest_of(samples) -> str:
    """Of (key, members and column values by name)."""
    digest = Digest()
    for key, members in samples:
        for name, value in members.items():
            digest.add_value(key, name.lower(), value)
    return digest.hex


def packed_samples(shards: int):
    """The samples in `packed_dataset(shards=shards, rows=ROWS, failed=FAILED)`."""
    return [s for n in range(shards) for i, s in enumerate(some_samples(ROWS, first=n * ROWS)) if i not in FAILED]


def completed_samples(count: int = 30):
    """Key, members and columns as img2dataset leaves them: in the order in which downloads ended, some failed."""
    rows = [(i * 7) % count for i in range(count)]
    return [
        (
            f"{row:09d}",
            {"jpg": f"picture {row}".encode(), "txt": f"caption {row}".encode()} if row % 5 else None,
            {"caption": f"caption {row}", "width": 100 + row, "similarity": row / 7},
        )
        for row in rows
    ]


def write_as_img2dataset(folder: Path) -> None:
    """One shard with the metadata of all rows, failed ones too, in another order than the tar's."""
    samples = completed_samples()
    write_tar(folder / "00000.tar", [(key, members) for key, members, _ in samples if members])
    rows = samples[::-1]
    columns = {name: [values[name] for _, _, values in rows] for name in ("caption", "width", "similarity")}
    columns |= {"key": [key for key, *_ in rows]}
    columns |= {"status": ["success" if members else "failed_to_download" for _, members, _ in rows]}
    write_parquet(folder / "00000.parquet", columns)
    write_stats(folder, "00000", len(rows), sum(not members for _, members, _ in rows), None)


PICTURED_ROWS = 20
BROKEN, UNSCORED = 5, 27
"""The sample whose picture is none, and the one without a row in the sidecar (which has a stranger's)."""


def pictured_samples():
    """Key, members, and columns: real pictures (PNG, so that every decoder gives the same pixels), scores."""
    for row in range(2 * PICTURED_ROWS):
        picture = b"no picture" if row == BROKEN else png_of(row)
        columns = {"width": 8 + row % 5, "score.value": None if row == UNSCORED else row / 10}
        yield f"{row:09d}", {"png": picture, "json": json.dumps({"row": row}).encode()}, columns


def pixels_of(row: int) -> np.ndarray:
    """uint8 of shape (6, 8 to 12, 3)."""
    return np.random.default_rng(row).integers(0, 256, (6, 8 + row % 5, 3), np.uint8)


def write_pictured(folder: Path) -> None:
    """`pictured_samples` in two shards with metadata and a sidecar "score"."""
    samples = list(pictured_samples())
    for number in range(2):
        part, shard = samples[number * PICTURED_ROWS :][:PICTURED_ROWS], f"{number:05d}"
        write_tar(folder / f"{shard}.tar", [(key, members) for key, members, _ in part])
        done = ["success"] * len(part)
        widths = [values["width"] for *_, values in part]
        write_parquet(folder / f"{shard}.parquet", {"key": [key for key, *_ in part], "status": done, "width": widths})
        scores = {
            key if values["score.value"] is not None else "stranger": values["score.value"] for key, _, values in part
        }
        identity = scan_index(LocalStorage(str(folder)), shard).identity
        write_sidecar(folder, shard, "score", list(scores), {"value": list(scores.values())}, identity)


def png_of(row: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels_of(row)).save(file, "PNG")
    return file.getvalue()


NASTY_SAMPLES = [
    ("a.b/c d", {"jpg": b"dots in the folder, a blank in the name", "tar.gz.txt": b"many dots"}),
    ("./dot", {"jpg": b"behind a dot and a slash"}),
    (LONG * 3, {"jpg": b"a name that needs a header of its own"}),
    ("empty", {"txt": b"", "cls": b"1"}),
    ("late", {"jpg": b"its size is not a multiple of a block"}),
]


def write_nasty_tars(folder: Path) -> None:
    """NASTY_SAMPLES in three dialects of tar, between folders, links, hidden files and what macOS adds."""
    folder.mkdir(parents=True, exist_ok=True)
    forms = {"gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
    for number, (name, form) in enumerate(forms.items()):
        with tarfile.open(folder / f"{name}.tar", "w", format=form, pax_headers={"comment": "of all"}) as tar:
            for key, members in NASTY_SAMPLES:
                _add_noise(tar, key)
                for extension, data in members.items():
                    _add(tar, f"{_renamed(key, number)}.{extension}", data)
            _add_noise(tar, "end")
    write_tar(folder / "nothing.tar", [])


def nasty_samples():
    return [(_renamed(key, number), members) for number in range(2) for key, members in NASTY_SAMPLES]


def _renamed(key: str, number: int) -> str:
    return f"{key}-{number}"


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def _add_noise(tar: tarfile.TarFile, key: str) -> None:
    """What belongs to no sample."""
    for name, kind in ((f"folder-{len(key)}", tarfile.DIRTYPE), (f"link-{len(key)}.jpg", tarfile.SYMTYPE)):
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, "elsewhere.jpg"
        tar.addfile(info)
    for name in (f"__MACOSX/._{len(key)}.jpg", f"folder/.hidden-{len(key)}.jpg", f"README-{len(key)}"):
        _add(tar, name, b"no sample")
