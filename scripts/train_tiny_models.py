"""Train the tiny models of source_data/models/ from tarloom shards through the training feed, killed in between.

    python scripts/train_tiny_models.py --output tiny            # an hour of CPU; --times 3: three times the steps
    python scripts/train_tiny_models.py --output tiny --short    # half a minute of CPU, to see that it works
    python scripts/train_tiny_models.py --output tiny --lessons autoencoder painter    # these; else the shipped models

Scenes are drawn and packed; the training kills itself (SIGKILL) in the middle of an epoch, and is started again from
the weights and the feed's state that it saved last. The steps that both processes did must be the same to the last bit:
that is checked, and the loss drawn in tiny/loss.svg. Each command is shown as one would type it.
"""

import argparse
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from quickstart_runner import ROOT, environment, executable
from tiny_models.logs import Log
from tiny_models.picture import draw
from tiny_models.sizes import FULL, SHORT, Size

MEASURES = {"caption_accuracy": ("captioner", "clip"), "generate_accuracy": ("rewriter", "painter")}
"""Benchmarks, and the models that each can be given."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder to make, for the models and all the rest")
    parser.add_argument("--short", action="store_true", help="few scenes, few steps: the loss falls, and no more")
    parser.add_argument("--times", type=int, default=1, help="so many times as many steps (default: %(default)s)")
    parser.add_argument(
        "--lessons", nargs="+", choices=list(FULL.steps), default=list(FULL.steps), help="(default: all)"
    )
    options = parser.parse_args()
    if options.times < 1:
        parser.error(f"--times must be at least 1, not {options.times}")
    if options.output.exists():
        parser.error(f"{options.output} is there already; remove it or choose another --output")
    size, output = (SHORT if options.short else FULL).times(options.times), options.output.resolve()
    lessons = [lesson for lesson in size.steps if lesson in options.lessons]
    if not _pack(size, output) or not _train_and_die_once(size, lessons, output):
        return 1
    return _sum_up(lessons, output)


def _pack(size: Size, output: Path) -> bool:
    scenes, shards = output / "scenes", output / "shards"
    draw_scenes = ("python", "-m", "source_data.make_training_scenes", "--output", scenes, "--scenes", size.scenes)
    create = ("python", "create/create_webdataset.py", "--source", scenes, "--output", shards, "--image-size", 64)
    cut = ("--number-sample-per-shard", size.scenes_per_shard)
    return _run(draw_scenes) == 0 and _run((*create, *cut)) == 0


def _train_and_die_once(size: Size, lessons: Sequence[str], output: Path) -> bool:
    steps = ("--steps", *(f"{lesson}={size.steps[lesson]}" for lesson in lessons))
    pace = ("--batch-size", size.batch_size, "--save-every", size.save_every)
    where = ("--shards", output / "shards", "--output", output, "--logs", output / "logs")
    train = ("python", "-m", "scripts.tiny_models.train", *where, *steps, *pace)
    died = _run((*train, "--die-at", size.dies_at(lessons[0]))) == -signal.SIGKILL
    return died and _run(train) == 0


def _sum_up(lessons: Sequence[str], output: Path) -> int:
    """Says what was learned, and whether the kill made a difference; the exit code."""
    logs = {name: Log.read(output / "logs" / name / "log.jsonl") for name in lessons}
    draw(logs, output / "loss.svg")
    for name, log in logs.items():
        print(f"{name:12} loss {log.begin:.3f} in the first steps, {log.end:.3f} in the last")
    repeated, other = logs[lessons[0]].repeated()
    print(f"{repeated} steps were done again after the kill, {other} of them with other samples or another loss")
    print(f"{output / 'loss.svg'}\nHow good they are, on scenes held out (only after the full training, they are):")
    for measure, models in MEASURES.items():
        given = [f"--{model} {output / model}" for model in models if (output / model).exists()]
        if given:
            print(f"  python -m benchmarks.{measure} {' '.join(given)}")
    return 0 if repeated and not other else 1


def _run(command: Sequence[object]) -> int:
    words = [str(word) for word in command]
    print(f"$ {shlex.join(words)}", flush=True)
    return subprocess.run(executable(words), cwd=ROOT, env=environment(), check=False).returncode


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
