"""Ray actors stream a dataset's batches to their caller."""

import pytest

import tarloom
from tarloom.errors import UsageError
from tarloom.read.ray.actors import stream_batches

pytestmark = pytest.mark.usefixtures("ray_session")


def test_every_sample_comes_once(packed):
    dataset = tarloom.open(packed).select()
    keys = [key for batch in stream_batches(dataset, workers=2) for key in batch["__key__"].to_pylist()]
    assert sorted(keys) == sorted(sample["__key__"] for sample in dataset)


def test_without_a_worker_nothing_would_come_which_is_refused(packed):
    with pytest.raises(UsageError, match="workers must be at least 1, not 0"):
        next(stream_batches(tarloom.open(packed), workers=0))
