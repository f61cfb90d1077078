"""A feed in a program of its own."""

import subprocess
import sys

from tests.format.raw import some_samples, write_tar

DATA = """
import tarloom
import tarloom.read.feed.torch

def keys(folder):
    return (batch["__key__"] for batch in tarloom.open(folder).to_torch(8))
"""
TRAIN = """
import sys
from data import keys

kept = keys(sys.argv[1])
print(len(next(kept)))
"""


def test_a_program_that_keeps_an_iterator_to_its_end_says_nothing_of_it(tmp_path):
    write_tar(tmp_path / "00000.tar", some_samples(1000))
    (tmp_path / "data.py").write_text(DATA)
    (tmp_path / "train.py").write_text(TRAIN)
    program = [sys.executable, tmp_path / "train.py", tmp_path]
    ended = subprocess.run(program, capture_output=True, text=True, timeout=120)
    assert (ended.stdout, ended.stderr, ended.returncode) == ("8\n", "", 0)
