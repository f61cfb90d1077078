"""Rows that failed are asked again on request, and no others."""

import pyarrow.parquet as pq
import pytest

from tarloom.engines.local import LocalEngine
from tarloom.format.sidecar import sidecar_info
from tarloom.format.storage import open_storage
from tarloom.process.config import ProcessConfig
from tarloom.process.cost import cost_of
from tarloom.process.job import ProcessJob
from tarloom.process.loop.answers import Answers
from tests.create.helpers import create
from tests.process.asked import AskedStage, asked, forget, run
from tests.process.pieces import PiecesEngine
from tests.process.shards import sidecars, write_shard

TEXTS = [b"one", b"bad", b"later", b"four", b"five", b"later", b"seven", b"bad again", b"nine"]


@pytest.fixture
def folder(tmp_path):
    """Two shards; of the first, rows 1 and 7 are bad and rows 2 and 5 fail for now. Of the second, all is well."""
    place = tmp_path / "shards"
    place.mkdir()
    write_shard(place / "a.tar", [(str(number), {"txt": text}) for number, text in enumerate(TEXTS)])
    write_shard(place / "b.tar", [("9", {"txt": b"ten"})])
    return place


@pytest.fixture
def stage(folder, log):
    """As it was when its sidecars were made."""
    made = AskedStage(log=str(log))
    run(folder, made)
    forget(log)
    return made


def endings(folder, name="asked"):
    return pq.read_table(folder / f"a.{name}.parquet")["error"].to_pylist()


FAILED = [None, "bad_text", "not_now", None, None, "not_now", None, "bad_text", None]


def test_without_the_request_nothing_is_asked_again(folder, log, stage):
    summary = run(folder, stage).summary()
    assert asked(log) == {}
    assert summary.failed_by_error == {"bad_text": 2, "not_now": 2}


@pytest.mark.parametrize(("retry", "again"), [("transient", ["2", "5"]), ("all", ["1", "2", "5", "7"])])
def test_the_rows_that_failed_are_asked_again_and_no_others(folder, log, stage, retry, again):
    untouched = (folder / "b.asked.parquet").stat().st_mtime_ns
    (log / "now").touch()
    summary = run(folder, stage, retry_failed=retry).summary()
    assert sorted(asked(log)) == again
    assert endings(folder) == [None, "bad_text", None, None, None, None, None, "bad_text", None]
    assert (summary.rows, summary.successes, summary.failed_by_error) == (10, 8, {"bad_text": 2})
    assert (folder / "b.asked.parquet").stat().st_mtime_ns == untouched


@pytest.mark.parametrize("engine", [LocalEngine(1), PiecesEngine()], ids=["shards", "pieces"])
def test_what_a_retry_takes_is_counted_for_the_rows_that_were_asked(folder, stage, engine):
    job = ProcessJob(stage, ProcessConfig(path=str(folder), retry_failed="transient"), engine)
    job.prepare()
    assert job.remaining == 2
    cost = cost_of(list(job), workers=1)
    assert (cost.images, cost.stages["asked"].images, cost.stages["asked"].totals) == (2, 2, {"length": 0})
    assert job.summary().rows == 10


def test_retried_rows_give_what_they_would_have_given_at_once(folder, log, stage, tmp_path):
    (log / "now").touch()
    run(folder, stage, retry_failed="all")
    retried = pq.read_table(folder / "a.asked.parquet").drop_columns(["beside"])
    run(folder, stage, name="anew")
    assert pq.read_table(folder / "a.anew.parquet").drop_columns(["beside"]).equals(retried)


def test_rows_that_fail_again_stay_as_they_were(folder, stage):
    before = pq.read_table(folder / "a.asked.parquet").drop_columns(["beside"])
    run(folder, stage, retry_failed="all")
    assert pq.read_table(folder / "a.asked.parquet").drop_columns(["beside"]).equals(before)


def test_where_nothing_transient_failed_nothing_is_done(folder, log, stage):
    (log / "now").touch()
    run(folder, stage, retry_failed="transient")
    forget(log)
    assert run(folder, stage, retry_failed="transient").summary().skipped == 2
    assert asked(log) == {}


def test_a_retry_that_is_stopped_goes_on_and_the_old_sidecar_stays_until_then(folder, log, stage):
    before = sidecars(folder, "asked")
    (log / "now").touch()
    stopping = AskedStage(log=str(log), ends_at="7", how="interrupt")
    with pytest.raises(KeyboardInterrupt):
        run(folder, stopping, retry_failed="all")
    assert sidecars(folder, "asked") == before
    assert sorted(asked(log)) == ["1", "2", "5", "7"]
    forget(log)
    run(folder, stopping, retry_failed="all")
    assert sorted(asked(log)) == ["5", "7"]  # rows 1 and 2 are of the first batch
    assert endings(folder) == [None, "bad_text", None, None, None, None, None, "bad_text", None]


def test_rows_that_failed_before_a_run_was_stopped_are_asked_again(folder, log):
    stopping = AskedStage(log=str(log), ends_at="8", how="interrupt")
    with pytest.raises(KeyboardInterrupt):
        run(folder, stopping)
    assert "a.asked.parquet" not in sidecars(folder, "asked")
    forget(log)
    (log / "now").touch()
    run(folder, stopping, retry_failed="transient")
    assert sorted(asked(log).keys() - {"9"}) == ["2", "5", "8"]
    assert endings(folder) == [None, "bad_text", None, None, None, None, None, "bad_text", None]


def test_what_was_answered_beside_a_row_that_is_asked_again_is_kept_if_that_is_stopped(folder, log):
    """Row 4 is the first of a part, and of the part that the retry writes."""
    write_shard(folder / "a.tar", [(str(n), {"txt": b"later" if n == 4 else b"text"}) for n in range(9)])
    for batch_size, options in ((4, {}), (1, {"retry_failed": "all"})):
        stopping = AskedStage(log=str(log), ends_at="8", how="interrupt", batch_size=batch_size)
        with pytest.raises(KeyboardInterrupt):
            run(folder, stopping, **options)
        (log / "ended").unlink()
        forget(log)
    run(folder, AskedStage(log=str(log)), retry_failed="all")
    assert sorted(asked(log).keys() - {"9"}) == ["8"]


def test_a_failure_of_one_retry_never_stands_for_what_another_was_answered(folder, log):
    for retry in ("transient", "all"):
        stopping = AskedStage(log=str(log), ends_at="8", how="interrupt")
        with pytest.raises(KeyboardInterrupt):
            run(folder, stopping, retry_failed=retry)
        (log / "ended").unlink()
        (log / "now").touch()
    run(folder, AskedStage(log=str(log)))
    assert endings(folder) == [None, "bad_text", None, None, None, None, None, "bad_text", None]


@pytest.mark.parametrize("left_by", ["none", "transient"])
def test_parts_that_were_left_beside_their_sidecar_do_not_keep_rows_from_being_asked_again(
    folder, log, monkeypatch, left_by
):
    with monkeypatch.context() as patch:
        patch.setattr(Answers, "drop_parts", lambda self: None)  # killed when the sidecar was there
        run(folder, AskedStage(log=str(log)), retry_failed=left_by)
    forget(log)
    (log / "now").touch()
    run(folder, AskedStage(log=str(log)), retry_failed="all")
    assert sorted(asked(log)) == ["1", "2", "5", "7"]
    assert endings(folder)[2] is None


@pytest.fixture
def stages(folder, log):
    """Two, of which the second repeats what the first said: as they were when the first failed, and as of now."""
    first = AskedStage(log=str(log), word="first")
    made = {"first": first, "second": AskedStage(log=str(log), word="second", wants=("first.text",))}
    run(folder, named=made)
    assert endings(folder, "second")[2] == "no_text"
    forget(log)
    (log / "now").touch()
    return made


def test_a_stage_that_depends_on_one_that_is_retried_is_asked_what_it_could_not_say(folder, log, stages):
    run(folder, named=stages, retry_failed="transient")
    assert sorted(asked(log, "first")) == ["2", "5"]
    assert sorted(asked(log, "second")) == ["1", "2", "5", "7"]
    assert pq.read_table(folder / "a.second.parquet")["text"][2].as_py() == "second first later"


def test_a_stage_that_depends_on_one_that_was_retried_alone_is_asked_what_it_could_not_say(folder, log, stages):
    run(folder, named={"first": stages["first"]}, retry_failed="transient")
    run(folder, named={"second": stages["second"]})
    assert asked(log, "second") == {}
    run(folder, named={"second": stages["second"]}, retry_failed="transient")
    assert sorted(asked(log, "second")) == ["1", "2", "5", "7"]
    assert endings(folder, "second") == [None, "no_text", None, None, None, None, None, "no_text", None]
    forget(log)
    run(folder, named=stages, retry_failed="transient")
    assert asked(log, "first") == asked(log, "second") == {}


def test_a_retry_of_several_stages_that_is_stopped_between_their_sidecars_goes_on(folder, log, stages, monkeypatch):
    def stop(self):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Answers, "drop_parts", stop)  # when the first one's sidecar is there
        with pytest.raises(KeyboardInterrupt):
            run(folder, named=stages, retry_failed="transient")
    assert (endings(folder, "first")[2], endings(folder, "second")[2]) == (None, "no_text")
    forget(log)
    run(folder, named=stages, retry_failed="transient")
    assert asked(log, "first") == asked(log, "second") == {}
    assert endings(folder, "second") == [None, "no_text", None, None, None, None, None, "no_text", None]


def test_samples_that_came_from_a_shard_without_the_stage_are_asked_in_any_run(folder, log, stage, tmp_path):
    (folder / "b.asked.parquet").unlink()
    both = tmp_path / "both"
    create(folder, both, number_sample_per_shard=10, disable_all_reencoding=True)
    summary = run(both, stage).summary()
    assert asked(log) == {"9": 1}
    assert (summary.rows, summary.failed_by_error) == (10, {"bad_text": 2, "not_now": 2})
    assert sidecar_info(open_storage(both), "00000", "asked").carried == "unchanged"
    forget(log)
    run(both, stage, retry_failed="transient")
    assert sorted(asked(log)) == ["2", "5"]
    assert sidecar_info(open_storage(both), "00000", "asked").carried == "unchanged"
