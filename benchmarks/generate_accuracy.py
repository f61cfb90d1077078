"""How often made pictures show what their tables say: rows joined, rewritten by vLLM, painted, captioned by vLLM.

    python -m benchmarks.generate_accuracy

Runs the README's commands over source_data's tables. Rewritten exactly: the rewriter's prompt is what the row's columns
say, word for word. Painted as asked: the captioner's words for the picture are its prompt. Exit code 1 below the
thresholds.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tarloom
from source_data.scenes import Scene, Thing
from tarloom.process.keep.agreement import agreement

ROOT = Path(__file__).resolve().parents[1]
MODELS = ROOT / "source_data/models"
PICTURES, REWRITTEN, PAINTED = 200, 0.95, 0.85
AGREES = "caption.text = txt"
THINGS = "CASE WHEN neighbour IS NULL THEN 'one thing' ELSE 'two things' END"
TABLES = ("colour", "shape", "relation", "neighbour", "background")


def main() -> int:
    """Measure, print a line for each figure, and return the exit code."""
    options = _parse()
    with tempfile.TemporaryDirectory(prefix="tarloom-accuracy-") as folder:
        generate = ("create/generate_with_ray.py", "--config", "source_data/generate.yaml", "--output", folder)
        _run(*generate, f"--rewrite.model={options.rewriter}", f"--paint.model={options.painter}")
        _run("-m", "tarloom.cli", "caption", "--path", folder, "--model", options.captioner)
        made = tarloom.open(folder)
        samples = list(made.select("txt", *TABLES))
        painted = agreement(made, AGREES, by=THINGS)
    rewritten = sum(sample["txt"].decode() == _truth(sample) for sample in samples) / max(1, len(samples))
    _print("prompts rewritten exactly", rewritten, len(samples), REWRITTEN)
    _print("pictures painted as asked", painted.total.share, painted.total.samples, PAINTED)
    for things, share in painted.segments.items():
        print(f"  of {things:22}  {share.share:7.1%} of {share.samples}")
    return 0 if len(samples) >= PICTURES and rewritten >= REWRITTEN and painted.total.share >= PAINTED else 1


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for model in ("rewriter", "painter", "captioner"):
        parser.add_argument(f"--{model}", default=str(MODELS / model), help="model folder (default: the shipped one)")
    return parser.parse_args()


def _run(*words: str) -> None:
    started = time.monotonic()
    subprocess.run([sys.executable, *words], cwd=ROOT, check=True, stdout=sys.stderr)
    print(f"{words[0] if words[0] != '-m' else words[2]:32}  {time.monotonic() - started:5.0f} s")


def _truth(sample: Mapping[str, Any]) -> str:
    """The caption of what the tables say."""
    words = [f"{sample['colour']} {sample['shape']}", *filter(None, [sample["neighbour"]])]
    things = (Thing(colour=colour, shape=shape, x=0, y=0, radius=0) for colour, shape in map(str.split, words))
    scene = Scene(seed=0, things=tuple(things), relation=sample["relation"] or "", background=sample["background"])
    return scene.caption


def _print(what: str, share: float, count: int, wanted: float) -> None:
    print(f"{what:28}  {share:7.1%} of {count}   wanted at least {wanted:.0%}   {'ok' if share >= wanted else 'BELOW'}")


if __name__ == "__main__":
    sys.exit(main())
