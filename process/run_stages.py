"""Run several stages over shards, decoding each picture once for all; one sidecar of each beside each shard.

python process/run_stages.py --path shards --stages hash,quality,clip --clip.model source_data/models/clip --engine ray
"""

import sys

from tarloom.cli import run

if __name__ == "__main__":
    sys.exit(run("process"))
