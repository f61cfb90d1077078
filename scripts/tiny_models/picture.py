"""The losses as a picture: SVG, logarithmic, a colour for each process, and where one was killed."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from xml.sax.saxutils import escape

from .logs import Log, Step

WIDTH, HEIGHT = 420, 240
"""Of a diagram, without what is around it."""
LEFT, TOP, BETWEEN, BELOW = 56, 56, 76, 56
ACROSS = 2
POINTS = 150
"""Of a line at most: means of so many steps each."""
COLOURS = ("#4a6fa5", "#c4622d")
STYLE = """<style>
  text { fill: #465166; font-size: 12px }
  .title { fill: #1c2533; font-size: 15px; font-weight: 600 }
  .grid { stroke: #dfe4ec }
  .kill { stroke: #b3261e; stroke-width: 1.5; stroke-dasharray: 5 4 }
  .loss { fill: none; stroke-width: 1.8; stroke-linejoin: round }
</style>"""


def draw(logs: Mapping[str, Log], path: Path) -> None:
    """A diagram for each log, two side by side."""
    width = LEFT + min(len(logs), ACROSS) * (WIDTH + BETWEEN) - BETWEEN + 24
    height = math.ceil(len(logs) / ACROSS) * (TOP + HEIGHT + BELOW)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="ui-sans-serif, system-ui, sans-serif">',
        STYLE,
        '<rect width="100%" height="100%" fill="#fbfcfe" rx="10"/>',
    ]
    for number, (name, log) in enumerate(logs.items()):
        left = LEFT + number % ACROSS * (WIDTH + BETWEEN)
        top = TOP + number // ACROSS * (TOP + HEIGHT + BELOW)
        lines += [f'<g transform="translate({left},{top})">', *_diagram(name, log), "</g>"]
    path.write_text("\n".join([*lines, "</svg>\n"]), encoding="utf-8")


@dataclass(frozen=True, kw_only=True)
class _Scale:
    """From steps and losses to places in a diagram."""

    steps: int
    least: int
    most: int
    """Powers of ten."""

    @classmethod
    def of(cls, log: Log) -> "_Scale":
        steps = max(step.step for process in log.processes for step in process)
        losses = [loss for process in log.processes for _, loss in _places(process, steps)]
        least, most = math.floor(math.log10(min(losses))), math.ceil(math.log10(max(losses)))
        return cls(steps=steps, least=least, most=max(most, least + 1))

    def x(self, step: float) -> float:
        return WIDTH * step / self.steps

    def y(self, loss: float) -> float:
        return HEIGHT * (self.most - math.log10(loss)) / (self.most - self.least)


def _diagram(name: str, log: Log) -> Iterator[str]:
    scale = _Scale.of(log)
    yield f'<text class="title" x="0" y="-30">{escape(name)}: loss</text>'
    yield from _grid(scale)
    for number, steps in enumerate(log.processes):
        yield _line(scale, steps, COLOURS[number % len(COLOURS)])
    for before, after in zip(log.processes, log.processes[1:], strict=False):
        yield from _kill(scale, before[-1].step, after[0].step)


def _grid(scale: _Scale) -> Iterator[str]:
    for power in range(scale.least, scale.most + 1):
        y = scale.y(10.0**power)
        yield f'<path class="grid" d="M0,{y:.1f} H{WIDTH}"/>'
        yield f'<text x="-8" y="{y + 4:.1f}" text-anchor="end">{10.0**power:g}</text>'
    for step in (0, scale.steps // 2, scale.steps):
        yield f'<text x="{scale.x(step):.1f}" y="{HEIGHT + 20}" text-anchor="middle">{step:,}</text>'
    yield f'<text x="{WIDTH / 2}" y="{HEIGHT + 40}" text-anchor="middle">steps</text>'


def _line(scale: _Scale, steps: Sequence[Step], colour: str) -> str:
    places = _places(steps, scale.steps)
    points = " ".join(f"{scale.x(step):.1f},{scale.y(loss):.1f}" for step, loss in places)
    return f'<polyline class="loss" stroke="{colour}" points="{points}"/>'


def _places(steps: Sequence[Step], of: int) -> list[tuple[float, float]]:
    """Steps and losses of a line that is a part of so many steps."""
    each = math.ceil(of / POINTS)
    groups = [steps[first : first + each] for first in range(0, len(steps), each)]
    return [(mean(step.step for step in group), mean(step.loss for step in group)) for group in groups]


def _kill(scale: _Scale, last: int, first: int) -> Iterator[str]:
    yield f'<path class="kill" d="M{scale.x(last):.1f},-6 V{HEIGHT}"/>'
    said = f"killed after step {last:,}, goes on from step {first:,}"
    yield f'<text x="{scale.x(last):.1f}" y="-12" text-anchor="middle">{said}</text>'
