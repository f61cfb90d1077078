"""Checks of the files beside a tar: index, metadata, stats, sidecars, each against the tar and against each other."""

from collections import Counter
from collections.abc import Collection, Sequence

import pyarrow as pa

from tarloom.format.index import KEY, read_index
from tarloom.format.layout import index_name, metadata_name, sidecar_name, stats_name
from tarloom.format.metadata import STATUSES, SUCCESS, Stats, read_stats
from tarloom.format.parquet import read_table
from tarloom.format.sidecar import ERROR, SKIPPED, STATUS, check_fresh, read_sidecar, sidecar_info
from tarloom.format.sidecar import STATUSES as SIDECAR_STATUSES
from tarloom.format.verify.findings import Findings, Kind
from tarloom.format.verify.tars import TarContents

_REMAKE = "make the shard anew"
_RERUN = "run the stage again"
_DELETE = "delete it: it is made anew when the dataset is opened"
Column = Sequence[object]
"""The values of a table's column, one a row."""

_MANY_ERRORS = 50_000
"""img2dataset forgets rare messages above some number of them: then the histogram need not add up."""


def check_index(findings: Findings, contents: TarContents, packed: str | None) -> str | None:
    """The stored index is that of the tar. Returns the identity that it names.

    packed: the identity that the stats name. Where it is not the tar's, that was reported, and an index of that
    identity is not to blame.
    """
    file = index_name(findings.shard)
    with findings.reading(file):
        index = read_index(findings.storage, findings.shard)
        if index is None:
            return None
        is_scan, fits = index.identity.startswith("headers:"), index.size == contents.index.size
        if is_scan and not fits:
            findings.add(file, f"made for a tar of {index.size} bytes, not {contents.index.size}; {_DELETE}", "warning")
            return None
        if not index.table.equals(contents.index.table):
            wrong = difference(index.keys.to_pylist(), contents.index.keys.to_pylist(), "the tar")
            findings.add(file, f"{wrong or 'members lie elsewhere in the tar'}; {_DELETE}")
        if index.identity in contents.identities and not fits:
            findings.add(file, f"made for a tar of {index.size} bytes, not {contents.index.size}; {_DELETE}")
        if index.identity not in (*contents.identities, packed):
            if packed is None and not is_scan:
                _blame_tar(findings, index.identity, contents, "its index")
            else:
                findings.add(file, f"made for {index.identity}, another version of the tar; {_DELETE}")
        return index.identity
    return None


def _blame_tar(findings: Findings, stated: str, contents: TarContents, source: str) -> None:
    problem = f"its bytes give {contents.identities[0]}, but {source} says {stated}: it was changed; {_REMAKE}"
    findings.add(contents.file, problem)


def check_metadata(findings: Findings, contents: TarContents | None, *, ordered: bool, ours: bool) -> pa.Table | None:
    """Successes are the samples of the tar, in its order if `ordered`; returns the table where it is metadata.

    Unless the folder shows that it is `ours` or img2dataset's, a parquet of that name may be something else.
    """
    file = metadata_name(findings.shard)
    with findings.reading(file):
        table = read_table(findings.storage, file, texts=("key", "status", "error"))
        absent = [name for name in ("key", "status") if name not in table.column_names]
        if absent:
            kind: Kind = "damage" if ours else "warning"
            findings.add(file, f"lacks the column {' and '.join(absent)}: no metadata; rename it or {_REMAKE}", kind)
            return None
        for problem in _row_problems(table):
            findings.add(file, f"{problem}; {_REMAKE}")
        if contents is not None:
            _compare_keys(findings, _successful_keys(table), contents.index.keys.to_pylist(), ordered=ordered)
            if contents.foreign_keys:
                key, other = next(iter(contents.foreign_keys.items()))
                count = len(contents.foreign_keys)
                problem = f"the JSON of sample {key!r} names the key {other!r} ({count} such samples); {_REMAKE}"
                findings.add(contents.file, problem)
        return table
    return None


def check_stats(findings: Findings, contents: TarContents | None, metadata: pa.Table | None) -> str | None:
    """The counts are those of the metadata, and the tar is the one they were written for.

    Returns the identity of the tar that the stats name, None where they name none.
    """
    file = stats_name(findings.shard)
    with findings.reading(file):
        stats = read_stats(findings.storage, findings.shard)
        if stats is None:
            return None
        for problem in _stats_problems(stats, metadata):
            findings.add(file, f"{problem}; {_REMAKE}")
        if contents is None:
            return stats.identity
        if stats.successes != contents.index.rows:
            findings.add(file, f"{stats.successes} successes, but the tar has {contents.index.rows} samples; {_REMAKE}")
        if stats.identity is not None and stats.identity not in contents.identities:
            _blame_tar(findings, stats.identity, contents, file)
        elif stats.tar_size not in (None, contents.index.size):
            findings.add(file, f"tar of {stats.tar_size} bytes, which now has {contents.index.size}; {_REMAKE}")
        return stats.identity
    return None


def check_sidecar(findings: Findings, stage: str, contents: TarContents, stated: Collection[str | None]) -> None:
    """One row for every sample, in tar order, made for this version of the tar.

    stated: identities that other files name. Where the tar has none of them, that was reported.
    """
    file = sidecar_name(findings.shard, stage)
    with findings.reading(file):
        info = sidecar_info(findings.storage, findings.shard, stage)
        if info is None:
            return
        if info.identity not in (*contents.identities, *stated):
            with findings.reading(file):
                check_fresh(info, contents.index, findings.storage.describe(file))
        table = read_sidecar(findings.storage, findings.shard, stage)
        for problem in _sidecar_problems(table, contents.index.keys.to_pylist()):
            findings.add(file, f"{problem}; {_RERUN}")


def difference(found: Column, expected: Column, other: str) -> str | None:
    """Where two columns of keys part, in words; None where they are equal."""
    for row, (key, right) in enumerate(zip(found, expected, strict=False)):
        if key != right:
            return f"row {row} has the key {key!r} where {other} has {right!r}"
    if len(found) != len(expected):
        return f"{len(found)} rows where {other} has {len(expected)}"
    return None


def _successful_keys(table: pa.Table) -> Column:
    keys, statuses = table.column("key").to_pylist(), table.column("status").to_pylist()
    return [key for key, status in zip(keys, statuses, strict=True) if status == SUCCESS]


def _compare_keys(findings: Findings, found: Column, in_tar: Column, *, ordered: bool) -> None:
    file = metadata_name(findings.shard)
    if ordered:
        wrong = difference(found, in_tar, "the tar")
        if wrong:
            findings.add(file, f"successes differ from the tar: {wrong}; {_REMAKE}")
        return
    for keys, others, what in ((found, in_tar, "is no sample of the tar"), (in_tar, found, "has no row of success")):
        lacking = Counter(keys) - Counter(others)
        if lacking:
            findings.add(file, f"key {next(iter(lacking))!r} {what} ({lacking.total()} such keys); {_REMAKE}")


def _row_problems(table: pa.Table) -> list[str]:
    problems = []
    keys, statuses = table.column("key").to_pylist(), table.column("status").to_pylist()
    twice = [key for key, count in Counter(keys).items() if count > 1]
    if twice:
        problems.append(f"key {twice[0]!r} comes more than once ({len(twice)} such keys)")
    unknown = [(key, status) for key, status in zip(keys, statuses, strict=True) if status not in STATUSES]
    if unknown:
        problems.append(f"row {unknown[0][0]!r} has the unknown status {unknown[0][1]!r} ({len(unknown)} such rows)")
    if "error" in table.column_names:
        problems += _error_problems(keys, statuses, table.column("error").to_pylist())
    return problems


def _error_problems(keys: Column, statuses: Column, errors: Column) -> list[str]:
    """Rows with an error where there should be none, or none where there should be one; skipped rows may have one."""
    rows = zip(keys, statuses, errors, strict=True)
    wrong = [key for key, status, error in rows if status != SKIPPED and (status == SUCCESS) != (error is None)]
    return [f"status and error of row {wrong[0]!r} contradict each other ({len(wrong)} such rows)"] if wrong else []


def _stats_problems(stats: Stats, metadata: pa.Table | None) -> list[str]:
    problems = []
    if metadata is not None:
        found = Counter(metadata.column("status").to_pylist())
        pairs = [("rows", stats.count, metadata.num_rows)]
        pairs += [(f"rows of status {status}", count, found[status]) for status, count in stats.by_status.items()]
        problems += [f"{count} {what}, but the metadata has {n}" for what, count, n in pairs if count != n]
    total = sum(stats.status_dict.values())
    if stats.status_dict.get(SUCCESS, 0) != stats.successes or (
        total != stats.count and len(stats.status_dict) < _MANY_ERRORS
    ):
        problems.append(f"status_dict counts {total} rows, the other counts say {stats.count}")
    return problems


def _sidecar_problems(table: pa.Table, keys: Column) -> list[str]:
    names = table.column_names
    if names[:1] != [KEY] or names[-2:] != [STATUS, ERROR]:
        return [f"its columns are {', '.join(names)}, not {KEY}, the stage's, {STATUS}, {ERROR}"]
    found, statuses, errors = (table.column(name).to_pylist() for name in (KEY, STATUS, ERROR))
    wrong = difference(found, keys, "the tar")
    problems = [wrong] if wrong else []
    unknown = sorted({str(status) for status in statuses if status not in SIDECAR_STATUSES})
    if unknown:
        problems.append(f"unknown status {', '.join(unknown)}")
    return problems + _error_problems(found, statuses, errors)
