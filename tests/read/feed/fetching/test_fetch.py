"""What is fetched is what lies at the places asked for, in the order asked for, whatever it is and however often."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tarloom
from tarloom.errors import StaleIndex
from tarloom.read.feed.fetching.fetch import Closed, Fetcher
from tarloom.read.feed.fetching.scattered import Scattered
from tarloom.read.feed.fetching.sources import Source
from tarloom.read.feed.order.places import Places
from tests.format.raw import packed_dataset, write_parquet

NAMES = ("jpg", "txt", "width", "caption.text", "clip.embedding")
SHARED = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
VALUES = st.lists(st.none() | st.binary(max_size=20), max_size=12)
KINDS = (pa.binary(), pa.large_binary(), pa.binary_view())


def places(rows) -> Places:
    """rows: of source, shard, row."""
    sources, shards, numbers = np.array(rows, np.int64).reshape(-1, 3).T
    return Places(sources=sources, passes=0 * sources, ranks=0 * sources, shards=shards, rows=numbers)


def plainly(dataset) -> list[list[dict]]:
    """Samples of each shard, by the reader of one process."""
    found = [[] for _ in dataset.shards]
    urls = [dataset.catalog.storage.describe(shard.tar.name) for shard in dataset.shards]
    for sample in dataset:
        found[urls.index(sample["__url__"])].append(sample)
    return found


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("where", [None, "width > 100 AND __key__ LIKE '%1%'"])
def test_samples_are_those_at_the_places_asked_for(packed, where, mapped):
    dataset = tarloom.open(packed).select(*NAMES)
    dataset = dataset if where is None else dataset.where(where)
    source, expected = Source(dataset), plainly(dataset)
    assert source.rows.tolist() == [len(samples) for samples in expected]
    fetcher = Fetcher([source], mapped=mapped)
    rows = [(0, s, r) for s, samples in enumerate(expected) for r in range(len(samples))]

    @SHARED
    @given(st.lists(st.sampled_from(rows), max_size=30))
    def check(wanted):
        found = fetcher.fetch(places(wanted))
        samples = [expected[shard][row] for _, shard, row in wanted]
        assert found.keys == [sample["__key__"] for sample in samples]
        for name, values in found.members.items():
            assert [None if v is None else bytes(v) for v in values] == [sample.get(name) for sample in samples]
        for name, values in found.columns.items():
            assert values.to_pylist() == [sample[name] for sample in samples]

    check()


def test_of_several_datasets_each_gives_what_it_has(packed):
    dataset = tarloom.open(packed)
    with_text, with_width = Source(dataset.select("txt")), Source(dataset.select("jpg", "width"))
    found = Fetcher([with_text, with_width]).fetch(places([(1, 0, 0), (0, 1, 2), (1, 0, 0)]))
    assert [value is None for value in found.members["txt"]] == [True, False, True]
    assert [value is None for value in found.members["jpg"]] == [False, True, False]
    assert [value is None for value in found.columns["width"].to_pylist()] == [False, True, False]


def test_nobody_reads_on_behind_a_closed_door(packed):
    fetcher = Fetcher([Source(tarloom.open(packed))])
    fetcher.close()
    with pytest.raises(Closed):
        fetcher.fetch(places([(0, 0, 0)]))


def test_tables_that_change_behind_a_feeds_back_are_named(tmp_path, monkeypatch):
    packed_dataset(tmp_path, shards=1, rows=10)
    monkeypatch.setattr("tarloom.read.feed.fetching.passing.KEPT_BYTES", 0)
    source = Source(tarloom.open(tmp_path).where("width < 1000000"))
    assert source.rows.tolist() == [8]
    keys = [sample["__key__"] for sample in tarloom.open(tmp_path)]
    write_parquet(tmp_path / "00000.parquet", {"key": keys, "status": ["success"] * 8, "width": [2000000] * 8})
    with pytest.raises(StaleIndex, match=r"00000.tar: its tables have changed since the feed was made; open"):
        source.numbers(0, np.array([3]))


@given(st.lists(VALUES, max_size=4), st.data())
def test_values_are_joined_and_taken_by_their_numbers(parts, data):
    values = [value for part in parts for value in part]
    front = data.draw(st.sampled_from([[], [None, b"x"]]))
    arrays = [pa.array([*front, *part], data.draw(st.sampled_from(KINDS)))[len(front) :] for part in parts]
    joined = Scattered.joined([Scattered.of(array) for array in arrays])
    assert bytes_of(joined) == values
    assert joined.sizes.tolist() == [-1 if value is None else len(value) for value in values]
    numbers = data.draw(st.lists(st.integers(0, len(values) - 1), max_size=20)) if values else []
    assert bytes_of(joined.take(np.array(numbers, np.int64))) == [values[number] for number in numbers]


def bytes_of(values: Scattered) -> list[bytes | None]:
    return [None if value is None else bytes(value) for value in values]
