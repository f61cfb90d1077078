import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from tarloom.format.regroup import regrouped


@given(st.lists(st.integers(0, 7), max_size=8), st.integers(1, 6))
def test_all_rows_come_in_their_order_in_tables_of_one_size(sizes, rows):
    values = list(range(sum(sizes)))
    whole, starts = pa.table({"a": values}), [sum(sizes[:i]) for i in range(len(sizes))]
    found = list(regrouped((whole.slice(start, size) for start, size in zip(starts, sizes, strict=True)), rows))
    assert [value for table in found for value in table["a"].to_pylist()] == values
    assert all(len(table) == rows for table in found[:-1])
    assert all(0 < len(table) <= rows for table in found)
