"""How often captions and embeddings are right, on scenes held out from training: the whole street, measured.

    python -m benchmarks.caption_accuracy --seed 9000000 --scenes 200

Draws scenes with distinct captions, seeds from --seed upwards, packs them into shards, captions them with vLLM and
embeds them with CLIP. Exact: the caption is the scene's own, word for word. Recall@1: of all pictures, the one nearest
to a caption is its own. Exit code 1 below the thresholds.
"""

import argparse
import itertools
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import tarloom
from source_data.scenes import HELD_OUT_SEEDS, distinct_scenes
from tarloom.create.config import CreateConfig, ShardOptions
from tarloom.create.job import CreateJob
from tarloom.engines.local import LocalEngine
from tarloom.process.caption.stage import CaptionStage
from tarloom.process.config import ProcessConfig
from tarloom.process.embed.stage import EmbedStage, text_vectors
from tarloom.process.job import ProcessJob
from tarloom.process.stage import Stage

MODELS = Path(__file__).resolve().parents[1] / "source_data/models"
CAPTIONS_EXACT = 0.95
RECALL = 0.90


def main() -> int:
    """Measure, print a line for each figure, and return the exit code."""
    options = _parse()
    with tempfile.TemporaryDirectory(prefix="tarloom-accuracy-") as folder:
        shards = Path(folder, "shards")
        _pack(_draw(Path(folder, "pictures"), seed=options.seed, count=options.scenes), shards)
        _process(CaptionStage(model=options.captioner), shards)
        _process(EmbedStage(model=options.clip), shards)
        samples = list(tarloom.open(shards).select("txt", "caption.text", "clip.embedding"))
    truths = [sample["txt"].decode() for sample in samples]
    if len(truths) != options.scenes:
        sys.exit(f"{options.scenes} scenes were drawn, but {len(truths)} samples read")
    exact = np.mean([sample["caption.text"] == truth for sample, truth in zip(samples, truths, strict=True)])
    recall = _recall(text_vectors(options.clip, truths), np.stack([sample["clip.embedding"] for sample in samples]))
    print(f"{options.scenes} held-out scenes, distinct captions, seeds from {options.seed}")
    _print("captions by vLLM that are exact", float(exact), CAPTIONS_EXACT)
    _print("recall@1, text to picture, CLIP", recall, RECALL)
    _print_wrong(truths, [sample["caption.text"] for sample in samples])
    return 0 if exact >= CAPTIONS_EXACT and recall >= RECALL else 1


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=HELD_OUT_SEEDS, help="first seed (default: %(default)s)")
    parser.add_argument("--scenes", type=int, default=200, help="how many scenes (default: %(default)s)")
    parser.add_argument(
        "--captioner", default=str(MODELS / "captioner"), help="model folder (default: the shipped one)"
    )
    parser.add_argument("--clip", default=str(MODELS / "clip"), help="model folder (default: the shipped one)")
    return parser.parse_args()


def _draw(folder: Path, *, seed: int, count: int) -> Path:
    """Pictures with their captions beside them."""
    folder.mkdir()
    for number, scene in enumerate(itertools.islice(distinct_scenes(seed), count)):
        scene.draw().save(folder / f"{number:06d}.png")
        (folder / f"{number:06d}.txt").write_text(scene.caption, encoding="utf-8")
    return folder


def _pack(pictures: Path, shards: Path) -> None:
    config = CreateConfig(source=str(pictures), output=str(shards), sharding=ShardOptions(number_sample_per_shard=100))
    job = CreateJob(config, LocalEngine())
    job.prepare()
    for _ in job:
        pass


def _process(stage: Stage, shards: Path) -> None:
    job = ProcessJob(stage, ProcessConfig(path=str(shards)), LocalEngine())
    job.prepare()
    for report in job:
        print(f"{stage.name}: shard {report.shard}, {report.successes} of {report.rows} rows", file=sys.stderr)
    if failed := job.summary().failed_shards:
        sys.exit(f"{stage.name}: {failed}")


def _recall(texts: np.ndarray, pictures: np.ndarray) -> float:
    """Share of texts whose nearest picture is their own. Both of shape (n, dim), unit rows, in the same order."""
    nearest = (texts @ pictures.astype(np.float32).T).argmax(axis=1)
    return float((nearest == np.arange(len(texts))).mean())


def _print(what: str, share: float, wanted: float) -> None:
    print(f"{what:32}  {share:7.1%}   wanted at least {wanted:.0%}   {'ok' if share >= wanted else 'BELOW'}")


def _print_wrong(truths: Sequence[str], captions: Sequence[str | None]) -> None:
    for truth, caption in zip(truths, captions, strict=True):
        if caption != truth:
            print(f"  wrong: {caption!r} for {truth!r}")


if __name__ == "__main__":
    sys.exit(main())
