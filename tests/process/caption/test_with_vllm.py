"""One real engine, asked in every way; then it is killed. Runs whose engine or worker is killed are slow tests."""

import contextlib
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from source_data.scenes import HELD_OUT_SEEDS, scene
from tarloom.engines.base import WorkerBroken
from tarloom.errors import UsageError
from tarloom.process.caption.backend import Question, Said
from tarloom.process.caption.stage import CaptionStage
from tests.process.caption.inputs import same_input
from tests.process.shards import CAPTIONER, ROOT, scene_shards

SCENES = 48
SCHEMA = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "green", "blue"]}, "count": {"type": "integer", "maximum": 9}},
    "required": ["colour", "count"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def backend():
    pytest.importorskip("vllm")
    before = files()
    backend = CaptionStage(model=str(CAPTIONER))._backend()
    yield backend
    backend.close()
    backend.close()
    assert multiprocessing.active_children() == []
    assert not any(thread.name.startswith(("tarloom-vllm", "MPClient")) for thread in threading.enumerate())
    assert files() - before == set()


def files():
    """What vLLM and multiprocessing leave behind if they are not stopped well, of this process."""
    ours = re.compile(rf"(?<!\d){os.getpid()}(?!\d)")
    return {path for path in Path("/dev/shm").iterdir() if ours.search(path.name)}


@pytest.fixture(scope="module")
def questions():
    pictures = [scene(HELD_OUT_SEEDS + number)[0] for number in range(SCENES)]
    return [
        Question(rgb=np.asarray(picture), prompt="Describe the image.", uuid=str(number))
        for number, picture in enumerate(pictures)
    ]


@pytest.fixture(scope="module")
def said(backend, questions):
    return backend.ask(questions)


def test_captions_are_what_the_scenes_show(said):
    exact = [answer.text == scene(HELD_OUT_SEEDS + number)[1] for number, answer in enumerate(said)]
    assert sum(exact) / SCENES >= 0.95
    assert {answer.finish_reason for answer in said} == {"stop"}


@pytest.mark.parametrize("size", [1, 5, 20])
def test_a_caption_does_not_depend_on_what_is_asked_beside_it(backend, questions, said, size):
    batches = [questions[first : first + size] for first in range(0, SCENES, size)]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(backend.ask, batches[::-1]))[::-1]
    assert [answer for batch in found for answer in batch] == said


@pytest.mark.parametrize("kind", ["the shipped captioner's", "Qwen2VLImageProcessor"])
@settings(max_examples=30, deadline=None)
@given(height=st.integers(5, 200), width=st.integers(5, 200), seed=st.integers(0, 1 << 30))
def test_pixels_become_the_same_input_as_a_picture_of_them(kind, height, width, seed):
    transformers = pytest.importorskip("transformers")
    plain = not kind.startswith("the")
    processor = getattr(transformers, kind)() if plain else transformers.AutoImageProcessor.from_pretrained(CAPTIONER)
    rgb = np.random.default_rng(seed).integers(0, 256, (max(height, width // 9), max(width, height // 9), 3), np.uint8)
    pixels, picture = (processor(each, return_tensors="np")["pixel_values"] for each in (rgb, Image.fromarray(rgb)))
    assert np.array_equal(pixels, picture)


def test_captions_are_the_same_of_pixels_and_of_pictures(backend, questions, said):
    assert backend.ask([replace(question, rgb=question.rgb.copy()) for question in questions]) == said


def test_a_picture_of_three_lines_is_no_picture_of_three_channels(backend):
    (said,) = backend.ask([Question(rgb=np.full((3, 40, 3), 90, np.uint8), prompt="Describe the image.", uuid="thin")])
    assert said.text


def test_the_shipped_captioners_pictures_are_made_ready_side_by_side(backend):
    assert backend._inputs.try_together("Describe the image.")


@settings(max_examples=20, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(5, 300), st.integers(5, 300)), min_size=2, max_size=20), seed=st.integers(0)
)
def test_input_made_side_by_side_is_what_is_made_alone(backend, sizes, seed):
    noise = np.random.default_rng(seed)
    pictures = [noise.integers(0, 256, (max(h, w // 9), max(w, h // 9), 3), np.uint8) for h, w in sizes]
    asked = [Question(rgb=rgb, prompt="Describe the image.", uuid=str(n)) for n, rgb in enumerate(pictures)]
    made, inputs = backend._inputs.made(asked), backend._inputs
    assert all(same_input(one, inputs.alone(question)) for one, question in zip(made, asked, strict=True))


def test_words_for_a_picture_in_a_prompt_do_not_give_a_question_anothers_picture(backend, questions):
    inputs = backend._inputs
    token = backend._engine.get_tokenizer().decode(
        [inputs._renderer.mm_processor.info.get_hf_processor().image_token_id]
    )
    asked = [replace(question, prompt=f"Describe {token} the image.") for question in questions[:8]]
    made = inputs.made(asked)
    alone = [inputs._or_none(question) for question in asked]
    for one, other in zip(made, alone, strict=True):
        assert same_input(one, other) if other is not None else one is None


def test_a_model_that_makes_other_input_of_several_pictures_gets_them_one_at_a_time(backend, monkeypatch):
    from tarloom.process.caption.vllm_inputs import Inputs

    processor = backend._engine.renderer.mm_processor
    apply = type(processor).apply

    def dimmed(self, inputs, timing):
        made = apply(self, inputs, timing)
        pictures = made["mm_kwargs"]["image"]
        for picture in pictures:
            picture["pixel_values"].data.div_(len(pictures))
        return made

    monkeypatch.setattr(type(processor), "apply", dimmed)
    assert not Inputs(backend._engine.renderer, CaptionStage(model=str(CAPTIONER))).try_together("Describe the image.")


def test_a_model_that_takes_one_picture_at_a_time_gets_them_so(backend, monkeypatch):
    from tarloom.process.caption.vllm_inputs import Inputs

    processor = backend._engine.renderer.mm_processor
    apply = type(processor).apply

    def single(self, inputs, timing):
        if len(inputs.mm_data_items["image"]) > 1:
            raise ValueError("one picture at a time")
        return apply(self, inputs, timing)

    monkeypatch.setattr(type(processor), "apply", single)
    inputs = Inputs(backend._engine.renderer, CaptionStage(model=str(CAPTIONER)))
    assert not inputs.try_together("Describe the image.")
    monkeypatch.setattr(backend, "_inputs", inputs)
    pictures = [np.asarray(scene(HELD_OUT_SEEDS + number)[0]) for number in range(3)]
    asked = [Question(rgb=rgb, prompt="Describe the image.", uuid=str(n)) for n, rgb in enumerate(pictures)]
    assert [said.text for said in backend.ask(asked)] == [scene(HELD_OUT_SEEDS + number)[1] for number in range(3)]


def test_what_no_input_can_be_made_of_is_refused_alone(backend, questions, said):
    nothing = Question(rgb=np.zeros((0, 8, 3), np.uint8), prompt=questions[0].prompt, uuid="nothing")
    answers = backend.ask([questions[0], nothing, questions[1]])
    assert answers == [said[0], Said(ending=("failed", "prompt_refused")), said[1]]


def test_questions_of_one_kind_are_grouped_in_their_order(questions):
    from tarloom.process.caption.vllm_inputs import TOGETHER, grouped

    text = Question(prompt="Describe the image.")
    other = replace(questions[0], prompt="What?")
    asked = [*questions[: TOGETHER + 1], other, text, text, questions[0]]
    groups = grouped(asked)
    assert [len(group) for group in groups] == [TOGETHER, 1, 1, 2, 1]
    assert [id(question) for group in groups for question in group] == list(map(id, asked))


def test_large_pictures_are_not_gathered_in_memory():
    from tarloom.process.caption.vllm_inputs import grouped

    small, large = (
        Question(prompt="Describe the image.", rgb=np.zeros((side, side, 3), np.uint8)) for side in (64, 1000)
    )
    assert [len(group) for group in grouped([large, large, small, small, large])] == [1, 3, 1]


def test_one_prompt_that_is_too_long_fails_alone(backend, questions, said):
    long = Question(rgb=questions[0].rgb, prompt="what " * 3000, uuid="long")
    first, second = backend.ask([long, questions[1]])
    assert (first.ending, first.text) == (("failed", "prompt_refused"), None)
    assert second == said[1]


def test_an_answer_fits_its_schema(backend, questions):
    asked = [Question(rgb=q.rgb, prompt=q.prompt, uuid=q.uuid, schema=SCHEMA) for q in questions[:4]]
    for answer in backend.ask(asked):
        read = json.loads(answer.text)
        assert set(read) == {"colour", "count"}
        assert read["colour"] in ("red", "green", "blue")


def test_a_schema_that_the_engine_does_not_take_is_a_usage_error(backend, questions):
    unique = {"type": "object", "properties": {"a": {"type": "array", "uniqueItems": True}}}
    with pytest.raises(UsageError, match=r"JSON schema .* vLLM does not take it: .*not supported by xgrammar"):
        backend._probe_schema(replace(questions[0], schema=unique))
    backend._probe_schema(replace(questions[0], schema=SCHEMA))


def test_no_question_needs_no_answer(backend):
    assert backend.ask([]) == []


def test_what_an_engine_broke_off_since_it_was_told_to_stop_is_no_answer(questions):
    before = set(multiprocessing.active_children())
    backend = CaptionStage(model=str(CAPTIONER), max_tokens=400, min_tokens=400)._backend()
    (engine,) = set(multiprocessing.active_children()) - before
    threading.Timer(0.3, os.kill, (engine.pid, signal.SIGTERM)).start()
    try:
        with pytest.raises(WorkerBroken, match="captioner failed"):
            backend.ask(questions[:4])
    finally:
        backend.close()


def test_an_engine_that_is_killed_breaks_its_worker_and_nobody_waits(backend, questions):
    (engine,) = multiprocessing.active_children()
    many = [Question(rgb=q.rgb, prompt=q.prompt, uuid=f"{q.uuid} {n}") for n in range(20) for q in questions]
    threading.Timer(0.3, os.kill, (engine.pid, signal.SIGKILL)).start()
    with ThreadPoolExecutor(2) as threads:
        waiting = [threads.submit(backend.ask, many) for _ in range(2)]
        for answer in waiting:
            with pytest.raises(WorkerBroken, match="captioner failed"):
                answer.result(timeout=30)
    with pytest.raises(WorkerBroken):
        backend.ask(questions[:1])


@contextlib.contextmanager
def captioning(folder, *options):
    program = [sys.executable, str(ROOT / "process/caption_with_vllm.py"), "--path", str(folder)]
    process = subprocess.Popen([*program, "--model", str(CAPTIONER), "--batch-size", "16", *options])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def engine_below(pid):
    """The engine's process, once it loads; below the program itself or below one of its workers."""
    for _ in range(1200):
        for engine in everything_below(pid):
            with contextlib.suppress(OSError):
                if "EngineCore" in Path(f"/proc/{engine}/cmdline").read_text():
                    return engine
        time.sleep(0.1)
    raise AssertionError("no engine was started")


def everything_below(pid):
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if pid in ancestors(int(stat.parent.name)):
                found.append(int(stat.parent.name))
    return found


def ancestors(pid):
    found = []
    while pid > 1:
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        found.append(pid)
    return found


def seen(folder):
    """Wait for the first sidecar."""
    for _ in range(1800):
        if any(folder.glob("*.caption.parquet")):
            return
        time.sleep(0.1)
    raise AssertionError("nothing was captioned")


@pytest.mark.slow
@pytest.mark.parametrize("workers", [pytest.param("1", marks=pytest.mark.long), "2"])
def test_a_run_goes_on_after_its_engine_was_killed(tmp_path, workers):
    folder = scene_shards(tmp_path / "shards", shards=8, rows=100)
    with captioning(folder, "--num-workers", workers) as process:
        engine = engine_below(process.pid)
        seen(folder)
        os.kill(engine, signal.SIGKILL)
        assert process.wait(timeout=800) == 0
    rows = [row for path in sorted(folder.glob("*.caption.parquet")) for row in pq.read_table(path).to_pylist()]
    exact = [row["text"] == scene(HELD_OUT_SEEDS + int(row["__key__"]))[1] for row in rows if row["text"]]
    assert (len(rows), len(exact)) == (800, 797)
    assert sum(exact) / len(exact) >= 0.95


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.long)])
def test_an_engine_does_not_outlive_a_program_that_is_killed(tmp_path, workers):
    folder = scene_shards(tmp_path / "shards", shards=2, rows=10)
    with captioning(folder, "--num-workers", workers) as process:
        engine_below(process.pid)
        below = everything_below(process.pid)
        process.kill()
        for _ in range(300):
            if not alive(below):
                break
            time.sleep(0.1)
        assert alive(below) == []


def alive(pids):
    return [pid for pid in pids if Path(f"/proc/{pid}/exe").exists()]
