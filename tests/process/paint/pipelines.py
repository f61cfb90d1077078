"""Tiny pipelines of other kinds, with random weights, as folders."""

from collections.abc import Callable
from pathlib import Path

from tests.generate.making import PAINTER

SIZES = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 16, "intermediate_size": 32}
IDS = {"bos_token_id": 597, "eos_token_id": 598, "pad_token_id": 598}
SHORT, LONG = 24, 64
"""Tokens that the encoders read: CLIP's, and T5's."""


def stable_diffusion_xl(folder: Path) -> None:
    """Two text encoders, and sizes that the model is told of."""
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    unet = UNet2DConditionModel(
        sample_size=16,
        layers_per_block=1,
        block_out_channels=(16, 32),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(2, 4),
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=16 + 6 * 8,
        cross_attention_dim=32,
        norm_num_groups=4,
    )
    StableDiffusionXLPipeline(
        vae=_autoencoder(),
        text_encoder=_clip(CLIPTextModel),
        text_encoder_2=_clip(CLIPTextModelWithProjection),
        tokenizer=_tokenizer(SHORT),
        tokenizer_2=_tokenizer(SHORT),
        unet=unet,
        scheduler=EulerDiscreteScheduler(),
    ).save_pretrained(folder)


def flux(folder: Path) -> None:
    """A transformer that matches flows, told by CLIP and by T5, which reads further."""
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
    from transformers import CLIPTextModel

    transformer = FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        pooled_projection_dim=16,
        axes_dims_rope=(4, 6, 6),
        guidance_embeds=True,
    )
    FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=_autoencoder(),
        text_encoder=_clip(CLIPTextModel),
        tokenizer=_tokenizer(SHORT),
        text_encoder_2=_t5(),
        tokenizer_2=_tokenizer(LONG),
        transformer=transformer,
    ).save_pretrained(folder)


def pixart(folder: Path) -> None:
    """A diffusion transformer, told by T5."""
    from diffusers import DPMSolverMultistepScheduler, PixArtSigmaPipeline, PixArtTransformer2DModel

    transformer = PixArtTransformer2DModel(
        sample_size=16,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        caption_channels=16,
        in_channels=4,
        out_channels=8,
        cross_attention_dim=16,
        use_additional_conditions=False,
    )
    PixArtSigmaPipeline(
        tokenizer=_tokenizer(LONG),
        text_encoder=_t5(),
        vae=_autoencoder(),
        transformer=transformer,
        scheduler=DPMSolverMultistepScheduler(),
    ).save_pretrained(folder)


KINDS: dict[str, Callable[[Path], None]] = {"sdxl": stable_diffusion_xl, "flux": flux, "pixart": pixart}


def _autoencoder() -> object:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=["DownEncoderBlock2D"] * 2,
        up_block_types=["UpDecoderBlock2D"] * 2,
        latent_channels=4,
        norm_num_groups=4,
        layers_per_block=1,
        sample_size=32,
        shift_factor=0.1,
    )


def _clip(kind: type) -> object:
    from transformers import CLIPTextConfig

    return kind(CLIPTextConfig(vocab_size=599, max_position_embeddings=SHORT, projection_dim=16, **SIZES, **IDS))


def _t5() -> object:
    from transformers import T5Config, T5EncoderModel

    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
    return T5EncoderModel(T5Config(vocab_size=599, **sizes, **IDS, decoder_start_token_id=0))


def _tokenizer(longest: int) -> object:
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(PAINTER, subfolder="tokenizer")
    tokenizer.model_max_length = longest
    return tokenizer
