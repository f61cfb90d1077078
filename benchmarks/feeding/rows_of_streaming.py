"""The order in which MosaicML Streaming reads rows by default: rows_of_streaming FOLDER ROWS READ

Runs in Streaming's environment. Writes int64 to standard output.
"""

import itertools
import sys
from pathlib import Path

import numpy as np
from streaming import MDSWriter, StreamingDataset
from streaming.base.util import clean_stale_shared_memory

SHARD_ROWS = 1000


def main() -> None:
    folder, rows, read = Path(sys.argv[1], "mds"), int(sys.argv[2]), int(sys.argv[3])
    row_bytes = 8 + 4  # of an offset: so that shards have as many rows as the tars have samples
    with MDSWriter(out=str(folder), columns={"row": "int64"}, size_limit=SHARD_ROWS * row_bytes + 200) as out:
        for row in range(rows):
            out.write({"row": row})
    clean_stale_shared_memory()
    dataset = StreamingDataset(local=str(folder), shuffle=True, batch_size=256)
    found = [sample["row"] for sample in itertools.islice(dataset, read)]
    sys.stdout.buffer.write(np.array(found, np.int64).tobytes())


if __name__ == "__main__":
    main()
