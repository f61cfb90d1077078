"""Resizes, converts and compresses pictures as files: one, or all of a folder, in place or into another.

Pictures go through the same code as those of shards (create/pictures): upright, sRGB, first frame, transparent parts
over white. Each file appears under its name whole or not at all, and in place an original is only ever replaced by a
finished picture: a run that is killed leaves originals and finished ones, and the same command goes on.
"""

import math
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tarloom.create.config import ImageOptions
from tarloom.engines.base import Engine
from tarloom.errors import EngineError, RowError, StorageError
from tarloom.format.storage import Entry, Storage
from tarloom.format.storage.local_errors import NO_ROOM, is_caused_by
from tarloom.process.resize.plan import Box, Mode, Move, ResizeConfig, parse_box, planned_moves, sizes

if TYPE_CHECKING:
    from tarloom.create.pictures.scale import Shape

PNG_LEVEL = 6
FAILURES_SHOWN = 100
UNWRITTEN = "unwritten"
"""The name of a failure of storage."""


@dataclass(frozen=True, kw_only=True)
class ChunkReport:
    """What became of some pictures."""

    processed: int = 0
    unchanged: int = 0
    """Of the processed ones: had the wanted size and format already, and keep their bytes."""
    failed: Mapping[str, str] = field(default_factory=dict)
    """Why, by the picture's name: an error's text, which begins with its name."""
    bytes_in: int = 0
    bytes_out: int = 0

    @property
    def pictures(self) -> int:
        return self.processed + len(self.failed)


@dataclass(frozen=True, kw_only=True)
class ResizeSummary:
    """What a run did."""

    processed: int
    failed: int
    unchanged: int
    failed_by_error: Mapping[str, int]
    failures: Mapping[str, str]
    """Failed pictures and why, the first of them."""
    bytes_in: int
    bytes_out: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class ChunkResizer:
    """How pictures are resized: what is sent to an engine, and called there for each chunk."""

    source: Storage
    target: Storage
    in_place: bool
    """Each picture takes the place of its original."""
    box: Box | None
    mode: Mode
    only_if_bigger: bool
    quality: int

    def __call__(self) -> "OpenResizer":
        return OpenResizer(self)


class OpenResizer:
    """Resizes chunks, one picture after the other."""

    def __init__(self, description: ChunkResizer) -> None:
        from tarloom.create.pictures.images import process_picture  # loads OpenCV: only where pictures are worked on
        from tarloom.create.pictures.scale import Shape

        self._process, self._shape = process_picture, Shape
        self._how = description

    def __call__(self, chunk: Sequence[Move]) -> ChunkReport:
        failed: dict[str, str] = {}
        read = written = unchanged = 0
        for move in chunk:
            try:
                before, after, same = self._one(move)
            except RowError as error:
                failed[move.source] = str(error)
            except StorageError as error:
                if is_caused_by(error, NO_ROOM):
                    raise EngineError(f"{error}; then run the same command again") from error
                failed[move.source] = f"{UNWRITTEN}: {error}"
            else:
                read, written, unchanged = read + before, written + after, unchanged + same
        return ChunkReport(
            processed=len(chunk) - len(failed), unchanged=unchanged, failed=failed, bytes_in=read, bytes_out=written
        )

    def _one(self, move: Move) -> tuple[int, int, bool]:
        """Bytes before, bytes after, and whether they are the same."""
        how, finished = self._how, self._finished(move)
        if finished is not None:
            return move.original.size, finished.size, False
        data = how.source.read(move.source)
        quality = PNG_LEVEL if move.format == "png" else how.quality
        options = ImageOptions(
            encode_format=move.format, encode_quality=quality, skip_reencode=how.box is not None, extract_exif=False
        )
        made = self._process(data, options, shaped=self._shaped).data
        same = made == data
        if not (same and how.in_place and move.source == move.target):
            how.target.write(move.target, made)
        if how.in_place and move.source != move.target:
            how.source.delete(move.source)
        return len(data), len(made), same

    def _finished(self, move: Move) -> Entry | None:
        """What stands in the original's place already, where this chunk was tried before and its worker died."""
        if not self._how.in_place:
            return None
        now, before = self._how.source.head(move.source), move.original
        if move.source != move.target:
            return self._how.target.head(move.target) if now is None else None
        return now if now is not None and (now.size, now.version) != (before.size, before.version) else None

    def _shaped(self, original: tuple[int, int]) -> "Shape":
        height, width = original
        scaled, canvas = sizes((width, height), self._how.box, self._how.mode, only_if_bigger=self._how.only_if_bigger)
        smaller = scaled[0] * scaled[1] < width * height
        return self._shape(scaled=scaled[::-1], canvas=canvas[::-1], method="area" if smaller else "lanczos")


class ResizeJob:
    """Call `prepare`, then `run`. `summary` may be asked for at any time."""

    def __init__(self, config: ResizeConfig) -> None:
        self._config = config
        self._started = time.monotonic()
        self._moves: list[Move] = []
        self._reports: list[ChunkReport] = []

    @property
    def total(self) -> int:
        """Pictures."""
        return len(self._moves)

    def prepare(self) -> None:
        """Find the pictures and where they go. Raises UsageError for what cannot work; nothing is changed."""
        self._resizer, self._moves = planned(self._config)

    def run(self, engine: Engine) -> Iterator[ChunkReport]:
        """One report a chunk, in any order. Raises EngineError where the disk is full, or workers died."""
        if self._config.batch:
            self._resizer.target.sweep()
        for outcome in engine.map(self._resizer, chunks(self._moves, self._config.chunks)):
            lost = {move.source: f"{UNWRITTEN}: {outcome.error}" for move in outcome.item}
            report = outcome.result or ChunkReport(failed=lost)
            self._reports.append(report)
            yield report

    def summary(self) -> ResizeSummary:
        failures = {name: why for report in self._reports for name, why in report.failed.items()}
        by_error = Counter(why.partition(":")[0] for why in failures.values())
        return ResizeSummary(
            processed=sum(report.processed for report in self._reports),
            failed=len(failures),
            unchanged=sum(report.unchanged for report in self._reports),
            failed_by_error=dict(sorted(by_error.items())),
            failures=dict(sorted(failures.items())[:FAILURES_SHOWN]),
            bytes_in=sum(report.bytes_in for report in self._reports),
            bytes_out=sum(report.bytes_out for report in self._reports),
            seconds=time.monotonic() - self._started,
        )


def planned(config: ResizeConfig) -> tuple[ChunkResizer, list[Move]]:
    """How the pictures are resized, and which. Raises UsageError."""
    source, target, moves = planned_moves(config)
    resizer = ChunkResizer(
        source=source,
        target=target,
        in_place=config.output is None and config.output_dir is None,
        box=None if config.resize is None else parse_box(config.resize),
        mode=config.mode,
        only_if_bigger=config.resize_only_if_bigger,
        quality=config.quality,
    )
    return resizer, moves


def chunks(moves: Sequence[Move], count: int) -> Iterable[Sequence[Move]]:
    """About `count` pieces of nearly the same length."""
    length = max(1, math.ceil(len(moves) / count))
    return [moves[first : first + length] for first in range(0, len(moves), length)]
