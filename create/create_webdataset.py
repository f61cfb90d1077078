"""Pack a folder of pictures or a URL list into tar shards, in this process.

python create/create_webdataset.py --source urls.csv --output shards --caption-col caption
"""

import sys

from tarloom.cli import run

if __name__ == "__main__":
    sys.exit(run("create"))
