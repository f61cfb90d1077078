"""Read shards with Ray Data's own read_webdataset, with the options that make it right.

python read/read_with_ray_data_webdataset.py --path shards --digest
"""

import sys

from tarloom.cli import run

if __name__ == "__main__":
    sys.exit(run("read", reader="ray_data_webdataset"))
