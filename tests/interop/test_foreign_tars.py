"""Tars as they are found in the wild: what webdataset makes of each, before and after its 1.0, and what we do.

docs/format.md has this as a table.
"""

import bz2
import gzip
import io
import json
import lzma
import sys
import tarfile
from pathlib import Path

import pytest
import zstandard

import tarloom
from tarloom.errors import ShardError
from tests.format.verify.damage import findings
from tests.peers import peer_python, run_python

File = tuple[str, bytes | str]
"""A name and bytes, or "hard:TARGET", "soft:TARGET", "folder:"."""
KINDS = {"hard": tarfile.LNKTYPE, "soft": tarfile.SYMTYPE, "folder": tarfile.DIRTYPE}
A = [("a.jpg", b"1"), ("a.txt", b"2")]
B = [("b.jpg", b"3"), ("b.txt", b"4")]
BOTH = {"a": {"jpg": b"1", "txt": b"2"}, "b": {"jpg": b"3", "txt": b"4"}}


def tar(*files: File, format: int = tarfile.PAX_FORMAT, **options) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format, **options) as packed:
        for name, content in files:
            info = tarfile.TarInfo(name)
            if isinstance(content, str):
                kind, _, info.linkname = content.partition(":")
                info.type = KINDS[kind]
            info.size = len(content) if isinstance(content, bytes) else 0
            packed.addfile(info, io.BytesIO(content if isinstance(content, bytes) else b""))
    return file.getvalue()


def with_damaged_header(data: bytes) -> bytes:
    return data[:1024] + b"?" + data[1025:]


def sparse() -> bytes:
    info = tarfile.TarInfo("a.jpg")
    info.pax_headers = {"GNU.sparse.map": "0,1", "GNU.sparse.size": "1"}
    info.size = 1
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as packed:
        packed.addfile(info, io.BytesIO(b"1"))
    return file.getvalue()


Samples = dict[str, dict[str, bytes]]
LONG = "long/" * 30 + "é" * 120
READ_ALIKE: dict[str, tuple[bytes, Samples, bool]] = {
    "PAX, of one file": (tar((f"{LONG}.jpg", b"1")), {LONG: {"jpg": b"1"}}, True),
    "PAX, global": (tar(*A, pax_headers={"comment": "é" * 2000}), {"a": BOTH["a"]}, True),
    "GNU long names": (tar((f"{LONG}.jpg", b"1"), format=tarfile.GNU_FORMAT), {LONG: {"jpg": b"1"}}, True),
    "folders": (tar(("x", "folder:"), ("x/a.jpg", b"1")), {"x/a": {"jpg": b"1"}}, True),
    "./ in front": (tar(("./a.jpg", b"1"), ("./x/b.jpg", b"2")), {"./a": {"jpg": b"1"}, "./x/b": {"jpg": b"2"}}, True),
    "dots in names": (tar(("x.y/a.seg.PNG", b"1")), {"x.y/a": {"seg.png": b"1"}}, True),
    "nested keys": (tar(("x/a.jpg", b"1"), ("y/a.jpg", b"2")), {"x/a": {"jpg": b"1"}, "y/a": {"jpg": b"2"}}, True),
    "members that some samples lack": (tar(*A, ("b.jpg", b"3")), {"a": BOTH["a"], "b": {"jpg": b"3"}}, True),
    "empty members": (tar(("a.jpg", b"")), {"a": {"jpg": b""}}, True),
    "no members": (tar(), {}, True),
    "no extension": (tar(("README", b"1"), *A), {"a": BOTH["a"]}, True),
    "hard links": (tar(*A, ("b.jpg", "hard:a.jpg"), ("b.txt", b"4")), {"a": BOTH["a"], "b": {"txt": b"4"}}, False),
    "symbolic links": (tar(*A, ("b.jpg", "soft:a.jpg"), ("b.txt", b"4")), {"a": BOTH["a"], "b": {"txt": b"4"}}, False),
    "concatenated archives": (tar(*A) + tar(*B), {"a": BOTH["a"]}, False),
    "no end mark": (tar(*A)[:2048], {"a": BOTH["a"]}, False),
}  # fmt: skip
"""Name of the case: its bytes, the samples for everyone, and whether `tarloom verify` finds nothing to mend."""


REFUSED: dict[str, tuple[bytes, int, str | None]] = {
    "members apart": (tar(A[0], B[0], A[1]), 3, None),
    "members twice": (tar(*A, ("b.txt", b"0"), *B), 1, "ValueError"),
    "members twice, but for the case": (tar(*A, ("b.TXT", b"0"), *B), 1, "ValueError"),
    "cut inside a member": (tar(*A, ("b.jpg", bytes(3000)))[:3000], 0, "ReadError"),
    "damaged header": (with_damaged_header(tar(*A, *B)), 1, None),
    "no bytes": (b"", 0, "ReadError"),
    "no tar": (b"no tar " * 200, 0, "ReadError"),
    "sparse files": (sparse(), 1, None),
    "names that are not UTF-8": (
        tar(("caf\udce9.jpg", b"1"), format=tarfile.GNU_FORMAT, encoding="utf-8", errors="surrogateescape"), 1, None,
    ),
    "an extension __key__": (tar(("a.__key__", b"1")), 0, "ValueError"),
    "cut gzip": (gzip.compress(tar(*A, ("b.jpg", bytes(range(256)) * 200)))[:300], 0, "ReadError"),
}  # fmt: skip
"""Name of the case: its bytes, how many samples webdataset yields, and its error where it raises one. We refuse all."""


OURS_ALONE: dict[str, tuple[bytes, list[str], Samples]] = {
    "hidden files": (tar(("x/.h", b"1"), ("__MACOSX/._a.jpg", b"2"), *A), ["x/", "__MACOSX/", "a"], {"a": BOTH["a"]}),
    "x.tar.gz": (gzip.compress(tar(*A, *B)), ["a", "b"], BOTH),
    "x.tgz": (gzip.compress(tar(*A, *B)), ["a", "b"], BOTH),
    "x.tar.gz of two streams": (gzip.compress(tar(*A, *B)[:2048]) + gzip.compress(tar(*A, *B)[2048:]), ["a"], BOTH),
    "x.tar.bz2 of two streams": (bz2.compress(tar(*A, *B)[:2048]) + bz2.compress(tar(*A, *B)[2048:]), ["a"], BOTH),
    "x.tar.xz of two streams": (lzma.compress(tar(*A, *B)[:2048]) + lzma.compress(tar(*A, *B)[2048:]), ["a"], BOTH),
    "x.tar.zst": (zstandard.ZstdCompressor().compress(tar(*A, *B)), [], BOTH),
}  # fmt: skip
"""Name of the case: its bytes, webdataset's keys, our samples."""
CASES = READ_ALIKE | REFUSED | OURS_ALONE
Read = dict[str, tuple[list[tuple[str, dict[str, bytes]]], str | None]]


@pytest.fixture(scope="module")
def tars(tmp_path_factory) -> dict[str, Path]:
    """A folder with one tar for each case."""
    found = {}
    for name, (data, *_) in CASES.items():
        folder = tmp_path_factory.mktemp("foreign")
        found[name] = folder / (name.split()[0] if name.startswith("x.") else "x.tar.gz" if "gzip" in name else "x.tar")
        found[name].write_bytes(data)
    return found


@pytest.fixture(scope="module", params=["the one we install", "webdataset-0.2.111"])
def theirs(request, tars) -> Read:
    """What a webdataset makes of each: the samples, and the error that it ends with."""
    python = Path(sys.executable) if request.param == "the one we install" else peer_python(request.param)
    printed = run_python(python, Path(__file__).with_name("print_each_tar.py"), *tars.values())
    found: Read = {}
    for name, line in zip(tars, printed.splitlines(), strict=True):
        samples, error = json.loads(line)
        found[name] = (
            [(key, {member: bytes.fromhex(data) for member, data in members.items()}) for key, members in samples],
            error,
        )
    return found


def test_webdataset_reads_each_as_the_table_says(theirs):
    for name, (_, samples, _) in READ_ALIKE.items():
        assert theirs[name] == (list(samples.items()), None), name
    told = {name: (count, error) for name, (_, count, error) in REFUSED.items()}
    assert {name: (len(theirs[name][0]), theirs[name][1]) for name in REFUSED} == told
    for name, (_, keys, _) in OURS_ALONE.items():
        assert [key for key, _ in theirs[name][0]] == keys, name


def samples_of(path: Path) -> list[tuple[str, dict[str, bytes]]]:
    return [
        (sample["__key__"], {name: data for name, data in sample.items() if not name.startswith("__")})
        for sample in tarloom.open(path)
    ]


def damage(path: Path) -> list[str]:
    return [finding.problem for finding in findings(path) if finding.kind == "damage"]


@pytest.mark.parametrize("name", READ_ALIKE)
def test_we_read_what_webdataset_reads(tars, name):
    _, samples, is_sound = READ_ALIKE[name]
    assert samples_of(tars[name]) == list(samples.items())
    assert is_sound == (not damage(tars[name]))


@pytest.mark.parametrize("name", REFUSED)
def test_we_refuse_by_name_what_readers_stumble_over(tars, name):
    with pytest.raises(ShardError, match=tars[name].name):
        samples_of(tars[name])
    assert damage(tars[name])


@pytest.mark.parametrize("name", OURS_ALONE)
def test_we_read_more_compressed_tars_and_no_hidden_files(tars, name):
    assert samples_of(tars[name]) == list(OURS_ALONE[name][2].items())
    assert damage(tars[name]) == []
