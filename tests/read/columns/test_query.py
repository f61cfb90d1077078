"""SELECT over a dataset's columns: what names mean, what is read, and that nothing else can be done with it."""

import os
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import pyarrow as pa
import pytest

import tarloom
from tarloom.errors import CorruptShard, EngineError, JoinError, UsageError
from tarloom.read.columns import query
from tarloom.read.columns.query import Query
from tests.format.raw import some_samples, write_parquet, write_tar
from tests.read.sample_sets import packed_samples

KEYS = [key for key, _ in packed_samples(2)]


def ask(path, sql: str) -> list[tuple]:
    return [tuple(row.values()) for batch in Query(tarloom.open(path), sql).batches(7) for row in batch.to_pylist()]


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        ("SELECT count(*) FROM samples", [(76,)]),
        ("SELECT width, caption.text, count(*) FROM samples GROUP BY ALL", [(256, "hello", 76)]),
        ("SELECT s.width, s.caption.text FROM samples s LIMIT 1", [(256, "hello")]),
        ("SELECT min(__key__), max(samples.__key__) FROM samples", [(KEYS[0], KEYS[-1])]),
        ("SELECT count(*) FROM samples a JOIN samples b USING (__key__)", [(76,)]),
        ("SELECT count(*) FROM samples a NATURAL JOIN (SELECT width FROM samples LIMIT 1) b", [(76,)]),
        ("WITH t AS (SELECT width AS txt FROM samples) SELECT DISTINCT txt FROM t", [(256,)]),
        ("SELECT DISTINCT WIDTH FROM Samples", [(256,)]),
        ("SELECT sum(list_sum(clip.embedding)) FROM samples", [(152.0,)]),
        ("SELECT count(DISTINCT samples) FROM samples", [(76,)]),
        ("SELECT 1", [(1,)]),
        ("SELECT count(width), min(#1) FROM samples", [(76, KEYS[0])]),
        ("SELECT min(a), count(width) FROM samples AS s(a, b)", [(KEYS[0], 76)]),
        ("SELECT DISTINCT d FROM samples AS s(a, b, c, d)", [("success",)]),
    ],
)
def test_columns_are_asked_by_their_names_however_often_the_table_is_scanned(packed, sql, rows):
    assert ask(packed, sql) == rows


def test_rows_come_in_batches_with_names_and_types(packed):
    answer = Query(tarloom.open(packed), "SELECT __key__, clip.embedding, width / 2 AS half FROM samples ORDER BY 1")
    assert answer.schema.names == ["__key__", "clip.embedding", "half"]
    assert [row["__key__"] for batch in answer.batches() for row in batch.to_pylist()] == KEYS


def test_a_star_is_all_columns_and_no_member(packed):
    dataset = tarloom.open(packed)
    assert Query(dataset, "SELECT * FROM samples").schema.names == ["__key__", *dataset.columns[3:]]
    assert len(ask(packed, "SUMMARIZE samples")) == 1 + len(dataset.columns[3:])


def test_a_star_over_columns_that_differ_in_case_alone_is_refused_with_what_to_do(tmp_path):
    write_tar(tmp_path / "00000.tar", some_samples(2))
    keys = [key for key, _ in some_samples(2)]
    columns = {"key": keys, "status": ["success"] * 2, "WIDTH": [1, 2], "width": [3, 4]}
    write_parquet(tmp_path / "00000.parquet", columns)
    with pytest.raises(UsageError, match=r"cannot tell 'WIDTH' from 'width'; name the columns to use.*\(\* is both\)"):
        ask(tmp_path, "SELECT * FROM samples")
    assert ask(tmp_path, "SELECT __key__, width FROM samples") == [(keys[0], 3), (keys[1], 4)]


def test_only_named_columns_are_read(packed, tmp_path):
    folder = shutil.copytree(packed, tmp_path / "copy")
    (folder / "00001.clip.parquet").write_bytes(b"no parquet")
    (folder / "00001.tar").write_bytes(bytes((folder / "00001.tar").stat().st_size))
    assert ask(folder, "SELECT count(width) FROM samples WHERE caption.status = 'success'") == [(76,)]
    with pytest.raises(CorruptShard, match=r"00001\.clip\.parquet"):
        ask(folder, "SELECT count(clip.status) FROM samples")


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("SELECT jpg FROM samples", "jpg lies in the tars, and SQL sees columns only"),
        ("SELECT nobody FROM samples", '"nobody" not found'),
        ("SELECT * FROM others", "others does not exist"),
        ("SELECT * FROM read_csv('/etc/passwd')", "disabled"),
        ("SELECT * FROM '/etc/passwd'", "does not exist"),
        ("DROP TABLE samples", "only a SELECT can be asked"),
        ("COPY samples TO '/tmp/tarloom-query-test'", "only a SELECT can be asked"),
        ("SET threads = 1", "only a SELECT can be asked"),
        ("SELECT 1; SELECT 2", "one SELECT"),
        ("SELEC 1", "syntax error"),
        ("", "one SELECT"),
    ],
)
def test_what_cannot_be_asked_is_refused_by_name(packed, sql, reason):
    with pytest.raises(UsageError, match=f"query: .*{reason}"):
        Query(tarloom.open(packed), sql)


def test_a_column_of_a_type_that_sql_has_not_is_refused_by_name(tmp_path):
    samples = some_samples(2)
    write_tar(tmp_path / "00000.tar", samples)
    columns = {"key": [key for key, _ in samples], "status": ["success"] * 2}
    write_parquet(tmp_path / "00000.parquet", columns | {"huge": pa.array([1, 2], pa.decimal256(60, 2))})
    assert ask(tmp_path, "SELECT count(status) FROM samples") == [(2,)]
    with pytest.raises(UsageError, match=r"query: .*[Uu]nsupported"):
        Query(tarloom.open(tmp_path), "SELECT huge FROM samples")


def test_what_ends_a_scan_is_named_and_the_policy_is_obeyed(packed, tmp_path):
    folder = shutil.copytree(packed, tmp_path / "copy")
    (folder / "00001.caption.parquet").unlink()
    with pytest.raises(JoinError, match=r"00001\.caption\.parquet: there is no such sidecar"):
        ask(folder, "SELECT count(caption.text) FROM samples")
    for policy, counts in (("null", (76, 38)), ("skip", (38, 38))):
        answer = Query(tarloom.open(folder).joining(policy), "SELECT count(*), count(caption.text) FROM samples")
        assert [tuple(row.values()) for batch in answer.batches() for row in batch.to_pylist()] == [counts]


def test_a_value_that_does_not_fit_and_an_answer_that_is_too_large_are_said(packed, monkeypatch):
    with pytest.raises(UsageError, match="Could not convert string"):
        ask(packed, "SELECT CAST(url AS INTEGER) FROM samples")
    monkeypatch.setattr(query, "MEMORY", "20MB")
    with pytest.raises(EngineError, match=r"Out of Memory.*select fewer rows"):
        ask(packed, "SELECT list(a.url || b.url || c.url) FROM samples a, samples b, samples c")


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGINT as a shell hands it to a program, whatever engines of other tests and the tests' own shell made of it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    "how",
    [
        pytest.param(lambda: os.kill(os.getpid(), signal.SIGINT), id="in the thread that waits"),
        pytest.param(lambda: signal.pthread_kill(threading.get_ident(), signal.SIGINT), id="in another thread"),
    ],
)
def test_a_long_answer_can_be_interrupted(packed, how):
    answer = Query(
        tarloom.open(packed), "SELECT count(*) FROM range(10000000) a, range(10000000) b WHERE a.range % 7 = 1"
    )
    timer = threading.Timer(0.5, how)
    with interruptible():
        with pytest.raises(KeyboardInterrupt):
            read_while(timer, answer)
        timer.join()


def read_while(timer: threading.Timer, answer: Query) -> None:
    """The interrupt may come as soon as the timer runs, which is expected only in here."""
    timer.start()
    list(answer.batches())


def test_an_answer_that_is_interrupted_before_it_has_begun_ends_too(packed):
    answer = Query(tarloom.open(packed), "SELECT count(*) FROM range(10000000) a, range(10000000) b")
    with pytest.raises(KeyboardInterrupt), patch.object(query, "_result", side_effect=KeyboardInterrupt):
        list(answer.batches())
