"""Parquet through a storage: the same table gives the same bytes, and what is not sound is named."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tarloom.errors import CorruptShard, StorageError
from tarloom.format import parquet
from tarloom.format.parquet import read_footer, read_schema, read_table, write_table
from tarloom.format.storage import open_storage
from tests.foreign_types import columns_of_it, known_to_arrow, tensor_of_it, view_of_it


@pytest.fixture
def storage(tmp_path):
    return open_storage(tmp_path / "set")


@pytest.fixture
def table() -> pa.Table:
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(40, dtype=np.float16)), 4)
    return pa.table({"key": [f"{i}" for i in range(10)], "a.b": pa.array([None, *range(9)], pa.int32()), "v": vectors})


def test_a_table_comes_back_with_its_types_and_footer(storage, table):
    write_table(storage, "a.parquet", table, {"tarloom.stage": "é", "b": ""})
    found = read_table(storage, "a.parquet")
    assert found.replace_schema_metadata(None).equals(table)
    assert read_footer(storage, "a.parquet") == ({"tarloom.stage": "é", "b": ""}, 10)
    assert read_schema(storage, "a.parquet").equals(table.schema)


def test_columns_come_in_the_order_asked_for_also_with_dots_in_their_names(storage, table):
    write_table(storage, "a.parquet", table)
    assert read_table(storage, "a.parquet", ["v", "a.b"]).column_names == ["v", "a.b"]
    assert read_table(storage, "a.parquet", ["a.b"]).column("a.b").to_pylist() == table.column("a.b").to_pylist()


def test_the_same_table_gives_the_same_bytes_however_it_is_chunked(storage, table):
    write_table(storage, "one", table, {"b": "2", "a": "1"})
    write_table(storage, "two", pa.concat_tables([table.slice(0, 3), table.slice(3)]), {"a": "1", "b": "2"})
    assert storage.read("one") == storage.read("two")


def test_a_table_of_several_pages_and_row_groups_gives_the_same_bytes_however_it_is_chunked(storage):
    texts = [f"row {number}" * (number % 9) if number % 5 else None for number in range(100_000)]
    table = pa.table({"key": [f"{number:09d}" for number in range(100_000)], "text": texts})
    write_table(storage, "one", table)
    write_table(storage, "two", pa.concat_tables([table.slice(0, 3), table.slice(3, 40_000), table.slice(40_003)]))
    assert storage.read("one") == storage.read("two")
    assert read_table(storage, "two").equals(table)


@pytest.mark.parametrize("columns", [None, ["value", "struct"]])
def test_no_type_in_a_file_runs_code_of_a_package_that_registered_it(storage, columns):
    Path(storage.url).mkdir()
    pq.write_table(columns_of_it(), Path(storage.url, "a.parquet"))
    unknown = read_table(storage, "a.parquet", columns)
    with known_to_arrow():
        found = read_table(storage, "a.parquet", columns)
        assert found.to_pylist() == unknown.to_pylist()
        assert found.schema.equals(unknown.schema, check_metadata=True)
        assert found.column("value").type == read_schema(storage, "a.parquet").field("value").type == pa.binary()


def test_such_a_type_within_one_of_arrows_own_runs_no_code_either(storage):
    Path(storage.url).mkdir()
    pq.write_table(tensor_of_it(), Path(storage.url, "tensor.parquet"))
    pq.write_table(view_of_it(), Path(storage.url, "view.parquet"))
    with known_to_arrow():
        assert read_table(storage, "tensor.parquet").to_pylist() == [{"pair": [b"x", b"y"]}]
        with pytest.raises(CorruptShard, match="view"):
            read_table(storage, "view.parquet")


def test_a_footer_longer_than_the_first_read_is_read_whole(storage):
    wide = pa.table({f"column {i}": [i] for i in range(3000)})
    write_table(storage, "wide", wide, {"k": "v" * 200_000})
    footer, rows = read_footer(storage, "wide")
    assert (len(footer["k"]), rows) == (200_000, 1)


@pytest.mark.parametrize("end", [100, 4000, 1 << 20])
def test_columns_are_cut_out_of_a_remote_file_whatever_of_its_end_is_read_first(monkeypatch, end):
    monkeypatch.setattr(parquet, "_TAIL_BYTES", end)
    remote, count = open_storage("memory:///parquet"), 5000
    numbers = np.random.default_rng(0).standard_normal(count * 8)
    wide = pa.table(
        {
            "a": pa.array([f"text {i % 7}" for i in range(count)]),
            "a.b": pa.array(range(count)),
            "v": pa.FixedSizeListArray.from_arrays(pa.array(numbers, pa.float32()), 8),
            "s": pa.array([{"x": i, "y": [i, i]} for i in range(count)]),
            "ab": pa.nulls(count, pa.string()),
        }
    )
    with remote.create("wide") as file:
        pq.write_table(wide, file, row_group_size=1500, write_page_checksum=True)
    for columns in (["a.b"], ["s", "a"], ["v", "ab"], wide.column_names):
        assert read_table(remote, "wide", columns).equals(wide.select(columns))
    assert read_table(remote, "wide").equals(wide)
    assert read_footer(remote, "wide") == ({}, count)


def test_pyarrow_and_pandas_read_what_was_written(storage, table):
    write_table(storage, "a.parquet", table)
    assert pq.read_table(storage.local_path("a.parquet")).equals(table)


@pytest.mark.parametrize("cut", [0, 3, 8, 200, -1, -8, -40])
@pytest.mark.parametrize("read", [read_table, read_footer, read_schema])
def test_a_cut_file_is_corrupt(storage, table, cut, read):
    write_table(storage, "whole", table)
    storage.write("cut.parquet", storage.read("whole")[: cut if cut >= 0 else len(storage.read("whole")) + cut])
    with pytest.raises(CorruptShard, match=r"cut\.parquet: not a sound parquet file") as raised:
        read(storage, "cut.parquet")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("read", [read_table, read_footer, read_schema])
def test_an_absent_file_is_said_to_be_absent(storage, read):
    with pytest.raises(StorageError, match="none"):
        read(storage, "none")


@pytest.mark.parametrize("read", [read_table, read_schema, read_footer])
def test_a_table_with_two_columns_of_one_name_is_corrupt(storage, read):
    with storage.create("t.parquet") as file:
        pq.write_table(pa.table([[1], [2], [3]], names=["a", "b", "a"]), file)
    with pytest.raises(CorruptShard, match=r"t\.parquet: has more than one column 'a'"):
        read(storage, "t.parquet")


def test_an_absent_column_is_named_with_those_there_are(storage, table):
    write_table(storage, "a.parquet", table)
    with pytest.raises(CorruptShard, match=r"a\.parquet: lacks the column x; it has key, a\.b, v"):
        read_table(storage, "a.parquet", ["key", "x"])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_in_a_page_is_found_or_changes_nothing(storage, table, place, bit):
    write_table(storage, "whole", table)
    data = bytearray(storage.read("whole"))
    pages = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    data[int(place * pages)] ^= 1 << bit
    storage.write("flipped", bytes(data))
    try:
        found = read_table(storage, "flipped")
    except CorruptShard:
        return
    assert found.equals(table)


@pytest.mark.parametrize("kind", [pa.large_string(), pa.dictionary(pa.int32(), pa.string()), pa.string_view()], ids=str)
def test_texts_come_as_strings_however_they_are_stored(storage, kind):
    write_table(storage, "a.parquet", pa.table({"key": pa.array(["a", None], pa.string()).cast(kind), "n": [1, 2]}))
    found = read_table(storage, "a.parquet", texts=("key",))
    assert found.equals(pa.table({"key": ["a", None], "n": [1, 2]}))


VIEWS = [
    (pa.string_view(), "a", pa.string()),
    (pa.binary_view(), b"\xff", pa.binary()),
    (pa.list_(pa.string_view()), ["a"], pa.list_(pa.string())),
    (pa.struct([("x", pa.string_view())]), {"x": "a"}, pa.struct([("x", pa.string())])),
]


@pytest.mark.parametrize(("kind", "value", "plain"), VIEWS, ids=str)
def test_views_come_as_the_texts_and_bytes_of_which_rows_can_be_taken(storage, kind, value, plain):
    write_table(storage, "a.parquet", pa.table({"x": pa.array([value, None, value], kind)}))
    found = read_table(storage, "a.parquet", ["x"])
    assert found["x"].type == read_schema(storage, "a.parquet").field("x").type
    assert str(found["x"].type).replace("element", "item") == str(plain)
    assert found.take(pa.array([2, 1]))["x"].to_pylist() == [value, None]


def test_what_others_note_of_a_column_is_left_behind(storage):
    field = pa.field("said", pa.string(), metadata={"PARQUET:field_id": "3"})
    write_table(storage, "a.parquet", pa.table({"said": ["a"]}, pa.schema([field])))
    assert pq.read_schema(storage.local_path("a.parquet")).field("said").metadata
    assert read_table(storage, "a.parquet").schema.field("said").metadata is None


@pytest.mark.parametrize("column", [[["a"]], [b"\xff"], [{"a": 1}]], ids=str)
def test_what_is_nothing_like_text_is_corrupt(storage, column):
    write_table(storage, "a.parquet", pa.table({"key": column}))
    with pytest.raises(CorruptShard, match=r"a\.parquet"):
        read_table(storage, "a.parquet", texts=("key",))
