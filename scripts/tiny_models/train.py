"""Train the models on shards, one lesson after the other; run again, it goes on where it was.

python -m scripts.tiny_models.train --shards shards --output models --logs logs --steps captioner=2400 clip=800
"""

import argparse
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging

import tarloom
from tarloom.errors import UsageError

from .captioner import Captioner
from .clip import Clip
from .painter import Autoencoder, Painter
from .rewriter import Rewriter
from .training import Lesson, Plan, Training

SHIPPED = Path(__file__).resolve().parents[2] / "source_data/models"

Found = Callable[[str], Path]
"""The folder of a trained model, by its name."""


@dataclass(frozen=True, kw_only=True)
class Course:
    """A lesson to be had."""

    model: str
    """The model, or the part of one, that it makes."""
    begin: Callable[[Path, Found], Lesson]
    """From the architecture's folder and trained models."""
    batches: int = 1
    """As a multiple of --batch-size."""


COURSES = {
    "captioner": Course(model="captioner", begin=lambda shape, found: Captioner(shape)),
    "clip": Course(model="clip", begin=lambda shape, found: Clip(shape, found("captioner")), batches=2),
    "autoencoder": Course(model="painter", begin=lambda shape, found: Autoencoder(shape)),
    "painter": Course(model="painter", begin=lambda shape, found: Painter(shape, found("painter/vae"), found("clip"))),
    "rewriter": Course(model="rewriter", begin=lambda shape, found: Rewriter(shape), batches=2),
}
"""Lessons in their order. CLIP learns from what does not belong together, and wants much of it at once."""


def main() -> None:
    """Models in --output, and in each lesson's folder below --logs what its training needs to go on."""
    options = _parse()
    torch.set_num_threads(options.threads)
    for said in (logging, diffusers_logging):
        said.set_verbosity_error()
        said.disable_progress_bar()
    for number, (name, steps) in enumerate(options.steps):
        _train(options, name, steps=steps, die_at=options.die_at if number == 0 else None)


def _train(options: argparse.Namespace, name: str, *, steps: int, die_at: int | None) -> None:
    def found(model: str) -> Path:
        made = options.output / model
        return made if any(made.glob("*.safetensors")) else SHIPPED / model

    torch.manual_seed(options.seed)
    course = COURSES[name]
    shape, size = SHIPPED / course.model, course.batches * options.batch_size
    lesson = course.begin(shape, found)
    try:
        feed = tarloom.open(options.shards).to_torch(
            size, seed=options.seed, columns=lesson.columns, decode=lesson.decode, drop_last=True
        )
    except UsageError as error:  # such as fewer scenes than a step
        sys.exit(f"{options.shards}: {error}")
    plan = Plan(folder=options.logs / name, steps=steps, save_every=options.save_every, die_at=die_at)
    Training(lesson, feed, plan).run()
    weights = shutil.ignore_patterns("*.safetensors")
    shutil.copytree(shape, options.output / course.model, dirs_exist_ok=True, ignore=weights)
    lesson.save(options.output / course.model)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", required=True, help="made from scenes of source_data/make_training_scenes.py")
    parser.add_argument("--output", type=Path, required=True, help="folder for the models")
    parser.add_argument("--logs", type=Path, required=True, help="folder for the logs and checkpoints")
    parser.add_argument(
        "--steps", type=_lesson, nargs="+", required=True, metavar="LESSON=STEPS", help=f"of {', '.join(COURSES)}"
    )
    parser.add_argument("--batch-size", type=int, default=32, help="of most; else twice this (default: %(default)s)")
    parser.add_argument("--save-every", type=int, default=100, help="steps (default: %(default)s)")
    parser.add_argument("--die-at", type=int, help="the first lesson's step after which this process kills itself")
    parser.add_argument("--seed", type=int, default=1, help="(default: %(default)s)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="(default: %(default)s)")
    return parser.parse_args()


def _lesson(given: str) -> tuple[str, int]:
    name, _, steps = given.partition("=")
    if name not in COURSES or not steps.isdecimal():
        raise argparse.ArgumentTypeError(f"{given!r} is no LESSON=STEPS; lessons are {', '.join(COURSES)}")
    return name, int(steps)


if __name__ == "__main__":
    main()
