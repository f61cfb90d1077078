"""Members come from where the index says, in any selection and any cut, and no sample gets another's bytes."""

import dataclasses
import gzip
import io
import os
import random
import shutil
import tarfile

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tarloom
from tarloom.errors import StaleIndex, StorageError
from tarloom.format.index_load import scan_index
from tarloom.format.storage import open_storage
from tarloom.read.samples import batches, trust
from tarloom.read.samples.batches import read_piece, read_samples
from tests.format.raw import write_tar
from tests.read.sample_sets import digest_of, nasty_samples

ROWS = 60
MEMBERS = ("jpg", "json", "txt")


def wild_samples(seed: int = 0):
    """Samples that lack members at random, of which some are empty and some large."""
    dice = random.Random(seed)
    sizes = (0, 1, 511, 512, 513, 3000, 40_000, 200_000)
    for row in range(ROWS):
        present = [member for member in MEMBERS if dice.random() < 0.8] or ["txt"]
        yield f"{row:03d}", {member: dice.randbytes(dice.choice(sizes)) for member in present}


@pytest.fixture(scope="module")
def wild(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wild")
    write_tar(folder / "00000.tar", wild_samples())
    return folder


@pytest.fixture(scope="module")
def places(wild, s3):
    """The dataset on the disk, and the same in an object store."""
    url = s3.folder("wild")
    open_storage(url).write("00000.tar", (wild / "00000.tar").read_bytes())
    return [tarloom.open(wild), tarloom.open(url)]


@settings(deadline=None, max_examples=60)
@given(
    st.sets(st.integers(0, ROWS - 1), min_size=1),
    st.lists(st.sampled_from(MEMBERS), min_size=1, max_size=3, unique=True),
    st.integers(1, ROWS),
)
def test_any_rows_and_members_in_any_cut_are_those_of_the_tar(places, rows, members, batch_rows):
    expected = [sample for row, sample in enumerate(wild_samples()) if row in rows]
    for dataset in places:
        (whole,) = dataset.select(*members).pieces()
        numbers = tuple(sorted(rows))
        piece = dataclasses.replace(whole, first=numbers[0], last=numbers[-1] + 1, only=numbers)
        table = pa.Table.from_batches(read_piece(piece, batch_rows=batch_rows), piece.view.schema)
        assert table["__key__"].to_pylist() == [key for key, _ in expected]
        for member in members:
            assert table[member].to_pylist() == [found.get(member) for _, found in expected]
        views = pa.Table.from_batches(read_piece(piece, batch_rows=batch_rows, memory_map=True))
        assert {views.schema.field(member).type for member in members} == {pa.binary_view()}
        assert views.cast(table.schema).equals(table)
        samples = list(read_samples(piece, batch_rows=batch_rows))
        wanted = [{name: data for name, data in found.items() if name in members} for _, found in expected]
        assert [{name: sample[name] for name in members if name in sample} for sample in samples] == wanted


def test_a_header_that_was_changed_between_others_is_noticed(wild, tmp_path):
    path = shutil.copytree(wild, tmp_path / "copy") / "00000.tar"
    pieces = tarloom.open(path.parent).pieces()
    times = path.stat()
    write_tar(path, [(("999" if key == f"{ROWS // 2:03d}" else key), members) for key, members in wild_samples()])
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    for memory_map in (False, True):
        with pytest.raises(StaleIndex, match=r"00000\.tar: was changed after its index was made; remove"):
            [batch for piece in pieces for batch in read_piece(piece, memory_map=memory_map)]


@pytest.fixture
def large(monkeypatch):
    """All members count as large ones: they are read as bytes objects."""
    monkeypatch.setattr("tarloom.read.samples.members._APART_BYTES", 0)


@pytest.mark.usefixtures("large")
def test_large_members_of_nasty_tars_are_those_of_their_samples(nasty):
    samples = [(s.pop("__key__"), s.pop("__url__") and s) for s in tarloom.open(nasty)]
    assert digest_of(samples) == digest_of(nasty_samples())


@pytest.mark.usefixtures("large")
def test_no_large_member_comes_of_a_tar_that_was_cut_or_changed_since_it_was_read(wild, tmp_path):
    path = shutil.copytree(wild, tmp_path / "copy") / "00000.tar"
    (piece,), times = tarloom.open(path.parent).pieces(), path.stat()
    assert len(list(read_samples(piece))) == ROWS
    os.truncate(path, times.st_size // 2)
    with pytest.raises(StorageError, match=r"00000\.tar: ends before"):
        list(read_samples(piece))
    write_tar(path, [(key[::-1], found) for key, found in wild_samples()])
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(StaleIndex, match=r"00000\.tar: was changed after its index was made; remove"):
        list(read_samples(piece))


STEMS = {"not ASCII": "{}", "long": "{}" + "x" * 120, "long folders": "x" * 90 + "/{}" + "y" * 90}


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
@pytest.mark.parametrize("stem", STEMS.values(), ids=STEMS)
def test_names_that_plain_headers_do_not_hold_are_proven_by_those_in_front_of_them(tmp_path, stem, format):
    keys = [stem.format(letter) for letter in "猫犬鳥"]
    samples = [(key, {"n": bytes([row])}) for row, key in enumerate(keys)]
    path = tmp_path / "00000.tar"
    write_tar(path, [samples[0], ("__MACOSX/a", {"n": b"no"}), *samples[1:]], format=format)
    dataset = tarloom.open(tmp_path)
    assert [(sample["__key__"], sample["n"]) for sample in dataset.select("n")] == [(k, m["n"]) for k, m in samples]
    (batch,) = dataset.batches(memory_map=True)
    assert batch["n"].to_pylist() == [members["n"] for _, members in samples]
    times = path.stat()
    write_tar(path, [samples[2], ("__MACOSX/a", {"n": b"no"}), *samples[:2]], format=format)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    for read in (iter, lambda dataset: dataset.batches(memory_map=True)):
        with pytest.raises(StaleIndex, match=r"00000\.tar: was changed after its index was made; remove"):
            list(read(dataset.select("n")))


def test_names_that_are_not_ascii_are_proven_without_another_walk_over_the_tar(tmp_path, monkeypatch):
    write_tar(tmp_path / "00000.tar", [(f"猫{row}", {"n": b"1"}) for row in range(3)])
    (piece,) = tarloom.open(tmp_path).pieces()
    monkeypatch.delattr(trust, "scan_index")
    assert sum(batch.num_rows for batch in read_piece(piece)) == 3


@pytest.mark.parametrize("suffix", ["tar", "tar.gz"])
@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_names_behind_large_files_of_no_sample_are_proven_without_another_walk_over_the_tar(
    tmp_path, monkeypatch, format, suffix
):
    stray = (".DS_Store" + "x" * 100, {"n": bytes(100_000)})
    samples = [(f"猫{row}" + "x" * 100, {"n": bytes([row])}) for row in range(3)]
    path = tmp_path / "00000.tar"
    write_tar(path, [stray, samples[0], stray, stray, *samples[1:]], format=format)
    if suffix != "tar":
        (tmp_path / f"00000.{suffix}").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    (piece,) = tarloom.open(tmp_path).pieces()
    monkeypatch.delattr(trust, "scan_index")
    assert [sample["n"] for sample in read_samples(piece, batch_rows=1)] == [members["n"] for _, members in samples]


def test_names_that_just_fill_a_plain_header_are_proven_by_a_long_one_in_front_of_them(tmp_path, monkeypatch):
    name, path = "x" * 98 + ".n", tmp_path / "00000.tar"
    link = tarfile.TarInfo("././@LongLink")
    link.type, link.size = tarfile.GNUTYPE_LONGNAME, len(name) + 1
    plain = tarfile.TarInfo(name[:99])
    plain.size = 1
    headers = [found.tobuf(tarfile.GNU_FORMAT) for found in (link, plain)]
    path.write_bytes(name.encode().ljust(512, b"\0").join(headers) + b"1".ljust(512 + 1024, b"\0"))
    (piece,) = tarloom.open(tmp_path).pieces()
    monkeypatch.delattr(trust, "scan_index")
    assert [(sample["__key__"], sample["n"]) for sample in read_samples(piece)] == [("x" * 98, b"1")]


def write_renamed(path, letters: str) -> None:
    """Members whose plain headers name others: only a walk over the tar tells them."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for row, letter in enumerate(letters):
            info = tarfile.TarInfo(f"{row}.n")
            info.size, info.pax_headers = 1, {"path": f"{letter}.n"}
            tar.addfile(info, io.BytesIO(letter.encode()))


def test_a_tar_is_walked_again_once_for_all_its_chunks_and_again_when_it_has_changed(tmp_path, monkeypatch):
    path = tmp_path / "00000.tar"
    write_renamed(path, "ab")
    dataset, walks = tarloom.open(tmp_path), []
    monkeypatch.setattr(trust, "scan_index", lambda *args: walks.append(args) or scan_index(*args))
    (piece,) = dataset.pieces()
    for _ in range(2):
        assert [sample["n"] for sample in read_samples(piece, batch_rows=1)] == [b"a", b"b"]
    assert len(walks) == 1
    write_renamed(path, "ba")
    with pytest.raises(StaleIndex, match=r"00000\.tar: was changed after its index was made; remove"):
        list(read_samples(piece, batch_rows=1))


def test_a_tar_that_is_cut_while_it_is_read_is_named(wild, tmp_path, monkeypatch):
    monkeypatch.setattr(batches, "READ_BYTES", 1000)
    path = shutil.copytree(wild, tmp_path / "copy") / "00000.tar"
    (piece,) = tarloom.open(path.parent).pieces()
    reading = read_piece(piece)
    assert next(reading).num_rows >= 1
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(StorageError, match=r"00000\.tar: ends before a range that was asked for"):
        list(reading)


def test_reading_holds_a_few_batches_whatever_the_size_of_the_tar(tmp_path, s3_folder, monkeypatch):
    for limit in ("BATCH_BYTES", "READ_BYTES"):
        monkeypatch.setattr(batches, limit, 1 << 20)
    write_tar(tmp_path / "00000.tar", ((f"{row:04d}", {"bin": bytes(50_000)}) for row in range(1000)))
    open_storage(s3_folder).write("00000.tar", (tmp_path / "00000.tar").read_bytes())
    for place in (tmp_path, s3_folder):
        before, rows, held = pa.total_allocated_bytes(), 0, 0
        for batch in tarloom.open(place).batches():
            rows, held = rows + batch.num_rows, max(held, pa.total_allocated_bytes() - before)
        assert (rows, held < 5 << 20) == (1000, True), f"{place}: {held} bytes of {rows * 50_000}"


@pytest.mark.slow
def test_a_member_of_more_than_two_gigabytes_comes_alone_and_whole(tmp_path):
    size = (2 << 30) + 5
    path = tmp_path / "00000.tar"
    write_tar(path, [("a", {"txt": b"before"}), ("b", {"bin": b"", "txt": b"x"}), ("c", {"txt": b"behind"})])
    _grow(path, "b.bin", size)
    reading = tarloom.open(tmp_path).select("bin").batches()
    assert [(batch.num_rows, batch.schema.field("bin").type) for batch in [next(reading)]] == [(1, pa.binary())]
    batch = next(reading)
    assert batch.schema.field("bin").type == pa.large_binary()
    value = batch["bin"][0].as_buffer()
    assert (value.size, value[-5:].to_pybytes(), value[:5].to_pybytes()) == (size, b"ends!", bytes(5))


def _grow(path, name: str, size: int) -> None:
    """Put so many bytes, a hole but for the last ones, into an empty member."""
    with tarfile.open(path) as tar:
        member = tar.getmember(name)
        start, rest = member.offset_data, path.read_bytes()[member.offset_data :]
    member.size = size
    header = member.tobuf(tarfile.USTAR_FORMAT)
    with open(path, "r+b") as file:
        file.seek(start - len(header))
        file.write(header)
        file.truncate(start)
        file.seek(start + size - 5)
        file.write(b"ends!" + bytes(-size % 512) + rest)
