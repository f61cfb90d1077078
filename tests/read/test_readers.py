"""Every reader keeps the contract of readers."""

import multiprocessing
import os

import pytest

from tarloom.errors import BadSample, EngineError, StorageError, UsageError
from tarloom.read.dataset import Dataset, open_dataset
from tarloom.read.readers import READERS, ScanJob
from tarloom.read.scan import ScanConfig, Tallier
from tests.read.reader_contract import ReaderContract

RAY_COPIES_ITS_SETTINGS = pytest.mark.filterwarnings(r"ignore::DeprecationWarning:ray\.data\.context")


class TestPlain(ReaderContract):
    reader = "plain"


class TestMemoryMapped(ReaderContract):
    reader = "plain"

    @pytest.fixture(autouse=True)
    def mapped(self, monkeypatch):
        """Its batches lie in tars; what counts them knows copies alone."""
        copied = Dataset.batches

        def batches(dataset, rows):
            return (batch.cast(dataset.schema) for batch in copied(dataset, rows, memory_map=True))

        monkeypatch.setattr(Dataset, "batches", batches)


class TestWebdataset(ReaderContract):
    reader = "webdataset"
    joins = False


@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker processes:UserWarning")
class TestTorch(ReaderContract):
    reader = "torch"


@pytest.mark.usefixtures("ray_session")
class TestRayActor(ReaderContract):
    reader = "ray_actor"


@RAY_COPIES_ITS_SETTINGS
@pytest.mark.usefixtures("ray_session")
class TestRayData(ReaderContract):
    reader = "ray_data"


@RAY_COPIES_ITS_SETTINGS
@pytest.mark.usefixtures("ray_session")
class TestRayDataWebdataset(ReaderContract):
    reader = "ray_data_webdataset"
    joins = False
    decompresses = False
    names_damage = "one of its shards .* find it with: tarloom verify"  # Ray does not say which


@pytest.mark.usefixtures("spark_session")
class TestSpark(ReaderContract):
    reader = "spark"


class DyingTallier(Tallier):
    """Its process ends where it counts."""

    def of_batch(self, batch):
        os._exit(1)


def test_an_error_of_a_torch_worker_is_the_one_that_it_raised_and_ends_all_workers_though_it_is_kept(pictured):
    from tarloom.read import with_torch

    before = multiprocessing.active_children()
    dataset = open_dataset(pictured).select("png").decoding("rgb")
    messages = []
    for workers in (1, 2):
        config = ScanConfig(path=str(pictured), num_workers=workers)
        with pytest.raises(BadSample) as raised:
            list(with_torch.scan(dataset, config, Tallier(members=("png",), digest=False, show=0)))
        messages.append(str(raised.value))
    assert messages[0] == messages[1]
    assert [child for child in multiprocessing.active_children() if child not in before] == []


@pytest.mark.usefixtures("spark_session")
def test_a_spark_worker_that_dies_ends_the_scan_with_one_clear_error(packed):
    from tarloom.read.spark import frames as spark

    tallies = spark.scan(
        open_dataset(packed), ScanConfig(path=str(packed)), DyingTallier(members=(), digest=False, show=0)
    )
    with pytest.raises(EngineError, match=r"Spark failed while reading: .*Python worker exited unexpectedly"):
        list(tallies)


def test_every_reader_keeps_the_contract():
    tested = {kind.reader for kind in ReaderContract.__subclasses__()}
    assert tested == set(READERS)


def test_an_unknown_reader_is_refused_with_the_known_ones(tmp_path):
    with pytest.raises(UsageError, match="no reader 'fast'; use one of plain, webdataset"):
        ScanJob("fast", ScanConfig(path=str(tmp_path))).prepare()


@pytest.mark.parametrize(
    "asked", [{"where": "width > 1"}, {"select": ("width",)}, {"decode": ("rgb",)}, {"on_error": "skip"}]
)
def test_what_rays_own_reader_cannot_do_is_refused_before_ray_is_started(packed, asked):
    with pytest.raises(UsageError, match="read_webdataset reads members of tars as they are, without"):
        ScanJob("ray_data_webdataset", ScanConfig(path=str(packed), **asked)).prepare()


def test_a_compressed_tar_is_refused_before_ray_is_started(compressed):
    with pytest.raises(
        UsageError, match=r"read_webdataset reads plain tars only, not a\.tar\.gz; use the reader ray_data"
    ):
        ScanJob("ray_data_webdataset", ScanConfig(path=str(compressed))).prepare()


@pytest.mark.parametrize(("name", "value"), [("num_workers", 0), ("batch_size", 0), ("show", -1)])
def test_values_that_cannot_be_are_refused(tmp_path, name, value):
    with pytest.raises(UsageError, match=f"{name} must be at least"):
        ScanJob("plain", ScanConfig(path=str(tmp_path), **{name: value})).prepare()


def test_a_condition_that_is_empty_is_refused_rather_than_true_of_all(packed):
    """A variable of a shell may not have been set."""
    with pytest.raises(UsageError, match="where: the condition is empty; give one"):
        ScanJob("plain", ScanConfig(path=str(packed), where="")).prepare()


def test_a_ledger_on_a_full_disk_ends_the_scan_with_its_name(pictured):
    config = ScanConfig(path=str(pictured), decode=("rgb",), on_error="skip", ledger="/dev/full")
    with pytest.raises(StorageError, match="/dev/full: the ledger cannot be written: No space left on device; free"):
        list(ScanJob("plain", config))
