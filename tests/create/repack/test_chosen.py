"""Of the samples of shards some are taken: as somebody chose, whose choice is part of the plan."""

import weakref
from collections.abc import Mapping

import numpy as np
import pytest

from tarloom.create.job import CreateJob
from tarloom.create.repack import pack
from tarloom.create.repack.rows import GroupRows
from tarloom.engines.local import LocalEngine
from tarloom.errors import PlanMismatch, UsageError
from tests.create.helpers import configuration
from tests.create.repack.test_repack import add_sidecar, assert_sound, samples_of, sidecar_rows, table
from tests.format.raw import some_samples, write_parquet, write_tar


class EveryOther:
    """The first sample of each shard, the third, and so on, of so many."""

    def __init__(self, samples: int = 5, **options: str) -> None:
        self._samples = samples
        self.options: Mapping[str, str] = {"every": "2"} | options

    def numbers(self, shard: str) -> np.ndarray:
        return np.arange(0, self._samples, 2)


def copy(folder, choice):
    options = {"number_sample_per_shard": 4, "disable_all_reencoding": True, "compute_hash": "none"}
    job = CreateJob(configuration(folder / "in", folder / "out", **options), LocalEngine(1), choice)
    job.prepare()
    return list(job)


@pytest.fixture
def shards(tmp_path):
    """Two shards of five samples, with metadata that also has a row that failed behind each sample."""
    for number in range(2):
        samples = some_samples(5, first=5 * number)
        write_tar(tmp_path / "in" / f"{number}.tar", samples)
        keys = [name for key, _ in samples for name in (key, f"{key}x")]
        statuses = ["success", "failed_to_download"] * 5
        write_parquet(tmp_path / "in" / f"{number}.parquet", {"mine": keys, "key": keys, "status": statuses})
        add_sidecar(tmp_path / "in", str(number))
    return tmp_path


def test_the_chosen_samples_are_copied_with_what_belongs_to_them_alone(shards):
    reports = copy(shards, EveryOther())
    wanted = [f"{number:09d}" for number in (0, 2, 4, 5, 7, 9)]
    everything = samples_of(shards / "in")
    assert samples_of(shards / "out") == {key: everything[key] for key in wanted}
    assert table(shards / "out").column("key").to_pylist() == wanted
    assert table(shards / "out").column_names == ["mine", "key", "status", "error_message", "error"]
    before = sidecar_rows(shards / "in")
    assert sidecar_rows(shards / "out") == {key: before[key] for key in wanted}
    assert [report.rows for report in reports] == [4, 2]
    assert_sound(shards / "out")


def test_while_samples_are_copied_all_metadata_of_one_shard_at_most_is_held(shards, monkeypatch):
    alive: weakref.WeakSet[GroupRows] = weakref.WeakSet()
    held: list[int] = []

    def opened(*args):
        rows = GroupRows(*args)
        alive.add(rows)
        return rows

    def read(slices):
        held.append(len(alive))
        return read_samples(slices)

    read_samples = pack.read_samples
    monkeypatch.setattr(pack, "GroupRows", opened)
    monkeypatch.setattr(pack, "read_samples", read)
    copy(shards, EveryOther())
    assert held == [1, 1]


def test_another_choice_is_another_plan(shards):
    copy(shards, EveryOther())
    assert all(report.skipped for report in copy(shards, EveryOther()))
    with pytest.raises(PlanMismatch, match="every was 2, is now 3"):
        copy(shards, EveryOther(every="3"))
    with pytest.raises(PlanMismatch, match="every was 2, is now not known"):
        copy(shards, None)


def test_a_choice_among_samples_that_are_gone_is_refused(shards):
    with pytest.raises(UsageError, match="shard 0 has changed since its samples were chosen"):
        copy(shards, EveryOther(samples=7))
    assert not (shards / "out").exists() or not list((shards / "out").iterdir())
