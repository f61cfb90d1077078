"""A batch job, from shards or lists on local disk or S3 to one table of embeddings on either, end to end."""

import functools
import json
import logging
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import obstore
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from obstore.store import from_url

from source_data.serve import PhotoServer
from tarloom.create.config import WebOptions
from tarloom.engines.local import LocalEngine
from tarloom.errors import StageMismatch, StorageError, UsageError
from tarloom.format.storage import Storage, open_storage
from tarloom.process.service import BatchInferenceOrchestrator, InputOptions, UnifiedDataLoader, UnifiedOutputWriter
from tests.process.shards import CLIP, ROOT, scene_shards, sidecars
from tests.s3_server import environment_set

SHARDS, ROWS = 3, 8
PICTURES = ROOT / "source_data/pictures"
LOOPBACK = WebOptions(allow_private=("127.0.0.0/8",), timeout=10, retries=1)


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    """Three of the rows have no picture that can be embedded. Not to be written to."""
    return scene_shards(tmp_path_factory.mktemp("scenes") / "shards", shards=SHARDS, rows=ROWS)


@pytest.fixture(scope="module")
def table(shards, tmp_path_factory) -> bytes:
    """What a job makes of them: the file's bytes."""
    folder = tmp_path_factory.mktemp("embedded")
    embed(shutil.copytree(shards, folder / "shards"), folder / "out")
    return (folder / "out/embeddings.parquet").read_bytes()


@pytest.fixture(scope="module")
def photo_server():
    with PhotoServer() as server:
        yield server


def embed(source, output, *, max_samples=None, workers=1, model=CLIP, name="clip", web=LOOPBACK, **options):
    loader = UnifiedDataLoader(str(source), options=InputOptions(**options), web=web)
    job = BatchInferenceOrchestrator(str(model), engine=LocalEngine(workers), name=name)
    return job.process_dataset(loader, UnifiedOutputWriter(str(output)), max_samples=max_samples)


def rows(data: bytes) -> list[dict]:
    return pq.read_table(pa.BufferReader(data)).to_pylist()


def told(storage: Storage) -> dict:
    return json.loads(storage.read("metadata.json"))


def test_one_row_for_every_sample_with_a_vector_in_order(shards, table):
    found = rows(table)
    keys = [f"{number:09d}" for number in range(SHARDS * ROWS)]
    assert [row["key"] for row in found] == [key for key in keys if key not in keys[1:4]]
    vectors = np.array([row["embedding"] for row in found], np.float32)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3)
    assert str(pq.read_schema(pa.BufferReader(table)).field("embedding").type).startswith(
        "fixed_size_list<element: half"
    )


@pytest.mark.parametrize("source", ["local", "s3"])
@pytest.mark.parametrize("output", ["local", "s3"])
def test_s3_and_local_disk_give_the_same_in_all_four_combinations(shards, table, tmp_path, request, source, output):
    places = {"local": str(tmp_path)}
    if "s3" in (source, output):
        places["s3"] = request.getfixturevalue("s3_folder")
    there = f"{places[source]}/in"
    for path in shards.iterdir():
        open_storage(there).write(path.name, path.read_bytes())
    summary = embed(there, f"{places[output]}/out")
    out = open_storage(f"{places[output]}/out")
    assert out.read("embeddings.parquet") == table
    assert (summary.rows, summary.embeddings, summary.dimension) == (SHARDS * ROWS, SHARDS * ROWS - 3, 96)
    assert told(out)["failed_by_error"] == dict(summary.failed_by_error)
    assert sum(summary.failed_by_error.values()) == 3
    assert {entry.name for entry in open_storage(there).list()} >= {f"{n:05d}.clip.parquet" for n in range(SHARDS)}


def test_img2datasets_parquet_may_name_files_objects_and_pages(tmp_path, s3_folder, photo_server):
    """Its keys and captions are kept; what cannot be had is counted by its name."""
    (tmp_path / "in").mkdir()
    shutil.copy(PICTURES / "0001.jpg", tmp_path / "in/here.jpg")
    obstore.put(from_url(s3_folder), "there.jpg", (PICTURES / "0002.jpg").read_bytes())
    urls = {
        "a": str(tmp_path / "in/here.jpg"),
        "b": f"{s3_folder}/there.jpg",
        "c": f"{photo_server.url}/pictures/0003.jpg",
        "d": f"{photo_server.url}/trouble/missing.jpg",
        "e": f"{photo_server.url}/trouble/page.jpg",
        "f": "/etc/hostname",
        "g": "here.jpg",
    }
    listed = {"url": list(urls.values()), "caption": [f"caption {key}" for key in urls], "key": list(urls)}
    pq.write_table(pa.table(listed), tmp_path / "in/00000.parquet")
    loader = UnifiedDataLoader(
        f"{tmp_path}/in/00000.parquet", web=WebOptions(**{**vars(LOOPBACK), "allow_storage": (s3_folder,)})
    )
    job = BatchInferenceOrchestrator(str(CLIP), engine=LocalEngine(1))
    writer = UnifiedOutputWriter(f"{tmp_path}/out")
    summary = job.process_dataset(loader, writer)
    found = rows((tmp_path / "out/embeddings.parquet").read_bytes())
    assert [(row["key"], row["url"], row["caption"]) for row in found] == [
        (key, urls[key], f"caption {key}") for key in "abcg"
    ]
    assert summary.failed_by_error == {"http_404": 1, "not_an_image": 1, "scheme_refused": 1}
    assert (summary.rows, summary.embeddings) == (7, 4)
    assert set(sidecars(tmp_path / "out", "clip")) == {"00000.clip.parquet"}


def test_a_list_in_s3_becomes_shards_and_a_table_in_s3(s3_folder, photo_server):
    urls = [f"{photo_server.url}/pictures/{number:04d}.jpg" for number in range(1, 11)]
    open_storage(s3_folder).write("list.txt", "\n".join(urls).encode())
    embed(f"{s3_folder}/list.txt", f"{s3_folder}/out", number_sample_per_shard=4)
    out = open_storage(f"{s3_folder}/out")
    assert [row["url"] for row in rows(out.read("embeddings.parquet"))] == urls
    assert told(out)["shards"] == f"{s3_folder}/out/shards"
    before = out.read("embeddings.parquet")
    out.delete("shards/00001.clip.parquet")  # as if the job had been killed
    for name in ("00002.tar", "00002_stats.json", "00002.clip.parquet"):
        out.delete(f"shards/{name}")
    assert embed(f"{s3_folder}/list.txt", f"{s3_folder}/out", number_sample_per_shard=4).embeddings == 10
    assert out.read("embeddings.parquet") == before
    assert {entry.name for entry in out.list() if entry.name.endswith(".tar")} == {
        f"shards/{n:05d}.tar" for n in range(3)
    }


def test_a_list_may_lie_on_a_web_server_that_knows_no_ranges(tmp_path):
    (tmp_path / "web").mkdir()
    shutil.copy(PICTURES / "0001.jpg", tmp_path / "web")
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "web"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        listed = {"url": [f"{address}/0001.jpg", "/etc/hostname"], "key": ["a", "b"]}
        pq.write_table(pa.table(listed), tmp_path / "web/list.parquet")
        summary = embed(f"{address}/list.parquet", tmp_path / "out")
        server.shutdown()
    assert summary.failed_by_error == {"bad_url": 1}
    assert [row["key"] for row in rows((tmp_path / "out/embeddings.parquet").read_bytes())] == ["a"]


@pytest.mark.parametrize("wanted", [1, ROWS, ROWS + 3, SHARDS * ROWS, 1000])
def test_the_first_samples_are_those_of_the_whole(shards, table, tmp_path, wanted):
    """And no more shards are embedded than hold them; the whole goes on from there."""
    source = shutil.copytree(shards, tmp_path / "shards")
    summary = embed(source, tmp_path / "out", max_samples=wanted)
    asked = {f"{number:09d}" for number in range(min(wanted, SHARDS * ROWS))}
    assert rows((tmp_path / "out/embeddings.parquet").read_bytes()) == [r for r in rows(table) if r["key"] in asked]
    assert summary.rows == len(asked)
    assert len(sidecars(source, "clip")) == min(SHARDS, -(-wanted // ROWS))
    embed(source, tmp_path / "out")
    assert (tmp_path / "out/embeddings.parquet").read_bytes() == table


@pytest.fixture
def partly(tmp_path) -> Path:
    """A list of twelve rows, of which the rows 0, 1 and 6 fail; by fours they become shards."""
    names = [f"{number + 1:04d}.jpg" if number not in (0, 1, 6) else "missing.jpg" for number in range(12)]
    (tmp_path / "in").mkdir()
    for name in set(names) - {"missing.jpg"}:
        shutil.copy(PICTURES / name, tmp_path / "in")
    (tmp_path / "in/list.txt").write_text("\n".join(str(tmp_path / "in" / name) for name in names))
    return tmp_path / "in/list.txt"


@pytest.mark.parametrize("wanted", [1, 4, 6, 7, 8, 100])
def test_the_first_rows_of_a_list_are_those_of_the_list(partly, tmp_path, wanted):
    """However many of them fail; and whether or not the whole was made before, and embedded."""
    by_four = {"number_sample_per_shard": 4}
    good = [f"{row:09d}" for row in range(min(wanted, 12)) if row not in (0, 1, 6)]

    def first_rows() -> None:
        summary = embed(partly, tmp_path / "out", max_samples=wanted, **by_four)
        assert (summary.rows, summary.embeddings) == (min(wanted, 12), len(good))
        assert sum(summary.failed_by_error.values()) == min(wanted, 12) - len(good)
        assert [row["key"] for row in rows((tmp_path / "out/embeddings.parquet").read_bytes())] == good

    first_rows()
    assert embed(partly, tmp_path / "out", **by_four).embeddings == 9
    first_rows()
    (tmp_path / "out/shards/00001.clip.parquet").unlink()  # as if the whole had been killed
    first_rows()


def test_of_the_first_samples_those_of_a_shard_that_fails_are_not_made_up_for(shards, tmp_path):
    source = shutil.copytree(shards, tmp_path / "shards")
    (source / "00000.clip.parquet").mkdir()  # nothing can be written there
    assert embed(source, tmp_path / "out", max_samples=ROWS + 3).embeddings == 3


def test_a_job_forgets_what_the_last_dataset_has_come_to(shards, tmp_path):
    broken, sound = (shutil.copytree(shards, tmp_path / name) for name in ("broken", "sound"))
    (broken / "00001.clip.parquet").mkdir()
    job = BatchInferenceOrchestrator(str(CLIP), engine=LocalEngine(1))
    summaries = [
        job.process_dataset(UnifiedDataLoader(str(source)), UnifiedOutputWriter(str(tmp_path / f"out{number}")))
        for number, source in enumerate((broken, sound))
    ]
    assert [set(summary.failed_shards) for summary in summaries] == [{"00001"}, set()]
    assert [summary.rows for summary in summaries] == [2 * ROWS, 3 * ROWS]
    assert [summary.embeddings for summary in summaries] == [2 * ROWS - 3, 3 * ROWS - 3]


def test_a_shard_that_fails_is_named_and_its_rows_are_not_in_the_table(shards, table, tmp_path):
    source = shutil.copytree(shards, tmp_path / "shards")
    (source / "00001.clip.parquet").mkdir()  # nothing can be written there
    summary = embed(source, tmp_path / "out")
    assert set(summary.failed_shards) == {"00001"}
    missing = {f"{number:09d}" for number in range(ROWS, 2 * ROWS)}
    assert rows((tmp_path / "out/embeddings.parquet").read_bytes()) == [
        row for row in rows(table) if row["key"] not in missing
    ]
    (source / "00001.clip.parquet").rmdir()
    embed(source, tmp_path / "out")
    assert (tmp_path / "out/embeddings.parquet").read_bytes() == table


def test_another_model_is_refused_unless_its_sidecars_are_called_otherwise(shards, tmp_path):
    source, other = shutil.copytree(shards, tmp_path / "shards"), shutil.copytree(CLIP, tmp_path / "other")
    (other / "note.txt").write_text("another model")
    embed(source, tmp_path / "out")
    with pytest.raises(StageMismatch, match="another --name"):
        embed(source, tmp_path / "out", model=other)
    assert embed(source, tmp_path / "out2", model=other, name="other").embeddings == SHARDS * ROWS - 3


def test_a_loader_gives_samples_too(shards):
    loader = UnifiedDataLoader(str(shards))
    assert loader.list_shards() == [str(shards / f"{number:05d}.tar") for number in range(SHARDS)]
    samples = list(loader.iterate_samples())
    assert [sample["__key__"] for sample in samples] == [f"{number:09d}" for number in range(SHARDS * ROWS)]
    assert samples[0]["jpg"].startswith(b"\xff\xd8")


def test_a_table_among_the_shards_is_refused(shards):
    with pytest.raises(UsageError, match="lies in the input"):
        embed(shards, f"{shards}/")
    assert not (shards / "embeddings.parquet").exists()


def test_what_cannot_work_is_refused_before_anything_is_written(shards, tmp_path):
    with pytest.raises(UsageError, match="nothing there"):
        embed(tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(UsageError, match="no such folder"):
        embed(shards, tmp_path / "out", model="/no/such/model")
    with pytest.raises(UsageError, match="max_samples must be at least 1"):
        embed(shards, tmp_path / "out", max_samples=0)
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be written"):
        embed(shards, tmp_path / "file/out")
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/a.txt").write_text("http://127.0.0.1/a.jpg\n")
    for inside in ("lists", "lists/out"):
        with pytest.raises(UsageError, match="lies in the input"):
            embed(tmp_path / "lists", tmp_path / inside)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").rglob("*.parquet"))


@pytest.mark.parametrize("place", ["local", "s3"])
@pytest.mark.parametrize("env", ["prod", "dev"])
def test_what_is_logged_is_a_file_of_the_output(tmp_path, request, place, env):
    writer = UnifiedOutputWriter(str(tmp_path) if place == "local" else request.getfixturevalue("s3_folder"))
    logger = logging.getLogger("tarloom.process")

    def run():
        with writer.log_file(env):
            logger.info("said %s", "this")
            logger.debug("and details")
            raise UsageError("of no use")

    with pytest.raises(UsageError, match="of no use"):
        run()
    logger.error("when all was over")
    (name,) = (entry.name for entry in writer.storage.list("logs"))
    lines = writer.storage.read(name).decode().splitlines()
    if env == "prod":
        assert [json.loads(line)["message"] for line in lines] == ["said this", "ended by UsageError: of no use"]
    else:
        first = ["INFO said this", "DEBUG and details", "ERROR ended by UsageError: of no use", ""]
        assert [line.partition("Z ")[2] for line in lines[:4]] == first
        assert lines[3].startswith("Traceback")


def test_a_bucket_that_cannot_be_written_is_found_before_anything_is_done(s3_folder):
    with (
        environment_set({"AWS_SECRET_ACCESS_KEY": "wrong"}),
        pytest.raises(StorageError, match="check the credentials"),
    ):
        UnifiedOutputWriter(s3_folder).log_file().__enter__()


def test_the_program_goes_from_the_quickstarts_server_to_s3_with_a_config_file(photo_server, tmp_path, s3_folder):
    """What the file says holds where the command line says nothing."""
    listed = (ROOT / "source_data/urls.csv").read_text().replace("http://127.0.0.1:8765", photo_server.url)
    (tmp_path / "urls.csv").write_text("\n".join(listed.splitlines()[:30]) + "\n")
    options = {
        "model_directory": str(CLIP),
        "input_dir": str(tmp_path / "urls.csv"),
        "output_dir": "/nowhere",
        "caption_col": "caption",
        "allow_private": ["127.0.0.0/8"],
        "timeout": 1.5,
        "retries": 1,
        "aws_region": "eu-central-1",
        "num_workers": 2,
        "json": True,
    }
    (tmp_path / "batch.yaml").write_text("".join(f"{name}: {json.dumps(value)}\n" for name, value in options.items()))
    words = ["--config", str(tmp_path / "batch.yaml"), "--output_dir", s3_folder]
    done = subprocess.run(
        [sys.executable, str(ROOT / "process/batch_service.py"), *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["rows"] == 29
    assert said["embeddings"] + sum(said["failed_by_error"].values()) == 29
    out = open_storage(s3_folder)
    assert said["embeddings"] == len(rows(out.read("embeddings.parquet"))) > 5
    assert "shard 00000: embedded" in out.read(said["log"].removeprefix(f"{s3_folder}/")).decode()


def test_a_job_that_is_asked_to_stop_goes_on_later(photo_server, tmp_path):
    """As Kubernetes asks, while a picture of the second shard does not come."""
    pages = [*(f"pictures/{number:04d}.jpg" for number in range(1, 5)), "trouble/stalls.jpg", "pictures/0005.jpg"]
    (tmp_path / "list.txt").write_text("\n".join(f"{photo_server.url}/{page}" for page in pages))
    options = {"model_directory": CLIP, "input_dir": tmp_path / "list.txt", "output_dir": tmp_path / "out"}
    options |= {"number_sample_per_shard": 4, "timeout": 600, "allow_private": "127.0.0.0/8"}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    done = tmp_path / "out/shards/00000.clip.parquet"
    program = [sys.executable, str(ROOT / "process/batch_service.py"), *words]
    with subprocess.Popen(program, stderr=subprocess.PIPE, text=True) as process:
        while not done.exists():
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        _, complaint = process.communicate(timeout=240)
    assert process.returncode == 130, complaint
    assert "interrupted; nothing is left half-done" in complaint.splitlines()[-1]
    assert "Traceback" not in complaint
    (log,) = (tmp_path / "out/logs").iterdir()
    assert "ended by KeyboardInterrupt" in log.read_text().splitlines()[-1]
    embedded = done.read_bytes()
    hasty = replace(LOOPBACK, timeout=4)
    summary = embed(tmp_path / "list.txt", tmp_path / "out", web=hasty, number_sample_per_shard=4)
    assert (summary.embeddings, summary.failed_by_error) == (5, {"timeout": 1})
    assert done.read_bytes() == embedded
