"""What travels to where shards are made."""

import os

import pytest

from tarloom.create.tasks import MOST_CODEC_THREADS, codec_threads


@pytest.mark.parametrize(("cpus", "threads"), [(1, 1), (3, 3), (64, MOST_CODEC_THREADS)])
def test_a_worker_encodes_on_no_more_threads_than_it_has_cpus(monkeypatch, cpus, threads):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(cpus))
    assert codec_threads() == threads
