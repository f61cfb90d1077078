"""A question, asked: proven, planned, spread over an engine, and its answer committed.

OUTPUT/00000.parquet             the answer, or its first part: of the first samples, or of the first groups
OUTPUT/SIZE=small/00000.parquet  with --partition-by
OUTPUT/_tarloom/question.json    what was asked; another question is refused here
OUTPUT/_tarloom/answer.json      the files, and how many rows they have; written last
"""

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property, partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tarloom.engines.base import Report
from tarloom.engines.choose import EngineConfig, check_left_out, check_used
from tarloom.engines.workers import parse_workers
from tarloom.errors import PlanMismatch, UsageError
from tarloom.format.ahead import ahead, threads_for
from tarloom.format.layout import PRIVATE
from tarloom.format.parquet import table_bytes
from tarloom.format.storage import Storage, open_storage
from tarloom.format.storage.writable import check_writable
from tarloom.process.curate.config import CurateConfig, read_join
from tarloom.process.curate.outside import find_outside
from tarloom.process.curate.parcels import Parcel
from tarloom.process.curate.statement import PORTION, ROW, compiled
from tarloom.process.curate.work import Work, file_names, portions_of
from tarloom.read.columns.sql import names_of
from tarloom.read.dataset import open_dataset
from tarloom.read.plan.picking import numbers_of

QUESTION, ANSWER = f"{PRIVATE}/question.json", f"{PRIVATE}/answer.json"
OF_COPIES = ("cpus_per_worker", "gpus_per_worker", "max_failed")
"""Options of an engine that a question itself does not heed: none of its parts may fail, nor reserves anything."""


@dataclass(frozen=True, kw_only=True)
class CurateSummary:
    """What was asked of how many samples, and what came of it."""

    samples: int
    """That the dataset has."""
    columns: tuple[str, ...]
    """That were read of each that was not left out."""
    rows: int
    """Of the answer."""
    files: int
    seconds: float


class CurateJob:
    """Call `prepare`, then iterate: a report for each part of the answer; then ask for the summary.

    Without an output the answer is in `table` then. places: the answer, one of samples, says where these lie instead;
    ask for `samples`.
    """

    def __init__(self, config: CurateConfig, run_on: EngineConfig | None = None, *, places: bool = False) -> None:
        self._config, self._run_on, self._places = config, run_on or EngineConfig(), places
        self._started = time.monotonic()
        self._files: dict[str, int] = {}
        self.total = 0
        """Samples of the dataset."""
        self.table: pa.Table | None = None

    def prepare(self) -> None:
        """Prove the question, and plan its portions. Raises UsageError before any work."""
        config = self._config
        config.check()
        self._check_engine()
        dataset = open_dataset(config.path).joining(config.missing)
        outsides = {given: find_outside(read_join(given), number) for number, given in enumerate(config.join)}
        names = names_of(dataset.catalog, config.path)
        put_together = partial(compiled, names=names, outsides=outsides, places=self._places)
        statement = put_together(config)
        growing = tuple((option, put_together(part)) for option, part in config.growing())
        for given, outside in outsides.items():
            if not config.expand:
                outside.check_unique(read_join(given).theirs)
        self.total = len(dataset)
        for condition in statement.pushed:
            dataset = dataset.where(condition)
        dataset = dataset.select(*statement.columns)
        footer = {"tarloom.question": json.dumps(self._question, sort_keys=True)}
        self._storage = None if config.output is None else open_storage(config.output)
        if self._storage is not None:
            check_writable(self._storage)
        self._work = Work(
            statement=statement,
            growing=growing,
            view=dataset.view,
            storage=self._storage,
            partitions=config.partitions,
            partition_by=config.partition_by,
            footer=tuple(footer.items()),
        )
        self._prove(dataset.schema.empty_table())
        self._portions = portions_of(dataset)
        self._threads = threads_for(dataset.catalog.storage)
        if self._storage is not None:
            self._claim(self._storage)

    def __iter__(self) -> Iterator[Report]:
        """Ask. Raises what reading raises, and EngineError where the run cannot go on."""
        try:
            for parcel in self._asked():
                if self._storage is None:
                    self.table = parcel.table
                else:
                    self._files |= dict(zip(*parcel.table.to_pydict().values(), strict=True))
                yield Report(shard=f"{parcel.partition:05d}", rows=parcel.rows)
        except UsageError:
            self._withdraw()
            raise
        if self._storage is not None:
            self._settle(self._storage)

    def samples(self) -> dict[str, np.ndarray]:
        """The answer's samples: of each shard that has some, their numbers. By keys they could be others' as well."""
        assert self.table is not None
        found: dict[str, list[np.ndarray]] = {}
        portions, rows = (self.table.column(name).to_numpy() for name in (PORTION, ROW))
        for number in np.unique(portions).tolist():
            wanted, start = rows[portions == number], 0
            for piece in self._portions[number][1]:
                read = numbers_of(piece)
                inside = wanted[(start <= wanted) & (wanted < start + len(read))] - start
                found.setdefault(piece.shard, []).append(read[inside])
                start += len(read)
        return {shard: np.unique(np.concatenate(numbers)) for shard, numbers in found.items()}

    def summary(self) -> CurateSummary:
        """Of what was done."""
        rows = sum(self._files.values()) if self.table is None else self.table.num_rows
        return CurateSummary(
            samples=self.total,
            columns=self._work.statement.columns,
            rows=rows,
            files=len(self._files),
            seconds=round(time.monotonic() - self._started, 3),
        )

    def _check_engine(self) -> None:
        """Raises UsageError for an option of the engine that would do nothing."""
        if not self._places:  # else they are for the copy that is made then
            check_left_out(self._run_on, OF_COPIES, "is for a copy of samples: add --to-shards, or leave it out")
        check_used(self._run_on)

    @cached_property
    def _question(self) -> dict[str, object]:
        """All that shapes the answer."""
        return {name: value for name, value in asdict(self._config).items() if name != "output"}

    def _prove(self, nothing: pa.Table) -> None:
        """That there is an answer of no rows, which has the columns that folders are named by."""
        schema, folders = self._work.answer_of(nothing).schema, self._config.partition_by
        if self._storage is not None:
            _check_files(schema)
        for name in folders:
            if name not in schema.names:
                raise UsageError(f"partition_by: the answer has no column {name!r}; it has {', '.join(schema.names)}")
            _check_folder(name, schema.field(name).type)
        if folders and len(folders) == len(schema.names):
            raise UsageError("partition_by: no column is left for the files; ask for more, or for fewer folders")

    def _asked(self) -> Iterator[Parcel]:
        """The answer's parts, from the engine."""
        engine = self._run_on.engine
        if engine == "local":
            return self._asked_here()
        if engine == "spark":
            from tarloom.process.curate.with_spark import ask as ask_spark

            return ask_spark(self._work, self._portions, self._run_on)
        from tarloom.process.curate.with_ray import ask as ask_ray

        return ask_ray(self._work, self._portions, self._run_on)

    def _asked_here(self) -> Iterator[Parcel]:
        said: dict[int, list[Parcel]] = {}
        threads = max(parse_workers(self._run_on.num_workers).most, self._threads)
        for parcels in ahead(lambda portion: list(self._work.first(portion)), self._portions, threads=threads):
            for parcel in parcels:
                if self._work.statement.last is None:
                    yield parcel
                else:
                    said.setdefault(parcel.partition, []).append(parcel)
        for partition in sorted(said):
            yield self._work.last(said[partition])

    def _claim(self, storage: Storage) -> None:
        """The output is this question's: an answer of the same is made anew. Raises PlanMismatch for any other."""
        question = json.dumps(self._question, indent=1, sort_keys=True).encode()
        found = storage.read(QUESTION) if storage.head(QUESTION) is not None else None
        if found is None and any(True for _ in storage.list()):
            raise UsageError(f"output {storage.url}: is not empty; choose a folder for the answer alone")
        if found is None:
            storage.write(QUESTION, question)
        elif found != question:
            raise PlanMismatch(f"output {storage.url}: has the answer to another question ({QUESTION}); choose another")
        storage.sweep()
        storage.delete(ANSWER)

    def _withdraw(self) -> None:
        """Leave an output that has no part of an answer to the question as it will be mended."""
        if self._storage is not None and all(entry.name == QUESTION for entry in self._storage.list()):
            self._storage.delete(QUESTION)

    def _settle(self, storage: Storage) -> None:
        """Remove what an earlier answer had besides, and say that this one is whole. Files of others stay."""
        ours = file_names(self._config.partition_by)
        for entry in list(storage.list()):
            if entry.name not in self._files and ours.fullmatch(entry.name):
                storage.delete(entry.name)
        facts = {"rows": sum(self._files.values()), "files": dict(sorted(self._files.items()))}
        storage.write(ANSWER, json.dumps(facts, indent=1).encode())


def _check_files(schema: pa.Schema) -> None:
    """Raises UsageError where parquet has no such type as a column's, such as an interval."""
    for field in schema:
        try:
            table_bytes(pa.schema([field]).empty_table(), {})
        except pa.ArrowNotImplementedError as error:
            raise UsageError(
                f"{field.name} is {field.type}, which parquet cannot hold; make a number of it where it is made "
                "(epoch(...) of an interval), or leave it out by --select"
            ) from error


def _check_folder(name: str, kind: pa.DataType) -> None:
    """Raises UsageError where the values of such a column cannot name folders."""
    try:
        sound = not pa.types.is_binary(kind) and not pa.types.is_large_binary(kind)  # may be no text, value by value
        pc.cast(pa.array([], kind), pa.string())
    except pa.ArrowException:
        sound = False
    if not sound:
        raise UsageError(f"partition_by: {name} is {kind}, which cannot name folders; CAST it to VARCHAR by --derive")
