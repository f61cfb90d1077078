"""The documentation says what the code does."""

import ast
import dataclasses
import re

import pyarrow as pa
import pytest

from tarloom.create.plan import Plan
from tarloom.create.web.transient import TRANSIENT_NAMES
from tarloom.format.metadata import Stats, metadata_schema
from tests.source_tree import ROOT, library


def names_of_row_errors() -> set[str]:
    """First arguments of FetchError and ImageError in the library, where they are written out."""
    calls = (node for source in library() for node in ast.walk(source.tree) if isinstance(node, ast.Call))
    raised = (call.args[0] for call in calls if ast.unparse(call.func) in ("FetchError", "ImageError") and call.args)
    return {name.value for name in raised if isinstance(name, ast.Constant)}


def test_every_error_of_a_row_is_explained():
    explained = set(re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/errors.md").read_text(), re.MULTILINE))
    assert len(names_of_row_errors()) > 10
    assert names_of_row_errors() <= explained


def test_what_is_said_of_passing_failures_is_so():
    """Besides dns: there may be an address later, but within a run only the name server's word is taken for it."""
    told = re.findall(r"^\| `(\w+)` \|.*\| (\w+|[\d, ]+) \|$", (ROOT / "docs/errors.md").read_text(), re.MULTILINE)
    statuses = {f"http_{status}" for status in dict(told)["http_NNN"].split(", ")}
    passing = {name for name, transient in told if transient == "yes"} | statuses | {"dns"}
    assert passing == TRANSIENT_NAMES


def fields(kind: type) -> list[str]:
    return [field.name for field in dataclasses.fields(kind)]


@pytest.mark.parametrize(
    "names",
    [metadata_schema(pa.schema([]), caption=True).names, fields(Stats), fields(Plan)],
    ids=["metadata", "stats", "plan"],
)
def test_the_format_names_every_column_and_field(names):
    told = set(re.findall(r"`(\w+)`", (ROOT / "docs/format.md").read_text()))
    assert set(names) <= told


def test_the_format_names_every_footer():
    written = {
        node.value
        for source in library()
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Constant) and re.fullmatch(r"tarloom\.(?!\w*\.)(\w+)", str(node.value))
        if source.name.startswith("tarloom/format/")
    }
    told = set(re.findall(r"`(tarloom\.\w+)`", (ROOT / "docs/format.md").read_text()))
    assert written == told
