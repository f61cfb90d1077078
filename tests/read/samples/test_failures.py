"""What cannot be read is the end, left out and counted, or a row with an error: a sample, a shard with all of its."""

import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tarloom
from tarloom.errors import BadSample, StaleSidecar, TooManyErrors, TruncatedShard, UsageError
from tarloom.read.ledger import Ledger
from tarloom.read.readers import ScanJob
from tarloom.read.samples.as_python import as_python
from tarloom.read.samples.chunk import Chunk
from tarloom.read.scan import ScanConfig
from tests.format.raw import write_parquet, write_sidecar, write_tar
from tests.read.sample_sets import packed_samples
from tests.read.samples.test_decode import encoded, picture
from tests.source_tree import ROOT

BAD = {2: "jpg", 3: "json", 17: "jpg"}
ROWS = 20
NAMES = {"jpg": "not_an_image", "json": "bad_json"}


@pytest.fixture(scope="module")
def flawed(tmp_path_factory) -> Path:
    """Two shards of pictures with JSON, of which some are neither."""
    folder = tmp_path_factory.mktemp("flawed")
    samples = [(f"{row:03d}", {"jpg": encoded(picture()), "json": b"{}"}) for row in range(ROWS)]
    for row, member in BAD.items():
        samples[row][1][member] = b"oops"
    write_tar(folder / "0.tar", samples[:10])
    write_tar(folder / "1.tar", samples[10:])
    return folder


@pytest.fixture
def broken(packed, tmp_path) -> Path:
    """A whole shard, one that cannot be opened, and a whole one."""
    for name, size in (("a", None), ("b", 20_000), ("c", None)):
        source = packed / ("00001.tar" if name == "c" else "00000.tar")
        (tmp_path / f"{name}.tar").write_bytes(source.read_bytes()[:size])
    return tmp_path


def decoded(path: Path) -> tarloom.Dataset:
    return tarloom.open(path).decoding("rgb", json="json")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:3000])


def test_the_first_error_is_the_end_unless_it_is_said_otherwise(flawed):
    with pytest.raises(BadSample, match=r"0\.tar: 002: not_an_image: jpg"):
        list(decoded(flawed).batches())


@pytest.mark.parametrize("batch_rows", [1, 3, 1024])
def test_failed_samples_are_left_out_and_counted(flawed, batch_rows):
    ds = decoded(flawed).on_error("skip")
    keys = [key for batch in ds.batches(batch_rows) for key in batch["__key__"].to_pylist()]
    assert keys == [f"{row:03d}" for row in range(ROWS) if row not in BAD]
    assert ds.ledger.counts == {"not_an_image": 2, "bad_json": 1}
    found = [(Path(entry.where).name, entry.key, entry.name) for entry in ds.ledger.entries]
    assert found == [(f"{row // 10}.tar", f"{row:03d}", NAMES[member]) for row, member in BAD.items()]


def test_failed_samples_are_rows_without_members(flawed):
    ds = decoded(flawed).on_error("row")
    for row, (sample, record) in enumerate(zip(ds, (r for b in ds.batches(7) for r in b.to_pylist()), strict=True)):
        assert sample["__key__"] == record["__key__"] == f"{row:03d}"
        assert sample["__error__"] == record["__error__"]
        if row in BAD:
            assert sample["__error__"].startswith(f"{NAMES[BAD[row]]}: {flawed}/{row // 10}.tar: {BAD[row]}: ")
            assert (record["jpg"], record["json"], "jpg" in sample) == (None, None, False)
        else:
            assert sample["__error__"] is None
    assert ds.schema.names == ["__key__", "jpg", "json", "__error__"]
    assert ds.ledger.rows == 2 * len(BAD)  # read twice


@pytest.mark.parametrize("nested", [False, True])
def test_a_time_that_python_has_not_is_a_failure_of_its_sample_and_whole_in_a_batch(tmp_path, nested):
    samples = [(f"{row}", {"txt": b"x"}) for row in range(100)]
    write_tar(tmp_path / "a.tar", samples)
    times = pa.array([2**62 if row == 70 else row for row in range(100)], pa.timestamp("us"))
    taken = pa.ListArray.from_arrays(pa.array(range(101), pa.int32()), times) if nested else times
    write_parquet(tmp_path / "a.parquet", {"key": [k for k, _ in samples], "status": ["success"] * 100, "taken": taken})
    ds = tarloom.open(tmp_path).select("taken", "txt")
    with pytest.raises(BadSample, match=r"a\.tar: 70: bad_value: taken is no time that Python has"):
        list(ds)
    skipping = ds.on_error("skip")
    assert [sample["__key__"] for sample in skipping] == [key for key, _ in samples if key != "70"]
    assert skipping.ledger.counts == {"bad_value": 1}
    rows = list(ds.on_error("row"))
    assert [(row["__key__"], row["taken"]) for row in rows if row["__error__"]] == [("70", None)]
    assert pa.Table.from_batches(ds.batches())["taken"].combine_chunks().equals(taken)


@pytest.mark.parametrize("nested", [False, True])
def test_a_text_that_is_not_utf8_is_a_failure_of_its_sample_and_whole_in_a_batch(tmp_path, nested):
    samples = [(f"{row}", {"txt": b"x"}) for row in range(4)]
    write_tar(tmp_path / "a.tar", samples)
    texts = pa.Array.from_buffers(pa.string(), 4, pa.array([b"a", None, b"\xff", b"d"]).buffers())
    said = pa.ListArray.from_arrays(pa.array(range(5), pa.int32()), texts) if nested else texts
    write_parquet(tmp_path / "a.parquet", {"key": [k for k, _ in samples], "status": ["success"] * 4, "said": said})
    ds = tarloom.open(tmp_path).select("said")
    with pytest.raises(BadSample, match=r"a\.tar: 2: bad_value: said is no text, as it is not UTF-8"):
        list(ds)
    assert [sample["__key__"] for sample in ds.on_error("skip")] == ["0", "1", "3"]
    assert pa.Table.from_batches(ds.batches())["said"].combine_chunks().equals(said)


def test_a_feed_ends_at_a_bad_value_with_advice_that_holds_for_feeds(tmp_path):
    samples = [(f"{row}", {"txt": b"x"}) for row in range(8)]
    write_tar(tmp_path / "a.tar", samples)
    said = pa.Array.from_buffers(pa.string(), 8, pa.array([b"a", b"\xff"] * 4).buffers())
    write_parquet(tmp_path / "a.parquet", {"key": [k for k, _ in samples], "status": ["success"] * 8, "said": said})
    ds = tarloom.open(tmp_path).select("said")
    with pytest.raises(BadSample, match=r"said is no text.*; mend it, leave it out by a condition, or, but in a feed"):
        list(ds.to_numpy(4, seed=1))
    conditioned = ds.where("__key__ IN ('0', '2', '4', '6')").to_numpy(4, seed=1)
    assert [(sorted(batch["__key__"]), batch["said"]) for batch in conditioned] == [(["0", "2", "4", "6"], ["a"] * 4)]


@pytest.mark.parametrize("row", range(3))
@pytest.mark.parametrize("kind", [pa.timestamp("s", "Europe/Paris"), pa.timestamp("ms"), pa.date32()])
def test_a_time_that_python_has_not_is_found_wherever_it_stands(kind, row):
    numbers = [None if row else 5, 6, 7, 8]
    numbers[row + 1] = 2**31 - 1 if kind.bit_width == 32 else -(2**60)
    values = pa.array(numbers, pa.int32() if kind.bit_width == 32 else pa.int64()).cast(kind)
    chunk = Chunk(keys=pa.array(["a", "b", "c", "d"]), members={}, columns={"taken": values})
    (found,) = as_python(iter([chunk]), "a.tar")
    assert list(found.errors) == [row + 1]
    assert [value for i, value in enumerate(values) if i != row + 1] == [
        value for i, value in enumerate(found.columns["taken"]) if i != row + 1
    ]


def test_a_shard_that_cannot_be_opened_is_in_the_ledger_alone(broken):
    ds = tarloom.open(broken).select("txt").on_error("skip")
    assert len(ds) == len(list(ds)) == len(packed_samples(2))
    (entry,) = ds.ledger.entries
    assert (entry.where, entry.name, entry.key, entry.rows) == (f"{broken}/b.tar", "truncated_shard", None, 0)
    assert ds[packed_samples(2)[-1][0]]["txt"] == b"a caption"


def test_a_shard_that_cannot_be_opened_ends_what_shall_read_all(broken):
    ds = tarloom.open(broken).select("txt")
    with pytest.raises(TruncatedShard, match=r"b\.tar"):
        len(ds)
    with pytest.raises(TruncatedShard, match=r"b\.tar"):
        iter(ds)
    with pytest.raises(TruncatedShard, match=r"b\.tar"):
        ds.select("member-that-may-be-in-it")


def test_a_dataset_of_nothing_but_broken_shards_has_no_rows(broken):
    for name in ("a", "c"):
        cut(broken / f"{name}.tar")
    ds = tarloom.open(broken).on_error("skip")
    assert (list(ds), ds.ledger.counts) == ([], {"truncated_shard": 3})


@pytest.mark.parametrize("policy", ["skip", "row"])
def test_a_shard_that_breaks_while_it_is_read_loses_its_samples_as_one_failure(packed, tmp_path, policy):
    folder = shutil.copytree(packed, tmp_path / "copy")
    ds = tarloom.open(folder).select("txt", "width").on_error(policy, ledger=Ledger(max_in_a_row=1))
    first, second = (packed_samples(2)[: len(packed_samples(1))], packed_samples(2)[len(packed_samples(1)) :])
    assert len(ds) == len(first) + len(second)
    cut(folder / "00000.tar")
    samples = list(ds)
    (entry,) = ds.ledger.entries
    assert (entry.name, entry.rows, entry.key) == ("stale_index", len(first), None)
    lost = samples[: -len(second)]
    assert [sample["__key__"] for sample in samples[-len(second) :]] == [key for key, _ in second]
    assert len(lost) == (len(first) if policy == "row" else 0)
    for sample in lost:
        assert sample["__error__"].startswith(f"stale_index: {folder}/00000.tar: ")
        assert (sample["__key__"], sample["width"], "txt" in sample) == (None, None, False)  # its index is not believed


def test_rows_of_a_shard_that_is_gone_have_their_keys_while_there_is_an_index(tmp_path, packed):
    shutil.copy(packed / "00000.tar", tmp_path / "a.tar")
    ds = tarloom.open(tmp_path).on_error("row")
    rows = len(ds)
    (tmp_path / "a.tar").unlink()
    keys = [key for batch in ds.batches(7) for key in batch["__key__"].to_pylist()]
    assert keys == [key for key, _ in packed_samples(1)]
    assert (ds.ledger.rows, ds.ledger.counts) == (rows, {"storage_error": rows})


@pytest.fixture
def stale(packed, tmp_path) -> Path:
    """The packed dataset; the captions of the second shard were made for another version of it."""
    folder = shutil.copytree(packed, tmp_path / "stale")
    keys = pq.read_table(packed / "00001.caption.parquet")["__key__"].to_pylist()
    write_sidecar(folder, "00001", "caption", keys, {"text": ["hello"] * len(keys)}, "sha256:other")
    return folder


@pytest.mark.parametrize("policy", ["skip", "row"])
def test_of_rows_that_are_picked_no_others_fail_with_them(stale, policy, caplog):
    ds = tarloom.open(stale).select("caption.text").on_error(policy)
    samples = list(ds.sample(8, seed=1))
    sound = [sample for sample in samples if sample.get("__error__") is None]
    assert [sample["__key__"] for sample in ds.sample(8, seed=1)] == [sample["__key__"] for sample in samples]
    assert 0 < len(sound) < 8
    assert len(samples) == (len(sound) if policy == "skip" else 8)
    assert (f"{8 - len(sound)} samples left out" in caplog.text) == (policy == "skip")
    assert {sample["__key__"] for sample in samples} <= {key for key, _ in packed_samples(2)}


@pytest.mark.parametrize("policy", ["skip", "row"])
def test_samples_are_counted_and_picked_by_a_condition_as_they_are_read_where_a_table_is_no_use(stale, policy):
    ds = tarloom.open(stale).where("caption.text = 'hello'").select("txt").on_error(policy)
    keys = [key for key, _ in packed_samples(2 if policy == "row" else 1)]
    assert [sample["__key__"] for sample in ds] == keys
    assert ds.ledger.counts == {"stale_sidecar": len(packed_samples(1))}
    assert len(ds) == ds.count() == len(list(ds)) == len(keys)
    assert [sample["__key__"] for sample in ds.sample(1000)] == keys
    assert {sample["__key__"] for sample in ds.sample(8)} <= set(keys)
    assert (packed_samples(2)[-1][0] in ds) == (policy == "row")


@pytest.mark.parametrize(("policy", "shards"), [("skip", 1), ("row", 2)])
def test_a_scan_by_a_condition_goes_on_where_a_table_is_no_use(stale, policy, shards):
    job = ScanJob("plain", ScanConfig(path=str(stale), where="caption.text = 'hello'", on_error=policy))
    for _ in job:
        pass
    assert job.summary().rows == len(packed_samples(shards))
    assert job.summary().errors == {"stale_sidecar": len(packed_samples(1))}


def test_a_condition_that_cannot_be_asked_is_the_end_unless_it_is_said_otherwise(stale):
    with pytest.raises(StaleSidecar, match=r"00001\.caption\.parquet"):
        len(tarloom.open(stale).where("caption.text = 'hello'"))


def test_limits_end_the_reading_with_the_last_entries(flawed):
    ds = decoded(flawed).on_error("skip", ledger=Ledger(max_in_a_row=1))
    with pytest.raises(TooManyErrors, match=r"in a row: 2, max_in_a_row is 1; .*: 002: .* \| .*: 003: bad_json"):
        list(ds)
    ds = decoded(flawed).on_error("row", ledger=Ledger(max_skipped=2))
    with pytest.raises(TooManyErrors, match=r"max_skipped is 2; .*1\.tar: 017: not_an_image"):
        list(ds)


def test_a_dataset_with_a_ledger_is_picklable_and_equal_to_its_copy(flawed):
    ds = decoded(flawed).on_error("skip")
    assert len(list(pickle.loads(pickle.dumps(ds)))) == ROWS - len(BAD)
    assert ds.ledger.rows == 0


def test_batches_without_a_ledger_say_what_they_leave_out(flawed, caplog):
    from tarloom.read.samples.batches import read_piece

    for piece in decoded(flawed).on_error("skip").pieces():
        list(read_piece(piece))
    assert ["0.tar: 2 samples left out: " in caplog.text, "1.tar: 1 samples left out: " in caplog.text] == [True, True]


def scanned(path: Path, **options) -> tuple[ScanJob, list[str]]:
    job = ScanJob("plain", ScanConfig(path=str(path), decode=("rgb", "json=json"), **options))
    return job, [sample for tally in job for sample in tally.samples]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_scan_counts_writes_and_limits_what_it_skips(flawed, tmp_path, workers):
    job, _ = scanned(flawed, on_error="skip", num_workers=workers, ledger=str(tmp_path / "ledger"), batch_size=4)
    summary = job.summary()
    assert (summary.rows, summary.skipped) == (ROWS - len(BAD), len(BAD))
    assert summary.errors == {"not_an_image": 2, "bad_json": 1}
    assert (tmp_path / "ledger").read_text().count("\n") == len(BAD)
    with pytest.raises(TooManyErrors, match="max_skipped is 1"):
        scanned(flawed, on_error="skip", num_workers=workers, max_skipped=1)


@pytest.mark.parametrize(
    ("options", "code"),
    [(["--on-error=skip"], 3), (["--on-error=row", "--max-skipped=5"], 0), (["--max-skipped=5"], 2)],
)
def test_the_exit_code_says_whether_more_was_lost_than_may_be(flawed, options, code):
    command = [sys.executable, "-m", "tarloom.cli", "read", "--path", str(flawed), "--decode", "rgb", "json=json"]
    done = subprocess.run([*command, *options, "--json"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    if code != 2:
        assert "but not all of it" in done.stdout
        assert json.loads(done.stdout.splitlines()[-1])["errors"] == {"not_an_image": 2, "bad_json": 1}


def test_a_scan_of_rows_counts_them_all(flawed):
    job, _ = scanned(flawed, on_error="row")
    assert (job.summary().rows, job.summary().skipped, job.total) == (ROWS, len(BAD), ROWS)


def test_limits_are_refused_where_the_first_error_is_the_end(flawed, tmp_path):
    with pytest.raises(UsageError, match="max_skipped is of no use where on_error is raise"):
        scanned(flawed, max_skipped=1)
    with pytest.raises(UsageError, match=r"no-folder/x: the ledger cannot be written: No such file"):
        scanned(flawed, on_error="skip", ledger=str(tmp_path / "no-folder" / "x"))


def test_the_same_skips_and_the_same_digest_whoever_scans(flawed):
    for policy in ("skip", "row"):
        found = {}
        for reader in ("plain", "torch"):
            config = ScanConfig(path=str(flawed), decode=("rgb", "json=json"), on_error=policy, digest=True)
            job = ScanJob(reader, config)
            assert sum(tally.rows for tally in job) == job.summary().rows
            found[reader] = (job.summary().digest, job.summary().rows, job.summary().errors)
        assert found["plain"] == found["torch"]
