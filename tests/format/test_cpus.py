"""How many CPUs a process may use."""

import os

import pytest

from tarloom.format import cpus
from tarloom.format.cpus import cpu_share, take_part_of_share

ALL = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("given", "ranks", "share"),
    [
        (None, None, ALL),
        ("3", None, 3),
        ("1", None, 1),
        ("none", None, ALL),
        ("1", "2", max(1, ALL // 2)),
        ("3", "2", 3),
    ],
)
def test_an_engine_says_how_many_and_ranks_of_torchrun_share_all(monkeypatch, given, ranks, share):
    tell(monkeypatch, given, ranks)
    assert cpu_share() == share


@pytest.mark.parametrize(
    ("given", "ranks", "part"),
    [(None, None, 4), ("3", None, 3), ("1", None, 1), ("1", "2", 2), (None, "2", 2), ("1", "16", 1), ("3", "2", 3)],
)
def test_workers_of_a_process_divide_its_share_once_unless_an_engine_has_told_them_theirs(
    monkeypatch, given, ranks, part
):
    monkeypatch.setattr(cpus, "_part", None)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(16))
    tell(monkeypatch, given, ranks)
    for _ in range(2):
        take_part_of_share(4)
        assert cpu_share() == part
    assert os.environ.get("LOCAL_WORLD_SIZE") == ranks  # torch's, and what the worker starts, may ask for it


def tell(monkeypatch, given, ranks) -> None:
    for name, value in (("OMP_NUM_THREADS", given), ("LOCAL_WORLD_SIZE", ranks)):
        monkeypatch.setenv(name, "")  # to be there again afterwards, whatever becomes of it
        monkeypatch.delenv(name)
        if value is not None:
            monkeypatch.setenv(name, value)
