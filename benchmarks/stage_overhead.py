"""What the street costs beside the model: python -m benchmarks.stage_overhead

Each stage runs over shards of photo-like JPEGs, from tars to committed sidecars, beside the bare model on the same
pictures with as many threads or requests under way: AsyncLLM fed with ready pictures (the shipped captioner, and a
larger one with random weights); a loop that decodes and embeds, with the shape of ViT-B/32 and random weights. Models
are loaded and warm before the clock starts; sides run in turn, in fresh processes. And three stages over one decode,
beside the sum of their models' times and one decode.

Prints images a second of both, and the ratio. Exits with 1 where the street is slower than 90 % of the bare model, or
three stages cost more than 1.1 times what their models do.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks.processing import captioning, embedding, several
from benchmarks.reading.compare import Comparison, compare
from benchmarks.reading.data import make_dataset

OVERHEAD = 0.9
"""Of the bare model's images a second, at least."""
SEVERAL = 1 / 1.1
COMPARISONS = {
    "caption": Comparison(
        name="caption, in one process", wanted=OVERHEAD, ours=captioning.street, theirs=captioning.bare
    ),
    "caption-ray": Comparison(
        name="caption, on Ray", wanted=OVERHEAD, ours=captioning.street_on_ray, theirs=captioning.bare
    ),
    "larger": Comparison(
        name="caption, a larger model",
        wanted=OVERHEAD,
        ours=captioning.larger_street,
        theirs=captioning.larger_bare,
    ),
    "larger-ray": Comparison(
        name="caption, a larger model, Ray",
        wanted=OVERHEAD,
        ours=captioning.larger_street_on_ray,
        theirs=captioning.larger_bare,
    ),
    "embed": Comparison(name="embed, in one process", wanted=OVERHEAD, ours=embedding.street, theirs=embedding.bare),
    "embed-ray": Comparison(name="embed, on Ray", wanted=OVERHEAD, ours=embedding.street_on_ray, theirs=embedding.bare),
    "several": Comparison(
        name="clip, hash, quality; one decode", wanted=SEVERAL, ours=several.street, theirs=several.apart
    ),
}


def main() -> int:
    """Compare, print a line for each, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=COMPARISONS, action="append", help="what to measure (default: all)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each side (default: %(default)s)")
    parser.add_argument("--shards", type=int, default=3, help="the first warms up (default: %(default)s)")
    parser.add_argument("--samples", type=int, default=512, help="a shard (default: %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tarloom-benchmark-") as folder:
        shards = Path(folder, "shards")
        make_dataset(shards, shards=options.shards, samples=options.samples)
        reached = [
            compare(COMPARISONS[name], str(shards), rounds=options.rounds) for name in options.only or COMPARISONS
        ]
    return 0 if all(reached) else 1


if __name__ == "__main__":
    sys.exit(main())
