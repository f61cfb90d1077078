"""webdataset before and after its 1.0 reads our shards alike, and our reader works with both."""

import hashlib
import json
import sys
from pathlib import Path

import pytest

import tarloom
from tests.peers import peer_python, run_python
from tests.source_tree import ROOT

OLD = "webdataset-0.2.111"


@pytest.fixture(params=["the one we install", OLD])
def python(request) -> Path:
    return peer_python(OLD) if request.param == OLD else Path(sys.executable)


def test_webdataset_itself_reads_our_shards(python, our_folder):
    script = Path(__file__).with_name("print_samples.py")
    printed = run_python(python, script, *sorted(our_folder.glob("*.tar")))
    ours = [
        [s["__key__"], {name: hashlib.sha256(s[name]).hexdigest() for name in s if not name.startswith("__")}]
        for s in tarloom.open(our_folder)
    ]
    assert [json.loads(line) for line in printed.splitlines()] == ours


def test_our_program_reads_with_it_what_our_own_reader_reads(python, our_folder):
    program = ROOT / "read" / "read_webdataset.py"
    printed = run_python(python, program, "--path", our_folder, "--digest", "--json", PYTHONPATH=str(ROOT))
    plain = run_python(sys.executable, "-m", "tarloom.cli", "read", "--path", our_folder, "--digest", "--json")
    found, expected = (json.loads(text.splitlines()[-1]) for text in (printed, plain))
    assert found["digest"] == expected["digest"]
    assert (found["rows"], found["bytes"]) == (expected["rows"], expected["bytes"])
