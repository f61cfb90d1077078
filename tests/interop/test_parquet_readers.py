"""pyarrow and pandas read our parquet files, and find img2dataset's columns in them."""

import json
import sys

import pandas as pd
import pyarrow.parquet as pq
import pytest

from tests.interop.conftest import FAILING, PICTURES, SHARD_ROWS
from tests.peers import run_python
from tests.source_tree import ROOT


def shard_tables(folder) -> list[str]:
    return sorted(path.name for path in folder.glob("?????.parquet"))


def test_our_metadata_has_img2datasets_columns_first_in_its_order_and_types(our_folder, img2datasets_folder):
    for name in shard_tables(img2datasets_folder):
        theirs, ours = pq.read_schema(img2datasets_folder / name), pq.read_schema(our_folder / name)
        assert ours.names[: len(theirs.names)] == theirs.names
        assert [ours.field(column).type for column in theirs.names if column != "exif"] == [
            theirs.field(column).type for column in theirs.names if column != "exif"
        ]


def test_our_rows_say_what_img2datasets_rows_say(our_folder, img2datasets_folder):
    """Of the same list: the same statuses, sizes and hashes. How an error is worded is each one's own.

    Keys are the same numbers, where shards are of a power of ten; ours have nine digits whatever the shards' size.
    """
    same = ["url", "caption", "key", "status", "width", "height", "original_width", "original_height", "sha256"]
    assert shard_tables(our_folder) == shard_tables(img2datasets_folder)
    for name in shard_tables(our_folder):
        ours = pd.read_parquet(our_folder / name)[same].astype({"key": int})
        theirs = pd.read_parquet(img2datasets_folder / name)[same].astype({"key": int})
        theirs = theirs.sort_values("key", ignore_index=True)
        if_success = ours["status"] == "success"
        pd.testing.assert_frame_equal(ours[if_success], theirs[if_success])
        pd.testing.assert_frame_equal(ours[same[:4]], theirs[same[:4]])


def test_our_stats_have_img2datasets_names(our_folder, img2datasets_folder):
    for path in sorted(img2datasets_folder.glob("*_stats.json")):
        theirs, ours = json.loads(path.read_text()), json.loads((our_folder / path.name).read_text())
        assert theirs.keys() <= ours.keys()
        counts = ("count", "successes", "failed_to_download", "failed_to_resize")
        assert [ours[name] for name in counts] == [theirs[name] for name in counts]


@pytest.mark.parametrize(
    "read", [lambda path: pd.read_parquet(path).to_dict("list"), lambda p: pq.read_table(p).to_pydict()]
)
def test_pandas_and_pyarrow_read_metadata_and_index(our_folder, read):
    names = shard_tables(our_folder)
    metadata = [read(our_folder / name) for name in names]
    indexes = [read(our_folder / "_tarloom" / "index" / name) for name in names]
    assert sum(len(table["key"]) for table in metadata) == PICTURES + len(FAILING)
    for table, index in zip(metadata, indexes, strict=True):
        done = [key for key, status in zip(table["key"], table["status"], strict=True) if status == "success"]
        assert index["__key__"] == done
        assert len(done) <= SHARD_ROWS


def test_pandas_and_pyarrow_read_a_sidecar_of_vectors(our_folder):
    clip = ROOT / "source_data" / "models" / "clip"
    run_python(sys.executable, ROOT / "process" / "embed_with_clip.py", "--path", our_folder, "--model", clip)
    for path in sorted(our_folder.glob("*.clip.parquet")):
        frame, table = pd.read_parquet(path), pq.read_table(path)
        assert list(frame["__key__"]) == table["__key__"].to_pylist()
        assert len({len(vector) for vector in frame["embedding"]}) == 1
        assert frame["embedding"][0].dtype == "float16"
