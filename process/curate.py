"""Curate tables: metadata and sidecars filtered, joined, segmented and aggregated; into parquet or new shards.

python process/curate.py --path shards --where "width >= 128" --group-by class --aggregate "n=count(*)" --engine ray
"""

import sys

from tarloom.cli import run

if __name__ == "__main__":
    sys.exit(run("curate"))
