"""Tars over 2 and 8 GiB: sparse files, so that they cost no disk; only their headers and last members are written."""

import tarfile
from pathlib import Path

import pytest

import tarloom
from tarloom.format.index_load import scan_index
from tarloom.format.storage import open_storage
from tarloom.format.tar.block import BLOCK

GIB = 1 << 30
FORMATS = {"gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def write_sparse(path: Path, sizes: dict[str, int], format: int) -> None:
    """Members of these sizes: zeros, and at the end of each its name."""
    with path.open("wb") as file:
        for name, size in sizes.items():
            info = tarfile.TarInfo(name)
            info.size = size
            file.write(info.tobuf(format))
            file.seek(size - len(name), 1)
            file.write(name.encode())
            file.seek(-size % BLOCK, 1)
        file.truncate(file.tell() + 2 * BLOCK)


@pytest.mark.parametrize("format", FORMATS)
def test_members_behind_2_and_8_gib_and_of_that_size_are_read(tmp_path, format):
    sizes = {"a.bin": 2 * GIB + 5, "b.txt": 100, "c.bin": 8 * GIB, "c.txt": 777, "d.bin": 9 * GIB + 1, "e.txt": 50}
    write_sparse(tmp_path / "x.tar", sizes, FORMATS[format])
    assert (tmp_path / "x.tar").stat().st_blocks * 512 < 1 << 20, "no sparse files here"
    index = scan_index(open_storage(tmp_path), "x")
    with tarfile.open(tmp_path / "x.tar") as tar:
        theirs = [(member.offset_data, member.size) for member in tar]
    ours = [
        (offset, size)
        for extension in index.extensions
        for offset, size in zip(index.offsets(extension).to_pylist(), index.sizes(extension).to_pylist(), strict=True)
        if size is not None
    ]
    assert sorted(ours) == theirs
    dataset = tarloom.open(tmp_path)
    texts = {sample["__key__"]: sample.get("txt") for sample in dataset.select("txt")}
    assert texts == {key: name_at_end(f"{key}.txt", sizes) for key in "abcde"}


def name_at_end(name: str, sizes: dict[str, int]) -> bytes | None:
    return bytes(sizes[name] - len(name)) + name.encode() if name in sizes else None


@pytest.mark.parametrize("cut", [1, 4 * GIB])
def test_a_large_tar_that_is_cut_is_named(tmp_path, cut):
    write_sparse(tmp_path / "x.tar", {"a.bin": 9 * GIB}, tarfile.PAX_FORMAT)
    with (tmp_path / "x.tar").open("rb+") as file:
        file.truncate(9 * GIB + 3 * BLOCK - cut)
    with pytest.raises(tarloom.errors.TruncatedShard, match=r"x\.tar: ends at byte \d{10}"):
        scan_index(open_storage(tmp_path), "x")
