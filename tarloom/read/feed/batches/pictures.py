"""Pictures as training wants them: all of one size, cut out by chance that belongs to the sample.

A Fit says which part of a picture is wanted, from the picture's size alone; fitting.py makes pixels of it.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from operator import index
from typing import Final, NamedTuple, Protocol, SupportsIndex, runtime_checkable

from tarloom.errors import UsageError

Size = tuple[int, int]
"""Height, width."""
DRAWS: Final = 5
"""Numbers by chance that a picture gets, each from 0 up to 1 (exclusive)."""
_TOP, _LEFT, _MIRRORED, _AREA, _RATIO = range(DRAWS)


class Part(NamedTuple):
    """A part of a picture, in its pixels."""

    top: int
    left: int
    height: int
    width: int
    mirrored: bool = False


@runtime_checkable
class Fit(Protocol):
    """How a picture of any size becomes one of a fixed size: a part of it, scaled to that."""

    @property
    def shape(self) -> Size:
        """Of what comes out."""
        ...

    def part(self, size: Size, draws: Sequence[float]) -> Part:
        """The part of a picture of this size. draws: DRAWS numbers by chance, the sample's own."""
        ...


@dataclass(frozen=True)
class _Sized:
    """What comes out is a square of so many pixels, or of this height and width."""

    size: int | Size

    def __post_init__(self) -> None:
        sides = [*self.size] if isinstance(self.size, Iterable) else [self.size] * 2
        if len(sides) != 2 or not all(isinstance(side, SupportsIndex) and index(side) >= 1 for side in sides):
            raise UsageError(f"{self}: a picture needs a side, or a height and a width, of at least 1 pixel")
        flip = getattr(self, "flip", 0.0)
        if not 0 <= flip <= 1:
            raise UsageError(f"{self}: flip is a probability, from 0 to 1")

    @cached_property
    def shape(self) -> Size:
        """See Fit."""
        height, width = self.size if isinstance(self.size, Iterable) else (self.size, self.size)
        return index(height), index(width)  # of numpy's numbers, too


@dataclass(frozen=True)
class Resize(_Sized):
    """The whole picture, whatever that does to its proportions."""

    def part(self, size: Size, draws: Sequence[float]) -> Part:
        """See Fit."""
        return Part(0, 0, *size)


@dataclass(frozen=True)
class CenterCrop(_Sized):
    """The middle: as much of it as has the right proportions."""

    def part(self, size: Size, draws: Sequence[float]) -> Part:
        """See Fit."""
        height, width = _within(size, self.shape, scale=math.inf)
        return Part((size[0] - height) // 2, (size[1] - width) // 2, height, width)


@dataclass(frozen=True)
class RandomCrop(_Sized):
    """A part by chance at the picture's own scale, mirrored with probability `flip`. Too small a picture is enlarged
    until it is no longer."""

    flip: float = 0.5

    def part(self, size: Size, draws: Sequence[float]) -> Part:
        """See Fit."""
        return _somewhere(size, _within(size, self.shape, scale=1), draws, self.flip)


@dataclass(frozen=True)
class RandomResizedCrop(_Sized):
    """A part by chance, of a share of the picture's area and of proportions by chance, mirrored with probability
    `flip`.

    The share is uniform in `scale`; the proportions (width through height) are as torchvision's, but among those alone
    with which the part lies inside the picture, so that nothing is drawn twice.
    """

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = field(default=0.5, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise UsageError(f"{self}: scale is two shares of a picture, above 0 and up to 1, the smaller one first")
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise UsageError(f"{self}: ratio is two quotients above 0, the smaller one first")

    def part(self, size: Size, draws: Sequence[float]) -> Part:
        """See Fit."""
        height, width = size
        area = height * width * _between(*self.scale, draws[_AREA])
        narrowest, widest = area / height**2, width**2 / area
        low, high = (min(max(ratio, narrowest), widest) for ratio in self.ratio)
        ratio = math.exp(_between(math.log(low), math.log(high), draws[_RATIO]))
        wanted = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
        inside = min(max(wanted[0], 1), height), min(max(wanted[1], 1), width)
        return _somewhere(size, inside, draws, self.flip)


def _within(size: Size, shape: Size, *, scale: float) -> Size:
    """The largest size of these proportions inside a picture, but at most `scale` times the shape."""
    scale = min(scale, size[0] / shape[0], size[1] / shape[1])
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))


def _somewhere(size: Size, part: Size, draws: Sequence[float], flip: float) -> Part:
    top, left = int(draws[_TOP] * (size[0] - part[0] + 1)), int(draws[_LEFT] * (size[1] - part[1] + 1))
    return Part(top, left, *part, draws[_MIRRORED] < flip)


def _between(low: float, high: float, draw: float) -> float:
    return low + (high - low) * draw
