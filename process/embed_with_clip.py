"""Embed the pictures of shards with CLIP or SigLIP; one sidecar beside each shard.

python process/embed_with_clip.py --path shards --model source_data/models/clip --engine ray
"""

import sys

from tarloom.cli import run

if __name__ == "__main__":
    sys.exit(run("embed"))
