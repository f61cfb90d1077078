"""Train both models on shards, the captioner first; run again, it goes on where it was.

python -m scripts.tiny_models.train --shards shards --output models
"""

import argparse
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from transformers.utils import logging

import tarloom

from .captioner import Captioner
from .clip import Clip
from .training import Lesson, Plan, Training

ARCHITECTURES = Path(__file__).resolve().parents[2] / "source_data/models"


def main() -> None:
    """Models in --output, and in each model's folder below --logs what its training needs to go on."""
    options = _parse()
    torch.set_num_threads(options.threads)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    captioner = options.output / "captioner"
    size = options.batch_size
    _train(options, "captioner", Captioner, steps=options.captioner_steps, batch_size=size, die_at=options.die_at)
    _train(options, "clip", lambda folder: Clip(folder, captioner), steps=options.clip_steps, batch_size=2 * size)


def _train(
    options: argparse.Namespace,
    name: str,
    lesson_of: Callable[[Path], Lesson],
    *,
    steps: int,
    batch_size: int,
    die_at: int | None = None,
) -> None:
    torch.manual_seed(options.seed)
    lesson = lesson_of(ARCHITECTURES / name)
    feed = tarloom.open(options.shards).to_torch(
        batch_size, seed=options.seed, columns=lesson.columns, decode=lesson.decode, drop_last=True
    )
    if not len(feed):
        sys.exit(f"{options.shards}: fewer scenes than a step of {batch_size}; give a smaller --batch-size")
    plan = Plan(folder=options.logs / name, steps=steps, save_every=options.save_every, die_at=die_at)
    Training(lesson, feed, plan).run()
    shutil.copytree(
        ARCHITECTURES / name, options.output / name, dirs_exist_ok=True, ignore=shutil.ignore_patterns("model.*")
    )
    lesson.save(options.output / name)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", required=True, help="made from scenes of source_data/make_training_scenes.py")
    parser.add_argument("--output", type=Path, required=True, help="folder for the models")
    parser.add_argument("--logs", type=Path, required=True, help="folder for the logs and checkpoints")
    parser.add_argument("--captioner-steps", type=int, default=2400, help="(default: %(default)s)")
    parser.add_argument("--clip-steps", type=int, default=800, help="(default: %(default)s)")
    parser.add_argument(
        "--batch-size", type=int, default=32, help="of the captioner; the CLIP's is twice this (default: %(default)s)"
    )
    parser.add_argument("--save-every", type=int, default=100, help="steps (default: %(default)s)")
    parser.add_argument("--die-at", type=int, help="the captioner's step after which this process kills itself")
    parser.add_argument("--seed", type=int, default=1, help="(default: %(default)s)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="(default: %(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
