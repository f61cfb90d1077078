"""The parts of the page, each a pure function from what was gathered to markup."""

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from PIL import Image

from tarloom.format.verify.findings import Finding
from tarloom.process.keep.agreement import Share
from tarloom.report.facts import CREATION, Facts, Failure, Rate, StageFacts
from tarloom.report.markup import Html, cut, element, join, text, void
from tarloom.report.pictures import Shown, data_uri, plain_words, say_the_same

_DIFFERS = element("span", "differs", class_="chip bad")


@dataclass(frozen=True, kw_only=True)
class Query:
    """A text (or the picture) that was searched for, and what was found, best first."""

    text: str
    found: Sequence[tuple[Shown, float]]
    picture: Image.Image | None = None


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How many samples agree."""

    total: Share
    rule: str = ""
    """When one does, in SQL; where the captions have the same words, if that is empty."""
    by: str = ""
    segments: Mapping[str, Share] = field(default_factory=dict)
    differing: Sequence[Shown] = ()
    """The first that do not agree."""

    @property
    def words(self) -> str:
        """It, in a sentence. Captions are compared where there are two; a condition is asked of every sample."""
        total, known = self.total, self.total.agree + self.total.differ
        if not self.rule:
            return f"{count(total.agree)} of {count(known)} captions equal the original ({share(total.agree, known)})"
        everything = (
            f"{count(total.agree)} of {count(total.samples)} samples agree ({share(total.agree, total.samples)})"
        )
        return everything + (f", of {count(total.unknown)} it is not known" if total.unknown else "")


def section(name: str, title: str, lead: Html | str, *body: Html) -> Html:
    return element("section", element("h2", title), element("p", lead, class_="lead"), *body, id=name)


def tiles(facts: Facts, agreement: Agreement | None) -> Html:
    """The numbers one asks for first."""
    creation = facts.creation
    found: list[tuple[str, str]] = []
    if creation is not None:
        found += [("input rows", count(creation.rows)), ("samples in shards", count(facts.samples))]
        found.append(("failed rows", count(creation.rows - creation.statuses["success"])))
    else:
        found.append(("samples in shards", count(facts.samples)))
    found += [("shards", count(facts.shards)), ("in tars", size(facts.tar_bytes))]
    for stage in facts.stages.values():
        if stage.name != CREATION:
            found.append((f"samples with {stage.name}", count(stage.statuses["success"])))
    if agreement is not None and agreement.total.agree:
        total = agreement.total
        known = total.samples if agreement.rule else total.agree + total.differ
        found.append(("samples agree" if agreement.rule else "captions equal the original", share(total.agree, known)))
    drawn = (_tile(value, name) for name, value in found)
    return element("div", *drawn, class_="tiles")


def verdict(facts: Facts, findings: Sequence[Finding] | None) -> Html | None:
    """One line: is all well?"""
    damage = [finding for finding in findings or () if finding.kind == "damage"]
    if damage or facts.problems:
        number = len(damage) or len(facts.problems)
        words = (
            element("b", f"{count(number)} {'problem' if number == 1 else 'problems'} found."),
            " See Verification.",
        )
        return element("div", element("span", "✕"), element("span", *words), class_="verdict bad")
    if findings is None:
        return None
    words = (
        element("b", "Everything agrees."),
        " Tars, metadata, indexes, counts and sidecars were read to the last byte.",
    )
    return element("div", element("span", "✓"), element("span", *words), class_="verdict good")


def picture_grid(shown: Sequence[Shown]) -> Html:
    return element("div", *(_figure(sample, _captions(sample)) for sample in shown), class_="pictures")


def segment_bars(segments: Mapping[str, Share]) -> Html:
    """What part of each segment agrees."""
    lines = (
        _bar(
            text(cut(name, 60)),
            found.share,
            join(element("b", share(found.agree, found.samples)), f" · {count(found.agree)} of {count(found.samples)}"),
        )
        for name, found in segments.items()
    )
    return element("div", element("div", *lines, class_="bars"), class_="panel")


def query_rows(queries: Sequence[Query]) -> Html:
    return join(*map(_query_row, queries))


def failure_bars(stages: Sequence[StageFacts]) -> Html:
    """Failed rows by named error, over all stages, the most frequent first."""
    errors = [(stage.name, name, rows) for stage in stages for name, rows in stage.errors.items()]
    errors.sort(key=lambda entry: (-entry[2], entry[1]))
    most = max((rows for _, _, rows in errors), default=1)
    lines = (
        _bar(element("code", cut(name, 60)), rows / most, element("b", count(rows)), bad=True)
        for _, name, rows in errors[:20]
    )
    return element("div", element("div", *lines, class_="bars"), class_="panel")


def failure_table(failures: Sequence[Failure]) -> Html:
    several = len({failure.stage for failure in failures}) > 1
    head = ["Row", *(["Stage"] if several else []), "Error", "Message", "URL"]
    rows = (_failure_row(failure, with_stage=several) for failure in failures)
    return _table(head, list(rows))


def rate_bars(rates: Sequence[Rate]) -> Html:
    """Bars of logarithmic length, from a third of the slowest to the fastest."""
    known = [rate.per_second for rate in rates if rate.per_second > 0] or [1.0]
    least, most = math.log(min(known) / 3), math.log(max(known))
    parts = ((math.log(rate.per_second) - least) / (most - least) if rate.per_second > 0 else 0 for rate in rates)
    lines = (_bar(text(rate.name), part, _rate_figure(rate)) for rate, part in zip(rates, parts, strict=True))
    return element("div", element("div", *lines, class_="bars"), class_="panel")


def stage_table(stages: Sequence[StageFacts]) -> Html:
    """What made the sidecars."""
    rows = []
    for stage in stages:
        facts = "; ".join(f"{name}: {value}" for name, value in stage.made_by.items())
        cells = (
            element("td", element("b", stage.name), class_="nowrap"),
            element("td", count(stage.rows), class_="number"),
            element("td", element("code", cut(facts)), class_="soft"),
        )
        rows.append(element("tr", *cells))
    return _table(["Sidecar", "Rows", "Made by"], rows)


def finding_table(findings: Sequence[Finding]) -> Html:
    rows = []
    for finding in findings:
        chip = element("span", finding.kind, class_="chip bad" if finding.kind == "damage" else "chip")
        cells = (
            element("td", chip, class_="nowrap"),
            element("td", element("code", finding.file)),
            element("td", cut(finding.problem)),
        )
        rows.append(element("tr", *cells))
    return _table(["", "File", "Problem"], rows)


def checks(sentences: Sequence[str]) -> Html:
    return element(
        "div", element("ul", *(element("li", words) for words in sentences), class_="checks"), class_="panel"
    )


def empty(words: str | Html) -> Html:
    return element("div", words, class_="empty")


def count(number: int) -> str:
    return f"{number:,}"


def share(part: int, whole: int) -> str:
    """A percentage; 100 % only where it is all."""
    if part == whole:
        return "100 %"
    return f"{min(100 * part / whole, 99.9):.1f} %"


def size(number: float) -> str:
    """Bytes for people: 1.5 MB."""
    units = ["B", "kB", "MB", "GB", "TB", "PB"]
    while number >= 1000 and len(units) > 1:
        number /= 1000
        del units[0]
    unit = units[0]
    return f"{number:.0f} {unit}" if unit == "B" or number >= 100 else f"{number:.1f} {unit}"


def _tile(value: str, name: str) -> Html:
    return element("div", element("div", value, class_="value"), element("div", name, class_="name"), class_="tile")


def _figure(sample: Shown, *caption: Html) -> Html:
    if sample.thumbnail is None:
        inside = element("span", "not decodable")
    else:
        words = cut(sample.model or sample.original or sample.key, 200)
        inside = void("img", src=data_uri(sample.thumbnail), alt=words, loading="lazy")
    return element("figure", element("div", inside, class_="frame"), element("figcaption", *caption))


def _captions(sample: Shown) -> Html:
    chip = None
    if sample.agrees is not None:
        chip = element("span", "✓ agrees", class_="chip good") if sample.agrees else _DIFFERS
    line = element("p", chip, " " if chip else None, element("span", sample.key, class_="key"))
    if sample.model is None or sample.original is None or say_the_same(sample.original, sample.model):
        words = next((words for words in (sample.model, sample.original) if words is not None), "(no caption)")
        return join(element("p", element("span", cut(words), class_="text")), line)
    original = element("span", cut(sample.original), class_="text soft")
    return join(
        element("p", element("span", _marked(cut(sample.model), sample.original), class_="text")),
        element("p", element("span", "original: ", class_="label"), original),
        line,
    )


def _marked(caption: str, original: str) -> Html:
    """The caption, with the words marked that the original does not have there."""
    words = caption.split()
    matcher = difflib.SequenceMatcher(None, plain_words(caption), plain_words(original), autojunk=False)
    parts: list[Html] = []
    for kind, first, last, _, _ in matcher.get_opcodes():
        piece = text(" ".join(words[first:last]))
        if piece:
            parts.append(piece if kind == "equal" else element("mark", piece))
    return Html(" ".join(parts))


def _query_row(query: Query) -> Html:
    if query.picture is not None:
        head = element(
            "h3", void("img", src=data_uri(query.picture), alt=""), element("span", query.text, class_="text")
        )
    else:
        head = element("h3", element("span", f"“{cut(query.text, 200)}”", class_="text"))
    figures = (_figure(sample, _match_caption(sample, score)) for sample, score in query.found)
    return element("div", head, element("div", *figures, class_="pictures"), class_="query")


def _match_caption(sample: Shown, score: float) -> Html:
    words = sample.model if sample.model is not None else sample.original
    line = element("p", element("span", f"{score:.3f}", class_="score"), " ", element("span", sample.key, class_="key"))
    return join(element("p", element("span", cut(words, 200), class_="text")) if words else None, line)


def _failure_row(failure: Failure, *, with_stage: bool) -> Html:
    message = failure.message.removeprefix(f"{failure.error}: ")
    cells = [
        element("td", element("span", failure.key, class_="key"), class_="nowrap"),
        element("td", failure.stage, class_="nowrap") if with_stage else None,
        element("td", element("span", cut(failure.error, 60), class_="chip bad"), class_="nowrap"),
        element("td", element("span", cut(message), class_="text")),
        element("td", element("span", cut(failure.url or "", 200), class_="text soft"), class_="url"),
    ]
    return element("tr", *cells)


def _table(head: Sequence[str], rows: Sequence[Html]) -> Html:
    names = (element("th", name, class_="number" if name == "Rows" else None) for name in head)
    table = element("table", element("thead", element("tr", *names)), element("tbody", *rows))
    return element("div", table, class_="wide")


def _bar(name: Html, part: float, figure: Html, *, bad: bool = False) -> Html:
    fill = element("div", class_="fill bad" if bad else "fill", style=f"width: {100 * part:.2f}%")
    return join(element("div", name), element("div", fill, class_="track"), element("div", figure, class_="figure"))


def _rate_figure(rate: Rate) -> Html:
    speed = f"{rate.per_second:,.0f}" if rate.per_second >= 10 else f"{rate.per_second:.1f}"
    whole = "" if rate.whole_seconds is None else f" · {rate.whole_seconds:,.1f} s with its start"
    return join(element("b", f"{speed} rows/s"), f" · {count(rate.rows)} in {rate.seconds:,.2f} s{whole}")
