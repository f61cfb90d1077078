"""Names of the files of a dataset. The first three are img2dataset's, so that whatever reads its folders reads ours.

    00000.tar                     a shard: the members of its samples
    00000.parquet                 its metadata: one row for every input row, in input order
    00000_stats.json              its counts; written last, the commit mark of creation
    00000.caption.parquet         a sidecar: one row for every key of the tar, in tar order
    _tarloom/plan.json            what was planned; _tarloom/plan-7.json: what a later run added, from shard 7
    _tarloom/duplicates.parquet   the rows whose URL a row before them has, where these were looked for
    _tarloom/index/00000.parquet  where every member lies in its tar
    _tarloom/parts/00000.caption/ what a stage has answered so far of a shard that it is not through with
    _tarloom/rows/00000.parquet   the rows that a shard is to be generated from, until it is
    _tarloom/catalog.parquet      what all indexes say in brief, so that opening need not look at each

Creation can also put a shard's pictures into a folder of files, 00000/KEY.jpg, or into its parquet, or nowhere
(img2dataset's output_format). Readers want tars.

A shard is called by its tar's name without ".tar", relative to the dataset's folder: "00000", or "train/part-7" in
a foreign folder. A foreign tar may be compressed: ".tar.gz", ".tar.zst" and others, below. Files and folders whose
names begin with "_" or "." are never shards.
"""

import re
from collections.abc import Collection, Container, Iterable
from typing import Final, Literal

from tarloom.errors import UsageError

TAR_SUFFIX = ".tar"
Compression = Literal["gzip", "zstd", "bz2", "xz"]
COMPRESSIONS: Final[dict[str, Compression]] = {
    ".tar.gz": "gzip",
    ".tgz": "gzip",
    ".tar.zst": "zstd",
    ".tar.bz2": "bz2",
    ".tbz2": "bz2",
    ".tar.xz": "xz",
    ".txz": "xz",
}
TAR_SUFFIXES = (TAR_SUFFIX, *COMPRESSIONS)
PRIVATE = "_tarloom"
PLAN = f"{PRIVATE}/plan.json"
ROWS = f"{PRIVATE}/rows"
CATALOG = f"{PRIVATE}/catalog.parquet"
DUPLICATES = f"{PRIVATE}/duplicates.parquet"
ABSENT_PLACES = f"{PRIVATE}/absent_places.json"
DUPLICATES_SOURCE = "tarloom.source"
"""In the footer of that: what they were looked for in."""
IMAGE_MEMBERS = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "avif", "ppm")
"""Extensions that hold a picture. Of a sample with several, the first in this order is its picture."""

NAMES_OF_READERS = frozenset({"__key__", "__url__", "__error__", "__shard__"})
"""What readers put beside a sample's members and columns: no column can be called so."""


def further_plan_name(first_shard: int) -> str:
    """The plan of a run that extended the dataset, its shards beginning at this number."""
    return f"{PRIVATE}/plan-{first_shard}.json"


def is_plan(name: str) -> bool:
    return re.fullmatch(rf"{PRIVATE}/plan(-\d+)?\.json", name) is not None


def numbered_shard(number: int, digits: int = 5) -> str:
    """The name of a created shard: its number, zero-padded (img2dataset's oom_shard_count)."""
    return f"{number:0{digits}d}"


def planned_among(shards: Iterable[str], *, first: int, count: int, digits: int) -> int:
    """How many of these are among `count` created shards from number `first`. A plan that somebody else wrote may be
    of more than can be counted one by one, or of names that fill the memory."""
    numbers = [int(shard) for shard in shards if shard.isdecimal() and shard.isascii() and _has_digits(shard, digits)]
    return sum(first <= number < first + count for number in numbers)


def _has_digits(shard: str, digits: int) -> bool:
    """Whether a number is written as numbered_shard does."""
    return len(shard) == max(digits, len(shard.lstrip("0")), 1)


def tar_name(shard: str) -> str:
    return f"{shard}{TAR_SUFFIX}"


def metadata_name(shard: str) -> str:
    return f"{shard}.parquet"


def stats_name(shard: str) -> str:
    return f"{shard}_stats.json"


def index_name(shard: str) -> str:
    return f"{PRIVATE}/index/{shard}.parquet"


def rows_name(shard: str) -> str:
    return f"{ROWS}/{shard}.parquet"


def sidecar_name(shard: str, stage: str) -> str:
    return f"{shard}.{stage}.parquet"


def files_of_done(shard: str, output_format: str) -> frozenset[str]:
    """The files that must be there for a shard to be done; its stats are written last."""
    first = {"webdataset": (tar_name, metadata_name), "files": (metadata_name,), "parquet": (metadata_name,)}
    return frozenset(name(shard) for name in (*first.get(output_format, ()), stats_name))


def is_shard_file(name: str) -> bool:
    """Whether a relative file name is a shard's tar, compressed or not."""
    return name.endswith(TAR_SUFFIXES) and not any(part.startswith(("_", ".")) for part in name.split("/"))


def shard_of(tar: str) -> str:
    """The shard whose tar this is."""
    return next((tar.removesuffix(suffix) for suffix in TAR_SUFFIXES if tar.endswith(suffix)), tar)


def is_utf8(name: str) -> bool:
    """Whether it was UTF-8, and can stand in a table: names that were not hold surrogates."""
    return name.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in name)


def find_tars(names: Iterable[str], where: str) -> dict[str, str]:
    """The tars among a dataset's file names, by shard.

    Raises UsageError where two are of one shard, and for a name that no table can hold.
    """
    found: dict[str, str] = {}
    for name in filter(is_shard_file, names):
        if not is_utf8(name):
            raise UsageError(f"{where}: the name of the shard {shard_of(name)!r} is not UTF-8; rename its files")
        other = found.setdefault(shard_of(name), name)
        if other != name:
            both = " and ".join(sorted((other, name)))
            raise UsageError(f"{where}: {both} would both be shard {shard_of(name)}; rename or remove one of them")
    return found


def tar_among(shard: str, names: Container[str]) -> str | None:
    """What a shard's tar is called, if it is among these file names."""
    return next((f"{shard}{suffix}" for suffix in TAR_SUFFIXES if f"{shard}{suffix}" in names), None)


def compression_of(tar: str) -> Compression | None:
    """How a tar of this name is compressed, None where it is not."""
    return next((kind for suffix, kind in COMPRESSIONS.items() if tar.endswith(suffix)), None)


def finished_shards(names: Iterable[str]) -> list[str]:
    """The numbered shards that are finished, as their stats among these files say, whatever else is left of them."""
    suffix = stats_name("")
    marked = sorted(name.removesuffix(suffix) for name in names if name.endswith(suffix))
    return [shard for shard in marked if shard.isdecimal()]


def finished_without_tar(names: Collection[str]) -> list[str]:
    """Of the finished shards, those that have no tar."""
    return [shard for shard in finished_shards(names) if tar_among(shard, names) is None]


def describe_lack(names: Collection[str], tar: str | None = None) -> str:
    """Why a folder that holds these files, but no tar, or not the one that is named, is no dataset; and what to do."""
    if tar is not None:
        pattern = any(letter in tar for letter in "*?[{")
        do = "patterns are not expanded; give the folder: all of its shards are read" if pattern else "check the path"
        return f"no shard (a finished .tar file) has this name; {do}"
    lost = [shard for shard in finished_without_tar(names) if index_name(shard) in names]
    if lost:  # pictures in other forms have no index
        return f"the tars of all {len(lost)} finished shards are gone; run their creation again, or bring them back"
    if any(name.endswith(stats_name("")) for name in names):
        return (
            "its shards are no tars; read their files or parquet as they are, or create with output_format webdataset"
        )
    return "no shard (a finished .tar file) is here; check the path, or create shards first"
