"""contact_sheet.png: pictures in a grid, below them what they were made from and what a model said of them."""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from tarloom.report.markup import cut
from tarloom.report.pictures import Shown

COLUMNS = 6
CELL = 240
"""Pixels of a picture's side."""
GAP = 28
MARGIN = 44
HEADER = 84
CAPTION_LINES = 3
PAPER, INK, SOFT, FRAME = (250, 249, 246), (32, 32, 36), (118, 116, 112), (226, 223, 216)
AGREES, DIFFERS = (38, 128, 80), (190, 92, 20)
Ink = tuple[int, int, int]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True, kw_only=True)
class _Type:
    title: Font
    caption: Font
    small: Font
    line: int = 23


def draw_sheet(shown: Sequence[Shown], *, title: str, subtitle: str) -> Image.Image:
    """The sheet, RGB.

    Under a picture its own caption, or what it was made from, and what a model said of it: in green where that agrees,
    in orange, as the picture's frame then is, where it does not.
    """
    kind = _Type(title=ImageFont.load_default(30), caption=ImageFont.load_default(17), small=ImageFont.load_default(15))
    scratch = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    texts = [_texts(scratch, sample, kind) for sample in shown]
    columns = max(1, min(COLUMNS, len(shown)))
    height = CELL + 16 + max(map(len, texts), default=1) * kind.line
    rows = -(-len(shown) // columns)
    width = max(2 * MARGIN + columns * (CELL + GAP) - GAP, 640)
    sheet = Image.new("RGB", (width, HEADER + 2 * MARGIN + rows * (height + GAP) - GAP), PAPER)
    brush = ImageDraw.Draw(sheet)
    title = _fitted(brush, " ".join(title.split()), kind.title, width - 2 * MARGIN)  # line breaks cannot be measured
    brush.text((MARGIN, MARGIN - 6), title, fill=INK, font=kind.title)
    brush.text((MARGIN, MARGIN + 36), subtitle, fill=SOFT, font=kind.small)
    for number, (sample, lines) in enumerate(zip(shown, texts, strict=True)):
        row, column = divmod(number, columns)
        corner = (MARGIN + column * (CELL + GAP), HEADER + MARGIN + row * (height + GAP))
        _draw_sample(sheet, brush, sample, corner, kind)
        for place, (line, ink) in enumerate(lines):
            spot = (corner[0], corner[1] + CELL + 14 + place * kind.line)
            brush.text(spot, line, fill=ink, font=kind.caption)
    return sheet


def _texts(brush: ImageDraw.ImageDraw, sample: Shown, kind: _Type) -> list[tuple[str, Ink]]:
    """Lines to stand under a picture, each with its colour."""
    ink = INK if sample.agrees is None else AGREES if sample.agrees else DIFFERS
    told = [(sample.original, INK), (sample.model or ("(no caption)" if sample.agrees is False else ""), ink)]
    lines = [(line, ink) for words, ink in told if words for line in _wrapped(brush, cut(words), kind.caption)]
    return lines or [("(no caption)", SOFT)]


def _draw_sample(
    sheet: Image.Image, brush: ImageDraw.ImageDraw, sample: Shown, corner: tuple[int, int], kind: _Type
) -> None:
    x, y = corner
    if sample.thumbnail is None:
        brush.rectangle([x, y, x + CELL - 1, y + CELL - 1], fill=FRAME)
        brush.text((x + 16, y + 16), "not decodable", fill=SOFT, font=kind.small)
    else:
        picture = _filling(sample.thumbnail)
        left, top = x + (CELL - picture.width) // 2, y + CELL - picture.height
        sheet.paste(picture, (left, top))
        frame, width = (DIFFERS, 4) if sample.agrees is False else (FRAME, 1)
        edges = [left, top, left + picture.width - 1, top + picture.height - 1]
        brush.rectangle(edges, outline=frame, width=width)
    if sample.agrees is not None:
        brush.rectangle([x, y + CELL + 5, x + CELL - 1, y + CELL + 7], fill=AGREES if sample.agrees else DIFFERS)


def _filling(picture: Image.Image) -> Image.Image:
    """Scaled so that its longer side is a cell's."""
    scale = CELL / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.LANCZOS)


def _wrapped(brush: ImageDraw.ImageDraw, text: str, font: Font) -> list[str]:
    """At most CAPTION_LINES lines that fit under a picture; an ellipsis where there was more."""
    lines: list[str] = []
    line = ""
    for word in text.split():
        longer = f"{line} {word}".strip()
        if line and brush.textlength(longer, font) > CELL:
            lines.append(line)
            line = word
        else:
            line = longer
    lines.append(line)
    if len(lines) > CAPTION_LINES:
        lines = [*lines[: CAPTION_LINES - 1], " ".join(lines[CAPTION_LINES - 1 :])]
    return [_fitted(brush, line, font, CELL) for line in lines]


def _fitted(brush: ImageDraw.ImageDraw, text: str, font: Font, width: int) -> str:
    """The text, or as much of it as fits, and an ellipsis."""
    if brush.textlength(text, font) <= width:
        return text
    while text and brush.textlength(f"{text}…", font) > width:
        text = text[:-1]
    return f"{text.rstrip()}…"
