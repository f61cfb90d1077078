"""A folder made by img2dataset 1.47 is a dataset like any other: opened, verified, embedded, captioned."""

import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import tarloom
from tests.interop.conftest import FAILING, PICTURES, SHARD_ROWS
from tests.peers import run_python
from tests.source_tree import ROOT

MODELS = ROOT / "source_data" / "models"


@pytest.fixture
def folder(img2datasets_folder, tmp_path) -> Path:
    """A copy of its own for each test, as img2dataset left it."""
    return shutil.copytree(img2datasets_folder, tmp_path / "set")


@pytest.fixture
def raw(img2datasets_folder) -> dict[str, dict[str, bytes]]:
    """Members by key, read with the standard library."""
    samples: dict[str, dict[str, bytes]] = {}
    for path in sorted(img2datasets_folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                key, _, extension = member.name.partition(".")
                samples.setdefault(key, {})[extension] = tar.extractfile(member).read()
    return samples


def test_it_opens_with_every_sample_and_member(folder, raw):
    dataset = tarloom.open(folder)
    found = {s["__key__"]: {name: s[name] for name in ("jpg", "json", "txt")} for s in dataset}
    assert len(dataset) == len(raw) == PICTURES
    assert found == raw


def test_its_metadata_joins_by_key_although_it_is_in_another_order(folder, raw):
    dataset = tarloom.open(folder).select("caption", "width", "original_width", "sha256", "status")
    for sample in dataset:
        row = json.loads(raw[sample["__key__"]]["json"])
        assert {name: sample[name] for name in ("caption", "width", "original_width", "sha256", "status")} == {
            name: row[name] for name in ("caption", "width", "original_width", "sha256", "status")
        }


def test_it_is_verified_and_damage_in_it_is_found(folder):
    assert findings(folder) == []
    tar = folder / "00001.tar"
    tar.write_bytes(tar.read_bytes()[: tar.stat().st_size // 2])
    assert any("00001.tar" in finding for finding in findings(folder))


def test_rows_that_failed_are_in_its_metadata_and_not_in_the_dataset(folder):
    rows = [row for path in sorted(folder.glob("?????.parquet")) for row in pq.read_table(path).to_pylist()]
    failed = {row["url"].partition("/trouble")[2]: row["status"] for row in rows if row["status"] != "success"}
    assert len(rows) == PICTURES + len(FAILING)
    assert failed == {"/missing.jpg": "failed_to_download", "/page.jpg": "failed_to_resize"}
    assert len(tarloom.open(folder)) == PICTURES


def test_it_is_embedded_and_stays_sound(folder):
    run_python(sys.executable, ROOT / "process" / "embed_with_clip.py", "--path", folder, "--model", MODELS / "clip")
    dataset = tarloom.open(folder).select("clip.embedding", "clip.status", "txt")
    samples = list(dataset)
    vectors = np.array([sample["clip.embedding"] for sample in samples], np.float32)
    assert {sample["clip.status"] for sample in samples} == {"success"}
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-2)
    assert findings(folder) == []


def test_it_is_captioned_and_stays_sound(folder):
    for path in folder.glob("00000*"):
        path.unlink()  # the smaller shard is enough
    program = ROOT / "process" / "caption_with_vllm.py"
    run_python(sys.executable, program, "--path", folder, "--model", MODELS / "captioner")
    samples = list(tarloom.open(folder).select("caption.text", "caption.status", "txt"))
    right = sum(sample["caption.text"].strip() == sample["txt"].decode().strip() for sample in samples)
    assert len(samples) == (PICTURES + len(FAILING)) % SHARD_ROWS - 1
    assert {sample["caption.status"] for sample in samples} == {"success"}
    assert right >= 0.8 * len(samples)
    assert findings(folder) == []


def findings(folder: Path) -> list[str]:
    """What `tarloom verify` says is wrong."""
    command = [sys.executable, "-m", "tarloom.cli", "verify", "--path", folder, "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    found = json.loads(done.stdout.splitlines()[-1])["findings"]
    assert done.returncode == (3 if found else 0), done.stderr
    return found
