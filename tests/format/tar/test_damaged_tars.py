"""Damaged tars: a named error, or what everybody else reads there too. benchmarks/fuzz_tars.py tries far more."""

import io
import tarfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tarloom.errors import CorruptShard, TruncatedShard
from tarloom.format.tar.block import BLOCK
from tarloom.format.tar.walk import walk
from tarloom.format.tar.writer import TarWriter
from tests.format.fuzz.cases import make_case
from tests.format.fuzz.check import check
from tests.format.fuzz.check_whole import check_whole

seeds = st.integers(0, 2**62).map(str)
any_folder = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@settings(any_folder, max_examples=300)
@given(seeds)
def test_what_is_read_is_what_others_read_and_all_else_is_a_named_error(tmp_path, seed):
    check(make_case(seed), tmp_path)
    for path in tmp_path.iterdir():
        path.unlink()


@settings(any_folder, max_examples=15)
@given(seeds)
def test_what_can_be_read_survives_repair_and_what_cannot_is_found_by_the_check(tmp_path_factory, seed):
    folder, case = tmp_path_factory.mktemp("case"), make_case(seed)
    check_whole(case, folder, check(case, folder))


def header(name: bytes, kind: bytes, *, size: int = 0, **fields: tuple[int, bytes]) -> bytes:
    """A header with these bytes at these places, its checksum right."""
    info = tarfile.TarInfo()
    info.size = size
    block = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
    for at, value in ((0, name.ljust(100, b"\0")), (156, kind), *fields.values()):
        block[at : at + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def extension(kind: bytes, body: bytes, padding: bytes = b"\0") -> bytes:
    return header(b"ext", kind, size=len(body)) + body + padding * (-len(body) % BLOCK)


def record(keyword: bytes, value: bytes) -> bytes:
    return b"%d %s=%s\n" % (len(keyword) + len(value) + 5, keyword, value)


FILE = header(b"a.jpg", b"0")
PATH = extension(b"x", record(b"path", b"other.jpg"))


@pytest.mark.parametrize(
    ("raw", "what"),
    [
        (PATH + extension(b"L", b"third.jpg\0") + FILE, "differ in the path"),
        (PATH + extension(b"x", record(b"path", b"third.jpg")) + FILE, "differ in the path"),
        (extension(b"g", record(b"path", b"all.jpg")) + extension(b"L", b"third.jpg\0") + FILE, "GNU and global PAX"),
        (PATH + extension(b"g", record(b"comment", b"123456")) + FILE, "global PAX header between"),
        (extension(b"g", record(b"size", b"100000")) + FILE, "readers do not agree on"),
        (extension(b"x", record(b"path", b"aa\0bb.jpg")) + FILE, "readers do not agree on"),
        (extension(b"x", b"8 path=\n") + FILE, "PAX record"),
        (extension(b"x", record(b"hdrcharset", b"caf\xe9")) + FILE, "character set"),
        (extension(b"L", b"\0" * 9) + FILE, "empty name"),
        (extension(b"L", b"third.jpg", padding=b"x") + FILE, "behind the body"),
        (header(b"a.jpg", b"0", magic=(257, b"ustar  \0"), prefix=(345, b"14567")), "a dump by GNU tar"),
        (header(b"folder/", b"\0", size=512) + bytes(512), "folder that has data"),
        (extension(b"L", b"third.jpg\0") + header(b"folder/", b"\0"), "or another name"),
        (extension(b"x", record(b"mtime", b"123456")) + extension(b"g", record(b"path", b"all.jpg")) + FILE, "between"),
        (header(b"a.jpg", b"0", size_field=(124, b"\x81" + bytes(11))), "with the number"),
    ],
)
def test_headers_that_readers_would_take_differently_are_refused(raw, what):
    with pytest.raises(CorruptShard, match=rf"x\.tar: .*{what}.* at byte \d+; .*tarloom repair"):
        list(walk(lambda offset, size: raw[offset : offset + size], len(raw), "x.tar"))


@pytest.mark.parametrize("kind", [b"x", b"g", b"K", b"L"])
@pytest.mark.parametrize("end", [b"", bytes(1024)])
def test_an_extension_header_of_nothing_is_truncation(kind, end):
    raw = FILE + extension(kind, record(b"mtime", b"123456") if kind in b"xg" else b"name\0") + end
    with pytest.raises(TruncatedShard):
        list(walk(lambda offset, size: raw[offset : offset + size], len(raw), "x.tar"))


def test_the_same_name_said_twice_is_one_name():
    raw = PATH + extension(b"L", b"other.jpg\0") + FILE
    assert [m.name for m in walk(lambda offset, size: raw[offset : offset + size], len(raw), "x.tar")] == ["other.jpg"]


def test_no_flipped_bit_in_a_header_goes_unnoticed():
    file = io.BytesIO()
    TarWriter(file).add("train/000001.jpg", b"picture")
    raw = file.getvalue()
    (whole,) = walk(lambda offset, size: raw[offset : offset + size], len(raw), "x.tar")
    for bit in range(8 * BLOCK):
        changed = bytearray(raw)
        changed[bit // 8] ^= 1 << bit % 8
        try:
            found = list(walk(lambda offset, size, c=changed: c[offset : offset + size], len(raw), "x.tar"))
        except CorruptShard:
            continue
        assert 148 <= bit // 8 < 156, "the checksum itself may be written with blanks"
        assert found == [whole]
