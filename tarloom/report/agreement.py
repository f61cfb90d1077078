"""How far the model's captions agree with what the samples came with, or were made from; and which ones do not.

Without a condition, two captions agree that have the same words; with one, the samples for which it is true.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from tarloom.errors import ShardError
from tarloom.process.keep.agreement import Share, agreement
from tarloom.read.dataset import Dataset
from tarloom.read.plan.picking import numbers_of
from tarloom.read.plan.pieces import WHOLE_SHARD
from tarloom.read.samples.batches import read_piece
from tarloom.report.config import ReportConfig
from tarloom.report.facts import Facts
from tarloom.report.pictures import Spot, original_column, say_the_same, text_in

DIFFERING = 24
"""How many pictures are shown that do not agree."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What agrees in the whole dataset."""

    total: Share
    differing: list[Spot]
    """The first samples that do not agree, or of which it is not known."""
    segments: Mapping[str, Share] = field(default_factory=dict)
    agreeing: Dataset | None = None
    """The samples that agree, where a condition says so."""


def compare(dataset: Dataset, config: ReportConfig, facts: Facts) -> Comparison | None:
    """Ask all samples; None where there is nothing to compare, or nothing that can be trusted.

    Raises UsageError for a condition that cannot work.
    """
    if not config.agree_if and config.captions not in dataset.columns:
        return None
    try:
        return _by_condition(dataset, config) if config.agree_if else _by_words(dataset, config.captions)
    except ShardError as error:
        facts.problems.append(f"{config.agree_if or config.captions} is left out: {error}")
        return None


def _by_condition(dataset: Dataset, config: ReportConfig) -> Comparison:
    found = agreement(dataset, config.agree_if, by=config.agree_by)
    agreeing, differing = dataset.where(config.agree_if), list[Spot]()
    for number, piece in enumerate(agreeing.select().pieces(WHOLE_SHARD)):
        others = np.setdiff1d(np.arange(piece.rows), numbers_of(piece))[: DIFFERING - len(differing)]
        differing += [Spot(piece=number, row=int(row)) for row in others]
        if len(differing) == DIFFERING:
            break
    return Comparison(total=found.total, differing=differing, segments=found.segments, agreeing=agreeing)


def _by_words(dataset: Dataset, captions: str) -> Comparison:
    """Read all of the captions."""
    original, counts, differing = original_column(dataset), {True: 0, False: 0, None: 0}, list[Spot]()
    for number, piece in enumerate(dataset.select(captions, *([original] if original else [])).pieces(WHOLE_SHARD)):
        samples = ((batch, place) for batch in read_piece(piece) for place in range(batch.num_rows))
        for row, (batch, place) in enumerate(samples):
            same = say_the_same(text_in(batch, original, place), text_in(batch, captions, place))
            counts[same] += 1
            if same is False and len(differing) < DIFFERING:
                differing.append(Spot(piece=number, row=row))
    total = Share(agree=counts[True], differ=counts[False], unknown=counts[None])
    # Where most captions differ, they are different in kind: then none is singled out.
    return Comparison(total=total, differing=differing if counts[True] > counts[False] else [])
