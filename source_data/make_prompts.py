"""Make the tables of prompts of this folder again: python -m source_data.make_prompts

    prompts.csv     what to paint: an id, a thing, a setting. 240 rows, of which three name what no table knows
    shapes.csv      every thing's colour and shape
    settings.csv    every setting's background and, of some, a neighbour and where the thing is to it

Joined, they describe scenes that the tiny models know: a caption for each prompt, and none twice.
"""

import argparse
import csv
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from source_data.scenes import BACKGROUNDS, COLOURS, SHAPES

HERE = Path(__file__).resolve().parent
PROMPTS = 240
ONE_THING = 96
"""Prompts of a thing that is alone; all others have a neighbour."""
NEIGHBOURS = 6
"""Settings with a neighbour, of each background."""
UNKNOWN = {58: ("s99", "g03"), 131: ("s12", "g99"), 204: ("s98", "g98")}
"""Rows whose thing, setting, or both are missing from the tables: so that one sees what becomes of them."""
SEED = 7

Row = Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Where a thing is. Without a neighbour, its colour, shape and relation are empty."""

    background: str
    relation: str = ""
    colour: str = ""
    shape: str = ""

    def suits(self, colour: str) -> bool:
        """Whether a thing of this colour can be told from all else."""
        return colour not in (self.background, self.colour)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=HERE, help="folder to write into (default: %(default)s)")
    write(parser.parse_args().output)


def write(folder: Path) -> None:
    """All three tables."""
    dice = random.Random(SEED)
    things = [(colour, shape) for colour in COLOURS for shape in SHAPES]
    settings = _settings(dice)
    rows = [(f"s{number:02d}", *thing) for number, thing in enumerate(things, 1)]
    _write(folder / "shapes.csv", ("thing", "colour", "shape"), rows)
    grounds = [(f"g{number:02d}", *_columns(setting)) for number, setting in enumerate(settings, 1)]
    _write(folder / "settings.csv", ("setting", "background", "relation", "neighbour"), grounds)
    _write(folder / "prompts.csv", ("id", "thing", "setting"), _prompts(things, settings, dice))


def _settings(dice: random.Random) -> list[Setting]:
    """The bare backgrounds first."""
    settings = [Setting(background=background) for background in BACKGROUNDS]
    for background in BACKGROUNDS:
        colours = dice.sample([colour for colour in COLOURS if colour != background], NEIGHBOURS)
        for number, colour in enumerate(colours):
            relation, shape = ("left of", "above")[number % 2], dice.choice(SHAPES)
            settings.append(Setting(background=background, relation=relation, colour=colour, shape=shape))
    return settings


def _columns(setting: Setting) -> Row:
    return setting.background, setting.relation, f"{setting.colour} {setting.shape}".strip()


def _prompts(things: Sequence[Row], settings: Sequence[Setting], dice: random.Random) -> list[Row]:
    """Pairs of things and settings that suit each other, each pair once, in an order by chance."""
    pairs = [
        (f"s{thing:02d}", f"g{number:02d}", setting.relation)
        for thing, (colour, _) in enumerate(things, 1)
        for number, setting in enumerate(settings, 1)
        if setting.suits(colour)
    ]
    alone = dice.sample([pair for pair in pairs if not pair[2]], ONE_THING)
    beside = dice.sample([pair for pair in pairs if pair[2]], PROMPTS - ONE_THING)
    chosen = dice.sample([pair[:2] for pair in (*alone, *beside)], PROMPTS)
    return [(f"p{row:03d}", *UNKNOWN.get(row, pair)) for row, pair in enumerate(chosen, 1)]


def _write(path: Path, columns: Row, rows: Iterable[Row]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([columns, *rows])


if __name__ == "__main__":
    main()
