"""What cannot work is said in one line before anything is painted: options, models, arguments."""

import json
import shutil
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pytest

from tarloom.errors import UsageError
from tarloom.process.batch import Batch, Decoder
from tarloom.process.paint.stage import PaintStage
from tests.generate.making import MODELS, PAINTER, painter
from tests.process.paint.pipelines import KINDS, LONG, SHORT

pytestmark = pytest.mark.filterwarnings("ignore:__array__", "ignore:.torch.jit")
"""Of diffusers' schedulers and of what it imports."""
ARGUMENTS = {
    "sdxl": ('prompt_2="a painting"', 'negative_prompt_2="a photo"'),
    "pixart": ("use_resolution_binning=false",),
}
"""Of pipelines of other kinds; one with a second encoder is told a text for it, which is every row's."""
WRONG = {
    "no pictures at a time": ({"batch_size": 0}, "batch_size must be at least 1"),
    "no steps": ({"steps": 0}, "steps must be at least 1"),
    "a png's quality": ({"encode_quality": 95}, "encode_quality of png is 0 to 9, not 95"),
    "a width alone": ({"width": 64}, "give both"),
    "no value": ({"arguments": ("clip_skip",)}, "write NAME=VALUE"),
    "a value that is no JSON": ({"arguments": ("clip_skip=one",)}, "the value is no JSON"),
    "an unknown argument": ({"arguments": ("max_sequence_length=5",)}, "takes no max_sequence_length"),
    "an argument of ours": ({"arguments": ("latents=[1]",)}, "takes no latents"),
    "an unknown scheduler": ({"scheduler": "Best"}, "Best does not take the place of its DDIMScheduler; it can be"),
    "a scheduler of flows": ({"scheduler": "FlowMatchEulerDiscreteScheduler"}, "does not take the place"),
    "no folder": ({"model": "/no/such/folder"}, "no such folder"),
    "another kind of model": ({"model": str(MODELS / "captioner")}, "no model_index.json"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_work_is_refused_before_anything_starts(case):
    options, words = WRONG[case]
    with pytest.raises(UsageError, match=words) as refused:
        painter(**options).check()
    assert "\n" not in str(refused.value)


def pipeline_of(kind: object, folder: Path) -> Path:
    """The painter, said to be another kind of pipeline."""
    shutil.copytree(PAINTER, folder, copy_function=shutil.copyfile)
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, "_class_name": kind}))
    return folder


@pytest.mark.parametrize(
    "kind",
    [
        "StableDiffusionImg2ImgPipeline",
        "StableDiffusionInpaintPipeline",
        "StableDiffusionControlNetPipeline",
        "TextToVideoSDPipeline",
        "AudioLDM2Pipeline",
        "DDPMPipeline",
        "UNet2DConditionModel",
        "NoSuchPipeline",
        ["pipeline", "Mine"],
        None,
    ],
    ids=str,
)
def test_a_model_that_makes_no_pictures_from_texts_is_refused(kind, tmp_path):
    stage = painter(model=str(pipeline_of(kind, tmp_path / "model")))
    with pytest.raises(UsageError, match="is no text-to-image pipeline"):
        stage.check()
    with pytest.raises(UsageError):
        stage.open()


def test_a_list_of_parts_that_cannot_be_read_is_refused(tmp_path):
    (tmp_path / "model_index.json").write_text("{")
    with pytest.raises(UsageError, match="cannot be used here"):
        painter(model=str(tmp_path)).check()


def test_code_that_comes_with_a_model_is_not_run_unless_it_is_trusted(tmp_path):
    model = pipeline_of("StableDiffusionPipeline", tmp_path / "model")
    index = json.loads((model / "model_index.json").read_text())
    (model / "model_index.json").write_text(json.dumps({**index, "vae": ["mine", "Mine"]}))
    mark = tmp_path / "was-here"
    (model / "vae" / "mine.py").write_text(f"import pathlib; pathlib.Path({str(mark)!r}).touch()\nclass Mine: pass\n")
    with pytest.raises(UsageError, match="cannot be used here"):
        painter(model=str(model)).open()
    assert not mark.exists()


def test_weights_that_are_pickled_are_refused(tmp_path):
    import torch

    model = pipeline_of("StableDiffusionPipeline", tmp_path / "model")
    (model / "unet/diffusion_pytorch_model.safetensors").unlink()
    torch.save({}, model / "unet/diffusion_pytorch_model.bin")
    with pytest.raises(UsageError, match="cannot be used here"):
        painter(model=str(model)).open()


def test_a_size_that_the_model_cannot_paint_is_refused_before_there_are_rows():
    with pytest.raises(UsageError, match="divisible by 8"):
        painter(width=33, height=32).open()
    with pytest.raises(UsageError, match="paints 32 x 32 pixels where 32 x 64 are asked for"):
        painter(width=64).open()


@pytest.fixture(scope="module", params=KINDS)
def other_kind(request, tmp_path_factory):
    """A pipeline of another architecture: its name, and the stage."""
    import torch

    folder = tmp_path_factory.mktemp(request.param) / "model"
    torch.manual_seed(0)
    KINDS[request.param](folder)
    arguments = ARGUMENTS.get(request.param, ())
    return request.param, PaintStage(model=str(folder), steps=2, width=32, height=32, arguments=arguments)


def test_pipelines_of_other_kinds_paint_the_same_pictures_in_any_batch(other_kind):
    _, stage = other_kind
    stage.check()
    prompts = ["a red star", "a green circle on a blue background", " ".join("x" * 30), " ".join("x" * 90)]
    with closing(Decoder()) as decoder, closing(stage.open()) as worker:
        batch = Batch(pa.RecordBatch.from_pydict({"__key__": list("abcd"), "prompt": prompts}), decoder)
        answer = worker(batch)
        alone = pa.concat_tables([worker(batch.select([row])) for row in range(len(prompts))])
    rows = answer.to_pylist()
    assert alone.combine_chunks().equals(answer)
    assert [(row["width"], row["height"]) for row in rows[:2]] == [(32, 32)] * 2
    assert rows[0]["picture"] != rows[1]["picture"]


def test_a_prompt_is_too_long_where_no_encoder_reads_it_whole(other_kind):
    name, stage = other_kind
    reads = SHORT if name == "sdxl" else LONG
    with closing(Decoder()) as decoder, closing(stage.open()) as worker:
        prompts = [" ".join("x" * (reads - 2)), " ".join("x" * (reads - 1))]
        rows = worker(Batch(pa.RecordBatch.from_pydict({"__key__": ["a", "b"], "prompt": prompts}), decoder))
    assert rows.column("error").to_pylist() == [None, "prompt_too_long"]
    assert rows.column("message").to_pylist()[1] == f"{reads + 1} tokens, of which the model reads {reads}"


def test_options_that_do_not_apply_to_a_pipeline_are_refused_by_name(tmp_path):
    model = pipeline_of("FluxPipeline", tmp_path / "model")
    with pytest.raises(UsageError, match="FluxPipeline takes no clip_skip"):
        painter(model=str(model), arguments=("clip_skip=1",)).check()
    model = pipeline_of("LatentConsistencyModelPipeline", tmp_path / "other")
    with pytest.raises(UsageError, match="LatentConsistencyModelPipeline takes no negative_prompt"):
        painter(model=str(model), negative_prompt="a star").check()
