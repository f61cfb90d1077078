"""Caption the pictures of shards with vLLM; one sidecar beside each shard.

python process/caption_with_vllm.py --path shards --model source_data/models/captioner --engine ray
"""

import sys

from tarloom.cli import run

if __name__ == "__main__":
    sys.exit(run("caption"))
