"""Which tables the prompts are made of, declared once: the command line and its help come from here."""

from dataclasses import dataclass

from tarloom.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class TableConfig:
    """Where prompts come from. Tables are csv, tsv, json, jsonl (each also .gz or .zst) or parquet; a file, a folder or
    a glob; local or s3://, gs://, az://."""

    prompts: str
    """The table of prompts, or of what they are made of: a picture is made for each row."""
    details: tuple[str, ...] = ()
    """Tables with more columns, joined one after the other: PATH:COLUMN[,COLUMN], or PATH:LEFT=RIGHT where the
    prompts call LEFT what the table calls RIGHT. Values are compared as text: 7 is "7"."""
    expand: bool = False
    """A row that finds several rows in a table of details becomes so many rows; without it, that is an error."""
    derive: tuple[str, ...] = ()
    """Further columns, each NAME=EXPRESSION in duckdb's SQL over the columns before it."""
    template: str = "{prompt}"
    """The prompt, with columns between braces: 'a {colour} {shape}'."""
    key_col: str | None = None
    """The column that the keys are made from, unique and never empty; else keys are the rows' numbers."""


@dataclass(frozen=True, kw_only=True)
class Detail:
    """A table to join."""

    source: str
    left: tuple[str, ...]
    """The columns to look up."""
    right: tuple[str, ...]
    """What the table calls them."""

    @property
    def name(self) -> str:
        """The table in messages."""
        return self.source.rstrip("/").rpartition("/")[2]


def read_detail(given: str) -> Detail:
    """PATH:COLUMN[,COLUMN], each LEFT=RIGHT if the two differ. Raises UsageError."""
    source, _, columns = given.rpartition(":")
    pairs = [column.partition("=") for column in columns.split(",")]
    left = tuple(pair[0].strip() for pair in pairs)
    right = tuple((pair[2] if pair[1] else pair[0]).strip() for pair in pairs)
    if not source or not all((*left, *right)) or columns.startswith("//"):
        raise UsageError(f"details {given!r}: name the columns to join by: PATH:COLUMN[,COLUMN] or PATH:LEFT=RIGHT")
    for names in (left, right):
        if len(set(names)) < len(names):
            raise UsageError(f"details {given!r}: a column is named twice")
    return Detail(source=source, left=left, right=right)


def read_derivation(given: str) -> tuple[str, str]:
    """NAME=EXPRESSION as two texts. Raises UsageError."""
    name, equals, sql = given.partition("=")
    if not equals or not name.strip() or not sql.strip():
        raise UsageError(f"derive {given!r}: write NAME=EXPRESSION, such as size=width * height")
    return name.strip(), sql.strip()
