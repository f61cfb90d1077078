"""`tarloom duplicates`: mark copies of pictures, so that readers can leave them out."""

from dataclasses import asdict, dataclass

from tarloom.cli.console import Finished
from tarloom.process.duplicates.job import DuplicatesConfig, mark_duplicates


@dataclass(frozen=True, kw_only=True)
class Duplicates:
    """Mark pictures that look like one before them, by their hashes; write one sidecar beside each shard."""

    duplicates: DuplicatesConfig
    json: bool = False
    """End stdout with one line of JSON."""

    def execute(self) -> Finished:
        summary = mark_duplicates(self.duplicates)
        return Finished(title=f"Marked copies in {self.duplicates.path}", facts=asdict(summary))
