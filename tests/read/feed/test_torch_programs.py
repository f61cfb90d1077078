"""Workers of a feed's loader in programs of all sorts: those that are no file, and those that workers cannot import."""

import subprocess
import sys

import pytest

SESSION = """
import tarloom

def ours(batch): return batch

feed = tarloom.open({path!r}).select("txt").to_torch(7, transform={transform})
print(sum(1 for _ in feed.loader(num_workers=1)))
"""


@pytest.mark.parametrize("how", ["-", "-c"])
@pytest.mark.parametrize("transform", ["None", "ours"])
def test_workers_of_a_program_without_a_file_start_and_its_functions_are_refused(packed, how, transform):
    program = SESSION.format(path=str(packed), transform=transform)
    words, given = ([how], program) if how == "-" else ([how, program], None)
    ended = subprocess.run([sys.executable, *words], input=given, capture_output=True, text=True, timeout=300)
    if transform == "None":
        assert ended.stdout == "11\n"
    else:
        assert "workers are processes that cannot import what a notebook" in ended.stderr.splitlines()[-1]
        assert ended.stderr.endswith("or give num_workers=0\n")


def test_a_worker_that_ends_by_its_own_error_is_no_matter_of_memory(packed, tmp_path):
    program = SESSION.format(path=str(packed), transform="None")  # without if __name__ == "__main__":
    (tmp_path / "program.py").write_text(program)
    ended = subprocess.run([sys.executable, tmp_path / "program.py"], capture_output=True, text=True, timeout=300)
    assert "; its own error is printed above; a program's own lines belong below" in ended.stderr.splitlines()[-1]
