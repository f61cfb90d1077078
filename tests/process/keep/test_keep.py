"""A curated copy holds the samples that a condition is true of, with all that goes with them, and nothing else."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tarloom
from tarloom.engines.choose import EngineConfig, open_engine
from tarloom.engines.local import LocalEngine
from tarloom.errors import JoinError, PlanMismatch, StaleSidecar, UsageError
from tarloom.format.storage import open_storage
from tarloom.format.verify.dataset import verify
from tarloom.process.keep.config import KeepConfig
from tarloom.process.keep.job import KeepJob, KeepSummary
from tarloom.read.readers import ScanJob
from tarloom.read.scan import ScanConfig
from tests.create.helpers import contents
from tests.process.keep.datasets import Said, some_rows, write_dataset
from tests.source_tree import ROOT

pytestmark = pytest.mark.filterwarnings(r"ignore::DeprecationWarning:ray\.data\.context")  # Ray copies its settings
AGREES = "caption.text = txt"
ALL = ("png", "txt", "json", "animal", "caption", "width", "caption.text", "clip_score.score", "clip_score.pair")


def keep(path: Path | str, output: Path | str, keep_if: str = "", *, engine=None, keys=None, **options) -> KeepSummary:
    given = None if keys is None else numbers_of(Path(path), keys.to_pylist())
    job = KeepJob(
        KeepConfig(path=str(path), output=str(output), keep_if=keep_if, **options), engine or LocalEngine(1), given
    )
    job.prepare()
    assert sum(report.rows for report in job) == job.total
    return job.summary()


def numbers_of(path: Path, keys: list[str]) -> dict[str, np.ndarray]:
    """Where the samples of these keys lie, in the order of the keys."""
    found = {}
    for shard in sorted(tar.stem for tar in path.glob("*.tar")):
        with tarfile.open(path / f"{shard}.tar") as tar:
            there = list(dict.fromkeys(name.partition(".")[0] for name in tar.getnames()))
        found[shard] = np.array([there.index(key) for key in keys if key in there], np.int64)
    return found


def samples(path: Path, where: str | None = None) -> list[dict]:
    """All that is known of each sample, but where it lies."""
    chosen = tarloom.open(path) if where is None else tarloom.open(path).where(where)
    return [{k: v for k, v in sample.items() if k != "__url__"} for sample in chosen.select(*ALL)]


def assert_sound(folder: Path) -> None:
    assert [finding for report in verify(folder) for finding in report.findings] == []


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Three shards of twenty rows; not to be written to."""
    rows = some_rows(60)
    return write_dataset(tmp_path_factory.mktemp("made") / "in", [rows[:20], rows[20:40], rows[40:]])


@pytest.mark.parametrize("count", [1, 5, 100])
def test_the_copy_has_what_the_condition_is_true_of(made, tmp_path, count):
    summary = keep(made, tmp_path / "out", AGREES, number_sample_per_shard=count)
    good = [row for row in some_rows(60) if not row.failed]
    agreeing = [row.key for row in good if row.text == row.caption]
    assert [sample["__key__"] for sample in samples(tmp_path / "out")] == agreeing
    assert samples(tmp_path / "out") == samples(made, "caption.text = caption")
    assert (summary.samples, summary.kept, summary.shards) == (len(good), len(agreeing), -(-len(agreeing) // count))
    assert summary.share == round(len(agreeing) / len(good), 4)
    assert_sound(tmp_path / "out")


def test_metadata_keeps_its_columns_and_has_a_row_for_each_sample(made, tmp_path):
    keep(made, tmp_path / "out", "animal = 'star' AND clip_score.score > 0.3")
    metadata = pq.read_table(tmp_path / "out" / "00000.parquet")
    assert metadata.schema == pq.read_table(made / "00000.parquet").schema
    assert metadata.column("key").to_pylist() == [sample["__key__"] for sample in samples(tmp_path / "out")]
    assert set(metadata.column("animal").to_pylist()) == {"star"}
    assert set(metadata.column("status").to_pylist()) == {"success"}


def test_members_are_the_same_bytes(made, tmp_path):
    keep(made, tmp_path / "out", AGREES)
    for old, new in zip(samples(made, AGREES), samples(tmp_path / "out"), strict=True):
        assert {name: old[name] for name in ("png", "txt", "json")} == {
            name: new[name] for name in ("png", "txt", "json")
        }


words = st.sampled_from(["", "a", "b", "ä", None])
said = st.builds(
    Said,
    key=st.just(""),
    caption=st.sampled_from(["a", "b", "ä b"]),
    text=words,
    score=st.floats(0, 1),
    failed=st.booleans(),
)


@given(
    shards=st.lists(st.lists(said, max_size=6), min_size=1, max_size=4), count=st.integers(1, 7), least=st.floats(0, 1)
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_condition_on_any_dataset_keeps_what_it_is_true_of(tmp_path_factory, shards, count, least):
    folder = tmp_path_factory.mktemp("any")
    numbered = [
        [
            Said(**vars(row) | {"key": f"{shard}-{place}", "caption": row.caption + " x"})
            for place, row in enumerate(rows)
        ]
        for shard, rows in enumerate(shards)
    ]
    write_dataset(folder / "in", numbered)
    condition = f"caption.text = left(caption, 1) OR clip_score.score >= {least!r}"
    wanted = [
        row
        for rows in numbered
        for row in rows
        if not row.failed and (row.text == row.caption[0] or row.score >= least)
    ]
    if not wanted:
        with pytest.raises(UsageError, match=r"true of none of \d+ samples"):
            keep(folder / "in", folder / "out", condition)
        return
    keep(folder / "in", folder / "out", condition, number_sample_per_shard=count)
    found = samples(folder / "out")
    assert [(s["__key__"], s["caption"], s["caption.text"], s["clip_score.score"]) for s in found] == [
        (row.key, row.caption, row.text, row.score) for row in wanted
    ]
    assert_sound(folder / "out")


ON_ENGINES = ("ray_actor", "ray_data", "ray_data_webdataset", "spark")
READERS = ["plain", "webdataset", "torch", *(pytest.param(name, marks=pytest.mark.slow) for name in ON_ENGINES)]


@pytest.fixture(scope="module")
def curated(made, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("curated") / "out"
    keep(made, folder, AGREES, number_sample_per_shard=7)
    return folder


def digest(path: Path, reader: str, **options) -> str:
    job = ScanJob(reader, ScanConfig(path=str(path), digest=True, show=0, **options))
    job.prepare()
    assert len(list(job)) > 0
    return job.summary().digest


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_reads_what_it_reads_of_the_whole_under_the_condition(made, curated, reader, request):
    if reader in ON_ENGINES:
        request.getfixturevalue("spark_session" if reader == "spark" else "ray_session")
    assert digest(curated, reader) == digest(made, "plain", where=AGREES)


# Engines, and runs that go on


@pytest.mark.parametrize(
    "name", ["local", pytest.param("ray", marks=pytest.mark.slow), pytest.param("spark", marks=pytest.mark.slow)]
)
def test_the_copy_has_the_same_bytes_on_every_engine(made, curated, tmp_path, name, request):
    if name != "local":
        request.getfixturevalue("spark_session" if name == "spark" else "ray_session")
    with contextlib.closing(open_engine(EngineConfig(engine=name, num_workers=2))) as engine:
        keep(made, tmp_path / "out", AGREES, engine=engine, number_sample_per_shard=7)
    assert contents(tmp_path / "out") == contents(curated)


def test_a_copy_from_one_object_store_to_another_has_the_same_bytes(made, curated, s3_folder):
    for path in made.iterdir():
        if path.is_file():
            open_storage(f"{s3_folder}/in").write(path.name, path.read_bytes())
    keep(f"{s3_folder}/in", f"{s3_folder}/out", AGREES, number_sample_per_shard=7)
    store, wanted = open_storage(f"{s3_folder}/out"), contents(curated)
    written = {entry.name: store.read(entry.name) for entry in store.list()}
    assert written.keys() == wanted.keys()
    changing = ("_stats.json", "plan.json")  # times, and versions of the source's files
    assert all(data == wanted[name] for name, data in written.items() if not name.endswith(changing))


KEEP = """
import sys, time
from tarloom.engines.local import LocalEngine
from tarloom.process.keep.config import KeepConfig
from tarloom.process.keep.job import KeepJob
path, output, keep_if, shards = sys.argv[1:]
job = KeepJob(KeepConfig(path=path, output=output, keep_if=keep_if, number_sample_per_shard=1), LocalEngine(1))
job.prepare()
for done, report in enumerate(job, 1):
    while done == int(shards) - 1:  # it is killed before it is over, however late
        time.sleep(1)
"""


def test_a_copy_that_is_killed_goes_on_to_the_same_bytes(made, tmp_path):
    keep(made, tmp_path / "whole", AGREES, number_sample_per_shard=1)
    shards, dice = len(list((tmp_path / "whole").glob("*.tar"))), random.Random(7)
    words = [made, tmp_path / "out", AGREES, str(shards)]
    with subprocess.Popen([sys.executable, "-c", KEEP, *words], cwd=ROOT) as process:
        while process.poll() is None and len(list((tmp_path / "out").glob("*.tar"))) < 1 + shards // 3:
            time.sleep(dice.random() / 100)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    summary = keep(made, tmp_path / "out", AGREES, number_sample_per_shard=1)
    assert 0 < summary.skipped < summary.shards
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_copy_that_is_done_is_left_alone(made, curated):
    before = contents(curated)
    summary = keep(made, curated, AGREES, number_sample_per_shard=7)
    assert (summary.skipped, summary.bytes) == (summary.shards, 0)
    assert contents(curated) == before


@pytest.mark.parametrize(
    ("other", "told"),
    [({"keep_if": "width > 3"}, "keep_if"), ({"number_sample_per_shard": 8}, "number_sample_per_shard")],
)
def test_another_choice_for_the_same_folder_is_refused(made, curated, other, told):
    options = {"keep_if": AGREES, "number_sample_per_shard": 7} | other
    with pytest.raises(PlanMismatch, match=told):
        keep(made, curated, **options)


# Keys


def test_given_keys_are_kept_in_the_order_of_the_dataset(made, tmp_path):
    wanted = ["000000040", "000000002", "000000040", "000000006", "nowhere"]
    summary = keep(made, tmp_path / "out", keys=pa.array(wanted))
    assert [sample["__key__"] for sample in samples(tmp_path / "out")] == ["000000002", "000000040"]
    assert summary.kept == 2


def test_given_keys_and_a_condition_are_both_heeded(made, tmp_path):
    keep(made, tmp_path / "out", AGREES, keys=pa.chunked_array([["000000002"], ["000000003", "000000004"]]))
    assert [sample["__key__"] for sample in samples(tmp_path / "out")] == ["000000003", "000000004"]


def test_other_keys_are_another_choice(made, tmp_path):
    keep(made, tmp_path / "out", keys=pa.array(["000000002"]))
    keep(made, tmp_path / "out", keys=pa.array(["000000002", "000000002"]))
    with pytest.raises(PlanMismatch, match="keep_samples"):
        keep(made, tmp_path / "out", keys=pa.array(["000000003"]))


def test_a_key_in_two_shards_is_no_harm_where_one_of_them_is_kept(tmp_path):
    rows = [[Said(key="a", caption="x", text="x"), Said(key="b", caption="x", text="y")]] * 2
    rows[1] = [Said(key="a", caption="x", text="y")]
    write_dataset(tmp_path / "in", rows)
    keep(tmp_path / "in", tmp_path / "out", AGREES)
    assert [sample["__key__"] for sample in samples(tmp_path / "out")] == ["a"]
    with pytest.raises(UsageError, match="both have a sample 'a'"):
        keep(tmp_path / "in", tmp_path / "both", "caption = 'x'")


# What cannot work


@pytest.mark.parametrize(
    ("condition", "told"),
    [
        ("", "keep_if is empty"),
        ("wdith > 3", "keep_if: there is no column 'wdith'"),
        ("png = 'x'", "'png' is a member of the tars"),
        ("width > 33", "true of none of 52 samples"),
        ("width", "neither true nor false"),
    ],
)
def test_a_condition_that_cannot_work_is_refused_before_anything_is_written(made, tmp_path, condition, told):
    with pytest.raises(UsageError, match=told):
        keep(made, tmp_path / "out", condition)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("place", ["", "_tarloom/kept", ".."])
def test_a_copy_into_the_dataset_is_refused(made, place):
    with pytest.raises(UsageError, match="lies in the other"):
        keep(made, Path(os.path.normpath(made / place)), AGREES)


def test_a_copy_into_the_dataset_through_a_link_is_refused(made, tmp_path):
    (tmp_path / "link").symlink_to(made)
    with pytest.raises(UsageError, match="lies in the other"):
        keep(made, tmp_path / "link/kept", AGREES)


def test_text_without_captions_in_the_metadata_is_refused(tmp_path):
    write_dataset(tmp_path / "in", [[Said(key="a", caption="x", text="x")]])
    (tmp_path / "in" / "00000.parquet").unlink()
    with pytest.raises(UsageError, match="'txt' is a member"):
        keep(tmp_path / "in", tmp_path / "out", AGREES)


def test_shards_without_metadata_are_given_some(tmp_path):
    write_dataset(tmp_path / "in", [[Said(key="a", caption="x", text="x"), Said(key="b", caption="x", text="y")]])
    (tmp_path / "in" / "00000.parquet").unlink()
    keep(tmp_path / "in", tmp_path / "out", "caption.text = 'x'")
    row = {"key": "a", "status": "success", "error_message": None, "error": None}
    assert pq.read_table(tmp_path / "out" / "00000.parquet").to_pylist() == [row]
    assert_sound(tmp_path / "out")


@pytest.mark.parametrize(
    "column",
    [
        pa.chunked_array([pa.nulls(3)]),
        pa.chunked_array([pa.array([None, "boom", None], pa.large_string())]),
        pa.chunked_array([pa.array([None, "boom", None]).dictionary_encode()]),
    ],
    ids=lambda column: str(column.type),
)
def test_texts_of_the_metadata_may_be_of_any_type_that_others_write(tmp_path, column):
    rows = [Said(key=key, caption="x", text="x", failed=key == "b") for key in ("a", "b", "c")]
    path = write_dataset(tmp_path / "in", [rows]) / "00000.parquet"
    table = pq.read_table(path).drop(["error_message"])
    status = table["status"].combine_chunks().dictionary_encode()
    pq.write_table(table.drop(["status"]).append_column("status", status).append_column("error_message", column), path)
    keep(tmp_path / "in", tmp_path / "out", "caption.text = 'x'")
    assert [sample["__key__"] for sample in samples(tmp_path / "out")] == ["a", "c"]
    assert_sound(tmp_path / "out")


def test_a_stale_sidecar_is_refused(tmp_path):
    rows = some_rows(9)
    write_dataset(tmp_path / "in", [rows])
    stale = (tmp_path / "in" / "00000.caption.parquet").read_bytes()
    write_dataset(tmp_path / "in", [rows[1:]])
    (tmp_path / "in" / "00000.caption.parquet").write_bytes(stale)
    with pytest.raises(StaleSidecar):
        keep(tmp_path / "in", tmp_path / "out", AGREES)


def test_shards_that_a_stage_has_not_seen_are_an_error_unless_they_are_left_out(tmp_path):
    rows = some_rows(12)
    write_dataset(tmp_path / "in", [rows[:6], rows[6:]])
    (tmp_path / "in" / "00001.caption.parquet").unlink()
    with pytest.raises(JoinError, match="no such sidecar"):
        keep(tmp_path / "in", tmp_path / "out", AGREES)
    keep(tmp_path / "in", tmp_path / "out", AGREES, missing="skip")
    assert {sample["__key__"] for sample in samples(tmp_path / "out")} <= {row.key for row in rows[:6]}
    assert_sound(tmp_path / "out")
