"""Reading over the wire, from a real S3 server: the same rows, through ranges that are read ahead."""

import pytest

import tarloom
from tarloom.errors import StorageError, UsageError
from tarloom.format.storage import open_storage, streams
from tarloom.read.readers import ScanJob
from tarloom.read.scan import ScanConfig
from tests.read.sample_sets import digest_of, packed_samples


@pytest.fixture
def remote(packed, s3_folder) -> str:
    """The packed dataset in an object store."""
    storage = open_storage(s3_folder)
    for path in packed.rglob("*.*"):
        storage.write(str(path.relative_to(packed)), path.read_bytes())
    return s3_folder


def test_readers_of_this_process_read_the_same(remote):
    for reader in ("plain", "webdataset", "torch"):
        job = ScanJob(reader, ScanConfig(path=remote, digest=True, batch_size=9))
        assert sum(tally.rows for tally in job) == len(packed_samples(2))
        assert job.summary().digest == digest_of(packed_samples(2))


def test_samples_and_columns_are_the_same(packed, remote):
    names = ("txt", "width", "clip.embedding")
    here, there = tarloom.open(packed).select(*names), tarloom.open(remote).select(*names)
    assert [batch.to_pylist() for batch in there.batches(9)] == [batch.to_pylist() for batch in here.batches(9)]
    assert {sample["__url__"] for sample in there} == {f"{remote}/0000{n}.tar" for n in range(2)}


def test_conditions_counts_tables_and_samples_by_chance_are_the_same(packed, remote):
    here, there = (
        tarloom.open(path).where("__key__ LIKE '%1' AND clip.status = 'success'") for path in (packed, remote)
    )
    assert there.count() == here.count() > 0
    assert there.table("width", "clip.embedding").equals(here.table("width", "clip.embedding"))
    for ours, theirs in zip(here.sample(3, seed=5), there.sample(3, seed=5), strict=True):
        assert theirs | {"__url__": ours["__url__"]} == ours
    names = ("jpg", "caption.text")
    found = [batch.to_pylist() for batch in there.select(*names).batches(4)]
    assert found == [batch.to_pylist() for batch in here.select(*names).batches(4)]


def test_a_stream_of_a_tar_reads_in_chunks_and_seeks(packed, remote, monkeypatch):
    monkeypatch.setattr(streams, "CHUNK_BYTES", 1000)
    storage, expected = open_storage(remote), (packed / "00000.tar").read_bytes()
    with streams.open_stream(storage, storage.head("00000.tar")) as stream:
        assert stream.read() == expected
        assert stream.seek(-700, 2) == len(expected) - 700
        assert stream.read(300) == expected[-700:-400]


def test_an_empty_prefix_and_a_missing_bucket_end_with_one_clear_line(s3_folder):
    with pytest.raises(UsageError, match="no shard"):
        tarloom.open(s3_folder)
    with pytest.raises(StorageError, match="no-such-bucket"):
        tarloom.open("s3://no-such-bucket-anywhere/x")
