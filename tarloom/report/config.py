"""What a report is asked to show, declared once: the command line and its help come from here."""

from dataclasses import dataclass

from tarloom.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """Draw a dataset as one self-contained page and a contact sheet."""

    path: str
    """The dataset's folder, local or remote; ours, img2dataset's or any WebDataset."""
    output: str | None = None
    """Folder for report.html and contact_sheet.png; the dataset's own if not given."""
    title: str | None = None
    """The page's headline; the dataset's path if not given."""
    pictures: int = 60
    """At most this many pictures, evenly spread over the dataset, are shown with their captions."""
    captions: str = "caption.text"
    """The column with the model's captions."""
    agree_if: str = ""
    """When a sample agrees: a condition in SQL on columns of metadata and sidecars, such as "caption.text = txt". By
    default where the model's caption has the words of the original one."""
    agree_by: str = ""
    """A column, or an expression in SQL, by whose values agreement is told, too: such as shape, or width >= 256."""
    embeddings: str = "clip.embedding"
    """The column with the embeddings."""
    clip_model: str | None = None
    """The model that made the embeddings: turns text queries into vectors. Without it, pictures are the queries."""
    queries: tuple[str, ...] = ()
    """Texts whose nearest pictures are shown; a few of the dataset's own captions if none is given."""
    neighbours: int = 6
    """Pictures shown for each query."""
    failures: int = 200
    """At most this many failed rows are listed; all are counted."""
    runs: str | None = None
    """A JSON file with a list of {"name", "rows", "seconds", "whole_seconds"}: stages whose rates are drawn as bars.
    "whole_seconds", with the time to start, may be left out."""
    verify: bool = True
    """Also read every byte of the dataset to prove that it is sound; --no-verify leaves that out."""

    def check(self) -> None:
        """Raise UsageError for a value that cannot be."""
        for name in ("pictures", "neighbours"):
            if not 1 <= getattr(self, name) <= 1000:
                raise UsageError(f"{name} must be between 1 and 1000, not {getattr(self, name)}")
        if self.failures < 0:
            raise UsageError(f"failures must be at least 0, not {self.failures}")
        if self.agree_by and not self.agree_if:
            raise UsageError("agree_by: says by what agreement is told; say what agreement is, by agree_if")
        if self.queries and self.clip_model is None:
            raise UsageError("queries need the model that made the embeddings; give --clip-model")


@dataclass(frozen=True, kw_only=True)
class ReportSummary:
    """What was written and what it says, in brief."""

    report: str
    contact_sheet: str
    pictures: int
    """Pictures shown."""
    agreeing: int | None
    """Samples that agree; None where there is nothing to compare."""
    compared: int | None
    """Samples of which that is known."""
    failed_rows: int
    """Input rows that did not become samples."""
    findings: int | None
    """What the verification found; None where it was not asked for."""
