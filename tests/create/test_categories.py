"""Columns of categories: in each file of a list, and in each shard, they have a dictionary of their own."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.create.helpers import create

HERE, THERE = [f"a{n}.org" for n in range(100)], [f"b{n}.org" for n in range(100)]
"""Each has room in 8 bits, as pandas counts them; both together have not."""


def categories(texts: list[str]) -> pa.Array:
    return pa.array(texts).dictionary_encode().cast(pa.dictionary(pa.int8(), pa.string()))


def tags(texts: list[str]) -> pa.Array:
    return pa.ListArray.from_arrays(pa.array(range(len(texts) + 1), pa.int32()), categories(texts))


def write(path, column: pa.Array) -> None:
    pq.write_table(pa.table({"url": [""] * len(column), "site": column}), path)


def made(folder, **options) -> pa.ChunkedArray:
    """The column in the metadata of all shards."""
    options = {"number_sample_per_shard": 300, "save_additional_columns": ("site",)} | options
    create(folder / "*.parquet", folder / "out", **options)
    paths = sorted(folder.glob("out/*.parquet"))
    return pa.chunked_array([pq.read_table(path)["site"].combine_chunks() for path in paths])


@pytest.mark.parametrize("rows", [300, 150])
@pytest.mark.parametrize("output_format", ["webdataset", "parquet"])
def test_a_shard_may_hold_more_categories_than_a_file_of_its_list(tmp_path, rows, output_format):
    for name, texts in (("a", HERE), ("b", THERE)):
        write(tmp_path / f"{name}.parquet", categories(texts))
    found = made(tmp_path, number_sample_per_shard=rows, output_format=output_format)
    assert found.to_pylist() == HERE + THERE
    assert found.type == pa.dictionary(pa.int32(), pa.string())


def test_row_groups_of_one_file_may_have_categories_of_their_own(tmp_path):
    schema = pa.schema([("url", pa.string()), ("site", categories(HERE).type)])
    with pq.ParquetWriter(tmp_path / "a.parquet", schema) as file:
        for texts in (HERE, THERE):
            file.write_table(pa.table({"url": [""] * len(texts), "site": categories(texts)}))
    assert made(tmp_path).to_pylist() == HERE + THERE


def test_categories_in_lists_have_room_too(tmp_path):
    for name, texts in (("a", HERE), ("b", THERE)):
        write(tmp_path / f"{name}.parquet", tags(texts))
    assert made(tmp_path).to_pylist() == [[text] for text in HERE + THERE]


@pytest.mark.parametrize("turn", [1, -1])
@pytest.mark.parametrize("other", [pa.string(), pa.large_string(), pa.string_view()], ids=str)
def test_categories_in_one_file_and_texts_in_another_are_texts(tmp_path, turn, other):
    columns = [categories(HERE), pa.array(THERE, other)][::turn]
    for name, column in zip("ab", columns, strict=True):
        write(tmp_path / f"{name}.parquet", column)
    found = made(tmp_path)
    assert found.to_pylist() == [text for column in columns for text in column.to_pylist()]
    assert found.type == (pa.large_string() if other == pa.large_string() else pa.string())
