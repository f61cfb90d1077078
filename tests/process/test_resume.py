"""A run that was stopped goes on at the row: what was answered is not asked again, and the bytes are the same."""

import contextlib
import resource
import shutil

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tarloom
from tarloom.engines.local import LocalEngine
from tarloom.errors import EngineError
from tarloom.format.verify.dataset import verify
from tarloom.process.config import ProcessConfig
from tarloom.process.job import ProcessJob
from tarloom.process.loop.shard import ShardProcessor
from tarloom.process.plan import Planner
from tarloom.read.dataset import open_dataset
from tests.process.asked import AskedStage, asked, forget, run
from tests.process.shards import sidecars, write_shard

ROWS = 30


def samples(rows: int = ROWS, *, text: str = "text"):
    return [(f"{number:04d}", {"txt": f"{text} {number}".encode()}) for number in range(rows)]


def parts(folder) -> list:
    return sorted(path for path in (folder / "_tarloom" / "parts").rglob("*") if path.is_file())


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "shards"
    place.mkdir()
    write_shard(place / "a.tar", samples())
    return place


def whole(folder, tmp_path, **options) -> dict[str, bytes]:
    """The sidecars of a run that is not stopped."""
    place = tmp_path / "whole"
    place.mkdir()
    write_shard(place / "a.tar", samples())
    log = tmp_path / "whole-log"
    log.mkdir()
    run(place, AskedStage(log=str(log), **options))
    return sidecars(place, "asked")


def stopped(folder, log, *, at: int, **options) -> AskedStage:
    """Run until the stage is asked about this row; the stage as it goes on."""
    stage = AskedStage(log=str(log), ends_at=f"{at:04d}", how="interrupt", **options)
    with contextlib.suppress(KeyboardInterrupt):
        run(folder, stage)
    assert sidecars(folder, "asked") == {}
    return stage


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, ROWS - 1), calls=st.integers(1, 4), batch=st.integers(1, 7), lost=st.sets(st.integers(0, 30)))
def test_wherever_a_run_stops_it_goes_on_to_the_same_bytes(tmp_path_factory, at, calls, batch, lost):
    tmp_path = tmp_path_factory.mktemp("example")
    folder, log = tmp_path / "shards", tmp_path / "log"
    folder.mkdir()
    log.mkdir()
    write_shard(folder / "a.tar", samples())
    options = {"batch_size": calls * batch, "calls": calls}
    stage = stopped(folder, log, at=at, **options)
    there = parts(folder)
    for number in lost & set(range(len(there))):
        there[number].unlink()
    run(folder, stage)
    assert sidecars(folder, "asked") == whole(folder, tmp_path, **options)
    assert parts(folder) == []
    twice = [key for key, times in asked(log).items() if times > 1]
    assert len(twice) <= calls * batch + len(lost) * batch
    assert set(asked(log).values()) <= {1, 2}


@pytest.mark.parametrize("how", ["kill", "raise"])
def test_a_worker_that_ends_repeats_at_most_one_batch(folder, log, tmp_path, how):
    run(folder, AskedStage(log=str(log), ends_at="0017", how=how), workers=2)
    assert sidecars(folder, "asked") == whole(folder, tmp_path)
    counts = asked(log)
    assert sorted(key for key, times in counts.items() if times > 1) == ["0016", "0017", "0018", "0019"]
    assert len(counts) == ROWS


def test_a_shard_whose_worker_died_when_it_had_committed_is_not_asked_again(folder, log):
    stage = AskedStage(log=str(log))
    ((task, _),) = Planner(open_dataset(folder), {"asked": stage}, ProcessConfig(path=str(folder))).found()
    processor = ShardProcessor(stages={"asked": stage})()
    first = processor(task)
    forget(log)
    again = processor(task)  # the report of the first try was lost, and the sidecar was not there when it was planned
    processor.close()
    assert asked(log) == {}
    assert again.stages == first.stages


def test_what_was_answered_is_neither_asked_nor_read_again(folder, log):
    stage = stopped(folder, log, at=17)
    forget(log)
    job = run(folder, stage)
    assert sorted(asked(log)) == [f"{number:04d}" for number in range(16, ROWS)]
    assert job.summary().rows == ROWS


def test_of_a_run_that_goes_on_only_what_is_missing_remains(folder, log):
    stage = stopped(folder, log, at=17)
    job = ProcessJob(stage, ProcessConfig(path=str(folder)), LocalEngine(1))
    job.prepare()
    assert job.remaining == ROWS - 16


def test_a_run_with_other_batches_goes_on_with_what_is_missing(folder, log):
    stopped(folder, log, at=17)
    forget(log)
    run(folder, AskedStage(log=str(log), batch_size=10))
    assert sorted(asked(log)) == [f"{number:04d}" for number in range(16, ROWS)]
    beside = pq.read_table(folder / "a.asked.parquet")["beside"].to_pylist()
    assert beside == [4] * 20 + [10] * 10  # the batch of rows 10 to 19 has four rows left


@pytest.mark.parametrize("damage", [b"", b"half", None], ids=["empty", "torn", "truncated"])
def test_a_part_that_is_not_whole_is_asked_again(folder, log, damage, tmp_path):
    stage = stopped(folder, log, at=17)
    first = parts(folder)[0]
    first.write_bytes(first.read_bytes()[:-20] if damage is None else damage)
    forget(log)
    run(folder, stage)
    assert sorted(asked(log)) == [f"{number:04d}" for number in (*range(4), *range(16, ROWS))]
    assert sidecars(folder, "asked") == whole(folder, tmp_path)


def test_a_part_with_a_changed_bit_is_asked_again(folder, log, tmp_path):
    stage = stopped(folder, log, at=17)
    first = parts(folder)[0]
    data = bytearray(first.read_bytes())
    data[40] ^= 1
    first.write_bytes(bytes(data))
    run(folder, stage)
    assert sidecars(folder, "asked") == whole(folder, tmp_path)


def test_parts_of_another_fingerprint_are_not_believed(folder, log, tmp_path):
    stopped(folder, log, at=17)
    forget(log)
    run(folder, AskedStage(log=str(log), word="other"))
    assert len(asked(log, "other")) == ROWS
    assert sidecars(folder, "asked") == whole(folder, tmp_path, word="other")
    assert parts(folder) == []


def test_parts_of_another_version_of_the_shard_are_not_believed(folder, log):
    stage = stopped(folder, log, at=17)
    write_shard(folder / "a.tar", samples(text="now another"))
    forget(log)
    run(folder, stage)
    assert len(asked(log)) == ROWS
    assert pq.read_table(folder / "a.asked.parquet")["text"][0].as_py() == "said now another 0"


def test_what_is_among_the_parts_and_is_none_is_left_out(folder, log):
    stage = stopped(folder, log, at=17)
    place = parts(folder)[0].parent
    (place / "note.txt").write_text("hello")
    shutil.copy(folder / "a.tar", place / "000000003.parquet")
    forget(log)
    run(folder, stage)
    assert len(asked(log)) == ROWS - 16
    assert parts(folder) == []


def test_parts_of_shards_that_are_gone_or_done_are_swept_and_those_of_other_stages_kept(folder, log):
    stage = stopped(folder, log, at=17)
    place = parts(folder)[0].parent
    for name in ("gone.asked", "train/gone.asked", "a.other"):
        shutil.copytree(place, place.parent / name)
    run(folder, stage)
    shutil.copytree(place.parent / "a.other", place)
    run(folder, stage)
    assert {path.parent.name for path in parts(folder)} == {"a.other"}


def test_a_run_over_one_tar_leaves_the_parts_of_those_beside_it(folder, log):
    stage = stopped(folder, log, at=17)
    write_shard(folder / "b.tar", samples(3))
    left = parts(folder)
    run(folder / "b.tar", stage)
    assert parts(folder) == left
    forget(log)
    run(folder, stage)
    assert len(asked(log)) == ROWS - 16


def test_a_shard_below_another_ones_name_keeps_its_own_parts(folder, log, tmp_path):
    (folder / "a").mkdir()
    shutil.copy(folder / "a.tar", folder / "a" / "b.tar")
    stage = AskedStage(log=str(log), ends_at="0017", how="raise")
    run(folder, stage)
    assert sidecars(folder, "asked")["a.asked.parquet"] == whole(folder, tmp_path)["a.asked.parquet"]
    assert parts(folder) == []


def test_shards_of_no_more_rows_than_a_batch_need_no_parts(folder, log, monkeypatch):
    from tarloom.process.loop.parts import Parts

    added, add = [], Parts.add
    monkeypatch.setattr(Parts, "add", lambda *given: added.append(1) or add(*given))
    run(folder, AskedStage(log=str(log), batch_size=ROWS))
    assert added == []
    run(folder, AskedStage(log=str(log), batch_size=ROWS - 1), name="other")
    assert len(added) == 2


def test_readers_and_verify_do_not_mind_parts(folder, log):
    stopped(folder, log, at=17)
    assert parts(folder)
    assert [finding for report in verify(str(folder)) for finding in report.findings] == []
    dataset = tarloom.open(folder)
    assert len(dataset) == ROWS
    assert "asked.text" not in dataset.columns
    assert [sample["__key__"] for sample in dataset] == [f"{number:04d}" for number in range(ROWS)]


def test_two_stages_go_on_each_where_it_stopped(folder, log, tmp_path):
    quick = AskedStage(log=str(log), word="quick")
    slow = AskedStage(log=str(log), word="slow", wants=("quick.text",), ends_at="0017", how="interrupt")
    with contextlib.suppress(KeyboardInterrupt):
        run(folder, named={"quick": quick, "slow": slow})
    forget(log)
    run(folder, named={"quick": quick, "slow": slow})
    assert min(asked(log, "quick")) >= "0020"  # it may have been a batch ahead
    assert asked(log, "slow").keys() >= {f"{number:04d}" for number in range(16, 20)}
    assert min(asked(log, "slow")) >= "0012"  # it may have overtaken the batch before it
    assert pq.read_table(folder / "a.slow.parquet")["text"][17].as_py() == "slow quick text 17"


def test_an_interrupt_does_not_wait_for_batches_under_way(folder, log):
    stage = AskedStage(log=str(log), batch_size=8, calls=2, ends_at="0004", how="interrupt", until="let go")
    job = ProcessJob(stage, ProcessConfig(path=str(folder)), LocalEngine(1))
    job.prepare()
    with pytest.raises(KeyboardInterrupt):
        list(job)  # the other batch waits until the next line
    (log / "let go").touch()
    run(folder, stage)
    assert sidecars(folder, "asked").keys() == {"a.asked.parquet"}


@contextlib.contextmanager
def files_of_at_most(size: int):
    """What stands for a disk that is full: it cannot be written to either."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_where_nothing_can_be_written_the_run_ends_at_once_and_goes_on_later(tmp_path, log):
    folder = tmp_path / "shards"
    folder.mkdir()
    write_shard(folder / "a.tar", samples(text="text" * 50_000))
    stage = AskedStage(log=str(log))
    with (
        files_of_at_most(500_000),
        pytest.raises(EngineError, match=r"a\.asked/000000000\.parquet: File too large; check"),
    ):
        run(folder, stage)
    assert asked(log).total() <= 8
    assert parts(folder) == []
    assert sidecars(folder, "asked") == {}
    run(folder, stage)
    assert pq.read_table(folder / "a.asked.parquet").num_rows == ROWS
