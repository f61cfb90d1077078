"""Another architecture through the same path: Qwen2.5-VL, tiny, random weights, its pictures costing many tokens."""

import json
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tarloom.process.caption.backend import Question
from tarloom.process.caption.stage import CaptionStage
from tests.process.caption.inputs import same_input
from tests.process.shards import ROOT, encoded, write_shard

SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
    "{% if part['type'] == 'text' %}{{ part['text'] }}{% else %}<|vision_start|><|image_pad|><|vision_end|>{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A folder with the model, its tokenizer and its image processor: one token for each 28 x 28 pixels."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("torchvision")
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    folder = tmp_path_factory.mktemp("qwen")
    ids = save_tokenizer(folder)
    torch.manual_seed(0)
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": 512,
            "hidden_size": 128,
            "intermediate_size": 256,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 2048,
            "rope_parameters": {"rope_type": "default", "mrope_section": [4, 6, 6], "rope_theta": 10000.0},
            "bos_token_id": ids["<|endoftext|>"],
            "eos_token_id": ids["<|im_end|>"],
        },
        vision_config={
            "depth": 2,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_heads": 4,
            "out_hidden_size": 128,
            "patch_size": 14,
            "fullatt_block_indexes": [1],
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=True,
    )
    Qwen2_5_VLForConditionalGeneration(config).to(torch.bfloat16).save_pretrained(folder)
    processor = {"image_processor_type": "Qwen2VLImageProcessor", "processor_class": "Qwen2_5_VLProcessor"}
    sizes = {
        "min_pixels": 56 * 56,
        "max_pixels": 560 * 560,
        "patch_size": 14,
        "temporal_patch_size": 2,
        "merge_size": 2,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor | sizes))
    return folder


def save_tokenizer(folder):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=512, special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(["a red circle on a blue background", "user assistant describe the image"], trainer)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=list(SPECIAL[1:]),
        chat_template=TEMPLATE,
    ).save_pretrained(folder)
    return {token: tokenizer.token_to_id(token) for token in SPECIAL}


@pytest.mark.slow
def test_a_picture_that_the_model_cannot_take_fails_alone(model, tmp_path):
    sides = {"small": 112, "large": 560, "medium": 224, "again": 112}
    write_shard(tmp_path / "a.tar", [(key, {"png": square(side)}) for key, side in sides.items()])
    program = [
        sys.executable,
        str(ROOT / "process/caption_with_vllm.py"),
        "--path",
        str(tmp_path),
        "--model",
        str(model),
    ]
    run = subprocess.run(
        [*program, "--max-model-len", "256", "--max-tokens", "8"], capture_output=True, text=True, timeout=800
    )
    assert run.returncode == 0, run.stderr
    rows = pq.read_table(tmp_path / "a.caption.parquet").to_pylist()
    assert [(row["__key__"], row["status"], row["error"]) for row in rows] == [
        ("small", "success", None),
        ("large", "failed", "prompt_refused"),
        ("medium", "success", None),
        ("again", "success", None),
    ]
    tokens = {row["__key__"]: row["prompt_tokens"] for row in rows}
    assert tokens["medium"] - tokens["small"] == (224 // 28) ** 2 - (112 // 28) ** 2
    assert rows[0]["text"] == rows[3]["text"]


def square(side: int) -> bytes:
    return encoded(Image.new("RGB", (side, side), (200, 30, 30)), "PNG")


@pytest.mark.slow
def test_its_pictures_of_several_sizes_are_made_ready_side_by_side(model):
    pytest.importorskip("vllm")
    backend = CaptionStage(model=str(model), max_model_len=2048)._backend()
    try:
        noise = np.random.default_rng(0)
        sizes = [(64, 64), (300, 200), (57, 500), (64, 64)]
        asked = [
            Question(prompt="Describe the image.", rgb=noise.integers(0, 256, (*size, 3), np.uint8), uuid=str(number))
            for number, size in enumerate(sizes)
        ]
        assert backend._inputs.try_together("Describe the image.")
        for one, question in zip(backend._inputs.made(asked), asked, strict=True):
            assert same_input(one, backend._inputs.alone(question))
    finally:
        backend.close()
