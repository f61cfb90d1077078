"""Pack a folder of pictures or a URL list into tar shards, on Ray: a shard is a task, workers are actors.

python create/create_with_ray.py --source urls.csv --output shards --num-workers 4
"""

import sys

from tarloom.cli import run

if __name__ == "__main__":
    sys.exit(run("create", engine="ray", num_workers=2))
