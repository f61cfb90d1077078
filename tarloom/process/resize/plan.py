"""Which pictures are resized, to what size, and where they go: looked at and checked before anything is changed."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tarloom.create.config import EncodeFormat
from tarloom.create.sources.folder import PICTURES
from tarloom.errors import UsageError
from tarloom.format.storage import Entry, Storage, open_storage, split_location
from tarloom.format.storage.writable import check_writable

Box = tuple[int, int]
"""Width, height."""
Mode = Literal["fit", "fill", "exact"]

LONGEST = 65_500
KEPT_FORMATS: dict[str, EncodeFormat] = {"jpg": "jpg", "jpeg": "jpg", "jpe": "jpg", "png": "png", "webp": "webp"}
"""What a picture is written as, by its extension, where no format is asked for; others become JPEGs."""


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

    original: Entry
    """As it was when the run was planned."""
    target: str
    format: EncodeFormat

    @property
    def source(self) -> str:
        return self.original.name


def planned_moves(config: ResizeConfig) -> tuple[Storage, Storage, list[Move]]:
    """Where the pictures lie, where they go, and which. Raises UsageError."""
    if not 1 <= config.quality <= 100:
        raise UsageError(f"quality must be from 1 to 100, not {config.quality}")
    if config.chunks < 1:
        raise UsageError(f"chunks must be at least 1, not {config.chunks}")
    found = _folder_moves(config) if config.batch else _one_move(config)
    _check_targets(found[2])
    check_writable(found[1])
    return found


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


def _one_move(config: ResizeConfig) -> tuple[Storage, Storage, list[Move]]:
    if config.input is None or config.input_dir is not None or config.output_dir is not None:
        raise UsageError("say --input IN [--output OUT] for one picture, or --batch --input-dir DIR for a folder")
    source, name = split_location(config.input)
    original = source.head(name)
    if original is None:
        is_folder = _is_folder(source, name)
        raise UsageError(
            f"input {config.input}: {'is a folder; say --batch --input-dir' if is_folder else 'no such file'}"
        )
    if config.output is None:
        move = _move(original, config.format)
        if move.target != name and source.head(move.target) is not None:
            raise UsageError(
                f"{name} would become {move.target}, which is there already; say --output, or remove one of them, such "
                f"as {name} where a run in place was killed before it had removed that"
            )
        return source, source, [move]
    target, place = split_location(config.output)
    if _is_folder(target, place):
        raise UsageError(f"output {config.output}: is a folder; name the new file in it")
    if _is_special(target, place):
        raise UsageError(
            f"output {config.output}: is a device or a pipe, whose place the picture would take; name a file"
        )
    asked = config.format or KEPT_FORMATS.get(_extension(place))
    if asked is None:
        raise UsageError(f"output {config.output}: say --format, or end its name in .jpg, .png or .webp")
    return source, target, [Move(original=original, target=place, format=asked)]


def _folder_moves(config: ResizeConfig) -> tuple[Storage, Storage, list[Move]]:
    if config.input_dir is None or config.input is not None or config.output is not None:
        raise UsageError("--batch takes --input-dir DIR [--output-dir DIR], and neither --input nor --output")
    source = open_storage(config.input_dir)
    if source.is_local and not _is_folder(source, ""):
        raise UsageError(f"input_dir {config.input_dir}: no such folder")
    target = source if config.output_dir is None else open_storage(config.output_dir)
    if config.output_dir is not None and target.place == source.place:
        raise UsageError(f"output_dir {config.output_dir}: is the input_dir; leave it out to resize in place")
    if target != source and target.lies_in(source):
        raise UsageError(f"output_dir {target.url}: lies inside of {source.url}; its pictures would be resized, too")
    pictures = sorted(
        (entry for entry in source.list() if _extension(entry.name) in PICTURES), key=lambda entry: entry.name
    )
    links = {entry.name for entry in pictures if config.output_dir is None and _is_linked(source, entry.name)}
    moves = [_move(entry, config.format) for entry in pictures if entry.name not in links]
    if not moves:
        raise UsageError(f"input_dir {source.url}: no picture in it ({', '.join(sorted(PICTURES))})")
    for move in moves:
        if move.target in links:
            raise UsageError(f"{move.source} would take the place of the link {move.target}; rename one of them")
    return source, target, moves


def _is_folder(storage: Storage, name: str) -> bool:
    """Whether it is one of this machine's folders: object stores have none."""
    path = storage.local_path(name)
    return path is not None and path.is_dir()


def _is_special(storage: Storage, name: str) -> bool:
    """Whether something is there that is neither a file nor a folder."""
    path = storage.local_path(name)
    return path is not None and path.exists() and not path.is_file() and not path.is_dir()


def _is_linked(storage: Storage, name: str) -> bool:
    """Whether a link leads to the picture: what it leads to may lie outside of the folder that is to be changed."""
    path = storage.local_path(name)
    return path is not None and os.path.realpath(path) != os.path.join(storage.place, name)


def _move(original: Entry, asked: EncodeFormat | None) -> Move:
    """A picture to a name of its own, but for the extension where that would not be true."""
    name = original.name
    is_written_as = asked or KEPT_FORMATS.get(_extension(name), "jpg")
    is_true = KEPT_FORMATS.get(_extension(name)) == is_written_as
    target = name if is_true else f"{name.rpartition('.')[0] or name}.{is_written_as}"
    return Move(original=original, target=target, format=is_written_as)


def _check_targets(moves: Sequence[Move]) -> None:
    """Raises UsageError where one picture would take the place of another."""
    taken: dict[str, str] = {}
    for move in moves:
        other = taken.setdefault(move.target, move.source)
        if other != move.source:
            both = f"{other} and {move.source} would both become {move.target}; rename or remove one of them"
            if move.target not in (other, move.source):
                raise UsageError(both)
            original = other if other != move.target else move.source
            raise UsageError(f"{both}, such as {original} where a run in place was killed before it had removed that")


def _extension(name: str) -> str:
    return name.rpartition(".")[2].lower()
