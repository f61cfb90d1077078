"""How many CPUs a process may use."""

import os

import pytest

from tarloom.format.cpus import cpu_share

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
    for name, value in (("OMP_NUM_THREADS", given), ("LOCAL_WORLD_SIZE", ranks)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    assert cpu_share() == share
