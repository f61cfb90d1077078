"""The whole street on a real object store: create, read with every engine, embed, verify, as on local disk."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import tarloom
from tarloom.format.storage import open_storage
from tests.peers import run_python
from tests.source_tree import ROOT

PICTURES = 60
OPTIONS = ["--number-sample-per-shard", "15", "--image-size", "128", "--resize-mode", "keep_ratio"]
READERS = {
    "read_webdataset.py": [],
    "read_with_ray_actor.py": ["--num-workers", "2"],
    "read_with_ray_data.py": ["--num-workers", "2"],
    "read_with_ray_data_webdataset.py": ["--num-workers", "2"],
    "read_with_spark.py": [],
    "read_with_torch.py": ["--num-workers", "2"],
}


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """Some of the pictures with their captions and classes."""
    folder = tmp_path_factory.mktemp("source") / "pictures"
    folder.mkdir()
    for picture in sorted((ROOT / "source_data" / "pictures").glob("*.jpg"))[:PICTURES]:
        for path in picture.parent.glob(f"{picture.stem}.*"):
            shutil.copy(path, folder)
    return folder


@pytest.fixture(scope="module")
def local(source, tmp_path_factory) -> str:
    """The dataset on local disk, embedded: what the object store's must equal."""
    folder = str(tmp_path_factory.mktemp("local") / "set")
    create(source, folder)
    embed(folder)
    return folder


@pytest.fixture(scope="module")
def remote(s3, source) -> str:
    """The same dataset in the object store."""
    folder = s3.folder("street/set")
    create(source, folder)
    embed(folder)
    return folder


def test_the_same_bytes_lie_in_both_places(local, remote):
    assert contents(remote) == contents(local)
    assert {name for name in contents(remote) if name.endswith(".tar")} == {f"{n:05d}.tar" for n in range(4)}


@pytest.mark.parametrize("program", READERS)
def test_every_reader_reads_the_same_from_both(local, remote, program):
    expected = summary(sys.executable, "-m", "tarloom.cli", "read", "--path", local, "--digest")
    found = summary(sys.executable, ROOT / "read" / program, "--path", remote, "--digest", *READERS[program])
    assert expected["rows"] == PICTURES
    assert [found[name] for name in ("rows", "bytes", "digest")] == [expected[n] for n in ("rows", "bytes", "digest")]


def test_columns_join_over_the_wire(local, remote):
    names = ("jpg", "width", "caption", "clip.embedding")
    assert tarloom.open(remote).columns == tarloom.open(local).columns
    assert without_url(tarloom.open(remote).select(*names)) == without_url(tarloom.open(local).select(*names))


def test_it_is_proved_sound_over_the_wire(remote):
    verified = summary(sys.executable, "-m", "tarloom.cli", "verify", "--path", remote)
    assert verified["findings"] == []
    assert verified["samples"] == PICTURES


@pytest.mark.parametrize("after", [0, 1, 3], ids=["no shard", "one shard", "three shards"])
def test_a_killed_creation_shows_only_whole_shards_and_goes_on_to_the_same_bytes(s3, source, local, after):
    folder = s3.folder(f"killed-{after}/set")
    with running(["create/create_webdataset.py", "--source", source, "--output", folder, *OPTIONS]) as process:
        wait_until(lambda: len(stats(folder)) >= after and "_tarloom/plan.json" in names(folder), process)
        process.send_signal(signal.SIGKILL)
    committed = len(stats(folder))
    if committed:
        assert len(tarloom.open(folder)) == 15 * committed
        assert contents(folder).items() <= contents(local).items()
    create(source, folder)
    sidecars = {name for name in contents(local) if ".clip." in name}
    assert contents(folder) == {name: data for name, data in contents(local).items() if name not in sidecars}


def create(source: Path, folder: str) -> None:
    run_python(sys.executable, "create/create_webdataset.py", "--source", source, "--output", folder, *OPTIONS)


def embed(folder: str) -> None:
    model = ROOT / "source_data" / "models" / "clip"
    run_python(sys.executable, "process/embed_with_clip.py", "--path", folder, "--model", model)


def summary(*command: str | Path) -> dict:
    """The last line of a program run with --json."""
    return json.loads(run_python(*command, "--json").splitlines()[-1])


def contents(folder: str) -> dict[str, object]:
    """All files by name; of stats only what does not tell the time."""
    storage = open_storage(folder)
    return {entry.name: timeless(entry.name, storage.read(entry.name)) for entry in storage.list()}


def timeless(name: str, data: bytes) -> object:
    if not name.endswith("_stats.json"):
        return data
    return {key: value for key, value in json.loads(data).items() if "time" not in key and key != "duration"}


def names(folder: str) -> set[str]:
    return {entry.name for entry in open_storage(folder).list()}


def stats(folder: str) -> list[str]:
    return [name for name in names(folder) if name.endswith("_stats.json")]


def without_url(samples) -> list[dict]:
    return [{name: value for name, value in sample.items() if not name.endswith("_url__")} for sample in samples]


def running(words: list) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, *words], cwd=ROOT, env=dict(os.environ), stderr=subprocess.DEVNULL)


def wait_until(condition, process) -> None:
    """Poll until the condition holds; a process that ends first has been too quick for us, which is no failure."""
    end = time.monotonic() + 60
    while not condition() and process.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.01)
