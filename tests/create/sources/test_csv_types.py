"""Columns of csv have img2dataset's types where all their values are such, wherever the odd one stands."""

import io

import pyarrow as pa
import pyarrow.csv as pc_csv
import pyarrow.parquet as pq
import pytest

from tarloom.create.sources.csv_types import ColumnTypes, converted
from tests.create.helpers import create, rows

COLUMNS = {
    "whole numbers": (["1", "-20", "", " 3"], pa.int64()),
    "numbers": (["1", "0.5", "NA", "1e-3"], pa.float64()),
    "a large whole number among numbers": (["9223372036854775807", "0.5"], pa.float64()),
    "truth values": (["true", "False", ""], pa.bool_()),
    "text": (["1", "b"], pa.string()),
    "text with what looks absent": (["NA", "b", ""], pa.string()),
}
OURS = {
    "names with leading zeros": (["007", "12"], pa.string()),
    "names too large for whole numbers": (["9223372036854775808", "1"], pa.string()),
    "such a name among numbers": (["-18446744073709551616", "0.5"], pa.string()),
    "hexadecimal names": (["0x1f", "0x10"], pa.string()),
    "dates": (["2020-01-02", "2021-01-02"], pa.string()),
    "no value at all": (["", "", ""], pa.string()),
}


def typed(values: list[str], cut: int) -> pa.Array:
    """The values as the type that is found when they are seen in two parts."""
    texts = pa.array(values, pa.string())
    types = ColumnTypes(["column"])
    for part in (texts[:cut], texts[cut:]):
        types.see({"column": part})
    return converted(texts, types.found()["column"])


@pytest.mark.parametrize("name", COLUMNS | OURS)
def test_the_type_is_that_of_all_values_however_they_are_read(name):
    values, kind = (COLUMNS | OURS)[name]
    for cut in range(len(values) + 1):
        assert typed(values, cut).type == kind


@pytest.mark.parametrize("name", COLUMNS)
def test_types_and_values_are_those_that_img2dataset_reads(name):
    values, _ = COLUMNS[name]
    text = "column,other\n" + "".join(f"{value},x\n" for value in values)
    theirs = pc_csv.read_csv(io.BytesIO(text.encode())).column("column")
    assert typed(values, 1).to_pylist() == theirs.to_pylist()


@pytest.mark.parametrize("odd_row", [0, 8191, 8192, 20_000])
def test_one_odd_value_makes_a_column_text_wherever_it_is(tmp_path, odd_row):
    values = ["7"] * 20_001
    values[odd_row] = "seven"
    (tmp_path / "list.csv").write_text("url,score\n" + "".join(f"x,{value}\n" for value in values))
    options = {"save_additional_columns": ("score",), "number_sample_per_shard": 30_000, "output_format": "parquet"}
    create(tmp_path / "list.csv", tmp_path / "out", **options)
    table = pq.read_table(tmp_path / "out" / "00000.parquet")
    assert table["score"].to_pylist() == values


def test_numbers_reach_the_metadata_as_numbers(tmp_path):
    (tmp_path / "list.csv").write_text("id,score,url\n001,0.5,x\n002,,y\n")
    create(tmp_path / "list.csv", tmp_path / "out", save_additional_columns=("id", "score"))
    assert [(row["id"], row["score"]) for row in rows(tmp_path / "out")] == [("001", 0.5), ("002", None)]
