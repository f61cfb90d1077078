"""One run from URLs to what stages say: the bytes of two runs one after the other, with both side by side."""

import os
import signal
import threading
from unittest.mock import patch

import pyarrow.parquet as pq
import pytest

import tarloom
from tarloom.create.config import ResumeOptions
from tarloom.engines.choose import EngineConfig
from tarloom.engines.local import LocalEngine
from tarloom.errors import EngineError, PlanMismatch, StageMismatch, UsageError
from tarloom.process.config import ProcessConfig
from tarloom.process.images.config import RunOptions, ShardOptions, SourceConfig, sized
from tarloom.process.job import ProcessJob
from tarloom.process.registry import named_stages
from tests.create.helpers import create
from tests.create.sources.list_servers import serving
from tests.process.images.runs_of_images import (
    HELD_BACK_SECONDS,
    dataset,
    held_back,
    job_of,
    only_run,
    run_job,
    url_list,
)
from tests.processes import descendants, wait_for


@pytest.fixture(scope="module")
def urls(server, tmp_path_factory):
    return url_list(tmp_path_factory.mktemp("urls") / "urls.csv", server.url, good=35)


@pytest.fixture(scope="module")
def one_after_the_other(urls, tmp_path_factory):
    """What creating first and then processing makes of the list."""
    folder = tmp_path_factory.mktemp("apart") / "set"
    create(urls, folder, image_size=128, caption_col="caption", timeout=10.0, retries=1, max_bytes=4_000_000)
    job = ProcessJob([kind() for kind in named_stages("hash").values()], ProcessConfig(path=str(folder)), LocalEngine())
    job.prepare()
    list(job)
    return dataset(folder)


@pytest.mark.parametrize("workers", [1, 2])
def test_side_by_side_makes_the_same_bytes_as_one_after_the_other(urls, tmp_path, one_after_the_other, workers):
    summary = run_job(urls, tmp_path, engine=EngineConfig(num_workers=workers), download_workers=workers)
    assert (summary.created.rows, summary.created.successes, summary.created.shards) == (35, 35, 4)
    assert (summary.processed.rows, summary.processed.successes, summary.processed.shards) == (35, 35, 4)
    assert dataset(summary.folder) == one_after_the_other


def test_on_ray_the_bytes_are_the_same(urls, tmp_path, one_after_the_other, ray_session):
    summary = run_job(urls, tmp_path, engine=EngineConfig(engine="ray", num_workers=1))
    assert summary.processed.successes == 35
    assert dataset(summary.folder) == one_after_the_other


@pytest.mark.parametrize("workers", [1, 2])
def test_a_shard_is_processed_while_the_next_is_downloaded(tmp_path, workers):
    """The second shard's pictures come only when the first shard's sidecar is there."""

    def first_is_processed() -> bool:
        return any(tmp_path.glob("*/00000.hash.parquet"))

    with held_back(tmp_path / "urls.csv", first_is_processed, now=10, later=10) as urls:
        job = job_of(urls, tmp_path, engine=EngineConfig(num_workers=workers), timeout=HELD_BACK_SECONDS, retries=0)
        job.prepare()
        job.execute()
    assert job.summary().created.successes == 20


def test_every_row_of_the_quickstarts_list_is_accounted_for_in_tables(server, tmp_path):
    source = url_list(tmp_path / "urls.csv", server.url)
    output = tmp_path / "out"
    options = {"stages": "hash,quality", "output_format": "parquet", "number_sample_per_shard": 50}
    options |= {"timeout": 4.0}  # of which some rows of this list take all
    summary = run_job(source, output, rows_per_file=120, **options)
    files = sorted(only_run(output).glob("*.parquet"))
    assert [pq.read_metadata(file).num_rows for file in files] == [100, 100, 52]
    assert summary.tables == 3
    rows = [row for file in files for row in pq.read_table(file).to_pylist()]
    with open(source) as file:
        asked = [line.rstrip("\n").split(",") for line in file][1:]
    assert [row["url"] for row in rows] == [each[0] for each in asked]
    assert [row["error"] or "success" for row in rows] == [each[-1] for each in asked]
    samples = {sample["__key__"]: sample for sample in tarloom.open(only_run(output) / "_shards")}
    for row in rows:
        sample = samples.get(row["key"])
        assert row["jpg"] == (sample and sample["jpg"])
        assert row["hash.status"] == row["quality.status"] == (sample and "success")
        assert (row["quality.width"], row["quality.height"]) == ((128, 128) if sample else (None, None))
    written = {file: file.stat().st_mtime_ns for file in files}
    again = run_job(source, output, rows_per_file=120, resume=summary.folder, **options)
    assert again.tables == 3
    assert {file: file.stat().st_mtime_ns for file in files} == written


def test_a_run_that_is_gone_on_with_in_larger_files_has_each_row_once(urls, tmp_path):
    first = run_job(urls, tmp_path, output_format="parquet", rows_per_file=10)
    again = run_job(urls, tmp_path, output_format="parquet", rows_per_file=20, resume=first.folder)
    assert (first.tables, again.tables) == (4, 2)
    files = sorted(only_run(tmp_path).glob("*.parquet"))
    assert [pq.read_metadata(file).num_rows for file in files] == [20, 15]


def test_fewer_rows_of_a_run_than_its_tables_hold_are_refused_and_the_tables_stay(urls, tmp_path):
    options = {"output_format": "parquet", "rows_per_file": 10}
    first = run_job(urls, tmp_path, **options)
    before = {file.name: file.read_bytes() for file in only_run(tmp_path).glob("*.parquet")}
    with pytest.raises(UsageError, match=r"2 shards that are not asked for any more, such as 00002; .* --new-run"):
        run_job(urls, tmp_path, **options, resume=first.folder, max_images=20)
    assert {file.name: file.read_bytes() for file in only_run(tmp_path).glob("*.parquet")} == before
    assert run_job(urls, tmp_path, **options, resume=first.folder).tables == 4


def test_a_row_that_failed_for_its_key_has_nothing_of_the_row_that_had_it_first(server, tmp_path):
    (tmp_path / "urls.csv").write_text(
        f"url,caption\n{server.url}/pictures/0001.jpg,same\n{server.url}/pictures/0002.jpg,same\n"
    )
    summary = run_job(tmp_path / "urls.csv", tmp_path / "out", output_format="parquet", key_from="caption")
    first, second = pq.read_table(f"{summary.folder}/part-00000.parquet").to_pylist()
    assert (first["error"], first["hash.status"]) == (None, "success")
    assert (second["error"], second["hash.status"], second["jpg"]) == ("duplicate_key", None, None)


def test_a_run_that_is_done_is_left_alone_and_one_that_is_not_goes_on(urls, tmp_path):
    job = job_of(urls, tmp_path)
    job.prepare()  # and is killed here
    first = run_job(urls, tmp_path)
    assert first.folder == job.run.folder
    other = run_job(urls, tmp_path, number_sample_per_shard=20)
    second = run_job(urls, tmp_path)
    assert len({first.folder, other.folder, second.folder}) == 3
    assert second.created.skipped == 0
    assert dataset(first.folder) == dataset(second.folder)
    again = run_job(urls, tmp_path, resume=first.folder)
    assert (again.folder, again.created.skipped, again.processed.skipped) == (first.folder, 4, 4)


def test_what_failed_is_fetched_again_and_processed_anew(server, tmp_path):
    (tmp_path / "urls.csv").write_text(
        f"url,caption\n{server.url}/pictures/0001.jpg,x\n{server.url}/error-once/pictures/0002.jpg,x\n"
    )
    options = {"output_format": "parquet", "rows_per_file": 100}
    first = run_job(tmp_path / "urls.csv", tmp_path / "out", retries=0, **options)
    assert (first.created.rows, first.created.successes) == (2, 1)
    retry = {"resume": first.folder, "retry": ResumeOptions(retry_failed="transient")}
    with pytest.raises(KeyboardInterrupt), patch.object(ProcessJob, "follow", side_effect=KeyboardInterrupt):
        run_job(tmp_path / "urls.csv", tmp_path / "out", **retry, **options)
    assert not list((tmp_path / "out/_runs").glob("*.done")), "it is to be gone on with"
    again = run_job(tmp_path / "urls.csv", tmp_path / "out", **retry, **options)
    assert (again.created.successes, again.processed.successes, again.tables) == (2, 2, 1)
    rows = pq.read_table(f"{first.folder}/part-00000.parquet").to_pylist()
    assert [row["hash.status"] for row in rows] == ["success", "success"]


def test_another_stage_under_the_same_name_is_refused_in_a_resumed_run(urls, tmp_path):
    summary = run_job(urls, tmp_path, stages="x=hash")
    with pytest.raises(StageMismatch):
        run_job(urls, tmp_path, stages="x=quality", resume=summary.folder)


def test_a_list_that_has_changed_needs_a_new_run(server, tmp_path):
    source = url_list(tmp_path / "urls.csv", server.url, good=12)
    job = job_of(source, tmp_path / "out")
    job.prepare()
    create(source, job.run.folder, image_size=128, caption_col="caption", max_bytes=4_000_000, shards="0:1")
    url_list(source, server.url, good=11)
    with pytest.raises(PlanMismatch, match=r"the source's contents have changed.*--new-run"):
        run_job(source, tmp_path / "out")
    assert run_job(source, tmp_path / "out", new_run=True).folder != job.run.folder


@pytest.mark.parametrize(("wanted", "rows", "shards"), [(7, 7, ":1"), (10, 10, ":1"), (15, 10, ":2"), (None, 10, None)])
def test_as_many_rows_are_taken_as_asked_for_rounded_up_to_whole_shards(wanted, rows, shards):
    source = SourceConfig(source="urls.csv", output="out", sharding=ShardOptions(number_sample_per_shard=10))
    sharding = sized(source, RunOptions(max_images=wanted)).sharding
    assert (sharding.number_sample_per_shard, sharding.shards) == (rows, shards)


def test_a_list_on_the_hub_is_read_with_the_users_token(urls, tmp_path, monkeypatch):
    pytest.importorskip("huggingface_hub")
    (tmp_path / "served").mkdir()
    (tmp_path / "served/urls.csv").write_bytes(urls.read_bytes())
    with serving(tmp_path / "served") as hub:
        hub.token = "hf_secret"
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        summary = run_job("hf://datasets/u/r", tmp_path / "out")
    assert summary.processed.successes == 35


def test_when_the_creating_process_dies_the_run_ends_and_the_next_goes_on(urls, tmp_path, one_after_the_other):
    job = job_of(urls, tmp_path)
    job.prepare()
    killer = threading.Thread(target=_kill_the_creating_process)
    killer.start()
    with pytest.raises(EngineError, match="the process that creates shards ended by SIGKILL; run the same"):
        job.execute()
    killer.join()
    assert dataset(run_job(urls, tmp_path).folder) == one_after_the_other


def _kill_the_creating_process() -> None:
    wait_for(lambda: descendants("spawn_main"))
    for process in descendants("spawn_main"):
        os.kill(process, signal.SIGKILL)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"engine": EngineConfig(engine="spark")}, "creates and processes side by side, on local or ray"),
        ({"output_format": "files"}, "stages need pictures"),
        ({"max_images": 5, "shards": "0:1"}, "leave one out"),
        ({"download_workers": 0}, "download_workers must be at least 1"),
        ({"rows_per_file": 0}, "rows_per_file must be at least 1"),
        ({"retry": ResumeOptions(incremental_mode="extend")}, "every run has a folder of its own"),
        ({"resume": "nowhere/at_all"}, "no run of this program"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_work_is_refused_before_anything_is_begun(urls, tmp_path, options, said):
    with pytest.raises(UsageError, match=said):
        run_job(urls, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_a_run_that_is_not_there_is_told_with_those_that_may_be_meant(urls, tmp_path):
    folder = run_job(urls, tmp_path / "out", max_images=10).folder
    for wrong in ("out", "out/", "out/20200101T000000Z"):
        with pytest.raises(UsageError, match=f"no run of this program; resume {folder}$"):
            run_job(urls, tmp_path / "out", resume=str(tmp_path / wrong))
    with pytest.raises(UsageError, match="no run of this program; give a run's own folder, which lies in its --output"):
        run_job(urls, tmp_path / "out", resume=str(tmp_path / "absent"))


def test_a_source_that_is_not_there_leaves_no_run_behind(tmp_path):
    with pytest.raises(UsageError, match="nothing"):
        run_job(tmp_path / "nothing.csv", tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.*"))
