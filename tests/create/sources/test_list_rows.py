"""Rows of lists: no list is refused for one of its rows, and what a row says of its picture comes with it."""

import codecs
import csv
import io
import itertools
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tarloom.create.config import CreateConfig, ListOptions
from tarloom.create.sources.columns import ERROR, HASH, KEY
from tarloom.create.sources.inputs import InputFile
from tarloom.create.sources.json_array import _Parser
from tarloom.create.sources.list_csv import MOST_LINES, records
from tarloom.create.sources.list_reader import BATCH_ROWS
from tarloom.create.sources.open import cut, open_source
from tarloom.errors import UsageError
from tarloom.format.storage import Entry, open_storage
from tests.create.helpers import contents, create, rows

VALUES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)


def read(path, **options) -> pa.Table:
    source = open_source(CreateConfig(source=str(path), output="unused", lists=ListOptions(**options)))
    count, additional = source.scan()
    tables = list(source.tables(additional, 0))
    assert count == sum(map(len, tables))
    for name in additional.names:
        assert {table[name].type for table in tables} <= {additional.field(name).type}
    return pa.concat_tables(tables, promote_options="default")


def errors(table: pa.Table) -> list[str | None]:
    found = table[ERROR].to_pylist() if ERROR in table.column_names else [None] * len(table)
    return [error and error.partition(":")[0] for error in found]


@settings(deadline=None, max_examples=50)
@given(
    found=st.lists(st.lists(VALUES, min_size=2, max_size=2).filter(any), max_size=10),
    separator=st.sampled_from([",", "\t"]),
)
def test_what_is_written_as_csv_is_read_again(found, separator):
    sink = io.StringIO()
    csv.writer(sink, delimiter=separator, quoting=csv.QUOTE_ALL).writerows(found)
    lines = sink.getvalue().splitlines(keepends=True)
    assert list(records(iter(lines), 2, separator)) == found


LINES = st.sampled_from(["u,1\n", "u\n", "u,1,2\n", "\n", '"a\n', 'b",1\n', '"c,""\n', 'd""e,1\n', '"f","1"x\n'])


@settings(deadline=None)
@given(lines=st.lists(LINES, max_size=12))
def test_every_line_is_in_a_row_or_is_one(lines):
    """Whatever quotes do: lines are neither lost nor read twice, and sound rows in front are as they were."""
    found = list(records(iter(lines), 2, ","))
    assert all(record is None or len(record) == 2 for record in found)
    assert len(found) <= sum(line != "\n" for line in lines)
    sound = 0
    while sound < len(lines) and lines[sound] == "u,1\n":
        sound += 1
    assert found[:sound] == [["u", "1"]] * sound
    if lines and '"' not in "".join(lines):
        assert found == [["u", "1"] if line == "u,1\n" else None for line in lines if line != "\n"]


def test_a_bad_csv_line_is_one_failed_row(tmp_path):
    (tmp_path / "list.csv").write_text('url,n\na,1\nonly\n\nb,2,3\n"c\nd",4\n"open,5\ne,6\nf,"x""y"\n')
    found = read(tmp_path / "list.csv", save_additional_columns=("n",))
    assert found["url"].to_pylist() == ["a", None, None, "c\nd", None, "e", "f"]
    assert found["n"].to_pylist() == ["1", None, None, "4", None, "6", 'x"y']
    assert errors(found) == [None, "bad_row", "bad_row", None, "bad_row", None, None]


def test_a_value_that_does_not_end_is_one_failed_row(tmp_path):
    (tmp_path / "list.csv").write_text('url,n\na,1\n"b' + "x" * 300_000 + "\nc,3\n")
    found = read(tmp_path / "list.csv")
    assert found["url"].to_pylist() == ["a", None, "c"]


@pytest.mark.timeout(120)
def test_lines_that_each_swallow_all_behind_them_are_read_again_within_bounds():
    lines = ["u,1\n", *['x","\n'] * 3 * MOST_LINES, "v,2\n"]
    assert list(records(iter(lines), 2, ",")) == [["u", "1"], *[None] * 3 * MOST_LINES, ["v", "2"]]


def test_a_row_has_so_many_lines_and_no_more():
    ends = "\n" * (MOST_LINES - 1)
    rows = [list(records(iter(f'u,"{text}"\n'.splitlines(keepends=True)), 2, ",")) for text in (ends, ends + "\n")]
    assert (rows[0], rows[1][0]) == ([["u", ends]], None)


def test_a_line_that_does_not_end_is_read_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr("tarloom.create.sources.list_csv.LONGEST_LINE", 1000)
    (tmp_path / "list.csv").write_text("url,n\na,1\n" + "b" * 2500 + "\nc,3\n")
    assert read(tmp_path / "list.csv")["url"].to_pylist() == ["a", None, None, None, "c"]


@pytest.mark.parametrize(
    ("lines", "urls"),
    [('a,1\nb,"2\nc,3\nd,4', ["a", None, "c", "d"]), ('a,1\nb,"2', ["a", None]), ('a,1\nb,"2"', ["a", "b"])],
)
def test_a_quote_that_is_never_closed_costs_its_line_alone(tmp_path, lines, urls):
    (tmp_path / "list.csv").write_text(f"url,n\n{lines}")
    found = read(tmp_path / "list.csv")
    assert found["url"].to_pylist() == urls
    assert errors(found) == [None if url else "bad_row" for url in urls]


@pytest.mark.parametrize(("last", "url"), [('"b" flat', "y"), ('"b', None)])
def test_rows_between_two_lone_quotes_are_rows(tmp_path, last, url):
    between = [f"u{number}" for number in range(500)]
    lines = ["url\ttext", 'x\t"a', *(f"{name}\tflat" for name in between), f"y\t{last}"]
    (tmp_path / "list.tsv").write_text("\n".join(lines))
    found = read(tmp_path / "list.tsv", caption_col="text")
    assert found["url"].to_pylist() == [None, *between, url]


def test_a_first_line_that_never_ends_is_refused(tmp_path):
    (tmp_path / "list.csv").write_text('url,"n\n' + "a,1\n" * 50_000)
    with pytest.raises(UsageError, match=r"list\.csv: its first line does not name columns"):
        read(tmp_path / "list.csv")


def test_a_shard_may_begin_far_from_the_rows_that_failed(tmp_path):
    """Batches in which no row failed say nothing of failures; a shard may hold rows of several."""
    rows = [f"u{number}" for number in range(3 * BATCH_ROWS)]
    rows[BATCH_ROWS + 1] += ",too,many"
    (tmp_path / "list.csv").write_text("\n".join(["url", *rows]))
    source = open_source(CreateConfig(source=str(tmp_path / "list.csv"), output="unused"))
    (whole,) = cut(source.tables(source.scan()[1], 0), 0, [(0, len(rows))])
    assert [place for place, error in enumerate(errors(whole)) if error] == [BATCH_ROWS + 1]
    assert whole["url"].to_pylist()[-1] == rows[-1]


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_text_that_is_not_utf8_is_mended(tmp_path, kind):
    values = [{"url": b"http://a/caf\xe9", "text": b"caf\xe9"}, {"url": b"b", "text": b"fine"}]
    if kind == "parquet":
        written = pa.Table.from_pylist(values, schema=pa.schema({"url": pa.binary(), "text": pa.binary()}))
        texts = [pa.StringArray.from_buffers(2, *column.chunk(0).buffers()[1:]) for column in written.columns]
        pq.write_table(pa.table(texts, ["url", "text"]), tmp_path / "list.parquet")
    else:
        lines = [
            codecs.BOM_UTF8 + b'{"url": "' + row["url"] + b'", "text": "' + row["text"] + b'"}\n' for row in values
        ]
        (tmp_path / "list.jsonl").write_bytes(b"".join(lines))
    found = read(tmp_path / f"list.{kind}", caption_col="text", save_additional_columns=("text",))
    assert found["url"].to_pylist() == ["http://a/caf\ufffd", "b"]
    assert found["text"].to_pylist() == found["caption"].to_pylist() == ["caf\ufffd", "fine"]
    assert errors(found) == [None, None]


def test_bad_rows_are_accounted_for(photo_server, tmp_path):
    good = f"{photo_server.url}/pictures/0001.jpg"
    (tmp_path / "list.csv").write_text(f"url,text\n{good},x\n{good}\n{good},y,z\n{good},w\n")
    summary = create(tmp_path / "list.csv", tmp_path / "out", caption_col="text")
    assert (summary.rows, summary.successes, summary.failed_by_error) == (4, 2, {"bad_row": 2})
    assert [row["url"] for row in rows(tmp_path / "out")] == [good, None, None, good]


def test_a_json_line_that_is_no_object_is_a_bad_row(tmp_path):
    (tmp_path / "list.jsonl").write_text('{"url": "a"}\nnonsense\n[1]\n{"other": 1}\n')
    assert errors(read(tmp_path / "list.jsonl")) == [None, "bad_row", "bad_row", None]


ELEMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
NOWHERE = InputFile(storage=open_storage("nowhere"), entry=Entry(name="list.json", size=0))


@settings(deadline=None, max_examples=50)
@given(found=st.lists(ELEMENTS, max_size=6), indent=st.none() | st.integers(0, 2), data=st.data())
def test_an_array_is_the_same_in_whatever_pieces_it_comes(found, indent, data):
    text = json.dumps(found, indent=indent, ensure_ascii=False) + data.draw(st.sampled_from(["", "\n", " "]))
    sizes = itertools.cycle(data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=5)))
    parser, taken, place = _Parser(NOWHERE), [], 0
    while place < len(text):
        size = next(sizes)
        taken += parser.feed(text[place : place + size])
        place += size
    parser.end()
    assert taken == found


@pytest.mark.parametrize("text", ["[", "[1 2]", "[1,]", "[1]]", "[,1]", '["a]', "[1,2", "[}", '[{"a":1}x]'])
def test_what_is_no_array_is_refused(tmp_path, text):
    (tmp_path / "list.json").write_text(text)
    with pytest.raises(UsageError, match="neither JSON lines nor one JSON array"):
        read(tmp_path / "list.json")


GOOD_BOXES = [[[0.0, 0.0, 0.5, 0.5], [0.25, 0.5, 1.0, 1.0]], [], None]
BOXES = [*GOOD_BOXES, [[0.0, 0.0, 1.0]], [[0.0, 0.0, 300.0, 1.0]], [[1.0, 0.0, 0.0, 1.0]]]
HASHES = [" ABC ", "d", "e", "", None, "f"]


def write(path, kind: str) -> None:
    found = [{"url": "u", "faces": boxes, "hash": digest, "id": 7} for boxes, digest in zip(BOXES, HASHES, strict=True)]
    if kind == "parquet":
        kinds = {"url": pa.string(), "faces": pa.list_(pa.list_(pa.float32())), "hash": pa.string(), "id": pa.int16()}
        pq.write_table(pa.Table.from_pylist(found, schema=pa.schema(kinds)), path)
    elif kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in found))
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(found[0]), delimiter="," if kind == "csv" else "\t")
            writer.writeheader()
            texts = [row if row["faces"] is None else row | {"faces": json.dumps(row["faces"])} for row in found]
            writer.writerows(texts)


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_boxes_hashes_and_keys_come_with_their_rows(tmp_path, kind):
    write(tmp_path / f"list.{kind}", kind)
    found = read(tmp_path / f"list.{kind}", bbox_col="faces", verify_hash=("hash", "sha256"), key_from="id")
    assert found["faces"].to_pylist() == [*GOOD_BOXES, None, None, None]
    assert found[HASH].to_pylist()[:3] == ["abc", "d", "e"]
    assert found[KEY].to_pylist() == ["7"] * 6
    assert errors(found) == [None, None, None, "hash_mismatch", "hash_mismatch", "bad_bbox"]
    alone = read(tmp_path / f"list.{kind}", bbox_col="faces")
    assert errors(alone) == [None, None, None, "bad_bbox", "bad_bbox", "bad_bbox"]
    assert alone.column_names[:2] == ["faces", "url"]


NO_BOXES = ["x", "[1]", "[[0,0,1,true]]", "{}", "[[0,0,1,NaN]]", "[" * 2000, '[["0",0,1,1]]', "[null]"]


@pytest.mark.parametrize("value", NO_BOXES)
def test_what_is_no_list_of_boxes_fails_its_row(tmp_path, value):
    pq.write_table(pa.table({"url": ["u", "u"], "faces": [value, "[[0,0,1,1]]"]}), tmp_path / "list.parquet")
    found = read(tmp_path / "list.parquet", bbox_col="faces")
    assert found["faces"].to_pylist() == [None, [[0, 0, 1, 1]]]
    assert errors(found) == ["bad_bbox", None]


@pytest.mark.parametrize("kind", [pa.int64(), pa.list_(pa.float64()), pa.list_(pa.list_(pa.string())), pa.binary()])
def test_a_column_that_cannot_hold_boxes_is_refused(tmp_path, kind):
    pq.write_table(pa.table({"url": ["u"], "faces": pa.nulls(1, kind)}), tmp_path / "list.parquet")
    with pytest.raises(UsageError, match=r"column 'faces' holds .*, neither boxes nor JSON texts"):
        read(tmp_path / "list.parquet", bbox_col="faces")


@pytest.mark.parametrize("options", [{"bbox_col": "no"}, {"verify_hash": ("no", "md5")}, {"key_from": "no"}])
@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_column_that_is_not_there_is_refused(tmp_path, kind, options):
    write(tmp_path / f"list.{kind}", kind)
    with pytest.raises(UsageError, match="no column 'no'"):
        read(tmp_path / f"list.{kind}", **options)


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_run_with_boxes_and_hashes_can_be_resumed(photo_server, tmp_path, kind):
    write(tmp_path / f"list.{kind}", kind)
    options = {"bbox_col": "faces", "verify_hash": ("hash", "sha256"), "number_sample_per_shard": 4}
    create(tmp_path / f"list.{kind}", tmp_path / "out", **options)
    before = contents(tmp_path / "out")
    (tmp_path / "out" / "00001_stats.json").unlink()
    create(tmp_path / f"list.{kind}", tmp_path / "out", **options)
    assert contents(tmp_path / "out") == before
    errors = [row["error"] for shard in ("00000", "00001") for row in rows(tmp_path / "out", shard)]
    assert errors == ["bad_url", "bad_url", "bad_url", "hash_mismatch", "hash_mismatch", "bad_bbox"]
    assert rows(tmp_path / "out")[0]["faces"] == GOOD_BOXES[0]
