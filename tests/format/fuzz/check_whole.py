"""What must hold for a damaged tar beyond its reading: the whole path from opening on, the check, and the repair."""

from pathlib import Path

import tarloom
from tarloom.errors import TarloomError
from tarloom.format.repair.job import RepairJob
from tarloom.format.verify.dataset import verify
from tests.format.fuzz.cases import Case
from tests.format.fuzz.check import Broken, Outcome


def check_whole(case: Case, folder: Path, outcome: Outcome) -> None:
    """The case lies in `folder`, and reading gave this outcome. Raises Broken."""
    found = [finding for report in verify(folder) for finding in report.findings if finding.kind == "damage"]
    if outcome.error and not found:
        raise Broken(f"it cannot be read ({outcome.error}), and verify finds nothing")
    try:
        samples = [*tarloom.open(folder)]
        _check_mapped(folder, samples)
    except TarloomError as error:
        if not outcome.error:
            raise Broken(f"its headers can be read, its samples not: {error}") from error
        samples = []
    if len(samples) != outcome.samples:
        raise Broken(f"{len(samples)} samples are read of {outcome.samples}")
    _check_repair(case, folder, samples)


def _check_mapped(folder: Path, samples: list[dict[str, object]]) -> None:
    """What lies in batches in mapped tars is the same."""
    rows = [row for batch in tarloom.open(folder).batches(memory_map=True) for row in batch.to_pylist()]
    mapped = [
        (row["__key__"], {name: value for name, value in _members(row).items() if value is not None}) for row in rows
    ]
    if mapped != [(sample["__key__"], _members(sample)) for sample in samples]:
        raise Broken("mapped members are not those that are read")


def _check_repair(case: Case, folder: Path, samples: list[dict[str, object]]) -> None:
    """The copy is sound; it has at least what could be read, and only what was packed where nothing was forged."""
    output = folder.parent / f"{folder.name}-copy"
    (report,) = RepairJob(str(folder), str(output))
    if not report.bytes:
        if samples:
            raise Broken("nothing was saved of what can be read")
        return
    damage = [finding for found in verify(output) for finding in found.findings]
    if damage:
        raise Broken(f"the copy is not sound: {damage[0].problem}")
    saved = {sample["__key__"]: _members(sample) for sample in tarloom.open(output)}
    for sample in samples:
        key, members = sample["__key__"], _members(sample)
        if not members.items() <= saved.get(key, {}).items():
            raise Broken(f"sample {key!r} can be read, but was not saved as it is")
    if case.is_exact and not case.changed:
        (original,) = case.originals
        packed = {m.name.lower(): original.data[m.offset : m.offset + m.size] for m in original.members}
        for key, members in saved.items():
            for extension, data in members.items():
                if not extension.endswith("link") and packed.get(f"{key}.{extension}".lower()) != data:
                    raise Broken(f"{key}.{extension} was saved, but is not what was packed")


def _members(sample: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in sample.items() if not name.startswith("__")}
