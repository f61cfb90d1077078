"""Samples that are read ahead fit into memory, also where they are far larger than the dataset's are on average."""

import numpy as np
import pyarrow as pa
import pytest

import tarloom
from tarloom.read.feed.fetching.fetch import Fetcher
from tests.format.raw import write_parquet, write_tar

SPAN = 200_000
"""Bytes."""
DIMENSIONS = 768


@pytest.fixture
def spans_read(monkeypatch):
    """Bytes of each span that is read."""
    sizes, fetch = [], Fetcher.fetch

    def fetch_and_count(fetcher, places):
        found = fetch(fetcher, places)
        members = sum(len(value or b"") for values in found.members.values() for value in values)
        sizes.append(members + sum(column.nbytes for column in found.columns.values()))
        return found

    monkeypatch.setattr(Fetcher, "fetch", fetch_and_count)
    return sizes


def of_a_condition(folder):
    """One sample in ten is as large as a fifth of a span."""
    large = [row % 10 == 0 for row in range(400)]
    keys = [f"{row:09d}" for row in range(400)]
    write_tar(
        folder / "00000.tar",
        [(key, {"bin": b"x" * (SPAN // 5 if big else 1)}) for key, big in zip(keys, large, strict=True)],
    )
    write_parquet(folder / "00000.parquet", {"key": keys, "status": ["success"] * 400, "large": large})
    return tarloom.open(folder).where("large")


def of_wide_columns(folder):
    keys = [f"{row:09d}" for row in range(2000)]
    write_tar(folder / "00000.tar", [(key, {"txt": b"x"}) for key in keys])
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(len(keys) * DIMENSIONS, np.float32)), DIMENSIONS)
    write_parquet(folder / "00000.parquet", {"key": keys, "status": ["success"] * len(keys), "vector": vectors})
    return tarloom.open(folder).select("vector")


@pytest.mark.parametrize("made", [of_a_condition, of_wide_columns])
def test_spans_of_samples_that_are_larger_than_the_datasets_on_average_fit_into_memory(tmp_path, spans_read, made):
    dataset = made(tmp_path)
    keys = [batch["__key__"] for batch in dataset.to_numpy(4, seed=1)]
    assert max(spans_read) > 2 * SPAN
    spans_read.clear()
    assert [batch["__key__"] for batch in dataset.to_numpy(4, seed=1, memory_bytes=3 * SPAN)] == keys
    assert max(spans_read) <= SPAN
    assert np.mean(spans_read[1:-2]) > SPAN // 2
