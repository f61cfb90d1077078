"""From a URL list to captioned pictures in one run: each shard is captioned while the next ones are downloaded.

python process/process_images.py --source urls.parquet --output results --max-images 1000000 --engine ray
"""

import sys

from tarloom.cli import run

if __name__ == "__main__":
    sys.exit(run("images"))
