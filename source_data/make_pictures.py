"""Make the pictures and the URL list of this folder again: python source_data/make_pictures.py

    pictures/0001.jpg, 0001.txt, 0001.cls    240 held-out scenes, each with its caption and its class
    urls.csv                                 their addresses at serve.py, and every address there that misbehaves

Most pictures are JPEGs of 128 pixels. Every few, one is of another kind that real collections hold: large, PNG, WebP,
with a palette, transparent, grey, CMYK, progressive, turned by its EXIF orientation. Seen rightly, all of them show
what their captions say.
"""

import argparse
import csv
import itertools
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from PIL import Image

if __package__:
    from source_data.scenes import BACKGROUNDS, HELD_OUT_SEEDS, Scene, distinct_scenes
    from source_data.serve import PORT, TROUBLES
else:
    from scenes import BACKGROUNDS, HELD_OUT_SEEDS, Scene, distinct_scenes
    from serve import PORT, TROUBLES

HERE: Final = Path(__file__).resolve().parent
PICTURES: Final = 240
EVERY: Final = 12
"""Every so many pictures, one is of another kind."""
EXIF_ORIENTATION: Final = 0x0112
COLUMNS: Final = ("url", "caption", "cls", "seed", "expected")

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
    ground = picture.getpixel((0, 0))
    mask = Image.new("L", picture.size)
    mask.putdata([0 if pixel == ground else 255 for pixel in picture.get_flattened_data()])
    picture.paste((0, 0, 0), mask=mask.point(lambda value: 255 - value))
    picture.putalpha(mask)
    picture.save(path)


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
    print(f"{arguments.pictures} pictures in {arguments.output / 'pictures'}, listed in {arguments.output / 'urls.csv'}")


def make(output: Path, *, start: int = HELD_OUT_SEEDS, pictures: int = PICTURES) -> None:
    """Write the pictures, their captions and classes, and the URL list; what was there before is removed."""
    folder = output / "pictures"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    rows = []
    for number, (scene, kind) in enumerate(_scenes_and_kinds(start, pictures), start=1):
        name = f"{number:04d}"
        kind.save(scene, folder / f"{name}.{kind.extension}")
        (folder / f"{name}.txt").write_text(scene.caption)
        (folder / f"{name}.cls").write_text(str(scene.cls))
        rows.append((_url(f"pictures/{name}.{kind.extension}"), scene.caption, scene.cls, scene.seed, "success"))
    _write_urls(output / "urls.csv", _with_troubles(rows))


def _scenes_and_kinds(start: int, pictures: int) -> Iterator[tuple[Scene, Kind]]:
    """Distinct scenes in the order of their seeds, save that an unusual kind takes the next scene that suits it."""
    source = distinct_scenes(start)
    waiting: list[Scene] = []
    kinds = itertools.cycle(KINDS)
    for number in range(1, pictures + 1):
        kind = next(kinds) if number % EVERY == 0 else PLAIN
        scene = next((scene for scene in waiting if kind.suits(scene)), None)
        if scene:
            waiting.remove(scene)
        while scene is None:
            scene = next(source)
            if not kind.suits(scene):
                waiting.append(scene)
                scene = None
        yield scene, kind


def _with_troubles(rows: list[tuple[object, ...]]) -> list[tuple[object, ...]]:
    """The addresses that misbehave, spread evenly among the good ones. Those that recover show a picture of the list."""
    step = len(rows) // (len(TROUBLES) + 1)
    mixed = list(rows)
    for place, trouble in reversed(list(enumerate(TROUBLES, start=1))):
        caption, cls, seed = "", "", ""
        if trouble.expected == "success":
            pass
        mixed.insert(place * step, (_url(trouble.path), caption, cls, seed, trouble.expected))
    return mixed


def _url(path: str) -> str:
    return path if "://" in path else f"http://127.0.0.1:{PORT}/{path}"


def _write_urls(path: Path, rows: list[tuple[object, ...]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(rows)


assert "white" in BACKGROUNDS

if __name__ == "__main__":
    main()
