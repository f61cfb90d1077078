"""Whole runs whose captions come from servers: rude ones, and vLLM's own; and the same captions from every engine."""

import contextlib
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from http.client import HTTPException

import pyarrow.parquet as pq
import pytest

from source_data.scenes import HELD_OUT_SEEDS, scene
from tarloom.engines.local import LocalEngine
from tarloom.errors import EngineError, UsageError
from tarloom.process.caption.stage import CaptionStage
from tarloom.process.config import ProcessConfig
from tarloom.process.job import ProcessJob
from tests.process.openai_server import DEEDS, MODEL, OUTAGE, OpenAIServer, fingerprint_of
from tests.process.shards import CAPTIONER, ROOT, scene_shards, sidecars

SHARDS, ROWS = 2, 30
RUDE = [word for word in DEEDS if word not in ("hang", "flood")] + ["http_429", "http_500", "http_503 after 0"]


@pytest.fixture
def shards(tmp_path):
    return scene_shards(tmp_path / "shards", shards=SHARDS, rows=ROWS)


@pytest.fixture
def server(short_pauses):
    with OpenAIServer() as server:
        server.caption = fingerprint_of
        yield server


def asking(server, **options) -> CaptionStage:
    return CaptionStage(**{"model": MODEL, "endpoint": server.url, "batch_size": 16, "timeout": 20.0} | options)


def run(stage, folder, engine=None, **options):
    job = ProcessJob(stage, ProcessConfig(path=str(folder), **options), engine or LocalEngine())
    job.prepare()
    return list(job)


def rows_of(folder):
    return [row for path in sorted(folder.glob("*.caption.parquet")) for row in pq.read_table(path).to_pylist()]


def test_a_rude_server_gives_the_same_sidecars_as_a_kind_one(server, shards, tmp_path):
    other = shutil.copytree(shards, tmp_path / "other")
    run(asking(server), shards)
    kindly = server.asked.total()
    server.words = cycle_of_rudeness()
    run(asking(server, retries=8), other)
    assert sidecars(other, "caption") == sidecars(shards, "caption")
    assert len({row["text"] for row in rows_of(shards) if row["text"]}) == SHARDS * ROWS - 3
    assert server.asked.total() - kindly > SHARDS * ROWS


def cycle_of_rudeness():
    """Every other request is answered, in groups that no number of rows or batches divides."""
    return itertools.cycle([word for rude in RUDE for word in ("answer", rude, "answer")])


@pytest.mark.usefixtures("short_proof")
def test_a_run_that_lost_its_server_goes_on_where_it_stopped(server, shards, tmp_path):
    whole = shutil.copytree(shards, tmp_path / "whole")
    run(asking(server), whole)
    asked = server.asked.total()
    small = {"batch_size": 8, "max_num_seqs": 4}
    server.words = itertools.chain(["answer"] * 20, [OUTAGE])
    with pytest.raises(EngineError, match="answered nobody"):
        run(asking(server, timeout=4.0, **small), shards)
    assert sidecars(shards, "caption") == {}
    server.words, server.outage = itertools.cycle(["answer"]), None
    server.asked.clear()
    run(asking(server, **small), shards)
    assert sidecars(shards, "caption") == sidecars(whole, "caption")
    assert server.asked.total() < asked - 8


def test_rows_that_a_server_failed_are_asked_again_on_request(server, shards, tmp_path):
    whole = shutil.copytree(shards, tmp_path / "whole")
    run(asking(server), whole)
    server.words = itertools.cycle(["answer", "http_500", "http_500", "http_400"])
    run(asking(server, retries=1, max_num_seqs=1), shards)
    failed = {row["error"] for row in rows_of(shards) if row["status"] == "failed"}
    assert failed == {"not_an_image", "truncated", "http_500", "prompt_refused"}
    server.words = itertools.cycle(["answer"])
    run(asking(server), shards, retry_failed="transient")
    failed = {row["error"] for row in rows_of(shards) if row["status"] == "failed"}
    assert failed == {"not_an_image", "truncated", "prompt_refused"}
    run(asking(server), shards, retry_failed="all")
    assert sidecars(shards, "caption") == sidecars(whole, "caption")


@pytest.mark.parametrize("engine", ["two workers", "ray", "spark"])
def test_every_engine_writes_the_same_captions(server, shards, tmp_path, engine, request):
    other = shutil.copytree(shards, tmp_path / "other")
    run(asking(server), shards)
    run(asking(server), other, engine_called(engine, request))
    assert sidecars(other, "caption") == sidecars(shards, "caption")


def engine_called(name, request, workers=2):
    if name == "two workers":
        return LocalEngine(2)
    if name == "ray":
        request.getfixturevalue("ray_session")
        from tarloom.engines.ray import RayEngine

        return RayEngine(workers)
    request.getfixturevalue("spark_session")
    from tarloom.engines.spark import SparkEngine

    return SparkEngine(workers)


def test_the_command_asks_the_server_that_it_is_given(server, shards):
    program = [sys.executable, str(ROOT / "process/caption_with_vllm.py"), "--json", "--path", str(shards)]
    server_options = ["--endpoint", server.url, "--model", MODEL, "--api-key-env", "MY_KEY"]
    done = subprocess.run(
        [*program, *server_options], capture_output=True, text=True, timeout=240, env=os.environ | {"MY_KEY": "k"}
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["successes"] == SHARDS * ROWS - 3


def test_ctrl_c_does_not_wait_for_a_server_that_hangs(server, shards):
    server.words = itertools.cycle(["answer", "hang"])
    program = [sys.executable, str(ROOT / "process/caption_with_vllm.py"), "--path", str(shards)]
    options = ["--endpoint", server.url, "--model", MODEL]
    running = subprocess.Popen([*program, *options], stderr=subprocess.PIPE, text=True)
    while server.asked.total() < 20:
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=200)  # a row may take 300 s
    assert running.returncode == 130, said
    assert "run the same command again" in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"endpoint": "localhost:8000"}, "not the address of a server"),
        ({"endpoint": "http://h:8000/v1?key=1"}, "not the address of a server"),
        ({"endpoint": None, "backend": "endpoint"}, "name it, such as --endpoint"),
        ({"backend": "engine"}, "asks no server"),
        ({"backend": "ray-llm"}, "starts engines of its own"),
        ({"model": ""}, "needs --model"),
        ({"api_key_env": "NO_SUCH_KEY"}, "NO_SUCH_KEY is not set"),
        ({"timeout": 0}, "timeout"),
        ({"retries": 0}, "retries"),
        ({"dtype": "float16", "max_model_len": 8}, "dtype, max_model_len: up to the server|max_model_len, dtype"),
        ({"endpoint": None, "backend": "ray-llm", "model": str(CAPTIONER), "revision": "v1"}, "no revision"),
    ],
)
def test_wrong_options_end_before_anything_is_asked(options, message):
    with pytest.raises(UsageError, match=message):
        CaptionStage(**{"model": MODEL, "endpoint": "http://127.0.0.1:9/v1"} | options).check()


def test_the_address_of_a_server_is_no_part_of_what_a_caption_is():
    here, there = (CaptionStage(model=MODEL, endpoint=f"http://{host}:8000") for host in ("here", "there"))
    assert here.fingerprint() == there.fingerprint()


@contextlib.contextmanager
def vllm_server():
    """vLLM's own server with the tiny captioner."""
    for _ in range(3):  # somebody else may take the port before the server does, which then ends
        port = free_port()
        process = started(port)
        try:
            if answers(f"http://127.0.0.1:{port}/v1", process):
                yield f"http://127.0.0.1:{port}/v1"
                return
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=240)
    raise AssertionError("vLLM's server ended before it answered, three times")


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def started(port: int) -> "subprocess.Popen[bytes]":
    options = ["--model", str(CAPTIONER), "--served-model-name", MODEL, "--host", "127.0.0.1", "--port", str(port)]
    small = ["--max-model-len", "512", "--max-num-seqs", "16", "--enforce-eager"]
    return subprocess.Popen(
        [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *options, *small],
        env=os.environ | {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def answers(url, process) -> bool:
    """Whether our model is there, sooner or later; nobody else's server on this port has it."""
    while process.poll() is None:
        with contextlib.suppress(OSError, HTTPException), urllib.request.urlopen(f"{url}/models", timeout=5) as models:
            if f'"{MODEL}"'.encode() in models.read():
                return True
        time.sleep(0.5)
    return False


@pytest.fixture(scope="module")
def vllm_url():
    pytest.importorskip("vllm")
    with vllm_server() as url:
        yield url


def exact(folder) -> float:
    kept = [row for row in rows_of(folder) if row["status"] == "success"]
    assert len(kept) == SHARDS * ROWS - 3
    return sum(row["text"] == scene(HELD_OUT_SEEDS + int(row["__key__"]))[1] for row in kept) / len(kept)


@pytest.mark.slow
def test_captions_of_vllms_own_server_say_what_the_scenes_show(vllm_url, shards):
    run(CaptionStage(model=MODEL, endpoint=vllm_url), shards)
    assert exact(shards) >= 0.95
    kept = [row for row in rows_of(shards) if row["status"] == "success"]
    assert all(row["finish_reason"] == "stop" and row["prompt_tokens"] > 0 for row in kept)


@pytest.mark.slow
def test_a_prompt_that_vllms_server_never_takes_ends_the_run_before_any_row(vllm_url, shards):
    with pytest.raises(UsageError, match=r"prompt_refused: .*512"):
        run(CaptionStage(model=MODEL, endpoint=vllm_url, prompt="very " * 600), shards)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "engine",
    ["ray", pytest.param("two workers", marks=pytest.mark.long), pytest.param("spark", marks=pytest.mark.long)],
)
def test_every_backend_on_every_engine_says_the_same(vllm_url, shards, tmp_path, engine, request):
    """The engine in the process, vLLM's server, and on Ray ray.data.llm."""
    backends = {"engine": {"model": str(CAPTIONER)}, "endpoint": {"model": MODEL, "endpoint": vllm_url}}
    if engine == "ray":
        backends["ray-llm"] = {"model": str(CAPTIONER)}
    said = {}
    for backend, options in backends.items():
        folder = shutil.copytree(shards, tmp_path / backend)
        run(CaptionStage(backend=backend, **options), folder, engine_called(engine, request, workers=1))
        assert exact(folder) >= 0.95
        said[backend] = [(row["__key__"], row["status"], row["text"], row["output_tokens"]) for row in rows_of(folder)]
    assert all(rows == said["engine"] for rows in said.values())


@pytest.mark.slow
def test_ray_llm_outside_of_ray_says_where_it_runs(shards):
    pytest.importorskip("vllm")
    program = [sys.executable, str(ROOT / "process/caption_with_vllm.py"), "--path", str(shards)]
    options = ["--model", str(CAPTIONER), "--backend", "ray-llm"]
    done = subprocess.run([*program, *options], capture_output=True, text=True, timeout=600)
    assert done.returncode == 2
    assert "runs in Ray's actors; add --engine ray" in done.stderr
