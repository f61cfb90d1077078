"""Reading from an object store that throttles, resets, delays, stalls and cuts: the same digest, or a named error."""

import contextlib
import json
import random
import subprocess
import sys
from urllib.parse import urlsplit

import pytest

import tarloom
from tarloom.errors import StorageError
from tarloom.format.storage import open_storage
from tarloom.read.readers import ScanJob
from tarloom.read.scan import ScanConfig
from tests.format.raw import write_tar
from tests.read.sample_sets import digest_of
from tests.rude_proxy import SLOW_MANNERS, RudeProxy
from tests.s3_server import S3Server, environment_set
from tests.source_tree import ROOT

SHARDS, ROWS = 3, 100
TRIES = 10


def samples(shard: int):
    dice = random.Random(shard)
    return [(f"{shard}{row:05d}", {"jpg": dice.randbytes(10_000), "txt": b"text"}) for row in range(ROWS)]


@pytest.fixture(scope="module")
def stored(s3: S3Server, tmp_path_factory) -> str:
    """A dataset in the store, without indexes."""
    folder, storage = tmp_path_factory.mktemp("shards"), open_storage(s3.folder("read-through-a-rude-proxy"))
    for shard in range(SHARDS):
        write_tar(folder / f"{shard}.tar", samples(shard))
        storage.write(f"{shard}.tar", (folder / f"{shard}.tar").read_bytes())
    return storage.url


def proxy_of(s3: S3Server, **options) -> RudeProxy:
    place = urlsplit(s3.environment["AWS_ENDPOINT_URL"])
    return RudeProxy(place.hostname, place.port, **options)


def scanned(path: str, **options) -> ScanJob:
    job = ScanJob("plain", ScanConfig(path=path, digest=True, **options))
    for _ in job:
        pass
    return job


EXPECTED = digest_of(sample for shard in range(SHARDS) for sample in samples(shard))


@pytest.mark.usefixtures("fresh_clients")
def test_a_reader_gets_the_same_digest_through_a_rude_proxy(s3, stored, tmp_path, monkeypatch):
    monkeypatch.setenv("TARLOOM_CACHE", str(tmp_path))
    with proxy_of(s3, manners=SLOW_MANNERS) as proxy, environment_set({"AWS_ENDPOINT_URL": proxy.url}):
        for _ in range(TRIES):
            with contextlib.suppress(StorageError):  # as a user would, who is told to try again
                assert scanned(stored).summary().digest == EXPECTED
                break
        else:
            pytest.fail(f"never read to the end: {proxy.met}")
    assert {"delays", "throttles"} <= set(proxy.met)


@pytest.mark.usefixtures("fresh_clients")
@pytest.mark.parametrize(
    ("manner", "message"),
    [
        ("refuses", r"no answer from 127\.0\.0\.1"),
        ("throttles", r"wants fewer requests \(SlowDown\); use fewer workers"),
        ("stalls", "broke off or stalled again and again"),
        ("cuts the answer", "broke off or stalled again and again"),
    ],
)
def test_a_store_that_is_always_rude_ends_the_reading_with_its_name_within_the_deadline(s3, stored, manner, message):
    with proxy_of(s3, manners=(manner,)) as proxy, environment_set({"AWS_ENDPOINT_URL": proxy.url}):
        with pytest.raises(StorageError, match=rf"{stored}/0\.tar: .*{message}"):
            open_storage(stored).read_ranges("0.tar", [0], [500_000])
        assert proxy.met[manner] > 1  # it was tried again


@pytest.mark.usefixtures("fresh_clients")
def test_shards_that_cannot_be_had_any_more_are_left_out_and_counted(s3, stored):
    with proxy_of(s3, manners=("passes",)) as proxy, environment_set({"AWS_ENDPOINT_URL": proxy.url}):
        ds = tarloom.open(stored).on_error("skip")
        assert len(ds) == SHARDS * ROWS
        proxy.lasts = 0
        assert list(ds) == []
        assert ds.ledger.counts == {"storage_error": SHARDS * ROWS}
        assert [entry.rows for entry in ds.ledger.entries] == [ROWS] * SHARDS


def program_scan(reader: str, path: str) -> dict[str, object] | None:
    """What a reader of another process reads; nothing where it ends with an error that names the store's trouble."""
    command = [sys.executable, "-m", "tarloom.cli", "read", "--reader", reader, "--path", path, "--digest", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode in (0, 1), done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode == 0 or f"error: {path}" in done.stderr, done.stderr
    found: dict[str, object] | None = None if done.returncode else json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.slow
@pytest.mark.parametrize("reader", ["plain", "webdataset", "torch", "ray_actor", "ray_data", "spark"])
def test_every_reader_gets_the_same_or_says_what_is_wrong(s3, stored, tmp_path, reader):
    rude = {"AWS_READ_TIMEOUT": "2s", "TARLOOM_CACHE": str(tmp_path)}
    with proxy_of(s3, manners=SLOW_MANNERS) as proxy, environment_set({"AWS_ENDPOINT_URL": proxy.url, **rude}):
        tries = (program_scan(reader, stored) for _ in range(TRIES))
        found = next(read for read in tries if read is not None)
    assert (found["digest"], found["rows"]) == (EXPECTED, SHARDS * ROWS)
    assert {"delays", "throttles"} <= set(proxy.met)
