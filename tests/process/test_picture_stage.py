"""The base of picture-by-picture stages: what a subclass gets for its few lines."""

import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tarloom.engines.local import LocalEngine
from tarloom.errors import EngineError, RowError, StageMismatch, UsageError
from tarloom.process.batch import Batch, Decoder
from tarloom.process.config import ProcessConfig
from tarloom.process.job import ProcessJob
from tarloom.process.picture_stage import PictureStage
from tests.process.shards import encoded, write_shard
from tests.process.stage_contract import ask, rows_of


@dataclass(frozen=True, kw_only=True)
class Tone(PictureStage):
    """Dark pictures fail, grey ones have no hue, and a white one is more than it can bear."""

    darkest: int = 10

    name = "tone"
    columns: ClassVar = {"level": pa.int32(), "hue": pa.list_(pa.float32(), 3), "kind": pa.string()}

    def look(self, rgb):
        level = int(rgb.mean())
        if level < self.darkest:
            raise RowError("too_dark", "nothing can be seen")
        if level == 255:
            raise ZeroDivisionError("white")
        hue = {} if np.ptp(rgb.mean(axis=(0, 1))) == 0 else {"hue": rgb.mean(axis=(0, 1)) / 255}
        return {"level": level, "kind": "light" if level > 128 else "dim", **hue}


@dataclass(frozen=True, kw_only=True)
class LaterTone(Tone):
    version = "2"


def png(*colour: int) -> dict[str, bytes]:
    return {"png": encoded(Image.new("RGB", (8, 8), colour), "PNG")}


def process(folder, stage, **options):
    job = ProcessJob(stage, ProcessConfig(path=str(folder), **options), LocalEngine())
    job.prepare()
    list(job)
    return job.summary()


def test_values_are_columns_and_what_is_left_out_is_null():
    rows = ask(Tone(), png(200, 200, 200), png(255, 0, 0), png(0, 0, 0), {"png": b"none"}, {"txt": b"none"})
    assert [(row["level"], row["hue"], row["kind"]) for row in rows] == [
        (200, None, "light"),
        (85, [1.0, 0.0, 0.0], "dim"),
        (None, None, None),
        (None, None, None),
        (None, None, None),
    ]
    assert [(row["status"], row["error"]) for row in rows] == [
        ("success", None),
        ("success", None),
        ("failed", "too_dark"),
        ("failed", "not_an_image"),
        ("skipped", "no_picture"),
    ]


def test_a_fault_of_the_stage_fails_the_shard_and_says_where_while_others_go_on(tmp_path):
    write_shard(tmp_path / "a.tar", [("0", png(9, 99, 9)), ("1", png(255, 255, 255))])
    write_shard(tmp_path / "b.tar", [("2", png(9, 99, 9))])
    summary = process(tmp_path, Tone())
    assert list(summary.failed_shards) == ["a"]
    assert "stage tone: key 1: ZeroDivisionError: white (test_picture_stage.py:" in summary.failed_shards["a"]
    assert pq.read_table(tmp_path / "b.tone.parquet").column("level").to_pylist() == [39]


def test_answers_of_other_options_or_of_an_older_version_are_not_mixed(tmp_path):
    write_shard(tmp_path / "a.tar", [("0", png(9, 99, 9))])
    process(tmp_path, Tone())
    with pytest.raises(StageMismatch, match=r"darkest '10' \(now '20'\)"):
        process(tmp_path, Tone(darkest=20))
    with pytest.raises(StageMismatch, match=r"version '1' \(now '2'\)"):
        process(tmp_path, LaterTone())
    assert process(tmp_path, Tone(batch_size=7)).skipped == 1


@dataclass(frozen=True, kw_only=True)
class Says(PictureStage):
    """Whatever it is told to."""

    what: object

    name = "says"
    columns: ClassVar = {"level": pa.int32()}

    def look(self, rgb):
        return self.what


@pytest.mark.parametrize("what", [{"levle": 3}, {"level": 3, "more": 4}, None, 3])
def test_values_of_no_column_end_the_run_and_are_not_left_out(tmp_path, what):
    write_shard(tmp_path / "a.tar", [("0", png(9, 99, 9))])
    said = f"stage says, key 0: look answered with {what!r}, not with values of its columns, level"
    with pytest.raises(EngineError, match=re.escape(said)):
        process(tmp_path, Says(what=what))
    assert not (tmp_path / "a.says.parquet").exists()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0.87, "0.87 is no int32: it has a fraction; round it, or make the column one of floats"),
        (np.float32(7.5), "np.float32(7.5) is no int32: it has a fraction"),
        ("x", "'x' is no int32: ArrowInvalid: Could not convert 'x'"),
        (2**40, "1099511627776 is no int32: ArrowInvalid: Value 1099511627776 too large"),
    ],
)
def test_a_value_that_its_column_cannot_hold_is_told_by_key_and_column_and_never_made_to_fit(tmp_path, value, said):
    write_shard(tmp_path / "a.tar", [("0", png(9, 99, 9))])
    told = process(tmp_path, Says(what={"level": value})).failed_shards["a"]
    assert told.startswith(f"stage says: key 0: column level: {said}")
    assert not (tmp_path / "a.says.parquet").exists()


@pytest.mark.parametrize(
    ("kind", "value", "other"),
    [
        (pa.list_(pa.uint8()), [1, 2.0, None], [1, 2.5]),
        (pa.list_(pa.int32(), 2), np.array([1.0, 2.0]), np.array([1.0, 2.5])),
        (pa.struct({"a": pa.int64(), "b": pa.list_(pa.int8())}), {"a": 1, "b": [2]}, {"a": 1, "b": [2.5]}),
    ],
)
def test_whole_numbers_within_lists_and_structs_are_never_made_to_fit_either(tmp_path, kind, value, other):
    class Nested(Says):
        columns: ClassVar = {"level": kind}

    write_shard(tmp_path / "a.tar", [("0", png(9, 99, 9))])
    told = process(tmp_path, Nested(what={"level": other})).failed_shards["a"]
    assert "it has a fraction; round it" in told
    process(tmp_path, Nested(what={"level": value}))
    assert pq.read_table(tmp_path / "a.says.parquet").num_rows == 1


@pytest.mark.parametrize("value", [3, 3.0, np.float64(3), np.uint8(3), np.array(3)])
def test_a_whole_number_of_any_type_is_one(tmp_path, value):
    write_shard(tmp_path / "a.tar", [("0", png(9, 99, 9))])
    process(tmp_path, Says(what={"level": value}))
    assert pq.read_table(tmp_path / "a.says.parquet").column("level").to_pylist() == [3]


def test_a_worker_that_is_closed_looks_at_no_further_picture():
    looks, begun = [], Event()

    class Slow(Tone):
        def look(self, rgb):
            looks.append(rgb)
            if len(looks) == 10:
                begun.set()
            time.sleep(0.02)
            return {}

    decoder, worker = Decoder(), Slow().open()
    rows = rows_of([(str(number), png(9, 99, 9)) for number in range(200)])
    with ThreadPoolExecutor(1) as asking:
        asked = asking.submit(worker, Batch(rows, decoder))
        assert begun.wait(60)
        worker.close()
        assert asked.exception(60) is not None
    decoder.close()
    assert len(looks) < 200


def test_batches_of_no_row_are_a_usage_error():
    with pytest.raises(UsageError, match="batch_size must be at least 1, not 0"):
        Tone(batch_size=0).check()
