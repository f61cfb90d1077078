"""Feeding from an object store: the same batches, kept on this machine if wanted; a store that stalls is named."""

import contextlib
import logging
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import tarloom
from tarloom.errors import StorageError
from tarloom.format.storage import client as object_client
from tarloom.format.storage import open_storage
from tarloom.read.feed.fetching import spans
from tests.read.feed.resume_contract import SHARDS, write_resumable
from tests.rude_proxy import SLOW_MANNERS, RudeProxy
from tests.s3_server import S3Server, environment_set

ROWS = sum(SHARDS)
CACHE_BYTES = 64 << 20
TRIES = 10


@pytest.fixture(scope="module")
def local(tmp_path_factory) -> Path:
    return write_resumable(tmp_path_factory.mktemp("feed"))


@pytest.fixture
def remote(local, s3_folder) -> str:
    """The dataset in an object store, with its indexes."""
    storage = open_storage(s3_folder)
    tarloom.open(local).pieces()
    for path in local.rglob("*.*"):
        storage.write(str(path.relative_to(local)), path.read_bytes())
    return s3_folder


def batches_of(path, **options) -> list[dict]:
    return list(tarloom.open(path).select("json", "caption.text").to_numpy(8, seed=3, **options))


def proxy_of(s3: S3Server, **options) -> RudeProxy:
    place = urlsplit(s3.environment["AWS_ENDPOINT_URL"])
    return RudeProxy(place.hostname, place.port, **options)


def test_a_store_feeds_the_same_batches_as_a_folder(local, remote, tmp_path):
    expected = batches_of(local)
    assert batches_of(remote) == expected
    assert batches_of(remote, cache=str(tmp_path), cache_bytes=CACHE_BYTES) == expected
    assert batches_of(remote, memory_map=True) == batches_of(local, memory_map=True) == expected


def test_what_was_fed_once_is_fed_again_without_the_store(local, remote, tmp_path):
    feed = tarloom.open(remote).to_numpy(8, seed=3, cache=str(tmp_path), cache_bytes=CACHE_BYTES)
    list(feed)
    storage = open_storage(remote)
    for number in range(len(SHARDS)):
        storage.delete(f"{number:05d}.tar")
    again = [key for batch in feed for key in batch["__key__"]]
    feed_here = tarloom.open(local).to_numpy(8, seed=3)
    feed_here.set_epoch(1)
    assert again == [key for batch in feed_here for key in batch["__key__"]]


@pytest.mark.usefixtures("fresh_clients")
@pytest.mark.parametrize(
    ("manner", "message"),
    [
        ("refuses", r"no answer from 127\.0\.0\.1"),
        ("stalls", "the answer broke off or stalled again and again"),
        ("cuts the answer", "the answer broke off or stalled again and again"),
    ],
)
@pytest.mark.parametrize("cached", [False, True])
def test_a_store_that_gives_no_more_is_named_within_its_deadline(s3, remote, tmp_path, cached, manner, message):
    kept = {"cache": str(tmp_path), "cache_bytes": CACHE_BYTES} if cached else {}
    feed = tarloom.open(remote).to_numpy(8, seed=3, **kept)
    object_client.object_store.cache_clear()
    with proxy_of(s3, manners=(manner,)) as proxy, environment_set({"AWS_ENDPOINT_URL": proxy.url}):
        with pytest.raises(StorageError, match=rf"{remote}/.*: {message}"):
            list(feed)
        assert sum(feed.ledger.counts.values()) == 0


@pytest.mark.usefixtures("fresh_clients")
def test_who_waits_for_a_slow_store_is_told_for_what(s3, remote, monkeypatch, caplog):
    monkeypatch.setattr(spans, "PATIENCE", 0.1)
    monkeypatch.setattr(object_client, "STALL", timedelta(seconds=20))  # all of it must come, on a busy machine too
    monkeypatch.setattr(object_client, "DEADLINE", timedelta(seconds=60))
    feed = tarloom.open(remote).to_numpy(8, seed=3)
    object_client.object_store.cache_clear()
    with (
        proxy_of(s3, manners=("delays",)) as proxy,
        environment_set({"AWS_ENDPOINT_URL": proxy.url}),
        caplog.at_level(logging.WARNING),
    ):
        assert sum(len(batch["__key__"]) for batch in feed) == ROWS
    assert f"still waiting for {remote}/0000" in caplog.text


@pytest.mark.usefixtures("fresh_clients")
@pytest.mark.parametrize("cached", [False, True])
def test_a_rude_store_feeds_the_same_or_says_what_is_wrong(s3, local, remote, tmp_path, cached):
    kept = {"cache": str(tmp_path), "cache_bytes": CACHE_BYTES} if cached else {}
    with proxy_of(s3, manners=SLOW_MANNERS) as proxy, environment_set({"AWS_ENDPOINT_URL": proxy.url}):
        for _ in range(TRIES):
            with contextlib.suppress(StorageError):  # as a user would, who is told to try again
                assert batches_of(remote, **kept) == batches_of(local)
                break
        else:
            pytest.fail(f"never fed to the end: {proxy.met}")
