"""Read shards with webdataset itself: the simplest reader.

python read/read_webdataset.py --path shards --digest
"""

import sys

from tarloom.cli import run

if __name__ == "__main__":
    sys.exit(run("read", reader="webdataset"))
