"""Tables of attributes become sentences by the shipped model in a real vLLM engine; and what no model is asked."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from source_data.scenes import HELD_OUT_SEEDS, describe
from tarloom.engines.local import LocalEngine
from tarloom.errors import UsageError
from tarloom.process.batch import Batch, Decoder
from tarloom.process.config import ProcessConfig
from tarloom.process.job import ProcessJob
from tarloom.process.rewrite.stage import RewriteStage
from tarloom.process.rewrite.worker import RewriteWorker
from tests.create.test_texts import unchecked
from tests.process.caption.test_worker import COUNT, Parrot
from tests.process.openai_server import MODEL, OpenAIServer
from tests.process.shards import CAPTIONER, ROOT, write_shard

REWRITER = ROOT / "source_data/models/rewriter"
ROWS = 60
UNFIT = "does_not_fit_schema"


def attributes(number: int) -> tuple[str, str]:
    """A scene as a row of a table, and the caption that says the same."""
    scene = describe(HELD_OUT_SEEDS + number)
    first, *second = scene.things
    words = [f"shape: {first.shape}", f"colour: {first.colour}"]
    if second:
        words = [f"first: {first.colour} {first.shape}", f"second: {second[0].colour} {second[0].shape}"]
        words.append(f"relation: {scene.relation}")
    return "; ".join([*words, f"background: {scene.background}"]), scene.caption


def texts(folder):
    """A shard, of which row 3 has no text, row 4 a blank one, and row 5 one that is too long for the model."""
    samples = [(f"{number:03d}", {"txt": attributes(number)[0].encode()}) for number in range(ROWS)]
    samples[3] = ("003", {"json": b"{}"})
    samples[4] = ("004", {"txt": b" \n"})
    samples[5] = ("005", {"txt": b"star " * 300})
    folder.mkdir()
    write_shard(folder / "0.tar", samples)
    return folder


def rewrite(folder, engine=None, **options):
    stage = RewriteStage(model=str(REWRITER), prompt="Rewrite as a full scene description: {txt}", **options)
    job = ProcessJob(stage, ProcessConfig(path=str(folder)), engine or LocalEngine())
    job.prepare()
    list(job)
    return pq.read_table(folder / "0.rewrite.parquet").to_pylist()


@pytest.fixture(scope="module")
def rewritten(tmp_path_factory):
    pytest.importorskip("vllm")
    return rewrite(texts(tmp_path_factory.mktemp("rewritten") / "texts"), batch_size=64)


def test_the_sentences_are_those_that_the_tables_say(rewritten):
    kept = {int(row["__key__"]): row for row in rewritten if row["status"] == "success"}
    assert len(kept) == ROWS - 3
    assert sum(row["text"] == attributes(number)[1] for number, row in kept.items()) / len(kept) >= 0.95
    assert all(row["finish_reason"] == "stop" and row["prompt_tokens"] > 0 for row in kept.values())


def test_a_row_without_a_text_is_skipped_and_one_that_is_too_long_fails(rewritten):
    lost = {row["__key__"]: (row["status"], row["error"], row["text"]) for row in rewritten[3:6]}
    assert lost == {
        "003": ("skipped", "no_text", None),
        "004": ("skipped", "no_text", None),
        "005": ("failed", "prompt_refused", None),
    }


@pytest.mark.slow
@pytest.mark.parametrize("backend", [pytest.param("engine", marks=pytest.mark.long), "ray-llm"])
def test_engines_in_rays_actors_say_the_same(rewritten, backend, ray_session, tmp_path):
    from tarloom.engines.ray import RayEngine

    assert rewrite(texts(tmp_path / "texts"), RayEngine(1), backend=backend) == rewritten


def test_many_rows_are_under_way_though_batches_are_small(tmp_path):
    write_shard(tmp_path / "0.tar", [(f"{number:03d}", {"txt": b"a text"}) for number in range(320)])
    with OpenAIServer() as server:
        server.together, server.seconds, server.caption = 128, 0.3, lambda body: "another text"
        stage = RewriteStage(model=MODEL, endpoint=server.url, prompt="{txt}")
        job = ProcessJob(stage, ProcessConfig(path=str(tmp_path)), LocalEngine())
        job.prepare()
        assert [report.successes for report in job] == [320]
    assert stage.batch_rows == 16
    assert 128 <= server.at_once <= 256


def answer(parrot, texts, **options):
    decoder = Decoder()
    keys = [str(number) for number in range(len(texts))]
    batch = Batch(pa.record_batch({"__key__": keys, "prompt": texts, "place": ["here"] * len(texts)}), decoder)
    worker = RewriteWorker(RewriteStage(model=str(REWRITER), **options), parrot)
    try:
        return worker(batch).to_pylist()
    finally:
        decoder.close()


def test_several_prompts_and_json_work_as_for_captions():
    parrot = Parrot()
    rows = answer(parrot, ["2", None], prompt=('a={{"count": {prompt}}}', "b={place}"), json_schema=(f"a={COUNT}",))
    assert [(row["a_count"], row["b"], row["error"]) for row in rows] == [(2, "here", None), (None, "here", UNFIT)]
    assert all(question.rgb is None for question in parrot.asked)


@pytest.mark.parametrize(
    "odd", [unchecked([b"a text", b"caf\xe9"]), pa.array([0, 1 << 62], pa.timestamp("us"))], ids=["text", "time"]
)
def test_a_value_that_python_cannot_hold_costs_no_row_its_answer(odd):
    rows = answer(Parrot(), odd, prompt="{prompt}")
    assert [row["status"] for row in rows] == ["success", "success"]
    assert rows[0]["text"] in ("a text", "1970-01-01 00:00:00")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt": "Say something."}, "names no column"),
        ({"prompt": ("a={prompt}", "b=Hello")}, "'Hello': names no column"),
        ({"prompt": "{0}"}, "between braces stands a column's name"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"model": "/no/such/model"}, "no such folder"),
    ],
)
def test_what_cannot_work_is_refused_before_an_engine_is_started(options, message):
    with pytest.raises(UsageError, match=message):
        RewriteStage(**{"model": str(REWRITER)} | options).check()


def test_options_that_shape_texts_are_in_the_fingerprint_and_captions_have_another():
    stage = RewriteStage(model=str(REWRITER))
    assert stage.fingerprint()["stage"] == "rewrite"
    assert RewriteStage(model=str(CAPTIONER)).fingerprint() != stage.fingerprint()


def test_without_a_model_one_is_chosen_for_this_machine():
    assert RewriteStage().model in ("Qwen/Qwen2.5-3B-Instruct", "HuggingFaceTB/SmolLM2-360M-Instruct")
