"""Buckets: batches of one class or shape, each sample of a pass once but for tails, or classes in balance."""

import pickle
from collections import Counter

import pyarrow as pa
import pytest

import tarloom
from tarloom.errors import ShardError, UsageError
from tests.format.raw import write_parquet, write_tar
from tests.read.sample_sets import pictured_samples

WIDTHS = Counter(columns["width"] for _, _, columns in pictured_samples())
SHAPES = {"narrow": "width <= 9", "broken": "width > 100", "wide": "width >= 11 OR width < 0"}


@pytest.fixture
def dataset(pictured):
    """8 samples of each of the widths 8 to 12, in two shards."""
    return tarloom.open(pictured).select("json", "width")


def widths_of(feed) -> list[list[int]]:
    return [batch["width"].tolist() for batch in feed]


def keys_of(feed) -> list[str]:
    return [key for batch in feed for key in batch["__key__"]]


def test_batches_are_of_one_value_of_a_column_and_every_sample_comes_once(dataset):
    feed = dataset.to_numpy(4, seed=1, buckets="width")
    batches = widths_of(feed)
    assert all(len(set(batch)) == 1 for batch in batches)
    assert [batch[0] for batch in batches] != sorted(batch[0] for batch in batches)
    assert sorted(keys_of(feed)) == sorted(keys_of(dataset.to_numpy(4)))
    assert feed.left_out == {}


def test_tails_are_left_out_others_in_each_epoch_and_counted(dataset):
    feed = dataset.to_numpy(3, seed=1, buckets="width")
    assert feed.left_out == {str(width): 2 for width in sorted(WIDTHS)}
    epochs = [set(keys_of(feed)) for _ in range(8)]
    assert {len(keys) for keys in epochs} == {30}
    assert len(set.union(*epochs)) == 40


def test_buckets_of_conditions_take_a_sample_into_the_first_and_leave_out_the_others(dataset):
    feed = dataset.to_numpy(4, buckets=SHAPES)
    assert all(max(batch) <= 9 or min(batch) >= 11 for batch in widths_of(feed))
    assert feed.left_out == {"(no bucket)": WIDTHS[10]}
    first = dataset.to_numpy(4, buckets={"all": "width > 0"} | SHAPES)
    assert first.left_out == {}
    assert len(first) == 10


def test_a_condition_of_the_dataset_holds_in_buckets_too(dataset):
    feed = dataset.where("width <> 9").to_numpy(4, buckets=SHAPES)
    assert {width for batch in widths_of(feed) for width in batch} == {8, 11, 12}


def test_weights_say_how_many_of_each_and_buckets_go_on_from_epoch_to_epoch(dataset):
    feed = dataset.to_numpy(4, seed=2, buckets=SHAPES, bucket_weights={"narrow": 3, "wide": 1}, bucket_size=1)
    epochs = [[width for batch in widths_of(feed) for width in batch] for _ in range(2)]
    assert [sum(width <= 9 for width in widths) for widths in epochs] == [24, 24]
    again = [key for batch in feed for key in batch["__key__"]]
    assert max(Counter(again).values()) == 2


def test_equal_weights_balance_classes_within_batches(dataset):
    uneven = dataset.where("width = 8 OR __key__ < '000000003'")
    feed = uneven.to_numpy(5, seed=1, buckets="width", bucket_weights="equal", bucket_size=1)
    counts = Counter(width for _ in range(3) for batch in widths_of(feed) for width in batch)
    assert set(counts) == {8, 9, 10}
    assert max(counts.values()) - min(counts.values()) <= 3


def test_ranks_have_batches_of_one_bucket_each_and_divide_all(dataset):
    options = {"seed": 1, "buckets": "width", "bucket_size": 4}
    whole = keys_of(dataset.to_numpy(4, **options))
    feeds = [dataset.to_numpy(2, rank=rank, world_size=3, **options) for rank in range(3)]
    steps = [widths_of(feed) for feed in feeds]
    assert {len(batches) for batches in steps} == {7}
    assert all(len(set(batch)) <= 1 for batches in steps for batch in batches)
    assert sorted(key for feed in feeds for key in (feed.set_epoch(0), keys_of(feed))[1]) == sorted(whole)


def test_buckets_survive_pickling_with_what_is_in_them(dataset):
    feed = dataset.to_numpy(4, seed=1, buckets="width")
    copy = pickle.loads(pickle.dumps(feed))
    assert copy.fingerprint == feed.fingerprint
    assert keys_of(copy) == keys_of(feed)


def test_buckets_that_are_too_small_for_a_group_are_named(dataset):
    few = {"few": "__key__ < '000000003'", "many": "width > 0"}
    with pytest.warns(UserWarning, match="1 buckets have fewer samples than bucket_size 8.* 3 samples.* few"):
        feed = dataset.to_numpy(8, buckets=few)
    assert feed.left_out["few"] == 3
    assert len(feed) == 4
    assert dataset.to_numpy(8, buckets=few, bucket_weights={"many": 1}).left_out == {"few": 3}


def test_buckets_of_texts_that_are_not_utf8_are_refused_by_shard_and_column(tmp_path):
    write_tar(tmp_path / "a.tar", [(f"{row}", {"txt": b"x"}) for row in range(2)])
    texts = pa.Array.from_buffers(pa.string(), 2, pa.array([b"a", b"\xff"]).buffers())
    write_parquet(tmp_path / "a.parquet", {"key": ["0", "1"], "status": ["success"] * 2, "said": texts})
    with pytest.raises(ShardError, match=r"a\.tar: said holds texts that are not UTF-8; choose another column"):
        tarloom.open(tmp_path).to_numpy(1, buckets="said")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"buckets": "nothing"}, "has no 'nothing'"),
        ({"buckets": "json"}, "json is a member"),
        ({"buckets": "score.value"}, "score.value is double"),
        ({"buckets": {}}, "name a column"),
        ({"buckets": ["width"]}, r"buckets cannot be \['width'\]; give it as buckets=\"class\""),
        ({"buckets": "width", "bucket_weights": 2}, "bucket_weights cannot be 2"),
        ({"buckets": {"a": "wide > 3"}}, "no column 'wide'"),
        ({"buckets": {"a": "width > 100"}}, "no bucket has 4 samples"),
        ({"buckets": "width", "bucket_size": 6}, "must divide batch_size 4, or be a multiple"),
        ({"buckets": "width", "bucket_size": 0}, "at least 1"),
        ({"buckets": "width", "bucket_weights": {"7": 1}}, "no bucket '7'"),
        ({"buckets": "width", "bucket_weights": {"8": -1}}, "8 has -1"),
        ({"buckets": "width", "bucket_weights": {"8": "1"}}, "8 has '1'; give a number, 0 or more"),
        ({"buckets": "width", "bucket_weights": {"8": 0}}, "leave no bucket"),
        ({"buckets": "width", "bucket_weights": "even"}, '"equal"'),
        ({"buckets": SHAPES, "bucket_weights": {"narrow": 99, "wide": 1}}, "'wide' no group of 4 in an epoch of 32"),
        ({"bucket_size": 4}, "of no use without buckets"),
    ],
)
def test_buckets_that_cannot_be_are_refused(dataset, options, says):
    with pytest.raises(UsageError, match=says):
        dataset.to_numpy(4, **options)
