"""Whole creation runs against the misbehaving server: every row accounted for, the same bytes every time."""

import asyncio
import json
import shutil
import tarfile
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from source_data.serve import TROUBLES
from tarloom.create.job import CreateJob
from tarloom.engines.local import LocalEngine
from tarloom.errors import EngineError, PlanMismatch, UsageError
from tarloom.format.verify.dataset import verify
from tests.create.helpers import PICTURES, configuration, contents, create, rows, table, write_list


def urls(server) -> list[str]:
    good = [f"{server.url}/pictures/{number:04d}.jpg" for number in range(1, 20)]
    recovering = [f"{server.url}/error-once/pictures/0025.jpg", f"{server.url}/moved/pictures/0026.jpg"]
    return [*good[:7], *troubles(server), *good[7:], *recovering]


def troubles(server) -> dict[str, str]:
    return {t.url if "://" in t.url else f"{server.url}/{t.url}": t.expected for t in TROUBLES}


OPTIONS = {"timeout": 2.0, "retries": 1, "max_wait": 0.2, "max_bytes": 2 << 20}


@pytest.fixture(scope="module")
def created(photo_server, tmp_path_factory):
    """One run over good and bad URLs: the list, the output folder, the summary, and how often each path was got."""
    folder = tmp_path_factory.mktemp("created")
    source = write_list(folder / "urls.txt", urls(photo_server))
    photo_server.requests.clear()
    summary = create(source, folder / "out", **OPTIONS)
    return source, folder / "out", summary, photo_server.requests.copy()


def test_every_row_is_in_the_metadata_in_input_order(created):
    source, out, summary, _ = created
    found = table(out)
    assert found["url"].to_pylist() == source.read_text().split()
    assert found["key"].to_pylist() == [f"{number:09d}" for number in range(found.num_rows)]
    assert summary.rows == found.num_rows
    assert set(found["status"].to_pylist()) == {"success", "failed_to_download", "failed_to_resize"}


def test_each_misbehaviour_has_its_row_and_its_name(created, photo_server):
    expected = troubles(photo_server)
    found = {row["url"]: row["error"] for row in table(created[1]).to_pylist() if row["error"]}
    assert found == expected
    assert created[2].failed_by_error == {name: list(expected.values()).count(name) for name in expected.values()}


@pytest.mark.parametrize("name", ["stalls.jpg", "drips.jpg"])
def test_a_row_that_would_take_for_ever_has_as_many_tries_as_any_and_ends(created, name):
    """Each try at its deadline: that the run came to an end shows it."""
    assert [row["error"] for row in table(created[1]).to_pylist() if row["url"].endswith(name)] == ["timeout"]
    assert created[3][f"/trouble/{name}"] == 1 + OPTIONS["retries"]


def test_the_samples_are_the_successes_in_order(created):
    _, out, summary, _ = created
    keys = []
    for path in sorted(out.glob("*.tar")):
        with tarfile.open(path) as tar:
            members = tar.getnames()
            assert members == sorted(members)
            keys += [name.removesuffix(".jpg") for name in members if name.endswith(".jpg")]
            described = json.load(tar.extractfile(members[1]))
            assert described["key"] == members[1].removesuffix(".json")
            assert {"url", "width", "height", "original_width", "sha256", "status", "exif"} <= described.keys()
    successes = [row["key"] for row in table(out).to_pylist() if row["status"] == "success"]
    assert keys == successes
    assert summary.successes == len(keys)


def test_what_was_created_is_sound(created):
    assert [finding for report in verify(created[1]) for finding in report.findings] == []


def test_the_same_input_gives_the_same_bytes_whatever_ends_first(created, tmp_path):
    create(created[0], tmp_path / "again", **OPTIONS, thread_count=1 + 2)
    assert contents(tmp_path / "again") == contents(created[1])


def test_worker_processes_give_the_same_bytes(created, tmp_path):
    summary = create(created[0], tmp_path / "two", workers=2, **OPTIONS)
    assert contents(tmp_path / "two") == contents(created[1])
    assert summary.failed_by_error == created[2].failed_by_error


def test_a_done_run_does_nothing_again(created, photo_server, tmp_path):
    shutil.copytree(created[1], tmp_path / "out")
    before = contents(tmp_path / "out")
    photo_server.requests.clear()
    summary = create(created[0], tmp_path / "out", **OPTIONS)
    assert not photo_server.requests
    assert summary.skipped == summary.shards == 4
    assert (summary.rows, summary.successes) == (created[2].rows, created[2].successes)
    assert summary.failed_by_error == created[2].failed_by_error
    assert contents(tmp_path / "out") == before


@pytest.mark.parametrize("missing", ["00001_stats.json", "00001.tar", "00001.parquet"])
def test_a_shard_that_lacks_a_file_is_made_again(created, tmp_path, missing):
    shutil.copytree(created[1], tmp_path / "out")
    (tmp_path / "out" / missing).unlink()
    summary = create(created[0], tmp_path / "out", **OPTIONS)
    assert summary.skipped == 3
    assert contents(tmp_path / "out") == contents(created[1])


def test_slices_of_the_plan_make_the_whole(created, tmp_path):
    for chosen in ("2:", "0:1", "1:2"):
        create(created[0], tmp_path / "out", shards=chosen, **OPTIONS)
    assert contents(tmp_path / "out") == contents(created[1])


def test_abandoned_temporaries_are_swept(created, tmp_path):
    shutil.copytree(created[1], tmp_path / "out")
    (tmp_path / "out" / ".tmp-00000.tar-abandoned").write_bytes(b"half")
    create(created[0], tmp_path / "out", **OPTIONS)
    assert not list((tmp_path / "out").glob(".tmp-*"))


def test_other_options_or_another_input_are_refused_with_the_difference(created, tmp_path):
    source, out, _, _ = created
    with pytest.raises(PlanMismatch, match="image_size was 64, is now 32"):
        create(source, out, **OPTIONS, image_size=32)
    changed = tmp_path / "urls.txt"
    changed.write_text(source.read_text() + "http://127.0.0.1:1/new.jpg\n")
    with pytest.raises(PlanMismatch, match="the source's contents have changed"):
        create(changed, out, **OPTIONS)


def test_options_that_do_not_shape_the_output_may_change(created):
    assert create(created[0], created[1], **OPTIONS | {"timeout": 5.0, "retries": 0}).skipped == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 0}, "image_size must be at least 1"),
        ({"image_size": 40_000}, "image_size 40000: its square is more than max_pixels"),
        ({"encode_quality": 101}, "encode_quality of jpg is 0 to 100"),
        ({"encode_quality": 95, "encode_format": "png"}, "encode_quality of png is 0 to 9"),
        ({"timeout": 0}, "timeout must be more than 0"),
        ({"max_wait": float("nan")}, "max_wait must be at least 0"),
        ({"user_agent": "a\nb"}, "user_agent must be one line"),
        ({"allow_private": ("nonsense",)}, "allow_private"),
        ({"shards": "x"}, "write A:B"),
        ({"number_sample_per_shard": 0}, "number_sample_per_shard"),
        ({"save_additional_columns": ("key",)}, "key"),
    ],
)
def test_bad_options_are_refused_before_work_starts(tmp_path, photo_server, options, message):
    source = tmp_path / "list.csv"
    source.write_text(f"url,key\n{photo_server.url}/pictures/0001.jpg,1\n")
    photo_server.requests.clear()
    with pytest.raises(UsageError, match=message):
        create(source, tmp_path / "out", **options)
    assert not photo_server.requests
    assert not list((tmp_path / "out").glob("*.tar"))


def test_an_empty_list_is_refused(tmp_path):
    (tmp_path / "list.txt").write_text("\n\n")
    with pytest.raises(UsageError, match="has no rows"):
        create(tmp_path / "list.txt", tmp_path / "out")


def test_an_output_that_cannot_be_written_is_refused(tmp_path, pictures):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"/out cannot be written: .*a file lies where a folder should be"):
        create(pictures, tmp_path / "file" / "out")


def test_shards_without_a_plan_are_never_overwritten(tmp_path, pictures):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "00000.tar").write_bytes(b"somebody's")
    with pytest.raises(UsageError, match="not of a plan"):
        create(pictures, tmp_path / "out")
    assert (tmp_path / "out" / "00000.tar").read_bytes() == b"somebody's"


@pytest.mark.parametrize("kind", ["pictures", "list"])
def test_the_output_may_lie_in_the_folder_of_the_source(tmp_path, pictures, kind):
    source = pictures if kind == "pictures" else tmp_path / "lists"
    source.mkdir(exist_ok=True)
    if kind == "list":
        write_list(source / "urls.txt", ["http://10.0.0.1/a.jpg"])
    made = create(source, source / "shards")
    (source / "shards" / "00000_stats.json").unlink()
    assert create(source, source / "shards").rows == made.rows
    with pytest.raises(UsageError, match="is the folder of the source"):
        create(source, source)


@pytest.mark.parametrize(("depth", "error"), [(63, None), (64, "bad_json"), (950, "bad_json"), (10**5, "bad_json")])
def test_json_nested_too_deep_to_be_written_again_fails_its_row_alone(tmp_path, pictures, depth, error):
    (pictures / "0001.json").write_text('{"deep": ' + "[" * depth + "]" * depth + "}")
    create(pictures, tmp_path / "out", number_sample_per_shard=100)
    assert [row["error"] for row in rows(tmp_path / "out")] == [error, *[None] * 19]


def test_files_that_belong_to_no_picture_do_not_change_a_source(tmp_path, pictures):
    create(pictures, tmp_path / "out")
    (pictures / "notes.txt").write_text("for myself")
    assert create(pictures, tmp_path / "out").skipped == 2


def test_a_folder_keeps_captions_classes_and_json(tmp_path, pictures):
    (pictures / "0001.json").write_text('{"licence": "CC0", "width": 9999}', encoding="utf-8-sig")
    (pictures / "0002.json").write_text("nonsense")
    (pictures / "0003.jpg").write_bytes(b"no picture")
    create(pictures, tmp_path / "out", number_sample_per_shard=100)
    found = rows(tmp_path / "out")
    assert [row["key"] for row in found] == [f"{number:04d}" for number in range(1, 21)]
    assert [row["error"] for row in found[:4]] == [None, "bad_json", "not_an_image", None]
    assert found[2]["caption"] == (PICTURES / "0003.txt").read_text().strip()
    with tarfile.open(tmp_path / "out" / "00000.tar") as tar:
        assert tar.getnames()[:4] == ["0001.cls", "0001.jpg", "0001.json", "0001.txt"]
        described = json.load(tar.extractfile("0001.json"))
        assert tar.extractfile("0001.txt").read().decode() == (PICTURES / "0001.txt").read_text().strip()
    assert described["licence"] == "CC0"
    assert described["width"] == 64


def test_columns_of_a_list_are_kept(tmp_path, photo_server):
    urls = [f"{photo_server.url}/pictures/{number:04d}.jpg" for number in (1, 2, 3)]
    columns = {"link": urls, "text": ["one", None, ""], "tags": [["a", "b"], [], None], "score": [0.5, None, 2.0]}
    pq.write_table(pa.table(columns), tmp_path / "list.parquet")
    options = {"url_col": "link", "caption_col": "text", "save_additional_columns": ("tags", "score")}
    create(tmp_path / "list.parquet", tmp_path / "out", **options)
    found = rows(tmp_path / "out")
    assert list(found[0])[:5] == ["tags", "score", "caption", "url", "key"]
    assert [(row["tags"], row["score"], row["caption"]) for row in found] == [
        (["a", "b"], 0.5, "one"), ([], None, None), (None, 2.0, ""),
    ]  # fmt: skip
    with tarfile.open(tmp_path / "out" / "00000.tar") as tar:
        captions = {name: tar.extractfile(name).read() for name in tar.getnames() if name.endswith(".txt")}
        assert captions == {"000000000.txt": b"one", "000000001.txt": b"", "000000002.txt": b""}
        assert json.load(tar.extractfile("000000000.json"))["tags"] == ["a", "b"]
    create(tmp_path / "list.parquet", tmp_path / "out", **options)


COLUMNS_OF_ANY_TYPE = {
    "nanoseconds": pa.array([1, None]).cast(pa.timestamp("ns", "UTC")),
    "far": pa.array([10**7, None], pa.int32()).cast(pa.date32()),
    "duration": pa.array([1, None]).cast(pa.duration("ns")),
    "price": pa.array([Decimal("1.20"), None]),
    "kind": pa.array(["a", None]).dictionary_encode(),
    "pairs": pa.array([[("k", 1), ("k", 2)], None], pa.map_(pa.string(), pa.int64())),
    "vector": pa.array([[1.0, 2.0], None], pa.list_(pa.float16(), 2)),
}


def test_columns_of_any_type_come_out_as_they_went_in(tmp_path, photo_server):
    urls = [f"{photo_server.url}/pictures/0001.jpg"] * 2
    pq.write_table(pa.table({"url": urls, **COLUMNS_OF_ANY_TYPE}), tmp_path / "list.parquet")
    names = tuple(COLUMNS_OF_ANY_TYPE)
    assert create(tmp_path / "list.parquet", tmp_path / "out", save_additional_columns=names).successes == 2
    given = pq.read_table(tmp_path / "list.parquet").select(names)
    assert table(tmp_path / "out").select(names).equals(given)
    with tarfile.open(tmp_path / "out" / "00000.tar") as tar:
        told = json.load(tar.extractfile("000000000.json"))
    assert (told["nanoseconds"], told["far"]) == ("1970-01-01 00:00:00.000000001Z", "29349-01-26")


@pytest.mark.parametrize("extension", ["jpg", "png", "webp"])
def test_samples_carry_the_format_that_was_asked_for(tmp_path, pictures, extension):
    create(pictures, tmp_path / "out", encode_format=extension, encode_quality=9)
    with tarfile.open(tmp_path / "out" / "00000.tar") as tar:
        assert f"0001.{extension}" in tar.getnames()


def test_a_run_ends_where_no_shard_can_be_written(tmp_path, pictures):
    job = CreateJob(configuration(pictures, tmp_path / "out", number_sample_per_shard=2), LocalEngine(1))
    job.prepare()
    for shard in job.shards:
        (tmp_path / "out" / f"{shard}.tar").mkdir()
    with pytest.raises(EngineError, match=r"3 shards in a row failed, the last for this: .*00003.tar: Is a directory"):
        list(job)


def test_a_shard_that_cannot_be_written_is_reported_and_the_others_are_made(tmp_path, pictures):
    job = CreateJob(configuration(pictures, tmp_path / "out"), LocalEngine(1))
    job.prepare()
    (tmp_path / "out" / "00000.tar").mkdir()
    reports = list(job)
    summary = job.summary()
    assert len(reports) == 2
    assert list(summary.failed_shards) == ["00000"]
    assert summary.shards == 1


def test_creation_works_where_an_event_loop_runs_already(pictures, tmp_path):
    """As in a notebook."""

    async def cell() -> None:
        create(pictures, tmp_path / "inside")

    asyncio.run(cell())
    create(pictures, tmp_path / "outside")
    assert contents(tmp_path / "inside") == contents(tmp_path / "outside")
