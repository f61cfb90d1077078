"""URLs that a list has twice: found over all of it, the same on every way through it."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tarloom.create.config import CreateConfig, ListOptions
from tarloom.create.job import CreateJob
from tarloom.create.sources import dedup
from tarloom.create.sources.columns import ERROR
from tarloom.create.sources.open import open_source
from tarloom.engines.local import LocalEngine
from tarloom.format.layout import DUPLICATES
from tests.create.helpers import configuration, contents, create, table, write_list

URLS = st.sampled_from(["http://a", " http://a", "http://b\t", "http://b", "http://A", "", "  ", "http://ü", "x"])


def expected(urls: list[str | None]) -> list[int]:
    """The places of the URLs that are not the first of their text."""
    texts = [(url or "").strip() for url in urls]
    return [place for place, text in enumerate(texts) if text and text in texts[:place]]


def found_from(path, output, start: int = 0) -> list[int]:
    lists = ListOptions(dedup_urls=True)
    source = open_source(CreateConfig(source=str(path), output=str(output), lists=lists))
    found, row = [], start
    for rows in source.tables(pa.schema([]), start):
        errors = rows[ERROR].to_pylist() if ERROR in rows.column_names else []
        found += [row + place for place, error in enumerate(errors) if error]
        row += rows.num_rows
    return found


@settings(max_examples=30, deadline=None)
@given(urls=st.lists(st.none() | URLS, min_size=1, max_size=60), data=st.data())
def test_all_but_the_first_row_of_a_url_are_found_from_wherever_one_starts(tmp_path_factory, urls, data):
    folder = tmp_path_factory.mktemp("dedup")
    pq.write_table(pa.table({"url": pa.array(urls, pa.string())}), folder / "list.parquet", row_group_size=7)
    start = data.draw(st.integers(0, len(urls)))
    wanted = expected(urls)
    assert found_from(folder / "list.parquet", folder / "out", start) == [row for row in wanted if row >= start]
    assert found_from(folder / "list.parquet", folder / "out") == wanted
    assert pq.read_table(folder / "out" / DUPLICATES)["row"].to_pylist() == wanted


@pytest.mark.parametrize("held", [3000, 1 << 20], ids=["on disk", "in memory"])
def test_duplicates_are_found_over_many_groups_and_files(tmp_path, monkeypatch, held):
    monkeypatch.setattr(dedup, "GROUP_ROWS", 1024)
    monkeypatch.setattr(dedup, "HELD_ROWS", held)
    urls = [f"http://{number * number % 5003}" for number in range(20_000)]
    for part in range(4):
        write_list(tmp_path / f"{part}.txt", urls[part * 5000 : (part + 1) * 5000])
    wanted = expected(urls)
    assert len(wanted) > 15_000
    for start in (0, 1023, 9999, 19_999):
        assert found_from(tmp_path, tmp_path / "out", start) == [row for row in wanted if row >= start]


@pytest.fixture
def source(photo_server, tmp_path):
    names = [1, 2, 1, 3, 3, 4, 5, 1, 6, 6, 7, 2]
    return write_list(tmp_path / "urls.txt", [f"{photo_server.url}/pictures/{name:04d}.jpg" for name in names])


def test_later_rows_of_a_url_are_accounted_for_and_not_fetched(source, photo_server, tmp_path):
    summary = create(source, tmp_path / "out", number_sample_per_shard=5, dedup_urls=True)
    assert (summary.rows, summary.successes) == (12, 7)
    assert summary.failed_by_error == {"duplicate_url": 5}
    errors = table(tmp_path / "out")["error"].to_pylist()
    assert [place for place, error in enumerate(errors) if error] == [2, 4, 7, 9, 11]


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_row_that_fails_before_it_is_fetched_leaves_its_url_to_the_next(tmp_path, kind):
    found = [
        {"url": "http://a", "faces": "no box", "sum": "0"},
        {"url": "http://a", "faces": "[]", "sum": None},
        {"url": "http://a", "faces": "[[0,0,1,1]]", "sum": "0"},
        {"url": "http://a", "faces": None, "sum": "0"},
    ]
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(found), tmp_path / "list.parquet")
    else:
        (tmp_path / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))
    lists = ListOptions(dedup_urls=True, bbox_col="faces", verify_hash=("sum", "md5"))
    source = open_source(CreateConfig(source=str(tmp_path / f"list.{kind}"), output=str(tmp_path / "out"), lists=lists))
    (rows,) = source.tables(source.scan()[1], 0)
    errors = [error and error.partition(":")[0] for error in rows[ERROR].to_pylist()]
    assert errors == ["bad_bbox", "hash_mismatch", None, "duplicate_url"]


def test_slices_and_resumed_runs_agree(source, tmp_path):
    options = {"number_sample_per_shard": 5, "dedup_urls": True}
    create(source, tmp_path / "whole", **options)
    job = CreateJob(configuration(source, tmp_path / "parts", **options), LocalEngine(1))
    job.prepare()
    assert (tmp_path / "parts" / DUPLICATES).exists(), "slices that are made side by side must not each search"
    for part in ("1:2", "2:", ":1"):
        create(source, tmp_path / "parts", shards=part, **options)
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")
    (tmp_path / "parts" / "00001_stats.json").unlink()
    (tmp_path / "parts" / DUPLICATES).unlink()
    create(source, tmp_path / "parts", workers=2, **options)
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


def test_what_was_found_for_another_list_is_not_believed(tmp_path):
    write_list(tmp_path / "urls.txt", ["http://a", "http://a"])
    assert found_from(tmp_path / "urls.txt", tmp_path / "out") == [1]
    write_list(tmp_path / "urls.txt", ["http://a", "http://b", "http://a"])
    assert found_from(tmp_path / "urls.txt", tmp_path / "out") == [2]


def test_a_damaged_file_is_made_anew(tmp_path):
    write_list(tmp_path / "urls.txt", ["http://a", "http://a"])
    (tmp_path / "out" / DUPLICATES).parent.mkdir(parents=True)
    (tmp_path / "out" / DUPLICATES).write_bytes(b"nonsense")
    assert found_from(tmp_path / "urls.txt", tmp_path / "out") == [1]
    assert found_from(tmp_path / "urls.txt", tmp_path / "out") == [1]
