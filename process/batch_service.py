"""Embed a whole input into one parquet file, as a job: shards or a list of URLs, local or in an object store.

python process/batch_service.py --model_directory source_data/models/clip --input_dir shards --output_dir embedded
"""

import sys

from tarloom.cli import run

if __name__ == "__main__":
    sys.exit(run("batch"))
