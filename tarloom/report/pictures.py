"""The pictures that are shown: which, and reduced to thumbnails."""

import base64
import dataclasses
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
from PIL import Image

from tarloom.errors import ImageError, ShardError
from tarloom.format.index import KEY
from tarloom.format.layout import IMAGE_MEMBERS
from tarloom.process.texts import text_at
from tarloom.read.dataset import Dataset
from tarloom.read.plan.picking import numbers_of
from tarloom.read.plan.pieces import WHOLE_SHARD, Piece
from tarloom.read.samples.batches import read_piece

ORIGINAL_CAPTION = ("caption", "txt")
"""Where a sample's own caption is: in the metadata, or a member."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A sample as it is shown."""

    key: str
    thumbnail: Image.Image | None
    """RGB; None where the picture cannot be decoded."""
    original: str | None
    """The caption it came with."""
    model: str | None
    """The caption a model gave it."""
    agrees: bool | None
    """Whether they say the same, or what else agreement is; None where that is not known."""


@dataclass(frozen=True, kw_only=True)
class Spot:
    """A row of a dataset: the number of its shard's piece, and the row in it."""

    piece: int
    row: int


class Gallery:
    """Fetches single samples of a dataset, with what is shown of them."""

    def __init__(self, dataset: Dataset, *, captions: str | None, size: int, agreeing: Dataset | None = None) -> None:
        """captions: the column of the model's captions, if there is one. size: pixels of a thumbnail's longer side.
        agreeing: what of the dataset agrees; by default the samples whose captions say the same."""
        self._images = [name for name in IMAGE_MEMBERS if name in dataset.members]
        self._original, self._captions, self._size = original_column(dataset), captions, size
        columns = [name for name in (self._original, captions) if name is not None]
        self._pieces = dataset.select(*self._images, *columns).pieces(WHOLE_SHARD)
        self._bare = dataset.select(*self._images).pieces(WHOLE_SHARD)
        self._agreeing = agreeing.select().pieces(WHOLE_SHARD) if agreeing is not None else None

    def spread(self, count: int) -> list[Spot]:
        """At most `count` rows, evenly spread over the dataset, in order."""
        total = sum(piece.rows for piece in self._pieces)
        count = min(count, total)
        return list(_spots(self._pieces, [(2 * i + 1) * total // (2 * count) for i in range(count)]))

    def show(self, spot: Spot) -> Shown:
        """The sample there, without captions where they cannot be joined. Raises ShardError if it cannot be read."""
        try:
            row = _row_at(self._pieces, spot)
        except ShardError:
            row = _row_at(self._bare, spot)
        stored = (row.column(name)[0].as_py() for name in self._images)
        data = next((value for value in stored if value is not None), None)
        original, model = text_in(row, self._original), text_in(row, self._captions)
        return Shown(
            key=text_in(row, KEY) or "",
            thumbnail=make_thumbnail(data, self._size) if data is not None else None,
            original=original,
            model=model,
            agrees=say_the_same(original, model) if self._agreeing is None else holds_at(self._agreeing, spot),
        )


def holds_at(pieces: Sequence[Piece], spot: Spot) -> bool | None:
    """Whether the condition of these pieces is true of the sample there; None where it cannot be asked."""
    try:
        return len(numbers_of(dataclasses.replace(pieces[spot.piece], only=(spot.row,)))) > 0
    except ShardError:
        return None


def _row_at(pieces: Sequence[Piece], spot: Spot) -> pa.RecordBatch:
    """The sample there, as the only row; not as Python's values, which not all texts of parquet can be."""
    return next(read_piece(dataclasses.replace(pieces[spot.piece], first=spot.row, last=spot.row + 1)))


def text_in(rows: pa.RecordBatch, column: str | None, row: int = 0) -> str | None:
    """A caption from a column or a member, if there is one."""
    text = text_at(rows.column(column), row) if column is not None and column in rows.schema.names else None
    return None if text is None else text.strip()


def original_column(dataset: Dataset) -> str | None:
    """Where the samples' own captions are, if they have any."""
    return next((name for name in ORIGINAL_CAPTION if name in dataset.columns), None)


def make_thumbnail(data: bytes, size: int) -> Image.Image | None:
    """The picture as one sees it, RGB, its longer side at most `size` pixels; None where it cannot be decoded."""
    from tarloom.read.samples.decode import decode_rgb  # loads the codecs: only where pictures are decoded

    try:
        picture = Image.fromarray(decode_rgb(data, at_least=2 * size))
    except ImageError:  # the page says "not decodable"
        return None
    picture.thumbnail((size, size))
    return picture


def data_uri(picture: Image.Image) -> str:
    """The picture inside the page itself."""
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=84)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def plain_words(caption: str) -> list[str]:
    """A caption's words, as they are compared: without case, outer punctuation and spacing."""
    return [word.strip(".,;:!?\"'").casefold() for word in caption.split()]


def say_the_same(one: str | None, other: str | None) -> bool | None:
    """Whether two captions have the same words; None where one is missing."""
    return None if one is None or other is None else plain_words(one) == plain_words(other)


def _spots(pieces: Sequence[Piece], rows: Sequence[int]) -> Iterator[Spot]:
    """Where ascending row numbers of the whole dataset lie."""
    number, before = 0, 0
    for row in rows:
        while row >= before + pieces[number].rows:
            before += pieces[number].rows
            number += 1
        yield Spot(piece=number, row=row - before)
