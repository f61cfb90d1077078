"""Synthetic scenes whose captions are exactly true: one or two coloured shapes on a coloured ground.

    picture, caption = scene(9_000_000)

A scene is a function of its seed alone: same seed, same picture, same caption. The tiny models in `models/` were
trained on seeds from TRAINING_SEEDS upwards; what they are judged by starts at HELD_OUT_SEEDS, far out of its reach.
"""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image, ImageDraw

Colour = tuple[int, int, int]
Point = tuple[float, float]

TRAINING_SEEDS = 1_000_000
HELD_OUT_SEEDS = 9_000_000
SIZE = 128
SHAPES = ("circle", "square", "triangle", "star", "cross")
COLOURS: dict[str, Colour] = {
    "red": (220, 30, 30),
    "green": (30, 160, 50),
    "blue": (35, 70, 220),
    "yellow": (245, 220, 40),
    "purple": (140, 40, 170),
    "orange": (245, 135, 20),
    "white": (248, 248, 248),
    "black": (15, 15, 15),
}
BACKGROUNDS: dict[str, Colour] = {**COLOURS, "gray": (128, 128, 128)}
KINDS = (*BACKGROUNDS, *(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES))
"""All that can be seen at a place of a picture: the ground's colour, or a thing's colour and shape."""

_SUPERSAMPLING = 2
_GRID = 8
"""Pixels of a square's side in the drawing of `Scene.kinds`."""
_COLOUR_SEED = 0x5EED


@dataclass(frozen=True, kw_only=True)
class Thing:
    """A coloured shape. Its centre and radius are fractions of the picture's side."""

    colour: str
    shape: str
    x: float
    y: float
    radius: float


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What there is to see. `relation` is "left of", "above" or, of a single thing, empty."""

    seed: int
    things: tuple[Thing, ...]
    relation: str
    background: str

    @property
    def caption(self) -> str:
        """Such as "a red star above an orange circle on a gray background"."""
        words = f" {self.relation} ".join(f"{_with_article(thing.colour)} {thing.shape}" for thing in self.things)
        return f"{words} on {_with_article(self.background)} background"

    @property
    def cls(self) -> int:
        """The class: the index of the first thing's shape in SHAPES."""
        return SHAPES.index(self.things[0].shape)

    @property
    def colours(self) -> set[str]:
        """Names of all colours in the picture."""
        return {self.background, *(thing.colour for thing in self.things)}

    def draw(self, size: int = SIZE) -> Image.Image:
        """The picture, RGB, size x size pixels. Every colour is a little off its name's, as the seed has it."""
        dice = random.Random(self.seed ^ _COLOUR_SEED)
        side = size * _SUPERSAMPLING
        picture = Image.new("RGB", (side, side), _nearly(BACKGROUNDS[self.background], dice))
        brush = ImageDraw.Draw(picture)
        for thing in self.things:
            _draw_thing(brush, thing, side, _nearly(COLOURS[thing.colour], dice))
        return picture.resize((size, size), Image.Resampling.BOX)

    def kinds(self, side: int) -> list[int]:
        """What lies at the middle of every square of a grid of side x side, row by row: indices in KINDS."""
        plan = Image.new("L", (side * _GRID, side * _GRID), KINDS.index(self.background))
        for thing in self.things:
            _draw_thing(ImageDraw.Draw(plan), thing, plan.width, KINDS.index(f"{thing.colour} {thing.shape}"))
        middles = range(_GRID // 2, plan.width, _GRID)
        values = plan.tobytes()
        return [values[y * plan.width + x] for y in middles for x in middles]


def scene(seed: int, size: int = SIZE) -> tuple[Image.Image, str]:
    """The picture (RGB, size x size) and the caption of a seed."""
    found = describe(seed)
    return found.draw(size), found.caption


def describe(seed: int, *, share_of_two: float = 0.7) -> Scene:
    """The scene of a seed; `share_of_two` is the probability of two things rather than one.

    The order in which the dice are thrown is what the models were trained on: it must not change.
    """
    dice = random.Random(seed)
    background = dice.choice(list(BACKGROUNDS))
    colours = [colour for colour in COLOURS if colour != background]
    two = dice.random() < share_of_two
    relation, things = _two_things(dice, colours) if two else ("", (_one_thing(dice, colours),))
    return Scene(seed=seed, things=things, relation=relation, background=background)


def distinct_scenes(start: int = HELD_OUT_SEEDS) -> Iterator[Scene]:
    """Scenes of seeds from `start` upwards whose captions have not come before."""
    seen: set[str] = set()
    seed = start
    while True:
        found = describe(seed)
        if found.caption not in seen:
            seen.add(found.caption)
            yield found
        seed += 1


def _one_thing(dice: random.Random, colours: list[str]) -> Thing:
    radius = dice.uniform(0.15, 0.26)
    colour, shape = dice.choice(colours), dice.choice(SHAPES)
    return Thing(colour=colour, shape=shape, x=dice.uniform(0.32, 0.68), y=dice.uniform(0.32, 0.68), radius=radius)


def _two_things(dice: random.Random, colours: list[str]) -> tuple[str, tuple[Thing, ...]]:
    first_colour, second_colour = dice.sample(colours, 2)
    first_shape, second_shape = dice.choice(SHAPES), dice.choice(SHAPES)
    relation = dice.choice(["left of", "above"])
    before, after = dice.uniform(0.22, 0.30), dice.uniform(0.70, 0.78)
    first_middle, second_middle = dice.uniform(0.38, 0.62), dice.uniform(0.38, 0.62)
    first_radius, second_radius = dice.uniform(0.13, 0.19), dice.uniform(0.13, 0.19)
    first, second = (before, first_middle), (after, second_middle)
    if relation == "above":
        first, second = first[::-1], second[::-1]
    return relation, (
        Thing(colour=first_colour, shape=first_shape, x=first[0], y=first[1], radius=first_radius),
        Thing(colour=second_colour, shape=second_shape, x=second[0], y=second[1], radius=second_radius),
    )


def _draw_thing(brush: ImageDraw.ImageDraw, thing: Thing, side: int, colour: Colour | int) -> None:
    x, y, radius = thing.x * side, thing.y * side, thing.radius * side
    if thing.shape == "circle":
        brush.ellipse([x - radius, y - radius, x + radius, y + radius], fill=colour)
    else:
        brush.polygon(_outline(thing.shape, x, y, radius), fill=colour)


def _outline(shape: str, x: float, y: float, r: float) -> list[Point]:
    """Corners of a shape around (x, y), in pixels."""
    if shape == "square":
        h = r * 0.86
        return [(x - h, y - h), (x + h, y - h), (x + h, y + h), (x - h, y + h)]
    if shape == "triangle":
        return [(x, y - r), (x + 0.95 * r, y + 0.8 * r), (x - 0.95 * r, y + 0.8 * r)]
    if shape == "star":
        turns = [(-math.pi / 2 + k * math.pi / 5, 1.1 * r if k % 2 == 0 else 0.46 * r) for k in range(10)]
        return [(x + reach * math.cos(angle), y + reach * math.sin(angle)) for angle, reach in turns]
    w = r * 0.34
    upper = [(x - w, y - r), (x + w, y - r), (x + w, y - w), (x + r, y - w), (x + r, y + w), (x + w, y + w)]
    lower = [(x + w, y + r), (x - w, y + r), (x - w, y + w), (x - r, y + w), (x - r, y - w), (x - w, y - w)]
    return upper + lower


def _nearly(colour: Colour, dice: random.Random) -> Colour:
    red, green, blue = (max(0, min(255, value + dice.randint(-10, 10))) for value in colour)
    return red, green, blue


def _with_article(word: str) -> str:
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"
