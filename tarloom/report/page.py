"""The page: its sections in order, each with what there is to see or with why there is nothing."""

from collections.abc import Sequence
from dataclasses import dataclass

import tarloom
from tarloom.format.verify.findings import Finding
from tarloom.report import sections as part
from tarloom.report.facts import CREATION, Facts, Rate
from tarloom.report.markup import Html, element, join, void
from tarloom.report.pictures import Shown
from tarloom.report.sections import Agreement, Query
from tarloom.report.style import STYLE

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
LISTED_FINDINGS = 100
CHECKED = (
    "Every byte of every tar was read: headers, members, the end of the archive, and where it is known the SHA-256.",
    "Indexes name the very members that lie in the tars.",
    "Metadata and stats count the same rows; the successes are the samples of the tars.",
    "Every sidecar has one row for each sample and was made for this version of its shard.",
)


@dataclass(frozen=True, kw_only=True)
class Contents:
    """All that the page shows."""

    title: str
    facts: Facts
    shown: Sequence[Shown]
    agreement: Agreement | None
    queries: Sequence[Query]
    rates: Sequence[Rate]
    findings: Sequence[Finding] | None
    """None where verification was not asked for."""
    captions: str
    embeddings: str


def draw_page(contents: Contents) -> str:
    """The whole page as one HTML document that loads nothing."""
    head = element(
        "head",
        void("meta", charset="utf-8"),
        void("meta", http_equiv="Content-Security-Policy", content=POLICY),
        void("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", contents.title),
        element("style", Html(STYLE)),
    )
    body = element("body", element("main", _header(contents), *_sections(contents), _footer()))
    return f'<!DOCTYPE html>\n<html lang="en">{head}{body}</html>\n'


def _header(contents: Contents) -> Html:
    names = ("pictures", "agreement", "nearest", "failures", "rates", "verification")
    links = (element("a", name.capitalize(), href=f"#{name}") for name in names)
    return element(
        "header",
        element("h1", contents.title),
        element("nav", *links),
        part.verdict(contents.facts, contents.findings),
        part.tiles(contents.facts, contents.agreement),
    )


def _sections(contents: Contents) -> tuple[Html, ...]:
    drawn = (_pictures, _agreement, _nearest, _failures, _rates, _verification)
    return tuple(draw(contents) for draw in drawn)


def _pictures(contents: Contents) -> Html:
    total, number = contents.facts.samples, len(contents.shown)
    which = (
        "All pictures" if number == total else f"{part.count(number)} of {part.count(total)} pictures, evenly spread"
    )
    if any(sample.model is not None for sample in contents.shown):
        lead = f"{which}, with the captions of {contents.captions}."
    else:
        lead = (
            f"{which}, with the captions they came with. No model has captioned them: there is no {contents.captions}."
        )
    return part.section("pictures", "Pictures and captions", lead, part.picture_grid(contents.shown))


def _agreement(contents: Contents) -> Html:
    title, found = "Agreement", contents.agreement
    if found is None:
        reason = f"Nothing to compare: no sample has a caption of its own and one of {contents.captions}."
        return part.section("agreement", title, "", part.empty(reason))
    lead: list[Html | str] = [f"Over the whole dataset, {found.words}"]
    lead += [", that is: ", element("code", found.rule)] if found.rule else []
    body = []
    if found.segments:
        body += [element("h3", "By ", element("code", found.by)), part.segment_bars(found.segments)]
    if found.differing:
        where = "Where samples do not agree" if found.rule else "Where the captions differ"
        body += [element("h3", where), part.picture_grid(found.differing)]
    return part.section("agreement", title, join(*lead, "."), *body)


def _nearest(contents: Contents) -> Html:
    title = "Nearest pictures"
    if not contents.queries:
        reason = (
            f"No embeddings to search in: there is no readable {contents.embeddings}. Make them with “tarloom embed”."
        )
        return part.section("nearest", title, "By embedding.", part.empty(reason))
    asked = "a picture of the dataset" if contents.queries[0].picture is not None else "a text"
    lead = f"For {asked}, the pictures whose {contents.embeddings} is nearest; the number is the cosine similarity."
    return part.section("nearest", title, lead, part.query_rows(contents.queries))


def _failures(contents: Contents) -> Html:
    facts = contents.facts
    title = "What failed, and why"
    if facts.creation is None and not facts.failures:
        return part.section("failures", title, "", part.empty("The dataset has no metadata that would say."))
    failed = sum(stage.errors.total() for stage in facts.stages.values())
    if not failed:
        return part.section("failures", title, "", part.empty("Nothing: every input row became a sample."))
    listed = "" if failed <= len(facts.failures) else f" The first {part.count(len(facts.failures))} are listed."
    lead = f"Every input row is accounted for: {part.count(failed)} failed, each with a named error.{listed}"
    stages = list(facts.stages.values())
    return part.section("failures", title, lead, part.failure_bars(stages), part.failure_table(facts.failures))


def _rates(contents: Contents) -> Html:
    title, lead = "Rates", "Rows a second of each stage, while it worked. The bars are logarithmic."
    stages = [stage for stage in contents.facts.stages.values() if stage.name != CREATION]
    table = part.stage_table(stages) if stages else None
    if not contents.rates:
        return part.section("rates", title, lead, join(part.empty("No times are known of this dataset."), table))
    return part.section("rates", title, lead, join(part.rate_bars(contents.rates), table))


def _verification(contents: Contents) -> Html:
    title = "Verification"
    problems = element("div", *(element("p", problem) for problem in contents.facts.problems), class_="panel")
    body = [problems] if contents.facts.problems else []
    if contents.findings is None:
        lead = "Not asked for. “tarloom verify” reads every byte and proves that all files agree."
    elif not contents.findings:
        shards, samples = part.count(contents.facts.shards), part.count(contents.facts.samples)
        lead = f"{shards} shards, {samples} samples: nothing is wrong."
        body.append(part.checks(CHECKED))
    else:
        lead = f"{part.count(len(contents.findings))} findings; the first {LISTED_FINDINGS} at most are listed."
        body.append(part.finding_table(contents.findings[:LISTED_FINDINGS]))
    return part.section("verification", title, lead, *body)


def _footer() -> Html:
    words = f"Made by tarloom {tarloom.__version__}. One file, complete in itself: nothing is loaded from anywhere."
    return element("footer", words)
