"""Read shards with Ray Data through tarloom's datasource, which splits inside tars and knows row counts.

python read/read_with_ray_data.py --path shards --num-workers 4 --digest
"""

import sys

from tarloom.cli import run

if __name__ == "__main__":
    sys.exit(run("read", reader="ray_data"))
