"""Runs below one output: each has a folder called by its time, and an entry that says what it was asked to do.

    results/20261121T093000Z/               what a run makes
    results/_runs/20261121T093000Z.json     what it was asked to do
    results/_runs/20261121T093000Z.done     its summary; written when nothing is left to do

The same request goes on with its newest run that is not done; a run that is done is left alone unless it is named.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import Any

from tarloom.errors import UsageError
from tarloom.format.storage import Storage, open_storage, split_location

FOLDER = "_runs"


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run: its place, and its entry."""

    storage: Storage
    """Of all runs of the output."""
    name: str
    is_new: bool = False
    """It has not done anything yet."""

    @property
    def folder(self) -> str:
        """What it makes lies here."""
        return self.storage.describe(self.name)

    def entry(self) -> dict[str, Any]:
        """What it was asked to do. Raises UsageError where no run has this name."""
        name = f"{FOLDER}/{self.name}.json"
        if self.storage.head(name) is None:
            raise UsageError(f"{self.folder}: no run of this program; {self._meant()}")
        found: dict[str, Any] = json.loads(self.storage.read(name))
        return found

    def _meant(self) -> str:
        """What may have been meant: runs beside it, or in it."""
        found = [run for output in (self.storage, open_storage(self.folder)) for run in _runs(output, _names(output))]
        newest = [run.folder for run in found[:3]]
        return f"resume {' or '.join(newest)}" if newest else "give a run's own folder, which lies in its --output"

    def forget(self) -> None:
        """It turned out to be impossible."""
        self.storage.delete(f"{FOLDER}/{self.name}.json")

    def begin(self) -> None:
        """It is not done, or not any more: another may be asked of it when it was."""
        self.storage.delete(f"{FOLDER}/{self.name}.done")

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Nothing is left to do."""
        self.storage.write(f"{FOLDER}/{self.name}.done", json.dumps(summary, indent=1).encode())


def named_run(folder: str) -> Run:
    """The run whose folder this is."""
    storage, name = split_location(folder.rstrip("/"))
    return Run(storage=storage, name=name)


def new_run(output: str, request: Mapping[str, str], words: Sequence[str]) -> Run:
    """A run that begins now; another that began in the same second has a name of its own.

    words: with which a command asks for it.
    """
    storage, entry = open_storage(output), json.dumps({"request": request, "words": list(words)}, indent=1).encode()
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    names = (now if number == 1 else f"{now}-{number}" for number in count(1))
    name = next(name for name in names if storage.write_new(f"{FOLDER}/{name}.json", entry))
    return Run(storage=storage, name=name, is_new=True)


def unfinished_run(output: str, request: Mapping[str, str]) -> Run | None:
    """The newest run of this request that is not done, if there is one."""
    storage = open_storage(output)
    names = _names(storage)
    unfinished = (run for run in _runs(storage, names) if f"{run.name}.done" not in names)
    return next((run for run in unfinished if run.entry()["request"] == request), None)


def _names(storage: Storage) -> set[str]:
    """What lies in the folder of entries."""
    return {entry.name.removeprefix(f"{FOLDER}/") for entry in storage.list(FOLDER)}


def _runs(storage: Storage, names: set[str]) -> list[Run]:
    """Those of which there are entries among these names, the newest first."""
    named = sorted((name.removesuffix(".json") for name in names if name.endswith(".json")), reverse=True)
    return [Run(storage=storage, name=name) for name in named]
