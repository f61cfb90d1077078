"""Gather, draw, write: how a dataset becomes report.html and contact_sheet.png.

What is missing (metadata, sidecars, a model) or stale is said in its section; the rest of the page is made all the
same. Memory is bounded by the pictures shown: everything else is streamed, shard by shard.
"""

import io
from collections.abc import Sequence

import pyarrow as pa

from tarloom.errors import ShardError, UsageError
from tarloom.format.storage import Storage, open_storage
from tarloom.format.storage.writable import check_writable
from tarloom.format.verify.dataset import verify
from tarloom.format.verify.findings import Finding
from tarloom.read.dataset import Dataset, open_dataset
from tarloom.report.agreement import Comparison, compare
from tarloom.report.config import ReportConfig, ReportSummary
from tarloom.report.facts import CREATION, Facts, gather_facts, read_rates
from tarloom.report.nearest import Match, nearest, vectors_at
from tarloom.report.page import Contents, draw_page
from tarloom.report.pictures import Gallery, Shown, Spot
from tarloom.report.sections import Agreement, Query, count, size
from tarloom.report.sheet import COLUMNS, draw_sheet

PAGE, SHEET = "report.html", "contact_sheet.png"
THUMBNAIL = 256
"""Pixels of a thumbnail's longer side: sharp on screens of double density."""
SHEET_PICTURES = 6 * COLUMNS
OWN_QUERIES = 4
"""How many of the dataset's own rows are searched for where no text is given."""


def build_report(config: ReportConfig) -> ReportSummary:
    """Write report.html and contact_sheet.png.

    Raises UsageError for a bad option, where there is no dataset, or an output that cannot be written; ShardError where
    a tar cannot be read at all.
    """
    config.check()
    dataset = open_dataset(config.path)
    output = open_storage(config.output) if config.output is not None else dataset.catalog.storage
    check_writable(output)
    facts = gather_facts(dataset, failures=config.failures)
    rates = read_rates(config.runs, facts)
    comparison = compare(dataset, config, facts)
    captions = config.captions if comparison and config.captions in dataset.columns else None
    agreeing = comparison.agreeing if comparison else None
    gallery = Gallery(dataset, captions=captions, size=THUMBNAIL, agreeing=agreeing)
    contents = Contents(
        title=config.title or config.path,
        facts=facts,
        shown=[gallery.show(spot) for spot in gallery.spread(config.pictures)],
        agreement=_agreement(gallery, config, comparison),
        queries=_search(dataset, gallery, config, facts),
        rates=rates,
        findings=_findings(config.path) if config.verify else None,
        captions=config.captions,
        embeddings=config.embeddings,
    )
    return _write(output, contents, [gallery.show(spot) for spot in gallery.spread(SHEET_PICTURES)])


def _write(output: Storage, contents: Contents, sheet: Sequence[Shown]) -> ReportSummary:
    facts, total = contents.facts, contents.agreement.total if contents.agreement else None
    subtitle = (
        f"{count(len(sheet))} of {count(facts.samples)} samples, {count(facts.shards)} shards, {size(facts.tar_bytes)}"
    )
    if contents.agreement is not None and contents.agreement.total.agree:  # else they are different in kind
        subtitle += f"; {contents.agreement.words}"
    file = io.BytesIO()
    draw_sheet(sheet, title=contents.title, subtitle=subtitle).save(file, "PNG", optimize=True)
    output.write(SHEET, file.getvalue())
    output.write(PAGE, draw_page(contents).encode())
    return ReportSummary(
        report=output.describe(PAGE),
        contact_sheet=output.describe(SHEET),
        pictures=len(contents.shown),
        agreeing=total.agree if total else None,
        compared=total.agree + total.differ if total else None,
        failed_rows=facts.stages[CREATION].errors.total() if CREATION in facts.stages else 0,
        findings=None if contents.findings is None else len(contents.findings),
    )


def _findings(path: str) -> list[Finding]:
    return [finding for report in verify(path) for finding in report.findings]


def _agreement(gallery: Gallery, config: ReportConfig, comparison: Comparison | None) -> Agreement | None:
    """What is shown of it."""
    if comparison is None or comparison.total.unknown == comparison.total.samples:
        return None
    return Agreement(
        rule=config.agree_if,
        total=comparison.total,
        by=config.agree_by,
        segments=comparison.segments,
        differing=[gallery.show(spot) for spot in comparison.differing],
    )


def _search(dataset: Dataset, gallery: Gallery, config: ReportConfig, facts: Facts) -> list[Query]:
    """The nearest pictures of each query; none where there are no embeddings."""
    column = config.embeddings
    if column not in dataset.columns or not _holds_vectors(dataset, column):
        return []
    try:
        own = gallery.spread(OWN_QUERIES)
        if config.clip_model is not None:
            return _search_texts(dataset, gallery, config, facts, _texts(gallery, config, own))
        return _search_pictures(dataset, gallery, config, own)
    except ShardError as error:
        facts.problems.append(f"{column} is left out: {error}")
        return []


def _search_texts(
    dataset: Dataset, gallery: Gallery, config: ReportConfig, facts: Facts, texts: Sequence[str]
) -> list[Query]:
    from tarloom.process.embed.stage import revision_of, text_vectors

    assert config.clip_model is not None
    stage = facts.stages.get(config.embeddings.partition(".")[0])
    try:
        revision = revision_of(config.clip_model, stage.made_by.get("model") if stage else None)
    except UsageError as error:
        facts.problems.append(f"{config.embeddings} is left out: {error}")
        return []
    vectors = text_vectors(config.clip_model, texts, revision=revision)
    size = dataset.select(config.embeddings).schema.field(config.embeddings).type.list_size
    if vectors.shape[1] != size:
        made = f"{config.clip_model} makes vectors of {vectors.shape[1]} numbers, {config.embeddings} has {size}"
        raise UsageError(f"{made}; give the model that made the embeddings as --clip-model")
    rankings = nearest(dataset, config.embeddings, vectors, count=config.neighbours)
    return [Query(text=words, found=_shown(gallery, found)) for words, found in zip(texts, rankings, strict=True)]


def _search_pictures(dataset: Dataset, gallery: Gallery, config: ReportConfig, spots: Sequence[Spot]) -> list[Query]:
    """Pictures as queries: each finds itself first, which is left out."""
    there, vectors = vectors_at(dataset, config.embeddings, spots)
    rankings = nearest(dataset, config.embeddings, vectors, count=config.neighbours + 1)
    queries = []
    for spot, found in zip(there, rankings, strict=True):
        others = [match for match in found if match.spot != spot][: config.neighbours]
        sample = gallery.show(spot)
        queries.append(Query(text=sample.key, picture=sample.thumbnail, found=_shown(gallery, others)))
    return queries


def _texts(gallery: Gallery, config: ReportConfig, spots: Sequence[Spot]) -> list[str]:
    """The queries asked for, or captions of the dataset's own."""
    if config.queries:
        return list(config.queries)
    captions = (sample.original or sample.model for sample in map(gallery.show, spots))
    return list(dict.fromkeys(caption for caption in captions if caption))


def _shown(gallery: Gallery, matches: Sequence[Match]) -> list[tuple[Shown, float]]:
    return [(gallery.show(match.spot), match.score) for match in matches]


def _holds_vectors(dataset: Dataset, column: str) -> bool:
    kind = dataset.select(column).schema.field(column).type
    return pa.types.is_fixed_size_list(kind) and pa.types.is_floating(kind.value_type)
