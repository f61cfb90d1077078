"""Read shards with Spark, through spark-submit or plain python.

spark-submit read/read_with_spark.py --path shards --digest
"""

import sys

from tarloom.cli import run

if __name__ == "__main__":
    sys.exit(run("read", reader="spark"))
