"""From pictures to questions and from answers to columns, with a backend that answers what it is told to."""

import json
import pickle
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from source_data.scenes import HELD_OUT_SEEDS, scene
from tarloom.engines.local import LocalEngine
from tarloom.errors import UsageError
from tarloom.format.sidecar import FAILED
from tarloom.process.batch import Batch, Decoder
from tarloom.process.caption.backend import Said
from tarloom.process.caption.stage import CaptionStage
from tarloom.process.caption.worker import CaptionWorker
from tarloom.process.config import ProcessConfig
from tarloom.process.job import ProcessJob
from tests.process.shards import CAPTIONER, scene_sample, write_shard

MODEL = str(CAPTIONER)
COUNT = '{"type": "object", "properties": {"count": {"type": "integer"}}, "required": ["count"]}'


@dataclass
class Parrot:
    """Says what it is asked. A prompt that begins with "!" is refused."""

    asked: list = field(default_factory=list)

    def ask(self, questions):
        self.asked += questions
        return [
            Said(ending=(FAILED, "prompt_refused"))
            if question.prompt.startswith("!")
            else Said(text=question.prompt, finish_reason="stop", prompt_tokens=3, output_tokens=4)
            for question in questions
        ]

    def close(self):
        pass


@pytest.fixture(scope="module")
def batch():
    """Three rows: the second has no picture."""
    pictures = [scene_sample(0)[1]["jpg"], b"<html>", scene_sample(1)[1]["jpg"]]
    texts = ["a cat", "a dog", None]
    rows = pa.record_batch({"__key__": ["0", "1", "2"], "jpg": pa.array(pictures, pa.binary()), "caption": texts})
    decoder = Decoder()
    yield Batch(rows, decoder)
    decoder.close()


def answer(batch, parrot=None, **options):
    worker = CaptionWorker(CaptionStage(model=MODEL, **options), parrot or Parrot())
    return worker(batch).to_pylist()


def test_a_row_has_its_caption_flags_and_tokens(batch):
    rows = answer(batch, prompt="Say {caption}.")
    assert rows[0] == {
        "__key__": "0",
        "text": "Say a cat.",
        "finish_reason": "stop",
        "truncated": False,
        "empty": False,
        "repeated": False,
        "refused": False,
        "prompt_tokens": 3,
        "output_tokens": 4,
        "status": "success",
        "error": None,
    }
    assert rows[2]["text"] == "Say ."
    assert (rows[1]["status"], rows[1]["error"], rows[1]["text"], rows[1]["empty"]) == (
        "failed",
        "not_an_image",
        None,
        None,
    )


def test_several_prompts_are_asked_about_each_picture_side_by_side(batch):
    parrot = Parrot()
    rows = answer(batch, parrot, prompt=("short={caption}", "long=I'm sorry, I cannot help with {caption}"))
    assert (rows[0]["short"], rows[0]["short_refused"], rows[0]["long_refused"]) == ("a cat", False, True)
    assert (rows[2]["short"], rows[2]["short_empty"], rows[2]["long_empty"]) == ("", True, False)
    assert (rows[0]["prompt_tokens"], rows[0]["output_tokens"]) == (6, 8)
    assert len(parrot.asked) == 4
    assert parrot.asked[0].uuid == parrot.asked[1].uuid != parrot.asked[2].uuid


def test_one_prompt_that_is_refused_fails_the_row_and_keeps_the_others_words(batch):
    rows = answer(batch, prompt=("good=yes", "bad=!no"))
    assert (rows[0]["status"], rows[0]["error"], rows[0]["good"], rows[0]["bad"]) == (
        "failed",
        "prompt_refused",
        "yes",
        None,
    )
    assert (rows[0]["prompt_tokens"], rows[0]["bad_empty"]) == (3, None)


def test_json_is_split_and_what_does_not_fit_is_named(batch):
    parrot = Parrot()
    rows = answer(batch, parrot, prompt=('a={{"count": 2}}', "b=two"), json_schema=(f"a={COUNT}",))
    assert (rows[0]["a"], rows[0]["a_count"], rows[0]["b"], rows[0]["status"]) == ('{"count": 2}', 2, "two", "success")
    assert [question.schema for question in parrot.asked[:2]] == [json.loads(COUNT), None]
    rows = answer(batch, prompt="two", json_schema=COUNT)
    assert (rows[0]["text"], rows[0]["count"], rows[0]["error"]) == ("two", None, "does_not_fit_schema")


def test_pictures_are_no_larger_than_they_may_be(batch):
    parrot = Parrot()
    answer(batch, parrot, max_pixels=1000)
    assert all(question.rgb.shape[0] * question.rgb.shape[1] <= 1000 for question in parrot.asked)


def test_a_stage_travels_with_what_its_files_hold(tmp_path):
    for name, text in {"schema.json": COUNT, "template.jinja": "{{ messages }}\n"}.items():
        (tmp_path / name).write_text(text)
    made = CaptionStage(
        model=MODEL, json_schema=str(tmp_path / "schema.json"), chat_template=str(tmp_path / "template.jinja")
    )
    made.check()
    for name in ("schema.json", "template.jinja"):
        (tmp_path / name).unlink()
    there = pickle.loads(pickle.dumps(made))
    assert (there, there.json_schema, there.chat_template) == (made, (COUNT,), "{{ messages }}\n")
    assert there.fingerprint()["json_schema"] == COUNT


@pytest.mark.parametrize(
    "other",
    [
        {"prompt": "What is this?"},
        {"prompt": "text=Describe the image."},
        {"prompt": ("a=One", "b=Two")},
        {"json_schema": (COUNT,)},
        {"max_tokens": 9},
        {"min_tokens": 9},
        {"temperature": 0.5},
        {"top_p": 0.5},
        {"top_k": 5},
        {"min_p": 0.5},
        {"repetition_penalty": 1.1},
        {"presence_penalty": 0.5},
        {"frequency_penalty": 0.5},
        {"stop": (".",)},
        {"seed": 1},
        {"max_pixels": 1000},
        {"max_model_len": 100},
        {"dtype": "float32"},
        {"picture_first": True},
        {"chat_template": "{{ messages }}\n"},
    ],
    ids=str,
)
def test_every_option_that_shapes_captions_is_in_the_fingerprint(other):
    assert CaptionStage(model=MODEL, **other).fingerprint() != CaptionStage(model=MODEL).fingerprint()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top_p": 0.0}, "top_p"),
        ({"top_k": -1}, "top_k"),
        ({"min_p": 1.5}, "min_p"),
        ({"min_tokens": 200}, "min_tokens"),
        ({"repetition_penalty": 0.0}, "repetition_penalty"),
        ({"presence_penalty": 3.0}, "presence_penalty"),
        ({"stop": ("",)}, "stop"),
        ({"prompt": ("a=One", "a_empty=Two")}, "'a_empty' would be there twice"),
        ({"prompt": "status=What?"}, "'status' would be there twice"),
        ({"json_schema": (COUNT.replace("count", "truncated"),)}, "'truncated' has the name of another column"),
    ],
)
def test_what_cannot_work_is_refused_before_an_engine_is_started(options, message):
    with pytest.raises(UsageError, match=message):
        CaptionStage(model=MODEL, **options).check()


@dataclass(frozen=True, kw_only=True)
class ParrotStage(CaptionStage):
    """Captions without a model."""

    def _backend(self):
        return Parrot()


def test_a_prompt_sees_members_and_columns_of_the_dataset(tmp_path):
    write_shard(tmp_path / "00000.tar", [scene_sample(number) for number in range(3)])
    job = ProcessJob(ParrotStage(model=MODEL, prompt="say {txt}"), ProcessConfig(path=str(tmp_path)), LocalEngine())
    job.prepare()
    assert [report.successes for report in job] == [3]
    said = pq.read_table(tmp_path / "00000.caption.parquet").column("text").to_pylist()
    assert said == [f"say {scene(HELD_OUT_SEEDS + number)[1]}" for number in range(3)]
    assert job.summary().stages["caption"].totals == {"prompt_tokens": 9, "output_tokens": 12}


def test_a_prompt_that_wants_a_column_that_is_not_there_is_refused(tmp_path):
    write_shard(tmp_path / "00000.tar", [scene_sample(0)])
    job = ProcessJob(ParrotStage(model=MODEL, prompt="{width}"), ProcessConfig(path=str(tmp_path)), LocalEngine())
    with pytest.raises(UsageError, match="has no 'width'; select from jpg, txt"):
        job.prepare()


def test_without_a_model_one_is_chosen_for_this_machine():
    assert CaptionStage().model in ("Qwen/Qwen2.5-VL-3B-Instruct", "HuggingFaceTB/SmolVLM-256M-Instruct")
