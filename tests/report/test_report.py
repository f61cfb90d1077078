"""The report of a dataset: complete in itself, safe against what strangers wrote, right in its numbers."""

import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import tarloom
from tarloom.errors import UsageError
from tarloom.format.storage import open_storage
from tarloom.process.keep.agreement import agreement
from tarloom.report.build import build_report
from tarloom.report.config import ReportConfig
from tarloom.report.facts import seconds_of
from tarloom.report.nearest import nearest, vectors_at
from tarloom.report.pictures import Gallery
from tarloom.report.sheet import CELL, DIFFERS
from tests.report.conftest import HOSTILE, add_sidecar, vectors_of
from tests.report.test_markup import Seen


def draw(path: Path, **options) -> tuple[str, Seen]:
    """The page of a dataset, and what a browser would make of it."""
    summary = build_report(ReportConfig(path=str(path), output=str(path.parent / "out"), **options))
    page = Path(summary.report).read_text()
    return page, Seen(page)


def test_the_page_loads_nothing_and_runs_nothing(dataset):
    page, seen = draw(dataset)
    assert not {"script", "link", "iframe", "object", "form", "base"} & set(seen.elements)
    assert not [name for _, name, _ in seen.attributes if name.startswith("on")]
    sources = [value for _, name, value in seen.attributes if name == "src"]
    assert len(sources) > 9
    assert all(value.startswith("data:image/jpeg;base64,") for value in sources)
    assert {value[0] for _, name, value in seen.attributes if name == "href"} == {"#"}
    assert "url(" not in page
    assert "@import" not in page
    assert ("meta", "http-equiv", "Content-Security-Policy") in seen.attributes


def test_hostile_captions_are_shown_as_text(dataset):
    _, seen = draw(dataset)
    assert HOSTILE[:33] in seen.text
    assert HOSTILE[:33].upper() in seen.text
    assert "\u202e" not in seen.text


def test_every_number_is_right(dataset):
    page, seen = draw(dataset)
    tiles = dict(re.findall(r'class="value">([^<]+)</div><div class="name">([^<]+)', page))
    assert tiles["10"] == "input rows"
    assert {"input rows", "samples in shards", "failed rows", "shards"} <= set(tiles.values())
    assert "6 of 8 captions equal the original (75.0 %)" in seen.text
    assert "Where the captions differ" in seen.text
    assert "3 failed, each with a named error" in seen.text
    for error in ("not_an_image", "not_decodable"):
        assert error in seen.text
    assert "Everything agrees." in seen.text


SOME = "caption.text = txt"


def test_agreement_with_a_condition_is_told_in_all_and_by_segment(dataset):
    page, seen = draw(dataset, agree_if=SOME, agree_by="split_part(caption, ' ', 2)")
    opened = tarloom.open(dataset)
    found = agreement(opened, SOME, by="split_part(caption, ' ', 2)")
    assert (found.total.agree, found.total.differ, found.total.unknown) == (6, 2, 1)
    assert "6 of 9 samples agree (66.7 %), of 1 it is not known, that is: caption.text = txt." in seen.text
    assert "captions equal the original" not in seen.text
    for name, part in found.segments.items():
        assert name[:10] in seen.text
        assert f"{part.agree} of {part.samples}" in seen.text
    assert page.count("✓ agrees") == 6
    assert page.count(">differs<") == 2 * 3  # among all pictures, and among those that do not agree


def test_the_summary_says_how_many_agree(dataset):
    for options, counts in (({}, (6, 8)), ({"agree_if": SOME}, (6, 8)), ({"captions": "none.text"}, (None, None))):
        config = ReportConfig(
            path=str(dataset), output=str(dataset.parent / "out"), pictures=1, verify=False, **options
        )
        summary = build_report(config)
        assert (summary.agreeing, summary.compared) == counts


def test_any_condition_may_be_what_agreement_is(dataset):
    _, seen = draw(dataset, agree_if="width >= 64", captions="none.text", pictures=1, verify=False)
    assert "9 of 9 samples agree (100 %)" in seen.text


def test_the_contact_sheet_marks_the_pictures_that_do_not_agree(dataset):
    def orange() -> int:
        with Image.open(dataset.parent / "out" / "contact_sheet.png") as sheet:
            return int((np.asarray(sheet) == DIFFERS).all(axis=2).sum())

    draw(dataset, agree_if="width >= 64", pictures=1, verify=False)
    assert orange() == 0
    draw(dataset, agree_if=SOME, pictures=1, verify=False)
    assert orange() > 3 * (4 * 4 * CELL - 64) // 2, "the frames of two or three pictures"


def test_two_reports_of_one_dataset_are_equal(dataset):
    first, _ = draw(dataset)
    sheet = (dataset.parent / "out" / "contact_sheet.png").read_bytes()
    second, _ = draw(dataset)
    assert first == second
    assert sheet == (dataset.parent / "out" / "contact_sheet.png").read_bytes()


def test_no_more_pictures_are_shown_than_asked_for(dataset):
    page, _ = draw(dataset, pictures=3, captions="none.text", embeddings="none.embedding")
    assert page.count("<figure>") == 3


def test_the_contact_sheet_shows_the_pictures_large(dataset):
    draw(dataset)
    with Image.open(dataset.parent / "out" / "contact_sheet.png") as sheet:
        assert sheet.mode == "RGB"
        assert sheet.width > 1500
        seen = np.asarray(sheet)
    blue = (abs(seen.astype(int) - (41, 78, 220)) < 12).all(axis=2)
    assert blue.sum() > 20_000, "the first scene's blue ground"


def test_without_metadata_and_sidecars_the_sections_say_so(foreign):
    page, seen = draw(foreign)
    assert "No model has captioned them" in seen.text
    assert "there is no readable clip.embedding" in seen.text
    assert "The dataset has no metadata" in seen.text
    assert "No times are known" in seen.text
    assert "a yellow triangle above a green triangle on a blue background" in seen.text
    assert "not decodable" in seen.text
    assert page.count("<figure>") == 5


def test_the_report_lies_beside_the_shards_unless_told_otherwise(foreign):
    summary = build_report(ReportConfig(path=str(foreign), verify=False))
    assert Path(summary.report) == foreign / "report.html"
    assert summary.findings is None
    assert "Not asked for" in Path(summary.report).read_text()


def test_one_tar_has_a_report_too_beside_it(foreign):
    tar = next(foreign.rglob("*.tar"))
    summary = build_report(ReportConfig(path=str(tar)))
    assert Path(summary.report) == tar.parent / "report.html"
    assert summary.findings == 0


def test_a_stale_sidecar_is_left_out_and_named(dataset):
    with open(dataset / "00001.tar", "r+b") as tar:
        tar.seek(600)
        tar.write(b"!")
    (dataset / "_tarloom" / "index" / "00001.parquet").unlink()
    (dataset / "00001_stats.json").write_text((dataset / "00001_stats.json").read_text().replace("sha256:", "sha256:0"))
    _, seen = draw(dataset)
    assert "caption.text is left out" in seen.text
    assert "clip.embedding is left out" in seen.text
    assert "00001.caption.parquet" in seen.text


def test_damage_is_the_first_thing_one_sees(dataset):
    tar = dataset / "00000.tar"
    data = bytearray(tar.read_bytes())
    data[2000] ^= 1
    tar.write_bytes(data)
    page, seen = draw(dataset)
    assert 'class="verdict bad"' in page
    assert "found. See Verification." in seen.text
    assert "00000.tar" in seen.text


def test_a_metadata_file_that_is_none_is_named_and_the_rest_is_drawn(dataset):
    (dataset / "00001.parquet").write_bytes(b"PAR1 nonsense PAR1")
    page, seen = draw(dataset, captions="none.text", embeddings="none.embedding")
    assert "00001.parquet" in seen.text
    assert 'class="verdict bad"' in page


def test_a_sidecar_that_is_none_is_named_and_the_others_are_drawn(dataset):
    (dataset / "00000.extra.parquet").write_bytes(b"<html>")
    _, seen = draw(dataset)
    assert "00000.extra.parquet" in seen.text
    assert "captions equal the original" in seen.text


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        ("00000", "url", 7),
        ("00000", "status", 7),
        ("00000", "status", ["success"]),
        ("00000", "error_message", b"\xff"),
        ("00000", "error", "<b>" * 1000),
        ("00000.caption", "text", ["a", "list"]),
        ("00000.caption", "status", 7),
        ("00000.clip", "embedding", "text"),
    ],
)
def test_whatever_a_column_holds_a_page_is_made(dataset, table, column, value):
    path = dataset / f"{table}.parquet"
    found = pq.ParquetFile(path).read()
    place = found.column_names.index(column)
    pq.write_table(found.set_column(place, column, pa.array([value] * found.num_rows)), path)
    page, _ = draw(dataset)
    assert "<b><b>" not in page
    assert len(page) < 1_000_000


def test_rates_come_from_the_runs_given(dataset, tmp_path):
    runs = [
        {"name": "a <run>", "rows": 100, "seconds": 2},
        {"name": "none", "rows": 0, "seconds": 0, "whole_seconds": 7},
    ]
    (tmp_path / "runs.json").write_text(json.dumps(runs))
    _, seen = draw(dataset, runs=str(tmp_path / "runs.json"))
    assert "a <run>" in seen.text
    assert "50 rows/s" in seen.text
    assert "7.0 s with its start" in seen.text


def test_while_creation_was_stopped_no_time_counts():
    assert seconds_of([(105, 107), (0, 10), (5, 12), (6, 7), (100, 110)]) == 12 + 10
    assert seconds_of([]) == 0


def test_nearest_finds_what_comparing_all_with_all_finds(dataset):
    every = np.concatenate([np.array(rows.drop_null().to_pylist(), np.float32) for rows in _all_vectors()])
    opened = tarloom.open(dataset)
    spots, vectors = vectors_at(opened, "clip.embedding", _spots(opened))
    assert np.array_equal(vectors, every)
    for query, matches in zip(every, nearest(opened, "clip.embedding", every, count=4), strict=True):
        scores = every @ query
        assert [spots.index(match.spot) for match in matches] == np.argsort(-scores, kind="stable")[:4].tolist()
        assert [match.score for match in matches] == pytest.approx(sorted(scores, reverse=True)[:4], abs=1e-5)


def test_without_a_model_pictures_are_the_queries_and_never_find_themselves(dataset):
    page, _ = draw(dataset, neighbours=3)
    rows = re.findall(r'<div class="query"><h3>.*?class="text">(\w+)</span></h3>(.*?)</div></div>', page)
    queries = re.findall(r'class="query"', page)
    assert len(queries) == 4
    assert all(f">{key}<" not in found for key, found in rows)


def test_a_title_may_have_line_breaks(dataset):
    assert draw(dataset, title="one\ntwo")


def test_texts_that_are_not_utf_8_are_shown_with_replacements(dataset):
    bad = b"a \xff star"
    for shard in ("00000", "00001"):
        rows = pq.read_table(dataset / f"{shard}.parquet")
        rows = rows.drop_columns([name for name in ("caption", "url") if name in rows.column_names])
        for name in ("caption", "url"):
            rows = rows.append_column(name, pa.array([bad] * rows.num_rows).view(pa.string()))
        pq.write_table(rows, dataset / f"{shard}.parquet")
    page, seen = draw(dataset)
    assert seen.text.count("a \N{REPLACEMENT CHARACTER} star") > 1
    assert "not_an_image" in page


def made_by(dataset: Path, fingerprint: dict[str, str]) -> None:
    """Have the vectors say so."""
    for path in dataset.glob("*.clip.parquet"):
        table = pq.read_table(path)
        told = {**table.schema.metadata, b"tarloom.fingerprint": json.dumps(fingerprint).encode()}
        pq.write_table(table.replace_schema_metadata(told), path)


def test_vectors_of_another_size_than_the_models_are_refused(dataset):
    pytest.importorskip("transformers")
    made_by(dataset, {})
    with pytest.raises(UsageError, match=r"makes vectors of 96 numbers, clip\.embedding has 8"):
        draw(dataset, clip_model="source_data/models/clip", queries=("a star",))


def test_texts_are_not_compared_with_another_models_vectors(dataset):
    made_by(dataset, {"model": "other@sha256:1"})
    _, seen = draw(dataset, clip_model="source_data/models/clip", queries=("a star",))
    problem = "clip.embedding is left out: model source_data/models/clip: is clip@sha256:"
    assert problem in seen.text
    assert "but the vectors were made with other@sha256:1" in seen.text


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"pictures": 0}, "pictures must be between 1 and 1000"),
        ({"neighbours": 5000}, "neighbours must be between 1 and 1000"),
        ({"failures": -1}, "failures must be at least 0"),
        ({"queries": ("a star",)}, "give --clip-model"),
        ({"runs": "/nowhere/runs.json"}, "/nowhere/runs.json: not a JSON list of runs"),
        ({"agree_if": "wdith > 3"}, "no column 'wdith'"),
        ({"agree_if": "width"}, "neither true nor false"),
        ({"agree_by": "width"}, "say what agreement is"),
        ({"agree_if": "width > 3", "agree_by": "wdith"}, "wdith"),
    ],
)
def test_a_bad_option_is_named_and_nothing_is_written(dataset, options, complaint):
    with pytest.raises(UsageError, match=complaint):
        draw(dataset, **options)
    assert not (dataset.parent / "out").exists()


def test_a_sidecar_of_another_shape_is_no_embedding(dataset):
    storage = open_storage(dataset)
    for shard, rows in (("00000", 6), ("00001", 3)):
        add_sidecar(storage, shard, "words", {"embedding": pa.array(["x"] * rows)})
    _, seen = draw(dataset, embeddings="words.embedding")
    assert "there is no readable words.embedding" in seen.text


def _all_vectors():
    return [vectors_of("00000", 6), vectors_of("00001", 3)]


def _spots(opened):
    return Gallery(opened, captions=None, size=8).spread(100)
