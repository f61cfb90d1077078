"""Resizes, converts and compresses pictures as files: one, or all of a folder, in place or into another.

Pictures go through the same code as those of shards (create/images.py): upright, sRGB, first frame, transparent parts
over white. Each file appears under its name whole or not at all, and in place an original is only ever replaced by a
finished picture: a run that is killed leaves originals and finished ones, and the same command goes on.
"""

import math
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from tarloom.create.config import EncodeFormat, ImageOptions
from tarloom.create.folder import PICTURES
from tarloom.engines.base import Engine
from tarloom.errors import RowError, StorageError, UsageError
from tarloom.format.storage import Storage, open_storage, split_location

if TYPE_CHECKING:
    from tarloom.create.scale import Shape

Box = tuple[int, int]
"""Width, height."""
Mode = Literal["fit", "fill", "exact"]

LONGEST = 65_500
KEPT_FORMATS: dict[str, EncodeFormat] = {"jpg": "jpg", "jpeg": "jpg", "jpe": "jpg", "png": "png", "webp": "webp"}
"""What a picture is written as, by its extension, where no format is asked for; others become JPEGs."""
PNG_LEVEL = 6
FAILURES_SHOWN = 100
UNWRITTEN = "unwritten"
"""The name of a failure of storage."""


@dataclass(frozen=True, kw_only=True)
class ResizeConfig:
    """What is resized, to what, and where it goes."""

    input: str | None = None
    """One picture to resize."""
    output: str | None = None
    """Its place; the format is its extension's if --format is not given. Default: in place."""
    batch: bool = False
    """Resize all pictures of a folder."""
    input_dir: str | None = None
    """The folder of --batch, sub-folders included."""
    output_dir: str | None = None
    """Where the pictures of --batch go, in the same sub-folders. Default: in place."""
    resize: str | None = None
    """WIDTHxHEIGHT, or one number for both. Default: the size stays."""
    mode: Mode = "fit"
    """fit: as large as fits inside, ratio kept; fill: covers all of it, what juts out is cut off; exact: stretched."""
    resize_only_if_bigger: bool = False
    """Leave the size of pictures that would become larger."""
    format: EncodeFormat | None = None
    """What pictures are written as. Default: as they are; what is neither JPEG, PNG nor WebP becomes JPEG."""
    quality: int = 90
    """Of JPEG and WebP: 1 to 100. PNG is always lossless."""
    chunks: int = 32
    """Pieces that the folder's pictures are cut into; each is one task of a worker."""
    check: bool = False
    """Only see whether Ray works: its version, its nodes, and if it runs a task."""


@dataclass(frozen=True, kw_only=True)
class Move:
    """A picture and where it goes."""

    source: str
    target: str
    format: EncodeFormat


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
        from tarloom.create.images import process_picture  # loads OpenCV: only where pictures are worked on
        from tarloom.create.scale import Shape

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
                failed[move.source] = f"{UNWRITTEN}: {error}"
            else:
                read, written, unchanged = read + before, written + after, unchanged + same
        return ChunkReport(
            processed=len(chunk) - len(failed), unchanged=unchanged, failed=failed, bytes_in=read, bytes_out=written
        )

    def _one(self, move: Move) -> tuple[int, int, bool]:
        """Bytes before, bytes after, and whether they are the same."""
        how = self._how
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
        """One report a chunk, in any order."""
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
    if not 1 <= config.quality <= 100:
        raise UsageError(f"quality must be from 1 to 100, not {config.quality}")
    if config.chunks < 1:
        raise UsageError(f"chunks must be at least 1, not {config.chunks}")
    source, target, moves = _folder_moves(config) if config.batch else _one_move(config)
    _check_targets(moves)
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


def parse_box(text: str) -> Box:
    """ "800x600", or "800" for both sides. Raises UsageError."""
    found = re.fullmatch(r"(\d{1,5})(?:x(\d{1,5}))?", text.strip().lower())
    width, height = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not (1 <= width <= LONGEST and 1 <= height <= LONGEST):
        raise UsageError(f"resize: {text!r} is no size; say WIDTHxHEIGHT in pixels, such as 800x600")
    return width, height


def sizes(original: Box, box: Box | None, mode: Mode, *, only_if_bigger: bool = False) -> tuple[Box, Box]:
    """What a picture of this size is scaled to, and what is then cut out of its middle; each width, height."""
    if box is None:
        return original, original
    if mode == "exact":
        scaled = box
    else:
        scale = (min if mode == "fit" else max)(box[0] / original[0], box[1] / original[1])
        scaled = max(1, round(original[0] * scale)), max(1, round(original[1] * scale))
    if only_if_bigger and scaled[0] * scaled[1] > original[0] * original[1]:
        return original, original
    return scaled, box if mode == "fill" else scaled


def chunks(moves: Sequence[Move], count: int) -> Iterable[Sequence[Move]]:
    """About `count` pieces of nearly the same length."""
    length = max(1, math.ceil(len(moves) / count))
    return [moves[first : first + length] for first in range(0, len(moves), length)]


def _one_move(config: ResizeConfig) -> tuple[Storage, Storage, list[Move]]:
    if config.input is None or config.input_dir is not None or config.output_dir is not None:
        raise UsageError("say --input IN [--output OUT] for one picture, or --batch --input-dir DIR for a folder")
    source, name = split_location(config.input)
    if source.head(name) is None:
        raise UsageError(f"input {config.input}: no such file")
    if config.output is None:
        return source, source, [_move(name, config.format)]
    target, place = split_location(config.output)
    asked = config.format or KEPT_FORMATS.get(_extension(place))
    if asked is None:
        raise UsageError(f"output {config.output}: say --format, or end its name in .jpg, .png or .webp")
    return source, target, [Move(source=name, target=place, format=asked)]


def _folder_moves(config: ResizeConfig) -> tuple[Storage, Storage, list[Move]]:
    if config.input_dir is None or config.input is not None or config.output is not None:
        raise UsageError("--batch takes --input-dir DIR [--output-dir DIR], and neither --input nor --output")
    source = open_storage(config.input_dir)
    target = source if config.output_dir is None else open_storage(config.output_dir)
    if target.url.startswith(f"{source.url}/"):
        raise UsageError(f"output_dir {target.url}: lies inside of {source.url}; its pictures would be resized, too")
    names = sorted(entry.name for entry in source.list() if _extension(entry.name) in PICTURES)
    if not names:
        raise UsageError(f"input_dir {source.url}: no picture in it ({', '.join(sorted(PICTURES))})")
    return source, target, [_move(name, config.format) for name in names]


def _move(name: str, asked: EncodeFormat | None) -> Move:
    """A picture to a name of its own, but for the extension where that would not be true."""
    is_written_as = asked or KEPT_FORMATS.get(_extension(name), "jpg")
    is_true = KEPT_FORMATS.get(_extension(name)) == is_written_as
    target = name if is_true else f"{name.rpartition('.')[0] or name}.{is_written_as}"
    return Move(source=name, target=target, format=is_written_as)


def _check_targets(moves: Sequence[Move]) -> None:
    """Raises UsageError where one picture would take the place of another."""
    taken: dict[str, str] = {}
    for move in moves:
        other = taken.setdefault(move.target, move.source)
        if other != move.source:
            raise UsageError(f"{other} and {move.source} would both become {move.target}; rename or remove one of them")


def _extension(name: str) -> str:
    return name.rpartition(".")[2].lower()
