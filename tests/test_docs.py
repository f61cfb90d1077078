"""The documentation says what the code does: its names are the code's, its commands can be typed, its links lead on."""

import ast
import dataclasses
import re
import shlex

import pyarrow as pa
import pytest

from tarloom.cli import _options
from tarloom.cli.img2dataset import RENAMED
from tarloom.create.plan import Plan
from tarloom.create.web.transient import TRANSIENT_NAMES
from tarloom.format.metadata import Stats, metadata_schema
from tests.source_tree import ROOT, Source, library, programs

PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "source_data/models/README.md",
    *sorted(ROOT.glob("docs/*.md")),
]
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TYPED = re.compile(r"(?:tarloom (\w+)|(?:python|spark-submit) ((?:create|read|process)/\w+\.py)) (.*)")
FOREIGN = {"hard-dereference", "nproc-per-node", "py-files", "structured-outputs-config", "working-dir"}
"""Options of other programs."""


def commands() -> list[tuple[str, str]]:
    """Each command of ours that a page or a program's docstring shows, and where."""
    blocks = [
        (page.name, text) for page in PAGES for kind, text in FENCED.findall(page.read_text()) if kind != "python"
    ]
    blocks += [(program.name, ast.get_docstring(program.tree) or "") for program in programs()]
    lines = [(name, line) for name, text in blocks for line in text.replace("\\\n", " ").splitlines()]
    return [(name, line) for name, line in lines if TYPED.match(line) and "--train" not in line]


def job_of(program: str) -> tuple[str, dict[str, object]]:
    """The job that a program runs, and its own defaults."""
    tree = ast.parse((ROOT / program).read_text())
    (call,) = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "run")
    named = {word.arg or "": ast.literal_eval(word.value) for word in call.keywords}
    return ast.literal_eval(call.args[0]), named


@pytest.mark.parametrize(("page", "line"), commands())
def test_a_command_of_the_documentation_is_understood(page, line, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(ROOT / "docs")  # where the stage of one's own lies
    match = TYPED.match(line)
    assert match is not None
    command, defaults = job_of(match[2]) if match[2] else (match[1], {})
    assert _options(f"tarloom {command}", command, shlex.split(match[3], comments=True), defaults)


def known_options() -> set[str]:
    """Fields of the library's classes, and words of all programs that are written as options are."""
    paths = [
        path for folder in ("benchmarks", "scripts", "read", "source_data") for path in ROOT.glob(f"{folder}/**/*.*")
    ]
    fields = {
        node.target.id
        for source in (*library(), Source(ROOT / "docs/own_stage.py"))
        for node in ast.walk(source.tree)
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    text = "".join(path.read_text() for path in paths if path.suffix in (".py", ".sh"))
    return {name.replace("_", "-") for name in fields} | set(re.findall(r"--([a-z][\w-]*)", text))


def test_every_option_that_is_named_exists():
    known = known_options() | {name.replace("_", "-") for name in RENAMED} | FOREIGN
    told = {
        (page.name, name)
        for page in PAGES
        for name in re.findall(r"--(?:no-|\w+\.)?([a-z][\w-]*)", page.read_text())
        if name.replace("_", "-") not in known
    }
    assert not told


def anchor(heading: str) -> str:
    """What GitHub makes of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_every_link_inside_the_repository_leads_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", FENCED.sub("", page.read_text())):
        path, _, part = link.partition("#")
        if ":" in path:
            continue
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), link
        headings = re.findall(r"^#+ (.*)$", FENCED.sub("", there.read_text()), re.MULTILINE) if part else []
        assert not part or part in map(anchor, headings), link


def names_of_row_errors() -> set[str]:
    """First arguments of errors of rows in the library, where they are written out."""
    calls = (node for source in library() for node in ast.walk(source.tree) if isinstance(node, ast.Call))
    kinds = ("FetchError", "ImageError", "RowError", "TextError", "GenerateError")
    raised = (call.args[0] for call in calls if ast.unparse(call.func) in kinds and call.args)
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


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_no_line_of_prose_is_longer_than_a_line_of_code(page):
    """Tables, commands and drawings have lines of their own."""
    prose = FENCED.sub("", page.read_text()).splitlines()
    assert not [line for line in prose if len(line) > 120 and not line.startswith(("|", "    "))]
