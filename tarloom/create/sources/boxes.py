"""Boxes to blur, as lists give them: per row a list of [left, top, right, bottom], parts of the width and height.

Numbers go from 0 (left, top) to 1. Detectors put corners slightly outside; anything from -1 to 2 is taken, and what
lies outside of the picture is nothing to blur. A null or an empty text is no box.
"""

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from tarloom.errors import FetchError

BOXES = pa.list_(pa.list_(pa.float64()))
"""Their type in the metadata, where the list itself has no lists."""

Boxes = list[list[float]]


def boxes_of(values: Sequence[Any]) -> tuple[list[Boxes | None], dict[int, FetchError]]:
    """The boxes of a column's values, each a list or its JSON text; and by their places the errors of those that are
    none."""
    found: list[Boxes | None] = []
    errors: dict[int, FetchError] = {}
    for place, value in enumerate(values):
        boxes = _parsed(value)
        if boxes is None or all(map(_is_box, boxes)):
            found.append(boxes)
        else:
            found.append(None)
            errors[place] = FetchError("bad_bbox", "not a list of boxes [left, top, right, bottom] from 0 to 1")
    return found, errors


def _parsed(value: Any) -> list[Any] | None:
    """The list that a value is; one of no box at all, where it is no list."""
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.strip() else None
        except (ValueError, RecursionError):
            return [None]
    return value if value is None or isinstance(value, list) else [None]


def _is_box(value: Any) -> bool:
    if not isinstance(value, list) or len(value) != 4:
        return False
    if not all(type(number) in (int, float) and -1 <= number <= 2 for number in value):
        return False
    left, top, right, bottom = value
    return bool(left <= right and top <= bottom)
