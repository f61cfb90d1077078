"""What the tar writer writes: readable by every reader of tars, the same bytes for the same members."""

import hashlib
import io
import shutil
import subprocess
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tarloom.errors import UsageError
from tarloom.format.tar.headers import Headers
from tarloom.format.tar.walk import split_name
from tarloom.format.tar.writer import TarWriter, _headers

letters = st.characters(exclude_categories=("Cs",), exclude_characters="\0/")
parts = st.text(letters, min_size=1, max_size=60)
names = st.lists(parts, min_size=1, max_size=6).map("/".join)
members = st.lists(st.tuples(names, st.binary(max_size=1500)), max_size=12)
AWKWARD = [
    "a.jpg",
    "x" * 96 + ".jpg",
    "x" * 97 + ".jpg",
    "d" * 155 + "/" + "x" * 96 + ".jpg",
    "d" * 156 + "/" + "x" * 96 + ".jpg",
    "d" * 200 + ".jpg",
    "a/" * 80 + "b.json",
    "é.jpg",
    "写真/猫.txt",
    "😀" * 70 + ".jpg",
    "/absolute.jpg",
    "two\nlines=3 path=x\n.txt",
    " spaced .jpg ",
    "./dot.jpg",
]


def written(content) -> bytes:
    file = io.BytesIO()
    writer = TarWriter(file)
    for name, data in content:
        writer.add(name, data)
    writer.close()
    return file.getvalue()


def by_tarfile(raw: bytes) -> list[tuple[str, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        return [(member.name, tar.extractfile(member).read()) for member in tar]


@settings(deadline=None)
@given(members)
def test_tarfile_reads_what_was_written(content):
    assert by_tarfile(written(content)) == content


@pytest.mark.parametrize("name", AWKWARD, ids=range(len(AWKWARD)))
@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 20_000])
def test_tarfile_reads_awkward_names_and_sizes(name, size):
    content = [(name, b"\xff" * size), ("next.txt", b"next")]
    assert by_tarfile(written(content)) == content


@settings(deadline=None)
@given(members)
def test_the_writer_knows_offsets_size_and_hash(content):
    file = io.BytesIO()
    writer = TarWriter(file)
    offsets = [writer.add(name, data) for name, data in content]
    writer.close()
    raw = file.getvalue()
    assert [raw[o : o + len(d)] for o, (_, d) in zip(offsets, content, strict=True)] == [d for _, d in content]
    assert writer.size == len(raw)
    assert writer.sha256 == hashlib.sha256(raw).hexdigest()
    assert len(raw) % 10240 == 0
    assert raw.endswith(bytes(1024))


def test_plain_members_equal_those_of_tarfile_byte_for_byte():
    content = [("a.jpg", b"1" * 700), ("dir/b.json", b"{}"), ("d" * 120 + "/" + "x" * 90, b"")]
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in content:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    assert written(content) == file.getvalue()


def test_members_have_a_fixed_owner_mode_and_time():
    with tarfile.open(fileobj=io.BytesIO(written([("a.jpg", b"1"), ("é.jpg", b"2")]))) as tar:
        for member in tar:
            assert (member.mode, member.uid, member.gid, member.mtime) == (0o644, 0, 0, 0)
            assert (member.uname, member.gname) == ("", "")


def test_a_pax_header_comes_only_where_it_is_needed():
    assert len(written([("x" * 100, b"1"), ("d" * 155 + "/" + "x" * 100, b"2")])) == 10240
    assert b"PaxHeader" not in written([("x" * 100, b""), ("d" * 155 + "/" + "x" * 100, b"")])
    assert b"PaxHeader" in written([("x" * 101, b"")])
    assert b"PaxHeader" in written([("é", b"")])


def test_views_of_bytes_are_written_like_bytes():
    wide = memoryview(b"12345678").cast("I")
    assert written([("a", wide)]) == written([("a", b"12345678")])


def test_a_member_above_eight_gibibytes_has_its_size_in_a_pax_header():
    size = 8 * 2**30
    header = _headers("big.bin", size)
    with tarfile.open(fileobj=io.BytesIO(header + bytes(1024))) as tar:
        member = next(iter(tar))
        assert (member.name, member.size) == ("big.bin", size)


@pytest.mark.parametrize("name", ["", "a/", "a\0b", "\udcff.jpg", "é" * 2050])
def test_a_name_that_no_tar_can_hold_is_refused(name):
    with pytest.raises(UsageError, match="rename the file"):
        TarWriter(io.BytesIO()).add(name, b"")


@pytest.mark.skipif(not shutil.which("tar"), reason="GNU tar is not installed")
def test_gnu_tar_reads_what_was_written(tmp_path):
    content = [(name, name.encode() * 3) for name in AWKWARD if not name.startswith(("/", "./")) and "\n" not in name]
    content = [(name, data) for name, data in content if max(len(p.encode()) for p in name.split("/")) < 256]
    (tmp_path / "a.tar").write_bytes(written(content))
    out = tmp_path / "out"
    out.mkdir()
    done = subprocess.run(["tar", "-xf", tmp_path / "a.tar", "-C", out], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert {(str(p.relative_to(out)), p.read_bytes()) for p in out.rglob("*") if p.is_file()} == set(content)


def test_webdataset_reads_what_was_written():
    from webdataset.tariterators import group_by_keys, tar_file_expander

    content = [(f"{i:05d}.{ext}", bytes([i]) * i) for i in range(40) for ext in ("jpg", "txt")]
    content += [(f"é/{'x' * 120}.jpg", b"long")]
    files = tar_file_expander([{"url": "a.tar", "stream": io.BytesIO(written(content))}])
    samples = list(group_by_keys(files))
    assert [(f"{s['__key__']}.{ext}", s[ext]) for s in samples for ext in ("jpg", "txt") if ext in s] == content


@given(names)
def test_names_are_split_as_webdataset_splits_them(name):
    from webdataset.tariterators import base_plus_ext

    expected, found = base_plus_ext(name), split_name(name)
    if found is None:
        base = name.rpartition("/")[2]
        assert expected[0] is None or base.startswith(".") or "__" in name
    else:
        assert found == (expected[0], expected[1].lower())


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("a.jpg", ("a", "jpg")),
        ("dir.v1/a.seg.PNG", ("dir.v1/a", "seg.png")),
        ("a/b/c.tar.gz", ("a/b/c", "tar.gz")),
        ("no_dot", None),
        ("dir.v1/no_dot", None),
        (".hidden", None),
        ("a/.hidden.jpg", None),
        ("a/._b.jpg", None),
        ("__MACOSX/b.jpg", None),
        ("x/__MACOSX/b.jpg", None),
        ("__meta__/b.jpg", None),
        ("__meta__", None),
        ("__a__.jpg", ("__a__", "jpg")),
        ("a.", ("a", "")),
    ],
)
def test_key_and_extension_of_a_name(name, parts):
    assert split_name(name) == parts


@settings(deadline=None)
@given(members)
def test_the_walk_finds_what_was_written(content):
    raw = written(content)
    headers = Headers(lambda offset, size: raw[offset : offset + size], len(raw), "x.tar")
    assert [(m.name, raw[m.offset : m.offset + m.size]) for m in headers] == content
    headers.check_end()
