"""Packs a shard: rows of a table with what stages said about them, as creation packs what it has fetched.

KEY.png or KEY.jpg   the picture
KEY.txt              the prompt that was painted
KEY.json             the row's metadata, and how the picture was made: each stage's model, revision and settings
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from tarloom.create.rows import EncodedPicture, FetchedBytes, Row
from tarloom.create.shards.results import RowResult
from tarloom.create.shards.shard_files import ShardContents, TarShard
from tarloom.create.sources.tables import ERROR
from tarloom.create.texts import times_as_text
from tarloom.engines.base import Report
from tarloom.errors import GenerateError
from tarloom.format.index import KEY
from tarloom.format.metadata import ResultColumns, metadata_schema
from tarloom.format.sidecar import ERROR as STAGE_ERROR
from tarloom.format.sidecar import STATUS, SUCCESS
from tarloom.format.storage import Storage

RESULTS = ResultColumns(exif=False, digest="sha256")
CAPTION = "caption"
"""The metadata's column of the prompt that was painted: the sample's txt."""
SEED = "seed"
MADE_BY = "made_by"
"""In the json: each stage's fingerprint."""
MESSAGE = "message"
"""The column of stages that say in words why they made nothing of a row."""
ROWS_AT_ONCE = 256


@dataclass(frozen=True, kw_only=True)
class PackRecipe:
    """How the rows of a run become samples."""

    painter: str
    """The stage that says `picture`, `width`, `height`, `seed` and `prompt`."""
    extension: str
    """Of its pictures."""
    made_by: Mapping[str, Mapping[str, str]]
    """Each stage's fingerprint, by name."""


def columns_of(rows: pa.Schema) -> pa.Schema:
    """The metadata's columns, from those of the rows. Raises UsageError where the table has one of ours."""
    return metadata_schema(_own(rows).append(pa.field(SEED, pa.int64())), True, RESULTS)


def pack(storage: Storage, shard: str, rows: pa.Table, said: Mapping[str, pa.Table], recipe: PackRecipe) -> Report:
    """Commit the shard. said: what each stage answered to the rows that had not failed before, in order.

    Raises StorageError.
    """
    contents = ShardContents(
        shard=shard,
        rows=rows.select(_own(rows.schema).names),
        schema=columns_of(rows.schema),
        results=RESULTS,
        extension=recipe.extension,
    )
    with TarShard(storage, contents) as files:
        answers = _answers(said)
        for values in _values(rows):
            error = values.pop(ERROR)
            row = Row(key=values.pop(KEY), url=None, columns=values, beside={})
            files.add(_failed(row, error) if error is not None else _result(row, next(answers), recipe))
        return files.commit()


def _own(rows: pa.Schema) -> pa.Schema:
    """What the table says, without what is ours."""
    return pa.schema([field for field in rows if field.name not in (KEY, ERROR)])


def _values(rows: pa.Table) -> Iterator[dict[str, Any]]:
    kept = rows.select([KEY, ERROR, *_own(rows.schema).names])
    for batch in times_as_text(kept).to_batches(max_chunksize=ROWS_AT_ONCE):
        yield from batch.to_pylist()


def _answers(said: Mapping[str, pa.Table]) -> Iterator[dict[str, dict[str, Any]]]:
    """For each row what every stage said, by the stages' names."""
    tables = {name: _rows(table) for name, table in said.items()}
    for answers in zip(*tables.values(), strict=True):
        yield dict(zip(tables, answers, strict=True))


def _rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    for batch in table.to_batches(max_chunksize=ROWS_AT_ONCE):
        yield from batch.to_pylist()


def _failed(row: Row, error: str) -> RowResult:
    name, _, reason = error.partition(": ")
    return RowResult(row=row, error=GenerateError(name, reason))


def _result(row: Row, answers: Mapping[str, Mapping[str, Any]], recipe: PackRecipe) -> RowResult:
    """The first stage that could not do its part says why the row failed."""
    for name, answer in answers.items():
        if answer[STATUS] != SUCCESS:
            reason = answer.get(MESSAGE) or f"the stage {name} made nothing of this row"
            error = GenerateError(str(answer[STAGE_ERROR]), reason)
            return RowResult(row=row, error=error)
    painted = answers[recipe.painter]
    data, width, height = painted["picture"], painted["width"], painted["height"]
    sizes = {"width": width, "height": height, "original_width": width, "original_height": height}
    return RowResult(
        row=row,
        fetched=FetchedBytes(
            data=b"", columns={CAPTION: painted["prompt"], SEED: painted["seed"]}, fields={MADE_BY: recipe.made_by}
        ),
        picture=EncodedPicture(data=data, exif=None, **sizes),
        digest=hashlib.sha256(data).hexdigest(),
    )
