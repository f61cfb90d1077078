"""Metadata has img2dataset's columns in its order; stats have its names."""

import json

import pyarrow as pa
import pytest

from tarloom.errors import CorruptShard, UsageError
from tarloom.format.metadata import Stats, metadata_schema, read_stats, successes, write_stats
from tarloom.format.storage import open_storage

STATS = Stats(
    count=3,
    successes=1,
    failed_to_download=1,
    failed_to_resize=1,
    duration=1.5,
    start_time=10.0,
    end_time=11.5,
    status_dict={"success": 1, "http_404: Not Found": 1, "not_an_image": 1},
    identity="sha256:12",
    tar_size=10240,
)


@pytest.fixture
def storage(tmp_path):
    return open_storage(tmp_path)


def test_columns_are_those_of_img2dataset_then_ours():
    schema = metadata_schema(pa.schema([("score", pa.float64())]), caption=True)
    text = " score:double caption:string url:string key:string status:string error_message:string width:int32"
    text += " height:int32 original_width:int32 original_height:int32 exif:string sha256:string error:string"
    assert [f"{field.name}:{field.type}" for field in schema] == text.split()


def test_without_captions_there_is_no_caption_column():
    assert metadata_schema(pa.schema([]), caption=False).names[:2] == ["url", "key"]


@pytest.mark.parametrize("name", ["url", "key", "error", "caption"])
def test_an_additional_column_may_not_take_a_name_that_is_taken(name):
    with pytest.raises(UsageError, match=f"additional column {name}: .*; leave it out, or rename it"):
        metadata_schema(pa.schema([(name, pa.string())]), caption=True)


def test_a_column_called_caption_may_be_additional_where_there_are_no_captions():
    assert metadata_schema(pa.schema([("caption", pa.string())]), caption=False).names[0] == "caption"


def test_successes_are_the_rows_of_that_status_in_order():
    status = ["success", "failed_to_download", "success", None, "failed_to_resize"]
    assert successes(pa.table({"key": list("abcde"), "status": status})).column("key").to_pylist() == ["a", "c"]


def test_stats_come_back(storage):
    write_stats(storage, "00000", STATS)
    assert read_stats(storage, "00000") == STATS
    assert list(json.loads(storage.read("00000_stats.json")))[:8] == [
        *("count", "successes", "failed_to_download", "failed_to_resize"),
        *("duration", "start_time", "end_time", "status_dict"),
    ]


def test_stats_that_img2dataset_wrote_are_read(storage):
    found = {k: v for k, v in vars(STATS).items() if k not in ("identity", "tar_size")}
    storage.write("00000_stats.json", json.dumps(found | {"new": 1}, indent=4).encode())
    stats = read_stats(storage, "00000")
    assert (stats.count, stats.identity, stats.tar_size) == (3, None, None)


def test_no_stats_are_none(storage):
    assert read_stats(storage, "00000") is None


COUNTS = '"count": 1, "successes": 1, "failed_to_download": 0, "failed_to_resize": 0, "duration": 1, "end_time": 2'
BAD_STATS = ["", "{", "[]", "null", "7", "{}", '{"count": 1}', '"x"', "[" * 100_000, f'{{{COUNTS}, "start_time": "1"}}']


@pytest.mark.parametrize("text", BAD_STATS, ids=lambda text: text[:20])
def test_stats_that_cannot_be_understood_are_corrupt(storage, text):
    storage.write("00000_stats.json", text.encode())
    with pytest.raises(CorruptShard, match=r"00000_stats\.json: not a stats file"):
        read_stats(storage, "00000")
