"""The painter: a small Stable Diffusion pipeline, learned in two lessons.

First the autoencoder, which makes of a picture of 32 pixels eight numbers for each of 8 x 8 places, and a picture of
these again; then what paints such numbers from a prompt.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch.optim.swa_utils import AveragedModel
from transformers import AutoConfig, CLIPTextModel, CLIPTokenizer

import tarloom

from .captioner import pixels
from .training import Batch

SIDE = 32
"""Of a picture, in pixels. 64 takes far longer to learn than two cores have patience."""
EDGES_WEIGH = 4.0
"""The error of a pixel beside an edge counts more by this times the edge's height: edges are what a shape is."""
TOLERANCE = 0.12
"""Latents are shaken by up to this part of their spread before they are decoded, as what is painted is never exact."""
PRIOR_WEIGHS = 3e-4
"""Keeps the latents' spread near what the scaling factor of the configuration expects."""
UNTOLD = 0.1
"""Share of pictures painted without their prompt: guidance needs to know what that is like."""
NOISY = 0.35
"""From this share of the noise on it is decided what is painted where: half of all steps are there."""
ALONE_WEIGHS = 1.5
"""Scenes of one thing are fewer than those of two, but no easier."""
WEIGHTS = "diffusion_pytorch_model.safetensors"


class Autoencoder:
    """See Lesson. architecture: the folder of a whole pipeline whose autoencoder's configuration the new one has."""

    columns: ClassVar[tuple[str, ...]] = ("jpg",)
    decode: ClassVar[Mapping[str, Any]] = {"jpg": tarloom.Resize(SIDE)}
    rate: ClassVar[float] = 2e-3

    def __init__(self, architecture: Path) -> None:
        self.module = AutoencoderKL.from_config(AutoencoderKL.load_config(architecture / "vae"))

    def losses(self, batch: Batch, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """See Lesson: how far the pixels are off is shown."""
        dice = torch.Generator().manual_seed(step)
        pictures = pixels(batch["jpg"])
        with torch.autocast("cpu", torch.bfloat16):
            found = self.module.encode(pictures).latent_dist
            drawn = self.module.decode(_shaken(found.sample(dice), dice)).sample
        off = (drawn.float() - pictures).abs()
        prior = found.kl().float().mean() / found.mean[0].numel()
        return off.mean(), ((off + off.square()) * _importance(pictures)).mean() + PRIOR_WEIGHS * prior

    def save(self, folder: Path) -> None:
        """See Lesson: its part of the pipeline."""
        _write(self.module, folder / "vae" / WEIGHTS)


class Painter:
    """See Lesson. architecture: the folder of a pipeline whose configuration and tokenizer the new one has;
    autoencoder: a trained one's; clip: a trained CLIP's, whose knowledge of words is the beginning."""

    columns: ClassVar[tuple[str, ...]] = ("jpg", "txt")
    decode: ClassVar[Mapping[str, Any]] = {"jpg": tarloom.Resize(SIDE), "txt": "text"}
    rate: ClassVar[float] = 1e-3

    def __init__(self, architecture: Path, autoencoder: Path, clip: Path) -> None:
        unet = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(architecture / "unet"))
        self._learns = torch.nn.ModuleDict({"unet": unet, "text": _text_tower(architecture / "text_encoder", clip)})
        self._mean = AveragedModel(self._learns, multi_avg_fn=_follow)
        self.module = torch.nn.ModuleDict({"learns": self._learns, "mean": self._mean})
        self._autoencoder = AutoencoderKL.from_pretrained(autoencoder).float().eval()
        self._noise = DDIMScheduler.from_pretrained(architecture / "scheduler")
        self._tokenizer = CLIPTokenizer.from_pretrained(architecture / "tokenizer")

    def losses(self, batch: Batch, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """See Lesson: how far the predicted velocities are off."""
        self._mean.update_parameters(self._learns)
        dice = torch.Generator().manual_seed(step)
        latents = self._latents(batch["jpg"], dice)
        times = self._times(len(latents), dice)
        noise = torch.randn(latents.shape, generator=dice)
        noisy = self._noise.add_noise(latents, noise, times)
        with torch.autocast("cpu", torch.bfloat16):
            told = self._learns["text"](self._tokens(batch["txt"], dice)).last_hidden_state
            velocity = self._learns["unet"](noisy, times, told).sample
        off = (velocity.float() - self._noise.get_velocity(latents, noise, times)).square().mean(dim=(1, 2, 3))
        alone = torch.tensor([" left of " not in text and " above " not in text for text in batch["txt"]])
        return off.mean(), (off * torch.where(alone, ALONE_WEIGHS, 1.0)).mean()

    def save(self, folder: Path) -> None:
        """See Lesson: the whole pipeline, with the mean of the weights over the last steps."""
        mean = self._mean.module
        _write(mean["unet"], folder / "unet" / WEIGHTS)
        _write(mean["text"], folder / "text_encoder" / "model.safetensors")
        _write(self._autoencoder, folder / "vae" / WEIGHTS)

    def _latents(self, pictures: torch.Tensor, dice: torch.Generator) -> torch.Tensor:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            found = self._autoencoder.encode(pixels(pictures)).latent_dist
        return found.sample(dice).float() * self._autoencoder.config.scaling_factor

    def _times(self, count: int, dice: torch.Generator) -> torch.Tensor:
        """Spread evenly, in an order by chance; half of them over the noisy part alone."""
        even = (torch.randperm(count, generator=dice) + torch.rand(count, generator=dice)) / count
        shares = torch.where(torch.rand(count, generator=dice) < 0.5, even, NOISY + (1 - NOISY) * even)
        steps = self._noise.config.num_train_timesteps
        return (shares * steps).long().clamp(max=steps - 1)

    def _tokens(self, prompts: Sequence[str], dice: torch.Generator) -> torch.Tensor:
        untold = torch.rand(len(prompts), generator=dice) < UNTOLD
        said = ["" if silent else prompt for silent, prompt in zip(untold, prompts, strict=True)]
        tokens: torch.Tensor = self._tokenizer(said, padding="max_length", return_tensors="pt").input_ids
        return tokens


def _shaken(latents: torch.Tensor, dice: torch.Generator) -> torch.Tensor:
    much = TOLERANCE * latents.detach().std() * torch.rand((len(latents), 1, 1, 1), generator=dice)
    return latents + much * torch.randn(latents.shape, generator=dice)


def _importance(pictures: torch.Tensor) -> torch.Tensor:
    """Of every pixel, of shape (pictures, 1, height, width): 1, and more on both sides of an edge."""
    weights = torch.ones_like(pictures[:, :1])
    across, down = (EDGES_WEIGH * pictures.diff(dim=dim).abs().amax(dim=1, keepdim=True) for dim in (3, 2))
    weights[..., 1:] += across
    weights[..., :-1] += across
    weights[..., 1:, :] += down
    weights[..., :-1, :] += down
    return weights


def _text_tower(architecture: Path, clip: Path) -> CLIPTextModel:
    """A new one with all that it has in common with the CLIP's; it takes fewer words."""
    tower = CLIPTextModel(AutoConfig.from_pretrained(architecture))
    known = {name.removeprefix("text_model."): value for name, value in load_file(clip / "model.safetensors").items()}
    own = tower.state_dict()
    same = {name: known[name.removeprefix("text_model.")][: len(value)].float() for name, value in own.items()}
    tower.load_state_dict(same)
    return tower.train()


def _follow(mean: Sequence[torch.Tensor], now: Sequence[torch.Tensor], steps: torch.Tensor) -> None:
    """Make the mean that of about the last thousand steps, of fewer in the beginning."""
    kept = min(0.999, (1 + float(steps)) / (20 + float(steps)))
    for ours, theirs in zip(mean, now, strict=True):
        ours.lerp_(theirs, 1 - kept)


def _write(model: torch.nn.Module, path: Path) -> None:
    """The weights alone, in half precision: whatever says how to load them is in the configuration already."""
    path.parent.mkdir(parents=True, exist_ok=True)
    weights = {name: value.detach().half().contiguous() for name, value in model.state_dict().items()}
    save_file(weights, path, metadata={"format": "pt"})
