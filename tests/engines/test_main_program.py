"""A main program that is no file, as one that comes through stdin: workers start all the same, and what it defines is
refused where they would miss it."""

import subprocess
import sys

PROGRAM = """
from functools import partial
from tarloom.engines.local import LocalEngine

def ours(item): return len(item)
def opener(work): return partial(partial, work)

print(sorted(outcome.result for outcome in LocalEngine(2).map(opener(WORK), ["a", "bb"])))
"""


def ran(work: str, *how: str) -> subprocess.CompletedProcess[str]:
    program = PROGRAM.replace("WORK", work)
    return subprocess.run([sys.executable, *how], input=program, capture_output=True, text=True, timeout=300)


def test_workers_of_a_program_that_comes_through_stdin_start():
    assert ran("len", "-").stdout == "[1, 2]\n"


def test_what_a_program_without_a_file_defines_is_refused_before_workers_miss_it():
    ended = ran("ours", "-")
    assert ended.stdout == ""
    assert ended.stderr.splitlines()[-1].endswith(
        "workers are processes that cannot import what a notebook, a session or stdin defines; put your functions and "
        "classes into a file, NAME.py, and import them from there, or work with one worker"
    )


def test_what_a_file_defines_is_found_by_its_workers(tmp_path):
    program = PROGRAM.replace("WORK", "ours").replace("\nprint", "\nif __name__ == '__main__': print")
    (tmp_path / "program.py").write_text(program)
    ended = subprocess.run([sys.executable, tmp_path / "program.py"], capture_output=True, text=True, timeout=300)
    assert ended.stdout == "[1, 2]\n"
