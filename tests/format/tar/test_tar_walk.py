"""The walk over tars that others made: what tarfile finds, or an error; never fewer members in silence."""

import io
import re
import shutil
import subprocess
import tarfile

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tarloom.errors import CorruptShard, TruncatedShard
from tarloom.format.tar.block import BLOCK
from tarloom.format.tar.headers import Headers, Member
from tarloom.format.tar.walk import split_name, walk
from tarloom.format.tar.writer import TarWriter

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
KINDS = {
    "file": tarfile.REGTYPE,
    "old file": tarfile.AREGTYPE,
    "contiguous": tarfile.CONTTYPE,
    "folder": tarfile.DIRTYPE,
    "symlink": tarfile.SYMTYPE,
    "hard link": tarfile.LNKTYPE,
    "device": tarfile.CHRTYPE,
    "pipe": tarfile.FIFOTYPE,
}
ANY_KIND = tuple(sorted(KINDS))
MODERN = tuple(sorted(KINDS.keys() - {"old file"}))
REGULAR = ("file", "old file", "contiguous")
letters = st.characters(exclude_categories=("Cs",), exclude_characters="\0/")
short = st.lists(st.text(letters, min_size=1, max_size=8), min_size=1, max_size=3).map("/".join)
any_length = st.lists(st.text(letters, min_size=1, max_size=80), min_size=1, max_size=8).map("/".join)
times = st.one_of(st.integers(0, 2**33 - 1), st.floats(0, 2**32))


@st.composite
def entries(draw, names, kinds=ANY_KIND):
    kind = draw(st.sampled_from(kinds))
    info = tarfile.TarInfo(draw(names))
    info.type = KINDS[kind]
    info.mtime = draw(times)
    info.uid = draw(st.integers(0, 2**21 - 1))
    info.mode = draw(st.integers(0, 0o7777))
    info.uname = draw(st.text(letters, max_size=5))
    data = draw(st.binary(max_size=1200)) if kind in REGULAR else b""
    if kind in ("symlink", "hard link"):
        info.linkname = draw(names)
    info.size = len(data)
    return info, data


def packed(content, format: int, **options) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format, **options) as tar:
        for info, data in content:
            tar.addfile(info, io.BytesIO(data))
    return file.getvalue()


def walked(raw: bytes) -> list[Member]:
    return list(walk(lambda offset, size: raw[offset : offset + size], len(raw), "x.tar"))


def walked_to_the_end(raw: bytes) -> list[Member]:
    """Its end proven, too."""
    headers = Headers(lambda offset, size: raw[offset : offset + size], len(raw), "x.tar")
    found = [each for each in headers if isinstance(each, Member)]
    headers.check_end()
    return found


def walked_or_refused(raw: bytes) -> list[Member] | None:
    """The members, or None where the walk raised an error that names the tar."""
    try:
        return walked(raw)
    except CorruptShard as error:
        if not str(error).startswith("x.tar: "):
            raise
        return None


def by_tarfile(raw: bytes) -> list[tuple[str, int, int]]:
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        return [(m.name, m.offset_data, m.size) for m in tar if m.isreg()]


def numbered(count: int, size: int = 700) -> bytes:
    file = io.BytesIO()
    writer = TarWriter(file)
    for i in range(count):
        writer.add(f"{i:05d}.jpg" if i % 2 else f"é{i:05d}.jpg", bytes([i + 1]) * size)
    writer.close()
    return file.getvalue()


@settings(deadline=None)
@given(st.lists(entries(short), max_size=8), st.sampled_from(sorted(FORMATS)))
def test_it_finds_the_regular_files_that_tarfile_finds(content, format):
    raw = packed(content, FORMATS[format])
    assert [m[:3] for m in walked_to_the_end(raw)] == by_tarfile(raw)


# tarfile takes an old file for a folder where its long name happens to be cut behind a slash (CVE-2025-13462).
@settings(deadline=None)
@given(st.lists(entries(any_length, MODERN), max_size=6), st.sampled_from(["gnu", "pax"]))
def test_it_finds_members_with_long_names_and_links(content, format):
    raw = packed(content, FORMATS[format])
    assert [m[:3] for m in walked_to_the_end(raw)] == by_tarfile(raw)


def test_global_pax_headers_hold_for_all_that_follow():
    plain = [(tarfile.TarInfo(f"{i}.jpg"), b"") for i in range(3)]
    for info, _ in plain:
        info.mtime = 1.5
    raw = packed(plain, tarfile.PAX_FORMAT, pax_headers={"comment": "é", "path": "all.jpg"})
    assert [m.name for m in walked(raw)] == ["all.jpg"] * 3 == [name for name, _, _ in by_tarfile(raw)]


def test_a_name_that_is_not_utf8_comes_as_tarfile_gives_it():
    info = tarfile.TarInfo("caf\xe9.jpg")
    raw = packed([(info, b"")], tarfile.USTAR_FORMAT, encoding="latin-1")
    assert [m.name for m in walked(raw)] == ["caf\udce9.jpg"] == [name for name, _, _ in by_tarfile(raw)]


def test_sizes_may_be_binary():
    raw = bytearray(packed([(tarfile.TarInfo("big"), b"")], tarfile.GNU_FORMAT)[:BLOCK])
    size = 9 * 2**30
    raw[124:136] = bytes([0x80]) + size.to_bytes(11, "big")
    total = len(raw) + size + 1024
    headers = Headers(with_checksum(raw, bytes(1024), total - 1024), total, "x.tar")
    assert list(headers) == [Member("big", BLOCK, size, 0)]
    headers.check_end()


def with_checksum(header: bytearray, end: bytes, end_at: int):
    """A tar's header and end; what lies between is never asked for."""
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    parts = {0: bytes(header), end_at: end}
    return lambda offset, size: parts[offset][:size]


@pytest.mark.skipif(not shutil.which("tar"), reason="GNU tar is not installed")
@pytest.mark.parametrize("format", ["gnu", "oldgnu", "pax", "posix", "ustar", "v7"])
def test_it_finds_what_gnu_tar_packed(tmp_path, format):
    tree = tmp_path / "tree"
    (tree / "deep" / "er").mkdir(parents=True)
    (tree / "deep" / "a.jpg").write_bytes(b"1" * 600)
    (tree / "deep" / "er" / "b.txt").write_bytes(b"")
    (tree / "link.jpg").symlink_to("deep/a.jpg")
    (tree / "hard.jpg").hardlink_to(tree / "deep" / "a.jpg")
    if format != "v7":
        (tree / ("n" * 90)).mkdir()
        (tree / ("n" * 90) / "c.jpg").write_bytes(b"2")
    if format not in ("v7", "ustar"):
        (tree / ("é" * 100 + ".jpg")).write_bytes(b"3" * 512)
    subprocess.run(["tar", "-cf", tmp_path / "a.tar", f"--format={format}", "-C", tree, "."], check=True)
    raw = (tmp_path / "a.tar").read_bytes()
    assert [m[:3] for m in walked_to_the_end(raw)] == by_tarfile(raw)
    assert len(walked(raw)) >= 2


def test_a_tar_cut_anywhere_raises_or_ends_behind_a_whole_member():
    raw = numbered(6)
    whole = walked_to_the_end(raw)
    ends = {m.offset + m.size + -m.size % BLOCK: i + 1 for i, m in enumerate(whole)}
    last = max(ends)
    for cut in sorted(
        {*range(0, len(raw), BLOCK), *range(1, last + 1200, 97), *(e + d for e in ends for d in (-1, 1))}
    ):
        short = raw[:cut]
        if cut >= last + BLOCK:
            assert walked(short) == whole
        elif cut in ends:
            assert walked(short) == whole[: ends[cut]], "no end mark, but a whole number of members"
        else:
            with pytest.raises(TruncatedShard, match=f"x.tar: ends at byte {cut}"):
                walked(short)
        if cut < last + 2 * BLOCK:
            with pytest.raises(TruncatedShard):
                walked_to_the_end(short)


def test_the_end_may_be_padded_with_any_number_of_zeros():
    raw = numbered(3)
    assert walked_to_the_end(raw + bytes(100_000)) == walked(raw)
    assert walked_to_the_end(raw + bytes(77)) == walked(raw)


def test_data_behind_the_end_is_ignored_like_tarfile_does_unless_the_end_is_proven():
    raw = numbered(3) + numbered(2)
    assert len(walked(raw)) == 3
    with pytest.raises(CorruptShard, match="data behind the end"):
        walked_to_the_end(raw)


@settings(deadline=None, max_examples=300)
@given(position=st.integers(0, BLOCK - 1), value=st.integers(0, 255), entry=st.integers(0, 5))
@example(position=0, value=0, entry=0)
@example(position=156, value=ord("5"), entry=1)
def test_a_changed_byte_in_a_header_is_found(position, value, entry):
    raw = bytearray(numbered(6))
    headers = [0] + [m.offset + 1024 for m in walked(bytes(raw))]
    at = headers[entry] + position
    if raw[at] == value:
        return
    before, raw[at] = walked(bytes(raw)), value
    if 148 <= position < 156:  # the checksum field itself: unused bytes behind the number may hold anything
        try:
            assert walked(bytes(raw)) == before
        except CorruptShard:
            return
    else:
        with pytest.raises(CorruptShard, match=r"x\.tar: .*byte"):
            walked(bytes(raw))


@settings(deadline=None, max_examples=300)
@given(st.binary(min_size=1, max_size=3000))
def test_what_is_no_tar_is_an_error_and_never_a_crash(raw):
    found = walked_or_refused(raw)
    assert found is None or (found == [] and raw[:BLOCK] == bytes(BLOCK))


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_damaged_extension_headers_are_errors_and_never_crashes(data):
    bodies = st.one_of(
        st.binary(max_size=600), st.sampled_from([b"11 path=a\n", b"9 size=x\n", b"12 size=-100\n", b"0 a=b\n"])
    )
    body = data.draw(bodies)
    info = tarfile.TarInfo("ext")
    info.type, info.size = data.draw(st.sampled_from([b"x", b"g", b"L", b"K", b"X"])), len(body)
    padded = body + bytes(-len(body) % BLOCK)
    raw = info.tobuf(tarfile.USTAR_FORMAT) + padded + numbered(1)
    assert walked_or_refused(raw) is None or len(walked(raw)) == 1


def test_a_huge_extension_header_is_refused_before_it_is_read():
    info = tarfile.TarInfo("ext")
    info.type, info.size = b"x", 2**31
    raw = info.tobuf(tarfile.USTAR_FORMAT)
    with pytest.raises(CorruptShard, match="extension header of 2147483648 bytes"):
        list(walk(lambda offset, size: raw[offset : offset + size], 2**33, "x.tar"))


def test_sparse_members_are_refused_since_their_bytes_do_not_lie_in_one_place():
    old = tarfile.TarInfo("holes")
    old.type = tarfile.GNUTYPE_SPARSE
    new = tarfile.TarInfo("holes")
    new.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
    for info in (old, new):
        with pytest.raises(CorruptShard, match=r"sparse|type b'S'"):
            walked(packed([(info, b"")], tarfile.PAX_FORMAT))


def test_an_extension_header_without_its_member_is_truncation():
    raw = packed([(tarfile.TarInfo("é" * 100), b"")], tarfile.PAX_FORMAT)
    cut = raw[: 2 * BLOCK]
    for end in (b"", bytes(1024)):
        with pytest.raises(TruncatedShard):
            walked(cut + end)


def test_a_checksum_of_signed_bytes_as_old_systems_wrote_is_accepted():
    raw = bytearray(packed([(tarfile.TarInfo("é.jpg"), b"")], tarfile.GNU_FORMAT))
    signed = sum(b - 256 if b > 127 else b for b in raw[:148] + raw[156:BLOCK]) + 256
    raw[148:156] = b"%06o\0 " % signed
    assert [m.name for m in walked(bytes(raw))] == ["é.jpg"] == [name for name, _, _ in by_tarfile(bytes(raw))]


AS_WEBDATASET = re.compile(r"((?:.*/|)[^.]+)[.]([^/]*)")
LEFT_OUT = re.compile(r"__[^/]*__(?:/|\Z)|(?:.*/)?__MACOSX/|(?:.*/)?\.[^/]*\Z", re.DOTALL)


@settings(max_examples=1000)
@given(st.lists(st.sampled_from(["a", "B", ".", "/", "\n", "_", "__", "__MACOSX", "__x__"]), max_size=9).map("".join))
def test_names_are_split_as_webdataset_splits_them(name):
    match = AS_WEBDATASET.fullmatch(name)
    wanted = None if match is None or LEFT_OUT.match(name) else (match[1], match[2].lower())
    assert split_name(name) == wanted


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_name_longer_than_any_path_is_refused_and_one_as_long_read(format):
    for length in (4096, 4097):
        raw = packed([(tarfile.TarInfo("a/" * 2040 + "b" * (length - 4084) + ".jpg"), b"")], format)
        if length == 4096:
            assert [len(member.name) for member in walked(raw)] == [length]
        else:
            with pytest.raises(CorruptShard, match=r"x\.tar: name of 4097 bytes, more than 4096, at byte 0; .*repair"):
                walked(raw)
