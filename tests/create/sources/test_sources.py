"""Sources: URL lists of every format, folders of pictures, and one clear line where they cannot be read."""

import gzip
import io
import itertools
import json
import os
import pickle

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import assume, given
from hypothesis import strategies as st

from tarloom.create.config import CreateConfig, ListOptions
from tarloom.create.sources.inputs import UTF_16_MARKS, find_files, lines
from tarloom.create.sources.list_reader import BATCH_ROWS
from tarloom.create.sources.open import cut, open_source
from tarloom.errors import UsageError
from tarloom.format.storage import open_storage
from tests.create.helpers import create

ROWS = [
    {"link": f"http://example.org/{i}.jpg?a=1,2", "text": f'caption "{i}",\nsecond line', "score": i / 4, "n": i}
    for i in range(3000)
]
TEXT_ROWS = [{name: str(value) for name, value in row.items()} for row in ROWS]


def write(path, kind: str) -> None:
    columns = pa.Table.from_pylist(ROWS)
    if kind == "parquet":
        pq.write_table(columns, path, row_group_size=700)
    elif kind in ("csv", "tsv"):
        pa_csv.write_csv(columns, path, pa_csv.WriteOptions(delimiter="," if kind == "csv" else "\t"))
    elif kind == "json":
        path.write_text(json.dumps(ROWS, indent=1))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))


def packed(path, how: str):
    """The file compressed, under its name with the suffix added."""
    if not how:
        return path
    squeezed = path.with_name(f"{path.name}.{how}")
    data = path.read_bytes()
    squeezed.write_bytes(gzip.compress(data) if how == "gz" else zstandard.compress(data))
    path.unlink()
    return squeezed


def source_of(path, **options):
    return open_source(CreateConfig(source=str(path), output="unused", lists=ListOptions(**options)))


def read(source, start: int = 0) -> pa.Table:
    _, additional = source.scan()
    return pa.concat_tables(source.tables(additional, start))


WANTED = {"url_col": "link", "caption_col": "text", "save_additional_columns": ("score", "n")}


FORMATS = [("parquet", ""), *((kind, how) for kind in ("csv", "tsv", "json", "jsonl") for how in ("", "gz", "zst"))]


@pytest.mark.parametrize(("kind", "how"), FORMATS)
def test_every_format_gives_the_same_rows(tmp_path, kind, how):
    path = tmp_path / f"list.{kind}"
    write(path, kind)
    source = source_of(packed(path, how), **WANTED)
    rows, additional = source.scan()
    assert rows == len(ROWS)
    assert additional.names == ["score", "n"]
    expected = TEXT_ROWS if kind in ("csv", "tsv") else ROWS
    found = read(source)
    assert found.column_names == ["score", "n", "caption", "url"]
    assert found["url"].to_pylist() == [row["link"] for row in ROWS]
    assert found["caption"].to_pylist() == [row["text"] for row in ROWS]
    assert list(map(float, found["score"].to_pylist())) == [float(row["score"]) for row in expected]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("start", [0, 1, 699, 700, 701, 2999, 3000, 5000])
def test_reading_from_a_row_gives_the_rest(tmp_path, kind, start):
    for part in ("a", "b"):
        write(tmp_path / f"{part}.{kind}", kind)
    source = source_of(tmp_path, **WANTED)
    whole = read(source)
    assert whole.num_rows == 6000
    assert pa.concat_tables([whole.slice(0, 0), *source.tables(source.scan()[1], start)]).equals(whole.slice(start))


def test_a_txt_has_one_url_a_line_whatever_is_in_it(tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes(b'\xef\xbb\xbfhttp://a/1,2,3\r\n\r\n  http://b/"x"  \nhttp://c/\xff\n\nhttp://d')
    assert read(source_of(path))["url"].to_pylist() == ["http://a/1,2,3", 'http://b/"x"', "http://c/\ufffd", "http://d"]


@given(
    texts=st.lists(st.binary(max_size=30).filter(lambda line: b"\n" not in line), max_size=30), chunk=st.integers(1, 9)
)
def test_lines_do_not_depend_on_how_the_file_is_read(tmp_path_factory, texts, chunk):
    path = tmp_path_factory.mktemp("list") / "list.txt"
    assume(not b"\n".join(texts).startswith(UTF_16_MARKS))
    path.write_bytes(b"\n".join(texts))
    [file], _ = find_files(str(path))
    found = [line for batch in lines(file, chunk_bytes=chunk) for line in batch]
    assert found == [
        line.strip() for line in path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n") if line.strip()
    ]


def test_json_columns_have_the_type_that_fits_all_values(tmp_path):
    path = tmp_path / "list.jsonl"
    values = {
        "a": [1, 2],
        "b": [2**60 + 1, 2.5],
        "c": [True, None],
        "d": ["x", 3],
        "e": [{"k": [1]}, None],
        "f": [2**70, 1],
    }
    path.write_text(
        "".join(json.dumps({"url": "u"} | {name: v[i] for name, v in values.items()}) + "\n" for i in (0, 1))
    )
    source = source_of(path, save_additional_columns=tuple(values))
    _, additional = source.scan()
    assert [str(kind) for kind in additional.types] == ["int64", "double", "bool", "string", "string", "string"]
    assert read(source).to_pylist()[1] == {
        "a": 2, "b": 2.5, "c": None, "d": "3", "e": None, "f": "1", "url": "u",
    }  # fmt: skip


@pytest.mark.parametrize("layout", [{}, {"indent": 1}], ids=["one line", "many lines"])
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf \n"], ids=["plain", "marked"])
def test_a_json_array_may_be_laid_out_in_any_way(tmp_path, layout, start):
    path = tmp_path / "list.json"
    found = [{"url": "a", "note": "x" * (17 << 20)}, None, {"url": "b"}]
    path.write_bytes(start + json.dumps(found, **layout).encode())
    assert read(source_of(path))["url"].to_pylist() == ["a", None, "b"]


def test_a_list_may_have_any_name(tmp_path):
    path = os.fsencode(tmp_path) + b"/caf\xe9.txt"
    with open(path, "wb") as file:
        file.write(b"http://a\n")
    assert read(source_of(os.fsdecode(path)))["url"].to_pylist() == ["http://a"]


def test_a_json_line_that_is_no_object_is_one_row_without_a_url(tmp_path):
    path = tmp_path / "list.jsonl"
    path.write_text('{"url": "a"}\nnonsense\n[1]\n{"url": "\\ud800"}\n{"other": 1}\n{"url": 7}\n')
    assert read(source_of(path))["url"].to_pylist() == ["a", None, None, "?", None, "7"]


def test_csv_text_that_is_not_utf8_is_mended(tmp_path):
    path = tmp_path / "list.csv"
    path.write_bytes(b"url,caption\nhttp://a,caf\xe9\n")
    assert read(source_of(path, caption_col="caption"))["caption"].to_pylist() == ["caf\ufffd"]


def test_a_glob_names_lists(tmp_path):
    for name in ("b/2.txt", "a/1.txt", "a/skip.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"http://{name}\n")
    found = read(source_of(f"{tmp_path}/*/*.txt"))["url"].to_pylist()
    assert found == ["http://a/1.txt", "http://b/2.txt"]


def test_equal_contents_have_equal_fingerprints_wherever_they_lie(tmp_path):
    prints = set()
    for name in ("one.txt", "two.txt"):
        (tmp_path / name).write_text("http://a\n")
        prints.add(source_of(tmp_path / name).fingerprint())
    (tmp_path / "two.txt").write_text("http://b\n")
    assert len(prints) == 1
    assert source_of(tmp_path / "two.txt").fingerprint() not in prints


def parquet_bytes(names: list[str]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_arrays([pa.array([f"{row}" for row in range(9999)])] * len(names), names), sink)
    return sink.getvalue()


def test_a_list_that_is_damaged_where_it_is_not_yet_read_is_refused_when_it_is(tmp_path):
    whole = parquet_bytes(["url"])
    middle = len(whole) // 3
    (tmp_path / "list.parquet").write_bytes(whole[:middle] + bytes(2000) + whole[middle + 2000 :])
    with pytest.raises(UsageError, match=r"list\.parquet: not a sound parquet file"):
        read(source_of(tmp_path / "list.parquet"))


BAD_LISTS = {
    "absent.csv": (None, {}, "nothing there"),
    "empty.csv": (b"", {}, "it is empty"),
    "no_url.csv": (b"a,b\n1,2\n", {}, "no column 'url'; it has a, b"),
    "no_caption.csv": (b"url,b\n1,2\n", {"caption_col": "text"}, "no column 'text'"),
    "no_score.jsonl": (b'{"url": "u"}\n', {"save_additional_columns": ("score",)}, "no column 'score'"),
    "noise.parquet": (b"nonsense", {}, "not a sound parquet file"),
    "noise.txt.gz": (b"nonsense", {}, "cannot be decompressed"),
    "cut.jsonl.gz": (gzip.compress(b'{"url": "u"}\n' * 1000)[:-20], {}, "cannot be decompressed"),
    "columns.txt": (b"http://a\n", {"caption_col": "text"}, "a txt list has no columns"),
    "what.xml": (b"<urls/>", {}, "neither pictures nor URL lists .* say the kind by input_format"),
    "alone.jpg": (b"a picture", {}, "pictures are taken by the folder"),
    "zeros.csv": (b"\x93q\x00\x01,\x00\n", {}, "or no text at all"),
    "latin.csv": ("url,légende\nu,é\n".encode("latin-1"), {"caption_col": "légende"}, "no column 'légende'"),
    "twice.csv": (b"url,a,url\n1,2,3\n", {}, "2 columns are called 'url'"),
    "twice.parquet": (
        parquet_bytes(["url", "a", "a"]),
        {"save_additional_columns": ("a",)},
        "2 columns are called 'a'",
    ),
    "empty.json": (b"{}", {}, "no column 'url'; it has none"),
    "columns.json": (b'{"url":{"0":"u","1":"v"},"n":{"0":1}}', {}, "holds columns, not rows; .* orient='records'"),
    "lists.json": (b'{"url":["u","v"],"n":[1,2]}', {}, "holds columns, not rows; write one object a line"),
    "indented.json": (b'{\n "url":{\n  "0":"u"\n }\n}', {}, "no line of it is an object; write one object a line"),
    "open.json": (b'[{"url": "u"},', {}, "neither JSON lines nor one JSON array"),
    "same.csv": (b"url\nu\n", {"caption_col": "url"}, "name two columns"),
    "endless.txt": (b"x" * (17 << 20), {}, "a line is longer"),
    "wide.txt": ("http://a\n".encode("utf-16"), {}, "is UTF-16, or no text at all; save it as UTF-8"),
    "wide.csv": ("url,a\nu,b\n".encode("utf-16"), {}, "is UTF-16, or no text at all; save it as UTF-8"),
}


def test_the_metadata_of_a_folder_of_shards_are_a_list(pictures, tmp_path):
    create(pictures, tmp_path / "out", number_sample_per_shard=10)
    assert source_of(tmp_path / "out", input_format="parquet").scan()[0] == 20


@pytest.mark.parametrize("name", BAD_LISTS)
def test_a_list_that_cannot_be_read_is_refused_in_one_line(tmp_path, name):
    data, options, message = BAD_LISTS[name]
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(UsageError, match=message) as caught:
        source_of(tmp_path / name, **options).scan()
    assert name in str(caught.value) or "caption_col" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_row_whose_url_is_no_text_fails_alone_where_it_is_not_the_only_one(tmp_path):
    rows = [{"url": "u"}] * BATCH_ROWS + [{"url": ["v"]}]
    (tmp_path / "list.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert source_of(tmp_path / "list.jsonl").scan()[0] == len(rows)


def test_lists_of_two_formats_need_a_choice(tmp_path):
    (tmp_path / "a.txt").write_text("http://a\n")
    (tmp_path / "b.csv").write_text("url\nhttp://b\n")
    with pytest.raises(UsageError, match=r"several formats \(csv, txt\)"):
        source_of(tmp_path)
    assert read(source_of(tmp_path, input_format="csv"))["url"].to_pylist() == ["http://b"]


def test_pictures_are_found_at_any_depth_with_what_lies_beside_them(tmp_path):
    for name in ("b/x.y.JPG", "a.png", "b/x.y.txt", "a.cls", ".hidden.jpg", "notes.md", "b/z.webp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    source = source_of(tmp_path)
    assert source.has_captions
    assert source.scan()[1].names == ["cls"]
    found = read(source).select(["row:key", "url", "beside:txt", "beside:cls", "beside:json"]).to_pylist()
    assert [tuple(row.values()) for row in found] == [
        ("a", "a.png", None, "a.cls", None),
        ("b/x_y", "b/x.y.JPG", "b/x.y.txt", None, None),
        ("b/z", "b/z.webp", None, None, None),
    ]


@pytest.mark.parametrize("names", [("a.b.jpg", "a_b.jpg"), ("a.jpg", "a.png")])
def test_two_pictures_of_one_key_are_refused(tmp_path, names):
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(UsageError, match="would both have the key"):
        source_of(tmp_path).scan()


def test_a_column_may_have_nulls_in_one_file_and_none_in_another(tmp_path):
    kinds = [pa.field("n", pa.int64(), nullable=False), pa.field("n", pa.int64())]
    for name, kind, values in zip("abc", [*kinds, kinds[0]], [[1, 2], [None, 4], [5, 6]], strict=True):
        schema = pa.schema([pa.field("url", pa.string(), nullable=False), kind])
        pq.write_table(pa.table({"url": ["", ""], "n": values}, schema=schema), tmp_path / f"{name}.parquet")
    create(tmp_path / "*.parquet", tmp_path / "out", save_additional_columns=("n",), number_sample_per_shard=5)
    found = [pq.read_table(tmp_path / "out" / f"0000{shard}.parquet") for shard in (0, 1)]
    assert [table["n"].to_pylist() for table in found] == [[1, 2, None, 4, 5], [6]]
    assert found[0].schema == found[1].schema


def write_numbers(folder, **values: pa.Array) -> None:
    for name, column in values.items():
        pq.write_table(pa.table({"url": ["u"] * len(column), "n": column}), folder / f"{name}.parquet")


def test_a_column_of_numbers_may_have_another_type_in_each_file(tmp_path):
    """As pandas writes it: where a file has a null its numbers are floats, where it has but nulls there is no type."""
    write_numbers(tmp_path, a=pa.array([1, 2]), b=pa.array([3.5, None]), c=pa.nulls(1), d=pa.array([4], pa.int32()))
    source = source_of(tmp_path / "*.parquet", save_additional_columns=("n",), caption_col="n")
    found = read(source)
    assert found["n"].type == pa.float64()
    assert found["n"].to_pylist() == [1, 2, 3.5, None, None, 4]
    assert found["caption"].to_pylist() == ["1", "2", "3.5", None, None, "4"]
    assert read(source, 2)["n"].to_pylist() == [3.5, None, None, 4]


def test_a_number_that_another_type_would_change_is_refused(tmp_path):
    write_numbers(tmp_path, a=pa.array([2**53 + 1]), b=pa.array([0.5]))
    with pytest.raises(UsageError, match=r"a\.parquet: column 'n' cannot become double .*9007199254740993"):
        read(source_of(tmp_path, save_additional_columns=("n",)))


def test_types_that_do_not_fit_together_are_named_with_their_column(tmp_path):
    write_numbers(tmp_path, a=pa.array([1]), b=pa.array(["x"]))
    with pytest.raises(UsageError, match=r"b\.parquet: column 'n' holds string, in files before it int64"):
        source_of(tmp_path, save_additional_columns=("n",)).scan()


def test_a_pipe_is_refused_as_what_it_is(tmp_path):
    os.mkfifo(tmp_path / "list.csv")
    with pytest.raises(UsageError, match=r"a pipe or device, .* save it as a file"):
        find_files(str(tmp_path / "list.csv"))


def test_a_glob_of_pictures_and_a_folder_without_lists_of_the_kind_say_what_is_missing(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"a picture")
    with pytest.raises(UsageError, match="pictures are taken by the folder"):
        open_source(CreateConfig(source=f"{tmp_path}/*.jpg", output=f"{tmp_path}/out"))
    with pytest.raises(UsageError, match=r"no list \(.csv\) in it"):
        open_source(CreateConfig(source=str(tmp_path), output=f"{tmp_path}/out", lists=ListOptions(input_format="csv")))


def test_what_programs_keep_in_a_folder_of_lists_is_no_list(tmp_path):
    asides = ["_delta_log/10.checkpoint", "_temporary/0/task/part-0", "deep/_temporary/part-0", ".ipynb_checkpoints/a"]
    for name in ("a", "_b", "deep/c", *asides):
        path = tmp_path / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"url": [name]}), path)
    assert read(source_of(tmp_path))["url"].to_pylist() == ["_b", "a", "deep/c"]
    assert read(source_of(tmp_path / "_delta_log"))["url"].to_pylist() == ["_delta_log/10.checkpoint"]
    assert read(source_of(tmp_path / "*" / "10.*.parquet"))["url"].to_pylist() == ["_delta_log/10.checkpoint"]


def test_a_folder_without_pictures_or_lists_is_refused(tmp_path):
    with pytest.raises(UsageError, match="nothing there"):
        source_of(tmp_path)
    (tmp_path / "notes.md").write_text("x")
    with pytest.raises(UsageError, match="neither pictures nor URL lists"):
        source_of(tmp_path)


@given(data=st.data(), sizes=st.lists(st.integers(0, 7), max_size=12))
def test_cutting_gives_each_range_its_rows(data, sizes):
    total = sum(sizes)
    bounds = sorted(data.draw(st.sets(st.integers(0, total), max_size=8)))
    ranges = [pair for pair in itertools.pairwise(bounds) if data.draw(st.booleans())]
    position = data.draw(st.integers(0, ranges[0][0])) if ranges else 0
    numbers = pa.table({"n": list(range(total))})
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    tables = [numbers.slice(start, size) for start, size in zip(starts, sizes, strict=True)]
    skipped = pa.concat_tables([numbers.slice(0, 0), *tables]).slice(position)
    found = cut(iter([skipped.slice(i, 3) for i in range(0, skipped.num_rows, 3)]), position, ranges)
    assert [table["n"].to_pylist() for table in found] == [list(range(*pair)) for pair in ranges]


def test_a_cut_takes_along_no_more_than_its_rows():
    whole = pa.table({"n": range(100_000)})
    [part] = cut(iter([whole]), 0, [(5, 10)])
    assert len(pickle.dumps(part)) < 5000


def test_a_source_that_has_shrunk_is_noticed():
    with pytest.raises(UsageError, match="changed meanwhile"):
        list(cut(iter([pa.table({"n": [1, 2]})]), 0, [(0, 3)]))


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_remote_lists_are_read_as_local_ones(s3_folder, tmp_path, kind):
    storage = open_storage(s3_folder)
    for name in ("a/1", "a/2", "b/3"):
        write(tmp_path / f"list.{kind}", kind)
        storage.write(f"{name}.{kind}", (tmp_path / f"list.{kind}").read_bytes())
    local = read(source_of(tmp_path / f"list.{kind}", **WANTED))
    assert read(source_of(f"{s3_folder}/a/1.{kind}", **WANTED)).equals(local)
    assert read(source_of(s3_folder, **WANTED)).num_rows == 3 * len(ROWS)
    assert read(source_of(f"{s3_folder}/a/*.{kind}", **WANTED)).num_rows == 2 * len(ROWS)
    with pytest.raises(UsageError, match="nothing there"):
        source_of(f"{s3_folder}/absent.{kind}")
