"""Shards from a table: every row is accounted for, and the same row has the same picture however it is made."""

import io
import json

import pyarrow as pa
import pytest
from PIL import Image

import tarloom
from tarloom.engines.local import LocalEngine
from tarloom.engines.workers import Workers
from tarloom.errors import PlanMismatch, UsageError
from tarloom.format.parquet import read_table
from tarloom.format.storage import open_storage
from tarloom.format.verify.dataset import verify
from tarloom.generate.inputs import table_inputs
from tarloom.generate.job import chained
from tarloom.generate.tables.config import TableConfig
from tarloom.process.paint.stage import picture_seed
from tarloom.process.rewrite.stage import RewriteStage
from tests.generate.making import COLOURS, LOST, ROWS, SHAPES, contents, generate, job_over, painter, tables, write_csv


def metadata(folder) -> list[dict]:
    storage = open_storage(str(folder))
    return [row for shard in ("00000", "00001", "00002") for row in read_table(storage, f"{shard}.parquet").to_pylist()]


def test_every_row_of_the_table_has_its_status_in_the_order_of_the_table(whole):
    rows = metadata(whole)
    assert [row["key"] for row in rows] == [f"row{number}" for number in range(ROWS)]
    for number, row in enumerate(rows):
        lost = number in LOST
        assert row["status"] == ("failed_to_generate" if lost else "success")
        assert row["error"] == ("no_match" if lost else None)
        assert (row["sha256"] is None, row["caption"] is None, row["width"] is None) == (lost, lost, lost)
        assert not lost or "colours.csv" in row["error_message"]
    assert rows[0]["caption"] == "a red circle on a gray background"


def test_a_sample_has_its_picture_its_prompt_and_all_that_is_known_of_its_making(whole):
    samples = list(tarloom.open(str(whole)))
    assert len(samples) == ROWS - len(LOST)
    for sample in samples:
        number = int(sample["__key__"].removeprefix("row"))
        fields = json.loads(sample["json"])
        colour = COLOURS[[*COLOURS][number % 3]]
        assert sample["txt"].decode() == fields["caption"] == fields["prompt"]
        assert (fields["shape"], fields["colour"]) == (SHAPES[number % 4], colour)
        assert fields["seed"] == picture_seed(0, sample["__key__"])
        assert fields["made_by"]["paint"]["model"].startswith("painter@sha256:")
        assert Image.open(io.BytesIO(sample["png"])).size == (fields["width"], fields["height"])


def test_what_was_made_is_sound_and_leaves_nothing_behind(whole):
    assert [finding for report in verify(str(whole)) for finding in report.findings] == []
    names = set(contents(whole))
    assert not [name for name in names if name.startswith(("_tarloom/rows", "_tarloom/parts")) or ".tmp" in name]


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_the_same_row_has_the_same_picture_in_any_batch(table, whole, tmp_path, batch_size):
    generate(table, tmp_path / "set", {"paint": painter(batch_size=batch_size)})
    assert contents(tmp_path / "set").keys() == contents(whole).keys()
    for shard in ("00000.tar", "00002.tar"):
        assert contents(tmp_path / "set")[shard] == contents(whole)[shard]


def test_the_same_row_has_the_same_picture_alone(whole, tmp_path, ray_session):
    prompts = write_csv(tmp_path / "one.csv", ("name", "prompt"), [("row7", "a green star on a yellow background")])
    table = tables(tmp_path / "others").__class__(prompts=str(prompts), key_col="name")
    generate(table, tmp_path / "set")
    (alone,) = tarloom.open(str(tmp_path / "set"))
    assert alone["png"] == tarloom.open(str(whole))["row7"]["png"]


@pytest.mark.parametrize(
    "name", ["local", "ray", *(pytest.param(name, marks=pytest.mark.slow) for name in ("ray-data", "spark"))]
)
def test_every_engine_makes_the_same_bytes(table, whole, tmp_path, name, request):
    request.getfixturevalue("spark_session" if name == "spark" else "ray_session")
    engine = opened(name)
    generate(table, tmp_path / "set", engine=engine)
    engine.close()
    assert contents(tmp_path / "set") == contents(whole)


def opened(name):
    if name == "local":
        return LocalEngine(2)
    if name == "ray":
        from tarloom.engines.ray import RayEngine

        return RayEngine(1)
    if name == "ray-data":
        from tarloom.engines.ray_data import RayDataEngine

        return RayDataEngine(Workers(least=1, most=1))
    from tarloom.engines.spark import SparkEngine

    return SparkEngine(1)


def test_a_run_that_is_left_goes_on_to_the_same_bytes(table, whole, tmp_path):
    job = job_over(table, tmp_path / "set")
    steps = iter(job)
    next(steps)
    steps.close()
    left = contents(tmp_path / "set")
    assert sum(name.endswith(".tar") for name in left) < 3
    summary = generate(table, tmp_path / "set")
    assert (summary.rows, summary.shards) == (ROWS, 3)
    assert contents(tmp_path / "set") == contents(whole)


def test_a_run_that_is_through_does_nothing_more(table, whole):
    before = contents(whole)
    summary = generate(table, whole)
    assert (summary.skipped, summary.shards, summary.rows, summary.bytes) == (3, 3, ROWS, 0)
    assert contents(whole) == before


def test_a_shard_that_is_lost_is_made_anew_with_the_same_bytes(table, whole, tmp_path):
    generate(table, tmp_path / "set")
    (tmp_path / "set" / "00001_stats.json").unlink()
    (tmp_path / "set" / "00001.tar").unlink()
    generate(table, tmp_path / "set")
    assert contents(tmp_path / "set") == contents(whole)


def test_other_options_or_another_table_are_refused_with_the_difference(table, whole, tmp_path):
    with pytest.raises(PlanMismatch, match=r"paint\.seed was .*0.*, is now .*1"):
        job_over(table, whole, {"paint": painter(seed=1)})
    other = tables(tmp_path / "tables")
    with (tmp_path / "tables" / "prompts.csv").open("a") as file:
        file.write("row99,star,r,gray\n")
    with pytest.raises(PlanMismatch, match="the source's contents have changed"):
        job_over(other, whole)


def test_shards_of_something_else_are_left_alone(table, tmp_path, ray_session):
    (tmp_path / "00000.tar").write_bytes(b"somebody's")
    with pytest.raises(UsageError, match="holds shards that are not of a plan; choose an empty folder"):
        job_over(table, tmp_path)
    assert (tmp_path / "00000.tar").read_bytes() == b"somebody's"


def test_the_last_stage_must_paint_and_none_may_want_pictures(table, tmp_path):
    from tarloom.process.stages.hash import HashStage

    with pytest.raises(UsageError, match="stage hash: the last stage must be paint"):
        job_over(table, tmp_path, {"hash": HashStage()})
    with pytest.raises(UsageError, match="stage hash: wants to see pictures, and there are none yet"):
        job_over(table, tmp_path, {"hash": HashStage(), "paint": painter()})
    assert not list(tmp_path.iterdir())


def test_what_stages_want_to_see_must_be_there_before_any_work(table, tmp_path):
    two = RewriteStage(model="there", prompt=("long=Tell {prompt}", "short=Sum up {prompt}"), endpoint="http://x")
    for stages, words in (
        ({"paint": painter(prompt_column="absent")}, "stage paint: wants to see 'absent', which neither the tables"),
        ({"paint": painter(prompt_column="rewrite.text")}, "stage paint: wants to see 'rewrite.text', which neither"),
        ({"rewrite": two, "paint": painter()}, r"wants to see rewrite\.text, but rewrite says rewrite\.long, "),
    ):
        with pytest.raises(UsageError, match=words):
            job_over(table, tmp_path, stages)
    assert not list(tmp_path.iterdir())


def test_columns_of_the_tables_may_have_dots_in_their_names():
    rows = pa.schema([(name, pa.string()) for name in ("__key__", "prompt", "file.name", "rewrite.text")])
    tells = RewriteStage(model="there", prompt="Tell {file.name} and {prompt}", endpoint="http://x")
    assert table_inputs({"paint": painter(prompt_column="rewrite.text")}, rows) == ("rewrite.text",)
    assert table_inputs(chained({"rewrite": tells, "paint": painter()}), rows) == ("file.name", "prompt")


def test_a_folder_that_cannot_take_the_pictures_is_refused_before_any_is_painted(table, tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine.txt").write_text("mine")
    for folder, words in (("taken", "something else in it"), ("set", "the shards go there, too"), (".", "else in it")):
        with pytest.raises(UsageError, match=words):
            job_over(table, tmp_path / "set", folder=str(tmp_path / folder))
    named = write_csv(tmp_path / "named.csv", ("prompt", "file_name"), [("a star", "x")])
    with pytest.raises(UsageError, match="a column file_name of its own; rename"):
        job_over(TableConfig(prompts=str(named)), tmp_path / "set", folder=str(tmp_path / "folder"))
    assert {path.name for path in tmp_path.iterdir()} == {"taken", "named.csv"}
