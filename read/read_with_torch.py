"""Read shards with a torch DataLoader: the simplest correct feed.

python read/read_with_torch.py --path shards --num-workers 2 --digest
"""

import sys

from tarloom.cli import run

if __name__ == "__main__":
    sys.exit(run("read", reader="torch"))
