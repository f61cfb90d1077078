"""The proof that what lies in a folder is whole and agrees: tars, indexes, metadata, stats, sidecars.

Every byte of every tar is read. Where we packed it, its SHA-256 is compared, so that a single changed bit is found; in
a foreign tar only what its headers, its JSON members and the files beside it say can be checked.

In a folder with a plan everything is ours and must be there, in input order. Elsewhere a tar may stand alone, and the
metadata may be in any order (img2dataset writes it as downloads end).
"""

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tarloom.errors import UsageError
from tarloom.format.catalog_file import has_sound_catalog
from tarloom.format.layout import (
    CATALOG,
    PLAN,
    PRIVATE,
    describe_lack,
    find_tars,
    index_name,
    is_plan,
    is_shard_file,
    metadata_name,
    planned_among,
    shard_of,
    stats_name,
    tar_among,
    tar_name,
)
from tarloom.format.sidecar import find_sidecars
from tarloom.format.storage import TEMPORARY, LocalStorage, Storage, links_to_nothing, open_dataset_storage
from tarloom.format.verify.findings import Finding, Findings
from tarloom.format.verify.tables import check_index, check_metadata, check_sidecar, check_stats
from tarloom.format.verify.tars import TarContents, read_tar

_INDEXES = index_name("").removesuffix(".parquet")
_STATS = stats_name("")


@dataclass(frozen=True, kw_only=True)
class VerifyReport:
    """What the check of one shard found."""

    shard: str
    """Empty for the folder itself."""
    rows: int
    """Samples in the tar; 0 where it could not be read."""
    bytes: int
    """Of the tar."""
    findings: tuple[Finding, ...]


def verify(path: str | Path) -> Iterator[VerifyReport]:
    """What is wrong with a dataset: one report about the folder itself (shard ""), then one a shard, as they are done.

    Where `path` names one tar, there is one report: about that. Raises UsageError where there is no shard.
    """
    storage, tar = open_dataset_storage(path)
    names = frozenset([*(entry.name for entry in storage.list()), *links_to_nothing(storage, is_shard_file)])
    shards = sorted(shard for shard, name in find_tars(names, storage.url).items() if tar in (None, name))
    if not shards:
        raise UsageError(f"{path}: {describe_lack(names, tar)}")
    if tar is None:
        yield VerifyReport(shard="", rows=0, bytes=0, findings=tuple(verify_folder(storage, names)))
    stages = find_sidecars(names)
    for shard in shards:
        yield verify_shard(storage, shard, names, stages.get(shard, ()))


def verify_shard(storage: Storage, shard: str, names: Collection[str], stages: Collection[str]) -> VerifyReport:
    """Check one shard. names: of all files of the dataset, or at least of this shard's and the plan.

    stages: whose sidecars it has.
    """
    findings = Findings(storage, shard)
    planned, file = PLAN in names, tar_among(shard, names) or tar_name(shard)
    tar = None
    with findings.reading(file):  # a link may lead to itself
        tar = storage.head(file)
    if tar is None:
        if not findings.all():
            findings.add(file, "no such file; make the shard anew")
        return VerifyReport(shard=shard, rows=0, bytes=0, findings=findings.all())
    if planned and stats_name(shard) not in names:
        findings.add(file, f"not committed: {stats_name(shard)} is missing; run the creation again")
        return VerifyReport(shard=shard, rows=0, bytes=tar.size, findings=findings.all())
    contents = read_tar(storage, tar, findings)
    identities = _check_beside(findings, contents, names, planned=planned)
    if contents is not None:
        for stage in stages:
            check_sidecar(findings, stage, contents, identities)
    rows = contents.index.rows if contents else 0
    return VerifyReport(shard=shard, rows=rows, bytes=tar.size, findings=findings.all())


def verify_folder(storage: Storage, names: Collection[str]) -> Iterator[Finding]:
    """What is wrong beside the shards: an unreadable plan, files whose tar is gone, left-over temporaries."""
    names = frozenset(names)
    for name in sorted(filter(is_plan, names)):
        yield from _plan_findings(storage, name, names)
    if CATALOG in names:
        yield from _catalog_findings(storage)
    for name in sorted(names):
        yield from _stray(name, names)
    if isinstance(storage, LocalStorage):
        for path in sorted(Path(storage.url).rglob(f"{TEMPORARY}*")):
            problem = "temporary of a run that was killed or still writes; the next run removes what is left over"
            yield Finding(shard="", file=str(path.relative_to(storage.url)), problem=problem, kind="warning")


def _check_beside(
    findings: Findings, contents: TarContents | None, names: Collection[str], *, planned: bool
) -> tuple[str | None, str | None]:
    """Check index, metadata and stats. Returns the identities of the tar that stats and index name."""
    shard = findings.shard
    if planned and index_name(shard) not in names:
        findings.add(index_name(shard), "missing; open the dataset once to make it anew")
    metadata, ours = None, planned or stats_name(shard) in names
    if metadata_name(shard) in names:
        metadata = check_metadata(findings, contents, ordered=planned, ours=ours)
    elif ours:
        findings.add(metadata_name(shard), "missing; make the shard anew")
    packed = check_stats(findings, contents, metadata)
    return packed, None if contents is None else check_index(findings, contents, packed)


_COUNTS: dict[str, Any] = {"rows": None, "rows_per_shard": None, "digits": 5, "first_shard": 0}
"""What tells which shards a plan is about, and what is meant where it says nothing."""


def _plan_findings(storage: Storage, plan_file: str, names: frozenset[str]) -> Iterator[Finding]:
    try:
        plan = json.loads(storage.read(plan_file))
    except (ValueError, RecursionError):
        plan = None
    if not isinstance(plan, dict):
        yield Finding(shard="", file=plan_file, problem="not a JSON object; restore it or make the dataset anew")
        return
    counts = [plan.get(name, default) for name, default in _COUNTS.items()]
    if all(isinstance(count, int) for count in counts) and counts[1] > 0:
        rows, rows_per_shard, digits, first = counts
        planned, shards = -(-rows // rows_per_shard), set(map(shard_of, filter(is_shard_file, names)))
        absent = planned - planned_among(shards, first=first, count=planned, digits=digits)
        if absent > 0:
            problem = f"{absent} of {planned} planned shards are not here; run the creation to its end"
            yield Finding(shard="", file=plan_file, problem=problem, kind="warning")


def _catalog_findings(storage: Storage) -> Iterator[Finding]:
    """It may be behind the shards, which its readers see; but it must be one."""
    if not has_sound_catalog(storage):
        problem = "not a catalogue that can be used; delete it: it is made anew when the dataset is opened"
        yield Finding(shard="", file=CATALOG, problem=problem, kind="warning")


def _stray(name: str, names: frozenset[str]) -> Iterator[Finding]:
    """A finding where a file belongs to a shard whose tar is not there."""
    if name.startswith(_INDEXES):
        shard = name.removeprefix(_INDEXES).removesuffix(".parquet")
        if tar_among(shard, names) is None:
            yield Finding(shard=shard, file=name, problem="index without its tar; delete it", kind="warning")
    elif name.endswith(_STATS):
        shard = name.removesuffix(_STATS)
        if tar_among(shard, names) is None:
            yield Finding(shard=shard, file=name, problem=f"{tar_name(shard)} is missing; make the shard anew")
    elif PLAN in names and name.endswith(".parquet") and f"/{PRIVATE}/" not in f"/{name}":  # nor of a dataset below
        shard = name.removesuffix(".parquet")
        if not {tar_name(shard), tar_name(shard.rpartition(".")[0])} & names:
            problem = "no tar that it could belong to; make the shard anew or delete this file"
            yield Finding(shard=shard, file=name, problem=problem)
