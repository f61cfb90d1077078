"""`tarloom query` and `tarloom read --where`, as they are typed."""

import json
import shutil
import subprocess
import sys

import pytest

from tests.format.raw import packed_dataset


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("query") / "shards"
    folder.mkdir()
    packed_dataset(folder, shards=2, rows=10, failed=())
    return str(folder)


def tarloom(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "tarloom.cli", *words], capture_output=True, text=True, timeout=120)


def test_a_query_prints_a_table_with_named_columns(shards):
    ended = tarloom("query", shards, "SELECT width, caption.text, count(*) AS n, NULL AS x FROM samples GROUP BY ALL")
    assert ended.stdout.splitlines() == [
        "width  caption.text  n   x",
        "─────  ────────────  ──  ─",
        "256    hello         20",
    ]
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_query_prints_a_json_object_for_each_row(shards):
    ended = tarloom(
        "query", "--json", shards, "SELECT __key__, clip.embedding FROM samples WHERE __key__ < '000000002'"
    )
    rows = [json.loads(line) for line in ended.stdout.splitlines()]
    assert rows == [{"__key__": f"00000000{i}", "clip.embedding": [0.5] * 4} for i in range(2)]
    assert (ended.returncode, ended.stderr) == (0, "")


def test_what_json_has_no_form_for_is_told_all_the_same(shards):
    columns = "sum(width) AS s, avg('nan'::DOUBLE) AS n, DATE '20000-01-01' AS d, INTERVAL 1 DAY AS i, 1.5 AS h, "
    columns += "12345678901234567.89 AS digits"
    sql = f"SELECT {columns} FROM samples"
    ended = tarloom("query", "--json", shards, sql)
    (found,) = map(json.loads, ended.stdout.splitlines())
    assert found.pop("i")
    assert found == {"s": 20 * 256, "n": None, "d": "20000-01-01", "h": 1.5, "digits": "12345678901234567.89"}
    assert "20000-01-01" in tarloom("query", shards, sql).stdout


def test_whoever_has_seen_enough_may_leave(shards):
    words = [sys.executable, "-m", "tarloom.cli", "query", shards, "SELECT range FROM range(10000000)"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline().strip() == "range"
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0


@pytest.mark.parametrize(("sql", "code"), [("DELETE FROM samples", 2), ("SELECT jpg FROM samples", 2)])
def test_a_wrong_query_gives_one_line(shards, sql, code):
    ended = tarloom("query", shards, sql)
    assert ended.stderr.startswith("tarloom query: error: ")
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (code, "", 1)


def test_reading_takes_a_condition_and_a_policy(shards, tmp_path):
    folder = shutil.copytree(shards, tmp_path / "shards")
    (folder / "00001.caption.parquet").unlink()
    words = ("read", "--path", str(folder), "--where", "__key__ LIKE '%3'", "--select", "caption.text", "--json")
    ended = tarloom(*words, "--join", "null")
    assert json.loads(ended.stdout.splitlines()[-1])["rows"] == 2
    ended = tarloom(*words)
    assert "00001.caption.parquet: there is no such sidecar" in ended.stderr
    assert ended.returncode == 1
