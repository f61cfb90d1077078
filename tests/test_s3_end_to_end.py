"""The whole street on a real object store: create, read with every engine, embed, verify, as on local disk."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import tarloom
from tarloom.format.storage import open_storage
from tests.peers import run_python
from tests.s3_server import environment_set
from tests.source_tree import ROOT
from tests.stalling_proxy import StallingProxy

PICTURES = 60
MODEL = ROOT / "source_data" / "models" / "clip"
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


@pytest.mark.parametrize("output_format", ["files", "parquet", "dummy"])
def test_other_output_formats_are_the_same_in_both_places(s3, source, tmp_path, output_format):
    """A file of a row that has failed since, or of another run, does not stay."""
    folder = s3.folder(f"{output_format}/set")
    open_storage(folder).write("00000/stray.jpg", b"of a run that was killed")
    for place in (folder, str(tmp_path / "set")):
        create(source, place, "--output-format", output_format)
    found = contents(folder)
    if output_format != "files":
        del found["00000/stray.jpg"]
    assert found == contents(str(tmp_path / "set"))


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


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.95])
def test_a_killed_creation_shows_only_whole_shards_and_goes_on_to_the_same_bytes(s3, source, local, share):
    """The connection holds still when a share of the bytes is through; there the creation is killed."""
    expected = {name: data for name, data in contents(local).items() if ".clip." not in name}
    folder = s3.folder(f"killed-{share}/set")
    command = ["create/create_webdataset.py", "--source", source, "--output", folder, *OPTIONS]
    kill_when_held(s3, command, limit=int(share * total_size(local)))
    left = contents(folder)
    assert left.keys() < expected.keys()
    assert left == {name: expected[name] for name in left}
    committed = [name for name in left if name.endswith("_stats.json")]
    if committed:
        assert len(tarloom.open(folder)) == 15 * len(committed)
    create(source, folder)
    assert contents(folder) == expected


def test_a_killed_embedding_goes_on_to_the_same_bytes(s3, source, local):
    folder = s3.folder("killed-embedding/set")
    create(source, folder)
    command = ["process/embed_with_clip.py", "--path", folder, "--model", MODEL]
    kill_when_held(s3, command, until=rb"(PUT|POST) \S*/00002\.clip\.parquet")
    left, expected = contents(folder), contents(local)
    assert "00000.clip.parquet" in left
    assert "00002.clip.parquet" not in left
    assert left == {name: expected[name] for name in left}
    embed(folder)
    assert contents(folder) == expected


@pytest.mark.parametrize("words", [["info"], ["verify"], ["read"], ["embed", "--model", MODEL], ["create"]], ids=str)
def test_wrong_credentials_end_every_command_with_one_clear_line(remote, source, words):
    place = ["--source", source, "--output", remote, *OPTIONS] if words == ["create"] else ["--path", remote]
    with environment_set({"AWS_SECRET_ACCESS_KEY": "wrong"}):
        command = [sys.executable, "-m", "tarloom.cli", *words, *place]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 1
    assert "check the credentials" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def kill_when_held(s3, command, **hold) -> None:
    """Run a program whose connection holds still somewhere, and kill it there."""
    server = urlsplit(s3.environment["AWS_ENDPOINT_URL"])
    with StallingProxy(server.hostname, server.port, **hold) as proxy:
        with environment_set({"AWS_ENDPOINT_URL": proxy.url}):
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            process = subprocess.Popen([sys.executable, *command], cwd=ROOT, **quiet)
        with process:
            assert proxy.stalled.wait(400)
            process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL


def create(source: Path, folder: str, *more: str) -> None:
    run_python(sys.executable, "create/create_webdataset.py", "--source", source, "--output", folder, *OPTIONS, *more)


def embed(folder: str) -> None:
    run_python(sys.executable, "process/embed_with_clip.py", "--path", folder, "--model", MODEL)


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


def total_size(folder: str) -> int:
    """Bytes of all files but the sidecars."""
    return sum(entry.size for entry in open_storage(folder).list() if ".clip." not in entry.name)


def without_url(samples) -> list[dict]:
    return [{name: value for name, value in sample.items() if not name.endswith("_url__")} for sample in samples]
