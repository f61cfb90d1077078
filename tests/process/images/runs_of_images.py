"""What the tests of runs from URLs to captions share: lists, jobs, the program, and whole outputs to compare."""

import csv
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tarloom.create.config import ListOptions
from tarloom.engines.choose import EngineConfig
from tarloom.process.images.config import RunOptions, ShardOptions, SourceConfig, WebOptions
from tarloom.process.images.job import ImagesJob, ImagesSummary
from tarloom.process.registry import named_stages
from tests.create.helpers import contents
from tests.source_tree import ROOT

PROGRAM = [sys.executable, str(ROOT / "process/process_images.py")]
LOOPBACK = ("127.0.0.0/8",)
HELD_BACK_SECONDS = 200
"""The longest that pictures are held back, and longer than any other picture takes."""


def url_list(path: Path, server: str, *, good: int | None = None) -> Path:
    """The quickstart's list, addressed to this server; or so many of its rows that become pictures at once."""
    with open(ROOT / "source_data/urls.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    if good is not None:
        rows = [row for row in rows if "8765/pictures/" in row["url"]][:good]
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(row | {"url": row["url"].replace("http://127.0.0.1:8765", server)} for row in rows)
    return path


class HoldsBack(BaseHTTPRequestHandler):
    """Gives the pictures of "later" only when the server's `is_time` says so."""

    def do_GET(self) -> None:
        _, when, name = self.path.split("/")
        deadline = time.monotonic() + HELD_BACK_SECONDS
        while when == "later" and not self.server.is_time() and time.monotonic() < deadline:
            time.sleep(0.2)
        data = (ROOT / "source_data/pictures" / name).read_bytes()
        self.send_response(200 if when == "now" or self.server.is_time() else 404)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@contextmanager
def held_back(path: Path, is_time: Callable[[], bool], *, now: int, later: int) -> Iterator[Path]:
    """A list of so many pictures that come at once, and so many that come when it is time."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), HoldsBack)
    server.daemon_threads = True
    server.is_time = is_time
    threading.Thread(target=server.serve_forever, daemon=True).start()
    where = f"http://127.0.0.1:{server.server_address[1]}"
    whens = ["now"] * now + ["later"] * later
    path.write_text("url,caption\n" + "".join(f"{where}/{when}/{n:04d}.jpg,x\n" for n, when in enumerate(whens, 1)))
    try:
        yield path
    finally:
        server.shutdown()
        server.server_close()


def job_of(source, output, *, stages="hash", engine=None, retry=None, words=(), **options) -> ImagesJob:
    """Options are those of the run, of the shards, and of fetching."""
    shards = {name: options.pop(name) for name in list(options) if name in ShardOptions.__dataclass_fields__}
    web = {name: options.pop(name) for name in list(options) if name in WebOptions.__dataclass_fields__}
    web = {"allow_private": LOOPBACK, "timeout": 10.0, "retries": 1, "max_bytes": 4_000_000} | web
    keys = {"key_from": options.pop("key_from")} if "key_from" in options else {}
    config = SourceConfig(
        source=str(source),
        output=str(output),
        lists=ListOptions(caption_col="caption", **keys),
        web=WebOptions(**web),
        sharding=ShardOptions(**{"number_sample_per_shard": 10} | shards),
        **({} if retry is None else {"resume": retry}),
    )
    chosen = {name: kind() for name, kind in named_stages(stages).items()}
    return ImagesJob(
        config, chosen, engine or EngineConfig(), RunOptions(**{"download_workers": 1} | options), words=words
    )


def run_job(source, output, **options) -> ImagesSummary:
    job = job_of(source, output, **options)
    job.prepare()
    job.execute()
    return job.summary()


def words_for(source, output, *more: str) -> list[str]:
    """Words of a command line that asks for what `job_of` does, by default for hashes."""
    fetching = ["--allow-private", *LOOPBACK, "--timeout", "10", "--retries", "1", "--max-bytes", "4000000"]
    where = ["--source", str(source), "--output", str(output), "--caption-col", "caption"]
    stages = [] if "--stages" in more or any(word.startswith("--caption.") for word in more) else ["--stages", "hash"]
    return [*where, *fetching, *stages, "--number-sample-per-shard", "10", "--download-workers", "1", "--json", *more]


def facts_of(words, *, code: int = 0) -> dict:
    """What the program ends with."""
    done = subprocess.run([*PROGRAM, *words], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def dataset(folder: str | Path) -> dict[str, bytes]:
    """A run's files, without the catalogue, which tells times."""
    return {name: data for name, data in contents(Path(folder)).items() if not name.endswith("catalog.parquet")}


def only_run(output: Path) -> Path:
    """The folder of the one run that there is."""
    (folder,) = (path for path in output.iterdir() if path.name != "_runs")
    return folder
