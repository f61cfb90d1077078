"""What a check of a dataset found: each thing names its shard and file, what is wrong and what to do."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from tarloom.errors import ShardError, StorageError
from tarloom.format.storage import Storage

Kind = Literal["damage", "warning"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong."""

    shard: str
    file: str
    """Relative to the dataset's folder."""
    problem: str
    """What is wrong and what to do."""
    kind: Kind = "damage"
    """A warning is untidy but no sample is lost by it: a left-over temporary, an index without its tar."""


class Findings:
    """Gathers what is found about one shard."""

    def __init__(self, storage: Storage, shard: str) -> None:
        self.storage = storage
        self.shard = shard
        self._found: list[Finding] = []

    def add(self, file: str, problem: str, kind: Kind = "damage") -> None:
        """Note something that is wrong with a file."""
        self._found.append(Finding(shard=self.shard, file=file, problem=problem, kind=kind))

    @contextmanager
    def reading(self, file: str) -> Iterator[None]:
        """What cannot be read inside the block is a finding about this file; the block ends there."""
        try:
            yield
        except (ShardError, StorageError) as error:
            self.add(file, str(error).removeprefix(f"{self.storage.describe(file)}: "))

    def all(self) -> tuple[Finding, ...]:
        """In the order they were found."""
        return tuple(self._found)
