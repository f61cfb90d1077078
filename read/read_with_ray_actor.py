"""Read shards with Ray actors that stream batches under back-pressure.

python read/read_with_ray_actor.py --path shards --num-workers 4 --digest
"""

import sys

from tarloom.cli import run

if __name__ == "__main__":
    sys.exit(run("read", reader="ray_actor"))
