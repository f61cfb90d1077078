"""Make the pictures that the tiny models learn from: python -m source_data.make_training_scenes --output scenes

00000000.png     a scene, of seeds from TRAINING_SEEDS upwards
00000000.txt     its caption
00000000.json    {"seed": ..., "patches": [...]}: what lies under each of its 8 x 8 patches, as indices in KINDS
"""

import argparse
import json
from pathlib import Path

from source_data.scenes import HELD_OUT_SEEDS, TRAINING_SEEDS, describe

PATCHES = 8
"""Of a picture's side, as the captioner cuts it."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder to write into")
    parser.add_argument("--start", type=int, default=TRAINING_SEEDS, help="first seed (default: %(default)s)")
    parser.add_argument("--scenes", type=int, default=24_000, help="how many (default: %(default)s)")
    options = parser.parse_args()
    if options.start + options.scenes > HELD_OUT_SEEDS:
        parser.error(f"seeds from {HELD_OUT_SEEDS} upwards are held out")
    options.output.mkdir(parents=True, exist_ok=True)
    for number in range(options.scenes):
        _write(options.output / f"{number:08d}", options.start + number)
    print(f"{options.scenes} scenes in {options.output}")


def _write(stem: Path, seed: int) -> None:
    scene = describe(seed)
    scene.draw().save(stem.with_suffix(".png"), compress_level=1)
    stem.with_suffix(".txt").write_text(scene.caption, encoding="utf-8")
    stem.with_suffix(".json").write_text(json.dumps({"seed": seed, "patches": scene.kinds(PATCHES)}))


if __name__ == "__main__":
    main()
