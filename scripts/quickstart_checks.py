"""What must hold at the end of the quickstart. Each check yields a sentence for everything that does not."""

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

import tarloom

LEAST_RIGHT: Final = 0.95
"""Of the captions, by a model that has never seen these scenes."""
SIDECARS: Final = ("caption", "clip")

Facts = Mapping[str, Mapping[str, Any]]
"""What each step's program said at its end, by the step's name."""


def find_problems(*, urls: Path, shards: Path, facts: Facts, longest_shard: float) -> list[str]:
    """All that is not as it should be; an empty list is success.

    longest_shard: seconds that the deadlines of its rows allow the slowest shard to take.
    """
    return [
        *_rows_are_accounted_for(urls, shards),
        *_counts_agree(shards, facts),
        *_readers_agree(facts),
        *_captions_are_right(shards),
        *_deadlines_held(shards, longest_shard),
    ]


def _rows_are_accounted_for(urls: Path, shards: Path) -> Iterator[str]:
    with open(urls, newline="", encoding="utf-8") as file:
        wanted = list(csv.DictReader(file))
    found = _tables(shards, "[0-9]*[0-9].parquet").to_pylist()
    if len(found) != len(wanted):
        yield f"{len(wanted)} addresses were given, but the metadata has {len(found)} rows"
    for number, (want, row) in enumerate(zip(wanted, found, strict=False)):
        became = row["error"] or row["status"]
        if (want["url"], want["expected"]) != (row["url"], became):
            yield f"row {number}: {want['url']} should become {want['expected']}; it is {row['url']}: {became}"


def _counts_agree(shards: Path, facts: Facts) -> Iterator[str]:
    samples = len(tarloom.open(shards))
    counts = {"successes in the metadata": facts["create"]["successes"]}
    counts |= {name: said["rows"] for name, said in facts.items() if name.startswith("read: ")}
    counts |= {f"rows of {stage} sidecars": _tables(shards, f"*.{stage}.parquet").num_rows for stage in SIDECARS}
    counts |= {f"successes of {stage}": facts[stage]["successes"] for stage in ("caption", "embed")}
    for name, number in counts.items():
        if number != samples:
            yield f"{name}: {number}, but the shards hold {samples} samples"


def _readers_agree(facts: Facts) -> Iterator[str]:
    digests = {name: said["digest"] for name, said in facts.items() if name.startswith("read: ")}
    if len(set(digests.values())) != 1:
        yield f"the readers' digests differ: {digests}"


def _captions_are_right(shards: Path) -> Iterator[str]:
    samples = list(tarloom.open(shards).select("caption", "caption.text"))
    right = sum(sample["caption"] == sample["caption.text"] for sample in samples)
    if right < LEAST_RIGHT * len(samples):
        yield f"only {right} of {len(samples)} captions say what the pictures show"


def _deadlines_held(shards: Path, longest: float) -> Iterator[str]:
    for path in sorted(shards.glob("*_stats.json")):
        seconds = json.loads(path.read_text())["duration"]
        if seconds > longest:
            yield f"{path.name}: took {seconds:.1f} s, although its rows' deadlines end after {longest:.1f} s"


def _tables(shards: Path, pattern: str) -> pa.Table:
    return pa.concat_tables([pq.read_table(path, partitioning=None) for path in sorted(shards.glob(pattern))])
