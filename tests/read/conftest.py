"""Datasets that all tests of reading share, written by tarfile and pyarrow alone. No test changes them."""

import gzip
import shutil
from datetime import timedelta
from pathlib import Path

import pytest
import zstandard

from tarloom.format.storage import client as object_client
from tests.format.raw import packed_dataset, some_samples, write_stats, write_tar
from tests.read.sample_sets import FAILED, ROWS, write_as_img2dataset, write_nasty_tars, write_pictured


@pytest.fixture(scope="session")
def packed(tmp_path_factory) -> Path:
    """Two shards as creation and two stages leave them, an empty one, and one that is not committed yet."""
    folder = tmp_path_factory.mktemp("packed")
    packed_dataset(folder, shards=2, rows=ROWS, failed=FAILED)
    write_tar(folder / "00002.tar", [])
    write_stats(folder, "00002", 0, 0, None)
    write_tar(folder / "00003.tar", some_samples(5, first=900))
    return folder


@pytest.fixture(scope="session")
def foreign(packed, tmp_path_factory) -> Path:
    """The same tars under other names at other depths, without anything of ours."""
    folder = tmp_path_factory.mktemp("foreign")
    for number, place in enumerate(("b/part one#1.tar", "train/deep/x.y.tar", "a.tar")):
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(packed / f"{number:05d}.tar", folder / place)
    return folder


@pytest.fixture(scope="session")
def compressed(packed, tmp_path_factory) -> Path:
    """The same tars again, compressed."""
    folder = tmp_path_factory.mktemp("compressed")
    first, second = ((packed / name).read_bytes() for name in ("00000.tar", "00001.tar"))
    (folder / "a.tar.gz").write_bytes(gzip.compress(first[:5000]) + gzip.compress(first[5000:]))
    (folder / "b.tar.zst").write_bytes(zstandard.compress(second))
    return folder


@pytest.fixture(scope="session")
def img2datasets(tmp_path_factory) -> Path:
    """A folder in img2dataset's shape and order."""
    folder = tmp_path_factory.mktemp("img2dataset")
    write_as_img2dataset(folder)
    return folder


@pytest.fixture(scope="session")
def nasty(tmp_path_factory) -> Path:
    """Tars as they are found in the wild."""
    folder = tmp_path_factory.mktemp("nasty")
    write_nasty_tars(folder)
    return folder


@pytest.fixture(scope="session")
def pictured(tmp_path_factory) -> Path:
    """Real pictures but one, metadata, and a sidecar that lacks a row."""
    folder = tmp_path_factory.mktemp("pictured")
    write_pictured(folder)
    return folder


@pytest.fixture
def fresh_clients(monkeypatch):
    """Clients are made anew, with short deadlines, for whatever the environment says; and afterwards again."""
    monkeypatch.setattr(object_client, "STALL", timedelta(seconds=1))
    monkeypatch.setattr(object_client, "DEADLINE", timedelta(seconds=3))
    object_client.object_store.cache_clear()
    yield
    object_client.object_store.cache_clear()
