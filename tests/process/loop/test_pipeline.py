"""The shard loop in pieces does what the loop does: the same questions, the same bytes, wherever it stops."""

import shutil

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tarloom.engines.local import LocalEngine
from tarloom.process.batch import Batch, Decoder
from tarloom.process.config import ProcessConfig
from tarloom.process.job import ProcessJob
from tarloom.process.loop.portions import Portion, Said, pack_portion, unpack_portion
from tarloom.process.loop.shard import ShardProcessor
from tests.process.asked import AskedStage, asked, forget
from tests.process.pieces import PiecesEngine
from tests.process.pixels import PixelStage
from tests.process.shards import LengthStage, scene_sample, scene_shards, sidecars, write_shard
from tests.process.stage_contract import rows_of


def run(folder, stages, engine, **options):
    job = ProcessJob(stages, ProcessConfig(path=str(folder), **options), engine)
    job.prepare()
    return job, list(job)


def shards_of_texts(folder):
    """Three shards of 30, 0 and 3 rows; row 0002 is bad."""
    folder.mkdir()
    texts = [b"bad" if number == 2 else b"text %d" % number for number in range(33)]
    samples = [(f"{number:04d}", {"txt": text}) for number, text in enumerate(texts)]
    write_shard(folder / "a.tar", samples[:30])
    write_shard(folder / "b.tar", [])
    write_shard(folder / "c.tar", samples[30:])
    return folder


def first_and_second(log, **options):
    """A stage that repeats the texts, and one that repeats what the first said."""
    second = AskedStage(log=str(log), word="second", wants=("first.text",), **options)
    return {"first": AskedStage(log=str(log), word="first", **options), "second": second}


@pytest.mark.parametrize("apart", [(), ("first",), ("second",), ("first", "second", "length")], ids=str)
def test_pieces_make_the_same_sidecars_and_reports_as_the_loop(tmp_path, log, apart):
    whole, pieces = (shards_of_texts(tmp_path / name) for name in ("whole", "pieces"))
    stages = {**first_and_second(log), "length": LengthStage()}
    one, reports = run(whole, stages, LocalEngine())
    other, in_pieces = run(pieces, stages, PiecesEngine(apart=apart))
    for name in stages:
        assert sidecars(pieces, name) == sidecars(whole, name)
    assert {r.shard: (r.stages, r.bytes) for r in in_pieces} == {r.shard: (r.stages, r.bytes) for r in reports}
    assert other.summary().stages == one.summary().stages
    assert set(asked(log, "second").values()) == {2}
    assert {"read", "first", "second", "length", "write"} <= set(in_pieces[0].seconds_in)
    assert not list(pieces.glob("_tarloom/parts/*/*"))


def test_pieces_ask_again_about_rows_that_failed_before_a_run_was_stopped(tmp_path, log):
    """Row 4 is the first of a part, and of the part that the retry writes."""
    write_shard(tmp_path / "a.tar", [(str(n), {"txt": b"later" if n == 4 else b"text"}) for n in range(9)])
    stage = AskedStage(log=str(log))
    run(tmp_path, stage, PiecesEngine(stop=3))
    forget(log)
    (log / "now").touch()
    job, _ = run(tmp_path, stage, PiecesEngine(), retry_failed="all")
    assert list(asked(log)) == ["4"]
    assert job.summary().successes == 9


def test_pieces_see_the_same_pictures(tmp_path):
    whole, pieces = (scene_shards(tmp_path / name, shards=2, rows=10) for name in ("whole", "pieces"))
    stages = {"mean": PixelStage(), "large": PixelStage(what="max", at_least=2048)}
    run(whole, stages, LocalEngine())
    run(pieces, stages, PiecesEngine())
    assert {n: sidecars(pieces, n) for n in stages} == {n: sidecars(whole, n) for n in stages}


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    stop=st.integers(0, 20),
    seed=st.integers(0, 5),
    size=st.integers(1, 7),
    lost=st.sets(st.integers(0, 30)),
    goes_on_in_pieces=st.booleans(),
    apart=st.sampled_from([(), ("first",), ("first", "second")]),
)
def test_wherever_it_stops_whoever_goes_on_makes_the_same_bytes(
    tmp_path_factory, stop, seed, size, lost, goes_on_in_pieces, apart
):
    tmp_path = tmp_path_factory.mktemp("example")
    whole, pieces, log = shards_of_texts(tmp_path / "whole"), shards_of_texts(tmp_path / "pieces"), tmp_path / "log"
    log.mkdir()
    stages = first_and_second(log, batch_size=size)
    run(whole, stages, LocalEngine())
    forget(log)
    run(pieces, stages, PiecesEngine(seed=seed, stop=stop, apart=apart))
    parts = sorted(path for path in (pieces / "_tarloom/parts").rglob("*") if path.is_file())
    for number in lost & set(range(len(parts))):
        parts[number].unlink()
    run(pieces, stages, PiecesEngine(apart=apart) if goes_on_in_pieces else LocalEngine())
    for name in stages:
        assert sidecars(pieces, name) == sidecars(whole, name)
        if not lost and goes_on_in_pieces:
            assert set(asked(log, name).values()) == {1}


def test_what_is_read_again_is_the_same_whatever_was_written_meanwhile(tmp_path, log):
    folder = shards_of_texts(tmp_path / "shards")
    stages = first_and_second(log)
    job = ProcessJob(stages, ProcessConfig(path=str(folder)), LocalEngine())
    job.prepare()
    pipeline = ShardProcessor(stages=stages).pipeline()
    (begun, *_) = pipeline.begin(job._todo)
    before = [unpack_portion(portion, None).numbered[0] for portion in pipeline.read(begun)]
    run(folder, stages, PiecesEngine(stop=3))
    assert [unpack_portion(portion, None).numbered[0] for portion in pipeline.read(begun)] == before


def test_failures_are_retried_in_pieces_too(tmp_path, log):
    folder = tmp_path / "shards"
    folder.mkdir()
    texts = [b"later" if number % 3 == 0 else b"bad" for number in range(10)]
    write_shard(folder / "a.tar", [(f"{number:04d}", {"txt": text}) for number, text in enumerate(texts)])
    stage = AskedStage(log=str(log))
    run(folder, stage, LocalEngine())
    again = shutil.copytree(folder, tmp_path / "again")
    (log / "now").touch()
    forget(log)
    run(again, stage, LocalEngine(), retry_failed="transient")
    run(folder, stage, PiecesEngine(), retry_failed="transient")
    assert sidecars(folder, "asked") == sidecars(again, "asked")
    assert asked(log) == {f"{number:04d}": 2 for number in (0, 3, 6, 9)}


def test_a_trial_in_pieces_keeps_nothing(tmp_path, log):
    folder = shards_of_texts(tmp_path / "shards")
    job = ProcessJob(first_and_second(log), ProcessConfig(path=str(folder)), PiecesEngine())
    job.prepare()
    reports = list(job.trial(8))
    assert sum(report.stages["first"].rows for report in reports) >= 8
    assert sum(report.stages["second"].successes for report in reports) >= 4
    assert sidecars(folder, "first") == {}
    assert not list(folder.glob("_tarloom/parts/*"))


def test_a_portion_holds_a_batch_with_its_pictures_and_what_was_said_of_it(tmp_path):
    decoder = Decoder()
    batch = Batch(rows_of([scene_sample(number) for number in range(6)]), decoder)
    asked_of = np.array([True, False, True, False, False, True])
    earlier = pa.table({"text": [None, "one", None, "three", "four", None]})
    made = Portion(numbered=([3, 4, 5, 7, 8, 9], batch), said={"s": Said(asked_of, earlier)}, seconds={"read": 0.5})
    found = unpack_portion(pack_portion(made, (1024,)), decoder)
    assert found.numbered[0] == [3, 4, 5, 7, 8, 9]
    assert found.numbered[1].rows.equals(batch.rows)
    for one, other in zip(found.numbered[1].pictures(1024), batch.pictures(1024), strict=True):
        assert (one.data, one.ending) == (other.data, other.ending)
        assert np.array_equal(one.rgb, other.rgb)
        assert one.rgb.flags.writeable
    assert found.seconds == {"read": 0.5}
    said = found.said["s"]
    assert said.done.tolist() == (~asked_of).tolist()
    said.add([0, 2, 5], pa.table({"text": ["zero", "two", "five"], "more": [0, 2, 5]}))
    assert said.of(range(6)).column("text").to_pylist() == ["zero", "one", "two", "three", "four", "five"]
    decoder.close()
