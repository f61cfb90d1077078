"""What the painter makes of rows: the pipeline's own pictures, the same whatever the batch, and reasons for none."""

import io
import json
import shutil
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tarloom.process.batch import Batch, Decoder
from tarloom.process.paint.stage import PaintStage, picture_seed
from tests.create.test_texts import unchecked
from tests.generate.making import PAINTER, painter
from tests.process.stage_contract import StageContract

PROMPTS = [
    "a red star on a white background",
    "a green circle on a black background",
    "a blue square and a yellow star on a gray background",
    "a purple cross on a green background",
    "an orange triangle on a blue background",
]
LONG = " ".join(["a red star and"] * 10)


class TestPainting(StageContract):
    """As an ordinary stage, over shards too: it paints their captions."""

    free = StageContract.free | {"trust_remote_code", "revision"}

    @staticmethod
    def make(folder):
        return painter(prompt_column="txt", batch_size=16)

    @staticmethod
    def other(folder):
        shutil.copytree(PAINTER, folder / "other")
        folder.joinpath("other", "more.txt").touch()
        return {
            "model": str(folder / "other"),
            "variant": "fp16",
            "dtype": "bfloat16",
            "prompt_column": "caption",
            "negative_prompt": "a star",
            "truncate_prompts": True,
            "steps": 3,
            "guidance": 2.0,
            "width": 64,
            "height": 64,
            "scheduler": "EulerDiscreteScheduler",
            "arguments": ("clip_skip=1",),
            "upscale": 2,
            "encode_format": "jpg",
            "encode_quality": 9,
            "seed": 1,
        }


@pytest.fixture(scope="module")
def decoder():
    with closing(Decoder()) as opened:
        yield opened


@pytest.fixture(scope="module")
def worker():
    with closing(painter().open()) as opened:
        yield opened


def batch_of(prompts, decoder: Decoder, keys=None) -> Batch:
    keys = keys or [f"row{number}" for number in range(len(prompts))]
    return Batch(pa.RecordBatch.from_pydict({"__key__": keys, "prompt": pa.array(prompts, pa.string())}), decoder)


def painted(stage: PaintStage, prompts, decoder: Decoder) -> list[dict]:
    with closing(stage.open()) as worker:
        return worker(batch_of(prompts, decoder)).to_pylist()


def pixels(row: dict) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(row["picture"])))


def test_pictures_are_those_of_the_pipeline_itself(worker, decoder):
    import torch
    from diffusers import DiffusionPipeline

    rows = worker(batch_of(PROMPTS, decoder)).to_pylist()
    pipeline = DiffusionPipeline.from_pretrained(PAINTER, dtype=torch.float32)
    generators = [torch.Generator("cpu").manual_seed(picture_seed(0, row["__key__"])) for row in rows]
    bare = pipeline(PROMPTS, generator=generators, num_inference_steps=2, guidance_scale=1.0).images
    for row, picture in zip(rows, bare, strict=True):
        assert (row["width"], row["height"], row["status"]) == (*picture.size, "success")
        assert np.abs(pixels(row).astype(int) - np.asarray(picture).astype(int)).max() <= 1  # another pass, other bits
    assert len({row["picture"] for row in rows}) == len(PROMPTS)


@settings(max_examples=5, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(PROMPTS), st.integers(0, 10**6)), min_size=1, max_size=20, unique=True))
def test_a_row_has_the_same_bytes_alone_and_among_any_others(worker, decoder, rows):
    prompts, keys = [prompt for prompt, _ in rows], [f"{number}-{key}" for number, (_, key) in enumerate(rows)]
    whole = worker(batch_of(prompts, decoder, keys))
    last = worker(batch_of(prompts[-1:], decoder, keys[-1:]))
    backwards = worker(batch_of(prompts[::-1], decoder, keys[::-1]))
    assert whole.slice(len(rows) - 1).to_pylist() == last.to_pylist()
    assert whole.to_pylist()[::-1] == backwards.to_pylist()


@pytest.mark.parametrize("cores", [1, 3])
def test_pictures_do_not_depend_on_how_many_cores_there_are(worker, decoder, cores, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", str(cores))
    batch = batch_of(PROMPTS * 7, decoder)
    with closing(painter().open()) as other:
        assert other(batch).equals(worker(batch))


def test_seeds_come_from_the_run_and_the_key(worker, decoder):
    rows = worker(batch_of(PROMPTS[:1] * 3, decoder, ["a", "b", "a"])).to_pylist()
    assert rows[0]["picture"] == rows[2]["picture"] != rows[1]["picture"]
    assert [row["seed"] for row in rows] == [picture_seed(0, key) for key in "aba"]
    assert 0 <= picture_seed(0, "a") < 2**53
    assert len({picture_seed(seed, key) for seed in (0, 1, 10) for key in ("", "0", "10")}) == 9


def test_rows_without_a_prompt_or_with_one_that_is_too_long_say_so_and_harm_no_other(worker, decoder):
    rows = worker(batch_of([PROMPTS[0], None, "  ", LONG, PROMPTS[1]], decoder)).to_pylist()
    assert [row["status"] for row in rows] == ["success", "skipped", "skipped", "failed", "success"]
    assert [row["error"] for row in rows] == [None, "no_prompt", "no_prompt", "prompt_too_long", None]
    assert rows[3]["message"] == "52 tokens, of which the model reads 24"
    assert [row["picture"] is None for row in rows] == [False, True, True, True, False]


def test_a_prompt_that_is_not_utf8_harms_no_other(worker, decoder):
    prompts = unchecked([PROMPTS[0].encode(), b"caf\xe9"])
    rows = Batch(pa.RecordBatch.from_pydict({"__key__": ["0", "1"], "prompt": prompts}), decoder)
    assert worker(rows).column("prompt").to_pylist() == [PROMPTS[0], "caf\ufffd"]


def test_prompts_are_cut_only_where_that_is_asked_for_and_what_is_told_is_what_was_painted(decoder):
    (cut,) = painted(painter(truncate_prompts=True), [LONG], decoder)
    assert cut["status"] == "success"
    assert LONG.startswith(cut["prompt"])
    assert cut["prompt"] == " ".join(["a red star and"] * 4 + ["a red"])
    assert painted(painter(), [cut["prompt"]], decoder)[0]["picture"] == cut["picture"]


def test_pictures_are_made_larger_and_encoded_as_was_asked(decoder):
    plain, larger = (painted(painter(upscale=upscale), PROMPTS[:1], decoder)[0] for upscale in (1, 4))
    assert (larger["width"], larger["height"]) == (128, 128) == pixels(larger).shape[:2]
    expected = Image.fromarray(pixels(plain)).resize((128, 128), Image.Resampling.BICUBIC)
    assert np.array_equal(pixels(larger), np.asarray(expected))
    (jpeg,) = painted(painter(encode_format="jpg", encode_quality=60), PROMPTS[:1], decoder)
    assert Image.open(io.BytesIO(jpeg["picture"])).format == "JPEG"


@pytest.mark.filterwarnings("ignore:__array__")
def test_options_reach_the_pipeline(decoder):
    said = {
        name: painted(painter(guidance=5.0, **options), PROMPTS[:1], decoder)[0]
        for name, options in {
            "plain": {},
            "steps": {"steps": 4},
            "negative": {"negative_prompt": "a red star"},
            "size": {"width": 64, "height": 32},
            "scheduler": {"scheduler": "EulerAncestralDiscreteScheduler"},
            "argument": {"arguments": ("guidance_rescale=0.7",)},
        }.items()
    }
    assert len({row["picture"] for row in said.values()}) == len(said)
    assert (said["size"]["width"], said["size"]["height"]) == (64, 32)


def test_a_picture_of_no_numbers_is_a_failure_of_its_row(decoder, tmp_path):
    from safetensors.numpy import load_file, save_file

    shutil.copytree(PAINTER, tmp_path / "broken", copy_function=shutil.copyfile)
    weights = tmp_path / "broken/vae/diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    save_file({**tensors, "decoder.conv_out.bias": np.full_like(tensors["decoder.conv_out.bias"], np.nan)}, weights)
    (row,) = painted(painter(model=str(tmp_path / "broken")), PROMPTS[:1], decoder)
    assert (row["status"], row["error"], row["picture"]) == ("failed", "picture_not_finite", None)


def test_a_picture_that_the_models_checker_refuses_is_a_failure_of_its_row(decoder, tmp_path):
    (row,) = painted(painter(model=str(with_a_checker(tmp_path / "strict"))), PROMPTS[:1], decoder)
    assert (row["status"], row["error"], row["picture"]) == ("failed", "picture_refused", None)


def test_checkers_of_every_kind_are_heeded(decoder, monkeypatch):
    with closing(painter().open()) as worker:
        paint, no = worker._painter._paint, [False] * 16

        def checked(pipeline, wanted, told):
            images = paint(pipeline, wanted, told).images
            watermarks = [number == 1 for number in range(16)]  # as DeepFloyd's IF says it
            return SimpleNamespace(images=images, nsfw_detected=no, watermark_detected=watermarks)

        monkeypatch.setattr(worker._painter, "_paint", checked)
        rows = worker(batch_of(PROMPTS[:3], decoder)).to_pylist()
    assert [row["error"] for row in rows] == [None, "picture_refused", None]


def with_a_checker(folder: Path) -> Path:
    """The painter with a safety checker that likes no picture."""
    from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
    from transformers import CLIPConfig, CLIPImageProcessor

    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = {**sizes, "image_size": 32, "patch_size": 16}
    checker = StableDiffusionSafetyChecker(CLIPConfig(vision_config=vision, text_config=sizes, projection_dim=8))
    checker.concept_embeds_weights.data.fill_(-2.0)
    shutil.copytree(PAINTER, folder, copy_function=shutil.copyfile)
    checker.save_pretrained(folder / "safety_checker")
    size = {"height": 32, "width": 32}
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=size).save_pretrained(folder / "feature_extractor")
    index = json.loads((folder / "model_index.json").read_text())
    index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    index["feature_extractor"] = ["transformers", "CLIPImageProcessor"]
    (folder / "model_index.json").write_text(json.dumps({**index, "requires_safety_checker": True}))
    return folder


@pytest.mark.parametrize(("holds", "expected"), [(4, [None] * 5), (0, ["out_of_memory"] * 5)])
def test_passes_are_halved_where_the_memory_does_not_take_them(decoder, monkeypatch, holds, expected):
    import torch

    with closing(painter().open()) as worker:
        paint = worker._painter._paint

        def within_memory(pipeline, wanted, told):
            if len(wanted) > holds:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return paint(pipeline, wanted, told)

        monkeypatch.setattr(worker._painter, "_paint", within_memory)
        rows = worker(batch_of(PROMPTS, decoder)).to_pylist()
    assert [row["error"] for row in rows] == expected
