"""One way of asking, in a process of its own: python -m benchmarks.curating.run WAY FOLDER. Ends with JSON."""

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from tarloom.engines.choose import EngineConfig
from tarloom.format.layout import metadata_name, sidecar_name
from tarloom.process.curate.config import CurateConfig
from tarloom.process.curate.job import CurateJob

OURS, THEIRS = ("local", "ray", "spark"), ("everything", "duckdb")
SIDECARS = ("clip", "caption")
SIZES = "CASE WHEN width < 512 THEN 'small' WHEN width < 1024 THEN 'medium' ELSE 'large' END"
QUESTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "aggregate": (
        {
            "where": "height >= 1024",
            "segment": ("size=width:512,1024:small,medium,large",),
            "group_by": ("class", "size"),
            "aggregate": ("n=count(*)", "score=avg(clip.score)", "widest=max(width)"),
            "order_by": ("class", "size"),
        },
        f"SELECT class, {SIZES} AS size, count(*) AS n, avg(score) AS score, max(width) AS widest FROM samples "
        "WHERE height >= 1024 GROUP BY ALL ORDER BY ALL",
    ),
    "join": (
        {
            "join": ("hosts={hosts}:host",),
            "where": "hosts.country <> 'land 7' AND width >= 256",
            "group_by": ("hosts.country",),
            "aggregate": ("n=count(*)", "score=sum(clip.score)"),
            "having": "n > 10",
            "order_by": ("score DESC",),
        },
        'SELECT country AS "hosts.country", count(*) AS n, sum(score) AS score FROM samples LEFT JOIN hosts '
        "USING (host) WHERE country <> 'land 7' AND width >= 256 GROUP BY ALL HAVING n > 10 ORDER BY score DESC",
    ),
    "top": (
        {
            "where": "class = 'plant' AND clip.score > 0.9",
            "select": ("__key__", "caption.text", "clip.score"),
            "order_by": ("clip.score DESC", "__key__"),
            "limit": 100,
        },
        'SELECT key AS "__key__", text AS "caption.text", score AS "clip.score" FROM samples '
        "WHERE class = 'plant' AND score > 0.9 ORDER BY score DESC, key LIMIT 100",
    ),
}


def main() -> None:
    """Ask each question twice, the first time to warm up, and print the seconds and the answers."""
    way, folder = sys.argv[1], Path(sys.argv[2])
    found = {}
    with _session(way):
        for name in QUESTIONS:
            ask(way, name, folder)
            started = time.perf_counter()
            answer = ask(way, name, folder)
            found[name] = {"seconds": time.perf_counter() - started, "answer": answer.to_pylist()}
    print(json.dumps(found))


def ask(way: str, name: str, folder: Path) -> pa.Table:
    """The answer to a question."""
    question, sql = QUESTIONS[name]
    if way in THEIRS:
        return _asked_plainly(way, sql, folder)
    given = dict(question)
    if "join" in given:
        given["join"] = tuple(join.format(hosts=folder / "hosts.parquet") for join in given["join"])
    run_on = EngineConfig(engine=way, num_workers=str(os.cpu_count()))
    job = CurateJob(CurateConfig(path=str(folder / "shards"), **given), run_on)
    job.prepare()
    for _ in job:
        pass
    assert job.table is not None
    return job.table


def _asked_plainly(way: str, sql: str, folder: Path) -> pa.Table:
    """Tables joined by key and asked by duckdb: all that they hold, read first; or what duckdb reads of the files."""
    tars = sorted((folder / "shards").glob("*.tar"))
    names = {"metadata": [str(tar.with_name(metadata_name(tar.stem))) for tar in tars]}
    names |= {stage: [str(tar.with_name(sidecar_name(tar.stem, stage))) for tar in tars] for stage in SIDECARS}
    with duckdb.connect() as database:
        database.sql(f"SET threads = {os.cpu_count()}")
        tables = {}
        for table, files in names.items():
            if way == "everything":
                tables[table] = pa.concat_tables([pq.read_table(file) for file in files])
                known = [name for name in tables[table].column_names if name != "embedding"]  # float16 is not
                database.register(table, tables[table].select(known))
            else:
                database.read_parquet(files).create_view(table)
        database.read_parquet(str(folder / "hosts.parquet")).create_view("hosts")
        joins = " ".join(f"JOIN {stage} ON {stage}.__key__ = metadata.key" for stage in SIDECARS)
        columns = "metadata.*, clip.score, caption.text"
        database.sql(f"CREATE VIEW samples AS SELECT {columns} FROM metadata {joins}")
        return database.sql(sql).to_arrow_table()


@contextlib.contextmanager
def _session(way: str) -> Iterator[None]:
    """The engine, started before time is taken."""
    if way == "ray":
        from tarloom.engines.ray_session import ray_session

        with ray_session(cpus=os.cpu_count() or 1, store_bytes=512 << 20):
            yield
    elif way == "spark":
        from tarloom.engines.spark_session import spark_session

        with spark_session(os.cpu_count() or 1, {"spark.log.level": "FATAL"}):
            yield
    else:
        yield


if __name__ == "__main__":
    main()
