"""Make the pictures and the URL list of this folder again: python -m source_data.make_pictures

    pictures/0001.jpg, 0001.txt, 0001.cls    240 held-out scenes, each with its caption and its class
    urls.csv                                 their addresses at serve.py, and those from which no picture comes

Most pictures are JPEGs of 128 pixels. Every few, one is of another kind that real collections hold: large, PNG, WebP,
with a palette, transparent, grey, CMYK, progressive, turned by its EXIF orientation. Seen rightly, all of them show
what their captions say.
"""

import argparse
import csv
import itertools
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from PIL import Image, ImageChops

from source_data.scenes import HELD_OUT_SEEDS, Scene, distinct_scenes
from source_data.serve import PORT, TROUBLES

HERE: Final = Path(__file__).resolve().parent
PICTURES: Final = 240
EVERY: Final = 12
"""Every so many pictures, one is of another kind."""
EXIF_ORIENTATION: Final = 0x0112
COLUMNS: Final = ("url", "caption", "cls", "seed", "expected")

ROUNDABOUT: Final = {20: "error-once/", 100: "busy/", 180: "moved/"}
"""Pictures whose address in the list is one that gives them only to who tries again, waits, or follows."""

Row = tuple[str, str, int | str, int | str, str]
Save = Callable[[Scene, Path], None]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of picture file: its extension, how it is made, and of which scenes it can be made."""

    extension: str
    save: Save
    suits: Callable[[Scene], bool] = lambda scene: True


def _plain(scene: Scene, path: Path) -> None:
    scene.draw().save(path, quality=95)


def _large(scene: Scene, path: Path) -> None:
    scene.draw(640).save(path, quality=90)


def _progressive(scene: Scene, path: Path) -> None:
    scene.draw(320).save(path, quality=90, progressive=True)


def _turned(scene: Scene, path: Path) -> None:
    """Stored lying on its side: orientation 6 tells the viewer to turn it a quarter clockwise."""
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = 6
    scene.draw().transpose(Image.Transpose.ROTATE_90).save(path, quality=95, exif=exif)


def _grey(scene: Scene, path: Path) -> None:
    scene.draw().convert("L").save(path, quality=95)


def _cmyk(scene: Scene, path: Path) -> None:
    scene.draw().convert("CMYK").save(path, quality=95)


def _palette(scene: Scene, path: Path) -> None:
    scene.draw().quantize(64).save(path)


def _transparent(scene: Scene, path: Path) -> None:
    """The white ground is transparent, and black underneath: it must be laid on white to be seen rightly."""
    picture = scene.draw()
    ground = Image.new("RGB", picture.size, picture.getpixel((0, 0)))
    seen = ImageChops.difference(picture, ground).convert("L").point(lambda value: 255 * (value > 0))
    black = Image.new("RGB", picture.size)
    black.paste(picture, mask=seen)
    black.putalpha(seen)
    black.save(path)


PLAIN: Final = Kind(extension="jpg", save=_plain)
KINDS: Final = (
    Kind(extension="jpg", save=_large),
    Kind(extension="png", save=_plain),
    Kind(extension="webp", save=_plain),
    Kind(extension="jpg", save=_turned, suits=lambda scene: len(scene.things) == 2),
    Kind(extension="jpg", save=_grey, suits=lambda scene: scene.colours <= {"white", "black", "gray"}),
    Kind(extension="png", save=_transparent, suits=lambda scene: scene.background == "white"),
    Kind(extension="jpg", save=_progressive),
    Kind(extension="png", save=_palette),
    Kind(extension="jpg", save=_cmyk),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=HERE, help="folder to write into (default: this one)")
    parser.add_argument("--start", type=int, default=HELD_OUT_SEEDS, help="first seed (default: %(default)s)")
    parser.add_argument("--pictures", type=int, default=PICTURES, help="how many (default: %(default)s)")
    arguments = parser.parse_args()
    make(arguments.output, start=arguments.start, pictures=arguments.pictures)
    print(
        f"{arguments.pictures} pictures in {arguments.output / 'pictures'}, listed in {arguments.output / 'urls.csv'}"
    )


def make(output: Path, *, start: int = HELD_OUT_SEEDS, pictures: int = PICTURES) -> None:
    """Write the pictures, their captions and classes, and the URL list; what was there before is removed."""
    folder = output / "pictures"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    rows: list[Row] = []
    for number, (scene, kind) in enumerate(_scenes_and_kinds(start, pictures), start=1):
        name = f"{number:04d}"
        kind.save(scene, folder / f"{name}.{kind.extension}")
        (folder / f"{name}.txt").write_text(scene.caption)
        (folder / f"{name}.cls").write_text(str(scene.cls))
        path = f"{ROUNDABOUT.get(number, '')}pictures/{name}.{kind.extension}"
        rows.append((_url(path), scene.caption, scene.cls, scene.seed, "success"))
    _write_urls(output / "urls.csv", _with_troubles(rows))


def _scenes_and_kinds(start: int, pictures: int) -> list[tuple[Scene, Kind]]:
    """Distinct scenes with the kind of file each becomes; an unusual kind takes the next scene that suits it."""
    scenes = list(itertools.islice(distinct_scenes(start), pictures))
    kinds = [PLAIN] * pictures
    for place, kind in zip(range(EVERY - 1, pictures, EVERY), itertools.cycle(KINDS), strict=False):
        suited = next((i for i in range(place, pictures) if kind.suits(scenes[i])), None)
        if suited is not None:
            scenes[place], scenes[suited] = scenes[suited], scenes[place]
            kinds[place] = kind
    return list(zip(scenes, kinds, strict=True))


def _with_troubles(rows: list[Row]) -> list[Row]:
    """The rows, with those of the troubles spread evenly among them."""
    step = len(rows) // (len(TROUBLES) + 1)
    mixed: list[Row] = []
    for number, row in enumerate(rows, start=1):
        mixed.append(row)
        if number % step == 0 and number // step <= len(TROUBLES):
            trouble = TROUBLES[number // step - 1]
            mixed.append((_url(trouble.url), trouble.story, "", "", trouble.expected))
    return mixed


def _url(path: str) -> str:
    return path if ":" in path else f"http://127.0.0.1:{PORT}/{path}"


def _write_urls(path: Path, rows: list[Row]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(rows)


if __name__ == "__main__":
    main()
