"""Types of the columns of csv and tsv files: whole numbers, numbers or truth values where all values are, else text.

They are img2dataset's types, but that numbers with leading zeros stay text (they are names, and would lose the zeros),
and so do whole numbers of more than 64 bits (names, too, which would lose digits) and dates (for which a sample's json
has no form). All values count, not only those of the first rows.
"""

from collections.abc import Iterable, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from tarloom.format.arrow_types import Array

ABSENT = ("", "#N/A", "N/A", "NA", "NULL", "NaN", "n/a", "nan", "null")
"""What stands for null among values that are no text. No array: pyarrow imports pandas when it makes its first."""
LEADING_ZERO = r"^[+-]?0[0-9xX]"
LONG = r"^[+-]?[0-9]{19,}$"
"""What may be a whole number beyond 64 bits."""
TEXT = pa.string()


class ColumnTypes:
    """Sees all values of some columns, and knows then of which types they are."""

    def __init__(self, names: Iterable[str]) -> None:
        self._possible: dict[str, list[pa.DataType]] = {name: [pa.int64(), pa.bool_(), pa.float64()] for name in names}
        self._seen: set[str] = set()
        """Columns that have a value."""

    def see(self, columns: Mapping[str, Array]) -> None:
        """The texts of some rows, by the column's name."""
        for name, possible in self._possible.items():
            values = _present(columns[name])
            self._possible[name] = [kind for kind in possible if _fits(values, kind)]
            if values.null_count < len(values):
                self._seen.add(name)

    def found(self) -> dict[str, pa.DataType]:
        """Types by name; a column without any value is text."""
        return {name: [*(kinds if name in self._seen else []), TEXT][0] for name, kinds in self._possible.items()}


def converted(texts: Array, kind: pa.DataType) -> Array:
    """Texts as values of the type that `found` says."""
    return texts if kind == TEXT else pc.cast(_present(texts), kind)


def _present(texts: Array) -> Array:
    trimmed = pc.utf8_trim_whitespace(texts)
    present: Array = pc.if_else(pc.is_in(trimmed, pa.array(ABSENT)), pa.scalar(None, TEXT), trimmed)
    return present


def _fits(values: Array, kind: pa.DataType) -> bool:
    if pc.any(pc.match_substring_regex(values, LEADING_ZERO)).as_py():
        return False
    try:
        pc.cast(values, kind)
        if kind == pa.float64():
            pc.cast(values.filter(pc.match_substring_regex(values, LONG)), pa.int64())
    except pa.ArrowInvalid:
        return False
    return True
