"""Pack a folder of pictures or a URL list into tar shards, on Spark, through spark-submit or plain python.

spark-submit create/create_with_spark.py --source urls.csv --output shards --num-workers 4
"""

import sys

from tarloom.cli import run

if __name__ == "__main__":
    sys.exit(run("create", engine="spark", num_workers=2))
