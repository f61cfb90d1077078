"""Make shards from a table of prompts, on Ray Data: rows are joined, rewritten, painted and packed as they stream.

python create/generate_with_ray.py --prompts prompts.csv --template 'a {colour} {shape}' --paint.model M --output out
"""

import sys

from tarloom.cli import run

if __name__ == "__main__":
    sys.exit(run("generate", engine="ray-data"))
