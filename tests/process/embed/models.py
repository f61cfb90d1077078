"""Tiny models with random weights, as folders."""

import json
from pathlib import Path

from tests.process.shards import CLIP

SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}


def clip(folder: Path) -> Path:
    """CLIP with the processor it was published with, and the shipped model's tokenizer."""
    import torch
    from transformers import AutoTokenizer, CLIPConfig, CLIPImageProcessor, CLIPModel

    tokenizer = AutoTokenizer.from_pretrained(CLIP)
    torch.manual_seed(0)
    tokens = {"eos_token_id": tokenizer.eos_token_id, "bos_token_id": tokenizer.bos_token_id}
    config = CLIPConfig(
        text_config={**SIZES, **tokens, "vocab_size": len(tokenizer)},
        vision_config={**SIZES, "image_size": 224, "patch_size": 32},
        projection_dim=32,
    )
    CLIPModel(config).save_pretrained(folder)
    CLIPImageProcessor().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def siglip(folder: Path) -> Path:
    """SigLIP with the shipped CLIP model's tokenizer."""
    import torch
    from transformers import AutoTokenizer, SiglipConfig, SiglipImageProcessor, SiglipModel

    tokenizer = AutoTokenizer.from_pretrained(CLIP)
    torch.manual_seed(0)
    config = SiglipConfig(
        text_config={
            **SIZES,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": 32,
            "projection_size": 32,
        },
        vision_config={**SIZES, "image_size": 32, "patch_size": 8},
    )
    SiglipModel(config).save_pretrained(folder)
    SiglipImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def open_clip_model(folder: Path, **preprocessing: object) -> Path:
    """A folder as open_clip writes them."""
    from open_clip.model import CLIP as OpenClip
    from safetensors.torch import save_file

    sizes = {"layers": 2, "width": 32}
    config = {
        "embed_dim": 32,
        "vision_cfg": {**sizes, "image_size": 32, "patch_size": 8, "head_width": 16},
        "text_cfg": {**sizes, "context_length": 77, "vocab_size": 49408, "heads": 2},
    }
    how = {"mean": [0.48, 0.46, 0.41], "std": [0.27, 0.26, 0.28], "interpolation": "bicubic", **preprocessing}
    folder.mkdir()
    save_file(OpenClip(**config).state_dict(), folder / "open_clip_model.safetensors")
    folder.joinpath("open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": how}))
    return folder
