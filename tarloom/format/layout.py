"""Names of the files of a dataset. The first three are img2dataset's, so that whatever reads its folders reads ours.

    00000.tar                     a shard: the members of its samples
    00000.parquet                 its metadata: one row for every input row, in input order
    00000_stats.json              its counts; written last, the commit mark of creation
    00000.caption.parquet         a sidecar: one row for every key of the tar, in tar order
    _tarloom/plan.json            what was planned
    _tarloom/index/00000.parquet  where every member lies in its tar

A shard is called by its tar's name without ".tar", relative to the dataset's folder: "00000", or "train/part-7" in
a foreign folder. Files and folders whose names begin with "_" or "." are never shards.
"""

TAR_SUFFIX = ".tar"
PRIVATE = "_tarloom"
PLAN = f"{PRIVATE}/plan.json"


def numbered_shard(number: int, digits: int = 5) -> str:
    """The name of a created shard: its number, zero-padded (img2dataset's oom_shard_count)."""
    return f"{number:0{digits}d}"


def tar_name(shard: str) -> str:
    return f"{shard}{TAR_SUFFIX}"


def metadata_name(shard: str) -> str:
    return f"{shard}.parquet"


def stats_name(shard: str) -> str:
    return f"{shard}_stats.json"


def index_name(shard: str) -> str:
    return f"{PRIVATE}/index/{shard}.parquet"


def sidecar_name(shard: str, stage: str) -> str:
    return f"{shard}.{stage}.parquet"


def is_shard_file(name: str) -> bool:
    """Whether a relative file name is a shard's tar."""
    return name.endswith(TAR_SUFFIX) and not any(part.startswith(("_", ".")) for part in name.split("/"))


def shard_of(tar: str) -> str:
    """The shard whose tar this is."""
    return tar.removesuffix(TAR_SUFFIX)
